#include "tests/sim/check.h"

#include "scheduler/rate.h"
#include "scheduler/retry.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int64_t check_linger(const struct queue_settings *settings)
{
    return rate_linger(settings->rate, settings->linger_ns);
}

static bool open_breaker(const struct model_queue *queue)
{
    return queue->settings.breaker > 0 && queue->seen.failures >= queue->settings.breaker;
}

// ---- settings ----

static void new_target(struct model_queue *queue)
{
    queue->seen.failures = 0;
    queue->seen.held_until = (struct mono){0};
    for (size_t i = 0; i < model.used; i++) {
        struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && ingestion->queue == queue->id && b < ingestion->batches;
             b++) {
            if (ingestion->batch[b].state == BATCH_IN_FLIGHT) {
                model_touch(ingestion)->batch[b].moved = true;
            }
        }
    }
}

static void change(struct model_queue *queue, const struct queue_row *row, bool moved)
{
    const struct queue_settings *now = &row->settings;
    const struct queue_settings old = queue->settings;
    const bool open = open_breaker(queue);
    queue->settings = *now;
    if (old.rate.count != now->rate.count || old.rate.per_ns != now->rate.per_ns ||
        rate_burst(old.rate, old.burst) != rate_burst(now->rate, now->burst)) {
        check_rate_changed(queue);
        sim_note("rate", queue->id, (int64_t)now->rate.count, now->rate.per_ns);
    }
    int64_t lingers_ns = sim.now.ns + check_linger(now);
    queue->lingers_ns = queue->lingers_ns < lingers_ns ? queue->lingers_ns : lingers_ns;
    if (now->breaker == 0) {
        queue->seen.failures = 0;
    } else if (!open && open_breaker(queue)) {
        queue->seen.failures = now->breaker;
        queue->seen.probe_at = mono_add(sim.now, now->min_backoff_ns);
    }
    if (moved) {
        new_target(queue);
    }
}

void check_save_queue(const struct queue_row *row, bool made)
{
    struct model_queue *queue = made ? model_free_queue() : model_queue_by_id(row->id);
    bool moved = strcmp(queue->target, row->target) != 0;
    model_touch_queue(queue);
    if (made) {
        uint64_t touched = queue->touched;
        CHECK(model_queue_named(row->name) == NULL, "queue %s is made twice", row->name);
        *queue = (struct model_queue){.there = true,
                                      .id = row->id,
                                      .settings = row->settings,
                                      .changed_ns = INT64_MIN,
                                      .epoch = queue->epoch + 1,
                                      .lingers_ns = INT64_MIN,
                                      .touched = touched};
        (void)snprintf(queue->name, sizeof queue->name, "%s", row->name);
    } else {
        change(queue, row, moved && sim.loop != NULL);
    }
    queue->target_number += moved;
    (void)snprintf(queue->target, sizeof queue->target, "%s", row->target);
    sim_note("queue", queue->id, made, moved);
}

void check_delete_queue(int64_t id)
{
    struct model_queue *queue = model_touch_queue(model_queue_by_id(id));
    uint64_t waiting[PRIORITIES];
    CHECK(model_count(id, false, waiting) + model_count(id, true, waiting) + model_in_flight(id) == 0 &&
              strcmp(queue->name, DEFAULT_QUEUE) != 0,
          "%s is deleted, and is not empty", queue->name);
    queue->there = false;
    for (size_t i = 0; i < model.used; i++) { // retries that were asked for go with it
        struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && ingestion->queue == id && b < ingestion->batches; b++) {
            model_touch(ingestion)->batch[b].asked = false;
        }
    }
    sim_note("deletes", id, 0, 0);
}

// ---- figures ----

void check_figures(int64_t id, const struct queue_figures *figures)
{
    struct model_queue *queue = model_touch_queue(model_queue_by_id(id));
    queue->saved = *figures;
    if (sim.loop == NULL) { // a start: what was held is by the wall clock
        int64_t most_ns = sim.now.ns + queue->settings.max_hold_ns;
        CHECK(figures->held_until.ns <= most_ns || figures->held_until.ns == queue->seen.held_until.ns,
              "%s is held for too long", queue->name);
        queue->seen.held_until = figures->held_until;
        queue->seen.probe_at = figures->probe_at;
        queue->seen.failures = figures->failures;
    }
}

void check_before_commit(void)
{
    uint64_t waiting[PRIORITIES];
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &model.queues[i];
        if (!queue->there) {
            continue;
        }
        const struct queue_figures *saved = &queue->saved;
        const struct queue_figures *seen = &queue->seen;
        CHECK(saved->paused == seen->paused && saved->failures == seen->failures,
              "%s: paused %d, failures %u, not %d, %u", queue->name, saved->paused, saved->failures,
              seen->paused, seen->failures);
        CHECK(saved->held_until.ns == seen->held_until.ns, "%s: held until %" PRId64 ", not %" PRId64,
              queue->name, saved->held_until.ns, seen->held_until.ns);
        CHECK(!open_breaker(queue) || saved->probe_at.ns == seen->probe_at.ns,
              "%s: the next probe at %" PRId64 ", not %" PRId64, queue->name, saved->probe_at.ns,
              seen->probe_at.ns);
        CHECK(saved->dispatched == seen->dispatched && saved->completed == seen->completed &&
                  saved->failed == seen->failed,
              "%s: its totals are %" PRIu64 " %" PRIu64 " %" PRIu64 ", not %" PRIu64 " %" PRIu64 " %" PRIu64,
              queue->name, saved->dispatched, saved->completed, saved->failed, seen->dispatched,
              seen->completed, seen->failed);
        uint64_t delayed = model_count(queue->id, true, waiting);
        CHECK(saved->delayed == delayed, "%s: %" PRIu64 " are not due, not %" PRIu64, queue->name, delayed,
              saved->delayed);
    }
}

bool check_outcome(struct model_queue *queue, const struct model_batch *batch, const struct outcome *outcome)
{
    const struct queue_settings *settings = &queue->settings;
    struct queue_figures *seen = &queue->seen;
    if (batch->moved) {
        return false;
    }
    int64_t hold_ns = outcome->hold_ns < settings->max_hold_ns ? outcome->hold_ns : settings->max_hold_ns;
    if (hold_ns > 0) {
        seen->held_until = mono_max(seen->held_until, mono_add(sim.now, hold_ns));
    }
    bool open = open_breaker(queue);
    if (!outcome->down) {
        seen->failures = 0;
        return false;
    }
    if (settings->breaker == 0) {
        return false;
    }
    if (!open || batch->probe) {
        seen->failures++;
        if (open_breaker(queue)) {
            seen->probe_at =
                mono_add(sim.now, retry_interval(settings->min_backoff_ns, settings->max_backoff_ns,
                                                 seen->failures - settings->breaker));
        }
    }
    return open;
}

// ---- starts ----

void check_reboot(void)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model.queues[i].there) {
            check_rate_changed(model_touch_queue(&model.queues[i]));
        }
    }
    for (size_t i = 0; i < model.used; i++) {
        struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && b < ingestion->batches; b++) {
            struct model_batch *batch = &ingestion->batch[b];
            if (batch->state == BATCH_BACKOFF || (batch->state == BATCH_IN_FLIGHT && batch->leased)) {
                batch = &model_touch(ingestion)->batch[b];
                batch->due_ns = batch->due_ns < sim.now.ns ? batch->due_ns : sim.now.ns;
                batch->lease_until_ns =
                    batch->lease_until_ns < sim.now.ns ? batch->lease_until_ns : sim.now.ns;
            }
        }
    }
}

void check_rebuilt(void)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        model.queues[i].lingers_ns = INT64_MIN;
    }
    for (size_t i = 0; i < model.used; i++) {
        struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && b < ingestion->batches; b++) {
            struct model_batch *batch = &ingestion->batch[b];
            if (batch->state == BATCH_IN_FLIGHT) {
                const struct model_queue *queue = model_queue_by_id(ingestion->queue);
                batch->doomed = ingestion->cancelled;
                batch->moved = false;
                batch->probe = open_breaker(queue) && batch->slot_ns >= queue->seen.probe_at.ns;
            }
        }
    }
}
