// Finished ingestions are removed after --retain: what is not finished stays, nothing waits for it, and it
// goes on after whatever cut it off.
#include "tests/e2e/fault_fixture.h"
#include "tests/support/dispatches.h"

#include <sqlite3.h>

TestSuite(retain, .fini = sluice_cleanup);

static bool is_gone(const struct sluice *sluice, const char *id)
{
    struct http_response response = sluice_get(sluice, "/status/%s", id);
    cr_assert(response.status == 200 || response.status == 404, "%ld %s", response.status, response.body);
    bool gone = response.status == 404;
    if (gone) {
        cr_assert_str_eq(json_text(response.json, "code"), "not_found");
    }
    http_response_fini(&response);
    return gone;
}

static int listed(const struct sluice *sluice)
{
    struct http_response list = sluice_get(sluice, "/ingestions");
    cr_assert_eq(list.status, 200, "%s", list.body);
    int count = cJSON_GetArraySize(json_member(list.json, "ingestions"));
    http_response_fini(&list);
    return count;
}

// Rows of batches and of IDs that the store of a scheduler that does not run has.
static int64_t rows_left(const struct sluice *sluice)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    char *path = sluice_path(sluice, "data/sluice.db");
    cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, "SELECT (SELECT count(*) FROM batch) + (SELECT count(*) FROM ids)",
                                    -1, &stmt, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_step(stmt), SQLITE_ROW);
    int64_t count = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    free(path);
    return count;
}

// Of the thread that is the loop: how often it has gone to sleep; and of the process: its time on a CPU.
static long sleeps(const struct sluice *sluice)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)sluice->part[SCHEDULER].pid);
    char *text = file_text(path);
    const char *at = strstr(text, "\nvoluntary_ctxt_switches:");
    cr_assert_not_null(at);
    long count = strtol(strchr(at, ':') + 1, NULL, 10);
    free(text);
    return count;
}

static double cpu_seconds(const struct sluice *sluice)
{
    char path[64];
    unsigned long user, system;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)sluice->part[SCHEDULER].pid);
    char *text = file_text(path);
    const char *at = strrchr(text, ')');
    for (int field = 0; at && field < 12; field++) { // to the 14th of all, see proc(5)
        at = strchr(at + 1, ' ');
    }
    cr_assert_not_null(at);
    char *end;
    user = strtoul(at, &end, 10);
    system = strtoul(end, NULL, 10);
    free(text);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static bool sleeps_through(const struct sluice *sluice, int64_t ms)
{
    long before = sleeps(sluice);
    wait_ms(ms);
    return sleeps(sluice) == before;
}

// ---- what goes, and what stays ----

static struct http_response post_keyed(const struct sluice *sluice, const char *body)
{
    return sluice_post(sluice, body, LIST("Idempotency-Key: k", "Content-Type: application/json"));
}

Test(retain, what_has_finished_goes_and_what_waits_stays)
{
    static const char body[] = "{\"ids\":[1,2,3,4],\"priority\":\"LOW\"}";
    static const char other[] = "{\"ids\":[5],\"priority\":\"LOW\"}";
    struct sluice *sluice =
        sluice_start(LIST("--retain", "1s", "--rate", "unlimited", "--target", "simulate:1ms"), NULL);
    queue_put(sluice, "bad",
              "\"target\":\"simulate:0s,fail=1\",\"rate\":\"unlimited\",\"retry\":{\"max_attempts\":1}");
    queue_put(sluice, "later", "\"target\":\"simulate:0s\",\"rate\":\"unlimited\"");
    queue_do(sluice, "later", "pause");
    struct ingested waiting = queue_ingest_range(sluice, "later", "LOW", 1, 4);
    struct mono before = mono_now();
    struct http_response made = post_keyed(sluice, body);
    cr_assert_eq(made.status, 200, "%s", made.body);
    struct ingested failed = queue_ingest_range(sluice, "bad", "LOW", 1, 4);
    struct ingested cancelled = queue_ingest_range(sluice, "later", "LOW", 1, 4);
    ingestion_do(sluice, cancelled.id, "cancel");

    const char *id = json_text(made.json, "ingestion_id");
    WAIT_FOR(is_gone(sluice, id));
    cr_assert_geq(mono_diff(mono_now(), before), NS_PER_S, "too early");
    WAIT_FOR(is_gone(sluice, failed.id));
    WAIT_FOR(is_gone(sluice, cancelled.id));
    cr_assert_eq(listed(sluice), 1);
    http_response_fini(&made);
    made = post_keyed(sluice, other); // the key is free again
    cr_assert_eq(made.status, 200, "%s", made.body);
    http_response_fini(&made);

    struct worker *worker = worker_new(sluice);
    cJSON *stats = worker_ask(worker, "{\"op\":\"stats\"}");
    cr_assert_geq(json_number(stats, "removed"), 3);
    cJSON_Delete(stats);
    worker_free(worker);
    cr_assert(ingestion_is(sluice, waiting.id, "yet_to_start"));
    queue_do(sluice, "later", "resume");
    WAIT_FOR(is_gone(sluice, waiting.id));
    queue_do(sluice, "bad", "retry"); // nothing is left of it
    cr_assert_eq(queue_figure(sluice, "bad", "waiting"), 0);
    WAIT_FOR(listed(sluice) == 0);
    sluice_end(sluice);
}

// How long is said at each start; and what was finished before is meant, too.
Test(retain, forever_and_then_no_longer)
{
    struct sluice *sluice =
        sluice_start(LIST("--retain", "forever", "--rate", "unlimited", "--target", "simulate:1ms"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 10);
    sluice_wait_status(sluice, ingested.id, "completed");
    WAIT_FOR(sleeps_through(sluice, 1500));
    cr_assert(!is_gone(sluice, ingested.id));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    sluice_set_flags(sluice, SCHEDULER,
                     LIST("--retain", "1s", "--rate", "unlimited", "--target", "simulate:1ms"));
    sluice_launch(sluice, SCHEDULER);
    WAIT_FOR(is_gone(sluice, ingested.id));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    cr_assert_eq(rows_left(sluice), 0);
    sluice_launch(sluice, SCHEDULER);
    sluice_end(sluice);
}

// ---- nothing waits for it, and it waits for nothing ----

Test(retain, it_sleeps_when_there_is_nothing_to_remove)
{
    static const char *const times[] = {"1s", "7d"};
    for (size_t i = 0; i < 2; i++) {
        struct sluice *sluice =
            sluice_start(LIST("--retain", times[i], "--rate", "unlimited", "--target", "simulate:1ms"), NULL);
        struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 100);
        if (i == 0) {
            WAIT_FOR(is_gone(sluice, ingested.id));
        } else {
            sluice_wait_status(sluice, ingested.id, "completed");
        }
        WAIT_FOR(sleeps_through(sluice, 1500));
        sluice_end(sluice);
    }
}

enum { BATCHES = 100000 };

static struct ingested ingest_large(const struct sluice *sluice)
{
    queue_put(sluice, "large",
              "\"target\":\"simulate:0s\",\"rate\":\"unlimited\",\"batch_size\":1,\"concurrency\":2000");
    return queue_ingest_range(sluice, "large", "LOW", 1, BATCHES);
}

Test(retain, a_rate_is_held_while_a_large_one_is_removed)
{
    enum { RATE = 200, COUNT = 1000 };
    const struct rate rate = {RATE, NS_PER_S};
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(LIST("--retain", "1s"), NULL);
    queue_put(sluice, "pace", "\"rate\":\"200/s\",\"batch_size\":1,\"concurrency\":64,\"target\":\"%s\"",
              http_target_url(target));
    struct ingested large = ingest_large(sluice);
    sluice_wait_status(sluice, large.id, "completed");
    struct lateness *lateness = lateness_watch();
    struct ingested paced = queue_ingest_range(sluice, "pace", "LOW", 1, COUNT);
    cr_assert(http_target_wait(target, COUNT, WAIT_S * NS_PER_S), "it stalls");
    int64_t lateness_ns = lateness_end(lateness);
    cr_assert(is_gone(sluice, large.id));
    (void)paced;
    struct dispatches seen = dispatches_read(target);
    struct pace pace = dispatches_pace(&seen, rate, 2);
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    int64_t left = rows_left(sluice);
    fprintf(stderr,
            "200/s: the rate was used to %.2f %%; late by %.3f ms at the median and %.3f ms at the 99th "
            "percentile; the machine is up to %.3f ms late; %lld rows of %d are left\n",
            pace.used * 100, (double)pace.median_ns / NS_PER_MS, (double)pace.p99_ns / NS_PER_MS,
            (double)lateness_ns / NS_PER_MS, (long long)left, BATCHES);
    cr_assert_lt(left, BATCHES, "nothing was removed meanwhile");
    cr_assert(pace.used > 0.5 && pace.used < 1.01, "%.3f of the rate", pace.used);
    dispatches_check_window(&seen, rate, 2, lateness_ns);
    dispatches_fini(&seen);
    sluice_launch(sluice, SCHEDULER);
    sluice_end(sluice);
    http_target_stop(target);
}

// ---- it goes on ----

Test(retain, a_removal_that_a_kill_cut_off_goes_on)
{
    struct sluice *sluice = sluice_start(LIST("--retain", "1s", "--rate", "unlimited"), NULL);
    struct ingested large = ingest_large(sluice);
    struct ingested paused;
    sluice_wait_status(sluice, large.id, "completed");
    queue_do(sluice, "large", "pause");
    paused = queue_ingest_range(sluice, "large", "LOW", 1, 3);
    WAIT_FOR(is_gone(sluice, large.id)); // and its rows are going
    sluice_kill(sluice, SCHEDULER);
    fprintf(stderr, "%lld rows were left at the kill\n", (long long)rows_left(sluice));
    sluice_launch(sluice, SCHEDULER);
    cr_assert(is_gone(sluice, large.id));
    WAIT_FOR(sleeps_through(sluice, 1500));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    cr_assert_eq(rows_left(sluice), 0);
    sluice_launch(sluice, SCHEDULER);
    cr_assert(ingestion_is(sluice, paused.id, "yet_to_start"));
    cr_assert_eq(listed(sluice), 1);
    sluice_end(sluice);
}

// The only thing there is to write is a removal: no request may notice, and it is tried twice a second.
Test(retain, on_a_full_disk_it_waits_for_room_and_fails_nothing)
{
    struct scene scene = scene_start(LIST("--rate", "unlimited", "--target", "simulate:1ms"));
    scene_launch(&scene);
    struct ingested ingested = sluice_ingest_range(scene.sluice, "LOW", 1, 100);
    sluice_wait_status(scene.sluice, ingested.id, "completed");
    cr_assert_eq(sluice_stop(scene.sluice, SCHEDULER), 0);
    wait_ms(1000); // it is old enough at the start
    sluice_set_flags(scene.sluice, SCHEDULER,
                     LIST("--retain", "1s", "--rate", "unlimited", "--target", "simulate:1ms"));
    fault_begin(&scene, FAULT_FULL);
    sluice_launch(scene.sluice, SCHEDULER);
    WAIT_FOR(scene_logged(&scene, "removal_failed error=STORAGE_FULL"));
    double cpu = cpu_seconds(scene.sluice);
    struct mono until = mono_add(mono_now(), 2 * NS_PER_S);
    while (mono_before(mono_now(), until)) {
        cr_assert(!is_gone(scene.sluice, ingested.id));
        cr_assert_eq(listed(scene.sluice), 1);
        wait_ms(50);
    }
    cpu = cpu_seconds(scene.sluice) - cpu;
    cr_assert_lt(cpu, 1.5, "%.2f s", cpu);
    char *log = file_text(scene.sluice->log[SCHEDULER]);
    cr_assert_eq(count_of(log, "removal_failed"), 1);
    free(log);
    cr_assert(!scene_logged(&scene, "commit_failed"));
    fault_end(&scene);
    WAIT_FOR(is_gone(scene.sluice, ingested.id));
    scene_end(&scene);
}
