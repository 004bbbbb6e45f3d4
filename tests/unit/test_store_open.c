// Opening the store: what is made, what is refused and then left as it was, and the way from an older schema.
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

// ---- files ----

static void path_in(const struct fixture *f, const char *name, char path[128])
{
    cr_assert_lt(snprintf(path, 128, "%s/%s", f->dir, name), 128);
}

static void append_file(const struct fixture *f, const char *name, struct buf *out)
{
    char path[128];
    path_in(f, name, path);
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0);
    ssize_t n;
    do {
        char *room = buf_room(out, 4096);
        cr_assert_not_null(room);
        n = read(fd, room, 4096);
        cr_assert_geq(n, 0);
        buf_grew(out, (size_t)n);
    } while (n > 0);
    close(fd);
}

// The names and the bytes of all files of the directory.
static void snapshot(const struct fixture *f, struct buf *out)
{
    struct dirent **entries;
    int count = scandir(f->dir, &entries, NULL, alphasort);
    cr_assert_geq(count, 0);
    for (int i = 0; i < count; i++) {
        buf_put(out, entries[i]->d_name, strlen(entries[i]->d_name) + 1);
        if (entries[i]->d_name[0] != '.') {
            append_file(f, entries[i]->d_name, out);
        }
        free(entries[i]);
    }
    free(entries);
}

static void write_at(const struct fixture *f, off_t at, const void *bytes, size_t len)
{
    char path[128];
    path_in(f, STORE_FILE, path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, bytes, len, at), (ssize_t)len);
    close(fd);
}

static void run_sql(const struct fixture *f, const char *sql)
{
    char path[128];
    sqlite3 *db;
    path_in(f, STORE_FILE, path);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

// The same in a process that ends without closing, so that the write-ahead log is left behind.
static void run_sql_and_die(const struct fixture *f, const char *sql)
{
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        char path[128];
        sqlite3 *db;
        path_in(f, STORE_FILE, path);
        bool done =
            sqlite3_open(path, &db) == SQLITE_OK && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
        _exit(done ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
}

static void fixture_filled(struct fixture *f)
{
    fixture_new(f);
    for (uint64_t i = 0; i < 20; i++) {
        add(f->store, i, 1, PRIORITY_LOW, 3, 2000);
    }
    store_close(f->store);
    f->store = NULL;
}

static void expect_refused(struct fixture *f, const char *phrase)
{
    struct buf before;
    struct buf after;
    struct fault fault = {0};
    buf_init(&before);
    buf_init(&after);
    snapshot(f, &before);
    cr_assert_eq(store_sqlite_open(f->dir, &f->store, &fault), ERR_STORAGE_REFUSED);
    cr_assert_null(f->store);
    cr_assert_eq(fault.err, ERR_STORAGE_REFUSED);
    cr_assert_not_null(strstr(fault.detail, phrase), "%s", fault.detail);
    cr_assert_not_null(strstr(fault.detail, f->dir), "%s", fault.detail);
    snapshot(f, &after);
    cr_assert(before.len == after.len && memcmp(before.data, after.data, before.len) == 0, "%s",
              fault.detail);
    buf_fini(&before);
    buf_fini(&after);
}

// ---- what is made ----

Test(store_open, files_are_not_for_everybody_and_only_one_is_left)
{
    struct fixture f;
    char path[128];
    struct stat st;
    umask(0);
    fixture_new(&f);
    add(f.store, 1, 1, PRIORITY_LOW, 3, 5);
    static const char *const names[] = {STORE_FILE, STORE_FILE "-wal"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_in(&f, names[i], path);
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_mode & 07777, 0640, "%s", names[i]);
    }
    store_close(f.store);
    f.store = NULL;
    cr_assert_eq(stat(path, &st), -1);
    path_in(&f, STORE_FILE, path);
    cr_assert_eq(unlink(path), 0);
    fixture_free(&f); // fails if anything but plain files is left
}

Test(store_open, a_start_that_was_cut_off_is_not_in_the_way)
{
    struct fixture f;
    char path[128];
    fixture_filled(&f);
    char fresh[128];
    path_in(&f, STORE_FILE, path);
    path_in(&f, STORE_FILE ".new", fresh);
    cr_assert_eq(rename(path, fresh), 0);
    fixture_open(&f);
    struct id id = id_number(1);
    struct ingestion_row row;
    cr_assert_eq(store_find(f.store, &id, &row), ERR_NOT_FOUND);
    fixture_free(&f);
}

Test(store_open, the_log_of_a_killed_process_is_taken_up)
{
    struct fixture f;
    fixture_new(&f);
    store_close(f.store);
    run_sql_and_die(&f, "UPDATE meta SET flags = 'from the log'");
    fixture_open(&f);
    struct meta meta;
    struct buf flags;
    buf_init(&flags);
    OK(store_load_meta(f.store, &meta, &flags));
    cr_assert_str_eq(flags.data, "from the log");
    buf_fini(&flags);
    fixture_free(&f);
}

// ---- what is refused ----

Test(store_open, files_of_others_are_refused)
{
    static const struct {
        char bytes[4096];
        size_t len;
    } cases[] = {{"", 0}, {"hello", 5}, {"hello", 4096}, {"SQLite format 3", 16}, {"SQLite format 3", 4096}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        char path[128];
        fixture_new(&f);
        store_close(f.store);
        path_in(&f, STORE_FILE, path);
        cr_assert_eq(truncate(path, 0), 0);
        write_at(&f, 0, cases[i].bytes, cases[i].len);
        expect_refused(&f, "is not a store of Sluice");
        fixture_free(&f);
    }
}

Test(store_open, databases_of_others_and_damaged_ones_are_refused)
{
    static const struct {
        const char *sql;
        bool in_log;
        const char *phrase;
    } cases[] = {
        {"PRAGMA application_id = 0", false, "is not a store of Sluice"},
        {"PRAGMA application_id = 0; PRAGMA journal_mode = DELETE; PRAGMA application_id = 7", false,
         "is not a store of Sluice"},
        {"PRAGMA user_version = 99", false, "newer Sluice (schema 99"},
        {"PRAGMA user_version = 99", true, "newer Sluice (schema 99"},
        {"DROP TABLE waiting", false, "is damaged"},
        {"DROP TABLE waiting", true, "is damaged"},
        {"PRAGMA journal_mode = DELETE; DROP TABLE waiting", false, "is damaged"},
        {"ALTER TABLE ingestion RENAME COLUMN waiting TO w", false, "is damaged"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        fixture_filled(&f);
        if (cases[i].in_log) {
            run_sql_and_die(&f, cases[i].sql);
        } else {
            run_sql(&f, cases[i].sql);
        }
        expect_refused(&f, cases[i].phrase);
        fixture_free(&f);
    }
}

Test(store_open, another_database_with_a_log_is_left_alone)
{
    struct fixture f;
    char path[128];
    fixture_filled(&f);
    path_in(&f, STORE_FILE, path);
    cr_assert_eq(unlink(path), 0);
    run_sql_and_die(&f, "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    expect_refused(&f, "is not a store of Sluice");
    cr_assert_eq(unlink(path), 0);
    expect_refused(&f, "is missing, but its log");
    fixture_free(&f);
}

Test(store_open, broken_files_are_refused)
{
    struct fixture f;
    char path[128];
    static const char garbage[3900];
    fixture_filled(&f);
    path_in(&f, STORE_FILE, path);
    cr_assert_eq(truncate(path, 8 * 4096), 0);
    expect_refused(&f, "is damaged");
    fixture_free(&f);

    fixture_filled(&f);
    write_at(&f, 100, garbage, sizeof garbage);
    expect_refused(&f, "is damaged");
    fixture_free(&f);
}

// The header says who may write: a version above 2 is for reading only.
Test(store_open, a_store_that_may_only_be_read_is_refused)
{
    for (uint8_t read_version = 1; read_version <= 2; read_version++) {
        struct fixture f;
        fixture_filled(&f);
        write_at(&f, 18, (uint8_t[]){3, read_version}, 2);
        expect_refused(&f, "can be read only");
        fixture_free(&f);
    }
}

Test(store_open, a_directory_that_is_none_is_refused)
{
    struct store *store;
    struct fault fault = {0};
    cr_assert_eq(store_sqlite_open("/nonexistent/sluice", &store, &fault), ERR_STORAGE_REFUSED);
    cr_assert_not_null(strstr(fault.detail, "/nonexistent/sluice: No such file"), "%s", fault.detail);
    cr_assert_eq(store_sqlite_open("/nonexistent/sluice", &store, NULL), ERR_STORAGE_REFUSED);
    store_close(NULL);
}

Test(store_open, a_store_in_use_is_refused)
{
    struct fixture f;
    int ready[2];
    int done[2];
    char byte = 0;
    fixture_filled(&f);
    cr_assert_eq(pipe(ready), 0);
    cr_assert_eq(pipe(done), 0);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        close(done[1]);
        struct store *store;
        bool open = store_sqlite_open(f.dir, &store, NULL) == ERR_OK;
        bool told = write(ready[1], "", 1) == 1;
        bool over = read(done[0], &byte, 1) == 0;
        store_close(store);
        _exit(open && told && over ? 0 : 1);
    }
    close(done[0]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    expect_refused(&f, "is in use by another process");
    close(done[1]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    fixture_open(&f);
    close(ready[0]);
    close(ready[1]);
    fixture_free(&f);
}

// ---- older schemas ----

Test(store_open, steps_lead_from_any_older_schema)
{
    static const char *const steps[] = {
        "CREATE TABLE t (a); INSERT INTO t VALUES (1)",
        "ALTER TABLE t ADD COLUMN b",
        "UPDATE t SET b = a + 1; INSERT INTO t VALUES (5, 6)",
    };
    for (int from = 0; from <= 3; from++) {
        sqlite3 *db;
        cr_assert_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
        cr_assert_eq(store_schema_migrate(db, steps, 0, from), SQLITE_OK);
        cr_assert_eq(sql_integer(db, "PRAGMA user_version"), from);
        cr_assert_eq(store_schema_migrate(db, steps, from, 3), SQLITE_OK);
        cr_assert_eq(sql_integer(db, "PRAGMA user_version"), 3);
        cr_assert_eq(sql_integer(db, "SELECT sum(a) * 100 + sum(b) FROM t"), 608);
        sqlite3_close(db);
    }
}

Test(store_open, a_step_that_fails_changes_nothing)
{
    static const char *const steps[] = {
        "CREATE TABLE t (a)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2); INSERT INTO nowhere VALUES (1)",
    };
    sqlite3 *db;
    cr_assert_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    cr_assert_eq(store_schema_migrate(db, steps, 0, 1), SQLITE_OK);
    cr_assert_eq(store_schema_migrate(db, steps, 1, 3), SQLITE_ERROR);
    cr_assert_eq(sql_integer(db, "PRAGMA user_version"), 1);
    cr_assert_eq(sql_integer(db, "SELECT count(*) FROM t"), 0);
    cr_assert_eq(sqlite3_get_autocommit(db), 1);
    sqlite3_close(db);
}

Test(store_open, an_older_store_is_brought_up_to_date)
{
    struct fixture f;
    char path[128];
    char mark[64];
    fixture_new(&f);
    store_close(f.store);
    path_in(&f, STORE_FILE, path);
    cr_assert_eq(unlink(path), 0);
    (void)snprintf(mark, sizeof mark, "PRAGMA application_id = %d", STORE_APPLICATION_ID);
    run_sql(&f, mark); // schema 0: nothing in it yet
    fixture_open(&f);
    add(f.store, 1, 1, PRIORITY_LOW, 3, 5);
    cr_assert_eq(sql_integer(f.store->db, "PRAGMA user_version"), store_schema_version);
    fixture_reopen(&f);
    struct id id = id_number(1);
    struct ingestion_row row;
    OK(store_find(f.store, &id, &row));
    fixture_free(&f);
}
