#include "proto/fields.h"

#include "common/units.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define GROUP_SIZE 16 // of the name in front of the dot of a path

// ---- reading ----

const cJSON *field_find(const cJSON *object, const char *path)
{
    const char *dot = strchr(path, '.');
    if (!dot) {
        return json_get(object, path);
    }
    char group[GROUP_SIZE];
    size_t len = (size_t)(dot - path);
    assert(len < sizeof(group));
    memcpy(group, path, len);
    group[len] = '\0';
    return json_get(json_get(object, group), dot + 1);
}

enum err field_missing(const char *path, struct fault *fault)
{
    return fault_set(fault, ERR_INVALID_FIELD, "%s is missing", path);
}

enum err field_string(const cJSON *object, const char *path, const char **text, struct fault *fault)
{
    const cJSON *item = field_find(object, path);
    if (!item) {
        return ERR_OK;
    }
    if (!cJSON_IsString(item)) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be a string", path);
    }
    *text = item->valuestring;
    return ERR_OK;
}

enum err field_bool(const cJSON *object, const char *path, bool *value, struct fault *fault)
{
    const cJSON *item = field_find(object, path);
    if (!item) {
        return ERR_OK;
    }
    if (!cJSON_IsBool(item)) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be true or false", path);
    }
    *value = cJSON_IsTrue(item);
    return ERR_OK;
}

enum err field_u64(const cJSON *object, const char *path, uint64_t min, uint64_t max, uint64_t *value,
                   struct fault *fault)
{
    const cJSON *item = field_find(object, path);
    uint64_t number;
    if (!item) {
        return ERR_OK;
    }
    if (!json_integer(item, &number) || number < min || number > max) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be an integer from %" PRIu64 " to %" PRIu64, path,
                         min, max);
    }
    *value = number;
    return ERR_OK;
}

enum err field_u32(const cJSON *object, const char *path, uint32_t min, uint32_t max, uint32_t *value,
                   struct fault *fault)
{
    uint64_t number = *value;
    enum err err = field_u64(object, path, min, max, &number, fault);
    *value = (uint32_t)number;
    return err;
}

enum err field_duration(const cJSON *object, const char *path, int64_t min_ns, int64_t max_ns, int64_t *ns,
                        struct fault *fault)
{
    const cJSON *item = field_find(object, path);
    int64_t parsed;
    if (!item) {
        return ERR_OK;
    }
    if (!cJSON_IsString(item) || !duration_parse(item->valuestring, &parsed) || parsed < min_ns ||
        parsed > max_ns) {
        char min[DURATION_TEXT_SIZE];
        char max[DURATION_TEXT_SIZE];
        duration_format(min_ns, min);
        duration_format(max_ns, max);
        return fault_set(fault, ERR_INVALID_FIELD,
                         "%s must be a duration from %s to %s: a string such as \"250ms\", \"5s\" or \"2m\"",
                         path, min, max);
    }
    *ns = parsed;
    return ERR_OK;
}

enum err field_time(const cJSON *object, const char *path, struct wall *t, struct fault *fault)
{
    const cJSON *item = field_find(object, path);
    if (!item) {
        return ERR_OK;
    }
    if (!cJSON_IsString(item) || !wall_parse(item->valuestring, t)) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "%s must be a date and time of RFC 3339, such as \"2030-01-31T12:00:00Z\"", path);
    }
    if (t->ms == 0) {
        t->ms = 1;
    }
    return ERR_OK;
}

enum err field_uuid(const cJSON *object, const char *path, bool *found, struct id *id, struct fault *fault)
{
    const char *text = NULL;
    enum err err = field_string(object, path, &text, fault);
    if (err) {
        return err;
    }
    *found = text != NULL;
    if (*found && !id_parse(text, strlen(text), id)) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be a UUID of 36 characters, not \"%s\"", path,
                         text);
    }
    return ERR_OK;
}

enum err field_queue(const cJSON *object, const char *path, bool *found, char queue[static QUEUE_NAME_SIZE],
                     struct fault *fault)
{
    const char *text = NULL;
    enum err err = field_string(object, path, &text, fault);
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
            "%s must be 1 to %u characters from a-z, 0-9, '.', '_' and '-', the first a letter or a "
            "digit, not \"%s\"",
            path, QUEUE_NAME_MAX, text);
    }
    memcpy(queue, text, strlen(text) + 1);
    return ERR_OK;
}

enum err field_priority(const cJSON *object, const char *path, bool *found, enum priority *priority,
                        struct fault *fault)
{
    const char *text = NULL;
    enum err err = field_string(object, path, &text, fault);
    if (err) {
        return err;
    }
    *found = text != NULL;
    if (*found && !priority_parse(text, priority)) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s must be one of HIGH, MEDIUM, LOW, not \"%s\"", path,
                         text);
    }
    return ERR_OK;
}

// ---- writing ----

static void put_name(struct buf *out, const char *name)
{
    buf_str(out, ",\"");
    buf_str(out, name);
    buf_str(out, "\":");
}

void field_put_string(struct buf *out, const char *name, const char *text)
{
    put_name(out, name);
    buf_json(out, text, strlen(text));
}

void field_put_bool(struct buf *out, const char *name, bool value)
{
    put_name(out, name);
    buf_str(out, value ? "true" : "false");
}

void field_put_integer(struct buf *out, const char *name, uint64_t value)
{
    put_name(out, name);
    buf_u64(out, value);
}

void field_put_null(struct buf *out, const char *name)
{
    put_name(out, name);
    buf_str(out, "null");
}

void field_put_duration(struct buf *out, const char *name, int64_t ns)
{
    char text[DURATION_TEXT_SIZE];
    duration_format(ns, text);
    field_put_string(out, name, text);
}

void field_put_time(struct buf *out, const char *name, struct wall t)
{
    char text[WALL_TEXT_SIZE];
    wall_format(t, text);
    field_put_string(out, name, text);
}

void field_put_uuid(struct buf *out, const char *name, const struct id *id)
{
    char text[ID_TEXT_SIZE];
    id_format(id, text);
    field_put_string(out, name, text);
}
