#include "scheduler/retry.h"

#include "common/clock.h"
#include "tests/support/engine_check.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(retry, from_the_minimum_to_a_ceiling_that_doubles)
{
    static const struct {
        int64_t min_ns;
        int64_t max_ns;
        uint32_t attempt;
        int64_t ceiling_ns;
    } cases[] = {
        {NS_PER_S, 300 * NS_PER_S, 1, 2 * NS_PER_S},
        {NS_PER_S, 300 * NS_PER_S, 2, 4 * NS_PER_S},
        {NS_PER_S, 300 * NS_PER_S, 8, 256 * NS_PER_S},
        {NS_PER_S, 300 * NS_PER_S, 9, 300 * NS_PER_S},
        {NS_PER_S, 300 * NS_PER_S, UINT32_MAX, 300 * NS_PER_S},
        {NS_PER_S, NS_PER_S, 5, NS_PER_S},
        {NS_PER_S, 300 * NS_PER_S, 0, NS_PER_S},
        {NS_PER_S, NS_PER_MS, 5, NS_PER_S}, // the minimum wins
        {0, 0, UINT32_MAX, 0},
        {0, NS_PER_S, 5, 0},
        {1, INT64_MAX, 62, INT64_C(1) << 62},
        {1, INT64_MAX, 63, INT64_MAX},
        {1, INT64_MAX, 64, INT64_MAX},
        {3, INT64_MAX - 1, 1000, INT64_MAX - 1},
        {INT64_MAX / 2 + 1, INT64_MAX, 1, INT64_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t min = cases[i].min_ns;
        int64_t max = cases[i].max_ns;
        uint32_t attempt = cases[i].attempt;
        uint64_t span = (uint64_t)(cases[i].ceiling_ns - min);
        cr_expect_eq(retry_interval(min, max, attempt), cases[i].ceiling_ns, "case %zu: interval", i);
        cr_expect_eq(retry_delay(min, max, attempt, 0), min, "case %zu: lower end", i);
        cr_expect_eq(retry_delay(min, max, attempt, span), cases[i].ceiling_ns, "case %zu: upper end", i);
        cr_expect_eq(retry_delay(min, max, attempt, span + 1), min, "case %zu: nothing beyond it", i);
    }
}

Test(retry, every_delay_of_the_range_comes_up_about_equally_often)
{
    enum { DRAWS = 80000, VALUES = 16 };
    struct random random = random_from(1);
    int seen[VALUES] = {0};
    for (int i = 0; i < DRAWS; i++) {
        int64_t delay = retry_delay(5, 20, 7, random_next(&random));
        ENSURE(delay >= 5 && delay <= 20, "seed %llu: %lld", (unsigned long long)random.seed,
               (long long)delay);
        seen[delay - 5]++;
    }
    for (int i = 0; i < VALUES; i++) {
        cr_assert(seen[i] > DRAWS / VALUES * 9 / 10 && seen[i] < DRAWS / VALUES * 11 / 10,
                  "seed %llu: %d came up %d times", (unsigned long long)random.seed, i + 5, seen[i]);
    }
}
