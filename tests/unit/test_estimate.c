#include "scheduler/estimate.h"

#include "scheduler/rate.h"
#include "tests/support/engine_check.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STARTS 1000
#define ROUNDING_NS 16 // where an interval has a fraction, a nanosecond is rounded up now and then

// One queue, played forward dispatch by dispatch.
struct queue {
    struct bucket bucket;
    struct rate rate;
    uint32_t burst;
    uint32_t concurrency;
    int64_t delivery_ns;
    struct mono ends[STARTS]; // of all deliveries ever started, ascending
    size_t count;
};

// The earliest moment, not before `from`, at which both the rate and a free place allow a dispatch; it is
// taken.
static struct mono start_next(struct queue *queue, struct mono from)
{
    struct mono at = mono_max(from, bucket_opens(&queue->bucket, queue->rate, queue->burst));
    if (queue->count >= queue->concurrency) {
        at = mono_max(at, queue->ends[queue->count - queue->concurrency]);
    }
    (void)bucket_take(&queue->bucket, queue->rate, at);
    ENSURE(queue->count < STARTS, "no room");
    queue->ends[queue->count++] = mono_add(at, queue->delivery_ns);
    return at;
}

static struct queue random_queue(struct random *random)
{
    static const struct rate rates[] = {
        {1, 5 * NS_PER_S}, {3, NS_PER_S}, {7, NS_PER_S}, {100, NS_PER_S}, {1000, NS_PER_S}, {0, 0},
    };
    struct queue queue = {.rate = rates[random_below(random, COUNT(rates))],
                          .burst = (uint32_t)(1 + random_below(random, 6)),
                          .concurrency = (uint32_t)(1 + random_below(random, 7))};
    int64_t interval = queue.rate.count > 0 ? rate_interval(queue.rate) : NS_PER_S;
    queue.delivery_ns = (int64_t)random_below(random, 12 * (uint64_t)interval);
    if (random_below(random, 8) == 0) {
        queue.delivery_ns = 0;
    }
    return queue;
}

// Some time passes, with dispatches here and there.
static struct mono live(struct queue *queue, struct random *random)
{
    uint64_t pause = queue->rate.count > 0 ? (uint64_t)rate_interval(queue->rate) : 1;
    struct mono now = {0};
    for (uint64_t past = random_below(random, 12); past > 0; past--) {
        now = start_next(queue, mono_add(now, (int64_t)random_below(random, 1 + pause)));
    }
    return mono_add(now, (int64_t)random_below(random, 1 + 2 * pause));
}

static struct estimate estimate_of(const struct queue *queue, struct mono now, struct mono from,
                                   struct mono *ends)
{
    struct estimate estimate = {.bucket = queue->bucket,
                                .rate = queue->rate,
                                .burst = queue->burst,
                                .concurrency = queue->concurrency,
                                .delivery_ns = queue->delivery_ns,
                                .from = from,
                                .ends = ends};
    for (size_t i = 0; i < queue->count; i++) {
        if (mono_before(now, queue->ends[i])) {
            ends[estimate.in_flight++] = queue->ends[i];
        }
    }
    estimate_begin(&estimate);
    return estimate;
}

// Lets the estimate and the queue go on for so many dispatches; they may differ by tolerance_ns.
static void check_starts(const struct estimate *estimate, struct queue *queue, struct mono from,
                         uint64_t count, int64_t tolerance_ns, const struct random *random)
{
    struct mono before = from;
    for (uint64_t nth = 1; nth <= count; nth++) {
        struct mono truth = start_next(queue, from);
        struct mono guess = estimate_start(estimate, nth);
        int64_t off_ns = mono_diff(guess, truth);
        ENSURE(off_ns <= tolerance_ns && off_ns >= -tolerance_ns, "seed %llu: start %llu at %lld, not %lld",
               (unsigned long long)random->seed, (unsigned long long)nth, (long long)truth.ns,
               (long long)guess.ns);
        ENSURE(!mono_before(guess, before), "seed %llu: start %llu is before the one before it",
               (unsigned long long)random->seed, (unsigned long long)nth);
        before = guess;
    }
}

Test(estimate, equals_a_queue_that_is_played_forward)
{
    struct random random = random_from(31);
    static struct mono ends[ESTIMATE_LANES];
    for (int round = 0; round < 3000; round++) {
        struct queue queue = random_queue(&random);
        struct mono now = live(&queue, &random);
        struct mono from = now;
        if (random_below(&random, 3) == 0) {
            from = mono_add(now, (int64_t)random_below(&random, 4 * (uint64_t)NS_PER_S)); // held
        }
        struct estimate estimate = estimate_of(&queue, now, from, ends);
        check_starts(&estimate, &queue, from, 60, ROUNDING_NS, &random);
    }
}

Test(estimate, goes_on_after_times_with_nothing_to_dispatch)
{
    struct random random = random_from(32);
    static struct mono ends[ESTIMATE_LANES];
    for (int round = 0; round < 3000; round++) {
        struct queue queue = random_queue(&random);
        struct mono now = live(&queue, &random);
        struct estimate estimate = estimate_of(&queue, now, now, ends);
        uint64_t pause = 1 + 3 * (uint64_t)rate_interval(queue.rate);
        struct mono from = now;
        for (int64_t gap = 1; gap <= 8; gap++) {
            uint64_t taken = random_below(&random, 20);
            struct estimate same = estimate;
            check_starts(&same, &queue, from, taken, ROUNDING_NS, &random);
            struct mono last = taken > 0 ? mono_add(queue.ends[queue.count - 1], -queue.delivery_ns) : from;
            from = mono_add(last, 1 + ROUNDING_NS + (int64_t)random_below(&random, pause));
            estimate_resume(&estimate, taken, from);
        }
        check_starts(&estimate, &queue, from, 40, ROUNDING_NS, &random);
    }
}

Test(estimate, deliveries_that_began_at_another_rate)
{
    struct random random = random_from(33);
    static struct mono ends[ESTIMATE_LANES];
    for (int round = 0; round < 3000; round++) {
        struct queue queue = random_queue(&random);
        struct mono now = live(&queue, &random);
        queue.rate = (struct rate){1 + random_below(&random, 9), NS_PER_S};
        queue.bucket = bucket_empty(queue.rate, queue.burst, now);
        struct estimate estimate = estimate_of(&queue, now, now, ends);
        check_starts(&estimate, &queue, now, 60, rate_interval(queue.rate), &random);
    }
}

Test(estimate, a_probe_goes_alone)
{
    struct random random = random_from(34);
    static struct mono ends[ESTIMATE_LANES];
    for (int round = 0; round < 1000; round++) {
        struct queue queue = random_queue(&random);
        struct mono now = mono_add(live(&queue, &random), queue.delivery_ns);
        struct estimate estimate = {.bucket = queue.bucket,
                                    .rate = queue.rate,
                                    .burst = queue.burst,
                                    .concurrency = queue.concurrency,
                                    .delivery_ns = queue.delivery_ns,
                                    .from = now,
                                    .ends = ends,
                                    .probing = true};
        estimate_begin(&estimate);
        if (random_below(&random, 2) == 0) { // nothing to probe with until then
            now = mono_add(now, (int64_t)random_below(&random, 10 * (uint64_t)NS_PER_S));
            estimate_resume(&estimate, 0, now);
        }
        struct mono probe = start_next(&queue, now);
        ENSURE(estimate_start(&estimate, 1).ns == probe.ns, "seed %llu", (unsigned long long)random.seed);
        struct mono done = queue.ends[queue.count - 1];
        struct queue after = queue;
        for (uint64_t nth = 2; nth < 20; nth++) {
            ENSURE(estimate_start(&estimate, nth).ns == start_next(&after, done).ns, "seed %llu, start %llu",
                   (unsigned long long)random.seed, (unsigned long long)nth);
        }
        done = mono_add(done, (int64_t)random_below(&random, (uint64_t)NS_PER_S));
        estimate_resume(&estimate, 1, done);
        check_starts(&estimate, &queue, done, 20, ROUNDING_NS, &random);
    }
}

Test(estimate, counts_the_starts_before_a_moment)
{
    struct random random = random_from(35);
    static struct mono ends[ESTIMATE_LANES];
    for (int round = 0; round < 1000; round++) {
        struct queue queue = random_queue(&random);
        struct mono now = live(&queue, &random);
        struct estimate estimate = estimate_of(&queue, now, now, ends);
        uint64_t limit = random_below(&random, 100);
        struct mono before = mono_add(now, (int64_t)random_below(&random, 10 * (uint64_t)NS_PER_S));
        if (random_below(&random, 2) == 0) {
            before = estimate_start(&estimate, 1 + random_below(&random, 100)); // on a slot
        }
        uint64_t truth = 0;
        while (truth < limit && mono_before(estimate_start(&estimate, truth + 1), before)) {
            truth++;
        }
        uint64_t count = estimate_count(&estimate, before, random_below(&random, truth + 1), limit);
        ENSURE(count == truth, "seed %llu: %llu, not %llu", (unsigned long long)random.seed,
               (unsigned long long)count, (unsigned long long)truth);
    }
}

Test(estimate, known_cases)
{
    static const struct mono in_flight[] = {{2 * NS_PER_S}, {3 * NS_PER_S}, {4 * NS_PER_S}};
    static const struct {
        const char *what;
        struct estimate estimate;
        uint64_t n;
        int64_t start_ns;
    } cases[] = {
        {"the rate alone",
         {.rate = {1, 5 * NS_PER_S}, .burst = 1, .concurrency = 1, .delivery_ns = NS_PER_S},
         1000000001,
         5000000000 * NS_PER_S},
        {"the deliveries alone",
         {.burst = 1, .concurrency = 4, .delivery_ns = NS_PER_S},
         4000000001,
         1000000000 * NS_PER_S},
        {"one is in flight",
         {.burst = 1, .concurrency = 1, .delivery_ns = 10 * NS_PER_S, .in_flight = 1},
         2,
         12 * NS_PER_S},
        {"a free place goes first",
         {.burst = 1, .concurrency = 3, .delivery_ns = 10 * NS_PER_S, .in_flight = 2},
         3,
         3 * NS_PER_S},
        {"more in flight than may be",
         {.burst = 1, .concurrency = 2, .delivery_ns = 10 * NS_PER_S, .in_flight = 3},
         1,
         3 * NS_PER_S},
        {"nothing before a hold ends",
         {.burst = 1, .concurrency = 2, .delivery_ns = NS_PER_S, .from = {77}},
         2,
         77},
        {"further than a clock counts",
         {.burst = 1, .concurrency = 1, .delivery_ns = INT64_MAX / 2},
         4,
         INT64_MAX},
        {"rounds past 63 bits", {.burst = 1, .concurrency = 1, .delivery_ns = 3}, UINT64_MAX, INT64_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct estimate estimate = cases[i].estimate;
        struct mono ends[COUNT(in_flight)];
        memcpy(ends, in_flight, sizeof ends);
        estimate.ends = ends;
        estimate_begin(&estimate);
        cr_expect_eq(estimate_start(&estimate, cases[i].n).ns, cases[i].start_ns, "%s", cases[i].what);
    }
}
