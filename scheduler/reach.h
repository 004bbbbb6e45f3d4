// reach.h - which ingestions a request is about: its scope (proto/scope.h), with the queues by their ids. One
// that is not in reach is, for the request, not there. Pure; the engine's thread.
//
// A scope names queues that are there: ingestions of a queue that was deleted are in no reach that names
// queues, nor do they come back with a new queue of the same name.
#ifndef SLUICE_SCHEDULER_REACH_H
#define SLUICE_SCHEDULER_REACH_H

#include "proto/scope.h"

struct engine;

struct reach {
    const char *owner; // the scope's; "": whoever's
    bool all_queues;
    size_t queue_count; // not all_queues: these, perhaps none
    int64_t queues[SCOPE_QUEUES_MAX];
};

// To be made anew for each request: queues come and go. scope may be NULL (everything); it is borrowed.
struct reach reach_of(const struct scope *scope, const struct engine *engine);
// Only what is on this queue, which is in it.
void reach_narrow(struct reach *reach, int64_t queue);
// Nothing is in it.
bool reach_empty(const struct reach *reach);
// Whether an ingestion on this queue and of this owner ("": nobody's) is. reach may be NULL (everything).
bool reach_has(const struct reach *reach, int64_t queue, const char *owner);

#endif
