#include "gateway/api.h"

#include "common/units.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    enum op op;
    enum body_rule body;
} endpoints[] = {
    [ENDPOINT_INGEST] = {OP_INGEST, BODY_JSON},
    [ENDPOINT_STATUS] = {OP_STATUS, BODY_IGNORED},
    [ENDPOINT_LIST] = {OP_LIST, BODY_IGNORED},
    [ENDPOINT_CANCEL] = {OP_CANCEL, BODY_NONE},
    [ENDPOINT_RETRY] = {OP_RETRY, BODY_NONE},
    [ENDPOINT_QUEUE_LIST] = {OP_QUEUE_LIST, BODY_IGNORED},
    [ENDPOINT_QUEUE_GET] = {OP_QUEUE_GET, BODY_IGNORED},
    [ENDPOINT_QUEUE_PUT] = {OP_QUEUE_PUT, BODY_JSON},
    [ENDPOINT_QUEUE_DELETE] = {OP_QUEUE_DELETE, BODY_NONE},
    [ENDPOINT_QUEUE_PAUSE] = {OP_QUEUE_PAUSE, BODY_NONE},
    [ENDPOINT_QUEUE_RESUME] = {OP_QUEUE_RESUME, BODY_NONE},
    [ENDPOINT_QUEUE_RETRY] = {OP_QUEUE_RETRY, BODY_NONE},
    [ENDPOINT_HEALTHZ] = {OP_PING, BODY_IGNORED},
    [ENDPOINT_READYZ] = {OP_PING, BODY_IGNORED},
    [ENDPOINT_METRICS] = {OP_METRICS, BODY_IGNORED},
};

#define QUEUE_NAME_RULE "[a-z0-9][a-z0-9._-]{0,63}"

// ---- Headers ----

enum err api_media_type(const char *content_type, struct fault *fault)
{
    static const char prefix[] = "application/";
    static const char suffix[] = "+json";
    if (!content_type) {
        return ERR_OK;
    }
    size_t len = strcspn(content_type, "; ");
    const char *end = content_type + len;
    bool plain = len == strlen("application/json") && strncasecmp(content_type, "application/json", len) == 0;
    bool suffixed = len > strlen(prefix) + strlen(suffix) &&
                    strncasecmp(content_type, prefix, strlen(prefix)) == 0 &&
                    strncasecmp(end - strlen(suffix), suffix, strlen(suffix)) == 0;
    if ((plain || suffixed) && (*end == '\0' || end[strspn(end, " ")] == ';')) {
        return ERR_OK;
    }
    return fault_set(fault, ERR_UNSUPPORTED_MEDIA_TYPE,
                     "The body is declared as \"%.60s\"; it must be JSON: send the header Content-Type: "
                     "application/json (curl -d needs -H for it), or none.",
                     content_type);
}

enum err api_idempotency_key(const char *key, struct fault *fault)
{
    if (!key || idempotency_key_valid(key)) {
        return ERR_OK;
    }
    return fault_set(fault, ERR_INVALID_FIELD,
                     "Idempotency-Key must be given once and have 1 to %u visible ASCII characters.",
                     IDEMPOTENCY_KEY_MAX);
}

// ---- Path and query ----

static bool limit_parse(const char *text, uint32_t max, uint32_t *limit)
{
    uint64_t value;
    if (!count_parse(text, &value) || value < 1 || value > max) {
        return false;
    }
    *limit = (uint32_t)value;
    return true;
}

static bool take_status_limit(const char *value, struct request *request)
{
    return limit_parse(value, PAGE_MAX, &request->status.limit);
}

static bool take_status_offset(const char *value, struct request *request)
{
    uint64_t offset;
    if (!count_parse(value, &offset) || offset > UINT32_MAX) {
        return false;
    }
    request->status.offset = (uint32_t)offset;
    return true;
}

static bool take_list_limit(const char *value, struct request *request)
{
    return limit_parse(value, LIST_MAX, &request->list.limit);
}

static bool take_list_cursor(const char *value, struct request *request)
{
    uint64_t cursor;
    if (!count_parse(value, &cursor) || cursor > INT64_MAX) {
        return false;
    }
    request->list.cursor = cursor;
    return true;
}

static bool take_list_status(const char *value, struct request *request)
{
    request->list.has_status = true;
    return status_parse(value, &request->list.status);
}

static bool take_list_priority(const char *value, struct request *request)
{
    request->list.has_priority = true;
    return priority_parse(value, &request->list.priority);
}

static bool take_list_queue(const char *value, struct request *request)
{
    if (!queue_name_valid(value)) {
        return false;
    }
    memcpy(request->list.queue, value, strlen(value) + 1);
    request->list.has_queue = true;
    return true;
}

static bool take_queues_limit(const char *value, struct request *request)
{
    return limit_parse(value, QUEUES_DEFAULT, &request->queue_list.limit);
}

static bool take_queues_cursor(const char *value, struct request *request)
{
    if (!queue_name_valid(value)) {
        return false;
    }
    memcpy(request->queue_list.cursor, value, strlen(value) + 1);
    return true;
}

struct query_rule {
    enum endpoint endpoint;
    const char *name;
    bool (*take)(const char *value, struct request *request);
    const char *allowed;
};

static const struct query_rule query_rules[] = {
    {ENDPOINT_STATUS, "limit", take_status_limit, "a number from 1 to 10000"},
    {ENDPOINT_STATUS, "offset", take_status_offset, "a number from 0 to 4294967295"},
    {ENDPOINT_LIST, "status", take_list_status, "yet_to_start, triggered, completed, failed or cancelled"},
    {ENDPOINT_LIST, "priority", take_list_priority, "HIGH, MEDIUM or LOW"},
    {ENDPOINT_LIST, "queue", take_list_queue, "the name of a queue (" QUEUE_NAME_RULE ")"},
    {ENDPOINT_LIST, "limit", take_list_limit, "a number from 1 to 1000"},
    {ENDPOINT_LIST, "cursor", take_list_cursor, "the next_cursor of the page before"},
    {ENDPOINT_QUEUE_LIST, "limit", take_queues_limit, "a number from 1 to 1000"},
    {ENDPOINT_QUEUE_LIST, "cursor", take_queues_cursor, "the next_cursor of the page before"},
};
#define QUERY_RULES (sizeof(query_rules) / sizeof(query_rules[0]))
#define LIMIT_IN_TEXTS "the texts above name the limits"
static_assert(PAGE_MAX == 10000, LIMIT_IN_TEXTS);
static_assert(LIST_MAX == 1000, LIMIT_IN_TEXTS);
static_assert(QUEUES_DEFAULT == 1000, LIMIT_IN_TEXTS);
static_assert(QUERY_RULES <= sizeof(unsigned) * CHAR_BIT, "one bit for each rule in query_parse");

static enum err query_parse(const struct route *route, struct request *request, struct fault *fault)
{
    unsigned seen = 0;
    for (const char *at = route->query;;) {
        struct query_param param;
        bool more;
        enum err err = query_next(&at, &param, &more, fault);
        if (err || !more) {
            return err;
        }
        size_t i = 0;
        while (i < QUERY_RULES &&
               (query_rules[i].endpoint != route->endpoint || strcmp(query_rules[i].name, param.name) != 0)) {
            i++;
        }
        if (i == QUERY_RULES) {
            return fault_set(fault, ERR_INVALID_FIELD,
                             "The query has a parameter that is not known here: %s.", param.name);
        }
        if (seen & 1u << i) {
            return fault_set(fault, ERR_INVALID_FIELD, "The query has %s twice.", param.name);
        }
        seen |= 1u << i;
        if (!query_rules[i].take(param.value, request)) {
            return fault_set(fault, ERR_INVALID_FIELD, "%s must be %s, not \"%.40s\".", param.name,
                             query_rules[i].allowed, param.value);
        }
    }
}

static enum err take_id(const struct route *route, struct id *id, struct fault *fault)
{
    if (!id_parse(route->param, route->param_len, id)) {
        return fault_set(fault, ERR_NOT_FOUND, "There is no such ingestion: its ID is not a UUID.");
    }
    return ERR_OK;
}

static enum err take_name(const struct route *route, char name[static QUEUE_NAME_SIZE], struct fault *fault)
{
    size_t len = route->param_len < QUEUE_NAME_SIZE ? route->param_len : 0;
    memcpy(name, route->param, len);
    name[len] = '\0';
    if (strlen(name) == route->param_len && queue_name_valid(name)) {
        return ERR_OK;
    }
    int shown = (int)(route->param_len < 80 ? route->param_len : 80);
    if (route->endpoint == ENDPOINT_QUEUE_PUT) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "The name of a queue must be " QUEUE_NAME_RULE ", not %.*s.", shown, route->param);
    }
    return fault_set(fault, ERR_UNKNOWN_QUEUE, "There is no queue %.*s: a name is " QUEUE_NAME_RULE ".",
                     shown, route->param);
}

enum body_rule api_body_rule(enum endpoint endpoint)
{
    return endpoints[endpoint].body;
}

enum err api_query(const struct route *route, struct request *request, struct fault *fault)
{
    enum err err = ERR_OK;
    *request = (struct request){.op = endpoints[route->endpoint].op};
    switch (route->endpoint) {
    case ENDPOINT_STATUS:
        request->status.limit = PAGE_DEFAULT;
        err = take_id(route, &request->status.id, fault);
        break;
    case ENDPOINT_CANCEL:
    case ENDPOINT_RETRY:
        err = take_id(route, &request->ingestion.id, fault);
        break;
    case ENDPOINT_LIST:
        request->list.limit = LIST_DEFAULT;
        break;
    case ENDPOINT_QUEUE_LIST:
        request->queue_list.limit = QUEUES_DEFAULT;
        break;
    case ENDPOINT_QUEUE_GET:
    case ENDPOINT_QUEUE_PUT:
    case ENDPOINT_QUEUE_DELETE:
    case ENDPOINT_QUEUE_PAUSE:
    case ENDPOINT_QUEUE_RESUME:
    case ENDPOINT_QUEUE_RETRY:
        err = take_name(route, request->queue.name, fault);
        break;
    case ENDPOINT_INGEST:
    case ENDPOINT_HEALTHZ:
    case ENDPOINT_READYZ:
    case ENDPOINT_METRICS:
        break;
    }
    return err ? err : query_parse(route, request, fault);
}

// ---- Bodies ----

static size_t blank_len(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\n')) {
        at++;
    }
    return at;
}

static bool is_empty_object(const char *body, size_t len)
{
    size_t at = blank_len(body, len);
    for (const char *brace = "{}"; *brace != '\0'; brace++) {
        if (at == len || body[at++] != *brace) {
            return false;
        }
        at += blank_len(body + at, len - at);
    }
    return at == len;
}

enum err api_no_body(const char *body, size_t len, struct fault *fault)
{
    if (len == 0 || (len <= NO_BODY_MAX && is_empty_object(body, len))) {
        return ERR_OK;
    }
    return fault_set(fault, ERR_INVALID_FIELD,
                     "This operation takes no body: send none, or an empty JSON object.");
}

enum err api_ingest(const char *body, size_t len, const char *key, const struct id *id,
                    struct request *request, struct fault *fault)
{
    enum err err = request_from_body(body, len, request, fault);
    if (err) {
        return err;
    }
    request->ingest.has_id = true;
    request->ingest.id = *id;
    if (key) {
        request->ingest.idempotency_key = strdup(key);
        if (!request->ingest.idempotency_key) {
            request_fini(request);
            return fault_set(fault, ERR_NO_MEMORY, "The gateway is out of memory; try again.");
        }
    }
    return ERR_OK;
}

enum err api_put(const char *body, size_t len, struct request *request, struct fault *fault)
{
    char name[QUEUE_NAME_SIZE];
    memcpy(name, request->queue.name, sizeof(name));
    return request_from_put(name, body, len, request, fault);
}
