// rate.h - the token bucket, as a generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): one
// moment, the theoretical arrival time of the next dispatch, is the whole state, so it can be committed with
// each dispatch.
//
// In any window of length T at most burst + rate*T dispatches are taken. Nothing is rounded away: the
// interval is a whole number of nanoseconds and a remainder in units of 1/count ns. Pure; one thread; no
// errors. A rate with count 0 has no limit.
#ifndef SLUICE_SCHEDULER_RATE_H
#define SLUICE_SCHEDULER_RATE_H

#include "scheduler/model.h"

// The interval between two dispatches, rounded up to a nanosecond; 0 without a limit.
int64_t rate_interval(struct rate rate);
// What holds where a queue's burst (0) or linger (-1) is not set: what the rate gives in 10 ms, at least 1; 2
// % of the interval, at most 100 ms, nothing without a limit.
uint32_t rate_burst(struct rate rate, uint32_t set);
int64_t rate_linger(struct rate rate, int64_t set_ns);

// A bucket without a token in it: one interval must pass before the first dispatch.
struct bucket bucket_empty(struct rate rate, uint32_t burst, struct mono now);
// The earliest moment at which a dispatch may be taken (it may lie in the past).
struct mono bucket_opens(const struct bucket *bucket, struct rate rate, uint32_t burst);
// Takes one at `now`, which is not before bucket_opens. Returns the slot it fills: the moment up to which its
// start does not move any later one.
struct mono bucket_take(struct bucket *bucket, struct rate rate, struct mono now);
// Moves everything that is to come by ns >= 0.
void bucket_shift(struct bucket *bucket, int64_t ns);
// When the nth dispatch (from 1) could be taken if all were taken as early as the rate allows, none before
// `from`.
struct mono bucket_nth(const struct bucket *bucket, struct rate rate, uint32_t burst, struct mono from,
                       uint64_t nth);

#endif
