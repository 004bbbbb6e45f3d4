// meter.h - how many dispatches a queue began in the last minute. Pure; one thread; no errors.
#ifndef SLUICE_SCHEDULER_METER_H
#define SLUICE_SCHEDULER_METER_H

#include "common/clock.h"

#define METER_SECONDS 60

// Counts by the second. A zeroed one is empty.
struct meter {
    int64_t second;    // the newest that has a count
    struct mono began; // the first count
    uint32_t counts[METER_SECONDS];
};

void meter_add(struct meter *meter, struct mono now);
// Per second, over the last minute, or over the time since the first count when that is shorter (at least a
// second).
double meter_rate(const struct meter *meter, struct mono now);

#endif
