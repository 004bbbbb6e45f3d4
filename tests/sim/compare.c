// Whether the store holds what the model does.
#include "tests/sim/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool batch_equals(const struct model_ingestion *ingestion, uint32_t index, const struct batch_row *row,
                         char *why, size_t size)
{
    const struct model_batch *batch = &ingestion->batch[index];
    bool same = batch->row ? row != NULL && row->state == batch->state && row->attempts == batch->attempts &&
                                 (batch->state != BATCH_BACKOFF || row->due.ns == batch->due_ns)
                           : row == NULL;
    if (!same) {
        (void)snprintf(why, size, "batch %" PRId64 ".%u: state %d, attempts %u, not %d, %u", ingestion->seq,
                       index, row != NULL ? (int)row->state : -1, row != NULL ? row->attempts : 0,
                       batch->row ? (int)batch->state : -1, batch->attempts);
    }
    return same;
}

static bool batches_equal(struct store *store, const struct model_ingestion *ingestion, char *why,
                          size_t size)
{
    struct batch_row *rows = NULL;
    size_t count = 0;
    size_t at = 0;
    enum err err = store_read_batches(store, ingestion->seq, 0, ingestion->batches, &rows, &count);
    CHECK(err == ERR_OK, "batches cannot be read: %s", err_name(err));
    bool same = true;
    for (uint32_t i = 0; i < ingestion->batches && same; i++) {
        const struct batch_row *row = at < count && rows[at].index == i ? &rows[at++] : NULL;
        same = batch_equals(ingestion, i, row, why, size);
    }
    store_free_batches(rows, count);
    return same;
}

static bool ids_equal(struct store *store, const struct model_ingestion *ingestion,
                      const struct ingestion_row *row)
{
    char text[1024];
    struct buf ids;
    buf_init(&ids);
    size_t len = model_ids(ingestion, 0, ingestion->ids, text, sizeof text);
    enum err err = store_read_ids(store, row, 0, row->ids, &ids);
    CHECK(err == ERR_OK, "IDs cannot be read: %s", err_name(err));
    bool same = ids.len == len && memcmp(ids.data, text, len) == 0;
    buf_fini(&ids);
    return same;
}

static bool ingestion_equals(struct store *store, const struct model_ingestion *ingestion, char *why,
                             size_t size)
{
    struct ingestion_row row;
    uint32_t progress[STATUSES];
    enum err err = store_find(store, &ingestion->id, &row);
    if (err == ERR_NOT_FOUND) {
        (void)snprintf(why, size, "ingestion %" PRId64 " is not there", ingestion->seq);
        return false;
    }
    CHECK(err == ERR_OK, "an ingestion cannot be read: %s", err_name(err));
    model_progress(ingestion, progress);
    bool same = row.seq == ingestion->seq && row.queue == ingestion->queue &&
                strcmp(row.owner, ingestion->owner) == 0 && row.priority == ingestion->priority &&
                row.ids == ingestion->ids && row.batches == ingestion->batches &&
                row.batch_size == ingestion->batch_size && row.accepted_ns == ingestion->accepted_ns &&
                row.not_before.ms == ingestion->not_before_ms && row.deadline.ms == ingestion->deadline_ms &&
                row.scheduled == ingestion->scheduled && memcmp(row.progress, progress, sizeof progress) == 0;
    if (!same) {
        (void)snprintf(why, size, "ingestion %" PRId64 " (%s) is another than it was", ingestion->seq,
                       memcmp(row.progress, progress, sizeof progress) != 0 ? "its progress" : "its row");
        return false;
    }
    if (!ids_equal(store, ingestion, &row)) {
        (void)snprintf(why, size, "ingestion %" PRId64 " has other IDs than it had", ingestion->seq);
        return false;
    }
    return batches_equal(store, ingestion, why, size);
}

static bool row_equals(const struct model_queue *queue, const struct queue_row *row)
{
    const struct queue_settings *a = &queue->settings;
    const struct queue_settings *b = &row->settings;
    const struct queue_figures *f = &queue->saved;
    const struct queue_figures *g = &row->figures;
    return strcmp(queue->name, row->name) == 0 && strcmp(queue->target, row->target) == 0 &&
           a->rate.count == b->rate.count && a->rate.per_ns == b->rate.per_ns && a->burst == b->burst &&
           a->linger_ns == b->linger_ns && a->concurrency == b->concurrency &&
           a->batch_size == b->batch_size && a->max_attempts == b->max_attempts && a->breaker == b->breaker &&
           a->aging_ns == b->aging_ns && a->on_interrupt == b->on_interrupt && a->lease_ns == b->lease_ns &&
           f->paused == g->paused && f->starting == g->starting && f->bucket.tat.ns == g->bucket.tat.ns &&
           f->bucket.fraction == g->bucket.fraction && f->held_until.ns == g->held_until.ns &&
           f->failures == g->failures && f->delayed == g->delayed && f->dispatched == g->dispatched &&
           f->completed == g->completed && f->failed == g->failed;
}

static bool queues_equal(struct store *store, char *why, size_t size)
{
    struct queue_row *rows = NULL;
    size_t count = 0;
    size_t known = 0;
    enum err err = store_load_queues(store, &rows, &count);
    CHECK(err == ERR_OK, "queues cannot be read: %s", err_name(err));
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        known += model.queues[i].there;
    }
    bool same = count == known;
    (void)snprintf(why, size, "%zu queues are there, not %zu", count, known);
    for (size_t i = 0; i < count && same; i++) {
        const struct model_queue *queue = model_find_queue(rows[i].id);
        same = queue != NULL && row_equals(queue, &rows[i]);
        (void)snprintf(why, size, "queue %s is another than it was", rows[i].name);
    }
    store_free_queues(rows, count);
    return same;
}

static bool flight_equals(const struct in_flight_row *row)
{
    const struct model_ingestion *ingestion = model_by_seq(row->key.place.seq);
    if (ingestion == NULL || row->key.place.index >= ingestion->batches) {
        return false;
    }
    const struct model_batch *batch = &ingestion->batch[row->key.place.index];
    return batch->state == BATCH_IN_FLIGHT && row->cancelled == ingestion->cancelled &&
           row->attempt == batch->attempts && row->excused == batch->excused &&
           row->leased == batch->leased &&
           (!row->leased ||
            (id_equal(&row->lease, &batch->lease) && row->lease_until.ns == batch->lease_until_ns));
}

static bool flights_equal(struct store *store, char *why, size_t size)
{
    struct in_flight_row *rows = NULL;
    size_t count = 0;
    enum err err = store_load_in_flight(store, &rows, &count);
    CHECK(err == ERR_OK, "what is in flight cannot be read: %s", err_name(err));
    bool same = true;
    for (size_t i = 0; i < count && same; i++) {
        same = flight_equals(&rows[i]);
        (void)snprintf(why, size, "%" PRId64 ".%u is in flight in another way than it was",
                       rows[i].key.place.seq, rows[i].key.place.index);
    }
    store_free_in_flight(rows, count);
    return same;
}

bool model_equals(struct store *store, char *why, size_t size)
{
    static struct ingestion_row rows[MODEL_INGESTIONS + 1];
    size_t known = 0;
    if (!queues_equal(store, why, size) || !flights_equal(store, why, size)) {
        return false;
    }
    for (size_t i = 0; i < model.used; i++) {
        known += model.ingestions[i].there;
        if (model.ingestions[i].there && !ingestion_equals(store, &model.ingestions[i], why, size)) {
            return false;
        }
    }
    const struct list_request all = {.limit = LIST_MAX};
    int64_t next = 0;
    size_t count = MODEL_INGESTIONS + 1;
    enum err err = store_list(store, &all, NULL, INT64_MAX, rows, &count, &next);
    CHECK(err == ERR_OK, "the list cannot be read: %s", err_name(err));
    if (count != known) {
        (void)snprintf(why, size, "%zu ingestions are there, not %zu", count, known);
    }
    return count == known;
}
