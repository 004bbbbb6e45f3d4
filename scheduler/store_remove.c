// store_remove.c - ingestions that finished long ago go, in steps, since one may have very many rows. An
// ingestion is gone with its own row; `gone` says what may be left of it.
#include "scheduler/store_sqlite.h"

// Rows of batches and chunks of IDs that may be there: those with lower numbers than these.
struct rest {
    int64_t seq;
    uint32_t batches;
    uint32_t chunks;
};

// Reads the two numbers; ERR_STORAGE_IO when they make no sense.
static enum err read_rest(sqlite3_stmt *stmt, int column, struct rest *rest)
{
    rest->batches = column_u32(stmt, column);
    rest->chunks = column_u32(stmt, column + 1);
    return rest->batches <= IDS_MAX && rest->chunks <= IDS_MAX ? ERR_OK : ERR_STORAGE_IO;
}

static bool rest_is_empty(const struct rest *rest)
{
    return rest->batches == 0 && rest->chunks == 0;
}

static uint32_t least(uint32_t n, size_t most)
{
    return n < most ? n : (uint32_t)most;
}

// As much of it as *left allows, from its end.
static enum err remove_rest(struct store *store, struct rest *rest, size_t *left)
{
    enum err err = ERR_OK;
    uint32_t n = least(rest->batches, *left);
    if (n > 0) {
        rest->batches -= n;
        *left -= n;
        err = stmt_run(BIND(store, STMT_DELETE_BATCHES, rest->seq, rest->batches));
    }
    n = least(rest->chunks, (*left + CHUNK_ROWS - 1) / CHUNK_ROWS);
    if (err == ERR_OK && rest->batches == 0 && n > 0) {
        rest->chunks -= n;
        *left -= least(n * CHUNK_ROWS, *left);
        err = stmt_run(BIND(store, STMT_DELETE_IDS, rest->seq, rest->chunks));
    }
    return err;
}

static enum err find_gone(struct store *store, bool *found, struct rest *rest)
{
    sqlite3_stmt *stmt = store->statements[STMT_NEXT_GONE];
    enum err err = stmt_next(stmt, found);
    if (*found) {
        rest->seq = sqlite3_column_int64(stmt, 0);
        err = read_rest(stmt, 1, rest);
    }
    sqlite3_reset(stmt);
    return err;
}

// Goes on with one that is gone; *found is false when nothing is left of any.
static enum err go_on(struct store *store, size_t *left, bool *found)
{
    struct rest rest;
    enum err err = find_gone(store, found, &rest);
    if (err != ERR_OK || !*found) {
        return err;
    }
    err = remove_rest(store, &rest, left);
    if (err != ERR_OK) {
        return err;
    }
    return rest_is_empty(&rest)
               ? stmt_run_one(BIND(store, STMT_DELETE_GONE, rest.seq))
               : stmt_run_one(BIND(store, STMT_SAVE_GONE, rest.seq, rest.batches, rest.chunks));
}

struct old {
    int64_t queue;
    int64_t deadline_ms;
    bool newest;
    struct rest rest;
};

static enum err find_old(struct store *store, int64_t finished_by, bool *found, struct old *old)
{
    sqlite3_stmt *stmt = BIND(store, STMT_NEXT_OLD, finished_by);
    enum err err = stmt_next(stmt, found);
    if (*found) {
        *old = (struct old){
            .queue = sqlite3_column_int64(stmt, 1),
            .deadline_ms = sqlite3_column_int64(stmt, 2),
            .newest = sqlite3_column_int64(stmt, 3) != 0,
            .rest.seq = sqlite3_column_int64(stmt, 0),
        };
        err = read_rest(stmt, 4, &old->rest);
    }
    sqlite3_reset(stmt);
    return err;
}

// From now on it is gone. The newest leaves a stub, so that its number is not given again, and what was
// accepted when can be told.
static enum err remove_row(struct store *store, const struct old *old)
{
    enum err err = ERR_OK;
    if (old->deadline_ms != 0) { // which it may have outlived
        err = stmt_run(BIND(store, STMT_DELETE_DEADLINE, old->queue, old->deadline_ms, old->rest.seq));
    }
    if (err == ERR_OK && old->newest) {
        err = stmt_run(store->statements[STMT_DELETE_STUB]);
    }
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, old->newest ? STMT_MAKE_STUB : STMT_DELETE_INGESTION, old->rest.seq));
    }
    return err;
}

// Removes the first to finish, as far as *left allows; *found is false when none finished by then.
static enum err remove_oldest(struct store *store, int64_t finished_by, size_t *left, bool *found)
{
    struct old old;
    enum err err = find_old(store, finished_by, found, &old);
    if (err != ERR_OK || !*found) {
        return err;
    }
    *left -= 1;
    err = remove_row(store, &old);
    if (err == ERR_OK) {
        err = remove_rest(store, &old.rest, left);
    }
    if (err == ERR_OK && !rest_is_empty(&old.rest)) {
        err = stmt_run(BIND(store, STMT_SAVE_GONE, old.rest.seq, old.rest.batches, old.rest.chunks));
    }
    return err;
}

enum err store_first_finished(struct store *store, int64_t *finished_ns)
{
    struct rest rest;
    bool found;
    *finished_ns = INT64_MIN;
    enum err err = find_gone(store, &found, &rest);
    if (err != ERR_OK || found) {
        return err;
    }
    sqlite3_stmt *stmt = store->statements[STMT_FIRST_FINISHED];
    err = stmt_next(stmt, &found);
    bool any = found && sqlite3_column_type(stmt, 0) != SQLITE_NULL;
    *finished_ns = any ? sqlite3_column_int64(stmt, 0) : DUE_NEVER;
    sqlite3_reset(stmt);
    return err;
}

enum err store_remove_old(struct store *store, int64_t finished_by_ns, size_t max_rows,
                          struct removed *removed)
{
    size_t left = max_rows;
    bool more = true;
    bool retries = false;
    enum err err = ERR_OK;
    *removed = (struct removed){.next = DUE_NEVER};
    while (err == ERR_OK && more && left > 0) {
        err = go_on(store, &left, &more);
    }
    if (err == ERR_OK) {
        err = store_has_retries(store, &retries); // they may mean it
    }
    more = !retries;
    while (err == ERR_OK && more && left > 0) {
        err = remove_oldest(store, finished_by_ns, &left, &more);
        removed->ingestions += more;
    }
    removed->rows = max_rows - left;
    if (err == ERR_OK) {
        err = store_first_finished(store, &removed->next);
    }
    return store_written(store, err);
}
