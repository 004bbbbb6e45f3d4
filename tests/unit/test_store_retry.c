// Retries by hand: what had failed waits again as if it had never started, in steps, also across a restart.
#include "tests/unit/store_fixture.h"

static void fail(struct store *store, int64_t queue, enum priority priority, int64_t seq, uint32_t index)
{
    dispatch_and_finish(store, (struct finish_row){.key = key_make(queue, priority, seq, index),
                                                   .state = BATCH_FAILED,
                                                   .now = {5},
                                                   .excused = true,
                                                   .interrupted = true,
                                                   .error = "broken"});
}

// An ingestion whose first `count` batches failed, in one transaction.
static int64_t add_failed(struct store *store, uint64_t id, int64_t queue, uint32_t batches, uint32_t count)
{
    int64_t seq = add(store, id, queue, PRIORITY_LOW, 1, batches);
    OK(store_begin(store));
    for (uint32_t i = 0; i < count; i++) {
        struct dispatch_row out = {.key = key_make(queue, PRIORITY_LOW, seq, i), .now = NOW};
        OK(store_dispatch(store, &out, 1));
        free(out.ids);
        struct finish_row row = {.key = out.key, .state = BATCH_FAILED};
        OK(store_finish(store, &row, 1));
    }
    OK(store_commit(store));
    return seq;
}

static void expect_run(const struct retried_row *got, int64_t queue, int64_t seq, uint32_t first,
                       uint32_t end)
{
    cr_assert_eq(got->queue, queue);
    cr_assert_eq(got->row.run.seq, seq);
    cr_assert(got->row.run.first == first && got->row.run.end == end, "%u to %u", got->row.run.first,
              got->row.run.end);
}

Test(store_retry, a_retried_batch_begins_anew)
{
    struct fixture f;
    struct retried_row rows[4];
    bool more;
    char none[] = "none";
    char broken[] = "broken";
    fixture_new(&f);
    struct ingest_request request = request_make(1, PRIORITY_HIGH, 1, 6);
    struct insert insert = insert_make(&request, 1, 1);
    insert.accepted_ns = 44;
    OK(store_begin(f.store));
    OK(store_insert(f.store, &insert, 1));
    OK(store_commit(f.store));
    request_drop(&request);
    int64_t seq = insert.seq;
    static const uint32_t failed[] = {4, 1, 2};
    for (size_t i = 0; i < 3; i++) {
        fail(f.store, 1, PRIORITY_HIGH, seq, failed[i]);
    }
    expect_batch(f.store, seq, 2,
                 (struct batch_row){.state = BATCH_FAILED,
                                    .attempts = 1,
                                    .triggered = NOW,
                                    .completed = {5},
                                    .interrupted = true,
                                    .error = broken});
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(3, 0, 0, 3));
    bool any = true;
    OK(store_has_retries(f.store, &any));
    cr_assert_not(any);
    ask_retry(f.store, 1, seq, seq);
    fixture_reopen(&f);
    OK(store_has_retries(f.store, &any));
    cr_assert(any);

    cr_assert_eq(run_retries(f.store, rows, 4, &more), 2);
    cr_assert_not(more);
    expect_run(&rows[0], 1, seq, 1, 3);
    expect_run(&rows[1], 1, seq, 4, 5);
    cr_assert(rows[0].row.priority == PRIORITY_HIGH && rows[0].row.run.accepted_ns == 44);
    expect_progress(f.store, 1, STATUS_YET_TO_START, PROGRESS(6));
    expect_waiting(f.store, 1, 6, 0, 0);
    expect_batch(f.store, seq, 2, (struct batch_row){.state = BATCH_WAITING, .error = none});
    expect_sound(f.store);

    struct dispatch_row out = {.key = key_make(1, PRIORITY_HIGH, seq, 2), .now = {NOW.ms + 8}};
    OK(store_begin(f.store));
    OK(store_dispatch(f.store, &out, 1));
    OK(store_commit(f.store));
    cr_assert(out.attempt == 1 && out.excused == 0);
    free(out.ids);
    expect_batch(f.store, seq, 2,
                 (struct batch_row){
                     .state = BATCH_IN_FLIGHT, .attempts = 1, .triggered = {NOW.ms + 8}, .error = none});
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(5, 1));
    OK(store_has_retries(f.store, &any));
    cr_assert_not(any);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_retry, a_request_means_its_range_and_what_had_failed_by_then)
{
    struct fixture f;
    struct retried_row rows[8];
    bool more;
    fixture_new(&f);
    int64_t seqs[4];
    for (uint64_t i = 0; i < 4; i++) {
        seqs[i] = add_failed(f.store, i, i == 1 ? 2 : 1, 3, i < 3);
    }
    ask_retry(f.store, 1, 0, INT64_MAX);
    fail(f.store, 1, PRIORITY_LOW, seqs[3], 0);
    int64_t later = add_failed(f.store, 9, 1, 3, 1);
    cr_assert_eq(run_retries(f.store, rows, 1, &more), 1);
    cr_assert(more);
    expect_run(&rows[0], 1, seqs[0], 0, 1);
    fail(f.store, 1, PRIORITY_LOW, seqs[0], 0); // anew, behind the cursor
    fixture_reopen(&f);
    cr_assert_eq(run_retries(f.store, rows, 8, &more), 1);
    cr_assert_not(more);
    expect_run(&rows[0], 1, seqs[2], 0, 1);
    cr_assert_eq(run_retries(f.store, rows, 8, &more), 0);
    cr_assert_eq(find(f.store, 0).progress[STATUS_FAILED], 1);
    cr_assert_eq(find(f.store, 1).progress[STATUS_FAILED], 1); // on another queue
    cr_assert_eq(find(f.store, 3).progress[STATUS_FAILED], 1);
    cr_assert_eq(find(f.store, 9).progress[STATUS_FAILED], 1);
    cr_assert_gt(later, seqs[3]);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_retry, very_many_are_done_in_steps)
{
    struct fixture f;
    struct retried_row rows[16];
    bool more = true;
    enum { BATCHES = 3500 };
    fixture_new(&f);
    int64_t first = add_failed(f.store, 1, 1, BATCHES, BATCHES);
    int64_t second = add_failed(f.store, 2, 1, 3, 2);
    ask_retry(f.store, 1, 0, INT64_MAX);
    uint32_t next = 0;
    size_t steps = 0;
    while (next < BATCHES) {
        cr_assert_eq(run_retries(f.store, rows, 1, &more), 1);
        expect_run(&rows[0], 1, first, next, rows[0].row.run.end);
        cr_assert_leq(rows[0].row.run.end - next, 1000);
        next = rows[0].row.run.end;
        cr_assert(more);
        steps++;
    }
    cr_assert_eq(steps, 4);
    cr_assert_eq(run_retries(f.store, rows, 16, &more), 1);
    expect_run(&rows[0], 1, second, 0, 2);
    cr_assert_not(more);
    expect_waiting(f.store, 1, 0, 0, BATCHES + 3);
    expect_sound(f.store);
    fixture_free(&f);
}

// Requests that find nothing leave nothing, and one that comes twice does no harm.
Test(store_retry, requests_may_overlap)
{
    struct fixture f;
    struct retried_row rows[16];
    bool more;
    fixture_new(&f);
    ask_retry(f.store, 1, 0, INT64_MAX);
    bool any = true;
    OK(store_has_retries(f.store, &any));
    cr_assert_not(any);
    int64_t seq = add_failed(f.store, 1, 1, 9, 4);
    for (int i = 0; i < 3; i++) {
        ask_retry(f.store, 1, seq, seq);
        ask_retry(f.store, 1, 0, INT64_MAX);
    }
    cr_assert_eq(run_retries(f.store, rows, 16, &more), 1);
    cr_assert_not(more);
    expect_run(&rows[0], 1, seq, 0, 4);

    fail(f.store, 1, PRIORITY_LOW, seq, 3);
    ask_retry(f.store, 1, seq, seq);
    fail(f.store, 1, PRIORITY_LOW, seq, 1); // before the cursor
    ask_retry(f.store, 1, seq, seq);
    cr_assert_eq(run_retries(f.store, rows, 1, &more), 1);
    cr_assert(more);
    expect_run(&rows[0], 1, seq, 3, 4);
    cr_assert_eq(run_retries(f.store, rows, 16, &more), 1);
    cr_assert_not(more);
    expect_run(&rows[0], 1, seq, 1, 2);
    expect_sound(f.store);
    fixture_free(&f);
}

// What was cancelled is left alone by a request for a whole queue, and goes on when it is asked for itself.
Test(store_retry, cancelled_ingestions_are_retried_only_by_name)
{
    struct fixture f;
    struct retried_row rows[4];
    bool more;
    fixture_new(&f);
    int64_t seq = add_failed(f.store, 1, 1, 3, 1);
    ask_retry(f.store, 1, seq, seq);
    ask_retry(f.store, 1, 0, INT64_MAX);
    (void)cancel(f.store, 1, 9, ERR_OK); // after they were asked for
    cr_assert_eq(run_retries(f.store, rows, 4, &more), 0);
    cr_assert_not(more);
    ask_retry(f.store, 1, 0, INT64_MAX);
    cr_assert_eq(run_retries(f.store, rows, 4, &more), 0);
    expect_progress(f.store, 1, STATUS_CANCELLED, PROGRESS(0, 0, 0, 1, 2));
    ask_retry(f.store, 1, seq, seq);
    cr_assert_eq(run_retries(f.store, rows, 4, &more), 1);
    expect_progress(f.store, 1, STATUS_TRIGGERED,
                    PROGRESS(1, 0, 0, 0, 2)); // what never started stays cancelled
    expect_sound(f.store);

    (void)dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 0));
    struct in_flight_row *in_flight;
    size_t count;
    OK(store_load_in_flight(f.store, &in_flight, &count));
    cr_assert(count == 1 && !in_flight[0].cancelled);
    store_free_in_flight(in_flight, count);
    expect_sound(f.store);
    fixture_free(&f);
}
