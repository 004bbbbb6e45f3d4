#include "common/buf.h"
#include "proto/ids.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ITEMS_MAX 4

// Texts, and where their items end.
static const struct {
    const char *text;
    uint32_t count;
    size_t ends[ITEMS_MAX];
} lists[] = {
    {"", 0, {0}},
    {"7", 1, {1}},
    {"9007199254740991", 1, {16}},
    {"1,2,3", 3, {1, 3, 5}},
    {"10,9007199254740991,1", 3, {2, 19, 21}},
    {"\"a\"", 1, {3}},
    {"\"a\",\"b\"", 2, {3, 7}},
    {"\",\"", 1, {3}},
    {"\"a,b\",\",,\",\"c\"", 3, {5, 10, 14}},
    {"\"[1,2]\",\"{}\"", 2, {7, 12}},
    {"\"\\\"\",\"b\"", 2, {4, 8}},       // a quote
    {"\"\\\",\\\"\",\"b\"", 2, {7, 11}}, // a quote, a comma, a quote
    {"\"\\\\\",\"b\"", 2, {4, 8}},       // a backslash
    {"\"\\\\\\\",\",\"b\"", 2, {7, 11}}, // a backslash, a quote, a comma
    {"\"\\\\\\\\\",\",\"", 2, {6, 10}},  // two backslashes
    {"\"\\u0001,\",\"\\n\"", 2, {9, 14}},
    {"\"\xc3\xa9,\xe2\x82\xac\",\"\xf0\x9f\x8e\xbf\"", 2, {8, 15}},
};

Test(ids, every_item_ends_where_it_should)
{
    for (size_t i = 0; i < COUNT(lists); i++) {
        const char *text = lists[i].text;
        const char *end = text + strlen(text);
        for (uint32_t n = 1; n <= lists[i].count; n++) {
            const char *found = ids_after(text, end, n);
            cr_assert_not_null(found, "%s: %u", text, n);
            cr_expect_eq((size_t)(found - text), lists[i].ends[n - 1], "%s: %u at %td", text, n,
                         found - text);
        }
        cr_expect_null(ids_after(text, end, lists[i].count + 1), "%s", text);
        cr_expect_null(ids_after(text, end, UINT32_MAX), "%s", text);
    }
}

Test(ids, items_can_be_walked_one_by_one)
{
    for (size_t i = 0; i < COUNT(lists); i++) {
        const char *at = lists[i].text;
        const char *end = at + strlen(at);
        uint32_t count = 0;
        for (const char *stop; (stop = ids_after(at, end, 1)) != NULL; at = stop + 1) {
            cr_assert_lt(count, lists[i].count, "%s", lists[i].text);
            cr_expect_eq((size_t)(stop - lists[i].text), lists[i].ends[count], "%s", lists[i].text);
            count++;
            if (stop == end) {
                break;
            }
        }
        cr_expect_eq(count, lists[i].count, "%s", lists[i].text);
    }
}

// What stands after `end` is not looked at.
Test(ids, the_end_is_where_it_is_said_to_be)
{
    static const char text[] = "11,22,33";
    cr_expect_eq(ids_after(text, text + 5, 2), text + 5);
    cr_expect_null(ids_after(text, text + 5, 3));
    cr_expect_eq(ids_after(text, text + 4, 2), text + 4);
}

// A text that was damaged on disk must not be read past its end.
Test(ids, an_open_string_ends_with_the_text)
{
    static const char *const texts[] = {"\"", "\"a", "\"a,", "\"\\", "\"a\\\"", "1,\"\\"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        const char *end = texts[i] + strlen(texts[i]);
        uint32_t count = texts[i][0] == '"' ? 1 : 2;
        cr_expect_eq(ids_after(texts[i], end, count), end, "%s", texts[i]);
        cr_expect_null(ids_after(texts[i], end, count + 1), "%s", texts[i]);
    }
}

Test(ids, a_full_list)
{
    struct buf b;
    buf_init(&b);
    for (uint32_t i = 0; i < IDS_MAX; i++) {
        buf_str(&b, i > 0 ? ",\"a,\\\"\"" : "\"a,\\\"\"");
    }
    cr_assert_eq(buf_err(&b), ERR_OK);
    const char *end = b.data + b.len;
    cr_expect_eq(ids_after(b.data, end, IDS_MAX), end);
    cr_expect_eq(ids_after(b.data, end, 1000), b.data + 1000 * 7 - 1);
    cr_expect_null(ids_after(b.data, end, IDS_MAX + 1));
    buf_fini(&b);
}
