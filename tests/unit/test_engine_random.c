// The engine through random traffic, late starts, crashes, failed commits and rebuilds.
#include "tests/support/engine_world.h"

#include "scheduler/rate.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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

Test(engine_random, random_traffic_crashes_and_failures)
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
