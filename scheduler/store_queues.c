// store_queues.c - what start-up needs: the boot, the flags, the queues; and the queues' figures.
#include "scheduler/store_sqlite.h"

#include <stdlib.h>

enum err store_load_meta(struct store *store, struct id *boot, struct buf *flags)
{
    sqlite3_stmt *stmt = store->statements[STMT_LOAD_META];
    bool row;
    enum err err = stmt_next(stmt, &row);
    if (err != ERR_OK) {
        return err;
    }
    if (row && column_id(stmt, 0, boot)) {
        buf_put(flags, sqlite3_column_text(stmt, 1), (size_t)sqlite3_column_bytes(stmt, 1));
        err = buf_err(flags);
    } else {
        err = ERR_STORAGE_IO;
    }
    sqlite3_reset(stmt);
    return err;
}

enum err store_save_meta(struct store *store, const struct id *boot, const char *flags)
{
    sqlite3_stmt *stmt = store->statements[STMT_SAVE_META];
    sqlite3_bind_blob(stmt, 1, boot->bytes, sizeof boot->bytes, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, flags, -1, SQLITE_STATIC);
    return store_written(store, stmt_run_one(stmt));
}

static enum err read_queue(sqlite3_stmt *stmt, struct queue_row *row)
{
    int at = 0;
    row->id = sqlite3_column_int64(stmt, at++);
    struct queue_settings *settings = &row->settings;
    if (!column_text(stmt, at++, row->name, sizeof row->name) ||
        !column_text(stmt, at++, settings->target, sizeof settings->target)) {
        return ERR_STORAGE_IO;
    }
    settings->rate.count = (uint64_t)sqlite3_column_int64(stmt, at++);
    settings->rate.per_ns = sqlite3_column_int64(stmt, at++);
    settings->burst = column_u32(stmt, at++);
    settings->linger_ns = sqlite3_column_int64(stmt, at++);
    settings->concurrency = column_u32(stmt, at++);
    settings->batch_size = column_u32(stmt, at++);
    settings->max_id = (uint64_t)sqlite3_column_int64(stmt, at++);
    settings->timeout_ns = sqlite3_column_int64(stmt, at++);
    settings->max_attempts = column_u32(stmt, at++);
    settings->min_backoff_ns = sqlite3_column_int64(stmt, at++);
    settings->max_backoff_ns = sqlite3_column_int64(stmt, at++);
    settings->max_hold_ns = sqlite3_column_int64(stmt, at++);
    struct queue_figures *figures = &row->figures;
    figures->bucket.tat.ns = sqlite3_column_int64(stmt, at++);
    figures->bucket.fraction = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->held_until.ns = sqlite3_column_int64(stmt, at++);
    figures->held_until_wall.ms = sqlite3_column_int64(stmt, at++);
    figures->delivery_ns = sqlite3_column_int64(stmt, at++);
    figures->dispatched = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->completed = (uint64_t)sqlite3_column_int64(stmt, at++);
    figures->failed = (uint64_t)sqlite3_column_int64(stmt, at++);
    return ERR_OK;
}

enum err store_load_queues(struct store *store, struct queue_row **rows, size_t *count)
{
    sqlite3_stmt *stmt = store->statements[STMT_LOAD_QUEUES];
    *rows = NULL;
    *count = 0;
    enum err err;
    for (;;) {
        bool row;
        err = stmt_next(stmt, &row);
        if (err != ERR_OK || !row) {
            break;
        }
        struct queue_row *grown = realloc(*rows, (*count + 1) * sizeof **rows);
        if (grown == NULL) {
            err = ERR_NO_MEMORY;
            break;
        }
        *rows = grown;
        err = read_queue(stmt, &grown[*count]);
        if (err != ERR_OK) {
            break;
        }
        *count += 1;
    }
    sqlite3_reset(stmt);
    if (err != ERR_OK) {
        free(*rows);
        *rows = NULL;
        *count = 0;
    }
    return err;
}

static enum err save_settings(struct store *store, int64_t queue, const struct queue_settings *settings)
{
    sqlite3_stmt *stmt =
        BIND(store, STMT_UPDATE_QUEUE, queue, (int64_t)settings->rate.count, settings->rate.per_ns,
             settings->burst, settings->linger_ns, settings->concurrency, settings->batch_size,
             (int64_t)settings->max_id, settings->timeout_ns, settings->max_attempts,
             settings->min_backoff_ns, settings->max_backoff_ns, settings->max_hold_ns);
    sqlite3_bind_text(stmt, 14, settings->target, -1, SQLITE_STATIC);
    return stmt_run_one(stmt);
}

static enum err save_figures(struct store *store, int64_t queue, const struct queue_figures *figures)
{
    return stmt_run_one(BIND(store, STMT_UPDATE_FIGURES, queue, figures->bucket.tat.ns,
                             (int64_t)figures->bucket.fraction, figures->held_until.ns,
                             figures->held_until_wall.ms, figures->delivery_ns, (int64_t)figures->dispatched,
                             (int64_t)figures->completed, (int64_t)figures->failed));
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
        err = save_settings(store, id, &row->settings);
    }
    if (err == ERR_OK) {
        row->id = id;
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
