// load.h - many clients that ingest, cancel, retry and look, over HTTP and IPC, while programs die under
// them. What each was told is kept, to be held against what is there in the end (tests/crash/check.h).
//
// Everything random comes from a seed; when which thing happens is the machine's.
#ifndef SLUICE_TESTS_CRASH_LOAD_H
#define SLUICE_TESTS_CRASH_LOAD_H

#include "proto/words.h"
#include "tests/crash/talk.h"
#include "tests/support/engine_check.h"

#include <pthread.h>
#include <stdatomic.h>

// The queues of a crash test.
enum load_queue {
    QUEUE_FAST, // HTTP, FAST_RATE
    QUEUE_SLOW, // HTTP, so slow that one dispatch too many is seen
    QUEUE_KEPT, // HTTP, paused at first: then its order can be told
    QUEUE_BIG,  // simulated, of large ingestions: they fill the log
    QUEUE_JOBS, // pull
};
#define LOAD_QUEUES 5
#define OWN_QUEUE "own" // of a test itself: nothing is said of what is on it
extern const char *const load_queue_names[LOAD_QUEUES];
extern const uint32_t load_batch_sizes[LOAD_QUEUES];

enum request_end {
    REQUEST_ACCEPTED, // 200: it is there
    REQUEST_REFUSED,  // 503: it is not
    REQUEST_UNKNOWN,  // no answer, or 504: all of it is there, or nothing
};

struct posting {
    enum request_end end;
    char id[ID_TEXT_SIZE]; // where it is known
    enum load_queue queue;
    enum priority priority;
    uint64_t first; // its IDs are this one and those that follow it
    unsigned count;
    bool cancelled; // it was asked for, answered or not
    int called_off; // batches that an answer said are cancelled
    bool retried;
    bool seen; // for check.c
};

#define REQUESTS_MAX 400 // of a client

struct client {
    pthread_t thread;
    unsigned number;
    struct load *load;
    struct random random;
    struct talk *talk;
    struct posting requests[REQUESTS_MAX];
    size_t count;
    char fault[256]; // an answer there should not be
};

struct load {
    struct client *clients;
    size_t count;
    unsigned pause_ms; // of a client between two requests, on average
    atomic_bool end;
};

// Starts so many clients, half of them over IPC.
struct load *load_start(const struct sluice *sluice, size_t clients, unsigned pause_ms,
                        struct random *random);
// Waits until each has its last answer; fails the test when one got an answer there should not be.
void load_stop(struct load *load);
void load_free(struct load *load);

// The request that an ID belongs to; NULL: none.
struct posting *load_find(struct load *load, uint64_t id);

#endif
