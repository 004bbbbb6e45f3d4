#include "scheduler/engine.h"

#include "common/container.h"
#include "scheduler/engine_state.h"
#include "scheduler/rate.h"
#include "scheduler/retry.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SMOOTHING 8 // each measured delivery moves the smoothed time by 1/8 of the difference

struct engine *engine_new(uint64_t max_waiting)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return NULL;
    }
    engine->max_waiting = max_waiting;
    heap_init(&engine->wakes);
    schedule_init(&engine->schedule);
    return engine;
}

static void queue_free(struct queue *queue)
{
    if (queue == NULL) {
        return;
    }
    for (struct flight *flight = queue->flights_head, *next; flight != NULL; flight = next) {
        next = flight->next;
        free(flight);
    }
    for (int p = 0; p < PRIORITIES; p++) {
        window_fini(&queue->windows[p]);
    }
    free(queue);
}

void engine_free(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    heap_fini(&engine->wakes);
    for (size_t i = 0; i < engine->count; i++) {
        queue_free(engine->queues[i]);
    }
    schedule_fini(&engine->schedule);
    free(engine->queues);
    free(engine->by_name);
    free(engine->ends);
    free(engine);
}

// ---- queues ----

struct queue *engine_queue(const struct engine *engine, int64_t id)
{
    size_t low = 0;
    size_t high = engine->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (engine->queues[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < engine->count && engine->queues[low]->id == id ? engine->queues[low] : NULL;
}

// The index in by_name of the first name that is not before this one.
static size_t name_at(const struct engine *engine, const char *name)
{
    size_t low = 0;
    size_t high = engine->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(engine->by_name[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct queue *engine_queue_named(const struct engine *engine, const char *name)
{
    size_t at = name_at(engine, name);
    return at < engine->count && strcmp(engine->by_name[at]->name, name) == 0 ? engine->by_name[at] : NULL;
}

static struct mono opens(const struct queue *queue)
{
    uint64_t waiting = 0;
    for (int p = 0; p < PRIORITIES; p++) {
        waiting += queue->waiting[p];
    }
    if (waiting == 0 || queue->in_flight >= queue->settings.concurrency) {
        return MONO_NEVER;
    }
    struct mono slot = bucket_opens(&queue->figures.bucket, queue->settings.rate, queue->settings.burst);
    return mono_max(slot, queue_held_until(queue));
}

// To be called after every change to a queue: finds out anew when it can dispatch and whether it wants
// look-ahead.
static void touch(struct engine *engine, struct queue *queue)
{
    heap_move(&engine->wakes, &queue->wake, opens(queue).ns);
    for (int p = 0; p < PRIORITIES && !queue->hungry; p++) {
        if (window_wants(&queue->windows[p])) {
            queue->hungry = true;
            queue->next_hungry = engine->hungry;
            engine->hungry = queue;
        }
    }
}

static void figures_changed(struct engine *engine, struct queue *queue)
{
    if (!queue->changed) {
        queue->changed = true;
        queue->next_changed = engine->changed;
        engine->changed = queue;
    }
}

static enum err grow_queues(struct engine *engine)
{
    size_t count = engine->count + 1;
    struct queue **queues = realloc(engine->queues, count * sizeof *queues);
    if (queues == NULL) {
        return ERR_NO_MEMORY;
    }
    engine->queues = queues;
    struct queue **by_name = realloc(engine->by_name, count * sizeof *by_name);
    if (by_name == NULL) {
        return ERR_NO_MEMORY;
    }
    engine->by_name = by_name;
    return heap_reserve(&engine->wakes, 1);
}

enum err engine_add_queue(struct engine *engine, const struct queue_row *row,
                          const uint64_t waiting[PRIORITIES], int64_t expected_ns)
{
    assert(engine->count == 0 || engine->queues[engine->count - 1]->id < row->id);
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL || grow_queues(engine) != ERR_OK) {
        free(queue);
        return ERR_NO_MEMORY;
    }
    queue->id = row->id;
    memcpy(queue->name, row->name, sizeof queue->name);
    queue->settings = row->settings;
    queue->figures = row->figures;
    queue->expected_ns = expected_ns;
    queue->linger_until = (struct mono){INT64_MIN};
    for (int p = 0; p < PRIORITIES; p++) {
        window_init(&queue->windows[p]);
        queue->waiting[p] = waiting[p];
        engine->waiting += waiting[p];
    }
    size_t at = name_at(engine, queue->name);
    memmove(engine->by_name + at + 1, engine->by_name + at, (engine->count - at) * sizeof *engine->by_name);
    engine->by_name[at] = queue;
    engine->queues[engine->count++] = queue;
    enum err err = heap_insert(&engine->wakes, &queue->wake, INT64_MAX);
    assert(err == ERR_OK); // room was reserved
    touch(engine, queue);
    return err;
}

// ---- flights ----

// Adds a flight at its place by start. New ones belong at the end; only those taken over after a reload look
// further.
static enum err add_flight(struct engine *engine, struct queue *queue, const struct place *place,
                           struct mono started, struct flight **added)
{
    if (queue->in_flight + 1 > engine->ends_cap) {
        size_t cap = engine->ends_cap == 0 ? 16 : engine->ends_cap * 2;
        struct mono *ends = realloc(engine->ends, cap * sizeof *ends);
        if (ends == NULL) {
            return ERR_NO_MEMORY;
        }
        engine->ends = ends;
        engine->ends_cap = cap;
    }
    struct flight *flight = malloc(sizeof *flight);
    if (flight == NULL) {
        return ERR_NO_MEMORY;
    }
    *flight = (struct flight){
        .queue = queue, .place = *place, .started = started, .slot = started, .shifted_at = queue->shifted};
    struct flight *prev = queue->flights_tail;
    while (prev != NULL && mono_before(started, prev->started)) {
        prev = prev->prev;
    }
    struct flight *next = prev != NULL ? prev->next : queue->flights_head;
    flight->prev = prev;
    flight->next = next;
    *(prev != NULL ? &prev->next : &queue->flights_head) = flight;
    *(next != NULL ? &next->prev : &queue->flights_tail) = flight;
    queue->in_flight++;
    *added = flight;
    return ERR_OK;
}

static void remove_flight(struct flight *flight)
{
    struct queue *queue = flight->queue;
    *(flight->prev != NULL ? &flight->prev->next : &queue->flights_head) = flight->next;
    *(flight->next != NULL ? &flight->next->prev : &queue->flights_tail) = flight->prev;
    queue->in_flight--;
    free(flight);
}

enum err engine_add_flight(struct engine *engine, const struct batch_key *key, struct mono started,
                           struct flight **flight)
{
    struct queue *queue = engine_queue(engine, key->queue);
    if (queue == NULL) {
        return ERR_UNKNOWN_QUEUE;
    }
    enum err err = add_flight(engine, queue, &key->place, started, flight);
    touch(engine, queue);
    return err;
}

// ---- look-ahead ----

bool engine_wants(struct engine *engine, struct want *want)
{
    if (schedule_wants(&engine->schedule)) {
        const struct backoff_row *horizon = &engine->schedule.horizon;
        *want = (struct want){.kind = WANT_BACKOFF,
                              .after_due = horizon->due,
                              .after_seq = horizon->key.place.seq,
                              .after_index = horizon->key.place.index,
                              .count = SCHEDULE_REFILL};
        return true;
    }
    for (struct queue *queue; (queue = engine->hungry) != NULL;) {
        for (int p = 0; p < PRIORITIES; p++) {
            const struct window *window = &queue->windows[p];
            if (window_wants(window)) {
                *want = (struct want){.kind = WANT_RUNS,
                                      .queue = queue->id,
                                      .priority = (enum priority)p,
                                      .after_seq = window->horizon_seq,
                                      .after_index = window->horizon_index,
                                      .count = WINDOW_REFILL};
                return true;
            }
        }
        engine->hungry = queue->next_hungry;
        queue->hungry = false;
    }
    return false;
}

enum err engine_give_runs(struct engine *engine, const struct want *want, const struct run *runs,
                          size_t count)
{
    struct queue *queue = engine_queue(engine, want->queue);
    assert(queue != NULL);
    return window_give(&queue->windows[want->priority], runs, count, want->count);
}

enum err engine_give_backoff(struct engine *engine, const struct want *want, const struct backoff_row *rows,
                             size_t count)
{
    return schedule_give(&engine->schedule, rows, count, want->count);
}

// ---- accepting ----

enum err engine_admit(struct engine *engine, const struct ingest_request *request,
                      struct admission *admission, struct fault *fault)
{
    const struct queue *queue = engine_queue_named(engine, request->queue);
    if (queue == NULL) {
        return fault_set(fault, ERR_UNKNOWN_QUEUE, "there is no queue \"%s\"", request->queue);
    }
    if (request->ids.largest > queue->settings.max_id) {
        return fault_set(fault, ERR_ID_OUT_OF_RANGE,
                         "ids: %llu is over %llu, the largest ID allowed on queue \"%s\"",
                         (unsigned long long)request->ids.largest, (unsigned long long)queue->settings.max_id,
                         queue->name);
    }
    uint32_t size = queue->settings.batch_size;
    uint32_t batches = request->ids.count / size + (request->ids.count % size != 0);
    *admission = (struct admission){
        .queue = queue->id,
        .priority = request->priority,
        .batch_size = size,
        .batches = batches,
        .only_replay = engine->waiting + engine->reserved + batches > engine->max_waiting,
    };
    if (!admission->only_replay) {
        engine->reserved += batches;
    }
    return ERR_OK;
}

enum err engine_accepted(struct engine *engine, const struct admission *admission, int64_t seq,
                         struct mono now)
{
    struct queue *queue = engine_queue(engine, admission->queue);
    assert(queue != NULL);
    engine->reserved -= admission->batches;
    bool idle =
        queue->waiting[PRIORITY_HIGH] + queue->waiting[PRIORITY_MEDIUM] + queue->waiting[PRIORITY_LOW] == 0;
    if (idle) {
        queue->linger_until = mono_add(now, queue->settings.linger_ns);
    }
    queue->waiting[admission->priority] += admission->batches;
    engine->waiting += admission->batches;
    struct run run = {.seq = seq, .first = 0, .end = admission->batches};
    enum err err = window_append(&queue->windows[admission->priority], run);
    touch(engine, queue);
    return err;
}

void engine_declined(struct engine *engine, const struct admission *admission)
{
    if (!admission->only_replay) {
        engine->reserved -= admission->batches;
    }
}

// ---- dispatching ----

static enum err wait_again(struct engine *engine, struct queue *queue, const struct place *place)
{
    queue->waiting[place->priority]++;
    engine->waiting++;
    enum err err = window_insert(&queue->windows[place->priority], place->seq, place->index);
    touch(engine, queue);
    return err;
}

enum err engine_next_due(struct engine *engine, struct mono now, struct batch_key *key)
{
    const struct backoff_row *row = schedule_first(&engine->schedule);
    if (row == NULL || mono_before(now, row->due)) {
        return ERR_NOT_FOUND;
    }
    *key = row->key;
    schedule_take_first(&engine->schedule);
    struct queue *queue = engine_queue(engine, key->queue);
    assert(queue != NULL);
    return wait_again(engine, queue, &key->place);
}

enum err engine_next(struct engine *engine, struct mono now, struct batch_key *key, struct flight **flight)
{
    struct heap_node *top = heap_top(&engine->wakes);
    if (top == NULL || top->key > now.ns) {
        return ERR_NOT_FOUND;
    }
    struct queue *queue = container_of(top, struct queue, wake);
    enum priority priority = PRIORITY_HIGH;
    while (queue->waiting[priority] == 0) {
        priority++; // ends at PRIORITY_LOW: the queue would not be at the top with nothing waiting
    }
    struct place place = {.priority = priority};
    if (!window_first(&queue->windows[priority], &place.seq, &place.index)) {
        return ERR_NOT_FOUND;
    }
    enum err err = add_flight(engine, queue, &place, now, flight);
    if (err != ERR_OK) {
        return err;
    }
    window_take_first(&queue->windows[priority]);
    queue->waiting[priority]--;
    engine->waiting--;
    (*flight)->slot = bucket_take(&queue->figures.bucket, queue->settings.rate, now);
    queue->figures.dispatched++;
    figures_changed(engine, queue);
    touch(engine, queue);
    *key = (struct batch_key){queue->id, place};
    return ERR_OK;
}

void engine_started(struct engine *engine, struct flight *flight, struct mono started)
{
    struct queue *queue = flight->queue;
    flight->started = started;
    // Earlier late starts have moved this slot, too, since it was taken.
    struct mono slot = mono_add(flight->slot, queue->shifted - flight->shifted_at);
    int64_t late = mono_diff(started, slot);
    if (late > 0 && queue->settings.rate.count > 0) {
        bucket_shift(&queue->figures.bucket, late);
        queue->shifted += late;
        figures_changed(engine, queue);
        touch(engine, queue);
    }
}

static void measure(struct queue_figures *figures, int64_t took_ns)
{
    int64_t smoothed = figures->delivery_ns;
    smoothed = smoothed == 0 ? took_ns : smoothed + (took_ns - smoothed) / SMOOTHING;
    figures->delivery_ns = smoothed > 0 ? smoothed : 1;
}

static void hold(struct queue *queue, int64_t hold_ns, struct mono now, struct wall now_wall)
{
    int64_t ns = hold_ns < queue->settings.max_hold_ns ? hold_ns : queue->settings.max_hold_ns;
    struct mono until = mono_add(now, ns);
    if (mono_before(queue->figures.held_until, until)) {
        queue->figures.held_until = until;
        queue->figures.held_until_wall = (struct wall){now_wall.ms + ns / NS_PER_MS + 1};
    }
}

enum err engine_outcome(struct engine *engine, struct flight *flight, const struct outcome *outcome,
                        uint32_t attempt, uint32_t excused, struct mono now, struct wall now_wall,
                        uint64_t random, struct finish_row *row)
{
    struct queue *queue = flight->queue;
    const struct queue_settings *settings = &queue->settings;
    *row = (struct finish_row){.key = {queue->id, flight->place}, .now = now_wall, .error = outcome->error};
    enum err err = ERR_OK;
    switch (outcome->class) {
    case OUTCOME_COMPLETED:
        row->state = BATCH_COMPLETED;
        queue->figures.completed++;
        measure(&queue->figures, outcome->took_ns);
        break;
    case OUTCOME_RETRY: {
        uint32_t used = attempt - excused;
        if (used >= settings->max_attempts) {
            row->state = BATCH_FAILED;
            queue->figures.failed++;
            break;
        }
        row->state = BATCH_BACKOFF;
        row->due =
            mono_add(now, retry_delay(settings->min_backoff_ns, settings->max_backoff_ns, used, random));
        err = schedule_add(&engine->schedule, &(struct backoff_row){row->key, row->due});
        break;
    }
    case OUTCOME_FAILED:
        row->state = BATCH_FAILED;
        queue->figures.failed++;
        break;
    case OUTCOME_HOLD:
        row->state = BATCH_WAITING;
        row->excused = true;
        hold(queue, outcome->hold_ns, now, now_wall);
        err = wait_again(engine, queue, &flight->place);
        break;
    }
    remove_flight(flight);
    figures_changed(engine, queue);
    touch(engine, queue);
    return err;
}

bool engine_take_changed(struct engine *engine, int64_t *id, struct queue_figures *figures)
{
    struct queue *queue = engine->changed;
    if (queue == NULL) {
        return false;
    }
    engine->changed = queue->next_changed;
    queue->changed = false;
    *id = queue->id;
    *figures = queue->figures;
    return true;
}

struct mono engine_wake(const struct engine *engine)
{
    if (schedule_wants(&engine->schedule)) {
        return (struct mono){INT64_MIN}; // it cannot know when the next retry is due
    }
    const struct heap_node *top = heap_top(&engine->wakes);
    struct mono wake = {top != NULL ? top->key : INT64_MAX};
    const struct backoff_row *due = schedule_first(&engine->schedule);
    return due != NULL ? mono_min(wake, due->due) : wake;
}
