#include "tests/support/engine_world.h"

#include "scheduler/order.h"
#include "scheduler/rate.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The queue: 1/5s, one at a time, a linger of 100 ms.
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

static struct world *world_of(struct queue_settings settings, int64_t delivery_ns)
{
    struct world *world = world_new(1000000);
    world->delivery_ns = delivery_ns;
    world_add_queue(world, "default", &settings);
    world_build(world);
    return world;
}

struct start {
    int64_t ms;
    int64_t seq;
    uint32_t index;
};
static void check_log(const struct world *world, const struct start *starts, size_t count)
{
    cr_assert_eq(world->log_count, count, "%zu dispatches", world->log_count);
    for (size_t i = 0; i < count; i++) {
        const struct world_start *got = &world->log[i];
        cr_assert(got->at.ns == starts[i].ms * NS_PER_MS && got->key.place.seq == starts[i].seq &&
                      got->key.place.index == starts[i].index,
                  "dispatch %zu: %lld.%u at %lld ms", i, (long long)got->key.place.seq, got->key.place.index,
                  (long long)(got->at.ns / NS_PER_MS));
    }
}
#define CHECK_LOG(world, ...)                                                                                \
    do {                                                                                                     \
        static const struct start starts[] = {__VA_ARGS__};                                                  \
        check_log(world, starts, COUNT(starts));                                                             \
    } while (0)

// ---- order ------------------------------------------------------------------------------------------------

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

// ---- concurrency, rate ------------------------------------------------------------------------------------

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

// ---- retries, holds ---------------------------------------------------------------------------------------

static void second_fails_once(struct world *world, struct world_running *running)
{
    (void)world;
    if (running->key.place.index == 1 && running->attempt == 1) {
        running->class = OUTCOME_RETRY;
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
    running->class = OUTCOME_RETRY;
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
    running->class = OUTCOME_FAILED;
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
        running->class = OUTCOME_HOLD;
        running->hold_ns = world->log_count == 0 ? 30 * NS_PER_S : INT64_MAX;
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

// ---- accepting --------------------------------------------------------------------------------------------

static enum err admit(struct world *world, const char *queue, uint32_t ids, struct admission *admission,
                      struct fault *fault)
{
    struct ingest_request request = {.priority = PRIORITY_LOW, .ids = {.count = ids, .largest = ids}};
    (void)snprintf(request.queue, sizeof request.queue, "%s", queue);
    return engine_admit(world->engine, &request, admission, fault);
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

// ---- waking, rebuilding -----------------------------------------------------------------------------------

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

Test(engine, a_retry_in_the_store_wakes_a_rebuilt_engine)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), 100 * NS_PER_MS);
    world->script = second_fails_once;
    world_ingest(world, 1, PRIORITY_LOW, 2);
    world_run_until(world, 1200 * NS_PER_MS);
    cr_assert_eq(world_batch(world, 1, 1)->state, BATCH_BACKOFF);
    struct mono wake = engine_wake(world->engine);
    world_build(world);
    cr_assert_leq(engine_wake(world->engine).ns, world->now.ns, "it has to look what there is");
    world_turn(world);
    cr_assert_eq(engine_wake(world->engine).ns, wake.ns);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 3);
    world_free(world);
}

Test(engine, after_a_rebuild_a_retry_that_is_due_goes_first)
{
    struct queue_settings settings = world_settings(1, NS_PER_S, 1, 1);
    settings.min_backoff_ns = settings.max_backoff_ns = 500 * NS_PER_MS;
    struct world *world = world_of(settings, 100 * NS_PER_MS);
    world->script = second_fails_once;
    world_ingest(world, 1, PRIORITY_LOW, 3);
    world_run_until(world, 1200 * NS_PER_MS);
    world->now.ns = 10 * NS_PER_S;
    world_build(world);
    world_turn(world);
    cr_assert_eq(world->log[2].key.place.index, 1);
    world_free(world);
}

static void mixed(struct world *world, struct world_running *running)
{
    // By the batch and not by chance, so that both runs of a test see the same.
    (void)world;
    uint32_t kind = (uint32_t)running->key.place.seq * 7 + running->key.place.index * 3 + running->attempt;
    running->took_ns = NS_PER_MS * (int64_t)(50 + kind % 400);
    if (kind % 5 == 0) {
        running->class = OUTCOME_RETRY;
    } else if (kind % 17 == 0) {
        running->class = OUTCOME_HOLD;
        running->hold_ns = 700 * NS_PER_MS;
    } else if (kind % 7 == 0) {
        running->late_ns = 20 * NS_PER_MS;
    }
}

static struct world *mixed_world(int rebuild_every, int fail_every)
{
    struct queue_settings settings = world_settings(7, NS_PER_S, 3, 2);
    settings.min_backoff_ns = settings.max_backoff_ns = NS_PER_S;
    struct world *world = world_of(settings, 0);
    world->script = mixed;
    for (int i = 0; i < 60; i++) {
        world_ingest(world, 1, (enum priority)(i % PRIORITIES), (uint32_t)(1 + i % 5));
    }
    for (int turn = 1; world->running_count > 0 || world_next(world).ns != MONO_NEVER.ns; turn++) {
        world->now = mono_max(world->now, world_next(world));
        if (rebuild_every > 0 && turn % rebuild_every == 0) {
            world_build(world);
        }
        if (fail_every > 0 && turn % fail_every == 0) {
            world_failing_turn(world);
        }
        world_turn(world);
    }
    return world;
}

Test(engine, a_rebuild_from_the_store_changes_nothing)
{
    static const struct {
        int rebuild_every;
        int fail_every;
    } cases[] = {{1, 0}, {3, 0}, {0, 1}, {0, 4}, {5, 3}};
    struct world *plain = mixed_world(0, 0);
    cr_assert_gt(plain->log_count, 180);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *other = mixed_world(cases[i].rebuild_every, cases[i].fail_every);
        cr_assert_eq(other->log_count, plain->log_count, "case %zu", i);
        for (size_t j = 0; j < plain->log_count; j++) {
            const struct world_start *a = &plain->log[j];
            const struct world_start *b = &other->log[j];
            ENSURE(a->at.ns == b->at.ns && place_compare(&a->key.place, &b->key.place) == 0,
                   "case %zu, dispatch %zu", i, j);
        }
        world_free(other);
    }
    world_free(plain);
}
// ---- position, eta ----------------------------------------------------------------------------------------

static void fails_while_young(struct world *world, struct world_running *running)
{
    uint64_t share = mono_before(world->now, (struct mono){20 * NS_PER_S}) ? 30 : 0;
    if (random_below(&world->random, 100) < share) {
        running->class = OUTCOME_RETRY;
    }
}

// How many dispatches of its queue the log has since `from` up to this batch's.
static uint64_t dispatched_before(const struct world *world, size_t from, const struct place *place)
{
    uint64_t n = 0;
    while (place_compare(&world->log[from + n].key.place, place) != 0) {
        n++;
        ENSURE(from + n < world->log_count, "it was never dispatched");
    }
    return n;
}

static struct mono last_end(const struct world *world, int64_t seq)
{
    struct mono end = {0};
    for (size_t i = 0; i < world->log_count; i++) {
        if (world->log[i].key.place.seq == seq) {
            end = mono_max(end, mono_add(world->log[i].at, world->delivery_ns));
        }
    }
    return end;
}

// Asks about every ingestion at a random moment, when all that may fail has; then lets it all happen.
static void check_outlooks(struct world *world)
{
    struct random *random = &world->random;
    size_t count = 10 + random_below(random, 30);
    struct standing standings[40];
    struct outlook outlooks[40];
    for (size_t i = 0; i < count; i++) {
        world_ingest(world, 1, (enum priority)random_below(random, PRIORITIES),
                     (uint32_t)(1 + random_below(random, 6)));
        world_run_until(world, world->now.ns + (int64_t)random_below(random, (uint64_t)NS_PER_S));
    }
    world_run_until(world, (int64_t)(24 + random_below(random, 10)) * NS_PER_S);
    for (size_t i = 0; i < count; i++) {
        standings[i] = world_standing(world, (int64_t)i + 1);
        outlooks[i] = engine_outlook(world->engine, &standings[i], world->now);
    }
    bool retries = false;
    for (size_t i = 0; i < world->store.batch_count; i++) {
        retries |= world->store.batches[i].state == BATCH_BACKOFF;
    }
    size_t from = world->log_count;
    world_run_until(world, INT64_MAX);
    // Exact while nothing waits for a retry; else off by where it falls between the slots and the deliveries.
    int64_t interval_ns = rate_interval(world->store.queues[0].settings.rate);
    int64_t tolerance_ns = interval_ns > world->delivery_ns ? interval_ns : world->delivery_ns;
    tolerance_ns = retries ? tolerance_ns : 0;
    for (size_t i = 0; i < count; i++) {
        unsigned long long seed = world->random.seed;
        const struct standing *s = &standings[i];
        ENSURE(outlooks[i].has_position == s->waiting, "seed %llu, ingestion %zu", seed, i);
        ENSURE(outlooks[i].has_eta == (s->waiting || s->underway), "seed %llu, ingestion %zu", seed, i);
        if (s->waiting) {
            uint64_t truth = dispatched_before(world, from, &s->first);
            ENSURE(outlooks[i].position == truth, "seed %llu, ingestion %zu: position %llu, not %llu", seed,
                   i, (unsigned long long)outlooks[i].position, (unsigned long long)truth);
        }
        if (outlooks[i].has_eta) {
            int64_t off_ns = mono_diff(outlooks[i].eta, last_end(world, s->seq));
            ENSURE(off_ns <= tolerance_ns && off_ns >= -tolerance_ns,
                   "seed %llu, ingestion %zu: eta off by %lld of %lld ns", seed, i, (long long)off_ns,
                   (long long)tolerance_ns);
        }
    }
}

Test(engine, positions_and_etas_are_what_then_happens)
{
    static const struct rate rates[] = {{1, 5 * NS_PER_S}, {1, NS_PER_S}, {3, NS_PER_S}, {20, NS_PER_S}};
    struct random random = random_from(51);
    for (int round = 0; round < 200; round++) {
        struct rate rate = rates[random_below(&random, COUNT(rates))];
        struct queue_settings settings = world_settings(rate.count, rate.per_ns, 1, 1);
        settings.concurrency = (uint32_t)(1 + random_below(&random, 3));
        settings.min_backoff_ns = NS_PER_S;
        settings.max_backoff_ns = 20 * NS_PER_S;
        settings.max_attempts = 1000;
        struct world *world = world_of(settings, (int64_t)(1 + random_below(&random, 3000)) * NS_PER_MS);
        world->script = fails_while_young;
        world->random = (struct random){random.seed, random_next(&random)};
        check_outlooks(world);
        world_free(world);
    }
}

Test(engine, nothing_to_say_about_what_is_done_or_unknown)
{
    struct world *world = slow_world();
    world_ingest(world, 1, PRIORITY_LOW, 1);
    world_run_until(world, INT64_MAX);
    struct standing standing = world_standing(world, 1);
    struct outlook outlook = engine_outlook(world->engine, &standing, world->now);
    cr_assert_not(outlook.has_position);
    cr_assert_not(outlook.has_eta);
    standing = (struct standing){.queue = 77, .waiting = true};
    outlook = engine_outlook(world->engine, &standing, world->now);
    cr_assert_not(outlook.has_eta);
    world_free(world);
}

// ---- all of it, at random ---------------------------------------------------------------------------------

static void random_outcomes(struct world *world, struct world_running *running)
{
    struct random *random = &world->random;
    uint64_t dice = random_below(random, 100);
    running->took_ns = (int64_t)random_below(random, 60) * NS_PER_MS;
    if (dice < 12) {
        running->class = OUTCOME_RETRY;
    } else if (dice < 13) {
        running->class = OUTCOME_HOLD;
        running->hold_ns = (int64_t)random_below(random, 400) * NS_PER_MS;
    }
    if (random_below(random, 10) == 0) {
        running->late_ns = (int64_t)(3 + random_below(random, 40)) * NS_PER_MS;
    }
}

static int compare_moments(const void *a, const void *b)
{
    int64_t p = *(const int64_t *)a;
    int64_t q = *(const int64_t *)b;
    return (p > q) - (p < q);
}

// At most burst + rate * T starts in any window, whatever happened in between.
static void check_rate(const struct world *world, const struct queue_row *queue)
{
    static int64_t at[WORLD_LOG];
    size_t n = 0;
    for (size_t i = 0; i < world->log_count; i++) {
        if (world->log[i].key.queue == queue->id) {
            at[n++] = world->log[i].at.ns;
        }
    }
    qsort(at, n, sizeof at[0], compare_moments);
    // (j - i + 1 - burst) * per <= (at[j] - at[i]) * count for all i < j, with each side's own terms put
    // together.
    int64_t per = queue->settings.rate.per_ns;
    int64_t allowed = ((int64_t)queue->settings.burst - 1) * per + (int64_t)queue->settings.rate.count - 1;
    int64_t ahead = INT64_MIN / 2;
    for (size_t i = 0; i < n && per > 0; i++) {
        int64_t gained = at[i] * (int64_t)queue->settings.rate.count - (int64_t)i * per;
        ENSURE(gained + allowed >= ahead, "seed %llu: start %zu of %s is too early",
               (unsigned long long)world->random.seed, i, queue->name);
        ahead = gained > ahead ? gained : ahead;
    }
}

static void random_step(struct world *world, uint64_t ingest_share)
{
    uint64_t dice = random_below(&world->random, 1000);
    if (dice < ingest_share) {
        world_ingest(world, (int64_t)(1 + random_below(&world->random, 3)),
                     (enum priority)random_below(&world->random, PRIORITIES),
                     (uint32_t)(1 + random_below(&world->random, 7)));
    } else if (dice < 975) {
        struct mono next = world_next(world);
        if (next.ns != MONO_NEVER.ns) {
            world_run_until(world, mono_max(next, world->now).ns);
        }
    } else if (dice < 985) {
        world_build(world);
    } else if (dice < 995) {
        world_failing_turn(world);
    } else {
        world_crash(world);
    }
}

Test(engine, random_traffic_crashes_and_failures)
{
    static const struct {
        int steps;
        uint64_t ingest_share; // of 1000
    } phases[] = {{6000, 800}, {6000, 100}, {4000, 300}, {4000, 50}};
    struct world *world = world_new(100000);
    struct queue_settings settings[] = {world_settings(50, NS_PER_S, 1, 2),
                                        world_settings(300, NS_PER_S, 4, 8), world_settings(0, 0, 1, 3)};
    static const char *const names[] = {"default", "fast", "any"};
    for (size_t i = 0; i < COUNT(settings); i++) {
        settings[i].linger_ns = rate_default_linger(settings[i].rate);
        settings[i].max_attempts = 1000;
        settings[i].min_backoff_ns = 100 * NS_PER_MS;
        settings[i].max_backoff_ns = 3 * NS_PER_S;
        world_add_queue(world, names[i], &settings[i]);
    }
    world->script = random_outcomes;
    world->random = random_from(61);
    world_build(world);
    world_turn(world);
    for (size_t p = 0; p < COUNT(phases); p++) {
        for (int step = 0; step < phases[p].steps; step++) {
            random_step(world, phases[p].ingest_share);
        }
    }
    world_run_until(world, INT64_MAX);
    for (size_t i = 0; i < world->store.batch_count; i++) {
        ENSURE(world->store.batches[i].state == BATCH_COMPLETED, "seed %llu: batch %zu is in state %d",
               (unsigned long long)world->random.seed, i, world->store.batches[i].state);
    }
    cr_assert_eq(world->running_count, 0);
    cr_assert_gt(world->store.ingestion_count, 4000);
    uint64_t completed = 0;
    for (size_t i = 0; i < COUNT(settings); i++) {
        check_rate(world, &world->store.queues[i]);
        completed += world->store.queues[i].figures.completed;
    }
    cr_assert_eq(completed, world->store.batch_count, "each was completed once");
    world_free(world);
}
