#include "common/utf8.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(utf8, length_of_the_first_character)
{
    static const struct {
        const char *text;
        size_t len;
        size_t expected;
    } cases[] = {
        {"", 0, 0},
        {"\0", 1, 1},
        {"a", 1, 1},
        {"\x7f", 1, 1},
        {"\x80", 1, 0},
        {"\xc0\x80", 2, 0}, // overlong NUL
        {"\xc1\xbf", 2, 0}, // overlong DEL
        {"\xc2\x80", 2, 2},
        {"\xdf\xbf", 2, 2},
        {"\xc2", 1, 0},
        {"\xc2\x7f", 2, 0},
        {"\xc2\xc0", 2, 0},
        {"\xe0\x9f\xbf", 3, 0}, // overlong
        {"\xe0\xa0\x80", 3, 3},
        {"\xe0\xa0", 2, 0},
        {"\xe1\x80\x80", 3, 3},
        {"\xec\xbf\xbf", 3, 3},
        {"\xed\x9f\xbf", 3, 3},
        {"\xed\xa0\x80", 3, 0}, // the first surrogate
        {"\xed\xbf\xbf", 3, 0}, // the last
        {"\xee\x80\x80", 3, 3},
        {"\xef\xbf\xbf", 3, 3},
        {"\xef\xbf\x7f", 3, 0},
        {"\xef\xbf\xc0", 3, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0}, // overlong
        {"\xf0\x90\x80\x80", 4, 4},
        {"\xf0\x90\x80", 3, 0},
        {"\xf0\x90\x80\x41", 4, 0},
        {"\xf3\xbf\xbf\xbf", 4, 4},
        {"\xf4\x8f\xbf\xbf", 4, 4}, // U+10FFFF
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xff\xff\xff\xff", 4, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(utf8_length(cases[i].text, cases[i].len), cases[i].expected, "case %zu", i);
        bool whole = cases[i].len == 0 || cases[i].expected > 0;
        cr_assert_eq(utf8_valid(cases[i].text, cases[i].len), whole, "case %zu", i);
    }
}

Test(utf8, valid_looks_at_every_character)
{
    static const char good[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z";
    cr_assert(utf8_valid(good, sizeof(good) - 1));
    cr_assert_not(utf8_valid(good, sizeof(good) - 3), "the last character but one is cut");
    cr_assert_not(utf8_valid("abc\x80", 4));
}

Test(utf8, cut_leaves_no_half_of_a_character)
{
    static const char text[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80";
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
    for (size_t len = 0; len < COUNT(expected); len++)
        cr_assert_eq(utf8_cut(text, len), expected[len], "at %zu", len);
    cr_assert_eq(utf8_cut("\x80\x80\x80\x80\x80", 5), 5, "what never was a character is not the cut's doing");
}
