#include "gateway/trail.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>

static const char *known_method(const char *method)
{
    static const char *const methods[] = {"GET",     "HEAD",  "POST",    "PUT",  "DELETE",
                                          "OPTIONS", "PATCH", "CONNECT", "TRACE"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(method, methods[i]) == 0) {
            return methods[i];
        }
    }
    return "other";
}

void trail_begin(struct trail *trail, const char *method, const char *request_id, const char *traceparent,
                 const struct id *minted)
{
    struct trace *trace = &trail->trace;
    trail->begun = mono_now();
    trail->method = known_method(method);
    trail->route = ENDPOINTS;
    trail->key = NULL;
    trail->given = request_id && request_id_valid(request_id);
    if (trail->given) {
        memcpy(trace->request_id, request_id, strlen(request_id) + 1);
    } else {
        id_format(minted, trace->request_id);
    }
    if (!traceparent || !traceparent_parse(traceparent, trace->traceparent)) {
        trace->traceparent[0] = '\0';
    }
}

enum err trail_copy(const struct trail *trail, enum op op, struct trace **trace)
{
    bool id = trail->given || op != OP_INGEST;
    *trace = NULL;
    if (!op_writes(op) || (!id && trail->trace.traceparent[0] == '\0')) {
        return ERR_OK;
    }
    *trace = malloc(sizeof(**trace));
    if (!*trace) {
        return ERR_NO_MEMORY;
    }
    **trace = trail->trace;
    if (!id) {
        (*trace)->request_id[0] = '\0';
    }
    return ERR_OK;
}

void trail_end(const struct trail *trail, const struct answer *answer, struct metrics *metrics)
{
    const int64_t took_ns = mono_diff(mono_now(), trail->begun);
    char trace[TRACE_TEXT_SIZE];
    char ingestion[sizeof("ingestion=") + ID_TEXT_SIZE] = "ingestion=";
    metrics_count(metrics, trail->route, answer->err, took_ns);
    if (!log_access_on()) {
        return;
    }
    id_format(&answer->ingestion, ingestion + strlen(ingestion));
    log_access("http", "request", "method=%s route=%s status=%d code=%s bytes=%zu duration_ms=%.3f %s %s%s%s",
               trail->method, trail->route < ENDPOINTS ? route_path((enum endpoint)trail->route) : "other",
               err_status(answer->err), err_code(answer->err), answer->body.len,
               (double)took_ns / (double)NS_PER_MS, trace_text(&trail->trace, trace),
               answer->has_ingestion ? ingestion : "", trail->key ? " key=" : "",
               trail->key ? trail->key : "");
}
