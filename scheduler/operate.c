#include "scheduler/settings.h"
#include "scheduler/turn.h"

#include <stdlib.h>
#include <string.h>

static enum err refuse(struct ipc_request *r, enum err err, const char *why)
{
    (void)fault_set(&r->fault, err, "%s", why);
    return ERR_OK;
}

static enum err refuse_unknown(struct ipc_request *r, const char *queue)
{
    (void)fault_set(&r->fault, ERR_UNKNOWN_QUEUE, "there is no queue \"%s\"", queue);
    return ERR_OK;
}

// ---- ingestions ----

// The ingestion that a request is about; ERR_NOT_FOUND also when it is not in the request's scope.
static enum err find_in_scope(struct loop *loop, const struct request *request, struct ingestion_row *row)
{
    const struct reach reach = reach_of(request->scope, loop->engine);
    enum err err = store_find(loop->store, &request->ingestion.id, row);
    return err == ERR_OK && !reach_has(&reach, row->queue, row->owner) ? ERR_NOT_FOUND : err;
}

static enum err cancel(struct loop *loop, const struct turn *t, struct ipc_request *r)
{
    struct ingestion_row row;
    struct removal removal;
    enum err err = r->request.scope != NULL ? find_in_scope(loop, &r->request, &row) : ERR_OK;
    if (err == ERR_OK) {
        err = store_cancel(loop->store, &r->request.ingestion.id, t->wall, engine_age(loop->engine, t->now),
                           &removal);
    }
    if (err == ERR_NOT_FOUND) {
        return refuse(r, err, NO_INGESTION);
    }
    if (err == ERR_ALREADY_FINISHED) {
        return refuse(r, err, "all batches of this ingestion have ended: there is nothing left to cancel");
    }
    if (err == ERR_OK && removal.cancelled) {
        engine_removed(loop->engine, &removal);
    }
    return err;
}

static enum err retry(struct loop *loop, struct ipc_request *r)
{
    struct ingestion_row row;
    struct queue_view queue;
    enum err err = find_in_scope(loop, &r->request, &row);
    if (err == ERR_NOT_FOUND) {
        return refuse(r, err, NO_INGESTION);
    }
    if (err != ERR_OK || row.progress[STATUS_FAILED] == 0) {
        return err;
    }
    if (engine_view_by_id(loop->engine, row.queue, mono_now(), &queue) != ERR_OK) {
        return refuse(r, ERR_UNKNOWN_QUEUE, "the queue of this ingestion was deleted");
    }
    loop->retries = true;
    return store_ask_retry(loop->store, row.queue, row.seq, row.seq);
}

// ---- queues ----

// The workers that wait on this queue ask in vain: they are answered at the end of the turn.
static void send_workers_away(struct loop *loop, struct turn *t, int64_t queue)
{
    struct lease_grant **end = &t->idle;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = leases_take_queue(loop->leases, queue);
}

// The row of a queue that is there, with figures as of now, or of a new one.
static enum err read_row(struct loop *loop, const struct turn *t, const char *name, struct queue_row *row)
{
    int64_t id;
    struct queue_view queue;
    if (engine_find_queue(loop->engine, name, &id) != ERR_OK) {
        return settings_defaults(row, name);
    }
    enum err err = engine_view_by_id(loop->engine, id, t->now, &queue);
    const struct target *target = routes_find(&loop->routes, id);
    if (err != ERR_OK || target == NULL) {
        return ERR_INTERNAL;
    }
    *row = (struct queue_row){.id = id,
                              .target = strdup(target_text(target)),
                              .headers = strdup(target_headers(target)),
                              .settings = *queue.settings,
                              .figures = *queue.figures};
    memcpy(row->name, name, strlen(name) + 1);
    return row->target != NULL && row->headers != NULL ? ERR_OK : ERR_NO_MEMORY;
}

static enum err add_queue(struct loop *loop, const struct queue_row *row, const struct target_traits *traits)
{
    struct queue_load load = {.id = row->id,
                              .name = row->name,
                              .settings = row->settings,
                              .figures = row->figures,
                              .traits = *traits,
                              .due = {DUE_NEVER, DUE_NEVER, DUE_NEVER}};
    return engine_add_queue(loop->engine, &load);
}

// A lease that waits was limited by the size that batches had before.
static bool grew(const struct loop *loop, const struct turn *t, const struct queue_row *row)
{
    struct queue_view queue;
    return engine_view_by_id(loop->engine, row->id, t->now, &queue) == ERR_OK &&
           row->settings.largest_batch > queue.settings->largest_batch;
}

// Saves the changed row and tells the engine and the routes. When the turn fails, both are built anew.
static enum err put_row(struct loop *loop, struct turn *t, struct ipc_request *r, struct queue_row *row)
{
    bool made = row->id == 0;
    const struct target *old = made ? NULL : routes_find(&loop->routes, row->id);
    bool moved = old != NULL && strcmp(target_text(old), row->target) != 0;
    enum err err = made ? ERR_OK : store_note_change(loop->store, row->id, CHANGE_SETTINGS, t->now);
    if (err == ERR_OK) {
        err = store_save_queue(loop->store, row);
    }
    if (err == ERR_OK && made) {
        err = store_save_figures(loop->store, &row->id, &row->figures, 1);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = routes_set(&loop->routes, loop->targets, row->id, row->target, row->headers, &r->fault);
    if (err != ERR_OK) {
        return err; // its text is known to be good
    }
    struct target_traits traits = route_traits(routes_find(&loop->routes, row->id));
    if (made) {
        err = add_queue(loop, row, &traits);
    } else {
        bool away = !traits.pull || grew(loop, t, row);
        engine_change_queue(loop->engine, row->id, &row->settings, &traits, t->now);
        if (moved) {
            engine_new_target(loop->engine, row->id);
        }
        if (away) {
            send_workers_away(loop, t, row->id);
            update_demand(loop, row->id);
        }
    }
    return err;
}

static enum err put_queue_request(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    struct queue_row row = {.id = 0};
    enum err err = read_row(loop, t, r->request.queue.name, &row);
    if (err == ERR_OK && row.id == 0 && engine_queues(loop->engine) >= QUEUES_MAX) {
        err = refuse(r, ERR_OVERLOADED, "there are as many queues as may be");
    } else if (err == ERR_OK) {
        enum err unfit = settings_change(&row, &r->request.queue.change, &r->fault);
        if (unfit == ERR_OK) {
            err = put_row(loop, t, r, &row);
        }
    }
    queue_row_fini(&row);
    return err;
}

static enum err delete_queue(struct loop *loop, struct turn *t, struct ipc_request *r, int64_t queue)
{
    if (strcmp(r->request.queue.name, DEFAULT_QUEUE) == 0) {
        return refuse(r, ERR_QUEUE_PROTECTED, "the queue \"" DEFAULT_QUEUE "\" always exists");
    }
    if (engine_check_empty(loop->engine, queue, &r->fault) != ERR_OK) {
        return ERR_OK;
    }
    const struct queue_totals totals = metrics_leaving(loop->engine, &loop->routes, queue, t->now);
    enum err err = store_note_change(loop->store, queue, CHANGE_SETTINGS, t->now);
    if (err == ERR_OK) {
        err = store_delete_queue(loop->store, queue);
    }
    if (err == ERR_OK) {
        totals_add(&t->gone, &totals);
        send_workers_away(loop, t, queue);
        engine_remove_queue(loop->engine, queue);
        routes_remove(&loop->routes, queue);
    }
    return err;
}

static enum err operate_queue(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    int64_t queue;
    if (engine_find_queue(loop->engine, r->request.queue.name, &queue) != ERR_OK) {
        return refuse_unknown(r, r->request.queue.name);
    }
    if (r->request.op == OP_QUEUE_DELETE) {
        return delete_queue(loop, t, r, queue);
    }
    if (r->request.op == OP_QUEUE_RETRY) {
        loop->retries = true;
        return store_ask_retry(loop->store, queue, 1, INT64_MAX);
    }
    enum err err = store_note_change(loop->store, queue, CHANGE_SETTINGS, t->now);
    if (err == ERR_OK) {
        engine_pause(loop->engine, queue, r->request.op == OP_QUEUE_PAUSE ? PAUSE_ON : PAUSE_OFF);
    }
    return err;
}

enum err operate(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    switch (r->request.op) {
    case OP_CANCEL:
        return cancel(loop, t, r);
    case OP_RETRY:
        return retry(loop, r);
    case OP_QUEUE_PUT:
        return put_queue_request(loop, t, r);
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
        return operate_queue(loop, t, r);
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
        return settle_lease(loop, t, r);
    case OP_PING:
    case OP_INGEST:
    case OP_STATUS:
    case OP_LIST:
    case OP_QUEUE_LIST:
    case OP_QUEUE_GET:
    case OP_LEASE:
    case OP_STATS:
    case OP_BACKUP:
    case OP_METRICS:
        break;
    }
    return ERR_INTERNAL;
}
