// verify_rows.c - rows of one table that those of another contradict: each statement finds what should not
// be.
#include "scheduler/verify_check.h"

#include <stdio.h>

_Static_assert(OWNER_SIZE == 65, "the SQL below names it by number");

// Its columns: queue, seq, index (each NULL when it is not about one), and how many a counter says and there
// are (NULL when `text` says it all).
struct contradiction {
    enum verify_kind kind;
    const char *text;
    const char *sql;
};

#define IS_THERE(seq) "EXISTS (SELECT 1 FROM ingestion i WHERE i.seq = " seq " AND i.id <> x'')"
#define COUNTED                                                                                              \
    "SELECT queue, priority, level, seq >> (4 * (level + 1)) AS block, sum(waiting) AS n FROM ingestion, l " \
    "GROUP BY 1, 2, 3, 4 HAVING n <> 0"
#define LEVELS "WITH l(level) AS (VALUES (0), (1), (2), (3), (4)), c AS (" COUNTED ") "

static const struct contradiction table[] = {
    // runs of waiting batches
    {VERIFY_ROWS, "a run of waiting batches is empty, overlaps another, or its ingestion is not there",
     "SELECT queue, seq, first_idx, NULL, NULL FROM waiting w WHERE first_idx < 0 OR first_idx >= end_idx OR "
     "NOT EXISTS (SELECT 1 FROM ingestion i WHERE i.seq = w.seq AND i.queue = w.queue AND i.priority = "
     "w.priority AND i.batch_count >= w.end_idx AND i.id <> x'') OR EXISTS (SELECT 1 FROM waiting o WHERE "
     "o.queue = w.queue AND o.priority = w.priority AND o.seq = w.seq AND o.end_idx > w.end_idx AND "
     "o.first_idx < w.end_idx)"},
    {VERIFY_ROWS, "a run of waiting batches reaches into those that never started",
     "SELECT w.queue, w.seq, w.first_idx, NULL, NULL FROM waiting w JOIN ingestion i ON i.seq = w.seq WHERE "
     "i.fresh AND w.end_idx > i.next_idx"},
    {VERIFY_PROGRESS, "the number of waiting batches and their runs",
     "SELECT queue, seq, NULL, waiting, coalesce(iif(fresh, batch_count - next_idx, 0), 0) + "
     "(SELECT coalesce(sum(end_idx - first_idx), 0) FROM waiting w WHERE w.queue = i.queue AND w.priority = "
     "i.priority AND w.seq = i.seq) AS runs FROM ingestion i WHERE waiting <> runs"},
    {VERIFY_ROWS, "the batch waits and stands in no run, or stands in one and does not wait",
     "SELECT i.queue, b.seq, b.idx, NULL, NULL FROM batch b JOIN ingestion i ON i.seq = b.seq WHERE "
     "(b.state = 1) <> EXISTS (SELECT 1 FROM waiting w WHERE w.queue = i.queue AND w.priority = i.priority "
     "AND w.seq = b.seq AND w.end_idx > b.idx AND w.first_idx <= b.idx)"},
    // counts of blocks
    {VERIFY_COUNTS, "waiting batches in a block of sequence numbers",
     LEVELS "SELECT c.queue, NULL, NULL, coalesce(w.n, 0), c.n FROM c LEFT JOIN waiting_count w USING "
            "(queue, priority, level, block) WHERE c.n IS NOT w.n"},
    {VERIFY_COUNTS, "a block of sequence numbers in which nothing waits",
     LEVELS "SELECT w.queue, NULL, NULL, w.n, 0 FROM waiting_count w LEFT JOIN c USING (queue, priority, "
            "level, block) WHERE c.n IS NULL"},
    // time indexes
    {VERIFY_ROWS, "it waits for its not_before and is not in the index by that, or the other way round",
     "SELECT queue, seq, NULL, NULL, NULL FROM ingestion i WHERE (marks & 1) <> EXISTS (SELECT 1 FROM "
     "scheduled s WHERE s.queue = i.queue AND s.due_ms = i.not_before_ms AND s.seq = i.seq)"},
    {VERIFY_ROWS, "the index by not_before names what does not wait for it",
     "SELECT queue, seq, NULL, NULL, NULL FROM scheduled s WHERE NOT EXISTS (SELECT 1 FROM ingestion i WHERE "
     "i.seq = s.seq AND i.queue = s.queue AND i.not_before_ms = s.due_ms AND i.marks & 1)"},
    {VERIFY_ROWS, "the index by deadline names what has none",
     "SELECT queue, seq, NULL, NULL, NULL FROM deadline d WHERE NOT EXISTS (SELECT 1 FROM ingestion i WHERE "
     "i.seq = d.seq AND i.queue = d.queue AND i.deadline_ms = d.due_ms AND i.id <> x'')"},
    {VERIFY_ROWS, "something of it may still start, and its deadline is not in the index",
     "SELECT queue, seq, NULL, NULL, NULL FROM ingestion i WHERE deadline_ms <> 0 AND id <> x'' AND fresh "
     "AND "
     "NOT EXISTS (SELECT 1 FROM deadline d WHERE d.queue = i.queue AND d.due_ms = i.deadline_ms AND "
     "d.seq = i.seq)"},
    {VERIFY_ROWS, "its owner has no name",
     "SELECT queue, seq, NULL, NULL, NULL FROM ingestion i WHERE owner IS NOT NULL AND "
     "length(CAST(owner AS BLOB)) NOT BETWEEN 1 AND 64"},
    // queues
    {VERIFY_ROWS, "its queue is neither there nor was it deleted",
     "SELECT queue, seq, NULL, NULL, NULL FROM ingestion i WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE "
     "q.id = i.queue) AND NOT EXISTS (SELECT 1 FROM deleted_queue d WHERE d.id = i.queue)"},
    {VERIFY_ROWS, "something of a deleted queue is not finished",
     "SELECT queue, seq, NULL, NULL, NULL FROM ingestion i WHERE EXISTS (SELECT 1 FROM deleted_queue d WHERE "
     "d.id = i.queue) AND finished_ns IS NULL AND id <> x''"},
    {VERIFY_TOTALS, "batches that are not due",
     "SELECT id, NULL, NULL, delayed, (SELECT count(*) FROM batch b INDEXED BY batch_backoff WHERE "
     "b.state = 2 AND b.queue = queue.id) + (SELECT coalesce(sum(i.batch_count), 0) FROM scheduled s JOIN "
     "ingestion i ON i.seq = s.seq WHERE s.queue = queue.id) AS rows FROM queue WHERE delayed <> rows"},
    // what is being removed
    {VERIFY_ROWS, "it is removed, and still there",
     "SELECT NULL, seq, NULL, NULL, NULL FROM gone g WHERE (batches = 0 AND chunks = 0) OR " IS_THERE(
         "g.seq")},
    {VERIFY_ROWS, "there is no ingestion of this batch",
     "SELECT nullif(b.queue, 0), b.seq, b.idx, NULL, NULL FROM batch b LEFT JOIN gone g ON g.seq = b.seq "
     "WHERE "
     "iif(g.seq IS NULL, NOT " IS_THERE("b.seq") ", b.idx >= g.batches OR b.state < 3)"},
    {VERIFY_IDS, "there is no ingestion of these IDs",
     "SELECT NULL, ids.seq, NULL, NULL, NULL FROM ids LEFT JOIN gone g ON g.seq = ids.seq WHERE "
     "iif(g.seq IS NULL, NOT " IS_THERE("ids.seq") ", chunk >= g.chunks)"},
    {VERIFY_ROWS,
     "what the newest ingestion left says that something of it is still to be done, or is not alone",
     "SELECT queue, seq, NULL, NULL, NULL FROM ingestion i WHERE id = x'' AND (idempotency_key IS NOT NULL "
     "OR owner IS NOT NULL OR "
     "ids IS NOT NULL OR fresh IS NOT NULL OR finished_ns IS NOT NULL OR waiting > 0 OR triggered > 0 OR "
     "EXISTS (SELECT 1 FROM ingestion o WHERE o.id = x'' AND o.seq <> i.seq))"},
    // retries by hand
    {VERIFY_ROWS, "a retry was asked for of a queue that is not there",
     "SELECT queue, NULL, NULL, NULL, NULL FROM retry WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = "
     "retry.queue)"},
    // the history
    {VERIFY_HISTORY, "what was dispatched was of another queue or priority, or is none of its batches",
     "SELECT h.queue, h.seq, h.idx, NULL, NULL FROM history h JOIN ingestion i ON i.seq = h.seq WHERE h.seq "
     "> 0 "
     "AND i.id <> x'' AND (h.queue <> i.queue OR h.priority <> i.priority OR h.idx < 0 OR h.idx >= "
     "i.batch_count)"},
    {VERIFY_HISTORY, "a change says what was in force, and its mark is not there",
     "SELECT queue, NULL, NULL, NULL, NULL FROM change c WHERE NOT EXISTS (SELECT 1 FROM history h WHERE "
     "h.id = "
     "c.id AND h.seq = 0 AND h.queue = c.queue)"},
};

static struct about subject(sqlite3_stmt *stmt)
{
    return (struct about){
        .queue = sqlite3_column_int64(stmt, 0),
        .seq = sqlite3_column_int64(stmt, 1),
        .index = sqlite3_column_type(stmt, 2) == SQLITE_NULL ? -1 : sqlite3_column_int64(stmt, 2),
    };
}

static enum err check(struct verify *v, const struct contradiction *c)
{
    enum err err;
    bool row = false;
    sqlite3_stmt *stmt = verify_prepare(v, c->sql, &err);
    while (stmt != NULL && (err = verify_step(v, stmt, &row)) == ERR_OK && row) {
        if (sqlite3_column_type(stmt, 3) == SQLITE_NULL) {
            violation(v, c->kind, subject(stmt), "%s", c->text);
        } else {
            violation(v, c->kind, subject(stmt), "%s: %lld are counted, %lld found", c->text,
                      (long long)sqlite3_column_int64(stmt, 3), (long long)sqlite3_column_int64(stmt, 4));
        }
    }
    (void)sqlite3_finalize(stmt);
    return err;
}

enum err verify_rows(struct verify *v)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof table / sizeof table[0] && err == ERR_OK; i++) {
        err = check(v, &table[i]);
    }
    return err;
}
