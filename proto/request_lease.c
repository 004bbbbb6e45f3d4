// Decoding and encoding: what workers ask (lease, ack, nack, extend).
#include "proto/fields.h"
#include "proto/request_ops.h"

#include <string.h>

#define DELAY_MAX_NS (7 * INT64_C(86400) * NS_PER_S)
#define EXTEND_MAX_NS (86400 * NS_PER_S)

enum err lease_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct lease_request *lease = &request->lease;
    bool has_queue = false;
    lease->wait_ns = LEASE_WAIT_DEFAULT_NS;
    lease->max = 1;
    enum err err = field_uuid(root, "id", &lease->has_id, &lease->id, fault);
    if (!err) {
        err = field_queue(root, "queue", &has_queue, lease->queue, fault);
    }
    if (!err && !has_queue) {
        memcpy(lease->queue, DEFAULT_QUEUE, sizeof(DEFAULT_QUEUE));
    }
    if (!err) {
        err = field_duration(root, "wait", 0, LEASE_WAIT_MAX_NS, &lease->wait_ns, fault);
    }
    return err ? err : field_u32(root, "max", 1, LEASE_BATCHES_MAX, &lease->max, fault);
}

void lease_encode(const struct request *request, struct buf *out)
{
    const struct lease_request *lease = &request->lease;
    if (lease->has_id) {
        field_put_uuid(out, "id", &lease->id);
    }
    field_put_string(out, "queue", lease->queue);
    field_put_duration(out, "wait", lease->wait_ns);
    field_put_integer(out, "max", lease->max);
}

static enum err read_nack(const cJSON *root, struct settle_request *settle, struct fault *fault)
{
    const char *error = "";
    enum err err = field_string(root, "error", &error, fault);
    if (!err) {
        err = field_bool(root, "final", &settle->final, fault);
    }
    if (!err) {
        err = field_duration(root, "delay", 0, DELAY_MAX_NS, &settle->delay_ns, fault);
    }
    if (err) {
        return err;
    }
    settle->has_delay = field_find(root, "delay") != NULL;
    if (settle->has_delay && settle->final) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "delay must not be given with final: there is no other attempt");
    }
    settle->error = strdup(error);
    return settle->error ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "out of memory");
}

enum err settle_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct settle_request *settle = &request->settle;
    bool has_id = false;
    enum err err = field_uuid(root, "id", &has_id, &settle->id, fault);
    if (!err && !has_id) {
        err = field_missing("id", fault);
    }
    if (!err) {
        err = field_uuid(root, "batch_id", &settle->has_batch, &settle->batch, fault);
    }
    if (!err && request->op == OP_NACK) {
        err = read_nack(root, settle, fault);
    }
    if (!err && request->op == OP_EXTEND) {
        err = field_duration(root, "lease", NS_PER_S, EXTEND_MAX_NS, &settle->lease_ns, fault);
    }
    return err;
}

void settle_encode(const struct request *request, struct buf *out)
{
    const struct settle_request *settle = &request->settle;
    field_put_uuid(out, "id", &settle->id);
    if (settle->has_batch) {
        field_put_uuid(out, "batch_id", &settle->batch);
    }
    if (settle->error && settle->error[0] != '\0') {
        field_put_string(out, "error", settle->error);
    }
    if (settle->final) {
        field_put_bool(out, "final", true);
    }
    if (settle->has_delay) {
        field_put_duration(out, "delay", settle->delay_ns);
    }
    if (settle->lease_ns != 0) {
        field_put_duration(out, "lease", settle->lease_ns);
    }
}
