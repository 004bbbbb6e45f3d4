#include "gateway/answer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UUID "0190163d-8694-739b-aea5-966c26f8ad91"

static void answer_line(struct answer *answer, enum endpoint endpoint, const char *line)
{
    struct reply reply;
    cr_assert_eq(reply_parse(line, strlen(line), &reply), ERR_OK, "%s", line);
    answer_clear(answer);
    answer_reply(answer, endpoint, &reply);
    cr_assert_eq(buf_err(&answer->body), ERR_OK);
}

Test(answer, replies_become_bodies)
{
    static const struct {
        enum endpoint endpoint;
        const char *line, *body;
        bool replayed;
    } cases[] = {
        {ENDPOINT_INGEST, "{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":false}",
         "{\"ingestion_id\":\"" UUID "\"}", false},
        {ENDPOINT_INGEST, "{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":true}",
         "{\"ingestion_id\":\"" UUID "\"}", true},
        {ENDPOINT_STATUS, "{\"ok\":true,\"a\": 9007199254740991 ,\"b\":[ ]}",
         "{\"a\": 9007199254740991 ,\"b\":[ ]}", false},
        {ENDPOINT_LIST, "{\"ok\":true,\"ingestions\":[],\"next_cursor\":null}",
         "{\"ingestions\":[],\"next_cursor\":null}", false},
        {ENDPOINT_CANCEL, "{\"ok\":true,\"ingestion_id\":\"x\"}", "{\"ingestion_id\":\"x\"}", false},
        {ENDPOINT_RETRY, "{\"ok\":true,\"ingestion_id\":\"x\"}", "{\"ingestion_id\":\"x\"}", false},
        {ENDPOINT_QUEUE_LIST, "{\"ok\":true,\"queues\":[],\"next_cursor\":null}",
         "{\"queues\":[],\"next_cursor\":null}", false},
        {ENDPOINT_QUEUE_GET, "{\"ok\":true,\"name\":\"a\"}", "{\"name\":\"a\"}", false},
        {ENDPOINT_QUEUE_PUT, "{\"ok\":true,\"name\":\"a\"}", "{\"name\":\"a\"}", false},
        {ENDPOINT_QUEUE_DELETE, "{\"ok\":true,\"name\":\"a\",\"deleted\":true}",
         "{\"name\":\"a\",\"deleted\":true}", false},
        {ENDPOINT_QUEUE_PAUSE, "{\"ok\":true,\"name\":\"a\"}", "{\"name\":\"a\"}", false},
        {ENDPOINT_QUEUE_RESUME, "{\"ok\":true,\"name\":\"a\"}", "{\"name\":\"a\"}", false},
        {ENDPOINT_QUEUE_RETRY, "{\"ok\":true,\"name\":\"a\"}", "{\"name\":\"a\"}", false},
        {ENDPOINT_READYZ, "{\"ok\":true,\"version\":\"1\",\"protocol\":1}", "{\"status\":\"ready\"}", false},
    };
    struct answer answer;
    answer_init(&answer);
    for (size_t i = 0; i < COUNT(cases); i++) {
        answer_line(&answer, cases[i].endpoint, cases[i].line);
        cr_expect_eq(answer.err, ERR_OK);
        cr_expect_str_eq(answer.body.data, cases[i].body);
        cr_expect_eq(answer.replayed, cases[i].replayed);
    }
    answer_fini(&answer);
}

// What is said of the state after it did not fit, or memory was too short for it.
Test(answer, what_was_carried_out_may_be_answered_in_short)
{
    static const enum endpoint endpoints[] = {
        ENDPOINT_CANCEL,      ENDPOINT_RETRY,        ENDPOINT_QUEUE_PUT,   ENDPOINT_QUEUE_DELETE,
        ENDPOINT_QUEUE_PAUSE, ENDPOINT_QUEUE_RESUME, ENDPOINT_QUEUE_RETRY,
    };
    struct answer answer;
    answer_init(&answer);
    for (size_t i = 0; i < COUNT(endpoints); i++) {
        answer_line(&answer, endpoints[i], "{\"ok\":true}");
        cr_expect_eq(answer.err, ERR_OK);
        cr_expect_str_eq(answer.body.data, "{}");
    }
    answer_fini(&answer);
}

Test(answer, replies_that_lack_something)
{
    struct answer answer;
    answer_init(&answer);
    answer_line(&answer, ENDPOINT_INGEST, "{\"ok\":true}");
    cr_expect_eq(answer.err, ERR_INTERNAL);
    answer_line(&answer, ENDPOINT_STATUS, "{\"ok\":true}");
    cr_expect_eq(answer.err, ERR_INTERNAL);
    answer_fini(&answer);
}

Test(answer, errors_become_problems)
{
    struct answer answer;
    answer_init(&answer);
    answer_line(&answer, ENDPOINT_STATUS,
                "{\"error\":{\"code\":\"not_found\",\"message\":\"No \\\"such\\\" thing.\"}}");
    cr_expect_eq(answer.err, ERR_NOT_FOUND);
    cr_expect_str_eq(answer.body.data,
                     "{\"type\":\"urn:sluice:problem:not_found\",\"title\":\"Not found\",\"status\":404,"
                     "\"detail\":\"No \\\"such\\\" thing.\",\"code\":\"not_found\"}");
    answer_fini(&answer);
}

Test(answer, a_problem_carries_its_eta)
{
    struct answer answer;
    answer_init(&answer);
    answer_line(&answer, ENDPOINT_INGEST,
                "{\"error\":{\"code\":\"deadline_unreachable\",\"message\":\"Too late.\","
                "\"eta\":\"2026-11-23T18:47:05.123Z\"}}");
    cr_expect_eq(answer.err, ERR_DEADLINE_UNREACHABLE);
    cr_expect_str_eq(
        answer.body.data,
        "{\"type\":\"urn:sluice:problem:deadline_unreachable\",\"title\":\"Deadline unreachable\","
        "\"status\":422,\"detail\":\"Too late.\",\"code\":\"deadline_unreachable\","
        "\"eta\":\"2026-11-23T18:47:05.123Z\"}");
    answer_fini(&answer);
}

// A queue that is not there may have been deleted by the first of two requests, which were one from outside.
Test(answer, a_delete_that_was_sent_twice)
{
    static const struct {
        enum endpoint endpoint;
        bool resent;
        const char *code;
        bool told;
    } cases[] = {
        {ENDPOINT_QUEUE_DELETE, true, "unknown_queue", true},
        {ENDPOINT_QUEUE_DELETE, true, "queue_not_empty", false},
        {ENDPOINT_QUEUE_DELETE, false, "unknown_queue", false},
        {ENDPOINT_QUEUE_PAUSE, true, "unknown_queue", false},
    };
    struct answer answer;
    answer_init(&answer);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char line[128];
        int len = snprintf(line, sizeof(line), "{\"error\":{\"code\":\"%s\",\"message\":\"As it is.\"}}",
                           cases[i].code);
        struct reply reply;
        cr_assert_eq(reply_parse(line, (size_t)len, &reply), ERR_OK);
        answer_clear(&answer);
        answer.resent = cases[i].resent;
        answer_reply(&answer, cases[i].endpoint, &reply);
        cr_expect_eq(answer.err, reply.fault.err, "case %zu", i);
        cr_expect_eq(strstr(answer.body.data, "may have deleted") != NULL, cases[i].told, "case %zu: %s", i,
                     answer.body.data);
        cr_expect_eq(strstr(answer.body.data, "As it is.") == NULL, cases[i].told, "case %zu", i);
    }
    answer_clear(&answer);
    cr_expect_not(answer.resent);
    answer_fini(&answer);
}

Test(answer, heads)
{
    static const struct {
        enum err err;
        bool replayed;
        const char *allow;
        enum keep keep;
        const char *status_line, *type, *extra;
    } cases[] = {
        {ERR_OK, false, NULL, KEEP_OPEN, "200 OK", "application/json", ""},
        {ERR_OK, true, NULL, KEEP_CLOSE, "200 OK", "application/json",
         "Idempotent-Replayed: true\r\nConnection: close\r\n"},
        {ERR_METHOD_NOT_ALLOWED, false, "GET, HEAD", KEEP_OPEN, "405 Method Not Allowed",
         "application/problem+json", "Allow: GET, HEAD\r\n"},
        {ERR_OVERLOADED, false, NULL, KEEP_OPEN, "429 Too Many Requests", "application/problem+json",
         "Retry-After: 1\r\n"},
        {ERR_STORAGE_FULL, false, NULL, KEEP_OPEN, "503 Service Unavailable", "application/problem+json",
         "Retry-After: 1\r\n"},
        {ERR_OUTCOME_UNKNOWN, false, NULL, KEEP_OPEN, "504 Gateway Timeout", "application/problem+json", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct answer answer;
        struct buf head;
        char expected[512];
        answer_init(&answer);
        buf_init(&head);
        answer.err = cases[i].err;
        answer.replayed = cases[i].replayed;
        answer.allow = cases[i].allow;
        buf_str(&answer.body, "12345");
        answer_head(&answer, cases[i].keep, (struct wall){INT64_C(1795459625123)}, &head);
        int len = snprintf(expected, sizeof(expected),
                           "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: 5\r\n"
                           "Date: Mon, 23 Nov 2026 18:47:05 GMT\r\nCache-Control: no-store\r\n"
                           "X-Content-Type-Options: nosniff\r\n%s\r\n",
                           cases[i].status_line, cases[i].type, cases[i].extra);
        cr_assert(len > 0 && (size_t)len < sizeof(expected));
        cr_expect_str_eq(head.data, expected);
        buf_fini(&head);
        answer_fini(&answer);
    }
}

Test(answer, a_refusal_says_how_to_come_in_and_when)
{
    struct answer answer;
    struct buf head;
    answer_init(&answer);
    buf_init(&head);
    answer.err = ERR_UNAUTHORIZED;
    answer.challenge = "Bearer realm=\"sluice\"";
    answer_head(&answer, KEEP_OPEN, (struct wall){0}, &head);
    cr_assert_eq(strncmp(head.data, "HTTP/1.1 401 Unauthorized\r\n", 27), 0, "%s", head.data);
    cr_assert_not_null(strstr(head.data, "\r\nWWW-Authenticate: Bearer realm=\"sluice\"\r\n"), "%s",
                       head.data);
    answer_clear(&answer);
    buf_reset(&head);
    answer.err = ERR_TOO_MANY_REQUESTS;
    answer.retry_after_s = 17;
    answer_head(&answer, KEEP_OPEN, (struct wall){0}, &head);
    cr_assert_not_null(strstr(head.data, "\r\nRetry-After: 17\r\n"), "%s", head.data);
    cr_assert_null(strstr(head.data, "WWW-Authenticate"), "a cleared answer has no challenge");
    buf_fini(&head);
    answer_fini(&answer);
}

// Every error has a reason phrase of its own: none is sent as a plain "Error".
Test(answer, every_status_has_its_reason)
{
    static const enum err errors[] = {
#define ERR_VALUE(name, code, status, title) ERR_##name,
        ERR_LIST(ERR_VALUE)
#undef ERR_VALUE
    };
    for (size_t i = 0; i < COUNT(errors); i++) {
        struct answer answer = {.err = errors[i]};
        struct buf head;
        buf_init(&head);
        answer_head(&answer, KEEP_OPEN, (struct wall){0}, &head);
        char fallback[32];
        int len = snprintf(fallback, sizeof(fallback), "HTTP/1.1 %d Error\r\n", err_status(errors[i]));
        cr_assert(len > 0 && (size_t)len < sizeof(fallback));
        cr_expect_neq(strncmp(head.data, fallback, (size_t)len), 0, "%s", head.data);
        buf_fini(&head);
    }
}

// The gateway sends a request again when its connection to the scheduler breaks. What then comes back as
// known under the very ID that was minted for it is not a repeat of the client's.
Test(answer, our_own_resend_is_no_replay)
{
    static const char line[] = "{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":true}";
    struct answer answer;
    struct reply reply;
    answer_init(&answer);
    cr_assert(id_parse(UUID, strlen(UUID), &answer.minted));
    cr_assert_eq(reply_parse(line, strlen(line), &reply), ERR_OK);
    answer_reply(&answer, ENDPOINT_INGEST, &reply);
    cr_assert_eq(answer.err, ERR_OK);
    cr_assert_not(answer.replayed);
    answer_fini(&answer);
}
