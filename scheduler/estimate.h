// estimate.h - when the nth dispatch of a queue from now will start, if nothing arrives, fails or is
// cancelled: arithmetic on the rate, on the deliveries in flight and on the time a delivery takes. Pure; no
// errors.
//
// With a constant delivery time d, an interval I, a burst b and c deliveries at once, start n is never before
// the bucket as it is now allows it, never before start n-c, plus d, and never before start n-m, plus
// (m+1-b) * I. Unrolled, that is a maximum of terms that are linear in between, so that only the first and
// the last of each kind matter: the cost does not depend on n.
#ifndef SLUICE_SCHEDULER_ESTIMATE_H
#define SLUICE_SCHEDULER_ESTIMATE_H

#include "scheduler/model.h"

#include <stddef.h>

#define ESTIMATE_LANES 10000u // as many deliveries at once as can be told apart

// The start of dispatch `at`; 0: of none.
struct estimate_at {
    struct mono start;
    uint64_t at;
};

struct estimate {
    struct bucket bucket;
    struct rate rate;
    uint32_t burst;
    uint32_t concurrency; // 1 to ESTIMATE_LANES
    int64_t delivery_ns;
    struct mono from;  // not before: now, or when a hold or linger ends
    struct mono *ends; // of the deliveries in flight, ascending; the caller's, with room for ESTIMATE_LANES
    size_t in_flight;  // at most ESTIMATE_LANES
    bool probing;      // nothing is in flight, and the first dispatch must end before another starts

    // estimate_begin's:
    struct mono probe; // the first dispatch while `probing`; all the above is about those after it
    struct bucket before_probe;
    struct estimate_at lags; // the delivery in flight that delays, by the rate, the later starts the most
};

// To be called once when it is filled in, before anything below.
void estimate_begin(struct estimate *estimate);
// n from 1.
struct mono estimate_start(const struct estimate *estimate, uint64_t n);
// How many dispatches start before this moment, or `limit` if that is less; it is known that it is `least` at
// least.
uint64_t estimate_count(const struct estimate *estimate, struct mono before, uint64_t least, uint64_t limit);
// Goes on from `from`, a moment before which `taken` dispatches start and no more: nothing was left for them.
// What is counted from 1 is then what comes after.
void estimate_resume(struct estimate *estimate, uint64_t taken, struct mono from);

#endif
