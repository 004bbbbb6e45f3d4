// What becomes of a batch and its queue when an attempt has ended: retries, holds, the breaker, cancels.
#include "tests/support/engine_log.h"
#include "tests/support/engine_world.h"

#include "scheduler/engine_state.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Dispatches the next batch and ends its attempt.
static struct finish_row attempt(struct world *world, const struct outcome *outcome, uint32_t attempt_no,
                                 uint32_t excused)
{
    struct batch_key key;
    struct flight *flight;
    struct finish_row row;
    cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
    cr_assert_eq(engine_outcome(world->engine, flight, outcome, attempt_no, excused, world->now,
                                world_wall(world), 0, &row),
                 ERR_OK);
    return row;
}

// ---- retries ----

Test(engine_outcomes, a_retry_waits_as_it_was_told_or_as_the_queue_says)
{
    static const struct {
        struct outcome outcome;
        uint32_t attempt;
        uint32_t excused;
        enum batch_state state;
        int64_t due_ns; // from now
        bool excuses;
    } cases[] = {
        {{.class = OUTCOME_RETRY}, 1, 0, BATCH_BACKOFF, NS_PER_S, false},
        {{.class = OUTCOME_RETRY}, 4, 0, BATCH_BACKOFF, NS_PER_S, false},
        {{.class = OUTCOME_RETRY}, 5, 0, BATCH_FAILED, 0, false},
        {{.class = OUTCOME_RETRY}, 6, 2, BATCH_BACKOFF, NS_PER_S, false},
        {{.class = OUTCOME_RETRY}, 7, 2, BATCH_FAILED, 0, false},
        {{.class = OUTCOME_RETRY, .has_delay = true, .delay_ns = 7}, 1, 0, BATCH_BACKOFF, 7, false},
        {{.class = OUTCOME_RETRY, .has_delay = true}, 1, 0, BATCH_WAITING, 0, false},
        {{.class = OUTCOME_RETRY, .has_delay = true}, 5, 0, BATCH_FAILED, 0, false},
        {{.class = OUTCOME_HOLD, .hold_ns = 1}, 99, 0, BATCH_WAITING, 0, true},
        {{.class = OUTCOME_FAILED}, 1, 0, BATCH_FAILED, 0, false},
        {{.class = OUTCOME_COMPLETED}, 9, 0, BATCH_COMPLETED, 0, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *world = world_of(world_settings(0, 0, 1, 1), 0);
        world->now.ns = 50 * NS_PER_S;
        world_ingest(world, 1, PRIORITY_MEDIUM, 3);
        struct finish_row row = attempt(world, &cases[i].outcome, cases[i].attempt, cases[i].excused);
        const struct queue *queue = engine_queue(world->engine, 1);
        cr_expect_eq(row.state, cases[i].state, "case %zu: state %d", i, (int)row.state);
        cr_expect_eq(row.excused, cases[i].excuses, "case %zu", i);
        int64_t due_ns = row.state == BATCH_BACKOFF ? 50 * NS_PER_S + cases[i].due_ns : 0;
        cr_expect_eq(row.due.ns, due_ns, "case %zu", i);
        cr_expect_eq(queue->waiting[PRIORITY_MEDIUM], row.state == BATCH_WAITING ? 3 : 2, "case %zu", i);
        cr_expect_eq(queue->figures.delayed, row.state == BATCH_BACKOFF, "case %zu", i);
        cr_expect_eq(queue->figures.failed, row.state == BATCH_FAILED, "case %zu", i);
        cr_expect_eq(queue->figures.completed, row.state == BATCH_COMPLETED, "case %zu", i);
        cr_expect_eq(queue->due_at[DUE_RETRY], row.state == BATCH_BACKOFF ? due_ns : DUE_NEVER, "case %zu",
                     i);
        cr_expect_eq(queue->in_flight, 0);
        world_free(world);
    }
}

Test(engine_outcomes, a_retry_at_once_takes_its_old_place)
{
    struct world *world = world_of(world_settings(0, 0, 1, 1), 0);
    const struct outcome again = {.class = OUTCOME_RETRY, .has_delay = true};
    world_ingest(world, 1, PRIORITY_LOW, 3);
    for (uint32_t n = 1; n < 4; n++) {
        cr_assert_eq(attempt(world, &again, n, 0).key.place.index, 0);
    }
    world_free(world);
}

// ---- holds ----

Test(engine_outcomes, any_answer_may_hold_the_queue_up_to_its_cap_and_the_longest_hold_stays)
{
    static const struct {
        struct outcome outcome;
        int64_t until_s; // after it, from 100 s on
        enum hold_reason by;
    } steps[] = {
        {{.class = OUTCOME_COMPLETED}, 0, HOLD_NONE},
        {{.class = OUTCOME_COMPLETED, .hold_ns = 5 * NS_PER_S, .held_by = HOLD_RATE_LIMIT},
         5,
         HOLD_RATE_LIMIT},
        {{.class = OUTCOME_HOLD, .hold_ns = 3 * NS_PER_S, .held_by = HOLD_RETRY_AFTER}, 5, HOLD_RATE_LIMIT},
        {{.class = OUTCOME_RETRY, .hold_ns = 9 * NS_PER_S, .held_by = HOLD_RETRY_AFTER}, 9, HOLD_RETRY_AFTER},
        {{.class = OUTCOME_COMPLETED, .hold_ns = 9 * NS_PER_S, .held_by = HOLD_RATE_LIMIT},
         9,
         HOLD_RETRY_AFTER},
        {{.class = OUTCOME_FAILED, .hold_ns = 3600 * NS_PER_S, .held_by = HOLD_RATE_LIMIT},
         60,
         HOLD_RATE_LIMIT},
    };
    struct world *world = world_of(world_settings(0, 0, 1, COUNT(steps)), 0);
    struct flight *flights[COUNT(steps)];
    struct batch_key key;
    world->now.ns = 100 * NS_PER_S;
    world->wall_offset_ms = 7777;
    world_ingest(world, 1, PRIORITY_LOW, 20);
    for (size_t i = 0; i < COUNT(steps); i++) {
        cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flights[i]), ERR_OK);
    }
    for (size_t i = 0; i < COUNT(steps); i++) {
        struct finish_row row;
        cr_assert_eq(engine_outcome(world->engine, flights[i], &steps[i].outcome, 1, 0, world->now,
                                    world_wall(world), 0, &row),
                     ERR_OK);
        const struct queue_figures *figures = &engine_queue(world->engine, 1)->figures;
        int64_t until_ms = steps[i].until_s > 0 ? (100 + steps[i].until_s) * 1000 : 0;
        cr_expect_eq(figures->held_until.ns, until_ms * NS_PER_MS, "step %zu", i);
        cr_expect_eq(figures->held_until_wall.ms, until_ms > 0 ? until_ms + 7777 + 1 : 0, "step %zu", i);
        cr_expect_eq(figures->held_by, steps[i].by, "step %zu", i);
    }
    struct queue_settings settings = world_queue(world, 1)->settings;
    settings.max_hold_ns = NS_PER_S;
    world_change_queue(world, 1, &settings);
    cr_assert_eq(engine_queue(world->engine, 1)->figures.held_until.ns, 160 * NS_PER_S,
                 "a hold is not cut short");
    world_free(world);
}

// ---- the breaker ----

static void all_are_down(struct world *world, struct world_running *running)
{
    (void)world;
    running->outcome.class = OUTCOME_RETRY;
    running->outcome.down = true;
}

static void down_for_10_s(struct world *world, struct world_running *running)
{
    if (mono_before(world->now, (struct mono){10 * NS_PER_S})) {
        all_are_down(world, running);
    }
}

static struct world *breaker_world(uint32_t breaker, uint32_t concurrency)
{
    struct queue_settings settings = world_settings(0, 0, 1, concurrency);
    settings.breaker = breaker;
    settings.min_backoff_ns = NS_PER_S;
    settings.max_backoff_ns = 4 * NS_PER_S;
    return world_of(settings, 100 * NS_PER_MS);
}

Test(engine_outcomes, an_open_breaker_sends_single_probes_at_growing_intervals)
{
    struct world *world = breaker_world(3, 5);
    world->script = down_for_10_s;
    world_ingest(world, 1, PRIORITY_LOW, 20);
    world_run_until(world, 11400 * NS_PER_MS);
    static const int64_t probes_ms[] = {1100, 3200, 7300, 11400};
    cr_assert_eq(world->log_count, 5 + COUNT(probes_ms), "%zu", world->log_count);
    for (size_t i = 0; i < COUNT(probes_ms); i++) {
        int64_t ms = world->log[5 + i].at.ns / NS_PER_MS;
        cr_expect_eq(ms, probes_ms[i], "probe %zu at %lld", i, (long long)ms);
    }
    uint64_t counted = 0;
    for (uint32_t i = 0; i < 20; i++) {
        counted += world_batch(world, 1, i)->attempts - world_batch(world, 1, i)->excused;
    }
    cr_assert_eq(counted, 4, "those that opened it, and the probe under way");
    cr_assert_eq(world_queue(world, 1)->figures.failures, 6);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world_queue(world, 1)->figures.failures, 0);
    cr_assert_eq(world_queue(world, 1)->figures.completed, 20);
    cr_assert_geq(world->log[9].at.ns, 11500 * NS_PER_MS, "nothing goes beside a probe");
    world_free(world);
}

Test(engine_outcomes, any_answer_of_the_target_closes_the_breaker)
{
    static const struct outcome answers[] = {{.class = OUTCOME_COMPLETED},
                                             {.class = OUTCOME_FAILED},
                                             {.class = OUTCOME_RETRY},
                                             {.class = OUTCOME_HOLD}};
    for (size_t i = 0; i < COUNT(answers); i++) {
        struct world *world = breaker_world(2, 1);
        const struct outcome down = {.class = OUTCOME_RETRY, .down = true};
        const struct queue_figures *figures = &engine_queue(world->engine, 1)->figures;
        world_ingest(world, 1, PRIORITY_LOW, 20);
        (void)attempt(world, &down, 1, 0);
        cr_assert_eq(figures->failures, 1);
        (void)attempt(world, &answers[i], 1, 0);
        cr_assert_eq(figures->failures, 0, "only those in succession count");
        cr_assert_eq(attempt(world, &down, 1, 0).state, BATCH_BACKOFF);
        struct finish_row row = attempt(world, &down, 1, 0);
        cr_assert(row.state == BATCH_BACKOFF && !row.excused, "the one that opens it counts");
        cr_assert_eq(figures->probe_at.ns, NS_PER_S);
        world->now.ns = NS_PER_S - 1;
        struct batch_key key;
        struct flight *flight;
        cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_NOT_FOUND);
        cr_assert_eq(engine_queue(world->engine, 1)->wake.key, NS_PER_S);
        engine_queue(world->engine, 1)->due_at[DUE_RETRY] = DUE_NEVER; // leave the retries alone
        world->now.ns = NS_PER_S;
        (void)attempt(world, &answers[i], 1, 0);
        cr_assert_eq(figures->failures, 0, "case %zu", i);
        world_free(world);
    }
}

Test(engine_outcomes, a_failed_probe_stays_one_after_a_rebuild_and_an_old_failure_does_too)
{
    struct world *world = breaker_world(1, 2);
    world->script = all_are_down;
    world_ingest(world, 1, PRIORITY_LOW, 2);
    world_turn(world);
    world->running[1].took_ns = 500 * NS_PER_MS; // opens at 100 ms; this one fails later
    world_run_until(world, 200 * NS_PER_MS);
    world_build(world);
    world_run_until(world, 500 * NS_PER_MS);
    cr_assert_eq(world_queue(world, 1)->figures.failures, 1, "it was dispatched before");
    cr_assert_eq(world_batch(world, 1, 1)->state, BATCH_WAITING);
    cr_assert_eq(world_batch(world, 1, 1)->excused, 1);
    world_run_until(world, 1100 * NS_PER_MS);
    cr_assert_eq(world->running_count, 1, "the probe");
    world_build(world);
    world_run_until(world, 1200 * NS_PER_MS);
    cr_assert_eq(world_queue(world, 1)->figures.failures, 2);
    cr_assert_eq(world_queue(world, 1)->figures.probe_at.ns, 3200 * NS_PER_MS);
    world_free(world);
}

static void the_first_is_down(struct world *world, struct world_running *running)
{
    if (running->key.place.index == 0) {
        all_are_down(world, running);
    }
}

// It is due again before each probe, and first in the order.
Test(engine_outcomes, a_batch_that_fails_by_itself_does_not_keep_the_breaker_open)
{
    struct queue_settings settings = world_settings(0, 0, 1, 1);
    settings.breaker = 1;
    settings.min_backoff_ns = NS_PER_S;
    settings.max_backoff_ns = NS_PER_S;
    struct world *world = world_of(settings, 100 * NS_PER_MS);
    world->script = the_first_is_down;
    world_ingest(world, 1, PRIORITY_LOW, 5);
    world_run_until(world, 60 * NS_PER_S);
    cr_assert_eq(world_queue(world, 1)->figures.completed, 4);
    world_free(world);
}

Test(engine_outcomes, the_breaker_s_setting_may_change)
{
    static const struct {
        uint32_t from;
        uint32_t failures;
        uint32_t to;
        uint32_t then;
        bool open;
    } cases[] = {
        {10, 7, 5, 5, true},  {10, 7, 8, 7, false}, {10, 7, 0, 0, false},
        {5, 7, 20, 7, false}, {5, 7, 3, 7, true},   {0, 0, 1, 0, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *world = breaker_world(cases[i].from, 1);
        world_queue(world, 1)->figures.failures = cases[i].failures;
        world_queue(world, 1)->figures.probe_at.ns = 77;
        world_build(world);
        struct queue_settings settings = world_queue(world, 1)->settings;
        settings.breaker = cases[i].to;
        world->now.ns = 10 * NS_PER_S;
        world_change_queue(world, 1, &settings);
        const struct queue *queue = engine_queue(world->engine, 1);
        bool was_open = cases[i].from > 0 && cases[i].failures >= cases[i].from;
        cr_expect_eq(queue->figures.failures, cases[i].then, "case %zu", i);
        cr_expect_eq(queue_breaker_open(queue), cases[i].open, "case %zu", i);
        cr_expect_eq(queue->figures.probe_at.ns, cases[i].open && !was_open ? 11 * NS_PER_S : 77, "case %zu",
                     i);
        world_free(world);
    }
}

Test(engine_outcomes, without_a_breaker_nothing_is_counted)
{
    struct world *world = breaker_world(0, 1);
    world->script = all_are_down;
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 15, "each as often as it may");
    cr_assert_eq(world_queue(world, 1)->figures.failures, 0);
    world_free(world);
}

// ---- cancels ----

Test(engine_outcomes, what_is_in_flight_when_it_is_cancelled_is_not_tried_again)
{
    static const struct {
        struct outcome outcome;
        enum batch_state state;
    } cases[] = {
        {{.class = OUTCOME_COMPLETED}, BATCH_COMPLETED},
        {{.class = OUTCOME_FAILED}, BATCH_FAILED},
        {{.class = OUTCOME_RETRY}, BATCH_CANCELLED},
        {{.class = OUTCOME_RETRY, .down = true}, BATCH_CANCELLED},
        {{.class = OUTCOME_RETRY, .has_delay = true}, BATCH_CANCELLED},
        {{.class = OUTCOME_HOLD, .hold_ns = NS_PER_S}, BATCH_CANCELLED},
    };
    for (size_t i = 0; i < 2 * COUNT(cases); i++) { // also when the engine is built anew in between
        struct world *world = breaker_world(1, 1);
        world->now.ns = 10 * NS_PER_S;
        world_ingest(world, 1, PRIORITY_LOW, 3);
        world_ingest(world, 1, PRIORITY_LOW, 1);
        world_turn(world);
        world->running[0].outcome = cases[i / 2].outcome;
        world_cancel(world, 1);
        if (i % 2 == 1) {
            world_build(world);
        }
        const struct queue *queue = engine_queue(world->engine, 1);
        cr_assert_eq(queue->waiting[PRIORITY_LOW], 1);
        world_run_until(world, INT64_MAX);
        cr_expect_eq(world_batch(world, 1, 0)->state, cases[i / 2].state, "case %zu", i);
        cr_expect_eq(world->log_count, 2, "case %zu", i);
        cr_expect_eq(queue->figures.held_until.ns > 0, cases[i / 2].outcome.class == OUTCOME_HOLD, "case %zu",
                     i);
        world_free(world);
    }
}

Test(engine_outcomes, what_is_cancelled_spends_no_rate)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), NS_PER_MS);
    for (int i = 0; i < 4; i++) {
        world_ingest(world, 1, PRIORITY_LOW, 2);
    }
    world_run_until(world, 1500 * NS_PER_MS); // 1.0, 1.1
    world_cancel(world, 2);
    world_cancel(world, 3);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {0, 1, 0}, {1000, 1, 1}, {2000, 4, 0}, {3000, 4, 1});
    world_free(world);
}

Test(engine_outcomes, what_is_tried_again_by_hand_goes_to_its_place)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), NS_PER_MS);
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world->script = all_are_down;
    struct queue_settings settings = world_queue(world, 1)->settings;
    settings.max_attempts = 1;
    world_change_queue(world, 1, &settings);
    world_run_until(world, 10 * NS_PER_S);
    world->script = NULL;
    world_pause(world, 1, PAUSE_ON);
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_retry(world, 1);
    world_pause(world, 1, PAUSE_OFF);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {0, 1, 0}, {1000, 1, 1}, {2000, 1, 2}, {10000, 1, 0}, {11000, 1, 1}, {12000, 1, 2},
              {13000, 2, 0});
    cr_assert_eq(world->log[3].attempt, 1);
    world_free(world);
}
