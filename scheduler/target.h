// target.h - where batches go: one delivery is one attempt at one batch.
//
// The loop creates a target for each queue and starts deliveries after their dispatch is on disk. A target
// never blocks the caller; the end of each delivery comes back through the inbox, also for deliveries that
// never got off the ground: exactly one INBOX_DONE for each delivery that was started.
#ifndef SLUICE_SCHEDULER_TARGET_H
#define SLUICE_SCHEDULER_TARGET_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/container.h"
#include "scheduler/inbox.h"
#include "scheduler/model.h"

struct flight; // the engine's record of it (engine.h), opaque here

struct delivery {
    struct flight *flight;
    struct id ingestion;
    struct id batch;
    int64_t queue;
    char queue_name[QUEUE_NAME_SIZE];
    struct place place;
    char *ids; // owned
    uint32_t attempt;
    uint32_t excused;
    int64_t timeout_ns;
    struct mono slot; // when it was decided; a start later than this by more than TARGET_LATE_NS is reported
    struct mono started;                    // written by the target when it really starts
    struct outcome outcome;                 // written by the target when it ends
    struct delivery *live_prev, *live_next; // the loop's: all that were started and are not yet settled
    struct inbox_item item;                 // for whoever holds it: the target while it runs, then the inbox
    struct inbox_item late;                 // posted when it started late
};

void delivery_free(struct delivery *delivery); // NULL is fine

// The delivery that an item is embedded in.
static inline struct delivery *delivery_of(struct inbox_item *item)
{
    return container_of(item, struct delivery, item);
}

// A delivery comes back with its `item` posted to the inbox: as INBOX_DONE when it ended (`outcome` filled
// in). When it starts later than its slot by more than TARGET_LATE_NS its `late` item is posted before
// (INBOX_LATE), so that the loop can move the queue's next slot by as much.
#define TARGET_LATE_NS (2 * NS_PER_MS)

struct target;
struct target_ops {
    // Takes the delivery over.
    void (*start)(struct target *target, struct delivery *delivery);
    // For targets without a thread of their own, NULL for others: ends what is due at `now` and returns when
    // it next wants to be called.
    struct mono (*run)(struct target *target, struct mono now);
    // Deliveries still running are dropped without a word: the caller is about to end, and the batches are
    // dispatched again.
    void (*free)(struct target *target);
};
// Each kind of target embeds this as its first member.
struct target {
    const struct target_ops *ops;
    int64_t expected_ns; // what a delivery takes as far as the text says so, else 0: a first guess for ETAs
};

// Reads "simulate:1500ms", "simulate:1s,fail=0.1,seed=7", "http://…", "https://…". ERR_INVALID_FIELD with the
// reason. ERR_NO_MEMORY, ERR_INTERNAL when a thread or library cannot start.
MUST_CHECK enum err target_new(const char *text, struct inbox *inbox, struct target **target,
                               struct fault *fault);
// Only checks the text.
MUST_CHECK enum err target_check(const char *text, struct fault *fault);
void target_free(struct target *target); // NULL is fine

// ---- for the targets themselves ----

// Sets `started`, and posts `late` if it is. Right before the delivery really starts.
void delivery_begin(struct delivery *delivery, struct inbox *inbox);
// Sets the class and the time it took and posts it; the rest of `outcome` is filled in already. The inbox has
// it afterwards.
void delivery_end(struct delivery *delivery, enum outcome_class class, struct inbox *inbox);
// Writes outcome.error: printed, cut at a character when too long, control characters and bytes that are no
// UTF-8 as '?'.
void delivery_explain(struct delivery *delivery, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Appends the JSON object that a target receives, as the outside contract has it.
void delivery_body(const struct delivery *delivery, struct buf *out);

#endif
