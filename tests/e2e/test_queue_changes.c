// Queues that are changed and deleted while there is work on them, and what of them lasts.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(queue_changes, .fini = sluice_cleanup);

static struct http_target *target_start(void)
{
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    return target;
}

static void expect_batches(const struct sluice *sluice, const char *id, int count)
{
    struct http_response status = sluice_status(sluice, id);
    cr_assert_eq(json_number(status.json, "batches_total"), count, "%s", status.body);
    http_response_fini(&status);
}

Test(queue_changes, a_batch_size_holds_for_what_is_accepted_afterwards)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "work", "\"rate\":\"unlimited\",\"batch_size\":2,\"target\":\"%s\"",
              http_target_url(target));
    queue_do(sluice, "work", "pause");
    struct ingested before = queue_ingest_range(sluice, "work", "LOW", 1, 6);
    queue_put(sluice, "work", "\"batch_size\":5");
    struct ingested after = queue_ingest_range(sluice, "work", "LOW", 11, 6);
    expect_batches(sluice, before.id, 3);
    expect_batches(sluice, after.id, 2);
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    queue_do(sluice, "work", "resume");
    sluice_wait_status(sluice, after.id, "completed");
    static const char *const ids[] = {"1,2", "3,4", "5,6", "11,12,13,14,15", "16"};
    struct dispatches seen = dispatches_read(target);
    cr_assert_eq(seen.count, 5);
    for (size_t i = 0; i < seen.count; i++) {
        cr_assert_str_eq(seen.list[i].ids, ids[i]);
    }
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
}

Test(queue_changes, deliveries_in_flight_end_where_they_began)
{
    struct http_target *old = target_start(), *new = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    http_target_set_default(old, &(struct http_target_answer){.delay_ns = NS_PER_S});
    queue_put(sluice, "work",
              "\"rate\":\"unlimited\",\"batch_size\":1,\"concurrency\":2,\"target\":\"%s\","
              "\"headers\":{\"X-Which\":\"old\"}",
              http_target_url(old));
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 5);
    cr_assert(http_target_wait(old, 2, WAIT_S * NS_PER_S));
    queue_put(sluice, "work", "\"target\":\"%s\",\"headers\":{\"X-Which\":\"new\"}", http_target_url(new));
    cr_assert_eq(queue_figure(sluice, "work", "in_flight"), 2);
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(http_target_count(old), 2);
    cr_assert_eq(http_target_count(new), 3);
    for (size_t i = 0; i < 3; i++) {
        char which[16];
        struct http_target_request request = http_target_get(new, i);
        cr_assert(http_target_header(&request, "X-Which", which, sizeof(which)), "%s", request.headers);
        cr_assert_str_eq(which, "new");
    }
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(batch_get(sluice, ingested.id, i).attempts, 1);
    }
    sluice_end(sluice);
    http_target_stop(old);
    http_target_stop(new);
}

// The retry of what failed at the old target goes to the new one.
Test(queue_changes, the_next_attempt_goes_where_the_queue_leads_then)
{
    struct http_target *old = target_start(), *new = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    http_target_set_default(old, &(struct http_target_answer){.status = 500});
    queue_put(sluice, "work",
              "\"rate\":\"unlimited\",\"target\":\"%s\","
              "\"retry\":{\"min_backoff\":\"700ms\",\"max_backoff\":\"700ms\"}",
              http_target_url(old));
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 1);
    WAIT_FOR(queue_figure(sluice, "work", "delayed") == 1);
    queue_put(sluice, "work", "\"target\":\"%s\"", http_target_url(new));
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(http_target_count(old), 1);
    cr_assert_eq(http_target_count(new), 1);
    sluice_end(sluice);
    http_target_stop(old);
    http_target_stop(new);
}

Test(queue_changes, more_concurrency_holds_at_once)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    http_target_set_default(target, &(struct http_target_answer){.delay_ns = 2 * NS_PER_S});
    queue_put(sluice, "work", "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"%s\"",
              http_target_url(target));
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 6);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    queue_put(sluice, "work", "\"concurrency\":6");
    sluice_wait_status(sluice, ingested.id, "completed");
    struct dispatches seen = dispatches_read(target);
    int64_t spread = mono_diff(seen.list[5].at, seen.list[1].at);
    cr_assert(spread < 2 * NS_PER_S, "not all went at once: %.3f s", (double)spread / NS_PER_S);
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
}

// ---- what lasts ----

Test(queue_changes, all_settings_last)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(
        sluice, "work",
        "\"rate\":\"5000/1m\",\"burst\":7,\"linger\":\"3ms\",\"concurrency\":9,\"batch_size\":11,"
        "\"target\":\"https://example.invalid/x?y=z\",\"timeout\":\"1500ms\","
        "\"retry\":{\"max_attempts\":8,\"min_backoff\":\"2s\",\"max_backoff\":\"90s\"},\"ids\":\"string\","
        "\"max_id\":77,\"headers\":{\"X-One\":\"1\",\"X-Two\":\"2\"},\"max_hold\":\"2h\",\"breaker\":3,"
        "\"lease\":\"5m\",\"on_interrupt\":\"hold\",\"aging\":\"36h\"");
    queue_put(sluice, "plain", "\"target\":\"simulate:1s\"");
    queue_do(sluice, "work", "pause");
    queue_put(sluice, "default", "\"concurrency\":5,\"max_id\":12");
    struct http_response before[3], after[3];
    static const char *const names[] = {"work", "plain", "default"};
    for (size_t i = 0; i < 3; i++) {
        before[i] = queue_get(sluice, names[i]);
    }
    static const char *const shown[] = {
        "\"rate\":\"5000/m\"",     "\"burst\":7",
        "\"linger\":\"3ms\"",      "\"concurrency\":9",
        "\"batch_size\":11",       "\"timeout\":\"1500ms\"",
        "\"max_attempts\":8",      "\"min_backoff\":\"2s\"",
        "\"max_backoff\":\"90s\"", "\"ids\":\"string\"",
        "\"max_id\":77",           "\"X-One\":\"***\"",
        "\"max_hold\":\"2h\"",     "\"breaker\":3",
        "\"lease\":\"5m\"",        "\"on_interrupt\":\"hold\"",
        "\"aging\":\"36h\"",       "\"paused\":true",
    };
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        cr_assert_not_null(strstr(before[0].body, shown[i]), "%s: %s", shown[i], before[0].body);
    }
    for (int kills = 0; kills < 2; kills++) {
        sluice_kill(sluice, SCHEDULER);
        sluice_launch(sluice, SCHEDULER);
        for (size_t i = 0; i < 3; i++) {
            after[i] = queue_get(sluice, names[i]);
            cr_assert_str_eq(before[i].body, after[i].body);
            http_response_fini(&after[i]);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        http_response_fini(&before[i]);
    }
    sluice_end(sluice);
}

Test(queue_changes, totals_last)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "work", "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"%s\"",
              http_target_url(target));
    http_target_script(target, &(struct http_target_answer){.status = 400});
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 7);
    sluice_wait_status(sluice, ingested.id, "failed");
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(queue_figure(sluice, "work", "dispatched"), 7);
        cr_assert_eq(queue_figure(sluice, "work", "completed"), 6);
        cr_assert_eq(queue_figure(sluice, "work", "failed"), 1);
        cr_assert_eq(queue_figure(sluice, "work", "waiting"), 0);
        cr_assert_eq(queue_figure(sluice, "work", "in_flight"), 0);
        sluice_kill(sluice, SCHEDULER);
        sluice_launch(sluice, SCHEDULER);
    }
    sluice_end(sluice);
    http_target_stop(target);
}

// Of the last minute, or of the time since the first dispatch.
Test(queue_changes, the_effective_rate_is_what_was_reached)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "work",
              "\"rate\":\"20/s\",\"batch_size\":1,\"concurrency\":9,\"target\":\"simulate:1ms\"");
    cr_assert_eq(queue_figure(sluice, "work", "effective_rate"), 0);
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 50);
    sluice_wait_status(sluice, ingested.id, "completed");
    double rate = queue_figure(sluice, "work", "effective_rate");
    cr_assert(rate > 1 && rate < 21, "%f", rate);
    sluice_end(sluice);
}

Test(queue_changes, old_ingestions_of_a_deleted_queue_are_still_told)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "gone", "\"rate\":\"unlimited\",\"batch_size\":2,\"target\":\"simulate:1ms\"");
    struct ingested ingested = queue_ingest(sluice, "gone", "HIGH", "[3,2,1]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    struct http_response response = ask(sluice, "DELETE", NULL, "/queues/gone");
    cr_assert_eq(response.status, 200, "%s", response.body);
    http_response_fini(&response);
    queue_put(sluice, "gone", "\"target\":\"simulate:1ms\""); // another one of that name
    for (int i = 0; i < 2; i++) {
        struct http_response status = sluice_status(sluice, ingested.id);
        cr_assert_str_eq(json_text(status.json, "status"), "completed");
        cr_assert_str_eq(json_text(status.json, "queue"), "gone");
        cr_assert(cJSON_IsNull(json_member(status.json, "eta")));
        cr_assert(cJSON_IsNull(json_member(status.json, "position")));
        http_response_fini(&status);
        char *ids = sluice_ids(sluice, ingested.id, 10);
        cr_assert_str_eq(ids, "3,2,1");
        free(ids);
        sluice_kill(sluice, SCHEDULER);
        sluice_launch(sluice, SCHEDULER);
    }
    cr_assert_eq(queue_figure(sluice, "gone", "completed"), 0);
    sluice_end(sluice);
}

static void expect_kept(const struct sluice *sluice)
{
    struct http_response response = ask_refused(sluice, "DELETE", "/queues/busy", 409, "queue_not_empty");
    http_response_fini(&response);
}

Test(queue_changes, what_is_in_flight_or_not_due_keeps_its_queue)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(
        sluice, "busy",
        "\"rate\":\"unlimited\",\"target\":\"%s\",\"retry\":{\"min_backoff\":\"1h\",\"max_backoff\":\"1h\"}",
        http_target_url(target));
    http_target_script(target, &(struct http_target_answer){.status = 500, .delay_ns = NS_PER_S});
    struct ingested ingested = queue_ingest_range(sluice, "busy", "LOW", 1, 1);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    expect_kept(sluice);
    WAIT_FOR(queue_figure(sluice, "busy", "delayed") == 1);
    expect_kept(sluice);
    ingestion_do(sluice, ingested.id, "cancel");
    ingested = queue_ingest(sluice, "busy", "LOW", "[1]", ",\"not_before\":\"2100-01-01T00:00:00Z\"");
    expect_kept(sluice);
    ingestion_do(sluice, ingested.id, "cancel");
    struct http_response response = ask(sluice, "DELETE", NULL, "/queues/busy");
    cr_assert_eq(response.status, 200, "%s", response.body);
    http_response_fini(&response);
    sluice_end(sluice);
    http_target_stop(target);
}

// Failed batches do not keep a queue; without it they cannot be tried again.
Test(queue_changes, what_failed_on_a_deleted_queue_stays_failed)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "gone",
              "\"rate\":\"unlimited\",\"target\":\"simulate:1ms,fail=1\",\"retry\":{\"max_attempts\":1}");
    struct ingested ingested = queue_ingest_range(sluice, "gone", "LOW", 1, 1);
    sluice_wait_status(sluice, ingested.id, "failed");
    struct http_response response = ask(sluice, "DELETE", NULL, "/queues/gone");
    cr_assert_eq(response.status, 200, "%s", response.body);
    http_response_fini(&response);
    char path[128];
    (void)snprintf(path, sizeof(path), "/ingestions/%s/retry", ingested.id);
    response = ask_refused(sluice, "POST", path, 404, "unknown_queue");
    http_response_fini(&response);
    cr_assert(ingestion_is(sluice, ingested.id, "failed"));
    sluice_end(sluice);
}

// ---- what is delivered ----

Test(queue_changes, strings_come_to_the_target_as_they_were_given)
{
    static const char ids[] =
        "\"a,b\",\"]\",\"\\\"q\\\\\",\"gr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80\",\"1\",\" \"";
    char expected[256], given[256];
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "words", "\"ids\":\"string\",\"rate\":\"unlimited\",\"batch_size\":6,\"target\":\"%s\"",
              http_target_url(target));
    (void)snprintf(given, sizeof(given), "[%s,\"last\"]", ids);
    (void)snprintf(expected, sizeof(expected), "\"ids\":[%s],\"attempt\":1}", ids);
    struct ingested ingested = queue_ingest(sluice, "words", "LOW", given, "");
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(http_target_count(target), 2);
    struct http_target_request request = http_target_get(target, 0);
    cr_assert_not_null(strstr(request.body, expected), "%s", request.body);
    cr_assert_not_null(strstr(http_target_get(target, 1).body, "\"ids\":[\"last\"]"));
    struct http_response status = sluice_status(sluice, ingested.id);
    (void)snprintf(expected, sizeof(expected), "\"ids\":[%s]", ids);
    cr_assert_not_null(strstr(status.body, expected), "%s", status.body);
    http_response_fini(&status);
    sluice_end(sluice);
    http_target_stop(target);
}

Test(queue_changes, headers_are_sent_after_a_restart_too)
{
    char value[64];
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "work",
              "\"rate\":\"unlimited\",\"target\":\"%s\",\"headers\":{\"Authorization\":\"Bearer s3cret\"}",
              http_target_url(target));
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 1);
    sluice_wait_status(sluice, ingested.id, "completed");
    struct http_target_request request = http_target_get(target, 0);
    cr_assert(http_target_header(&request, "Authorization", value, sizeof(value)), "%s", request.headers);
    cr_assert_str_eq(value, "Bearer s3cret");
    struct http_response list = sluice_get(sluice, "/queues");
    cr_assert_null(strstr(list.body, "s3cret"), "%s", list.body);
    http_response_fini(&list);
    cr_assert(!sluice_logged(sluice, SCHEDULER, "s3cret") && !sluice_logged(sluice, GATEWAY, "s3cret"));
    sluice_end(sluice);
    http_target_stop(target);
}
