// retry.h - how long to wait before something is tried again. Pure.
#ifndef SLUICE_SCHEDULER_RETRY_H
#define SLUICE_SCHEDULER_RETRY_H

#include <stdint.h>

// min_ns, doubled so many times, up to max_ns; the minimum wins.
int64_t retry_interval(int64_t min_ns, int64_t max_ns, uint32_t doublings);

// After the attempt-th attempt (from 1): evenly from min_ns to the interval that doubled as many times, by 64
// random bits. That is jitter over the whole range ("full jitter", M. Brooker, "Exponential Backoff And
// Jitter", 2015), but never less than the minimum.
int64_t retry_delay(int64_t min_ns, int64_t max_ns, uint32_t attempt, uint64_t random);

#endif
