// What waits for a moment: batches in backoff, and ingestions with a not_before.
#include "tests/unit/store_fixture.h"

static int64_t next_due(struct store *store, int64_t queue, enum due_kind kind)
{
    int64_t due = -1;
    OK(store_next_due(store, queue, kind, &due));
    return due;
}

// Puts `count` batches of one ingestion into backoff; batch i is due at 1000 + i * 7919 % 50.
static int64_t add_backoff(struct store *store, uint64_t id, int64_t queue, uint32_t count)
{
    int64_t seq = add(store, id, queue, PRIORITY_MEDIUM, 1, count);
    OK(store_begin(store));
    for (uint32_t i = 0; i < count; i++) {
        struct dispatch_row out = {.key = key_make(queue, PRIORITY_MEDIUM, seq, i), .now = NOW};
        OK(store_dispatch(store, &out, 1));
        free(out.ids);
        struct finish_row row = {.key = out.key, .state = BATCH_BACKOFF, .due = {1000 + i * 7919 % 50}};
        OK(store_finish(store, &row, 1));
    }
    OK(store_commit(store));
    return seq;
}

// ---- retries ----

Test(store_due, retries_are_read_in_their_order)
{
    struct fixture f;
    struct delayed_row rows[64];
    fixture_new(&f);
    (void)add_backoff(f.store, 1, 2, 200);
    int64_t seq = add_backoff(f.store, 2, 3, 200);
    size_t count = 64;
    OK(store_read_delayed(f.store, 3, DUE_RETRY, rows, &count));
    cr_assert_eq(count, 64);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(rows[i].due, 1000 + i / 4);
        cr_assert_eq(rows[i].due, 1000 + rows[i].place.index * 7919 % 50);
        cr_assert(i % 4 == 0 || rows[i].place.index > rows[i - 1].place.index);
        cr_assert(rows[i].place.seq == seq && rows[i].place.priority == PRIORITY_MEDIUM);
        cr_assert(rows[i].end == rows[i].place.index + 1 && rows[i].kind == DUE_RETRY);
    }
    count = 64;
    OK(store_read_delayed(f.store, 4, DUE_RETRY, rows, &count));
    cr_assert_eq(count, 0);
    fixture_free(&f);
}

Test(store_due, retries_are_taken_when_they_are_due_and_some_at_a_time)
{
    struct fixture f;
    struct returned_row rows[7];
    enum { BATCHES = 100 };
    bool taken[BATCHES] = {false};
    fixture_new(&f);
    (void)add_backoff(f.store, 1, 2, 10);
    int64_t seq = add_backoff(f.store, 2, 3, BATCHES);
    cr_assert_eq(next_due(f.store, 3, DUE_RETRY), 1000);
    size_t count = 7;
    cr_assert_eq(take_due(f.store, 3, DUE_RETRY, 999, rows, &count), 1000);
    cr_assert_eq(count, 0);

    size_t total = 0;
    int64_t next = 1000;
    for (int64_t now = 1000; next != DUE_NEVER;) {
        now = next > now ? next + 3 : now;
        fixture_reopen(&f);
        count = 7;
        next = take_due(f.store, 3, DUE_RETRY, now, rows, &count);
        cr_assert(next > now || count == 7);
        for (size_t i = 0; i < count; i++) {
            uint32_t index = rows[i].run.first;
            cr_assert_leq(1000 + index * 7919 % 50, now);
            cr_assert(rows[i].run.seq == seq && rows[i].run.end == index + 1 && !taken[index]);
            cr_assert_eq(rows[i].priority, PRIORITY_MEDIUM);
            taken[index] = true;
        }
        total += count;
        expect_waiting(f.store, 3, 0, total, 0);
        expect_sound(f.store);
    }
    cr_assert_eq(total, BATCHES);
    cr_assert_eq(next_due(f.store, 2, DUE_RETRY), 1000);
    cr_assert_eq(dispatch(f.store, key_make(3, PRIORITY_MEDIUM, seq, 50)), 2);
    fixture_free(&f);
}

Test(store_due, after_a_reboot_every_retry_is_due)
{
    struct fixture f;
    struct delayed_row row;
    enum { BATCHES = 2500 }; // more than one step
    fixture_new(&f);
    struct queue_row queues[] = {{.name = "a"}, {.name = "b"}};
    for (size_t i = 0; i < 2; i++) {
        OK(store_begin(f.store));
        OK(store_save_queue(f.store, &queues[i]));
        OK(store_commit(f.store));
        (void)add_backoff(f.store, i, queues[i].id, BATCHES);
    }
    OK(store_begin(f.store));
    OK(store_rebase_moments(f.store, (struct mono){1007}));
    OK(store_commit(f.store));
    for (size_t i = 0; i < 2; i++) {
        size_t count = 1;
        OK(store_read_delayed(f.store, queues[i].id, DUE_RETRY, &row, &count));
        cr_assert(count == 1 && row.due == 1000);
        static struct returned_row rows[BATCHES + 1];
        count = BATCHES + 1;
        cr_assert_eq(take_due(f.store, queues[i].id, DUE_RETRY, 1007, rows, &count), DUE_NEVER);
        cr_assert_eq(count, BATCHES);
    }
    expect_sound(f.store);
    fixture_free(&f);
}

// ---- not_before ----

Test(store_due, an_ingestion_waits_for_its_not_before)
{
    struct fixture f;
    struct returned_row rows[4];
    struct delayed_row delayed[4];
    size_t count = 4;
    fixture_new(&f);
    struct ingest_request request = request_make(1, PRIORITY_HIGH, 1, 7);
    request.not_before.ms = NOW.ms + 1;
    struct insert insert = insert_make(&request, 3, 3);
    insert.accepted_ns = 55;
    OK(store_begin(f.store));
    OK(store_insert(f.store, &insert, 1));
    OK(store_commit(f.store));
    cr_assert(insert.result == INSERT_NEW && insert.batches == 3);
    request_drop(&request);
    (void)add_timed(f.store, 2, 3, PRIORITY_LOW, 3, -1, 0); // its time is already there
    expect_waiting(f.store, 3, 0, 0, 3);
    cr_assert(find(f.store, 1).scheduled);
    expect_progress(f.store, 1, STATUS_YET_TO_START, PROGRESS(3));
    cr_assert_eq(next_due(f.store, 3, DUE_START), NOW.ms + 1);
    cr_assert_eq(next_due(f.store, 3, DUE_RETRY), DUE_NEVER);
    OK(store_read_delayed(f.store, 3, DUE_START, delayed, &count));
    cr_assert(count == 1 && delayed[0].kind == DUE_START && delayed[0].due == NOW.ms + 1);
    cr_assert(delayed[0].place.seq == insert.seq && delayed[0].place.index == 0 && delayed[0].end == 3);
    cr_assert_eq(delayed[0].place.priority, PRIORITY_HIGH);
    expect_sound(f.store);

    fixture_reopen(&f);
    count = 4;
    cr_assert_eq(take_due(f.store, 3, DUE_START, 0, rows, &count), NOW.ms + 1);
    cr_assert_eq(count, 0);
    count = 4;
    cr_assert_eq(take_due(f.store, 3, DUE_START, 1, rows, &count), DUE_NEVER);
    cr_assert(count == 1 && rows[0].priority == PRIORITY_HIGH && rows[0].run.accepted_ns == 55);
    cr_assert(rows[0].run.seq == insert.seq && rows[0].run.first == 0 && rows[0].run.end == 3);
    expect_waiting(f.store, 3, 3, 0, 3);
    cr_assert(!find(f.store, 1).scheduled && find(f.store, 1).not_before.ms == NOW.ms + 1);
    struct run run;
    count = 1;
    OK(store_read_waiting(f.store, 3, PRIORITY_HIGH, -1, 0, &run, &count));
    cr_assert(count == 1 && run.accepted_ns == 55 && run.end == 3);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_due, many_are_taken_the_earliest_first)
{
    struct fixture f;
    struct returned_row rows[10];
    enum { TOTAL = 200 };
    int64_t seqs[TOTAL];
    fixture_new(&f);
    for (uint64_t i = 0; i < TOTAL; i++) {
        seqs[i] = add_timed(f.store, i, 1, (enum priority)(i % 3), 2, 1 + (int64_t)(i * 13 % TOTAL), 0);
    }
    size_t total = 0;
    int64_t next = NOW.ms + 1;
    while (total < TOTAL) {
        cr_assert_eq(next, NOW.ms + 1 + (int64_t)total);
        size_t count = 10;
        next = take_due(f.store, 1, DUE_START, TOTAL, rows, &count);
        cr_assert_eq(count, 10);
        for (size_t i = 0; i < count; i++, total++) {
            size_t which = total * 77 % TOTAL; // 13 * 77 = 1 modulo 200
            cr_assert_eq(rows[i].run.seq, seqs[which]);
            cr_assert_eq(rows[i].priority, which % 3);
        }
    }
    cr_assert_eq(next, DUE_NEVER);
    expect_sound(f.store);
    fixture_free(&f);
}
