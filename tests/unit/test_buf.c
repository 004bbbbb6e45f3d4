#include "common/buf.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct buf b;

static void set_up(void)
{
    buf_init(&b);
}

static void tear_down(void)
{
    buf_fini(&b);
}

TestSuite(buf, .init = set_up, .fini = tear_down);

Test(buf, appends_and_stays_terminated)
{
    buf_str(&b, "ab");
    cr_assert_str_eq(b.data, "ab");
    buf_char(&b, 'c');
    buf_put(&b, "de\0f", 4);
    buf_printf(&b, "%d-%s", 7, "x");
    cr_assert_eq(b.len, 10);
    cr_assert_eq(memcmp(b.data, "abcde\0f7-x", 11), 0);
    cr_assert_eq(buf_err(&b), ERR_OK);
}

Test(buf, grows_over_every_boundary)
{
    for (size_t i = 0; i < 5000; i++) {
        buf_char(&b, (char)('a' + i % 26));
        cr_assert_eq(b.data[b.len], '\0');
        cr_assert_lt(b.len, b.cap);
    }
    cr_assert_eq(b.len, 5000);
    for (size_t i = 0; i < 5000; i++)
        cr_assert_eq(b.data[i], (char)('a' + i % 26));
}

Test(buf, numbers)
{
    static const struct {
        uint64_t value;
        const char *text;
    } naturals[] = {{0, "0"},
                    {9, "9"},
                    {10, "10"},
                    {9007199254740991, "9007199254740991"},
                    {UINT64_MAX, "18446744073709551615"}};
    static const struct {
        int64_t value;
        const char *text;
    } integers[] = {
        {0, "0"}, {-1, "-1"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"}};
    for (size_t i = 0; i < COUNT(naturals); i++) {
        buf_reset(&b);
        buf_u64(&b, naturals[i].value);
        cr_assert_str_eq(b.data, naturals[i].text);
    }
    for (size_t i = 0; i < COUNT(integers); i++) {
        buf_reset(&b);
        buf_i64(&b, integers[i].value);
        cr_assert_str_eq(b.data, integers[i].text);
    }
}

Test(buf, json_strings)
{
    static const struct {
        const char *text;
        size_t len;
        const char *json;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"say \"hi\"", 8, "\"say \\\"hi\\\"\""},
        {"back\\slash/", 11, "\"back\\\\slash/\""},
        {"\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\""},
        {"\x01\x1f\x7f", 3, "\"\\u0001\\u001f\x7f\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\xe2\x82\xac", 3, "\"\xe2\x82\xac\""},
        {"\"", 1, "\"\\\"\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        buf_reset(&b);
        buf_json(&b, cases[i].text, cases[i].len);
        cr_assert_str_eq(b.data, cases[i].json, "case %zu: %s", i, b.data);
    }
}

Test(buf, printf_of_any_length)
{
    char text[300];
    for (size_t len = 0; len < sizeof(text); len++) {
        memset(text, 'y', len);
        text[len] = '\0';
        buf_fini(&b);
        buf_printf(&b, "%s", text);
        cr_assert_eq(b.len, len);
        cr_assert_str_eq(b.data, text);
    }
}

Test(buf, cut_and_reset_keep_the_memory)
{
    buf_str(&b, "abcdef");
    const char *data = b.data;
    buf_cut(&b, 6);
    cr_assert_str_eq(b.data, "abcdef");
    buf_cut(&b, 2);
    cr_assert_str_eq(b.data, "ab");
    buf_reset(&b);
    cr_assert_eq(b.len, 0);
    cr_assert_str_eq(b.data, "");
    cr_assert_eq(b.data, data);
}

Test(buf, an_empty_one_may_be_reset_and_cut)
{
    buf_reset(&b);
    buf_cut(&b, 0);
    buf_put(&b, NULL, 0);
    cr_assert_eq(b.len, 0);
    cr_assert_eq(buf_err(&b), ERR_OK);
}

Test(buf, room_then_grew)
{
    char *room = buf_room(&b, 1000);
    cr_assert_not_null(room);
    cr_assert_geq(b.cap, 1001);
    memset(room, 'z', 1000);
    buf_grew(&b, 10);
    cr_assert_str_eq(b.data, "zzzzzzzzzz");
}

Test(buf, a_failure_is_remembered_until_reset)
{
    buf_str(&b, "kept");
    cr_assert_null(buf_room(&b, SIZE_MAX)); // more than the address space: fails on any machine
    buf_str(&b, "ignored");
    buf_printf(&b, "%d", 1);
    cr_assert_eq(buf_err(&b), ERR_NO_MEMORY);
    cr_assert_str_eq(b.data, "kept");
    buf_reset(&b);
    buf_str(&b, "again");
    cr_assert_eq(buf_err(&b), ERR_OK);
    cr_assert_str_eq(b.data, "again");
}

Test(buf, take_gives_the_memory_away)
{
    size_t len = 99;
    buf_str(&b, "gone");
    char *data = buf_take(&b, &len);
    cr_assert_str_eq(data, "gone");
    cr_assert_eq(len, 4);
    cr_assert_null(b.data);
    cr_assert_eq(b.len, 0);
    cr_assert_eq(b.cap, 0);
    free(data);
}

Test(buf, take_of_an_empty_one_is_an_empty_text)
{
    char *data = buf_take(&b, NULL);
    cr_assert_str_eq(data, "");
    free(data);
}

Test(buf, take_of_a_failed_one_is_null_and_leaks_nothing)
{
    size_t len = 99;
    buf_str(&b, "lost");
    (void)buf_room(&b, SIZE_MAX);
    cr_assert_null(buf_take(&b, &len));
    cr_assert_eq(len, 0);
    cr_assert_eq(buf_err(&b), ERR_OK, "as after buf_init");
}
