// What the clients are answered, against the model as it stands when the reply leaves.
#include "tests/sim/check.h"

#include "scheduler/rate.h"
#include "scheduler/turn.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

static bool has(const char *line, size_t len, const char *text)
{
    return memmem(line, len, text, strlen(text)) != NULL;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

// ---- ingest ----

static const char *owner_of(const struct scope *scope)
{
    return scope != NULL ? scope->owner : "";
}

static void check_ingest(const struct ingest_request *request, const struct scope *scope, const char *line,
                         size_t len)
{
    const struct model_ingestion *ingestion = model_by_id(&request->id);
    if (!has(line, len, "\"ok\":true")) {
        CHECK(has(line, len, "\"error\":{"), "a reply that is none: %.*s", (int)len, line);
        return;
    }
    if (ingestion == NULL && request->idempotency_key != NULL) {
        ingestion = model_by_key(request->idempotency_key, owner_of(scope));
    }
    CHECK(ingestion != NULL, "an ingestion is acknowledged, and is not there: %.*s", (int)len, line);
    CHECK(strcmp(ingestion->owner, owner_of(scope)) == 0, "%" PRId64 " is \"%s\"'s, and answered to \"%s\"",
          ingestion->seq, ingestion->owner, owner_of(scope));
    char id[ID_TEXT_SIZE];
    id_format(&ingestion->id, id);
    CHECK(has(line, len, id), "an ingestion is answered with another ID: %.*s", (int)len, line);
}

// ---- status ----

// How many of the waiting batches go before the first of its own; -1: none of its own waits.
static int64_t naive_position(const struct model_queue *queue, const struct model_ingestion *own)
{
    int64_t age_ns = sim.now.ns + sim.loop->age_offset_ns;
    int counts = model_counts_as(queue, own, age_ns);
    int64_t position = 0;
    bool waits = false;
    for (uint32_t b = 0; b < own->batches; b++) {
        waits = waits || model_waits(own, &own->batch[b]);
    }
    for (size_t i = 0; i < model.used && waits; i++) {
        const struct model_ingestion *other = &model.ingestions[i];
        if (!other->there || other->queue != own->queue || other == own) {
            continue;
        }
        int its = model_counts_as(queue, other, age_ns);
        for (uint32_t b = 0; b < other->batches && (its < counts || (its == counts && other->seq < own->seq));
             b++) {
            position += model_waits(other, &other->batch[b]);
        }
    }
    return waits ? position : -1;
}

static void check_position(const struct model_queue *queue, const struct model_ingestion *ingestion,
                           const cJSON *reply)
{
    uint64_t delayed[PRIORITIES];
    if (model_count(ingestion->queue, true, delayed) > 0) {
        return; // what becomes due before counts as well: tests/unit/test_outlook.c
    }
    int64_t expected = naive_position(queue, ingestion);
    int64_t position = (int64_t)number_of(reply, "position");
    sim.statuses++;
    CHECK(position == expected, "position: %" PRId64 " of %" PRId64 ", not %" PRId64, position,
          ingestion->seq, expected);
}

static void check_eta(const struct model_queue *queue, const struct model_ingestion *ingestion,
                      const cJSON *reply)
{
    struct wall eta;
    const char *text = text_of(reply, "eta");
    bool given = text[0] != '\0';
    bool expected = queue != NULL && !queue->seen.paused && !model_finished(ingestion);
    CHECK(given == expected, "eta: %" PRId64 " has %s", ingestion->seq, given ? "one" : "none");
    if (given) {
        CHECK(wall_parse(text, &eta) && eta.ms >= sim_wall().ms, "eta: %" PRId64 " is done in the past",
              ingestion->seq);
        sim.etas++;
        eta_seen(queue, ingestion, mono_add(sim.now, (eta.ms - sim_wall().ms) * NS_PER_MS));
    }
}

static void check_owner(const struct model_ingestion *ingestion, const cJSON *shown)
{
    CHECK(strcmp(text_of(shown, "owner"), ingestion->owner) == 0, "%" PRId64 " is \"%s\"'s, not \"%s\"'s",
          ingestion->seq, text_of(shown, "owner"), ingestion->owner);
}

static void check_batch(const struct model_ingestion *ingestion, uint32_t index, const cJSON *batch)
{
    const struct model_batch *known = &ingestion->batch[index];
    struct id id = model_batch_id(ingestion, index);
    char text[ID_TEXT_SIZE];
    id_format(&id, text);
    const char *status = status_name(model_outside(ingestion, known));
    CHECK(strcmp(text_of(batch, "batch_id"), text) == 0, "%" PRId64 ".%u has another ID", ingestion->seq,
          index);
    CHECK(strcmp(text_of(batch, "status"), status) == 0, "%" PRId64 ".%u is %s, not %s", ingestion->seq,
          index, text_of(batch, "status"), status);
    CHECK(known->attempts == 0 || number_of(batch, "attempts") == known->attempts,
          "%" PRId64 ".%u has %g attempts", ingestion->seq, index, number_of(batch, "attempts"));
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(batch, "ids");
    const cJSON *item;
    uint32_t at = index * ingestion->batch_size;
    cJSON_ArrayForEach(item, ids)
    {
        CHECK(item->valuedouble == (double)(ingestion->first_id + at), "%" PRId64 ".%u has another ID at %u",
              ingestion->seq, index, at);
        at++;
    }
    uint32_t end = (index + 1) * ingestion->batch_size;
    CHECK(at == (end < ingestion->ids ? end : ingestion->ids), "%" PRId64 ".%u lacks IDs", ingestion->seq,
          index);
}

static void check_status(const struct id *id, const struct scope *scope, const char *line, size_t len)
{
    static const char unknown[] = "{\"error\":{\"code\":\"not_found\",\"message\":\"" NO_INGESTION "\"}}";
    const struct model_ingestion *ingestion = model_by_id(id);
    if (ingestion == NULL || !model_in_scope(scope, ingestion)) {
        CHECK(len == sizeof unknown - 1 && memcmp(line, unknown, len) == 0,
              "a status of what is not there: %.*s", (int)len, line);
        return;
    }
    cJSON *reply = cJSON_ParseWithLength(line, len);
    const cJSON *batches = cJSON_GetObjectItemCaseSensitive(reply, "batches");
    CHECK(reply != NULL && has(line, len, "\"ok\":true"), "no status of %" PRId64 ": %.*s", ingestion->seq,
          (int)len, line);
    CHECK(strcmp(text_of(reply, "status"), status_name(model_status(ingestion))) == 0,
          "%" PRId64 " is %s, not %s", ingestion->seq, text_of(reply, "status"),
          status_name(model_status(ingestion)));
    check_owner(ingestion, reply);
    const struct model_queue *queue = model_queue_named(ingestion->queue_name);
    queue =
        queue != NULL && queue->id == ingestion->queue ? queue : NULL; // it was deleted, perhaps made anew
    uint32_t index = 0;
    const cJSON *batch;
    cJSON_ArrayForEach(batch, batches)
    {
        CHECK(index < ingestion->batches, "%" PRId64 " has too many batches", ingestion->seq);
        check_batch(ingestion, index++, batch);
    }
    CHECK(index == ingestion->batches, "%" PRId64 " has %u batches", ingestion->seq, index);
    if (queue != NULL) {
        check_position(queue, ingestion, reply);
    }
    check_eta(queue, ingestion, reply);
    cJSON_Delete(reply);
}

// ---- queues and lists ----

static void check_queue_reply(const char *name, const char *line, size_t len)
{
    const struct model_queue *queue = model_queue_named(name);
    if (queue == NULL) {
        CHECK(has(line, len, "unknown_queue"), "a queue that is not there: %.*s", (int)len, line);
        return;
    }
    CHECK(has(line, len, "\"ok\":true"), "no queue %s: %.*s", name, (int)len, line);
    cJSON *reply = cJSON_ParseWithLength(line, len);
    const cJSON *waiting = cJSON_GetObjectItemCaseSensitive(reply, "waiting");
    uint64_t count[PRIORITIES];
    (void)model_count(queue->id, false, count);
    for (int p = 0; p < PRIORITIES; p++) {
        CHECK(number_of(waiting, priority_name((enum priority)p)) == (double)count[p],
              "%s: %g of %s wait, not %" PRIu64, name, number_of(waiting, priority_name((enum priority)p)),
              priority_name((enum priority)p), count[p]);
    }
    // What was cut off and could not be written down for lack of room is none of its deliveries any more.
    CHECK(sim.loop->cut_off || number_of(reply, "in_flight") == (double)model_in_flight(queue->id),
          "%s: %g are in flight, not %zu", name, number_of(reply, "in_flight"), model_in_flight(queue->id));
    cJSON_Delete(reply);
}

// The newest that matches of those with a lower seq; NULL when there is none.
static const struct model_ingestion *next_listed(const struct list_request *request,
                                                 const struct scope *scope, int64_t before)
{
    const struct model_queue *queue = request->has_queue ? model_queue_named(request->queue) : NULL;
    const struct model_ingestion *next = NULL;
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *one = &model.ingestions[i];
        bool matches = one->there && (!request->has_status || model_status(one) == request->status) &&
                       (!request->has_queue || (queue != NULL && one->queue == queue->id)) &&
                       model_in_scope(scope, one);
        next = matches && one->seq < before && (next == NULL || one->seq > next->seq) ? one : next;
    }
    return next;
}

// The newest that match, without a gap.
static void check_list(const struct list_request *request, const struct scope *scope, const char *line,
                       size_t len)
{
    if (request->has_queue && model_queue_named(request->queue) == NULL &&
        scope_has_queue(scope, request->queue)) {
        CHECK(has(line, len, "unknown_queue"), "a list of a queue that is not there: %.*s", (int)len, line);
        return;
    }
    cJSON *reply = cJSON_ParseWithLength(line, len);
    const cJSON *item;
    int64_t before = INT64_MAX;
    uint32_t count = 0;
    CHECK(reply != NULL && has(line, len, "\"ok\":true"), "no list: %.*s", (int)len, line);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(reply, "ingestions"))
    {
        const struct model_ingestion *next = next_listed(request, scope, before);
        struct id id;
        CHECK(next != NULL && id_parse(text_of(item, "ingestion_id"), ID_TEXT_SIZE - 1, &id) &&
                  id_equal(&id, &next->id),
              "the list has %s where %" PRId64 " should be", text_of(item, "ingestion_id"),
              next != NULL ? next->seq : 0);
        check_owner(next, item);
        before = next->seq;
        count++;
    }
    // A page looks at more rows than the model has.
    CHECK(count == request->limit || next_listed(request, scope, before) == NULL,
          "the list ends before %" PRId64, before);
    cJSON_Delete(reply);
}

// The first name behind this one, of the queues that are there and in the scope; NULL when there is none.
static const char *next_name(const struct scope *scope, const char *after)
{
    const char *next = NULL;
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &model.queues[i];
        bool fits = queue->there && scope_has_queue(scope, queue->name) && strcmp(queue->name, after) > 0;
        next = fits && (next == NULL || strcmp(queue->name, next) < 0) ? queue->name : next;
    }
    return next;
}

static void check_queues(const struct queue_list_request *request, const struct scope *scope,
                         const char *line, size_t len)
{
    cJSON *reply = cJSON_ParseWithLength(line, len);
    const cJSON *item;
    const char *last = request->cursor;
    uint32_t count = 0;
    CHECK(reply != NULL && has(line, len, "\"ok\":true"), "no queues: %.*s", (int)len, line);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(reply, "queues"))
    {
        const char *next = next_name(scope, last);
        CHECK(next != NULL && strcmp(text_of(item, "name"), next) == 0,
              "the queues have %s where %s should be", text_of(item, "name"),
              next != NULL ? next : "nothing");
        last = next;
        count++;
    }
    bool more = next_name(scope, last) != NULL;
    CHECK(count <= request->limit && (count == request->limit || !more) &&
              strcmp(text_of(reply, "next_cursor"), more ? last : "") == 0,
          "the queues end at %s, and go on from \"%s\"", last, text_of(reply, "next_cursor"));
    cJSON_Delete(reply);
}

// A cancel or retry that was carried out shows the ingestion, or says so in short.
static void check_changed(const struct id *id, const char *line, size_t len)
{
    const struct model_ingestion *ingestion = model_by_id(id);
    if (has(line, len, "\"ingestion_id\"")) {
        cJSON *reply = cJSON_ParseWithLength(line, len);
        CHECK(reply != NULL && ingestion != NULL, "what was changed is not there: %.*s", (int)len, line);
        check_owner(ingestion, reply);
        cJSON_Delete(reply);
    }
}

// ---- leases ----

static void check_lease(const struct lease_request *request, const char *line, size_t len)
{
    size_t given = 0;
    size_t out = 0;
    const char *at = line;
    for (const char *next; (next = memmem(at, len - (size_t)(at - line), "\"batch_id\":", 11)) != NULL;
         at = next + 1) {
        given++;
    }
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && b < ingestion->batches; b++) {
            const struct model_batch *batch = &ingestion->batch[b];
            if (batch->state == BATCH_IN_FLIGHT && batch->leased && id_equal(&batch->lease, &request->id)) {
                struct id id = model_batch_id(ingestion, b);
                char text[ID_TEXT_SIZE];
                id_format(&id, text);
                if (sim.lied && !has(line, len, text)) {
                    continue; // its grant was committed, and taken for not so: it runs out
                }
                CHECK(has(line, len, text), "lease: %" PRId64 ".%u is out, and not in the reply",
                      ingestion->seq, b);
                target_lease_granted(ingestion->queue, (struct mono){batch->slot_ns}, &batch->lease, &id);
                out++;
            }
        }
    }
    CHECK(given == out && given <= request->max,
          "lease: %zu batches are given, %zu are out, %u were asked for", given, out, request->max);
}

// ---- all ----

void answer_check(const struct request *request, const char *line, size_t len)
{
    bool good = has(line, len, "\"ok\":true");
    sim_note("reply", (int64_t)request->op, good, (int64_t)len);
    if (sim.reported && has(line, len, "storage_unavailable")) {
        return;
    }
    switch (request->op) {
    case OP_INGEST:
        check_ingest(&request->ingest, request->scope, line, len);
        break;
    case OP_STATUS:
        check_status(&request->status.id, request->scope, line, len);
        break;
    case OP_QUEUE_GET:
        check_queue_reply(request->queue.name, line, len);
        break;
    case OP_LIST:
        check_list(&request->list, request->scope, line, len);
        break;
    case OP_LEASE:
        check_lease(&request->lease, line, len);
        break;
    case OP_QUEUE_PUT:
        CHECK(good || has(line, len, "storage_unavailable") || has(line, len, "invalid_field"),
              "a put fails: %.*s", (int)len, line);
        break;
    case OP_CANCEL:
    case OP_RETRY:
        check_changed(&request->ingestion.id, line, len);
        break;
    case OP_QUEUE_LIST:
        check_queues(&request->queue_list, request->scope, line, len);
        break;
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
    case OP_PING:
    case OP_STATS:
    case OP_BACKUP:
    case OP_METRICS:
        break;
    }
}
