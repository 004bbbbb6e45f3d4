#include "gateway/api.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UUID "0190163d-8694-739b-aea5-966c26f8ad91"

Test(api, media_types)
{
    static const char *const good[] = {NULL,
                                       "application/json",
                                       "Application/JSON",
                                       "application/json; charset=utf-8",
                                       "application/json;charset=utf-8",
                                       "application/json ; x=y",
                                       "application/problem+json",
                                       "application/vnd.x+JSON;v=1"};
    static const char *const bad[] = {"",
                                      "text/plain",
                                      "application/x-www-form-urlencoded",
                                      "application/jsonp",
                                      "application/json-seq",
                                      "application/+json",
                                      "text/json",
                                      "json",
                                      "application/json, application/json",
                                      "application/json text",
                                      "multipart/form-data; boundary=application/json"};
    for (size_t i = 0; i < COUNT(good); i++)
        cr_expect_eq(api_media_type(good[i], NULL), ERR_OK, "%s", good[i]);
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct fault fault;
        cr_expect_eq(api_media_type(bad[i], &fault), ERR_UNSUPPORTED_MEDIA_TYPE, "%s", bad[i]);
        cr_expect(strstr(fault.detail, "application/json"), "%s", fault.detail);
    }
}

Test(api, idempotency_keys)
{
    char longest[IDEMPOTENCY_KEY_MAX + 2] = {0};
    memset(longest, 'k', IDEMPOTENCY_KEY_MAX);
    cr_expect_eq(api_idempotency_key(NULL, NULL), ERR_OK);
    cr_expect_eq(api_idempotency_key("k", NULL), ERR_OK);
    cr_expect_eq(api_idempotency_key(longest, NULL), ERR_OK);
    longest[IDEMPOTENCY_KEY_MAX] = 'k';
    const char *const bad[] = {"", "a b", "a, b", "a\tb", longest};
    for (size_t i = 0; i < COUNT(bad); i++)
        cr_expect_eq(api_idempotency_key(bad[i], NULL), ERR_INVALID_FIELD, "%s", bad[i]);
}

static enum err query(const char *target, struct request *request, struct fault *fault)
{
    struct route route;
    cr_assert_eq(route_find(strncmp(target, "/ingest?", 8) == 0 ? "POST" : "GET", target, &route, NULL),
                 ERR_OK, "%s", target);
    return api_query(&route, request, fault);
}

Test(api, status_queries)
{
    struct request request;
    struct id id;
    cr_assert(id_parse(UUID, strlen(UUID), &id));
    cr_assert_eq(query("/status/" UUID, &request, NULL), ERR_OK);
    cr_expect_eq(request.op, OP_STATUS);
    cr_expect(id_equal(&request.status.id, &id));
    cr_expect_eq(request.status.limit, PAGE_DEFAULT);
    cr_expect_eq(request.status.offset, 0);
    cr_assert_eq(query("/status/" UUID "?offset=4294967295&limit=10000", &request, NULL), ERR_OK);
    cr_expect_eq(request.status.limit, 10000);
    cr_expect_eq(request.status.offset, UINT32_MAX);
    cr_expect_eq(query("/status/0190163d", &request, NULL), ERR_NOT_FOUND);
    cr_expect_eq(query("/status/" UUID "0", &request, NULL), ERR_NOT_FOUND);
}

Test(api, list_queries)
{
    struct request request;
    cr_assert_eq(query("/ingestions", &request, NULL), ERR_OK);
    cr_expect_eq(request.op, OP_LIST);
    cr_expect_eq(request.list.limit, LIST_DEFAULT);
    cr_expect_not(request.list.has_status || request.list.has_priority || request.list.has_queue);
    cr_expect_eq(request.list.cursor, 0);

    cr_assert_eq(
        query("/ingestions?status=yet_to_start&priority=LOW&queue=a-b&limit=1&cursor=18446744073709551615",
              &request, NULL),
        ERR_OK);
    cr_expect(request.list.has_status && request.list.has_priority && request.list.has_queue);
    cr_expect_eq(request.list.status, STATUS_YET_TO_START);
    cr_expect_eq(request.list.priority, PRIORITY_LOW);
    cr_expect_str_eq(request.list.queue, "a-b");
    cr_expect_eq(request.list.limit, 1);
    cr_expect_eq(request.list.cursor, UINT64_MAX);
}

Test(api, bad_queries_are_named)
{
    static const struct {
        const char *target, *named;
    } cases[] = {
        {"/status/" UUID "?limit=0", "limit"},
        {"/status/" UUID "?limit=10001", "limit"},
        {"/status/" UUID "?limit=", "limit"},
        {"/status/" UUID "?limit=1.0", "limit"},
        {"/status/" UUID "?limit=1&limit=1", "limit"},
        {"/status/" UUID "?offset=-1", "offset"},
        {"/status/" UUID "?offset=4294967296", "offset"},
        {"/status/" UUID "?Limit=1", "Limit"},
        {"/status/" UUID "?cursor=1", "cursor"},
        {"/status/" UUID "?limit=%zz", "limit"},
        {"/ingestions?limit=1001", "limit"},
        {"/ingestions?status=done", "status"},
        {"/ingestions?priority=high", "priority"},
        {"/ingestions?queue=", "queue"},
        {"/ingestions?queue=Q", "queue"},
        {"/ingestions?cursor=18446744073709551616", "cursor"},
        {"/ingestions?offset=1", "offset"},
        {"/ingestions?page=1", "page"},
        {"/ingest?dry_run=1", "dry_run"},
        {"/healthz?verbose", "verbose"},
        {"/readyz?x=%ff%0a", "x"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct request request;
        struct fault fault;
        cr_expect_eq(query(cases[i].target, &request, &fault), ERR_INVALID_FIELD, "%s", cases[i].target);
        cr_expect(strstr(fault.detail, cases[i].named), "%s: %s", cases[i].target, fault.detail);
    }
}

Test(api, ingest_carries_key_and_id)
{
    static const char body[] = "{\"ids\":[1,2],\"priority\":\"HIGH\"}";
    struct id id = {{1, 2, 3}};
    struct request request;
    cr_assert_eq(api_ingest(body, strlen(body), "key", &id, &request, NULL), ERR_OK);
    cr_expect_eq(request.op, OP_INGEST);
    cr_expect(request.ingest.has_id);
    cr_expect(id_equal(&request.ingest.id, &id));
    cr_expect_str_eq(request.ingest.idempotency_key, "key");
    cr_expect_eq(request.ingest.ids.count, 2);
    request_fini(&request);
    cr_assert_eq(api_ingest(body, strlen(body), NULL, &id, &request, NULL), ERR_OK);
    cr_expect_null(request.ingest.idempotency_key);
    request_fini(&request);
    cr_expect_eq(api_ingest("", 0, "key", &id, &request, NULL), ERR_MALFORMED_JSON);
}

static void answer_line(struct answer *answer, enum endpoint endpoint, const char *line)
{
    struct reply reply;
    cr_assert_eq(reply_parse(line, strlen(line), &reply), ERR_OK, "%s", line);
    answer_clear(answer);
    answer_reply(answer, endpoint, &reply);
    cr_assert_eq(buf_err(&answer->body), ERR_OK);
}

Test(api, replies_become_bodies)
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

Test(api, replies_that_lack_something)
{
    struct answer answer;
    answer_init(&answer);
    answer_line(&answer, ENDPOINT_INGEST, "{\"ok\":true}");
    cr_expect_eq(answer.err, ERR_INTERNAL);
    answer_line(&answer, ENDPOINT_STATUS, "{\"ok\":true}");
    cr_expect_eq(answer.err, ERR_INTERNAL);
    answer_fini(&answer);
}

Test(api, errors_become_problems)
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

Test(api, heads)
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

// Every error has a reason phrase of its own: none is sent as a plain "Error".
Test(api, every_status_has_its_reason)
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
Test(api, our_own_resend_is_no_replay)
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
