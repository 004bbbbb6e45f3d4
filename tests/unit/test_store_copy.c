// A copy of the store that is made while the store is written.
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

struct copying {
    struct fixture from;
    char path[128];
    char part[160];
    struct store_copy *copy;
    struct fault fault;
};

static void copying_new(struct copying *c)
{
    *c = (struct copying){.copy = NULL};
    fixture_new(&c->from);
    (void)snprintf(c->path, sizeof(c->path), "%s/copy", c->from.dir);
    (void)snprintf(c->part, sizeof(c->part), "%s.part", c->path);
}

static enum err copying_begin(struct copying *c)
{
    return store_copy_begin(c->from.store, c->path, &c->copy, &c->fault);
}

// In one transaction.
static void add_many(struct store *store, uint64_t first, uint64_t count)
{
    OK(store_begin(store));
    for (uint64_t id = first; id < first + count; id++) {
        struct ingest_request request = request_make(id, (enum priority)(id % PRIORITIES), 1, 20);
        struct insert insert = insert_make(&request, 1, 3);
        OK(store_insert(store, &insert, 1));
        request_drop(&request);
    }
    OK(store_commit(store));
}

static size_t count_all(struct store *store, struct ingestion_row *rows, size_t size)
{
    struct list_request any = {0};
    int64_t next = INT64_MAX;
    size_t total = 0;
    do {
        size_t count = size - total;
        OK(store_list(store, &any, NULL, next, rows + total, &count, &next));
        total += count;
    } while (next != 0);
    return total;
}

// All that the status table says of both is the same.
static void expect_same(struct store *a, struct store *b)
{
    enum { MOST = 2000 };
    static struct ingestion_row left[MOST], right[MOST];
    size_t count = count_all(a, left, MOST);
    cr_assert_eq(count_all(b, right, MOST), count);
    for (size_t i = 0; i < count; i++) {
        cr_assert(id_equal(&left[i].id, &right[i].id) && left[i].seq == right[i].seq);
        cr_assert_eq(memcmp(left[i].progress, right[i].progress, sizeof(left[i].progress)), 0);
        struct buf texts[2];
        struct store *stores[] = {a, b};
        for (size_t k = 0; k < 2; k++) {
            buf_init(&texts[k]);
            OK(store_read_ids(stores[k], &left[i], 0, left[i].ids, &texts[k]));
        }
        cr_assert_str_eq(texts[0].data, texts[1].data);
        buf_fini(&texts[0]);
        buf_fini(&texts[1]);
    }
}

static void expect_intact(struct store *store)
{
    sqlite3_stmt *check;
    cr_assert_eq(sqlite3_prepare_v2(store->db, "PRAGMA integrity_check", -1, &check, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(check), SQLITE_ROW);
    cr_assert_str_eq((const char *)sqlite3_column_text(check, 0), "ok");
    cr_assert_eq(sqlite3_finalize(check), SQLITE_OK);
}

// A transaction that does not happen.
static void take_back(struct store *store)
{
    struct ingest_request request = request_make(5000, PRIORITY_HIGH, 1, 5000);
    struct insert insert = insert_make(&request, 1, 3);
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    store_rollback(store);
    request_drop(&request);
}

// Between any two steps something is written, in pages that were copied and in others, and some of it is
// taken back.
Test(store_copy, it_is_the_store_of_the_moment_when_it_is_complete)
{
    struct copying c;
    struct store_copied copied = {0};
    copying_new(&c);
    add_many(c.from.store, 1, 600);
    OK(copying_begin(&c));
    uint64_t next = 1000;
    for (int64_t seq = 1; !copied.done; seq++) {
        cr_assert_neq(access(c.path, F_OK), 0);
        OK(store_copy_step(c.copy, 2, &copied, &c.fault));
        if (copied.done) {
            break;
        }
        add_many(c.from.store, next++, 1);
        struct ingestion_row row = find(c.from.store, (uint64_t)seq);
        dispatch(c.from.store, key_make(1, row.priority, row.seq, 0));
        if (seq == 5) {
            take_back(c.from.store); // which makes it begin anew
        }
    }
    cr_assert_gt(next, 1010, "it was over before much was written");
    store_copy_end(c.copy);
    cr_assert_neq(access(c.part, F_OK), 0);

    struct fixture to = {.store = NULL};
    char name[128];
    (void)snprintf(to.dir, sizeof(to.dir), "/tmp/sluice-store-XXXXXX");
    cr_assert_not_null(mkdtemp(to.dir));
    (void)snprintf(name, sizeof(name), "%s/%s", to.dir, STORE_FILE);
    cr_assert_eq(rename(c.path, name), 0);
    fixture_open(&to);
    expect_intact(to.store);
    expect_sound(to.store);
    expect_same(c.from.store, to.store);
    add_many(to.store, 9000, 10);
    fixture_free(&to);
    fixture_free(&c.from);
}

Test(store_copy, what_is_there_is_left_alone)
{
    struct copying c;
    copying_new(&c);
    const char *const names[] = {c.path, c.part};
    for (size_t i = 0; i < 2; i++) {
        int fd = open(names[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        cr_assert(fd >= 0 && close(fd) == 0);
        cr_assert_eq(copying_begin(&c), ERR_STORAGE_UNAVAILABLE);
        cr_assert(strstr(c.fault.detail, strerror(EEXIST)), "%s", c.fault.detail);
        cr_assert_null(c.copy);
        cr_assert_eq(unlink(names[i]), 0);
    }
    fixture_free(&c.from);
}

Test(store_copy, a_name_that_is_taken_meanwhile)
{
    struct copying c;
    struct store_copied copied = {0};
    copying_new(&c);
    OK(copying_begin(&c));
    int fd = open(c.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && close(fd) == 0);
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        cr_assert_not(copied.done);
        err = store_copy_step(c.copy, 10, &copied, &c.fault);
    }
    cr_assert_eq(err, ERR_STORAGE_UNAVAILABLE);
    cr_assert(strstr(c.fault.detail, strerror(EEXIST)), "%s", c.fault.detail);
    store_copy_end(c.copy);
    cr_assert_neq(access(c.part, F_OK), 0);
    fixture_free(&c.from);
}

Test(store_copy, one_that_is_given_up)
{
    struct copying c;
    struct store_copied copied;
    copying_new(&c);
    add_many(c.from.store, 1, 100);
    OK(copying_begin(&c));
    OK(store_copy_step(c.copy, 5, &copied, &c.fault));
    cr_assert(!copied.done && copied.left > 0 && copied.pages > copied.left);
    store_copy_end(c.copy);
    cr_assert_neq(access(c.part, F_OK), 0);
    cr_assert_neq(access(c.path, F_OK), 0);
    add_many(c.from.store, 200, 10);
    fixture_free(&c.from);
}

// Where the copy cannot be written any more the store goes on.
Test(store_copy, a_full_disk)
{
    struct copying c;
    struct store_copied copied = {0};
    copying_new(&c);
    add_many(c.from.store, 1, 1500); // more than what SQLite keeps in memory of the copy
    OK(copying_begin(&c));
    struct rlimit limit = {.rlim_cur = 256 << 10, .rlim_max = RLIM_INFINITY};
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        cr_assert_not(copied.done);
        err = store_copy_step(c.copy, 10, &copied, &c.fault);
    }
    cr_assert_eq(err, ERR_STORAGE_UNAVAILABLE);
    store_copy_end(c.copy);
    limit.rlim_cur = RLIM_INFINITY;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_neq(access(c.part, F_OK), 0);
    add_many(c.from.store, 4000, 10);
    fixture_free(&c.from);
}
