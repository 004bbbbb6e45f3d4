// engine_state.h - the engine's memory, shared by the files that decide (engine*.c) and by outlook.c, which
// answers questions.
#ifndef SLUICE_SCHEDULER_ENGINE_STATE_H
#define SLUICE_SCHEDULER_ENGINE_STATE_H

#include "common/heap.h"
#include "scheduler/engine.h"
#include "scheduler/meter.h"
#include "scheduler/order.h"
#include "scheduler/rate.h"

#define ACCEPTED_UNKNOWN INT64_MIN

struct flight {
    struct queue *queue;
    struct flight *prev, *next; // the queue's flights by their start
    struct place place;
    int64_t accepted_ns; // of its ingestion; ACCEPTED_UNKNOWN when it was taken over
    struct mono started;
    struct mono slot;   // bucket_take's; a start up to it moves nothing
    int64_t shifted_at; // the queue's `shifted` when the slot was taken
    bool starting;      // the queue has a rate, and it is not known when it started
    bool probe;         // dispatched while the breaker was open
    bool cancelled;     // it is not tried again
    bool moved;         // the queue has another target by now, of which it says nothing
};

struct queue {
    struct heap_node wake;            // in engine.wakes, by its turn to dispatch; INT64_MAX: never
    struct heap_node dues[DUE_KINDS]; // in engine.dues[kind], by its turn to be taken up
    int64_t due_at[DUE_KINDS];        // the earliest moment of each time index, DUE_NEVER: empty
    int64_t id;
    char name[QUEUE_NAME_SIZE];
    struct queue_settings settings;
    struct queue_figures figures;
    struct target_traits traits;
    struct window windows[PRIORITIES];
    uint64_t waiting[PRIORITIES];
    struct meter meter; // of dispatches
    uint32_t demand;    // of a pull target
    struct mono linger_until;
    struct mono turn; // when it dispatched last
    struct flight *flights_head, *flights_tail;
    size_t in_flight;
    size_t starting;     // of these
    bool saved_starting; // figures.starting, as it is in the store
    int64_t shifted;     // by how much late starts have moved the bucket since the engine was built
    bool changed;
    struct queue *next_changed;
    bool hungry;
    struct queue *next_hungry;
};

struct engine {
    struct queue **queues;  // by id
    struct queue **by_name; // the same, by name
    size_t count;
    struct heap wakes;
    struct heap dues[DUE_KINDS];
    struct wall wall_seen; // a moment before it means that the clock was set back
    int64_t age_offset_ns;
    uint64_t max_waiting;
    uint64_t waiting;  // due or not, over all queues
    uint64_t reserved; // admitted, neither accepted nor declined yet
    uint32_t window_max;
    size_t unconfirmed; // queues with saved_starting
    struct queue *changed;
    struct queue *hungry; // queues that may want look-ahead
};

// ---- looking (engine.c) ----

// NULL when there is none.
struct queue *engine_queue(const struct engine *engine, int64_t id);
struct queue *engine_queue_named(const struct engine *engine, const char *name);
// The index in by_name of the first name that is not before this one.
size_t engine_name_at(const struct engine *engine, const char *name);

static inline uint64_t queue_waiting(const struct queue *queue)
{
    return queue->waiting[PRIORITY_HIGH] + queue->waiting[PRIORITY_MEDIUM] + queue->waiting[PRIORITY_LOW];
}
static inline uint32_t queue_burst(const struct queue *queue)
{
    return rate_burst(queue->settings.rate, queue->settings.burst);
}
// How long a delivery of the queue takes.
static inline int64_t queue_delivery_ns(const struct queue *queue)
{
    return queue->figures.delivery_ns > 0 ? queue->figures.delivery_ns : queue->traits.expected_ns;
}
static inline bool queue_breaker_open(const struct queue *queue)
{
    return queue->settings.breaker > 0 && queue->figures.failures >= queue->settings.breaker;
}
// Nothing of the queue starts before this; a pause apart.
static inline struct mono queue_held_until(const struct queue *queue)
{
    struct mono until = mono_max(queue->figures.held_until, queue->linger_until);
    return queue_breaker_open(queue) ? mono_max(until, queue->figures.probe_at) : until;
}

// ---- what changes come down to (engine.c) ----

// To be called after every change to a queue: finds out anew when it can dispatch and whether it wants
// look-ahead.
void engine_touch(struct engine *engine, struct queue *queue);
// engine_take_changed will have it.
void engine_figures_changed(struct engine *engine, struct queue *queue);
// Waiting batches come to their places; they were not counted as waiting before.
MUST_CHECK enum err engine_insert(struct engine *engine, struct queue *queue, enum priority priority,
                                  struct run run);

// ---- time indexes (engine_due.c) ----

// Something of the queue becomes due then.
void engine_add_due(struct engine *engine, struct queue *queue, enum due_kind kind, int64_t at);
// Something of the queue is due and has not been taken up.
bool engine_overdue(const struct queue *queue, struct mono now, struct wall now_wall);

#endif
