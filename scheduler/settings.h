// settings.h - what the flags and the boot mean for a store that has seen other flags and other boots.
#ifndef SLUICE_SCHEDULER_SETTINGS_H
#define SLUICE_SCHEDULER_SETTINGS_H

#include "scheduler/store.h"

// The flags that are settings of the `default` queue.
struct default_flags {
    struct rate rate;
    uint64_t burst; // 0: what the rate gives in 10 ms
    uint64_t concurrency;
    uint64_t batch_size;
    char *target; // borrowed
    uint64_t max_id;
};

// Brings the store up to this start, in one transaction: makes the default queue if there is none; applies
// each flag whose value is another than at the last start (and logs old and new), and leaves alone what a
// flag that did not change would set; after a reboot, empties the buckets and makes every retry due, since
// moments of another boot mean nothing.
MUST_CHECK enum err settings_apply(struct store *store, const struct default_flags *flags, struct mono now,
                                   struct wall now_wall);

#endif
