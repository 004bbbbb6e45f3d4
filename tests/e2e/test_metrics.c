// GET /metrics: that its values are those of what happened, and that it stays bounded.
#include "tests/support/dispatches.h"
#include "tests/support/metrics_text.h"
#include "tests/support/queues.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define JSON_TYPE "Content-Type: application/json"

TestSuite(metrics, .fini = sluice_cleanup);

// What stands there now, checked; to be freed.
static char *metrics(const struct sluice *sluice)
{
    char type[128];
    struct http_response response = sluice_get(sluice, "/metrics");
    cr_assert_eq(response.status, 200, "%s", response.body);
    cr_assert(http_response_header(&response, "Content-Type", type, sizeof(type)));
    cr_assert_str_eq(type, "text/plain; version=0.0.4; charset=utf-8");
    cr_assert_gt(metrics_check(response.body), 100);
    char *text = strdup(response.body);
    http_response_fini(&response);
    return text;
}

// For what is waited for: without the check.
static double value(const struct sluice *sluice, const char *sample)
{
    struct http_response response = sluice_get(sluice, "/metrics");
    double found = metrics_value(response.body, sample);
    http_response_fini(&response);
    return found;
}

#define EXPECT(text, sample, wanted)                                                                         \
    cr_expect_eq(metrics_value(text, sample), wanted, "%s: %g", sample, metrics_value(text, sample))

Test(metrics, requests_are_counted_by_route_and_status)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (int i = 0; i < 5; i++) {
        struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 2);
        struct http_response status = sluice_status(sluice, ingested.id);
        http_response_fini(&status);
    }
    static const char *const bodies[] = {"{", "{\"ids\":[],\"priority\":\"LOW\"}", "[]"};
    for (size_t i = 0; i < COUNT(bodies); i++) {
        struct http_response bad = sluice_post(sluice, bodies[i], LIST(JSON_TYPE));
        http_response_fini(&bad);
    }
    static const char *const paths[] = {"/",           "/nowhere",        "/ingest/x",
                                        "/status/a/b", "/status/nothing", "/queues/none"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct http_response lost = sluice_get(sluice, "%s", paths[i]);
        cr_assert_eq(lost.status, 404);
        http_response_fini(&lost);
    }
    struct http_response head = ask(sluice, "HEAD", NULL, "/healthz");
    http_response_fini(&head);
    struct http_response wrong = ask(sluice, "PATCH", NULL, "/ingest");
    http_response_fini(&wrong);
    // An answer is counted when it was written, which may be a moment after it was read.
    WAIT_FOR(value(sluice, "sluice_http_requests_total{method=\"other\",route=\"other\",status=\"405\"}") ==
             1);
    char *text = metrics(sluice);
    EXPECT(text, "sluice_http_requests_total{method=\"POST\",route=\"/ingest\",status=\"200\"}", 5);
    EXPECT(text, "sluice_http_requests_total{method=\"POST\",route=\"/ingest\",status=\"400\"}", 1);
    EXPECT(text, "sluice_http_requests_total{method=\"POST\",route=\"/ingest\",status=\"422\"}", 2);
    EXPECT(text, "sluice_http_requests_total{method=\"GET\",route=\"/status/{id}\",status=\"200\"}", 5);
    EXPECT(text, "sluice_http_requests_total{method=\"GET\",route=\"/status/{id}\",status=\"404\"}", 1);
    EXPECT(text, "sluice_http_requests_total{method=\"GET\",route=\"/queues/{name}\",status=\"404\"}", 1);
    EXPECT(text, "sluice_http_requests_total{method=\"GET\",route=\"/healthz\",status=\"200\"}", 1);
    EXPECT(text, "sluice_http_requests_total{method=\"other\",route=\"other\",status=\"404\"}", 4);
    EXPECT(text, "sluice_http_request_duration_seconds_count{method=\"POST\",route=\"/ingest\"}", 8);
    EXPECT(text, "sluice_ingestions_accepted_total", 5);
    EXPECT(text, "sluice_scheduler_up", 1);
    cr_expect_gt(
        metrics_value(text, "sluice_http_request_duration_seconds_sum{method=\"POST\",route=\"/ingest\"}"),
        0);
    cr_expect_geq(metrics_value(text, "sluice_ipc_message_requests_sum"), 10);
    cr_expect_leq(metrics_value(text, "sluice_ipc_round_trip_seconds_count"),
                  metrics_value(text, "sluice_ipc_message_requests_sum"));
    cr_expect_geq(metrics_value(text, "sluice_http_connections"), 1);
    cr_expect_gt(metrics_value(text, "sluice_gateway_resident_memory_bytes"), 1 << 20);
    cr_expect_gt(metrics_value(text, "sluice_scheduler_resident_memory_bytes"), 1 << 20);
    cr_expect_gt(metrics_value(text, "sluice_store_size_bytes{file=\"data\"}"), 4096);
    cr_expect_gt(metrics_value(text, "sluice_store_size_bytes{file=\"log\"}"), 4096);
    const double now_s = (double)wall_now().ms / 1000;
    for (int part = 0; part < PARTS; part++) {
        double started = metrics_value(text, part == GATEWAY ? "sluice_gateway_start_time_seconds"
                                                             : "sluice_scheduler_start_time_seconds");
        cr_expect(started <= now_s && started > now_s - 600);
    }
    EXPECT(text, "sluice_gateway_build_info{version=\"" SLUICE_VERSION "\"}", 1);
    EXPECT(text, "sluice_scheduler_build_info{version=\"" SLUICE_VERSION "\"}", 1);
    cr_expect_null(strstr(text, "nowhere"), "never what a client sent");
    free(text);
    sluice_end(sluice);
}

Test(metrics, queues_show_what_waits_and_what_was_done)
{
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "q",
              "\"rate\":\"unlimited\",\"concurrency\":7,\"batch_size\":1,\"target\":\"%s\",\"retry\":{\"max_"
              "attempts\":2,\"min_backoff\":\"1ms\",\"max_backoff\":\"1ms\"}",
              http_target_url(target));
    queue_do(sluice, "q", "pause");
    char *text = metrics(sluice);
    EXPECT(text, "sluice_queue_oldest_waiting_seconds{queue=\"q\"}", 0);
    free(text);
    (void)queue_ingest_range(sluice, "q", "HIGH", 1, 2);
    (void)queue_ingest_range(sluice, "q", "LOW", 1, 3);
    wait_ms(50);
    text = metrics(sluice);
    EXPECT(text, "sluice_queues", 2);
    EXPECT(text, "sluice_queue_waiting_batches{queue=\"q\",priority=\"HIGH\"}", 2);
    EXPECT(text, "sluice_queue_waiting_batches{queue=\"q\",priority=\"MEDIUM\"}", 0);
    EXPECT(text, "sluice_queue_waiting_batches{queue=\"q\",priority=\"LOW\"}", 3);
    EXPECT(text, "sluice_queue_paused{queue=\"q\",reason=\"paused\"}", 1);
    EXPECT(text, "sluice_queue_paused{queue=\"default\",reason=\"paused\"}", 0);
    EXPECT(text, "sluice_queue_concurrency{queue=\"q\"}", 7);
    EXPECT(text, "sluice_queue_dispatch_rate_limit{queue=\"q\"}", HUGE_VAL);
    EXPECT(text, "sluice_queue_dispatch_rate_limit{queue=\"default\"}", 0.2);
    EXPECT(text, "sluice_queue_dispatched_total{queue=\"q\"}", 0);
    cr_expect_geq(metrics_value(text, "sluice_queue_oldest_waiting_seconds{queue=\"q\"}"), 0.05);
    free(text);

    // One fails for good at once, one is tried again and then fails, three are completed.
    http_target_script(target, &(struct http_target_answer){.status = 400});
    http_target_set_default(target, &(struct http_target_answer){.status = 200});
    queue_put(sluice, "q", "\"concurrency\":1");
    queue_do(sluice, "q", "resume");
    WAIT_FOR(queue_figure(sluice, "q", "completed") == 4);
    http_target_script(target, &(struct http_target_answer){.status = 500});
    http_target_script(target, &(struct http_target_answer){.status = 500});
    (void)queue_ingest_range(sluice, "q", "LOW", 1, 1);
    WAIT_FOR(value(sluice, "sluice_queue_failed_total{queue=\"q\"}") == 2);
    text = metrics(sluice);
    EXPECT(text, "sluice_queue_dispatched_total{queue=\"q\"}", 7);
    EXPECT(text, "sluice_queue_completed_total{queue=\"q\"}", 4);
    EXPECT(text, "sluice_queue_retried_total{queue=\"q\"}", 1);
    EXPECT(text, "sluice_queue_waiting_batches{queue=\"q\",priority=\"LOW\"}", 0);
    EXPECT(text, "sluice_queue_in_flight_batches{queue=\"q\"}", 0);
    EXPECT(text, "sluice_deliveries_total{outcome=\"completed\"}", 4);
    EXPECT(text, "sluice_deliveries_total{outcome=\"failed\"}", 1);
    EXPECT(text, "sluice_deliveries_total{outcome=\"retry\"}", 2);
    EXPECT(text, "sluice_delivery_duration_seconds_count", 7);
    EXPECT(text, "sluice_delivery_start_delay_seconds_count", 7);
    cr_expect_gt(metrics_value(text, "sluice_queue_dispatch_rate{queue=\"q\"}"), 0);
    cr_expect_geq(metrics_value(text, "sluice_commit_duration_seconds_count"), 10);
    cr_expect_geq(metrics_value(text, "sluice_commit_writes_sum"), 7 + 7 + 3,
                  "dispatches, their ends, and ingests");
    free(text);
    sluice_end(sluice);
    http_target_stop(target);
}

// Queues of a name that is not shown are one, whose counters never fall.
Test(metrics, queues_are_bounded)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (int i = 0; i < 150; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "q%d", i);
        queue_put(sluice, name, "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"simulate:1ms\"");
    }
    for (int i = 98; i < 150; i++) { // q0 to q98 have names, beside default
        char name[32];
        (void)snprintf(name, sizeof(name), "q%d", i);
        (void)queue_ingest_range(sluice, name, "LOW", 1, 2);
    }
    WAIT_FOR(value(sluice, "sluice_queue_completed_total{queue=\"_other\"}") == 51 * 2);
    char *text = metrics(sluice);
    EXPECT(text, "sluice_queues", 151);
    EXPECT(text, "sluice_queue_completed_total{queue=\"q98\"}", 2);
    cr_assert_eq(metrics_count_samples(text, "sluice_queue_completed_total{"), 101);
    cr_assert_eq(metrics_count_samples(text, "sluice_queue_waiting_batches{"), 3 * 101);
    cr_assert_eq(metrics_count_samples(text, "sluice_queue_completed_total{queue=\"q99\"}"), 0);
    cr_assert_lt(strlen(text), 1 << 20);
    free(text);
    struct http_response gone = ask(sluice, "DELETE", NULL, "/queues/q120");
    cr_assert_eq(gone.status, 200);
    http_response_fini(&gone);
    gone = ask(sluice, "DELETE", NULL, "/queues/q7");
    http_response_fini(&gone);
    text = metrics(sluice);
    EXPECT(text, "sluice_queue_completed_total{queue=\"_other\"}", 51 * 2);
    EXPECT(text, "sluice_queue_concurrency{queue=\"_other\"}", 50);
    cr_assert_eq(metrics_count_samples(text, "sluice_queue_completed_total{"), 100,
                 "nobody takes the place of q7");
    free(text);
    queue_put(sluice, "new", "\"rate\":\"unlimited\"");
    text = metrics(sluice);
    EXPECT(text, "sluice_queue_completed_total{queue=\"new\"}", 0);
    free(text);
    sluice_end(sluice);
}

Test(metrics, the_gateways_are_there_without_a_scheduler)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 1);
    (void)ingested;
    sluice_kill(sluice, SCHEDULER);
    char *text = metrics(sluice);
    EXPECT(text, "sluice_scheduler_up", 0);
    EXPECT(text, "sluice_http_requests_total{method=\"POST\",route=\"/ingest\",status=\"200\"}", 1);
    cr_assert_eq(metrics_count_samples(text, "sluice_queue"), 0);
    free(text);
    sluice_launch(sluice, SCHEDULER);
    WAIT_FOR(value(sluice, "sluice_scheduler_up") == 1);
    cr_assert_eq(value(sluice, "sluice_ipc_connects_total"), 2);
    struct http_response head = ask(sluice, "HEAD", NULL, "/metrics");
    cr_assert(head.status == 200 && head.len == 0);
    http_response_fini(&head);
    struct http_response query = ask_refused(sluice, "GET", "/metrics?name=x", 422, "invalid_field");
    http_response_fini(&query);
    sluice_end(sluice);
}

// ---- what is made for others ----

static char *source_text(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof(path), SLUICE_SOURCE_DIR "/%s", name);
    char *text = file_text(path);
    cr_assert_str_neq(text, "", "no %s", path);
    return text;
}

// Each name of ours in a text is a metric, or part of one that is a histogram.
static void expect_known(const char *text, const char *metrics)
{
    size_t names = 0;
    for (const char *at = text; (at = strstr(at, "sluice_")); names++) {
        size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
        static const char *const suffixes[] = {"", "_bucket", "_sum", "_count"};
        bool known = false;
        for (size_t i = 0; i < COUNT(suffixes); i++) {
            size_t suffix = strlen(suffixes[i]);
            known = known || (len > suffix && memcmp(at + len - suffix, suffixes[i], suffix) == 0 &&
                              metrics_has(metrics, at, len - suffix));
        }
        cr_assert(known, "no metric %.*s", (int)len, at);
        at += len;
    }
    cr_assert_gt(names, 10);
}

Test(metrics, alerts_dashboard_and_documentation_name_what_is_there)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    char *text = metrics(sluice);
    char *rules = source_text("packaging/prometheus/sluice.rules.yml");
    char *dashboard = source_text("packaging/grafana/sluice.json");
    char *readme = source_text("README.md");
    expect_known(rules, text);
    expect_known(dashboard, text);
    cJSON *json = cJSON_Parse(dashboard);
    cr_assert(cJSON_IsObject(json));
    cJSON_Delete(json);
    const char *table = strstr(readme, "| metric |");
    cr_assert_not_null(table);
    expect_known(table, text);
    for (const char *at = text; (at = strstr(at, "# TYPE ")); at++) { // and all that is there is told
        char quoted[160];
        (void)snprintf(quoted, sizeof(quoted), "`%.*s`", (int)strcspn(at + strlen("# TYPE "), " "),
                       at + strlen("# TYPE "));
        cr_expect(strstr(table, quoted), "README.md says nothing of %s", quoted);
    }
    free(text);
    free(rules);
    free(dashboard);
    free(readme);
    sluice_end(sluice);
}

// Prometheus' own tool, where it is.
Test(metrics, promtool_has_nothing_to_say)
{
    static const char promtool[] = "/usr/bin/promtool";
    if (access(promtool, X_OK) != 0) {
        return; // metrics_check is as strict
    }
    struct sluice *sluice = sluice_start(NULL, NULL);
    char command[1024];
    (void)sluice_ingest_range(sluice, "LOW", 1, 1);
    (void)snprintf(command, sizeof(command),
                   "%s check rules " SLUICE_SOURCE_DIR
                   "/packaging/prometheus/sluice.rules.yml && curl -s %s/metrics | %s check metrics",
                   promtool, sluice->url, promtool);
    struct process_plan plan = {.program = "/bin/sh", .arguments = LIST("-c", command)};
    cr_assert_eq(process_run(&plan), 0);
    sluice_end(sluice);
}
