// engine_state.h - the engine's memory, shared by engine.c (which decides) and outlook.c (which answers
// questions).
#ifndef SLUICE_SCHEDULER_ENGINE_STATE_H
#define SLUICE_SCHEDULER_ENGINE_STATE_H

#include "common/heap.h"
#include "scheduler/engine.h"
#include "scheduler/order.h"
#include "scheduler/schedule.h"

struct flight {
    struct queue *queue;
    struct flight *prev, *next; // the queue's flights by their start
    struct place place;
    struct mono started;
    struct mono slot;   // bucket_take's; a start up to it moves nothing
    int64_t shifted_at; // the queue's `shifted` when the slot was taken
};

struct queue {
    struct heap_node wake; // in engine.wakes, by the moment of its next dispatch; INT64_MAX: none
    int64_t id;
    char name[QUEUE_NAME_SIZE];
    struct queue_settings settings;
    struct queue_figures figures;
    int64_t expected_ns;
    struct window windows[PRIORITIES];
    uint64_t waiting[PRIORITIES];
    struct mono linger_until;
    struct flight *flights_head, *flights_tail;
    size_t in_flight;
    int64_t shifted; // by how much late starts have moved the bucket since the engine was built
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
    struct schedule schedule;
    uint64_t max_waiting;
    uint64_t waiting;  // over all queues
    uint64_t reserved; // admitted, neither accepted nor declined yet
    struct queue *changed;
    struct queue *hungry; // queues that may want look-ahead
    struct mono *ends;    // scratch of the outlook
    size_t ends_cap;
};

// NULL when there is none.
struct queue *engine_queue(const struct engine *engine, int64_t id);
struct queue *engine_queue_named(const struct engine *engine, const char *name);

// How long a delivery of the queue takes.
static inline int64_t queue_delivery_ns(const struct queue *queue)
{
    return queue->figures.delivery_ns > 0 ? queue->figures.delivery_ns : queue->expected_ns;
}
// Nothing of the queue starts before this.
static inline struct mono queue_held_until(const struct queue *queue)
{
    return mono_max(queue->figures.held_until, queue->linger_until);
}

#endif
