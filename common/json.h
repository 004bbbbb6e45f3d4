// json.h - strict JSON (RFC 8259, UTF-8) on top of cJSON, which by itself is lenient where we may not be.
//
// What it adds: nothing may follow the value but white space, invalid UTF-8, lone surrogates and \u0000 are
// malformed, numbers follow the grammar (no 01, no +1), depth and the number of elements are limited before
// any memory is taken for them, and the caller learns where a number was written with a fraction or an
// exponent (cJSON keeps doubles only, so that 1.0 and 1 would look the same). Pure; any thread. Nothing here
// looks at cJSON's global error pointer.
#ifndef SLUICE_COMMON_JSON_H
#define SLUICE_COMMON_JSON_H

#include "common/err.h"
#include "common/utf8.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_INTEGER INT64_C(9007199254740991) // 2^53-1: beyond it a double no longer holds every integer

struct json_limits {
    size_t max_elements; // of all arrays and objects together
    int max_depth;       // arrays and objects inside one another; at most 1000, the limit of cJSON
};

struct json {
    cJSON *root;
    size_t non_integer_at; // offset of the first number with a fraction or an exponent; SIZE_MAX when none
};

// On ERR_OK the caller owns *json (json_free). ERR_MALFORMED_JSON with the byte offset in the detail,
// ERR_TOO_MANY_IDS when there are more than max_elements elements, ERR_NO_MEMORY.
MUST_CHECK enum err json_parse(const char *text, size_t len, const struct json_limits *limits,
                               struct json *json, struct fault *fault);
void json_free(struct json *json);

// ERR_INVALID_FIELD, naming the member, when the object has a member that is not in names (count of them; a
// name in another case is another name) or has one twice.
MUST_CHECK enum err json_only(const cJSON *object, const char *const *names, size_t count,
                              struct fault *fault);
// The member with exactly this name, or NULL.
const cJSON *json_get(const cJSON *object, const char *name);
// True and *value set when item is a number that is an integer from 0 to JSON_MAX_INTEGER.
bool json_integer(const cJSON *item, uint64_t *value);

#endif
