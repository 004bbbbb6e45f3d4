// What the downstream asks for or suffers from: Retry-After, RateLimit, and the breaker.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(pressure, .fini = sluice_cleanup);

struct setup {
    struct http_target *target;
    struct sluice *sluice;
};

// A fast queue "work" with these further settings.
static struct setup setup_start(const char *settings)
{
    struct setup setup = {.target = http_target_start(0)};
    cr_assert_not_null(setup.target);
    setup.sluice = sluice_start(NULL, NULL);
    queue_put(setup.sluice, "work", "\"rate\":\"100/s\",\"batch_size\":1,\"target\":\"%s\"%s",
              http_target_url(setup.target), settings);
    return setup;
}

static void setup_end(struct setup *setup)
{
    sluice_end(setup->sluice);
    http_target_stop(setup->target);
}

static void expect_seconds_away(struct wall t, int64_t least_ms, int64_t most_ms)
{
    int64_t away_ms = t.ms - wall_now().ms;
    cr_assert(away_ms >= least_ms && away_ms <= most_ms, "it is %lld ms away", (long long)away_ms);
}

// ---- holds ----

Test(pressure, retry_after_holds_the_queue_where_it_can_be_seen)
{
    struct setup setup = setup_start("");
    cr_assert(queue_paused_by(setup.sluice, "work", NULL));
    http_target_script(setup.target, &(struct http_target_answer){.status = 429, .retry_after = "3"});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 2);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "retry_after"));
    struct wall until = queue_paused_until(setup.sluice, "work");
    expect_seconds_away(until, 0, 3100);
    struct http_response status = sluice_status(setup.sluice, ingested.id);
    struct wall eta;
    cr_assert(wall_parse(json_text(status.json, "eta"), &eta));
    cr_assert(eta.ms >= until.ms - 5, "the eta is %lld ms before", (long long)(until.ms - eta.ms));
    cr_assert_eq(json_number(status.json, "position"), 0, "%s", status.body);
    http_response_fini(&status);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    cr_assert(queue_paused_by(setup.sluice, "work", NULL));

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 3);
    cr_assert(mono_diff(seen.list[1].at, seen.list[0].at) >= 3 * NS_PER_S, "earlier than told");
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(pressure, a_hold_outlives_a_kill)
{
    struct setup setup = setup_start("");
    http_target_script(setup.target, &(struct http_target_answer){.status = 503, .retry_after = "5"});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 2);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "retry_after"));
    struct wall before = queue_paused_until(setup.sluice, "work");
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert(queue_paused_by(setup.sluice, "work", "retry_after"));
    int64_t moved_ms = queue_paused_until(setup.sluice, "work").ms - before.ms;
    cr_assert(moved_ms > -1000 && moved_ms < 1000, "it moved by %lld ms", (long long)moved_ms);
    sluice_wait_status(setup.sluice, ingested.id, "completed");

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 3);
    int64_t gap = mono_diff(seen.list[1].at, seen.list[0].at);
    cr_assert(gap >= 5 * NS_PER_S, "earlier than told: %.3f s", (double)gap / NS_PER_S);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(pressure, no_hold_is_longer_than_max_hold)
{
    struct setup setup = setup_start(",\"max_hold\":\"1s\"");
    http_target_script(setup.target, &(struct http_target_answer){.status = 429, .retry_after = "86400"});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 2);
    cr_assert(mono_diff(seen.list[1].at, seen.list[0].at) >= NS_PER_S, "earlier than that");
    dispatches_fini(&seen);
    setup_end(&setup);
}

struct rate_limit_case {
    unsigned status;
    const char *fields;
    bool holds; // for 2 s
};

static void check_rate_limit(const struct rate_limit_case *of)
{
    struct setup setup = setup_start("");
    http_target_script(setup.target,
                       &(struct http_target_answer){.status = of->status, .fields = of->fields});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 2);
    if (of->holds) {
        WAIT_FOR(queue_paused_by(setup.sluice, "work", "rate_limit"));
        expect_seconds_away(queue_paused_until(setup.sluice, "work"), -100, 2100);
    }
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    int64_t gap = mono_diff(seen.list[1].at, seen.list[0].at);
    cr_assert(!of->holds || gap >= 2 * NS_PER_S, "%s: %.3f s", of->fields, (double)gap / NS_PER_S);
    cr_assert_eq(seen.count, of->status == 200 ? 2 : 3, "%s", of->fields);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(pressure, rate_limit_with_nothing_left_holds_the_queue)
{
    check_rate_limit(&(struct rate_limit_case){200, "RateLimit-Remaining: 0\nRateLimit-Reset: 2\n", true});
}

Test(pressure, rate_limit_as_a_list_of_policies)
{
    check_rate_limit(
        &(struct rate_limit_case){200, "RateLimit: \"day\";r=5;t=9000, \"second\";r=0;t=2\n", true});
}

Test(pressure, rate_limit_with_something_left_holds_nothing)
{
    check_rate_limit(&(struct rate_limit_case){200, "RateLimit: \"day\";r=1;t=9000\n", false});
}

Test(pressure, rate_limit_of_a_refusal_uses_up_no_attempt)
{
    struct setup setup = setup_start(",\"retry\":{\"max_attempts\":1}");
    http_target_script(setup.target,
                       &(struct http_target_answer){.status = 429, .fields = "RateLimit: \"a\";r=0;t=1\n"});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 1);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    cr_assert_eq(batch_get(setup.sluice, ingested.id, 0).attempts, 2);
    setup_end(&setup);
}

// ---- the breaker ----

#define BREAKER                                                                                              \
    ",\"breaker\":10,\"retry\":{\"max_attempts\":2,\"min_backoff\":\"200ms\",\"max_backoff\":\"800ms\"}"
enum { BATCHES = 40, OPENS = 10, PROBES = 5 };

Test(pressure, the_breaker_probes_and_spares_what_waits)
{
    static const int64_t interval_ms[PROBES] = {200, 400, 800, 800, 800};
    struct setup setup = setup_start(BREAKER);
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, BATCHES);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "breaker"));
    cr_assert(http_target_wait(setup.target, OPENS + PROBES, WAIT_S * NS_PER_S));
    cr_assert(queue_paused_by(setup.sluice, "work", "breaker"));
    expect_seconds_away(queue_paused_until(setup.sluice, "work"), -100, 900);
    cr_assert(sluice_logged(setup.sluice, SCHEDULER, "breaker_open queue=work failures=10"));
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 200});
    sluice_wait_status(setup.sluice, ingested.id, "completed"); // none has failed for good
    cr_assert(queue_paused_by(setup.sluice, "work", NULL));
    cr_assert(sluice_logged(setup.sluice, SCHEDULER, "breaker_closed queue=work"));
    cr_assert_eq(queue_figure(setup.sluice, "work", "failed"), 0);

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_geq(seen.count, OPENS + PROBES + BATCHES);
    for (size_t i = 0; i < PROBES; i++) {
        int64_t gap = mono_diff(seen.list[OPENS + i].at, seen.list[OPENS + i - 1].at);
        cr_assert(gap >= interval_ms[i] * NS_PER_MS, "probe %zu came after %.3f ms", i,
                  (double)gap / NS_PER_MS);
    }
    dispatches_fini(&seen);
    setup_end(&setup);
}

// With many under way at once, what was sent before it opened says nothing new, and a probe is one batch.
Test(pressure, one_probe_at_a_time)
{
    struct setup setup = setup_start(BREAKER ",\"concurrency\":20");
    http_target_set_default(setup.target,
                            &(struct http_target_answer){.status = 500, .delay_ns = 300 * NS_PER_MS});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, BATCHES);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "breaker"));
    size_t opened = http_target_count(setup.target);
    cr_assert(opened <= 40, "%zu", opened);
    WAIT_FOR(queue_figure(setup.sluice, "work", "in_flight") == 0);
    size_t before = http_target_count(setup.target);
    cr_assert(http_target_wait(setup.target, before + 3, WAIT_S * NS_PER_S));
    struct dispatches seen = dispatches_read(setup.target);
    for (size_t i = before + 1; i < seen.count; i++) {
        int64_t gap = mono_diff(seen.list[i].at, seen.list[i - 1].at);
        cr_assert(gap >= 300 * NS_PER_MS, "two at once: %.3f ms", (double)gap / NS_PER_MS);
    }
    dispatches_fini(&seen);
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 200});
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    setup_end(&setup);
}

Test(pressure, the_breaker_is_as_it_was_after_a_kill)
{
    struct setup setup =
        setup_start(",\"breaker\":3,\"retry\":{\"min_backoff\":\"4s\",\"max_backoff\":\"4s\"}");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 8);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "breaker"));
    struct wall before = queue_paused_until(setup.sluice, "work");
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert(queue_paused_by(setup.sluice, "work", "breaker"));
    int64_t moved_ms = queue_paused_until(setup.sluice, "work").ms - before.ms;
    cr_assert(moved_ms > -1000 && moved_ms < 1000, "it moved by %lld ms", (long long)moved_ms);
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 200});
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    cr_assert(mono_diff(seen.list[3].at, seen.list[2].at) >= 4 * NS_PER_S, "a probe before its time");
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(pressure, without_a_breaker_attempts_are_used_up)
{
    struct setup setup = setup_start(",\"breaker\":0,\"retry\":{\"max_attempts\":1}");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 15);
    sluice_wait_status(setup.sluice, ingested.id, "failed");
    cr_assert_eq(http_target_count(setup.target), 15);
    cr_assert(queue_paused_by(setup.sluice, "work", NULL));
    setup_end(&setup);
}

// Refusals of single batches are no failure of the target.
Test(pressure, answers_for_the_batch_alone_open_no_breaker)
{
    struct setup setup = setup_start(",\"breaker\":2");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 400});
    struct ingested ingested = queue_ingest_range(setup.sluice, "work", "LOW", 1, 8);
    sluice_wait_status(setup.sluice, ingested.id, "failed");
    cr_assert(queue_paused_by(setup.sluice, "work", NULL));
    setup_end(&setup);
}
