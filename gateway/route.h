// route.h - which endpoint a method and a request target mean, and the parameters of a query. Pure; any
// thread.
#ifndef SLUICE_GATEWAY_ROUTE_H
#define SLUICE_GATEWAY_ROUTE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

enum endpoint {
    ENDPOINT_INGEST,
    ENDPOINT_STATUS,
    ENDPOINT_LIST,
    ENDPOINT_CANCEL,
    ENDPOINT_RETRY,
    ENDPOINT_QUEUE_LIST,
    ENDPOINT_QUEUE_GET,
    ENDPOINT_QUEUE_PUT,
    ENDPOINT_QUEUE_DELETE,
    ENDPOINT_QUEUE_PAUSE,
    ENDPOINT_QUEUE_RESUME,
    ENDPOINT_QUEUE_RETRY,
    ENDPOINT_HEALTHZ,
    ENDPOINT_READYZ,
    ENDPOINT_METRICS,
};
#define ENDPOINTS (ENDPOINT_METRICS + 1)

// As in the contract: "PUT" and "/queues/{name}".
const char *route_method(enum endpoint endpoint);
const char *route_path(enum endpoint endpoint);

#define ROUTE_ALLOW_SIZE 64

struct route {
    enum endpoint endpoint;
    // What stands in the path where the route has a {name}, as it came; borrowed from the target; may be
    // NULL.
    const char *param;
    size_t param_len;
    const char *query;            // behind the '?', or ""
    char allow[ROUTE_ALLOW_SIZE]; // with ERR_METHOD_NOT_ALLOWED: the methods of this path, as `Allow` wants
                                  // them
};

// target is the raw request target: a path with or without a query, or the absolute form. HEAD is allowed
// where GET is. ERR_NOT_FOUND, also for any path with an empty segment or a dot segment: none of ours needs
// one, and two readers of such a path rarely agree. Escapes are never decoded: one in a {name} makes a name
// that nothing has. ERR_METHOD_NOT_ALLOWED.
MUST_CHECK enum err route_find(const char *method, const char *target, struct route *route,
                               struct fault *fault);

// One name=value of a query, with its escapes decoded.
struct query_param {
    char name[32];
    char value[128];
};

// The next parameter at *at, which moves on; *more is false (and *param not set) at the end.
// ERR_INVALID_FIELD for a broken escape, a decoded NUL or something longer than any name or value we know.
MUST_CHECK enum err query_next(const char **at, struct query_param *param, bool *more, struct fault *fault);

#endif
