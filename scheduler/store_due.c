// store_due.c - what waits for a moment: retries for theirs, and ingestions for their not_before. (What a
// deadline brings is in store_cancel.c.)
#include "scheduler/store_sqlite.h"

#include <assert.h>

enum err store_next_due(struct store *store, int64_t queue, enum due_kind kind, int64_t *due)
{
    static const enum statement which[DUE_KINDS] = {
        [DUE_RETRY] = STMT_NEXT_BACKOFF,
        [DUE_START] = STMT_NEXT_SCHEDULED,
        [DUE_DEADLINE] = STMT_NEXT_DEADLINE,
    };
    sqlite3_stmt *stmt = BIND(store, which[kind], queue);
    bool row;
    enum err err = stmt_next(stmt, &row);
    bool any = row && sqlite3_column_type(stmt, 0) != SQLITE_NULL;
    *due = any ? sqlite3_column_int64(stmt, 0) : DUE_NEVER;
    sqlite3_reset(stmt);
    return err;
}

// What is not due of one kind up to a moment, by that moment: columns priority, accepted_ns, seq, first, end,
// due.
static sqlite3_stmt *select_delayed(struct store *store, int64_t queue, enum due_kind kind, int64_t up_to,
                                    size_t count)
{
    assert(kind != DUE_DEADLINE);
    return BIND(store, kind == DUE_RETRY ? STMT_READ_BACKOFF : STMT_READ_SCHEDULED, queue, up_to,
                (int64_t)count);
}

enum err store_read_delayed(struct store *store, int64_t queue, enum due_kind kind, struct delayed_row *rows,
                            size_t *count)
{
    sqlite3_stmt *stmt = select_delayed(store, queue, kind, INT64_MAX, *count);
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row && n < *count) {
        rows[n] = (struct delayed_row){
            .place.seq = sqlite3_column_int64(stmt, 2),
            .place.index = column_u32(stmt, 3),
            .end = column_u32(stmt, 4),
            .kind = kind,
            .due = sqlite3_column_int64(stmt, 5),
        };
        if (!column_priority(stmt, 0, &rows[n++].place.priority)) {
            err = ERR_STORAGE_IO;
            break;
        }
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}

// ---- their moment has come ----

static enum err read_due(struct store *store, int64_t queue, enum due_kind kind, int64_t now,
                         struct returned_row *rows, size_t *count)
{
    sqlite3_stmt *stmt = select_delayed(store, queue, kind, now, *count);
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row && n < *count) {
        rows[n].run = (struct run){
            .seq = sqlite3_column_int64(stmt, 2),
            .first = column_u32(stmt, 3),
            .end = column_u32(stmt, 4),
            .accepted_ns = sqlite3_column_int64(stmt, 1),
        };
        if (!column_priority(stmt, 0, &rows[n++].priority)) {
            err = ERR_STORAGE_IO;
            break;
        }
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}

static enum err end_backoff(struct store *store, int64_t queue, const struct returned_row *row)
{
    struct batch_key key = {queue, {row->priority, row->run.seq, row->run.first}};
    int64_t since;
    enum err err = history_last(store, &since);
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_PROMOTE_BATCH, row->run.seq, row->run.first, since));
    }
    return err == ERR_OK ? waiting_return(store, &key) : err;
}

static enum err start_scheduled(struct store *store, int64_t queue, const struct returned_row *row)
{
    int64_t since;
    bool found;
    enum err err = history_last(store, &since);
    if (err != ERR_OK) {
        return err;
    }
    sqlite3_stmt *stmt = BIND(store, STMT_COUNT_START, row->run.seq, since);
    err = stmt_next(stmt, &found);
    if (err != ERR_OK || !found) {
        return err != ERR_OK ? err : ERR_STORAGE_IO;
    }
    int64_t due_ms = sqlite3_column_int64(stmt, 0);
    err = stmt_run(stmt);
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_DELETE_SCHEDULED, queue, due_ms, row->run.seq));
    }
    return err == ERR_OK ? counts_add(store, queue, row->priority, row->run.seq, row->run.end) : err;
}

enum err store_take_due(struct store *store, int64_t queue, enum due_kind kind, struct mono now,
                        struct wall now_wall, struct returned_row *rows, size_t *count, int64_t *next)
{
    enum err err = read_due(store, queue, kind, kind == DUE_RETRY ? now.ns : now_wall.ms, rows, count);
    for (size_t i = 0; i < *count && err == ERR_OK; i++) {
        err =
            kind == DUE_RETRY ? end_backoff(store, queue, &rows[i]) : start_scheduled(store, queue, &rows[i]);
    }
    if (err == ERR_OK) {
        err = store_next_due(store, queue, kind, next);
    }
    return store_written(store, err);
}

// ---- another boot ----

// In steps, so that a large number of them does not have to be in memory at once.
static enum err rebase_backoff(struct store *store, int64_t queue, struct mono now)
{
    enum err err;
    do {
        err = stmt_run(BIND(store, STMT_REBASE_BACKOFF, now.ns, queue));
    } while (err == ERR_OK && sqlite3_changes(store->db) > 0);
    return err;
}

enum err store_rebase_moments(struct store *store, struct mono now)
{
    enum err err = stmt_run(BIND(store, STMT_REBASE_LEASES, now.ns));
    for (int64_t queue = 0; err == ERR_OK;) {
        err = stmt_integer(BIND(store, STMT_NEXT_QUEUE, queue), &queue);
        if (err != ERR_OK || queue == 0) {
            break;
        }
        err = rebase_backoff(store, queue, now);
    }
    return store_written(store, err);
}
