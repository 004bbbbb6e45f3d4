#include "gateway/answer.h"

#include <string.h>
#include <time.h>

#define HEAD_USUAL 320u // bytes, that it need not grow

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
    answer->resent = false;
    answer->replayed = false;
    answer->has_ingestion = false;
    answer->type = NULL;
    answer->request_id = NULL;
    answer->allow = NULL;
    answer->challenge = NULL;
    answer->retry_after_s = 0;
    buf_reset(&answer->body);
}

static void answer_problem(struct answer *answer, const struct fault *fault, const char *eta)
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
    buf_char(body, '"');
    if (eta[0] != '\0') {
        buf_str(body, ",\"eta\":");
        buf_json(body, eta, strlen(eta));
    }
    buf_char(body, '}');
}

void answer_fault(struct answer *answer, const struct fault *fault)
{
    answer_problem(answer, fault, "");
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
    answer->has_ingestion = true;
    answer->ingestion = id;
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

// What was carried out may be answered in short, without the state after it.
static enum err answer_changed(struct answer *answer, const struct reply *reply)
{
    if (reply->members[0] == '}') {
        buf_str(&answer->body, "{}");
        return ERR_OK;
    }
    return answer_members(answer, reply);
}

static void answer_error(struct answer *answer, enum endpoint endpoint, const struct reply *reply)
{
    struct fault fault = reply->fault;
    // Of all that may be sent twice only this one is answered differently when it was done before.
    if (answer->resent && endpoint == ENDPOINT_QUEUE_DELETE && fault.err == ERR_UNKNOWN_QUEUE) {
        (void)fault_set(
            &fault, ERR_UNKNOWN_QUEUE,
            "There is no such queue now. The connection to the scheduler broke meanwhile, and the "
            "request was sent to it again: the first one may have deleted the queue.");
    }
    answer_problem(answer, &fault, reply->eta);
}

void answer_reply(struct answer *answer, enum endpoint endpoint, const struct reply *reply)
{
    enum err err = ERR_OK;
    if (!reply->ok) {
        answer_error(answer, endpoint, reply);
        return;
    }
    switch (endpoint) {
    case ENDPOINT_INGEST:
        err = answer_ingest(answer, reply);
        break;
    case ENDPOINT_STATUS:
    case ENDPOINT_LIST:
    case ENDPOINT_QUEUE_LIST:
    case ENDPOINT_QUEUE_GET:
        err = answer_members(answer, reply);
        break;
    case ENDPOINT_CANCEL:
    case ENDPOINT_RETRY:
    case ENDPOINT_QUEUE_PUT:
    case ENDPOINT_QUEUE_DELETE:
    case ENDPOINT_QUEUE_PAUSE:
    case ENDPOINT_QUEUE_RESUME:
    case ENDPOINT_QUEUE_RETRY:
        err = answer_changed(answer, reply);
        break;
    case ENDPOINT_METRICS: // metrics.c's, when it is there
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
        {401, "Unauthorized"},
        {403, "Forbidden"},
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
    (void)buf_room(head, HEAD_USUAL);
    buf_str(head, "HTTP/1.1 ");
    buf_i64(head, status);
    buf_char(head, ' ');
    buf_str(head, reason(status));
    buf_str(head, "\r\nContent-Type: ");
    if (answer->err) {
        buf_str(head, "application/problem+json");
    } else {
        buf_str(head, answer->type ? answer->type : "application/json");
    }
    buf_str(head, "\r\nContent-Length: ");
    buf_u64(head, answer->body.len);
    head_date(head, now);
    buf_str(head, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (answer->request_id) {
        buf_str(head, "X-Request-Id: ");
        buf_str(head, answer->request_id);
        buf_str(head, "\r\n");
    }
    if (answer->allow) {
        buf_str(head, "Allow: ");
        buf_str(head, answer->allow);
        buf_str(head, "\r\n");
    }
    if (answer->challenge) {
        buf_str(head, "WWW-Authenticate: ");
        buf_str(head, answer->challenge);
        buf_str(head, "\r\n");
    }
    if (status == 429 || status == 503) {
        buf_str(head, "Retry-After: ");
        buf_i64(head, answer->retry_after_s > 0 ? answer->retry_after_s : 1);
        buf_str(head, "\r\n");
    }
    if (answer->replayed) {
        buf_str(head, "Idempotent-Replayed: true\r\n");
    }
    if (keep == KEEP_CLOSE) {
        buf_str(head, "Connection: close\r\n");
    }
    buf_str(head, "\r\n");
}
