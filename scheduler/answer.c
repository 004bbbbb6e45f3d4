// Replies about ingestions, ping and stats; see answer_queue.c for queues.
#include "proto/fields.h"
#include "proto/reply.h"
#include "scheduler/standing.h"
#include "scheduler/turn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_RESERVE 1024u   // room for what follows the batches of a page
#define STATS_RESERVE 16384u // room for one more queue and what follows

static void put_progress(struct buf *out, const struct ingestion_row *row)
{
    buf_str(out, ",\"progress\":{\"total\":");
    buf_u64(out, row->batches);
    for (int s = 0; s < STATUSES; s++) {
        field_put_integer(out, status_name((enum status)s), row->progress[s]);
    }
    buf_char(out, '}');
}

// The name of an ingestion's queue, which may have been deleted since.
static void put_queue_name(const struct loop *loop, int64_t id, struct buf *out)
{
    char name[QUEUE_NAME_SIZE] = "";
    struct queue_view view;
    if (engine_view_by_id(loop->engine, id, mono_now(), &view) == ERR_OK) {
        field_put_string(out, "queue", view.name);
        return;
    }
    if (store_queue_name(loop->store, id, name) != ERR_OK) {
        name[0] = '\0';
    }
    field_put_string(out, "queue", name);
}

// What an ingestion's status and its row in a list have in common. Starts without a comma.
static void put_ingestion(const struct loop *loop, const struct ingestion_row *row, struct buf *out)
{
    char id[ID_TEXT_SIZE];
    id_format(&row->id, id);
    buf_str(out, "\"ingestion_id\":\"");
    buf_str(out, id);
    buf_char(out, '"');
    field_put_string(out, "status", status_name(ingestion_status(row)));
    put_queue_name(loop, row->queue, out);
    if (row->owner[0] != '\0') {
        field_put_string(out, "owner", row->owner);
    }
    field_put_string(out, "priority", priority_name(row->priority));
    field_put_time(out, "created_at", row->created);
    if (row->not_before.ms != 0) {
        field_put_time(out, "not_before", row->not_before);
    }
    if (row->deadline.ms != 0) {
        field_put_time(out, "deadline", row->deadline);
    }
    put_progress(out, row);
}

static void reply_failed(struct buf *out, size_t start, enum err err, const char *message)
{
    buf_cut(out, start);
    reply_error(out, err, message);
}

// ---- status ----

static void put_outlook(struct buf *out, const struct outlook *outlook, struct mono now)
{
    buf_str(out, ",\"position\":");
    if (outlook->has_position) {
        buf_u64(out, outlook->position);
    } else {
        buf_str(out, "null");
    }
    if (outlook->has_eta) {
        int64_t ns = mono_diff(outlook->eta, now);
        int64_t ms = ns / NS_PER_MS + (ns % NS_PER_MS > 0);
        field_put_time(out, "eta", (struct wall){wall_now().ms + ms});
    } else {
        buf_str(out, ",\"eta\":null");
    }
}

static enum status outside_status(const struct ingestion_row *row, const struct batch_row *batch)
{
    if (batch == NULL) {
        return row->progress[STATUS_CANCELLED] > 0 ? STATUS_CANCELLED : STATUS_YET_TO_START;
    }
    switch (batch->state) {
    case BATCH_WAITING:
        return batch->attempts == 0 ? STATUS_YET_TO_START : STATUS_TRIGGERED; // 0: a retry by hand
    case BATCH_IN_FLIGHT:
    case BATCH_BACKOFF:
        return STATUS_TRIGGERED;
    case BATCH_COMPLETED:
        return STATUS_COMPLETED;
    case BATCH_FAILED:
        return STATUS_FAILED;
    case BATCH_CANCELLED:
        return STATUS_CANCELLED;
    }
    return STATUS_FAILED;
}

// One batch; `batch` is NULL when it has not started. `ids` is its part of the ingestion's.
static void put_batch(struct buf *out, const struct ingestion_row *row, uint32_t index,
                      const struct batch_row *batch, const char *ids, size_t ids_len)
{
    struct id id = batch_id(&row->id, index);
    char text[ID_TEXT_SIZE];
    id_format(&id, text);
    buf_str(out, "{\"batch_id\":\"");
    buf_str(out, text);
    buf_str(out, "\",\"ids\":[");
    buf_put(out, ids, ids_len);
    buf_char(out, ']');
    enum status status = outside_status(row, batch);
    field_put_string(out, "status", status_name(status));
    if (batch != NULL && batch->attempts > 0) {
        field_put_integer(out, "attempts", batch->attempts);
        field_put_time(out, "triggered_at", batch->triggered);
    }
    if (batch != NULL && batch->completed.ms != 0) {
        field_put_time(out, "completed_at", batch->completed);
    }
    if (batch != NULL && batch->interrupted) {
        buf_str(out, ",\"interrupted\":true");
    }
    if (batch != NULL && batch->error != NULL) {
        field_put_string(out, "error", batch->error);
    } else if (batch == NULL && status == STATUS_CANCELLED && row->expired) {
        field_put_string(out, "error", "deadline");
    }
    buf_char(out, '}');
}

struct page {
    uint32_t first;
    uint32_t end;
    struct batch_row *rows; // of the started ones
    size_t row_count;
    struct buf ids;
};

static enum err page_read(struct loop *loop, const struct ingestion_row *row,
                          const struct status_request *request, struct page *page)
{
    uint32_t left = request->offset < row->batches ? row->batches - request->offset : 0;
    page->first = request->offset;
    page->end = page->first + (left < request->limit ? left : request->limit);
    enum err err =
        store_read_batches(loop->store, row->seq, page->first, page->end, &page->rows, &page->row_count);
    if (err == ERR_OK && left > 0) {
        uint32_t from = page->first * row->batch_size;
        uint32_t to = page->end < row->batches ? page->end * row->batch_size : row->ids;
        err = store_read_ids(loop->store, row, from, to - from, &page->ids);
    }
    return err == ERR_OK ? buf_err(&page->ids) : err;
}

// As many batches of the page as fit into the line, at least one.
static void put_page(struct buf *out, size_t start, const struct ingestion_row *row, const struct page *page)
{
    buf_str(out, ",\"batches\":[");
    const char *ids = page->ids.data;
    size_t left = page->ids.len;
    size_t next_row = 0;
    for (uint32_t index = page->first; index < page->end; index++) {
        size_t before = out->len;
        if (index > page->first) {
            buf_char(out, ',');
        }
        const struct batch_row *batch = NULL;
        if (next_row < page->row_count && page->rows[next_row].index == index) {
            batch = &page->rows[next_row++];
        }
        const char *stop = ids_after(ids, ids + left, row->batch_size);
        size_t len = stop != NULL ? (size_t)(stop - ids) : left;
        put_batch(out, row, index, batch, ids, len);
        if (index > page->first && out->len - start > REPLY_LINE_MAX - LINE_RESERVE) {
            buf_cut(out, before);
            break;
        }
        size_t skip = len < left ? len + 1 : len; // and the comma
        ids += skip;
        left -= skip;
    }
    buf_char(out, ']');
    field_put_integer(out, "batches_total", row->batches);
}

static enum err put_status(struct loop *loop, const struct status_request *request, const struct scope *scope,
                           struct buf *out, size_t start)
{
    const struct reach reach = reach_of(scope, loop->engine);
    struct ingestion_row row;
    enum err err = store_find(loop->store, &request->id, &row);
    if (err != ERR_OK) {
        return err;
    }
    if (!reach_has(&reach, row.queue, row.owner)) {
        return ERR_NOT_FOUND;
    }
    struct outlook outlook;
    struct mono now = mono_now();
    err = standing_outlook(loop->store, loop->engine, &row, now, wall_now(), &outlook);
    if (err != ERR_OK) {
        return err;
    }
    struct page page = {.rows = NULL};
    buf_init(&page.ids);
    err = page_read(loop, &row, request, &page);
    if (err == ERR_OK) {
        reply_open(out);
        buf_char(out, ',');
        put_ingestion(loop, &row, out);
        put_outlook(out, &outlook, now);
        put_page(out, start, &row, &page);
        reply_close(out);
    }
    store_free_batches(page.rows, page.row_count);
    buf_fini(&page.ids);
    return err;
}

// ---- list ----

// The scope, and of it the one queue that is asked for. Whether a queue that is not in the scope is there is
// not said.
static enum err reach_of_list(const struct loop *loop, const struct list_request *request,
                              const struct scope *scope, struct reach *reach)
{
    int64_t queue;
    *reach = reach_of(scope, loop->engine);
    if (!request->has_queue) {
        return ERR_OK;
    }
    if (!scope_has_queue(scope, request->queue)) {
        *reach = (struct reach){.owner = ""};
        return ERR_OK;
    }
    enum err err = engine_find_queue(loop->engine, request->queue, &queue);
    if (err == ERR_OK) {
        reach_narrow(reach, queue);
    }
    return err;
}

static enum err put_list(struct loop *loop, const struct list_request *request, const struct scope *scope,
                         struct buf *out)
{
    struct reach reach;
    enum err err = reach_of_list(loop, request, scope, &reach);
    if (err != ERR_OK) {
        return err;
    }
    struct ingestion_row *rows = calloc(request->limit, sizeof *rows);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t count = reach_empty(&reach) ? 0 : request->limit;
    int64_t before = request->cursor == 0 ? INT64_MAX : (int64_t)request->cursor;
    int64_t next = 0;
    if (count > 0) {
        err = store_list(loop->store, request, &reach, before, rows, &count, &next);
    }
    if (err == ERR_OK) {
        reply_open(out);
        buf_str(out, ",\"ingestions\":[");
        for (size_t i = 0; i < count; i++) {
            buf_str(out, i > 0 ? ",{" : "{");
            put_ingestion(loop, &rows[i], out);
            buf_char(out, '}');
        }
        buf_str(out, "],\"next_cursor\":");
        if (next > 0) {
            buf_printf(out, "\"%lld\"", (long long)next);
        } else {
            buf_str(out, "null");
        }
        reply_close(out);
    }
    free(rows);
    return err;
}

// ---- stats ----

static void put_stats(const struct loop *loop, struct buf *out, size_t start)
{
    struct mono now = mono_now();
    reply_open(out);
    field_put_string(out, "version", SLUICE_VERSION);
    buf_printf(out, ",\"uptime_ms\":%lld,\"queues\":[",
               (long long)(mono_diff(now, loop->started) / NS_PER_MS));
    size_t count = engine_queues(loop->engine);
    size_t shown = 0;
    for (; shown < count && out->len - start < REPLY_LINE_MAX - STATS_RESERVE; shown++) {
        struct queue_view view = engine_view(loop->engine, shown, now);
        if (shown > 0) {
            buf_char(out, ',');
        }
        put_queue(loop, &view, out);
    }
    buf_printf(out, "],\"queues_total\":%zu,\"commits\":%llu,\"requests\":%llu,\"removed\":%llu", count,
               (unsigned long long)loop->commits, (unsigned long long)loop->requests,
               (unsigned long long)loop->retention.removed);
    reply_close(out);
}

static void answer_metrics(const struct loop *loop, struct buf *out)
{
    const struct metrics_source source = {.engine = loop->engine,
                                          .routes = &loop->routes,
                                          .store = loop->store,
                                          .requests = loop->requests,
                                          .removed = loop->retention.removed,
                                          .leases_waiting = leases_waiting(loop->leases),
                                          .now = mono_now()};
    struct buf text;
    buf_init(&text);
    metrics_put(&loop->metrics, &source, &text);
    if (buf_err(&text) == ERR_OK) {
        reply_metrics(out, &text);
    } else {
        reply_error(out, ERR_NO_MEMORY, "out of memory");
    }
    buf_fini(&text);
}

enum err answer_ingestion(struct loop *loop, const struct id *id, struct buf *out)
{
    struct ingestion_row row;
    enum err err = store_find(loop->store, id, &row);
    if (err == ERR_OK) {
        reply_open(out);
        buf_char(out, ',');
        put_ingestion(loop, &row, out);
        reply_close(out);
    }
    return err;
}

void answer(struct loop *loop, const struct request *request, struct buf *out)
{
    size_t start = out->len;
    switch (request->op) {
    case OP_PING:
        reply_ping(out);
        break;
    case OP_STATUS: {
        store_begin_reading(loop->store); // reply_all ends it
        enum err err = put_status(loop, &request->status, request->scope, out, start);
        if (err == ERR_NOT_FOUND) {
            reply_failed(out, start, err, NO_INGESTION);
        } else if (err != ERR_OK) {
            reply_failed(out, start, err, "the store cannot be read");
        }
        break;
    }
    case OP_LIST: {
        enum err err = put_list(loop, &request->list, request->scope, out);
        if (err == ERR_UNKNOWN_QUEUE) {
            struct fault fault;
            (void)fault_set(&fault, err, "there is no queue \"%s\"", request->list.queue);
            reply_failed(out, start, err, fault.detail);
        } else if (err != ERR_OK) {
            reply_failed(out, start, err, "the store cannot be read");
        }
        break;
    }
    case OP_STATS:
        put_stats(loop, out, start);
        break;
    case OP_BACKUP:
        backup_answer(&loop->backup, loop->store, &request->backup, out);
        break;
    case OP_METRICS:
        answer_metrics(loop, out);
        break;
    case OP_QUEUE_LIST:
        answer_queues(loop, &request->queue_list, request->scope, out);
        break;
    case OP_INGEST:
    case OP_CANCEL:
    case OP_RETRY:
    case OP_QUEUE_GET:
    case OP_QUEUE_PUT:
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
    case OP_LEASE:
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
        assert(false && "no question");
        break;
    }
}
