// routes.h - where the batches of each queue go. The loop's thread.
#ifndef SLUICE_SCHEDULER_ROUTES_H
#define SLUICE_SCHEDULER_ROUTES_H

#include "scheduler/engine.h"
#include "scheduler/target.h"

struct route {
    int64_t queue;
    struct target *target;
};

// Sorted by queue. A zeroed one is empty.
struct routes {
    struct route *items;
    size_t count;
    size_t cap;
};

void routes_fini(struct routes *routes);
// NULL when there is none.
struct target *routes_find(const struct routes *routes, int64_t queue);
// Gives the queue this target and headers, and lets go of another one it had; one that is the same stays. The
// errors are those of target_open.
MUST_CHECK enum err routes_set(struct routes *routes, struct targets *targets, int64_t queue,
                               const char *text, const char *headers, struct fault *fault);
void routes_remove(struct routes *routes, int64_t queue);

struct target_traits route_traits(const struct target *target);

#endif
