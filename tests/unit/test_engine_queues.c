// Queues that come, change and go; pauses, demand, turns.
#include "tests/support/engine_log.h"
#include "tests/support/engine_oracle.h"
#include "tests/support/engine_world.h"

#include "scheduler/engine_state.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// ---- settings ----

Test(engine_queues, a_change_of_rate_holds_from_the_next_dispatch_on)
{
    static const struct {
        struct rate from;
        uint32_t from_burst;
        struct rate to;
        uint32_t to_burst;
        int64_t next_ms; // after the change at 10 s, while the queue has been busy
        int64_t step_ms;
    } cases[] = {
        {{1, 3600 * NS_PER_S}, 1, {100, NS_PER_S}, 1, 10, 10},
        {{1, 5 * NS_PER_S}, 1, {1, NS_PER_S}, 5, 1000, 1000},
        {{100, NS_PER_S}, 1, {1, 5 * NS_PER_S}, 1, 5000, 5000},
        {{0, 0}, 0, {2, NS_PER_S}, 4, 500, 500},
        {{1, 5 * NS_PER_S}, 1, {0, 0}, 0, 0, 0},
        {{1, 4 * NS_PER_S}, 1, {1, 4 * NS_PER_S}, 3, 4000, 4000},
        {{1, 4 * NS_PER_S}, 1, {1, 4 * NS_PER_S}, 1, 2000, 4000}, // not changed
        {{1, 4 * NS_PER_S}, 1, {1, 4 * NS_PER_S}, 0, 2000, 4000}, // nor is it by what the default gives
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct queue_settings settings =
            world_settings(cases[i].from.count, cases[i].from.per_ns, cases[i].from_burst, 1);
        struct world *world = world_of(settings, NS_PER_MS);
        world_ingest(world, 1, PRIORITY_LOW, 20000);
        world_run_until(world, 10 * NS_PER_S);
        size_t before = world->log_count;
        settings.rate = cases[i].to;
        settings.burst = cases[i].to_burst;
        world_change_queue(world, 1, &settings);
        world_run_until(world, 10 * NS_PER_S + (2 * cases[i].next_ms + 3 * cases[i].step_ms) * NS_PER_MS);
        if (cases[i].step_ms == 0) { // one delivery after the other
            world_run_until(world, 10020 * NS_PER_MS);
        }
        cr_assert_gt(world->log_count, before + 2, "case %zu", i);
        for (size_t n = before; n < world->log_count && cases[i].step_ms > 0; n++) {
            int64_t ms = world->log[n].at.ns / NS_PER_MS - 10000;
            cr_assert_eq(ms, cases[i].next_ms + (int64_t)(n - before) * cases[i].step_ms, "case %zu: at %lld",
                         i, (long long)ms);
        }
        world_free(world);
    }
}

static void first_is_late(struct world *world, struct world_running *running)
{
    running->late_ns = world->log_count == 0 ? 50 * NS_PER_MS : 0;
}

Test(engine_queues, what_starts_late_after_a_change_moves_what_follows)
{
    struct queue_settings settings = world_settings(1, 10 * NS_PER_S, 1, 2);
    struct world *world = world_of(settings, NS_PER_MS);
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world->script = first_is_late;
    struct batch_key key;
    struct flight *flight;
    struct want want;
    cr_assert_not(engine_wants(world->engine, &want), "it was idle: what came is in the window");
    cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
    settings.rate = (struct rate){1, NS_PER_S};
    engine_change_queue(world->engine, 1, &settings, &(struct target_traits){0},
                        (struct mono){20 * NS_PER_MS});
    cr_assert_eq(engine_wake(world->engine).ns, 1020 * NS_PER_MS);
    engine_delayed(world->engine, flight, (struct mono){10 * NS_PER_MS});
    cr_assert_eq(engine_wake(world->engine).ns, 1020 * NS_PER_MS, "it started before");
    engine_started(world->engine, flight, (struct mono){50 * NS_PER_MS});
    cr_assert_eq(engine_wake(world->engine).ns, 1050 * NS_PER_MS, "late by 30 ms, and not by 50");
    world_free(world);
}

// Saves what has changed. Whether the store has the queue as `starting`.
static bool saved_starting(struct world *world)
{
    int64_t queue;
    struct queue_figures figures;
    while (engine_take_changed(world->engine, &queue, &figures)) {
        cr_assert_eq(figures.starting, engine_unconfirmed(world->engine));
    }
    return engine_unconfirmed(world->engine);
}

static struct flight *next_flight(struct world *world)
{
    struct batch_key key;
    struct want want;
    struct flight *flight;
    cr_assert_not(engine_wants(world->engine, &want), "it was idle: what came is in the window");
    cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
    return flight;
}

Test(engine_queues, a_queue_is_starting_until_all_starts_are_known)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 3, 3), NS_PER_MS);
    const struct outcome completed = {.class = OUTCOME_COMPLETED};
    struct finish_row row;
    world_ingest(world, 1, PRIORITY_LOW, 3);
    cr_assert_not(saved_starting(world));
    struct flight *flights[] = {next_flight(world), next_flight(world), next_flight(world)};
    cr_assert(saved_starting(world));
    engine_started(world->engine, flights[0], world->now);
    cr_assert(saved_starting(world), "two are to come");
    engine_started(world->engine, flights[0], world->now); // said again after a commit that failed
    engine_delayed(world->engine, flights[1], mono_add(world->now, NS_PER_S));
    cr_assert(saved_starting(world), "it has not started before, and that is all that is known");
    engine_started(world->engine, flights[1], mono_add(world->now, 2 * NS_PER_S));
    cr_assert(saved_starting(world));
    cr_assert_eq(
        engine_outcome(world->engine, flights[2], &completed, 1, 0, world->now, world_wall(world), 0, &row),
        ERR_OK);
    cr_assert_not(saved_starting(world), "the last one ended without a word");
    world_free(world);
}

Test(engine_queues, what_has_not_started_moves_what_follows)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 2), NS_PER_MS);
    struct batch_key key;
    struct flight *second;
    world_ingest(world, 1, PRIORITY_LOW, 2);
    struct flight *first = next_flight(world);
    world->now = mono_add(world->now, 3 * NS_PER_S);
    cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &second), ERR_NOT_FOUND);
    cr_assert_eq(engine_wake(world->engine).ns, mono_add(world->now, NS_PER_S).ns);
    engine_started(world->engine, first, mono_add(world->now, NS_PER_MS));
    cr_assert_eq(engine_wake(world->engine).ns, mono_add(world->now, NS_PER_S + NS_PER_MS).ns);
    world->now = engine_wake(world->engine);
    cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &second), ERR_OK);
    world_free(world);
}

Test(engine_queues, without_a_limit_no_start_matters)
{
    struct world *world = world_of(world_settings(0, 0, 1, 3), NS_PER_MS);
    world_ingest(world, 1, PRIORITY_LOW, 1);
    (void)next_flight(world);
    cr_assert_not(saved_starting(world));
    world_free(world);
}

Test(engine_queues, a_lower_concurrency_waits_until_fewer_are_in_flight)
{
    struct queue_settings settings = world_settings(0, 0, 1, 3);
    struct world *world = world_of(settings, NS_PER_S);
    world_ingest(world, 1, PRIORITY_LOW, 6);
    world_run_until(world, 500 * NS_PER_MS);
    settings.concurrency = 1;
    world_change_queue(world, 1, &settings);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {0, 1, 0}, {0, 1, 1}, {0, 1, 2}, {1000, 1, 3}, {2000, 1, 4}, {3000, 1, 5});
    world_free(world);
}

Test(engine_queues, a_shorter_linger_counts_at_once)
{
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    settings.linger_ns = 3600 * NS_PER_S;
    struct world *world = world_of(settings, NS_PER_MS);
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_run_until(world, 10 * NS_PER_S);
    settings.linger_ns = NS_PER_S;
    world_change_queue(world, 1, &settings);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {11000, 1, 0});
    world_free(world);
}

Test(engine_queues, the_default_burst_and_linger_follow_from_the_rate)
{
    struct queue_settings settings = world_settings(1, NS_PER_S, 0, 9);
    settings.linger_ns = -1;
    struct world *world = world_of(settings, NS_PER_MS);
    world->now.ns = 10 * NS_PER_S;
    world_ingest(world, 1, PRIORITY_LOW, 2);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {10020, 1, 0}, {11020, 1, 1});
    world_free(world);
}

// ---- pauses, demand ----

Test(engine_queues, paused_it_takes_in_and_gives_nothing)
{
    struct world *world = world_of(world_settings(10, NS_PER_S, 2, 5), 10 * NS_PER_MS);
    world_ingest(world, 1, PRIORITY_LOW, 4);
    world_turn(world);
    world_pause(world, 1, PAUSE_ON);
    world_pause(world, 1, PAUSE_ON);
    world_run_until(world, 20 * NS_PER_MS);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns);
    world_ingest(world, 1, PRIORITY_HIGH, 2);
    world_build(world); // it is durable
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns);
    world_run_until(world, 60 * NS_PER_S);
    world_pause(world, 1, PAUSE_OFF);
    world_run_until(world, INT64_MAX); // the burst, and no more for the time it was paused
    CHECK_LOG(world, {0, 1, 0}, {0, 1, 1}, {60000, 2, 0}, {60000, 2, 1}, {60100, 1, 2}, {60200, 1, 3});
    world_free(world);
}

Test(engine_queues, a_pull_target_gets_what_is_asked_for)
{
    struct world *world = world_of(world_settings(0, 0, 1, 100), NS_PER_MS);
    world_set_pull(world, 1, true);
    world_ingest(world, 1, PRIORITY_LOW, 10);
    world_run_until(world, NS_PER_S);
    cr_assert_eq(world->log_count, 0);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns);
    world_demand(world, 1, 3);
    world_run_until(world, 2 * NS_PER_S);
    cr_assert_eq(world->log_count, 3);
    world_demand(world, 1, 2);
    world_demand(world, 1, 0); // they went away
    world_run_until(world, 3 * NS_PER_S);
    cr_assert_eq(world->log_count, 3);
    world_demand(world, 1, 1);
    world_set_pull(world, 1, false); // another target: none of that holds
    world_run_until(world, 4 * NS_PER_S);
    cr_assert_eq(world->log_count, 10);
    world_set_pull(world, 1, true);
    world_ingest(world, 1, PRIORITY_LOW, 1);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns, "an old demand is forgotten");
    world_free(world);
}

// ---- turns ----

Test(engine_queues, queues_without_a_limit_take_turns_also_when_a_turn_is_short)
{
    static const char *const names[] = {"a", "b", "c"};
    struct world *world = world_new(1000000);
    const struct queue_settings settings = world_settings(0, 0, 1, 10000);
    for (size_t i = 0; i < COUNT(names); i++) {
        world_add_queue(world, names[i], &settings);
    }
    world_build(world);
    for (int64_t q = 1; q <= (int64_t)COUNT(names); q++) {
        world_ingest(world, q, PRIORITY_LOW, 100);
    }
    struct batch_key key;
    struct flight *flight;
    for (int turn = 0; turn < 30; turn++) {
        world->now = mono_add(world->now, NS_PER_MS);
        unsigned seen = 0;
        for (size_t i = 0; i < COUNT(names); i++) {
            cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
            seen |= 1u << key.queue;
        }
        cr_assert_eq(seen, 14, "turn %d: each of them once", turn);
    }
    world_free(world);
}

Test(engine_queues, one_without_a_limit_does_not_keep_others_waiting)
{
    struct world *world = world_new(1000000);
    const struct queue_settings unlimited = world_settings(0, 0, 1, 10000);
    const struct queue_settings limited = world_settings(10, NS_PER_S, 1, 10000);
    world_add_queue(world, "any", &unlimited);
    world_add_queue(world, "limited", &limited);
    world_build(world);
    world_ingest(world, 1, PRIORITY_HIGH, 5000);
    world_ingest(world, 2, PRIORITY_LOW, 5000);
    int64_t next_ns = 0;
    for (int turn = 0; turn < 2000; turn++) { // of 1 ms, with one dispatch each
        struct batch_key key;
        struct flight *flight;
        world->now = mono_add(world->now, NS_PER_MS);
        cr_assert_eq(engine_next(world->engine, world->now, world_wall(world), &key, &flight), ERR_OK);
        engine_started(world->engine, flight, world->now);
        if (key.queue == 2) {
            cr_assert_leq(world->now.ns, next_ns + 2 * NS_PER_MS, "at most a turn late");
            next_ns = engine_queue(world->engine, 2)->wake.key;
        }
    }
    cr_assert_geq(engine_queue(world->engine, 2)->figures.dispatched, 19);
    world_free(world);
}

// ---- coming and going ----

Test(engine_queues, only_an_empty_one_can_go)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), 100 * NS_PER_MS);
    struct fault fault;
    world->wall_offset_ms = 1000000;
    int64_t seq = world_ingest_timed(world, 1, PRIORITY_LOW, 1, 1000500, 0);
    cr_assert_eq(engine_check_empty(world->engine, 1, &fault), ERR_QUEUE_NOT_EMPTY, "not due");
    cr_assert_not_null(strstr(fault.detail, "1 batches wait, 0 are in flight"), "%s", fault.detail);
    world_cancel(world, seq);
    cr_assert_eq(engine_check_empty(world->engine, 1, &fault), ERR_OK);
    world_ingest(world, 1, PRIORITY_LOW, 1);
    cr_assert_eq(engine_check_empty(world->engine, 1, &fault), ERR_QUEUE_NOT_EMPTY, "waiting");
    world_turn(world);
    cr_assert_eq(engine_check_empty(world->engine, 1, &fault), ERR_QUEUE_NOT_EMPTY, "in flight");
    cr_assert_not_null(strstr(fault.detail, "0 batches wait, 1 are in flight"), "%s", fault.detail);
    world_run_until(world, NS_PER_S);
    cr_assert(world_remove_queue(world, 1));
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns);
    cr_assert_eq(engine_wake_wall_ms(world->engine), DUE_NEVER);
    world_free(world);
}

Test(engine_queues, a_queue_goes_out_of_every_list)
{
    static const char *const names[] = {"m", "a", "z", "b"};
    struct world *world = world_new(1000);
    const struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    world_build(world);
    for (size_t i = 0; i < COUNT(names); i++) {
        world_add_queue(world, names[i], &settings);
    }
    for (int64_t q = 1; q <= 4; q++) {
        world_ingest(world, q, PRIORITY_LOW, 1);
    }
    for (int64_t q = 1; q <= 4; q++) { // all changed and hungry, and empty
        window_reset(&engine_queue(world->engine, q)->windows[PRIORITY_LOW]);
        engine_touch(world->engine, engine_queue(world->engine, q));
        struct removal removal = model_cancel(&world->store, q);
        engine_removed(world->engine, &removal);
        engine_pause(world->engine, q, PAUSE_OFF);
    }
    cr_assert(world_remove_queue(world, 3));
    cr_assert(world_remove_queue(world, 1));
    cr_assert_eq(world_add_queue(world, "m", &settings), 5);
    int64_t queue;
    struct queue_figures figures;
    struct want want;
    unsigned changed = 0;
    while (engine_take_changed(world->engine, &queue, &figures)) {
        changed |= 1u << queue;
    }
    cr_assert_eq(changed, 1u << 2 | 1u << 4);
    cr_assert_not(engine_wants(world->engine, &want), "nothing waits any more");
    oracle_memory(world);
    world_free(world);
}

Test(engine_queues, what_was_cancelled_of_a_queue_that_is_gone_is_no_news)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), NS_PER_MS);
    world_cancel(world, world_ingest(world, 1, PRIORITY_LOW, 2));
    cr_assert(world_remove_queue(world, 1));
    world_cancel(world, 1);
    oracle_memory(world);
    world_free(world);
}

Test(engine_queues, idle_queues_cost_no_reads_and_all_share_the_budget)
{
    enum { QUEUES = 3000 };
    struct engine *engine = engine_new(UINT64_MAX, 0);
    char name[QUEUE_NAME_SIZE];
    struct want want;
    struct run runs[WANT_MAX];
    struct queue_load load = {
        .name = name, .settings = world_settings(0, 0, 1, 1), .due = {DUE_NEVER, DUE_NEVER, DUE_NEVER}};
    for (load.id = 1; load.id <= QUEUES; load.id++) {
        (void)snprintf(name, sizeof name, "queue-%lld", (long long)(load.id * 7919 % QUEUES));
        load.waiting[PRIORITY_MEDIUM] = load.id % 2 == 0 ? 1000000 : 0;
        ENSURE(engine_add_queue(engine, &load) == ERR_OK, "add");
        for (int reads = 0; engine_wants(engine, &want); reads++) {
            ENSURE(want.queue % 2 == 0 && want.priority == PRIORITY_MEDIUM, "idle: %lld",
                   (long long)want.queue);
            ENSURE(reads < 8, "it is given as much as it wants");
            for (size_t i = 0; i < want.count; i++) {
                runs[i] = (struct run){want.after_seq + 1 + (int64_t)i, 0, 1, 0};
            }
            ENSURE(engine_give_runs(engine, &want, runs, want.count) == ERR_OK, "give");
        }
    }
    size_t bytes = 0;
    for (size_t i = 0; i < engine->count; i++) {
        for (int p = 0; p < PRIORITIES; p++) {
            const struct window *window = &engine->queues[i]->windows[p];
            bytes += window->cap * sizeof(struct run);
            ENSURE(window->cap <= window_share(PRIORITIES * QUEUES), "one of %zu", window->cap);
        }
        ENSURE(i == 0 || strcmp(engine->by_name[i - 1]->name, engine->by_name[i]->name) < 0, "by name");
    }
    cr_assert_leq(bytes, WINDOWS_BUDGET);
    cr_assert_gt(bytes, WINDOWS_BUDGET / 16);
    engine_free(engine);
}

Test(engine_queues, ids_are_of_the_queue_s_kind)
{
    static const struct {
        enum ids_kind takes;
        enum ids_kind given;
        uint64_t largest;
        enum err err;
    } cases[] = {
        {IDS_INTEGER, IDS_INTEGER, 100, ERR_OK},
        {IDS_INTEGER, IDS_INTEGER, 101, ERR_ID_OUT_OF_RANGE},
        {IDS_INTEGER, IDS_STRING, 0, ERR_INVALID_FIELD},
        {IDS_STRING, IDS_INTEGER, 1, ERR_INVALID_FIELD},
        {IDS_STRING, IDS_STRING, 0, ERR_OK},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
        settings.ids = cases[i].takes;
        settings.max_id = 100;
        struct world *world = world_of(settings, 0);
        struct ingest_request request = {
            .queue = "default", .ids = {.kind = cases[i].given, .count = 1, .largest = cases[i].largest}};
        struct admission admission;
        struct fault fault = {.err = ERR_OK};
        cr_expect_eq(engine_admit(world->engine, &request, world->now, world_wall(world), &admission, &fault),
                     cases[i].err, "case %zu", i);
        cr_expect(cases[i].err == ERR_OK || strstr(fault.detail, "\"default\"") != NULL, "case %zu: %s", i,
                  fault.detail);
        world_free(world);
    }
}
