// The disk is full, or its calls fail, under load.
#include "common/conf.h"
#include "tests/crash/round.h"
#include "tests/support/queues.h"
#include "tests/support/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

TestSuite(disk, .fini = sluice_cleanup);

// ---- a full disk ----

#define LARGE_IDS 60000

// A file takes what room there is; where no small file system could be made, the library says that there is
// none.
static void fill(const struct round *round)
{
    static const char bytes[4096];
    if (!round->small) {
        disk_fault(round->disk, "full");
        return;
    }
    char *path = sluice_path(round->sluice, "data/ballast");
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    setbuf(file, NULL);
    while (fwrite(bytes, 1, sizeof(bytes), file) == sizeof(bytes)) {
    }
    (void)fclose(file);
    free(path);
}

// And twice as much as there was in the beginning.
static void make_room(const struct round *round, unsigned times)
{
    if (!round->small) {
        disk_fault(round->disk, NULL);
        return;
    }
    char *path = sluice_path(round->sluice, "data/ballast"), size[32];
    cr_assert_eq(unlink(path), 0);
    free(path);
    (void)snprintf(size, sizeof(size), "size=%um", SMALL_MIB * (2 * times + 1));
    cr_assert_eq(mount("small", round->sluice->data, "tmpfs", MS_REMOUNT, size), 0);
}

// Whether there is no room for something large; it is not accepted where there is.
static bool is_refused(const struct round *round)
{
    struct http_response response = {0};
    char *body = ingest_body("LOW\",\"queue\":\"" OWN_QUEUE, 1, LARGE_IDS);
    do {
        http_response_fini(&response);
        response = sluice_post(round->sluice, body, NULL);
    } while (response.status == 504);
    cr_assert(response.status == 200 || response.status == 503, "%ld %s", response.status, response.body);
    free(body);
    bool refused = response.status == 503;
    cr_assert(!refused || strcmp(json_text(response.json, "code"), "storage_unavailable") == 0, "%s",
              response.body);
    http_response_fini(&response);
    return refused;
}

Test(disk, a_full_one)
{
    struct round *round = round_begin(
        &(struct round_plan){.name = "full", .small = true, .gateway_timeout = "5s"}, round_seed());
    queue_put(round->sluice, OWN_QUEUE,
              "\"rate\":\"unlimited\",\"batch_size\":60000,\"target\":\"simulate:1ms\"");
    struct ingested early = queue_ingest_range(round->sluice, OWN_QUEUE, "HIGH", 1, 3);
    for (unsigned i = 0; i < round_kills(4); i++) {
        round_change_answer(round);
        wait_ms((int64_t)random_below(&round->random, 200));
        fill(round);
        WAIT_FOR(is_refused(round));
        ingestion_is(round->sluice, early.id, "completed"); // it is answered
        if (random_below(&round->random, 2) == 0) {
            round_bury(round);
            round_revive(round);
            (void)ingestion_is(round->sluice, early.id, "completed");
        }
        make_room(round, i + 1);
        WAIT_FOR(!is_refused(round));
    }
    round_end(round);
}

// ---- calls that fail ----

// Some more of the faults in tests/e2e/fault_fixture.h.
static const char *const faults[] = {"io", "io-write", "io-sync", "io-read"};

Test(disk, a_broken_one)
{
    struct round *round = round_begin(&(struct round_plan){.name = "broken"}, round_seed());
    for (unsigned i = 0; i < round_kills(8); i++) {
        const char *fault = faults[i % (sizeof(faults) / sizeof(faults[0]))];
        round_change_answer(round);
        wait_ms((int64_t)random_below(&round->random, 200));
        if (strcmp(fault, "io-read") == 0) {
            round_bury(round); // the next one has nothing in its memory
            disk_fault(round->disk, fault);
            round_expect_no_start(round, EXIT_CODE_IOERR);
        } else {
            disk_fault(round->disk, fault);
            round_expect_end(round, EXIT_CODE_IOERR);
        }
        disk_fault(round->disk, NULL);
        round_revive(round);
    }
    round_end(round);
}

// The log then holds all of the commit.
Test(disk, what_a_failed_sync_refused_is_not_there)
{
    struct sluice *sluice = sluice_new(LIST("--target", "pull:"), NULL);
    struct disk *disk = disk_new(sluice);
    static const char id[] = "0190163d-8694-739b-aea5-966c26f8ad91";
    sluice_launch(sluice, SCHEDULER);
    struct worker *worker = worker_new(sluice);
    disk_fault(disk, "io-sync");
    struct call *call =
        worker_call(worker, "{\"op\":\"ingest\",\"id\":\"%s\",\"ids\":[1],\"priority\":\"LOW\"}", id);
    cr_assert_eq(process_wait(&sluice->part[SCHEDULER]), EXIT_CODE_IOERR);
    bool refused = call_over(call);
    worker_free(worker);
    cJSON *reply = call_end(call);
    cr_assert(!refused || cJSON_GetObjectItem(reply, "error"));
    cJSON_Delete(reply);
    disk_fault(disk, NULL);
    sluice_launch(sluice, SCHEDULER);
    worker = worker_new(sluice);
    reply = worker_ask(worker, "{\"op\":\"status\",\"id\":\"%s\"}", id);
    cr_assert(!refused || !cJSON_GetObjectItem(reply, "ok"), "it was refused and is there");
    cJSON_Delete(reply);
    worker_free(worker);
    sluice_end(sluice);
    disk_free(disk);
}
