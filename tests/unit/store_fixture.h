// store_fixture.h - what the tests of the store share: a store in a directory of its own, short ways to fill
// it and to look at it, and what must hold of every store at every moment.
#ifndef SLUICE_TESTS_UNIT_STORE_FIXTURE_H
#define SLUICE_TESTS_UNIT_STORE_FIXTURE_H

#include "scheduler/store_sqlite.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) cr_assert_eq((call), ERR_OK)

struct fixture {
    char dir[64];
    struct store *store;
};

static inline void fixture_open(struct fixture *f)
{
    struct fault fault = {0};
    cr_assert_eq(store_sqlite_open(f->dir, &f->store, &fault), ERR_OK, "%s", fault.detail);
}

static inline void fixture_new(struct fixture *f)
{
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/sluice-store-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    fixture_open(f);
}

static inline void fixture_reopen(struct fixture *f)
{
    store_close(f->store);
    fixture_open(f);
}

static inline void fixture_free(struct fixture *f)
{
    store_close(f->store);
    DIR *dir = opendir(f->dir);
    cr_assert_not_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.') {
            cr_assert_eq(unlinkat(dirfd(dir), entry->d_name, 0), 0);
        }
    }
    closedir(dir);
    cr_assert_eq(rmdir(f->dir), 0);
}

// Bytes of the write-ahead log.
static inline off_t log_size(const struct fixture *f)
{
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/%s-wal", f->dir, STORE_FILE);
    cr_assert_eq(stat(path, &st), 0);
    return st.st_size;
}

static inline struct id id_number(uint64_t n)
{
    struct id id = {{0}};
    for (int i = 0; i < 8; i++) {
        id.bytes[15 - i] = (uint8_t)(n >> (8 * i));
    }
    return id;
}

// The IDs first, first + 1, …; free with free().
static inline char *id_list(uint64_t first, uint32_t count)
{
    struct buf text;
    buf_init(&text);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_char(&text, ',');
        }
        buf_u64(&text, first + i);
    }
    char *list = buf_take(&text, NULL);
    cr_assert_not_null(list);
    return list;
}

// A request for `count` IDs that begin at `first`; end with request_drop.
static inline struct ingest_request request_make(uint64_t id, enum priority priority, uint64_t first,
                                                 uint32_t count)
{
    struct ingest_request request = {.has_id = true, .id = id_number(id), .priority = priority};
    (void)snprintf(request.queue, sizeof request.queue, "%s", DEFAULT_QUEUE);
    request.ids.text = id_list(first, count);
    request.ids.len = strlen(request.ids.text);
    request.ids.count = count;
    request.ids.largest = first + count - 1;
    return request;
}

static inline void request_drop(struct ingest_request *request)
{
    free(request->ids.text);
}

#define NOW ((struct wall){1700000000123})
#define AGE (1000 * NS_PER_S) // on the age clock, where nothing else is said

static inline struct insert insert_make(const struct ingest_request *request, int64_t queue,
                                        uint32_t batch_size)
{
    return (struct insert){.request = request, .queue = queue, .batch_size = batch_size, .now = NOW};
}

// One request in a transaction of its own; ends it and returns the seq.
static inline int64_t add_request(struct store *store, struct ingest_request *request, int64_t queue,
                                  uint32_t batch_size)
{
    struct insert insert = insert_make(request, queue, batch_size);
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    OK(store_commit(store));
    cr_assert_eq(insert.result, INSERT_NEW);
    request_drop(request);
    return insert.seq;
}

static inline int64_t add(struct store *store, uint64_t id, int64_t queue, enum priority priority,
                          uint32_t batch_size, uint32_t count)
{
    struct ingest_request request = request_make(id, priority, 1, count);
    return add_request(store, &request, queue, batch_size);
}

// With moments, in milliseconds after NOW; 0: none. One ID to a batch.
static inline int64_t add_timed(struct store *store, uint64_t id, int64_t queue, enum priority priority,
                                uint32_t batches, int64_t not_before, int64_t deadline)
{
    struct ingest_request request = request_make(id, priority, 1, batches);
    request.not_before.ms = not_before != 0 ? NOW.ms + not_before : 0;
    request.deadline.ms = deadline != 0 ? NOW.ms + deadline : 0;
    return add_request(store, &request, queue, 1);
}

static inline struct batch_key key_make(int64_t queue, enum priority priority, int64_t seq, uint32_t index)
{
    return (struct batch_key){queue, {priority, seq, index}};
}

// One dispatch in a transaction of its own; returns the attempt.
static inline uint32_t dispatch(struct store *store, struct batch_key key)
{
    struct dispatch_row row = {.key = key, .now = NOW};
    OK(store_begin(store));
    OK(store_dispatch(store, &row, 1));
    OK(store_commit(store));
    free(row.ids);
    return row.attempt;
}

static inline void finish(struct store *store, struct finish_row row)
{
    OK(store_begin(store));
    OK(store_finish(store, &row, 1));
    OK(store_commit(store));
}

static inline void dispatch_and_finish(struct store *store, struct finish_row row)
{
    (void)dispatch(store, row.key);
    finish(store, row);
}

static inline struct removal cancel(struct store *store, uint64_t id, int64_t now_ms, enum err want)
{
    struct removal removal = {.seq = -1};
    struct id key = id_number(id);
    OK(store_begin(store));
    cr_assert_eq(store_cancel(store, &key, (struct wall){now_ms}, AGE, &removal), want);
    OK(store_commit(store));
    return removal;
}

// What is due of one kind at a moment (nanoseconds for retries, milliseconds after NOW else), at most *count;
// returns the next moment.
static inline int64_t take_due(struct store *store, int64_t queue, enum due_kind kind, int64_t now,
                               struct returned_row *rows, size_t *count)
{
    int64_t next = -1;
    OK(store_begin(store));
    OK(store_take_due(store, queue, kind, (struct mono){now}, (struct wall){NOW.ms + now}, rows, count,
                      &next));
    OK(store_commit(store));
    return next;
}

// All that expires at a moment, in milliseconds after NOW; at most *count.
static inline int64_t expire(struct store *store, int64_t queue, int64_t now, struct removal *removals,
                             size_t *count)
{
    int64_t next = -1;
    OK(store_begin(store));
    OK(store_expire(store, queue, (struct wall){NOW.ms + now}, AGE, removals, count, &next));
    OK(store_commit(store));
    return next;
}

static inline void ask_retry(struct store *store, int64_t queue, int64_t first_seq, int64_t last_seq)
{
    OK(store_begin(store));
    OK(store_ask_retry(store, queue, first_seq, last_seq));
    OK(store_commit(store));
}

static inline size_t run_retries(struct store *store, struct retried_row *rows, size_t max, bool *more)
{
    size_t count = max;
    OK(store_begin(store));
    OK(store_run_retries(store, rows, &count, more));
    OK(store_commit(store));
    return count;
}

// A step of removing what finished up to a moment of the age clock.
static inline struct removed remove_old(struct store *store, int64_t finished_by, size_t max_rows)
{
    struct removed removed;
    OK(store_begin_lazy(store));
    OK(store_remove_old(store, finished_by, max_rows, &removed));
    OK(store_commit(store));
    return removed;
}

static inline void drop_stub(struct store *store)
{
    cr_assert_eq(sqlite3_exec(store->db, "DELETE FROM ingestion WHERE id = x''", NULL, NULL, NULL),
                 SQLITE_OK);
}

// Leaves a gap behind the newest ingestion, as if more had come, of which the last left its stub.
static inline void skip_seqs(struct store *store, int64_t by)
{
    char sql[512];
    (void)snprintf(sql, sizeof sql,
                   "CREATE TEMP TABLE newest AS SELECT * FROM ingestion ORDER BY seq DESC LIMIT 1;"
                   "DELETE FROM ingestion WHERE id = x'';"
                   "UPDATE newest SET seq = seq + %lld, id = x'', next_idx = batch_count, fresh = NULL, "
                   "waiting = 0, triggered = 0, completed = 0, failed = 0, cancelled = batch_count, marks = "
                   "0, deadline_ms = 0, finished_ns = NULL, idempotency_key = NULL, owner = NULL, ids = NULL;"
                   "INSERT INTO ingestion SELECT * FROM newest;"
                   "DROP TABLE temp.newest",
                   (long long)by);
    cr_assert_eq(sqlite3_exec(store->db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(store->db));
}

// ---- looking at it ----

static inline bool is_gone(struct store *store, uint64_t id)
{
    struct ingestion_row row;
    struct id key = id_number(id);
    enum err err = store_find(store, &key, &row);
    cr_assert(err == ERR_OK || err == ERR_NOT_FOUND);
    return err == ERR_NOT_FOUND;
}

static inline struct ingestion_row find(struct store *store, uint64_t id)
{
    struct ingestion_row row;
    struct id key = id_number(id);
    OK(store_find(store, &key, &row));
    return row;
}

#define PROGRESS(...) ((const uint32_t[STATUSES]){__VA_ARGS__})
static inline void expect_progress(struct store *store, uint64_t id, enum status status,
                                   const uint32_t progress[STATUSES])
{
    struct ingestion_row row = find(store, id);
    for (int i = 0; i < STATUSES; i++) {
        cr_assert_eq(row.progress[i], progress[i], "%s: %u", status_name((enum status)i), row.progress[i]);
    }
    cr_assert_eq(ingestion_status(&row), status);
}

static inline void expect_waiting(struct store *store, int64_t queue, uint64_t high, uint64_t medium,
                                  uint64_t low)
{
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(store, queue, waiting));
    cr_assert(waiting[0] == high && waiting[1] == medium && waiting[2] == low, "%llu, %llu, %llu",
              (unsigned long long)waiting[0], (unsigned long long)waiting[1], (unsigned long long)waiting[2]);
}

// One batch that has a row; its error is "none" when it has none.
static inline void expect_batch(struct store *store, int64_t seq, uint32_t index, struct batch_row want)
{
    struct batch_row *rows;
    size_t count;
    OK(store_read_batches(store, seq, index, index + 1, &rows, &count));
    cr_assert_eq(count, 1);
    cr_assert_eq(rows->index, index);
    cr_assert_eq(rows->state, want.state);
    cr_assert_eq(rows->attempts, want.attempts);
    cr_assert_eq(rows->triggered.ms, want.triggered.ms);
    cr_assert_eq(rows->completed.ms, want.completed.ms);
    cr_assert_eq(rows->due.ns, want.due.ns);
    cr_assert_eq(rows->interrupted, want.interrupted);
    cr_assert_str_eq(rows->error != NULL ? rows->error : "none", want.error);
    store_free_batches(rows, count);
}

static inline int64_t sql_integer(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt;
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

// ---- what must always hold ----

// Between transactions: the counters, the runs, the counts in blocks, the rows of batches and the indexes by
// time tell the same story. Each statement finds what does not.
static inline void expect_sound(struct store *store)
{
    static const char *const unsound[] = {
        "SELECT count(*) FROM ingestion i WHERE waiting <> coalesce(iif(fresh, batch_count - next_idx, 0), "
        "0) + "
        "(SELECT coalesce(sum(end_idx - first_idx), 0) FROM waiting w WHERE w.queue = i.queue AND "
        "w.priority = i.priority AND w.seq = i.seq)",
        "SELECT count(*) FROM ingestion i WHERE fresh AND (next_idx >= batch_count OR "
        "EXISTS (SELECT 1 FROM batch b WHERE b.seq = i.seq AND b.idx >= next_idx) OR "
        "EXISTS (SELECT 1 FROM waiting w WHERE w.queue = i.queue AND w.priority = i.priority AND "
        "w.seq = i.seq AND w.end_idx > next_idx))",
        "SELECT count(*) FROM ingestion i WHERE id <> x'' AND (ids IS NULL) <> EXISTS (SELECT 1 FROM ids "
        "WHERE ids.seq = i.seq)",
        "SELECT count(*) FROM waiting w WHERE NOT EXISTS (SELECT 1 FROM ingestion i WHERE i.seq = w.seq AND "
        "i.queue = w.queue AND i.priority = w.priority) OR first_idx >= end_idx",
        "WITH l(level) AS (VALUES (0), (1), (2), (3), (4)), c AS (SELECT queue, priority, level, "
        "seq >> (4 * (level + 1)) AS block, sum(waiting) AS n FROM ingestion, l GROUP BY 1, 2, 3, 4 HAVING n "
        "> 0) "
        "SELECT (SELECT count(*) FROM (SELECT * FROM c EXCEPT SELECT queue, priority, level, block, n FROM "
        "waiting_count)) + (SELECT count(*) FROM (SELECT queue, priority, level, block, n FROM waiting_count "
        "EXCEPT SELECT * FROM c))",
        "WITH b AS (SELECT seq, count(*) AS total, sum(state = 1) AS again, sum(state IN (0, 2) OR (state = "
        "1 "
        "AND attempts > 0)) AS triggered, sum(state = 3) AS completed, sum(state = 4) AS failed, "
        "sum(state = 5) AS cancelled FROM batch GROUP BY seq) "
        "SELECT count(*) FROM ingestion i LEFT JOIN b ON b.seq = i.seq WHERE i.id <> x'' AND ("
        "i.triggered <> coalesce(b.triggered, 0) OR i.completed <> coalesce(b.completed, 0) OR "
        "i.failed <> coalesce(b.failed, 0) OR "
        "i.cancelled - coalesce(b.cancelled, 0) NOT IN (0, batch_count - coalesce(total, 0)) OR "
        "i.waiting <> coalesce(again, 0) + iif(marks & 1 OR i.cancelled > coalesce(b.cancelled, 0), 0, "
        "batch_count - coalesce(total, 0)))",
        "SELECT count(*) FROM batch b JOIN ingestion i ON i.seq = b.seq WHERE (state = 1) <> EXISTS "
        "(SELECT 1 FROM waiting w WHERE w.queue = i.queue AND w.priority = i.priority AND w.seq = b.seq AND "
        "w.first_idx <= b.idx AND w.end_idx > b.idx) OR (state <> 3 AND b.queue <> i.queue)",
        "SELECT count(*) FROM batch WHERE (due_ns IS NOT NULL) <> (state = 2 OR lease IS NOT NULL) OR "
        "(lease IS NOT NULL AND state <> 0)",
        "SELECT count(*) FROM ingestion i WHERE (marks & 1) <> EXISTS (SELECT 1 FROM scheduled s WHERE "
        "s.queue = i.queue AND s.due_ms = i.not_before_ms AND s.seq = i.seq)",
        "SELECT (SELECT count(*) FROM scheduled) - (SELECT count(*) FROM ingestion WHERE marks & 1)",
        "SELECT count(*) FROM deadline d WHERE NOT EXISTS (SELECT 1 FROM ingestion i WHERE i.seq = d.seq AND "
        "i.queue = d.queue AND i.deadline_ms = d.due_ms AND i.id <> x'')",
        "SELECT count(*) FROM ingestion WHERE id <> x'' AND (length(id) <> 16 OR (finished_ns IS NOT NULL) "
        "<> "
        "(completed + failed + cancelled = batch_count))",
        "SELECT count(*) FROM ingestion WHERE id = x'' AND (idempotency_key IS NOT NULL OR owner IS NOT NULL "
        "OR ids IS NOT NULL OR "
        "fresh IS NOT NULL OR finished_ns IS NOT NULL OR waiting > 0 OR triggered > 0)",
        "SELECT count(*) FROM gone g WHERE (batches = 0 AND chunks = 0) OR EXISTS (SELECT 1 FROM ingestion i "
        "WHERE i.seq = g.seq AND i.id <> x'')",
        "SELECT count(*) FROM batch b LEFT JOIN gone g ON g.seq = b.seq WHERE iif(g.seq IS NULL, NOT EXISTS "
        "(SELECT 1 FROM ingestion i WHERE i.seq = b.seq AND i.id <> x''), b.idx >= g.batches OR b.state < 3)",
        "SELECT count(*) FROM ids LEFT JOIN gone g ON g.seq = ids.seq WHERE iif(g.seq IS NULL, NOT EXISTS "
        "(SELECT 1 FROM ingestion i WHERE i.seq = ids.seq AND i.id <> x''), chunk >= g.chunks)",
    };
    for (size_t i = 0; i < sizeof unsound / sizeof unsound[0]; i++) {
        cr_assert_eq(sql_integer(store->db, unsound[i]), 0, "%s", unsound[i]);
    }
}

#endif
