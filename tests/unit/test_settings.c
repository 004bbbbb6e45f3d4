#include "scheduler/settings.h"

#include "scheduler/rate.h"
#include "tests/unit/store_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct fixture fixture;

static void set_up(void)
{
    fixture_new(&fixture);
}

static void tear_down(void)
{
    fixture_free(&fixture);
}

TestSuite(settings, .init = set_up, .fini = tear_down);

static const struct mono at = {1000 * NS_PER_S};
static const struct wall wall = {1700000000000};

static char target[] = "simulate:1500ms";
static char other_target[] = "simulate:2s";

static struct default_flags flags_of_the_contract(void)
{
    return (struct default_flags){.rate = {1, 5 * NS_PER_S},
                                  .burst = 0,
                                  .concurrency = 1,
                                  .batch_size = 3,
                                  .target = target,
                                  .max_id = ID_VALUE_MAX};
}

static struct queue_row read_default(void)
{
    struct queue_row *rows = NULL;
    size_t count = 0;
    OK(store_load_queues(fixture.store, &rows, &count));
    cr_assert_eq(count, 1);
    struct queue_row row = rows[0];
    free(rows);
    return row;
}

static void save(struct queue_row row)
{
    OK(store_begin(fixture.store));
    OK(store_save_queue(fixture.store, &row));
    OK(store_save_figures(fixture.store, &row.id, &row.figures, 1));
    OK(store_commit(fixture.store));
}

// A start with these flags, on the store as the start before left it.
static struct queue_row start(const struct default_flags *flags, struct mono now)
{
    fixture_reopen(&fixture);
    OK(settings_apply(fixture.store, flags, now, wall));
    return read_default();
}

Test(settings, the_first_start_makes_the_default_queue)
{
    struct default_flags flags = flags_of_the_contract();
    struct queue_row row = start(&flags, at);
    cr_assert_str_eq(row.name, "default");
    cr_assert_eq(row.settings.rate.count, 1);
    cr_assert_eq(row.settings.rate.per_ns, 5 * NS_PER_S);
    cr_assert_eq(row.settings.burst, 1);
    cr_assert_eq(row.settings.linger_ns, 100 * NS_PER_MS);
    cr_assert_eq(row.settings.concurrency, 1);
    cr_assert_eq(row.settings.batch_size, 3);
    cr_assert_str_eq(row.settings.target, target);
    cr_assert_eq(row.settings.max_id, ID_VALUE_MAX);
    cr_assert_eq(row.settings.max_attempts, 5);
    cr_assert_eq(row.settings.timeout_ns, 30 * NS_PER_S);
    cr_assert_eq(row.settings.min_backoff_ns, NS_PER_S);
    cr_assert_eq(row.settings.max_backoff_ns, 300 * NS_PER_S);
    struct mono opens = bucket_opens(&row.figures.bucket, row.settings.rate, row.settings.burst);
    cr_assert_leq(opens.ns, at.ns, "the first dispatch need not wait for an interval");
}

Test(settings, a_flag_that_did_not_change_leaves_what_was_put)
{
    struct default_flags flags = flags_of_the_contract();
    struct queue_row put = start(&flags, at);
    put.settings.rate = (struct rate){7, NS_PER_S};
    put.settings.burst = 4;
    put.settings.linger_ns = 12345;
    put.settings.concurrency = 9;
    put.settings.batch_size = 8;
    put.settings.max_id = 77;
    (void)snprintf(put.settings.target, sizeof put.settings.target, "http://127.0.0.1:9/");
    put.figures.bucket = (struct bucket){{at.ns + 3}, 5};
    save(put);
    struct queue_row row = start(&flags, mono_add(at, NS_PER_S));
    cr_assert_eq(row.settings.rate.count, 7);
    cr_assert_eq(row.settings.burst, 4);
    cr_assert_eq(row.settings.linger_ns, 12345);
    cr_assert_eq(row.settings.concurrency, 9);
    cr_assert_eq(row.settings.batch_size, 8);
    cr_assert_eq(row.settings.max_id, 77);
    cr_assert_str_eq(row.settings.target, "http://127.0.0.1:9/");
    cr_assert_eq(row.figures.bucket.tat.ns, at.ns + 3, "nor is the bucket touched");
    cr_assert_eq(row.figures.bucket.fraction, 5);
}

// Each flag changed alone: its own setting follows, what was put for the others stays.
Test(settings, a_flag_that_changed_is_applied_and_no_other)
{
    struct default_flags flags = flags_of_the_contract();
    struct queue_row put = start(&flags, at);
    put.settings.concurrency = 9;
    put.settings.batch_size = 8;
    put.settings.max_id = 77;
    save(put);

    flags.batch_size = 5;
    struct queue_row row = start(&flags, at);
    cr_assert_eq(row.settings.batch_size, 5);
    cr_assert_eq(row.settings.concurrency, 9);
    cr_assert_eq(row.settings.max_id, 77);

    flags.concurrency = 2;
    row = start(&flags, at);
    cr_assert_eq(row.settings.concurrency, 2);
    cr_assert_eq(row.settings.batch_size, 5);

    flags.max_id = 1000;
    flags.target = other_target;
    row = start(&flags, at);
    cr_assert_eq(row.settings.max_id, 1000);
    cr_assert_str_eq(row.settings.target, other_target);
    cr_assert_eq(row.settings.rate.per_ns, 5 * NS_PER_S);
    cr_assert_eq(row.figures.bucket.tat.ns, put.figures.bucket.tat.ns, "only the rate empties the bucket");
}

Test(settings, a_changed_rate_empties_the_bucket)
{
    static const struct {
        struct rate rate;
        uint64_t burst;
        uint32_t burst_set;
        int64_t linger_ns;
        int64_t wait_ns; // until the first dispatch
    } cases[] = {
        {{1000, NS_PER_S}, 0, 10, 20 * NS_PER_US, NS_PER_MS},
        {{1000, NS_PER_S}, 3, 3, 20 * NS_PER_US, NS_PER_MS},
        {{2, NS_PER_S}, 3, 3, 10 * NS_PER_MS, 500 * NS_PER_MS},
        {{2, NS_PER_S}, 0, 1, 10 * NS_PER_MS, 500 * NS_PER_MS},
    };
    struct default_flags flags = flags_of_the_contract();
    (void)start(&flags, at);
    struct mono now = at;
    for (size_t i = 0; i < COUNT(cases); i++) {
        now = mono_add(now, 60 * NS_PER_S);
        flags.rate = cases[i].rate;
        flags.burst = cases[i].burst;
        struct queue_row row = start(&flags, now);
        cr_assert_eq(row.settings.rate.count, cases[i].rate.count, "case %zu", i);
        cr_assert_eq(row.settings.burst, cases[i].burst_set, "case %zu", i);
        cr_assert_eq(row.settings.linger_ns, cases[i].linger_ns, "case %zu", i);
        struct mono opens = bucket_opens(&row.figures.bucket, row.settings.rate, row.settings.burst);
        cr_assert_eq(mono_diff(opens, now), cases[i].wait_ns, "case %zu", i);
    }
}

Test(settings, to_unlimited_and_back)
{
    struct default_flags flags = flags_of_the_contract();
    (void)start(&flags, at);
    flags.rate = (struct rate){0, 0};
    struct queue_row row = start(&flags, at);
    cr_assert_eq(row.settings.rate.count, 0);
    cr_assert_eq(row.settings.linger_ns, 0);
    flags.rate = (struct rate){1, 5 * NS_PER_S};
    row = start(&flags, at);
    struct mono opens = bucket_opens(&row.figures.bucket, row.settings.rate, row.settings.burst);
    cr_assert_eq(mono_diff(opens, at), 5 * NS_PER_S);
}

// --burst was given and stays as it was: what a PUT has set since is not its business.
Test(settings, a_changed_rate_leaves_a_burst_that_was_put_over_a_given_one)
{
    struct default_flags flags = flags_of_the_contract();
    flags.burst = 5;
    struct queue_row row = start(&flags, at);
    cr_assert_eq(row.settings.burst, 5);
    row.settings.burst = 7;
    save(row);
    flags.rate = (struct rate){1, NS_PER_S};
    cr_assert_eq(start(&flags, at).settings.burst, 7);
}

// As if the store came from before a reboot.
static void reboot(void)
{
    struct id boot;
    struct buf flags;
    buf_init(&flags);
    OK(store_load_meta(fixture.store, &boot, &flags));
    boot.bytes[0] ^= 0xff;
    OK(store_begin(fixture.store));
    OK(store_save_meta(fixture.store, &boot, flags.data));
    OK(store_commit(fixture.store));
    buf_fini(&flags);
}

Test(settings, after_a_reboot_the_bucket_is_empty_and_retries_are_due)
{
    struct default_flags flags = flags_of_the_contract();
    struct queue_row row = start(&flags, at);
    row.figures.bucket = (struct bucket){{INT64_MAX / 2}, 0};
    row.figures.dispatched = 12;
    save(row);
    int64_t seq = add(fixture.store, 1, row.id, PRIORITY_LOW, 3, 3);
    (void)dispatch(fixture.store, key_make(row.id, PRIORITY_LOW, seq, 0));
    finish(fixture.store, (struct finish_row){.key = key_make(row.id, PRIORITY_LOW, seq, 0),
                                              .state = BATCH_BACKOFF,
                                              .due = {INT64_MAX / 2}});
    reboot();
    const struct mono now = {3 * NS_PER_S};
    row = start(&flags, now);
    struct mono opens = bucket_opens(&row.figures.bucket, row.settings.rate, row.settings.burst);
    cr_assert_eq(mono_diff(opens, now), 5 * NS_PER_S, "a full interval");
    cr_assert_eq(row.figures.dispatched, 12);
    struct backoff_row backoff;
    size_t count = 1;
    OK(store_read_backoff(fixture.store, (struct mono){INT64_MIN}, 0, 0, &backoff, &count));
    cr_assert_eq(count, 1);
    cr_assert_leq(backoff.due.ns, now.ns);

    // The same boot again: nothing is moved any more.
    struct queue_row again = start(&flags, mono_add(now, 60 * NS_PER_S));
    cr_assert_eq(again.figures.bucket.tat.ns, row.figures.bucket.tat.ns);
}

Test(settings, after_a_reboot_a_hold_goes_on_by_the_wall_clock)
{
    static const struct {
        int64_t until_ms; // from now on the wall clock
        int64_t left_ns;
    } cases[] = {
        {-1, 0},
        {0, 0},
        {1, NS_PER_MS},
        {90000, 90 * NS_PER_S},
        {INT64_C(100) * 365 * 86400 * 1000, 3600 * NS_PER_S}, // a clock that was wrong: at most max_hold
    };
    struct default_flags flags = flags_of_the_contract();
    struct queue_row row = start(&flags, at);
    const struct mono now = {3 * NS_PER_S};
    for (size_t i = 0; i < COUNT(cases); i++) {
        row.figures.held_until = (struct mono){INT64_MAX / 2};
        row.figures.held_until_wall = (struct wall){wall.ms + cases[i].until_ms};
        save(row);
        reboot();
        row = start(&flags, now);
        int64_t expected = cases[i].left_ns > 0 ? now.ns + cases[i].left_ns : 0;
        cr_assert_eq(row.figures.held_until.ns, expected, "case %zu", i);
    }
}
