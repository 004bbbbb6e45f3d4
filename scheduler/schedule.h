// schedule.h - the near end of the retry schedule: the batches in backoff that are due first, over all
// queues.
//
// As with a window on the order (order.h), the store holds them all and memory those up to a horizon. Pure;
// one thread.
#ifndef SLUICE_SCHEDULER_SCHEDULE_H
#define SLUICE_SCHEDULER_SCHEDULE_H

#include "scheduler/model.h"

#include <stddef.h>

#define SCHEDULE_MAX 1024u
#define SCHEDULE_LOW 256u
#define SCHEDULE_REFILL 512u

struct schedule {
    struct backoff_row *rows; // by (due, seq, index), from head
    size_t head;
    size_t len;
    size_t cap;
    bool complete; // the horizon is the end
    struct backoff_row horizon;
};

// Empty, and covering nothing yet.
void schedule_init(struct schedule *schedule);
void schedule_fini(struct schedule *schedule);

// The one due first, or NULL.
const struct backoff_row *schedule_first(const struct schedule *schedule);
void schedule_take_first(struct schedule *schedule);
MUST_CHECK enum err schedule_add(struct schedule *schedule, const struct backoff_row *row);

// True when it should be given more: the next rows strictly after its horizon.
bool schedule_wants(const struct schedule *schedule);
// The `count` next rows of the `asked` it wanted; fewer than asked means that there are no more.
MUST_CHECK enum err schedule_give(struct schedule *schedule, const struct backoff_row *rows, size_t count,
                                  size_t asked);

#endif
