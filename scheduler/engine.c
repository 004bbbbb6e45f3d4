// The engine's queues, and what comes in: settings, look-ahead, requests.
#include "scheduler/engine.h"

#include "scheduler/engine_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct engine *engine_new(uint64_t max_waiting, int64_t age_offset_ns)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return NULL;
    }
    engine->max_waiting = max_waiting;
    engine->age_offset_ns = age_offset_ns;
    engine->wall_seen = (struct wall){INT64_MIN};
    engine->window_max = window_share(PRIORITIES);
    heap_init(&engine->wakes);
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        heap_init(&engine->dues[kind]);
    }
    return engine;
}

static void queue_free(struct queue *queue)
{
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
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        heap_fini(&engine->dues[kind]);
    }
    for (size_t i = 0; i < engine->count; i++) {
        queue_free(engine->queues[i]);
    }
    free(engine->queues);
    free(engine->by_name);
    free(engine);
}

int64_t engine_age(const struct engine *engine, struct mono now)
{
    return now.ns + engine->age_offset_ns;
}

// ---- looking ----

static size_t id_at(const struct engine *engine, int64_t id)
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
    return low;
}

struct queue *engine_queue(const struct engine *engine, int64_t id)
{
    size_t at = id_at(engine, id);
    return at < engine->count && engine->queues[at]->id == id ? engine->queues[at] : NULL;
}

size_t engine_name_at(const struct engine *engine, const char *name)
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
    size_t at = engine_name_at(engine, name);
    return at < engine->count && strcmp(engine->by_name[at]->name, name) == 0 ? engine->by_name[at] : NULL;
}

static struct queue *known_queue(const struct engine *engine, int64_t id)
{
    struct queue *queue = engine_queue(engine, id);
    assert(queue != NULL);
    return queue;
}

// ---- what changes come down to ----

static struct mono opens(const struct queue *queue)
{
    size_t slots = queue_breaker_open(queue) ? 1 : queue->settings.concurrency; // probes go one by one
    if (queue->figures.paused || queue_waiting(queue) == 0 || queue->in_flight >= slots ||
        (queue->traits.pull && queue->demand == 0)) {
        return MONO_NEVER;
    }
    struct mono slot = bucket_opens(&queue->figures.bucket, queue->settings.rate, queue_burst(queue));
    return mono_max(slot, queue_held_until(queue));
}

void engine_touch(struct engine *engine, struct queue *queue)
{
    heap_move(&engine->wakes, &queue->wake, mono_max(opens(queue), queue->turn).ns);
    bool wants = false;
    for (int p = 0; p < PRIORITIES; p++) {
        struct window *window = &queue->windows[p];
        if (!window->complete && queue->waiting[p] == 0) {
            window_finish(window); // the store need not be asked
        }
        wants = wants || window_wants(window, engine->window_max);
    }
    if (wants && !queue->hungry) {
        queue->hungry = true;
        queue->next_hungry = engine->hungry;
        engine->hungry = queue;
    }
}

void engine_figures_changed(struct engine *engine, struct queue *queue)
{
    if (!queue->changed) {
        queue->changed = true;
        queue->next_changed = engine->changed;
        engine->changed = queue;
    }
}

enum err engine_insert(struct engine *engine, struct queue *queue, enum priority priority, struct run run)
{
    struct window *window = &queue->windows[priority];
    enum err err = ERR_OK;
    queue->waiting[priority] += run.end - run.first;
    engine->waiting += run.end - run.first;
    if (run.accepted_ns == ACCEPTED_UNKNOWN) {
        window_reset(window); // the store knows
    } else {
        err = window_insert(window, run, engine->window_max);
    }
    engine_touch(engine, queue);
    return err;
}

// ---- queues ----

// Room for one more queue everywhere, so that adding it cannot fail.
static enum err reserve_queue(struct engine *engine)
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
    enum err err = heap_reserve(&engine->wakes, 1);
    for (int kind = 0; kind < DUE_KINDS && err == ERR_OK; kind++) {
        err = heap_reserve(&engine->dues[kind], 1);
    }
    return err;
}

static void share_budget(struct engine *engine)
{
    uint32_t max = window_share(PRIORITIES * engine->count);
    for (size_t i = 0; i < engine->count && max < engine->window_max; i++) {
        for (int p = 0; p < PRIORITIES; p++) {
            window_shrink(&engine->queues[i]->windows[p], max);
        }
    }
    engine->window_max = max;
}

static void insert_into_heaps(struct engine *engine, struct queue *queue)
{
    enum err err = heap_insert(&engine->wakes, &queue->wake, INT64_MAX);
    assert(err == ERR_OK); // room was reserved
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        err = heap_insert(&engine->dues[kind], &queue->dues[kind], queue->due_at[kind]);
        assert(err == ERR_OK);
    }
}

enum err engine_add_queue(struct engine *engine, const struct queue_load *load)
{
    assert(engine->count == 0 || engine->queues[engine->count - 1]->id < load->id);
    assert(strlen(load->name) < QUEUE_NAME_SIZE);
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL || reserve_queue(engine) != ERR_OK) {
        free(queue);
        return ERR_NO_MEMORY;
    }
    queue->id = load->id;
    memcpy(queue->name, load->name, strlen(load->name));
    queue->settings = load->settings;
    queue->figures = load->figures;
    queue->saved_starting = load->figures.starting;
    engine->unconfirmed += queue->saved_starting;
    queue->traits = load->traits;
    queue->linger_until = (struct mono){INT64_MIN};
    queue->turn = (struct mono){INT64_MIN};
    memcpy(queue->due_at, load->due, sizeof queue->due_at);
    engine->waiting += load->figures.delayed;
    for (int p = 0; p < PRIORITIES; p++) {
        window_init(&queue->windows[p]);
        queue->waiting[p] = load->waiting[p];
        engine->waiting += load->waiting[p];
    }
    size_t at = engine_name_at(engine, queue->name);
    memmove(engine->by_name + at + 1, engine->by_name + at, (engine->count - at) * sizeof *engine->by_name);
    engine->by_name[at] = queue;
    engine->queues[engine->count++] = queue;
    insert_into_heaps(engine, queue);
    share_budget(engine);
    if (queue->saved_starting) { // which is over, or will be told anew
        engine_figures_changed(engine, queue);
    }
    engine_touch(engine, queue);
    return ERR_OK;
}

// Nothing that is in flight counts as late for what the new bucket gives.
static void empty_bucket(struct queue *queue, struct mono now)
{
    queue->figures.bucket = bucket_empty(queue->settings.rate, queue_burst(queue), now);
    for (struct flight *flight = queue->flights_head; flight != NULL; flight = flight->next) {
        flight->slot = now;
        flight->shifted_at = queue->shifted;
    }
}

void engine_change_queue(struct engine *engine, int64_t id, const struct queue_settings *settings,
                         const struct target_traits *traits, struct mono now)
{
    struct queue *queue = known_queue(engine, id);
    const struct rate rate = queue->settings.rate;
    const uint32_t burst = queue_burst(queue);
    const bool open = queue_breaker_open(queue);
    queue->settings = *settings;
    queue->traits = *traits;
    if (rate.count != settings->rate.count || rate.per_ns != settings->rate.per_ns ||
        burst != queue_burst(queue)) {
        empty_bucket(queue, now);
    }
    queue->linger_until =
        mono_min(queue->linger_until, mono_add(now, rate_linger(settings->rate, settings->linger_ns)));
    if (settings->breaker == 0) {
        queue->figures.failures = 0;
    } else if (!open && queue_breaker_open(queue)) { // it was set lower than what is counted
        queue->figures.failures = settings->breaker;
        queue->figures.probe_at = mono_add(now, settings->min_backoff_ns);
    }
    if (!traits->pull) {
        queue->demand = 0;
    }
    engine_figures_changed(engine, queue);
    engine_touch(engine, queue);
}

void engine_new_target(struct engine *engine, int64_t id)
{
    struct queue *queue = known_queue(engine, id);
    queue->figures.failures = 0;
    queue->figures.held_until = (struct mono){0};
    queue->figures.held_until_wall = (struct wall){0};
    queue->figures.held_by = HOLD_NONE;
    queue->figures.delivery_ns = 0;
    for (struct flight *flight = queue->flights_head; flight != NULL; flight = flight->next) {
        flight->moved = true;
    }
    engine_figures_changed(engine, queue);
    engine_touch(engine, queue);
}

enum err engine_check_empty(const struct engine *engine, int64_t id, struct fault *fault)
{
    const struct queue *queue = known_queue(engine, id);
    uint64_t waiting = queue_waiting(queue) + queue->figures.delayed;
    if (waiting == 0 && queue->in_flight == 0) {
        return ERR_OK;
    }
    return fault_set(fault, ERR_QUEUE_NOT_EMPTY,
                     "queue \"%s\" is not empty: %llu batches wait, %zu are in flight", queue->name,
                     (unsigned long long)waiting, queue->in_flight);
}

// Takes it out of the lists of queues that something is to be done about.
static void unlink_queue(struct engine *engine, struct queue *queue)
{
    struct queue **at = &engine->changed;
    while (queue->changed && *at != queue) {
        at = &(*at)->next_changed;
    }
    if (queue->changed) {
        *at = queue->next_changed;
    }
    at = &engine->hungry;
    while (queue->hungry && *at != queue) {
        at = &(*at)->next_hungry;
    }
    if (queue->hungry) {
        *at = queue->next_hungry;
    }
}

void engine_remove_queue(struct engine *engine, int64_t id)
{
    struct queue *queue = known_queue(engine, id);
    assert(engine_check_empty(engine, id, NULL) == ERR_OK);
    heap_remove(&engine->wakes, &queue->wake);
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        heap_remove(&engine->dues[kind], &queue->dues[kind]);
    }
    unlink_queue(engine, queue);
    engine->unconfirmed -= queue->saved_starting;
    size_t at = id_at(engine, id);
    size_t name_at = engine_name_at(engine, queue->name);
    engine->count--;
    memmove(engine->queues + at, engine->queues + at + 1, (engine->count - at) * sizeof *engine->queues);
    memmove(engine->by_name + name_at, engine->by_name + name_at + 1,
            (engine->count - name_at) * sizeof *engine->by_name);
    queue_free(queue);
    share_budget(engine);
}

void engine_pause(struct engine *engine, int64_t id, enum pause pause)
{
    struct queue *queue = known_queue(engine, id);
    queue->figures.paused = pause == PAUSE_ON;
    engine_figures_changed(engine, queue);
    engine_touch(engine, queue);
}

void engine_demand(struct engine *engine, int64_t id, uint32_t batches)
{
    struct queue *queue = known_queue(engine, id);
    queue->demand = queue->traits.pull ? batches : 0;
    engine_touch(engine, queue);
}

bool engine_take_changed(struct engine *engine, int64_t *id, struct queue_figures *figures)
{
    struct queue *queue = engine->changed;
    if (queue == NULL) {
        return false;
    }
    engine->changed = queue->next_changed;
    queue->changed = false;
    queue->figures.starting = queue->starting > 0;
    engine->unconfirmed += queue->figures.starting;
    engine->unconfirmed -= queue->saved_starting;
    queue->saved_starting = queue->figures.starting;
    *id = queue->id;
    *figures = queue->figures;
    return true;
}

bool engine_unconfirmed(const struct engine *engine)
{
    return engine->unconfirmed > 0;
}

// ---- look-ahead ----

bool engine_wants(struct engine *engine, struct want *want)
{
    for (struct queue *queue; (queue = engine->hungry) != NULL;) {
        for (int p = 0; p < PRIORITIES; p++) {
            const struct window *window = &queue->windows[p];
            if (window_wants(window, engine->window_max)) {
                *want = (struct want){.queue = queue->id,
                                      .priority = (enum priority)p,
                                      .after_seq = window->horizon_seq,
                                      .after_index = window->horizon_index,
                                      .count = engine->window_max / 2};
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
    struct queue *queue = known_queue(engine, want->queue);
    return window_give(&queue->windows[want->priority], runs, count, want->count);
}

// ---- accepting ----

static enum err check_ids(const struct queue *queue, const struct ids *ids, struct fault *fault)
{
    if (ids->kind != queue->settings.ids) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids[0] is %s: queue \"%s\" takes %s",
                         ids->kind == IDS_INTEGER ? "an integer" : "a string", queue->name,
                         queue->settings.ids == IDS_STRING ? "strings" : "integers");
    }
    if (ids->kind == IDS_INTEGER && ids->largest > queue->settings.max_id) {
        return fault_set(
            fault, ERR_ID_OUT_OF_RANGE, "ids: %llu is over %llu, the largest ID allowed on queue \"%s\"",
            (unsigned long long)ids->largest, (unsigned long long)queue->settings.max_id, queue->name);
    }
    return ERR_OK;
}

enum err engine_admit(struct engine *engine, const struct ingest_request *request, struct mono now,
                      struct wall now_wall, struct admission *admission, struct fault *fault)
{
    const struct queue *queue = engine_queue_named(engine, request->queue);
    if (queue == NULL) {
        return fault_set(fault, ERR_UNKNOWN_QUEUE, "there is no queue \"%s\"", request->queue);
    }
    enum err err = check_ids(queue, &request->ids, fault);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t size = queue->settings.batch_size;
    uint32_t batches = request->ids.count / size + (request->ids.count % size != 0);
    bool later = request->not_before.ms > now_wall.ms;
    *admission = (struct admission){
        .queue = queue->id,
        .priority = request->priority,
        .batch_size = size,
        .batches = batches,
        .accepted_ns = engine_age(engine, now),
        .not_before = {later ? request->not_before.ms : 0},
        .deadline = request->deadline,
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
    struct queue *queue = known_queue(engine, admission->queue);
    enum err err = ERR_OK;
    engine->reserved -= admission->batches;
    engine->waiting += admission->batches;
    if (admission->deadline.ms != 0) {
        engine_add_due(engine, queue, DUE_DEADLINE, admission->deadline.ms);
    }
    if (admission->not_before.ms != 0) {
        queue->figures.delayed += admission->batches;
        engine_add_due(engine, queue, DUE_START, admission->not_before.ms);
        engine_figures_changed(engine, queue);
    } else {
        if (queue_waiting(queue) == 0) {
            queue->linger_until = mono_add(now, rate_linger(queue->settings.rate, queue->settings.linger_ns));
        }
        queue->waiting[admission->priority] += admission->batches;
        struct run run = {
            .seq = seq, .first = 0, .end = admission->batches, .accepted_ns = admission->accepted_ns};
        err = window_append(&queue->windows[admission->priority], run, engine->window_max);
    }
    engine_touch(engine, queue);
    return err;
}

void engine_declined(struct engine *engine, const struct admission *admission)
{
    if (!admission->only_replay) {
        engine->reserved -= admission->batches;
    }
}
