// target_simulate.h - targets that complete each delivery after a fixed time, and fail a share of them if
// told to: "simulate:DURATION[,fail=SHARE][,seed=N]", SHARE from 0 to 1 with at most nine digits after the
// point. Which attempts fail is a function of seed (0 unless told), batch ID and attempt alone. The loop's
// thread.
#ifndef SLUICE_SCHEDULER_TARGET_SIMULATE_H
#define SLUICE_SCHEDULER_TARGET_SIMULATE_H

#include "scheduler/target_kind.h"

extern const struct target_kind target_simulate;

// Ends what is due at `now` and returns when the next one is.
struct mono simulate_run(struct targets *targets, struct mono now);
// Drops what is running.
void simulate_stop(struct targets *targets);

#endif
