// store_sqlite.h - what the files of the SQLite store share: the open store, its statements and how they are
// run.
//
// store_open.c     opening and closing, and what is refused
// store_sqlite.c   running statements, transactions, checkpoints
// store_schema.c   the tables, and the steps from an older schema to this one
// store_queues.c   start-up values, queues and their figures
// store_write.c    ingestions and batches on their way
// store_due.c      what waits for a moment, and what its moment brings
// store_cancel.c   what is cancelled, by hand or by a deadline
// store_retry.c    retries by hand
// store_remove.c   what finished long ago
// store_copy.c     a copy of it all
// store_read.c     what start-up and the status table read
// store_ids.c      the IDs of an ingestion, in chunks
// store_waiting.c  the batches that wait, as runs
// store_counts.c   how many of them there are
// store_history.c  what was dispatched when
#ifndef SLUICE_SCHEDULER_STORE_SQLITE_H
#define SLUICE_SCHEDULER_STORE_SQLITE_H

#include "scheduler/store.h"

#include <sqlite3.h>

#define STORE_FILE "sluice.db"
#define STORE_APPLICATION_ID 0x534c5543 // "SLUC", in the file's header: this file is ours

// ---- statements ----

#define INGESTION_COLUMNS                                                                                    \
    "seq, id, queue, priority, batch_size, id_count, batch_count, created_ms, accepted_ns, not_before_ms, "  \
    "deadline_ms, marks, waiting, triggered, completed, failed, cancelled, owner"

// The blocks before ?3: large ones, then inside the one that it lies in smaller ones, and so on. Rows of a
// level, the first block and the one after the last; `larger` and `own` are the sizes of blocks as powers of
// two.
// clang-format off
#define LEVEL_BEFORE(level, larger, own) "(" level ", ?3 >> " larger " << 4, ?3 >> " own ")"
#define BLOCKS_BEFORE \
    "(VALUES (4, 0, ?3 >> 20), " LEVEL_BEFORE("3", "20", "16") ", " LEVEL_BEFORE("2", "16", "12") ", " \
    LEVEL_BEFORE("1", "12", "8") ", " LEVEL_BEFORE("0", "8", "4") ")"
// clang-format on

// RETURNING costs as much as several statements (SQLite makes a table for it each time), so it is for rare
// ones. Every statement is prepared when the store is opened, which also proves that the schema is the one we
// know.
#define STATEMENT_LIST(X)                                                                                    \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                              \
    X(BEGIN_READING, "BEGIN")                                                                                \
    X(COMMIT, "COMMIT")                                                                                      \
    X(ROLLBACK, "ROLLBACK")                                                                                  \
    /* start-up and queues */                                                                                \
    X(LOAD_META, "SELECT boot, age_offset_ns, flags FROM meta")                                              \
    X(SAVE_META, "UPDATE meta SET age_offset_ns = ?1, boot = ?2, flags = ?3")                                \
    X(LOAD_QUEUES,                                                                                           \
      "SELECT id, name, target, headers, rate_count, rate_per_ns, burst, linger_ns, "                        \
      "concurrency, batch_size, largest_batch, ids, max_id, timeout_ns, max_attempts, min_backoff_ns, "      \
      "max_backoff_ns, max_hold_ns, breaker, lease_ns, on_interrupt, aging_ns, tat_ns, "                     \
      "tat_fraction, paused, held_until_ns, held_until_ms, held_by, failures, probe_at_ns, "                 \
      "delivery_ns, delayed, dispatched, completed, failed, starting FROM queue ORDER BY id")                \
    X(NEXT_QUEUE, "SELECT id FROM queue WHERE id > ?1 ORDER BY id LIMIT 1")                                  \
    X(INSERT_QUEUE, "INSERT INTO queue (name) VALUES (?1)")                                                  \
    X(UPDATE_QUEUE, "UPDATE queue SET rate_count = ?2, rate_per_ns = ?3, burst = ?4, linger_ns = ?5, "       \
                    "concurrency = ?6, batch_size = ?7, ids = ?8, max_id = ?9, timeout_ns = ?10, "           \
                    "max_attempts = ?11, min_backoff_ns = ?12, max_backoff_ns = ?13, max_hold_ns = ?14, "    \
                    "breaker = ?15, lease_ns = ?16, on_interrupt = ?17, aging_ns = ?18, target = ?19, "      \
                    "headers = ?20, largest_batch = ?21 WHERE id = ?1")                                      \
    X(UPDATE_FIGURES, "UPDATE queue SET tat_ns = ?2, tat_fraction = ?3, paused = ?4, held_until_ns = ?5, "   \
                      "held_until_ms = ?6, held_by = ?7, failures = ?8, probe_at_ns = ?9, "                  \
                      "delivery_ns = ?10, delayed = ?11, dispatched = ?12, completed = ?13, failed = ?14, "  \
                      "starting = ?15 WHERE id = ?1")                                                        \
    X(KEEP_NAME, "INSERT INTO deleted_queue (id, name) SELECT id, name FROM queue WHERE id = ?1")            \
    X(DELETE_QUEUE, "DELETE FROM queue WHERE id = ?1")                                                       \
    X(DELETE_QUEUE_RETRIES, "DELETE FROM retry WHERE queue = ?1")                                            \
    X(DELETE_QUEUE_DEADLINES, "DELETE FROM deadline WHERE queue = ?1")                                       \
    X(QUEUE_NAME, "SELECT name FROM queue WHERE id = ?1 UNION ALL "                                          \
                  "SELECT name FROM deleted_queue WHERE id = ?1")                                            \
    X(IN_FLIGHT, "SELECT i.queue, i.priority, b.seq, b.idx, b.attempts, b.excused, b.lease, b.due_ns, "      \
                 "i.id, i.marks, i.batch_size, i.id_count, i.ids, i.request_id, i.traceparent FROM batch b " \
                 "INDEXED BY batch_in_flight "                                                               \
                 "CROSS JOIN ingestion i ON i.seq = b.seq WHERE b.state = 0 ORDER BY b.seq, b.idx")          \
    /* runs of waiting batches */                                                                            \
    X(READ_RUNS, /* a merge of two that are in order: nothing is sorted */                                   \
      "SELECT w.seq, w.first_idx, w.end_idx, i.accepted_ns FROM waiting w CROSS JOIN ingestion i "           \
      "ON i.seq = w.seq WHERE w.queue = ?1 AND w.priority = ?2 AND (w.seq, w.end_idx) > (?3, ?4) "           \
      "UNION ALL SELECT seq, next_idx, batch_count, accepted_ns FROM ingestion INDEXED BY ingestion_fresh "  \
      "WHERE fresh IS NOT NULL AND queue = ?1 AND priority = ?2 AND seq >= ?3 AND "                          \
      "(seq > ?3 OR batch_count > ?4) ORDER BY 1, 3 LIMIT ?5")                                               \
    X(FIND_RUN, "SELECT first_idx, end_idx FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3 "    \
                "AND end_idx > ?4 ORDER BY end_idx LIMIT 1")                                                 \
    X(SPAN, "SELECT coalesce((SELECT first_idx FROM waiting WHERE queue = i.queue AND "                      \
            "priority = i.priority AND seq = i.seq ORDER BY end_idx LIMIT 1), iif(fresh, next_idx, NULL)), " \
            "iif(fresh, batch_count, (SELECT end_idx FROM waiting WHERE queue = i.queue AND "                \
            "priority = i.priority AND seq = i.seq ORDER BY end_idx DESC LIMIT 1)) FROM ingestion i "        \
            "WHERE i.seq = ?1")                                                                              \
    X(INSERT_RUN,                                                                                            \
      "INSERT INTO waiting (queue, priority, seq, first_idx, end_idx) VALUES (?1, ?2, ?3, ?4, ?5)")          \
    X(SHORTEN_RUN, "UPDATE waiting SET first_idx = ?5 WHERE queue = ?1 AND priority = ?2 AND seq = ?3 AND "  \
                   "end_idx = ?4")                                                                           \
    X(DELETE_RUN, "DELETE FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3 AND end_idx = ?4")    \
    X(DELETE_RUNS, "DELETE FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3")                    \
    X(DELETE_FRESH_RUNS, /* the batches of a run are all alike: without a row, with attempts 0, or neither   \
                          */                                                                                 \
      "DELETE FROM waiting WHERE queue = ?1 AND priority = ?2 AND seq = ?3 AND NOT EXISTS (SELECT 1 FROM "   \
      "batch b WHERE b.seq = waiting.seq AND b.idx = waiting.first_idx AND b.attempts > 0)")                 \
    /* counts of waiting batches */                                                                          \
    X(ADD_COUNT, "INSERT INTO waiting_count (queue, priority, level, block, n) VALUES (?1, ?2, ?3, ?4, ?5) " \
                 "ON CONFLICT DO UPDATE SET n = n + excluded.n")                                             \
    X(DROP_COUNT, "DELETE FROM waiting_count WHERE queue = ?1 AND priority = ?2 AND level = ?3 AND "         \
                  "block = ?4 AND n = 0")                                                                    \
    X(SUM_BLOCKS, "SELECT sum(n) FROM waiting_count WHERE queue = ?1 AND priority = ?2 AND level = ?3 AND "  \
                  "block >= ?4 AND block < ?5")                                                              \
    X(COUNT_BEFORE, /* and the ingestions of the smallest block that ?3 lies in */                           \
      "SELECT (SELECT coalesce(sum(w.n), 0) FROM " BLOCKS_BEFORE                                             \
      " AS blocks CROSS JOIN waiting_count w WHERE "                                                         \
      "w.queue = ?1 AND w.priority = ?2 AND w.level = blocks.column1 AND w.block >= blocks.column2 AND "     \
      "w.block < blocks.column3) + (SELECT coalesce(sum(waiting), 0) FROM ingestion WHERE "                  \
      "seq >= ?3 >> 4 << 4 AND seq < ?3 AND queue = ?1 AND priority = ?2)")                                  \
    X(COUNT_OWN_BEFORE, /* of the ingestion ?3, the batches before ?4 */                                     \
      "SELECT (SELECT coalesce(sum(min(end_idx, ?4) - first_idx), 0) FROM waiting WHERE queue = ?1 AND "     \
      "priority = ?2 AND seq = ?3 AND first_idx < ?4) + coalesce((SELECT max(min(batch_count, ?4) - "        \
      "next_idx, 0) FROM ingestion WHERE seq = ?3 AND fresh AND queue = ?1 AND priority = ?2), 0)")          \
    /* ingestions */                                                                                         \
    X(INSERT_INGESTION,                                                                                      \
      "INSERT INTO ingestion (queue, priority, batch_size, id_count, batch_count, created_ms, accepted_ns, " \
      "not_before_ms, deadline_ms, next_idx, waiting, marks, since, fresh, id, idempotency_key, ids, "       \
      "request_id, "                                                                                         \
      "traceparent, owner) VALUES "                                                                          \
      "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) ON "        \
      "CONFLICT DO "                                                                                         \
      "NOTHING")                                                                                             \
    X(FIND_ID, "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE id = ?1")                                  \
    X(FIND_KEY,                                                                                              \
      "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE idempotency_key = ?1 AND ifnull(owner, '') = ?2")   \
    X(FIND_SEQ, "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE seq = ?1")                                \
    X(LIST, "SELECT " INGESTION_COLUMNS " FROM ingestion WHERE seq < ?1 AND id <> x'' ORDER BY seq DESC")    \
    X(NEWEST, "SELECT seq, accepted_ns, created_ms FROM ingestion WHERE seq <= ?1 ORDER BY seq DESC "        \
              "LIMIT 1")                                                                                     \
    X(COUNT_DISPATCH, "UPDATE ingestion SET waiting = waiting - 1, triggered = triggered + ?2 "              \
                      "WHERE seq = ?1")                                                                      \
    X(TAKE_FRESH, "UPDATE ingestion SET next_idx = ?2 + 1, waiting = waiting - 1, "                          \
                  "triggered = triggered + 1 WHERE seq = ?1 AND batch_count > ?2 + 1")                       \
    X(TAKE_LAST_FRESH, "UPDATE ingestion SET next_idx = ?2 + 1, fresh = NULL, waiting = waiting - 1, "       \
                       "triggered = triggered + 1 WHERE seq = ?1 AND batch_count = ?2 + 1")                  \
    X(COUNT_RETURN, "UPDATE ingestion SET waiting = waiting + 1 WHERE seq = ?1")                             \
    X(COUNT_FINISH, /* the index by finished_ns is left alone as long as that stays NULL */                  \
      "UPDATE ingestion SET triggered = triggered - 1, completed = completed + ?2, "                         \
      "failed = failed + ?3, cancelled = cancelled + ?4, "                                                   \
      "finished_ns = iif(completed + failed + cancelled + 1 = batch_count, ?5, NULL) WHERE seq = ?1")        \
    X(COUNT_RETRY, "UPDATE ingestion SET failed = failed - ?2, waiting = waiting + ?2, finished_ns = NULL "  \
                   "WHERE seq = ?1")                                                                         \
    X(COUNT_CANCEL,                                                                                          \
      "UPDATE ingestion SET waiting = waiting - ?2, triggered = triggered - ?3, cancelled = cancelled + "    \
      "?4, "                                                                                                 \
      "marks = marks & ~1 | ?5, fresh = NULL, finished_ns = iif(completed + failed + cancelled + ?4 = "      \
      "batch_count, coalesce(finished_ns, ?6), NULL) WHERE seq = ?1")                                        \
    X(COUNT_START,                                                                                           \
      "UPDATE ingestion SET waiting = batch_count, fresh = 1, marks = marks & ~1, since = ?2 WHERE "         \
      "seq = ?1 AND marks & 1 RETURNING not_before_ms")                                                      \
    X(UNMARK_CANCELLED, "UPDATE ingestion SET marks = marks & ~2 WHERE seq = ?1 AND marks & 2")              \
    X(INSERT_IDS, "INSERT INTO ids (seq, chunk, text) VALUES (?1, ?2, ?3)")                                  \
    X(READ_SHORT_IDS, "SELECT ids FROM ingestion WHERE seq = ?1")                                            \
    X(READ_IDS, "SELECT text FROM ids WHERE seq = ?1 AND chunk >= ?2 ORDER BY chunk")                        \
    /* batches */                                                                                            \
    X(READ_TO_START,                                                                                         \
      "SELECT id, batch_size, id_count, next_idx, batch_count, fresh, since, ids, request_id, "              \
      "traceparent FROM ingestion "                                                                          \
      "WHERE seq = ?1")                                                                                      \
    X(START_BATCH, "INSERT INTO batch (seq, idx, queue, state, attempts, excused, triggered_ms, due_ns, "    \
                   "lease) VALUES (?1, ?2, ?3, 0, 1, 0, ?4, ?5, ?6)")                                        \
    X(START_AGAIN, "INSERT INTO batch (seq, idx, queue, state, attempts, excused, triggered_ms, due_ns, "    \
                   "lease) VALUES (?1, ?2, ?3, 0, 1, 0, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET state = 0, "   \
                   "triggered_ms = iif(attempts = 0, excluded.triggered_ms, triggered_ms), "                 \
                   "attempts = attempts + 1, due_ns = excluded.due_ns, lease = excluded.lease, ended = 0 "   \
                   "WHERE state = 1")                                                                        \
    X(READ_ATTEMPTS, "SELECT attempts, excused, since, ended FROM batch WHERE seq = ?1 AND idx = ?2")        \
    X(FINISH_BATCH,                                                                                          \
      "UPDATE batch SET state = ?3, excused = excused + ?4, interrupted = interrupted | ?5, "                \
      "completed_ms = ?6, due_ns = ?7, ended = ?8, since = iif(?3 = 1, ?8, since), error = ?9, "             \
      "lease = NULL "                                                                                        \
      "WHERE seq = ?1 AND idx = ?2 AND state = 0")                                                           \
    X(EXTEND_LEASE, "UPDATE batch SET due_ns = ?3 WHERE seq = ?1 AND idx = ?2 AND state = 0 AND lease = ?4") \
    X(PROMOTE_BATCH,                                                                                         \
      "UPDATE batch SET state = 1, due_ns = NULL, since = ?3 WHERE seq = ?1 AND idx = ?2 AND state = 2")     \
    X(CANCEL_STARTED, "UPDATE batch SET state = 5, completed_ms = ?3, due_ns = NULL WHERE seq = ?1 AND "     \
                      "state = ?2 AND attempts > 0")                                                         \
    X(CANCEL_FRESH, "UPDATE batch SET state = 5, completed_ms = ?2, error = ?3 WHERE seq = ?1 AND "          \
                    "state = 1 AND attempts = 0")                                                            \
    X(READ_BATCHES, "SELECT idx, state, attempts, triggered_ms, completed_ms, due_ns, interrupted, error "   \
                    "FROM batch WHERE seq = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx")                     \
    /* what waits for a moment */                                                                            \
    X(REBASE_BACKOFF, "UPDATE batch SET due_ns = ?1 WHERE state = 2 AND (seq, idx) IN (SELECT seq, idx "     \
                      "FROM batch INDEXED BY batch_backoff WHERE state = 2 AND queue = ?2 AND due_ns > ?1 "  \
                      "LIMIT 1000)")                                                                         \
    X(REBASE_LEASES, "UPDATE batch INDEXED BY batch_in_flight SET due_ns = ?1 WHERE state = 0 AND "          \
                     "lease IS NOT NULL AND due_ns > ?1")                                                    \
    X(NEXT_BACKOFF, "SELECT min(due_ns) FROM batch INDEXED BY batch_backoff WHERE state = 2 AND queue = ?1") \
    X(NEXT_SCHEDULED, "SELECT min(due_ms) FROM scheduled WHERE queue = ?1")                                  \
    X(NEXT_DEADLINE, "SELECT min(due_ms) FROM deadline WHERE queue = ?1")                                    \
    X(READ_BACKOFF, "SELECT i.priority, i.accepted_ns, b.seq, b.idx, b.idx + 1, b.due_ns FROM batch b "      \
                    "INDEXED BY batch_backoff CROSS JOIN ingestion i ON i.seq = b.seq WHERE b.state = 2 "    \
                    "AND b.queue = ?1 AND b.due_ns <= ?2 ORDER BY b.due_ns, b.seq, b.idx LIMIT ?3")          \
    X(READ_SCHEDULED, "SELECT i.priority, i.accepted_ns, s.seq, 0, i.batch_count, s.due_ms FROM "            \
                      "scheduled s CROSS JOIN ingestion i ON i.seq = s.seq WHERE s.queue = ?1 AND "          \
                      "s.due_ms <= ?2 ORDER BY s.due_ms, s.seq LIMIT ?3")                                    \
    X(INSERT_SCHEDULED, "INSERT INTO scheduled (queue, due_ms, seq) VALUES (?1, ?2, ?3)")                    \
    X(DELETE_SCHEDULED, "DELETE FROM scheduled WHERE queue = ?1 AND due_ms = ?2 AND seq = ?3")               \
    X(INSERT_DEADLINE, "INSERT INTO deadline (queue, due_ms, seq) VALUES (?1, ?2, ?3)")                      \
    X(DELETE_DEADLINE, "DELETE FROM deadline WHERE queue = ?1 AND due_ms = ?2 AND seq = ?3")                 \
    X(DUE_DEADLINE, "SELECT due_ms, seq FROM deadline WHERE queue = ?1 AND due_ms <= ?2 "                    \
                    "ORDER BY due_ms, seq LIMIT 1")                                                          \
    /* retries by hand */                                                                                    \
    X(INSERT_RETRY, /* up to the last ingestion of which something has failed by now */                      \
      "INSERT INTO retry (queue, next_seq, next_idx, last_seq) SELECT ?1, seq, idx, (SELECT max(seq) FROM "  \
      "batch INDEXED BY batch_failed WHERE state = 4 AND queue = ?1 AND seq <= ?3) FROM batch "              \
      "INDEXED BY batch_failed WHERE state = 4 AND queue = ?1 AND seq >= ?2 AND seq <= ?3 "                  \
      "ORDER BY seq, idx LIMIT 1")                                                                           \
    X(NEXT_RETRY, "SELECT id, queue, next_seq, next_idx, last_seq FROM retry WHERE id > 0 ORDER BY id "      \
                  "LIMIT 1")                                                                                 \
    X(RETRY_PENDING, "SELECT count(*) FROM retry WHERE queue = ?1 AND next_seq <= ?2 AND last_seq >= ?2")    \
    X(UPDATE_RETRY, "UPDATE retry SET next_seq = ?2, next_idx = ?3 WHERE id = ?1")                           \
    X(DELETE_RETRY, "DELETE FROM retry WHERE id = ?1")                                                       \
    X(READ_FAILED, /* of ingestions that are gone, too: they are looked at like others */                    \
      "SELECT b.seq, b.idx, i.priority, i.accepted_ns, i.marks FROM batch b "                                \
      "INDEXED BY batch_failed LEFT JOIN ingestion i ON i.seq = b.seq AND i.id <> x'' WHERE b.state = 4 "    \
      "AND b.queue = ?1 AND (b.seq, b.idx) >= (?2, ?3) AND b.seq <= ?4 ORDER BY b.seq, b.idx LIMIT ?5")      \
    X(RETRY_BATCHES, "UPDATE batch SET state = 1, attempts = 0, excused = 0, triggered_ms = 0, "             \
                     "completed_ms = 0, interrupted = 0, error = NULL, since = ?4 WHERE seq = ?1 AND "       \
                     "idx >= ?2 AND idx < ?3 AND state = 4")                                                 \
    /* what finished long ago */                                                                             \
    X(FIRST_FINISHED, "SELECT min(finished_ns) FROM ingestion INDEXED BY ingestion_finished WHERE "          \
                      "finished_ns IS NOT NULL")                                                             \
    X(NEXT_OLD, "SELECT seq, queue, deadline_ms, seq = (SELECT max(seq) FROM ingestion), "                   \
                "(SELECT max(idx) + 1 FROM batch b WHERE b.seq = i.seq), "                                   \
                "iif(ids IS NULL, (SELECT max(chunk) + 1 FROM ids WHERE ids.seq = i.seq), 0) "               \
                "FROM ingestion i INDEXED BY ingestion_finished WHERE finished_ns <= ?1 "                    \
                "ORDER BY finished_ns, seq LIMIT 1")                                                         \
    X(DELETE_INGESTION, "DELETE FROM ingestion WHERE seq = ?1")                                              \
    X(DELETE_STUB, "DELETE FROM ingestion WHERE id = x''")                                                   \
    X(MAKE_STUB, "UPDATE ingestion SET id = x'', idempotency_key = NULL, ids = NULL, request_id = NULL, "    \
                 "traceparent = NULL, owner = NULL, finished_ns = NULL "                                     \
                 "WHERE seq = ?1")                                                                           \
    X(NEXT_GONE, "SELECT seq, batches, chunks FROM gone WHERE seq > 0 ORDER BY seq LIMIT 1")                 \
    X(SAVE_GONE, "INSERT INTO gone (seq, batches, chunks) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET "    \
                 "batches = excluded.batches, chunks = excluded.chunks")                                     \
    X(DELETE_GONE, "DELETE FROM gone WHERE seq = ?1")                                                        \
    X(DELETE_BATCHES, "DELETE FROM batch WHERE seq = ?1 AND idx >= ?2")                                      \
    X(DELETE_IDS, "DELETE FROM ids WHERE seq = ?1 AND chunk >= ?2")                                          \
    /* the history */                                                                                        \
    X(LAST_ENTRY, "SELECT max(id) FROM history")                                                             \
    X(INSERT_ENTRY, "INSERT INTO history (id, queue, priority, seq, idx, attempt, at_ns, since, ended) "     \
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                                           \
    X(INSERT_CHANGE, "INSERT INTO change (id, queue, kind, rate_count, rate_per_ns, burst, concurrency, "    \
                     "aging_ns, paused, dispatched) SELECT ?1, id, ?3, rate_count, rate_per_ns, burst, "     \
                     "concurrency, aging_ns, paused, dispatched FROM queue WHERE id = ?2")                   \
    X(DELETE_ENTRIES, "DELETE FROM history WHERE id <= ?1")                                                  \
    X(DELETE_CHANGES, "DELETE FROM change WHERE id <= ?1")

enum statement {
#define STATEMENT_ENUM(name, sql) STMT_##name,
    STATEMENT_LIST(STATEMENT_ENUM)
#undef STATEMENT_ENUM
        STATEMENTS
};

#define IDS_SHORT_MAX 512u // bytes of IDs that stand in the ingestion's own row

// What the column `marks` of an ingestion is made of; the statements name them by number.
enum ingestion_mark {
    MARK_SCHEDULED = 1, // all of it waits for not_before
    MARK_CANCELLED = 2, // by hand
    MARK_EXPIRED = 4,   // by its deadline
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

#define HISTORY_MAX 1000000 // entries; they take some 40 MB

struct store {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
    bool in_transaction;
    bool lazy;         // commits may not be synced
    bool unsynced_log; // see store_confirm
    bool no_room;      // there was none, and no checkpoint has made any since
    int wal_frames;    // in the write-ahead log after the last commit, checkpoints taken off
    struct count_delta deltas[COUNT_DELTAS_MAX];
    size_t delta_count;
    int64_t last_entry;  // of the history; negative: not known
    int64_t history_max; // the newest entries that are kept
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
// The columns request_id and traceparent. What could not be ours is none.
void column_trace(sqlite3_stmt *stmt, int column, struct trace *trace);
void bind_id(sqlite3_stmt *stmt, int parameter, const struct id *id);
void bind_text_or_null(sqlite3_stmt *stmt, int parameter, const char *text);

// Room for one more element of an array that grows by doubling.
MUST_CHECK enum err store_grow(void **array, size_t count, size_t size);

// ---- store_open.c ----

// ERR_STORAGE_REFUSED unless the file's header says that it is a store of ours, and no newer one. *exists is
// false, and all is well, when there is none.
MUST_CHECK enum err store_check_header(const char *path, bool *exists, struct fault *fault);
// The version of the schema; returns SQLite's result code.
MUST_CHECK int store_user_version(sqlite3 *db, int64_t *version);

// ---- store_schema.c ----

// Step n leads from schema version n to n + 1.
extern const char *const store_schema_steps[];
extern const int store_schema_version;
// Runs the steps from version `from` up to `to` in one transaction; returns SQLite's result code. When a step
// fails nothing has changed.
MUST_CHECK int store_schema_migrate(sqlite3 *db, const char *const *steps, int from, int to);

// ---- store_ids.c ----

// Whether they stand in the ingestion's own row.
bool ids_short(const struct ids *ids);
// Writes those that do not.
MUST_CHECK enum err ids_write(struct store *store, int64_t seq, const struct ids *ids);
// Appends the IDs with from <= position < from + count, which exist.
MUST_CHECK enum err ids_read(struct store *store, int64_t seq, uint32_t from, uint32_t count,
                             struct buf *text);
// The IDs of one batch of an ingestion of that many, which the caller frees. `row` is at a row that has the
// ingestion's column `ids` as its column-th.
MUST_CHECK enum err ids_of_batch(struct store *store, sqlite3_stmt *row, int column,
                                 const struct place *place, uint32_t batch_size, uint32_t ids, char **text);
MUST_CHECK enum err ids_same(struct store *store, int64_t seq, const struct ids *ids, bool *same);

// ---- store_waiting.c ----

// Puts a run among the waiting; ingestion.waiting is the caller's.
MUST_CHECK enum err waiting_add(struct store *store, int64_t queue, enum priority priority,
                                const struct run *run);
// Takes one batch out of the run it waits in (not the one that never started); ingestion.waiting is the
// caller's.
MUST_CHECK enum err waiting_take(struct store *store, const struct batch_key *key);
// Takes one batch out of the run that never started, `next` to `end` (excluded), in ingestion.waiting, too.
MUST_CHECK enum err waiting_take_fresh(struct store *store, const struct batch_key *key, uint32_t next,
                                       uint32_t end);
// Puts a batch that was dispatched before back to its place.
MUST_CHECK enum err waiting_return(struct store *store, const struct batch_key *key);

// ---- store_counts.c ----

#define COUNT_BITS 4
// Notes that n batches of this ingestion more (or fewer) wait; ingestion.waiting is the caller's.
MUST_CHECK enum err counts_add(struct store *store, int64_t queue, enum priority priority, int64_t seq,
                               int64_t n);
// Writes what was noted.
MUST_CHECK enum err counts_flush(struct store *store);

// ---- store_history.c ----

// The number of the last entry, 0 when there is none.
MUST_CHECK enum err history_last(struct store *store, int64_t *last);
// Adds a dispatch. `since` and `ended` as in the table.
MUST_CHECK enum err history_add(struct store *store, const struct dispatch_row *row, int64_t since,
                                int64_t ended);
// Removes entries that are too many by now.
MUST_CHECK enum err history_shorten(struct store *store);

// ---- store_read.c ----

// An ingestion with what only the store needs to know.
struct ingestion {
    struct ingestion_row row;
    int64_t marks;    // of enum ingestion_mark
    uint32_t waiting; // batches, those that wait for another attempt among them
};
// Runs a statement that gives one row of INGESTION_COLUMNS, or none.
MUST_CHECK enum err find_ingestion(sqlite3_stmt *stmt, bool *found, struct ingestion *ingestion);

#endif
