// routes.h - where the batches of each queue go. The loop's thread.
#ifndef SLUICE_SCHEDULER_ROUTES_H
#define SLUICE_SCHEDULER_ROUTES_H

#include "scheduler/engine.h"
#include "scheduler/target.h"

// How many queues metrics show by their names: the first of those there were at the start, and new ones as
// others are deleted. A queue that has no name there does not get one later: what is shown of all the rest
// together would jump.
#define ROUTES_NAMED_MAX 100u

struct route {
    int64_t queue;
    struct target *target;
    bool named;       // in metrics
    uint64_t retried; // attempts after which the batch is tried again
};

// Sorted by queue. A zeroed one is empty.
struct routes {
    struct route *items;
    size_t count;
    size_t cap;
    size_t named; // of them
};

void routes_fini(struct routes *routes);
// NULL when there is none, also below.
struct route *routes_get(const struct routes *routes, int64_t queue);
struct target *routes_find(const struct routes *routes, int64_t queue);
// Gives the queue this target and headers, and lets go of another one it had; one that is the same stays. The
// errors are those of target_open.
MUST_CHECK enum err routes_set(struct routes *routes, struct targets *targets, int64_t queue,
                               const char *text, const char *headers, struct fault *fault);
void routes_remove(struct routes *routes, int64_t queue);

struct target_traits route_traits(const struct target *target);

#endif
