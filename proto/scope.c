#include "proto/scope.h"

#include "proto/fields.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct scope *scope_new(const char *owner, const char (*queues)[QUEUE_NAME_SIZE], size_t count)
{
    assert(count <= SCOPE_QUEUES_MAX);
    struct scope *scope = calloc(1, sizeof(*scope) + count * sizeof(scope->queues[0]));
    if (!scope) {
        return NULL;
    }
    if (owner) {
        assert(strlen(owner) < OWNER_SIZE);
        memcpy(scope->owner, owner, strlen(owner) + 1);
    }
    scope->queue_count = count;
    if (count > 0) {
        memcpy(scope->queues, queues, count * sizeof(scope->queues[0]));
    }
    return scope;
}

bool scope_has_queue(const struct scope *scope, const char *queue)
{
    if (!scope || scope->queue_count == 0) {
        return true;
    }
    size_t i = 0;
    while (i < scope->queue_count && strcmp(scope->queues[i], queue) != 0) {
        i++;
    }
    return i < scope->queue_count;
}

static enum err bad_queues(struct fault *fault)
{
    return fault_set(fault, ERR_INVALID_FIELD, "queues must be an array of 1 to %u names of queues",
                     SCOPE_QUEUES_MAX);
}

static enum err decode_queues(const cJSON *array, char queues[][QUEUE_NAME_SIZE], size_t *count,
                              struct fault *fault)
{
    const cJSON *item;
    if (!cJSON_IsArray(array) || !array->child) {
        return bad_queues(fault);
    }
    cJSON_ArrayForEach(item, array)
    {
        const char *name = cJSON_GetStringValue(item);
        if (!name || !queue_name_valid(name) || *count == SCOPE_QUEUES_MAX) {
            return bad_queues(fault);
        }
        memcpy(queues[(*count)++], name, strlen(name) + 1);
    }
    return ERR_OK;
}

enum err scope_decode(const cJSON *root, struct scope **scope, struct fault *fault)
{
    char owner[OWNER_SIZE] = "";
    char queues[SCOPE_QUEUES_MAX][QUEUE_NAME_SIZE];
    size_t count = 0;
    bool owned = false;
    const cJSON *array = json_get(root, "queues");
    *scope = NULL;
    enum err err = field_queue(root, "owner", &owned, owner, fault);
    if (!err && array) {
        err = decode_queues(array, queues, &count, fault);
    }
    if (err || (!owned && !array)) {
        return err;
    }
    *scope = scope_new(owner, (const char(*)[QUEUE_NAME_SIZE])queues, count);
    return *scope ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "out of memory");
}

void scope_encode(const struct scope *scope, struct buf *out)
{
    if (!scope) {
        return;
    }
    if (scope->owner[0] != '\0') {
        field_put_string(out, "owner", scope->owner);
    }
    for (size_t i = 0; i < scope->queue_count; i++) {
        buf_str(out, i > 0 ? "," : ",\"queues\":[");
        buf_json(out, scope->queues[i], strlen(scope->queues[i]));
    }
    if (scope->queue_count > 0) {
        buf_char(out, ']');
    }
}
