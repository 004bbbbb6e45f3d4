// store_sqlite.c - how statements are run, transactions, and checkpoints of the write-ahead log.
#include "scheduler/store_sqlite.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE_BYTES 4096
#define CHECKPOINT_FRAMES ((8 << 20) / PAGE_BYTES) // a checkpoint is worth its sync
#define CROWDED_FRAMES ((64 << 20) / PAGE_BYTES)   // the log may not grow further

// ---- running statements ----

// A full disk is SQLITE_FULL, but a quota or a limit is an I/O error like others, and sqlite3_system_errno
// knows no reason for one in COMMIT; errno does, when it was cleared before.
enum err store_sqlite_err(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ERR_OK;
    case SQLITE_FULL:
        return ERR_STORAGE_FULL;
    case SQLITE_NOMEM:
        return ERR_NO_MEMORY;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ERR_STORAGE_FULL : ERR_STORAGE_IO;
    default:
        return ERR_STORAGE_IO;
    }
}

sqlite3_stmt *stmt_bind(struct store *store, enum statement which, const int64_t *values, size_t count)
{
    sqlite3_stmt *stmt = store->statements[which];
    for (size_t i = 0; i < count; i++) {
        int rc = sqlite3_bind_int64(stmt, (int)i + 1, values[i]);
        assert(rc == SQLITE_OK); // it fails only for a statement that was not reset or has no such parameter
        (void)rc;
    }
    return stmt;
}

enum err stmt_next(sqlite3_stmt *stmt, bool *row)
{
    errno = 0;
    int rc = sqlite3_step(stmt);
    *row = rc == SQLITE_ROW;
    if (*row) {
        return ERR_OK;
    }
    enum err err = store_sqlite_err(rc);
    sqlite3_reset(stmt);
    return err;
}

enum err stmt_run(sqlite3_stmt *stmt)
{
    enum err err;
    bool row;
    do {
        err = stmt_next(stmt, &row);
    } while (row);
    return err;
}

enum err stmt_run_one(sqlite3_stmt *stmt)
{
    enum err err = stmt_run(stmt);
    return err == ERR_OK && sqlite3_changes(sqlite3_db_handle(stmt)) != 1 ? ERR_STORAGE_IO : err;
}

enum err stmt_integer(sqlite3_stmt *stmt, int64_t *value)
{
    bool row;
    enum err err = stmt_next(stmt, &row);
    *value = row ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_reset(stmt);
    return err;
}

uint32_t column_u32(sqlite3_stmt *stmt, int column)
{
    int64_t value = sqlite3_column_int64(stmt, column);
    return value < 0 || value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

bool column_id(sqlite3_stmt *stmt, int column, struct id *id)
{
    const void *bytes = sqlite3_column_blob(stmt, column);
    if (bytes == NULL || sqlite3_column_bytes(stmt, column) != (int)sizeof id->bytes) {
        return false;
    }
    memcpy(id->bytes, bytes, sizeof id->bytes);
    return true;
}

bool column_priority(sqlite3_stmt *stmt, int column, enum priority *priority)
{
    int64_t value = sqlite3_column_int64(stmt, column);
    if (value < 0 || value >= PRIORITIES) {
        return false;
    }
    *priority = (enum priority)value;
    return true;
}

bool column_text(sqlite3_stmt *stmt, int column, char *text, size_t size)
{
    const unsigned char *from = sqlite3_column_text(stmt, column);
    size_t len = (size_t)sqlite3_column_bytes(stmt, column);
    if (from == NULL || len >= size) {
        return false;
    }
    memcpy(text, from, len);
    text[len] = '\0';
    return true;
}

void column_trace(sqlite3_stmt *stmt, int column, struct trace *trace)
{
    char text[REQUEST_ID_MAX + 1];
    *trace = (struct trace){.request_id = ""};
    if (column_text(stmt, column, text, sizeof text) && request_id_valid(text)) {
        memcpy(trace->request_id, text, sizeof text);
    }
    if (column_text(stmt, column + 1, text, sizeof text)) {
        (void)traceparent_parse(text, trace->traceparent);
    }
}

void bind_id(sqlite3_stmt *stmt, int parameter, const struct id *id)
{
    sqlite3_bind_blob(stmt, parameter, id->bytes, sizeof id->bytes, SQLITE_STATIC);
}

void bind_text_or_null(sqlite3_stmt *stmt, int parameter, const char *text)
{
    if (text != NULL) {
        sqlite3_bind_text(stmt, parameter, text, -1, SQLITE_STATIC);
    } else {
        sqlite3_bind_null(stmt, parameter);
    }
}

enum err store_grow(void **array, size_t count, size_t size)
{
    if (count != 0 && (count < 16 || (count & (count - 1)) != 0)) {
        return ERR_OK;
    }
    void *grown = realloc(*array, (count == 0 ? 16 : 2 * count) * size);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    *array = grown;
    return ERR_OK;
}

// ---- transactions ----

// Moves the log's pages into the database, after which the next commit starts the log anew.
static enum err checkpoint(struct store *store)
{
    int frames = 0;
    int moved = 0;
    errno = 0;
    int rc = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    if (rc == SQLITE_OK) {
        store->wal_frames = frames - moved;
    }
    return store_sqlite_err(rc);
}

// SQLite carries this pragma out while it compiles it, so there is no statement to keep. As long as it is not
// known that commits are synced they are taken not to be.
static enum err set_synced(struct store *store)
{
    errno = 0;
    int rc = sqlite3_exec(store->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
    store->lazy = rc != SQLITE_OK;
    return store_sqlite_err(rc);
}

// The log is synced all the same before a checkpoint and when it begins anew.
static enum err set_lazy(struct store *store)
{
    errno = 0;
    store->lazy = true;
    return store_sqlite_err(sqlite3_exec(store->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL));
}

static enum err begin(struct store *store)
{
    assert(!store->in_transaction);
    enum err err = store->wal_frames > CROWDED_FRAMES ? checkpoint(store) : ERR_OK;
    if (err == ERR_OK) {
        err = stmt_run(store->statements[STMT_BEGIN]);
        store->in_transaction = err == ERR_OK;
    }
    return err;
}

enum err store_begin(struct store *store)
{
    enum err err = store->lazy ? set_synced(store) : ERR_OK;
    return err == ERR_OK ? begin(store) : err;
}

enum err store_begin_lazy(struct store *store)
{
    enum err err = store->lazy ? ERR_OK : set_lazy(store);
    return err == ERR_OK ? begin(store) : err;
}

// When the sync fails all of the commit is in the log: whoever reads that next takes it for committed.
static bool failed_in_sync(struct store *store)
{
    int rc = sqlite3_extended_errcode(store->db);
    return rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC;
}

enum err store_commit(struct store *store)
{
    assert(store->in_transaction);
    enum err err = counts_flush(store);
    if (err == ERR_OK) {
        // Should SQLite have rolled back by itself, this fails as it must.
        err = stmt_run(store->statements[STMT_COMMIT]);
        err = err != ERR_OK && failed_in_sync(store) ? ERR_OUTCOME_UNKNOWN : err;
    }
    if (err == ERR_OK) {
        store->in_transaction = false;
    }
    return store_written(store, err);
}

static void end_transaction(struct store *store)
{
    if (store->in_transaction && sqlite3_get_autocommit(store->db) == 0) {
        sqlite3_step(store->statements[STMT_ROLLBACK]);
        sqlite3_reset(store->statements[STMT_ROLLBACK]);
    }
    store->in_transaction = false;
}

void store_begin_reading(struct store *store)
{
    if (!store->in_transaction) {
        // If it fails, so will the reads.
        store->in_transaction = stmt_run(store->statements[STMT_BEGIN_READING]) == ERR_OK;
    }
}

void store_end_reading(struct store *store)
{
    end_transaction(store);
}

void store_rollback(struct store *store)
{
    end_transaction(store);
    store->delta_count = 0;
    store->last_entry = -1;
}

static uint64_t file_size(const char *path)
{
    struct stat info;
    return path != NULL && stat(path, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

void store_size(struct store *store, uint64_t *data, uint64_t *log)
{
    const char *path = sqlite3_db_filename(store->db, "main");
    *data = file_size(path);
    *log = file_size(path != NULL ? sqlite3_filename_wal(path) : NULL);
}

enum err store_written(struct store *store, enum err err)
{
    if (err != ERR_OK) {
        store_rollback(store);
    }
    store->no_room = store->no_room || err == ERR_STORAGE_FULL;
    return err;
}

// On a full disk there may be room in the log when it begins anew: it keeps its file, and the database may
// have free pages.
enum err store_tend(struct store *store)
{
    bool worth = store->wal_frames >= (store->no_room ? 1 : CHECKPOINT_FRAMES);
    store->no_room = false;
    return worth ? checkpoint(store) : ERR_OK;
}
