// target.h - where batches go: one delivery is one attempt at one batch.
//
// The loop opens a target for each queue and starts deliveries after their dispatch is on disk. Nothing here
// blocks the caller; the end of each delivery comes back through the inbox, also for deliveries that never
// got off the ground: exactly one INBOX_DONE for each delivery that was started. All targets of a kind share
// one machinery (a thread, a timer heap), so that thousands of idle queues cost nothing. Thread: the loop's,
// for all functions but those for the kinds themselves.
#ifndef SLUICE_SCHEDULER_TARGET_H
#define SLUICE_SCHEDULER_TARGET_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/container.h"
#include "common/heap.h"
#include "proto/trace.h"
#include "scheduler/inbox.h"
#include "scheduler/model.h"

struct flight; // the engine's record of it (engine.h), opaque here
struct target;
struct targets;

struct delivery {
    struct flight *flight;
    struct target *target; // held from delivery_new to delivery_free
    struct id ingestion;
    struct id batch;
    int64_t queue;
    char queue_name[QUEUE_NAME_SIZE];
    struct place place;
    char *ids;          // owned
    struct trace trace; // what its ingestion came with
    uint32_t attempt;
    uint32_t excused;
    int64_t timeout_ns;
    struct mono slot;                       // when it was decided
    struct mono started;                    // written by the target when it really starts
    bool paced;                             // its queue has a rate: every start is reported
    bool begun;                             // the loop's: it knows when it started
    struct outcome outcome;                 // written by the target when it ends
    bool again;                             // the loop's: its batch is tried again
    struct delivery *live_prev, *live_next; // the loop's: all that were started and are not yet settled
    struct inbox_item item;                 // for whoever holds it: the target while it runs, then the inbox
    struct inbox_item start;                // posted when it started
    struct heap_node due;                   // for a kind with timers of its own: simulate, and leases
    struct id lease;                        // of a pull target
    struct delivery *acked_next;            // the loop's: settled by workers in this turn
};

// A zeroed delivery that holds the target; NULL without memory.
struct delivery *delivery_new(struct target *target);
void delivery_free(struct delivery *delivery); // NULL is fine

// The delivery that an item is embedded in.
static inline struct delivery *delivery_of(struct inbox_item *item)
{
    return container_of(item, struct delivery, item);
}

// A delivery comes back with its `item` posted to the inbox: as INBOX_DONE when it ended (`outcome` filled
// in). When it starts later than its slot by more than TARGET_LATE_NS its `start` item is posted before
// (INBOX_STARTED), so that the loop can move the queue's next slot by as much; one that is paced reports a
// start in time, too, but quietly.
static inline bool delivery_is_late(const struct delivery *delivery, struct mono started)
{
    return mono_diff(started, delivery->slot) > TARGET_LATE_NS;
}

// ---- the machinery of all kinds ----

// ERR_NO_MEMORY, ERR_INTERNAL when a thread or library cannot start. Threads start with the first target that
// needs them.
MUST_CHECK enum err targets_new(struct inbox *inbox, struct targets **targets);
// Nothing is posted from here on. What was must be taken before targets_stop: it may be part of a delivery
// that is still running (INBOX_STARTED). NULL is fine.
void targets_halt(struct targets *targets);
// Deliveries still running are dropped without a word (and programs killed): the caller is about to end, and
// the batches are dispatched again. Nothing is posted afterwards. NULL is fine.
void targets_stop(struct targets *targets);
// After targets_stop, when all targets are closed and all deliveries freed. NULL is fine.
void targets_free(struct targets *targets);
// Ends what is due at `now` and returns when it next wants to be called. Costs nothing for what is not due.
struct mono targets_run(struct targets *targets, struct mono now);

// ---- one queue's target ----

// Reads "simulate:1500ms", "simulate:1s,fail=0.1,seed=7", "http://...", "https://...", "exec:/path", "pull:".
// `headers` are lines (proto/queue_change.h), "" for none; http sends them, others ignore them.
// ERR_INVALID_FIELD with the reason, ERR_NO_MEMORY, ERR_INTERNAL.
MUST_CHECK enum err target_open(struct targets *targets, const char *text, const char *headers,
                                struct target **target, struct fault *fault);
// Lets go of it; deliveries under way still hold it. NULL is fine.
void target_close(struct target *target);
// Only checks the text.
MUST_CHECK enum err target_check(const char *text, struct fault *fault);
const char *target_text(const struct target *target);
const char *target_headers(const struct target *target);
// What a delivery takes as far as the text says so, else 0: a first guess for ETAs.
int64_t target_expected_ns(const struct target *target);
// True when workers fetch the batches (lease.h) and nothing is started.
bool target_is_pull(const struct target *target);
// Takes the delivery over.
void target_start(struct delivery *delivery);

// ---- for the kinds themselves ----

// Each kind's target embeds this as its first member (more for them: target_kind.h).
struct target {
    const struct target_kind *kind;
    struct targets *targets;
    unsigned holders; // the queue, and each delivery
    char *text;       // owned
    char *headers;    // owned
    int64_t expected_ns;
};

// Sets `started`, and posts `start` if that is to be reported. Right before the delivery really starts. Any
// thread.
void delivery_begin(struct delivery *delivery, struct inbox *inbox);
// Sets the class and the time it took and posts it; the rest of `outcome` is filled in already. The inbox has
// it afterwards. Any thread.
void delivery_end(struct delivery *delivery, enum outcome_class class, struct inbox *inbox);
// Writes outcome.error: printed, cut at a character when too long, on one line (tabs and line ends as
// spaces), control characters and bytes that are no UTF-8 as '?'.
void delivery_explain(struct delivery *delivery, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Appends the JSON object that a target receives, as the outside contract has it.
void delivery_body(const struct delivery *delivery, struct buf *out);

#endif
