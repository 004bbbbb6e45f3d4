// What the engine says of the future, against the future.
#include "tests/support/engine_world.h"

#include "scheduler/order.h"
#include "scheduler/rate.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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

Test(outlook, positions_and_etas_are_what_then_happens)
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

// Puts a waiting batch into backoff, as if it had failed before.
static void put_off(struct world *world, int64_t seq, uint32_t index, int64_t due_ns)
{
    struct world_ingestion *ingestion = &world->store.ingestions[seq - 1];
    world->store.batches[ingestion->first + index] =
        (struct world_batch){.state = BATCH_BACKOFF, .due = {due_ns}, .attempts = 1};
    ingestion->ready--;
}

Test(outlook, the_eta_of_retries_counts_what_goes_before_them)
{
    static const struct {
        uint32_t ahead;   // batches of an earlier ingestion that wait
        uint32_t retries; // all due at the same moment
        int64_t due_ns;
        int64_t slots; // taken after `from_ns` when the last one starts
        int64_t from_ns;
    } cases[] = {
        {0, 1, 10 * NS_PER_S, 0, 10 * NS_PER_S},
        {0, 7, 10 * NS_PER_S, 6, 10 * NS_PER_S},
        {20, 1, NS_PER_S, 20, 0},
        {20, 3, NS_PER_S, 22, 0},
        {20, 1, 500 * NS_PER_S, 0, 500 * NS_PER_S},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *world = world_of(world_settings(1, 5 * NS_PER_S, 1, 1), NS_PER_S);
        if (cases[i].ahead > 0) {
            world_ingest(world, 1, PRIORITY_LOW, cases[i].ahead);
        }
        int64_t seq = world_ingest(world, 1, PRIORITY_LOW, cases[i].retries);
        for (uint32_t index = 0; index < cases[i].retries; index++) {
            put_off(world, seq, index, cases[i].due_ns);
        }
        world_build(world);
        struct want want;
        cr_assert(engine_wants(world->engine, &want));
        struct backoff_row rows[8];
        for (uint32_t index = 0; index < cases[i].retries; index++) {
            rows[index] = (struct backoff_row){{1, {PRIORITY_LOW, seq, index}}, {cases[i].due_ns}};
        }
        cr_assert_eq(engine_give_backoff(world->engine, &want, rows, cases[i].retries), ERR_OK);
        struct standing standing = world_standing(world, seq);
        struct outlook outlook = engine_outlook(world->engine, &standing, world->now);
        cr_assert_not(outlook.has_position);
        cr_assert_eq(outlook.eta.ns, cases[i].from_ns + cases[i].slots * 5 * NS_PER_S + NS_PER_S,
                     "case %zu: %lld", i, (long long)outlook.eta.ns);
        world_run_until(world, INT64_MAX);
        cr_assert_eq(last_end(world, seq).ns, outlook.eta.ns, "case %zu: and so it happens", i);
        world_free(world);
    }
}

Test(outlook, nothing_to_say_about_what_is_done_or_unknown)
{
    struct world *world = world_of(world_settings(1, NS_PER_S, 1, 1), NS_PER_MS);
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
