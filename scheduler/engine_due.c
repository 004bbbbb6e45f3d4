// What becomes due: retries, starts and deadlines, of which the engine knows the earliest for each queue; and
// what else comes back to or leaves its place among the waiting.
#include "scheduler/engine.h"

#include "common/container.h"
#include "scheduler/engine_state.h"

#include <assert.h>

static int64_t clock_of(enum due_kind kind, struct mono now, struct wall now_wall)
{
    return kind == DUE_RETRY ? now.ns : now_wall.ms;
}

void engine_add_due(struct engine *engine, struct queue *queue, enum due_kind kind, int64_t at)
{
    if (at < queue->due_at[kind]) {
        queue->due_at[kind] = at;
        heap_move(&engine->dues[kind], &queue->dues[kind], at);
    }
}

bool engine_overdue(const struct queue *queue, struct mono now, struct wall now_wall)
{
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        if (queue->due_at[kind] <= clock_of((enum due_kind)kind, now, now_wall)) {
            return true;
        }
    }
    return false;
}

// Turns that were given by the wall clock mean nothing once it was set back.
static void wall_set_back(struct engine *engine)
{
    for (size_t i = 0; i < engine->count; i++) {
        struct queue *queue = engine->queues[i];
        heap_move(&engine->dues[DUE_START], &queue->dues[DUE_START], queue->due_at[DUE_START]);
        heap_move(&engine->dues[DUE_DEADLINE], &queue->dues[DUE_DEADLINE], queue->due_at[DUE_DEADLINE]);
    }
}

bool engine_next_due(struct engine *engine, struct mono now, struct wall now_wall, struct due *due)
{
    if (now_wall.ms < engine->wall_seen.ms) {
        wall_set_back(engine);
    }
    engine->wall_seen = now_wall;
    struct mono longest = MONO_NEVER;
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        struct heap_node *top = heap_top(&engine->dues[kind]);
        int64_t at = clock_of((enum due_kind)kind, now, now_wall);
        if (top == NULL || top->key > at) {
            continue;
        }
        struct mono since = {top->key}; // on the monotonic clock
        if (kind != DUE_RETRY) {
            int64_t late_ms = at - top->key;
            since = mono_add(now, late_ms < INT64_MAX / NS_PER_MS ? -late_ms * NS_PER_MS : -INT64_MAX);
        }
        if (mono_before(since, longest)) {
            longest = since;
            const struct queue *queue = container_of(top - kind, struct queue, dues);
            *due = (struct due){(enum due_kind)kind, queue->id};
        }
    }
    return longest.ns != MONO_NEVER.ns;
}

void engine_due_done(struct engine *engine, const struct due *due, int64_t next, struct mono now,
                     struct wall now_wall)
{
    struct queue *queue = engine_queue(engine, due->queue);
    assert(queue != NULL);
    int64_t at = clock_of(due->kind, now, now_wall);
    queue->due_at[due->kind] = next;
    heap_move(&engine->dues[due->kind], &queue->dues[due->kind], next > at ? next : at);
    engine_touch(engine, queue);
}

struct mono engine_wake(const struct engine *engine)
{
    const struct heap_node *turn = heap_top(&engine->wakes);
    const struct heap_node *retry = heap_top(&engine->dues[DUE_RETRY]);
    if (turn == NULL) {
        return MONO_NEVER;
    }
    return (struct mono){turn->key < retry->key ? turn->key : retry->key};
}

int64_t engine_wake_wall_ms(const struct engine *engine)
{
    const struct heap_node *start = heap_top(&engine->dues[DUE_START]);
    const struct heap_node *deadline = heap_top(&engine->dues[DUE_DEADLINE]);
    if (start == NULL) {
        return DUE_NEVER;
    }
    int64_t wake_ms = start->key < deadline->key ? start->key : deadline->key;
    // Something is left to do, and stays so when the clock is set back now.
    return wake_ms <= engine->wall_seen.ms ? INT64_MIN : wake_ms;
}

// ---- back to and away from the waiting ----

enum err engine_returned(struct engine *engine, int64_t id, const struct returned_row *row,
                         uint32_t from_delayed)
{
    struct queue *queue = engine_queue(engine, id);
    assert(queue != NULL && queue->figures.delayed >= from_delayed);
    queue->figures.delayed -= from_delayed;
    engine->waiting -= from_delayed;
    engine_figures_changed(engine, queue);
    return engine_insert(engine, queue, row->priority, row->run);
}

void engine_removed(struct engine *engine, const struct removal *removal)
{
    struct queue *queue = engine_queue(engine, removal->queue);
    if (queue == NULL) {
        assert(removal->waiting == 0 && removal->delayed == 0); // it could not have been removed
        return;
    }
    assert(queue->waiting[removal->priority] >= removal->waiting &&
           queue->figures.delayed >= removal->delayed);
    queue->waiting[removal->priority] -= removal->waiting;
    queue->figures.delayed -= removal->delayed;
    engine->waiting -= removal->waiting + removal->delayed;
    if (removal->cancelled) {
        window_remove(&queue->windows[removal->priority], removal->seq);
        for (struct flight *flight = queue->flights_head; flight != NULL; flight = flight->next) {
            if (flight->place.seq == removal->seq) {
                flight->cancelled = true;
            }
        }
    } else if (removal->waiting > 0) {
        window_reset(&queue->windows[removal->priority]); // some of it may still be there
    }
    if (removal->delayed > 0) {
        engine_figures_changed(engine, queue);
    }
    engine_touch(engine, queue);
}
