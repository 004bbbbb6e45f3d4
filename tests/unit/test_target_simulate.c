#include "scheduler/target.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char *const good[] = {
    "simulate:1500ms",
    "simulate:1s,fail=0.1,seed=7",
    "simulate:1s,seed=18446744073709551615,fail=1",
    "simulate:0",
    "simulate:1s,fail=0",
    "simulate:1s,fail=1.0",
    "simulate:1s,fail=0.123456789",
};
static const char *const bad[] = {
    "",
    "simulate",
    "simulate:",
    "simulate:1",
    "simulate:1s,",
    "simulate:,fail=0.1",
    "simulate:1s,fail=",
    "simulate:1s,fail=.1",
    "simulate:1s,fail=0.",
    "simulate:1s,fail=2",
    "simulate:1s,fail=1.1",
    "simulate:1s,fail=-0.1",
    "simulate:1s,fail=0.1x",
    "simulate:1s,fail=0.1234567891",
    "simulate:1s,fail=0.1,fail=0.1",
    "simulate:1s,seed=-1",
    "simulate:1s,seed=18446744073709551616",
    "simulate:1s,what=1",
    "simulate:1s,fail=0.1,seed=7,",
    "simulate:1s fail=0.1",
    "exec:/bin/true",
    "ftp://127.0.0.1/",
};

Test(target_simulate, reads_its_text)
{
    struct fault fault;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        cr_assert_eq(target_check(good[i], &fault), ERR_OK, "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fault = (struct fault){0};
        cr_assert_eq(target_check(bad[i], &fault), ERR_INVALID_FIELD, "%s", bad[i]);
        cr_assert_eq(fault.err, ERR_INVALID_FIELD);
        cr_assert(strstr(fault.detail, bad[i]) != NULL && strstr(fault.detail, "simulate:DURATION"), "%s",
                  fault.detail);
        cr_assert_eq(target_check(bad[i], NULL), ERR_INVALID_FIELD);
    }
}

static struct delivery *make_delivery(uint8_t number, uint32_t attempt)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery));

    cr_assert_not_null(delivery);
    delivery->batch.bytes[0] = number;
    delivery->attempt = attempt;
    delivery->ids = strdup("1,2,3");
    delivery->slot = mono_now();
    return delivery;
}

struct fixture {
    struct inbox *inbox;
    struct target *target;
};

static struct fixture make(const char *text)
{
    struct fixture f;
    struct fault fault;

    cr_assert_eq(inbox_new(&f.inbox), ERR_OK);
    cr_assert_eq(target_new(text, f.inbox, &f.target, &fault), ERR_OK);
    return f;
}

static void drop(struct fixture *f)
{
    target_free(f->target);
    inbox_free(f->inbox);
}

Test(target_simulate, ends_each_delivery_when_its_time_has_come)
{
    struct fixture f = make("simulate:10s");
    struct delivery *first = make_delivery(1, 1), *second = make_delivery(2, 1);
    first->slot = second->slot = MONO_NEVER; // never late
    const int64_t takes_ns = 10 * NS_PER_S;

    cr_assert_eq(f.target->expected_ns, takes_ns);
    cr_assert_eq(f.target->ops->run(f.target, mono_now()).ns, MONO_NEVER.ns);
    f.target->ops->start(f.target, first);
    f.target->ops->start(f.target, second);
    cr_assert(!mono_before(second->started, first->started));

    struct mono due = f.target->ops->run(f.target, mono_add(first->started, takes_ns - 1));
    cr_assert_eq(due.ns, first->started.ns + takes_ns);
    struct inbox_item *items = inbox_take(f.inbox);
    cr_assert_null(items);

    due = f.target->ops->run(f.target, due);
    items = inbox_take(f.inbox);
    cr_assert_not_null(items);
    cr_assert_eq(delivery_of(items), first);
    cr_assert_eq(items->kind, INBOX_DONE);
    cr_assert_eq(first->outcome.class, OUTCOME_COMPLETED);
    cr_assert_str_eq(first->outcome.error, "");
    cr_assert_geq(first->outcome.took_ns, 0);
    if (second->started.ns > first->started.ns)
        cr_assert_eq(due.ns, second->started.ns + takes_ns);

    cr_assert_eq(f.target->ops->run(f.target, mono_add(second->started, takes_ns)).ns, MONO_NEVER.ns);
    if (!first->item.next) // it may have ended together with the first
        cr_assert_eq(inbox_take(f.inbox), &second->item);
    delivery_free(first);
    delivery_free(second);
    drop(&f);
}

Test(target_simulate, tells_a_late_start_before_the_end)
{
    struct fixture f = make("simulate:0");
    struct delivery *delivery = make_delivery(1, 1);

    delivery->slot = mono_add(delivery->slot, -5 * NS_PER_MS);
    f.target->ops->start(f.target, delivery);
    f.target->ops->run(f.target, delivery->started);

    struct inbox_item *item = inbox_take(f.inbox);
    cr_assert_eq(item, &delivery->late);
    cr_assert_eq(item->kind, INBOX_LATE);
    cr_assert_eq(item->next, &delivery->item);
    cr_assert_eq(item->next->kind, INBOX_DONE);
    cr_assert_null(item->next->next);
    cr_assert_geq(mono_diff(delivery->started, delivery->slot), 5 * NS_PER_MS);
    delivery_free(delivery);
    drop(&f);
}

// Bit n of the result: attempt n + 1 of the batch failed.
static uint64_t failures(const char *text, uint8_t batch)
{
    struct fixture f = make(text);
    uint64_t failed = 0;

    for (uint32_t n = 0; n < 64; n++) {
        struct delivery *delivery = make_delivery(batch, n + 1);
        delivery->slot = MONO_NEVER; // never late
        f.target->ops->start(f.target, delivery);
        f.target->ops->run(f.target, delivery->started);
        cr_assert_eq(delivery_of(inbox_take(f.inbox)), delivery);
        if (delivery->outcome.class == OUTCOME_RETRY) {
            failed |= UINT64_C(1) << n;
            cr_assert_str_eq(delivery->outcome.error, "simulated failure");
        } else {
            cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED);
        }
        delivery_free(delivery);
    }
    drop(&f);
    return failed;
}

Test(target_simulate, fails_the_share_it_was_told)
{
    int failed = 0;

    for (int batch = 0; batch < 250; batch++)
        failed += __builtin_popcountll(failures("simulate:0,fail=0.1", (uint8_t)batch));
    // 16,000 attempts: the expectation is 1,600 with a standard deviation of 38. Nothing here is random.
    cr_assert(failed > 1400 && failed < 1800, "%d of 16000", failed);
    cr_assert_eq(failures("simulate:0,fail=0", 1), 0);
    cr_assert_eq(failures("simulate:0", 1), 0);
    cr_assert_eq(failures("simulate:0,fail=1", 1), UINT64_MAX);
}

Test(target_simulate, fails_the_same_attempts_every_time)
{
    cr_assert_eq(failures("simulate:0,fail=0.5,seed=7", 3), failures("simulate:0,seed=7,fail=0.5", 3));
    cr_assert_eq(failures("simulate:0,fail=0.5", 3), failures("simulate:0,fail=0.5,seed=0", 3));
    cr_assert_neq(failures("simulate:0,fail=0.5,seed=7", 3), failures("simulate:0,fail=0.5,seed=8", 3));
    cr_assert_neq(failures("simulate:0,fail=0.5,seed=7", 3), failures("simulate:0,fail=0.5,seed=7", 4));
}

Test(target_simulate, drops_what_runs_when_freed)
{
    struct fixture f = make("simulate:1h");

    for (uint8_t i = 0; i < 10; i++) {
        struct delivery *delivery = make_delivery(i, 1);
        delivery->slot = MONO_NEVER;
        f.target->ops->start(f.target, delivery);
    }
    drop(&f);
    target_free(NULL);
    delivery_free(NULL);
}
