// metrics.h - what the gateway counts, and the answer to GET /metrics: that, and what the scheduler says of
// itself. Any thread.
#ifndef SLUICE_GATEWAY_METRICS_H
#define SLUICE_GATEWAY_METRICS_H

#include "common/histogram.h"
#include "gateway/answer.h"
#include "gateway/forward.h"

// A zeroed one has counted nothing.
struct metrics {
    struct wall started;
    // By endpoint; what no route matched comes last.
    _Atomic uint64_t requests[ENDPOINTS + 1][ERR_COUNT];
    struct histogram durations[ENDPOINTS + 1];
};

// How things stand at this moment.
struct metrics_now {
    size_t connections;
    size_t bodies; // bytes
    struct forward_stats forward;
};

// A request was answered, after this time. route: an endpoint, or ENDPOINTS.
void metrics_count(struct metrics *metrics, size_t route, enum err err, int64_t took_ns);

// Fills a fresh or cleared answer. reply: the scheduler's to OP_METRICS; what is no good one says that it is
// down.
void metrics_answer(const struct metrics *metrics, const struct metrics_now *now, const struct reply *reply,
                    struct answer *answer);

#endif
