// api.h - from HTTP to requests: what an endpoint makes of headers, path, query and body. Pure, no I/O; any
// thread.
#ifndef SLUICE_GATEWAY_API_H
#define SLUICE_GATEWAY_API_H

#include "gateway/route.h"
#include "proto/request.h"

// ERR_UNSUPPORTED_MEDIA_TYPE unless the type is absent (NULL), application/json or application/…+json, each
// with or without parameters.
MUST_CHECK enum err api_media_type(const char *content_type, struct fault *fault);

// ERR_INVALID_FIELD unless the key is absent (NULL) or well formed.
MUST_CHECK enum err api_idempotency_key(const char *key, struct fault *fault);

// What may stand behind the header block of a request to an endpoint.
enum body_rule {
    BODY_IGNORED, // anything short (GET)
    BODY_NONE,    // nothing, or what api_no_body lets pass
    BODY_JSON     // JSON, and it must come
};
#define NO_BODY_MAX 256u
enum body_rule api_body_rule(enum endpoint endpoint);

// What a request's path and query say. Where there is no body that is the whole request; api_ingest and
// api_put make it whole from theirs. Nothing in it is owned yet. Endpoints that need no request (healthz) get
// an OP_PING; their queries are checked all the same. ERR_NOT_FOUND for an ID that is no UUID,
// ERR_UNKNOWN_QUEUE for a name that no queue can have (ERR_INVALID_FIELD where one would be made).
MUST_CHECK enum err api_query(const struct route *route, struct request *request, struct fault *fault);

// ERR_INVALID_FIELD unless the body is empty or an empty JSON object. It is not looked at when it is longer
// than NO_BODY_MAX: then there is no need to read it first.
MUST_CHECK enum err api_no_body(const char *body, size_t len, struct fault *fault);

// The request of POST /ingest. key is checked already and may be NULL; id is the one minted for it.
MUST_CHECK enum err api_ingest(const char *body, size_t len, const char *key, const struct id *id,
                               struct request *request, struct fault *fault);

// The request of PUT /queues/{name}, in the place of what api_query made of its path.
MUST_CHECK enum err api_put(const char *body, size_t len, struct request *request, struct fault *fault);

#endif
