// store_sqlite.h - what the files of the SQLite store share: the open store, its statements and how they are
// run.
//
// store_open.c     opening and closing, and what is refused
// store_sqlite.c   running statements, transactions, checkpoints
// store_schema.c   the tables, and the steps from an older schema to this one
// store_queues.c   start-up values, queues and their figures
// store_write.c    ingestions and batches on their way
// store_read.c     what start-up, the engine's look-ahead and the status table read
// store_ids.c      the IDs of an ingestion, in chunks
// store_counts.c   how many batches wait
#ifndef SLUICE_SCHEDULER_STORE_SQLITE_H
#define SLUICE_SCHEDULER_STORE_SQLITE_H

#include "scheduler/store.h"

#include <sqlite3.h>

#define STORE_FILE "sluice.db"
#define STORE_APPLICATION_ID 0x534c5543 // "SLUC", in the file's header: this file is ours

// ---- statements ----

#define INGESTION_COLUMNS                                                                                    \
    "seq, id, queue, priority, batch_size, id_count, batch_count, created_ms, "                              \
    "triggered, completed, failed, cancelled"

// Every statement is prepared when the store is opened, which also proves that the schema is the one we know.
#define STATEMENT_LIST(X)                                                                                    \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                              \
    X(COMMIT, "COMMIT")                                                                                      \
    X(ROLLBACK, "ROLLBACK")                                                                                  \
    /* start-up and queues */                                                                                \
    X(LOAD_META, "SELECT boot, flags FROM meta")                                                             \
    X(SAVE_META, "UPDATE meta SET boot = ?1, flags = ?2")                                                    \
    X(LOAD_QUEUES, "SELECT id, name, target, rate_count, rate_per_ns, burst, linger_ns, concurrency, "       \
                   "batch_size, max_id, timeout_ns, max_attempts, min_backoff_ns, max_backoff_ns, "          \
                   "max_hold_ns, tat_ns, tat_fraction, held_until_ns, held_until_ms, delivery_ns, "          \
                   "dispatched, completed, failed FROM queue ORDER BY id")                                   \
    X(INSERT_QUEUE, "INSERT INTO queue (name) VALUES (?1)")                                                  \
    X(UPDATE_QUEUE, "UPDATE queue SET rate_count = ?2, rate_per_ns = ?3, burst = ?4, linger_ns = ?5, "       \
                    "concurrency = ?6, batch_size = ?7, max_id = ?8, timeout_ns = ?9, max_attempts = ?10, "  \
                    "min_backoff_ns = ?11, max_backoff_ns = ?12, max_hold_ns = ?13, target = ?14 "           \
                    "WHERE id = ?1")                                                                         \
    X(UPDATE_FIGURES, "UPDATE queue SET tat_ns = ?2, tat_fraction = ?3, held_until_ns = ?4, "                \
                      "held_until_ms = ?5, delivery_ns = ?6, dispatched = ?7, completed = ?8, failed = ?9 "  \
                      "WHERE id = ?1")                                                                       \
    X(REBASE_BACKOFF, "UPDATE batch SET due_ns = ?1 WHERE state = 2 AND (seq, idx) IN (SELECT seq, idx "     \
                      "FROM batch INDEXED BY batch_backoff WHERE state = 2 AND due_ns > ?1 LIMIT 1000)")     \
    X(IN_FLIGHT, "SELECT i.queue, i.priority, b.seq, b.idx FROM batch b INDEXED BY batch_in_flight "         \
                 "CROSS JOIN ingestion i ON i.seq = b.seq WHERE b.state = 0 ORDER BY b.seq, b.idx")          \
    /* runs of waiting batches */                                                                            \
    X(READ_RUNS, "SELECT seq, first_idx, end_idx FROM waiting WHERE queue = ?1 AND priority = ?2 AND "       \
                 "(seq, end_idx) > (?3, ?4) ORDER BY seq, end_idx LIMIT ?5")                                 \
    X(FIND_RUN, "SELECT first_idx, end_idx FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3 "    \
                "AND end_idx > ?4 ORDER BY end_idx LIMIT 1")                                                 \
    X(SPAN, "SELECT (SELECT first_idx FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3 "         \
            "ORDER BY end_idx LIMIT 1), (SELECT end_idx FROM waiting WHERE queue = ?1 AND priority = ?2 "    \
            "AND seq = ?3 ORDER BY end_idx DESC LIMIT 1)")                                                   \
    X(INSERT_RUN,                                                                                            \
      "INSERT INTO waiting (queue, priority, seq, first_idx, end_idx) VALUES (?1, ?2, ?3, ?4, ?5)")          \
    X(SHORTEN_RUN, "UPDATE waiting SET first_idx = ?5 WHERE queue = ?1 AND priority = ?2 AND seq = ?3 AND "  \
                   "end_idx = ?4")                                                                           \
    X(DELETE_RUN, "DELETE FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3 AND end_idx = ?4")    \
    /* counts of waiting batches */                                                                          \
    X(ADD_COUNT, "INSERT INTO waiting_count (queue, priority, level, block, n) VALUES (?1, ?2, ?3, ?4, ?5) " \
                 "ON CONFLICT DO UPDATE SET n = n + excluded.n")                                             \
    X(DROP_COUNT, "DELETE FROM waiting_count WHERE queue = ?1 AND priority = ?2 AND level = ?3 AND "         \
                  "block = ?4 AND n = 0")                                                                    \
    X(SUM_BLOCKS, "SELECT sum(n) FROM waiting_count WHERE queue = ?1 AND priority = ?2 AND level = ?3 AND "  \
                  "block >= ?4 AND block < ?5")                                                              \
    X(SUM_INGESTIONS, "SELECT sum(waiting) FROM ingestion WHERE seq >= ?3 AND seq < ?4 AND queue = ?1 AND "  \
                      "priority = ?2")                                                                       \
    X(SUM_RUNS, "SELECT sum(min(end_idx, ?4) - first_idx) FROM waiting WHERE queue = ?1 AND "                \
                "priority = ?2 AND seq = ?3 AND first_idx < ?4")                                             \
    /* ingestions */                                                                                         \
    X(INSERT_INGESTION, "INSERT INTO ingestion (queue, priority, batch_size, id_count, batch_count, "        \
                        "created_ms, waiting, id, idempotency_key) "                                         \
                        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?7, ?8) ON CONFLICT DO NOTHING")                \
    X(FIND_ID, "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE id = ?1")                                  \
    X(FIND_KEY, "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE idempotency_key = ?1")                    \
    X(LIST, "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE seq < ?1 ORDER BY seq DESC")                  \
    X(COUNT_DISPATCH, "UPDATE ingestion SET waiting = waiting - 1, triggered = triggered + ?2 "              \
                      "WHERE seq = ?1 RETURNING id, batch_size, id_count")                                   \
    X(COUNT_RETURN, "UPDATE ingestion SET waiting = waiting + 1 WHERE seq = ?1")                             \
    X(COUNT_FINISH, "UPDATE ingestion SET triggered = triggered - 1, completed = completed + ?2, "           \
                    "failed = failed + ?3 WHERE seq = ?1")                                                   \
    X(INSERT_IDS, "INSERT INTO ids (seq, chunk, text) VALUES (?1, ?2, ?3)")                                  \
    X(READ_IDS, "SELECT text FROM ids WHERE seq = ?1 AND chunk >= ?2 ORDER BY chunk")                        \
    /* batches */                                                                                            \
    X(START_BATCH, "INSERT INTO batch (seq, idx, state, attempts, excused, triggered_ms) "                   \
                   "VALUES (?1, ?2, 0, 1, 0, ?3) ON CONFLICT DO UPDATE SET state = 0, "                      \
                   "attempts = attempts + 1 WHERE state = 1 RETURNING attempts, excused")                    \
    X(FINISH_BATCH, "UPDATE batch SET state = ?3, excused = excused + ?4, completed_ms = ?5, due_ns = ?6, "  \
                    "error = ?7 WHERE seq = ?1 AND idx = ?2 AND state = 0")                                  \
    X(PROMOTE_BATCH, "UPDATE batch SET state = 1, due_ns = NULL WHERE seq = ?1 AND idx = ?2 AND state = 2")  \
    X(READ_BACKOFF, "SELECT i.queue, i.priority, b.seq, b.idx, b.due_ns FROM batch b "                       \
                    "INDEXED BY batch_backoff CROSS JOIN ingestion i ON i.seq = b.seq WHERE b.state = 2 "    \
                    "AND (b.due_ns, b.seq, b.idx) > (?1, ?2, ?3) ORDER BY b.due_ns, b.seq, b.idx LIMIT ?4")  \
    X(READ_BATCHES, "SELECT idx, state, attempts, triggered_ms, completed_ms, due_ns, error FROM batch "     \
                    "WHERE seq = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx")

enum statement {
#define STATEMENT_ENUM(name, sql) STMT_##name,
    STATEMENT_LIST(STATEMENT_ENUM)
#undef STATEMENT_ENUM
        STATEMENTS
};

// ---- the open store ----

// A change of how many batches wait in one block of COUNT_FANOUT sequence numbers, not yet written.
struct count_delta {
    int64_t queue;
    enum priority priority;
    int64_t block;
    int64_t n;
};
#define COUNT_DELTAS_MAX 128

struct store {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
    bool in_transaction;
    int wal_frames; // in the write-ahead log after the last commit, checkpoints taken off
    struct count_delta deltas[COUNT_DELTAS_MAX];
    size_t delta_count;
};

// The error for a result code of SQLite, right after the call (it looks at errno, which was 0 before). What
// is no lack of room or memory is ERR_STORAGE_IO: a constraint that fails means that memory and disk
// disagree, and then nothing may go on either.
enum err store_sqlite_err(int rc);

// The end of every write: a failed one takes the whole transaction with it.
MUST_CHECK enum err store_written(struct store *store, enum err err);

// Binds integers to the parameters from ?1 on and returns the statement.
sqlite3_stmt *stmt_bind(struct store *store, enum statement which, const int64_t *values, size_t count);
#define BIND(store, which, ...)                                                                              \
    stmt_bind(store, which, (const int64_t[]){__VA_ARGS__},                                                  \
              sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
// Runs a statement to its end and resets it: a statement that is left open would pin the write-ahead log.
MUST_CHECK enum err stmt_run(sqlite3_stmt *stmt);
// As stmt_run; ERR_STORAGE_IO unless it changed exactly one row.
MUST_CHECK enum err stmt_run_one(sqlite3_stmt *stmt);
// Steps to the next row. At the end and on failure *row is false and the statement is reset; a caller that
// does not go on to the end resets it.
MUST_CHECK enum err stmt_next(sqlite3_stmt *stmt, bool *row);
// The single integer of a statement; a NULL counts as 0.
MUST_CHECK enum err stmt_integer(sqlite3_stmt *stmt, int64_t *value);
// Columns as narrower types; a value outside them can only come from damage and becomes the type's maximum.
uint32_t column_u32(sqlite3_stmt *stmt, int column);
// False when the column does not hold exactly 16 bytes.
bool column_id(sqlite3_stmt *stmt, int column, struct id *id);
bool column_priority(sqlite3_stmt *stmt, int column, enum priority *priority);
// False when the text does not fit.
bool column_text(sqlite3_stmt *stmt, int column, char *text, size_t size);

// ---- store_schema.c ----

// Step n leads from schema version n to n + 1.
extern const char *const store_schema_steps[];
extern const int store_schema_version;
// Runs the steps from version `from` up to `to` in one transaction; returns SQLite's result code. When a step
// fails nothing has changed.
MUST_CHECK int store_schema_migrate(sqlite3 *db, const char *const *steps, int from, int to);

// ---- store_ids.c ----

MUST_CHECK enum err ids_write(struct store *store, int64_t seq, const struct ids *ids);
// Appends the IDs with from <= position < from + count, which exist.
MUST_CHECK enum err ids_read(struct store *store, int64_t seq, uint32_t from, uint32_t count,
                             struct buf *text);
MUST_CHECK enum err ids_same(struct store *store, int64_t seq, const struct ids *ids, bool *same);

// ---- store_counts.c ----

#define COUNT_BITS 6
// Notes that n batches of this ingestion more (or fewer) wait; ingestion.waiting is the caller's.
MUST_CHECK enum err counts_add(struct store *store, int64_t queue, enum priority priority, int64_t seq,
                               int64_t n);
// Writes what was noted.
MUST_CHECK enum err counts_flush(struct store *store);

// ---- store_read.c ----

// From a row of INGESTION_COLUMNS; ERR_STORAGE_IO when it makes no sense.
MUST_CHECK enum err read_ingestion(sqlite3_stmt *stmt, struct ingestion_row *row);

#endif
