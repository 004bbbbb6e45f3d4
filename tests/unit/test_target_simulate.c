#include "tests/unit/target_fixture.h"

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
    "exec:bin/true",
    "pull",
    "pull:x",
    "ftp://127.0.0.1/",
};

Test(target_simulate, reads_its_text)
{
    struct fault fault;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        cr_assert_eq(target_check(good[i], &fault), ERR_OK, "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fault = (struct fault){0};
        cr_assert_eq(target_check(bad[i], &fault), ERR_INVALID_FIELD, "%s", bad[i]);
        cr_assert_eq(fault.err, ERR_INVALID_FIELD);
        cr_assert(strstr(fault.detail, bad[i]) != NULL, "%s", fault.detail);
        cr_assert_eq(target_check(bad[i], NULL), ERR_INVALID_FIELD);
    }
}

// Never late, whatever the machine does.
static struct delivery *make_attempt(struct fixture *f, uint8_t number, uint32_t attempt)
{
    struct delivery *delivery = make(f, number);

    delivery->attempt = attempt;
    return delivery;
}

Test(target_simulate, ends_each_delivery_when_its_time_has_come)
{
    struct fixture f;

    begin(&f, "simulate:10s");
    struct target *short_one = open_one(&f, "simulate:3s");
    struct delivery *first = make(&f, 1), *second = make_for(short_one, 2);
    cr_assert_eq(target_expected_ns(f.target), 10 * NS_PER_S);
    cr_assert_eq(target_expected_ns(short_one), 3 * NS_PER_S);
    cr_assert_not(target_is_pull(f.target));
    cr_assert_eq(targets_run(f.targets, mono_now()).ns, MONO_NEVER.ns);
    target_start(first);
    target_start(second);
    cr_assert(!mono_before(second->started, first->started));

    // Whatever the order of the starts, the one that ends first comes first.
    struct mono due = targets_run(f.targets, mono_add(second->started, 3 * NS_PER_S - 1));
    cr_assert_eq(due.ns, second->started.ns + 3 * NS_PER_S);
    cr_assert_null(inbox_take(f.inbox));

    due = targets_run(f.targets, due);
    cr_assert_eq(due.ns, first->started.ns + 10 * NS_PER_S);
    cr_assert_eq(next_done(&f), second);
    cr_assert_null(inbox_take(f.inbox));
    cr_assert_eq(second->outcome.class, OUTCOME_COMPLETED);
    cr_assert_str_eq(second->outcome.error, "");
    cr_assert_geq(second->outcome.took_ns, 0);

    cr_assert_eq(targets_run(f.targets, due).ns, MONO_NEVER.ns);
    cr_assert_eq(next_done(&f), first);
    delivery_free(first);
    delivery_free(second);
    target_close(short_one);
    end(&f);
}

Test(target_simulate, tells_a_late_start_before_the_end)
{
    struct fixture f;

    begin(&f, "simulate:0");
    struct delivery *delivery = make(&f, 1);
    delivery->slot = mono_add(mono_now(), -5 * NS_PER_MS);
    target_start(delivery);
    (void)targets_run(f.targets, delivery->started);

    struct inbox_item *item = next_item(&f);
    cr_assert_eq(item, &delivery->start);
    cr_assert_eq(item->kind, INBOX_STARTED);
    cr_assert_eq(next_done(&f), delivery);
    cr_assert_geq(mono_diff(delivery->started, delivery->slot), 5 * NS_PER_MS);
    delivery_free(delivery);
    end(&f);
}

Test(target_simulate, tells_a_start_in_time_where_it_is_paced)
{
    struct fixture f;

    begin(&f, "simulate:0");
    for (int paced = 0; paced < 2; paced++) {
        struct delivery *delivery = make(&f, 1);
        delivery->slot = mono_add(mono_now(), NS_PER_S); // whatever takes its time here, it is not late
        delivery->paced = paced;
        target_start(delivery);
        struct inbox_item *item = inbox_take(f.inbox);
        cr_assert_eq(item, paced ? &delivery->start : NULL);
        (void)targets_run(f.targets, delivery->started);
        cr_assert_eq(next_done(&f), delivery);
        delivery_free(delivery);
    }
    end(&f);
}

// Bit n of the result: attempt n + 1 of the batch failed.
static uint64_t failures(const char *text, uint8_t batch)
{
    struct fixture f;
    uint64_t failed = 0;

    begin(&f, text);
    for (uint32_t n = 0; n < 64; n++) {
        struct delivery *delivery = make_attempt(&f, batch, n + 1);
        target_start(delivery);
        (void)targets_run(f.targets, delivery->started);
        cr_assert_eq(next_done(&f), delivery);
        cr_assert_not(delivery->outcome.down);
        if (delivery->outcome.class == OUTCOME_RETRY) {
            failed |= UINT64_C(1) << n;
            cr_assert_str_eq(delivery->outcome.error, "simulated failure");
        } else {
            cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED);
        }
        delivery_free(delivery);
    }
    end(&f);
    return failed;
}

Test(target_simulate, fails_the_share_it_was_told)
{
    int failed = 0;

    for (int batch = 0; batch < 250; batch++) {
        failed += __builtin_popcountll(failures("simulate:0,fail=0.1", (uint8_t)batch));
    }
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
    struct fixture f;

    begin(&f, "simulate:1h");
    for (uint8_t i = 0; i < 10; i++) {
        target_start(make(&f, i));
    }
    end(&f);
    target_close(NULL);
    targets_free(NULL);
    delivery_free(NULL);
}

Test(target_simulate, keeps_a_closed_target_for_what_is_under_way)
{
    struct fixture f;

    begin(&f, "simulate:1s");
    struct target *old = open_one(&f, "simulate:0,fail=1");
    struct delivery *delivery = make_for(old, 1);
    target_start(delivery);
    target_close(old);
    (void)targets_run(f.targets, delivery->started);
    cr_assert_eq(next_done(&f), delivery);
    cr_assert_str_eq(delivery->outcome.error, "simulated failure");
    delivery_free(delivery);
    end(&f);
}

// ---- what all kinds share ----

Test(target_simulate, knows_who_pulls)
{
    struct fixture f;

    begin(&f, "pull:");
    cr_assert(target_is_pull(f.target));
    cr_assert_eq(target_expected_ns(f.target), 0);
    struct delivery *delivery = make(&f, 1); // workers have deliveries, too
    delivery_end(delivery, OUTCOME_COMPLETED, f.inbox);
    cr_assert_eq(next_done(&f), delivery);
    delivery_free(delivery);
    end(&f);
}

Test(target_simulate, refuses_to_open_what_it_cannot_read)
{
    struct fixture f;
    struct target *target = NULL;

    begin(&f, "simulate:0");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(target_open(f.targets, bad[i], "", &target, NULL), ERR_INVALID_FIELD, "%s", bad[i]);
    }
    cr_assert_null(target);
    end(&f);
}

Test(target_simulate, explains_on_one_clean_line)
{
    struct fixture f;
    char text[5000];

    begin(&f, "simulate:0");
    struct delivery *delivery = make(&f, 1);
    delivery_explain(delivery, "a\tb\nc%cd", 1);
    cr_assert_str_eq(delivery->outcome.error, "a b c?d");
    // Too long, and the end falls into the middle of a character.
    memset(text, 'x', sizeof(text));
    memcpy(text + 4094, "\xc3\xa4", 2);
    delivery_explain(delivery, "%.*s", (int)sizeof(text), text);
    cr_assert_eq(strlen(delivery->outcome.error), 4094);
    delivery_free(delivery);
    end(&f);
}
