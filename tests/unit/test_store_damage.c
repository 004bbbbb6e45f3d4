// Rows that make no sense, as a failing disk or a stranger may leave them: what meets them says so, takes its
// transaction along, and hands nothing out.
#include "tests/unit/store_fixture.h"

// ---- what may meet them ----

static enum err do_load_meta(struct store *store)
{
    struct meta meta;
    struct buf flags;
    buf_init(&flags);
    enum err err = store_load_meta(store, &meta, &flags);
    buf_fini(&flags);
    return err;
}

static enum err do_queue_name(struct store *store)
{
    char name[QUEUE_NAME_SIZE];
    return store_queue_name(store, 1, name);
}

static enum err do_find(struct store *store)
{
    struct ingestion_row row;
    struct id id = id_number(1);
    return store_find(store, &id, &row);
}

static enum err do_list(struct store *store)
{
    struct ingestion_row rows[4];
    struct list_request filter = {.limit = 4};
    size_t count = 4;
    int64_t next;
    enum err err = store_list(store, &filter, NULL, INT64_MAX, rows, &count, &next);
    cr_assert(err == ERR_OK || count == 0);
    return err;
}

static enum err do_load_in_flight(struct store *store)
{
    struct in_flight_row *rows;
    size_t count;
    enum err err = store_load_in_flight(store, &rows, &count);
    cr_assert(err == ERR_OK || (rows == NULL && count == 0));
    store_free_in_flight(rows, count);
    return err;
}

static enum err do_read_batches(struct store *store)
{
    struct batch_row *rows;
    size_t count;
    enum err err = store_read_batches(store, 1, 0, 9, &rows, &count);
    cr_assert(err == ERR_OK || (rows == NULL && count == 0));
    store_free_batches(rows, count);
    return err;
}

static enum err do_read_ids(struct store *store)
{
    struct ingestion_row row = find(store, 1);
    struct buf text;
    buf_init(&text);
    enum err err = store_read_ids(store, &row, 1, 3, &text);
    buf_fini(&text);
    return err;
}

static enum err do_read_ids_of_nothing(struct store *store)
{
    struct ingestion_row row = {.seq = 1, .ids = 5};
    struct buf text;
    buf_init(&text);
    enum err err = store_read_ids(store, &row, 1, 3, &text);
    buf_fini(&text);
    return err;
}

static enum err do_read_delayed(struct store *store, enum due_kind kind)
{
    struct delayed_row rows[2];
    size_t count = 2;
    enum err err = store_read_delayed(store, 1, kind, rows, &count);
    cr_assert(err == ERR_OK || count == 0);
    return err;
}

static enum err do_read_backoff(struct store *store)
{
    return do_read_delayed(store, DUE_RETRY);
}

static enum err do_read_scheduled(struct store *store)
{
    return do_read_delayed(store, DUE_START);
}

static enum err do_take_due(struct store *store, enum due_kind kind)
{
    struct returned_row rows[2];
    size_t count = 2;
    int64_t next;
    OK(store_begin(store));
    return store_take_due(store, 1, kind, (struct mono){100}, (struct wall){NOW.ms + 100}, rows, &count,
                          &next);
}

static enum err do_take_backoff(struct store *store)
{
    return do_take_due(store, DUE_RETRY);
}

static enum err do_take_scheduled(struct store *store)
{
    return do_take_due(store, DUE_START);
}

static enum err do_expire(struct store *store)
{
    struct removal removals[2];
    size_t count = 2;
    int64_t next;
    OK(store_begin(store));
    return store_expire(store, 1, (struct wall){NOW.ms + 100}, AGE, removals, &count, &next);
}

static enum err do_cancel(struct store *store)
{
    struct removal removal;
    struct id id = id_number(2);
    OK(store_begin(store));
    return store_cancel(store, &id, NOW, AGE, &removal);
}

static enum err do_retries(struct store *store)
{
    struct retried_row rows[2];
    size_t count = 2;
    bool more;
    OK(store_begin(store));
    return store_run_retries(store, rows, &count, &more);
}

static enum err do_dispatch(struct store *store)
{
    struct dispatch_row row = {.key = key_make(1, PRIORITY_LOW, 1, 3)};
    OK(store_begin(store));
    enum err err = store_dispatch(store, &row, 1);
    cr_assert(err == ERR_OK || row.ids == NULL);
    free(row.ids);
    return err;
}

static enum err do_remove(struct store *store)
{
    struct removed removed;
    OK(store_begin_lazy(store));
    return store_remove_old(store, INT64_MAX, 5, &removed);
}

static enum err do_insert(struct store *store) // a repeat
{
    struct ingest_request request = request_make(1, PRIORITY_LOW, 1, 5);
    struct insert insert = insert_make(&request, 2, 1);
    OK(store_begin(store));
    enum err err = store_insert(store, &insert, 1);
    request_drop(&request);
    return err;
}

// ---- the damage ----

// A queue with a batch leased, one in backoff, one failed (and a retry asked for) and two that wait; an
// ingestion that waits for its not_before, one with a deadline, and one that is being removed.
static void fill(struct store *store)
{
    struct queue_row queue = {.name = "a"};
    OK(store_begin(store));
    OK(store_save_queue(store, &queue));
    OK(store_commit(store));
    cr_assert_eq(queue.id, 1);
    int64_t seq = add(store, 1, 1, PRIORITY_LOW, 1, 5);
    cr_assert_eq(seq, 1);
    struct dispatch_row leased = {
        .key = key_make(1, PRIORITY_LOW, seq, 0), .leased = true, .lease = id_number(9), .lease_until = {5}};
    OK(store_begin(store));
    OK(store_dispatch(store, &leased, 1));
    OK(store_commit(store));
    free(leased.ids);
    dispatch_and_finish(
        store,
        (struct finish_row){.key = key_make(1, PRIORITY_LOW, seq, 1), .state = BATCH_BACKOFF, .due = {5}});
    dispatch_and_finish(store, (struct finish_row){.key = key_make(1, PRIORITY_LOW, seq, 2),
                                                   .state = BATCH_FAILED,
                                                   .error = "broken"});
    (void)add_timed(store, 2, 1, PRIORITY_LOW, 2, 50, 0);
    (void)add_timed(store, 3, 1, PRIORITY_LOW, 2, 0, 50);
    for (uint64_t i = 4; i < 6; i++) {
        seq = add(store, i, 1, PRIORITY_LOW, 1, 2);
        for (uint32_t b = 0; b < 2; b++) {
            dispatch_and_finish(store, (struct finish_row){.key = key_make(1, PRIORITY_LOW, seq, b),
                                                           .state = BATCH_COMPLETED,
                                                           .age_ns = (int64_t)i});
        }
    }
    cr_assert_eq(remove_old(store, 4, 2).ingestions, 1);
    ask_retry(store, 1, 1, 1);
    expect_sound(store);
}

// The same, as they are for long ingestions and after a batch was passed over.
#define IDS_IN_CHUNKS "INSERT INTO ids SELECT seq, 0, ids FROM ingestion; UPDATE ingestion SET ids = NULL; "
#define RUN_OF_ITS_OWN                                                                                       \
    "INSERT INTO waiting (queue, priority, seq, first_idx, end_idx) SELECT queue, priority, seq, next_idx, " \
    "batch_count FROM ingestion WHERE seq = 1; UPDATE ingestion SET fresh = NULL WHERE seq = 1; "

Test(store_damage, is_noticed)
{
    static const struct {
        const char *sql;
        enum err (*meets)(struct store *store);
    } cases[] = {
        {"UPDATE meta SET boot = x'00'", do_load_meta},
        {"DELETE FROM meta", do_load_meta},
        {"UPDATE queue SET name = printf('%.100c', 'x')", do_queue_name},
        {"UPDATE queue SET name = printf('%.100c', 'x')", do_insert},
        {"UPDATE ingestion SET priority = 3", do_find},
        {"UPDATE ingestion SET priority = -1", do_list},
        {"UPDATE ingestion SET priority = 3", do_load_in_flight},
        {"UPDATE ingestion SET priority = 3", do_read_backoff},
        {"UPDATE ingestion SET priority = 3", do_read_scheduled},
        {"UPDATE ingestion SET priority = 3", do_take_backoff},
        {"UPDATE ingestion SET priority = 3", do_take_scheduled},
        {"UPDATE ingestion SET priority = 3", do_expire},
        {"UPDATE ingestion SET priority = 3", do_cancel},
        {"UPDATE ingestion SET priority = 3", do_retries},
        {"UPDATE ingestion SET priority = 3", do_insert},
        {"UPDATE ingestion SET triggered = 9", do_find},
        {"UPDATE ingestion SET batch_size = 0", do_find},
        {"UPDATE ingestion SET batch_size = 0", do_load_in_flight},
        {"UPDATE ingestion SET batch_size = 0", do_dispatch},
        {"UPDATE ingestion SET id_count = 2", do_dispatch},
        {"UPDATE ingestion SET waiting = 0", do_expire},
        {"UPDATE ingestion SET marks = 0", do_take_scheduled},
        {"UPDATE ingestion SET not_before_ms = 1", do_take_scheduled},
        {"UPDATE ingestion SET not_before_ms = 1", do_cancel},
        {"UPDATE batch SET state = 6", do_read_batches},
        {"UPDATE batch SET state = -1 WHERE state = 4", do_read_batches}, // behind sound ones
        {"UPDATE batch SET lease = x'00'", do_load_in_flight},
        {"UPDATE ingestion SET ids = NULL", do_load_in_flight},
        {"UPDATE ingestion SET ids = NULL", do_dispatch},
        {"UPDATE ingestion SET ids = NULL", do_read_ids},
        {"UPDATE ingestion SET ids = '1'", do_read_ids},
        {"UPDATE ingestion SET ids = '1,2'", do_read_ids},
        {"UPDATE ingestion SET ids = '1,2'", do_dispatch},
        {IDS_IN_CHUNKS "DELETE FROM ids", do_load_in_flight},
        {IDS_IN_CHUNKS "DELETE FROM ids", do_dispatch},
        {IDS_IN_CHUNKS "DELETE FROM ids", do_read_ids},
        {IDS_IN_CHUNKS "UPDATE ids SET text = '1'", do_read_ids},
        {IDS_IN_CHUNKS "UPDATE ids SET text = '1,2'", do_read_ids},
        {"DELETE FROM ingestion WHERE seq = 1", do_dispatch},
        {"DELETE FROM ingestion WHERE seq = 1", do_read_ids_of_nothing},
        {"UPDATE gone SET batches = -1", do_remove},
        {"UPDATE gone SET chunks = 100001", do_remove},
        {"DELETE FROM retry; UPDATE batch SET idx = 100000 WHERE seq = 5 AND idx = 1", do_remove},
        {"UPDATE ingestion SET fresh = NULL", do_dispatch},
        {"UPDATE ingestion SET next_idx = 4", do_dispatch},
        {"UPDATE ingestion SET batch_count = 3", do_dispatch},
        {"INSERT INTO batch (seq, idx, queue, state, attempts, excused, triggered_ms) VALUES (1, 3, 1, 3, 1, "
         "0, 1)",
         do_dispatch},
        {RUN_OF_ITS_OWN "DELETE FROM waiting", do_dispatch},
        {RUN_OF_ITS_OWN "UPDATE waiting SET first_idx = 4 WHERE end_idx = 5", do_dispatch},
        {RUN_OF_ITS_OWN
         "DELETE FROM batch WHERE idx = 3; INSERT INTO batch (seq, idx, queue, state, attempts, "
         "excused, triggered_ms) VALUES (1, 3, 1, 3, 1, 0, 1)",
         do_dispatch},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        fixture_new(&f);
        fill(f.store);
        cr_assert_eq(sqlite3_exec(f.store->db, cases[i].sql, NULL, NULL, NULL), SQLITE_OK);
        cr_assert_eq(cases[i].meets(f.store), ERR_STORAGE_IO, "case %zu: %s", i, cases[i].sql);
        store_rollback(f.store);
        OK(store_begin(f.store)); // no statement was left open
        OK(store_commit(f.store));
        fixture_free(&f);
    }
}

// And all of it is fine where nothing is damaged.
Test(store_damage, is_not_seen_where_there_is_none)
{
    static enum err (*const all[])(struct store *) = {
        do_load_meta, do_queue_name,   do_find,           do_list,         do_load_in_flight, do_read_batches,
        do_read_ids,  do_read_backoff, do_read_scheduled, do_take_backoff, do_take_scheduled, do_expire,
        do_cancel,    do_retries,      do_dispatch,       do_insert,       do_remove,
    };
    struct fixture f;
    fixture_new(&f);
    fill(f.store);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        cr_assert_eq(all[i](f.store), ERR_OK, "%zu", i);
        store_rollback(f.store);
        expect_sound(f.store);
    }
    fixture_free(&f);
}

// Nor does it make a difference where IDs and runs are kept.
Test(store_damage, is_not_seen_in_what_is_kept_apart)
{
    static enum err (*const all[])(struct store *) = {do_load_in_flight, do_read_ids, do_cancel, do_dispatch};
    struct fixture f;
    fixture_new(&f);
    fill(f.store);
    cr_assert_eq(sqlite3_exec(f.store->db, IDS_IN_CHUNKS RUN_OF_ITS_OWN, NULL, NULL, NULL), SQLITE_OK);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        cr_assert_eq(all[i](f.store), ERR_OK, "%zu", i);
        store_rollback(f.store);
        expect_sound(f.store);
    }
    fixture_free(&f);
}
