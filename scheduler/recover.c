#include "common/log.h"
#include "scheduler/order.h"
#include "scheduler/rate.h"
#include "scheduler/turn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// The deliveries that still run or wait to be settled, to be found by their batch and its attempt: should a
// commit that failed have happened after all, there may be one whose end is on disk, beside that of the next
// attempt.
static int compare(const void *a, const void *b)
{
    const struct delivery *p = *(struct delivery *const *)a;
    const struct delivery *q = *(struct delivery *const *)b;
    int order = batch_compare(p->place.seq, p->place.index, q->place.seq, q->place.index);
    return order != 0 ? order : (p->attempt > q->attempt) - (p->attempt < q->attempt);
}

static enum err sorted_live(const struct loop *loop, struct delivery ***sorted)
{
    *sorted = calloc(loop->live_count + 1, sizeof **sorted);
    if (*sorted == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t n = 0;
    for (struct delivery *delivery = loop->live; delivery != NULL; delivery = delivery->live_next) {
        (*sorted)[n++] = delivery;
    }
    assert(n == loop->live_count);
    qsort(*sorted, n, sizeof **sorted, compare);
    return ERR_OK;
}

static struct delivery *find_live(struct delivery **sorted, size_t count, const struct in_flight_row *row)
{
    struct delivery wanted = {.place = row->key.place, .attempt = row->attempt};
    const struct delivery *key = &wanted;
    struct delivery **found = bsearch(&key, sorted, count, sizeof *sorted, compare);
    return found != NULL ? *found : NULL;
}

// ---- queues ----

static enum err add_queue(struct loop *loop, const struct queue_row *row, struct fault *fault)
{
    struct queue_load load = {
        .id = row->id, .name = row->name, .settings = row->settings, .figures = row->figures};
    enum err err = routes_set(&loop->routes, loop->targets, row->id, row->target, row->headers, fault);
    if (err != ERR_OK) {
        log_line(LOG_LEVEL_ERROR, "recover", "bad_target", "queue=%s", row->name);
        return err;
    }
    // The process before this one died before it knew, or had written, when its deliveries started: the last
    // of them did so now at the latest.
    if (load.figures.starting && !loop->knows_starts) {
        load.figures.bucket =
            bucket_empty(row->settings.rate, rate_burst(row->settings.rate, row->settings.burst), mono_now());
    }
    load.traits = route_traits(routes_find(&loop->routes, row->id));
    err = store_load_waiting(loop->store, row->id, load.waiting);
    for (int kind = 0; kind < DUE_KINDS && err == ERR_OK; kind++) {
        err = store_next_due(loop->store, row->id, (enum due_kind)kind, &load.due[kind]);
    }
    if (err == ERR_OK) {
        err = engine_add_queue(loop->engine, &load);
    }
    if (err == ERR_OK && load.traits.pull) {
        update_demand(loop, row->id);
    }
    return err;
}

// A turn that failed may have made a queue.
static void remove_lost_routes(struct loop *loop, const struct queue_row *rows, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < loop->routes.count;) {
        int64_t queue = loop->routes.items[i].queue;
        while (at < count && rows[at].id < queue) {
            at++;
        }
        if (at < count && rows[at].id == queue) {
            i++;
        } else {
            routes_remove(&loop->routes, queue);
        }
    }
}

static struct queue_row *find_row(struct queue_row *rows, size_t count, int64_t queue)
{
    for (size_t low = 0, high = count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle].id == queue) {
            return &rows[middle];
        }
        if (rows[middle].id < queue) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

// ---- what a crash cut off ----

// What becomes of such a batch is its queue's to say; the attempt is not held against it.
static struct finish_row cut_off(const struct in_flight_row *row, const struct queue_row *queue,
                                 struct wall now, int64_t age_ns)
{
    struct finish_row finish = {.key = row->key,
                                .state = BATCH_WAITING,
                                .now = now,
                                .age_ns = age_ns,
                                .excused = true,
                                .interrupted = true};
    if (row->cancelled) {
        finish.state = BATCH_CANCELLED;
    } else if (queue != NULL && queue->settings.on_interrupt == ON_INTERRUPT_HOLD) {
        finish.state = BATCH_FAILED;
        finish.error = "interrupted";
    }
    return finish;
}

static enum err save_cut_off(struct loop *loop, const struct finish_row *rows, size_t n,
                             struct queue_row *queues, size_t queue_count)
{
    enum err err = store_begin(loop->store);
    if (err == ERR_OK) {
        err = store_finish(loop->store, rows, n);
    }
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        struct queue_row *queue = find_row(queues, queue_count, rows[i].key.queue);
        if (rows[i].state == BATCH_FAILED && queue != NULL) {
            queue->figures.failed++;
            err = store_save_figures(loop->store, &queue->id, &queue->figures, 1);
        }
    }
    if (err == ERR_OK) {
        err = store_commit(loop->store);
    }
    if (err != ERR_OK) {
        store_rollback(loop->store);
    }
    return err;
}

static enum err settle_cut_off(struct loop *loop, const struct in_flight_row *in_flight, size_t count,
                               struct delivery **sorted, size_t sorted_count, struct queue_row *queues,
                               size_t queue_count)
{
    struct finish_row *rows = calloc(count + 1, sizeof *rows);
    struct wall now = wall_now();
    int64_t age_ns = mono_now().ns + loop->age_offset_ns;
    size_t n = 0;
    enum err err = ERR_OK;
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const struct in_flight_row *row = &in_flight[i];
        if (!row->leased && find_live(sorted, sorted_count, row) == NULL) {
            rows[n++] = cut_off(row, find_row(queues, queue_count, row->key.queue), now, age_ns);
        }
    }
    if (n > 0) {
        err = save_cut_off(loop, rows, n, queues, queue_count);
    }
    if (n > 0 && err == ERR_OK) { // on a full disk this is tried again and again
        log_line(LOG_LEVEL_WARNING, "recover", "interrupted", "batches=%zu", n);
    }
    free(rows);
    return err;
}

// ---- what goes on ----

// A lease that outlived a scheduler.
static enum err take_over_lease(struct loop *loop, struct in_flight_row *row, const struct queue_row *queue,
                                struct delivery **made)
{
    struct target *target = routes_find(&loop->routes, row->key.queue);
    struct delivery *d = target != NULL && queue != NULL ? delivery_new(target) : NULL;
    if (d == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(d->queue_name, queue->name, sizeof d->queue_name);
    d->queue = row->key.queue;
    d->place = row->key.place;
    d->ingestion = row->ingestion;
    d->trace = row->trace;
    d->batch = batch_id(&row->ingestion, row->key.place.index);
    d->attempt = row->attempt;
    d->excused = row->excused;
    d->timeout_ns = queue->settings.timeout_ns;
    d->slot = mono_now();
    d->started = MONO_NEVER; // not known: the time it took cannot be measured
    d->lease = row->lease;
    d->due.key = row->lease_until.ns;
    d->ids = row->ids;
    row->ids = NULL;
    enum err err = leases_add(loop->leases, d);
    if (err != ERR_OK) {
        delivery_free(d);
        return err;
    }
    live_add(loop, d);
    loop->leased_count++;
    *made = d;
    return ERR_OK;
}

static enum err add_flights(struct loop *loop, struct in_flight_row *rows, size_t count,
                            struct delivery **sorted, size_t sorted_count, struct queue_row *queues,
                            size_t queue_count)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct delivery *d = find_live(sorted, sorted_count, &rows[i]);
        if (d == NULL && rows[i].leased) {
            err = take_over_lease(loop, &rows[i], find_row(queues, queue_count, rows[i].key.queue), &d);
        }
        if (err == ERR_OK && d != NULL) {
            err = engine_add_flight(loop->engine, &rows[i].key, d->slot, d->paced && !d->begun,
                                    rows[i].cancelled, &d->flight);
        }
    }
    return err;
}

static enum err load_age(struct loop *loop)
{
    struct meta meta;
    struct buf flags;
    buf_init(&flags);
    enum err err = store_load_meta(loop->store, &meta, &flags);
    buf_fini(&flags);
    if (err == ERR_OK) {
        loop->age_offset_ns = meta.age_offset_ns;
    }
    return err;
}

static enum err build_engine(struct loop *loop, const struct queue_row *queues, size_t count,
                             struct fault *fault)
{
    enum err err = ERR_OK;
    loop->engine = engine_new(loop->max_waiting, loop->age_offset_ns);
    if (loop->engine == NULL) {
        return ERR_NO_MEMORY;
    }
    remove_lost_routes(loop, queues, count);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = add_queue(loop, &queues[i], fault);
    }
    return err;
}

enum err recover(struct loop *loop, struct fault *fault)
{
    struct queue_row *queues = NULL;
    size_t queue_count = 0;
    struct in_flight_row *rows = NULL;
    size_t count = 0;
    struct delivery **sorted = NULL;
    size_t sorted_count = loop->live_count;
    enum err full = ERR_OK;
    engine_free(loop->engine);
    loop->engine = NULL;
    loop->retention.unknown = true;

    enum err err = sorted_live(loop, &sorted);
    if (err == ERR_OK) {
        err = load_age(loop);
    }
    if (err == ERR_OK) {
        err = store_has_retries(loop->store, &loop->retries);
    }
    if (err == ERR_OK) {
        err = store_load_queues(loop->store, &queues, &queue_count);
    }
    if (err == ERR_OK) {
        err = store_load_in_flight(loop->store, &rows, &count);
    }
    if (err == ERR_OK) {
        full = settle_cut_off(loop, rows, count, sorted, sorted_count, queues, queue_count);
        loop->cut_off = full == ERR_STORAGE_FULL;
        err = full == ERR_STORAGE_FULL ? ERR_OK : full;
    }
    if (err == ERR_OK) {
        err = build_engine(loop, queues, queue_count, fault);
    }
    if (err == ERR_OK) {
        err = add_flights(loop, rows, count, sorted, sorted_count, queues, queue_count);
    }
    store_free_in_flight(rows, count);
    store_free_queues(queues, queue_count);
    free(sorted);
    return err == ERR_OK ? full : err;
}
