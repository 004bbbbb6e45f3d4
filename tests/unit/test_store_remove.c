// Ingestions that finished long ago are removed: gone at once, their rows in steps, and their room is used
// again.
#include "tests/unit/fault_vfs.h"
#include "tests/unit/store_fixture.h"

// Ends one batch at a moment of the age clock.
static void end_batch(struct store *store, struct batch_key key, enum batch_state state, int64_t age_ns)
{
    dispatch_and_finish(
        store, (struct finish_row){.key = key, .state = state, .age_ns = age_ns, .due = {5}, .error = "e"});
}

// An ingestion of single IDs on queue 1, of which all batches have the same end at this moment.
static int64_t add_ended(struct store *store, uint64_t id, uint32_t batches, enum batch_state state,
                         int64_t age_ns)
{
    int64_t seq = add(store, id, 1, PRIORITY_LOW, 1, batches);
    OK(store_begin(store));
    for (uint32_t i = 0; i < batches; i++) {
        struct dispatch_row out = {.key = key_make(1, PRIORITY_LOW, seq, i), .now = NOW};
        OK(store_dispatch(store, &out, 1));
        free(out.ids);
        struct finish_row row = {.key = out.key, .state = state, .now = NOW, .age_ns = age_ns};
        OK(store_finish(store, &row, 1));
    }
    OK(store_commit(store));
    return seq;
}

static int64_t count_rows(struct store *store, const char *table)
{
    char sql[64];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    return sql_integer(store->db, sql);
}

// All that belongs to ingestions, with chunks as they are counted.
static int64_t count_all(struct store *store)
{
    return count_rows(store, "ingestion") + count_rows(store, "batch") +
           CHUNK_ROWS * count_rows(store, "ids");
}

static void expect_first(struct store *store, int64_t want)
{
    int64_t finished_ns;
    OK(store_first_finished(store, &finished_ns));
    cr_assert_eq(finished_ns, want, "%lld", (long long)finished_ns);
}

static size_t list_count(struct store *store)
{
    struct ingestion_row rows[64];
    struct list_request filter = {.limit = 64};
    size_t count = 64;
    int64_t next;
    OK(store_list(store, &filter, NULL, INT64_MAX, rows, &count, &next));
    cr_assert_eq(next, 0);
    return count;
}

// ---- when they have finished ----

Test(store_remove, an_ingestion_has_finished_with_the_last_of_its_batches)
{
    struct fixture f;
    fixture_new(&f);
    expect_first(f.store, DUE_NEVER);
    int64_t seq = add(f.store, 1, 1, PRIORITY_LOW, 1, 3);
    (void)add(f.store, 2, 1, PRIORITY_LOW, 1, 1);
    end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 1), BATCH_COMPLETED, 10);
    end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 2), BATCH_FAILED, 20);
    end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 0), BATCH_BACKOFF, 30);
    expect_first(f.store, DUE_NEVER);
    expect_sound(f.store);
    cr_assert_eq(remove_old(f.store, INT64_MAX, 100).rows, 0);
    struct returned_row due;
    size_t count = 1;
    (void)take_due(f.store, 1, DUE_RETRY, 100, &due, &count);
    end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 0), BATCH_COMPLETED, 40);
    expect_first(f.store, 40);
    expect_sound(f.store);

    struct retried_row retried; // it goes on, and ends anew
    bool more;
    ask_retry(f.store, 1, seq, seq);
    expect_first(f.store, 40);
    cr_assert_eq(run_retries(f.store, &retried, 1, &more), 1);
    expect_first(f.store, DUE_NEVER);
    end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 2), BATCH_FAILED, 50);
    expect_first(f.store, 50);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_remove, what_is_cancelled_or_expires_has_finished_when_nothing_is_in_flight)
{
    struct fixture f;
    fixture_new(&f);
    (void)add(f.store, 1, 1, PRIORITY_LOW, 1, 3);
    (void)cancel(f.store, 1, 9, ERR_OK);
    expect_first(f.store, AGE);
    cr_assert_eq(remove_old(f.store, AGE, 100).ingestions, 1);

    int64_t seq = add(f.store, 2, 1, PRIORITY_LOW, 1, 3);
    (void)dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 0));
    (void)cancel(f.store, 2, 9, ERR_OK);
    expect_first(f.store, DUE_NEVER);
    finish(f.store, (struct finish_row){.key = key_make(1, PRIORITY_LOW, seq, 0),
                                        .state = BATCH_CANCELLED,
                                        .age_ns = AGE + 1});
    expect_first(f.store, AGE + 1);
    cr_assert_eq(remove_old(f.store, AGE + 1, 100).ingestions, 1);

    struct removal removals[3];
    size_t count = 3;
    int64_t scheduled = add_timed(f.store, 3, 1, PRIORITY_LOW, 3, 50, 60);
    int64_t started = add_timed(f.store, 4, 1, PRIORITY_LOW, 3, 0, 60);
    (void)dispatch(f.store, key_make(1, PRIORITY_LOW, started, 0));
    cr_assert_eq(expire(f.store, 1, 70, removals, &count), DUE_NEVER);
    cr_assert(count == 2 && removals[0].seq == scheduled);
    expect_first(f.store, AGE);
    cr_assert_eq(remove_old(f.store, AGE, 100).next, DUE_NEVER);
    cr_assert(is_gone(f.store, 3));
    finish(f.store, (struct finish_row){.key = key_make(1, PRIORITY_LOW, started, 0),
                                        .state = BATCH_COMPLETED,
                                        .age_ns = AGE + 2});
    expect_first(f.store, AGE + 2);
    expect_sound(f.store);
    fixture_free(&f);
}

// A retry that is called off changes nothing about when it finished.
Test(store_remove, a_retry_that_is_called_off_makes_nothing_younger)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add_ended(f.store, 1, 2, BATCH_FAILED, 7);
    ask_retry(f.store, 1, seq, seq);
    (void)cancel(f.store, 1, 9, ERR_OK);
    expect_first(f.store, 7);
    expect_sound(f.store);
    fixture_free(&f);
}

// ---- steps ----

Test(store_remove, a_large_one_is_gone_at_once_and_its_rows_go_in_steps)
{
    struct fixture f;
    enum { BATCHES = 500, IDS = 10000, MOST = 60 }; // and ten chunks of IDs
    fixture_new(&f);
    char key[] = "key";
    struct ingest_request request = request_make(1, PRIORITY_LOW, 1, IDS);
    request.idempotency_key = key;
    int64_t seq = add_request(f.store, &request, 1, IDS / BATCHES);
    for (uint32_t i = 0; i < BATCHES; i++) {
        end_batch(f.store, key_make(1, PRIORITY_LOW, seq, i), i % 3 == 0 ? BATCH_FAILED : BATCH_COMPLETED, 7);
    }
    (void)add(f.store, 9, 1, PRIORITY_LOW, 1, 5);
    cr_assert_eq(remove_old(f.store, 6, MOST).rows, 0);
    cr_assert_not(is_gone(f.store, 1));
    size_t steps = 0;
    struct removed removed;
    do {
        int64_t before = count_all(f.store);
        removed = remove_old(f.store, 7, MOST);
        int64_t went = before - count_all(f.store);
        cr_assert(went > 0 && went <= MOST + (int)CHUNK_ROWS && removed.rows <= MOST, "%lld rows",
                  (long long)went);
        cr_assert_eq(removed.ingestions, steps == 0);
        cr_assert(removed.next == (count_rows(f.store, "gone") > 0 ? INT64_MIN : DUE_NEVER));
        expect_first(f.store, removed.next);
        cr_assert(is_gone(f.store, 1));
        cr_assert_eq(list_count(f.store), 1 + (steps > 0)); // one that is made below is there, too
        expect_sound(f.store);
        if (steps == 0) { // the ID and the key are free
            request = request_make(1, PRIORITY_LOW, 1, 4);
            request.idempotency_key = key;
            request.id = id_number(2);
            cr_assert_gt(add_request(f.store, &request, 1, 1), seq);
        }
        fixture_reopen(&f); // it goes on after a restart
    } while (++steps < 100 && removed.next == INT64_MIN);
    cr_assert(steps > (BATCHES + 10 * CHUNK_ROWS) / (MOST + CHUNK_ROWS) && steps < 12, "%zu steps", steps);
    request = request_make(1, PRIORITY_LOW, 1, 4);
    cr_assert_gt(add_request(f.store, &request, 1, 1), seq);
    cr_assert_eq(count_rows(f.store, "batch") + count_rows(f.store, "ids"), 0);
    expect_waiting(f.store, 1, 0, 0, 13);
    fixture_free(&f);
}

Test(store_remove, the_first_to_finish_go_first_and_small_ones_several_in_a_step)
{
    struct fixture f;
    enum { TOTAL = 30 };
    fixture_new(&f);
    for (uint64_t i = 0; i < TOTAL; i++) { // 7 and 30 have nothing in common
        (void)add_ended(f.store, i, 2, BATCH_COMPLETED, (int64_t)(i * 7 % TOTAL));
    }
    (void)add(f.store, TOTAL, 1, PRIORITY_LOW, 1, 1);
    size_t gone = 0;
    while (gone < 20) {
        struct removed removed = remove_old(f.store, 19, 10); // three rows each
        gone += removed.ingestions;
        cr_assert(removed.ingestions >= 2 && removed.ingestions <= 4);
        cr_assert(removed.rows == 10 || gone == 20);
        for (uint64_t i = 0; i < TOTAL; i++) {
            cr_assert_eq(is_gone(f.store, i), i * 7 % TOTAL < gone);
        }
        expect_sound(f.store);
    }
    cr_assert_eq(remove_old(f.store, 19, 10).next, 20);
    cr_assert_eq(remove_old(f.store, 19, 10).rows, 0);
    cr_assert_eq(list_count(f.store), TOTAL - 20 + 1);
    fixture_free(&f);
}

// What never started has no rows, and what has a few among many is no more work than these.
Test(store_remove, what_has_few_rows_takes_few_steps)
{
    struct fixture f;
    fixture_new(&f);
    (void)add(f.store, 1, 1, PRIORITY_LOW, 1, IDS_MAX);
    (void)cancel(f.store, 1, 9, ERR_OK);
    (void)add(f.store, 2, 1, PRIORITY_LOW, 1, 1);
    size_t steps = 1;
    while (remove_old(f.store, AGE, 50).next == INT64_MIN) {
        steps++;
    }
    cr_assert_leq(steps, 98 * CHUNK_ROWS / 50 + 1); // of its IDs
    cr_assert_eq(count_all(f.store), 1);
    fixture_free(&f);
}

// ---- what is kept ----

static int64_t newest_accepted(struct store *store)
{
    bool any;
    int64_t accepted_ns;
    struct wall created;
    OK(store_newest(store, &any, &accepted_ns, &created));
    cr_assert(any && created.ms == NOW.ms);
    return accepted_ns;
}

static int64_t add_accepted(struct store *store, uint64_t id, int64_t accepted_ns)
{
    struct ingest_request request = request_make(id, PRIORITY_LOW, 1, 1);
    struct insert insert = insert_make(&request, 1, 1);
    insert.accepted_ns = accepted_ns;
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    OK(store_commit(store));
    request_drop(&request);
    end_batch(store, key_make(1, PRIORITY_LOW, insert.seq, 0), BATCH_COMPLETED, accepted_ns);
    return insert.seq;
}

Test(store_remove, no_number_is_given_twice)
{
    struct fixture f;
    int64_t last = 0;
    fixture_new(&f);
    for (uint64_t i = 0; i < 10; i++) {
        int64_t seq = add_accepted(f.store, i, (int64_t)i);
        cr_assert_gt(seq, last);
        last = seq;
        for (int twice = 0; twice < 2; twice++) {
            struct removed removed = remove_old(f.store, INT64_MAX, 100);
            cr_assert_eq(removed.ingestions, twice == 0);
            cr_assert_eq(removed.next, DUE_NEVER); // the stub is nobody's work
        }
        cr_assert(is_gone(f.store, i));
        cr_assert_eq(list_count(f.store), 0);
        cr_assert_eq(count_rows(f.store, "ingestion"), 1);
        cr_assert_eq(newest_accepted(f.store), (int64_t)i);
        int64_t found;
        OK(store_seq_accepted_by(f.store, (int64_t)i, &found));
        cr_assert_eq(found, seq);
        expect_sound(f.store);
        fixture_reopen(&f);
    }
    // With newer ones the stub is one among them, and not seen.
    (void)add_accepted(f.store, 20, 20);
    (void)add_accepted(f.store, 21, 21);
    cr_assert_eq(list_count(f.store), 2);
    cr_assert_eq(remove_old(f.store, 20, 100).ingestions, 1);
    expect_sound(f.store);
    cr_assert_eq(remove_old(f.store, 21, 100).ingestions, 1);
    cr_assert_eq(count_rows(f.store, "ingestion"), 1);
    cr_assert_eq(newest_accepted(f.store), 21);
    expect_sound(f.store);
    fixture_free(&f);
}

// An ingestion that was asked to be retried is not removed, however old.
Test(store_remove, retries_that_were_asked_for_come_first)
{
    struct fixture f;
    struct retried_row retried;
    bool more;
    fixture_new(&f);
    int64_t large = add_ended(f.store, 1, 50, BATCH_COMPLETED, 1);
    int64_t seq = add_ended(f.store, 2, 2, BATCH_FAILED, 2);
    (void)add_ended(f.store, 3, 2, BATCH_COMPLETED, 3);
    cr_assert_eq(remove_old(f.store, 3, 10).ingestions, 1);
    ask_retry(f.store, 1, seq, seq);
    struct removed removed = remove_old(f.store, 3, 100);
    cr_assert(removed.ingestions == 0 && removed.rows == 41 &&
              removed.next == 2); // the rest of the large one
    removed = remove_old(f.store, 3, 100);
    cr_assert(removed.rows == 0 && removed.next == 2);
    cr_assert_eq(run_retries(f.store, &retried, 1, &more), 1);
    cr_assert(retried.row.run.seq == seq && large < seq);
    cr_assert_eq(remove_old(f.store, 3, 100).ingestions, 1);
    cr_assert(is_gone(f.store, 3) && !is_gone(f.store, 2));
    expect_progress(f.store, 2, STATUS_YET_TO_START, PROGRESS(2));
    expect_sound(f.store);
    fixture_free(&f);
}

// Failed batches whose ingestion is gone are no longer anybody's to retry, also when it was the newest.
Test(store_remove, what_is_gone_is_not_retried)
{
    struct fixture f;
    struct retried_row retried[4];
    bool more;
    enum { BATCHES = 2500 };
    fixture_new(&f);
    (void)add_ended(f.store, 1, BATCHES, BATCH_FAILED, 1);
    (void)add_ended(f.store, 2, 10, BATCH_FAILED, 2);
    cr_assert_eq(remove_old(f.store, 1, 10).ingestions, 1);
    ask_retry(f.store, 1, 0, INT64_MAX);
    size_t steps = 1;
    size_t found = 0;
    while ((found += run_retries(f.store, retried, 4, &more)), more) {
        steps++;
    }
    cr_assert(steps == 3 && found == 1, "%zu steps, %zu found", steps, found); // each looks at 1,000
    cr_assert_eq(retried[0].row.run.end, 10);
    expect_sound(f.store);

    int64_t seq = add_ended(f.store, 3, 40, BATCH_FAILED, 3);
    while (remove_old(f.store, 1, 1000).next == INT64_MIN) {
    }
    cr_assert_eq(remove_old(f.store, 3, 10).ingestions, 1); // it is the newest
    ask_retry(f.store, 1, 0, INT64_MAX);
    cr_assert_eq(run_retries(f.store, retried, 4, &more), 0);
    cr_assert_not(more);
    expect_sound(f.store);
    cr_assert_gt(add(f.store, 4, 1, PRIORITY_LOW, 1, 1), seq);
    fixture_free(&f);
}

// A deadline that an ingestion outlived by finishing before goes with it, and others' stay.
Test(store_remove, its_deadline_goes_with_it)
{
    struct fixture f;
    struct removal removal;
    size_t count = 1;
    fixture_new(&f);
    for (uint64_t i = 0; i < 2; i++) {
        int64_t seq = add_timed(f.store, i, 1, PRIORITY_LOW, 1, 0, 500);
        end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 0), BATCH_COMPLETED, (int64_t)i);
    }
    (void)add_timed(f.store, 2, 1, PRIORITY_LOW, 1, 0, 500);
    cr_assert_eq(remove_old(f.store, 0, 100).ingestions, 1);
    cr_assert_eq(count_rows(f.store, "deadline"), 2);
    expect_sound(f.store);
    cr_assert_eq(expire(f.store, 1, 501, &removal, &count), NOW.ms + 500); // of 1, which says nothing
    count = 1;
    cr_assert_eq(remove_old(f.store, 1, 100).ingestions, 1);
    cr_assert_eq(expire(f.store, 1, 501, &removal, &count), DUE_NEVER);
    expect_sound(f.store);
    fixture_free(&f);
}

Test(store_remove, also_of_a_queue_that_was_deleted)
{
    struct fixture f;
    struct queue_row queue = {.name = "a"};
    fixture_new(&f);
    OK(store_begin(f.store));
    OK(store_save_queue(f.store, &queue));
    OK(store_commit(f.store));
    cr_assert_eq(queue.id, 1);
    int64_t seq = add_timed(f.store, 1, 1, PRIORITY_LOW, 1, 0, 500);
    end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 0), BATCH_FAILED, 1);
    OK(store_begin(f.store));
    OK(store_delete_queue(f.store, 1));
    OK(store_commit(f.store));
    cr_assert_eq(remove_old(f.store, 1, 100).ingestions, 1);
    expect_sound(f.store);
    fixture_free(&f);
}

// ---- the disk ----

// Commits of removals wait for no disk, and all others do.
Test(store_remove, costs_no_sync)
{
    struct fixture f;
    struct fault_vfs vfs;
    fixture_new(&f);
    store_close(f.store);
    fault_vfs_install(&vfs);
    fixture_open(&f);
    enum { MANY = 1000000 };
    for (uint64_t i = 0; i < 5; i++) {
        vfs.until[FAULT_SYNC] = MANY;
        (void)add_ended(f.store, 2 * i, 20, BATCH_COMPLETED, 1);
        (void)add(f.store, 2 * i + 1, 1, PRIORITY_LOW, 1, 1);
        cr_assert_lt(vfs.until[FAULT_SYNC], MANY - 1, "two commits");
        vfs.until[FAULT_SYNC] = MANY;
        for (int steps = 0; steps < 3; steps++) {
            cr_assert_eq(remove_old(f.store, 1, 5).rows, 5);
        }
        cr_assert_eq(vfs.until[FAULT_SYNC], MANY);
        while (remove_old(f.store, 1, 100).next == INT64_MIN) {
        }
        OK(store_begin(f.store));
        cr_assert_eq(sql_integer(f.store->db, "PRAGMA synchronous"), 2); // FULL
        OK(store_commit(f.store));
    }
    store_close(f.store);
    f.store = NULL;
    sqlite3_vfs_unregister(&vfs.vfs);
    fixture_free(&f);
}

// Ingestions that come, end and go, some of each size, for ever.
Test(store_remove, the_room_of_what_is_gone_is_used_again)
{
    struct fixture f;
    int64_t pages = 0; // of the database, at the most
    off_t log = 0;
    enum { CYCLES = 60, FIRST = 6 };
    fixture_new(&f);
    f.store->history_max = 2000; // it is full before the first cycles are over
    for (int64_t cycle = 0; cycle < CYCLES; cycle++) {
        for (uint64_t i = 0; i < 20; i++) {
            uint64_t id = 100 * (uint64_t)cycle + i;
            (void)add_ended(f.store, id, i == 0 ? 2000 : 3, BATCH_FAILED, cycle);
            struct ingest_request request = request_make(id + 50, PRIORITY_LOW, 1, 3000);
            int64_t seq = add_request(f.store, &request, 1, 3000);
            end_batch(f.store, key_make(1, PRIORITY_LOW, seq, 0), BATCH_COMPLETED, cycle);
            OK(store_tend(f.store));
        }
        while (remove_old(f.store, cycle - 2, 100).next <= cycle - 2) {
            OK(store_tend(f.store));
        }
        int64_t now = sql_integer(f.store->db, "PRAGMA page_count");
        log = log_size(&f) > log ? log_size(&f) : log;
        pages = cycle < FIRST && now > pages ? now : pages;
        cr_assert(cycle < FIRST || now <= pages + pages / 10, "%lld pages, then %lld", (long long)pages,
                  (long long)now);
    }
    cr_assert_gt(pages, 200);
    cr_assert(log > 6 << 20 && log < 12 << 20, "%lld", (long long)log);
    expect_sound(f.store);
    fixture_free(&f);
}
