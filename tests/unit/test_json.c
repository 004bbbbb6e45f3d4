#include "common/json.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT(literal) (literal), sizeof(literal) - 1

static const struct json_limits limits = {.max_elements = 100, .max_depth = 4};

// Parses a copy with no byte after it, so that the sanitizer sees who reads too far.
static enum err parse(const char *text, size_t len, const struct json_limits *l, struct json *json,
                      struct fault *fault)
{
    char *copy = malloc(len > 0 ? len : 1);
    cr_assert_not_null(copy);
    memcpy(copy, text, len);
    enum err err = json_parse(copy, len, l, json, fault);
    free(copy);
    return err;
}

Test(json, takes_what_the_grammar_takes)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        {TEXT("{}")},
        {TEXT("[]")},
        {TEXT(" \t\r\n{ \t\r\n} \t\r\n")},
        {TEXT("[ ]")},
        {TEXT("0")},
        {TEXT("-0")},
        {TEXT("\"\"")},
        {TEXT("true")},
        {TEXT("false")},
        {TEXT("null")},
        {TEXT("[true,false,null]")},
        {TEXT("{\"ids\":[1,2,3],\"priority\":\"HIGH\"}")},
        {TEXT("{ \"ids\" : [ 1 , 2 ] , \"a\" : { \"b\" : [ ] } }")},
        {TEXT("[-1,0,10,1.5,-0.25,1e5,1E+5,1e-5,0e0,0.0,12345678901234567890]")},
        {TEXT("123456789012345678901234567890123456789012345678901234567890123")}, // 63 digits
        {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
        {TEXT("\"\\u0001\\u00e9\\u20AC\\uFFFF\"")},
        {TEXT("\"\\ud83d\\ude00\\uD800\\uDC00\\udbff\\udfff\"")},
        {TEXT("\"\x7f gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\"")},
        {TEXT("[[[[]]]]")},
        {TEXT("{\"\":\"\"}")},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json json;
        struct fault fault = {0};
        enum err err = parse(cases[i].text, cases[i].len, &limits, &json, &fault);
        cr_assert_eq(err, ERR_OK, "%s: %s", cases[i].text, fault.detail);
        cr_assert_not_null(json.root);
        json_free(&json);
        cr_assert_null(json.root);
    }
}

Test(json, refuses_the_rest_and_says_where)
{
    static const struct {
        const char *text;
        size_t len;
        size_t at;
    } cases[] = {
        {TEXT(""), 0},
        {TEXT("  "), 2},
        {TEXT("\xef\xbb\xbf{}"), 0}, // a byte order mark
        {TEXT("{} x"), 3},
        {TEXT("{}{}"), 2},
        {TEXT("{}\0"), 2},
        {TEXT("1 2"), 2},
        {TEXT("{"), 1},
        {TEXT("["), 1},
        {TEXT("[1"), 2},
        {TEXT("[1,"), 3},
        {TEXT("[1,]"), 3},
        {TEXT("[,1]"), 1},
        {TEXT("[1 2]"), 3},
        {TEXT("[1}"), 2},
        {TEXT("]"), 0},
        {TEXT("{\"a\"}"), 4},
        {TEXT("{\"a\":}"), 5},
        {TEXT("{\"a\":1,}"), 7},
        {TEXT("{\"a\":1 \"b\":2}"), 7},
        {TEXT("{\"a\":1]"), 6},
        {TEXT("{a:1}"), 1},
        {TEXT("{'a':1}"), 1},
        {TEXT("{1:1}"), 1},
        {TEXT("{,}"), 1},
        {TEXT("// no\n1"), 0},
        {TEXT("\f1"), 0},
        {TEXT("\v1"), 0},
        {TEXT("tru"), 0},
        {TEXT("True"), 0},
        {TEXT("truex"), 4},
        {TEXT("nul"), 0},
        {TEXT("NaN"), 0},
        {TEXT("Infinity"), 0},
        {TEXT("-Infinity"), 1},
        {TEXT("01"), 1},
        {TEXT("[-01]"), 3},
        {TEXT("00"), 1},
        {TEXT("+1"), 0},
        {TEXT("-"), 1},
        {TEXT("--1"), 1},
        {TEXT(".5"), 0},
        {TEXT("1."), 2},
        {TEXT("1.e5"), 2},
        {TEXT("1e"), 2},
        {TEXT("1e+"), 3},
        {TEXT("1e5.5"), 3},
        {TEXT("0x10"), 1},
        {TEXT("1_000"), 1},
        {TEXT("[1,1234567890123456789012345678901234567890123456789012345678901234]"), 3}, // 64 digits
        {TEXT("\""), 1},
        {TEXT("\"a"), 2},
        {TEXT("\"\\"), 1},
        {TEXT("\"\\\""), 3},
        {TEXT("\"a\\x\""), 2},
        {TEXT("\"\\'\""), 1},
        {TEXT("\"\\\0\""), 1},
        {TEXT("\"\\U0041\""), 1},
        {TEXT("\"\\u12\""), 1},
        {TEXT("\"\\u12"), 1},
        {TEXT("\"\\u12G4\""), 1},
        {TEXT("\"\\u+123\""), 1},
        {TEXT("\"ab\\u0000\""), 3},
        {TEXT("\"\\ud83d\""), 1},
        {TEXT("\"\\ud83dx\""), 1},
        {TEXT("\"\\ud83d\\n\""), 1},
        {TEXT("\"\\ud83d\\u0041\""), 1},
        {TEXT("\"\\ud83d\\ud83d\""), 1},
        {TEXT("\"\\ude00\""), 1},
        {TEXT("\"\\ude00\\ud83d\""), 1},
        {TEXT("\"a\nb\""), 2},
        {TEXT("\"a\0b\""), 2},
        {TEXT("\"\x1f\""), 1},
        {TEXT("\"a\x80\""), 2},
        {TEXT("\"\xc0\x80\""), 1},
        {TEXT("\"\xed\xa0\x80\""), 1},
        {TEXT("\"\xf4\x90\x80\x80\""), 1},
        {TEXT("\"\xe2\x82\""), 1},
        {TEXT("\"\xe2\x82"), 1},
        {TEXT("{\"a\xff\":1}"), 3},
        {TEXT("[[[[[]]]]]"), 4},
        {TEXT("{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}"), 20},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json json;
        struct fault fault = {0};
        char where[32];
        enum err err = parse(cases[i].text, cases[i].len, &limits, &json, &fault);
        cr_assert_eq(err, ERR_MALFORMED_JSON, "case %zu: %s", i, cases[i].text);
        cr_assert_eq(fault.err, ERR_MALFORMED_JSON);
        cr_assert_null(json.root);
        cr_assert_gt(snprintf(where, sizeof(where), "byte %zu: ", cases[i].at), 0);
        cr_assert_eq(strncmp(fault.detail, where, strlen(where)), 0, "case %zu: %s: %s", i, cases[i].text,
                     fault.detail);
    }
}

Test(json, needs_no_fault)
{
    struct json json;
    cr_assert_eq(parse(TEXT("[1,"), &limits, &json, NULL), ERR_MALFORMED_JSON);
    cr_assert_eq(json.non_integer_at, SIZE_MAX);
}

Test(json, counts_elements_of_arrays_and_objects_together)
{
    static const struct {
        const char *text;
        size_t elements;
    } cases[] = {
        {"1", 0},       {"[]", 0},      {"[1]", 1},
        {"[1,2,3]", 3}, {"[[],[]]", 2}, {"{\"a\":[1,2],\"b\":{\"c\":null}}", 5},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_limits exact = {.max_elements = cases[i].elements, .max_depth = 4};
        struct json json;
        struct fault fault;
        cr_assert_eq(parse(cases[i].text, strlen(cases[i].text), &exact, &json, &fault), ERR_OK);
        json_free(&json);
        if (cases[i].elements == 0)
            continue;
        exact.max_elements--;
        cr_assert_eq(parse(cases[i].text, strlen(cases[i].text), &exact, &json, &fault), ERR_TOO_MANY_IDS);
        cr_assert_null(json.root);
    }
}

Test(json, the_limit_of_elements_is_named)
{
    struct json_limits three = {.max_elements = 3, .max_depth = 4};
    struct json json;
    struct fault fault;
    cr_assert_eq(parse(TEXT("[1,2,3,4]"), &three, &json, &fault), ERR_TOO_MANY_IDS);
    cr_assert_not_null(strstr(fault.detail, "more than 3 "), "%s", fault.detail);
}

Test(json, depth_goes_to_what_is_said_and_never_past_what_cjson_takes)
{
    enum { DEEP = 1200 };
    char text[2 * DEEP];
    struct json_limits any = {.max_elements = SIZE_MAX, .max_depth = INT32_MAX};
    static const struct {
        size_t depth;
        enum err err;
    } cases[] = {{1, ERR_OK}, {1000, ERR_OK}, {1001, ERR_MALFORMED_JSON}, {DEEP, ERR_MALFORMED_JSON}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json json;
        memset(text, '[', cases[i].depth);
        memset(text + cases[i].depth, ']', cases[i].depth);
        cr_assert_eq(parse(text, 2 * cases[i].depth, &any, &json, NULL), cases[i].err, "depth %zu",
                     cases[i].depth);
        json_free(&json);
    }
    struct json json;
    struct json_limits none = {.max_elements = 1, .max_depth = 0};
    cr_assert_eq(parse(TEXT("[]"), &none, &json, NULL), ERR_MALFORMED_JSON);
    cr_assert_eq(parse(TEXT("1"), &none, &json, NULL), ERR_OK);
    json_free(&json);
}

Test(json, knows_where_the_first_number_that_is_no_integer_stands)
{
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {
        {"[1,2,3]", SIZE_MAX},
        {"[-1,0,-0]", SIZE_MAX},
        {"[1,2.0,3]", 3},
        {"[1, 2e3]", 4},
        {"1E2", 0},
        {"[1,2.5,3.5]", 3},
        {"{\"a\":-1.0}", 5},
        {"[\"1.5\",\"1e5\"]", SIZE_MAX},
        {"{\"1.0\":1}", SIZE_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json json;
        cr_assert_eq(parse(cases[i].text, strlen(cases[i].text), &limits, &json, NULL), ERR_OK);
        cr_assert_eq(json.non_integer_at, cases[i].at, "%s", cases[i].text);
        json_free(&json);
    }
}

Test(json, values_arrive)
{
    struct json json;
    cr_assert_eq(
        parse(TEXT("{\"s\":\"\\u00fc\\ud83d\\ude00\",\"n\":9007199254740991,\"S\":2}"), &limits, &json, NULL),
        ERR_OK);
    uint64_t n;
    cr_assert_str_eq(json_get(json.root, "s")->valuestring, "\xc3\xbc\xf0\x9f\x98\x80");
    cr_assert(json_integer(json_get(json.root, "n"), &n));
    cr_assert_eq(n, (uint64_t)JSON_MAX_INTEGER);
    cr_assert(json_integer(json_get(json.root, "S"), &n));
    cr_assert_eq(n, 2, "names are not folded");
    cr_assert_null(json_get(json.root, "N"));
    cr_assert_null(json_get(NULL, "n"));
    json_free(&json);
    json_free(NULL);
}

Test(json, integers)
{
    static const struct {
        const char *text;
        bool integer;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"1", true, 1},
        {"1.0", true, 1}, // a double cannot tell; non_integer_at does
        {"9007199254740991", true, 9007199254740991},
        {"9007199254740992", false, 0},
        {"9007199254740993", false, 0},
        {"18446744073709551617", false, 0},
        {"1e308", false, 0},
        {"1e999", false, 0},
        {"-1", false, 0},
        {"0.5", false, 0},
        {"1.5", false, 0},
        {"\"1\"", false, 0},
        {"true", false, 0},
        {"null", false, 0},
        {"[1]", false, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json json;
        uint64_t value = 42;
        cr_assert_eq(parse(cases[i].text, strlen(cases[i].text), &limits, &json, NULL), ERR_OK);
        cr_assert_eq(json_integer(json.root, &value), cases[i].integer, "%s", cases[i].text);
        cr_assert_eq(value, cases[i].integer ? cases[i].value : 42, "%s", cases[i].text);
        json_free(&json);
    }
    uint64_t value;
    cr_assert_not(json_integer(NULL, &value));
}

Test(json, only_the_members_named)
{
    static const char *const names[] = {"ids", "priority", "queue"};
    static const struct {
        const char *text;
        enum err err;
        const char *said; // in the detail
    } cases[] = {
        {"{}", ERR_OK, NULL},
        {"{\"queue\":1,\"ids\":2}", ERR_OK, NULL},
        {"{\"ids\":1,\"prio\":2}", ERR_INVALID_FIELD,
         "\"prio\" is not a field here; allowed are: ids, priority, queue"},
        {"{\"IDS\":1}", ERR_INVALID_FIELD, "\"IDS\""},
        {"{\"\":1}", ERR_INVALID_FIELD, "\"\""},
        {"{\"ids\":1,\"queue\":1,\"ids\":1}", ERR_INVALID_FIELD, "\"ids\" is given more than once"},
        {"{\"a\\nb\":1}", ERR_INVALID_FIELD, "\"a?b\""},
        {"[1]", ERR_INVALID_FIELD, "object"},
        {"1", ERR_INVALID_FIELD, "object"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json json;
        struct fault fault = {0};
        cr_assert_eq(parse(cases[i].text, strlen(cases[i].text), &limits, &json, NULL), ERR_OK);
        cr_assert_eq(json_only(json.root, names, COUNT(names), &fault), cases[i].err, "%s", cases[i].text);
        cr_assert_eq(fault.err, cases[i].err);
        if (cases[i].said)
            cr_assert_not_null(strstr(fault.detail, cases[i].said), "%s", fault.detail);
        json_free(&json);
    }
}

Test(json, a_long_member_name_leaves_room_for_what_is_allowed)
{
    static const char *const names[] = {"ids"};
    char text[1000];
    struct json json;
    struct fault fault;
    memset(text, 'x', sizeof(text));
    memcpy(text, "{\"", 2);
    memcpy(text + sizeof(text) - 4, "\":1}", 4);
    cr_assert_eq(parse(text, sizeof(text), &limits, &json, NULL), ERR_OK);
    cr_assert_eq(json_only(json.root, names, COUNT(names), &fault), ERR_INVALID_FIELD);
    cr_assert_not_null(strstr(fault.detail, "allowed are: ids"), "%s", fault.detail);
    json_free(&json);
}

Test(json, a_hundred_thousand_ids)
{
    enum { IDS = 100000 };
    size_t size = 20 * (size_t)IDS;
    char *text = malloc(size);
    cr_assert_not_null(text);
    size_t len = 0;
    for (int i = 0; i < IDS; i++) {
        int n =
            snprintf(text + len, size - len, "%c%lld", i == 0 ? '[' : ',', (long long)(JSON_MAX_INTEGER - i));
        cr_assert_gt(n, 0);
        len += (size_t)n;
    }
    text[len++] = ']';
    struct json_limits exact = {.max_elements = IDS, .max_depth = 1};
    struct json json;
    cr_assert_eq(json_parse(text, len, &exact, &json, NULL), ERR_OK);
    int i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, json.root)
    {
        uint64_t value;
        cr_assert(json_integer(item, &value));
        cr_assert_eq(value, (uint64_t)(JSON_MAX_INTEGER - i));
        i++;
    }
    cr_assert_eq(i, IDS);
    json_free(&json);
    free(text);
}

static size_t allocations_left;

static void *allocate(size_t size)
{
    return allocations_left > 0 ? allocations_left--, malloc(size) : NULL;
}

Test(json, each_allocation_may_fail)
{
    static const char text[] = "{\"ids\":[1,2,3],\"p\":\"HIGH\",\"o\":{\"a\":null}}";
    cJSON_Hooks hooks = {.malloc_fn = allocate, .free_fn = free};
    struct json json;
    struct fault fault;
    cJSON_InitHooks(&hooks);
    enum err err = ERR_NO_MEMORY;
    size_t n = 0;
    for (; err; n++) {
        allocations_left = n;
        err = json_parse(text, sizeof(text) - 1, &limits, &json, &fault);
        cr_assert(err == ERR_OK || (err == ERR_NO_MEMORY && fault.err == err && !json.root), "with %zu", n);
    }
    cr_assert_gt(n, 8, "one for each value at least");
    json_free(&json);
    cJSON_InitHooks(NULL);
}

// Every prefix of a good text, and every text with one byte changed, is refused or parsed, and nothing else
// happens.
Test(json, survives_damage)
{
    static const char good[] =
        "{\"ids\":[1,-2.5e+3,0],\"p\":\"\\u00e9\\ud83d\\ude00\xe2\x82\xac\",\"q\":[true,null,{}]}";
    size_t len = sizeof(good) - 1;
    struct json json;
    struct fault fault;
    for (size_t cut = 0; cut < len; cut++)
        cr_assert_eq(parse(good, cut, &limits, &json, &fault), ERR_MALFORMED_JSON, "cut at %zu", cut);
    for (size_t at = 0; at < len; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char text[sizeof(good)];
            memcpy(text, good, sizeof(good));
            text[at] = (char)byte;
            enum err err = parse(text, len, &limits, &json, &fault);
            cr_assert(err == ERR_OK || err == ERR_MALFORMED_JSON, "byte %d at %zu: %s", byte, at,
                      fault.detail);
            json_free(&json);
        }
    }
}
