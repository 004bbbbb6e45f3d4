#include "scheduler/estimate.h"

#include "scheduler/rate.h"

static struct mono by_rate(const struct estimate *e, uint64_t n)
{
    return bucket_nth(&e->bucket, e->rate, e->burst, e->from, n);
}

static struct mono after_rounds(const struct estimate *e, struct mono start, uint64_t rounds)
{
    int64_t wait;
    if (__builtin_mul_overflow(rounds, e->delivery_ns, &wait)) {
        return MONO_NEVER;
    }
    return mono_add(start, wait);
}

struct mono estimate_start(const struct estimate *e, uint64_t n)
{
    uint64_t lane = (n - 1) % e->concurrency; // the deliveries take turns on `concurrency` lanes
    uint64_t rounds = (n - 1) / e->concurrency;
    struct mono start = mono_max(by_rate(e, n), after_rounds(e, by_rate(e, lane + 1), rounds));

    // The lanes that are free now come first, then those in flight in the order they end.
    size_t busy = e->in_flight < e->concurrency ? e->in_flight : e->concurrency;
    size_t idle = e->concurrency - busy;
    if (lane >= idle) {
        struct mono freed = e->ends[e->in_flight - busy + (lane - idle)];
        start = mono_max(start, after_rounds(e, freed, rounds));
    }
    return start;
}
