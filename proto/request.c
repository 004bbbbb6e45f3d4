#include "proto/request.h"

#include <stdlib.h>
#include <string.h>

// More elements than the largest good request has: IDS_MAX IDs and a handful of members.
static const struct json_limits LIMITS = {.max_elements = IDS_MAX + 16, .max_depth = 32};

// No ID takes more: 16 digits and a comma.
#define ID_TEXT_MAX 17

#define ID_RULE "an ID is an integer from 1 to 9007199254740991"
_Static_assert(ID_VALUE_MAX == UINT64_C(9007199254740991), "ID_RULE says it");

// What is being decoded: the text, and what it was parsed into.
struct source {
    const char *text;
    size_t len;
    struct json json;
};

struct op_spec {
    const char *name;
    const char *const *members; // all that are allowed
    size_t member_count;
    // Into a zeroed request, whose op is set; on failure the caller calls request_fini.
    enum err (*decode)(const struct source *source, struct request *request, struct fault *fault);
    // The members after "op", each with a comma in front.
    void (*encode)(const struct request *request, struct buf *out);
};

// ---- members of any request ----

static enum err missing(struct fault *fault, const char *name)
{
    return fault_set(fault, ERR_INVALID_FIELD, "%s is missing", name);
}

// *text becomes NULL when there is no such member.
static enum err get_string(const cJSON *object, const char *name, const char **text, struct fault *fault)
{
    const cJSON *item = json_get(object, name);
    *text = NULL;
    if (!item) {
        return ERR_OK;
    }
    if (!cJSON_IsString(item)) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be a string", name);
    }
    *text = item->valuestring;
    return ERR_OK;
}

// Leaves *value alone when there is no such member.
static enum err get_integer(const cJSON *object, const char *name, uint32_t min, uint32_t max,
                            uint32_t *value, struct fault *fault)
{
    const cJSON *item = json_get(object, name);
    uint64_t number;
    if (!item) {
        return ERR_OK;
    }
    if (!json_integer(item, &number) || number < min || number > max) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be an integer from %u to %u", name, min, max);
    }
    *value = (uint32_t)number;
    return ERR_OK;
}

static enum err get_priority(const cJSON *object, bool *found, enum priority *priority, struct fault *fault)
{
    const char *text;
    enum err err = get_string(object, "priority", &text, fault);
    if (err) {
        return err;
    }
    *found = text != NULL;
    if (*found && !priority_parse(text, priority)) {
        return fault_set(fault, ERR_INVALID_FIELD, "priority must be one of HIGH, MEDIUM, LOW, not \"%s\"",
                         text);
    }
    return ERR_OK;
}

static enum err get_queue(const cJSON *object, bool *found, char queue[static QUEUE_NAME_SIZE],
                          struct fault *fault)
{
    const char *text;
    enum err err = get_string(object, "queue", &text, fault);
    if (err) {
        return err;
    }
    *found = text != NULL;
    if (!*found) {
        return ERR_OK;
    }
    if (!queue_name_valid(text)) {
        return fault_set(
            fault, ERR_INVALID_FIELD,
            "queue must be 1 to %u characters from a-z, 0-9, '.', '_' and '-', the first a letter or a "
            "digit, not \"%s\"",
            QUEUE_NAME_MAX, text);
    }
    memcpy(queue, text, strlen(text) + 1);
    return ERR_OK;
}

// ---- ingest ----

// The index of the array element that stands at this offset, when all elements before it are numbers.
static size_t element_index(const char *text, size_t at)
{
    size_t index = 0;
    for (; at > 0 && text[at - 1] != '['; at--) {
        index += text[at - 1] == ',';
    }
    return index;
}

static enum err too_many_ids(struct fault *fault)
{
    return fault_set(fault, ERR_TOO_MANY_IDS, "ids has too many elements: at most %u are allowed", IDS_MAX);
}

// Writes the numbers of the array; its caller has seen that they are numbers.
static enum err write_ids(const cJSON *array, size_t source_len, struct ids *ids, struct fault *fault)
{
    // No number is longer in our text than in the one it came in.
    size_t most = (size_t)ids->count * ID_TEXT_MAX;
    struct buf text;
    buf_init(&text);
    (void)buf_room(&text, most < source_len ? most : source_len);

    size_t index = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        uint64_t value;
        if (!json_integer(item, &value) || value < 1) {
            buf_fini(&text);
            return fault_set(fault, ERR_ID_OUT_OF_RANGE, "ids[%zu] is %s: " ID_RULE, index,
                             item->valuedouble < 1 ? "below 1" : "too large");
        }
        if (index > 0) {
            buf_char(&text, ',');
        }
        buf_u64(&text, value);
        if (value > ids->largest) {
            ids->largest = value;
        }
        index++;
    }
    ids->text = buf_take(&text, &ids->len);
    return ids->text ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "out of memory");
}

// To be called when all other members are known to be strings: a number with a fraction or an exponent is
// then an ID.
static enum err get_ids(const struct source *source, struct ids *ids, struct fault *fault)
{
    const cJSON *array = json_get(source->json.root, "ids");
    if (!array) {
        return missing(fault, "ids");
    }
    if (!cJSON_IsArray(array)) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids must be an array of integers");
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (!cJSON_IsNumber(item)) {
            return fault_set(fault, ERR_INVALID_FIELD, "ids[%u] is no number: " ID_RULE, ids->count);
        }
        ids->count++;
    }
    if (ids->count == 0) {
        return fault_set(fault, ERR_INVALID_FIELD, "ids is empty: from 1 to %u are allowed", IDS_MAX);
    }
    if (ids->count > IDS_MAX) {
        return too_many_ids(fault);
    }
    size_t at = source->json.non_integer_at;
    if (at != SIZE_MAX) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "ids[%zu] is written with a fraction or an exponent: " ID_RULE,
                         element_index(source->text, at));
    }
    return write_ids(array, source->len, ids, fault);
}

// The members an HTTP body and an IPC line have in common.
static enum err decode_content(const struct source *source, struct ingest_request *ingest,
                               struct fault *fault)
{
    const cJSON *root = source->json.root;
    bool has_priority, has_queue;
    enum err err = get_priority(root, &has_priority, &ingest->priority, fault);
    if (err) {
        return err;
    }
    err = get_queue(root, &has_queue, ingest->queue, fault);
    if (err) {
        return err;
    }
    if (!has_queue) {
        memcpy(ingest->queue, DEFAULT_QUEUE, sizeof(DEFAULT_QUEUE));
    }
    err = get_ids(source, &ingest->ids, fault);
    if (err) {
        return err;
    }
    return has_priority ? ERR_OK : missing(fault, "priority");
}

static enum err decode_ingest(const struct source *source, struct request *request, struct fault *fault)
{
    struct ingest_request *ingest = &request->ingest;
    const char *id, *key;
    enum err err = get_string(source->json.root, "id", &id, fault);
    if (err) {
        return err;
    }
    err = get_string(source->json.root, "idempotency_key", &key, fault);
    if (err) {
        return err;
    }
    ingest->has_id = id != NULL;
    if (id && !id_parse(id, strlen(id), &ingest->id)) {
        return fault_set(fault, ERR_INVALID_FIELD, "id must be a UUID of 36 characters, not \"%s\"", id);
    }
    if (key) {
        if (!idempotency_key_valid(key)) {
            return fault_set(fault, ERR_INVALID_FIELD,
                             "idempotency_key must be 1 to %u visible ASCII characters", IDEMPOTENCY_KEY_MAX);
        }
        ingest->idempotency_key = strdup(key);
        if (!ingest->idempotency_key) {
            return fault_set(fault, ERR_NO_MEMORY, "out of memory");
        }
    }
    return decode_content(source, ingest, fault);
}

// ---- the other operations ----

// ping and stats have no members of their own.
static enum err decode_nothing(const struct source *source, struct request *request, struct fault *fault)
{
    (void)source;
    (void)request;
    (void)fault;
    return ERR_OK;
}

static enum err decode_status(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct status_request *status = &request->status;
    status->limit = PAGE_DEFAULT;
    const char *id;
    enum err err = get_string(root, "id", &id, fault);
    if (err) {
        return err;
    }
    err = get_integer(root, "limit", 1, PAGE_MAX, &status->limit, fault);
    if (err) {
        return err;
    }
    err = get_integer(root, "offset", 0, UINT32_MAX, &status->offset, fault);
    if (err) {
        return err;
    }
    if (!id) {
        return missing(fault, "id");
    }
    if (!id_parse(id, strlen(id), &status->id)) { // no ingestion has such an ID
        return fault_set(fault, ERR_NOT_FOUND, "no ingestion has the id \"%s\"", id);
    }
    return ERR_OK;
}

static enum err get_status(const cJSON *object, bool *found, enum status *status, struct fault *fault)
{
    const char *text;
    enum err err = get_string(object, "status", &text, fault);
    if (err) {
        return err;
    }
    *found = text != NULL;
    if (*found && !status_parse(text, status)) {
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

static enum err decode_list(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    struct list_request *list = &request->list;
    list->limit = LIST_DEFAULT;
    const char *cursor;
    enum err err = get_status(root, &list->has_status, &list->status, fault);
    if (err) {
        return err;
    }
    err = get_priority(root, &list->has_priority, &list->priority, fault);
    if (err) {
        return err;
    }
    err = get_queue(root, &list->has_queue, list->queue, fault);
    if (err) {
        return err;
    }
    err = get_integer(root, "limit", 1, LIST_MAX, &list->limit, fault);
    if (err) {
        return err;
    }
    err = get_string(root, "cursor", &cursor, fault);
    if (err) {
        return err;
    }
    if (cursor && !cursor_parse(cursor, &list->cursor)) {
        return fault_set(fault, ERR_INVALID_FIELD, "cursor must be a next_cursor that list gave, not \"%s\"",
                         cursor);
    }
    return ERR_OK;
}

// ---- writing ----

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_str(out, ",\"");
    buf_str(out, name);
    buf_str(out, "\":");
    buf_json(out, text, strlen(text));
}

static void put_integer(struct buf *out, const char *name, uint64_t value)
{
    buf_str(out, ",\"");
    buf_str(out, name);
    buf_str(out, "\":");
    buf_u64(out, value);
}

static void put_id(struct buf *out, const struct id *id)
{
    char text[ID_TEXT_SIZE];
    id_format(id, text);
    put_text(out, "id", text);
}

static void encode_nothing(const struct request *request, struct buf *out)
{
    (void)request;
    (void)out;
}

static void encode_ingest(const struct request *request, struct buf *out)
{
    const struct ingest_request *ingest = &request->ingest;
    if (ingest->has_id) {
        put_id(out, &ingest->id);
    }
    if (ingest->idempotency_key) {
        put_text(out, "idempotency_key", ingest->idempotency_key);
    }
    put_text(out, "queue", ingest->queue);
    put_text(out, "priority", priority_name(ingest->priority));
    buf_str(out, ",\"ids\":[");
    buf_put(out, ingest->ids.text, ingest->ids.len);
    buf_char(out, ']');
}

static void encode_status(const struct request *request, struct buf *out)
{
    const struct status_request *status = &request->status;
    put_id(out, &status->id);
    put_integer(out, "limit", status->limit);
    put_integer(out, "offset", status->offset);
}

static void encode_list(const struct request *request, struct buf *out)
{
    const struct list_request *list = &request->list;
    if (list->has_status) {
        put_text(out, "status", status_name(list->status));
    }
    if (list->has_priority) {
        put_text(out, "priority", priority_name(list->priority));
    }
    if (list->has_queue) {
        put_text(out, "queue", list->queue);
    }
    put_integer(out, "limit", list->limit);
    if (list->cursor != 0) { // a string, because clients are to take it for opaque
        buf_str(out, ",\"cursor\":\"");
        buf_u64(out, list->cursor);
        buf_char(out, '"');
    }
}

// ---- all operations ----

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const BODY_MEMBERS[] = {"ids", "priority", "queue"};
static const char *const OP_ONLY[] = {"op"};
static const char *const INGEST_MEMBERS[] = {"op", "id", "idempotency_key", "queue", "priority", "ids"};
static const char *const STATUS_MEMBERS[] = {"op", "id", "limit", "offset"};
static const char *const LIST_MEMBERS[] = {"op", "status", "priority", "queue", "limit", "cursor"};

static const struct op_spec OPS[] = {
    [OP_PING] = {"ping", OP_ONLY, COUNT(OP_ONLY), decode_nothing, encode_nothing},
    [OP_INGEST] = {"ingest", INGEST_MEMBERS, COUNT(INGEST_MEMBERS), decode_ingest, encode_ingest},
    [OP_STATUS] = {"status", STATUS_MEMBERS, COUNT(STATUS_MEMBERS), decode_status, encode_status},
    [OP_LIST] = {"list", LIST_MEMBERS, COUNT(LIST_MEMBERS), decode_list, encode_list},
    [OP_STATS] = {"stats", OP_ONLY, COUNT(OP_ONLY), decode_nothing, encode_nothing},
};

void request_fini(struct request *request)
{
    if (request->op == OP_INGEST) {
        free(request->ingest.ids.text);
        free(request->ingest.idempotency_key);
    }
    *request = (struct request){0};
}

static enum err parse(struct source *source, struct fault *fault)
{
    enum err err = json_parse(source->text, source->len, &LIMITS, &source->json, fault);
    // Said in the caller's terms: only IDs can be that many.
    return err == ERR_TOO_MANY_IDS ? too_many_ids(fault) : err;
}

static enum err decode_body(const struct source *source, struct request *request, struct fault *fault)
{
    if (!cJSON_IsObject(source->json.root)) {
        return fault_set(fault, ERR_INVALID_FIELD, "the body must be a JSON object with ids and priority");
    }
    enum err err = json_only(source->json.root, BODY_MEMBERS, COUNT(BODY_MEMBERS), fault);
    if (err) {
        return err;
    }
    request->op = OP_INGEST;
    return decode_content(source, &request->ingest, fault);
}

static enum err decode_line(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    if (!cJSON_IsObject(root)) {
        return fault_set(fault, ERR_BAD_REQUEST, "a request must be a JSON object with op");
    }
    const char *name = cJSON_GetStringValue(json_get(root, "op"));
    size_t op = 0;
    while (name && op < COUNT(OPS) && strcmp(name, OPS[op].name) != 0) {
        op++;
    }
    if (!name || op == COUNT(OPS)) {
        return fault_set(fault, ERR_BAD_REQUEST,
                         "op must be one of ping, ingest, status, list, stats, not %s",
                         name ? name : "absent");
    }
    enum err err = json_only(root, OPS[op].members, OPS[op].member_count, fault);
    if (err) {
        return err;
    }
    request->op = (enum op)op;
    return OPS[op].decode(source, request, fault);
}

typedef enum err decoder(const struct source *source, struct request *request, struct fault *fault);

static enum err decode_with(decoder *decode, const char *text, size_t len, struct request *request,
                            struct fault *fault)
{
    struct source source = {.text = text, .len = len};
    *request = (struct request){0};
    enum err err = parse(&source, fault);
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

enum err request_from_body(const char *body, size_t len, struct request *request, struct fault *fault)
{
    return decode_with(decode_body, body, len, request, fault);
}

enum err request_from_line(const char *line, size_t len, struct request *request, struct fault *fault)
{
    return decode_with(decode_line, line, len, request, fault);
}

void request_to_line(const struct request *request, struct buf *out)
{
    const struct op_spec *spec = &OPS[request->op];
    buf_str(out, "{\"op\":\"");
    buf_str(out, spec->name);
    buf_char(out, '"');
    spec->encode(request, out);
    buf_str(out, "}\n");
}

bool ingest_same_content(const struct ingest_request *a, const struct ingest_request *b)
{
    return a->priority == b->priority && strcmp(a->queue, b->queue) == 0 && a->ids.len == b->ids.len &&
           memcmp(a->ids.text, b->ids.text, a->ids.len) == 0;
}
