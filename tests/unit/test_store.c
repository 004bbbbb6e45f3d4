// The store as its callers use it: what goes in comes out again, also after closing and opening.
#include "tests/unit/store_fixture.h"

static struct ingestion_row find(struct store *store, uint64_t id)
{
    struct ingestion_row row;
    struct id key = id_number(id);
    OK(store_find(store, &key, &row));
    return row;
}

// ---- start-up and queues ----

Test(store, meta_is_empty_then_kept)
{
    struct fixture f;
    struct id boot;
    struct id zero = {{0}};
    struct buf flags;
    fixture_new(&f);
    buf_init(&flags);
    OK(store_load_meta(f.store, &boot, &flags));
    cr_assert(id_equal(&boot, &zero));
    cr_assert_eq(flags.len, 0);

    struct id this_boot = id_number(77);
    OK(store_begin(f.store));
    OK(store_save_meta(f.store, &this_boot, "rate=1/5s"));
    OK(store_commit(f.store));
    fixture_reopen(&f);
    OK(store_load_meta(f.store, &boot, &flags));
    cr_assert(id_equal(&boot, &this_boot));
    cr_assert_str_eq(flags.data, "rate=1/5s");
    buf_fini(&flags);
    fixture_free(&f);
}

static struct queue_row sample_queue(const char *name)
{
    struct queue_row row = {
        .settings = {.rate = {1000000000, 366 * 24 * 3600 * NS_PER_S},
                     .burst = UINT32_MAX,
                     .linger_ns = 100 * NS_PER_MS,
                     .concurrency = 7,
                     .batch_size = 3,
                     .max_id = ID_VALUE_MAX,
                     .target = "http://127.0.0.1:9/x?y=z",
                     .timeout_ns = 30 * NS_PER_S,
                     .max_attempts = 5,
                     .min_backoff_ns = NS_PER_S,
                     .max_backoff_ns = 300 * NS_PER_S,
                     .max_hold_ns = 3600 * NS_PER_S},
        .figures = {.bucket = {MONO_NEVER, 999999999},
                    .held_until = {-1},
                    .held_until_wall = {1700000000000},
                    .delivery_ns = 12345,
                    .dispatched = 1,
                    .completed = 2,
                    .failed = UINT64_MAX},
    };
    (void)snprintf(row.name, sizeof row.name, "%s", name);
    return row;
}

static void expect_queue(const struct queue_row *got, const struct queue_row *want)
{
    const struct queue_settings *a = &got->settings;
    const struct queue_settings *b = &want->settings;
    cr_assert_eq(got->id, want->id);
    cr_assert_str_eq(got->name, want->name);
    cr_assert_str_eq(a->target, b->target);
    cr_assert(a->rate.count == b->rate.count && a->rate.per_ns == b->rate.per_ns && a->burst == b->burst &&
              a->linger_ns == b->linger_ns && a->concurrency == b->concurrency &&
              a->batch_size == b->batch_size && a->max_id == b->max_id && a->timeout_ns == b->timeout_ns &&
              a->max_attempts == b->max_attempts && a->min_backoff_ns == b->min_backoff_ns &&
              a->max_backoff_ns == b->max_backoff_ns && a->max_hold_ns == b->max_hold_ns);
    const struct queue_figures *c = &got->figures;
    const struct queue_figures *d = &want->figures;
    cr_assert(c->bucket.tat.ns == d->bucket.tat.ns && c->bucket.fraction == d->bucket.fraction &&
              c->held_until.ns == d->held_until.ns && c->held_until_wall.ms == d->held_until_wall.ms &&
              c->delivery_ns == d->delivery_ns && c->dispatched == d->dispatched &&
              c->completed == d->completed && c->failed == d->failed);
}

Test(store, queues_keep_their_order_settings_and_figures)
{
    struct fixture f;
    struct queue_row *rows;
    size_t count;
    fixture_new(&f);
    OK(store_load_queues(f.store, &rows, &count));
    cr_assert_eq(count, 0);
    free(rows);

    struct queue_row made[] = {sample_queue("default"), sample_queue("a")};
    memset(made[1].settings.target, 'x', sizeof made[1].settings.target - 1);
    OK(store_begin(f.store));
    OK(store_save_queue(f.store, &made[0]));
    OK(store_save_queue(f.store, &made[1]));
    OK(store_commit(f.store));
    cr_assert_gt(made[0].id, 0);
    cr_assert_gt(made[1].id, made[0].id);

    made[0].settings.burst = 1; // replaced; the figures given with it are not
    made[0].settings.rate = (struct rate){0, 0};
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
    free(rows);
    fixture_free(&f);
}

// ---- ingestions ----

Test(store, ingestion_comes_back)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 4, PRIORITY_LOW, 3, 5);
    cr_assert_gt(add(f.store, 2, 4, PRIORITY_LOW, 3, 5), seq);
    fixture_reopen(&f);

    struct ingestion_row row = find(f.store, 1);
    struct id id = id_number(1);
    cr_assert(id_equal(&row.id, &id));
    cr_assert_eq(row.seq, seq);
    cr_assert_eq(row.queue, 4);
    cr_assert_eq(row.priority, PRIORITY_LOW);
    cr_assert_eq(row.batch_size, 3);
    cr_assert_eq(row.ids, 5);
    cr_assert_eq(row.batches, 2);
    cr_assert_eq(row.created.ms, NOW.ms);
    cr_assert_eq(row.progress[STATUS_YET_TO_START], 2);
    cr_assert_eq(ingestion_status(&row), STATUS_YET_TO_START);
    id = id_number(3);
    cr_assert_eq(store_find(f.store, &id, &row), ERR_NOT_FOUND);
    fixture_free(&f);
}

Test(store, repeats_and_reuse)
{
    struct fixture f;
    fixture_new(&f);
    char key_a[] = "a";
    char key_b[] = "b";
    // Inserted in one array that is rolled back, then each in a transaction of its own: the results are the
    // same.
    const struct {
        uint64_t id;
        char *key;
        int64_t queue;
        enum priority priority;
        uint64_t first;
        uint32_t count;
        uint32_t batch_size;
        bool only_replay;
        enum insert_result result;
        uint64_t answer;
    } cases[] = {
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, true, INSERT_NO_ROOM, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_NEW, 1},
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_REPLAYED, 1},
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 2, false, INSERT_REPLAYED, 1}, // a queue's setting, no content
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, true, INSERT_REPLAYED, 1},
        {1, NULL, 2, PRIORITY_LOW, 1, 5, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_HIGH, 1, 5, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 2, 5, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 4, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 4, 3, true, INSERT_ID_REUSED, 0},
        {2, key_a, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_NEW, 2},
        {3, key_a, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_REPLAYED, 2},
        {3, key_a, 1, PRIORITY_LOW, 1, 5, 3, true, INSERT_REPLAYED, 2},
        {3, key_a, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_KEY_REUSED, 0},
        {3, key_a, 1, PRIORITY_HIGH, 1, 5, 3, true, INSERT_KEY_REUSED, 0},
        {1, key_a, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_REPLAYED, 1}, // the ID counts before the key
        {1, key_b, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_ID_REUSED, 0},
        {4, key_b, 1, PRIORITY_LOW, 1, 6, 3, true, INSERT_NO_ROOM, 0},
        {4, key_b, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_NEW, 4}, // the refused one has not taken the key
        {5, NULL, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_NEW, 5},  // no key twice is no repeat
        {6, NULL, 2, PRIORITY_LOW, 1000, 2, 3, false, INSERT_NEW, 6},
        {6, NULL, 2, PRIORITY_LOW, 1, 2, 3, false, INSERT_ID_REUSED, 0}, // as many, but a shorter text
        {6, NULL, 2, PRIORITY_LOW, 10000, 2, 3, false, INSERT_ID_REUSED, 0},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct ingest_request requests[CASES];
    struct insert inserts[CASES];
    for (size_t i = 0; i < CASES; i++) {
        requests[i] = request_make(cases[i].id, cases[i].priority, cases[i].first, cases[i].count);
        requests[i].idempotency_key = cases[i].key;
        inserts[i] = insert_make(&requests[i], cases[i].queue, cases[i].batch_size);
        inserts[i].only_replay = cases[i].only_replay;
    }
    OK(store_begin(f.store));
    OK(store_insert(f.store, inserts, CASES));
    store_rollback(f.store);
    for (size_t i = 0; i < 2 * CASES; i++) {
        size_t c = i % CASES;
        if (i >= CASES) {
            OK(store_begin(f.store));
            OK(store_insert(f.store, &inserts[c], 1));
            OK(store_commit(f.store));
        }
        cr_assert_eq(inserts[c].result, cases[c].result, "case %zu", i);
        struct id answer = id_number(cases[c].answer);
        cr_assert(cases[c].answer == 0 || id_equal(&inserts[c].ingestion, &answer), "case %zu", i);
    }
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(f.store, 1, waiting));
    cr_assert_eq(waiting[PRIORITY_LOW], 8);
    for (size_t i = 0; i < CASES; i++) {
        request_drop(&requests[i]);
    }
    fixture_free(&f);
}

Test(store, repeats_of_many_chunks_are_compared_to_the_end)
{
    struct fixture f;
    fixture_new(&f);
    struct ingest_request request = request_make(1, PRIORITY_LOW, 10000, 5000);
    struct insert insert = insert_make(&request, 1, 3);
    OK(store_begin(f.store));
    OK(store_insert(f.store, &insert, 1));
    OK(store_insert(f.store, &insert, 1));
    cr_assert_eq(insert.result, INSERT_REPLAYED);
    static const size_t places[] = {0, 6 * 1023, 6 * 2500, 6 * 5000 - 2};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char kept = request.ids.text[places[i]];
        request.ids.text[places[i]] = kept == '1' ? '2' : '1';
        OK(store_insert(f.store, &insert, 1));
        cr_assert_eq(insert.result, INSERT_ID_REUSED, "place %zu", places[i]);
        request.ids.text[places[i]] = kept;
    }
    OK(store_commit(f.store));
    request_drop(&request);
    fixture_free(&f);
}

// What a batch gives and what a page gives, against the text that went in.
static void check_ids(struct store *store, const struct ingest_request *request, uint32_t batch_size)
{
    struct insert insert = insert_make(request, 1, batch_size);
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    OK(store_commit(store));
    struct ingestion_row row;
    OK(store_find(store, &request->id, &row));
    cr_assert_eq(row.batches, (request->ids.count + batch_size - 1) / batch_size);

    struct buf text;
    buf_init(&text);
    OK(store_read_ids(store, &row, 0, UINT32_MAX, &text)); // all of it
    cr_assert_str_eq(text.data, request->ids.text);

    size_t width = request->ids.len / request->ids.count + 1; // all IDs here are equally long
    cr_assert_eq((request->ids.len + 1) % width, 0);
    static const uint32_t pages[][2] = {{0, 1},      {1, 1},    {1023, 2},     {1020, 5000},
                                        {4999, 2},   {5000, 1}, {99999, 1},    {99999, 7},
                                        {100000, 1}, {17, 0},   {50000, 10000}};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        uint32_t from = pages[i][0];
        uint32_t n = from >= row.ids ? 0 : row.ids - from < pages[i][1] ? row.ids - from : pages[i][1];
        buf_reset(&text);
        OK(store_read_ids(store, &row, from, pages[i][1], &text));
        cr_assert_eq(text.len, n == 0 ? 0 : n * width - 1, "page %zu", i);
        cr_assert(n == 0 || memcmp(text.data, request->ids.text + from * width, text.len) == 0, "page %zu",
                  i);
    }
    buf_fini(&text);

    OK(store_begin(store));
    for (uint32_t index = 0; index < row.batches; index += index % 7 == 0 ? 1 : row.batches / 50 + 1) {
        struct dispatch_row out = {.key = key_make(1, request->priority, row.seq, index), .now = NOW};
        OK(store_dispatch(store, &out, 1));
        uint32_t from = index * batch_size;
        uint32_t n = row.ids - from < batch_size ? row.ids - from : batch_size;
        cr_assert_eq(strlen(out.ids), n * width - 1);
        cr_assert_eq(memcmp(out.ids, request->ids.text + from * width, n * width - 1), 0);
        cr_assert(id_equal(&out.ingestion, &request->id));
        free(out.ids);
    }
    OK(store_commit(store));
}

Test(store, large_ingestions_in_chunks)
{
    struct fixture f;
    fixture_new(&f);
    static const uint32_t sizes[] = {1, 3, 7, 1000, 1023, 1024, 1025, 5000, IDS_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ingest_request request =
            request_make(i + 1, PRIORITY_MEDIUM, ID_VALUE_MAX - IDS_MAX + 1, IDS_MAX);
        cr_assert_str_eq(request.ids.text + request.ids.len - 17, ",9007199254740991");
        check_ids(f.store, &request, sizes[i]);
        request_drop(&request);
    }
    fixture_free(&f);
}

// ---- batches ----

static struct batch_row read_one(struct store *store, int64_t seq, uint32_t index)
{
    struct batch_row *rows;
    size_t count;
    OK(store_read_batches(store, seq, index, index + 1, &rows, &count));
    cr_assert_eq(count, 1);
    struct batch_row row = rows[0];
    row.error = row.error != NULL ? strdup(row.error) : NULL;
    store_free_batches(rows, count);
    return row;
}

static void expect_batch(struct store *store, int64_t seq, uint32_t index, struct batch_row want)
{
    struct batch_row row = read_one(store, seq, index);
    cr_assert_eq(row.index, index);
    cr_assert_eq(row.state, want.state);
    cr_assert_eq(row.attempts, want.attempts);
    cr_assert_eq(row.triggered.ms, NOW.ms);
    cr_assert_eq(row.completed.ms, want.completed.ms);
    cr_assert_eq(row.due.ns, want.due.ns);
    cr_assert_str_eq(row.error != NULL ? row.error : "none", want.error);
    free(row.error);
}

static void expect_progress(struct store *store, uint64_t id, enum status status,
                            const uint32_t progress[STATUSES])
{
    struct ingestion_row row = find(store, id);
    cr_assert_eq(ingestion_status(&row), status);
    cr_assert_arr_eq(row.progress, progress, sizeof row.progress);
}

#define PROGRESS(...) ((const uint32_t[STATUSES]){__VA_ARGS__})

Test(store, life_of_a_batch)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 1, PRIORITY_HIGH, 3, 6);
    struct batch_key key = key_make(1, PRIORITY_HIGH, seq, 0);
    char none[] = "none";
    char busy[] = "busy";
    char late[] = "late";

    cr_assert_eq(dispatch(f.store, key), 1);
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(1, 1));
    expect_batch(f.store, seq, 0, (struct batch_row){.state = BATCH_IN_FLIGHT, .attempts = 1, .error = none});

    finish(f.store, (struct finish_row){
                        .key = key, .state = BATCH_BACKOFF, .due = {50}, .error = busy, .excused = true});
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(1, 1));
    expect_batch(f.store, seq, 0,
                 (struct batch_row){.state = BATCH_BACKOFF, .attempts = 1, .due = {50}, .error = busy});

    OK(store_begin(f.store));
    OK(store_promote(f.store, &key, 1));
    OK(store_commit(f.store));
    expect_batch(f.store, seq, 0, (struct batch_row){.state = BATCH_WAITING, .attempts = 1, .error = busy});

    fixture_reopen(&f);
    struct dispatch_row out = {.key = key, .now = {NOW.ms + 5}};
    OK(store_begin(f.store));
    OK(store_dispatch(f.store, &out, 1));
    OK(store_commit(f.store));
    cr_assert_eq(out.attempt, 2);
    cr_assert_eq(out.excused, 1);
    cr_assert_str_eq(out.ids, "1,2,3");
    free(out.ids);
    finish(f.store, (struct finish_row){.key = key, .state = BATCH_WAITING, .excused = true}); // cut off
    cr_assert_eq(dispatch(f.store, key), 3);
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(1, 1));

    finish(f.store, (struct finish_row){.key = key, .state = BATCH_COMPLETED, .now = {9}, .error = ""});
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(1, 0, 1));
    expect_batch(
        f.store, seq, 0,
        (struct batch_row){.state = BATCH_COMPLETED, .attempts = 3, .completed = {9}, .error = none});

    key.place.index = 1;
    dispatch(f.store, key);
    finish(f.store, (struct finish_row){.key = key, .state = BATCH_FAILED, .now = {10}, .error = late});
    expect_progress(f.store, 1, STATUS_FAILED, PROGRESS(0, 0, 1, 1));
    expect_batch(f.store, seq, 1,
                 (struct batch_row){.state = BATCH_FAILED, .attempts = 1, .completed = {10}, .error = late});
    fixture_free(&f);
}

Test(store, status_of_an_ingestion)
{
    static const struct {
        uint32_t progress[STATUSES]; // yet to start, triggered, completed, failed, cancelled
        enum status status;
    } cases[] = {
        {{4, 0, 0, 0, 0}, STATUS_YET_TO_START}, {{3, 1, 0, 0, 0}, STATUS_TRIGGERED},
        {{3, 0, 1, 0, 0}, STATUS_TRIGGERED},    {{3, 0, 0, 1, 0}, STATUS_TRIGGERED},
        {{0, 1, 0, 0, 3}, STATUS_TRIGGERED},    {{0, 0, 4, 0, 0}, STATUS_COMPLETED},
        {{0, 0, 3, 1, 0}, STATUS_FAILED},       {{0, 0, 3, 0, 1}, STATUS_CANCELLED},
        {{0, 0, 2, 1, 1}, STATUS_CANCELLED},    {{0, 0, 0, 0, 4}, STATUS_CANCELLED},
        {{0, 0, 0, 4, 0}, STATUS_FAILED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ingestion_row row = {.batches = 4};
        memcpy(row.progress, cases[i].progress, sizeof row.progress);
        cr_assert_eq(ingestion_status(&row), cases[i].status, "case %zu", i);
    }
}

Test(store, batches_are_read_by_range_and_only_when_started)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 1, PRIORITY_HIGH, 1, 100);
    add(f.store, 2, 1, PRIORITY_HIGH, 1, 100);
    for (uint32_t i = 0; i < 100; i += 3) {
        dispatch(f.store, key_make(1, PRIORITY_HIGH, seq, i));
    }
    static const uint32_t ranges[][3] = {{0, 100, 34}, {0, 1, 1},   {1, 3, 0},
                                         {1, 4, 1},    {50, 50, 0}, {90, 200, 4}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        struct batch_row *rows;
        size_t count;
        OK(store_read_batches(f.store, seq, ranges[i][0], ranges[i][1], &rows, &count));
        cr_assert_eq(count, ranges[i][2], "range %zu", i);
        for (size_t j = 0; j < count; j++) {
            cr_assert_eq(rows[j].index % 3, 0);
            cr_assert(rows[j].index >= ranges[i][0] && rows[j].index < ranges[i][1]);
            cr_assert(j == 0 || rows[j].index > rows[j - 1].index);
        }
        store_free_batches(rows, count);
    }
    fixture_free(&f);
}

// A batch that is not where the caller says it is means that memory and disk disagree.
Test(store, what_cannot_be_is_refused_and_takes_the_transaction_along)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 1, PRIORITY_HIGH, 3, 9);
    struct batch_key first = key_make(1, PRIORITY_HIGH, seq, 0);
    struct batch_key second = key_make(1, PRIORITY_HIGH, seq, 1);
    dispatch(f.store, second);

    struct dispatch_row again[] = {{.key = first}, {.key = second}};
    OK(store_begin(f.store));
    cr_assert_eq(store_dispatch(f.store, again, 2), ERR_STORAGE_IO);
    cr_assert_null(again[0].ids);
    store_rollback(f.store);

    struct finish_row row = {.key = first, .state = BATCH_COMPLETED};
    OK(store_begin(f.store));
    cr_assert_eq(store_finish(f.store, &row, 1), ERR_STORAGE_IO);
    OK(store_begin(f.store));
    cr_assert_eq(store_promote(f.store, &second, 1), ERR_STORAGE_IO);
    struct queue_row unknown = {.id = 99};
    OK(store_begin(f.store));
    cr_assert_eq(store_save_queue(f.store, &unknown), ERR_STORAGE_IO);

    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(2, 1));
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(f.store, 1, waiting));
    cr_assert_eq(waiting[PRIORITY_HIGH], 2);
    fixture_free(&f);
}

Test(store, in_flight_is_found_again)
{
    struct fixture f;
    fixture_new(&f);
    int64_t a = add(f.store, 1, 7, PRIORITY_LOW, 1, 100);
    int64_t b = add(f.store, 2, 8, PRIORITY_HIGH, 1, 100);
    for (uint32_t i = 0; i < 40; i++) {
        dispatch(f.store, key_make(7, PRIORITY_LOW, a, i));
        dispatch(f.store, key_make(8, PRIORITY_HIGH, b, i));
    }
    finish(f.store, (struct finish_row){.key = key_make(7, PRIORITY_LOW, a, 0), .state = BATCH_COMPLETED});
    finish(f.store, (struct finish_row){.key = key_make(8, PRIORITY_HIGH, b, 5), .state = BATCH_BACKOFF});
    fixture_reopen(&f);
    struct batch_key *keys;
    size_t count;
    OK(store_load_in_flight(f.store, &keys, &count));
    cr_assert_eq(count, 78);
    for (size_t i = 0; i < count; i++) {
        bool low = i < 39;
        cr_assert_eq(keys[i].queue, low ? 7 : 8);
        cr_assert_eq(keys[i].place.seq, low ? a : b);
        cr_assert_eq(keys[i].place.priority, low ? PRIORITY_LOW : PRIORITY_HIGH);
        cr_assert(i == 0 || i == 39 || keys[i].place.index > keys[i - 1].place.index);
    }
    free(keys);
    fixture_free(&f);
}

Test(store, backoff_is_read_in_its_order)
{
    struct fixture f;
    fixture_new(&f);
    enum { BATCHES = 2500 };
    int64_t seq = add(f.store, 1, 3, PRIORITY_MEDIUM, 1, BATCHES);
    OK(store_begin(f.store));
    for (uint32_t i = 0; i < BATCHES; i++) {
        struct dispatch_row out = {.key = key_make(3, PRIORITY_MEDIUM, seq, i)};
        OK(store_dispatch(f.store, &out, 1));
        free(out.ids);
        struct finish_row row = {.key = out.key, .state = BATCH_BACKOFF, .due = {1000 + i * 7919 % 50}};
        OK(store_finish(f.store, &row, 1));
    }
    OK(store_commit(f.store));

    struct backoff_row rows[64];
    struct backoff_row last = {.key.place.seq = -1, .due = {INT64_MIN}};
    size_t total = 0;
    for (size_t count = 64; count > 0; total += count) {
        count = 64;
        OK(store_read_backoff(f.store, last.due, last.key.place.seq, last.key.place.index, rows, &count));
        for (size_t i = 0; i < count; i++) {
            cr_assert(rows[i].due.ns > last.due.ns ||
                      (rows[i].due.ns == last.due.ns && rows[i].key.place.index > last.key.place.index));
            cr_assert_eq(rows[i].key.queue, 3);
            cr_assert_eq(rows[i].key.place.priority, PRIORITY_MEDIUM);
            last = rows[i];
        }
    }
    cr_assert_eq(total, BATCHES);

    OK(store_begin(f.store));
    OK(store_rebase_backoff(f.store, (struct mono){7}));
    OK(store_commit(f.store));
    size_t count = 64;
    OK(store_read_backoff(f.store, (struct mono){7}, seq, BATCHES - 2, rows, &count));
    cr_assert_eq(count, 1);
    cr_assert_eq(rows[0].due.ns, 7);
    cr_assert_eq(rows[0].key.place.index, BATCHES - 1);
    fixture_free(&f);
}

// ---- transactions ----

Test(store, rollback_leaves_nothing)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 1, PRIORITY_HIGH, 3, 9);
    struct ingest_request request = request_make(2, PRIORITY_HIGH, 1, 9);
    struct insert insert = insert_make(&request, 1, 3);
    struct dispatch_row out = {.key = key_make(1, PRIORITY_HIGH, seq, 0)};
    OK(store_begin(f.store));
    OK(store_insert(f.store, &insert, 1));
    OK(store_dispatch(f.store, &out, 1));
    free(out.ids);
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(f.store, 1, waiting)); // reads inside see what was written
    cr_assert_eq(waiting[PRIORITY_HIGH], 5);
    store_rollback(f.store);
    store_rollback(f.store);

    OK(store_load_waiting(f.store, 1, waiting));
    cr_assert_eq(waiting[PRIORITY_HIGH], 3);
    struct ingestion_row row;
    cr_assert_eq(store_find(f.store, &request.id, &row), ERR_NOT_FOUND);
    expect_progress(f.store, 1, STATUS_YET_TO_START, PROGRESS(3));
    request_drop(&request);
    fixture_free(&f);
}

// ---- lists ----

Test(store, list_pages_newest_first)
{
    struct fixture f;
    fixture_new(&f);
    enum { TOTAL = 3000 };
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    OK(store_begin(f.store));
    for (uint64_t i = 0; i < TOTAL; i++) {
        request.id = id_number(i);
        request.priority = i == 100 ? PRIORITY_HIGH : PRIORITY_LOW;
        struct insert insert = insert_make(&request, i == 200 ? 2 : 1, 3);
        OK(store_insert(f.store, &insert, 1));
    }
    OK(store_commit(f.store));
    request_drop(&request);
    struct ingestion_row target = find(f.store, 300);
    dispatch(f.store, key_make(1, PRIORITY_LOW, target.seq, 0));

    static const struct {
        struct list_request filter;
        int64_t queue;
        size_t page;
        size_t found;
        uint64_t only; // the one found
        size_t calls_max;
    } cases[] = {
        {{0}, 0, 50, TOTAL, 0, TOTAL / 50},
        {{0}, 0, 7, TOTAL, 0, TOTAL / 7 + 1},
        {{0}, 0, 1000, TOTAL, 0, 3},
        {{.has_priority = true, .priority = PRIORITY_HIGH}, 0, 50, 1, 100, 3},
        {{0}, 2, 50, 1, 200, 3},
        {{.has_status = true, .status = STATUS_TRIGGERED}, 0, 50, 1, 300, 3},
        {{.has_status = true, .status = STATUS_FAILED}, 0, 50, 0, 0, 3},
        {{.has_status = true, .status = STATUS_TRIGGERED}, 1, 1, 1, 300, 4},
    };
    struct ingestion_row rows[1000];
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int64_t before = INT64_MAX;
        int64_t last = INT64_MAX;
        size_t found = 0;
        size_t calls = 0;
        do {
            size_t count = cases[c].page;
            OK(store_list(f.store, &cases[c].filter, cases[c].queue, before, rows, &count, &before));
            for (size_t i = 0; i < count; i++) {
                cr_assert_lt(rows[i].seq, last);
                last = rows[i].seq;
                struct id only = id_number(cases[c].only);
                cr_assert(cases[c].found > 1 || id_equal(&rows[i].id, &only), "case %zu", c);
            }
            found += count;
            calls++;
        } while (before != 0);
        cr_assert_eq(found, cases[c].found, "case %zu", c);
        cr_assert_leq(calls, cases[c].calls_max, "case %zu", c);
    }
    fixture_free(&f);
}
