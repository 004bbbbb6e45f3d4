// How a request can be followed: its ID and its trace, through the logs of both programs to the target.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"
#include "tests/support/sluice.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TRACE_ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define TRACEPARENT "00-" TRACE_ID "-00f067aa0ba902b7-01"
#define JSON_TYPE "Content-Type: application/json"
#define BODY "{\"ids\":[1,2],\"priority\":\"HIGH\"}"
#define ACCESS "--access-log", "on"

TestSuite(trail, .fini = sluice_cleanup);

// A line of a log with all of these words in it; "" when there is none. To be freed.
static char *find_line(const struct sluice *sluice, enum part part, const char *const *words)
{
    char *log = file_text(sluice->log[part]);
    char *found = NULL;
    for (char *rest = log, *line; !found && (line = strsep(&rest, "\n"));) {
        bool all = true;
        for (size_t i = 0; words[i]; i++) {
            all = all && strstr(line, words[i]);
        }
        found = all ? strdup(line) : NULL;
    }
    free(log);
    return found ? found : strdup("");
}

static bool has_line(const struct sluice *sluice, enum part part, const char *const *words)
{
    char *line = find_line(sluice, part, words);
    bool found = line[0] != '\0';
    free(line);
    return found;
}

// POST /ingest with this header, which may be NULL; the answer's X-Request-Id.
static struct ingested ingest_with(const struct sluice *sluice, const char *header, char id[static 160])
{
    struct http_response response = sluice_post(
        sluice, BODY, LIST(JSON_TYPE, header ? header : "X-Other: 1", "traceparent: " TRACEPARENT));
    struct ingested ingested;
    cr_assert_eq(response.status, 200, "%s", response.body);
    cr_assert(http_response_header(&response, "X-Request-Id", id, 160), "%s", response.headers);
    (void)snprintf(ingested.id, sizeof(ingested.id), "%s", json_text(response.json, "ingestion_id"));
    http_response_fini(&response);
    return ingested;
}

Test(trail, a_request_id_leads_to_the_delivery)
{
    char id[160], text[64];
    struct sluice *sluice =
        sluice_start(LIST("--rate", "unlimited", "--target", "simulate:1ms", ACCESS), LIST(ACCESS));
    struct ingested ingested = ingest_with(sluice, "X-Request-Id: order-17", id);
    cr_assert_str_eq(id, "order-17");
    sluice_wait_status(sluice, ingested.id, "completed");
    (void)snprintf(text, sizeof(text), "ingestion=%s", ingested.id);
    WAIT_FOR(has_line(sluice, GATEWAY,
                      LIST("INFO http request method=POST route=/ingest status=200 code=ok bytes=",
                           "request_id=order-17 trace_id=" TRACE_ID, text)));
    WAIT_FOR(has_line(sluice, SCHEDULER,
                      LIST("INFO accept accepted", text,
                           "queue=default priority=HIGH ids=2 request_id=order-17 trace_id=" TRACE_ID)));
    WAIT_FOR(
        has_line(sluice, SCHEDULER,
                 LIST("INFO settle delivered", text, "queue=default attempt=1 outcome=completed duration_ms=",
                      " request_id=order-17 trace_id=" TRACE_ID)));
    cr_assert(!sluice_logged(sluice, GATEWAY, "[1,2]") && !sluice_logged(sluice, SCHEDULER, "[1,2]"),
              "never bodies");
    sluice_end(sluice);
}

// The ID that is made is the ingestion's: it need not be kept beside it.
Test(trail, without_one_it_is_the_ingestions)
{
    char id[160], text[64];
    struct sluice *sluice =
        sluice_start(LIST("--rate", "unlimited", "--target", "simulate:1ms", ACCESS), LIST(ACCESS));
    struct ingested ingested = ingest_with(sluice, NULL, id);
    cr_assert_str_eq(id, ingested.id);
    (void)snprintf(text, sizeof(text), "request_id=%s", ingested.id);
    WAIT_FOR(has_line(sluice, GATEWAY, LIST("route=/ingest", text)));
    (void)snprintf(text, sizeof(text), "ingestion=%s", ingested.id);
    WAIT_FOR(has_line(sluice, SCHEDULER, LIST("accepted", text)));
    WAIT_FOR(has_line(sluice, SCHEDULER, LIST("delivered", text)));
    sluice_end(sluice);
}

Test(trail, what_is_no_request_id_is_not_answered)
{
    static const char *const bad[] = {"X-Request-Id: a b", "X-Request-Id: a\"b", "X-Request-Id: <script>",
                                      "X-Request-Id: a,b", "X-Request-Id: a=b"};
    char id[160], header[200];
    struct id parsed;
    struct sluice *sluice = sluice_start(LIST(ACCESS), LIST(ACCESS));
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct ingested ingested = ingest_with(sluice, bad[i], id);
        cr_assert(id_parse(id, strlen(id), &parsed), "%s", id);
        cr_assert_str_eq(id, ingested.id);
    }
    (void)snprintf(header, sizeof(header), "X-Request-Id: %0129d", 7);
    (void)ingest_with(sluice, header, id);
    cr_assert(id_parse(id, strlen(id), &parsed), "%s", id);
    (void)snprintf(header, sizeof(header), "X-Request-Id: %0128d", 7);
    (void)ingest_with(sluice, header, id);
    cr_assert_str_eq(id, header + strlen("X-Request-Id: "));
    sluice_end(sluice);
}

Test(trail, errors_and_operations_have_one_too)
{
    char id[160];
    struct sluice *sluice = sluice_start(NULL, LIST(ACCESS));
    struct http_response refused =
        http_send(&(struct http_request){.url = sluice->url, .headers = LIST("X-Request-Id: lost")});
    cr_assert_eq(refused.status, 404);
    cr_assert(http_response_header(&refused, "X-Request-Id", id, sizeof(id)));
    cr_assert_str_eq(id, "lost");
    http_response_fini(&refused);
    char url[2 * SLUICE_TEXT];
    (void)snprintf(url, sizeof(url), "%s/queues/default/pause", sluice->url);
    struct http_response paused = http_send(
        &(struct http_request){.method = "POST", .url = url, .headers = LIST("X-Request-Id: stop-it")});
    cr_assert_eq(paused.status, 200);
    http_response_fini(&paused);
    cr_assert(sluice_logged(sluice, SCHEDULER,
                            "INFO reply operation op=queue.pause queue=default request_id=stop-it\n"),
              "also without the access log");
    queue_do(sluice, "default", "resume");
    WAIT_FOR(has_line(sluice, GATEWAY,
                      LIST("method=GET route=other status=404 code=not_found", "request_id=lost")));
    WAIT_FOR(has_line(sluice, GATEWAY,
                      LIST("method=POST route=/queues/{name}/pause status=200", "request_id=stop-it")));
    char *line = find_line(sluice, GATEWAY, LIST("route=/queues/{name}/resume"));
    char *made = strstr(line, "request_id=");
    cr_assert(made && has_line(sluice, SCHEDULER, LIST("op=queue.resume", made)), "%s", line);
    free(line);
    sluice_end(sluice);
}

static void expect_traceparent(struct http_target *target, size_t i, const char *expected)
{
    char value[128] = "";
    cr_assert(http_target_wait(target, i + 1, WAIT_S * NS_PER_S));
    struct http_target_request request = http_target_get(target, i);
    cr_assert_eq(http_target_header(&request, "traceparent", value, sizeof(value)), expected != NULL, "%s",
                 request.headers);
    cr_assert_str_eq(value, expected ? expected : "");
}

// Hours may lie between a request and its delivery, and a restart.
Test(trail, a_trace_is_passed_on_to_the_target)
{
    char id[160];
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(
        LIST("--rate", "unlimited", "--batch-size", "1", "--target", http_target_url(target), ACCESS), NULL);
    queue_do(sluice, "default", "pause");
    struct ingested ingested = ingest_with(sluice, "X-Request-Id: order-18", id);
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    http_target_script(target, &(struct http_target_answer){.status = 400, .body = "s3cret"});
    queue_do(sluice, "default", "resume");
    expect_traceparent(target, 0, TRACEPARENT);
    expect_traceparent(target, 1, TRACEPARENT);
    sluice_wait_status(sluice, ingested.id, "failed");
    WAIT_FOR(has_line(sluice, SCHEDULER,
                      LIST("delivered", "outcome=failed", "request_id=order-18 trace_id=" TRACE_ID)));
    WAIT_FOR(has_line(sluice, SCHEDULER,
                      LIST("delivered", "outcome=completed", "request_id=order-18 trace_id=" TRACE_ID)));
    cr_assert(
        sluice_logged(sluice, SCHEDULER, "batches_failed queue=default batches=1 error=\"HTTP 400\"\n"));
    cr_assert(!sluice_logged(sluice, SCHEDULER, "s3cret"), "not what the target said");
    struct http_response none = sluice_post(sluice, "{\"ids\":[3],\"priority\":\"HIGH\"}",
                                            LIST(JSON_TYPE, "traceparent: 00-nonsense-01"));
    cr_assert_eq(none.status, 200, "what is no trace is no error");
    http_response_fini(&none);
    expect_traceparent(target, 2, NULL);
    queue_put(sluice, "default", "\"headers\":{\"Traceparent\":\"own\"}");
    (void)ingest_with(sluice, NULL, id);
    expect_traceparent(target, 3, "own");
    sluice_end(sluice);
    http_target_stop(target);
}

// Every line of both, as they are written with these flags.
static void expect_json(const struct sluice *sluice, enum part part)
{
    char *log = file_text(sluice->log[part]);
    size_t lines = 0;
    for (char *rest = log, *line; (line = strsep(&rest, "\n")) && line[0] != '\0'; lines++) {
        cJSON *json = cJSON_Parse(line);
        cr_assert(cJSON_IsObject(json), "%s", line);
        cr_assert(cJSON_IsString(json_member(json, "time")) && cJSON_IsString(json_member(json, "level")) &&
                      cJSON_IsString(json_member(json, "module")) &&
                      cJSON_IsString(json_member(json, "event")),
                  "%s", line);
        cJSON_Delete(json);
    }
    cr_assert_gt(lines, 2);
    free(log);
}

Test(trail, all_of_it_as_json)
{
    char id[160];
    struct sluice *sluice = sluice_start(
        LIST("--rate", "unlimited", "--target", "exec:/bin/false", "--log-format", "json", ACCESS),
        LIST("--log-format", "json", ACCESS));
    struct ingested ingested = ingest_with(sluice, "X-Request-Id: j", id);
    sluice_wait_status(sluice, ingested.id, "failed");
    cr_assert_eq(sluice_stop(sluice, GATEWAY), 0);
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    expect_json(sluice, GATEWAY);
    expect_json(sluice, SCHEDULER);
    cr_assert(has_line(
        sluice, GATEWAY,
        LIST("\"event\":\"request\"", "\"status\":200,\"code\":\"ok\",\"bytes\":", "\"request_id\":\"j\"")));
    cr_assert(
        has_line(sluice, SCHEDULER, LIST("\"event\":\"delivered\"", "\"attempt\":1,\"outcome\":\"failed\"")));
    sluice_end(sluice);
}

Test(trail, is_off_unless_told_and_levels_hold)
{
    char id[160];
    struct sluice *sluice = sluice_start(
        LIST("--rate", "unlimited", "--target", "simulate:1ms", "--log-level", "warning", ACCESS), NULL);
    struct ingested ingested = ingest_with(sluice, "X-Request-Id: quiet", id);
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(sluice_stop(sluice, GATEWAY), 0);
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    cr_assert(!sluice_logged(sluice, GATEWAY, "quiet"));
    cr_assert(sluice_logged(sluice, GATEWAY, "INFO gateway ready"));
    char *log = file_text(sluice->log[SCHEDULER]);
    cr_assert_str_eq(log, "", "nothing was wrong");
    free(log);
    sluice_end(sluice);
}
