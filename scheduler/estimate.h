// estimate.h - when the nth dispatch of a queue from now will start, if nothing arrives, fails or is
// cancelled: arithmetic on the rate, on the deliveries in flight and on the time a delivery takes. Pure; no
// errors.
//
// With a constant delivery time d and c deliveries at once, start(n) = max(rate(n), start(n-c) + d).
// Unrolled, that is the maximum over i of rate(n - i*c) + i*d and of the in-flight deliveries' ends plus
// whole rounds of d; rate() is convex in n, so of the i only the first and the last matter, and the cost does
// not depend on n.
#ifndef SLUICE_SCHEDULER_ESTIMATE_H
#define SLUICE_SCHEDULER_ESTIMATE_H

#include "scheduler/model.h"

#include <stddef.h>

struct estimate {
    struct bucket bucket;
    struct rate rate;
    uint32_t burst;
    uint32_t concurrency;
    int64_t delivery_ns;
    struct mono from;        // not before: now, or when a hold or linger ends
    const struct mono *ends; // when each delivery in flight should end, ascending
    size_t in_flight;
};

// n from 1.
struct mono estimate_start(const struct estimate *estimate, uint64_t n);

#endif
