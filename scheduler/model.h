// model.h - the plain values that the engine, the store and the loop hand one another. No behaviour, no
// ownership beyond what is said.
#ifndef SLUICE_SCHEDULER_MODEL_H
#define SLUICE_SCHEDULER_MODEL_H

#include "common/clock.h"
#include "common/id.h"
#include "common/units.h"
#include "proto/words.h"

#include <stdbool.h>
#include <stdint.h>

// One batch's place in its queue's order: strictly by priority, then acceptance (seq, given once and
// growing), then the index inside the ingestion. (seq, index) alone names a batch.
struct place {
    enum priority priority;
    int64_t seq;
    uint32_t index;
};

// Consecutive waiting batches of one ingestion: indexes first (included) to end (excluded).
struct run {
    int64_t seq;
    uint32_t first;
    uint32_t end;
    int64_t
        accepted_ns; // when the ingestion was accepted, on the age clock; never less than that of a lower seq
};

// Where a batch that was dispatched at least once stands. From outside the first three are all `triggered`.
enum batch_state {
    BATCH_IN_FLIGHT = 0,
    BATCH_WAITING =
        1, // again: its retry is due, or its delivery was cut off; with attempts 0 after a retry by hand
    BATCH_BACKOFF = 2, // until its due time
    BATCH_COMPLETED = 3,
    BATCH_FAILED = 4,
    BATCH_CANCELLED = 5,
};

// A token bucket in the form of GCRA (ITU-T I.371): `tat` is the theoretical arrival time of the next
// dispatch. The interval per_ns/count is no whole number in general, so tat carries a fraction in units of
// 1/count nanoseconds.
struct bucket {
    struct mono tat;
    uint64_t fraction; // 0 to count-1
};

// Settings as they were set; see rate.h for what burst and linger mean when they were not.
struct queue_settings {
    struct rate rate;
    uint32_t burst;    // 0: the default
    int64_t linger_ns; // -1: the default
    uint32_t concurrency;
    uint32_t batch_size;
    uint32_t largest_batch; // the largest batch_size it has had: what was cut by it may wait, or be retried
    enum ids_kind ids;
    uint64_t max_id;
    int64_t timeout_ns;
    uint32_t max_attempts;
    int64_t min_backoff_ns;
    int64_t max_backoff_ns;
    int64_t max_hold_ns; // no Retry-After holds the queue longer
    uint32_t breaker;    // failures in succession that open it; 0: none
    int64_t lease_ns;
    enum on_interrupt on_interrupt;
    int64_t aging_ns; // 0: off
};

// Why a queue is held.
enum hold_reason { HOLD_NONE, HOLD_RETRY_AFTER, HOLD_RATE_LIMIT };

// A delivery that starts later than its slot by no more than this is on time.
#define TARGET_LATE_NS (2 * NS_PER_MS)

// What of a queue changes with every dispatch, and is committed with it.
struct queue_figures {
    struct bucket bucket;
    bool starting; // when some of what was dispatched started, if it did, the bucket does not know yet
    bool paused;   // by an operator
    struct mono held_until;      // no dispatch before; 0 when not held
    struct wall held_until_wall; // the same moment by the wall clock, for after a reboot
    enum hold_reason held_by;
    uint32_t
        failures; // of the target's own in succession; at settings.breaker and beyond the breaker is open
    struct mono probe_at; // while it is open: no dispatch before, and one at a time
    int64_t delivery_ns;  // smoothed time of a delivery, 0 when none was measured
    uint64_t delayed;     // batches that are not due: in backoff, or before their not_before
    uint64_t dispatched;  // totals since the queue was made
    uint64_t completed;
    uint64_t failed;
};

// A queue as the store has it. target and headers are owned by whoever holds the row (queue_row_fini).
struct queue_row {
    int64_t id;
    char name[QUEUE_NAME_SIZE];
    char *target;
    char *headers; // lines, see proto/queue_change.h
    struct queue_settings settings;
    struct queue_figures figures;
};

// How one attempt ended.
enum outcome_class {
    OUTCOME_COMPLETED,
    OUTCOME_RETRY,  // worth another attempt
    OUTCOME_FAILED, // for good
    OUTCOME_HOLD,   // the target asked to hold the whole queue; uses up no attempt
};

#define OUTCOMES 4
const char *outcome_name(enum outcome_class class); // as in logs and metrics; target.c

struct outcome {
    enum outcome_class class;
    int64_t hold_ns; // > 0: hold the queue that long, whatever the class
    enum hold_reason held_by;
    bool down;        // the target could not be reached or failed of itself: counts for the breaker
    bool has_delay;   // OUTCOME_RETRY: delay_ns is asked for, in the place of the queue's backoff
    int64_t delay_ns; // 0: back to its place at once
    int64_t took_ns;  // from the start of the delivery to its end; negative: not known
    char error[4096]; // what went wrong, UTF-8; empty when completed
};

// Names a batch and says where it belongs.
struct batch_key {
    int64_t queue;
    struct place place;
};

// The time indexes: what becomes due at a moment.
enum due_kind {
    DUE_RETRY,    // a batch in backoff goes back to its place; by the monotonic clock
    DUE_START,    // an ingestion's not_before has come; by the wall clock
    DUE_DEADLINE, // what of an ingestion has not started is cancelled; by the wall clock
};
#define DUE_KINDS 3
#define DUE_NEVER INT64_MAX

// Batches that are not due yet.
struct delayed_row {
    struct place place; // the first of them
    uint32_t end;
    enum due_kind kind; // DUE_RETRY or DUE_START
    int64_t due;        // nanoseconds (DUE_RETRY) or milliseconds (DUE_START)
};

// Waiting batches that go back to, or come to, their places.
struct returned_row {
    enum priority priority;
    struct run run;
};

// What an ingestion no longer has in its queue, because it was cancelled or its deadline came.
struct removal {
    int64_t queue;
    enum priority priority;
    int64_t seq;
    uint32_t waiting; // all that stood among the waiting
    uint32_t delayed; // of those that were not due
    bool cancelled;   // wholly: what is in flight is not tried again either
};

// How an attempt leaves its batch: final, in backoff, or back at its place among the waiting.
struct finish_row {
    struct batch_key key;
    enum batch_state state; // BATCH_COMPLETED, BATCH_FAILED, BATCH_CANCELLED, BATCH_BACKOFF or BATCH_WAITING
    struct wall now;
    int64_t age_ns;    // now, on the age clock
    struct mono due;   // BATCH_BACKOFF
    bool excused;      // this attempt does not count against max_attempts
    bool interrupted;  // the scheduler ended while it was in flight
    const char *error; // "" or NULL: none; borrowed
};

#endif
