// Ingestions that are cancelled, and such whose deadline comes: what had not ended is cancelled, all counts
// stay exact, and what is in flight runs to its end.
#include "tests/unit/store_fixture.h"

static void expect_removal(struct removal got, int64_t seq, uint32_t waiting, uint32_t delayed,
                           bool cancelled)
{
    cr_assert_eq(got.seq, seq);
    cr_assert_eq(got.waiting, waiting);
    cr_assert_eq(got.delayed, delayed);
    cr_assert_eq(got.cancelled, cancelled);
}

// An ingestion of eight batches in every state: completed, failed, in flight, in backoff, waiting again,
// waiting for a retry by hand, not started (two).
static int64_t add_mixed(struct store *store, uint64_t id, int64_t queue, int64_t deadline)
{
    int64_t seq = add_timed(store, id, queue, PRIORITY_MEDIUM, 8, 0, deadline);
    static const enum batch_state ends[] = {BATCH_COMPLETED, BATCH_FAILED,  BATCH_IN_FLIGHT,
                                            BATCH_BACKOFF,   BATCH_WAITING, BATCH_FAILED};
    struct retried_row row;
    bool more;
    for (int i = 5; i >= 0; i--) {
        struct batch_key key = key_make(queue, PRIORITY_MEDIUM, seq, (uint32_t)i);
        (void)dispatch(store, key);
        if (ends[i] != BATCH_IN_FLIGHT) {
            finish(store,
                   (struct finish_row){.key = key, .state = ends[i], .now = {3}, .due = {77}, .error = "e"});
        }
        if (i == 5) {
            ask_retry(store, queue, seq, seq);
            cr_assert_eq(run_retries(store, &row, 1, &more), 1);
        }
    }
    expect_progress(store, id, STATUS_TRIGGERED, PROGRESS(3, 3, 1, 1));
    return seq;
}

// ---- by hand ----

Test(store_cancel, what_has_not_ended_is_cancelled)
{
    struct fixture f;
    char none[] = "none";
    char error[] = "e";
    fixture_new(&f);
    add(f.store, 7, 2, PRIORITY_MEDIUM, 1, 5);
    int64_t seq = add_mixed(f.store, 1, 2, 500);
    add(f.store, 8, 2, PRIORITY_MEDIUM, 1, 5);
    expect_removal(cancel(f.store, 1, 9, ERR_OK), seq, 4, 1, true);
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(0, 1, 1, 1, 5));
    expect_waiting(f.store, 2, 0, 10, 0);
    expect_sound(f.store);
    expect_batch(
        f.store, seq, 0,
        (struct batch_row){
            .state = BATCH_COMPLETED, .attempts = 1, .triggered = NOW, .completed = {3}, .error = error});
    expect_batch(
        f.store, seq, 2,
        (struct batch_row){.state = BATCH_IN_FLIGHT, .attempts = 1, .triggered = NOW, .error = none});
    for (uint32_t i = 3; i < 5; i++) {
        expect_batch(
            f.store, seq, i,
            (struct batch_row){
                .state = BATCH_CANCELLED, .attempts = 1, .triggered = NOW, .completed = {9}, .error = error});
    }
    expect_batch(f.store, seq, 5,
                 (struct batch_row){.state = BATCH_CANCELLED, .completed = {9}, .error = none});
    int64_t due;
    OK(store_next_due(f.store, 2, DUE_RETRY, &due));
    cr_assert_eq(due, DUE_NEVER);
    OK(store_next_due(f.store, 2, DUE_DEADLINE, &due));
    cr_assert_eq(due, DUE_NEVER);

    fixture_reopen(&f);
    struct in_flight_row *rows;
    size_t count;
    OK(store_load_in_flight(f.store, &rows, &count));
    cr_assert(count == 1 && rows[0].cancelled && rows[0].key.place.index == 2);
    finish(f.store, (struct finish_row){.key = rows[0].key, .state = BATCH_CANCELLED, .now = {11}});
    store_free_in_flight(rows, count);
    expect_progress(f.store, 1, STATUS_CANCELLED, PROGRESS(0, 0, 1, 1, 6));
    expect_batch(
        f.store, seq, 2,
        (struct batch_row){
            .state = BATCH_CANCELLED, .attempts = 1, .triggered = NOW, .completed = {11}, .error = none});
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_cancel, again_is_fine_and_too_late_is_not)
{
    struct fixture f;
    fixture_new(&f);
    cr_assert_eq(cancel(f.store, 1, 9, ERR_NOT_FOUND).seq, -1);
    int64_t whole = add(f.store, 1, 1, PRIORITY_LOW, 1, 3);
    expect_removal(cancel(f.store, 1, 9, ERR_OK), whole, 3, 0, true);
    expect_removal(cancel(f.store, 1, 10, ERR_OK), whole, 0, 0, false);
    expect_progress(f.store, 1, STATUS_CANCELLED, PROGRESS(0, 0, 0, 0, 3));

    static const struct {
        enum batch_state end;
        enum status status;
    } ends[] = {{BATCH_COMPLETED, STATUS_COMPLETED}, {BATCH_FAILED, STATUS_FAILED}};
    for (uint64_t i = 0; i < 2; i++) {
        struct batch_key key = key_make(1, PRIORITY_LOW, add(f.store, 10 + i, 1, PRIORITY_LOW, 1, 1), 0);
        (void)dispatch(f.store, key);
        if (i == 1) { // all of it in flight: nothing to take away, but it will not be tried again
            expect_removal(cancel(f.store, 11, 9, ERR_OK), key.place.seq, 0, 0, true);
            expect_removal(cancel(f.store, 11, 9, ERR_OK), key.place.seq, 0, 0, false);
            expect_progress(f.store, 11, STATUS_TRIGGERED, PROGRESS(0, 1));
        }
        finish(f.store, (struct finish_row){.key = key, .state = ends[i].end});
        (void)cancel(f.store, 10 + i, 9, ERR_ALREADY_FINISHED);
        struct ingestion_row row = find(f.store, 10 + i);
        cr_assert_eq(ingestion_status(&row), ends[i].status);
    }
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_cancel, what_waits_for_its_not_before_never_starts)
{
    struct fixture f;
    struct returned_row row;
    size_t count = 1;
    fixture_new(&f);
    int64_t seq = add_timed(f.store, 1, 1, PRIORITY_LOW, 3, 100, 200);
    expect_removal(cancel(f.store, 1, 9, ERR_OK), seq, 0, 3, true);
    expect_progress(f.store, 1, STATUS_CANCELLED, PROGRESS(0, 0, 0, 0, 3));
    cr_assert_eq(take_due(f.store, 1, DUE_START, 1000, &row, &count), DUE_NEVER);
    cr_assert_eq(count, 0);
    expect_sound(f.store);
    fixture_free(&f);
}

// ---- by a deadline ----

Test(store_cancel, a_deadline_takes_what_has_not_started)
{
    struct fixture f;
    struct removal removals[4];
    char deadline[] = "deadline";
    char error[] = "e";
    size_t count = 4;
    fixture_new(&f);
    int64_t seq = add_mixed(f.store, 1, 2, 500);
    int64_t other = add_timed(f.store, 2, 2, PRIORITY_LOW, 4, 0, 600);
    cr_assert_eq(expire(f.store, 2, 499, removals, &count), NOW.ms + 500);
    cr_assert_eq(count, 0);
    fixture_reopen(&f);
    count = 4;
    cr_assert_eq(expire(f.store, 2, 500, removals, &count), NOW.ms + 600);
    cr_assert_eq(count, 1);
    cr_assert(removals[0].queue == 2 && removals[0].priority == PRIORITY_MEDIUM);
    expect_removal(removals[0], seq, 3, 0, false);
    expect_progress(f.store, 1, STATUS_TRIGGERED, PROGRESS(0, 3, 1, 1, 3));
    expect_waiting(f.store, 2, 0, 1, 4);
    cr_assert(find(f.store, 1).expired && !find(f.store, 2).expired);
    expect_batch(
        f.store, seq, 5,
        (struct batch_row){.state = BATCH_CANCELLED, .completed = {NOW.ms + 500}, .error = deadline});
    expect_batch(f.store, seq, 3,
                 (struct batch_row){
                     .state = BATCH_BACKOFF, .attempts = 1, .triggered = NOW, .due = {77}, .error = error});
    expect_sound(f.store);
    struct in_flight_row *rows;
    OK(store_load_in_flight(f.store, &rows, &count));
    cr_assert(count == 1 && !rows[0].cancelled); // it goes on as usual
    store_free_in_flight(rows, count);

    count = 4;
    cr_assert_eq(expire(f.store, 2, 5000, removals, &count), DUE_NEVER);
    cr_assert_eq(count, 1);
    expect_removal(removals[0], other, 4, 0, false);
    expect_progress(f.store, 2, STATUS_CANCELLED, PROGRESS(0, 0, 0, 0, 4));
    expect_removal(cancel(f.store, 2, 9, ERR_OK), other, 0, 0, false);
    expect_removal(cancel(f.store, 1, 9, ERR_OK), seq, 1, 1, true); // what the deadline left
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_cancel, a_deadline_before_the_not_before_and_one_that_finds_nothing)
{
    struct fixture f;
    struct removal removals[4];
    fixture_new(&f);
    int64_t scheduled = add_timed(f.store, 1, 1, PRIORITY_LOW, 3, 100, 50);
    int64_t started = add_timed(f.store, 2, 1, PRIORITY_LOW, 1, 0, 40);
    (void)dispatch(f.store, key_make(1, PRIORITY_LOW, started, 0));
    size_t count = 4;
    cr_assert_eq(expire(f.store, 1, 60, removals, &count), DUE_NEVER);
    cr_assert_eq(count, 1);
    expect_removal(removals[0], scheduled, 0, 3, false);
    expect_progress(f.store, 1, STATUS_CANCELLED, PROGRESS(0, 0, 0, 0, 3));
    expect_progress(f.store, 2, STATUS_TRIGGERED, PROGRESS(0, 1));
    cr_assert_not(find(f.store, 2).expired);
    int64_t due;
    OK(store_next_due(f.store, 1, DUE_START, &due));
    cr_assert_eq(due, DUE_NEVER);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_cancel, deadlines_pass_some_at_a_time)
{
    struct fixture f;
    struct removal removals[3];
    enum { TOTAL = 20 };
    fixture_new(&f);
    for (uint64_t i = 0; i < TOTAL; i++) {
        int64_t seq = add_timed(f.store, i, 1, PRIORITY_LOW, 1, 0, 100 - (int64_t)i);
        if (i % 2 == 0) {
            (void)dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 0));
        }
    }
    size_t found = 0;
    int64_t next = 0;
    for (size_t calls = 0; next != DUE_NEVER; calls++) { // each looks at three
        size_t count = 3;
        cr_assert_leq(calls, TOTAL / 3);
        next = expire(f.store, 1, 1000, removals, &count);
        found += count;
    }
    cr_assert_eq(found, TOTAL / 2);
    expect_sound(f.store);
    fixture_free(&f);
}

// A retry that was asked for, and has not come to the ingestion yet, passes it over.
Test(store_cancel, a_retry_that_was_asked_for_is_called_off)
{
    struct fixture f;
    struct retried_row row;
    bool more;
    fixture_new(&f);
    int64_t seq = add(f.store, 1, 2, PRIORITY_MEDIUM, 1, 1);
    struct batch_key key = key_make(2, PRIORITY_MEDIUM, seq, 0);
    (void)dispatch(f.store, key);
    finish(f.store, (struct finish_row){.key = key, .state = BATCH_FAILED, .now = {3}, .error = "e"});
    (void)cancel(f.store, 1, 4, ERR_ALREADY_FINISHED);

    ask_retry(f.store, 2, seq, seq);
    expect_removal(cancel(f.store, 1, 5, ERR_OK), seq, 0, 0, false);
    cr_assert_eq(run_retries(f.store, &row, 1, &more), 0);
    expect_progress(f.store, 1, STATUS_FAILED, PROGRESS(0, 0, 0, 1));
    expect_sound(f.store);

    ask_retry(f.store, 2, seq, seq); // asked for once more, by name
    cr_assert_eq(run_retries(f.store, &row, 1, &more), 1);
    expect_progress(f.store, 1, STATUS_YET_TO_START, PROGRESS(1));
    expect_sound(f.store);
    fixture_free(&f);
}
