// How fast a queue goes: what a rate allows is used and never passed, and a new rate holds from the next
// dispatch on. Only what a busy machine cannot miss is checked; the rest is printed.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(pace, .fini = sluice_cleanup);

// Seconds of each measurement: SLUICE_TEST_SECONDS for a longer one by hand.
static unsigned seconds(void)
{
    const char *text = getenv("SLUICE_TEST_SECONDS");
    unsigned long n = text ? strtoul(text, NULL, 10) : 5;
    return n > 0 && n <= 90 ? (unsigned)n : 5;
}

static struct http_target *target_start(void)
{
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    return target;
}

struct measured {
    struct rate rate;
    const char *settings;
    size_t burst;
};

static struct pace measure(const struct measured *of)
{
    char rate[RATE_TEXT_SIZE];
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    size_t count = seconds() * of->rate.count;
    rate_format(of->rate, rate);
    queue_put(sluice, "pace", "\"rate\":\"%s\",\"batch_size\":1,\"concurrency\":64,\"target\":\"%s\"%s", rate,
              http_target_url(target), of->settings);
    struct lateness *lateness = lateness_watch();
    struct ingested ingested = queue_ingest_range(sluice, "pace", "LOW", 1, count);
    sluice_wait_status(sluice, ingested.id, "completed");
    int64_t lateness_ns = lateness_end(lateness);

    struct dispatches seen = dispatches_read(target);
    cr_assert_eq(seen.count, count, "%zu came", seen.count);
    struct pace pace = dispatches_pace(&seen, of->rate, of->burst);
    fprintf(
        stderr,
        "%s, burst %zu, %u s: the rate was used to %.2f %%; late by %.3f ms at the median and %.3f ms at the "
        "99th percentile; the least gap %.3f ms; the machine is up to %.3f ms late\n",
        rate, of->burst, seconds(), pace.used * 100, (double)pace.median_ns / NS_PER_MS,
        (double)pace.p99_ns / NS_PER_MS, (double)pace.least_gap_ns / NS_PER_MS,
        (double)lateness_ns / NS_PER_MS);
    dispatches_check_window(&seen, of->rate, of->burst, lateness_ns);
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
    return pace;
}

Test(pace, a_thousand_a_second_with_its_burst_of_ten)
{
    struct pace pace = measure(&(struct measured){{1000, NS_PER_S}, "", 10});
    cr_assert(pace.used > 0.5 && pace.used < 1.01, "%.3f of the rate", pace.used);
}

Test(pace, a_hundred_a_second_one_at_a_time)
{
    struct pace pace = measure(&(struct measured){{100, NS_PER_S}, ",\"burst\":1", 1});
    cr_assert(pace.used > 0.5 && pace.used < 1.01, "%.3f of the rate", pace.used);
}

// ---- a rate that changes ----

static struct mono dispatch_at(struct http_target *target, size_t i)
{
    return http_target_get(target, i).arrived;
}

static void expect_gap(struct http_target *target, size_t i, int64_t at_least_ns)
{
    int64_t gap = mono_diff(dispatch_at(target, i), dispatch_at(target, i - 1));
    cr_assert(gap >= at_least_ns, "number %zu came %.3f ms after the one before", i, (double)gap / NS_PER_MS);
}

Test(pace, a_new_rate_holds_from_the_next_dispatch_on)
{
    enum { FAST = 200 };
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "pace", "\"rate\":\"1/1h\",\"batch_size\":1,\"concurrency\":16,\"target\":\"%s\"",
              http_target_url(target));
    struct ingested ingested = queue_ingest_range(sluice, "pace", "LOW", 1, 10000);
    struct lateness *lateness = lateness_watch();
    // Whether the first goes at once is the bucket's: the change comes in the middle of an hour either way.
    (void)http_target_wait(target, 1, 300 * NS_PER_MS);
    size_t before = http_target_count(target);
    cr_assert(before <= 1);

    struct mono faster = mono_now();
    queue_put(sluice, "pace", "\"rate\":\"100/s\"");
    struct mono fast = mono_now();
    cr_assert(http_target_wait(target, before + FAST, WAIT_S * NS_PER_S), "it stalls");
    int64_t slack = 2 * NS_PER_MS;
    struct mono slower = mono_now();
    queue_put(sluice, "pace", "\"rate\":\"1/5s\"");
    struct mono slow = mono_now();
    size_t passed = http_target_count(target);
    cr_assert(http_target_wait(target, passed + 2, WAIT_S * NS_PER_S), "it stalls");
    int64_t lateness_ns = lateness_end(lateness);
    slack += lateness_ns;

    // The empty bucket gives the first of the new rate after one interval, and no burst.
    cr_assert(mono_diff(dispatch_at(target, before), faster) >= 10 * NS_PER_MS - slack, "a burst at once");
    cr_assert(mono_diff(dispatch_at(target, before), fast) < NS_PER_S + lateness_ns, "late by the old rate");
    struct dispatches seen = dispatches_read(target);
    struct dispatches hundred = {.list = seen.list + before, .count = passed - before};
    dispatches_check_window(&hundred, (struct rate){100, NS_PER_S}, 1, lateness_ns);
    dispatches_fini(&seen);

    // After the slower one at most what was under way arrives, and then one in 5 s.
    size_t next = passed;
    while (mono_diff(dispatch_at(target, next), slow) < NS_PER_S) {
        next++;
        cr_assert(next < http_target_count(target), "a burst");
    }
    int64_t gap = mono_diff(dispatch_at(target, next), slower);
    cr_assert(gap >= 5 * NS_PER_S - slack, "the next came after %.3f s", (double)gap / NS_PER_S);
    gap = mono_diff(dispatch_at(target, next), slow);
    cr_assert(gap < 8 * NS_PER_S + lateness_ns, "it stalled for %.3f s", (double)gap / NS_PER_S);
    expect_gap(target, next + (next + 1 < http_target_count(target)), 5 * NS_PER_S - slack);
    ingestion_do(sluice, ingested.id, "cancel");
    sluice_end(sluice);
    http_target_stop(target);
}

Test(pace, unlimited_and_back)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "pace", "\"rate\":\"unlimited\",\"batch_size\":1,\"concurrency\":4,\"target\":\"%s\"",
              http_target_url(target));
    struct ingested ingested = queue_ingest_range(sluice, "pace", "LOW", 1, 100);
    sluice_wait_status(sluice, ingested.id, "completed");
    struct lateness *lateness = lateness_watch();
    struct mono changed = mono_now();
    queue_put(sluice, "pace", "\"rate\":\"2/s\"");
    ingested = queue_ingest_range(sluice, "pace", "LOW", 1, 4);
    sluice_wait_status(sluice, ingested.id, "completed");
    int64_t slack = lateness_end(lateness) + 2 * NS_PER_MS;
    cr_assert(mono_diff(dispatch_at(target, 100), changed) >= 500 * NS_PER_MS - slack,
              "the bucket was not empty");
    for (size_t i = 101; i < 104; i++) {
        expect_gap(target, i, 500 * NS_PER_MS - slack);
    }
    sluice_end(sluice);
    http_target_stop(target);
}
