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

static enum err query_as(const char *method, const char *target, struct request *request, struct fault *fault)
{
    struct route route;
    cr_assert_eq(route_find(method, target, &route, NULL), ERR_OK, "%s %s", method, target);
    return api_query(&route, request, fault);
}

static enum err query(const char *target, struct request *request, struct fault *fault)
{
    return query_as("GET", target, request, fault);
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
        query("/ingestions?status=yet_to_start&priority=LOW&queue=a-b&limit=1&cursor=9223372036854775807",
              &request, NULL),
        ERR_OK);
    cr_expect(request.list.has_status && request.list.has_priority && request.list.has_queue);
    cr_expect_eq(request.list.status, STATUS_YET_TO_START);
    cr_expect_eq(request.list.priority, PRIORITY_LOW);
    cr_expect_str_eq(request.list.queue, "a-b");
    cr_expect_eq(request.list.limit, 1);
    cr_expect_eq(request.list.cursor, INT64_MAX);
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
        {"/ingestions?cursor=9223372036854775808", "cursor"},
        {"/ingestions?cursor=18446744073709551616", "cursor"},
        {"/ingestions?offset=1", "offset"},
        {"/ingestions?page=1", "page"},
        {"/queues?limit=0", "limit"},
        {"/queues?limit=1001", "limit"},
        {"/queues?cursor=", "cursor"},
        {"/queues?cursor=Mail", "cursor"},
        {"/queues?offset=1", "offset"},
        {"/queues/mail?limit=1", "limit"},
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

// Operations have no parameters: a misspelt one must not go unnoticed.
Test(api, operations_take_no_query)
{
    static const char *const cases[][2] = {
        {"POST", "/ingest?dry_run=1"},
        {"POST", "/ingestions/" UUID "/cancel?dry_run=1"},
        {"POST", "/ingestions/" UUID "/retry?dry_run=1"},
        {"PUT", "/queues/mail?dry_run=1"},
        {"DELETE", "/queues/mail?dry_run=1"},
        {"POST", "/queues/mail/pause?dry_run=1"},
        {"POST", "/queues/mail/resume?dry_run=1"},
        {"POST", "/queues/mail/retry?dry_run=1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct request request;
        struct fault fault;
        cr_expect_eq(query_as(cases[i][0], cases[i][1], &request, &fault), ERR_INVALID_FIELD, "%s",
                     cases[i][1]);
        cr_expect(strstr(fault.detail, "dry_run"), "%s: %s", cases[i][1], fault.detail);
    }
}

Test(api, operations_on_an_ingestion)
{
    struct request request;
    struct id id;
    cr_assert(id_parse(UUID, strlen(UUID), &id));
    cr_assert_eq(query_as("POST", "/ingestions/" UUID "/cancel", &request, NULL), ERR_OK);
    cr_expect_eq(request.op, OP_CANCEL);
    cr_expect(id_equal(&request.ingestion.id, &id));
    cr_assert_eq(query_as("POST", "/ingestions/0190163D-8694-739B-AEA5-966C26F8AD91/retry", &request, NULL),
                 ERR_OK);
    cr_expect_eq(request.op, OP_RETRY);
    cr_expect(id_equal(&request.ingestion.id, &id));
    static const char *const bad[] = {"/ingestions/1/cancel", "/ingestions/" UUID "0/retry",
                                      "/ingestions/%30/retry"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        cr_expect_eq(query_as("POST", bad[i], &request, NULL), ERR_NOT_FOUND, "%s", bad[i]);
    }
}

static const struct queue_operation {
    const char *method, *after;
    enum op op;
    enum body_rule body;
    enum err bad_name;
} queue_operations[] = {
    {"GET", "", OP_QUEUE_GET, BODY_IGNORED, ERR_UNKNOWN_QUEUE},
    {"HEAD", "", OP_QUEUE_GET, BODY_IGNORED, ERR_UNKNOWN_QUEUE},
    {"PUT", "", OP_QUEUE_PUT, BODY_JSON, ERR_INVALID_FIELD},
    {"DELETE", "", OP_QUEUE_DELETE, BODY_NONE, ERR_UNKNOWN_QUEUE},
    {"POST", "/pause", OP_QUEUE_PAUSE, BODY_NONE, ERR_UNKNOWN_QUEUE},
    {"POST", "/resume", OP_QUEUE_RESUME, BODY_NONE, ERR_UNKNOWN_QUEUE},
    {"POST", "/retry", OP_QUEUE_RETRY, BODY_NONE, ERR_UNKNOWN_QUEUE},
};

static enum err queue_query(const struct queue_operation *operation, const char *name,
                            struct request *request, struct fault *fault)
{
    char target[512];
    struct route route;
    int len = snprintf(target, sizeof(target), "/queues/%s%s", name, operation->after);
    cr_assert(len > 0 && (size_t)len < sizeof(target));
    cr_assert_eq(route_find(operation->method, target, &route, NULL), ERR_OK, "%s", target);
    cr_expect_eq(api_body_rule(route.endpoint), operation->body, "%s %s", operation->method, target);
    return api_query(&route, request, fault);
}

Test(api, operations_on_a_queue)
{
    char longest[QUEUE_NAME_SIZE] = {0};
    memset(longest, 'q', QUEUE_NAME_MAX);
    const char *const names[] = {"default", "0", "a-b.c_d", longest};
    for (size_t i = 0; i < COUNT(queue_operations); i++) {
        for (size_t j = 0; j < COUNT(names); j++) {
            struct request request;
            cr_assert_eq(queue_query(&queue_operations[i], names[j], &request, NULL), ERR_OK);
            cr_expect_eq(request.op, queue_operations[i].op);
            cr_expect_str_eq(request.queue.name, names[j]);
            cr_expect_eq(request.queue.change.given, 0);
        }
    }
}

Test(api, names_that_no_queue_has)
{
    char too_long[QUEUE_NAME_SIZE + 1] = {0};
    char huge[300] = {0};
    memset(too_long, 'q', QUEUE_NAME_MAX + 1);
    memset(huge, 'q', sizeof(huge) - 1);
    const char *const names[] = {"Mail", "-a", "_", "a%20b", "%61", "a,b", "\xc3\xa4", "...", too_long, huge};
    for (size_t i = 0; i < COUNT(queue_operations); i++) {
        for (size_t j = 0; j < COUNT(names); j++) {
            struct request request;
            struct fault fault;
            cr_expect_eq(queue_query(&queue_operations[i], names[j], &request, &fault),
                         queue_operations[i].bad_name, "%s %s", queue_operations[i].method, names[j]);
            cr_expect(strstr(fault.detail, "[a-z0-9][a-z0-9._-]{0,63}"), "%s", fault.detail);
        }
    }
}

Test(api, queue_list_queries)
{
    struct request request;
    cr_assert_eq(query("/queues", &request, NULL), ERR_OK);
    cr_expect_eq(request.op, OP_QUEUE_LIST);
    cr_expect_eq(request.queue_list.limit, QUEUES_DEFAULT);
    cr_expect_str_eq(request.queue_list.cursor, "");
    cr_assert_eq(query("/queues?cursor=a-b&limit=1", &request, NULL), ERR_OK);
    cr_expect_eq(request.queue_list.limit, 1);
    cr_expect_str_eq(request.queue_list.cursor, "a-b");
}

Test(api, which_bodies_are_taken)
{
    cr_expect_eq(api_body_rule(ENDPOINT_INGEST), BODY_JSON);
    cr_expect_eq(api_body_rule(ENDPOINT_CANCEL), BODY_NONE);
    cr_expect_eq(api_body_rule(ENDPOINT_RETRY), BODY_NONE);
    cr_expect_eq(api_body_rule(ENDPOINT_STATUS), BODY_IGNORED);
    cr_expect_eq(api_body_rule(ENDPOINT_LIST), BODY_IGNORED);
    cr_expect_eq(api_body_rule(ENDPOINT_QUEUE_LIST), BODY_IGNORED);
    cr_expect_eq(api_body_rule(ENDPOINT_HEALTHZ), BODY_IGNORED);
    cr_expect_eq(api_body_rule(ENDPOINT_READYZ), BODY_IGNORED);
}

Test(api, no_body_or_an_empty_object)
{
    char longest[NO_BODY_MAX + 1];
    memset(longest, ' ', sizeof(longest));
    memcpy(longest, "{}", 2);
    static const char *const good[] = {"", "{}", " {} ", "{\r\n}\n", "\t{ \t}"};
    static const char *const bad[] = {" ",      "{",  "}",   "{}}",       "{}{}", "[]",  "null",
                                      "\"{}\"", "{x", "{}x", "{\"a\":1}", "x",    "\v{}"};
    for (size_t i = 0; i < COUNT(good); i++) {
        cr_expect_eq(api_no_body(good[i], strlen(good[i]), NULL), ERR_OK, "%s", good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct fault fault;
        cr_expect_eq(api_no_body(bad[i], strlen(bad[i]), &fault), ERR_INVALID_FIELD, "%s", bad[i]);
        cr_expect(strstr(fault.detail, "takes no body"), "%s", fault.detail);
    }
    cr_expect_eq(api_no_body(NULL, 0, NULL), ERR_OK);
    cr_expect_eq(api_no_body("{}\0", 3, NULL), ERR_INVALID_FIELD);
    cr_expect_eq(api_no_body(longest, NO_BODY_MAX, NULL), ERR_OK);
    cr_expect_eq(api_no_body(longest, NO_BODY_MAX + 1, NULL), ERR_INVALID_FIELD);
    cr_expect_eq(api_no_body(NULL, NO_BODY_MAX + 1, NULL), ERR_INVALID_FIELD); // not read
}

Test(api, put_carries_name_and_change)
{
    static const char body[] = "{\"rate\":\"5/1s\",\"concurrency\":7,\"target\":\"simulate:1s\"}";
    struct request request;
    cr_assert_eq(query_as("PUT", "/queues/mail", &request, NULL), ERR_OK);
    cr_assert_eq(api_put(body, strlen(body), &request, NULL), ERR_OK);
    cr_expect_eq(request.op, OP_QUEUE_PUT);
    cr_expect_str_eq(request.queue.name, "mail");
    cr_expect_eq(request.queue.change.given, SETTING_RATE | SETTING_CONCURRENCY | SETTING_TARGET);
    cr_expect_eq(request.queue.change.concurrency, 7);
    cr_expect_str_eq(request.queue.change.target, "simulate:1s");
    request_fini(&request);

    static const struct {
        const char *body;
        enum err err;
    } bad[] = {
        {"", ERR_MALFORMED_JSON},
        {"{\"rate\":", ERR_MALFORMED_JSON},
        {"[]", ERR_INVALID_FIELD},
        {"{\"rates\":\"5/1s\"}", ERR_INVALID_FIELD},
        {"{\"concurrency\":0}", ERR_INVALID_FIELD},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        cr_assert_eq(query_as("PUT", "/queues/mail", &request, NULL), ERR_OK);
        cr_expect_eq(api_put(bad[i].body, strlen(bad[i].body), &request, NULL), bad[i].err, "%s",
                     bad[i].body);
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

Test(api, ingest_passes_on_times_and_strings)
{
    static const char body[] = "{\"ids\":[\"a\",\"b,c\"],\"priority\":\"LOW\",\"queue\":\"mail\","
                               "\"not_before\":\"2026-11-23T18:47:05Z\","
                               "\"deadline\":\"2026-11-23T19:47:05.5+01:00\"}";
    struct id id = {{1, 2, 3}};
    struct request request;
    cr_assert_eq(api_ingest(body, strlen(body), NULL, &id, &request, NULL), ERR_OK);
    cr_expect_str_eq(request.ingest.queue, "mail");
    cr_expect_eq(request.ingest.not_before.ms, INT64_C(1795459625000));
    cr_expect_eq(request.ingest.deadline.ms, INT64_C(1795459625500));
    cr_expect_eq(request.ingest.ids.kind, IDS_STRING);
    cr_expect_str_eq(request.ingest.ids.text, "\"a\",\"b,c\"");
    request_fini(&request);
}
