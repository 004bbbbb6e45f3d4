#include "tests/support/engine_log.h"
#include "tests/support/engine_world.h"

#include "scheduler/engine_state.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The queue as it is by default: 1/5s, one at a time, a linger of 100 ms.
static struct world *slow_world(void)
{
    struct world *world = world_new(1000000);
    struct queue_settings settings = world_settings(1, 5 * NS_PER_S, 1, 1);
    settings.linger_ns = 100 * NS_PER_MS;
    world->delivery_ns = 1500 * NS_PER_MS;
    world->now.ns = NS_PER_S;
    world_add_queue(world, "default", &settings);
    world_build(world);
    return world;
}

// ---- order ----

Test(engine, a_more_urgent_one_goes_next_though_another_is_half_done)
{
    struct world *world = slow_world();
    world_ingest(world, 1, PRIORITY_MEDIUM, 2);
    world_run_until(world, 2 * NS_PER_S);
    world_ingest(world, 1, PRIORITY_HIGH, 2);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {1100, 1, 0}, {6100, 2, 0}, {11100, 2, 1}, {16100, 1, 1});
    world_free(world);
}

Test(engine, within_the_linger_the_more_urgent_one_goes_first)
{
    struct world *world = slow_world();
    world_ingest(world, 1, PRIORITY_MEDIUM, 2);
    world_run_until(world, 1020 * NS_PER_MS);
    world_ingest(world, 1, PRIORITY_HIGH, 2);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {1100, 2, 0}, {6100, 2, 1}, {11100, 1, 0}, {16100, 1, 1});
    world_free(world);
}

Test(engine, lingers_on_an_idle_queue_only)
{
    struct world *world = slow_world();
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_run_until(world, 30 * NS_PER_S);
    world_ingest(world, 1, PRIORITY_LOW, 2); // idle again
    world_run_until(world, 35099 * NS_PER_MS);
    world_ingest(world, 1, PRIORITY_LOW, 1); // one waits: no linger
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {1100, 1, 0}, {30100, 2, 0}, {35100, 2, 1}, {40100, 3, 0});
    world_free(world);
}

Test(engine, by_priority_then_acceptance_then_index)
{
    static const enum priority arrivals[] = {PRIORITY_LOW,  PRIORITY_HIGH,   PRIORITY_MEDIUM,
                                             PRIORITY_HIGH, PRIORITY_MEDIUM, PRIORITY_LOW};
    static const int64_t order[] = {2, 4, 3, 5, 1, 6};
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), NS_PER_MS);
    for (size_t i = 0; i < COUNT(arrivals); i++) {
        world_ingest(world, 1, arrivals[i], 3);
    }
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 3 * COUNT(order));
    for (size_t i = 0; i < world->log_count; i++) {
        cr_assert_eq(world->log[i].key.place.seq, order[i / 3], "dispatch %zu", i);
        cr_assert_eq(world->log[i].key.place.index, i % 3, "dispatch %zu", i);
    }
    world_free(world);
}

Test(engine, a_backlog_beyond_the_window_keeps_its_order)
{
    struct world *world = world_of(world_settings(0, 0, 1, 8), NS_PER_MS);
    world->now.ns = NS_PER_S;
    for (int i = 0; i < 5000; i++) {
        world_ingest(world, 1, i % 2 == 0 ? PRIORITY_LOW : PRIORITY_MEDIUM, 1);
    }
    world_run_until(world, INT64_MAX); // the world checks each dispatch
    cr_assert_eq(world->log_count, 5000);
    world_free(world);
}

// ---- aging ----

static struct world *aging_world(int64_t aging_ns, int64_t age_offset_ns)
{
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    settings.aging_ns = aging_ns;
    struct world *world = world_new(1000000);
    world->age_offset_ns = age_offset_ns;
    world_add_queue(world, "default", &settings);
    world_build(world);
    return world;
}

Test(engine, what_waited_long_enough_counts_higher)
{
    static const int64_t offsets[] = {0, 1000 * NS_PER_S, -1000 * NS_PER_S}; // of the age clock: of no matter
    for (size_t i = 0; i < COUNT(offsets); i++) {
        struct world *world = aging_world(3 * NS_PER_S, offsets[i]);
        world_ingest(world, 1, PRIORITY_LOW, 3);
        world_ingest(world, 1, PRIORITY_MEDIUM, 1);
        world_run_until(world, 500 * NS_PER_MS);
        world_ingest(world, 1, PRIORITY_HIGH, 6);
        // At 3 s 2.0 counts as HIGH and was accepted before 3; at 6 s so does 1.0.
        world_run_until(world, INT64_MAX);
        CHECK_LOG(world, {0, 2, 0}, {1000, 3, 0}, {2000, 3, 1}, {3000, 3, 2}, {4000, 3, 3}, {5000, 3, 4},
                  {6000, 1, 0}, {7000, 1, 1}, {8000, 1, 2}, {9000, 3, 5});
        world_free(world);
    }
}

Test(engine, without_aging_nothing_gains)
{
    struct world *world = aging_world(0, 0);
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_ingest(world, 1, PRIORITY_HIGH, 4);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {0, 2, 0}, {1000, 2, 1}, {2000, 2, 2}, {3000, 2, 3}, {4000, 1, 0});
    world_free(world);
}

Test(engine, aging_can_be_set_and_unset)
{
    struct world *world = aging_world(0, 0);
    struct queue_settings settings = world_queue(world, 1)->settings;
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world_ingest(world, 1, PRIORITY_HIGH, 4);
    world_run_until(world, 1500 * NS_PER_MS);
    settings.aging_ns = NS_PER_S; // at 2 s it is HIGH
    world_change_queue(world, 1, &settings);
    world_run_until(world, 2500 * NS_PER_MS);
    settings.aging_ns = 0;
    world_change_queue(world, 1, &settings);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {0, 2, 0}, {1000, 2, 1}, {2000, 1, 0}, {3000, 2, 2}, {4000, 2, 3}, {5000, 1, 1},
              {6000, 1, 2});
    world_free(world);
}

// ---- concurrency, rate ----

Test(engine, no_more_in_flight_than_may_be)
{
    struct world *world = world_of(world_settings(0, 0, 1, 2), 10 * NS_PER_S);
    world_ingest(world, 1, PRIORITY_LOW, 5);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {0, 1, 0}, {0, 1, 1}, {10000, 1, 2}, {10000, 1, 3}, {20000, 1, 4});
    world_free(world);
}

static void first_is_late(struct world *world, struct world_running *running)
{
    running->late_ns = world->log_count == 0 ? 50 * NS_PER_MS : 0;
}

Test(engine, a_late_start_moves_what_follows)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), NS_PER_MS);
    world->script = first_is_late;
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {50, 1, 0}, {1050, 1, 1}, {2050, 1, 2});
    world_free(world);
}

static void first_two_are_late(struct world *world, struct world_running *running)
{
    running->late_ns = world->log_count < 2 ? 3 * NS_PER_S : 0;
}

Test(engine, late_starts_of_one_turn_move_what_follows_once)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 2, 4), NS_PER_MS);
    world->script = first_two_are_late;
    world_ingest(world, 1, PRIORITY_LOW, 4);
    world_run_until(world, INT64_MAX);
    CHECK_LOG(world, {3000, 1, 0}, {3000, 1, 1}, {4000, 1, 2}, {5000, 1, 3});
    world_free(world);
}

Test(engine, flights_stand_in_the_order_of_their_real_starts)
{
    struct world *world = world_of(world_settings(0, 0, 1, 3), NS_PER_S);
    world->script = first_is_late;
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world_turn(world);
    const struct flight *flight = engine_queue(world->engine, 1)->flights_head;
    cr_assert_eq(flight->place.index, 1);
    cr_assert_eq(flight->next->place.index, 2);
    cr_assert_eq(flight->next->next->place.index, 0);
    cr_assert_eq(engine_queue(world->engine, 1)->flights_tail, flight->next->next);
    world_run_until(world, INT64_MAX);
    world_free(world);
}

static void all_are_late(struct world *world, struct world_running *running)
{
    (void)world;
    running->late_ns = 4 * NS_PER_MS;
}

Test(engine, late_starts_within_the_burst_do_not_cost_rate)
{
    struct world *world = world_of(world_settings(1000, NS_PER_S, 10, 32), 2 * NS_PER_MS);
    world->script = all_are_late;
    world->now.ns = NS_PER_S;
    world_ingest(world, 1, PRIORITY_LOW, 3000);
    world_run_until(world, INT64_MAX);
    int64_t took_ns = world->log[2999].at.ns - NS_PER_S;
    cr_assert(took_ns < 3010 * NS_PER_MS && took_ns > 2980 * NS_PER_MS, "%lld ns", (long long)took_ns);
    world_free(world);
}

// ---- retries, holds ----

static void second_fails_once(struct world *world, struct world_running *running)
{
    (void)world;
    if (running->key.place.index == 1 && running->attempt == 1) {
        running->outcome.class = OUTCOME_RETRY;
    }
}

Test(engine, a_retry_is_skipped_until_it_is_due_and_then_takes_its_place)
{
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    settings.min_backoff_ns = settings.max_backoff_ns = 2 * NS_PER_S;
    struct world *world = world_of(settings, 100 * NS_PER_MS);
    world->script = second_fails_once;
    world_ingest(world, 1, PRIORITY_LOW, 6);
    world_run_until(world, INT64_MAX); // fails at 1100, due at 3100
    CHECK_LOG(world, {0, 1, 0}, {1000, 1, 1}, {2000, 1, 2}, {3000, 1, 3}, {4000, 1, 1}, {5000, 1, 4},
              {6000, 1, 5});
    world_free(world);
}

static void always_retry(struct world *world, struct world_running *running)
{
    (void)world;
    running->outcome.class = OUTCOME_RETRY;
}

Test(engine, max_attempts_are_made_and_no_more)
{
    struct world *world = world_of(world_settings(0, 0, 1, 1), NS_PER_MS);
    world->script = always_retry;
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 5);
    cr_assert_eq(world_batch(world, 1, 0)->state, BATCH_FAILED);
    for (size_t i = 1; i < 5; i++) {
        int64_t gap = mono_diff(world->log[i].at, world->log[i - 1].at) - NS_PER_MS;
        cr_assert(gap >= NS_PER_S && gap <= NS_PER_S << i, "backoff %zu: %lld ns", i, (long long)gap);
    }
    world_free(world);
}

Test(engine, an_attempt_that_was_cut_off_does_not_count)
{
    struct world *world = world_of(world_settings(0, 0, 1, 1), NS_PER_S);
    world->script = always_retry;
    world_ingest(world, 1, PRIORITY_LOW, 1);
    for (int i = 0; i < 3; i++) {
        world_turn(world);
        world_crash(world);
    }
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 3 + 5);
    cr_assert_eq(world_batch(world, 1, 0)->state, BATCH_FAILED);
    world_free(world);
}

static void fail_for_good(struct world *world, struct world_running *running)
{
    (void)world;
    running->outcome.class = OUTCOME_FAILED;
}

Test(engine, what_fails_for_good_is_not_tried_again)
{
    struct world *world = world_of(world_settings(0, 0, 1, 1), NS_PER_MS);
    world->script = fail_for_good;
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 1);
    cr_assert_eq(world_batch(world, 1, 0)->state, BATCH_FAILED);
    cr_assert_eq(world->store.queues[0].figures.failed, 1);
    cr_assert_eq(world->store.queues[0].figures.completed, 0);
    world_free(world);
}

static void hold_ten_times(struct world *world, struct world_running *running)
{
    if (world->log_count < 10) {
        running->outcome.class = OUTCOME_HOLD;
        running->outcome.hold_ns = world->log_count == 0 ? 30 * NS_PER_S : INT64_MAX;
    }
}

Test(engine, a_hold_stops_the_whole_queue_and_uses_up_no_attempt)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), 500 * NS_PER_MS);
    world->script = hold_ten_times;
    world_ingest(world, 1, PRIORITY_LOW, 2);
    world_run_until(world, NS_PER_S);
    world_ingest(world, 1, PRIORITY_HIGH, 1); // held as well, and first afterwards
    world_run_until(world, 31 * NS_PER_S);
    CHECK_LOG(world, {0, 1, 0}, {30500, 2, 0});
    world_run_until(world, INT64_MAX); // 60 s is max_hold
    cr_assert_eq(world->log_count, 13);
    for (size_t i = 2; i < 11; i++) {
        cr_assert_eq(mono_diff(world->log[i].at, world->log[i - 1].at), 60 * NS_PER_S + 500 * NS_PER_MS);
    }
    cr_assert_eq(world_batch(world, 2, 0)->attempts, 10);
    cr_assert_eq(world_batch(world, 2, 0)->excused, 9);
    cr_assert_eq(world_batch(world, 2, 0)->state, BATCH_COMPLETED);
    world_free(world);
}

// ---- accepting ----

static enum err admit(struct world *world, const char *queue, uint32_t ids, struct admission *admission,
                      struct fault *fault)
{
    struct ingest_request request = {.priority = PRIORITY_LOW, .ids = {.count = ids, .largest = ids}};
    (void)snprintf(request.queue, sizeof request.queue, "%s", queue);
    return engine_admit(world->engine, &request, world->now, world_wall(world), admission, fault);
}

Test(engine, admits_up_to_max_waiting_and_gives_back_what_was_declined)
{
    struct world *world = world_new(10);
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    world_add_queue(world, "default", &settings);
    world_build(world);
    struct admission a, b, c;
    cr_assert_eq(admit(world, "default", 16, &a, NULL), ERR_OK); // 6 batches
    cr_assert_eq(a.batches, 6);
    cr_assert_not(a.only_replay);
    cr_assert_eq(admit(world, "default", 15, &b, NULL), ERR_OK);
    cr_assert(b.only_replay, "5 more would be 11");
    cr_assert_eq(admit(world, "default", 12, &c, NULL), ERR_OK);
    cr_assert_not(c.only_replay, "what has no room takes none from others");
    engine_declined(world->engine, &b);
    engine_declined(world->engine, &c);
    cr_assert_eq(engine_accepted(world->engine, &a, 1, world->now), ERR_OK);
    cr_assert_eq(admit(world, "default", 12, &c, NULL), ERR_OK);
    cr_assert_not(c.only_replay);
    engine_declined(world->engine, &c);
    cr_assert_eq(admit(world, "default", 13, &c, NULL), ERR_OK);
    cr_assert(c.only_replay);
    world_free(world);
}

Test(engine, room_comes_back_with_each_dispatch)
{
    struct world *world = world_new(4);
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    world_add_queue(world, "default", &settings);
    world_build(world);
    cr_assert_gt(world_ingest(world, 1, PRIORITY_LOW, 4), 0);
    cr_assert_eq(world_ingest(world, 1, PRIORITY_HIGH, 1), 0);
    world_turn(world);
    cr_assert_gt(world_ingest(world, 1, PRIORITY_HIGH, 1), 0);
    cr_assert_eq(world_ingest(world, 1, PRIORITY_HIGH, 1), 0);
    world_free(world);
}

Test(engine, refuses_by_queue_and_by_max_id)
{
    struct world *world = world_new(10);
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    settings.max_id = 2;
    world_add_queue(world, "default", &settings);
    settings.max_id = 4;
    world_add_queue(world, "a", &settings);
    world_build(world);
    static const struct {
        const char *queue;
        uint32_t ids; // the largest ID is as large
        enum err err;
        const char *detail; // is in it
    } cases[] = {
        {"default", 2, ERR_OK, ""},
        {"default", 3, ERR_ID_OUT_OF_RANGE, "3 is over 2"},
        {"a", 4, ERR_OK, ""},
        {"a", 5, ERR_ID_OUT_OF_RANGE, "\"a\""},
        {"b", 1, ERR_UNKNOWN_QUEUE, "\"b\""},
        {"", 1, ERR_UNKNOWN_QUEUE, ""},
        {"defaul", 1, ERR_UNKNOWN_QUEUE, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct admission admission;
        struct fault fault = {.err = ERR_OK};
        cr_assert_eq(admit(world, cases[i].queue, cases[i].ids, &admission, &fault), cases[i].err, "case %zu",
                     i);
        cr_assert_not_null(strstr(fault.detail, cases[i].detail), "case %zu: %s", i, fault.detail);
        if (cases[i].err == ERR_OK) {
            engine_declined(world->engine, &admission);
        }
    }
    world_free(world);
}

// ---- waking ----

Test(engine, wakes_exactly_when_there_is_something_to_do)
{
    struct world *world = slow_world();
    world_turn(world);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns, "idle");
    world_ingest(world, 1, PRIORITY_LOW, 2);
    cr_assert_eq(engine_wake(world->engine).ns, 1100 * NS_PER_MS, "the linger");
    world_run_until(world, 1100 * NS_PER_MS);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns, "it waits for the delivery to end");
    world_run_until(world, 2600 * NS_PER_MS);
    cr_assert_eq(engine_wake(world->engine).ns, 6100 * NS_PER_MS, "the rate");
    world_run_until(world, 7600 * NS_PER_MS);
    cr_assert_eq(engine_wake(world->engine).ns, MONO_NEVER.ns, "all is done");
    world_free(world);
}
