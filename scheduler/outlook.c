// The questions that can be asked of the engine: where something stands, when it will be done, how the queues
// are.
#include "scheduler/engine_state.h"
#include "scheduler/estimate.h"
#include "scheduler/rate.h"

#include <string.h>

// The queue's future as the estimate wants it. The ends of its flights go into the engine's scratch.
static struct estimate future(struct engine *engine, const struct queue *queue, struct mono now)
{
    int64_t delivery_ns = queue_delivery_ns(queue);
    size_t n = 0;
    for (const struct flight *flight = queue->flights_head; flight != NULL; flight = flight->next) {
        engine->ends[n++] = mono_max(now, mono_add(flight->started, delivery_ns));
    }
    return (struct estimate){
        .bucket = queue->figures.bucket,
        .rate = queue->settings.rate,
        .burst = queue->settings.burst,
        .concurrency = queue->settings.concurrency,
        .delivery_ns = delivery_ns,
        .from = mono_max(now, queue_held_until(queue)),
        .ends = engine->ends,
        .in_flight = n,
    };
}

// How many waiting batches will be dispatched before this place: those that stand before it now, and those in
// backoff that take their old places before it in time. The schedule is by due time, so each that makes it
// lets the next be a slot later.
static uint64_t dispatched_before(const struct engine *engine, const struct queue *queue,
                                  const struct estimate *estimate, const struct place *place, uint64_t before)
{
    for (int p = 0; p < (int)place->priority; p++) {
        before += queue->waiting[p];
    }
    const struct schedule *schedule = &engine->schedule;
    for (size_t i = 0; i < schedule->len; i++) {
        const struct backoff_row *row = &schedule->rows[schedule->head + i];
        if (row->key.queue != queue->id || place_compare(&row->key.place, place) > 0) {
            continue;
        }
        if (mono_before(estimate_start(estimate, before + 1), row->due)) {
            break;
        }
        before++;
    }
    return before;
}

static struct mono flights_done(const struct queue *queue, const struct estimate *estimate, int64_t seq,
                                struct mono now)
{
    struct mono done = now;
    for (const struct flight *flight = queue->flights_head; flight != NULL; flight = flight->next) {
        if (flight->place.seq == seq) {
            done = mono_max(done, mono_add(flight->started, estimate->delivery_ns));
        }
    }
    return done;
}

// When the retries of the ingestion should be done: in the order they are due, with those of others that go
// before them, after all that waits before them now.
static struct mono retries_done(const struct engine *engine, const struct queue *queue,
                                const struct estimate *estimate, const struct standing *standing,
                                struct mono now)
{
    uint64_t before = standing->waiting ? standing->before_last + 1 : standing->before_first;
    for (int p = 0; p < (int)standing->last.priority; p++) {
        before += queue->waiting[p];
    }
    const struct place end = {standing->last.priority, standing->seq, UINT32_MAX};
    int64_t step_ns = estimate->delivery_ns / estimate->concurrency;
    int64_t interval_ns = rate_interval(estimate->rate);
    step_ns = step_ns > interval_ns ? step_ns : interval_ns;
    struct mono next = estimate_start(estimate, before + 1);
    struct mono done = now;
    const struct schedule *schedule = &engine->schedule;
    for (size_t i = 0; i < schedule->len; i++) {
        const struct backoff_row *row = &schedule->rows[schedule->head + i];
        if (row->key.queue != queue->id || place_compare(&row->key.place, &end) > 0) {
            continue;
        }
        struct mono start = mono_max(row->due, next);
        next = mono_add(start, step_ns);
        if (row->key.place.seq == standing->seq) {
            done = mono_max(done, mono_add(start, estimate->delivery_ns));
        }
    }
    return done;
}

struct outlook engine_outlook(struct engine *engine, const struct standing *standing, struct mono now)
{
    struct outlook outlook = {.has_position = false};
    const struct queue *queue = engine_queue(engine, standing->queue);
    if (queue == NULL || (!standing->waiting && !standing->underway)) {
        return outlook;
    }
    struct estimate estimate = future(engine, queue, now);
    struct mono done = now;
    if (standing->underway) {
        done = mono_max(flights_done(queue, &estimate, standing->seq, now),
                        retries_done(engine, queue, &estimate, standing, now));
    }
    if (standing->waiting) {
        outlook.has_position = true;
        outlook.position =
            dispatched_before(engine, queue, &estimate, &standing->first, standing->before_first);
        uint64_t last = dispatched_before(engine, queue, &estimate, &standing->last, standing->before_last);
        struct mono start = estimate_start(&estimate, last + 1);
        done = mono_max(done, mono_add(start, estimate.delivery_ns));
    }
    outlook.has_eta = true;
    outlook.eta = done;
    return outlook;
}

size_t engine_queues(const struct engine *engine)
{
    return engine->count;
}

static struct queue_view view(const struct queue *queue)
{
    struct queue_view view = {.name = queue->name,
                              .settings = &queue->settings,
                              .figures = &queue->figures,
                              .in_flight = queue->in_flight};
    memcpy(view.waiting, queue->waiting, sizeof view.waiting);
    return view;
}

struct queue_view engine_view(const struct engine *engine, size_t at)
{
    return view(engine->queues[at]);
}

enum err engine_view_by_id(const struct engine *engine, int64_t id, struct queue_view *found)
{
    const struct queue *queue = engine_queue(engine, id);
    if (queue == NULL) {
        return ERR_UNKNOWN_QUEUE;
    }
    *found = view(queue);
    return ERR_OK;
}

enum err engine_find_queue(const struct engine *engine, const char *name, int64_t *id)
{
    const struct queue *queue = engine_queue_named(engine, name);
    if (queue == NULL) {
        return ERR_UNKNOWN_QUEUE;
    }
    *id = queue->id;
    return ERR_OK;
}
