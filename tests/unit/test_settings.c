#include "scheduler/settings.h"

#include "scheduler/rate.h"
#include "tests/unit/store_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define KEPT_MAX 32

static struct fixture fixture;
static struct queue_row *kept[KEPT_MAX]; // rows that were read, until the end of the test
static size_t kept_count;

static void set_up(void)
{
    fixture_new(&fixture);
}

static void tear_down(void)
{
    fixture_free(&fixture);
    for (size_t i = 0; i < kept_count; i++) {
        store_free_queues(kept[i], 1);
    }
    kept_count = 0;
}

TestSuite(settings, .init = set_up, .fini = tear_down);

static const struct mono at = {1000 * NS_PER_S};
static const struct wall wall = {1700000000000};

static char target[] = "simulate:1500ms";
static char put_target[] = "http://127.0.0.1:9/";
static char other_target[] = "simulate:2s";

static struct queue_change flags_of_the_contract(void)
{
    return (struct queue_change){.rate = {1, 5 * NS_PER_S},
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
    cr_assert_lt(kept_count, KEPT_MAX);
    kept[kept_count++] = rows;
    return rows[0];
}

static void save(struct queue_row row)
{
    OK(store_begin(fixture.store));
    OK(store_save_queue(fixture.store, &row));
    OK(store_save_figures(fixture.store, &row.id, &row.figures, 1));
    OK(store_commit(fixture.store));
}

static struct mono opens_of(const struct queue_row *row)
{
    const struct queue_settings *settings = &row->settings;
    return bucket_opens(&row->figures.bucket, settings->rate, rate_burst(settings->rate, settings->burst));
}

// A start with these flags, on the store as the start before left it.
static struct queue_row start(const struct queue_change *flags, struct mono now)
{
    fixture_reopen(&fixture);
    OK(settings_apply(fixture.store, flags, now, wall));
    return read_default();
}

Test(settings, the_first_start_makes_the_default_queue)
{
    struct queue_change flags = flags_of_the_contract();
    struct queue_row row = start(&flags, at);
    cr_assert_str_eq(row.name, "default");
    cr_assert_eq(row.settings.rate.count, 1);
    cr_assert_eq(row.settings.rate.per_ns, 5 * NS_PER_S);
    cr_assert_eq(row.settings.burst, 0, "the default");
    cr_assert_eq(row.settings.linger_ns, -1, "the default");
    cr_assert_eq(row.settings.breaker, 10);
    cr_assert_eq(row.settings.lease_ns, 60 * NS_PER_S);
    cr_assert_eq(row.settings.max_hold_ns, 3600 * NS_PER_S);
    cr_assert_eq(row.settings.on_interrupt, ON_INTERRUPT_RESEND);
    cr_assert_eq(row.settings.aging_ns, 0);
    cr_assert_eq(row.settings.concurrency, 1);
    cr_assert_eq(row.settings.batch_size, 3);
    cr_assert_str_eq(row.target, target);
    cr_assert_eq(row.settings.max_id, ID_VALUE_MAX);
    cr_assert_eq(row.settings.max_attempts, 5);
    cr_assert_eq(row.settings.timeout_ns, 30 * NS_PER_S);
    cr_assert_eq(row.settings.min_backoff_ns, NS_PER_S);
    cr_assert_eq(row.settings.max_backoff_ns, 300 * NS_PER_S);
    struct mono opens = opens_of(&row);
    cr_assert_leq(opens.ns, at.ns, "the first dispatch need not wait for an interval");
}

Test(settings, a_flag_that_did_not_change_leaves_what_was_put)
{
    struct queue_change flags = flags_of_the_contract();
    struct queue_row put = start(&flags, at);
    put.settings.rate = (struct rate){7, NS_PER_S};
    put.settings.burst = 4;
    put.settings.linger_ns = 12345;
    put.settings.concurrency = 9;
    put.settings.batch_size = 8;
    put.settings.max_id = 77;
    put.target = put_target;
    put.figures.bucket = (struct bucket){{at.ns + 3}, 5};
    save(put);
    struct queue_row row = start(&flags, mono_add(at, NS_PER_S));
    cr_assert_eq(row.settings.rate.count, 7);
    cr_assert_eq(row.settings.burst, 4);
    cr_assert_eq(row.settings.linger_ns, 12345);
    cr_assert_eq(row.settings.concurrency, 9);
    cr_assert_eq(row.settings.batch_size, 8);
    cr_assert_eq(row.settings.max_id, 77);
    cr_assert_str_eq(row.target, "http://127.0.0.1:9/");
    cr_assert_eq(row.figures.bucket.tat.ns, at.ns + 3, "nor is the bucket touched");
    cr_assert_eq(row.figures.bucket.fraction, 5);
}

// Each flag changed alone: its own setting follows, what was put for the others stays.
Test(settings, a_flag_that_changed_is_applied_and_no_other)
{
    struct queue_change flags = flags_of_the_contract();
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
    cr_assert_str_eq(row.target, other_target);
    cr_assert_eq(row.settings.rate.per_ns, 5 * NS_PER_S);
    cr_assert_eq(row.figures.bucket.tat.ns, put.figures.bucket.tat.ns, "only the rate empties the bucket");
}

Test(settings, a_changed_rate_empties_the_bucket)
{
    static const struct {
        struct rate rate;
        uint32_t burst;
        int64_t wait_ns; // until the first dispatch
    } cases[] = {
        {{1000, NS_PER_S}, 0, NS_PER_MS},
        {{1000, NS_PER_S}, 3, NS_PER_MS},
        {{2, NS_PER_S}, 3, 500 * NS_PER_MS},
        {{2, NS_PER_S}, 0, 500 * NS_PER_MS},
    };
    struct queue_change flags = flags_of_the_contract();
    (void)start(&flags, at);
    struct mono now = at;
    for (size_t i = 0; i < COUNT(cases); i++) {
        now = mono_add(now, 60 * NS_PER_S);
        flags.rate = cases[i].rate;
        flags.burst = cases[i].burst;
        struct queue_row row = start(&flags, now);
        cr_assert_eq(row.settings.rate.count, cases[i].rate.count, "case %zu", i);
        cr_assert_eq(row.settings.burst, cases[i].burst, "case %zu", i);
        struct mono opens = opens_of(&row);
        cr_assert_eq(mono_diff(opens, now), cases[i].wait_ns, "case %zu", i);
    }
}

Test(settings, to_unlimited_and_back)
{
    struct queue_change flags = flags_of_the_contract();
    (void)start(&flags, at);
    flags.rate = (struct rate){0, 0};
    struct queue_row row = start(&flags, at);
    cr_assert_eq(row.settings.rate.count, 0);
    flags.rate = (struct rate){1, 5 * NS_PER_S};
    row = start(&flags, at);
    struct mono opens = opens_of(&row);
    cr_assert_eq(mono_diff(opens, at), 5 * NS_PER_S);
}

// --burst was given and stays as it was: what a PUT has set since is not its business.
Test(settings, a_changed_rate_leaves_a_burst_that_was_put_over_a_given_one)
{
    struct queue_change flags = flags_of_the_contract();
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
    struct meta meta;
    struct buf flags;
    buf_init(&flags);
    OK(store_load_meta(fixture.store, &meta, &flags));
    meta.boot.bytes[0] ^= 0xff;
    OK(store_begin(fixture.store));
    OK(store_save_meta(fixture.store, &meta, flags.data));
    OK(store_commit(fixture.store));
    buf_fini(&flags);
}

Test(settings, after_a_reboot_the_bucket_is_empty_and_retries_are_due)
{
    struct queue_change flags = flags_of_the_contract();
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
    struct mono opens = opens_of(&row);
    cr_assert_eq(mono_diff(opens, now), 5 * NS_PER_S, "a full interval");
    cr_assert_eq(row.figures.dispatched, 12);
    int64_t due;
    OK(store_next_due(fixture.store, row.id, DUE_RETRY, &due));
    cr_assert_leq(due, now.ns);

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
    struct queue_change flags = flags_of_the_contract();
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

// The age clock goes on where it was, and by the time that has passed on the wall clock.
Test(settings, after_a_reboot_the_age_clock_goes_on)
{
    struct queue_change flags = flags_of_the_contract();
    struct queue_row row = start(&flags, at);
    struct meta meta;
    struct buf text;
    buf_init(&text);
    OK(store_load_meta(fixture.store, &meta, &text));
    cr_assert_eq(meta.age_offset_ns + at.ns, 0, "it starts with the store");

    int64_t seq = add(fixture.store, 1, row.id, PRIORITY_LOW, 3, 3);
    cr_assert_gt(seq, 0);
    bool any;
    int64_t accepted_ns;
    struct wall created;
    OK(store_newest(fixture.store, &any, &accepted_ns, &created));
    cr_assert(any);
    reboot();
    fixture_reopen(&fixture);
    const struct mono now = {7 * NS_PER_S};
    const struct wall later = {created.ms + 90000};
    OK(settings_apply(fixture.store, &flags, now, later));
    buf_fini(&text);
    buf_init(&text);
    OK(store_load_meta(fixture.store, &meta, &text));
    cr_assert_eq(meta.age_offset_ns + now.ns, accepted_ns + 90 * NS_PER_S);
    buf_fini(&text);
}

// ---- changes ----

static struct queue_row new_queue(void)
{
    struct queue_row row;
    OK(settings_defaults(&row, "q"));
    return row;
}

Test(settings, a_change_sets_what_it_gives_and_nothing_else)
{
    struct queue_row row = new_queue();
    struct queue_change change = {.given = SETTING_RATE | SETTING_AGING | SETTING_TARGET,
                                  .rate = {7, NS_PER_S},
                                  .aging_ns = 60 * NS_PER_S,
                                  .concurrency = 99,
                                  .target = other_target};
    OK(settings_change(&row, &change, NULL));
    cr_assert_eq(row.settings.rate.count, 7);
    cr_assert_eq(row.settings.aging_ns, 60 * NS_PER_S);
    cr_assert_str_eq(row.target, other_target);
    cr_assert_eq(row.settings.concurrency, 1);
    cr_assert_eq(row.settings.batch_size, 3);
    queue_row_fini(&row);
}

Test(settings, a_change_that_does_not_fit_is_refused)
{
    static char nonsense[] = "carrier-pigeon:";
    static char hidden[] = "Key: ***\n";
    const struct {
        struct queue_change change;
        int64_t id;
        const char *says;
    } cases[] = {
        {{.given = SETTING_MIN_BACKOFF, .min_backoff_ns = 600 * NS_PER_S}, 0, "min_backoff"},
        {{.given = SETTING_IDS | SETTING_BATCH_SIZE, .ids = IDS_STRING, .batch_size = 1001}, 0, "batch_size"},
        {{.given = SETTING_IDS, .ids = IDS_STRING}, 5, "ids"},
        {{.given = SETTING_TARGET, .target = nonsense}, 0, "target"},
        {{.given = SETTING_HEADERS, .headers = hidden}, 0, "headers"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct queue_row row = new_queue();
        struct fault fault = {0};
        row.id = cases[i].id;
        cr_assert_eq(settings_change(&row, &cases[i].change, &fault), ERR_INVALID_FIELD, "case %zu", i);
        cr_assert_not_null(strstr(fault.detail, cases[i].says), "case %zu: %s", i, fault.detail);
        queue_row_fini(&row);
    }
}

Test(settings, headers_are_replaced_and_hidden_values_kept)
{
    static char first[] = "Key: secret\nOther: 1\n";
    static char second[] = "key: ***\nThird: 3\n";
    static char none[] = "";
    struct queue_row row = new_queue();
    OK(settings_change(&row, &(struct queue_change){.given = SETTING_HEADERS, .headers = first}, NULL));
    cr_assert_str_eq(row.headers, first);
    OK(settings_change(&row, &(struct queue_change){.given = SETTING_HEADERS, .headers = second}, NULL));
    cr_assert_str_eq(row.headers, "key: secret\nThird: 3\n");
    OK(settings_change(&row, &(struct queue_change){.given = SETTING_HEADERS, .headers = none}, NULL));
    cr_assert_str_eq(row.headers, "");
    queue_row_fini(&row);
}
