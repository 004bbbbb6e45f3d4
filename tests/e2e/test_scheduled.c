// Ingestions with times: not before one, not after another, and not to wait for ever.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(scheduled, .fini = sluice_cleanup);

#define MINUTE_MS (60 * INT64_C(1000))

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

// With a time as member `name`, this far from now.
static struct ingested ingest_at(const struct setup *setup, const char *ids, const char *name, int64_t ms)
{
    char time[WALL_TEXT_SIZE], more[64];
    time_from_now(ms, time);
    (void)snprintf(more, sizeof(more), ",\"%s\":\"%s\"", name, time);
    return queue_ingest(setup->sluice, "work", "LOW", ids, more);
}

// Where the first dispatch of an ingestion stands among those seen.
static size_t place_of(const struct dispatches *seen, const char *ingestion)
{
    size_t i = 0;
    while (i < seen->count && strcmp(seen->list[i].ingestion, ingestion) != 0) {
        i++;
    }
    cr_assert(i < seen->count, "it was not dispatched");
    return i;
}

static struct wall wall_of(struct mono moment)
{
    return (struct wall){wall_now().ms - mono_diff(mono_now(), moment) / NS_PER_MS};
}

// ---- not_before ----

Test(scheduled, it_goes_not_before_its_time_and_then_takes_its_place)
{
    struct setup setup = setup_start("20/s", "");
    int64_t at_ms = wall_now().ms + 1000;
    struct ingested scheduled = ingest_at(&setup, "[1,2]", "not_before", 1000);
    struct ingested others = queue_ingest_range(setup.sluice, "work", "LOW", 100, 60);
    cr_assert_eq(queue_figure(setup.sluice, "work", "delayed"), 2);
    struct http_response status = sluice_status(setup.sluice, scheduled.id);
    struct wall eta, not_before;
    cr_assert(wall_parse(json_text(status.json, "eta"), &eta), "%s", status.body);
    cr_assert(wall_parse(json_text(status.json, "not_before"), &not_before), "%s", status.body);
    cr_assert(eta.ms >= not_before.ms && not_before.ms >= at_ms, "%s", status.body);
    http_response_fini(&status);
    sluice_wait_status(setup.sluice, scheduled.id, "completed");
    sluice_wait_status(setup.sluice, others.id, "completed");

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 62);
    size_t place = place_of(&seen, scheduled.id);
    cr_assert(place > 0 && place < 60, "it came as number %zu", place); // it was accepted before the others
    int64_t early_ms = at_ms - wall_of(seen.list[place].at).ms;
    cr_assert(early_ms <= 5, "%lld ms too early", (long long)early_ms);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(scheduled, it_is_kept_over_a_kill)
{
    struct setup setup = setup_start("unlimited", "");
    int64_t at_ms = wall_now().ms + 3000;
    struct ingested scheduled = ingest_at(&setup, "[1,2]", "not_before", 3000);
    struct ingested passed = ingest_at(&setup, "[3]", "not_before", -MINUTE_MS);
    struct ingested far = ingest_at(&setup, "[4]", "not_before", 60 * MINUTE_MS);
    sluice_wait_status(setup.sluice, passed.id, "completed");
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert_eq(queue_figure(setup.sluice, "work", "delayed"), 3);
    sluice_wait_status(setup.sluice, scheduled.id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 3);
    int64_t early_ms = at_ms - wall_of(seen.list[1].at).ms;
    cr_assert(early_ms <= 5, "%lld ms too early", (long long)early_ms);
    dispatches_fini(&seen);
    ingestion_do(setup.sluice, far.id, "cancel");
    cr_assert_eq(queue_figure(setup.sluice, "work", "delayed"), 0);
    setup_end(&setup);
}

// ---- deadlines ----

static void expect_expired(const struct setup *setup, const char *id, int index)
{
    struct batch_seen batch = batch_get(setup->sluice, id, index);
    cr_assert_str_eq(batch.status, "cancelled");
    cr_assert_str_eq(batch.error, "deadline");
    cr_assert_eq(batch.attempts, 0);
}

Test(scheduled, what_has_not_started_by_its_deadline_is_cancelled_and_spends_no_rate)
{
    struct setup setup = setup_start("1/2s", "");
    queue_do(setup.sluice, "work", "pause"); // as nobody knows for how long, the deadline is not refused
    struct ingested expired = ingest_at(&setup, "[1,2,3]", "deadline", 700);
    struct ingested other = queue_ingest_range(setup.sluice, "work", "LOW", 10, 1);
    sluice_wait_status(setup.sluice, expired.id, "cancelled");
    for (int i = 0; i < 3; i++) {
        expect_expired(&setup, expired.id, i);
    }
    cr_assert_eq(queue_figure(setup.sluice, "work", "waiting"), 1);
    queue_do(setup.sluice, "work", "resume");
    sluice_wait_status(setup.sluice, other.id, "completed");
    cr_assert_eq(http_target_count(setup.target), 1);
    cr_assert_eq(queue_figure(setup.sluice, "work", "dispatched"), 1);
    setup_end(&setup);
}

// A batch in backoff has started: it goes on, alone.
Test(scheduled, what_has_started_goes_on_after_the_deadline)
{
    struct setup setup =
        setup_start("unlimited", ",\"retry\":{\"min_backoff\":\"2s\",\"max_backoff\":\"2s\"}");
    http_target_script(setup.target,
                       &(struct http_target_answer){.status = 500, .delay_ns = 500 * NS_PER_MS});
    struct ingested ingested = ingest_at(&setup, "[1,2]", "deadline", 1500);
    cr_assert(http_target_wait(setup.target, 1, WAIT_S * NS_PER_S));
    queue_do(setup.sluice, "work", "pause");
    WAIT_FOR(ingestion_progress(setup.sluice, ingested.id, "cancelled") == 1);
    expect_expired(&setup, ingested.id, 1);
    cr_assert(ingestion_is(setup.sluice, ingested.id, "triggered"));
    queue_do(setup.sluice, "work", "resume");
    sluice_wait_status(setup.sluice, ingested.id, "cancelled"); // all are done, and one was cancelled
    cr_assert_str_eq(batch_get(setup.sluice, ingested.id, 0).status, "completed");
    cr_assert_eq(http_target_count(setup.target), 2);
    setup_end(&setup);
}

Test(scheduled, a_deadline_that_passes_while_the_scheduler_is_down)
{
    struct setup setup = setup_start("unlimited", "");
    queue_do(setup.sluice, "work", "pause");
    int64_t at_ms = wall_now().ms + 600;
    struct ingested expired = ingest_at(&setup, "[1,2]", "deadline", 600);
    struct ingested other = queue_ingest_range(setup.sluice, "work", "LOW", 10, 1);
    sluice_kill(setup.sluice, SCHEDULER);
    WAIT_FOR(wall_now().ms > at_ms + 100);
    sluice_launch(setup.sluice, SCHEDULER);
    queue_do(setup.sluice, "work", "resume");
    sluice_wait_status(setup.sluice, other.id, "completed");
    cr_assert(ingestion_is(setup.sluice, expired.id, "cancelled"));
    expect_expired(&setup, expired.id, 0);
    expect_expired(&setup, expired.id, 1);
    cr_assert_eq(http_target_count(setup.target), 1);
    setup_end(&setup);
}

static struct wall expect_unreachable(const struct setup *setup, int64_t deadline_ms, const char *more)
{
    char time[WALL_TEXT_SIZE], body[256];
    struct wall eta;
    time_from_now(deadline_ms, time);
    (void)snprintf(body, sizeof(body),
                   "{\"queue\":\"work\",\"ids\":[7],\"priority\":\"LOW\",\"deadline\":\"%s\"%s}", time, more);
    struct http_response response = sluice_post(setup->sluice, body, NULL);
    cr_assert_eq(response.status, 422, "%ld %s", response.status, response.body);
    cr_assert_str_eq(json_text(response.json, "code"), "deadline_unreachable");
    cr_assert(wall_parse(json_text(response.json, "eta"), &eta), "%s", response.body);
    cr_assert_gt(eta.ms, wall_now().ms + deadline_ms - 1000, "%s", response.body);
    http_response_fini(&response);
    return eta;
}

Test(scheduled, a_deadline_that_cannot_be_met_is_refused_with_one_that_can)
{
    struct setup setup = setup_start("1/1m", "");
    (void)queue_ingest_range(setup.sluice, "work", "HIGH", 100, 10);
    struct wall eta = expect_unreachable(&setup, 5 * MINUTE_MS, "");
    int64_t away_ms = eta.ms - wall_now().ms;
    // Ten minutes of others; the first of them may have gone at once or goes in a minute.
    cr_assert(away_ms > 8 * MINUTE_MS && away_ms < 12 * MINUTE_MS, "%lld ms", (long long)away_ms);
    cr_assert_leq(queue_figure(setup.sluice, "work", "waiting"), 10); // nothing was accepted
    struct ingested ingested = ingest_at(&setup, "[7]", "deadline", away_ms + 5000);
    cr_assert(ingestion_is(setup.sluice, ingested.id, "yet_to_start"));
    expect_unreachable(&setup, -MINUTE_MS, "");
    ingestion_do(setup.sluice, ingested.id, "cancel");
    setup_end(&setup);
}

Test(scheduled, a_hold_and_a_not_before_make_a_deadline_unreachable)
{
    char not_before[WALL_TEXT_SIZE], more[64];
    struct setup setup = setup_start("unlimited", "");
    time_from_now(20 * MINUTE_MS, not_before);
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", not_before);
    struct wall eta = expect_unreachable(&setup, 10 * MINUTE_MS, more);
    cr_assert(eta.ms > wall_now().ms + 19 * MINUTE_MS);
    http_target_script(setup.target, &(struct http_target_answer){.status = 429, .retry_after = "1800"});
    struct ingested held = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "retry_after"));
    eta = expect_unreachable(&setup, 10 * MINUTE_MS, "");
    cr_assert(eta.ms > wall_now().ms + 29 * MINUTE_MS);
    ingestion_do(setup.sluice, held.id, "cancel");
    setup_end(&setup);
}

// A paused queue has no ETA: only what has passed already is refused, and no moment can be named.
Test(scheduled, a_deadline_that_has_passed_is_refused_on_a_paused_queue_too)
{
    struct setup setup = setup_start("unlimited", "");
    char body[256], deadline[WALL_TEXT_SIZE];
    queue_do(setup.sluice, "work", "pause");
    struct ingested ingested = ingest_at(&setup, "[7]", "deadline", 10 * MINUTE_MS);
    time_from_now(-1000, deadline);
    (void)snprintf(body, sizeof(body),
                   "{\"ids\":[8],\"priority\":\"LOW\",\"queue\":\"work\",\"deadline\":\"%s\"}", deadline);
    struct http_response response = ask(setup.sluice, "POST", body, "/ingest");
    cr_assert_eq(response.status, 422, "%s", response.body);
    cr_assert_str_eq(json_text(response.json, "code"), "deadline_unreachable");
    cr_assert_null(cJSON_GetObjectItem(response.json, "eta"));
    http_response_fini(&response);
    ingestion_do(setup.sluice, ingested.id, "cancel");
    setup_end(&setup);
}

// The times belong to the content that a key stands for.
Test(scheduled, a_key_stands_for_the_times_as_well)
{
    static const char *const headers[] = {"Idempotency-Key: k", "Content-Type: application/json", NULL};
    static const char body[] = "{\"queue\":\"work\",\"ids\":[1],\"priority\":\"LOW\","
                               "\"not_before\":\"2100-01-01T00:00:00%s\"}";
    char first[160], same[160], other[160];
    struct setup setup = setup_start("unlimited", "");
    (void)snprintf(first, sizeof(first), body, "Z");
    (void)snprintf(same, sizeof(same), body, ".000Z");
    (void)snprintf(other, sizeof(other), body, ".001Z");
    struct http_response made = sluice_post(setup.sluice, first, headers);
    struct http_response again = sluice_post(setup.sluice, same, headers);
    struct http_response refused = sluice_post(setup.sluice, other, headers);
    cr_assert_eq(made.status, 200, "%s", made.body);
    cr_assert_eq(again.status, 200, "%s", again.body);
    cr_assert_str_eq(json_text(made.json, "ingestion_id"), json_text(again.json, "ingestion_id"));
    cr_assert_eq(refused.status, 422, "%s", refused.body);
    cr_assert_str_eq(json_text(refused.json, "code"), "idempotency_key_reused");
    http_response_fini(&made);
    http_response_fini(&again);
    http_response_fini(&refused);
    setup_end(&setup);
}

// ---- aging ----

enum { INTERVAL_MS = 100, AGING_MS = 1000 };

// The README's bound in slots: more HIGH batches than can go come all the time. A slow machine only lets
// fewer of them go before.
static void check_aging(size_t before_it)
{
    struct setup setup = setup_start("10/s", ",\"aging\":\"1s\",\"burst\":1");
    if (before_it > 0) {
        (void)queue_ingest_range(setup.sluice, "work", "HIGH", 1000, before_it);
    }
    struct mono accepting = mono_now();
    struct ingested low = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    struct ingested more = queue_ingest_range(setup.sluice, "work", "HIGH", 2000, 500);
    sluice_wait_status(setup.sluice, low.id, "completed");
    ingestion_do(setup.sluice, more.id, "cancel");

    struct dispatches seen = dispatches_read(setup.target);
    size_t place = place_of(&seen, low.id);
    // In 2 * aging at most so many go, and then those that were accepted before it and are left.
    size_t in_time = 1 + 2 * AGING_MS / INTERVAL_MS;
    size_t most = in_time > before_it ? in_time : before_it;
    cr_assert(place >= before_it && place <= most + 2, "it came as number %zu, %zu before it", place,
              before_it);
    // The first may have gone before anything that is more urgent came.
    int64_t waited = mono_diff(seen.list[place].at, accepting);
    cr_assert(place == 0 || waited >= 2 * AGING_MS * NS_PER_MS, "it waited for %.3f s",
              (double)waited / NS_PER_S);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(scheduled, a_low_one_waits_no_longer_than_twice_the_aging)
{
    check_aging(5);
}

Test(scheduled, after_that_it_waits_for_what_was_accepted_before_it_and_for_nothing_else)
{
    check_aging(30);
}

// Time goes on while the scheduler is down.
Test(scheduled, a_restart_makes_nothing_younger)
{
    struct setup setup = setup_start("1/1h", ",\"aging\":\"1s\"");
    struct ingested first = queue_ingest_range(setup.sluice, "work", "HIGH", 5, 1);
    sluice_wait_status(setup.sluice, first.id, "completed"); // the bucket is empty
    struct mono accepted = mono_now();
    struct ingested low = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    sluice_kill(setup.sluice, SCHEDULER);
    WAIT_FOR(mono_diff(mono_now(), accepted) > 2 * AGING_MS * NS_PER_MS + 200 * NS_PER_MS);
    sluice_launch(setup.sluice, SCHEDULER);
    struct ingested high = queue_ingest_range(setup.sluice, "work", "HIGH", 2, 1);
    struct http_response status = sluice_status(setup.sluice, high.id);
    cr_assert_eq(json_number(status.json, "position"), 1, "%s", status.body);
    http_response_fini(&status);
    queue_put(setup.sluice, "work", "\"rate\":\"unlimited\"");
    sluice_wait_status(setup.sluice, low.id, "completed");
    sluice_wait_status(setup.sluice, high.id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(place_of(&seen, low.id), 1);
    dispatches_fini(&seen);
    setup_end(&setup);
}
