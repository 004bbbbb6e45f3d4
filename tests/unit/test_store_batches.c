// A batch on its way: dispatched, cut off, leased, completed or failed.
#include "tests/unit/store_fixture.h"

// ---- batches ----

Test(store_batches, life_of_a_batch)
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
    expect_batch(
        f.store, seq, 0,
        (struct batch_row){.triggered = NOW, .state = BATCH_IN_FLIGHT, .attempts = 1, .error = none});

    finish(f.store, (struct finish_row){
                        .key = key, .state = BATCH_BACKOFF, .due = {50}, .error = busy, .excused = true});
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(1, 1));
    expect_batch(f.store, seq, 0,
                 (struct batch_row){
                     .triggered = NOW, .state = BATCH_BACKOFF, .attempts = 1, .due = {50}, .error = busy});

    struct returned_row due[2];
    size_t count = 2;
    cr_assert_eq(take_due(f.store, 1, DUE_RETRY, 50, due, &count), DUE_NEVER);
    cr_assert(count == 1 && due[0].priority == PRIORITY_HIGH);
    cr_assert(due[0].run.seq == seq && due[0].run.first == 0 && due[0].run.end == 1);
    expect_batch(f.store, seq, 0,
                 (struct batch_row){.triggered = NOW, .state = BATCH_WAITING, .attempts = 1, .error = busy});

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
        (struct batch_row){
            .triggered = NOW, .state = BATCH_COMPLETED, .attempts = 3, .completed = {9}, .error = none});

    key.place.index = 1;
    dispatch(f.store, key);
    finish(f.store, (struct finish_row){.key = key, .state = BATCH_FAILED, .now = {10}, .error = late});
    expect_progress(f.store, 1, STATUS_FAILED, PROGRESS(0, 0, 1, 1));
    expect_batch(
        f.store, seq, 1,
        (struct batch_row){
            .triggered = NOW, .state = BATCH_FAILED, .attempts = 1, .completed = {10}, .error = late});
    fixture_free(&f);
}

Test(store_batches, status_of_an_ingestion)
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

Test(store_batches, batches_are_read_by_range_and_only_when_started)
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
Test(store_batches, what_cannot_be_is_refused_and_takes_the_transaction_along)
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
    struct id lease = id_number(5); // it is in flight, but not leased
    cr_assert_eq(store_extend_lease(f.store, &lease, &second.place, (struct mono){9}), ERR_STORAGE_IO);

    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(2, 1));
    expect_waiting(f.store, 1, 2, 0, 0);
    fixture_free(&f);
}

Test(store_batches, in_flight_is_found_again)
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
    struct in_flight_row *rows;
    size_t count;
    OK(store_load_in_flight(f.store, &rows, &count));
    cr_assert_eq(count, 78);
    for (size_t i = 0; i < count; i++) {
        bool low = i < 39;
        struct id ingestion = id_number(low ? 1 : 2);
        cr_assert_eq(rows[i].key.queue, low ? 7 : 8);
        cr_assert_eq(rows[i].key.place.seq, low ? a : b);
        cr_assert_eq(rows[i].key.place.priority, low ? PRIORITY_LOW : PRIORITY_HIGH);
        cr_assert(i == 0 || i == 39 || rows[i].key.place.index > rows[i - 1].key.place.index);
        cr_assert(id_equal(&rows[i].ingestion, &ingestion));
        cr_assert(rows[i].attempt == 1 && rows[i].excused == 0 && !rows[i].leased && !rows[i].cancelled);
    }
    store_free_in_flight(rows, count);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_batches, a_batch_that_was_cut_off_says_so_from_then_on)
{
    struct fixture f;
    fixture_new(&f);
    char none[] = "none";
    int64_t seq = add(f.store, 1, 1, PRIORITY_HIGH, 3, 6);
    struct batch_key key = key_make(1, PRIORITY_HIGH, seq, 1);
    dispatch_and_finish(
        f.store,
        (struct finish_row){.key = key, .state = BATCH_WAITING, .excused = true, .interrupted = true});
    dispatch_and_finish(f.store, (struct finish_row){.key = key, .state = BATCH_COMPLETED, .now = {5}});
    expect_batch(f.store, seq, 1,
                 (struct batch_row){.state = BATCH_COMPLETED,
                                    .attempts = 2,
                                    .triggered = NOW,
                                    .completed = {5},
                                    .interrupted = true,
                                    .error = none});
    fixture_free(&f);
}

// ---- leases ----

static void lease(struct store *store, struct batch_key key, uint64_t id, int64_t until_ns)
{
    struct dispatch_row row = {
        .key = key, .now = NOW, .leased = true, .lease = id_number(id), .lease_until = {until_ns}};
    OK(store_begin(store));
    OK(store_dispatch(store, &row, 1));
    OK(store_commit(store));
    free(row.ids);
}

static void expect_lease(const struct in_flight_row *row, uint64_t id, int64_t until_ns, uint32_t attempt,
                         const char *ids)
{
    struct id want = id_number(id);
    cr_assert(row->leased && id_equal(&row->lease, &want));
    cr_assert_eq(row->lease_until.ns, until_ns);
    cr_assert_eq(row->attempt, attempt);
    cr_assert_str_eq(row->ids, ids);
}

Test(store_batches, leases_outlive_the_process_but_not_their_attempt)
{
    struct fixture f;
    struct in_flight_row *rows;
    size_t count;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 1, PRIORITY_HIGH, 3, 14);
    struct batch_key keys[5];
    for (uint32_t i = 0; i < 5; i++) {
        keys[i] = key_make(1, PRIORITY_HIGH, seq, i);
        lease(f.store, keys[i], 70 + i / 2, 1000 + i);
    }
    finish(f.store, (struct finish_row){.key = keys[0], .state = BATCH_WAITING, .excused = true});
    lease(f.store, keys[0], 80, 2000);
    finish(f.store, (struct finish_row){.key = keys[1], .state = BATCH_COMPLETED});
    finish(f.store, (struct finish_row){.key = keys[2], .state = BATCH_WAITING});
    (void)dispatch(f.store, keys[2]); // by a target that leases nothing
    finish(f.store, (struct finish_row){.key = keys[3], .state = BATCH_BACKOFF, .due = {1}});
    struct id held = id_number(72);
    OK(store_begin(f.store));
    OK(store_extend_lease(f.store, &held, &keys[4].place, (struct mono){3000}));
    OK(store_commit(f.store));
    expect_sound(f.store);

    fixture_reopen(&f);
    OK(store_load_in_flight(f.store, &rows, &count));
    cr_assert_eq(count, 3);
    expect_lease(&rows[0], 80, 2000, 2, "1,2,3");
    cr_assert_eq(rows[0].excused, 1);
    cr_assert(!rows[1].leased && rows[1].key.place.index == 2);
    expect_lease(&rows[2], 72, 3000, 1, "13,14");
    store_free_in_flight(rows, count);

    struct id lost = id_number(73);
    OK(store_begin(f.store));
    cr_assert_eq(store_extend_lease(f.store, &lost, &keys[4].place, (struct mono){9}), ERR_STORAGE_IO);
    OK(store_begin(f.store)); // after a reboot
    OK(store_rebase_moments(f.store, (struct mono){2500}));
    OK(store_commit(f.store));
    OK(store_load_in_flight(f.store, &rows, &count));
    cr_assert(rows[0].lease_until.ns == 2000 && rows[2].lease_until.ns == 2500);
    store_free_in_flight(rows, count);
    fixture_free(&f);
}

// ---- transactions ----

Test(store_batches, rollback_leaves_nothing)
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
    expect_waiting(f.store, 1, 5, 0, 0); // reads inside see what was written
    store_rollback(f.store);
    store_rollback(f.store);

    expect_waiting(f.store, 1, 3, 0, 0);
    struct ingestion_row row;
    cr_assert_eq(store_find(f.store, &request.id, &row), ERR_NOT_FOUND);
    expect_progress(f.store, 1, STATUS_YET_TO_START, PROGRESS(3));
    request_drop(&request);
    fixture_free(&f);
}

// ---- where it came from ----

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Test(store_batches, what_an_ingestion_came_with_is_there_at_each_dispatch)
{
    static const struct trace traces[] = {{"r/1", TRACEPARENT}, {"r/2", ""}, {"", TRACEPARENT}, {"", ""}};
    struct fixture f;
    fixture_new(&f);
    for (size_t i = 0; i < 4; i++) {
        struct ingest_request request = request_make(i + 1, PRIORITY_LOW, 1, 2);
        struct insert insert = insert_make(&request, 1, 1);
        insert.trace = i < 3 ? &traces[i] : NULL;
        OK(store_begin(f.store));
        OK(store_insert(f.store, &insert, 1));
        OK(store_commit(f.store));
        request_drop(&request);
    }
    for (uint32_t index = 0; index < 2; index++) {
        fixture_reopen(&f);
        for (size_t i = 0; i < 4; i++) {
            struct dispatch_row row = {.key = key_make(1, PRIORITY_LOW, (int64_t)i + 1, index),
                                       .now = NOW,
                                       .leased = index == 1,
                                       .lease = id_number(9),
                                       .lease_until = {5}};
            OK(store_begin(f.store));
            OK(store_dispatch(f.store, &row, 1));
            OK(store_commit(f.store));
            cr_assert_str_eq(row.trace.request_id, traces[i].request_id);
            cr_assert_str_eq(row.trace.traceparent, traces[i].traceparent);
            free(row.ids);
        }
    }
    struct in_flight_row *rows;
    size_t count;
    OK(store_load_in_flight(f.store, &rows, &count));
    cr_assert_eq(count, 8);
    for (size_t i = 0; i < count; i++) {
        const struct trace *want = &traces[i / 2];
        cr_assert_str_eq(rows[i].trace.request_id, rows[i].leased ? want->request_id : "");
        cr_assert_str_eq(rows[i].trace.traceparent, rows[i].leased ? want->traceparent : "");
    }
    store_free_in_flight(rows, count);
    cr_assert_eq(
        sql_integer(f.store->db, "SELECT count(*) FROM ingestion WHERE request_id = '' OR traceparent = ''"),
        0);
    expect_sound(f.store);
    fixture_free(&f);
}
