#include "common/conf.h"
#include "scheduler/verify_check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LINE_SIZE 512

static const char *const words[] = {
#define VERIFY_WORD(name, word) [VERIFY_##name] = (word),
    VERIFY_KINDS(VERIFY_WORD)
#undef VERIFY_WORD
};

// ---- saying what is wrong ----

struct line {
    char text[LINE_SIZE];
    size_t len;
};

static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_list(struct line *line, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void add_list(struct line *line, const char *format, va_list arguments)
{
    int n = vsnprintf(line->text + line->len, sizeof line->text - line->len, format, arguments);
    size_t room = sizeof line->text - 1 - line->len;
    line->len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room;
}

static void add(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add_list(line, format, arguments);
    va_end(arguments);
}

// The first column of the row with this number, if there is one.
static sqlite3_stmt *look_up(const struct verify *v, const char *sql, int64_t number)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(v->db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_bind_int64(stmt, 1, number) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        return stmt;
    }
    (void)sqlite3_finalize(stmt);
    return NULL;
}

static void add_queue(const struct verify *v, struct line *line, int64_t queue)
{
    sqlite3_stmt *stmt = look_up(v,
                                 "SELECT name FROM queue WHERE id = ?1 UNION ALL SELECT name FROM "
                                 "deleted_queue WHERE id = ?1",
                                 queue);
    const unsigned char *name = stmt != NULL ? sqlite3_column_text(stmt, 0) : NULL;
    add(line, " queue %lld", (long long)queue);
    if (name != NULL && queue_name_valid((const char *)name)) {
        add(line, " (%s)", (const char *)name);
    }
    (void)sqlite3_finalize(stmt);
}

static void add_ingestion(const struct verify *v, struct line *line, int64_t seq)
{
    sqlite3_stmt *stmt = look_up(v, "SELECT id FROM ingestion WHERE seq = ?1", seq);
    struct id id;
    char text[ID_TEXT_SIZE];
    add(line, " ingestion %lld", (long long)seq);
    if (stmt != NULL && column_id(stmt, 0, &id)) {
        id_format(&id, text);
        add(line, " (%s)", text);
    }
    (void)sqlite3_finalize(stmt);
}

void violation(struct verify *v, enum verify_kind kind, struct about about, const char *format, ...)
{
    struct line line = {.len = 0};
    va_list arguments;
    v->result->violations++;
    if (v->of_kind[kind]++ >= VERIFY_LINES) {
        return;
    }
    add(&line, "%s:", words[kind]);
    if (about.queue != 0) {
        add_queue(v, &line, about.queue);
    }
    if (about.seq != 0) {
        add_ingestion(v, &line, about.seq);
    }
    if (about.index >= 0) {
        add(&line, " batch %lld", (long long)about.index);
    }
    add(&line, "%s", line.text[line.len - 1] == ':' ? " " : ": ");
    va_start(arguments, format);
    add_list(&line, format, arguments);
    va_end(arguments);
    v->say(v->user, line.text);
}

static void say_how_many_more(struct verify *v)
{
    for (int kind = 0; kind < VERIFY_KIND_COUNT; kind++) {
        if (v->of_kind[kind] > VERIFY_LINES) {
            struct line line = {.len = 0};
            add(&line, "%s: and %llu more", words[kind],
                (unsigned long long)(v->of_kind[kind] - VERIFY_LINES));
            v->say(v->user, line.text);
        }
    }
}

// ---- statements ----

static const struct about whole = {.index = -1};

static enum err judge(struct verify *v, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        violation(v, VERIFY_INTEGRITY, whole, "%s", sqlite3_errmsg(v->db));
        return ERR_OK;
    case SQLITE_ERROR: // a table or a column that should be there is not
        violation(v, VERIFY_SCHEMA, whole, "%s", sqlite3_errmsg(v->db));
        return ERR_OK;
    default:
        return store_sqlite_err(rc);
    }
}

sqlite3_stmt *verify_prepare(struct verify *v, const char *sql, enum err *err)
{
    sqlite3_stmt *stmt = NULL;
    *err = judge(v, sqlite3_prepare_v2(v->db, sql, -1, &stmt, NULL));
    return stmt;
}

enum err verify_step(struct verify *v, sqlite3_stmt *stmt, bool *row)
{
    errno = 0;
    int rc = sqlite3_step(stmt);
    *row = rc == SQLITE_ROW;
    return *row ? ERR_OK : judge(v, rc);
}

// ---- the file ----

static enum err check_integrity(struct verify *v)
{
    enum err err;
    bool row = false;
    sqlite3_stmt *stmt = verify_prepare(v, "PRAGMA integrity_check(20)", &err);
    while (stmt != NULL && (err = verify_step(v, stmt, &row)) == ERR_OK && row) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        if (text != NULL && strcmp(text, "ok") != 0) {
            violation(v, VERIFY_INTEGRITY, whole, "%s", text);
        }
    }
    (void)sqlite3_finalize(stmt);
    return err;
}

// Beside it, a store with the tables as they should be.
static enum err make_reference(sqlite3 **db)
{
    int rc = sqlite3_open_v2(":memory:", db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc == SQLITE_OK) {
        rc = store_schema_migrate(*db, store_schema_steps, 0, store_schema_version);
    }
    return rc == SQLITE_OK ? ERR_OK : ERR_NO_MEMORY;
}

#define LIST_SCHEMA "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema ORDER BY 1, 2"

// Both lists are in the same order.
static enum err compare_schemas(struct verify *v, sqlite3_stmt *found, sqlite3_stmt *wanted)
{
    bool more = false;
    enum err err = verify_step(v, found, &more);
    bool want = sqlite3_step(wanted) == SQLITE_ROW;
    while (err == ERR_OK && (more || want)) {
        const char *name = more ? (const char *)sqlite3_column_text(found, 0) : NULL;
        const char *wanted_name = want ? (const char *)sqlite3_column_text(wanted, 0) : NULL;
        int order = name == NULL ? 1 : wanted_name == NULL ? -1 : strcmp(name, wanted_name);
        if (order < 0) {
            violation(v, VERIFY_SCHEMA, whole, "%s does not belong there", name);
        } else if (order > 0) {
            violation(v, VERIFY_SCHEMA, whole, "%s is missing", wanted_name != NULL ? wanted_name : "");
        } else if (strcmp((const char *)sqlite3_column_text(found, 1),
                          (const char *)sqlite3_column_text(wanted, 1)) != 0) {
            violation(v, VERIFY_SCHEMA, whole, "%s is not as this version makes it", name);
        }
        if (order <= 0) {
            err = verify_step(v, found, &more);
        }
        if (order >= 0) {
            want = want && sqlite3_step(wanted) == SQLITE_ROW;
        }
    }
    return err;
}

static enum err check_schema(struct verify *v)
{
    sqlite3 *reference = NULL;
    sqlite3_stmt *found = NULL;
    sqlite3_stmt *wanted = NULL;
    enum err err = make_reference(&reference);
    if (err == ERR_OK && sqlite3_prepare_v2(reference, LIST_SCHEMA, -1, &wanted, NULL) != SQLITE_OK) {
        err = ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        found = verify_prepare(v, LIST_SCHEMA, &err);
    }
    if (found != NULL) {
        err = compare_schemas(v, found, wanted);
    }
    (void)sqlite3_finalize(found);
    (void)sqlite3_finalize(wanted);
    (void)sqlite3_close(reference);
    return err;
}

// ---- all of it ----

static enum err count(struct verify *v)
{
    enum err err;
    bool row = false;
    sqlite3_stmt *stmt =
        verify_prepare(v,
                       "SELECT (SELECT count(*) FROM ingestion WHERE id <> x''), (SELECT "
                       "coalesce(sum(batch_count), 0) FROM ingestion WHERE id <> x''), (SELECT count(*) FROM "
                       "history WHERE seq > 0), (SELECT coalesce(min(id), 1) FROM history), (SELECT "
                       "coalesce(max(id), 0) FROM history)",
                       &err);
    if (stmt != NULL) {
        err = verify_step(v, stmt, &row);
    }
    if (row) {
        v->result->ingestions = (uint64_t)sqlite3_column_int64(stmt, 0);
        v->result->batches = (uint64_t)sqlite3_column_int64(stmt, 1);
        v->result->dispatches = (uint64_t)sqlite3_column_int64(stmt, 2);
        v->first_entry = sqlite3_column_int64(stmt, 3);
        v->last_entry = sqlite3_column_int64(stmt, 4);
    }
    (void)sqlite3_finalize(stmt);
    return err;
}

static enum err check_all(struct verify *v)
{
    static enum err (*const checks[])(struct verify *) = {
        check_schema, count, verify_rows, verify_batches, verify_ids, verify_history, verify_attempts};
    enum err err = check_integrity(v);
    // What a damaged file says is not worth checking, nor what tables of another kind say.
    for (size_t i = 0; i < sizeof checks / sizeof checks[0] && err == ERR_OK; i++) {
        if (v->of_kind[VERIFY_INTEGRITY] + v->of_kind[VERIFY_SCHEMA] > 0) {
            break;
        }
        err = checks[i](v);
    }
    say_how_many_more(v);
    return err;
}

// ---- opening ----

static enum err refuse(sqlite3 *db, int rc, const char *path, struct fault *fault)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
        return fault_set(fault, ERR_STORAGE_UNAVAILABLE, "%s is in use by another process", path);
    case SQLITE_NOTADB:
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s is not a store of Sluice, or it is damaged", path);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return fault_set(fault, ERR_NOT_FOUND, "%s cannot be opened to read and write, which takes its lock",
                         path);
    default:
        return fault_set(fault, store_sqlite_err(rc), "cannot open %s: %s", path, sqlite3_errmsg(db));
    }
}

// The lock that a scheduler holds. None is made where there is none.
static enum err take_lock(const char *dir, int *lock, struct fault *fault)
{
    char path[PATH_MAX];
    *lock = -1;
    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int)sizeof path) {
        return fault_set(fault, ERR_NOT_FOUND, "the path of the data directory is too long");
    }
    *lock = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (*lock < 0) {
        return errno == ENOENT ? ERR_OK
                               : fault_set(fault, ERR_NOT_FOUND, "cannot open %s: %s", path, strerror(errno));
    }
    if (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        return fault_set(fault, ERR_STORAGE_UNAVAILABLE,
                         "a scheduler is running on %s: stop it first, or check a copy", dir);
    }
    return ERR_OK;
}

// For this process alone and without a write of any kind, also at its closing: so the log that a crash left
// is read, and stays.
static enum err open_store(struct verify *v, const char *dir, struct fault *fault)
{
    static const char settings[] = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON; "
                                   "PRAGMA mmap_size = 0; PRAGMA temp_store = FILE; "
                                   "PRAGMA cache_size = -16384; PRAGMA cell_size_check = ON";
    char path[PATH_MAX];
    int64_t version = 0;
    bool exists = false;
    if (snprintf(path, sizeof path, "%s/%s", dir, STORE_FILE) >= (int)sizeof path) {
        return fault_set(fault, ERR_NOT_FOUND, "the path of the data directory is too long");
    }
    if (access(path, R_OK) != 0) {
        return fault_set(fault, ERR_NOT_FOUND, "cannot read %s: %s", path, strerror(errno));
    }
    enum err err = store_check_header(path, &exists, fault);
    if (err != ERR_OK) {
        return err;
    }
    errno = 0;
    int rc = sqlite3_open_v2(path, &v->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_db_config(v->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(v->db, settings, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = store_user_version(v->db, &version);
    }
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_CORRUPT) { // that is for the check to say
        return refuse(v->db, rc, path, fault);
    }
    if (rc == SQLITE_OK && version != store_schema_version) {
        return fault_set(
            fault, ERR_STORAGE_REFUSED, "%s has schema %lld, and this sluice-verify knows %d: %s", path,
            (long long)version, store_schema_version,
            version < store_schema_version ? "start the scheduler once" : "it was written by a newer Sluice");
    }
    return ERR_OK;
}

enum err verify_directory(const char *dir, verify_say *say, void *user, struct verify_result *result,
                          struct fault *fault)
{
    struct verify v = {.say = say, .user = user, .result = result};
    int lock = -1;
    *result = (struct verify_result){0};
    char *path = realpath(dir, NULL); // SQLite takes a name that begins with "file:" for a URI
    if (path == NULL) {
        return fault_set(fault, ERR_NOT_FOUND, "cannot use the directory %s: %s", dir, strerror(errno));
    }
    enum err err = take_lock(path, &lock, fault);
    if (err == ERR_OK) {
        err = open_store(&v, path, fault);
    }
    if (err == ERR_OK) {
        err = check_all(&v);
        if (err != ERR_OK) {
            (void)fault_set(fault, err, "the check could not be ended: %s", sqlite3_errmsg(v.db));
        }
    }
    (void)sqlite3_close(v.db);
    if (lock >= 0) {
        close(lock);
    }
    free(path);
    return err;
}

int verify_exit_code(enum err err)
{
    switch ((int)err) {
    case ERR_NOT_FOUND:
        return EXIT_CODE_NOINPUT;
    case ERR_STORAGE_UNAVAILABLE:
        return EXIT_CODE_UNAVAILABLE;
    case ERR_STORAGE_REFUSED:
        return EXIT_CODE_CONFIG;
    case ERR_NO_MEMORY:
        return EXIT_CODE_SOFTWARE;
    default:
        return EXIT_CODE_IOERR;
    }
}
