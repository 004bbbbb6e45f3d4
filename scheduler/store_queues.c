// store_queues.c - the boot and the flags of the last start, and the queues: settings, figures, names.
#include "scheduler/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

// ---- start-up ----

enum err store_load_meta(struct store *store, struct meta *meta, struct buf *flags)
{
    sqlite3_stmt *stmt = store->statements[STMT_LOAD_META];
    bool row;
    enum err err = stmt_next(stmt, &row);
    if (err != ERR_OK) {
        return err;
    }
    if (row && column_id(stmt, 0, &meta->boot)) {
        meta->age_offset_ns = sqlite3_column_int64(stmt, 1);
        buf_put(flags, sqlite3_column_text(stmt, 2), (size_t)sqlite3_column_bytes(stmt, 2));
        err = buf_err(flags);
    } else {
        err = ERR_STORAGE_IO;
    }
    sqlite3_reset(stmt);
    return err;
}

enum err store_save_meta(struct store *store, const struct meta *meta, const char *flags)
{
    sqlite3_stmt *stmt = BIND(store, STMT_SAVE_META, meta->age_offset_ns);
    bind_id(stmt, 2, &meta->boot);
    sqlite3_bind_text(stmt, 3, flags, -1, SQLITE_STATIC);
    return store_written(store, stmt_run_one(stmt));
}

// ---- reading queues ----

static char *take_text(sqlite3_stmt *stmt, int column)
{
    const unsigned char *text = sqlite3_column_text(stmt, column);
    return text != NULL ? strdup((const char *)text) : NULL;
}

// The settings from the column `at` on; the first one after them.
static int read_settings(sqlite3_stmt *stmt, int at, struct queue_settings *settings)
{
    settings->rate.count = (uint64_t)sqlite3_column_int64(stmt, at++);
    settings->rate.per_ns = sqlite3_column_int64(stmt, at++);
    settings->burst = column_u32(stmt, at++);
    settings->linger_ns = sqlite3_column_int64(stmt, at++);
    settings->concurrency = column_u32(stmt, at++);
    settings->batch_size = column_u32(stmt, at++);
    settings->largest_batch = column_u32(stmt, at++);
    settings->ids = sqlite3_column_int64(stmt, at++) == IDS_STRING ? IDS_STRING : IDS_INTEGER;
    settings->max_id = (uint64_t)sqlite3_column_int64(stmt, at++);
    settings->timeout_ns = sqlite3_column_int64(stmt, at++);
    settings->max_attempts = column_u32(stmt, at++);
    settings->min_backoff_ns = sqlite3_column_int64(stmt, at++);
    settings->max_backoff_ns = sqlite3_column_int64(stmt, at++);
    settings->max_hold_ns = sqlite3_column_int64(stmt, at++);
    settings->breaker = column_u32(stmt, at++);
    settings->lease_ns = sqlite3_column_int64(stmt, at++);
    settings->on_interrupt =
        sqlite3_column_int64(stmt, at++) == ON_INTERRUPT_HOLD ? ON_INTERRUPT_HOLD : ON_INTERRUPT_RESEND;
    settings->aging_ns = sqlite3_column_int64(stmt, at++);
    return at;
}

static enum err read_figures(sqlite3_stmt *stmt, int at, struct queue_figures *figures)
{
    figures->bucket.tat.ns = sqlite3_column_int64(stmt, at++);
    figures->bucket.fraction = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->paused = sqlite3_column_int64(stmt, at++) != 0;
    figures->held_until.ns = sqlite3_column_int64(stmt, at++);
    figures->held_until_wall.ms = sqlite3_column_int64(stmt, at++);
    int64_t held_by = sqlite3_column_int64(stmt, at++);
    figures->failures = column_u32(stmt, at++);
    figures->probe_at.ns = sqlite3_column_int64(stmt, at++);
    figures->delivery_ns = sqlite3_column_int64(stmt, at++);
    figures->delayed = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->dispatched = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->completed = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->failed = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->starting = sqlite3_column_int64(stmt, at++) != 0;
    if (held_by < HOLD_NONE || held_by > HOLD_RATE_LIMIT) {
        return ERR_STORAGE_IO;
    }
    figures->held_by = (enum hold_reason)held_by;
    return ERR_OK;
}

// Into a zeroed row, which holds what it owns also on failure.
static enum err read_queue(sqlite3_stmt *stmt, struct queue_row *row)
{
    row->id = sqlite3_column_int64(stmt, 0);
    if (!column_text(stmt, 1, row->name, sizeof row->name)) {
        return ERR_STORAGE_IO;
    }
    row->target = take_text(stmt, 2);
    row->headers = take_text(stmt, 3);
    if (row->target == NULL || row->headers == NULL) {
        return ERR_NO_MEMORY;
    }
    int at = read_settings(stmt, 4, &row->settings);
    return read_figures(stmt, at, &row->figures);
}

enum err store_load_queues(struct store *store, struct queue_row **rows, size_t *count)
{
    sqlite3_stmt *stmt = store->statements[STMT_LOAD_QUEUES];
    void *array = NULL;
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row) {
        err = store_grow(&array, n, sizeof **rows);
        if (err != ERR_OK) {
            break;
        }
        struct queue_row *queue = (struct queue_row *)array + n++;
        *queue = (struct queue_row){.id = 0};
        err = read_queue(stmt, queue);
        if (err != ERR_OK) {
            break;
        }
    }
    sqlite3_reset(stmt);
    if (err != ERR_OK) {
        store_free_queues(array, n);
        array = NULL;
        n = 0;
    }
    *rows = array;
    *count = n;
    return err;
}

void store_free_queues(struct queue_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(rows[i].target);
        free(rows[i].headers);
    }
    free(rows);
}

enum err store_queue_name(struct store *store, int64_t queue, char name[static QUEUE_NAME_SIZE])
{
    sqlite3_stmt *stmt = BIND(store, STMT_QUEUE_NAME, queue);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err == ERR_OK && !found) {
        return ERR_NOT_FOUND;
    }
    if (err == ERR_OK && !column_text(stmt, 0, name, QUEUE_NAME_SIZE)) {
        err = ERR_STORAGE_IO;
    }
    sqlite3_reset(stmt);
    return err;
}

// ---- writing queues ----

static enum err save_settings(struct store *store, int64_t queue, const struct queue_row *row)
{
    const struct queue_settings *settings = &row->settings;
    sqlite3_stmt *stmt =
        BIND(store, STMT_UPDATE_QUEUE, queue, (int64_t)settings->rate.count, settings->rate.per_ns,
             settings->burst, settings->linger_ns, settings->concurrency, settings->batch_size, settings->ids,
             (int64_t)settings->max_id, settings->timeout_ns, settings->max_attempts,
             settings->min_backoff_ns, settings->max_backoff_ns, settings->max_hold_ns, settings->breaker,
             settings->lease_ns, settings->on_interrupt, settings->aging_ns);
    sqlite3_bind_text(stmt, 19, row->target != NULL ? row->target : "", -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 20, row->headers != NULL ? row->headers : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 21, settings->largest_batch);
    return stmt_run_one(stmt);
}

static enum err save_figures(struct store *store, int64_t queue, const struct queue_figures *figures)
{
    return stmt_run_one(BIND(store, STMT_UPDATE_FIGURES, queue, figures->bucket.tat.ns,
                             (int64_t)figures->bucket.fraction, figures->paused, figures->held_until.ns,
                             figures->held_until_wall.ms, figures->held_by, figures->failures,
                             figures->probe_at.ns, figures->delivery_ns, (int64_t)figures->delayed,
                             (int64_t)figures->dispatched, (int64_t)figures->completed,
                             (int64_t)figures->failed, figures->starting));
}

static enum err create_queue(struct store *store, const struct queue_row *row, int64_t *id)
{
    sqlite3_stmt *stmt = store->statements[STMT_INSERT_QUEUE];
    sqlite3_bind_text(stmt, 1, row->name, -1, SQLITE_STATIC);
    enum err err = stmt_run(stmt);
    if (err != ERR_OK) {
        return err;
    }
    *id = sqlite3_last_insert_rowid(store->db);
    return save_figures(store, *id, &row->figures);
}

enum err store_save_queue(struct store *store, struct queue_row *row)
{
    int64_t id = row->id;
    enum err err = id == 0 ? create_queue(store, row, &id) : ERR_OK;
    if (err == ERR_OK) {
        err = save_settings(store, id, row);
    }
    if (err == ERR_OK) {
        row->id = id;
    }
    return store_written(store, err);
}

enum err store_delete_queue(struct store *store, int64_t queue)
{
    enum err err = stmt_run_one(BIND(store, STMT_KEEP_NAME, queue));
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_DELETE_QUEUE, queue));
    }
    if (err == ERR_OK) {
        err = stmt_run(BIND(store, STMT_DELETE_QUEUE_RETRIES, queue));
    }
    if (err == ERR_OK) {
        err = stmt_run(BIND(store, STMT_DELETE_QUEUE_DEADLINES, queue));
    }
    return store_written(store, err);
}

enum err store_save_figures(struct store *store, const int64_t *queues, const struct queue_figures *figures,
                            size_t count)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = save_figures(store, queues[i], &figures[i]);
    }
    return store_written(store, err);
}
