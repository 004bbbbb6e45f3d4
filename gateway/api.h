// api.h - between HTTP and requests: what an endpoint makes of a request, and what a reply becomes. Pure, no
// I/O; any thread.
#ifndef SLUICE_GATEWAY_API_H
#define SLUICE_GATEWAY_API_H

#include "common/buf.h"
#include "common/clock.h"
#include "gateway/route.h"
#include "proto/reply.h"
#include "proto/request.h"

// ERR_UNSUPPORTED_MEDIA_TYPE unless the type is absent (NULL), application/json or application/…+json, each
// with or without parameters.
MUST_CHECK enum err api_media_type(const char *content_type, struct fault *fault);

// ERR_INVALID_FIELD unless the key is absent (NULL) or well formed.
MUST_CHECK enum err api_idempotency_key(const char *key, struct fault *fault);

// The request of an endpoint without a body, from its path and query. Endpoints that need no request
// (healthz) get an OP_PING; their queries are checked all the same.
MUST_CHECK enum err api_query(const struct route *route, struct request *request, struct fault *fault);

// The request of POST /ingest. key is checked already and may be NULL; id is the one minted for it.
MUST_CHECK enum err api_ingest(const char *body, size_t len, const char *key, const struct id *id,
                               struct request *request, struct fault *fault);

// An answer before the connection adds what is its own. Owned by the caller: init, fill by one of the
// functions below, fini; or clear and fill again.
struct answer {
    enum err err;     // ERR_OK: 200 and JSON, else a problem document
    struct id minted; // for an ingest: one that comes back under it was sent twice by us, and is no replay
    bool replayed;
    const char *allow; // for `Allow`, or NULL; borrowed
    struct buf body;
};

void answer_init(struct answer *answer);
void answer_fini(struct answer *answer);

// Each fills a fresh or cleared answer.
void answer_clear(struct answer *answer);
void answer_fault(struct answer *answer, const struct fault *fault);
void answer_healthz(struct answer *answer);
void answer_reply(struct answer *answer, enum endpoint endpoint, const struct reply *reply);

enum keep { KEEP_OPEN, KEEP_CLOSE }; // what the head says about the connection
// Status line and headers, with the empty line. To be called last: the body's length is in it.
void answer_head(const struct answer *answer, enum keep keep, struct wall now, struct buf *head);

#endif
