// Queues over HTTP, with both programs running: made, changed, listed, paused and deleted; and what is done
// to ingestions by hand.
#include "common/clock.h"
#include "tests/support/http_target.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ABSENT_ID "0190163d-8694-739b-aea5-966c26f8ad91"
#define MINUTE_MS (60 * INT64_C(1000))
#define FAST "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"simulate:1ms\""

TestSuite(queues_http, .fini = sluice_cleanup);

// ---- requests ----

static struct http_response ask(const struct sluice *sluice, const char *method, const char *body,
                                const char *path, ...) __attribute__((format(printf, 4, 5)));
static struct http_response ask(const struct sluice *sluice, const char *method, const char *body,
                                const char *path, ...)
{
    char url[512];
    va_list arguments;
    va_start(arguments, path);
    int at = snprintf(url, sizeof(url), "%s", sluice->url);
    int len = vsnprintf(url + at, sizeof(url) - (size_t)at, path, arguments);
    va_end(arguments);
    cr_assert(len >= 0 && (size_t)(at + len) < sizeof(url));
    return http_send(&(struct http_request){.method = method, .url = url, .body = body});
}

static void expect_ok(const struct http_response *response)
{
    char type[64];
    cr_assert_eq(response->status, 200, "status %ld: %s", response->status, response->body);
    cr_assert(http_response_header(response, "Content-Type", type, sizeof(type)));
    cr_assert_str_eq(type, "application/json");
    cr_assert_not_null(response->json, "%s", response->body);
}

static void expect_problem(const char *what, const struct http_response *response, long status,
                           const char *code)
{
    char type[64];
    cr_assert_eq(response->status, status, "%s: %ld %s", what, response->status, response->body);
    cr_assert(http_response_header(response, "Content-Type", type, sizeof(type)), "%s", what);
    cr_assert_str_eq(type, "application/problem+json", "%s", what);
    cr_assert_str_eq(json_text(response->json, "code"), code, "%s: %s", what, response->body);
    cr_assert_str_not_empty(json_text(response->json, "detail"), "%s: %s", what, response->body);
}

static struct http_response put(const struct sluice *sluice, const char *queue, const char *settings)
{
    struct http_response response = ask(sluice, "PUT", settings, "/queues/%s", queue);
    expect_ok(&response);
    cr_assert_str_eq(json_text(response.json, "name"), queue);
    return response;
}

static void make(const struct sluice *sluice, const char *queue, const char *settings)
{
    struct http_response response = put(sluice, queue, settings);
    http_response_fini(&response);
}

// An operation without a body; the response is the caller's to free.
static struct http_response operate(const struct sluice *sluice, const char *path, const char *name,
                                    const char *operation)
{
    struct http_response response = ask(sluice, "POST", NULL, "/%s/%s/%s", path, name, operation);
    expect_ok(&response);
    return response;
}

static void pause_queue(const struct sluice *sluice, const char *queue, const char *operation)
{
    struct http_response response = operate(sluice, "queues", queue, operation);
    cr_assert_str_eq(json_text(response.json, "name"), queue);
    bool paused = strcmp(operation, "pause") == 0;
    const cJSON *reason = json_member(response.json, "paused_reason");
    cr_assert_eq(cJSON_IsTrue(json_member(response.json, "paused")) != 0, paused, "%s", response.body);
    cr_assert(paused ? cJSON_IsString(reason) && strcmp(reason->valuestring, "paused") == 0
                     : cJSON_IsNull(reason) != 0,
              "%s", response.body);
    http_response_fini(&response);
}

static struct ingested ingest(const struct sluice *sluice, const char *queue, const char *ids,
                              const char *more)
{
    char body[512];
    int len = snprintf(body, sizeof(body), "{\"queue\":\"%s\",\"ids\":%s,\"priority\":\"LOW\"%s}", queue, ids,
                       more);
    cr_assert(len > 0 && (size_t)len < sizeof(body));
    return sluice_ingest(sluice, body);
}

static void expect_refused(const struct sluice *sluice, const char *body, long status, const char *code)
{
    struct http_response response = sluice_post(sluice, body, NULL);
    expect_problem(body, &response, status, code);
    http_response_fini(&response);
}

static void expect_status(const struct sluice *sluice, const char *id, const char *status)
{
    struct http_response response = sluice_status(sluice, id);
    cr_assert_str_eq(json_text(response.json, "status"), status, "%s", response.body);
    http_response_fini(&response);
}

// A moment this far from now, as JSON shows it.
static void time_from_now(int64_t ms, char text[static WALL_TEXT_SIZE])
{
    wall_format((struct wall){.ms = wall_now().ms + ms}, text);
}

// ---- settings ----

static void expect_settings(const struct http_response *queue, int concurrency, int attempts)
{
    const cJSON *headers = json_member(queue->json, "headers");
    cr_assert_str_eq(json_text(queue->json, "rate"), "7/3s", "%s", queue->body);
    cr_assert_str_eq(json_text(queue->json, "target"), "simulate:5ms", "%s", queue->body);
    cr_assert_str_eq(json_text(queue->json, "ids"), "integer", "%s", queue->body);
    cr_assert_str_eq(json_text(queue->json, "timeout"), "20s", "%s", queue->body);
    cr_assert_eq(json_number(queue->json, "concurrency"), concurrency, "%s", queue->body);
    cr_assert_eq(json_number(queue->json, "batch_size"), 2, "%s", queue->body);
    cr_assert_eq(json_number(queue->json, "max_id"), 9007199254740991.0, "%s", queue->body);
    cr_assert_eq(json_number(json_member(queue->json, "retry"), "max_attempts"), attempts, "%s", queue->body);
    cr_assert_str_eq(json_text(headers, "Authorization"), "***", "%s", queue->body);
    cr_assert_null(strstr(queue->body, "secret"), "%s", queue->body);
}

Test(queues_http, a_queue_is_made_and_then_changed_in_part)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    struct http_response queue =
        put(sluice, "mail",
            "{\"rate\":\"7/3s\",\"concurrency\":3,\"batch_size\":2,\"target\":\"simulate:5ms\","
            "\"timeout\":\"20s\",\"retry\":{\"max_attempts\":2},"
            "\"headers\":{\"Authorization\":\"Bearer secret\"}}");
    expect_settings(&queue, 3, 2);
    http_response_fini(&queue);

    queue = put(sluice, "mail", "{\"concurrency\":4}");
    expect_settings(&queue, 4, 2);
    http_response_fini(&queue);
    queue = put(sluice, "mail", "{\"retry\":{\"max_attempts\":9}}");
    expect_settings(&queue, 4, 9);
    http_response_fini(&queue);
    queue = put(sluice, "mail", "{}");
    expect_settings(&queue, 4, 9);
    http_response_fini(&queue);

    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    queue = ask(sluice, "GET", NULL, "/queues/mail");
    expect_ok(&queue);
    expect_settings(&queue, 4, 9);
    cr_assert(cJSON_IsNull(json_member(queue.json, "paused_reason")), "%s", queue.body);
    cr_assert(cJSON_IsNull(json_member(queue.json, "paused_until")), "%s", queue.body);
    static const char *const figures[] = {"in_flight", "dispatched", "completed", "failed"};
    for (size_t i = 0; i < COUNT(figures); i++) {
        cr_assert_eq(json_number(queue.json, figures[i]), 0, "%s: %s", figures[i], queue.body);
    }
    static const char *const priorities[] = {"HIGH", "MEDIUM", "LOW"};
    for (size_t i = 0; i < COUNT(priorities); i++) {
        cr_assert_eq(json_number(json_member(queue.json, "waiting"), priorities[i]), 0, "%s", queue.body);
    }
    http_response_fini(&queue);
    sluice_end(sluice);
}

Test(queues_http, head_is_get_without_its_body)
{
    static const struct {
        const char *path;
        long status;
    } cases[] = {{"/queues", 200}, {"/queues/default", 200}, {"/queues/other", 404}};
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char length[32];
        struct http_response response = ask(sluice, "HEAD", NULL, "%s", cases[i].path);
        cr_assert_eq(response.status, cases[i].status, "%s", cases[i].path);
        cr_assert_eq(response.len, 0, "%s: %s", cases[i].path, response.body);
        cr_assert(http_response_header(&response, "Content-Length", length, sizeof(length)));
        cr_assert_gt(strtoul(length, NULL, 10), 2, "%s: %s", cases[i].path, length);
        http_response_fini(&response);
    }
    sluice_end(sluice);
}

Test(queues_http, headers_are_sent_and_shown_as_stars)
{
    char settings[512], value[64];
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(NULL, NULL);
    (void)snprintf(settings, sizeof(settings),
                   "{\"rate\":\"unlimited\",\"target\":\"%s\",\"headers\":"
                   "{\"Authorization\":\"Bearer secret\",\"X-Old\":\"1\"}}",
                   http_target_url(target));
    make(sluice, "mail", settings);
    // What was shown can be given back; what is left out is gone.
    struct http_response queue =
        put(sluice, "mail", "{\"headers\":{\"Authorization\":\"***\",\"X-New\":\"2\"}}");
    const cJSON *headers = json_member(queue.json, "headers");
    cr_assert_eq(cJSON_GetArraySize(headers), 2, "%s", queue.body);
    cr_assert_str_eq(json_text(headers, "Authorization"), "***");
    cr_assert_str_eq(json_text(headers, "X-New"), "***");
    http_response_fini(&queue);

    struct ingested ingested = ingest(sluice, "mail", "[1]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    struct http_target_request request = http_target_get(target, 0);
    cr_assert(http_target_header(&request, "Authorization", value, sizeof(value)), "%s", request.headers);
    cr_assert_str_eq(value, "Bearer secret");
    cr_assert(http_target_header(&request, "X-New", value, sizeof(value)), "%s", request.headers);
    cr_assert_str_eq(value, "2");
    cr_assert_not(http_target_header(&request, "X-Old", value, sizeof(value)), "%s", request.headers);
    sluice_end(sluice);
    http_target_stop(target);
}

// ---- the list ----

// Its names in order, each with a space behind it.
static void list_names(const struct http_response *page, char *names, size_t size)
{
    size_t at = 0;
    const cJSON *queue;
    names[0] = '\0';
    cJSON_ArrayForEach(queue, json_member(page->json, "queues"))
    {
        int len = snprintf(names + at, size - at, "%s ", json_text(queue, "name"));
        cr_assert(len > 0 && (size_t)len < size - at);
        at += (size_t)len;
    }
}

Test(queues_http, queues_are_listed_by_name_in_pages)
{
    static const char *const made[] = {"e", "b", "a-1", "c"};
    static const struct {
        const char *query, *names, *next;
    } pages[] = {
        {"", "a-1 b c default e ", NULL},
        {"?limit=2", "a-1 b ", "b"},
        {"?limit=2&cursor=b", "c default ", "default"},
        {"?limit=2&cursor=default", "e ", NULL},
        {"?limit=5", "a-1 b c default e ", NULL},
        {"?cursor=bb", "c default e ", NULL},
        {"?cursor=zzz", "", NULL},
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(made); i++) {
        make(sluice, made[i], "{\"target\":\"simulate:1s\"}");
    }
    for (size_t i = 0; i < COUNT(pages); i++) {
        char names[128];
        struct http_response page = ask(sluice, "GET", NULL, "/queues%s", pages[i].query);
        expect_ok(&page);
        list_names(&page, names, sizeof(names));
        cr_assert_str_eq(names, pages[i].names, "%s: %s", pages[i].query, page.body);
        const cJSON *next = json_member(page.json, "next_cursor");
        if (pages[i].next) {
            cr_assert(cJSON_IsString(next) && strcmp(next->valuestring, pages[i].next) == 0, "%s: %s",
                      pages[i].query, page.body);
        } else {
            cr_assert(cJSON_IsNull(next), "%s: %s", pages[i].query, page.body);
        }
        http_response_fini(&page);
    }
    sluice_end(sluice);
}

// ---- pause, resume, delete ----

Test(queues_http, a_paused_queue_takes_in_and_gives_out_nothing)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "still", "{" FAST "}");
    make(sluice, "moving", "{" FAST "}");
    pause_queue(sluice, "still", "pause");
    pause_queue(sluice, "still", "pause");
    struct ingested waits = ingest(sluice, "still", "[1,2]", "");
    struct ingested goes = ingest(sluice, "moving", "[1,2]", "");
    sluice_wait_status(sluice, goes.id, "completed");
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    goes = ingest(sluice, "moving", "[3]", "");
    sluice_wait_status(sluice, goes.id, "completed");
    expect_status(sluice, waits.id, "yet_to_start");

    struct http_response queue = ask(sluice, "GET", NULL, "/queues/still");
    expect_ok(&queue);
    cr_assert_str_eq(json_text(queue.json, "paused_reason"), "paused", "%s", queue.body);
    cr_assert_eq(json_number(json_member(queue.json, "waiting"), "LOW"), 2, "%s", queue.body);
    cr_assert_eq(json_number(queue.json, "dispatched"), 0, "%s", queue.body);
    http_response_fini(&queue);

    pause_queue(sluice, "still", "resume");
    pause_queue(sluice, "still", "resume");
    sluice_wait_status(sluice, waits.id, "completed");
    sluice_end(sluice);
}

Test(queues_http, only_an_empty_queue_can_be_deleted)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "short", "{" FAST "}");
    pause_queue(sluice, "short", "pause");
    struct ingested ingested = ingest(sluice, "short", "[1]", "");
    struct http_response response = ask(sluice, "DELETE", NULL, "/queues/short");
    expect_problem("with something waiting", &response, 409, "queue_not_empty");
    http_response_fini(&response);
    pause_queue(sluice, "short", "resume");
    sluice_wait_status(sluice, ingested.id, "completed");

    response = ask(sluice, "DELETE", NULL, "/queues/short");
    expect_ok(&response);
    cr_assert_str_eq(json_text(response.json, "name"), "short");
    cr_assert(cJSON_IsTrue(json_member(response.json, "deleted")), "%s", response.body);
    http_response_fini(&response);
    response = ask(sluice, "DELETE", NULL, "/queues/short");
    expect_problem("twice", &response, 404, "unknown_queue");
    http_response_fini(&response);
    expect_refused(sluice, "{\"queue\":\"short\",\"ids\":[1],\"priority\":\"LOW\"}", 404, "unknown_queue");
    expect_status(sluice, ingested.id, "completed");

    response = ask(sluice, "DELETE", NULL, "/queues/default");
    expect_problem("default", &response, 409, "queue_protected");
    http_response_fini(&response);
    make(sluice, "short", "{" FAST "}"); // a new one of that name
    ingested = ingest(sluice, "short", "[1]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    sluice_end(sluice);
}

// ---- errors ----

static const struct bad_request {
    const char *method, *path, *body;
    long status;
    const char *code;
    const char *named; // in the detail
    const char *allow;
} bad_requests[] = {
    {"GET", "/queues/other", NULL, 404, "unknown_queue", "other", NULL},
    {"GET", "/queues/No%20Queue", NULL, 404, "unknown_queue", NULL, NULL},
    {"DELETE", "/queues/other", NULL, 404, "unknown_queue", "other", NULL},
    {"DELETE", "/queues/Other", NULL, 404, "unknown_queue", "Other", NULL},
    {"POST", "/queues/other/pause", NULL, 404, "unknown_queue", "other", NULL},
    {"POST", "/queues/Other/pause", NULL, 404, "unknown_queue", "Other", NULL},
    {"POST", "/queues/other/resume", NULL, 404, "unknown_queue", "other", NULL},
    {"POST", "/queues/other/retry", NULL, 404, "unknown_queue", "other", NULL},
    {"PUT", "/queues/No%20Queue", "{}", 422, "invalid_field", "name", NULL},
    {"PUT", "/queues/-x", "{}", 422, "invalid_field", "name", NULL},
    {"PUT", "/queues/default", "", 400, "malformed_json", NULL, NULL},
    {"PUT", "/queues/default", "{", 400, "malformed_json", "byte", NULL},
    {"PUT", "/queues/default", "[]", 422, "invalid_field", NULL, NULL},
    {"PUT", "/queues/default", "{\"speed\":1}", 422, "invalid_field", "speed", NULL},
    {"PUT", "/queues/default", "{\"rate\":\"fast\"}", 422, "invalid_field", "rate", NULL},
    {"PUT", "/queues/default", "{\"concurrency\":0}", 422, "invalid_field", "concurrency", NULL},
    {"PUT", "/queues/default", "{\"target\":\"ftp://x\"}", 422, "invalid_field", "target", NULL},
    {"PUT", "/queues/default", "{\"headers\":{\"Content-Length\":\"1\"}}", 422, "invalid_field",
     "Content-Length", NULL},
    {"PUT", "/queues/default", "{\"retry\":{\"min_backoff\":\"2h\",\"max_backoff\":\"1h\"}}", 422,
     "invalid_field", "backoff", NULL},
    {"PUT", "/queues/default", "{\"ids\":\"string\"}", 422, "invalid_field", "ids", NULL},
    {"POST", "/queues/default/pause", "{\"for\":\"1h\"}", 422, "invalid_field", "no body", NULL},
    {"POST", "/queues/default/pause?for=1h", NULL, 422, "invalid_field", "for", NULL},
    {"GET", "/queues?limit=0", NULL, 422, "invalid_field", "limit", NULL},
    {"GET", "/queues?cursor=X", NULL, 422, "invalid_field", "cursor", NULL},
    {"POST", "/ingestions/1/cancel", NULL, 404, "not_found", NULL, NULL},
    {"POST", "/ingestions/" ABSENT_ID "/cancel", NULL, 404, "not_found", NULL, NULL},
    {"POST", "/ingestions/1/retry", NULL, 404, "not_found", NULL, NULL},
    {"POST", "/ingestions/" ABSENT_ID "/retry", NULL, 404, "not_found", NULL, NULL},
    {"POST", "/queues", NULL, 405, "method_not_allowed", NULL, "GET, HEAD"},
    {"PATCH", "/queues/default", "{}", 405, "method_not_allowed", NULL, "GET, HEAD, PUT, DELETE"},
    {"GET", "/queues/default/pause", NULL, 405, "method_not_allowed", NULL, "POST"},
    {"DELETE", "/ingestions/" ABSENT_ID "/cancel", NULL, 405, "method_not_allowed", NULL, "POST"},
    {"GET", "/queues/default/stop", NULL, 404, "not_found", NULL, NULL},
};

Test(queues_http, errors)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    struct http_response before = ask(sluice, "GET", NULL, "/queues");
    for (size_t i = 0; i < COUNT(bad_requests); i++) {
        const struct bad_request *bad = &bad_requests[i];
        char allow[64];
        struct http_response response = ask(sluice, bad->method, bad->body, "%s", bad->path);
        expect_problem(bad->path, &response, bad->status, bad->code);
        cr_assert(!bad->named || strstr(json_text(response.json, "detail"), bad->named), "%s %s: %s",
                  bad->method, bad->path, response.body);
        cr_assert_eq(http_response_header(&response, "Allow", allow, sizeof(allow)), bad->allow != NULL);
        cr_assert(!bad->allow || strcmp(allow, bad->allow) == 0, "%s %s: %s", bad->method, bad->path, allow);
        http_response_fini(&response);
    }
    struct http_response after = ask(sluice, "GET", NULL, "/queues");
    cr_assert_str_eq(before.body, after.body, "nothing was changed");
    http_response_fini(&before);
    http_response_fini(&after);
    sluice_end(sluice);
}

// ---- cancel and retry ----

static void expect_progress(const struct http_response *row, const char *status, const char *member,
                            int count)
{
    cr_assert_str_eq(json_text(row->json, "status"), status, "%s", row->body);
    cr_assert_eq(json_number(json_member(row->json, "progress"), member), count, "%s", row->body);
}

Test(queues_http, what_is_cancelled_is_not_dispatched)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "work", "{" FAST "}");
    pause_queue(sluice, "work", "pause");
    struct ingested cancelled = ingest(sluice, "work", "[1,2,3]", "");
    struct ingested kept = ingest(sluice, "work", "[4]", "");
    for (int i = 0; i < 2; i++) { // once more is no error
        struct http_response row = operate(sluice, "ingestions", cancelled.id, "cancel");
        cr_assert_str_eq(json_text(row.json, "ingestion_id"), cancelled.id);
        cr_assert_str_eq(json_text(row.json, "queue"), "work");
        cr_assert_str_eq(json_text(row.json, "priority"), "LOW");
        expect_progress(&row, "cancelled", "cancelled", 3);
        http_response_fini(&row);
    }
    pause_queue(sluice, "work", "resume");
    sluice_wait_status(sluice, kept.id, "completed");
    struct http_response row = operate(sluice, "ingestions", cancelled.id, "retry"); // nothing failed
    expect_progress(&row, "cancelled", "cancelled", 3);
    http_response_fini(&row);
    struct http_response queue = ask(sluice, "GET", NULL, "/queues/work");
    cr_assert_eq(json_number(queue.json, "dispatched"), 1, "%s", queue.body);
    http_response_fini(&queue);
    struct http_response response = ask(sluice, "POST", "{}", "/ingestions/%s/cancel", kept.id);
    expect_problem("completed", &response, 409, "already_finished");
    http_response_fini(&response);
    sluice_end(sluice);
}

#define FAILING "{" FAST ",\"retry\":{\"max_attempts\":1}}"

Test(queues_http, failed_batches_are_tried_again)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "work", FAILING);
    make(sluice, "work", "{\"target\":\"simulate:1ms,fail=1\"}");
    struct ingested ingested[3];
    for (size_t i = 0; i < COUNT(ingested); i++) {
        ingested[i] = ingest(sluice, "work", "[1,2]", "");
        sluice_wait_status(sluice, ingested[i].id, "failed");
    }
    struct http_response response = ask(sluice, "POST", NULL, "/ingestions/%s/cancel", ingested[0].id);
    expect_problem("failed", &response, 409, "already_finished");
    http_response_fini(&response);
    pause_queue(sluice, "work", "pause");
    make(sluice, "work", "{\"target\":\"simulate:1ms\"}");

    response = operate(sluice, "ingestions", ingested[0].id, "retry");
    cr_assert_str_eq(json_text(response.json, "ingestion_id"), ingested[0].id);
    http_response_fini(&response);
    sluice_wait_status(sluice, ingested[0].id, "yet_to_start");
    struct http_response status = sluice_status(sluice, ingested[0].id);
    const cJSON *batch;
    cJSON_ArrayForEach(batch, json_member(status.json, "batches"))
    {
        cr_assert_str_eq(json_text(batch, "status"), "yet_to_start");
        cr_assert_null(cJSON_GetObjectItem(batch, "attempts"), "%s", status.body);
        cr_assert_null(cJSON_GetObjectItem(batch, "error"), "%s", status.body);
    }
    http_response_fini(&status);
    expect_status(sluice, ingested[1].id, "failed");

    pause_queue(sluice, "work", "resume");
    sluice_wait_status(sluice, ingested[0].id, "completed");
    response = operate(sluice, "ingestions", ingested[0].id, "retry"); // nothing is left to retry
    expect_progress(&response, "completed", "completed", 2);
    http_response_fini(&response);
    response = operate(sluice, "queues", "work", "retry"); // all that failed
    cr_assert_str_eq(json_text(response.json, "name"), "work");
    http_response_fini(&response);
    sluice_wait_status(sluice, ingested[1].id, "completed");
    sluice_wait_status(sluice, ingested[2].id, "completed");
    sluice_end(sluice);
}

// ---- what a queue takes ----

Test(queues_http, strings_on_a_queue_of_strings)
{
    char longest[160], body[256];
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "words",
         "{\"ids\":\"string\",\"rate\":\"unlimited\",\"batch_size\":2,\"target\":\"simulate:1ms\"}");
    struct ingested ingested = ingest(sluice, "words", "[\"a\",\"b,]c\",\"\\u00e9\\\"\",\"1\",\"a\"]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    struct http_response status = sluice_status(sluice, ingested.id);
    static const char *const expected[] = {"[\"a\",\"b,]c\"]", "[\"\xc3\xa9\\\"\",\"1\"]", "[\"a\"]"};
    const cJSON *batches = json_member(status.json, "batches");
    cr_assert_eq(cJSON_GetArraySize(batches), 3, "%s", status.body);
    for (int i = 0; i < 3; i++) {
        char *ids = cJSON_PrintUnformatted(json_member(cJSON_GetArrayItem(batches, i), "ids"));
        cr_assert_str_eq(ids, expected[i]);
        cJSON_free(ids);
    }
    http_response_fini(&status);

    memset(longest, 'x', sizeof(longest));
    (void)snprintf(body, sizeof(body), "[\"%.128s\"]", longest);
    ingested = ingest(sluice, "words", body, "");
    sluice_wait_status(sluice, ingested.id, "completed");
    (void)snprintf(body, sizeof(body), "{\"queue\":\"words\",\"ids\":[\"%.129s\"],\"priority\":\"LOW\"}",
                   longest);
    expect_refused(sluice, body, 422, "invalid_field");
    expect_refused(sluice, "{\"queue\":\"words\",\"ids\":[\"\"],\"priority\":\"LOW\"}", 422, "invalid_field");
    expect_refused(sluice, "{\"queue\":\"words\",\"ids\":[1],\"priority\":\"LOW\"}", 422, "invalid_field");
    expect_refused(sluice, "{\"ids\":[\"a\"],\"priority\":\"LOW\"}", 422, "invalid_field");
    expect_refused(sluice, "{\"queue\":\"words\",\"ids\":[\"a\",1],\"priority\":\"LOW\"}", 422,
                   "invalid_field");
    sluice_end(sluice);
}

Test(queues_http, max_id_is_the_queues_own)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "few", "{\"max_id\":10," FAST "}");
    struct ingested ingested = ingest(sluice, "few", "[10,1]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    expect_refused(sluice, "{\"queue\":\"few\",\"ids\":[10,11],\"priority\":\"LOW\"}", 400,
                   "id_out_of_range");
    make(sluice, "few", "{\"max_id\":11}");
    ingested = ingest(sluice, "few", "[10,11]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    sluice_end(sluice);
}

// ---- times ----

Test(queues_http, not_before_its_time)
{
    char now[WALL_TEXT_SIZE], soon[WALL_TEXT_SIZE], later[WALL_TEXT_SIZE], more[64];
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "timed", "{" FAST "}");
    time_from_now(60 * MINUTE_MS, later);
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", later);
    struct ingested waits = ingest(sluice, "timed", "[1]", more);
    time_from_now(1000, soon);
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", soon);
    struct ingested goes = ingest(sluice, "timed", "[2]", more);
    time_from_now(-60 * MINUTE_MS, now);
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", now);
    struct ingested first = ingest(sluice, "timed", "[3]", more);
    sluice_wait_status(sluice, first.id, "completed");
    sluice_wait_status(sluice, goes.id, "completed");

    struct http_response status = sluice_status(sluice, goes.id);
    const cJSON *batch = cJSON_GetArrayItem(json_member(status.json, "batches"), 0);
    cr_assert_geq(strcmp(json_text(batch, "triggered_at"), soon), 0, "%s: %s", soon, status.body);
    http_response_fini(&status);
    expect_status(sluice, waits.id, "yet_to_start");
    status = operate(sluice, "ingestions", waits.id, "cancel");
    expect_progress(&status, "cancelled", "cancelled", 1);
    http_response_fini(&status);
    expect_refused(sluice, "{\"ids\":[1],\"priority\":\"LOW\",\"not_before\":\"tomorrow\"}", 422,
                   "invalid_field");
    expect_refused(sluice, "{\"ids\":[1],\"priority\":\"LOW\",\"not_before\":1}", 422, "invalid_field");
    sluice_end(sluice);
}

// The second and the third batch need an hour each: that is said, with the time that would do.
Test(queues_http, a_deadline_that_cannot_be_met)
{
    char deadline[WALL_TEXT_SIZE], hour[WALL_TEXT_SIZE], body[256], more[64];
    struct sluice *sluice = sluice_start(NULL, NULL);
    make(sluice, "slow", "{\"rate\":\"1/1h\",\"batch_size\":1,\"target\":\"simulate:1ms\"}");
    time_from_now(30 * MINUTE_MS, deadline);
    time_from_now(119 * MINUTE_MS, hour);
    (void)snprintf(body, sizeof(body),
                   "{\"queue\":\"slow\",\"ids\":[1,2,3],\"priority\":\"LOW\",\"deadline\":\"%s\"}", deadline);
    struct http_response response = sluice_post(sluice, body, NULL);
    expect_problem("too soon", &response, 422, "deadline_unreachable");
    const char *eta = json_text(response.json, "eta");
    cr_assert_eq(strlen(eta), strlen(deadline), "%s", eta);
    cr_assert_gt(strcmp(eta, hour), 0, "%s", response.body);
    http_response_fini(&response);
    struct http_response list = sluice_get(sluice, "/ingestions");
    cr_assert_eq(cJSON_GetArraySize(json_member(list.json, "ingestions")), 0, "nothing was accepted");
    http_response_fini(&list);

    time_from_now(10 * 60 * MINUTE_MS, deadline);
    (void)snprintf(more, sizeof(more), ",\"deadline\":\"%s\"", deadline);
    struct ingested ingested = ingest(sluice, "slow", "[1,2,3]", more);
    struct http_response row = operate(sluice, "ingestions", ingested.id, "cancel");
    http_response_fini(&row);
    expect_refused(sluice, "{\"ids\":[1],\"priority\":\"LOW\",\"deadline\":\"2026-02-30T00:00:00Z\"}", 422,
                   "invalid_field");
    sluice_end(sluice);
}
