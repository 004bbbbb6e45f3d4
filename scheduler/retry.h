// retry.h - how long a batch waits before its next attempt: exponential backoff with jitter over the whole
// range
// ("full jitter", M. Brooker, "Exponential Backoff And Jitter", 2015), never less than the minimum. Pure.
#ifndef SLUICE_SCHEDULER_RETRY_H
#define SLUICE_SCHEDULER_RETRY_H

#include <stdint.h>

// After the attempt-th attempt (from 1): evenly from min_ns to min(max_ns, min_ns * 2^attempt), by 64 random
// bits.
int64_t retry_delay(int64_t min_ns, int64_t max_ns, uint32_t attempt, uint64_t random);

#endif
