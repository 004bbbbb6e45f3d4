#include "common/json.h"

#include "common/utf8.h"

#include <stdio.h>
#include <string.h>

// cJSON copies a number into a buffer of this size and cuts what is longer.
#define NUMBER_MAX 63

struct scan {
    const char *text;
    const char *at;
    const char *end;
    size_t max_elements;
    size_t elements;
    int max_depth;
    int depth;
    size_t non_integer_at;
    struct fault *fault;
};

static enum err malformed(const struct scan *s, const char *what)
{
    return fault_set(s->fault, ERR_MALFORMED_JSON, "byte %zu: %s", (size_t)(s->at - s->text), what);
}

static enum err expected(const struct scan *s, const char *what)
{
    return fault_set(s->fault, ERR_MALFORMED_JSON, "byte %zu: expected %s%s", (size_t)(s->at - s->text), what,
                     s->at == s->end ? ", but the text ends" : "");
}

// The next byte as it stands, or -1 at the end.
static int peek(const struct scan *s)
{
    return s->at < s->end ? (unsigned char)*s->at : -1;
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) {
        s->at++;
    }
}

// Takes c, with the white space in front of it, if it comes next.
static bool accept(struct scan *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c) {
        return false;
    }
    s->at++;
    return true;
}

static bool skip_digits(struct scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        s->at++;
    }
    return s->at > start;
}

static enum err scan_number(struct scan *s)
{
    const char *start = s->at;
    bool integer = true;
    if (peek(s) == '-') {
        s->at++;
    }
    if (peek(s) == '0') { // nothing but a fraction or an exponent may follow
        s->at++;
    } else if (!skip_digits(s)) {
        return expected(s, "a digit");
    }
    if (peek(s) == '.') {
        integer = false;
        s->at++;
        if (!skip_digits(s)) {
            return expected(s, "a digit");
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        integer = false;
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') {
            s->at++;
        }
        if (!skip_digits(s)) {
            return expected(s, "a digit");
        }
    }
    if (s->at - start > NUMBER_MAX) {
        s->at = start;
        return malformed(s, "a number of more than 63 characters");
    }
    if (!integer && s->non_integer_at == SIZE_MAX) {
        s->non_integer_at = (size_t)(start - s->text);
    }
    return ERR_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Takes "\uXXXX" and gives the number, or takes nothing and gives -1.
static int take_unicode_escape(struct scan *s)
{
    if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u') {
        return -1;
    }
    int value = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(s->at[i]);
        if (digit < 0) {
            return -1;
        }
        value = value << 4 | digit;
    }
    s->at += 6;
    return value;
}

static bool is_high_surrogate(int code)
{
    return code >= 0xd800 && code <= 0xdbff;
}

static bool is_low_surrogate(int code)
{
    return code >= 0xdc00 && code <= 0xdfff;
}

static enum err scan_escape(struct scan *s)
{
    const char *start = s->at;
    if (s->end - start >= 2 && start[1] != '\0' && strchr("\"\\/bfnrt", start[1])) {
        s->at += 2;
        return ERR_OK;
    }
    int code = take_unicode_escape(s);
    const char *wrong = NULL;
    if (code < 0) {
        wrong = "no valid escape";
    } else if (code == 0) {
        wrong = "\\u0000 is not allowed";
    } else if (is_low_surrogate(code) ||
               (is_high_surrogate(code) && !is_low_surrogate(take_unicode_escape(s)))) {
        wrong = "a surrogate without its other half";
    }
    if (!wrong) {
        return ERR_OK;
    }
    s->at = start;
    return malformed(s, wrong);
}

// What a string holds mostly: ASCII that stands for itself.
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static enum err scan_string(struct scan *s)
{
    s->at++; // the opening quote
    for (;;) {
        while (s->at < s->end && is_plain((unsigned char)*s->at)) {
            s->at++;
        }
        int c = peek(s);
        if (c == -1) {
            return expected(s, "'\"'");
        }
        if (c == '"') {
            break;
        }
        if (c < 0x20) {
            return malformed(s, "a control character in a string must be escaped");
        }
        if (c == '\\') {
            enum err err = scan_escape(s);
            if (err) {
                return err;
            }
            continue;
        }
        size_t n = utf8_length(s->at, (size_t)(s->end - s->at));
        if (n == 0) {
            return malformed(s, "no valid UTF-8");
        }
        s->at += n;
    }
    s->at++; // the closing one
    return ERR_OK;
}

static enum err scan_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0) {
        return expected(s, "a value");
    }
    s->at += len;
    return ERR_OK;
}

static enum err scan_name(struct scan *s)
{
    skip_space(s);
    if (peek(s) != '"') {
        return expected(s, "a member name in double quotes");
    }
    enum err err = scan_string(s);
    if (err) {
        return err;
    }
    return accept(s, ':') ? ERR_OK : expected(s, "':'");
}

static enum err scan_value(struct scan *s);

// An array or an object, by its closing bracket.
// NOLINTNEXTLINE(misc-no-recursion): at most max_depth deep, which is a small constant of each caller
static enum err scan_container(struct scan *s, char close)
{
    if (s->depth == s->max_depth) {
        return fault_set(s->fault, ERR_MALFORMED_JSON, "byte %zu: nested more than %d deep",
                         (size_t)(s->at - s->text), s->max_depth);
    }
    s->depth++;
    s->at++; // the opening bracket
    bool more = !accept(s, close);
    while (more) {
        if (s->elements == s->max_elements) {
            return fault_set(s->fault, ERR_TOO_MANY_IDS, "byte %zu: more than %zu elements",
                             (size_t)(s->at - s->text), s->max_elements);
        }
        s->elements++;
        enum err err = close == '}' ? scan_name(s) : ERR_OK;
        if (!err) {
            err = scan_value(s);
        }
        if (err) {
            return err;
        }
        more = accept(s, ',');
        if (!more && !accept(s, close)) {
            return expected(s, close == '}' ? "',' or '}'" : "',' or ']'");
        }
    }
    s->depth--;
    return ERR_OK;
}

// NOLINTNEXTLINE(misc-no-recursion): see above
static enum err scan_value(struct scan *s)
{
    skip_space(s);
    int c = peek(s);
    if (c == '-' || (c >= '0' && c <= '9')) {
        return scan_number(s);
    }
    switch (c) {
    case '{':
        return scan_container(s, '}');
    case '[':
        return scan_container(s, ']');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return expected(s, "a value");
    }
}

enum err json_parse(const char *text, size_t len, const struct json_limits *limits, struct json *json,
                    struct fault *fault)
{
    struct scan s = {
        .text = text,
        .at = text,
        .end = text + len,
        .max_elements = limits->max_elements,
        .max_depth = limits->max_depth < CJSON_NESTING_LIMIT ? limits->max_depth : CJSON_NESTING_LIMIT,
        .non_integer_at = SIZE_MAX,
        .fault = fault,
    };
    *json = (struct json){.root = NULL, .non_integer_at = SIZE_MAX};
    enum err err = scan_value(&s);
    if (err) {
        return err;
    }
    skip_space(&s);
    if (s.at != s.end) {
        return malformed(&s, "nothing but white space may follow the value");
    }
    // What passed the scan is a part of what cJSON takes, so that only memory can be missing.
    json->root = cJSON_ParseWithLengthOpts(text, len, NULL, false);
    if (!json->root) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory for %zu bytes of JSON", len);
    }
    json->non_integer_at = s.non_integer_at;
    return ERR_OK;
}

void json_free(struct json *json)
{
    if (!json) {
        return;
    }
    cJSON_Delete(json->root);
    json->root = NULL;
}

// Writes "a, b, c", cut to what fits.
static void join(char *text, size_t size, const char *const *names, size_t count)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count && used < size; i++) {
        int n = snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "", names[i]);
        used += n < 0 ? size : (size_t)n;
    }
}

static bool is_one_of(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

enum err json_only(const cJSON *object, const char *const *names, size_t count, struct fault *fault)
{
    if (!cJSON_IsObject(object)) {
        return fault_set(fault, ERR_INVALID_FIELD, "expected an object");
    }
    // Members beyond count + 1 are never reached (one of them is unknown or a repetition), so this is not
    // quadratic in what the client sends.
    const cJSON *member;
    cJSON_ArrayForEach(member, object)
    {
        if (!is_one_of(member->string, names, count)) {
            char allowed[160]; // with the rest of the sentence, what a fault holds
            join(allowed, sizeof(allowed), names, count);
            return fault_set(fault, ERR_INVALID_FIELD, "\"%.64s\" is not a field here; allowed are: %s",
                             member->string, allowed);
        }
        if (json_get(object, member->string) != member) {
            return fault_set(fault, ERR_INVALID_FIELD, "\"%.64s\" is given more than once", member->string);
        }
    }
    return ERR_OK;
}

const cJSON *json_get(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

bool json_integer(const cJSON *item, uint64_t *value)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= (double)JSON_MAX_INTEGER)) {
        return false;
    }
    uint64_t integer = (uint64_t)item->valuedouble;
    if ((double)integer < item->valuedouble) {
        return false;
    }
    *value = integer;
    return true;
}
