#include "proto/trace.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define GOOD "00-" TRACE "-" PARENT "-01"
#define ZEROS_16 "0000000000000000"

TestSuite(trace, .timeout = 30);

Test(trace, request_ids)
{
    static const char *const good[] = {"a", "0", "order-17", "a.b_c-d:e/f+g@h~i",
                                       "01a209dc-4322-7622-a85d-0b973c6a01cc"};
    static const char *const bad[] = {"",    " ",    "a b",  "a\tb",       "a\"b", "a\\b", "a=b", "a,b",
                                      "a;b", "a\nb", "\x7f", "gr\xc3\xbc", "<b>",  "a%0a", "a'b", "{}"};
    char text[REQUEST_ID_MAX + 2];
    for (size_t i = 0; i < COUNT(good); i++) {
        cr_expect(request_id_valid(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        cr_expect(!request_id_valid(bad[i]), "%s", bad[i]);
    }
    memset(text, 'x', sizeof(text));
    text[REQUEST_ID_MAX + 1] = '\0';
    cr_expect(!request_id_valid(text));
    text[REQUEST_ID_MAX] = '\0';
    cr_expect(request_id_valid(text));
}

Test(trace, traceparents_that_are_taken)
{
    static const struct {
        const char *text, *parsed;
    } cases[] = {
        {GOOD, GOOD},
        {"00-" TRACE "-" PARENT "-00", "00-" TRACE "-" PARENT "-00"},
        {"00-" TRACE "-" PARENT "-ff", "00-" TRACE "-" PARENT "-ff"}, // flags of later days are passed on
        {"01-" TRACE "-" PARENT "-01", GOOD},
        {"cc-" TRACE "-" PARENT "-01-what-the-future-will-be-like", GOOD},
        {"fe-" TRACE "-" PARENT "-ff-", GOOD},
        {"01-" TRACE "-" PARENT "-fe", "00-" TRACE "-" PARENT "-00"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char parsed[TRACEPARENT_SIZE] = "";
        cr_expect(traceparent_parse(cases[i].text, parsed), "%s", cases[i].text);
        cr_expect_str_eq(parsed, cases[i].parsed);
    }
}

Test(trace, traceparents_that_are_none)
{
    static const char *const cases[] = {
        "",
        "00",
        "00-",
        "00-" TRACE,
        "00-" TRACE "-" PARENT,
        "00-" TRACE "-" PARENT "-",
        "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-0x",
        "00-" TRACE "-" PARENT "-001",
        GOOD "-",
        GOOD "-more",
        GOOD " ",
        " " GOOD,
        GOOD ", " GOOD, // given twice
        "cc-" TRACE "-" PARENT "-01x",
        "ff-" TRACE "-" PARENT "-01",
        "0g-" TRACE "-" PARENT "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
        "00-" ZEROS_16 ZEROS_16 "-" PARENT "-01",
        "00-" TRACE "-" ZEROS_16 "-01",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "0-" PARENT "-01",
        "00-" TRACE "-" PARENT "0-01",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char parsed[TRACEPARENT_SIZE] = "as it was";
        cr_expect(!traceparent_parse(cases[i], parsed), "%s", cases[i]);
        cr_expect_str_eq(parsed, "as it was");
    }
}

Test(trace, what_a_log_says)
{
    struct trace trace = {.request_id = ""};
    char text[TRACE_TEXT_SIZE];
    cr_expect_str_eq(trace_text(NULL, text), "");
    cr_expect_str_eq(trace_text(&trace, text), "");
    cr_assert(traceparent_parse(GOOD, trace.traceparent));
    cr_expect_str_eq(trace_text(&trace, text), "trace_id=" TRACE);
    memcpy(trace.request_id, "r/1", sizeof("r/1"));
    cr_expect_str_eq(trace_text(&trace, text), "request_id=r/1 trace_id=" TRACE);
    trace.traceparent[0] = '\0';
    cr_expect_str_eq(trace_text(&trace, text), "request_id=r/1");
    memset(trace.request_id, 'x', REQUEST_ID_MAX);
    cr_assert(traceparent_parse(GOOD, trace.traceparent));
    cr_expect_eq(strlen(trace_text(&trace, text)),
                 strlen("request_id= trace_id=") + REQUEST_ID_MAX + TRACE_ID_LEN);
}
