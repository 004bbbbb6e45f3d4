// metrics.h - what the scheduler counts of itself since its start, and the text of it for Prometheus. The
// loop's thread.
#ifndef SLUICE_SCHEDULER_METRICS_H
#define SLUICE_SCHEDULER_METRICS_H

#include "common/buf.h"
#include "common/histogram.h"
#include "scheduler/engine.h"
#include "scheduler/routes.h"
#include "scheduler/store.h"
#include "scheduler/target.h"

// Totals of queues that are shown together, as those that were deleted.
struct queue_totals {
    uint64_t dispatched, completed, failed, retried;
};

// A zeroed one has counted nothing.
struct metrics {
    struct wall started;
    uint64_t accepted;               // ingestions
    struct histogram commit_times;   // of turns that wrote something
    struct histogram commit_writes;  // requests, dispatches and ends of deliveries in such a turn
    struct histogram start_delays;   // of deliveries behind their slots
    struct histogram delivery_times; // of attempts
    uint64_t outcomes[OUTCOMES];     // of attempts
    struct queue_totals gone;        // of queues that were deleted and had no name of their own
};

// What else is shown.
struct metrics_source {
    const struct engine *engine;
    const struct routes *routes;
    struct store *store;
    uint64_t requests, removed;
    size_t leases_waiting;
    struct mono now;
};

// A delivery was settled on disk.
void metrics_delivered(struct metrics *metrics, const struct delivery *delivery);

// A queue that is about to be deleted: what is to be added to `gone` when it is.
struct queue_totals metrics_leaving(const struct engine *engine, const struct routes *routes, int64_t queue,
                                    struct mono now);
void totals_add(struct queue_totals *to, const struct queue_totals *more);

// All of it. Queues that have no name of their own (see routes.h) are one, queue="_other".
void metrics_put(const struct metrics *metrics, const struct metrics_source *source, struct buf *out);

#endif
