// store_cancel.c - ingestions of which what has not ended is cancelled: by hand, or by their deadline. What
// has no row then is cancelled by implication.
#include "scheduler/store_sqlite.h"

// Out of the index by not_before.
static enum err drop_scheduled(struct store *store, const struct ingestion_row *row)
{
    return stmt_run_one(BIND(store, STMT_DELETE_SCHEDULED, row->queue, row->not_before.ms, row->seq));
}

static enum err drop_waiting(struct store *store, enum statement which, const struct ingestion_row *row,
                             uint32_t count)
{
    enum err err = stmt_run(BIND(store, which, row->queue, row->priority, row->seq));
    return err == ERR_OK ? counts_add(store, row->queue, row->priority, row->seq, -(int64_t)count) : err;
}

// Batches that wait for their first attempt and have a row nevertheless.
static enum err cancel_fresh(struct store *store, int64_t seq, struct wall now, const char *error)
{
    sqlite3_stmt *stmt = BIND(store, STMT_CANCEL_FRESH, seq, now.ms);
    bind_text_or_null(stmt, 3, error);
    return stmt_run(stmt);
}

// ---- by hand ----

// Batches that wait for another attempt: in this state, of which *count were there.
static enum err cancel_started(struct store *store, int64_t seq, enum batch_state state, struct wall now,
                               uint32_t *count)
{
    enum err err = stmt_run(BIND(store, STMT_CANCEL_STARTED, seq, state, now.ms));
    *count = err == ERR_OK ? (uint32_t)sqlite3_changes(store->db) : 0;
    return err;
}

static enum err cancel(struct store *store, const struct ingestion *ingestion, struct wall now,
                       int64_t age_ns, struct removal *removal)
{
    const struct ingestion_row *row = &ingestion->row;
    uint32_t fresh = row->progress[STATUS_YET_TO_START];
    uint32_t again = 0;
    uint32_t backoff = 0;
    enum err err = cancel_started(store, row->seq, BATCH_WAITING, now, &again);
    if (err == ERR_OK) {
        err = cancel_started(store, row->seq, BATCH_BACKOFF, now, &backoff);
    }
    if (err == ERR_OK) {
        err = cancel_fresh(store, row->seq, now, NULL);
    }
    if (err == ERR_OK && row->scheduled) {
        err = drop_scheduled(store, row);
    }
    if (err == ERR_OK && ingestion->waiting > 0) {
        err = drop_waiting(store, STMT_DELETE_RUNS, row, ingestion->waiting);
    }
    if (err == ERR_OK && row->deadline.ms != 0) {
        err = stmt_run(BIND(store, STMT_DELETE_DEADLINE, row->queue, row->deadline.ms, row->seq));
    }
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_COUNT_CANCEL, row->seq, ingestion->waiting, again + backoff,
                                fresh + again + backoff, MARK_CANCELLED, age_ns));
    }
    removal->cancelled = true;
    removal->waiting = ingestion->waiting;
    removal->delayed = row->scheduled ? fresh : backoff;
    return err;
}

// Its failed batches stay so: a retry that was asked for and has not come to them passes them over.
static enum err cancel_retry(struct store *store, const struct ingestion_row *row, int64_t age_ns)
{
    int64_t pending = 0;
    enum err err = stmt_integer(BIND(store, STMT_RETRY_PENDING, row->queue, row->seq), &pending);
    if (err == ERR_OK && pending > 0) {
        err = stmt_run_one(BIND(store, STMT_COUNT_CANCEL, row->seq, 0, 0, 0, MARK_CANCELLED, age_ns));
    }
    if (err != ERR_OK) {
        return store_written(store, err);
    }
    return pending > 0 ? ERR_OK : ERR_ALREADY_FINISHED;
}

enum err store_cancel(struct store *store, const struct id *id, struct wall now, int64_t age_ns,
                      struct removal *removal)
{
    struct ingestion ingestion;
    sqlite3_stmt *stmt = store->statements[STMT_FIND_ID];
    bind_id(stmt, 1, id);
    bool found;
    enum err err = find_ingestion(stmt, &found, &ingestion);
    if (err != ERR_OK) {
        return store_written(store, err);
    }
    if (!found) {
        return ERR_NOT_FOUND;
    }
    const struct ingestion_row *row = &ingestion.row;
    *removal = (struct removal){.queue = row->queue, .priority = row->priority, .seq = row->seq};
    switch (ingestion_status(row)) {
    case STATUS_COMPLETED:
        return ERR_ALREADY_FINISHED;
    case STATUS_FAILED:
        return cancel_retry(store, row, age_ns);
    case STATUS_CANCELLED:
        return ERR_OK;
    case STATUS_YET_TO_START:
    case STATUS_TRIGGERED:
        break;
    }
    if ((ingestion.marks & MARK_CANCELLED) != 0) {
        return ERR_OK;
    }
    return store_written(store, cancel(store, &ingestion, now, age_ns, removal));
}

// ---- by a deadline ----

static enum err expire(struct store *store, const struct ingestion *ingestion, struct wall now,
                       int64_t age_ns, struct removal *removal)
{
    const struct ingestion_row *row = &ingestion->row;
    uint32_t fresh = row->progress[STATUS_YET_TO_START];
    *removal = (struct removal){
        .queue = row->queue,
        .priority = row->priority,
        .seq = row->seq,
        .waiting = row->scheduled ? 0 : fresh,
        .delayed = row->scheduled ? fresh : 0,
    };
    if (removal->waiting > ingestion->waiting) {
        return ERR_STORAGE_IO;
    }
    enum err err;
    if (row->scheduled) {
        err = drop_scheduled(store, row);
    } else {
        err = drop_waiting(store, STMT_DELETE_FRESH_RUNS, row, fresh);
    }
    if (err == ERR_OK) {
        err = cancel_fresh(store, row->seq, now, "deadline");
    }
    if (err == ERR_OK) {
        err = stmt_run_one(
            BIND(store, STMT_COUNT_CANCEL, row->seq, removal->waiting, 0, fresh, MARK_EXPIRED, age_ns));
    }
    return err;
}

// Takes the first deadline that has passed out of the index. *seq is that of its ingestion, 0 when there is
// none.
static enum err take_deadline(struct store *store, int64_t queue, struct wall now, int64_t *seq)
{
    sqlite3_stmt *stmt = BIND(store, STMT_DUE_DEADLINE, queue, now.ms);
    bool found;
    enum err err = stmt_next(stmt, &found);
    int64_t due_ms = found ? sqlite3_column_int64(stmt, 0) : 0;
    *seq = found ? sqlite3_column_int64(stmt, 1) : 0;
    sqlite3_reset(stmt);
    return found ? stmt_run_one(BIND(store, STMT_DELETE_DEADLINE, queue, due_ms, *seq)) : err;
}

enum err store_expire(struct store *store, int64_t queue, struct wall now_wall, int64_t age_ns,
                      struct removal *removals, size_t *count, int64_t *next)
{
    enum err err = ERR_OK;
    size_t n = 0;
    for (size_t looks = 0; looks < *count; looks++) {
        int64_t seq;
        err = take_deadline(store, queue, now_wall, &seq);
        if (err != ERR_OK || seq == 0) {
            break;
        }
        struct ingestion ingestion;
        bool found;
        err = find_ingestion(BIND(store, STMT_FIND_SEQ, seq), &found, &ingestion);
        if (err == ERR_OK && found && ingestion.row.progress[STATUS_YET_TO_START] > 0) {
            err = expire(store, &ingestion, now_wall, age_ns, &removals[n++]);
        }
        if (err != ERR_OK) {
            break;
        }
    }
    if (err == ERR_OK) {
        err = store_next_due(store, queue, DUE_DEADLINE, next);
    }
    *count = err == ERR_OK ? n : 0;
    return store_written(store, err);
}
