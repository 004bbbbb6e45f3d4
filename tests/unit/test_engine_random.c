// The engine through random traffic on queues that come, change and go: pauses, cancels, retries by hand,
// dates, clocks that are set, holds, outages, late starts, crashes, failed commits and rebuilds.
#include "tests/support/engine_oracle.h"
#include "tests/support/engine_world.h"

#include "scheduler/rate.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIVE_QUEUES 7 // at a time

static bool outage[WORLD_QUEUES]; // their targets are down

static uint64_t below(struct world *world, uint64_t n)
{
    return random_below(&world->random, n);
}

static void random_outcome(struct world *world, struct world_running *running)
{
    uint64_t dice = below(world, 1000);
    struct outcome *outcome = &running->outcome;
    running->took_ns = (int64_t)below(world, 60) * NS_PER_MS;
    if (outage[running->key.queue - 1]) {
        outcome->class = OUTCOME_RETRY;
        outcome->down = true;
    } else if (dice < 100) {
        outcome->class = OUTCOME_RETRY;
        outcome->down = dice < 50;
        outcome->has_delay = dice % 4 == 0;
        outcome->delay_ns = dice % 8 == 0 ? 0 : (int64_t)below(world, 2000) * NS_PER_MS;
    } else if (dice < 112) {
        outcome->class = OUTCOME_HOLD;
        outcome->hold_ns = (int64_t)below(world, 400) * NS_PER_MS;
        outcome->held_by = HOLD_RETRY_AFTER;
    } else if (dice < 120) {
        outcome->hold_ns = (int64_t)below(world, 100) * NS_PER_MS;
        outcome->held_by = HOLD_RATE_LIMIT;
    } else if (dice < 140) {
        outcome->class = OUTCOME_FAILED;
    }
    if (below(world, 10) == 0) {
        running->late_ns = (int64_t)(3 + below(world, 40)) * NS_PER_MS;
    }
}

static struct queue_settings random_settings(struct world *world)
{
    static const struct rate rates[] = {{50, NS_PER_S},   {300, NS_PER_S}, {0, 0},
                                        {1000, NS_PER_S}, {7, NS_PER_S},   {3, 100 * NS_PER_MS}};
    struct rate rate = rates[below(world, COUNT(rates))];
    struct queue_settings settings =
        world_settings(rate.count, rate.per_ns, (uint32_t)below(world, 5), (uint32_t)(1 + below(world, 8)));
    settings.linger_ns = (int64_t)below(world, 3) * 5 * NS_PER_MS - 1; // -1: the default
    settings.max_attempts = (uint32_t)(1 + below(world, 6));
    settings.min_backoff_ns = 100 * NS_PER_MS;
    settings.max_backoff_ns = 3 * NS_PER_S;
    settings.max_hold_ns = (int64_t)below(world, 3) * 150 * NS_PER_MS;
    settings.breaker = (uint32_t)below(world, 5);
    settings.aging_ns = below(world, 2) == 0 ? 0 : (int64_t)(1 + below(world, 20)) * 100 * NS_PER_MS;
    return settings;
}

// One that is there.
static int64_t some_queue(struct world *world)
{
    for (;;) {
        int64_t id = 1 + (int64_t)below(world, world->store.queue_count);
        if (world_queue(world, id)->there) {
            return id;
        }
    }
}

// A recent one mostly.
static int64_t some_ingestion(struct world *world)
{
    uint64_t count = world->store.ingestion_count;
    uint64_t back = below(world, 4) == 0 ? below(world, count) : below(world, count < 50 ? count : 50);
    return (int64_t)(count - back);
}

static void ingest(struct world *world)
{
    int64_t wall_ms = world_wall(world).ms;
    int64_t not_before_ms = below(world, 8) == 0 ? wall_ms + (int64_t)below(world, 4000) - 500 : 0;
    int64_t deadline_ms = below(world, 8) == 0 ? wall_ms + 1 + (int64_t)below(world, 5000) : 0;
    world_ingest_timed(world, some_queue(world), (enum priority)below(world, PRIORITIES),
                       (uint32_t)(1 + below(world, 7)), not_before_ms, deadline_ms);
}

static void make_queue(struct world *world)
{
    char name[QUEUE_NAME_SIZE];
    size_t there = 0;
    for (size_t i = 0; i < world->store.queue_count; i++) {
        there += world->store.queues[i].there;
    }
    if (there < LIVE_QUEUES && world->store.queue_count < WORLD_QUEUES) {
        // Names in no order, and used again.
        (void)snprintf(name, sizeof name, "q%llu-%zu", (unsigned long long)below(world, 3),
                       world->store.queue_count % LIVE_QUEUES);
        for (size_t i = 0; i < world->store.queue_count; i++) {
            if (world->store.queues[i].there && strcmp(world->store.queues[i].name, name) == 0) {
                return;
            }
        }
        struct queue_settings settings = random_settings(world);
        world_add_queue(world, name, &settings);
    }
}

static void operate_on_queue(struct world *world)
{
    int64_t id = some_queue(world);
    struct queue_settings settings = random_settings(world);
    switch (below(world, 8)) {
    case 0:
        make_queue(world);
        break;
    case 1:
        for (int64_t other = 2; other <= (int64_t)world->store.queue_count; other++) {
            if (world_queue(world, other)->there && world_remove_queue(world, other)) {
                break;
            }
        }
        break;
    case 2:
        world_pause(world, id, PAUSE_ON);
        break;
    case 3:
    case 4:
        world_pause(world, some_queue(world), PAUSE_OFF);
        world_pause(world, id, PAUSE_OFF);
        break;
    case 5:
        outage[id - 1] = !outage[id - 1];
        break;
    case 6:
        world_set_pull(world, id, !world_queue(world, id)->traits.pull);
        break;
    default:
        if (world->change_count < WORLD_CHANGES) {
            world_change_queue(world, id, &settings);
        }
        break;
    }
}

static void operate(struct world *world)
{
    switch (below(world, 10)) {
    case 0:
    case 1:
    case 2:
        operate_on_queue(world);
        break;
    case 3:
        world_cancel(world, some_ingestion(world));
        break;
    case 4:
        world_retry(world, some_ingestion(world));
        break;
    case 5:
        if (below(world, 10) == 0) {
            world->wall_offset_ms += (int64_t)below(world, 20000) - 10000;
        }
        break;
    case 6:
        world->due_limit = below(world, 3);
        break;
    default:
        for (size_t i = 0; i < world->store.queue_count; i++) {
            if (world->store.queues[i].there && world->store.queues[i].traits.pull) {
                world_demand(world, (int64_t)i + 1, (uint32_t)below(world, 9));
            }
        }
        break;
    }
}

// The step the world was built for: it goes on to when something happens next, and not further than a second.
static void go_on(struct world *world)
{
    struct mono next = world_next(world);
    struct mono most = mono_add(world->now, NS_PER_S);
    if (next.ns != MONO_NEVER.ns) {
        world_run_until(world, mono_min(mono_max(next, world->now), most).ns);
    }
}

static void random_step(struct world *world, uint64_t ingest_share)
{
    uint64_t dice = below(world, 1000);
    if (dice < ingest_share) {
        ingest(world);
    } else if (dice < ingest_share + 60) {
        operate(world);
    } else if (dice < 985) {
        go_on(world);
    } else if (dice < 990) {
        world_build(world);
    } else if (dice < 997) {
        world_failing_turn(world);
    } else {
        world_crash(world);
    }
}

// Everything that keeps batches from going comes to an end.
static void let_go(struct world *world)
{
    world->due_limit = 0;
    for (size_t i = 0; i < world->store.queue_count; i++) {
        outage[i] = false;
        if (world->store.queues[i].there) {
            world_pause(world, (int64_t)i + 1, PAUSE_OFF);
            world_set_pull(world, (int64_t)i + 1, false);
        }
    }
    world_run_until(world, INT64_MAX);
}

static uint64_t count_state(const struct world *world, enum batch_state state)
{
    uint64_t n = 0;
    for (size_t i = 0; i < world->store.batch_count; i++) {
        n += world->store.batches[i].state == state;
    }
    return n;
}

static void check_end(struct world *world)
{
    uint64_t completed = 0;
    uint64_t failed = 0;
    uint64_t dispatched = 0;
    for (size_t i = 0; i < world->store.queue_count; i++) {
        oracle_rate(world, (int64_t)i + 1);
        completed += world->store.queues[i].figures.completed;
        failed += world->store.queues[i].figures.failed;
        dispatched += world->store.queues[i].figures.dispatched;
    }
    cr_assert_eq(completed, count_state(world, BATCH_COMPLETED), "each was completed once");
    cr_assert_geq(failed, count_state(world, BATCH_FAILED));
    cr_assert_eq(dispatched, world->log_count);
    cr_assert_eq(count_state(world, BATCH_COMPLETED) + count_state(world, BATCH_FAILED) +
                     count_state(world, BATCH_CANCELLED),
                 world->store.batch_count, "nothing is left");
    cr_assert_eq(world->running_count, 0);
    cr_assert_gt(world->store.ingestion_count, 4000);
    cr_assert_gt(world->log_count, 10000);
    for (enum batch_state state = BATCH_COMPLETED; state <= BATCH_CANCELLED; state++) {
        cr_assert_gt(count_state(world, state), 100, "state %d", (int)state);
    }
}

Test(engine_random, random_traffic_crashes_and_failures)
{
    static const struct {
        int steps;
        uint64_t ingest_share; // of 1000
    } phases[] = {{6000, 700}, {6000, 100}, {4000, 300}, {6000, 50}};
    struct world *world = world_new(30000);
    struct queue_settings settings = world_settings(50, NS_PER_S, 1, 2);
    world->script = random_outcome;
    world->random = random_from(61);
    world->wall_offset_ms = 1700000000000;
    world->age_offset_ns = 5 * NS_PER_S;
    world_add_queue(world, "default", &settings);
    world_build(world);
    world_turn(world);
    for (size_t p = 0; p < COUNT(phases); p++) {
        for (int step = 0; step < phases[p].steps; step++) {
            random_step(world, phases[p].ingest_share);
            if (step % 64 == 0) {
                oracle_memory(world);
            }
        }
    }
    let_go(world);
    oracle_memory(world);
    check_end(world);
    world_free(world);
}
