#include "scheduler/rate.h"

#include "tests/support/engine_check.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

__extension__ typedef __int128 wide;

static const struct rate rates[] = {
    {1, 5 * NS_PER_S},    {3, NS_PER_S},           {7, 60 * NS_PER_S}, {100, NS_PER_S},
    {1000, NS_PER_S},     {5000, 60 * NS_PER_S},   {1, NS_PER_MS},     {999983, NS_PER_S},
    {1, 3600 * NS_PER_S}, {1000000000, NS_PER_MS}, {13, 17000000},
};

// n intervals after 0, rounded up.
static int64_t nth_slot(struct rate rate, uint64_t n)
{
    return (int64_t)(((wide)n * rate.per_ns + (wide)rate.count - 1) / (wide)rate.count);
}

Test(rate, defaults_that_follow_from_it)
{
    static const struct {
        struct rate rate;
        uint32_t burst;
        int64_t interval_ns;
        int64_t linger_ns;
    } cases[] = {
        {{1, 5 * NS_PER_S}, 1, 5 * NS_PER_S, 100 * NS_PER_MS},
        {{1, 6 * NS_PER_S}, 1, 6 * NS_PER_S, 100 * NS_PER_MS},
        {{1, 4 * NS_PER_S}, 1, 4 * NS_PER_S, 80 * NS_PER_MS},
        {{100, NS_PER_S}, 1, 10 * NS_PER_MS, 200 * NS_PER_US},
        {{199, NS_PER_S}, 1, 5025126, 100502},
        {{200, NS_PER_S}, 2, 5 * NS_PER_MS, 100 * NS_PER_US},
        {{1000, NS_PER_S}, 10, NS_PER_MS, 20 * NS_PER_US},
        {{5000, 60 * NS_PER_S}, 1, 12 * NS_PER_MS, 240 * NS_PER_US},
        {{3, NS_PER_S}, 1, 333333334, 6666666},
        {{1000000000, NS_PER_MS}, UINT32_MAX, 1, 0},
        {{0, 0}, 1, 0, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t burst = rate_burst(cases[i].rate, 0);
        cr_expect_eq(burst, cases[i].burst, "case %zu: burst %u", i, burst);
        cr_expect_eq(rate_interval(cases[i].rate), cases[i].interval_ns, "case %zu: interval", i);
        cr_expect_eq(rate_linger(cases[i].rate, -1), cases[i].linger_ns, "case %zu: linger", i);
        cr_expect_eq(rate_burst(cases[i].rate, 7), 7, "case %zu: as it was set", i);
        cr_expect_eq(rate_linger(cases[i].rate, 0), 0, "case %zu: none, as it was set", i);
        cr_expect_eq(rate_linger(cases[i].rate, NS_PER_S), NS_PER_S, "case %zu: as it was set", i);
    }
}

// Each slot is where n * per / count says it is, however many came before.
Test(rate, slots_do_not_drift_when_taken_one_by_one)
{
    for (size_t i = 0; i < COUNT(rates); i++) {
        struct bucket bucket = {{0}, 0};
        for (uint64_t n = 0; n < 300000; n++) {
            struct mono slot = bucket_opens(&bucket, rates[i], 1);
            ENSURE(slot.ns == nth_slot(rates[i], n), "rate %zu, slot %llu", i, (unsigned long long)n);
            struct mono filled = bucket_take(&bucket, rates[i], slot);
            ENSURE(filled.ns == slot.ns, "rate %zu, slot %llu", i, (unsigned long long)n);
        }
    }
}

// The state is exact, so it can be set to where a billion takes lead, and go on from there.
Test(rate, slots_do_not_drift_after_a_billion)
{
    static const uint64_t starts[] = {1000000, 1000000000, 1000000007, UINT64_C(250000000000)};
    for (size_t i = 0; i < COUNT(rates); i++) {
        for (size_t j = 0; j < COUNT(starts); j++) {
            wide units = (wide)starts[j] * rates[i].per_ns;
            if (units / (wide)rates[i].count > INT64_MAX / 2) {
                continue; // centuries away
            }
            const struct bucket first = {{0}, 0};
            struct mono nth = bucket_nth(&first, rates[i], 1, (struct mono){0}, starts[j] + 1);
            cr_assert_eq(nth.ns, nth_slot(rates[i], starts[j]), "rate %zu, %llu", i,
                         (unsigned long long)starts[j]);
            struct bucket bucket = {{(int64_t)(units / (wide)rates[i].count)},
                                    (uint64_t)(units % (wide)rates[i].count)};
            for (uint64_t n = starts[j]; n < starts[j] + 10000; n++) {
                struct mono slot = bucket_opens(&bucket, rates[i], 1);
                ENSURE(slot.ns == nth_slot(rates[i], n), "rate %zu, slot %llu", i, (unsigned long long)n);
                (void)bucket_take(&bucket, rates[i], slot);
            }
        }
    }
}

// A timer that wakes late, and what became due meanwhile is taken at once: the rate is used in full.
Test(rate, lateness_within_the_burst_costs_nothing)
{
    struct random random = random_from(1);
    const struct rate rate = {1000, NS_PER_S};
    const uint32_t burst = 10;
    struct bucket bucket = {{0}, 0};
    struct mono now = {0};
    for (int n = 0; n < 100000; n++) {
        struct mono opens = bucket_opens(&bucket, rate, burst);
        if (mono_before(now, opens)) {
            now = mono_add(opens, (int64_t)random_below(&random, (uint64_t)(9 * NS_PER_MS)));
        }
        (void)bucket_take(&bucket, rate, now);
    }
    cr_assert_eq(bucket.tat.ns, 100000 * NS_PER_MS);
}

// `burst + rate * T` for every window that starts and ends with a take; a moment is a whole nanosecond, so a
// window may have lost less than one.
static void check_windows(const int64_t *at, size_t n, struct rate rate, uint32_t burst, uint64_t seed)
{
    wide slack = rate.per_ns % (int64_t)rate.count == 0 ? 0 : (wide)rate.count - 1;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; j < n; j++) {
            wide over = ((wide)(j - i + 1) - (wide)burst) * rate.per_ns;
            ENSURE(over <= (wide)(at[j] - at[i]) * (wide)rate.count + slack,
                   "seed %llu: %zu takes in %lld ns at %llu/%lld, burst %u", (unsigned long long)seed,
                   j - i + 1, (long long)(at[j] - at[i]), (unsigned long long)rate.count,
                   (long long)rate.per_ns, burst);
        }
    }
}

Test(rate, no_window_holds_more_than_burst_and_rate)
{
    struct random random = random_from(2);
    for (int round = 0; round < 300; round++) {
        struct rate rate = rates[random_below(&random, COUNT(rates))];
        uint32_t burst = (uint32_t)(1 + random_below(&random, random_below(&random, 2) == 0 ? 3 : 40));
        struct bucket bucket = {{0}, 0};
        struct mono now = {0};
        int64_t at[200];
        for (size_t n = 0; n < COUNT(at); n++) {
            now = mono_max(now, bucket_opens(&bucket, rate, burst));
            if (random_below(&random, 3) == 0) {
                int64_t most = rate_interval(rate) * (random_below(&random, 8) == 0 ? 2 * (int64_t)burst : 1);
                now = mono_add(now, (int64_t)random_below(&random, (uint64_t)most + 1));
            }
            at[n] = now.ns;
            (void)bucket_take(&bucket, rate, now);
        }
        check_windows(at, COUNT(at), rate, burst, random.seed);
    }
}

Test(rate, with_burst_1_no_gap_is_under_the_interval)
{
    struct random random = random_from(3);
    for (size_t i = 0; i < COUNT(rates); i++) {
        struct bucket bucket = {{0}, 0};
        struct mono last = {INT64_MIN};
        for (int n = 0; n < 10000; n++) {
            struct mono now = bucket_opens(&bucket, rates[i], 1);
            if (random_below(&random, 2) == 0) {
                now = mono_add(now, (int64_t)random_below(&random, (uint64_t)rate_interval(rates[i])));
            }
            ENSURE(mono_diff(now, last) >= rates[i].per_ns / (int64_t)rates[i].count, "seed %llu, rate %zu",
                   (unsigned long long)random.seed, i);
            (void)bucket_take(&bucket, rates[i], now);
            last = now;
        }
    }
}

Test(rate, a_full_bucket_gives_its_burst_at_once)
{
    const struct rate rate = {10, NS_PER_S};
    struct bucket bucket = {{0}, 0};
    const struct mono now = {50 * NS_PER_S};
    for (int n = 0; n < 4; n++) {
        cr_assert_leq(bucket_opens(&bucket, rate, 4).ns, now.ns);
        struct mono slot = bucket_take(&bucket, rate, now);
        cr_assert_eq(slot.ns, now.ns + n * 100 * NS_PER_MS, "each has its own slot");
    }
    cr_assert_eq(bucket_opens(&bucket, rate, 4).ns, now.ns + 100 * NS_PER_MS);
}

Test(rate, an_empty_bucket_waits_an_interval_and_has_no_burst)
{
    const struct mono now = {7 * NS_PER_S};
    static const uint32_t bursts[] = {1, 2, 10};
    for (size_t i = 0; i < COUNT(bursts); i++) {
        const struct rate rate = {3, NS_PER_S};
        struct bucket bucket = bucket_empty(rate, bursts[i], now);
        for (uint64_t n = 1; n <= 9; n++) {
            struct mono slot = bucket_opens(&bucket, rate, bursts[i]);
            cr_assert_eq(slot.ns, now.ns + nth_slot(rate, n), "burst %u, slot %d", bursts[i], (int)n);
            (void)bucket_take(&bucket, rate, slot);
        }
    }
}

Test(rate, a_shift_moves_all_that_is_to_come)
{
    const struct rate rate = {3, NS_PER_S};
    for (uint32_t burst = 1; burst < 5; burst++) {
        struct bucket bucket = {{NS_PER_S}, 2};
        struct bucket moved = bucket;
        bucket_shift(&moved, 12345);
        for (uint64_t n = 1; n < 20; n++) {
            cr_assert_eq(bucket_nth(&moved, rate, burst, (struct mono){0}, n).ns,
                         bucket_nth(&bucket, rate, burst, (struct mono){-12345}, n).ns + 12345);
        }
    }
}

Test(rate, the_nth_is_what_taking_one_by_one_gives)
{
    struct random random = random_from(4);
    for (int round = 0; round < 2000; round++) {
        struct rate rate = rates[random_below(&random, COUNT(rates))];
        uint32_t burst = (uint32_t)(1 + random_below(&random, 12));
        int64_t span = rate_interval(rate) * 20;
        struct bucket bucket = {{(int64_t)random_below(&random, (uint64_t)span)},
                                random_below(&random, rate.count)};
        struct mono from = {(int64_t)random_below(&random, (uint64_t)span)};
        if (random_below(&random, 4) == 0) {
            from = mono_add(bucket.tat, (int64_t)random_below(&random, 3)); // on the edge
        }
        const struct bucket start = bucket;
        struct mono now = from;
        for (uint64_t n = 1; n <= 40; n++) {
            now = mono_max(now, bucket_opens(&bucket, rate, burst));
            ENSURE(bucket_nth(&start, rate, burst, from, n).ns == now.ns, "seed %llu, round %d, n %llu",
                   (unsigned long long)random.seed, round, (unsigned long long)n);
            (void)bucket_take(&bucket, rate, now);
        }
    }
}

Test(rate, unlimited_is_always_open)
{
    const struct rate rate = {0, 0};
    const struct mono now = {NS_PER_S};
    struct bucket bucket = bucket_empty(rate, 1, now);
    for (int n = 0; n < 3; n++) {
        cr_assert_leq(bucket_opens(&bucket, rate, 1).ns, now.ns);
        (void)bucket_take(&bucket, rate, now);
    }
    cr_assert_eq(bucket_nth(&bucket, rate, 1, now, UINT64_MAX).ns, now.ns);
}

Test(rate, what_is_too_far_away_is_never)
{
    const struct rate rate = {1, 366 * 86400 * NS_PER_S};
    struct bucket bucket = {{0}, 0};
    cr_assert_eq(bucket_nth(&bucket, rate, 1, (struct mono){0}, UINT64_MAX).ns, MONO_NEVER.ns);
    bucket = bucket_empty(rate, UINT32_MAX, (struct mono){0});
    cr_assert_eq(bucket.tat.ns, MONO_NEVER.ns);
    bucket_shift(&bucket, NS_PER_S);
    cr_assert_eq(bucket.tat.ns, MONO_NEVER.ns);
}
