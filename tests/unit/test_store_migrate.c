// A store of version 1, as it was written then, opened by this one: nothing is lost, and what is new has
// sense.
#include "tests/unit/fault_vfs.h"
#include "tests/unit/store_fixture.h"

// Two queues and what they had on the way: an ingestion with a batch in each state and two that never
// started, one of the other queue in backoff, one that is completed, and one that has not started.
static const char version_1_rows[] =
    "UPDATE meta SET boot = x'000102030405060708090a0b0c0d0e0f', flags = 'rate=1/5s';"
    "INSERT INTO queue (id, name, target, rate_count, rate_per_ns, burst, linger_ns, concurrency, "
    "batch_size, "
    "max_id, timeout_ns, max_attempts, min_backoff_ns, max_backoff_ns, max_hold_ns, tat_ns, tat_fraction, "
    "held_until_ns, held_until_ms, delivery_ns, dispatched, completed, failed) VALUES "
    "(1, 'default', 'simulate:1s', 1, 5000000000, 1, 100000000, 2, 3, 99, 30, 5, 6, 7, 8, 9, 0, 11, 12, 13, "
    "14, "
    " 15, 16),"
    "(2, 'fast', 'simulate:2s', 2000, 1000000000, 20, 10000, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0),"
    "(3, 'own', 'simulate:3s', 2000, 1000000000, 21, 10000, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0),"
    "(5, 'free', 'simulate:4s', 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);"
    "INSERT INTO ingestion (seq, id, queue, priority, batch_size, id_count, batch_count, created_ms, "
    "waiting, "
    "triggered, completed, failed, idempotency_key) VALUES "
    "(4, x'00000000000000000000000000000004', 1, 0, 1, 7, 7, 1000, 3, 3, 1, 1, 'key'),"
    "(5, x'00000000000000000000000000000005', 2, 2, 2, 2, 1, 900, 0, 1, 0, 0, NULL),"
    "(6, x'00000000000000000000000000000006', 1, 2, 500, 200, 1, 1100, 0, 0, 1, 0, NULL),"
    "(7, x'00000000000000000000000000000007', 1, 2, 2, 3, 2, 1200, 2, 0, 0, 0, NULL);"
    "INSERT INTO ids VALUES (4, 0, '1,2,3,4,5,6,7'), (5, 0, '8,9'), (7, 0, '12,13,14');"
    "INSERT INTO ids WITH n(i) AS (VALUES (1001) UNION ALL SELECT i + 1 FROM n WHERE i < 1200) SELECT 6, 0, "
    "group_concat(i) FROM n;"
    "INSERT INTO waiting (queue, priority, seq, first_idx, end_idx) VALUES (1, 0, 4, 1, 2), (1, 0, 4, 5, 7), "
    "(1, 2, 7, 0, 2);"
    "INSERT INTO waiting_count (queue, priority, level, block, n) VALUES (1, 0, 0, 0, 3), (1, 0, 1, 0, 3), "
    "(1, 0, 2, 0, 3), (1, 2, 0, 0, 2), (1, 2, 1, 0, 2), (1, 2, 2, 0, 2);"
    "INSERT INTO batch (seq, idx, state, attempts, excused, triggered_ms, completed_ms, due_ns, error) "
    "VALUES "
    "(4, 0, 0, 2, 1, 1001, 0, NULL, 'busy'), (4, 1, 1, 1, 0, 1002, 0, NULL, NULL), "
    "(4, 2, 2, 1, 0, 1003, 0, 77, 'busy'), (4, 3, 3, 1, 0, 1004, 1005, NULL, NULL), "
    "(4, 4, 4, 1, 0, 1006, 1007, NULL, 'broken'), (5, 0, 2, 1, 0, 1008, 0, 78, NULL), "
    "(6, 0, 3, 1, 0, 1009, 1010, NULL, NULL);";

static void run_sql(const struct fixture *f, const char *sql)
{
    char path[128];
    sqlite3 *db;
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, STORE_FILE);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

static void make_version_1(struct fixture *f)
{
    char path[128];
    char mark[64];
    sqlite3 *db;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/sluice-store-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, STORE_FILE);
    (void)snprintf(mark, sizeof mark, "PRAGMA application_id = %d; PRAGMA journal_mode = WAL",
                   STORE_APPLICATION_ID);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(store_schema_migrate(db, store_schema_steps, 0, 1), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, mark, NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, version_1_rows, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    f->store = NULL;
}

static void expect_queues(struct store *store)
{
    static const struct {
        int64_t id;
        const char *name;
        uint32_t burst;
        uint64_t delayed;
    } want[] = {{1, "default", 0, 1}, {2, "fast", 0, 1}, {3, "own", 21, 0}, {5, "free", 0, 0}};
    struct queue_row *rows;
    size_t count;
    OK(store_load_queues(store, &rows, &count));
    cr_assert_eq(count, 4);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(rows[i].id, want[i].id);
        cr_assert_str_eq(rows[i].name, want[i].name);
        cr_assert_str_eq(rows[i].headers, "");
        cr_assert_eq(rows[i].settings.burst, want[i].burst, "%s: %u", want[i].name, rows[i].settings.burst);
        cr_assert_eq(rows[i].settings.linger_ns, -1);
        cr_assert_eq(rows[i].figures.delayed, want[i].delayed);
        const struct queue_settings *settings = &rows[i].settings;
        cr_assert(settings->ids == IDS_INTEGER && settings->breaker == 10 &&
                  settings->lease_ns == 60 * NS_PER_S && settings->on_interrupt == ON_INTERRUPT_RESEND &&
                  settings->aging_ns == 0);
    }
    const struct queue_figures *figures = &rows[0].figures;
    cr_assert(figures->bucket.tat.ns == 9 && figures->held_until.ns == 11 &&
              figures->held_until_wall.ms == 12 && figures->held_by == HOLD_RETRY_AFTER && !figures->paused);
    cr_assert(figures->delivery_ns == 13 && figures->dispatched == 14 && figures->completed == 15 &&
              figures->failed == 16 && figures->failures == 0 && figures->probe_at.ns == 0);
    cr_assert(rows[1].figures.held_by == HOLD_NONE && rows[0].settings.max_id == 99);
    cr_assert_str_eq(rows[0].target, "simulate:1s");
    store_free_queues(rows, count);
}

static void expect_ingestions(struct store *store)
{
    expect_progress(store, 4, STATUS_TRIGGERED, PROGRESS(2, 3, 1, 1));
    expect_progress(store, 5, STATUS_TRIGGERED, PROGRESS(0, 1));
    expect_progress(store, 6, STATUS_COMPLETED, PROGRESS(0, 0, 1));
    expect_progress(store, 7, STATUS_YET_TO_START, PROGRESS(2));
    expect_waiting(store, 1, 3, 0, 2);
    struct ingestion_row row = find(store, 4);
    cr_assert(row.seq == 4 && row.accepted_ns == 0 && row.not_before.ms == 0 && row.deadline.ms == 0 &&
              !row.scheduled && !row.expired && row.created.ms == 1000);
    char busy[] = "busy";
    expect_batch(store, 4, 2,
                 (struct batch_row){
                     .state = BATCH_BACKOFF, .attempts = 1, .triggered = {1003}, .due = {77}, .error = busy});
    struct in_flight_row *rows;
    size_t count;
    OK(store_load_in_flight(store, &rows, &count));
    cr_assert(count == 1 && rows[0].key.place.seq == 4 && rows[0].key.place.index == 0);
    cr_assert(rows[0].attempt == 2 && rows[0].excused == 1 && !rows[0].leased && !rows[0].cancelled);
    store_free_in_flight(rows, count);
    // The run that never started and the IDs, which are few, have come into the ingestion's own row.
    cr_assert_eq(sql_integer(store->db, "SELECT fresh * 100 + next_idx FROM ingestion WHERE seq = 4"), 105);
    cr_assert_eq(sql_integer(store->db, "SELECT fresh * 100 + next_idx FROM ingestion WHERE seq = 7"), 100);
    cr_assert_eq(
        sql_integer(store->db, "SELECT count(*) FROM ingestion WHERE seq IN (5, 6) AND fresh IS NULL"), 2);
    cr_assert_eq(sql_integer(store->db, "SELECT count(*) FROM ids"), 1); // of 6, which has many
    struct buf text;
    buf_init(&text);
    OK(store_read_ids(store, &row, 2, 3, &text));
    cr_assert_str_eq(text.data, "3,4,5");
    buf_reset(&text);
    row = find(store, 6);
    OK(store_read_ids(store, &row, 198, 2, &text));
    cr_assert_str_eq(text.data, "1199,1200");
    buf_fini(&text);
    expect_sound(store);
}

Test(store_migrate, nothing_of_version_1_is_lost)
{
    struct fixture f;
    make_version_1(&f);
    for (int opened = 0; opened < 2; opened++) {
        fixture_open(&f);
        cr_assert_eq(sql_integer(f.store->db, "PRAGMA user_version"), store_schema_version);
        struct meta meta;
        struct buf flags;
        buf_init(&flags);
        OK(store_load_meta(f.store, &meta, &flags));
        cr_assert_str_eq(flags.data, "rate=1/5s");
        cr_assert(meta.boot.bytes[15] == 15 && meta.age_offset_ns == 0);
        buf_fini(&flags);
        expect_queues(f.store);
        expect_ingestions(f.store);
        store_close(f.store);
    }
    f.store = NULL;
    fixture_free(&f);
}

Test(store_migrate, what_was_on_its_way_goes_on)
{
    struct fixture f;
    struct returned_row due[4];
    struct retried_row retried[4];
    size_t count = 4;
    bool more;
    make_version_1(&f);
    fixture_open(&f);
    finish(f.store, (struct finish_row){.key = key_make(1, PRIORITY_HIGH, 4, 0), .state = BATCH_COMPLETED});
    cr_assert_eq(take_due(f.store, 1, DUE_RETRY, 100, due, &count), DUE_NEVER);
    cr_assert(count == 1 && due[0].run.first == 2);
    count = 4;
    cr_assert_eq(take_due(f.store, 2, DUE_RETRY, 100, due, &count), DUE_NEVER);
    cr_assert(count == 1 && due[0].run.seq == 5);
    ask_retry(f.store, 1, 0, INT64_MAX);
    cr_assert_eq(run_retries(f.store, retried, 4, &more), 1);
    cr_assert_eq(retried[0].row.run.first, 4);
    cr_assert_eq(dispatch(f.store, key_make(1, PRIORITY_HIGH, 4, 1)), 2);
    cr_assert_eq(dispatch(f.store, key_make(1, PRIORITY_HIGH, 4, 4)), 1);
    cr_assert_eq(cancel(f.store, 7, 1, ERR_OK).waiting, 2);
    cr_assert_gt(add(f.store, 8, 1, PRIORITY_LOW, 1, 1), 7);
    struct queue_row queue = {.name = "new"};
    OK(store_begin(f.store));
    OK(store_save_queue(f.store, &queue));
    OK(store_commit(f.store));
    cr_assert_gt(queue.id, 5);
    expect_sound(f.store);
    fixture_free(&f);
}

// What had finished is kept from when the newest was accepted.
Test(store_migrate, what_had_finished_is_removed_like_all_that_finishes)
{
    struct fixture f;
    int64_t finished_ns;
    make_version_1(&f);
    run_sql(&f, store_schema_steps[1]);
    run_sql(&f, "UPDATE ingestion SET accepted_ns = 100 * seq; PRAGMA user_version = 2");
    fixture_open(&f);
    OK(store_first_finished(f.store, &finished_ns));
    cr_assert_eq(finished_ns, 700);
    cr_assert_eq(remove_old(f.store, 699, 100).rows, 0);
    struct removed removed = remove_old(f.store, 700, 100);
    cr_assert(removed.ingestions == 1 && removed.rows == 1 + 1 + CHUNK_ROWS && removed.next == DUE_NEVER);
    cr_assert(is_gone(f.store, 6));
    expect_progress(f.store, 4, STATUS_TRIGGERED, PROGRESS(2, 3, 1, 1));
    expect_progress(f.store, 7, STATUS_YET_TO_START, PROGRESS(2));
    expect_sound(f.store);
    fixture_free(&f);
}

// What was before is not in the history; what is dispatched from then on is, and waited from its beginning
// on.
Test(store_migrate, the_history_begins_with_version_4)
{
    struct fixture f;
    make_version_1(&f);
    run_sql(&f, store_schema_steps[1]);
    run_sql(&f, store_schema_steps[2]);
    run_sql(&f, "PRAGMA user_version = 3");
    fixture_open(&f);
    expect_queues(f.store);
    expect_ingestions(f.store);
    cr_assert_eq(sql_integer(f.store->db, "SELECT sum(id * 100 + seq + queue) FROM history"), 200);
    (void)dispatch(f.store, key_make(1, PRIORITY_HIGH, 4, 1)); // its second attempt
    (void)dispatch(f.store, key_make(1, PRIORITY_LOW, 7, 0));
    cr_assert_eq(sql_integer(f.store->db, "SELECT sum(id * 10 + attempt) FROM history WHERE since = 0 AND "
                                          "ended = 0 AND seq > 0"),
                 73);
    expect_sound(f.store);
    fixture_free(&f);
    fixture_new(&f); // there is nothing before in a new one
    cr_assert_eq(sql_integer(f.store->db, "SELECT count(*) FROM history"), 0);
    fixture_free(&f);
}

// Keys of version 6 are nobody's. What had no owner has none, in as many bytes as before.
Test(store_migrate, what_was_before_version_7_is_nobodys)
{
    static const char bytes[] = "SELECT sum(payload) FROM dbstat WHERE name = 'ingestion'";
    static const char write_again[] = "UPDATE ingestion SET seq = seq"; // what was there before a column was
    struct fixture f;
    sqlite3 *db;
    char path[128];
    char key[] = "key";
    make_version_1(&f);
    (void)snprintf(path, sizeof path, "%s/%s", f.dir, STORE_FILE);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(store_schema_migrate(db, store_schema_steps, 1, 6), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, write_again, NULL, NULL, NULL), SQLITE_OK);
    int64_t before = sql_integer(db, bytes);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    fixture_open(&f);
    cr_assert_eq(sqlite3_exec(f.store->db, write_again, NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sql_integer(f.store->db, bytes), before);
    expect_queues(f.store);
    expect_ingestions(f.store);
    struct ingest_request request = request_make(9, PRIORITY_HIGH, 1, 7);
    request.idempotency_key = key;
    static const struct {
        const char *owner;
        enum insert_result result;
    } want[] = {{NULL, INSERT_REPLAYED}, {"ann", INSERT_NEW}, {"ann", INSERT_REPLAYED}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct insert insert = insert_make(&request, 1, 1);
        insert.owner = want[i].owner;
        OK(store_begin(f.store));
        OK(store_insert(f.store, &insert, 1));
        OK(store_commit(f.store));
        cr_assert_eq(insert.result, want[i].result, "case %zu: %d", i, (int)insert.result);
        struct id id = id_number(want[i].owner == NULL ? 4 : 9);
        cr_assert(id_equal(&insert.ingestion, &id));
    }
    cr_assert_str_eq(find(f.store, 4).owner, "");
    cr_assert_str_eq(find(f.store, 9).owner, "ann");
    expect_sound(f.store);
    request_drop(&request);
    fixture_free(&f);
}

// A start that fails on the way leaves the store as it was or as it is to be.
Test(store_migrate, each_write_and_sync_on_the_way_fails_once)
{
    static const int errors[FAULT_CALLS] = {
        [FAULT_WRITE] = SQLITE_FULL,
        [FAULT_SYNC] = SQLITE_IOERR_FSYNC,
    };
    for (int call = 0; call < FAULT_CALLS; call++) {
        bool hit = true;
        int nth = 1;
        for (; hit; nth++) {
            struct fixture f;
            struct fault_vfs vfs;
            make_version_1(&f);
            fault_vfs_install(&vfs);
            vfs.error = errors[call];
            vfs.until[call] = nth;
            enum err err = store_sqlite_open(f.dir, &f.store, NULL);
            hit = vfs.until[call] == 0;
            cr_assert(hit || err == ERR_OK, "%s", err_name(err));
            vfs.until[call] = 0;
            store_close(f.store);
            fixture_open(&f);
            expect_queues(f.store);
            expect_ingestions(f.store);
            store_close(f.store);
            f.store = NULL;
            sqlite3_vfs_unregister(&vfs.vfs);
            fixture_free(&f);
        }
        cr_assert_gt(nth, 2);
    }
}
