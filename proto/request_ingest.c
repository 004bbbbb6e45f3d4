// Decoding and encoding: ingest, and what it takes most of, the IDs.
#include "proto/fields.h"
#include "proto/request_ops.h"

#include <stdlib.h>
#include <string.h>

#define INTEGER_TEXT_MAX 17 // no integer takes more in our text: 16 digits and a comma

#define INTEGER_RULE "an ID is an integer from 1 to 9007199254740991"
_Static_assert(ID_VALUE_MAX == UINT64_C(9007199254740991), "INTEGER_RULE says it");
#define STRING_RULE "an ID is a string of 1 to 128 bytes"
_Static_assert(ID_STRING_MAX == 128, "STRING_RULE says it");

enum err ingest_too_many_ids(struct fault *fault)
{
    return fault_set(fault, ERR_TOO_MANY_IDS, "ids has too many elements: at most %u are allowed", IDS_MAX);
}

// ---- ids ----

// The index of the array element that stands at this offset, when all elements before it are numbers.
static size_t element_index(const char *text, size_t at)
{
    size_t index = 0;
    for (; at > 0 && text[at - 1] != '['; at--) {
        index += text[at - 1] == ',';
    }
    return index;
}

static enum err wrong_type(const cJSON *array, const struct ids *ids, struct fault *fault)
{
    if (!cJSON_IsNumber(array->child) && !cJSON_IsString(array->child)) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids[0] is neither a number nor a string");
    }
    return fault_set(fault, ERR_INVALID_FIELD, "ids[%u] is no %s as those before it", ids->count,
                     ids->kind == IDS_STRING ? "string" : "number");
}

// Counts them and sees that all are of one type, that of the first.
static enum err check_array(const cJSON *array, struct ids *ids, struct fault *fault)
{
    if (!cJSON_IsArray(array)) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids must be an array of integers or of strings");
    }
    ids->kind = cJSON_IsString(array->child) ? IDS_STRING : IDS_INTEGER;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (ids->kind == IDS_STRING ? !cJSON_IsString(item) : !cJSON_IsNumber(item)) {
            return wrong_type(array, ids, fault);
        }
        ids->count++;
    }
    if (ids->count == 0) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids is empty: from 1 to %u are allowed", IDS_MAX);
    }
    return ids->count > IDS_MAX ? ingest_too_many_ids(fault) : ERR_OK;
}

static enum err write_integer(const cJSON *item, size_t index, struct ids *ids, struct buf *text,
                              struct fault *fault)
{
    uint64_t value;
    if (!json_integer(item, &value) || value < 1) {
        return fault_set(fault, ERR_ID_OUT_OF_RANGE, "ids[%zu] is %s: " INTEGER_RULE, index,
                         item->valuedouble < 1 ? "below 1" : "too large");
    }
    buf_u64(text, value);
    if (value > ids->largest) {
        ids->largest = value;
    }
    return ERR_OK;
}

static enum err write_string(const cJSON *item, size_t index, struct buf *text, struct fault *fault)
{
    size_t len = strlen(item->valuestring);
    if (len < 1 || len > ID_STRING_MAX) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids[%zu] is %s: " STRING_RULE, index,
                         len < 1 ? "empty" : "too long");
    }
    buf_json(text, item->valuestring, len);
    return ERR_OK;
}

static enum err write_items(const cJSON *array, struct ids *ids, struct buf *text, struct fault *fault)
{
    size_t index = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (index > 0) {
            buf_char(text, ',');
        }
        enum err err = ids->kind == IDS_STRING ? write_string(item, index, text, fault)
                                               : write_integer(item, index, ids, text, fault);
        if (err) {
            return err;
        }
        index++;
    }
    return ERR_OK;
}

static enum err write_ids(const cJSON *array, size_t source_len, struct ids *ids, struct fault *fault)
{
    // Neither a number nor a string is longer in our text than in the one it came in.
    size_t most = ids->kind == IDS_INTEGER ? (size_t)ids->count * INTEGER_TEXT_MAX : source_len;
    struct buf text;
    buf_init(&text);
    (void)buf_room(&text, most < source_len ? most : source_len);
    enum err err = write_items(array, ids, &text, fault);
    if (err) {
        buf_fini(&text);
        return err;
    }
    ids->text = buf_take(&text, &ids->len);
    return ids->text ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "out of memory");
}

// To be called when all other members are known to be strings: a number with a fraction or an exponent is
// then an ID.
static enum err read_ids(const struct source *source, struct ids *ids, struct fault *fault)
{
    const cJSON *array = json_get(source->json.root, "ids");
    if (!array) {
        return field_missing("ids", fault);
    }
    enum err err = check_array(array, ids, fault);
    if (err) {
        return err;
    }
    size_t at = source->json.non_integer_at;
    if (at != SIZE_MAX) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "ids[%zu] is written with a fraction or an exponent: " INTEGER_RULE,
                         element_index(source->text, at));
    }
    return write_ids(array, source->len, ids, fault);
}

// ---- ingest ----

enum err ingest_decode_content(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct ingest_request *ingest = &request->ingest;
    bool has_priority = false, has_queue = false;
    enum err err = field_priority(root, "priority", &has_priority, &ingest->priority, fault);
    if (!err) {
        err = field_queue(root, "queue", &has_queue, ingest->queue, fault);
    }
    if (!err && !has_queue) {
        memcpy(ingest->queue, DEFAULT_QUEUE, sizeof(DEFAULT_QUEUE));
    }
    if (!err) {
        err = field_time(root, "not_before", &ingest->not_before, fault);
    }
    if (!err) {
        err = field_time(root, "deadline", &ingest->deadline, fault);
    }
    if (!err) {
        err = read_ids(source, &ingest->ids, fault);
    }
    if (!err && !has_priority) {
        err = field_missing("priority", fault);
    }
    return err;
}

enum err ingest_decode(const struct source *source, struct request *request, struct fault *fault)
{
    struct ingest_request *ingest = &request->ingest;
    const char *key = NULL;
    enum err err = field_uuid(source->json.root, "id", &ingest->has_id, &ingest->id, fault);
    if (!err) {
        err = field_string(source->json.root, "idempotency_key", &key, fault);
    }
    if (err) {
        return err;
    }
    if (key && !idempotency_key_valid(key)) {
        return fault_set(fault, ERR_INVALID_FIELD, "idempotency_key must be 1 to %u visible ASCII characters",
                         IDEMPOTENCY_KEY_MAX);
    }
    if (key) {
        ingest->idempotency_key = strdup(key);
        if (!ingest->idempotency_key) {
            return fault_set(fault, ERR_NO_MEMORY, "out of memory");
        }
    }
    return ingest_decode_content(source, request, fault);
}

void ingest_encode(const struct request *request, struct buf *out)
{
    const struct ingest_request *ingest = &request->ingest;
    if (ingest->has_id) {
        field_put_uuid(out, "id", &ingest->id);
    }
    if (ingest->idempotency_key) {
        field_put_string(out, "idempotency_key", ingest->idempotency_key);
    }
    field_put_string(out, "queue", ingest->queue);
    field_put_string(out, "priority", priority_name(ingest->priority));
    if (ingest->not_before.ms != 0) {
        field_put_time(out, "not_before", ingest->not_before);
    }
    if (ingest->deadline.ms != 0) {
        field_put_time(out, "deadline", ingest->deadline);
    }
    buf_str(out, ",\"ids\":[");
    buf_put(out, ingest->ids.text, ingest->ids.len);
    buf_char(out, ']');
}
