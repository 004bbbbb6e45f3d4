// store_sqlite.c - one file in the data directory, in SQLite's write-ahead mode with a sync for each commit.
//
// The file is locked for this process alone: then the index of the write-ahead log lives on the heap instead
// of in a shared mapping (where a full disk is a SIGBUS), no reader can keep the log from being emptied, and
// a transaction takes no lock system calls.
#include "scheduler/store_sqlite.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define CHECKPOINT_FRAMES ((8 << 20) / PAGE_BYTES) // a checkpoint is worth its sync
#define CROWDED_FRAMES ((64 << 20) / PAGE_BYTES)   // the log may not grow further

static const char settings[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA mmap_size = 0;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA secure_delete = OFF;"
    "PRAGMA cache_size = -16384;"           // KiB
    "PRAGMA journal_size_limit = 67108864;" // given back after one huge transaction
    "PRAGMA journal_mode = WAL;";

static const char *const statement_texts[STATEMENTS] = {
#define STATEMENT_TEXT(name, sql) [STMT_##name] = (sql),
    STATEMENT_LIST(STATEMENT_TEXT)
#undef STATEMENT_TEXT
};

// ---- running statements -----------------------------------------------------------------------------------

enum err store_sqlite_err(sqlite3 *db, int rc)
{
    int reason = sqlite3_system_errno(db);
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
        if (sqlite3_extended_errcode(db) == SQLITE_IOERR_NOMEM) {
            return ERR_NO_MEMORY;
        }
        return reason == ENOSPC || reason == EDQUOT || reason == EFBIG ? ERR_STORAGE_FULL : ERR_STORAGE_IO;
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

enum err stmt_next(struct store *store, sqlite3_stmt *stmt, bool *row)
{
    int rc = sqlite3_step(stmt);
    *row = rc == SQLITE_ROW;
    if (*row) {
        return ERR_OK;
    }
    enum err err = store_sqlite_err(store->db, rc);
    sqlite3_reset(stmt);
    return err;
}

enum err stmt_run(struct store *store, sqlite3_stmt *stmt)
{
    enum err err;
    bool row;
    do {
        err = stmt_next(store, stmt, &row);
    } while (row);
    return err;
}

enum err stmt_run_one(struct store *store, sqlite3_stmt *stmt)
{
    enum err err = stmt_run(store, stmt);
    return err == ERR_OK && sqlite3_changes(store->db) != 1 ? ERR_STORAGE_IO : err;
}

enum err stmt_integer(struct store *store, sqlite3_stmt *stmt, int64_t *value)
{
    bool row;
    enum err err = stmt_next(store, stmt, &row);
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

// ---- transactions -----------------------------------------------------------------------------------------

// Moves the log's pages into the database, after which the next commit starts the log anew.
static enum err checkpoint(struct store *store)
{
    int frames = 0;
    int moved = 0;
    int rc = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    if (rc == SQLITE_OK) {
        store->wal_frames = frames - moved;
    }
    return store_sqlite_err(store->db, rc);
}

enum err store_begin(struct store *store)
{
    assert(!store->in_transaction);
    if (store->wal_frames > CROWDED_FRAMES) {
        enum err err = checkpoint(store);
        if (err != ERR_OK) {
            return err;
        }
    }
    enum err err = stmt_run(store, store->statements[STMT_BEGIN]);
    store->in_transaction = err == ERR_OK;
    return err;
}

enum err store_commit(struct store *store)
{
    assert(store->in_transaction);
    enum err err = counts_flush(store);
    if (err == ERR_OK) {
        // Should SQLite have rolled back by itself, this fails as it must.
        err = stmt_run(store, store->statements[STMT_COMMIT]);
    }
    if (err == ERR_OK) {
        store->in_transaction = false;
    }
    return store_written(store, err);
}

void store_rollback(struct store *store)
{
    if (store->in_transaction && sqlite3_get_autocommit(store->db) == 0) {
        sqlite3_step(store->statements[STMT_ROLLBACK]);
        sqlite3_reset(store->statements[STMT_ROLLBACK]);
    }
    store->in_transaction = false;
    store->delta_count = 0;
}

enum err store_written(struct store *store, enum err err)
{
    if (err != ERR_OK) {
        store_rollback(store);
    }
    return err;
}

enum err store_tend(struct store *store)
{
    return store->wal_frames < CHECKPOINT_FRAMES ? ERR_OK : checkpoint(store);
}

// ---- opening ----------------------------------------------------------------------------------------------

static uint32_t big_endian_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static enum err refuse_newer(const char *path, int64_t version, struct fault *fault)
{
    return fault_set(fault, ERR_STORAGE_REFUSED,
                     "%s was written by a newer Sluice (schema %lld, this one knows up to %d)", path,
                     (long long)version, store_schema_version);
}

// Looks at the header (https://www.sqlite.org/fileformat.html#the_database_header) before SQLite does,
// because merely opening another program's database can change it.
static enum err check_header(const char *path, bool *exists, struct fault *fault)
{
    uint8_t header[100];
    *exists = true;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *exists = false;
        return ERR_OK;
    }
    ssize_t len = fd < 0 ? -1 : pread(fd, header, sizeof header, 0);
    int reason = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (len < 0) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "cannot read %s: %s", path, strerror(reason));
    }
    if (len < (ssize_t)sizeof header || memcmp(header, "SQLite format 3", 16) != 0 ||
        big_endian_u32(header + 68) != STORE_APPLICATION_ID) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is not a store of Sluice, or it is damaged", path);
    }
    uint32_t version = big_endian_u32(header + 60);
    if (version > (uint32_t)store_schema_version) {
        return refuse_newer(path, version, fault);
    }
    return ERR_OK;
}

static enum err refuse(sqlite3 *db, int rc, const char *path, struct fault *fault)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is in use by another process", path);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
    case SQLITE_ERROR: // a table or a column that should be there is not
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is damaged: %s", path, sqlite3_errmsg(db));
    default:
        return fault_set(fault, store_sqlite_err(db, rc), "cannot open %s: %s", path, sqlite3_errmsg(db));
    }
}

static enum err sync_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return synced ? ERR_OK : ERR_STORAGE_IO;
}

// Fills an empty file. Not yet in write-ahead mode, so that all of it is in this one file when it gets its
// name.
static int fill_new(sqlite3 *db)
{
    char mark[64];
    (void)snprintf(mark, sizeof mark, "PRAGMA application_id = %d", STORE_APPLICATION_ID);
    int rc = sqlite3_exec(db, "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL", NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        rc = store_schema_migrate(db, store_schema_steps, 0, store_schema_version);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, mark, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    }
    return rc;
}

// Makes the store under another name first: whatever has the right name is complete.
static enum err create(const char *dir, const char *path, struct fault *fault)
{
    char fresh[4096];
    char log[4096];
    int fresh_len = snprintf(fresh, sizeof fresh, "%s.new", path);
    int log_len = snprintf(log, sizeof log, "%s-wal", path);
    if (fresh_len >= (int)sizeof fresh || log_len >= (int)sizeof log) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "the path of %s is too long", path);
    }
    if (access(log, F_OK) == 0) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is missing, but its log %s is there", path, log);
    }
    (void)unlink(fresh); // of a start that was cut off
    int fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0) {
        enum err err = errno == ENOSPC || errno == EDQUOT ? ERR_STORAGE_FULL : ERR_STORAGE_IO;
        return fault_set(fault, err, "cannot create %s: %s", fresh, strerror(errno));
    }
    close(fd);

    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(fresh, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        rc = fill_new(db);
    }
    enum err err = rc == SQLITE_OK ? ERR_OK : refuse(db, rc, fresh, fault);
    (void)sqlite3_close(db);
    if (err == ERR_OK && (rename(fresh, path) != 0 || sync_directory(dir) != ERR_OK)) {
        err = fault_set(fault, ERR_STORAGE_IO, "cannot create %s: %s", path, strerror(errno));
    }
    if (err != ERR_OK) {
        (void)unlink(fresh);
    }
    return err;
}

static int user_version(sqlite3 *db, int64_t *version)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        *version = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    }
    (void)sqlite3_finalize(stmt);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int prepare_all(struct store *store)
{
    int rc = SQLITE_OK;
    for (int i = 0; i < STATEMENTS && rc == SQLITE_OK; i++) {
        rc = sqlite3_prepare_v3(store->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                &store->statements[i], NULL);
    }
    return rc;
}

static int on_commit(void *user, sqlite3 *db, const char *name, int frames)
{
    (void)db;
    (void)name;
    ((struct store *)user)->wal_frames = frames;
    return SQLITE_OK;
}

// Until everything is known to be right, closing must leave the files alone, the log included.
static enum err open_existing(struct store *store, const char *path, struct fault *fault)
{
    int64_t version = 0;
    int rc = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(store->db, settings, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = user_version(store->db, &version);
    }
    if (rc == SQLITE_OK && version > store_schema_version) { // a newer header may still be in the log
        return refuse_newer(path, version, fault);
    }
    if (rc == SQLITE_OK && version < store_schema_version) {
        rc = store_schema_migrate(store->db, store_schema_steps, (int)version, store_schema_version);
    }
    if (rc == SQLITE_OK) {
        rc = prepare_all(store);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    }
    if (rc != SQLITE_OK) {
        return refuse(store->db, rc, path, fault);
    }
    sqlite3_wal_hook(store->db, on_commit, store); // in the place of automatic checkpoints
    return ERR_OK;
}

enum err store_sqlite_open(const char *dir, struct store **store, struct fault *fault)
{
    *store = NULL;
    // An absolute path: SQLite takes a name that begins with "file:" for a URI.
    char *full = realpath(dir, NULL);
    if (full == NULL) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "cannot use the directory %s: %s", dir, strerror(errno));
    }
    char path[4096];
    struct store *made = NULL;
    bool exists;
    enum err err = ERR_OK;
    if (snprintf(path, sizeof path, "%s/%s", full, STORE_FILE) >= (int)sizeof path) {
        err = fault_set(fault, ERR_STORAGE_REFUSED, "the path %s is too long", full);
    }
    if (err == ERR_OK) {
        err = check_header(path, &exists, fault);
    }
    if (err == ERR_OK && !exists) {
        err = create(full, path, fault);
    }
    if (err == ERR_OK) {
        made = calloc(1, sizeof *made);
        err = made != NULL ? open_existing(made, path, fault)
                           : fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    if (err != ERR_OK) {
        store_close(made);
        made = NULL;
    }
    *store = made;
    free(full);
    return err;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    store_rollback(store);
    for (int i = 0; i < STATEMENTS; i++) {
        (void)sqlite3_finalize(store->statements[i]);
    }
    (void)sqlite3_close(store->db);
    free(store);
}
