// verify_queue.h - what the pass over the history knows of each queue at the entry it has come to.
#ifndef SLUICE_SCHEDULER_VERIFY_QUEUE_H
#define SLUICE_SCHEDULER_VERIFY_QUEUE_H

#include "scheduler/verify_check.h"

__extension__ typedef __int128 wide;

// What holds up to the entry `until`, the next mark of the queue (INT64_MAX: to the end).
struct in_force {
    struct rate rate;
    uint32_t burst; // the effective one
    int64_t concurrency;
    bool aging;
    bool paused;
    int64_t until;
    int64_t kind;       // of the change at `until`
    int64_t dispatched; // the queue's total then
};

// For any two dispatches i <= j, j - i + 1 <= burst + rate * (t_j - t_i). Multiplied out, with f(k) = k *
// per_ns - count * t_k, f(j) - f(i) + per_ns <= burst * per_ns: so the lowest f so far is all there is to
// remember.
struct window {
    bool any;
    bool was_empty; // the lowest is not of a dispatch: the bucket was empty then
    wide lowest;
    int64_t number; // dispatches since the rate is in force
    int64_t lowest_number;
    int64_t lowest_ns;
};

// A dispatch that went before others, as a batch looks back at it.
struct passed {
    int64_t entry;
    int64_t seq;
    int64_t index;
};

// Dispatches of one priority, those left out that were followed by one further back in the order: oldest
// first, and so from the back of the order to its front. The first after an entry is the one furthest back.
struct trail {
    struct passed *items;
    size_t count;
    size_t cap;
    int64_t last; // entry that may have passed over what is more urgent; 0: none
};

struct queue_past {
    int64_t id;
    bool known; // of `now`
    struct in_force now;
    struct window window;
    struct trail trails[PRIORITIES];
    int64_t in_flight;
    bool total_known;
    int64_t total;   // dispatches, as the last mark had it
    int64_t since;   // and since
    bool dispatched; // in this boot, the last time at:
    int64_t at_ns;
};

struct pasts {
    struct queue_past *items; // by id
    size_t count;
    size_t cap;
};

// The queue's, made when it is not there. NULL without memory.
struct queue_past *past_of(struct pasts *pasts, int64_t id);
void pasts_free(struct pasts *pasts);

// The bucket is empty at this moment.
void window_empty(struct window *window, const struct in_force *now, int64_t at_ns);
// Counts a dispatch; false when it comes too early. Then *n dispatches were within *ns, or within *ns of an
// empty bucket.
bool window_add(struct window *window, const struct in_force *now, int64_t at_ns, int64_t *n, int64_t *ns,
                bool *of_empty);

// The entry of a dispatch that passed over a batch which waits since `since`; 0: there is none.
int64_t trails_passed(const struct trail trails[PRIORITIES], const struct place *place, int64_t since);
// `aging`: what is less urgent may have been the more urgent by then.
MUST_CHECK enum err trails_add(struct trail trails[PRIORITIES], bool aging, const struct place *place,
                               int64_t entry);

#endif
