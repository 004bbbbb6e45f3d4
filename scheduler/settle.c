#include "common/log.h"
#include "common/utf8.h"
#include "scheduler/turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A start stays in the list until it is on disk: an engine built anew knows nothing of a late one.
void apply_starts(struct loop *loop)
{
    for (struct inbox_item *item = loop->starts; item != NULL; item = item->next) {
        struct delivery *d = container_of(item, struct delivery, start);
        d->begun = true;
        if (d->flight != NULL) { // else see settle
            engine_started(loop->engine, d->flight, delivery_is_late(d, d->started) ? d->started : d->slot);
        }
    }
}

// What a log says of an error: not what an HTTP target answered with, which is for the batch's `error` alone.
static const char *log_error(const char *error, struct log_text *into)
{
    const bool answered = strncmp(error, "HTTP ", strlen("HTTP ")) == 0;
    char text[sizeof("HTTP 599")];
    if (answered) {
        (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(error, ":"), error);
    }
    return log_quote(answered ? text : error, into);
}

// At most one line a second for failed batches.
void log_failures(struct loop *loop, struct mono now)
{
    if (loop->failures > 0 && !mono_before(now, loop->next_failure_log)) {
        loop->next_failure_log = mono_add(now, NS_PER_S);
        log_line(LOG_LEVEL_WARNING, "settle", "batches_failed", "queue=%s batches=%llu error=%s",
                 loop->failed_queue, (unsigned long long)loop->failures,
                 log_error(loop->failed_error, &(struct log_text){0}));
        loop->failures = 0;
    }
}

struct trouble {
    bool held;
    bool open; // the breaker
};

static struct trouble trouble_of(const struct queue_view *queue, struct mono now)
{
    const struct queue_figures *figures = queue->figures;
    return (struct trouble){.held = mono_before(now, figures->held_until),
                            .open = queue->settings->breaker > 0 &&
                                    figures->failures >= queue->settings->breaker};
}

static void log_trouble(const struct delivery *d, const struct queue_view *queue, struct trouble before,
                        struct mono now)
{
    struct trouble after = trouble_of(queue, now);
    struct log_text error;
    if (after.held && !before.held) {
        log_line(LOG_LEVEL_WARNING, "settle", "queue_held", "queue=%s seconds=%lld error=%s", d->queue_name,
                 (long long)((mono_diff(queue->figures->held_until, now) + NS_PER_S - 1) / NS_PER_S),
                 log_error(d->outcome.error, &error));
    }
    if (after.open && !before.open) {
        log_line(LOG_LEVEL_WARNING, "settle", "breaker_open", "queue=%s failures=%u error=%s", d->queue_name,
                 queue->figures->failures, log_error(d->outcome.error, &error));
    } else if (before.open && !after.open) {
        log_line(LOG_LEVEL_INFO, "settle", "breaker_closed", "queue=%s", d->queue_name);
    }
}

static enum err decide(struct loop *loop, const struct turn *t, struct delivery *d, struct finish_row *row)
{
    struct queue_view queue;
    bool known = engine_view_by_id(loop->engine, d->queue, t->now, &queue) == ERR_OK;
    struct trouble before = known ? trouble_of(&queue, t->now) : (struct trouble){0};
    enum err err = engine_outcome(loop->engine, d->flight, &d->outcome, d->attempt, d->excused, t->now,
                                  t->wall, next_random(loop), row);
    d->flight = NULL;
    if (err != ERR_OK) {
        return err;
    }
    row->age_ns = engine_age(loop->engine, t->now);
    d->again = row->state == BATCH_BACKOFF || row->state == BATCH_WAITING;
    if (known) {
        log_trouble(d, &queue, before, t->now);
    }
    if (row->state == BATCH_FAILED) {
        loop->failures++;
        (void)snprintf(loop->failed_queue, sizeof loop->failed_queue, "%s", d->queue_name);
        (void)snprintf(loop->failed_error, sizeof loop->failed_error, "%.*s",
                       (int)utf8_cut(d->outcome.error, sizeof loop->failed_error - 1), d->outcome.error);
    }
    return ERR_OK;
}

enum err settle(struct loop *loop, struct turn *t)
{
    size_t count = 0;
    for (struct inbox_item *item = loop->done; item != NULL; item = item->next) {
        count++;
    }
    if (count == 0) {
        return ERR_OK;
    }
    struct finish_row *rows = calloc(count, sizeof *rows);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    size_t n = 0;
    for (struct inbox_item *item = loop->done; item != NULL && err == ERR_OK; item = item->next) {
        if (delivery_of(item)->flight == NULL) {
            continue; // its end is on disk: that commit happened, though an error was reported
        }
        err = decide(loop, t, delivery_of(item), &rows[n++]);
    }
    if (err == ERR_OK) {
        err = store_finish(loop->store, rows, n);
    }
    t->settled = loop->done;
    t->ends += n;
    free(rows);
    return err;
}

// ---- leases ----

void end_overdue_leases(struct loop *loop, struct mono now)
{
    struct delivery *d;
    while ((d = leases_overdue(loop->leases, now)) != NULL) {
        leases_remove(loop->leases, d);
        loop->leased_count--;
        d->outcome.class = OUTCOME_RETRY;
        d->outcome.has_delay = true;
        d->outcome.delay_ns = 0;
        d->outcome.took_ns = mono_diff(now, d->started);
        delivery_explain(d, "the lease ran out");
        d->item.next = NULL;
        *loop->done_end = &d->item;
        loop->done_end = &d->item.next;
    }
}

static void fill_outcome(struct delivery *d, const struct request *request, struct mono now)
{
    const struct settle_request *asked = &request->settle;
    d->outcome = (struct outcome){.took_ns = mono_diff(now, d->started)};
    if (request->op == OP_ACK) {
        d->outcome.class = OUTCOME_COMPLETED;
        return;
    }
    d->outcome.class = asked->final ? OUTCOME_FAILED : OUTCOME_RETRY;
    d->outcome.has_delay = asked->has_delay;
    d->outcome.delay_ns = asked->delay_ns;
    delivery_explain(d, "%s", asked->error != NULL && asked->error[0] != '\0' ? asked->error : "nack");
}

static enum err settle_one(struct loop *loop, struct turn *t, const struct request *request,
                           struct delivery *d)
{
    struct finish_row row;
    fill_outcome(d, request, t->now);
    enum err err = decide(loop, t, d, &row);
    if (err == ERR_OK) {
        err = store_finish(loop->store, &row, 1);
    }
    d->acked_next = t->acked;
    t->acked = d;
    return err;
}

enum err settle_lease(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    struct settle_request *asked = &r->request.settle;
    struct inbox_item *item = NULL;
    struct queue_view queue;
    struct delivery *found = leases_find(loop->leases, &asked->id, asked->has_batch ? &asked->batch : NULL);
    size_t count = 0;
    enum err err = ERR_OK;
    if (found != NULL && asked->lease_ns == 0 &&
        engine_view_by_id(loop->engine, found->queue, t->now, &queue) == ERR_OK) {
        asked->lease_ns = queue.settings->lease_ns;
    }
    for (item = found != NULL ? &found->item : NULL; item != NULL && err == ERR_OK; item = item->next) {
        struct delivery *d = delivery_of(item);
        if (d->flight == NULL) {
            continue; // settled in this turn already
        }
        count++;
        if (r->request.op == OP_EXTEND) {
            err = store_extend_lease(loop->store, &asked->id, &d->place, mono_add(t->now, asked->lease_ns));
        } else {
            err = settle_one(loop, t, &r->request, d);
        }
    }
    if (err == ERR_OK && count == 0) {
        (void)fault_set(&r->fault, ERR_LEASE_LOST,
                        "the lease ran out, or was settled already: the batch is no longer this worker's");
    }
    return err;
}

// ---- after the commit ----

static void log_delivery(const struct delivery *d)
{
    char ingestion[ID_TEXT_SIZE], batch[ID_TEXT_SIZE], trace[TRACE_TEXT_SIZE];
    id_format(&d->ingestion, ingestion);
    id_format(&d->batch, batch);
    log_access("settle", "delivered",
               "ingestion=%s batch=%s queue=%s attempt=%u outcome=%s duration_ms=%.3f %s", ingestion, batch,
               d->queue_name, d->attempt, outcome_name(d->outcome.class),
               d->outcome.took_ns > 0 ? (double)d->outcome.took_ns / (double)NS_PER_MS : 0.0,
               trace_text(&d->trace, trace));
}

static void forget(struct loop *loop, struct delivery *d)
{
    struct route *route = routes_get(&loop->routes, d->queue);
    metrics_delivered(&loop->metrics, d);
    if (route != NULL) {
        route->retried += d->again;
    }
    if (log_access_on()) {
        log_delivery(d);
    }
    live_remove(loop, d);
    delivery_free(d);
}

void forget_settled(struct loop *loop, struct turn *t)
{
    loop->starts = NULL;
    loop->starts_end = &loop->starts;
    for (struct inbox_item *item = t->settled, *next; item != NULL; item = next) {
        next = item->next;
        forget(loop, delivery_of(item));
    }
    if (t->settled != NULL) {
        loop->done = NULL;
        loop->done_end = &loop->done;
    }
    for (struct delivery *d = t->acked, *next; d != NULL; d = next) {
        next = d->acked_next;
        leases_remove(loop->leases, d);
        loop->leased_count--;
        forget(loop, d);
    }
    t->acked = NULL;
}
