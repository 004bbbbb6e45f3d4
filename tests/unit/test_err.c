#include "common/err.h"
#include "common/utf8.h"

#include <criterion/criterion.h>
#include <string.h>

static const enum err all[] = {
#define ERR_VALUE(name, code, status, title) ERR_##name,
    ERR_LIST(ERR_VALUE)
#undef ERR_VALUE
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(err, every_error_has_a_code_a_status_and_a_title)
{
    for (size_t i = 0; i < COUNT(all); i++) {
        const char *code = err_code(all[i]);
        cr_assert_eq(strspn(err_name(all[i]), "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), strlen(err_name(all[i])));
        cr_assert_eq(all[i], (enum err)i);
        cr_assert_gt(strlen(code), 0);
        cr_assert_eq(strspn(code, "abcdefghijklmnopqrstuvwxyz_"), strlen(code), "%s", code);
        cr_assert_gt(strlen(err_title(all[i])), 0);
        cr_assert(err_status(all[i]) >= 200 && err_status(all[i]) < 600);
    }
}

Test(err, a_code_leads_back_to_the_first_error_with_it)
{
    for (size_t i = 0; i < COUNT(all); i++) {
        const char *code = err_code(all[i]);
        enum err back = err_from_code(code, strlen(code));
        cr_assert_leq(back, all[i]);
        cr_assert_str_eq(err_code(back), code);
        cr_assert_eq(err_status(back), err_status(all[i]), "one code, one status: %s", code);
    }
    cr_assert_eq(err_from_code("storage_unavailable", 19), ERR_STORAGE_UNAVAILABLE);
    cr_assert_eq(err_from_code("overloaded", 10), ERR_OVERLOADED);
}

Test(err, an_unknown_code_is_internal)
{
    cr_assert_eq(err_from_code("", 0), ERR_INTERNAL);
    cr_assert_eq(err_from_code("not_foun", 8), ERR_INTERNAL);
    cr_assert_eq(err_from_code("not_found!", 10), ERR_INTERNAL);
    cr_assert_eq(err_from_code("not_found!", 9), ERR_NOT_FOUND, "only len bytes count");
}

Test(err, a_value_from_outside_the_list_is_internal)
{
    cr_assert_str_eq(err_code((enum err)COUNT(all)), "internal");
    cr_assert_eq(err_status((enum err)COUNT(all)), 500);
}

Test(fault, returns_the_error_and_keeps_the_sentence)
{
    struct fault fault;
    cr_assert_eq(fault_set(&fault, ERR_INVALID_FIELD, "priority: \"%s\" is unknown", "URGENT"),
                 ERR_INVALID_FIELD);
    cr_assert_eq(fault.err, ERR_INVALID_FIELD);
    cr_assert_str_eq(fault.detail, "priority: \"URGENT\" is unknown");
    cr_assert_eq(fault_set(NULL, ERR_NOT_FOUND, "%d", 1), ERR_NOT_FOUND);
}

Test(fault, what_cannot_be_shown_becomes_a_question_mark)
{
    static const struct {
        const char *text;
        const char *shown;
    } cases[] = {
        {"plain", "plain"},
        {"", ""},
        {"a\nb\tc\x7f", "a?b?c?"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xff\xfe", "??"},
        {"\xc3", "?"},
        {"\xc3(", "?("},
        {"\xe2\x82", "??"},
        {"\xed\xa0\x80", "???"},    // a surrogate
        {"\xc2\x9b[31m", "??[31m"}, // the CSI of C1
        {"\xc2\xa0", "\xc2\xa0"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fault fault;
        fault_set(&fault, ERR_BAD_REQUEST, "%s", cases[i].text);
        cr_assert_str_eq(fault.detail, cases[i].shown, "case %zu", i);
    }
}

Test(fault, a_long_sentence_is_cut_between_characters)
{
    // Each offset puts another byte of the three-byte character at the place of the cut.
    for (size_t offset = 0; offset < 3; offset++) {
        char text[3 * sizeof(((struct fault *)0)->detail) + 1];
        memset(text, 'x', offset);
        size_t len = offset;
        while (len + 3 < sizeof(text)) {
            memcpy(text + len, "\xe2\x82\xac", 3);
            len += 3;
        }
        text[len] = '\0';
        struct fault fault;
        fault_set(&fault, ERR_BAD_REQUEST, "%s", text);
        size_t cut = strlen(fault.detail);
        cr_assert(cut > sizeof(fault.detail) - 4 && cut < sizeof(fault.detail));
        cr_assert_eq(memcmp(fault.detail, text, cut), 0, "nothing was replaced");
        cr_assert(utf8_valid(fault.detail, cut));
    }
}
