#include "proto/words.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(words, every_priority_reads_back_from_its_name)
{
    for (int i = 0; i < PRIORITIES; i++) {
        enum priority parsed;
        cr_assert(priority_parse(priority_name((enum priority)i), &parsed));
        cr_expect_eq(parsed, (enum priority)i);
    }
    cr_expect_str_eq(priority_name(PRIORITY_HIGH), "HIGH");
    cr_expect_str_eq(priority_name(PRIORITY_MEDIUM), "MEDIUM");
    cr_expect_str_eq(priority_name(PRIORITY_LOW), "LOW");
}

Test(words, every_status_reads_back_from_its_name)
{
    for (int i = 0; i < STATUSES; i++) {
        enum status parsed;
        cr_assert(status_parse(status_name((enum status)i), &parsed));
        cr_expect_eq(parsed, (enum status)i);
    }
    cr_expect_str_eq(status_name(STATUS_YET_TO_START), "yet_to_start");
    cr_expect_str_eq(status_name(STATUS_CANCELLED), "cancelled");
}

Test(words, every_kind_of_ids_reads_back_from_its_name)
{
    static const enum ids_kind kinds[] = {IDS_INTEGER, IDS_STRING};
    static const char *const names[] = {"integer", "string"};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        enum ids_kind parsed;
        cr_expect_str_eq(ids_kind_name(kinds[i]), names[i]);
        cr_assert(ids_kind_parse(names[i], &parsed));
        cr_expect_eq(parsed, kinds[i]);
    }
}

Test(words, every_on_interrupt_reads_back_from_its_name)
{
    static const enum on_interrupt whats[] = {ON_INTERRUPT_RESEND, ON_INTERRUPT_HOLD};
    static const char *const names[] = {"resend", "hold"};
    for (size_t i = 0; i < COUNT(whats); i++) {
        enum on_interrupt parsed;
        cr_expect_str_eq(on_interrupt_name(whats[i]), names[i]);
        cr_assert(on_interrupt_parse(names[i], &parsed));
        cr_expect_eq(parsed, whats[i]);
    }
}

Test(words, other_texts_are_no_words_and_leave_the_output_alone)
{
    static const char *const texts[] = {"",        "high",    "High",   "HIGH ",     " HIGH",
                                        "HIG",     "HIGHER",  "0",      "Completed", "YET_TO_START",
                                        "Integer", "strings", "RESEND", "hold "};
    for (size_t i = 0; i < COUNT(texts); i++) {
        enum priority priority = PRIORITY_LOW;
        enum status status = STATUS_FAILED;
        enum ids_kind kind = IDS_STRING;
        enum on_interrupt what = ON_INTERRUPT_HOLD;
        cr_expect_not(priority_parse(texts[i], &priority), "\"%s\"", texts[i]);
        cr_expect_not(status_parse(texts[i], &status), "\"%s\"", texts[i]);
        cr_expect_not(ids_kind_parse(texts[i], &kind), "\"%s\"", texts[i]);
        cr_expect_not(on_interrupt_parse(texts[i], &what), "\"%s\"", texts[i]);
        cr_expect_eq(kind, IDS_STRING);
        cr_expect_eq(what, ON_INTERRUPT_HOLD);
        cr_expect_eq(priority, PRIORITY_LOW);
        cr_expect_eq(status, STATUS_FAILED);
    }
}

#define TEN "0123456789"
#define SIXTY_FOUR TEN TEN TEN TEN TEN TEN "abcd"

Test(words, queue_names)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"default", true},       {"a", true},         {"0", true},
        {"a.b_c-d", true},       {"9-", true},        {SIXTY_FOUR, true},
        {SIXTY_FOUR "x", false}, {"", false},         {".a", false},
        {"_a", false},           {"-a", false},       {"Default", false},
        {"aB", false},           {"a b", false},      {"a/b", false},
        {"a\n", false},          {"\xc3\xa9", false}, {"a\xc3\xa9", false},
        {"a:", false},           {"a`", false},       {"a{", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect_eq(queue_name_valid(cases[i].text), cases[i].valid, "\"%s\"", cases[i].text);
    }
}

Test(words, idempotency_keys)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"k", true},
        {"!", true},
        {"~", true},
        {"\"\\", true},
        {"8e03978e-40d5-43e8-bc93-6894a57f9324", true},
        {"", false},
        {" ", false},
        {"a b", false},
        {"a\t", false},
        {"\x7f", false},
        {"\xc3\xa9", false},
        {"a\x01", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect_eq(idempotency_key_valid(cases[i].text), cases[i].valid, "\"%s\"", cases[i].text);
    }

    char key[IDEMPOTENCY_KEY_MAX + 2];
    memset(key, 'k', sizeof(key));
    key[IDEMPOTENCY_KEY_MAX + 1] = '\0';
    cr_expect_not(idempotency_key_valid(key), "one character too many");
    key[IDEMPOTENCY_KEY_MAX] = '\0';
    cr_expect(idempotency_key_valid(key), "as long as it may be");
}
