// Deliveries: which batch goes next, and what becomes of it when the attempt has ended.
#include "scheduler/engine.h"

#include "common/container.h"
#include "scheduler/engine_state.h"
#include "scheduler/retry.h"

#include <stdlib.h>

#define SMOOTHING 8 // each measured delivery moves the smoothed time by 1/8 of the difference

// ---- flights ----

static void unlink_flight(struct flight *flight)
{
    struct queue *queue = flight->queue;
    *(flight->prev != NULL ? &flight->prev->next : &queue->flights_head) = flight->next;
    *(flight->next != NULL ? &flight->next->prev : &queue->flights_tail) = flight->prev;
}

// Puts it at its place by its start, which is mostly the end.
static void link_flight(struct flight *flight)
{
    struct queue *queue = flight->queue;
    struct flight *prev = queue->flights_tail;
    while (prev != NULL && mono_before(flight->started, prev->started)) {
        prev = prev->prev;
    }
    struct flight *next = prev != NULL ? prev->next : queue->flights_head;
    flight->prev = prev;
    flight->next = next;
    *(prev != NULL ? &prev->next : &queue->flights_head) = flight;
    *(next != NULL ? &next->prev : &queue->flights_tail) = flight;
}

static enum err add_flight(struct queue *queue, const struct place *place, struct mono started,
                           struct flight **added)
{
    struct flight *flight = malloc(sizeof *flight);
    if (flight == NULL) {
        return ERR_NO_MEMORY;
    }
    *flight = (struct flight){.queue = queue,
                              .place = *place,
                              .accepted_ns = ACCEPTED_UNKNOWN,
                              .started = started,
                              .slot = started,
                              .shifted_at = queue->shifted};
    link_flight(flight);
    queue->in_flight++;
    *added = flight;
    return ERR_OK;
}

static void await_start(struct flight *flight)
{
    if (flight->queue->settings.rate.count > 0) {
        flight->starting = true;
        flight->queue->starting++;
    }
}

static void start_is_known(struct engine *engine, struct flight *flight)
{
    if (flight->starting) {
        flight->starting = false;
        flight->queue->starting--;
        engine_figures_changed(engine, flight->queue);
    }
}

enum err engine_add_flight(struct engine *engine, const struct batch_key *key, struct mono started,
                           bool starting, bool cancelled, struct flight **flight)
{
    struct queue *queue = engine_queue(engine, key->queue);
    if (queue == NULL) {
        return ERR_UNKNOWN_QUEUE;
    }
    enum err err = add_flight(queue, &key->place, started, flight);
    if (err != ERR_OK) {
        return err;
    }
    (*flight)->cancelled = cancelled;
    if (starting) {
        await_start(*flight);
    }
    // Nothing that was dispatched before the breaker opened was dispatched after its first probe was due.
    (*flight)->probe = queue_breaker_open(queue) && !mono_before(started, queue->figures.probe_at);
    engine_touch(engine, queue);
    return ERR_OK;
}

// ---- dispatching ----

struct candidate {
    enum priority priority; // its own
    enum priority counts;   // and what it counts as by now
    struct run run;         // begins with it
};

// The first batch of the queue as its order stands; false when it wants look-ahead first.
static bool first_batch(const struct queue *queue, int64_t age_now_ns, struct candidate *first)
{
    bool any = false;
    *first = (struct candidate){.priority = PRIORITY_LOW};
    for (int p = 0; p < PRIORITIES; p++) {
        struct candidate next = {.priority = (enum priority)p};
        if (queue->waiting[p] == 0) {
            continue;
        }
        if (!window_first(&queue->windows[p], &next.run)) {
            return false;
        }
        next.counts =
            order_priority(next.priority, next.run.accepted_ns, age_now_ns, queue->settings.aging_ns);
        if (!any || next.counts < first->counts ||
            (next.counts == first->counts &&
             batch_compare(next.run.seq, next.run.first, first->run.seq, first->run.first) < 0)) {
            any = true;
            *first = next;
        }
    }
    return any;
}

static enum err dispatch(struct engine *engine, struct queue *queue, const struct candidate *first,
                         struct mono now, struct flight **flight)
{
    const struct place place = {first->priority, first->run.seq, first->run.first};
    enum err err = add_flight(queue, &place, now, flight);
    if (err != ERR_OK) {
        return err;
    }
    (*flight)->accepted_ns = first->run.accepted_ns;
    (*flight)->probe = queue_breaker_open(queue);
    (*flight)->slot = bucket_take(&queue->figures.bucket, queue->settings.rate, now);
    await_start(*flight);
    window_take_first(&queue->windows[first->priority]);
    queue->waiting[first->priority]--;
    engine->waiting--;
    if (queue->demand > 0) {
        queue->demand--;
    }
    queue->turn = now;
    queue->figures.dispatched++;
    meter_add(&queue->meter, now);
    engine_figures_changed(engine, queue);
    engine_touch(engine, queue);
    return ERR_OK;
}

// By how much it is behind its slot, which earlier late starts have moved, too, since it was taken.
static int64_t lateness(const struct flight *flight, struct mono now)
{
    return mono_diff(now, mono_add(flight->slot, flight->queue->shifted - flight->shifted_at));
}

// What should have started and has not, as far as is known, moves what is to come already: its thread may be
// just about to start it. False when there is nothing of the kind.
static bool delay_unstarted(struct engine *engine, struct queue *queue, struct mono now)
{
    size_t left = queue->settings.rate.count > 0 ? queue->starting : 0; // which mostly are the last ones
    bool any = false;
    for (struct flight *flight = queue->flights_tail, *prev; flight != NULL && left > 0; flight = prev) {
        prev = flight->prev;
        left -= flight->starting;
        if (flight->starting && lateness(flight, now) > TARGET_LATE_NS) {
            engine_delayed(engine, flight, now);
            any = true;
        }
    }
    return any;
}

enum err engine_next(struct engine *engine, struct mono now, struct wall now_wall, struct batch_key *key,
                     struct flight **flight)
{
    struct heap_node *top;
    while ((top = heap_top(&engine->wakes)) != NULL && top->key <= now.ns) {
        struct queue *queue = container_of(top, struct queue, wake);
        struct candidate first;
        if (engine_overdue(queue, now, now_wall) || !first_batch(queue, engine_age(engine, now), &first)) {
            heap_move(&engine->wakes, top, mono_add(now, 1).ns); // the others do not wait for it
            continue;
        }
        if (delay_unstarted(engine, queue, now)) {
            continue;
        }
        enum err err = dispatch(engine, queue, &first, now, flight);
        if (err == ERR_OK) {
            *key = (struct batch_key){queue->id, (*flight)->place};
        }
        return err;
    }
    return ERR_NOT_FOUND;
}

void engine_delayed(struct engine *engine, struct flight *flight, struct mono now)
{
    struct queue *queue = flight->queue;
    flight->started = now;
    unlink_flight(flight);
    link_flight(flight);
    int64_t late = lateness(flight, now);
    if (late > 0 && queue->settings.rate.count > 0) {
        bucket_shift(&queue->figures.bucket, late);
        queue->shifted += late;
        engine_figures_changed(engine, queue);
        engine_touch(engine, queue);
    }
}

void engine_started(struct engine *engine, struct flight *flight, struct mono started)
{
    engine_delayed(engine, flight, started);
    start_is_known(engine, flight);
}

// ---- outcomes ----

static void measure(struct queue_figures *figures, int64_t took_ns)
{
    int64_t smoothed = figures->delivery_ns;
    if (took_ns < 0) {
        return;
    }
    smoothed = smoothed == 0 ? took_ns : smoothed + (took_ns - smoothed) / SMOOTHING;
    figures->delivery_ns = smoothed > 0 ? smoothed : 1;
}

static void hold(struct queue *queue, const struct outcome *outcome, struct mono now, struct wall now_wall)
{
    struct queue_figures *figures = &queue->figures;
    int64_t most_ns = queue->settings.max_hold_ns;
    int64_t ns = outcome->hold_ns < most_ns ? outcome->hold_ns : most_ns;
    struct mono until = mono_add(now, ns);
    if (ns > 0 && mono_before(figures->held_until, until)) {
        figures->held_until = until;
        figures->held_until_wall = (struct wall){now_wall.ms + ns / NS_PER_MS + 1};
        figures->held_by = outcome->held_by;
    }
}

// Counts for the breaker. True when it was open before, so that the attempt does not count against the batch.
static bool count_failure(struct queue *queue, const struct flight *flight, bool down, struct mono now)
{
    const struct queue_settings *settings = &queue->settings;
    struct queue_figures *figures = &queue->figures;
    bool open = queue_breaker_open(queue);
    if (!down) {
        figures->failures = 0;
        return false;
    }
    if (settings->breaker == 0) {
        return false;
    }
    if (!open || flight->probe) { // the others were dispatched before it opened, and say nothing new
        figures->failures++;
        if (queue_breaker_open(queue)) {
            figures->probe_at =
                mono_add(now, retry_interval(settings->min_backoff_ns, settings->max_backoff_ns,
                                             figures->failures - settings->breaker));
        }
    }
    return open;
}

// What becomes of a batch that is worth another attempt. `used`: the attempts that count.
static void retry(const struct queue *queue, const struct outcome *outcome, uint32_t used, struct mono now,
                  uint64_t random, struct finish_row *row)
{
    const struct queue_settings *settings = &queue->settings;
    if (used >= settings->max_attempts) {
        row->state = BATCH_FAILED;
    } else if (outcome->has_delay && outcome->delay_ns == 0) {
        row->state = BATCH_WAITING;
    } else {
        row->state = BATCH_BACKOFF;
        row->due = mono_add(now, outcome->has_delay ? outcome->delay_ns
                                                    : retry_delay(settings->min_backoff_ns,
                                                                  settings->max_backoff_ns, used, random));
    }
}

// Brings the queue to where the batch is now.
static enum err leave(struct engine *engine, struct queue *queue, const struct flight *flight,
                      const struct finish_row *row)
{
    switch (row->state) {
    case BATCH_COMPLETED:
        queue->figures.completed++;
        break;
    case BATCH_FAILED:
        queue->figures.failed++;
        break;
    case BATCH_CANCELLED:
        break;
    case BATCH_BACKOFF:
        queue->figures.delayed++;
        engine->waiting++;
        engine_add_due(engine, queue, DUE_RETRY, row->due.ns);
        break;
    case BATCH_WAITING:
        return engine_insert(engine, queue, flight->place.priority,
                             (struct run){.seq = flight->place.seq,
                                          .first = flight->place.index,
                                          .end = flight->place.index + 1,
                                          .accepted_ns = flight->accepted_ns});
    case BATCH_IN_FLIGHT:
        break;
    }
    return ERR_OK;
}

enum err engine_outcome(struct engine *engine, struct flight *flight, const struct outcome *outcome,
                        uint32_t attempt, uint32_t excused, struct mono now, struct wall now_wall,
                        uint64_t random, struct finish_row *row)
{
    struct queue *queue = flight->queue;
    *row = (struct finish_row){.key = {queue->id, flight->place}, .now = now_wall, .error = outcome->error};
    bool spared = false;
    if (!flight->moved) {
        hold(queue, outcome, now, now_wall);
        spared = count_failure(queue, flight, outcome->down, now);
    }
    switch (outcome->class) {
    case OUTCOME_COMPLETED:
        row->state = BATCH_COMPLETED;
        if (!flight->moved) {
            measure(&queue->figures, outcome->took_ns);
        }
        break;
    case OUTCOME_FAILED:
        row->state = BATCH_FAILED;
        break;
    case OUTCOME_RETRY:
    case OUTCOME_HOLD:
        if (flight->cancelled) {
            row->state = BATCH_CANCELLED;
        } else if (spared && flight->probe) {
            // Another batch is the next probe, lest one that fails by itself keeps the breaker open for ever.
            row->state = BATCH_BACKOFF;
            row->excused = true;
            row->due = mono_add(queue->figures.probe_at, mono_diff(queue->figures.probe_at, now));
        } else if (spared || outcome->class == OUTCOME_HOLD) {
            row->state = BATCH_WAITING;
            row->excused = true;
        } else {
            retry(queue, outcome, attempt - excused, now, random, row);
        }
        break;
    }
    start_is_known(engine, flight); // or there was none
    enum err err = leave(engine, queue, flight, row);
    unlink_flight(flight);
    free(flight);
    queue->in_flight--;
    engine_figures_changed(engine, queue);
    engine_touch(engine, queue);
    return err;
}
