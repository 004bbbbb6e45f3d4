// answer.h - from replies to HTTP: the status, head and body of an answer. Pure, no I/O; any thread.
#ifndef SLUICE_GATEWAY_ANSWER_H
#define SLUICE_GATEWAY_ANSWER_H

#include "common/buf.h"
#include "common/clock.h"
#include "gateway/route.h"
#include "proto/reply.h"

// An answer before the connection adds what is its own. Owned by the caller: init, fill by one of the
// functions below, fini; or clear and fill again.
struct answer {
    enum err err;     // ERR_OK: 200 and JSON, else a problem document
    struct id minted; // for an ingest: one that comes back under it was sent twice by us, and is no replay
    bool resent;      // the scheduler may have had the request once before
    bool replayed;
    bool has_ingestion; // of an ingest that was accepted, now or before
    struct id ingestion;
    const char *type;       // of the body, NULL: JSON; borrowed
    const char *request_id; // for `X-Request-Id`, or NULL; borrowed
    const char *allow;      // for `Allow`, or NULL; borrowed
    const char *challenge;  // for `WWW-Authenticate`, or NULL; borrowed
    int64_t retry_after_s;  // for `Retry-After`, where there is one; 0: it need not be long
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
