#include "gateway/api.h"

#include "common/units.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

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
    return count_parse(value, &request->list.cursor);
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
    {ENDPOINT_LIST, "queue", take_list_queue, "the name of a queue ([a-z0-9][a-z0-9._-]{0,63})"},
    {ENDPOINT_LIST, "limit", take_list_limit, "a number from 1 to 1000"},
    {ENDPOINT_LIST, "cursor", take_list_cursor, "the next_cursor of the page before"},
};
#define QUERY_RULES (sizeof(query_rules) / sizeof(query_rules[0]))
static_assert(PAGE_MAX == 10000 && LIST_MAX == 1000, "the texts above name the limits");
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

enum err api_query(const struct route *route, struct request *request, struct fault *fault)
{
    *request = (struct request){.op = OP_PING};
    switch (route->endpoint) {
    case ENDPOINT_STATUS:
        request->op = OP_STATUS;
        request->status.limit = PAGE_DEFAULT;
        if (!id_parse(route->param, route->param_len, &request->status.id)) {
            return fault_set(fault, ERR_NOT_FOUND, "There is no such ingestion: its ID is not a UUID.");
        }
        break;
    case ENDPOINT_LIST:
        request->op = OP_LIST;
        request->list.limit = LIST_DEFAULT;
        break;
    case ENDPOINT_INGEST:
    case ENDPOINT_HEALTHZ:
    case ENDPOINT_READYZ:
        break;
    }
    return query_parse(route, request, fault);
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

void answer_init(struct answer *answer)
{
    *answer = (struct answer){.err = ERR_OK};
    buf_init(&answer->body);
}

void answer_fini(struct answer *answer)
{
    buf_fini(&answer->body);
}

void answer_clear(struct answer *answer)
{
    answer->err = ERR_OK;
    answer->replayed = false;
    answer->allow = NULL;
    buf_reset(&answer->body);
}

void answer_fault(struct answer *answer, const struct fault *fault)
{
    struct buf *body = &answer->body;
    answer->err = fault->err;
    buf_str(body, "{\"type\":\"urn:sluice:problem:");
    buf_str(body, err_code(fault->err));
    buf_str(body, "\",\"title\":");
    buf_json(body, err_title(fault->err), strlen(err_title(fault->err)));
    buf_str(body, ",\"status\":");
    buf_i64(body, err_status(fault->err));
    buf_str(body, ",\"detail\":");
    buf_json(body, fault->detail, strlen(fault->detail));
    buf_str(body, ",\"code\":\"");
    buf_str(body, err_code(fault->err));
    buf_str(body, "\"}");
}

void answer_healthz(struct answer *answer)
{
    buf_str(&answer->body, "{\"status\":\"ok\"}");
}

static enum err answer_ingest(struct answer *answer, const struct reply *reply)
{
    struct id id;
    char text[ID_TEXT_SIZE];
    bool known = false;
    enum err err = reply_parse_ingest(reply, &id, &known);
    if (err) {
        return err;
    }
    answer->replayed = known && !id_equal(&id, &answer->minted);
    id_format(&id, text);
    buf_str(&answer->body, "{\"ingestion_id\":\"");
    buf_put(&answer->body, text, ID_TEXT_SIZE - 1);
    buf_str(&answer->body, "\"}");
    return ERR_OK;
}

// The scheduler writes the members as HTTP shows them: nothing in them is looked at here.
static enum err answer_members(struct answer *answer, const struct reply *reply)
{
    if (reply->members[0] != ',') {
        return ERR_INTERNAL;
    }
    buf_char(&answer->body, '{');
    buf_put(&answer->body, reply->members + 1, reply->members_len - 1);
    return ERR_OK;
}

void answer_reply(struct answer *answer, enum endpoint endpoint, const struct reply *reply)
{
    enum err err = ERR_OK;
    if (!reply->ok) {
        answer_fault(answer, &reply->fault);
        return;
    }
    switch (endpoint) {
    case ENDPOINT_INGEST:
        err = answer_ingest(answer, reply);
        break;
    case ENDPOINT_STATUS:
    case ENDPOINT_LIST:
        err = answer_members(answer, reply);
        break;
    case ENDPOINT_HEALTHZ:
    case ENDPOINT_READYZ:
        buf_str(&answer->body, "{\"status\":\"ready\"}");
        break;
    }
    if (err) {
        struct fault fault;
        (void)fault_set(&fault, err, "The scheduler's reply lacks what it must have.");
        answer_fault(answer, &fault);
    }
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Error";
}

static void head_date(struct buf *head, struct wall now)
{
    char date[sizeof("Mon, 23 Nov 2026 18:47:05 GMT") + 8];
    time_t seconds = (time_t)(now.ms / 1000);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) && strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0) {
        buf_str(head, "\r\nDate: ");
        buf_str(head, date);
    }
}

void answer_head(const struct answer *answer, enum keep keep, struct wall now, struct buf *head)
{
    int status = err_status(answer->err);
    buf_str(head, "HTTP/1.1 ");
    buf_i64(head, status);
    buf_char(head, ' ');
    buf_str(head, reason(status));
    buf_str(head, answer->err ? "\r\nContent-Type: application/problem+json"
                              : "\r\nContent-Type: application/json");
    buf_str(head, "\r\nContent-Length: ");
    buf_u64(head, answer->body.len);
    head_date(head, now);
    buf_str(head, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (answer->allow) {
        buf_str(head, "Allow: ");
        buf_str(head, answer->allow);
        buf_str(head, "\r\n");
    }
    if (status == 429 || status == 503) {
        buf_str(head, "Retry-After: 1\r\n");
    }
    if (answer->replayed) {
        buf_str(head, "Idempotent-Replayed: true\r\n");
    }
    if (keep == KEEP_CLOSE) {
        buf_str(head, "Connection: close\r\n");
    }
    buf_str(head, "\r\n");
}
