#include "scheduler/loop.h"

#include "common/log.h"

#include <assert.h>
#include <stdlib.h>

// The deliveries that still run, to be found by their batch.
static int compare(const void *a, const void *b)
{
    const struct place *p = &(*(struct delivery *const *)a)->place;
    const struct place *q = &(*(struct delivery *const *)b)->place;
    if (p->seq != q->seq) {
        return p->seq < q->seq ? -1 : 1;
    }
    return p->index < q->index ? -1 : p->index > q->index;
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

static struct delivery *find_live(const struct loop *loop, struct delivery **sorted,
                                  const struct place *place)
{
    struct delivery wanted = {.place = *place};
    const struct delivery *key = &wanted;
    struct delivery **found = bsearch(&key, sorted, loop->live_count, sizeof *sorted, compare);
    return found != NULL ? *found : NULL;
}

static enum err add_queues(struct loop *loop)
{
    struct queue_row *rows = NULL;
    size_t count = 0;
    enum err err = store_load_queues(loop->store, &rows, &count);
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        uint64_t waiting[PRIORITIES];
        err = store_load_waiting(loop->store, rows[i].id, waiting);
        if (err == ERR_OK) {
            const struct target *target = loop_target(loop, rows[i].id);
            err = engine_add_queue(loop->engine, &rows[i], waiting, target != NULL ? target->expected_ns : 0);
        }
    }
    free(rows);
    return err;
}

// Batches whose delivery a crash cut off wait again, at their places; the attempt is not held against them.
static enum err requeue_cut_off(struct loop *loop, const struct batch_key *keys, size_t count,
                                struct delivery **sorted)
{
    struct finish_row *rows = calloc(count + 1, sizeof *rows);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (find_live(loop, sorted, &keys[i].place) == NULL) {
            rows[n++] = (struct finish_row){.key = keys[i], .state = BATCH_WAITING, .excused = true};
        }
    }
    enum err err = ERR_OK;
    if (n > 0) {
        log_line(LOG_LEVEL_WARNING, "recover", "interrupted", "batches=%zu", n);
        err = store_begin(loop->store);
        if (err == ERR_OK) {
            err = store_finish(loop->store, rows, n);
        }
        if (err == ERR_OK) {
            err = store_commit(loop->store);
        }
        if (err != ERR_OK) {
            store_rollback(loop->store);
        }
    }
    free(rows);
    return err;
}

enum err recover(struct loop *loop)
{
    struct batch_key *keys = NULL;
    size_t count = 0;
    struct delivery **sorted = NULL;
    enum err full = ERR_OK;
    engine_free(loop->engine);
    loop->engine = NULL;

    enum err err = sorted_live(loop, &sorted);
    if (err != ERR_OK) {
        goto out;
    }
    err = store_load_in_flight(loop->store, &keys, &count);
    if (err != ERR_OK) {
        goto out;
    }
    full = requeue_cut_off(loop, keys, count, sorted);
    loop->cut_off = full == ERR_STORAGE_FULL;
    if (full != ERR_OK && full != ERR_STORAGE_FULL) {
        err = full;
        goto out;
    }
    loop->engine = engine_new(loop->max_waiting);
    if (loop->engine == NULL) {
        err = ERR_NO_MEMORY;
        goto out;
    }
    err = add_queues(loop);
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct delivery *delivery = find_live(loop, sorted, &keys[i].place);
        if (delivery != NULL) {
            err = engine_add_flight(loop->engine, &keys[i], delivery->slot, &delivery->flight);
        }
    }
out:
    free(sorted);
    free(keys);
    return err == ERR_OK ? full : err;
}
