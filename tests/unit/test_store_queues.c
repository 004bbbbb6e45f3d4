// What the store keeps of starts and of queues: settings, figures, and names also of those that were deleted.
#include "tests/unit/store_fixture.h"

// ---- starts ----

Test(store_queues, meta_is_empty_then_kept)
{
    struct fixture f;
    struct meta meta;
    struct id zero = {{0}};
    struct buf flags;
    fixture_new(&f);
    buf_init(&flags);
    OK(store_load_meta(f.store, &meta, &flags));
    cr_assert(id_equal(&meta.boot, &zero));
    cr_assert_eq(meta.age_offset_ns, 0);
    cr_assert_eq(flags.len, 0);

    struct meta this_start = {.boot = id_number(77), .age_offset_ns = -12345678901};
    OK(store_begin(f.store));
    OK(store_save_meta(f.store, &this_start, "rate=1/5s"));
    OK(store_commit(f.store));
    fixture_reopen(&f);
    OK(store_load_meta(f.store, &meta, &flags));
    cr_assert(id_equal(&meta.boot, &this_start.boot));
    cr_assert_eq(meta.age_offset_ns, this_start.age_offset_ns);
    cr_assert_str_eq(flags.data, "rate=1/5s");
    buf_fini(&flags);
    fixture_free(&f);
}

Test(store_queues, the_newest_ingestion_has_both_its_times)
{
    struct fixture f;
    bool any = true;
    int64_t accepted_ns;
    struct wall created;
    fixture_new(&f);
    OK(store_newest(f.store, &any, &accepted_ns, &created));
    cr_assert_not(any);
    for (uint64_t i = 0; i < 3; i++) {
        struct ingest_request request = request_make(i, PRIORITY_LOW, 1, 1);
        struct insert insert = insert_make(&request, 1, 1);
        insert.now.ms = NOW.ms - (int64_t)i; // the wall clock may step
        insert.accepted_ns = 100 + (int64_t)i;
        OK(store_begin(f.store));
        OK(store_insert(f.store, &insert, 1));
        OK(store_commit(f.store));
        request_drop(&request);
    }
    OK(store_newest(f.store, &any, &accepted_ns, &created));
    cr_assert(any);
    cr_assert_eq(accepted_ns, 102);
    cr_assert_eq(created.ms, NOW.ms - 2);
    fixture_free(&f);
}

// ---- queues ----

// It borrows its texts.
static struct queue_row sample_queue(const char *name, char *target, char *headers)
{
    struct queue_row row = {
        .target = target,
        .headers = headers,
        .settings = {.rate = {1000000000, 366 * 24 * 3600 * NS_PER_S},
                     .burst = 1000000,
                     .linger_ns = 100 * NS_PER_MS,
                     .concurrency = 7,
                     .batch_size = 3,
                     .ids = IDS_STRING,
                     .max_id = ID_VALUE_MAX,
                     .timeout_ns = 30 * NS_PER_S,
                     .max_attempts = 5,
                     .min_backoff_ns = NS_PER_S,
                     .max_backoff_ns = 300 * NS_PER_S,
                     .max_hold_ns = 3600 * NS_PER_S,
                     .breaker = 11,
                     .lease_ns = 61 * NS_PER_S,
                     .on_interrupt = ON_INTERRUPT_HOLD,
                     .aging_ns = 366 * 24 * 3600 * NS_PER_S},
        .figures = {.bucket = {MONO_NEVER, 999999999},
                    .paused = true,
                    .held_until = {-1},
                    .held_until_wall = {1700000000000},
                    .held_by = HOLD_RATE_LIMIT,
                    .failures = 12,
                    .probe_at = {1234},
                    .delivery_ns = 12345,
                    .delayed = 13,
                    .dispatched = 1,
                    .completed = 2,
                    .failed = UINT64_MAX},
    };
    (void)snprintf(row.name, sizeof row.name, "%s", name);
    return row;
}

static void expect_settings(const struct queue_settings *a, const struct queue_settings *b)
{
    cr_assert(a->rate.count == b->rate.count && a->rate.per_ns == b->rate.per_ns && a->burst == b->burst &&
              a->linger_ns == b->linger_ns && a->concurrency == b->concurrency &&
              a->batch_size == b->batch_size && a->max_id == b->max_id);
    cr_assert(a->timeout_ns == b->timeout_ns && a->max_attempts == b->max_attempts &&
              a->min_backoff_ns == b->min_backoff_ns && a->max_backoff_ns == b->max_backoff_ns &&
              a->max_hold_ns == b->max_hold_ns);
    cr_assert(a->ids == b->ids && a->breaker == b->breaker && a->lease_ns == b->lease_ns &&
              a->on_interrupt == b->on_interrupt && a->aging_ns == b->aging_ns);
}

static void expect_queue(const struct queue_row *got, const struct queue_row *want)
{
    cr_assert_eq(got->id, want->id);
    cr_assert_str_eq(got->name, want->name);
    cr_assert_str_eq(got->target, want->target);
    cr_assert_str_eq(got->headers, want->headers);
    expect_settings(&got->settings, &want->settings);
    const struct queue_figures *a = &got->figures;
    const struct queue_figures *b = &want->figures;
    cr_assert(a->bucket.tat.ns == b->bucket.tat.ns && a->bucket.fraction == b->bucket.fraction &&
              a->paused == b->paused && a->held_until.ns == b->held_until.ns &&
              a->held_until_wall.ms == b->held_until_wall.ms && a->held_by == b->held_by);
    cr_assert(a->failures == b->failures && a->probe_at.ns == b->probe_at.ns &&
              a->delivery_ns == b->delivery_ns && a->delayed == b->delayed &&
              a->dispatched == b->dispatched && a->completed == b->completed && a->failed == b->failed);
}

static void save(struct store *store, struct queue_row *row)
{
    OK(store_begin(store));
    OK(store_save_queue(store, row));
    OK(store_commit(store));
}

Test(store_queues, keep_their_order_settings_and_figures)
{
    struct fixture f;
    struct queue_row *rows;
    size_t count;
    fixture_new(&f);
    OK(store_load_queues(f.store, &rows, &count));
    cr_assert_eq(count, 0);
    store_free_queues(rows, count);

    char target[] = "http://127.0.0.1:9/x?y=z";
    char headers[] = "Authorization: Bearer x\nX-Y: z\n";
    char nothing[] = "";
    char large[TARGET_MAX + 1];
    memset(large, 'x', TARGET_MAX);
    large[TARGET_MAX] = '\0';
    struct queue_row made[] = {sample_queue("default", target, headers), sample_queue("a", large, nothing)};
    save(f.store, &made[0]);
    save(f.store, &made[1]);
    cr_assert_gt(made[0].id, 0);
    cr_assert_gt(made[1].id, made[0].id);

    made[0].settings.burst = 0; // replaced; the figures given with it are not
    made[0].settings.linger_ns = -1;
    made[0].settings.rate = (struct rate){0, 0};
    made[0].settings.ids = IDS_INTEGER;
    made[0].settings.on_interrupt = ON_INTERRUPT_RESEND;
    made[0].target = large;
    made[0].headers = nothing;
    struct queue_row changed = made[0];
    changed.figures = (struct queue_figures){0};
    made[1].figures =
        (struct queue_figures){.bucket = {{5}, 6}, .dispatched = 9}; // saved; the settings are not
    OK(store_begin(f.store));
    OK(store_save_queue(f.store, &changed));
    OK(store_save_figures(f.store, &made[1].id, &made[1].figures, 1));
    OK(store_commit(f.store));

    fixture_reopen(&f);
    OK(store_load_queues(f.store, &rows, &count));
    cr_assert_eq(count, 2);
    expect_queue(&rows[0], &made[0]);
    expect_queue(&rows[1], &made[1]);
    store_free_queues(rows, count);
    fixture_free(&f);
}

Test(store_queues, what_no_queue_can_be_is_damage)
{
    static const char *const damages[] = {"UPDATE queue SET held_by = 3",
                                          "UPDATE queue SET name = printf('%.100c', 'x')"};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        struct fixture f;
        char nothing[] = "";
        struct queue_row row = sample_queue("a", nothing, nothing);
        struct queue_row *rows;
        size_t count;
        fixture_new(&f);
        save(f.store, &row);
        cr_assert_eq(sqlite3_exec(f.store->db, damages[i], NULL, NULL, NULL), SQLITE_OK);
        cr_assert_eq(store_load_queues(f.store, &rows, &count), ERR_STORAGE_IO);
        cr_assert(rows == NULL && count == 0);
        fixture_free(&f);
    }
}

static void expect_name(struct store *store, int64_t queue, const char *want)
{
    char name[QUEUE_NAME_SIZE];
    OK(store_queue_name(store, queue, name));
    cr_assert_str_eq(name, want);
}

static void forget(struct store *store, int64_t queue)
{
    OK(store_begin(store));
    OK(store_delete_queue(store, queue));
    OK(store_commit(store));
}

Test(store_queues, a_deleted_one_frees_its_name_and_keeps_it)
{
    struct fixture f;
    struct queue_row *rows;
    size_t count;
    int64_t ids[3];
    char nothing[] = "";
    fixture_new(&f);
    for (size_t i = 0; i < 3; i++) {
        struct queue_row row = sample_queue("mail", nothing, nothing);
        save(f.store, &row);
        ids[i] = row.id;
        cr_assert(i == 0 || ids[i] > ids[i - 1]);
        (void)add_timed(f.store, i, row.id, PRIORITY_LOW, 1, 0, 1000);
        dispatch_and_finish(
            f.store, (struct finish_row){.key = key_make(row.id, PRIORITY_LOW, find(f.store, i).seq, 0),
                                         .state = BATCH_FAILED});
        OK(store_begin(f.store));
        OK(store_ask_retry(f.store, row.id, 0, INT64_MAX));
        OK(store_commit(f.store));
        if (i < 2) {
            forget(f.store, row.id);
            fixture_reopen(&f); // the newest is gone, and yet its ID is not given again
        }
    }
    OK(store_load_queues(f.store, &rows, &count));
    cr_assert_eq(count, 1);
    cr_assert_eq(rows[0].id, ids[2]);
    store_free_queues(rows, count);
    for (size_t i = 0; i < 3; i++) {
        expect_name(f.store, ids[i], "mail");
        struct ingestion_row row = find(f.store, i);
        cr_assert_eq(row.queue, ids[i]);
        cr_assert_eq(row.progress[STATUS_FAILED], 1);
        int64_t due;
        OK(store_next_due(f.store, ids[i], DUE_DEADLINE, &due));
        cr_assert_eq(due, i < 2 ? DUE_NEVER : NOW.ms + 1000);
    }
    char name[QUEUE_NAME_SIZE];
    cr_assert_eq(store_queue_name(f.store, ids[2] + 1, name), ERR_NOT_FOUND);

    struct retried_row retried[4]; // only the queue that is there has any
    size_t n = 4;
    bool more;
    OK(store_begin(f.store));
    OK(store_run_retries(f.store, retried, &n, &more));
    OK(store_commit(f.store));
    cr_assert(n == 1 && !more && retried[0].queue == ids[2]);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_queues, what_is_not_there_cannot_be_saved_or_deleted)
{
    struct fixture f;
    fixture_new(&f);
    struct queue_row unknown = {.id = 99};
    OK(store_begin(f.store));
    cr_assert_eq(store_save_queue(f.store, &unknown), ERR_STORAGE_IO);
    OK(store_begin(f.store));
    cr_assert_eq(store_save_figures(f.store, &unknown.id, &unknown.figures, 1), ERR_STORAGE_IO);
    OK(store_begin(f.store));
    cr_assert_eq(store_delete_queue(f.store, 99), ERR_STORAGE_IO);

    struct queue_row twice = {.name = "a"};
    save(f.store, &twice);
    twice.id = 0;
    OK(store_begin(f.store));
    cr_assert_eq(store_save_queue(f.store, &twice), ERR_STORAGE_IO);
    fixture_free(&f);
}
