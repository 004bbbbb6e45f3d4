// store_retry.c - retries by hand: failed batches go back among the waiting, in steps, since there may be
// very many. How far each request has come is kept on disk.
#include "scheduler/store_sqlite.h"

#define RETRY_LOOKS_MAX 1000 // rows that one step looks at

struct retry {
    int64_t id;
    int64_t queue;
    int64_t next_seq;
    uint32_t next_index;
    int64_t last_seq;
};

enum err store_ask_retry(struct store *store, int64_t queue, int64_t first_seq, int64_t last_seq)
{
    enum err err = stmt_run(BIND(store, STMT_INSERT_RETRY, queue, first_seq, last_seq));
    if (err == ERR_OK && sqlite3_changes(store->db) > 0 && first_seq == last_seq) {
        // Asked for by name, also what was cancelled is to go on.
        err = stmt_run(BIND(store, STMT_UNMARK_CANCELLED, first_seq));
    }
    return store_written(store, err);
}

// The oldest request that is not done; *found is false when there is none.
static enum err find_retry(struct store *store, bool *found, struct retry *retry)
{
    sqlite3_stmt *stmt = store->statements[STMT_NEXT_RETRY];
    enum err err = stmt_next(stmt, found);
    if (*found) {
        *retry = (struct retry){
            .id = sqlite3_column_int64(stmt, 0),
            .queue = sqlite3_column_int64(stmt, 1),
            .next_seq = sqlite3_column_int64(stmt, 2),
            .next_index = column_u32(stmt, 3),
            .last_seq = sqlite3_column_int64(stmt, 4),
        };
    }
    sqlite3_reset(stmt);
    return err;
}

enum err store_has_retries(struct store *store, bool *any)
{
    struct retry retry;
    return find_retry(store, any, &retry);
}

// ---- one step ----

// What a step found, and may yet.
struct harvest {
    struct retried_row *rows;
    size_t max;
    size_t count;
    size_t written; // of them, to the store
    size_t looks;
};

// Adds a batch to the last run, or as a new one; false when there is no room.
static bool harvest_add(struct harvest *h, int64_t queue, enum priority priority, const struct run *one)
{
    struct retried_row *last = h->count > h->written ? &h->rows[h->count - 1] : NULL;
    if (last != NULL && last->row.run.seq == one->seq && last->row.run.end == one->first) {
        last->row.run.end++;
        return true;
    }
    if (h->count == h->max) {
        return false;
    }
    h->rows[h->count++] = (struct retried_row){queue, {priority, *one}};
    return true;
}

// Finds the next failed batches of a request and moves its cursor behind them. *done is true when it saw the
// last.
static enum err find_failed(struct store *store, struct retry *retry, struct harvest *h, bool *done)
{
    int64_t looks_left = (int64_t)(RETRY_LOOKS_MAX - h->looks);
    sqlite3_stmt *stmt = BIND(store, STMT_READ_FAILED, retry->queue, retry->next_seq, retry->next_index,
                              retry->last_seq, looks_left + 1);
    enum err err;
    bool row;
    *done = true;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row) {
        struct run one = {
            .seq = sqlite3_column_int64(stmt, 0),
            .first = column_u32(stmt, 1),
            .end = column_u32(stmt, 1) + 1,
            .accepted_ns = sqlite3_column_int64(stmt, 3),
        };
        bool gone = sqlite3_column_type(stmt, 4) == SQLITE_NULL;
        bool cancelled = (sqlite3_column_int64(stmt, 4) & MARK_CANCELLED) != 0;
        enum priority priority;
        if (!column_priority(stmt, 2, &priority)) {
            err = ERR_STORAGE_IO;
            break;
        }
        if (h->looks == RETRY_LOOKS_MAX ||
            (!gone && !cancelled && !harvest_add(h, retry->queue, priority, &one))) {
            *done = false;
            break;
        }
        h->looks++;
        retry->next_seq = one.seq;
        retry->next_index = one.end;
    }
    sqlite3_reset(stmt);
    return err;
}

static enum err move_retry(struct store *store, const struct retry *retry, bool done)
{
    return done ? stmt_run_one(BIND(store, STMT_DELETE_RETRY, retry->id))
                : stmt_run_one(BIND(store, STMT_UPDATE_RETRY, retry->id, retry->next_seq, retry->next_index));
}

static enum err retry_run(struct store *store, const struct retried_row *retried)
{
    const struct run *run = &retried->row.run;
    int64_t batches = (int64_t)run->end - run->first;
    int64_t since;
    enum err err = history_last(store, &since);
    if (err == ERR_OK) {
        err = stmt_run(BIND(store, STMT_RETRY_BATCHES, run->seq, run->first, run->end, since));
    }
    if (err == ERR_OK && sqlite3_changes(store->db) != batches) {
        err = ERR_STORAGE_IO;
    }
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_COUNT_RETRY, run->seq, batches));
    }
    return err == ERR_OK ? waiting_add(store, retried->queue, retried->row.priority, run) : err;
}

enum err store_run_retries(struct store *store, struct retried_row *rows, size_t *count, bool *more)
{
    struct harvest h = {.rows = rows, .max = *count};
    enum err err = ERR_OK;
    *more = true;
    while (err == ERR_OK && h.count < h.max && h.looks < RETRY_LOOKS_MAX) {
        struct retry retry;
        bool done = false;
        err = find_retry(store, more, &retry);
        if (err != ERR_OK || !*more) {
            break;
        }
        err = find_failed(store, &retry, &h, &done);
        h.looks += done; // so that requests without a batch are bounded, too
        if (err == ERR_OK) {
            err = move_retry(store, &retry, done);
        }
        // Before the next request is looked at, which may mean the same batches.
        for (; err == ERR_OK && h.written < h.count; h.written++) {
            err = retry_run(store, &rows[h.written]);
        }
    }
    if (err == ERR_OK && *more) {
        err = store_has_retries(store, more);
    }
    *count = err == ERR_OK ? h.count : 0;
    return store_written(store, err);
}
