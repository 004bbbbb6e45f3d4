// The store when something goes wrong: killed, out of power, the disk full or failing, no memory. What was
// acknowledged is there afterwards, what was not is not, and everything agrees.
#include "tests/unit/fault_vfs.h"
#include "tests/unit/store_life.h"

#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static uint64_t count_true(const bool *flags, uint64_t count)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < count; i++) {
        n += flags[i];
    }
    return n;
}

// ---- killed ----

// Runs turns and says so after each; then stands in the middle of a large one until it is killed.
static void be_killed(const struct fixture *f, int say)
{
    struct store *store;
    if (store_sqlite_open(f->dir, &store, NULL) != ERR_OK) {
        _exit(1);
    }
    for (uint64_t i = 0; i < STEPS; i++) {
        if (turn(store, i, 9) != ERR_OK || write(say, "", 1) != 1) {
            _exit(1);
        }
    }
    struct ingest_request request = request_make(STEPS, PRIORITY_MEDIUM, 1000, IDS_MAX);
    struct insert insert = insert_make(&request, 1, 1);
    enum err err = store_begin(store);
    for (uint64_t i = 0; i < 40 && err == ERR_OK; i++) { // more than the page cache holds
        request.id = id_number(STEPS + i);
        err = store_insert(store, &insert, 1);
    }
    if (err != ERR_OK || write(say, "", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

Test(store_faults, killed_in_a_transaction)
{
    struct fixture f;
    int said[2];
    fixture_new(&f);
    store_close(f.store);
    cr_assert_eq(pipe(said), 0);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        close(said[0]);
        be_killed(&f, said[1]);
    }
    close(said[1]);
    char byte;
    for (int i = 0; i < STEPS + 1; i++) {
        cr_assert_eq(read(said[0], &byte, 1), 1);
    }
    cr_assert_eq(kill(child, SIGKILL), 0);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status));
    close(said[0]);

    fixture_open(&f);
    bool acknowledged[STEPS + 40] = {false};
    memset(acknowledged, true, STEPS);
    cr_assert_eq(check_all(f.store, acknowledged, STEPS + 40, 9), STEPS);
    OK(turn(f.store, STEPS, 9));
    fixture_free(&f);
}

// ---- out of power ----

// Runs turns until the power goes off in the n-th sync.
static void lose_power(const struct fixture *f, int nth, int say)
{
    struct fault_vfs *vfs = malloc(sizeof *vfs);
    struct store *store;
    fault_vfs_install(vfs);
    vfs->keep_copies = true;
    vfs->until[FAULT_SYNC] = nth;
    if (store_sqlite_open(f->dir, &store, NULL) != ERR_OK) {
        _exit(1);
    }
    for (uint64_t i = 0; i < STEPS; i++) {
        if (turn(store, i, 9) != ERR_OK || write(say, "", 1) != 1 || tend(store, i) != ERR_OK) {
            _exit(1);
        }
    }
    _exit(2);
}

// What a disk that lost everything since the last syncs would hold.
static void restore_kept(const struct fixture *f)
{
    static const char *const names[] = {STORE_FILE, STORE_FILE "-wal"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        char kept[128];
        (void)snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        (void)snprintf(kept, sizeof kept, "%s/%s.kept", f->dir, names[i]);
        cr_assert(rename(kept, path) == 0 || truncate(path, 0) == 0);
    }
}

Test(store_faults, power_lost_at_each_sync)
{
    bool over = false;
    for (int nth = 1; !over; nth++) {
        struct fixture f;
        char path[128];
        char kept[128];
        int said[2];
        fixture_new(&f);
        store_close(f.store);
        (void)snprintf(path, sizeof path, "%s/%s", f.dir, STORE_FILE);
        (void)snprintf(kept, sizeof kept, "%s/%s.kept", f.dir, STORE_FILE);
        cr_assert(fault_copy(path, kept));
        cr_assert_eq(pipe(said), 0);
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            lose_power(&f, nth, said[1]);
        }
        close(said[1]);
        bool acknowledged[STEPS] = {false};
        char byte;
        for (uint64_t i = 0; read(said[0], &byte, 1) == 1; i++) {
            acknowledged[i] = true;
        }
        close(said[0]);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) != 1);
        over = WEXITSTATUS(status) == 2;
        cr_assert(!over || nth > STEPS);

        restore_kept(&f);
        fixture_open(&f);
        cr_assert_eq(check_all(f.store, acknowledged, STEPS, 9), count_true(acknowledged, STEPS));
        OK(turn(f.store, STEPS, 9));
        fixture_free(&f);
    }
}

// ---- the disk fails ----

// Lets the n-th write or sync of a life fail once. False when the life has no n-th any more.
static bool fail_nth(enum fault_call call, int nth, int error, enum err want)
{
    struct fault_vfs vfs;
    struct fixture f;
    fixture_new(&f);
    store_close(f.store);
    fault_vfs_install(&vfs);
    vfs.error = error;
    fixture_open(&f);
    vfs.until[call] = nth;
    bool acknowledged[STEPS + 1] = {false};
    enum err err = ERR_OK;
    for (uint64_t i = 0; i < STEPS && err == ERR_OK; i++) {
        err = turn(f.store, i, 9);
        acknowledged[i] = err == ERR_OK;
        if (err == ERR_OK) {
            err = tend(f.store, i);
        }
    }
    bool hit = vfs.until[call] == 0;
    vfs.until[call] = 0;
    bool in_commit = call == FAULT_SYNC && err == ERR_OUTCOME_UNKNOWN; // and not in a checkpoint
    cr_assert(err == (hit ? want : ERR_OK) || (hit && in_commit), "call %d number %d: %s", (int)call, nth,
              err_code(err));
    uint64_t present = count_true(acknowledged, STEPS);
    cr_assert_eq(check_all(f.store, acknowledged, STEPS, 9), present); // reading goes on
    if (want == ERR_STORAGE_FULL) { // and so does writing when there is room again
        OK(turn(f.store, STEPS, 9));
        acknowledged[STEPS] = true;
        present++;
        cr_assert_eq(check_all(f.store, acknowledged, STEPS + 1, 9), present);
    }
    fixture_reopen(&f);
    cr_assert_eq(check_all(f.store, acknowledged, STEPS + 1, 9), present);
    store_close(f.store);
    f.store = NULL;
    sqlite3_vfs_unregister(&vfs.vfs);
    fixture_free(&f);
    return hit;
}

Test(store_faults, each_write_and_sync_fails_once)
{
    static const struct {
        enum fault_call call;
        int error;
        enum err want;
    } cases[] = {
        {FAULT_SYNC, SQLITE_IOERR_FSYNC, ERR_STORAGE_IO},
        {FAULT_WRITE, SQLITE_IOERR_WRITE, ERR_STORAGE_IO},
        {FAULT_WRITE, SQLITE_FULL, ERR_STORAGE_FULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int nth = 1;
        while (fail_nth(cases[i].call, nth, cases[i].error, cases[i].want)) {
            nth += nth < 40 ? 1 : 11;
        }
        cr_assert_gt(nth, STEPS);
    }
}

// ---- the disk is full ----

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// No file may grow past a limit. The sizes end in the log's first pages, in the middle of it, and between
// pages.
Test(store_faults, full_then_room_again)
{
    static const rlim_t limits[] = {1, 4096 * 30, 4096 * 30 + 100, 1 << 20, 6 << 20};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    cr_assert_eq(sigaction(SIGXFSZ, &ignore, NULL), 0);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct fixture f;
        bool acknowledged[200] = {false};
        fixture_new(&f);
        limit_files(limits[i]);
        uint64_t n = 0;
        for (;; n++) {
            enum err err = turn(f.store, n, 9999);
            if (err != ERR_OK) {
                cr_assert_eq(err, ERR_STORAGE_FULL, "%s", err_code(err));
                break;
            }
            acknowledged[n] = true;
        }
        cr_assert_eq(turn(f.store, n, 9999), ERR_STORAGE_FULL);
        cr_assert_eq(check_all(f.store, acknowledged, n + 1, 9999), n);
        limit_files(RLIM_INFINITY);
        OK(turn(f.store, n, 9999));
        acknowledged[n] = true;
        cr_assert_eq(check_all(f.store, acknowledged, n + 1, 9999), n + 1);
        fixture_reopen(&f);
        cr_assert_eq(check_all(f.store, acknowledged, n + 1, 9999), n + 1);
        fixture_free(&f);
    }
}

// An ingestion comes and is called off.
static enum err come_and_end(struct store *store, uint64_t id)
{
    struct id key = id_number(id);
    struct removal removal;
    enum err err = store_begin(store);
    if (err == ERR_OK) {
        err = deliver(store, id, 9999);
    }
    if (err == ERR_OK) {
        err = store_cancel(store, &key, NOW, 1, &removal);
    }
    return err == ERR_OK ? store_commit(store) : err;
}

static enum err go(struct store *store, uint64_t id)
{
    struct removed removed;
    enum err err = store_begin_lazy(store);
    (void)id;
    if (err == ERR_OK) {
        err = store_remove_old(store, 1, 1000, &removed);
    }
    return err == ERR_OK ? store_commit(store) : err;
}

// Where nothing may grow any more it goes on in the room of what is removed: the log begins anew when it is
// full, and the database has free pages.
Test(store_faults, full_and_going_on_with_what_there_is)
{
    static enum err (*const halves[])(struct store * store, uint64_t id) = {come_and_end, go};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct fixture f;
    size_t full = 0;
    enum { CYCLES = 300 };
    cr_assert_eq(sigaction(SIGXFSZ, &ignore, NULL), 0);
    fixture_new(&f);
    limit_files(1 << 20);
    for (uint64_t i = 0; i < 2 * CYCLES; i++) {
        enum err err = halves[i % 2](f.store, i / 2);
        store_rollback(f.store);
        if (err == ERR_STORAGE_FULL) {
            full++;
            OK(store_tend(f.store));
            err = halves[i % 2](f.store, i / 2);
        }
        cr_assert_eq(err, ERR_OK, "cycle %llu: %s", (unsigned long long)i / 2, err_code(err));
    }
    cr_assert_gt(full, 10);
    limit_files(RLIM_INFINITY);
    expect_sound(f.store);
    fixture_free(&f);
}

// ---- no memory ----

// SQLite's allocator, of which one call fails.
struct thin_memory {
    sqlite3_mem_methods real;
    int until;
};
static struct thin_memory thin; // SQLite hands its allocator no argument

static bool thin_hits(void)
{
    if (thin.until > 0) {
        thin.until--;
        return thin.until == 0;
    }
    return false;
}

static void *thin_malloc(int size)
{
    return thin_hits() ? NULL : thin.real.xMalloc(size);
}

static void *thin_realloc(void *old, int size)
{
    return thin_hits() ? NULL : thin.real.xRealloc(old, size);
}

// False when the life needs no n-th allocation any more.
static bool starve_nth(int nth)
{
    struct fixture f;
    struct fault fault = {0};
    fixture_new(&f);
    store_close(f.store);
    f.store = NULL;
    bool acknowledged[STEPS] = {false};
    thin.until = nth;
    enum err err = store_sqlite_open(f.dir, &f.store, &fault);
    for (uint64_t i = 0; i < STEPS && err == ERR_OK; i++) {
        err = turn(f.store, i, 9);
        acknowledged[i] = err == ERR_OK;
        if (err == ERR_OK) {
            err = tend(f.store, i);
        }
    }
    bool more = thin.until == 0;
    thin.until = 0;
    cr_assert(err == ERR_OK || (more && err == ERR_NO_MEMORY), "allocation %d: %s %s", nth, err_code(err),
              fault.detail);
    if (f.store == NULL) {
        fixture_open(&f);
    }
    cr_assert_eq(check_all(f.store, acknowledged, STEPS, 9), count_true(acknowledged, STEPS));
    fixture_free(&f);
    return more;
}

Test(store_faults, each_allocation_fails_once)
{
    cr_assert_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &thin.real), SQLITE_OK);
    sqlite3_mem_methods methods = thin.real;
    methods.xMalloc = thin_malloc;
    methods.xRealloc = thin_realloc;
    cr_assert_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
    int nth = 1;
    while (starve_nth(nth)) {
        nth += nth < 60 ? 1 : 37;
    }
    cr_assert_gt(nth, 500);
}
