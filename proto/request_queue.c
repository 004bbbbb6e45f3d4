// Decoding and encoding: the operations on queues.
#include "proto/fields.h"
#include "proto/request_ops.h"

#include <string.h>

// ERR_UNKNOWN_QUEUE for a text that is no name: no queue has it.
enum err queue_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const char *name = NULL;
    enum err err = field_string(source->json.root, "name", &name, fault);
    if (err) {
        return err;
    }
    if (!name) {
        return field_missing("name", fault);
    }
    if (!queue_name_valid(name)) {
        return fault_set(fault, ERR_UNKNOWN_QUEUE, "there is no queue \"%s\"", name);
    }
    memcpy(request->queue.name, name, strlen(name) + 1);
    return ERR_OK;
}

void queue_encode(const struct request *request, struct buf *out)
{
    field_put_string(out, "name", request->queue.name);
}

enum err queue_put_decode(const struct source *source, struct request *request, struct fault *fault)
{
    bool found = false;
    enum err err = field_queue(source->json.root, "name", &found, request->queue.name, fault);
    if (err) {
        return err;
    }
    if (!found) {
        return field_missing("name", fault);
    }
    return queue_change_decode(source->json.root, &request->queue.change, fault);
}

void queue_put_encode(const struct request *request, struct buf *out)
{
    field_put_string(out, "name", request->queue.name);
    queue_change_encode(&request->queue.change, out);
}

enum err queue_list_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct queue_list_request *list = &request->queue_list;
    const char *cursor = NULL;
    list->limit = QUEUES_DEFAULT;
    enum err err = field_u32(root, "limit", 1, QUEUES_DEFAULT, &list->limit, fault);
    if (!err) {
        err = field_string(root, "cursor", &cursor, fault);
    }
    if (err || !cursor) {
        return err;
    }
    if (!queue_name_valid(cursor)) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "cursor must be a next_cursor that queue.list gave, not \"%s\"", cursor);
    }
    memcpy(list->cursor, cursor, strlen(cursor) + 1);
    return ERR_OK;
}

void queue_list_encode(const struct request *request, struct buf *out)
{
    const struct queue_list_request *list = &request->queue_list;
    field_put_integer(out, "limit", list->limit);
    if (list->cursor[0] != '\0') {
        field_put_string(out, "cursor", list->cursor);
    }
}
