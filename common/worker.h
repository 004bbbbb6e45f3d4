// worker.h - one thread that does long work in turn, so that callbacks of the network library never do it.
#ifndef SLUICE_COMMON_WORKER_H
#define SLUICE_COMMON_WORKER_H

#include "common/err.h"

// Embedded in the caller's object: posting never allocates. An item may be posted again once run() was
// called.
struct work {
    struct work *next;
    void (*run)(struct work *work);
};

struct worker;

MUST_CHECK enum err worker_start(struct worker **worker);
// From any thread. Items run one at a time, in order.
void worker_post(struct worker *worker, struct work *work);
// Runs what was posted, then ends the thread and frees. NULL is fine.
void worker_stop(struct worker *worker);

#endif
