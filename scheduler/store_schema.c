#include "scheduler/store_sqlite.h"

#include <stdio.h>

// An ingestion's counters are by outside status; what is in none of them has yet to start. `waiting` also
// counts batches that wait for another attempt.
//
// A row of `waiting` is a run of batches, first_idx included and end_idx excluded. Its key holds the end, so
// that taking the first batch off a run changes the row in place.
//
// waiting_count sums up batches that wait by blocks of sequence numbers, of 64 in version 1 and 16 from
// version 3 on (level 0), of as many such blocks (level 1), and so on.
static const char create_everything[] = // version 1
    "CREATE TABLE meta ("
    " one INTEGER PRIMARY KEY CHECK (one = 1),"
    " boot BLOB NOT NULL,"
    " flags TEXT NOT NULL) STRICT;"
    "INSERT INTO meta VALUES (1, zeroblob(16), '');"

    "CREATE TABLE queue ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE,"
    " target TEXT NOT NULL DEFAULT '',"
    " rate_count INTEGER NOT NULL DEFAULT 0,"
    " rate_per_ns INTEGER NOT NULL DEFAULT 0,"
    " burst INTEGER NOT NULL DEFAULT 0,"
    " linger_ns INTEGER NOT NULL DEFAULT 0,"
    " concurrency INTEGER NOT NULL DEFAULT 0,"
    " batch_size INTEGER NOT NULL DEFAULT 0,"
    " max_id INTEGER NOT NULL DEFAULT 0,"
    " timeout_ns INTEGER NOT NULL DEFAULT 0,"
    " max_attempts INTEGER NOT NULL DEFAULT 0,"
    " min_backoff_ns INTEGER NOT NULL DEFAULT 0,"
    " max_backoff_ns INTEGER NOT NULL DEFAULT 0,"
    " max_hold_ns INTEGER NOT NULL DEFAULT 0,"
    " tat_ns INTEGER NOT NULL DEFAULT 0,"
    " tat_fraction INTEGER NOT NULL DEFAULT 0,"
    " held_until_ns INTEGER NOT NULL DEFAULT 0,"
    " held_until_ms INTEGER NOT NULL DEFAULT 0,"
    " delivery_ns INTEGER NOT NULL DEFAULT 0,"
    " dispatched INTEGER NOT NULL DEFAULT 0,"
    " completed INTEGER NOT NULL DEFAULT 0,"
    " failed INTEGER NOT NULL DEFAULT 0) STRICT;"

    "CREATE TABLE ingestion ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id BLOB NOT NULL UNIQUE,"
    " queue INTEGER NOT NULL,"
    " priority INTEGER NOT NULL,"
    " batch_size INTEGER NOT NULL,"
    " id_count INTEGER NOT NULL,"
    " batch_count INTEGER NOT NULL,"
    " created_ms INTEGER NOT NULL,"
    " waiting INTEGER NOT NULL,"
    " triggered INTEGER NOT NULL DEFAULT 0,"
    " completed INTEGER NOT NULL DEFAULT 0,"
    " failed INTEGER NOT NULL DEFAULT 0,"
    " cancelled INTEGER NOT NULL DEFAULT 0,"
    " owner INTEGER,"
    " idempotency_key TEXT) STRICT;"
    "CREATE UNIQUE INDEX ingestion_key ON ingestion (idempotency_key) WHERE idempotency_key IS NOT NULL;"

    "CREATE TABLE ids ("
    " seq INTEGER NOT NULL,"
    " chunk INTEGER NOT NULL,"
    " text TEXT NOT NULL,"
    " PRIMARY KEY (seq, chunk)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE waiting ("
    " queue INTEGER NOT NULL,"
    " priority INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " end_idx INTEGER NOT NULL,"
    " first_idx INTEGER NOT NULL,"
    " PRIMARY KEY (queue, priority, seq, end_idx)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE waiting_count ("
    " queue INTEGER NOT NULL,"
    " priority INTEGER NOT NULL,"
    " level INTEGER NOT NULL,"
    " block INTEGER NOT NULL,"
    " n INTEGER NOT NULL,"
    " PRIMARY KEY (queue, priority, level, block)) STRICT, WITHOUT ROWID;"

    // The states are those of enum batch_state.
    "CREATE TABLE batch ("
    " seq INTEGER NOT NULL,"
    " idx INTEGER NOT NULL,"
    " state INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL,"
    " excused INTEGER NOT NULL,"
    " triggered_ms INTEGER NOT NULL,"
    " completed_ms INTEGER NOT NULL DEFAULT 0,"
    " due_ns INTEGER,"
    " error TEXT,"
    " PRIMARY KEY (seq, idx)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX batch_in_flight ON batch (seq, idx) WHERE state = 0;"
    "CREATE INDEX batch_backoff ON batch (due_ns, seq, idx) WHERE state = 2;";

_Static_assert(BATCH_IN_FLIGHT == 0 && BATCH_WAITING == 1 && BATCH_BACKOFF == 2 && BATCH_COMPLETED == 3 &&
                   BATCH_FAILED == 4 && BATCH_CANCELLED == 5,
               "the SQL names them by number");
_Static_assert(HOLD_NONE == 0 && HOLD_RETRY_AFTER == 1, "the SQL names them by number");

// Version 2: many queues, and what may be done to what waits.
//
// A batch's queue is there for its indexes alone; completed ones of version 1 are in none and keep 0.
// `due_ns` is the end of a backoff or, in flight, of a lease. An ingestion's marks are those of enum
// ingestion_mark; accepted_ns is a moment of the age clock, which was before every other for what version 1
// accepted.
//
// `scheduled` and `deadline` are indexes by time: a row of the one goes with MARK_SCHEDULED; one of the other
// may outlive what it was for, and then says nothing. A row of `retry` says how far one request for retries
// has come.
//
// Version 1 knew no lingers but defaults, and wrote default bursts down.
static const char add_queues[] =
    "ALTER TABLE meta ADD COLUMN age_offset_ns INTEGER NOT NULL DEFAULT 0;"

    "ALTER TABLE queue ADD COLUMN headers TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE queue ADD COLUMN ids INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN breaker INTEGER NOT NULL DEFAULT 10;"
    "ALTER TABLE queue ADD COLUMN lease_ns INTEGER NOT NULL DEFAULT 60000000000;"
    "ALTER TABLE queue ADD COLUMN on_interrupt INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN aging_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN largest_batch INTEGER NOT NULL DEFAULT 0;"
    "UPDATE queue SET largest_batch = batch_size;"
    "ALTER TABLE queue ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN held_by INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN probe_at_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE queue ADD COLUMN delayed INTEGER NOT NULL DEFAULT 0;"
    "UPDATE queue SET linger_ns = -1, held_by = held_until_ns <> 0, burst = iif(burst = iif(rate_count = 0, "
    "1, "
    " max(1, min(4294967295, rate_count * 10000000 / rate_per_ns))), 0, burst);"
    "CREATE TABLE deleted_queue ("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL) STRICT;"

    "ALTER TABLE ingestion ADD COLUMN accepted_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE ingestion ADD COLUMN not_before_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE ingestion ADD COLUMN deadline_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE ingestion ADD COLUMN marks INTEGER NOT NULL DEFAULT 0;"

    "ALTER TABLE batch ADD COLUMN queue INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batch ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batch ADD COLUMN lease BLOB;"
    "DROP INDEX batch_backoff;"
    "UPDATE batch SET queue = (SELECT i.queue FROM ingestion i WHERE i.seq = batch.seq) WHERE state <> 3;"
    "CREATE INDEX batch_backoff ON batch (queue, due_ns, seq, idx) WHERE state = 2;"
    "CREATE INDEX batch_failed ON batch (queue, seq, idx) WHERE state = 4;"
    "UPDATE queue SET delayed = (SELECT count(*) FROM batch b WHERE b.state = 2 AND b.queue = queue.id);"

    "CREATE TABLE scheduled ("
    " queue INTEGER NOT NULL,"
    " due_ms INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (queue, due_ms, seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE deadline ("
    " queue INTEGER NOT NULL,"
    " due_ms INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (queue, due_ms, seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE retry ("
    " id INTEGER PRIMARY KEY,"
    " queue INTEGER NOT NULL,"
    " next_seq INTEGER NOT NULL,"
    " next_idx INTEGER NOT NULL,"
    " last_seq INTEGER NOT NULL) STRICT;"
    "CREATE INDEX retry_queue ON retry (queue);";

// Version 3: fewer rows for an ingestion. The IDs of a short one (IDS_SHORT_MAX) stand in its own row, and so
// does the run of its batches that never started: next_idx to batch_count, while `fresh` is 1; it is NULL
// once they have all started, are called off, or wait for not_before.
//
// And what finished long ago is removed: finished_ns is the moment of the age clock when all batches of an
// ingestion had ended; it is NULL before, and after a retry by hand. (What finished in an older version is
// taken to have done so when the newest was accepted.) A row of `gone` says what may be left of an ingestion
// whose own row is no more: batches and chunks of IDs with lower numbers than these. Sequence numbers need no
// table of their own: the newest ingestion leaves a stub, whose id is empty. There is one at the most.
static const char fewer_rows[] =
    "CREATE TABLE ingestion_3 ("
    " seq INTEGER PRIMARY KEY,"
    " id BLOB NOT NULL UNIQUE,"
    " queue INTEGER NOT NULL,"
    " priority INTEGER NOT NULL,"
    " batch_size INTEGER NOT NULL,"
    " id_count INTEGER NOT NULL,"
    " batch_count INTEGER NOT NULL,"
    " next_idx INTEGER NOT NULL,"
    " fresh INTEGER CHECK (fresh = 1),"
    " waiting INTEGER NOT NULL,"
    " triggered INTEGER NOT NULL DEFAULT 0,"
    " completed INTEGER NOT NULL DEFAULT 0,"
    " failed INTEGER NOT NULL DEFAULT 0,"
    " cancelled INTEGER NOT NULL DEFAULT 0,"
    " marks INTEGER NOT NULL,"
    " created_ms INTEGER NOT NULL,"
    " accepted_ns INTEGER NOT NULL,"
    " not_before_ms INTEGER NOT NULL,"
    " deadline_ms INTEGER NOT NULL,"
    " finished_ns INTEGER,"
    " owner INTEGER,"
    " idempotency_key TEXT,"
    " ids TEXT) STRICT;"
    "INSERT INTO ingestion_3 SELECT i.seq, i.id, i.queue, i.priority, i.batch_size, i.id_count, "
    "i.batch_count,"
    " iif(i.marks & 1, 0, coalesce(w.first_idx, i.batch_count)), iif(w.seq IS NULL, NULL, 1), i.waiting, "
    "i.triggered,"
    " i.completed, i.failed, i.cancelled, i.marks, i.created_ms, i.accepted_ns, i.not_before_ms, "
    "i.deadline_ms,"
    " iif(i.completed + i.failed + i.cancelled = i.batch_count, (SELECT max(accepted_ns) FROM ingestion), "
    "NULL),"
    " i.owner, i.idempotency_key, NULL"
    " FROM ingestion i LEFT JOIN waiting w ON w.queue = i.queue AND w.priority = i.priority AND w.seq = "
    "i.seq AND"
    " w.end_idx = i.batch_count AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.seq = w.seq AND b.idx = "
    "w.first_idx)"
    " ORDER BY i.seq;"
    "DELETE FROM waiting WHERE EXISTS (SELECT 1 FROM ingestion_3 i WHERE i.seq = waiting.seq AND i.fresh AND"
    " i.batch_count = waiting.end_idx);"
    "UPDATE ingestion_3 SET ids = (SELECT text FROM ids WHERE ids.seq = ingestion_3.seq AND chunk = 0)"
    " WHERE id_count <= 1024 AND (SELECT length(CAST(text AS BLOB)) FROM ids WHERE ids.seq = ingestion_3.seq "
    "AND chunk = 0)"
    " <= 512;"
    "DELETE FROM ids WHERE EXISTS (SELECT 1 FROM ingestion_3 i WHERE i.seq = ids.seq AND i.ids IS NOT NULL);"
    "DROP TABLE ingestion;"
    "DELETE FROM sqlite_sequence WHERE name = 'ingestion';"
    "ALTER TABLE ingestion_3 RENAME TO ingestion;"
    "CREATE UNIQUE INDEX ingestion_key ON ingestion (idempotency_key) WHERE idempotency_key IS NOT NULL;"
    "CREATE INDEX ingestion_fresh ON ingestion (queue, priority) WHERE fresh IS NOT NULL;"
    "DELETE FROM waiting_count;"
    "INSERT INTO waiting_count WITH l(level) AS (VALUES (0), (1), (2), (3), (4)) SELECT queue, priority, "
    "level, seq >> (4 * (level + 1)), sum(waiting) AS n FROM ingestion, l WHERE waiting > 0 GROUP BY 1, 2, "
    "3, 4;"
    "CREATE INDEX ingestion_finished ON ingestion (finished_ns) WHERE finished_ns IS NOT NULL;"
    "CREATE TABLE gone ("
    " seq INTEGER PRIMARY KEY,"
    " batches INTEGER NOT NULL,"
    " chunks INTEGER NOT NULL) STRICT;";
_Static_assert(IDS_SHORT_MAX == 512, "the SQL above names it by number");

// Version 4: what was dispatched when, for sluice-verify to check. Nothing else reads it.
//
// A row of `history` is an entry: a dispatch, or (seq 0) a mark, where something of the queue changed; a row
// of `change` with its id says what was in force up to it, of which the queue's row then has what follows. A
// mark of queue 0 is the first entry of a store that is older than its history. The numbers of entries have
// no gaps, and are the history's clock: what happens between two entries has the number of the first.
//
// at_ns is the moment of the turn on the monotonic clock, the slot of the dispatch. `since` says from when on
// the batch waited to be dispatched: from the acceptance of its ingestion, from its not_before, or from its
// return; `ended`, when its previous attempt had ended (0: there was none). Batches and ingestions have them
// for what waits now, and for the last attempt (0: it has not ended).
//
// The history is bounded (HISTORY_MAX): each turn removes as many of the oldest entries as it adds.
static const char history[] =
    "CREATE TABLE history ("
    " id INTEGER PRIMARY KEY,"
    " queue INTEGER NOT NULL,"
    " priority INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " idx INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL,"
    " at_ns INTEGER NOT NULL,"
    " since INTEGER NOT NULL,"
    " ended INTEGER NOT NULL) STRICT;"
    "CREATE TABLE change ("
    " id INTEGER PRIMARY KEY,"
    " queue INTEGER NOT NULL,"
    " kind INTEGER NOT NULL,"
    " rate_count INTEGER NOT NULL,"
    " rate_per_ns INTEGER NOT NULL,"
    " burst INTEGER NOT NULL,"
    " concurrency INTEGER NOT NULL,"
    " aging_ns INTEGER NOT NULL,"
    " paused INTEGER NOT NULL,"
    " dispatched INTEGER NOT NULL) STRICT;"
    "CREATE INDEX change_queue ON change (queue, id);"
    "ALTER TABLE ingestion ADD COLUMN since INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batch ADD COLUMN since INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batch ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;"
    "INSERT INTO history SELECT 2, 0, 0, 0, 0, 0, 0, 0, 0 WHERE EXISTS (SELECT 1 FROM queue);";

// Version 5: what an ingestion came with to be followed by; mostly nothing.
static const char add_trace[] = "ALTER TABLE ingestion ADD COLUMN request_id TEXT;"
                                "ALTER TABLE ingestion ADD COLUMN traceparent TEXT;";

// Version 6: see queue_figures.
static const char add_starting[] = "ALTER TABLE queue ADD COLUMN starting INTEGER NOT NULL DEFAULT 0;";

// Version 7: whose an ingestion is, by name; NULL: nobody's. A key is one of its owner's: the index has both.
// An ingestion without an owner has no more bytes for it, and its key one, in the index.
//
// The column that was there was never written, and is of another type. To drop it SQLite writes the whole
// table anew, in one transaction that the log has room for only on the disk: some 2 s and 140 MB of log for a
// million ingestions. It writes zeros and ones as bytes there, some ten in a row, until the row is written
// the next time. (To keep the column under another name would cost a byte of each ingestion for ever.)
static const char add_owners[] = "DROP INDEX ingestion_key;"
                                 "ALTER TABLE ingestion DROP COLUMN owner;"
                                 "ALTER TABLE ingestion ADD COLUMN owner TEXT;"
                                 "CREATE UNIQUE INDEX ingestion_key ON ingestion (idempotency_key, "
                                 "ifnull(owner, '')) WHERE idempotency_key IS NOT NULL;";

const char *const store_schema_steps[] = {create_everything, add_queues,   fewer_rows, history,
                                          add_trace,         add_starting, add_owners};
const int store_schema_version = sizeof store_schema_steps / sizeof store_schema_steps[0];

int store_schema_migrate(sqlite3 *db, const char *const *steps, int from, int to)
{
    char set_version[64];
    (void)snprintf(set_version, sizeof set_version, "PRAGMA user_version = %d", to);

    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (int version = from; rc == SQLITE_OK && version < to; version++) {
        rc = sqlite3_exec(db, steps[version], NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, set_version, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return rc;
}
