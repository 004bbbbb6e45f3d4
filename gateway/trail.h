// trail.h - what is known of a request beside its answer: its ID, where it came from, how long it took; and
// what the access log says of it. Any thread; nothing is owned.
#ifndef SLUICE_GATEWAY_TRAIL_H
#define SLUICE_GATEWAY_TRAIL_H

#include "gateway/metrics.h"
#include "proto/request.h"

struct trail {
    struct mono begun;
    const char *method; // one that HTTP has, or "other"
    size_t route;       // an endpoint, or ENDPOINTS: none
    const char *key;    // the name of the key it came with; borrowed until trail_end; NULL: none
    bool given;         // the ID is the client's own
    struct trace trace;
};

// A request begins. The headers are what came, NULL when absent: a request ID or traceparent that is not
// well-formed is as good as none, and then the ID is the one minted for it.
void trail_begin(struct trail *trail, const char *method, const char *request_id, const char *traceparent,
                 const struct id *minted);

// What of it goes on with a request to the scheduler: allocated, NULL for nothing. What only reads leaves no
// trail there; and the minted ID of an ingest is that of the ingestion. ERR_NO_MEMORY.
MUST_CHECK enum err trail_copy(const struct trail *trail, enum op op, struct trace **trace);

// Its answer was written, or as much of it as the client took: it is counted, and the access log gets its
// line.
void trail_end(const struct trail *trail, const struct answer *answer, struct metrics *metrics);

#endif
