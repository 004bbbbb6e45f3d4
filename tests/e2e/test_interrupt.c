// A scheduler that dies with deliveries under way: that is visible, and the queue says what then happens.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>

TestSuite(interrupt, .fini = sluice_cleanup);

struct setup {
    struct http_target *target;
    struct sluice *sluice;
    struct ingested ingested;
};

// Three batches: one completed, one in flight when the scheduler dies, one that waits.
static struct setup die_in_flight(const char *settings)
{
    struct setup setup = {.target = http_target_start(0)};
    cr_assert_not_null(setup.target);
    setup.sluice = sluice_start(NULL, NULL);
    queue_put(setup.sluice, "work", "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"%s\"%s",
              http_target_url(setup.target), settings);
    http_target_script(setup.target, &(struct http_target_answer){.status = 200});
    http_target_script(setup.target, &(struct http_target_answer){.delay_ns = 30 * NS_PER_S});
    setup.ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 3);
    cr_assert(http_target_wait(setup.target, 2, WAIT_S * NS_PER_S));
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    return setup;
}

static void setup_end(struct setup *setup)
{
    sluice_end(setup->sluice);
    http_target_stop(setup->target);
}

Test(interrupt, what_was_in_flight_is_sent_again_and_marked)
{
    struct setup setup = die_in_flight(",\"retry\":{\"max_attempts\":1}"); // which it does not use up
    sluice_wait_status(setup.sluice, setup.ingested.id, "completed");
    struct batch_seen batch = batch_get(setup.sluice, setup.ingested.id, 1);
    cr_assert(batch.interrupted);
    cr_assert_eq(batch.attempts, 2);
    cr_assert(!batch_get(setup.sluice, setup.ingested.id, 0).interrupted);
    cr_assert(!batch_get(setup.sluice, setup.ingested.id, 2).interrupted);
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 4);
    cr_assert_str_eq(seen.list[1].batch, seen.list[2].batch);
    cr_assert_eq(seen.list[2].attempt, 2);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(interrupt, or_it_is_held_for_a_retry_by_hand)
{
    struct setup setup = die_in_flight(",\"on_interrupt\":\"hold\"");
    sluice_wait_status(setup.sluice, setup.ingested.id, "failed");
    struct batch_seen batch = batch_get(setup.sluice, setup.ingested.id, 1);
    cr_assert_str_eq(batch.status, "failed");
    cr_assert_str_eq(batch.error, "interrupted");
    cr_assert(batch.interrupted);
    cr_assert_eq(batch.attempts, 1);
    cr_assert_str_eq(batch_get(setup.sluice, setup.ingested.id, 0).status, "completed");
    cr_assert_str_eq(batch_get(setup.sluice, setup.ingested.id, 2).status, "completed");
    cr_assert_eq(queue_figure(setup.sluice, "work", "failed"), 1);
    cr_assert_eq(http_target_count(setup.target), 3);

    sluice_kill(setup.sluice, SCHEDULER); // once more changes nothing
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert(ingestion_is(setup.sluice, setup.ingested.id, "failed"));
    cr_assert_eq(queue_figure(setup.sluice, "work", "failed"), 1);
    ingestion_do(setup.sluice, setup.ingested.id, "retry");
    sluice_wait_status(setup.sluice, setup.ingested.id, "completed");
    batch = batch_get(setup.sluice, setup.ingested.id, 1);
    cr_assert_eq(batch.attempts, 1);
    cr_assert_str_eq(batch.error, "");
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 4);
    cr_assert_str_eq(seen.list[1].batch, seen.list[3].batch);
    dispatches_fini(&seen);
    setup_end(&setup);
}

// What was cancelled while it was in flight has no next attempt to wait for.
Test(interrupt, what_was_cancelled_in_flight_stays_cancelled)
{
    struct http_target *target = http_target_start(0);
    struct sluice *sluice = sluice_start(NULL, NULL);
    cr_assert_not_null(target);
    queue_put(sluice, "work", "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"%s\"",
              http_target_url(target));
    http_target_script(target, &(struct http_target_answer){.delay_ns = 30 * NS_PER_S});
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 2);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    ingestion_do(sluice, ingested.id, "cancel");
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "cancelled");
    cr_assert_eq(ingestion_progress(sluice, ingested.id, "cancelled"), 2);
    struct ingested other = queue_ingest_range(sluice, "work", "LOW", 3, 1);
    sluice_wait_status(sluice, other.id, "completed");
    cr_assert_eq(http_target_count(target), 2);
    sluice_end(sluice);
    http_target_stop(target);
}

// SIGTERM waits for what is in flight: nothing is interrupted.
Test(interrupt, an_orderly_end_interrupts_nothing_that_is_short)
{
    struct http_target *target = http_target_start(0);
    struct sluice *sluice = sluice_start(NULL, NULL);
    cr_assert_not_null(target);
    queue_put(sluice, "work", "\"rate\":\"unlimited\",\"batch_size\":1,\"target\":\"%s\"",
              http_target_url(target));
    http_target_script(target, &(struct http_target_answer){.delay_ns = NS_PER_S});
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", 1, 2);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    cr_assert_eq(http_target_count(target), 1);
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "completed");
    for (int i = 0; i < 2; i++) {
        struct batch_seen batch = batch_get(sluice, ingested.id, i);
        cr_assert(!batch.interrupted);
        cr_assert_eq(batch.attempts, 1);
    }
    sluice_end(sluice);
    http_target_stop(target);
}
