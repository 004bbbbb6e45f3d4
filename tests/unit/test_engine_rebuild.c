// An engine that is built anew from the store goes on as if nothing had happened.
#include "tests/support/engine_world.h"

#include "scheduler/order.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void second_fails_once(struct world *world, struct world_running *running)
{
    (void)world;
    if (running->key.place.index == 1 && running->attempt == 1) {
        running->outcome.class = OUTCOME_RETRY;
    }
}

Test(engine_rebuild, a_retry_in_the_store_wakes_a_rebuilt_engine)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), 100 * NS_PER_MS);
    world->script = second_fails_once;
    world_ingest(world, 1, PRIORITY_LOW, 2);
    world_run_until(world, 1200 * NS_PER_MS);
    cr_assert_eq(world_batch(world, 1, 1)->state, BATCH_BACKOFF);
    struct mono wake = engine_wake(world->engine);
    cr_assert_gt(wake.ns, world->now.ns);
    world_build(world);
    cr_assert_eq(engine_wake(world->engine).ns, wake.ns);
    world_run_until(world, INT64_MAX);
    cr_assert_eq(world->log_count, 3);
    world_free(world);
}

Test(engine_rebuild, after_a_rebuild_a_retry_that_is_due_goes_first)
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
        running->outcome.class = OUTCOME_RETRY;
        running->outcome.down = kind % 3 != 0;
        running->outcome.has_delay = kind % 10 == 0;
    } else if (kind % 17 == 0) {
        running->outcome.class = OUTCOME_HOLD;
        running->outcome.hold_ns = 700 * NS_PER_MS;
    } else if (kind % 7 == 0) {
        running->late_ns = 20 * NS_PER_MS;
    }
}

static struct world *mixed_world(int rebuild_every, int fail_every)
{
    struct queue_settings settings = world_settings(7, NS_PER_S, 3, 2);
    settings.min_backoff_ns = settings.max_backoff_ns = NS_PER_S;
    settings.breaker = 2;
    settings.aging_ns = 3 * NS_PER_S;
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

Test(engine_rebuild, a_rebuild_from_the_store_changes_nothing)
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
