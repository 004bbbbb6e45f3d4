// The rate, as an HTTP target sees it. What is checked are lower bounds on time and upper bounds on numbers:
// that a busy machine is slow is no failure.
#include "tests/support/dispatches.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>

TestSuite(rate, .fini = sluice_cleanup);

struct rate_case {
    const char *rate;
    const char *burst; // NULL: left to the program
    const char *concurrency;
    size_t bursts; // what burst comes to
    size_t batches;
};

static void check_case(const struct rate_case *of)
{
    struct http_target *target = http_target_start(0);
    struct rate rate;
    cr_assert_not_null(target);
    cr_assert(rate_parse(of->rate, &rate));
    struct sluice *sluice =
        sluice_start(LIST("--rate", of->rate, "--batch-size", "1", "--target", http_target_url(target),
                          "--concurrency", of->concurrency, of->burst ? "--burst" : NULL, of->burst),
                     NULL);
    struct lateness *lateness = lateness_watch();
    struct ingested first = sluice_ingest_range(sluice, "LOW", 1, of->batches / 2);
    sluice_wait_status(sluice, first.id, "completed");
    struct ingested second = sluice_ingest_range(sluice, "HIGH", 1, of->batches - of->batches / 2);
    sluice_wait_status(sluice, second.id, "completed");
    int64_t lateness_ns = lateness_end(lateness);
    cr_assert_eq(http_target_count(target), of->batches);
    dispatches_check_rate(target, rate, of->bursts, lateness_ns);
    sluice_end(sluice);
    http_target_stop(target);
}

Test(rate, one_at_a_time)
{
    check_case(&(struct rate_case){.rate = "1/250ms", .concurrency = "1", .bursts = 1, .batches = 16});
}

Test(rate, three_in_a_second_with_a_remainder)
{
    check_case(&(struct rate_case){.rate = "3/1s", .concurrency = "4", .bursts = 1, .batches = 13});
}

Test(rate, a_burst_at_once_and_then_the_rate)
{
    check_case(
        &(struct rate_case){.rate = "10/s", .burst = "5", .concurrency = "16", .bursts = 5, .batches = 40});
}

Test(rate, a_high_one_has_the_burst_of_10_ms)
{
    check_case(&(struct rate_case){.rate = "1000/s", .concurrency = "32", .bursts = 10, .batches = 1500});
}

Test(rate, a_slow_target_earns_no_more_than_the_burst)
{
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(
        LIST("--rate", "1/100ms", "--batch-size", "1", "--target", http_target_url(target)), NULL);
    struct lateness *lateness = lateness_watch();
    http_target_script(target, &(struct http_target_answer){.delay_ns = 2 * NS_PER_S});
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 15);
    sluice_wait_status(sluice, ingested.id, "completed");
    int64_t lateness_ns = lateness_end(lateness);
    dispatches_check_rate(target, (struct rate){1, 100 * NS_PER_MS}, 1, lateness_ns);
    sluice_end(sluice);
    http_target_stop(target);
}

Test(rate, no_more_in_flight_than_may_be)
{
    enum { CONCURRENCY = 3, BATCHES = 30 };
    const int64_t delay_ns = 200 * NS_PER_MS;
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    http_target_set_default(target, &(struct http_target_answer){.delay_ns = delay_ns});
    struct sluice *sluice = sluice_start(LIST("--rate", "unlimited", "--concurrency", "3", "--batch-size",
                                              "1", "--target", http_target_url(target)),
                                         NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, BATCHES);
    sluice_wait_status(sluice, ingested.id, "completed");

    // Whatever comes as the fourth has waited for the end of one of the three before it.
    struct dispatches seen = dispatches_read(target);
    cr_assert_eq(seen.count, BATCHES);
    for (size_t i = 0; i + CONCURRENCY < seen.count; i++) {
        int64_t apart = mono_diff(seen.list[i + CONCURRENCY].at, seen.list[i].at);
        cr_assert(apart >= delay_ns, "number %zu came %.3f ms after number %zu", i + CONCURRENCY,
                  (double)apart / NS_PER_MS, i);
    }
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
}
