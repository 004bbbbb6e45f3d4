#include "scheduler/meter.h"

#include <criterion/criterion.h>
#include <math.h>

static void check(const struct meter *meter, int64_t ns, double expected)
{
    double rate = meter_rate(meter, (struct mono){ns});
    cr_assert(fabs(rate - expected) < 1e-6 * (expected + 1), "%f at %lld, not %f", rate, (long long)ns,
              expected);
}

// So many a second, evenly, from the beginning of second `from` to that of second `to`.
static void dispatch(struct meter *meter, int64_t from, int64_t to, int64_t rate)
{
    for (int64_t n = from * rate; n < to * rate; n++) {
        meter_add(meter, (struct mono){n * NS_PER_S / rate});
    }
}

Test(meter, empty_it_has_no_rate)
{
    struct meter meter = {0};
    check(&meter, 1, 0);
    check(&meter, 1000 * NS_PER_S, 0);
}

Test(meter, over_the_time_since_the_first_but_at_least_a_second)
{
    struct meter meter = {0};
    for (int i = 0; i < 10; i++) {
        meter_add(&meter, (struct mono){1000 * NS_PER_S + i});
    }
    check(&meter, 1000 * NS_PER_S + 10, 10);
    check(&meter, 1001 * NS_PER_S, 10);
    check(&meter, 1010 * NS_PER_S, 1);
    check(&meter, 1040 * NS_PER_S, 0.25);
}

Test(meter, over_the_last_minute)
{
    struct meter meter = {0};
    dispatch(&meter, 1000, 1200, 100);
    check(&meter, 1200 * NS_PER_S - 1, 100);
    dispatch(&meter, 1200, 1230, 20);
    // The 29 seconds that are left of the first rate, and 30 of the other, the newest of them just over.
    check(&meter, 1230 * NS_PER_S - 1, (30 * 100 + 30 * 20) / 60.0);
    check(&meter, 1259 * NS_PER_S - 1, (1 * 100 + 30 * 20) / 60.0);
    check(&meter, 1290 * NS_PER_S, 0);
}

Test(meter, a_long_silence_leaves_nothing_behind)
{
    struct meter meter = {0};
    dispatch(&meter, 1000, 1060, 50);
    meter_add(&meter, (struct mono){5000 * NS_PER_S});
    check(&meter, 5000 * NS_PER_S + NS_PER_S / 2, 1 / 59.5);
    meter_add(&meter, (struct mono){5059 * NS_PER_S}); // the oldest second that counts, and the newest
    check(&meter, 5059 * NS_PER_S + NS_PER_S / 2, 2 / 59.5);
    check(&meter, 5060 * NS_PER_S, 1 / 59.0);
}

Test(meter, from_boot_on)
{
    struct meter meter = {0};
    dispatch(&meter, 1, 5, 4);
    check(&meter, 5 * NS_PER_S, 16 / 4.0);
    check(&meter, 70 * NS_PER_S, 0);
}
