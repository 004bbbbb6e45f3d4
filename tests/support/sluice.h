// sluice.h - the real programs under test: a scheduler and a gateway in a directory and on a port of
// their own.
//
// Criterion runs each test in a process of its own. `sluice_end` at the end of a test checks that both
// programs end as they should, and with sluice-verify what they leave; after a test that failed before, the
// fixture `sluice_cleanup` (the .fini of every suite here) prints their logs, kills them and removes the
// directory. When the test itself crashes, the kernel kills them, and the directory stays for a look. Main
// thread only, but for the functions of requests that return a response.
#ifndef SLUICE_TESTS_SUPPORT_SLUICE_H
#define SLUICE_TESTS_SUPPORT_SLUICE_H

#include "common/id.h"
#include "tests/support/http_client.h"
#include "tests/support/process.h"
#include "tests/support/wait.h"

#include <signal.h>
#include <stdint.h>

enum part { SCHEDULER, GATEWAY };
#define PARTS 2

// Short: the socket's path has to fit.
#define SLUICE_TEXT 96
#define SLUICE_FLAGS_MAX 16

struct sluice {
    char dir[SLUICE_TEXT];
    char data[SLUICE_TEXT];   // the scheduler's directory, in dir
    char socket[SLUICE_TEXT]; // its path
    char ipc[SLUICE_TEXT];    // "ipc://" and that
    char url[SLUICE_TEXT];    // "http://127.0.0.1:PORT"; a test may make it https://
    char log[PARTS][SLUICE_TEXT];
    const char *flags[PARTS][SLUICE_FLAGS_MAX]; // besides those that say where
    const char *const *environment[PARTS];      // to be set before a launch; NULL: none
    struct process part[PARTS];
    bool has_port; // the gateway has had it once
    bool damaged;  // set by a test that damaged the store: it is not checked at the end
    struct sluice *next;
};

// What is started with which flags (LIST(...); NULL: none). The texts must live as long as the sluice.
struct sluice *sluice_start(const char *const *scheduler_flags, const char *const *gateway_flags);
// A directory and a port, and nothing running.
struct sluice *sluice_new(const char *const *scheduler_flags, const char *const *gateway_flags);
void sluice_end(struct sluice *sluice);
// Fails the test when sluice-verify finds anything wrong with the data directory. No scheduler runs on it.
void sluice_verify(const struct sluice *sluice);
void sluice_cleanup(void);

// Starts one part and waits until it is ready.
void sluice_launch(struct sluice *sluice, enum part part);
// The same for one that may end before it is ready: 0 when it is, else how it ended (as in process.h).
int sluice_try(struct sluice *sluice, enum part part);
// Runs one with just these arguments and variables until it ends, in the sluice's directory, and gives its
// exit code; what it wrote to its standard output and error is the caller's to free.
int sluice_run(const struct sluice *sluice, enum part part, const char *const *arguments,
               const char *const *environment, char **output, char **errors);
// SIGKILL, and SIGTERM with an exit code; both wait until it has ended.
void sluice_kill(struct sluice *sluice, enum part part);
int sluice_stop(struct sluice *sluice, enum part part);
void sluice_set_flags(struct sluice *sluice, enum part part, const char *const *flags);
bool sluice_logged(const struct sluice *sluice, enum part part, const char *text);
// A path in its directory, to be freed.
char *sluice_path(const struct sluice *sluice, const char *name);
// A port nobody listens on, out of the range from which connections take theirs.
uint16_t free_port(void);
void remove_tree(const char *path);

// ---- Requests. The response is the caller's to free. Paths are printf formats. ----

struct http_response sluice_get(const struct sluice *sluice, const char *path, ...)
    __attribute__((format(printf, 2, 3)));
struct http_response sluice_post(const struct sluice *sluice, const char *body, const char *const *headers);
// The body of an ingest of count IDs from first on; to be freed.
char *ingest_body(const char *priority, uint64_t first, size_t count);

// An ingestion, with what a test wants to know of it.
struct ingested {
    char id[ID_TEXT_SIZE];
};
// Both fail the test when it is not accepted.
struct ingested sluice_ingest(const struct sluice *sluice, const char *body);
struct ingested sluice_ingest_range(const struct sluice *sluice, const char *priority, uint64_t first,
                                    size_t count);

// GET /status; fails the test when it is not 200.
struct http_response sluice_status(const struct sluice *sluice, const char *id);
// Waits until the ingestion has this status.
void sluice_wait_status(const struct sluice *sluice, const char *id, const char *status);
// Every ID of every batch, in order, as they stand in the pages of /status: "1,2,3"; to be freed. limit: of a
// page.
char *sluice_ids(const struct sluice *sluice, const char *id, unsigned limit);

#endif
