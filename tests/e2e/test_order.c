// The order of dispatches, as an HTTP target sees it.
#include "tests/support/dispatches.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

TestSuite(order, .fini = sluice_cleanup);

static void expect_order(const struct dispatches *seen, const char *const *ids, size_t count)
{
    cr_assert_eq(seen->count, count, "%zu dispatches instead of %zu", seen->count, count);
    for (size_t i = 0; i < count; i++) {
        cr_assert_str_eq(seen->list[i].ids, ids[i], "dispatch %zu has %s instead of %s", i, seen->list[i].ids,
                         ids[i]);
    }
}

// ---- The published example: 5 s between batches, and a HIGH ingestion after a MEDIUM one ----

#define EXAMPLE_INTERVAL_NS (5 * NS_PER_S)
#define EXAMPLE_LINGER_NS (100 * NS_PER_MS)
#define EXAMPLE_LATE_NS (500 * NS_PER_MS) // how much later than published a dispatch may be

struct example {
    struct http_target *target;
    struct sluice *sluice;
    struct mono begun;
};

static struct example example_start(void)
{
    struct example example = {.target = http_target_start(0)};
    cr_assert_not_null(example.target);
    example.sluice = sluice_start(LIST("--target", http_target_url(example.target)), NULL);
    return example;
}

static void example_end(struct example *example)
{
    sluice_end(example->sluice);
    http_target_stop(example->target);
}

static void post_medium(struct example *example)
{
    example->begun = mono_now();
    (void)sluice_ingest(example->sluice, "{\"ids\":[1,2,3,4,5],\"priority\":\"MEDIUM\"}");
}

static void post_high(const struct example *example)
{
    (void)sluice_ingest(example->sluice, "{\"ids\":[6,7,8,9],\"priority\":\"HIGH\"}");
}

static void example_check(const struct example *example, const char *const *order)
{
    struct dispatches seen = dispatches_read(example->target);
    expect_order(&seen, order, 4);
    for (size_t i = 0; i < seen.count; i++) {
        int64_t published = EXAMPLE_LINGER_NS + (int64_t)i * EXAMPLE_INTERVAL_NS;
        int64_t at = mono_diff(seen.list[i].at, example->begun);
        cr_assert(at >= published - 2 * NS_PER_MS && at < published + EXAMPLE_LATE_NS,
                  "dispatch %zu came after %.3f s instead of %.1f s", i, (double)at / NS_PER_S,
                  (double)published / NS_PER_S);
    }
    dispatches_fini(&seen);
}

Test(order, of_the_published_example)
{
    static const char *const apart[] = {"1,2,3", "6,7,8", "9", "4,5"};
    static const char *const together[] = {"6,7,8", "9", "1,2,3", "4,5"};
    struct example one = example_start();
    struct example other = example_start();

    post_medium(&other);
    post_high(&other);
    while (mono_diff(mono_now(), other.begun) > EXAMPLE_LINGER_NS) { // the machine was busy: they were apart
        example_end(&other);
        other = example_start();
        post_medium(&other);
        post_high(&other);
    }
    post_medium(&one);
    wait_ms(1000); // as published
    post_high(&one);

    cr_assert(http_target_wait(one.target, 4, WAIT_S * NS_PER_S));
    cr_assert(http_target_wait(other.target, 4, WAIT_S * NS_PER_S));
    example_check(&one, apart);
    example_check(&other, together);
    example_end(&one);
    example_end(&other);
}

// ---- Everything that arrives while a delivery is under way ----

Test(order, by_priority_then_acceptance_then_index)
{
    static const struct {
        const char *priority;
        uint64_t first;
        size_t count;
    } arrivals[] = {
        {"LOW", 10, 2}, {"MEDIUM", 20, 3}, {"HIGH", 30, 5},
        {"LOW", 40, 1}, {"MEDIUM", 50, 1}, {"HIGH", 60, 1},
    };
    static const char *const order[] = {
        "1,2", "30,31", "32,33", "34", "60", "20,21", "22", "50", "3", "10,11", "40",
    };
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice =
        sluice_start(LIST("--rate", "50/s", "--batch-size", "2", "--target", http_target_url(target)), NULL);
    struct ingested ingested[COUNT(arrivals)];

    http_target_script(target, &(struct http_target_answer){.delay_ns = 3 * NS_PER_S});
    (void)sluice_ingest_range(sluice, "LOW", 1, 3);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    for (size_t i = 0; i < COUNT(arrivals); i++) {
        ingested[i] = sluice_ingest_range(sluice, arrivals[i].priority, arrivals[i].first, arrivals[i].count);
    }
    cr_assert_eq(http_target_count(target), 1, "the machine is too slow for this test");

    // Behind 3 of the HIGH ones, 1 of the other HIGH, 3 MEDIUM, and 1 of the first LOW: its own are 8 and 9.
    struct http_response status = sluice_status(sluice, ingested[0].id);
    cr_assert_eq(json_number(status.json, "position"), 8, "%s", status.body);
    http_response_fini(&status);

    cr_assert(http_target_wait(target, COUNT(order), WAIT_S * NS_PER_S));
    struct dispatches seen = dispatches_read(target);
    expect_order(&seen, order, COUNT(order));
    dispatches_fini(&seen);
    for (size_t i = 0; i < COUNT(arrivals); i++) {
        sluice_wait_status(sluice, ingested[i].id, "completed");
    }
    sluice_end(sluice);
    http_target_stop(target);
}

Test(order, high_goes_first_from_the_next_dispatch_on)
{
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(
        LIST("--rate", "1/200ms", "--batch-size", "1", "--target", http_target_url(target)), NULL);
    (void)sluice_ingest_range(sluice, "LOW", 1, 10);
    cr_assert(http_target_wait(target, 3, WAIT_S * NS_PER_S));
    struct ingested high = sluice_ingest_range(sluice, "HIGH", 100, 2);
    size_t before = http_target_count(target); // those that were dispatched when it was there
    sluice_wait_status(sluice, high.id, "completed");
    cr_assert(http_target_wait(target, 12, WAIT_S * NS_PER_S));

    struct dispatches seen = dispatches_read(target);
    size_t at = 0;
    while (strcmp(seen.list[at].ids, "100") != 0) {
        at++;
    }
    cr_assert(at <= before + 1, "it came as number %zu, after %zu had been seen", at, before);
    cr_assert_str_eq(seen.list[at + 1].ids, "101");
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
}
