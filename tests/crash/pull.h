// pull.h - workers of a pull queue, which settle what they get in one way or another, or forget it.
#ifndef SLUICE_TESTS_CRASH_PULL_H
#define SLUICE_TESTS_CRASH_PULL_H

#include "tests/crash/talk.h"
#include "tests/support/engine_check.h"

#include <pthread.h>
#include <stdatomic.h>

enum settled { SETTLED_NOT, SETTLED_ACK, SETTLED_UNKNOWN }; // as the worker was told

// A batch that a worker got.
struct pulled {
    char ingestion[ID_TEXT_SIZE];
    char batch[ID_TEXT_SIZE];
    char *ids; // "1,2,3"
    int attempt;
    enum settled settled;
    struct mono asked; // before the lease was asked for
    struct mono told;  // when the answer to an ack was there
};

struct pull_worker {
    pthread_t thread;
    struct pull *pull;
    struct random random;
    struct talk *talk;
    struct pulled *list;
    size_t count;
    char fault[256];
};

struct pull {
    const char *queue;
    struct pull_worker *workers;
    size_t count;
    atomic_bool good; // from now on each batch is acknowledged
    atomic_bool end;
};

struct pull *pull_start(const struct sluice *sluice, const char *queue, size_t workers,
                        struct random *random);
// Fails the test when a worker got an answer there should not be.
void pull_stop(struct pull *pull);
void pull_free(struct pull *pull);

#endif
