// order.h - the order of a queue's waiting batches, and the look-ahead on it that memory holds.
//
// What waits lives in the store; a window holds the head of it, for one queue and one priority: every waiting
// batch up to its horizon, and nothing beyond. So memory does not grow with the backlog. Pure; one thread.
#ifndef SLUICE_SCHEDULER_ORDER_H
#define SLUICE_SCHEDULER_ORDER_H

#include "scheduler/model.h"

#include <stddef.h>

#define WINDOWS_BUDGET (16u << 20) // bytes, for the windows of all queues together
#define WINDOW_MAX 1024u           // runs a window holds at the most
#define WINDOW_MIN 16u

// How many runs each window may hold when `windows` of them share the budget: from WINDOW_MIN to WINDOW_MAX.
// It asks for half as many at a time, and for more when it is a quarter full.
uint32_t window_share(size_t windows);

// What a batch of priority `own` counts as by now: a batch that waited for `aging_ns` counts one priority
// higher, and twice that two (0: no aging). Moments of the age clock.
enum priority order_priority(enum priority own, int64_t accepted_ns, int64_t age_now_ns, int64_t aging_ns);

// What goes before a batch of priority `own`, by the order as it stands at one moment. For each priority: all
// batches accepted up to `before_ns`, and those up to `tied_ns` with a lower (seq, index). Moments of the age
// clock; INT64_MIN: none, INT64_MAX: all.
struct order_bound {
    int64_t before_ns;
    int64_t tied_ns;
};
void order_bounds(enum priority own, int64_t accepted_ns, int64_t age_now_ns, int64_t aging_ns,
                  struct order_bound bounds[PRIORITIES]);

// The published order without aging: negative, zero or positive as a comes before, is, or comes after b.
int place_compare(const struct place *a, const struct place *b);
// The same of two batches of one priority.
int batch_compare(int64_t a_seq, uint32_t a_index, int64_t b_seq, uint32_t b_index);

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

// The run of its first batch, which is run.first; false when it is empty.
bool window_first(const struct window *window, struct run *run);
void window_take_first(struct window *window);

// A new ingestion's batches, which come after everything else.
MUST_CHECK enum err window_append(struct window *window, struct run run, uint32_t max);
// Batches that return to their places.
MUST_CHECK enum err window_insert(struct window *window, struct run run, uint32_t max);
// All batches of an ingestion leave.
void window_remove(struct window *window, int64_t seq);
// Forgets everything, so that it wants it anew.
void window_reset(struct window *window);
// Nothing waits any more: the empty window is all there is.
void window_finish(struct window *window);
// Lets go of what is more than its share has become.
void window_shrink(struct window *window, uint32_t max);

// True when it should be given more: the next runs strictly after its horizon.
bool window_wants(const struct window *window, uint32_t max);
// The `count` next runs of the `asked` it wanted; fewer than asked means that there are no more.
MUST_CHECK enum err window_give(struct window *window, const struct run *runs, size_t count, size_t asked);

#endif
