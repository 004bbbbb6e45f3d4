// target_exec.h - deliveries to programs: "exec:/absolute/path". The rest of the text is the path; there is
// no shell and there are no arguments. One thread for all of them.
//
// A program runs in a process group of its own, with the environment and the working directory of the
// scheduler, default signal dispositions, and no descriptors but its standard ones: the JSON body on its
// input, nothing to be had of its output, and the end of its standard error kept. When its time is up the
// whole group is killed. What it leaves running behind it when it exits is left alone.
#ifndef SLUICE_SCHEDULER_TARGET_EXEC_H
#define SLUICE_SCHEDULER_TARGET_EXEC_H

#include "scheduler/target_kind.h"

extern const struct target_kind target_exec;

// Ends the thread, kills and reaps what is running. NULL is fine.
// As http_halt.
void exec_halt(struct exec *exec);
void exec_stop(struct exec *exec);

#endif
