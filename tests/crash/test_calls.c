// The scheduler dies in each call of its write path, one after the other: before it, within it and after it;
// then the power goes, or not. Nothing else happens meanwhile, so each call is met for certain.
#include "scheduler/store_sqlite.h"
#include "tests/crash/round.h"
#include "tests/support/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

TestSuite(calls, .fini = sluice_cleanup);

#define CALLS_MAX 1000 // a sweep that does not end before that is wrong
#define MEMBERS "\"priority\":\"HIGH\",\"ids\":[1,2,3,4,5,6,7]"
#define BATCHES 3 // of it

struct sweep {
    struct sluice *sluice;
    struct disk *disk;
    struct random random;
    uint64_t seed;
    unsigned kills;
    unsigned stride; // one of so many deaths is tried
};

// Nothing is dispatched: there is no worker. A long run ($SLUICE_CRASH_KILLS) tries every death.
static struct sweep sweep_begin(unsigned stride)
{
    struct sweep sweep = {.seed = round_seed(), .stride = round_kills(0) > 0 ? 1 : stride};
    sweep.random = (struct random){sweep.seed, sweep.seed};
    sweep.sluice = sluice_new(LIST("--target", "pull:"), NULL);
    sweep.disk = disk_new(sweep.sluice);
    return sweep;
}

static void sweep_end(struct sweep *sweep, const char *what)
{
    fprintf(stderr, "%s, seed %" PRIu64 ": %u kills\n", what, sweep->seed, sweep->kills);
    cr_assert_gt(sweep->kills, 0);
    sluice_end(sweep->sluice);
    disk_free(sweep->disk);
}

static bool is_tried(struct sweep *sweep)
{
    return random_below(&sweep->random, sweep->stride) == 0;
}

static void lose_power(struct sweep *sweep)
{
    (void)disk_cut_power(sweep->disk, (enum power_loss)random_below(&sweep->random, POWER_LOSSES),
                         &sweep->random);
}

static void random_id(struct sweep *sweep, char text[static ID_TEXT_SIZE])
{
    uint64_t bits[2] = {random_next(&sweep->random), random_next(&sweep->random)};
    struct id id;
    memcpy(id.bytes, bits, sizeof(id.bytes));
    id_format(&id, text);
}

// One line on a connection of its own, as a client that was started just now.
static cJSON *ask_anew(const struct sweep *sweep, const char *line)
{
    struct worker *worker = worker_new(sweep->sluice);
    cJSON *reply = worker_ask(worker, "%s", line);
    worker_free(worker);
    return reply;
}

static void ingest(const struct sweep *sweep, const char *id)
{
    char line[200];
    (void)snprintf(line, sizeof(line), "{\"op\":\"ingest\",\"id\":\"%s\"," MEMBERS "}", id);
    reply_expect_ok(ask_anew(sweep, line));
}

// Whether it is there; then it is whole.
static bool is_whole(const struct sweep *sweep, const char *id)
{
    char line[100];
    (void)snprintf(line, sizeof(line), "{\"op\":\"status\",\"id\":\"%s\"}", id);
    cJSON *reply = ask_anew(sweep, line);
    bool there = cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok"));
    if (there) {
        cr_assert_eq(json_number(json_member(reply, "progress"), "yet_to_start"), BATCHES);
        const cJSON *batch;
        int next = 1;
        cJSON_ArrayForEach(batch, json_member(reply, "batches"))
        {
            const cJSON *value;
            cJSON_ArrayForEach(value, json_member(batch, "ids"))
            {
                cr_assert_eq(value->valueint, next++);
            }
        }
        cr_assert_eq(next, 8);
        cJSON_Delete(reply);
    } else {
        reply_expect_error(reply, "not_found");
    }
    return there;
}

// ---- a turn ----

// It dies in the n-th call from the arrival of an ingestion on; false when there is no n-th call, and it is
// answered.
static bool die_in_ingest(struct sweep *sweep, const char *id, unsigned n, enum disk_when when)
{
    struct worker *worker = worker_new(sweep->sluice);
    disk_arm(sweep->disk, n, when);
    struct call *call = worker_call(worker, "{\"op\":\"ingest\",\"id\":\"%s\"," MEMBERS "}", id);
    WAIT_FOR(disk_has_died(sweep->disk) || call_over(call));
    bool died = disk_disarm(sweep->disk);
    worker_free(worker);
    cJSON_Delete(call_end(call));
    if (died) {
        sluice_kill(sweep->sluice, SCHEDULER);
        sweep->kills++;
    }
    return died;
}

// What is answered is on the disk: also when it is there because of a turn that was cut off, and is sent
// again.
static bool die_and_repeat(struct sweep *sweep, unsigned n, enum disk_when when)
{
    char id[ID_TEXT_SIZE];
    random_id(sweep, id);
    if (!die_in_ingest(sweep, id, n, when)) {
        cr_assert(is_whole(sweep, id));
        return false;
    }
    sluice_launch(sweep->sluice, SCHEDULER);
    bool there = is_whole(sweep, id);
    ingest(sweep, id);
    sluice_kill(sweep->sluice, SCHEDULER);
    sweep->kills++;
    (void)disk_cut_power(sweep->disk, POWER_ALL, &sweep->random);
    sluice_launch(sweep->sluice, SCHEDULER);
    cr_assert(is_whole(sweep, id), "what was answered is lost: call %u, %d, %s", n, (int)when,
              there ? "it was there when it was sent again" : "it was not there before");
    return true;
}

static bool die_and_lose(struct sweep *sweep, unsigned n, enum disk_when when)
{
    char id[ID_TEXT_SIZE];
    random_id(sweep, id);
    if (!die_in_ingest(sweep, id, n, when)) {
        return false;
    }
    lose_power(sweep);
    sluice_verify(sweep->sluice);
    sluice_launch(sweep->sluice, SCHEDULER);
    (void)is_whole(sweep, id);
    ingest(sweep, id);
    cr_assert(is_whole(sweep, id));
    return true;
}

Test(calls, of_a_turn)
{
    struct sweep sweep = sweep_begin(1);
    bool more = true;
    sluice_launch(sweep.sluice, SCHEDULER);
    for (unsigned n = 1; more; n++) {
        cr_assert_lt(n, CALLS_MAX);
        for (int when = DISK_BEFORE; when <= DISK_AFTER && more; when++) {
            if (is_tried(&sweep)) {
                more = die_and_repeat(&sweep, n, (enum disk_when)when);
            }
            if (more && is_tried(&sweep)) {
                more = die_and_lose(&sweep, n, (enum disk_when)when);
            }
        }
    }
    sweep_end(&sweep, "a turn");
}

// ---- the start ----

// Dies in the n-th call of its life; false when it is ready before that.
static bool die_in_start(struct sweep *sweep, unsigned n, enum disk_when when)
{
    disk_arm(sweep->disk, n, when);
    int code = sluice_try(sweep->sluice, SCHEDULER);
    (void)disk_disarm(sweep->disk);
    cr_assert(code == 0 || code == 128 + SIGKILL, "it ended with %d", code);
    sweep->kills += code != 0;
    return code != 0;
}

Test(calls, of_the_first_start)
{
    struct sweep sweep = sweep_begin(16);
    for (unsigned n = 1;; n++) {
        cr_assert_lt(n, CALLS_MAX);
        bool more = true;
        for (int when = DISK_BEFORE; when <= DISK_AFTER && more; when++) {
            if (!is_tried(&sweep)) {
                continue;
            }
            char id[ID_TEXT_SIZE];
            more = die_in_start(&sweep, n, (enum disk_when)when);
            if (more) {
                lose_power(&sweep);
                sluice_verify(sweep.sluice);
                sluice_launch(sweep.sluice, SCHEDULER);
            }
            random_id(&sweep, id);
            ingest(&sweep, id);
            sluice_kill(sweep.sluice, SCHEDULER);
            sweep.kills++;
            lose_power(&sweep);
            sluice_verify(sweep.sluice);
            sluice_launch(sweep.sluice, SCHEDULER);
            cr_assert(is_whole(&sweep, id));
            cr_assert_eq(sluice_stop(sweep.sluice, SCHEDULER), 0);
            remove_tree(sweep.sluice->data);
            disk_settle(sweep.disk);
        }
        if (!more) {
            break;
        }
    }
    sweep_end(&sweep, "the first start");
}

#define OLD_ID "00000000-0000-0000-0000-000000000004"
static const char old_rows[] =
    "INSERT INTO queue (id, name, target, rate_count, rate_per_ns, burst, linger_ns, concurrency, "
    "batch_size, max_id, "
    "timeout_ns, max_attempts, min_backoff_ns, max_backoff_ns, max_hold_ns) VALUES "
    "(1, 'default', 'simulate:1s', 1, 3600000000000, 1, 0, 1, 3, 99, 30, 5, 6, 7, 8);"
    "INSERT INTO ingestion (seq, id, queue, priority, batch_size, id_count, batch_count, created_ms, "
    "waiting) VALUES "
    "(4, x'00000000000000000000000000000004', 1, 0, 3, 7, 3, 1000, 3);"
    "INSERT INTO ids VALUES (4, 0, '1,2,3,4,5,6,7');"
    "INSERT INTO waiting (queue, priority, seq, first_idx, end_idx) VALUES (1, 0, 4, 0, 3);"
    "INSERT INTO waiting_count (queue, priority, level, block, n) VALUES (1, 0, 0, 0, 3), (1, 0, 1, 0, 3), "
    "(1, 0, 2, "
    "0, 3);";

// A store as version 1 made it, with an ingestion.
static void make_old_store(const struct sluice *sluice)
{
    char path[SLUICE_TEXT + 16], mark[64];
    sqlite3 *db;
    cr_assert_eq(mkdir(sluice->data, 0750), 0);
    (void)snprintf(path, sizeof(path), "%s/%s", sluice->data, STORE_FILE);
    (void)snprintf(mark, sizeof(mark), "PRAGMA application_id = %d; PRAGMA journal_mode = WAL",
                   STORE_APPLICATION_ID);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(store_schema_migrate(db, store_schema_steps, 0, 1), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, mark, NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, old_rows, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

Test(calls, of_the_start_on_an_older_store)
{
    struct sweep sweep = sweep_begin(16);
    for (unsigned n = 1;; n++) {
        cr_assert_lt(n, CALLS_MAX);
        bool more = true;
        for (int when = DISK_BEFORE; when <= DISK_AFTER && more; when++) {
            if (!is_tried(&sweep)) {
                continue;
            }
            make_old_store(sweep.sluice);
            more = die_in_start(&sweep, n, (enum disk_when)when);
            if (more) {
                lose_power(&sweep);
                sluice_launch(sweep.sluice, SCHEDULER);
            }
            cr_assert(is_whole(&sweep, OLD_ID));
            cr_assert_eq(sluice_stop(sweep.sluice, SCHEDULER), 0);
            remove_tree(sweep.sluice->data);
            disk_settle(sweep.disk);
        }
        if (!more) {
            break;
        }
    }
    sweep_end(&sweep, "the start on an older store");
}

// ---- the end, and the log emptied ----

Test(calls, of_the_end)
{
    struct sweep sweep = sweep_begin(2);
    char id[ID_TEXT_SIZE];
    bool more = true;
    sluice_launch(sweep.sluice, SCHEDULER);
    for (unsigned n = 1; more; n++) {
        cr_assert_lt(n, CALLS_MAX);
        for (int when = DISK_BEFORE; when <= DISK_AFTER && more; when++) {
            if (!is_tried(&sweep)) {
                continue;
            }
            random_id(&sweep, id);
            ingest(&sweep, id);
            disk_arm(sweep.disk, n, (enum disk_when)when);
            int code = sluice_stop(sweep.sluice, SCHEDULER);
            more = disk_disarm(sweep.disk);
            cr_assert_eq(code, more ? 128 + SIGKILL : 0, "%d", code);
            sweep.kills += more;
            lose_power(&sweep);
            sluice_verify(sweep.sluice);
            sluice_launch(sweep.sluice, SCHEDULER);
            cr_assert(is_whole(&sweep, id));
        }
    }
    sweep_end(&sweep, "the end");
}
