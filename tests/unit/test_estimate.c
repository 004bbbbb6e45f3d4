#include "scheduler/estimate.h"

#include "scheduler/rate.h"
#include "tests/support/engine_check.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STARTS 400

// One queue, played forward dispatch by dispatch. ends[] of all deliveries ever started, ascending because
// each takes the same time.
struct queue {
    struct bucket bucket;
    struct rate rate;
    uint32_t burst;
    uint32_t concurrency;
    int64_t delivery_ns;
    struct mono ends[STARTS];
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

Test(estimate, equals_a_queue_that_is_played_forward)
{
    struct random random = random_from(31);
    for (int round = 0; round < 3000; round++) {
        struct queue queue = random_queue(&random);
        uint64_t pause = queue.rate.count > 0 ? (uint64_t)rate_interval(queue.rate) : 1;
        struct mono now = {0};
        for (uint64_t past = random_below(&random, 12); past > 0; past--) {
            now = start_next(&queue, mono_add(now, (int64_t)random_below(&random, 1 + pause)));
        }
        now = mono_add(now, (int64_t)random_below(&random, 1 + 2 * pause));
        struct mono in_flight[STARTS];
        size_t n = 0;
        for (size_t i = 0; i < queue.count; i++) {
            if (mono_before(now, queue.ends[i])) {
                in_flight[n++] = queue.ends[i];
            }
        }
        struct mono from = now;
        if (random_below(&random, 3) == 0) {
            from = mono_add(now, (int64_t)random_below(&random, 4 * pause)); // held
        }
        const struct estimate estimate = {.bucket = queue.bucket,
                                          .rate = queue.rate,
                                          .burst = queue.burst,
                                          .concurrency = queue.concurrency,
                                          .delivery_ns = queue.delivery_ns,
                                          .from = from,
                                          .ends = in_flight,
                                          .in_flight = n};
        for (uint64_t nth = 1; nth <= 60; nth++) {
            struct mono truth = start_next(&queue, from);
            struct mono guess = estimate_start(&estimate, nth);
            ENSURE(guess.ns == truth.ns, "seed %llu, round %d: start %llu at %lld, not %lld",
                   (unsigned long long)random.seed, round, (unsigned long long)nth, (long long)truth.ns,
                   (long long)guess.ns);
        }
    }
}

Test(estimate, known_cases)
{
    static const struct mono ends[] = {{2 * NS_PER_S}, {3 * NS_PER_S}, {4 * NS_PER_S}};
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
         {.burst = 1, .concurrency = 1, .delivery_ns = 10 * NS_PER_S, .ends = ends, .in_flight = 1},
         2,
         12 * NS_PER_S},
        {"a free place goes first",
         {.burst = 1, .concurrency = 3, .delivery_ns = 10 * NS_PER_S, .ends = ends, .in_flight = 2},
         3,
         3 * NS_PER_S},
        {"more in flight than may be",
         {.burst = 1, .concurrency = 2, .delivery_ns = 10 * NS_PER_S, .ends = ends, .in_flight = 3},
         1,
         3 * NS_PER_S},
        {"nothing before a hold ends",
         {.burst = 1, .concurrency = 2, .delivery_ns = NS_PER_S, .from = {77}, .ends = NULL},
         2,
         77},
        {"further than a clock counts",
         {.burst = 1, .concurrency = 1, .delivery_ns = INT64_MAX / 2},
         4,
         INT64_MAX},
        {"rounds past 63 bits", {.burst = 1, .concurrency = 1, .delivery_ns = 3}, UINT64_MAX, INT64_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect_eq(estimate_start(&cases[i].estimate, cases[i].n).ns, cases[i].start_ns, "%s",
                     cases[i].what);
    }
}
