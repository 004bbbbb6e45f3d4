// Time indexes: not_before, deadlines, retries; and clocks that are set.
#include "tests/support/engine_log.h"
#include "tests/support/engine_oracle.h"
#include "tests/support/engine_world.h"

#include "scheduler/engine_state.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WALL_MS INT64_C(1700000000000) // when the monotonic clock shows 0

static struct world *dated_world(struct queue_settings settings)
{
    struct world *world = world_new(20);
    world->wall_offset_ms = WALL_MS;
    world_add_queue(world, "default", &settings);
    world_build(world);
    return world;
}

// ---- not_before ----

Test(engine_due, nothing_goes_before_its_date_and_then_by_its_old_place)
{
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    settings.linger_ns = 300 * NS_PER_MS;
    struct world *world = dated_world(settings);
    world_ingest_timed(world, 1, PRIORITY_LOW, 2, WALL_MS + 5500, 0);
    world_ingest_timed(world, 1, PRIORITY_HIGH, 1, WALL_MS + 10000, 0);
    cr_assert_eq(engine_queue(world->engine, 1)->figures.delayed, 3);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns);
    cr_assert_eq(engine_wake_wall_ms(world->engine), WALL_MS + 5500);
    world_run_until(world, 4 * NS_PER_S);
    world_ingest(world, 1, PRIORITY_LOW, 3);                          // after 1, whose time has not come
    world_ingest_timed(world, 1, PRIORITY_LOW, 1, WALL_MS + 4000, 0); // its time has
    world_run_until(world, INT64_MAX);                                // no linger for what had waited before
    CHECK_LOG(world, {4300, 3, 0}, {5300, 3, 1}, {6300, 1, 0}, {7300, 1, 1}, {8300, 3, 2}, {9300, 4, 0},
              {10300, 2, 0});
    world_free(world);
}

Test(engine_due, an_idle_queue_starts_on_the_dot_and_a_date_that_is_over_is_none)
{
    static const struct {
        int64_t not_before_ms;
        uint64_t delayed;
        int64_t starts_ms;
    } cases[] = {
        {0, 0, 2300}, {WALL_MS + 1000, 0, 2300}, {WALL_MS + 2000, 0, 2300}, {WALL_MS + 2001, 1, 2001}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
        settings.linger_ns = 300 * NS_PER_MS;
        struct world *world = dated_world(settings);
        world_run_until(world, 2 * NS_PER_S);
        world_ingest_timed(world, 1, PRIORITY_LOW, 1, cases[i].not_before_ms, 0);
        cr_expect_eq(engine_queue(world->engine, 1)->figures.delayed, cases[i].delayed, "case %zu", i);
        world_run_until(world, INT64_MAX);
        cr_assert_eq(world->log_count, 1);
        cr_expect_eq(world->log[0].at.ns, cases[i].starts_ms * NS_PER_MS, "case %zu: at %lld ms", i,
                     (long long)(world->log[0].at.ns / NS_PER_MS));
        world_free(world);
    }
}

Test(engine_due, an_earlier_date_is_not_lost_behind_a_later_one)
{
    struct world *world = dated_world(world_settings(0, 0, 1, 9));
    static const int64_t dates_ms[] = {9000, 3000, 7000, 1000, 5000};
    for (size_t i = 0; i < COUNT(dates_ms); i++) {
        world_ingest_timed(world, 1, PRIORITY_LOW, 1, WALL_MS + dates_ms[i], 0);
    }
    world_run_until(world, 1500 * NS_PER_MS);
    world_ingest_timed(world, 1, PRIORITY_LOW, 1, WALL_MS + 2000, 0);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {1000, 4, 0}, {2000, 6, 0}, {3000, 2, 0}, {5000, 5, 0}, {7000, 3, 0}, {9000, 1, 0});
    world_free(world);
}

Test(engine_due, dates_follow_the_wall_clock_when_it_is_set)
{
    static const struct {
        int64_t step_ms; // at 2 s
        int64_t starts_ms;
    } cases[] = {{0, 5000}, {-1000, 6000}, {-3600000, 3605000}, {2999, 2001}, {3000, 2000}, {86400000, 2000}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *world = dated_world(world_settings(0, 0, 1, 9));
        world_ingest_timed(world, 1, PRIORITY_LOW, 1, WALL_MS + 5000, 0);
        world_run_until(world, 2 * NS_PER_S);
        world->wall_offset_ms += cases[i].step_ms;
        world_run_until(world, INT64_MAX);
        cr_assert_eq(world->log_count, 1);
        cr_expect_eq(world->log[0].at.ns, cases[i].starts_ms * NS_PER_MS, "case %zu: at %lld ms", i,
                     (long long)(world->log[0].at.ns / NS_PER_MS));
        world_free(world);
    }
}

// Many are due, some are taken up, and the clock goes back to before the moment that was noted for the rest.
Test(engine_due, what_is_left_is_still_due_when_the_clock_was_set_back_a_little)
{
    struct world *world = dated_world(world_settings(0, 0, 1, 9));
    for (int i = 0; i < 5; i++) {
        world_ingest_timed(world, 1, PRIORITY_LOW, 1, WALL_MS + 1000 + i, 0);
    }
    world->now.ns = 100 * NS_PER_S;
    world->due_limit = 2;
    world_turn(world);
    cr_assert(world->due_left);
    cr_assert_eq(world->log_count, 0, "none goes before all that is due was looked at");
    world->wall_offset_ms -= 50000;
    cr_assert_leq(world_next(world).ns, world->now.ns);
    world_run_until(world, world->now.ns);
    cr_assert_eq(world->log_count, 5);
    world_free(world);
}

Test(engine_due, what_is_not_due_counts_for_max_waiting)
{
    struct world *world = dated_world(world_settings(1, NS_PER_S, 1, 1)); // 20 may wait
    cr_assert_gt(world_ingest_timed(world, 1, PRIORITY_LOW, 15, WALL_MS + 5000, 0), 0);
    cr_assert_eq(world_ingest(world, 1, PRIORITY_LOW, 6), 0);
    cr_assert_gt(world_ingest(world, 1, PRIORITY_LOW, 5), 0);
    world_cancel(world, 1);
    cr_assert_gt(world_ingest_timed(world, 1, PRIORITY_LOW, 15, WALL_MS + 1000, 0), 0);
    world_run_until(world, 4500 * NS_PER_MS); // 0 to 4 s: five were dispatched
    cr_assert_eq(world->engine->waiting, 15);
    world_build(world);
    cr_assert_eq(world_ingest(world, 1, PRIORITY_LOW, 6), 0);
    oracle_memory(world);
    world_free(world);
}

// ---- deadlines ----

static void first_fails(struct world *world, struct world_running *running)
{
    (void)world;
    if (running->key.place.seq == 1 && running->key.place.index == 0 && running->attempt == 1) {
        running->outcome =
            (struct outcome){.class = OUTCOME_RETRY, .has_delay = true, .delay_ns = 2400 * NS_PER_MS};
    }
}

Test(engine_due, what_has_not_started_by_its_deadline_is_cancelled)
{
    struct world *world = dated_world(world_settings(1, NS_PER_S, 1, 1));
    world->script = first_fails;
    world_ingest_timed(world, 1, PRIORITY_LOW, 5, 0, WALL_MS + 2000);
    world_ingest(world, 1, PRIORITY_LOW, 2);
    world_run_until(world, INT64_MAX);
    // At 2 s two of it have started: one was done, the other waits for its retry, which goes its way.
    CHECK_LOG(world, {0, 1, 0}, {1000, 1, 1}, {2000, 2, 0}, {3000, 1, 0}, {4000, 2, 1});
    for (uint32_t i = 0; i < 5; i++) {
        cr_expect_eq(world_batch(world, 1, i)->state, i < 2 ? BATCH_COMPLETED : BATCH_CANCELLED, "batch %u",
                     i);
    }
    oracle_memory(world);
    world_free(world);
}

Test(engine_due, deadlines_follow_the_wall_clock_when_it_is_set)
{
    static const struct {
        int64_t step_ms; // at 1.5 s
        size_t dispatched;
    } cases[] = {{0, 4}, {-2000, 6}, {-3600000, 10}, {1000, 3}, {3600000, 2}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *world = dated_world(world_settings(1, NS_PER_S, 1, 1));
        world_ingest_timed(world, 1, PRIORITY_LOW, 10, 0, WALL_MS + 3500);
        world_run_until(world, 1500 * NS_PER_MS);
        world->wall_offset_ms += cases[i].step_ms;
        world_run_until(world, 60 * NS_PER_S);
        cr_expect_eq(world->log_count, cases[i].dispatched, "case %zu: %zu", i, world->log_count);
        world_free(world);
    }
}

Test(engine_due, what_waits_for_its_date_may_expire_too)
{
    struct world *world = dated_world(world_settings(1, NS_PER_S, 1, 1));
    world_ingest_timed(world, 1, PRIORITY_LOW, 2, WALL_MS + 5000, WALL_MS + 3000);
    world_ingest_timed(world, 1, PRIORITY_LOW, 2, WALL_MS + 6000, WALL_MS + 6000);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 0);
    cr_assert_eq(world->engine->waiting, 0);
    cr_assert(world_remove_queue(world, 1));
    world_free(world);
}

// ---- turns ----

Test(engine_due, what_waits_longest_is_first_over_all_kinds)
{
    static const struct {
        int64_t retry_ms; // of each clock, before now; -1: not due
        int64_t start_ms;
        int64_t deadline_ms;
        int first; // -1: none
    } cases[] = {
        {10, 20, 5, DUE_START}, {10, 5, 20, DUE_DEADLINE}, {30, 5, 20, DUE_RETRY}, {-1, -1, 0, DUE_DEADLINE},
        {-1, 0, -1, DUE_START}, {0, -1, -1, DUE_RETRY},    {-1, -1, -1, -1},
    };
    const struct mono now = {100 * NS_PER_S};
    const struct wall wall = {WALL_MS};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct engine *engine = engine_new(100, 0);
        const struct queue_load load = {.id = 5,
                                        .name = "q",
                                        .settings = world_settings(0, 0, 1, 1),
                                        .due = {now.ns - cases[i].retry_ms * NS_PER_MS,
                                                wall.ms - cases[i].start_ms, wall.ms - cases[i].deadline_ms}};
        struct due due = {DUE_RETRY, 0};
        cr_assert_eq(engine_add_queue(engine, &load), ERR_OK);
        cr_expect_eq(engine_next_due(engine, now, wall, &due), cases[i].first >= 0, "case %zu", i);
        if (cases[i].first >= 0) {
            cr_expect_eq((int)due.kind, cases[i].first, "case %zu: %d", i, (int)due.kind);
            cr_expect_eq(due.queue, 5);
        }
        engine_free(engine);
    }
}

Test(engine_due, queues_with_much_to_take_up_take_turns)
{
    enum { QUEUES = 4 };
    struct engine *engine = engine_new(100, 0);
    for (int64_t id = 1; id <= QUEUES; id++) {
        char name[2] = {(char)('a' + id), '\0'};
        const struct queue_load load = {.id = id,
                                        .name = name,
                                        .settings = world_settings(0, 0, 1, 1),
                                        .due = {id, DUE_NEVER, DUE_NEVER}};
        cr_assert_eq(engine_add_queue(engine, &load), ERR_OK);
    }
    struct mono now = {NS_PER_S};
    const struct wall wall = {WALL_MS};
    unsigned seen = 0;
    struct due due;
    for (int turn = 0; turn < 40; turn++, now.ns++) { // one in each, and more of it is left
        cr_assert(engine_next_due(engine, now, wall, &due));
        seen |= 1u << due.queue;
        if (turn % QUEUES == QUEUES - 1) {
            cr_assert_eq(seen, 30, "turn %d: each of them once", turn);
            seen = 0;
        }
        engine_due_done(engine, &due, due.queue, now, wall);
        cr_assert_leq(engine_wake(engine).ns, now.ns);
    }
    for (int i = 0; i < QUEUES; i++) {
        cr_assert(engine_next_due(engine, now, wall, &due));
        engine_due_done(engine, &due, due.queue == 3 ? now.ns + 9 : DUE_NEVER, now, wall);
    }
    cr_assert_not(engine_next_due(engine, now, wall, &due));
    cr_assert_eq(engine_wake(engine).ns, now.ns + 9);
    engine_free(engine);
}

Test(engine_due, a_queue_with_something_overdue_is_passed_over_and_no_other)
{
    static const enum due_kind kinds[] = {DUE_RETRY, DUE_START, DUE_DEADLINE};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        struct world *world = dated_world(world_settings(0, 0, 1, 9));
        const struct queue_settings settings = world_settings(0, 0, 1, 9);
        world_add_queue(world, "other", &settings);
        world_ingest(world, 1, PRIORITY_LOW, 2);
        world_ingest(world, 2, PRIORITY_LOW, 2);
        world->now.ns = NS_PER_S;
        struct queue *queue = engine_queue(world->engine, 1);
        engine_add_due(world->engine, queue, kinds[i],
                       kinds[i] == DUE_RETRY ? world->now.ns : world_wall(world).ms);
        struct batch_key key;
        struct flight *flight;
        for (int n = 0; n < 2; n++) {
            cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
            cr_assert_eq(key.queue, 2);
        }
        cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_NOT_FOUND);
        struct due due;
        cr_assert(engine_next_due(world->engine, world->now, world_wall(world), &due));
        cr_assert(due.kind == kinds[i] && due.queue == 1);
        engine_due_done(world->engine, &due, DUE_NEVER, world->now, world_wall(world));
        cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
        cr_assert_eq(key.queue, 1, "in the same turn");
        world_free(world);
    }
}
