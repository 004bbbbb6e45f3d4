// The check of a store: a healthy one has nothing wrong, and each thing that may be wrong is found by itself.
#include "scheduler/rate.h"
#include "scheduler/verify.h"
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <sys/file.h>

// ---- a healthy store ----

#define MS(n) ((int64_t)(n)*NS_PER_MS)

// Queue 1 does one dispatch each 10 ms and two at a time; queue 2 has no limit, and takes strings.
struct scene {
    struct fixture f;
    struct queue_row queues[2];
    int64_t now_ns;
};

static void save_figures(struct scene *s)
{
    for (size_t q = 0; q < 2; q++) {
        OK(store_save_figures(s->f.store, &s->queues[q].id, &s->queues[q].figures, 1));
    }
}

// A turn that dispatches one batch, and leaves it in flight.
static void go(struct scene *s, int64_t queue, enum priority priority, int64_t seq, uint32_t index)
{
    struct dispatch_row row = {
        .key = key_make(queue, priority, seq, index), .now = NOW, .at = {s->now_ns}, .lease_until = {1}};
    OK(store_begin(s->f.store));
    OK(store_dispatch(s->f.store, &row, 1));
    s->queues[queue - 1].figures.dispatched++;
    save_figures(s);
    OK(store_commit(s->f.store));
    free(row.ids);
    s->now_ns += MS(10);
}

static void end(struct scene *s, int64_t queue, enum priority priority, int64_t seq, uint32_t index,
                enum batch_state state)
{
    struct finish_row row = {.key = key_make(queue, priority, seq, index),
                             .state = state,
                             .now = {NOW.ms + 1},
                             .age_ns = AGE,
                             .due = {s->now_ns + MS(1)}};
    OK(store_begin(s->f.store));
    OK(store_finish(s->f.store, &row, 1));
    s->queues[queue - 1].figures.delayed += state == BATCH_BACKOFF;
    save_figures(s);
    OK(store_commit(s->f.store));
}

static void deliver(struct scene *s, int64_t queue, enum priority priority, int64_t seq, uint32_t index,
                    enum batch_state state)
{
    go(s, queue, priority, seq, index);
    end(s, queue, priority, seq, index, state);
}

static void take_one(struct scene *s, int64_t queue, enum due_kind kind, int64_t batches)
{
    struct returned_row row;
    size_t count = 1;
    (void)take_due(s->f.store, queue, kind, s->now_ns + MS(2), &row, &count);
    cr_assert_eq(count, 1);
    s->queues[queue - 1].figures.delayed -= (uint64_t)batches;
    s->now_ns += MS(2);
}

static void change(struct scene *s, enum change_kind kind, int64_t queue)
{
    OK(store_begin(s->f.store));
    OK(store_note_change(s->f.store, queue, kind, (struct mono){s->now_ns}));
    if (kind == CHANGE_SETTINGS) {
        OK(store_save_queue(s->f.store, &s->queues[queue - 1]));
    }
    save_figures(s);
    OK(store_commit(s->f.store));
}

static void make_queues(struct scene *s)
{
    struct queue_settings settings = {.rate = {1, MS(10)},
                                      .burst = 1,
                                      .concurrency = 2,
                                      .batch_size = 2,
                                      .largest_batch = 2,
                                      .max_id = ID_VALUE_MAX};
    s->queues[0] = (struct queue_row){.name = "default", .settings = settings};
    settings.rate = (struct rate){0, 0};
    settings.ids = IDS_STRING;
    s->queues[1] = (struct queue_row){.name = "free", .settings = settings};
    OK(store_begin(s->f.store));
    OK(store_save_queue(s->f.store, &s->queues[0]));
    OK(store_save_queue(s->f.store, &s->queues[1]));
    OK(store_commit(s->f.store));
}

// The entries of the history, with what is behind them. Ingestions are numbered as they come.
static void live(struct scene *s)
{
    struct retried_row retried;
    bool more;
    struct store *store = s->f.store;
    cr_assert_eq(add(store, 1, 1, PRIORITY_LOW, 2, 9), 1);             // five batches
    cr_assert_eq(add(store, 2, 1, PRIORITY_HIGH, 2, 4), 2);            // two
    deliver(s, 1, PRIORITY_HIGH, 2, 0, BATCH_COMPLETED);               // entry 1
    deliver(s, 1, PRIORITY_HIGH, 2, 1, BATCH_BACKOFF);                 // 2
    deliver(s, 1, PRIORITY_LOW, 1, 0, BATCH_COMPLETED);                // 3
    take_one(s, 1, DUE_RETRY, 1);                                      // since 3
    deliver(s, 1, PRIORITY_HIGH, 2, 1, BATCH_FAILED);                  // 4
    deliver(s, 1, PRIORITY_LOW, 1, 1, BATCH_COMPLETED);                // 5
    ask_retry(store, 1, 2, 2);                                         // by hand
    cr_assert_eq(run_retries(store, &retried, 1, &more), 1);           // since 5
    deliver(s, 1, PRIORITY_HIGH, 2, 1, BATCH_COMPLETED);               // 6
    go(s, 1, PRIORITY_LOW, 1, 2);                                      // 7: in flight to the end
    cr_assert_eq(add_timed(store, 3, 2, PRIORITY_MEDIUM, 3, 1, 0), 3); // not before
    s->queues[1].figures.delayed += 3;
    s->now_ns += MS(2);
    take_one(s, 2, DUE_START, 3);                          // since 7
    deliver(s, 2, PRIORITY_MEDIUM, 3, 0, BATCH_COMPLETED); // 8
    deliver(s, 2, PRIORITY_MEDIUM, 3, 1, BATCH_COMPLETED); // 9
    s->queues[0].settings.rate.per_ns = MS(20);            // from 10 on, and empty
    change(s, CHANGE_SETTINGS, 1);
    s->now_ns += MS(20);
    deliver(s, 1, PRIORITY_LOW, 1, 3, BATCH_COMPLETED); // 11
    change(s, CHANGE_SETTINGS, 2);
    s->queues[1].figures.paused = true; // from 12 on
    s->now_ns += MS(5);
    change(s, CHANGE_SETTINGS, 2);
    s->queues[1].figures.paused = false; // from 13 on
    s->now_ns = MS(7);                   // of another boot
    change(s, CHANGE_BOOT, 1);           // 14
    change(s, CHANGE_BOOT, 2);           // 15
    s->now_ns += MS(20);
    deliver(s, 1, PRIORITY_LOW, 1, 4, BATCH_BACKOFF);         // 16
    cr_assert_eq(add(store, 4, 1, PRIORITY_LOW, 2, 5000), 4); // IDs in chunks
    cr_assert_eq(add_timed(store, 5, 2, PRIORITY_LOW, 2, 100, 1000), 5);
    s->queues[1].figures.delayed += 2;
    cr_assert_eq(add_timed(store, 6, 2, PRIORITY_LOW, 2, 0, 1000), 6);
    cr_assert_eq(add(store, 7, 1, PRIORITY_LOW, 1, 4), 7);
    (void)cancel(store, 7, NOW.ms, ERR_OK);
    OK(store_begin(store));
    save_figures(s);
    OK(store_commit(store));
}

static void scene_new(struct scene *s)
{
    *s = (struct scene){.now_ns = MS(1000)};
    fixture_new(&s->f);
    make_queues(s);
    live(s);
    expect_sound(s->f.store);
    store_close(s->f.store);
    s->f.store = NULL;
}

// ---- checking it ----

struct said {
    struct verify_result result;
    struct buf text;
};

static void say(void *user, const char *line)
{
    buf_str(user, line);
    buf_char(user, '\n');
}

static struct said check(const struct fixture *f)
{
    struct said said;
    struct fault fault = {.detail = ""};
    buf_init(&said.text);
    enum err err = verify_directory(f->dir, say, &said.text, &said.result, &fault);
    cr_assert_eq(err, ERR_OK, "%s: %s", err_name(err), fault.detail);
    buf_char(&said.text, '\0'); // where nothing was said there is a text, too
    return said;
}

static void expect_nothing_wrong(const struct fixture *f, uint64_t dispatches)
{
    struct said said = check(f);
    cr_assert_eq(said.result.violations, 0, "%s", said.text.data);
    cr_assert_eq(said.result.dispatches, dispatches);
    buf_fini(&said.text);
}

static void run_sql(const struct fixture *f, const char *sql)
{
    char path[128];
    sqlite3 *db;
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, STORE_FILE);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "PRAGMA synchronous = OFF", NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    cr_assert_gt(sqlite3_total_changes(db), 0, "%s", sql);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

static struct buf read_file(const struct fixture *f)
{
    char path[128];
    char bytes[4096];
    struct buf all;
    buf_init(&all);
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, STORE_FILE);
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, file)) > 0;) {
        buf_put(&all, bytes, n);
    }
    fclose(file);
    cr_assert_eq(buf_err(&all), ERR_OK);
    return all;
}

static void write_file(const struct fixture *f, const struct buf *bytes)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, STORE_FILE);
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
    cr_assert_eq(fclose(file), 0);
}

Test(verify, a_healthy_store_has_nothing_wrong)
{
    struct scene s;
    scene_new(&s);
    struct said said = check(&s.f);
    cr_assert_eq(said.result.violations, 0, "%s", said.text.data);
    cr_assert_eq(said.result.ingestions, 7);
    cr_assert_eq(said.result.batches, 5 + 2 + 3 + 2500 + 2 + 2 + 4);
    cr_assert_eq(said.result.dispatches, 11);
    buf_fini(&said.text);
    fixture_free(&s.f);
}

// ---- one thing wrong ----

struct damage {
    const char *sql;
    const char *line; // stands in a line of its own
};

static const struct damage damages[] = {
    // rows against rows
    {"DELETE FROM batch WHERE seq = 1 AND idx = 1",
     "progress: queue 1 (default) ingestion 1 (00000000-0000-0000-"
     "0000-000000000001): completed: 3 are counted, 2 found"},
    {"UPDATE ingestion SET completed = completed + 1 WHERE seq = 3", "completed: 3 are counted, 2 found"},
    {"UPDATE ingestion SET waiting = waiting + 1 WHERE seq = 4", "waiting: 2501 are counted, 2500 found"},
    {"UPDATE waiting_count SET n = n - 1 WHERE queue = 1 AND level = 2", "counts: queue 1 (default)"},
    {"INSERT INTO waiting_count VALUES (2, 0, 1, 77, 5)", "in which nothing waits: 5 are counted, 0 found"},
    {"INSERT INTO waiting VALUES (1, 2, 1, 1, 0)", "rows: queue 1 (default) ingestion 1"},
    {"UPDATE ingestion SET batch_count = batch_count + 1 WHERE seq = 1", "6 batches of 9 IDs, 2 to a batch"},
    {"UPDATE ingestion SET finished_ns = 5 WHERE seq = 1", "it is marked as finished, and has not"},
    {"UPDATE ingestion SET finished_ns = NULL WHERE seq = 2", "it has finished, and is not marked so"},
    {"UPDATE ingestion SET marks = 0 WHERE seq = 7", "was neither cancelled nor has it expired"},
    {"UPDATE ingestion SET next_idx = 0 WHERE seq = 3", "are said to have never started"},
    {"DELETE FROM scheduled", "it waits for its not_before and is not in the index"},
    {"INSERT INTO scheduled VALUES (1, 5, 4)", "the index by not_before names"},
    {"UPDATE deadline SET due_ms = due_ms + 1 WHERE seq = 6", "its deadline is not in the index"},
    {"INSERT INTO deadline VALUES (1, 5, 4)", "the index by deadline names"},
    {"UPDATE ingestion SET queue = 9 WHERE seq = 7", "its queue is neither there nor was it deleted"},
    {"INSERT INTO deleted_queue VALUES (9, 'old'); UPDATE ingestion SET queue = 9 WHERE seq = 4",
     "something of a deleted queue is not finished"},
    {"UPDATE queue SET delayed = delayed + 1 WHERE id = 1",
     "batches that are not due: 2 are counted, 1 found"},
    {"INSERT INTO gone VALUES (1, 5, 0)", "it is removed, and still there"},
    {"DELETE FROM ingestion WHERE seq = 2", "there is no ingestion of this batch"},
    {"DELETE FROM ingestion WHERE seq = 4", "there is no ingestion of these IDs"},
    {"UPDATE ingestion SET id = x'' WHERE seq = 4", "what the newest ingestion left says"},
    {"UPDATE ingestion SET owner = '' WHERE seq = 4", "its owner has no name"},
    {"UPDATE ingestion SET owner = hex(zeroblob(33)) WHERE seq = 4", "its owner has no name"},
    {"INSERT INTO retry VALUES (1, 9, 1, 0, 5)", "of a queue that is not there"},
    // states
    {"UPDATE batch SET completed_ms = 0 WHERE seq = 2 AND idx = 0", "it has ended, and has no time of that"},
    {"UPDATE batch SET completed_ms = 7 WHERE seq = 1 AND idx = 2",
     "has a time of its end, and has not ended"},
    {"UPDATE batch SET triggered_ms = 0 WHERE seq = 2 AND idx = 0",
     "was dispatched, and has no time of that"},
    {"UPDATE batch SET excused = 2 WHERE seq = 2 AND idx = 0", "more attempts are excused than there were"},
    {"UPDATE batch SET due_ns = NULL WHERE state = 2", "its due time does not fit"},
    {"UPDATE batch SET state = 6 WHERE seq = 2 AND idx = 0", "there is no such state"},
    {"UPDATE batch SET lease = zeroblob(16), due_ns = 5 WHERE seq = 2 AND idx = 0",
     "leased, and not in flight"},
    {"UPDATE batch SET idx = 5 WHERE seq = 1 AND idx = 4", "its ingestion has 5"},
    {"UPDATE batch SET queue = 2 WHERE state = 2", "it is said to be of queue 2"},
    // IDs
    {"UPDATE ingestion SET ids = '1,2,3,4,5,6,7,8' WHERE seq = 1", "it has 9 IDs, and 8 are there"},
    {"UPDATE ingestion SET ids = '1,2,3,4,5,6,7,8,09' WHERE seq = 1", "is no list of IDs"},
    {"UPDATE ingestion SET ids = '\"a\",\"b,\\\"c' WHERE seq = 3", "is no list of IDs"},
    {"DELETE FROM ids WHERE seq = 4 AND chunk = 1", "chunk 2 of its IDs follows on 1 others"},
    {"UPDATE ids SET text = '1,2' WHERE seq = 4 AND chunk = 2", "holds fewer than it should"},
    {"DELETE FROM ids WHERE seq = 4 AND chunk = 4", "it has 5000 IDs, and 4096 are there"},
    {"UPDATE ingestion SET ids = '1' WHERE seq = 4", "its IDs are there twice"},
    // the history by itself
    {"DELETE FROM history WHERE id = 5", "history: entries 5 to 5 are missing"},
    {"UPDATE history SET at_ns = at_ns - 30000000 WHERE id = 9", "entry 9 is earlier than the one before it"},
    {"UPDATE history SET queue = 2 WHERE id = 5", "was of another queue or priority"},
    {"DELETE FROM change WHERE id = 10", "at entry 10 something changed, and nothing says what"},
    {"DELETE FROM history WHERE id = 13", "a change says what was in force, and its mark is not there"},
    {"INSERT INTO history VALUES (17, 0, 0, 0, 0, 0, 99000000, 0, 0)",
     "entry 17 says that the store is older"},
    {"UPDATE history SET since = 4 WHERE id = 4", "entry 4 makes no sense"},
    // attempts: dispatched twice, and lost
    {"INSERT INTO history VALUES (17, 1, 0, 2, 0, 2, 90000000, 16, 0)",
     "entry 17: dispatched again before entry 1 had ended"},
    {"UPDATE history SET attempt = 3 WHERE id = 4", "entry 4 is attempt 3, after attempt 1"},
    {"UPDATE history SET attempt = 2 WHERE id = 3", "entry 3 is attempt 2, after attempt 0"},
    {"UPDATE history SET since = 1 WHERE id = 4", "entry 4: it ended at 2 and waits since 1"},
    {"UPDATE batch SET attempts = 2 WHERE seq = 2 AND idx = 1",
     "2 attempts are counted, entry 6 is attempt 1"},
    {"UPDATE batch SET ended = 0 WHERE seq = 1 AND idx = 0", "the end of entry 3 is at 0"},
    {"UPDATE history SET seq = 1, idx = 4 WHERE id = 1",
     "1 attempts are counted, and none is in the history"},
    {"DELETE FROM batch WHERE seq = 1 AND idx = 2", "it was dispatched, and has no row"},
    // totals
    {"UPDATE queue SET dispatched = dispatched + 1 WHERE id = 1",
     "totals: queue 1 (default): dispatches up to"},
    {"UPDATE change SET dispatched = dispatched - 1 WHERE id = 10",
     "dispatches up to entry 9: 6 are counted, 7"},
    // in flight
    {"UPDATE batch SET ended = 9 WHERE seq = 1 AND idx < 2", "concurrency: queue 1 (default) ingestion 2"},
    {"UPDATE change SET concurrency = 0 WHERE id = 10", "1 were in flight, of 0 allowed"},
    // pauses
    {"UPDATE change SET paused = 1 WHERE id = 12", "pause: queue 2 (free) ingestion 3"},
    // rate
    {"UPDATE history SET at_ns = at_ns - 2 WHERE id = 3",
     "rate: queue 1 (default) ingestion 1 (00000000-0000-0000-0000-000000000001) batch 0: entry 3: 2 "
     "dispatches "
     "within 9.999998 ms, at 1/10ms, burst 1"},
    {"UPDATE history SET at_ns = at_ns - 10000000 WHERE id = 4", "entry 4: 2 dispatches within 2.000000 ms"},
    {"UPDATE history SET at_ns = at_ns - 14000000 WHERE id = 11",
     "entry 11: 1 dispatches within 6.000000 ms of an empty bucket, at 1/20ms, burst 1"},
    {"UPDATE history SET at_ns = at_ns - 2 WHERE id = 16",
     "entry 16: 1 dispatches within 19.999998 ms of an empty bucket"},
    // order
    {"UPDATE history SET seq = 1, priority = 2, idx = iif(id = 3, 1, 0) WHERE id IN (3, 5)",
     "order: queue 1 (default) ingestion 1 (00000000-0000-0000-0000-000000000001) batch 0: it waited from "
     "entry 0 "
     "on, and entry 3 went before it"},
    {"UPDATE history SET since = 2 WHERE id = 4", "it waited from entry 2 on, and entry 3 went before it"},
    {"UPDATE history SET seq = 4, idx = 9 WHERE id = 16; UPDATE ingestion SET since = 15 WHERE seq = 4",
     "batch 0: it waited from entry 15 on, and entry 16 went before it"},
    {"UPDATE ingestion SET priority = 0, since = 15 WHERE seq = 4; UPDATE waiting_count SET priority = 0 "
     "WHERE queue "
     "= 1",
     "order: queue 1 (default) ingestion 4"},
    {"UPDATE batch SET due_ns = 1 WHERE state = 2", "its retry was due before the queue's last dispatch"},
    // the tables
    {"DROP INDEX batch_failed; CREATE TABLE own (a); INSERT INTO own VALUES (1)",
     "schema: index batch_failed is missing"},
    {"CREATE TABLE own (a); INSERT INTO own VALUES (1)", "schema: table own does not belong there"},
    {"DROP INDEX batch_failed; CREATE INDEX batch_failed ON batch (seq); UPDATE meta SET flags = ''",
     "schema: index batch_failed is not as this version makes it"},
};

Test(verify, each_thing_that_is_wrong_is_found)
{
    struct scene s;
    scene_new(&s);
    struct buf healthy = read_file(&s.f);
    size_t missed = 0;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        run_sql(&s.f, damages[i].sql);
        struct said said = check(&s.f);
        if (strstr(said.text.data, damages[i].line) == NULL || said.result.violations == 0) {
            fprintf(stderr, "not found after %s:\n%s", damages[i].sql, said.text.data);
            missed++;
        }
        buf_fini(&said.text);
        write_file(&s.f, &healthy);
    }
    cr_assert_eq(missed, 0);
    expect_nothing_wrong(&s.f, 11);
    buf_fini(&healthy);
    fixture_free(&s.f);
}

// With aging, what was accepted long before may go before what is more urgent; inside of a priority it may
// not.
Test(verify, aging_leaves_the_order_inside_of_a_priority)
{
    struct scene s;
    scene_new(&s);
    run_sql(&s.f, "UPDATE change SET aging_ns = 1 WHERE id = 10; UPDATE history SET since = 2 WHERE id = 4");
    expect_nothing_wrong(&s.f, 11);
    run_sql(&s.f, "UPDATE history SET idx = 4 - idx WHERE seq = 1");
    struct said said = check(&s.f);
    cr_assert_not_null(strstr(said.text.data, "order: queue 1 (default) ingestion 1"), "%s", said.text.data);
    buf_fini(&said.text);
    fixture_free(&s.f);
}

// ---- other stores ----

static void make_directory(struct fixture *f)
{
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/sluice-store-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    f->store = NULL;
}

static void expect_refused(const char *dir, enum err want, const char *part)
{
    struct verify_result result;
    struct fault fault = {.detail = ""};
    enum err err = verify_directory(dir, say, NULL, &result, &fault);
    cr_assert_eq(err, want, "%s: %s", err_name(err), fault.detail);
    cr_assert_not_null(strstr(fault.detail, part), "%s", fault.detail);
}

static void put_version(const struct fixture *f, int version)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "UPDATE meta SET flags = ''; PRAGMA user_version = %d", version);
    run_sql(f, sql);
}

Test(verify, what_is_not_there_or_no_store_of_this_version_is_refused)
{
    struct fixture f;
    make_directory(&f);
    expect_refused("/tmp/no such directory", ERR_NOT_FOUND, "no such directory");
    expect_refused(f.dir, ERR_NOT_FOUND, "sluice.db: No such file");
    struct buf other;
    buf_init(&other);
    for (int i = 0; i < 1000; i++) {
        buf_str(&other, "not SQLite");
    }
    write_file(&f, &other);
    expect_refused(f.dir, ERR_STORAGE_REFUSED, "is not a store of Sluice");
    buf_fini(&other);
    fixture_free(&f);
    struct scene s;
    scene_new(&s);
    put_version(&s.f, store_schema_version + 1);
    expect_refused(s.f.dir, ERR_STORAGE_REFUSED, "newer Sluice");
    put_version(&s.f, store_schema_version - 1);
    expect_refused(s.f.dir, ERR_STORAGE_REFUSED, "start the scheduler once");
    fixture_free(&s.f);
}

Test(verify, a_store_that_is_in_use_is_refused)
{
    struct scene s;
    char path[128];
    scene_new(&s);
    (void)snprintf(path, sizeof path, "%s/lock", s.f.dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(lock >= 0 && flock(lock, LOCK_EX) == 0);
    expect_refused(s.f.dir, ERR_STORAGE_UNAVAILABLE, "a scheduler is running");
    close(lock);
    expect_nothing_wrong(&s.f, 11);
    fixture_free(&s.f);
}

// A page of a table is overwritten.
Test(verify, a_damaged_file_is_a_violation)
{
    struct scene s;
    scene_new(&s);
    struct buf bytes = read_file(&s.f);
    cr_assert_gt(bytes.len, 20u * 4096);
    for (size_t page = 2; page < 20; page++) {
        memset(bytes.data + page * 4096 + 100, 0x5a, 1000);
    }
    write_file(&s.f, &bytes);
    struct said said = check(&s.f);
    cr_assert_gt(said.result.violations, 0);
    cr_assert_eq(strncmp(said.text.data, "integrity: ", 11), 0, "%s", said.text.data);
    buf_fini(&said.text);
    buf_fini(&bytes);
    fixture_free(&s.f);
}

// What a crash leaves in the log counts, and stays there.
Test(verify, nothing_is_written)
{
    struct scene s;
    char command[256];
    struct fixture copy;
    scene_new(&s);
    fixture_open(&s.f);
    make_directory(&copy);
    (void)add(s.f.store, 100, 1, PRIORITY_LOW, 2, 2);
    (void)snprintf(command, sizeof command, "cp %s/sluice.db %s/sluice.db-wal %s", s.f.dir, s.f.dir,
                   copy.dir);
    cr_assert_eq(system(command), 0); // NOLINT(cert-env33-c): a test's own two directories
    struct buf before = read_file(&copy);
    off_t log = log_size(&copy);
    struct said said = check(&copy);
    cr_assert_eq(said.result.violations, 0, "%s", said.text.data);
    cr_assert_eq(said.result.ingestions, 8); // the last is in the log alone
    buf_fini(&said.text);
    struct buf after = read_file(&copy);
    cr_assert(before.len == after.len && memcmp(before.data, after.data, after.len) == 0);
    cr_assert(log > 0 && log_size(&copy) == log);
    buf_fini(&before);
    buf_fini(&after);
    fixture_free(&copy);
    fixture_free(&s.f);
}

Test(verify, only_so_many_lines_are_said_of_a_kind)
{
    struct scene s;
    scene_new(&s);
    run_sql(&s.f, "WITH n(i) AS (VALUES (1000) UNION ALL SELECT i + 1 FROM n WHERE i < 1999) INSERT INTO "
                  "waiting_count SELECT 1, 0, 0, i, 1 FROM n");
    struct said said = check(&s.f);
    cr_assert_eq(said.result.violations, 1000);
    size_t lines = 0;
    for (const char *at = said.text.data; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    cr_assert_eq(lines, VERIFY_LINES + 1);
    cr_assert_not_null(strstr(said.text.data, "\ncounts: and 980 more\n"), "%s", said.text.data);
    buf_fini(&said.text);
    fixture_free(&s.f);
}

// ---- a history that is not whole ----

// The newest entries stay, and what they say is checked as before.
Test(verify, a_history_is_bounded)
{
    struct scene s;
    scene_new(&s);
    fixture_open(&s.f);
    s.f.store->history_max = 9;
    s.now_ns += MS(20);
    for (uint32_t i = 0; i < 3; i++) {
        deliver(&s, 1, PRIORITY_LOW, 4, i, BATCH_COMPLETED);
        s.now_ns += MS(10);
        cr_assert_eq(sql_integer(s.f.store->db, "SELECT min(id) FROM history"), 9 + i);
        cr_assert_eq(sql_integer(s.f.store->db, "SELECT count(*) FROM history"), 9);
    }
    cr_assert_eq(sql_integer(s.f.store->db, "SELECT min(id) FROM change"), 12);
    expect_sound(s.f.store);
    store_close(s.f.store);
    s.f.store = NULL;
    // Entry 16 is in backoff, and was due long before the last.
    run_sql(&s.f, "UPDATE batch SET due_ns = 999000000000 WHERE state = 2");
    expect_nothing_wrong(&s.f, 5);
    run_sql(&s.f, "UPDATE history SET at_ns = at_ns - 1000000 WHERE id = 19");
    struct said said = check(&s.f);
    cr_assert_not_null(strstr(said.text.data, "entry 19: 2 dispatches within 19.000000 ms, at 1/20ms"), "%s",
                       said.text.data);
    buf_fini(&said.text);
    fixture_free(&s.f);
}

// A store that is older than its history: what was before is not held against it.
Test(verify, a_store_of_an_older_version_is_checked_from_then_on)
{
    struct scene s;
    scene_new(&s);
    run_sql(
        &s.f,
        "DELETE FROM history; DELETE FROM change; UPDATE batch SET since = 0, ended = 0; UPDATE ingestion "
        "SET since = 0; INSERT INTO history VALUES (2, 0, 0, 0, 0, 0, 0, 0, 0)");
    expect_nothing_wrong(&s.f, 0);
    fixture_open(&s.f);
    end(&s, 1, PRIORITY_LOW, 1, 2, BATCH_COMPLETED); // dispatched before
    deliver(&s, 1, PRIORITY_LOW, 4, 0, BATCH_COMPLETED);
    store_close(s.f.store);
    s.f.store = NULL;
    run_sql(&s.f, "UPDATE batch SET due_ns = 999000000000 WHERE state = 2");
    expect_nothing_wrong(&s.f, 1);
    run_sql(&s.f, "UPDATE history SET attempt = 0 WHERE id = 3");
    struct said said = check(&s.f);
    cr_assert_not_null(strstr(said.text.data, "entry 3 makes no sense"), "%s", said.text.data);
    buf_fini(&said.text);
    fixture_free(&s.f);
}
