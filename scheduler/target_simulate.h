// target_simulate.h - a target that completes each delivery after a fixed time, and fails a share of them if
// told to. No thread: everything happens in the loop's.
#ifndef SLUICE_SCHEDULER_TARGET_SIMULATE_H
#define SLUICE_SCHEDULER_TARGET_SIMULATE_H

#include "scheduler/target.h"

// "simulate:DURATION[,fail=SHARE][,seed=N]", SHARE from 0 to 1 with at most nine digits after the point.
// Which attempts fail is a function of seed (0 unless told), batch ID and attempt alone. Errors as
// target_check and target_new.
MUST_CHECK enum err target_simulate_check(const char *text, struct fault *fault);
MUST_CHECK enum err target_simulate_new(const char *text, struct inbox *inbox, struct target **target,
                                        struct fault *fault);

#endif
