// fault_fixture.h - a sluice whose scheduler can be struck by faults (tests/support/preload/faults.c), and a
// worker beside it.
#ifndef SLUICE_TESTS_E2E_FAULT_FIXTURE_H
#define SLUICE_TESTS_E2E_FAULT_FIXTURE_H

#include "tests/support/queues.h"
#include "tests/support/worker.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The words for faults.
#define FAULT_IO "io"                                   // every write and sync fails
#define FAULT_IO_WRITE "io-write"                       // every write
#define FAULT_IO_SYNC "io-sync"                         // every sync
#define FAULT_IO_READ "io-read"                         // every read
#define FAULT_FULL "full"                               // there is no room
#define FAULT_FULL_AFTER_A_COMMIT "full-after-a-commit" // for what comes after the next one
#define FAULT_SLOW "slow"                               // a sync does not return before this is over
#define FAULT_CLOCK_SET "clock-set" // once, while something waits for the wall clock; then over

struct scene {
    struct sluice *sluice;
    struct worker *worker;
    char *file; // says which fault there is
    char *next; // is renamed to it
    char *variables[2];
    const char *environment[3];
};

// The flags are the scheduler's.
static inline struct scene scene_start(const char *const *flags)
{
    struct scene scene = {.sluice = sluice_new(flags, NULL)};
    const char *options = getenv("ASAN_OPTIONS");
    char *asan;
    // The library comes before the sanitizer's own, which is all right: it calls nothing of the C library's
    // that the sanitizer would have to be ready for.
    cr_assert(asprintf(&asan, "%s:verify_asan_link_order=0", options ? options : "") > 0);
    cr_assert_eq(setenv("ASAN_OPTIONS", asan, 1), 0);
    free(asan);
    scene.file = sluice_path(scene.sluice, "fault");
    scene.next = sluice_path(scene.sluice, "fault.next");
    cr_assert(asprintf(&scene.variables[0], "LD_PRELOAD=%s", SLUICE_FAULTS) > 0);
    cr_assert(asprintf(&scene.variables[1], "SLUICE_FAULT_FILE=%s", scene.file) > 0);
    return scene;
}

// Starts both programs for the first time.
static inline void scene_launch(struct scene *scene)
{
    scene->environment[0] = scene->variables[0];
    scene->environment[1] = scene->variables[1];
    scene->environment[2] = NULL;
    scene->sluice->environment[SCHEDULER] = scene->environment;
    sluice_launch(scene->sluice, SCHEDULER);
    sluice_launch(scene->sluice, GATEWAY);
    scene->worker = worker_new(scene->sluice);
}

static inline void scene_end(struct scene *scene)
{
    worker_free(scene->worker);
    sluice_end(scene->sluice);
    free(scene->file);
    free(scene->next);
    free(scene->variables[0]);
    free(scene->variables[1]);
}

static inline void fault_begin(const struct scene *scene, const char *fault)
{
    FILE *file = fopen(scene->next, "we");
    cr_assert(file && fputs(fault, file) >= 0 && fclose(file) == 0);
    cr_assert_eq(rename(scene->next, scene->file), 0);
}

static inline void fault_end(const struct scene *scene)
{
    cr_assert_eq(unlink(scene->file), 0);
}

static inline bool fault_lasts(const struct scene *scene)
{
    return access(scene->file, F_OK) == 0;
}

static inline bool scene_logged(const struct scene *scene, const char *text)
{
    return sluice_logged(scene->sluice, SCHEDULER, text);
}

// Sends a message of any number of lines on a connection of its own; the reply as it came, to be freed.
static inline char *exchange(const struct scene *scene, const char *message, size_t *len)
{
    nng_socket socket;
    char *data;
    char *reply;
    cr_assert_eq(nng_req0_open(&socket), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, WAIT_S * 1000), 0);
    cr_assert_eq(nng_dial(socket, scene->sluice->ipc, NULL, 0), 0);
    cr_assert_eq(nng_send(socket, (void *)(uintptr_t)message, strlen(message), 0), 0);
    cr_assert_eq(nng_recv(socket, &data, len, NNG_FLAG_ALLOC), 0);
    reply = strndup(data, *len);
    cr_assert_not_null(reply);
    nng_free(data, *len);
    (void)nng_close(socket);
    return reply;
}

// How often a text stands in another.
static inline size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        count++;
    }
    return count;
}

// A pull queue, with these further settings.
static inline void put_pull(struct scene *scene, const char *name, unsigned batch_size, const char *settings)
{
    queue_put(scene->sluice, name,
              "\"target\":\"pull:\",\"rate\":\"unlimited\",\"concurrency\":1000,\"batch_size\":%u%s",
              batch_size, settings);
}

#endif
