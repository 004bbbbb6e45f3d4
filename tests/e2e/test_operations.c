// What is done by hand: cancel, retry, pause and resume, whatever state the batches are in.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(operations, .fini = sluice_cleanup);

struct setup {
    struct http_target *target;
    struct sluice *sluice;
};

// A queue "work" of single IDs with these further settings.
static struct setup setup_start(const char *rate, const char *settings)
{
    struct setup setup = {.target = http_target_start(0)};
    cr_assert_not_null(setup.target);
    setup.sluice = sluice_start(NULL, NULL);
    queue_put(setup.sluice, "work", "\"rate\":\"%s\",\"batch_size\":1,\"target\":\"%s\"%s", rate,
              http_target_url(setup.target), settings);
    return setup;
}

static void setup_end(struct setup *setup)
{
    sluice_end(setup->sluice);
    http_target_stop(setup->target);
}

static void expect_finished(const struct setup *setup, const char *id)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/ingestions/%s/cancel", id);
    struct http_response response = ask_refused(setup->sluice, "POST", path, 409, "already_finished");
    http_response_fini(&response);
}

static void expect_progress(const struct setup *setup, const char *id, const char *status, int count)
{
    cr_assert_eq(ingestion_progress(setup->sluice, id, status), count, "%s: %d", status,
                 ingestion_progress(setup->sluice, id, status));
}

// ---- cancel ----

Test(operations, cancel_lets_what_is_in_flight_run_to_its_end)
{
    struct setup setup = setup_start("unlimited", "");
    http_target_script(setup.target, &(struct http_target_answer){.delay_ns = NS_PER_S});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 5);
    cr_assert(http_target_wait(setup.target, 1, WAIT_S * NS_PER_S));
    ingestion_do(setup.sluice, ingested.id, "cancel");
    expect_progress(&setup, ingested.id, "cancelled", 4);
    cr_assert(ingestion_is(setup.sluice, ingested.id, "triggered"));
    sluice_wait_status(setup.sluice, ingested.id, "cancelled");
    expect_progress(&setup, ingested.id, "completed", 1);
    ingestion_do(setup.sluice, ingested.id, "cancel"); // once more is no error
    cr_assert_eq(http_target_count(setup.target), 1);
    setup_end(&setup);
}

// What is in flight when its ingestion is cancelled, and fails, is not tried again.
Test(operations, a_cancelled_batch_that_fails_is_not_tried_again)
{
    struct setup setup = setup_start("unlimited", "");
    http_target_script(setup.target,
                       &(struct http_target_answer){.status = 500, .delay_ns = 500 * NS_PER_MS});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    cr_assert(http_target_wait(setup.target, 1, WAIT_S * NS_PER_S));
    ingestion_do(setup.sluice, ingested.id, "cancel");
    sluice_wait_status(setup.sluice, ingested.id, "cancelled");
    struct ingested other = queue_ingest_range(setup.sluice, "work", "LOW", 2, 1);
    sluice_wait_status(setup.sluice, other.id, "completed");
    cr_assert_eq(http_target_count(setup.target), 2);
    setup_end(&setup);
}

Test(operations, cancel_far_down_a_deep_backlog)
{
    enum { BEFORE = 100000, DEEP = 3 };
    struct setup setup = setup_start("1/1h", "");
    struct ingested ahead = queue_ingest_range(setup.sluice, "work", "HIGH", 1, 1);
    for (uint64_t i = 0; i < 2; i++) {
        (void)queue_ingest_range(setup.sluice, "work", "LOW", 1 + i * BEFORE, BEFORE);
    }
    struct ingested deep = queue_ingest_range(setup.sluice, "work", "LOW", 1, DEEP);
    struct ingested last = queue_ingest_range(setup.sluice, "work", "LOW", 77, 1);
    sluice_wait_status(setup.sluice, ahead.id, "completed");
    struct http_response status = sluice_status(setup.sluice, last.id);
    cr_assert_eq(json_number(status.json, "position"), 2 * BEFORE + DEEP, "%s", status.body);
    http_response_fini(&status);
    ingestion_do(setup.sluice, deep.id, "cancel");
    expect_progress(&setup, deep.id, "cancelled", DEEP);
    cr_assert(ingestion_is(setup.sluice, deep.id, "cancelled"));
    status = sluice_status(setup.sluice, last.id);
    cr_assert_eq(json_number(status.json, "position"), 2 * BEFORE, "%s", status.body);
    http_response_fini(&status);
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert(ingestion_is(setup.sluice, deep.id, "cancelled"));
    cr_assert_eq(queue_figure(setup.sluice, "work", "waiting"), 2 * BEFORE + 1);
    cr_assert_eq(http_target_count(setup.target), 1);
    setup_end(&setup);
}

Test(operations, cancel_reaches_what_waits_for_its_next_attempt)
{
    struct setup setup =
        setup_start("unlimited", ",\"breaker\":0,\"retry\":{\"min_backoff\":\"1h\",\"max_backoff\":\"1h\"}");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 3);
    WAIT_FOR(queue_figure(setup.sluice, "work", "delayed") == 3);
    cr_assert_eq(queue_figure(setup.sluice, "work", "waiting"), 0);
    ingestion_do(setup.sluice, ingested.id, "cancel");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "cancelled"));
    cr_assert_eq(queue_figure(setup.sluice, "work", "delayed"), 0);
    struct http_response response = ask(setup.sluice, "DELETE", NULL, "/queues/work"); // it is empty
    cr_assert_eq(response.status, 200, "%s", response.body);
    http_response_fini(&response);
    setup_end(&setup);
}

Test(operations, what_is_cancelled_spends_no_rate)
{
    struct setup setup = setup_start("1/2s", "");
    struct ingested first = queue_ingest_range(setup.sluice, "work", "HIGH", 1, 1);
    sluice_wait_status(setup.sluice, first.id, "completed");
    struct mono at = http_target_get(setup.target, 0).arrived;
    struct ingested cancelled = queue_ingest_range(setup.sluice, "work", "HIGH", 10, 50);
    struct ingested next = queue_ingest_range(setup.sluice, "work", "LOW", 2, 1);
    ingestion_do(setup.sluice, cancelled.id, "cancel");
    sluice_wait_status(setup.sluice, next.id, "completed");
    // All may be too slow on a busy machine; one of the cancelled cannot have come between.
    struct dispatches seen = dispatches_read(setup.target);
    size_t of_cancelled = 50 - (size_t)ingestion_progress(setup.sluice, cancelled.id, "cancelled");
    cr_assert_eq(seen.count, 2 + of_cancelled);
    if (of_cancelled == 0) {
        int64_t gap = mono_diff(seen.list[1].at, at);
        cr_assert(gap < 4 * NS_PER_S, "%.3f s", (double)gap / NS_PER_S);
    }
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(operations, what_has_finished_cannot_be_cancelled)
{
    struct setup setup = setup_start("unlimited", "");
    http_target_script(setup.target, &(struct http_target_answer){.status = 400});
    struct ingested failed = queue_ingest_range(setup.sluice, "work", "LOW", 1, 2);
    struct ingested completed = queue_ingest_range(setup.sluice, "work", "LOW", 1, 2);
    sluice_wait_status(setup.sluice, failed.id, "failed");
    sluice_wait_status(setup.sluice, completed.id, "completed");
    expect_finished(&setup, failed.id);
    expect_finished(&setup, completed.id);
    setup_end(&setup);
}

// ---- retry ----

Test(operations, retry_starts_failed_batches_anew_and_no_others)
{
    struct setup setup = setup_start("unlimited", ",\"breaker\":0,\"retry\":{\"max_attempts\":2,"
                                                  "\"min_backoff\":\"50ms\",\"max_backoff\":\"60ms\"}");
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 2);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested failed = queue_ingest_range(setup.sluice, "work", "LOW", 3, 3);
    sluice_wait_status(setup.sluice, failed.id, "failed");
    cr_assert_eq(queue_figure(setup.sluice, "work", "failed"), 3);
    http_target_script(setup.target, &(struct http_target_answer){.status = 503});
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 200});
    ingestion_do(setup.sluice, failed.id, "retry");
    sluice_wait_status(setup.sluice, failed.id, "completed");
    int attempts = 0;
    for (int i = 0; i < 3; i++) { // the one that was refused once more had an attempt left
        struct batch_seen batch = batch_get(setup.sluice, failed.id, i);
        attempts += batch.attempts;
        cr_assert(batch.attempts <= 2);
    }
    cr_assert_eq(attempts, 4);
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 2 + 6 + 4);
    cr_assert_eq(seen.list[8].attempt, 1);
    dispatches_fini(&seen);
    ingestion_do(setup.sluice, failed.id, "retry"); // nothing is left to retry
    ingestion_do(setup.sluice, ingested.id, "retry");
    cr_assert_eq(http_target_count(setup.target), 12);
    setup_end(&setup);
}

Test(operations, retry_of_a_queue_returns_all_its_failed_ones_also_after_a_kill)
{
    enum { INGESTIONS = 40, BATCHES = 50 };
    struct ingested ingested[INGESTIONS];
    struct setup setup = setup_start("unlimited", ",\"concurrency\":16");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 400});
    for (size_t i = 0; i < INGESTIONS; i++) {
        ingested[i] = queue_ingest_range(setup.sluice, "work", "LOW", 1, BATCHES);
    }
    for (size_t i = 0; i < INGESTIONS; i++) {
        sluice_wait_status(setup.sluice, ingested[i].id, "failed");
    }
    queue_do(setup.sluice, "work", "pause");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 200});
    queue_do(setup.sluice, "work", "retry");
    sluice_kill(setup.sluice, SCHEDULER); // it was answered, so it is done, or goes on
    sluice_launch(setup.sluice, SCHEDULER);
    WAIT_FOR(queue_figure(setup.sluice, "work", "waiting") == INGESTIONS * BATCHES);
    for (size_t i = 0; i < INGESTIONS; i++) {
        cr_assert(ingestion_is(setup.sluice, ingested[i].id, "yet_to_start"));
    }
    queue_do(setup.sluice, "work", "resume");
    for (size_t i = 0; i < INGESTIONS; i++) {
        sluice_wait_status(setup.sluice, ingested[i].id, "completed");
    }
    cr_assert_eq(http_target_count(setup.target), 2 * INGESTIONS * BATCHES);
    setup_end(&setup);
}

Test(operations, a_retry_that_waits_is_cancelled_like_any_other)
{
    struct setup setup = setup_start("unlimited", "");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 400});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 4);
    sluice_wait_status(setup.sluice, ingested.id, "failed");
    queue_do(setup.sluice, "work", "pause");
    ingestion_do(setup.sluice, ingested.id, "retry");
    sluice_wait_status(setup.sluice, ingested.id, "yet_to_start");
    ingestion_do(setup.sluice, ingested.id, "cancel");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "cancelled"));
    expect_progress(&setup, ingested.id, "cancelled", 4);
    cr_assert_eq(queue_figure(setup.sluice, "work", "waiting"), 0);
    setup_end(&setup);
}

// ---- kills ----

Test(operations, a_retry_comes_not_before_its_time_after_a_kill)
{
    struct setup setup =
        setup_start("unlimited", ",\"retry\":{\"min_backoff\":\"4s\",\"max_backoff\":\"4s\"}");
    http_target_script(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    WAIT_FOR(queue_figure(setup.sluice, "work", "delayed") == 1);
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert_eq(queue_figure(setup.sluice, "work", "delayed"), 1);
    cr_assert_eq(queue_figure(setup.sluice, "work", "waiting"), 0);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    int64_t gap = mono_diff(seen.list[1].at, seen.list[0].at);
    cr_assert_eq(seen.count, 2);
    cr_assert(gap >= 4 * NS_PER_S, "it came after %.3f s", (double)gap / NS_PER_S);
    cr_assert_eq(seen.list[1].attempt, 2);
    cr_assert(!batch_get(setup.sluice, ingested.id, 0).interrupted);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(operations, paused_stays_paused_over_a_kill_and_has_no_eta)
{
    struct setup setup = setup_start("unlimited", "");
    queue_do(setup.sluice, "work", "pause");
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 3);
    for (int i = 0; i < 2; i++) {
        cr_assert(queue_paused_by(setup.sluice, "work", "paused"));
        cr_assert_eq(queue_paused_until(setup.sluice, "work").ms, 0);
        struct http_response status = sluice_status(setup.sluice, ingested.id);
        cr_assert(cJSON_IsNull(json_member(status.json, "eta")), "%s", status.body);
        cr_assert_eq(json_number(status.json, "position"), 0, "%s", status.body);
        http_response_fini(&status);
        sluice_kill(setup.sluice, SCHEDULER);
        sluice_launch(setup.sluice, SCHEDULER);
    }
    cr_assert_eq(http_target_count(setup.target), 0);
    queue_do(setup.sluice, "work", "resume");
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    setup_end(&setup);
}
