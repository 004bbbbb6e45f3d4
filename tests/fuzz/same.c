// same.c - whether two requests are the same, member by member, not by what is written of them.
#include "tests/fuzz/fuzz.h"

#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_ingest(const struct ingest_request *a, const struct ingest_request *b)
{
    return a->has_id == b->has_id && id_equal(&a->id, &b->id) && a->priority == b->priority &&
           same_text(a->queue, b->queue) && same_text(a->idempotency_key, b->idempotency_key) &&
           a->not_before.ms == b->not_before.ms && a->deadline.ms == b->deadline.ms &&
           a->ids.len == b->ids.len && same_text(a->ids.text, b->ids.text) && a->ids.count == b->ids.count &&
           a->ids.kind == b->ids.kind && a->ids.largest == b->ids.largest;
}

static bool same_list(const struct list_request *a, const struct list_request *b)
{
    return a->has_status == b->has_status && a->has_priority == b->has_priority &&
           a->has_queue == b->has_queue && a->status == b->status && a->priority == b->priority &&
           same_text(a->queue, b->queue) && a->limit == b->limit && a->cursor == b->cursor;
}

static bool same_change(const struct queue_change *a, const struct queue_change *b)
{
    return a->given == b->given && a->rate.count == b->rate.count && a->rate.per_ns == b->rate.per_ns &&
           a->burst == b->burst && a->linger_ns == b->linger_ns && a->concurrency == b->concurrency &&
           a->batch_size == b->batch_size && same_text(a->target, b->target) &&
           a->timeout_ns == b->timeout_ns && a->max_attempts == b->max_attempts &&
           a->min_backoff_ns == b->min_backoff_ns && a->max_backoff_ns == b->max_backoff_ns &&
           a->ids == b->ids && a->max_id == b->max_id && same_text(a->headers, b->headers) &&
           a->max_hold_ns == b->max_hold_ns && a->breaker == b->breaker && a->lease_ns == b->lease_ns &&
           a->on_interrupt == b->on_interrupt && a->aging_ns == b->aging_ns;
}

static bool same_lease(const struct lease_request *a, const struct lease_request *b)
{
    return a->has_id == b->has_id && id_equal(&a->id, &b->id) && same_text(a->queue, b->queue) &&
           a->wait_ns == b->wait_ns && a->max == b->max;
}

static bool same_settle(const struct settle_request *a, const struct settle_request *b)
{
    return id_equal(&a->id, &b->id) && a->has_batch == b->has_batch && id_equal(&a->batch, &b->batch) &&
           same_text(a->error, b->error) && a->final == b->final && a->has_delay == b->has_delay &&
           a->delay_ns == b->delay_ns && a->lease_ns == b->lease_ns;
}

static bool same_trace(const struct trace *a, const struct trace *b)
{
    return a && b ? same_text(a->request_id, b->request_id) && same_text(a->traceparent, b->traceparent)
                  : a == b;
}

static bool same_scope(const struct scope *a, const struct scope *b)
{
    bool same = a && b ? same_text(a->owner, b->owner) && a->queue_count == b->queue_count : a == b;
    for (size_t i = 0; a && same && i < a->queue_count; i++) {
        same = same_text(a->queues[i], b->queues[i]);
    }
    return same;
}

bool fuzz_same_request(const struct request *a, const struct request *b)
{
    if (a->op != b->op || !same_trace(a->trace, b->trace) || !same_scope(a->scope, b->scope)) {
        return false;
    }
    switch (a->op) {
    case OP_INGEST:
        return same_ingest(&a->ingest, &b->ingest);
    case OP_STATUS:
        return id_equal(&a->status.id, &b->status.id) && a->status.limit == b->status.limit &&
               a->status.offset == b->status.offset;
    case OP_LIST:
        return same_list(&a->list, &b->list);
    case OP_CANCEL:
    case OP_RETRY:
        return id_equal(&a->ingestion.id, &b->ingestion.id);
    case OP_QUEUE_LIST:
        return a->queue_list.limit == b->queue_list.limit &&
               same_text(a->queue_list.cursor, b->queue_list.cursor);
    case OP_QUEUE_PUT:
        return same_text(a->queue.name, b->queue.name) && same_change(&a->queue.change, &b->queue.change);
    case OP_QUEUE_GET:
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
        return same_text(a->queue.name, b->queue.name);
    case OP_LEASE:
        return same_lease(&a->lease, &b->lease);
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
        return same_settle(&a->settle, &b->settle);
    case OP_BACKUP:
        return id_equal(&a->backup.id, &b->backup.id) && same_text(a->backup.path, b->backup.path);
    case OP_PING:
    case OP_STATS:
    case OP_METRICS:
        return true;
    }
    return false;
}
