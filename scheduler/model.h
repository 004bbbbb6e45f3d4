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
};

// Where a batch that was dispatched at least once stands. From outside the first three are all `triggered`.
enum batch_state {
    BATCH_IN_FLIGHT = 0,
    BATCH_WAITING = 1, // again: its retry is due, or its delivery was cut off
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

struct queue_settings {
    struct rate rate;
    uint32_t burst;
    int64_t linger_ns;
    uint32_t concurrency;
    uint32_t batch_size;
    uint64_t max_id;
    char target[1024];
    int64_t timeout_ns;
    uint32_t max_attempts;
    int64_t min_backoff_ns;
    int64_t max_backoff_ns;
    int64_t max_hold_ns; // no Retry-After holds the queue longer
};

// What of a queue changes with every dispatch, and is committed with it.
struct queue_figures {
    struct bucket bucket;
    struct mono held_until;      // Retry-After: no dispatch before; 0 when not held
    struct wall held_until_wall; // the same moment by the wall clock, for after a reboot
    int64_t delivery_ns;         // smoothed time of a delivery, 0 when none was measured
    uint64_t dispatched;         // totals since the queue was made
    uint64_t completed;
    uint64_t failed;
};

struct queue_row {
    int64_t id;
    char name[QUEUE_NAME_SIZE];
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

struct outcome {
    enum outcome_class class;
    int64_t hold_ns;  // OUTCOME_HOLD
    int64_t took_ns;  // from the start of the delivery to its end
    char error[4096]; // what went wrong, UTF-8; empty when completed
};

// Names a batch and says where it belongs.
struct batch_key {
    int64_t queue;
    struct place place;
};

// A batch that waits for its retry.
struct backoff_row {
    struct batch_key key;
    struct mono due;
};

// How an attempt leaves its batch: final, in backoff, or back at its place among the waiting.
struct finish_row {
    struct batch_key key;
    enum batch_state state; // BATCH_COMPLETED, BATCH_FAILED, BATCH_BACKOFF or BATCH_WAITING
    struct wall now;
    struct mono due;   // BATCH_BACKOFF
    bool excused;      // this attempt does not count against max_attempts
    const char *error; // "" or NULL: none; borrowed
};

#endif
