#include "proto/request.h"

#include "proto/fields.h"
#include "proto/request_ops.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// More elements than the largest good request has: IDS_MAX IDs and a handful of members.
static const struct json_limits limits = {.max_elements = IDS_MAX + 16, .max_depth = 32};

// ---- all operations ----

enum writes { READS, WRITES };
enum change { NO_CHANGE, TAKES_CHANGE };

struct op_spec {
    const char *name;
    const char *const *members; // all that are allowed beside "op"
    size_t member_count;
    request_decoder *decode; // NULL: no members
    request_encoder *encode;
    enum writes writes;
    enum change change; // the members of a queue_change are allowed, too
};

static const char *const body_members[] = {"ids", "priority", "queue", "not_before", "deadline"};

// "owner" and "queues" are scope.h's.
static const char *const ingest_members[] = {"id",  "idempotency_key", "queue",    "priority",
                                             "ids", "not_before",      "deadline", "owner"};
static const char *const status_members[] = {"id", "limit", "offset", "owner", "queues"};
static const char *const list_members[] = {"status", "priority", "queue", "limit",
                                           "cursor", "owner",    "queues"};
static const char *const ingestion_members[] = {"id", "owner", "queues"};
static const char *const queue_members[] = {"name"};
static const char *const queue_list_members[] = {"limit", "cursor", "queues"};
static const char *const lease_members[] = {"id", "queue", "wait", "max"};
static const char *const ack_members[] = {"id", "batch_id"};
static const char *const nack_members[] = {"id", "batch_id", "error", "final", "delay"};
static const char *const extend_members[] = {"id", "batch_id", "lease"};
static const char *const backup_members[] = {"id", "path"};

#define MEMBERS_MAX 32 // of any operation

// A row's members, decoder and encoder.
#define TAKES(members, decode, encode) members, COUNT(members), decode, encode

static const struct op_spec ops[] = {
    [OP_PING] = {"ping", NULL, 0, NULL, NULL, READS, NO_CHANGE},
    [OP_INGEST] = {"ingest", TAKES(ingest_members, ingest_decode, ingest_encode), WRITES, NO_CHANGE},
    [OP_STATUS] = {"status", TAKES(status_members, status_decode, status_encode), READS, NO_CHANGE},
    [OP_LIST] = {"list", TAKES(list_members, list_decode, list_encode), READS, NO_CHANGE},
    [OP_CANCEL] = {"cancel", TAKES(ingestion_members, ingestion_decode, ingestion_encode), WRITES, NO_CHANGE},
    [OP_RETRY] = {"retry", TAKES(ingestion_members, ingestion_decode, ingestion_encode), WRITES, NO_CHANGE},
    [OP_QUEUE_LIST] = {"queue.list", TAKES(queue_list_members, queue_list_decode, queue_list_encode), READS,
                       NO_CHANGE},
    [OP_QUEUE_GET] = {"queue.get", TAKES(queue_members, queue_decode, queue_encode), READS, NO_CHANGE},
    [OP_QUEUE_PUT] = {"queue.put", TAKES(queue_members, queue_put_decode, queue_put_encode), WRITES,
                      TAKES_CHANGE},
    [OP_QUEUE_DELETE] = {"queue.delete", TAKES(queue_members, queue_decode, queue_encode), WRITES, NO_CHANGE},
    [OP_QUEUE_PAUSE] = {"queue.pause", TAKES(queue_members, queue_decode, queue_encode), WRITES, NO_CHANGE},
    [OP_QUEUE_RESUME] = {"queue.resume", TAKES(queue_members, queue_decode, queue_encode), WRITES, NO_CHANGE},
    [OP_QUEUE_RETRY] = {"queue.retry", TAKES(queue_members, queue_decode, queue_encode), WRITES, NO_CHANGE},
    [OP_LEASE] = {"lease", TAKES(lease_members, lease_decode, lease_encode), READS, NO_CHANGE},
    [OP_ACK] = {"ack", TAKES(ack_members, settle_decode, settle_encode), WRITES, NO_CHANGE},
    [OP_NACK] = {"nack", TAKES(nack_members, settle_decode, settle_encode), WRITES, NO_CHANGE},
    [OP_EXTEND] = {"extend", TAKES(extend_members, settle_decode, settle_encode), WRITES, NO_CHANGE},
    [OP_STATS] = {"stats", NULL, 0, NULL, NULL, READS, NO_CHANGE},
    [OP_BACKUP] = {"backup", TAKES(backup_members, backup_decode, backup_encode), READS, NO_CHANGE},
    [OP_METRICS] = {"metrics", NULL, 0, NULL, NULL, READS, NO_CHANGE},
};
_Static_assert(COUNT(ops) == OP_METRICS + 1, "a row for each operation");

const char *op_name(enum op op)
{
    return ops[op].name;
}

bool op_writes(enum op op)
{
    return ops[op].writes == WRITES;
}

void request_fini(struct request *request)
{
    switch (request->op) {
    case OP_INGEST:
        free(request->ingest.ids.text);
        free(request->ingest.idempotency_key);
        break;
    case OP_QUEUE_PUT:
        queue_change_fini(&request->queue.change);
        break;
    case OP_NACK:
        free(request->settle.error);
        break;
    case OP_BACKUP:
        free(request->backup.path);
        break;
    case OP_PING:
    case OP_STATUS:
    case OP_LIST:
    case OP_CANCEL:
    case OP_RETRY:
    case OP_QUEUE_LIST:
    case OP_QUEUE_GET:
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
    case OP_LEASE:
    case OP_ACK:
    case OP_EXTEND:
    case OP_STATS:
    case OP_METRICS:
        break;
    }
    free(request->trace);
    free(request->scope);
    *request = (struct request){0};
}

// ---- decoding ----

static enum err decode_with(request_decoder *decode, const char *text, size_t len, struct request *request,
                            struct fault *fault)
{
    struct source source = {.text = text, .len = len};
    *request = (struct request){0};
    enum err err = json_parse(text, len, &limits, &source.json, fault);
    if (err == ERR_TOO_MANY_IDS) { // said in the caller's terms: only IDs can be that many
        return ingest_too_many_ids(fault);
    }
    if (err) {
        return err;
    }
    err = decode(&source, request, fault);
    json_free(&source.json);
    if (err) {
        request_fini(request);
    }
    return err;
}

static enum err decode_body(const struct source *source, struct request *request, struct fault *fault)
{
    if (!cJSON_IsObject(source->json.root)) {
        return fault_set(fault, ERR_INVALID_FIELD, "the body must be a JSON object with ids and priority");
    }
    enum err err = json_only(source->json.root, body_members, COUNT(body_members), fault);
    if (err) {
        return err;
    }
    request->op = OP_INGEST;
    return ingest_decode_content(source, request, fault);
}

enum err request_from_body(const char *body, size_t len, struct request *request, struct fault *fault)
{
    return request_plain(body, len, PLAIN_BODY, request)
               ? ERR_OK
               : decode_with(decode_body, body, len, request, fault);
}

static enum err decode_put(const struct source *source, struct request *request, struct fault *fault)
{
    if (!cJSON_IsObject(source->json.root)) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "the body must be a JSON object with settings of the queue");
    }
    enum err err = json_only(source->json.root, queue_change_members, queue_change_member_count, fault);
    if (err) {
        return err;
    }
    request->op = OP_QUEUE_PUT;
    return queue_change_decode(source->json.root, &request->queue.change, fault);
}

enum err request_from_put(const char *name, const char *body, size_t len, struct request *request,
                          struct fault *fault)
{
    assert(queue_name_valid(name));
    enum err err = decode_with(decode_put, body, len, request, fault);
    if (!err) {
        memcpy(request->queue.name, name, strlen(name) + 1);
    }
    return err;
}

static enum err unknown_op(const char *name, struct fault *fault)
{
    char names[200];
    size_t used = 0;
    for (size_t i = 0; i < COUNT(ops); i++) {
        int n = snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "", ops[i].name);
        used += (size_t)n;
        assert(n > 0 && used < sizeof(names));
    }
    return fault_set(fault, ERR_BAD_REQUEST, "op must be one of %s, not %s", names, name ? name : "absent");
}

static enum err check_members(const cJSON *root, const struct op_spec *spec, struct fault *fault)
{
    const char *names[MEMBERS_MAX] = {"op"};
    size_t count = 1;
    for (size_t i = 0; i < spec->member_count; i++) {
        names[count++] = spec->members[i];
    }
    for (size_t i = 0; spec->change == TAKES_CHANGE && i < queue_change_member_count; i++) {
        assert(count < MEMBERS_MAX);
        names[count++] = queue_change_members[i];
    }
    assert(count + 2 <= MEMBERS_MAX);
    names[count++] = "request_id";
    names[count++] = "traceparent";
    return json_only(root, names, count, fault);
}

// What any request may carry to be followed by.
static enum err decode_trace(const cJSON *root, struct request *request, struct fault *fault)
{
    const char *request_id = NULL;
    const char *traceparent = NULL;
    enum err err = field_string(root, "request_id", &request_id, fault);
    if (!err) {
        err = field_string(root, "traceparent", &traceparent, fault);
    }
    if (err || (!request_id && !traceparent)) {
        return err;
    }
    if (request_id && !request_id_valid(request_id)) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "request_id must be 1 to %u letters, digits and of -_.:/+@~", REQUEST_ID_MAX);
    }
    request->trace = calloc(1, sizeof(*request->trace));
    if (!request->trace) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    if (request_id) {
        memcpy(request->trace->request_id, request_id, strlen(request_id) + 1);
    }
    return !traceparent || traceparent_parse(traceparent, request->trace->traceparent)
               ? ERR_OK
               : fault_set(fault, ERR_INVALID_FIELD, "traceparent is not one as W3C's Trace Context has it");
}

static enum err decode_line(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    if (!cJSON_IsObject(root)) {
        return fault_set(fault, ERR_BAD_REQUEST, "a request must be a JSON object with op");
    }
    const char *name = cJSON_GetStringValue(json_get(root, "op"));
    size_t op = 0;
    while (name && op < COUNT(ops) && strcmp(name, ops[op].name) != 0) {
        op++;
    }
    if (!name || op == COUNT(ops)) {
        return unknown_op(name, fault);
    }
    enum err err = check_members(root, &ops[op], fault);
    if (err) {
        return err;
    }
    request->op = (enum op)op;
    err = decode_trace(root, request, fault);
    if (!err) {
        err = scope_decode(root, &request->scope, fault);
    }
    return !err && ops[op].decode ? ops[op].decode(source, request, fault) : err;
}

enum err request_from_line(const char *line, size_t len, struct request *request, struct fault *fault)
{
    return request_plain(line, len, PLAIN_LINE, request)
               ? ERR_OK
               : decode_with(decode_line, line, len, request, fault);
}

// ---- encoding ----

void request_to_line(const struct request *request, struct buf *out)
{
    const struct op_spec *spec = &ops[request->op];
    buf_str(out, "{\"op\":\"");
    buf_str(out, spec->name);
    buf_char(out, '"');
    if (request->trace && request->trace->request_id[0] != '\0') {
        field_put_string(out, "request_id", request->trace->request_id);
    }
    if (request->trace && request->trace->traceparent[0] != '\0') {
        field_put_string(out, "traceparent", request->trace->traceparent);
    }
    if (spec->encode) {
        spec->encode(request, out);
    }
    scope_encode(request->scope, out);
    buf_str(out, "}\n");
}
