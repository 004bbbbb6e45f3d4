// turn.h - what the files of a turn share. The loop's thread.
//
// turn.c      the order of things, due work, dispatching, and the one transaction
// settle.c    how deliveries and leases end
// accept.c    ingests
// operate.c   cancel, retry, and operations on queues
// reply.c     what is said after the commit
// retain.c    what is removed when it has been kept long enough
// answer.c, answer_queue.c   the replies to requests that only ask
#ifndef SLUICE_SCHEDULER_TURN_H
#define SLUICE_SCHEDULER_TURN_H

#include "common/container.h"
#include "scheduler/loop.h"

#define TURN_DISPATCHES 256u // batches dispatched in a turn

// The rows that the chunks of so many bytes of IDs count as, at the most: an ID has two bytes at the least.
#define LEFT_BY_IDS(len) ((len) / (2 * 1024 / CHUNK_ROWS))

// Where a deadline has passed on a queue that is paused.
#define NO_ETA ((struct wall){-1})

struct turn {
    struct mono now;
    struct wall wall;
    struct inbox_item *messages; // this turn's
    size_t requests;
    size_t changes; // what this turn writes, counted roughly: 0 is nothing
    size_t leaves;  // rows to be removed one day of what it takes in and dispatches, at the most
    // One of each for every ingest that was admitted, in the order of the requests.
    struct insert *inserts;
    struct admission *admissions;
    struct wall *etas; // where the deadline cannot be met, the moment that could; else ms 0
    size_t insert_count;
    size_t insert_cap;
    size_t inserted;            // of them, so far
    struct inbox_item *settled; // the deliveries whose ends this turn commits
    struct delivery *acked;     // leased ones that workers settled, by acked_next
    struct lease_grant *idle;   // leases whose queue went or changed under them
    struct delivery *dispatched[TURN_DISPATCHES];
    size_t dispatch_count;
    size_t ends;              // of deliveries, on disk with this turn
    struct queue_totals gone; // of queues that it deletes, see metrics.h
    int64_t commit_ns;        // what its commit took
};

static inline struct ipc_message *message_of(struct inbox_item *item)
{
    return container_of(item, struct ipc_message, item);
}

// ---- turn.c ----

// The v5 ID of a batch: the same on every attempt and after every restart.
struct id batch_id(const struct id *ingestion, uint32_t index);
uint64_t next_random(struct loop *loop);
void live_add(struct loop *loop, struct delivery *delivery);
void live_remove(struct loop *loop, struct delivery *delivery);
// Tells the engine how many batches the workers of a pull queue wait for.
void update_demand(const struct loop *loop, int64_t queue);

// ---- settle.c ----

// Leases whose time is up end like deliveries that failed. What workers said in time was heard before.
void end_overdue_leases(struct loop *loop, struct mono now);
// A late start moves what is to come.
void apply_starts(struct loop *loop);
// Deliveries that ended.
MUST_CHECK enum err settle(struct loop *loop, struct turn *t);
// ack, nack, and the check of extend. What is refused is in r->fault; anything but ERR_OK fails the turn.
MUST_CHECK enum err settle_lease(struct loop *loop, struct turn *t, struct ipc_request *r);
// Says which batches failed, if it is time.
void log_failures(struct loop *loop, struct mono now);
// After the commit.
void forget_settled(struct loop *loop, struct turn *t);

// ---- accept.c ----

// Takes an ingest in; it is stored with the others of its group.
MUST_CHECK enum err accept_ingest(struct loop *loop, struct turn *t, struct ipc_request *r);
// Stores what has been taken in so far: before anything else that reads or changes the store.
MUST_CHECK enum err accept_flush(struct loop *loop, struct turn *t);

// ---- operate.c ----

// Carries out an operation. What is refused is in r->fault; anything but ERR_OK fails the turn.
MUST_CHECK enum err operate(struct loop *loop, struct turn *t, struct ipc_request *r);

// ---- retain.c ----

// A turn that wrote something was committed.
void retain_committed(struct loop *loop, const struct turn *t);

// ---- reply.c ----

// Takes the leases out of the turn's messages: each waits now, or stays to be answered.
void take_leases(struct loop *loop, struct turn *t);
// Answers the turn's messages, and the leases that were granted or whose wait is over. `failed`: why nothing
// of the turn is on disk, or ERR_OK.
void reply_all(struct loop *loop, struct turn *t, enum err failed);
// Answers them when the loop cannot go on: nothing of the turn is on disk, and memory says nothing.
void reply_none(struct turn *t);
// Answers leases with what they were granted, or with nothing.
void reply_leases(struct loop *loop, struct lease_grant *grants);

// ---- answer.c, answer_queue.c ----

// What is said of one that is not in the scope as well: nobody can tell the two apart.
#define NO_INGESTION "there is no ingestion with this ID"
// Appends the reply line of a request that only asks.
void answer(struct loop *loop, const struct request *request, struct buf *out);
// Appends the state after a request that changed something. When it cannot be told nothing is appended: the
// store cannot be read, or memory ran short.
MUST_CHECK enum err answer_ingestion(struct loop *loop, const struct id *id, struct buf *out);
MUST_CHECK enum err answer_queue(const struct loop *loop, const char *name, struct buf *out);
// scope may be NULL.
void answer_queues(const struct loop *loop, const struct queue_list_request *request,
                   const struct scope *scope, struct buf *out);
// One queue as a JSON object.
void put_queue(const struct loop *loop, const struct queue_view *view, struct buf *out);

#endif
