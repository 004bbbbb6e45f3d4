#include "proto/fields.h"
#include "proto/reply.h"

#include "common/log.h"
#include "scheduler/turn.h"

#include <stdio.h>
#include <string.h>

#define QUEUE_REPLY_MAX 32768u // a queue, with its target and headers
#define INGESTION_REPLY_MAX 2048u
#define LEASE_LINE_RESERVE 1024u // of a lease's reply, for what is not a batch
#define BATCH_RESERVE 512u       // of a batch in it, for what is not an ID
#define ID_BYTES 17u             // 16 digits and a comma
#define STRING_ID_BYTES 771u     // each byte may become six, and quotes and a comma

// ---- leases ----

// No more batches than fit into a reply line, at least one.
static void limit_lease(struct lease_request *request, const struct queue_settings *settings)
{
    uint32_t id = settings->ids == IDS_STRING ? STRING_ID_BYTES : ID_BYTES;
    uint32_t fit = (REPLY_LINE_MAX - LEASE_LINE_RESERVE) / (settings->largest_batch * id + BATCH_RESERVE);
    fit = fit > 0 ? fit : 1;
    request->max = request->max < fit ? request->max : fit;
}

// True when the lease waits from now on, and its message is no longer the turn's.
static bool take_lease(struct loop *loop, struct turn *t, struct ipc_message *message)
{
    struct ipc_request *r = &message->requests[0];
    struct lease_request *request = &r->request.lease;
    struct queue_view queue;
    int64_t id;
    int64_t used = 0;
    const struct delivery *out = leases_find(loop->leases, &request->id, NULL);
    if (loop->ending) {
        return false; // nothing more is dispatched
    }
    if (engine_find_queue(loop->engine, request->queue, &id) != ERR_OK ||
        engine_view_by_id(loop->engine, id, t->now, &queue) != ERR_OK) {
        (void)fault_set(&r->fault, ERR_UNKNOWN_QUEUE, "there is no queue \"%s\"", request->queue);
        return false;
    }
    if ((out != NULL && out->queue != id) ||
        (leases_waits(loop->leases, &request->id, &used) && used != id)) {
        (void)fault_set(&r->fault, ERR_INVALID_FIELD, "id: a lease with this ID is of another queue");
        return false;
    }
    if (out != NULL) {
        return false; // a repeat, whose grant is out
    }
    if (!target_is_pull(routes_find(&loop->routes, id))) {
        (void)fault_set(&r->fault, ERR_INVALID_FIELD,
                        "the target of queue \"%s\" is not pull:, so there is nothing to lease",
                        request->queue);
        return false;
    }
    limit_lease(request, queue.settings);
    struct lease_grant *older = NULL;
    if (ipc_keep(message) != ERR_OK) {
        (void)fault_set(&r->fault, ERR_OVERLOADED, "as many leases wait as may");
        return false;
    }
    if (leases_wait(loop->leases, id, message, t->now, &older, &r->fault) != ERR_OK) {
        return false;
    }
    if (older != NULL) {
        older->next = t->idle;
        t->idle = older;
    }
    update_demand(loop, id);
    return true;
}

void take_leases(struct loop *loop, struct turn *t)
{
    for (struct inbox_item **at = &t->messages; *at != NULL;) {
        struct ipc_message *message = message_of(*at);
        struct inbox_item *next = (*at)->next;
        bool lease = message->count == 1 && message->requests[0].fault.err == ERR_OK &&
                     message->requests[0].request.op == OP_LEASE;
        if (lease && take_lease(loop, t, message)) {
            *at = next;
        } else {
            at = &(*at)->next;
        }
    }
}

static void put_leased(struct buf *out, const struct delivery *d, struct mono now)
{
    delivery_body(d, out);
    if (buf_err(out) != ERR_OK) {
        return; // there may be nothing to cut, and nothing is sent
    }
    buf_cut(out, out->len - 1); // its closing brace
    field_put_time(out, "deadline",
                   (struct wall){wall_now().ms + mono_diff((struct mono){d->due.key}, now) / NS_PER_MS});
    buf_char(out, '}');
}

static void open_lease(struct buf *out, const struct id *lease)
{
    reply_open(out);
    field_put_uuid(out, "lease_id", lease);
    buf_str(out, ",\"batches\":[");
}

static void close_lease(struct buf *out)
{
    buf_char(out, ']');
    reply_close(out);
}

static void reply_grant(const struct lease_grant *grant, struct mono now)
{
    struct buf line;
    buf_init(&line);
    open_lease(&line, &grant->id);
    for (size_t i = 0; i < grant->count; i++) {
        if (i > 0) {
            buf_char(&line, ',');
        }
        put_leased(&line, grant->deliveries[i], now);
    }
    close_lease(&line);
    ipc_reply(grant->message, &line);
    buf_fini(&line);
}

void reply_leases(struct loop *loop, struct lease_grant *grants)
{
    struct mono now = mono_now();
    for (struct lease_grant *grant = grants, *next; grant != NULL; grant = next) {
        next = grant->next;
        update_demand(loop, grant->queue); // what is left of it is no longer asked for
        reply_grant(grant, now);
        leases_free_grant(grant);
    }
}

// A repeat finds its grant; one that came while everything ends gets nothing.
static void reply_repeat(struct loop *loop, const struct lease_request *request, struct buf *out)
{
    struct delivery *found = leases_find(loop->leases, &request->id, NULL);
    open_lease(out, &request->id);
    for (struct inbox_item *item = found != NULL ? &found->item : NULL; item != NULL; item = item->next) {
        if (item != &found->item) {
            buf_char(out, ',');
        }
        put_leased(out, delivery_of(item), mono_now());
    }
    close_lease(out);
}

static void reply_extend(struct loop *loop, const struct turn *t, const struct settle_request *request,
                         struct buf *out)
{
    struct delivery *found =
        leases_find(loop->leases, &request->id, request->has_batch ? &request->batch : NULL);
    for (struct inbox_item *item = found != NULL ? &found->item : NULL, *next; item != NULL; item = next) {
        next = item->next;
        leases_extend(loop->leases, delivery_of(item), mono_add(t->now, request->lease_ns));
    }
    reply_open(out);
    field_put_time(out, "deadline", (struct wall){t->wall.ms + request->lease_ns / NS_PER_MS});
    reply_close(out);
}

// ---- one line for each request ----

// The ID of the request is that of the ingestion where the gateway had to make one.
static void log_insert(const struct insert *insert, const char *event)
{
    char id[ID_TEXT_SIZE];
    char trace[TRACE_TEXT_SIZE];
    if (log_access_on()) {
        const char *owner = insert->owner;
        id_format(&insert->ingestion, id);
        log_access("accept", event, "ingestion=%s queue=%s priority=%s ids=%u%s%s %s", id,
                   insert->request->queue, priority_name(insert->request->priority),
                   insert->request->ids.count, owner != NULL ? " owner=" : "", owner != NULL ? owner : "",
                   trace_text(insert->trace, trace));
    }
}

static void reply_insert(struct loop *loop, struct buf *out, const struct insert *insert, struct wall eta)
{
    switch (insert->result) {
    case INSERT_NEW:
        loop->metrics.accepted++;
        log_insert(insert, "accepted");
        reply_ingest(out, &insert->ingestion, false);
        break;
    case INSERT_REPLAYED:
        log_insert(insert, "replayed");
        reply_ingest(out, &insert->ingestion, true);
        break;
    case INSERT_ID_REUSED:
        reply_error(out, ERR_ID_REUSED, "id: an ingestion with this ID and other content exists");
        break;
    case INSERT_KEY_REUSED:
        reply_error(out, ERR_IDEMPOTENCY_KEY_REUSED,
                    "idempotency_key: this key was used for an ingestion with other content");
        break;
    case INSERT_NO_ROOM:
        if (eta.ms == NO_ETA.ms) {
            reply_error(out, ERR_DEADLINE_UNREACHABLE, "deadline: it has passed; nothing was accepted");
        } else if (eta.ms != 0) {
            reply_unreachable(out, "deadline: its last batch would be done too late; nothing was accepted",
                              eta);
        } else {
            reply_error(out, ERR_OVERLOADED,
                        "as many batches wait as may (--max-waiting); nothing was accepted");
        }
        break;
    }
}

static void reply_done(struct buf *out)
{
    reply_open(out);
    reply_close(out);
}

static void reply_deleted(struct buf *out, const char *name)
{
    reply_open(out);
    field_put_string(out, "name", name);
    buf_str(out, ",\"deleted\":true");
    reply_close(out);
}

static void log_operation(const struct request *request)
{
    char trace[TRACE_TEXT_SIZE];
    log_line(LOG_LEVEL_INFO, "reply", "operation", "op=%s queue=%s %s", op_name(request->op),
             request->queue.name, trace_text(request->trace, trace));
}

static void log_ingestion_operation(const struct request *request)
{
    char id[ID_TEXT_SIZE];
    char trace[TRACE_TEXT_SIZE];
    id_format(&request->ingestion.id, id);
    log_access("reply", "operation", "op=%s ingestion=%s %s", op_name(request->op), id,
               trace_text(request->trace, trace));
}

// The queue as it is now, and in short when that cannot be told: it is done all the same. Another request of
// the same turn may have deleted the queue since.
static void reply_operated(struct loop *loop, const struct request *request, struct buf *out)
{
    log_operation(request);
    enum err err = answer_queue(loop, request->queue.name, out);
    if (err == ERR_UNKNOWN_QUEUE) {
        reply_open(out);
        field_put_string(out, "name", request->queue.name);
        reply_close(out);
    } else if (err != ERR_OK) {
        reply_done(out);
    }
}

static void reply_changed(struct loop *loop, const struct id *ingestion, struct buf *out)
{
    if (answer_ingestion(loop, ingestion, out) != ERR_OK) {
        reply_done(out);
    }
}

static void reply_queue(struct loop *loop, const char *name, struct buf *out)
{
    struct fault fault;
    enum err err = answer_queue(loop, name, out);
    if (err == ERR_UNKNOWN_QUEUE) {
        (void)fault_set(&fault, err, "there is no queue \"%s\"", name);
        reply_error(out, err, fault.detail);
    } else if (err != ERR_OK) {
        reply_error(out, err, "out of memory");
    }
}

// A request that was carried out, or that only asks.
static void reply_good(struct loop *loop, const struct turn *t, const struct request *request, size_t *insert,
                       struct buf *out)
{
    switch (request->op) {
    case OP_INGEST:
        reply_insert(loop, out, &t->inserts[*insert], t->etas[*insert]);
        (*insert)++;
        break;
    case OP_CANCEL:
    case OP_RETRY:
        log_ingestion_operation(request);
        reply_changed(loop, &request->ingestion.id, out);
        break;
    case OP_QUEUE_GET:
        reply_queue(loop, request->queue.name, out);
        break;
    case OP_QUEUE_PUT:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
        reply_operated(loop, request, out);
        break;
    case OP_QUEUE_DELETE:
        log_operation(request);
        reply_deleted(out, request->queue.name);
        break;
    case OP_ACK:
    case OP_NACK:
        reply_done(out);
        break;
    case OP_EXTEND:
        reply_extend(loop, t, &request->settle, out);
        break;
    case OP_LEASE:
        reply_repeat(loop, &request->lease, out);
        break;
    case OP_PING:
    case OP_STATUS:
    case OP_LIST:
    case OP_QUEUE_LIST:
    case OP_METRICS:
    case OP_STATS:
    case OP_BACKUP:
        answer(loop, request, out);
        break;
    }
}

static void reply_one(struct loop *loop, const struct turn *t, struct ipc_request *r, enum err failed,
                      size_t *insert, struct buf *out)
{
    // A line that could not be decoded has no op that writes.
    if (failed != ERR_OK && op_writes(r->request.op)) {
        reply_error(out, ERR_STORAGE_UNAVAILABLE, "the store cannot write; nothing was accepted");
    } else if (r->fault.err != ERR_OK) {
        reply_error(out, r->fault.err, r->fault.detail);
    } else {
        reply_good(loop, t, &r->request, insert, out);
    }
}

// ---- messages ----

// What was carried out, where there is no room for the state after it.
static void reply_short(const struct request *request, struct buf *out)
{
    if (request->op == OP_CANCEL || request->op == OP_RETRY) {
        log_ingestion_operation(request);
    } else {
        log_operation(request);
    }
    reply_done(out);
}

// How long the reply to a request may be; 0 for those that are short.
static size_t reply_bound(const struct ipc_request *r)
{
    if (r->fault.err != ERR_OK) {
        return 0;
    }
    switch (r->request.op) {
    case OP_STATUS:
    case OP_LIST:
    case OP_QUEUE_LIST:
    case OP_METRICS:
    case OP_STATS:
    case OP_LEASE:
        return REPLY_LINE_MAX;
    case OP_QUEUE_GET:
    case OP_QUEUE_PUT:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
        return QUEUE_REPLY_MAX;
    case OP_CANCEL:
    case OP_RETRY:
        return INGESTION_REPLY_MAX;
    case OP_PING:
    case OP_INGEST:
    case OP_QUEUE_DELETE:
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
    case OP_BACKUP:
        break;
    }
    return 0;
}

// The lines of a message together stay under REPLY_MESSAGE_MAX: what only asks and would perhaps not fit is
// not even read, and is to be asked for alone; what was carried out is answered in short.
static void reply_message(struct loop *loop, const struct turn *t, struct ipc_message *message,
                          enum err failed, size_t *insert)
{
    static const char too_much[] = "the replies of this message do not fit into one: ask for this alone";
    const size_t error_line = 384; // at most, and about: a fault with quotes to escape
    const size_t room = REPLY_MESSAGE_MAX - error_line * message->count;
    struct buf lines;
    buf_init(&lines);
    for (size_t i = 0; i < message->count; i++) {
        struct ipc_request *r = &message->requests[i];
        size_t bound = reply_bound(r);
        bool fits = message->count == 1 || bound == 0 || lines.len + bound <= room;
        if (!fits && op_writes(r->request.op) && failed == ERR_OK) {
            reply_short(&r->request, &lines);
        } else if (!fits && !op_writes(r->request.op)) {
            reply_error(&lines, ERR_TRY_ALONE, too_much);
        } else {
            reply_one(loop, t, r, failed, insert, &lines);
        }
    }
    ipc_reply(message, &lines);
    buf_fini(&lines);
}

void reply_none(struct turn *t)
{
    for (struct inbox_item *item = t->messages, *next; item != NULL; item = next) {
        struct buf lines;
        buf_init(&lines);
        next = item->next;
        for (size_t i = 0; i < message_of(item)->count; i++) {
            reply_error(&lines, ERR_STORAGE_UNAVAILABLE, "the store has failed; nothing was accepted");
        }
        ipc_reply(message_of(item), &lines);
        buf_fini(&lines);
    }
    for (struct lease_grant *grant = t->idle, *next; grant != NULL; grant = next) {
        next = grant->next;
        reply_grant(grant, t->now);
        leases_free_grant(grant);
    }
}

void reply_all(struct loop *loop, struct turn *t, enum err failed)
{
    size_t insert = 0;
    for (struct inbox_item *item = t->messages, *next; item != NULL; item = next) {
        next = item->next;
        reply_message(loop, t, message_of(item), failed, &insert);
    }
    store_end_reading(loop->store); // which answer.c begins
    if (failed == ERR_OK) {
        reply_leases(loop, leases_take_grants(loop->leases));
    }
    reply_leases(loop, t->idle);
    reply_leases(loop, leases_take_idle(loop->leases, loop->ending ? MONO_NEVER : t->now));
}
