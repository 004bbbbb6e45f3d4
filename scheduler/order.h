// order.h - the order of a queue's waiting batches, and the look-ahead on it that memory holds.
//
// What waits lives in the store; a window holds the head of it, for one queue and one priority: every waiting
// batch up to its horizon, and nothing beyond. So memory does not grow with the backlog. Pure; one thread.
#ifndef SLUICE_SCHEDULER_ORDER_H
#define SLUICE_SCHEDULER_ORDER_H

#include "scheduler/model.h"

#include <stddef.h>

#define WINDOW_MAX 1024u   // runs held at the most
#define WINDOW_LOW 256u    // below it, it wants more
#define WINDOW_REFILL 512u // how many it asks for at a time

// The published order: negative, zero or positive as a comes before, is, or comes after b.
int place_compare(const struct place *a, const struct place *b);

struct window {
    struct run *runs; // in order, from head
    size_t head;
    size_t len;
    size_t cap;
    bool complete;       // the horizon is the end: everything that waits is here
    int64_t horizon_seq; // the last batch it covers; nothing after it is in the window
    uint32_t horizon_index;
};

// Empty, and covering nothing yet.
void window_init(struct window *window);
void window_fini(struct window *window);

// Its first batch; false when it is empty.
bool window_first(const struct window *window, int64_t *seq, uint32_t *index);
void window_take_first(struct window *window);

// A new ingestion's batches, which come after everything else.
MUST_CHECK enum err window_append(struct window *window, struct run run);
// A batch that returns to its place.
MUST_CHECK enum err window_insert(struct window *window, int64_t seq, uint32_t index);

// True when it should be given more: the next runs strictly after its horizon.
bool window_wants(const struct window *window);
// The `count` next runs of the `asked` it wanted; fewer than asked means that there are no more.
MUST_CHECK enum err window_give(struct window *window, const struct run *runs, size_t count, size_t asked);

#endif
