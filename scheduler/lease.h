// lease.h - the workers of pull targets: who waits for batches, and which batches are out until when. What is
// durable of it is in the store; this is the loop's memory of it. The loop's thread.
//
// A lease is one request of a worker. While it waits it holds its message (and so an IPC context of those
// kept for leases, see ipc.h); it is granted, first come first served, when the engine dispatches batches of
// its queue, up to `max` of them in one turn, and answered after the commit. From then on its batches are
// out, each a delivery that no target runs, until they are settled (ack, nack) or their time is up.
#ifndef SLUICE_SCHEDULER_LEASE_H
#define SLUICE_SCHEDULER_LEASE_H

#include "proto/request.h"
#include "scheduler/ipc.h"
#include "scheduler/target.h"

#define LEASES_WAITING_MAX IPC_KEPT_MAX

struct leases;

// A waiting lease that was given batches in this turn, or whose wait is over.
struct lease_grant {
    struct ipc_message *message; // to be answered; the caller's from now on
    struct id id;
    int64_t queue;
    struct delivery **deliveries; // the batches; empty when the wait is over
    size_t count;
    struct lease_grant *next;
};

MUST_CHECK enum err leases_new(struct leases **leases);
void leases_free(struct leases *leases); // waiting messages were taken before; batches out are not its own

// ---- waiting ----

// Takes the message (whose only request is a lease, with its ID) over. When a lease with this ID waits on the
// queue already, this one takes its place in the line, and the older message comes back in *older (otherwise
// NULL), to be answered without batches. ERR_OVERLOADED when as many wait as may, ERR_NO_MEMORY: then the
// message stays the caller's.
MUST_CHECK enum err leases_wait(struct leases *leases, int64_t queue, struct ipc_message *message,
                                struct mono now, struct lease_grant **older, struct fault *fault);
// True, and the queue, when a lease with this ID waits.
bool leases_waits(const struct leases *leases, const struct id *lease, int64_t *queue);
// How many leases wait, on all queues.
size_t leases_waiting(const struct leases *leases);
// How many batches the waiting leases of a queue ask for together, those given in this turn taken off.
uint32_t leases_demand(const struct leases *leases, int64_t queue);
// A batch was dispatched on a queue with demand: it goes to the first lease that waits there and has room,
// whose ID and end (now + lease_ns) the delivery gets. The grant is provisional until leases_take_grants, and
// is given back by leases_undo; until then the lease does not count as waiting. ERR_NO_MEMORY: nothing was
// done.
MUST_CHECK enum err leases_grant(struct leases *leases, struct delivery *delivery, struct mono now,
                                 int64_t lease_ns);
// After the commit: the leases that were given batches, whose batches are out from now on. The caller answers
// them and frees each with leases_free_grant.
struct lease_grant *leases_take_grants(struct leases *leases);
// The commit failed: those leases wait again, in their old places. The deliveries are the caller's to free.
void leases_undo(struct leases *leases);
// The leases whose wait is over (or all, when everything ends: MONO_NEVER), without batches.
struct lease_grant *leases_take_idle(struct leases *leases, struct mono now);
void leases_free_grant(struct lease_grant *grant);
// The worker's connection is gone: its waiting leases are dropped (their messages given to ipc_reply). The
// queues whose demand changed are told to `changed`. (One that was given batches in this turn is dropped by
// leases_undo.)
void leases_drop_pipe(struct leases *leases, uint32_t pipe,
                      void (*changed)(void *user, int64_t queue, uint32_t demand), void *user);
// The queue is gone or has another target: its waiting leases, without batches, to be answered.
struct lease_grant *leases_take_queue(struct leases *leases, int64_t queue);

// ---- out ----

// A batch that is out since before this start of the loop's memory (delivery->lease and ->due.key are set).
MUST_CHECK enum err leases_add(struct leases *leases, struct delivery *delivery);
// The deliveries out under a lease, with this batch or (NULL) all, in the order they were granted, as a list
// by `item.next`; NULL when none is.
struct delivery *leases_find(struct leases *leases, const struct id *lease, const struct id *batch);
void leases_extend(struct leases *leases, struct delivery *delivery, struct mono until);
// The batch is no longer out: settled, or about to be.
void leases_remove(struct leases *leases, struct delivery *delivery);
// One whose time is up at `now`, NULL when there is none.
struct delivery *leases_overdue(struct leases *leases, struct mono now);
// When the next wait is over or time is up.
struct mono leases_wake(const struct leases *leases);

#endif
