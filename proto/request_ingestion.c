// Decoding and encoding: what is asked of ingestions that are there (status, list, cancel, retry).
#include "proto/fields.h"
#include "proto/request_ops.h"

#include <string.h>

// ERR_NOT_FOUND for a text that is no UUID: no ingestion has such an ID.
static enum err read_ingestion(const cJSON *root, struct id *id, struct fault *fault)
{
    const char *text = NULL;
    enum err err = field_string(root, "id", &text, fault);
    if (err) {
        return err;
    }
    if (!text) {
        return field_missing("id", fault);
    }
    if (!id_parse(text, strlen(text), id)) {
        return fault_set(fault, ERR_NOT_FOUND, "no ingestion has the id \"%s\"", text);
    }
    return ERR_OK;
}

// ---- one ingestion ----

enum err ingestion_decode(const struct source *source, struct request *request, struct fault *fault)
{
    return read_ingestion(source->json.root, &request->ingestion.id, fault);
}

void ingestion_encode(const struct request *request, struct buf *out)
{
    field_put_uuid(out, "id", &request->ingestion.id);
}

enum err status_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct status_request *status = &request->status;
    status->limit = PAGE_DEFAULT;
    enum err err = field_u32(root, "limit", 1, PAGE_MAX, &status->limit, fault);
    if (!err) {
        err = field_u32(root, "offset", 0, UINT32_MAX, &status->offset, fault);
    }
    return err ? err : read_ingestion(root, &status->id, fault);
}

void status_encode(const struct request *request, struct buf *out)
{
    const struct status_request *status = &request->status;
    field_put_uuid(out, "id", &status->id);
    field_put_integer(out, "limit", status->limit);
    field_put_integer(out, "offset", status->offset);
}

// ---- list ----

static enum err read_status(const cJSON *root, struct list_request *list, struct fault *fault)
{
    const char *text = NULL;
    enum err err = field_string(root, "status", &text, fault);
    if (err) {
        return err;
    }
    list->has_status = text != NULL;
    if (list->has_status && !status_parse(text, &list->status)) {
        return fault_set(
            fault, ERR_INVALID_FIELD,
            "status must be one of yet_to_start, triggered, completed, failed, cancelled, not \"%s\"", text);
    }
    return ERR_OK;
}

// A cursor is a sequence number: from 1 to INT64_MAX.
static bool cursor_parse(const char *text, uint64_t *cursor)
{
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (value > ((uint64_t)INT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *cursor = value;
    return *text == '\0' && value > 0;
}

enum err list_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct list_request *list = &request->list;
    const char *cursor = NULL;
    list->limit = LIST_DEFAULT;
    enum err err = read_status(root, list, fault);
    if (!err) {
        err = field_priority(root, "priority", &list->has_priority, &list->priority, fault);
    }
    if (!err) {
        err = field_queue(root, "queue", &list->has_queue, list->queue, fault);
    }
    if (!err) {
        err = field_u32(root, "limit", 1, LIST_MAX, &list->limit, fault);
    }
    if (!err) {
        err = field_string(root, "cursor", &cursor, fault);
    }
    if (!err && cursor && !cursor_parse(cursor, &list->cursor)) {
        err = fault_set(fault, ERR_INVALID_FIELD, "cursor must be a next_cursor that list gave, not \"%s\"",
                        cursor);
    }
    return err;
}

void list_encode(const struct request *request, struct buf *out)
{
    const struct list_request *list = &request->list;
    if (list->has_status) {
        field_put_string(out, "status", status_name(list->status));
    }
    if (list->has_priority) {
        field_put_string(out, "priority", priority_name(list->priority));
    }
    if (list->has_queue) {
        field_put_string(out, "queue", list->queue);
    }
    field_put_integer(out, "limit", list->limit);
    if (list->cursor != 0) { // a string, because clients are to take it for opaque
        buf_str(out, ",\"cursor\":\"");
        buf_u64(out, list->cursor);
        buf_char(out, '"');
    }
}
