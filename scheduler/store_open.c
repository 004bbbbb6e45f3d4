// store_open.c - one file in the data directory, in SQLite's write-ahead mode with a sync for each commit.
//
// The file is locked for this process alone: then the index of the write-ahead log lives on the heap instead
// of in a shared mapping (where a full disk is a SIGBUS), no reader can keep the log from being emptied, and
// a transaction takes no lock system calls.
#include "scheduler/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char settings[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA mmap_size = 0;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA secure_delete = OFF;"
    "PRAGMA cache_size = -16384;"            // KiB
    "PRAGMA journal_size_limit = 67108864;"; // given back after one huge transaction

static const char *const statement_texts[STATEMENTS] = {
#define STATEMENT_TEXT(name, sql) [STMT_##name] = (sql),
    STATEMENT_LIST(STATEMENT_TEXT)
#undef STATEMENT_TEXT
};

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

// By its permissions, or by a version in its header.
static enum err refuse_readonly(const char *path, struct fault *fault)
{
    return fault_set(fault, ERR_STORAGE_REFUSED, "%s can be read only, not written", path);
}

// Looks at the header (https://www.sqlite.org/fileformat.html#the_database_header) before SQLite does,
// because merely opening another program's database can change it.
enum err store_check_header(const char *path, bool *exists, struct fault *fault)
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
        return fault_set(fault, reason == EIO ? ERR_STORAGE_IO : ERR_STORAGE_REFUSED, "cannot read %s: %s",
                         path, strerror(reason));
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
    case SQLITE_READONLY:
        return refuse_readonly(path, fault);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
    case SQLITE_ERROR: // a table or a column that should be there is not
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is damaged: %s", path, sqlite3_errmsg(db));
    default:
        return fault_set(fault, store_sqlite_err(rc), "cannot open %s: %s", path, sqlite3_errmsg(db));
    }
}

static bool sync_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    int reason = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = reason;
    return synced;
}

static bool sync_directory(const char *dir)
{
    return sync_file(dir, O_RDONLY | O_DIRECTORY);
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

struct paths {
    char *dir;
    char file[PATH_MAX];
    char log[PATH_MAX];   // SQLite's name for it
    char fresh[PATH_MAX]; // while it is being made
};

static bool paths_fill(struct paths *paths, const char *dir)
{
    // Absolute, because SQLite takes a name that begins with "file:" for a URI.
    paths->dir = realpath(dir, NULL);
    if (paths->dir == NULL) {
        return false;
    }
    errno = ENAMETOOLONG;
    return snprintf(paths->file, PATH_MAX, "%s/%s", paths->dir, STORE_FILE) < PATH_MAX &&
           snprintf(paths->log, PATH_MAX, "%s/%s-wal", paths->dir, STORE_FILE) < PATH_MAX &&
           snprintf(paths->fresh, PATH_MAX, "%s/%s.new", paths->dir, STORE_FILE) < PATH_MAX;
}

// Makes the store under another name first: whatever has the right name is complete.
static enum err create(const struct paths *paths, struct fault *fault)
{
    if (access(paths->log, F_OK) == 0) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is missing, but its log %s-wal is there",
                         paths->file, STORE_FILE);
    }
    (void)unlink(paths->fresh); // of a start that was cut off
    int fd = open(paths->fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0) {
        enum err err = errno == ENOSPC || errno == EDQUOT ? ERR_STORAGE_FULL : ERR_STORAGE_IO;
        return fault_set(fault, err, "cannot create %s: %s", paths->fresh, strerror(errno));
    }
    close(fd);

    sqlite3 *db = NULL;
    errno = 0;
    int rc = sqlite3_open_v2(paths->fresh, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        rc = fill_new(db);
    }
    enum err err = rc == SQLITE_OK ? ERR_OK : refuse(db, rc, paths->fresh, fault);
    (void)sqlite3_close(db);
    if (err == ERR_OK && (rename(paths->fresh, paths->file) != 0 || !sync_directory(paths->dir))) {
        err = fault_set(fault, ERR_STORAGE_IO, "cannot create %s: %s", paths->file, strerror(errno));
    }
    if (err != ERR_OK) {
        (void)unlink(paths->fresh);
    }
    return err;
}

enum err store_confirm(struct store *store)
{
    if (!store->unsynced_log) {
        return ERR_OK;
    }
    const char *log = sqlite3_filename_wal(sqlite3_db_filename(store->db, "main"));
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(log, '/') - log), log);
    errno = 0;
    bool synced = sync_file(log, O_RDONLY) || errno == ENOENT; // SQLite may have found it of no use
    if (!synced || !sync_directory(dir)) {
        return errno == ENOSPC || errno == EDQUOT ? ERR_STORAGE_FULL : ERR_STORAGE_IO;
    }
    store->unsynced_log = false;
    return ERR_OK;
}

int store_user_version(sqlite3 *db, int64_t *version)
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

// Until everything is known to be right nothing may be written: neither the mode, nor at closing what the log
// holds.
static enum err open_existing(struct store *store, const struct paths *paths, struct fault *fault)
{
    const char *path = paths->file;
    bool keep_log = access(paths->log, F_OK) == 0;
    int64_t version = 0;
    errno = 0;
    int rc = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep_log, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(store->db, settings, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = store_user_version(store->db, &version);
    }
    if (rc == SQLITE_OK && sqlite3_db_readonly(store->db, "main") == 1) {
        return refuse_readonly(path, fault);
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
        rc = sqlite3_exec(store->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    }
    if (rc != SQLITE_OK) {
        return refuse(store->db, rc, path, fault);
    }
    store->unsynced_log = keep_log;
    sqlite3_wal_hook(store->db, on_commit, store); // in the place of automatic checkpoints
    return ERR_OK;
}

enum err store_sqlite_open(const char *dir, struct store **store, struct fault *fault)
{
    struct paths paths;
    struct store *made = NULL;
    bool exists = false;
    enum err err = ERR_OK;
    *store = NULL;
    // Nobody asks how much memory SQLite has, and counting it takes a lock for each allocation. (It is
    // refused, and does no harm, when SQLite runs already.)
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (!paths_fill(&paths, dir)) {
        err = fault_set(fault, errno == ENOMEM ? ERR_NO_MEMORY : ERR_STORAGE_REFUSED,
                        "cannot use the directory %s: %s", dir, strerror(errno));
    }
    if (err == ERR_OK) {
        err = store_check_header(paths.file, &exists, fault);
    }
    if (err == ERR_OK && !exists) {
        err = create(&paths, fault);
    }
    if (err == ERR_OK) {
        made = calloc(1, sizeof *made);
        if (made != NULL) {
            made->last_entry = -1;
            made->history_max = HISTORY_MAX;
        }
        err = made != NULL ? open_existing(made, &paths, fault)
                           : fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    if (err != ERR_OK) {
        store_close(made);
        made = NULL;
    }
    *store = made;
    free(paths.dir);
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
