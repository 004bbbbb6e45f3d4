// scope.h - whose ingestions, and on which queues, a request is about: all that it can see and change. A
// gateway that knows keys says it for the key of each request; without one a request is about everything.
// Pure; any thread.
#ifndef SLUICE_PROTO_SCOPE_H
#define SLUICE_PROTO_SCOPE_H

#include "common/buf.h"
#include "common/json.h"
#include "proto/words.h"

#define OWNER_SIZE QUEUE_NAME_SIZE // an owner has a name as a queue has one
#define SCOPE_QUEUES_MAX 16u

struct scope {
    // Of an ingest: whose it becomes; of any other: whose ingestions alone it is about. "" is nobody in
    // particular, which is anybody.
    char owner[OWNER_SIZE];
    size_t queue_count; // 0: all queues
    char queues[][QUEUE_NAME_SIZE];
};

// The caller's, who frees it with free(). NULL when there is no memory. owner may be NULL.
struct scope *scope_new(const char *owner, const char (*queues)[QUEUE_NAME_SIZE], size_t count);

// Whether the queue of this name is in it; scope may be NULL.
bool scope_has_queue(const struct scope *scope, const char *queue);

// The members "owner" and "queues" of a request, as far as they are there: *scope becomes NULL, or the
// caller's. ERR_INVALID_FIELD, ERR_NO_MEMORY.
MUST_CHECK enum err scope_decode(const cJSON *root, struct scope **scope, struct fault *fault);
// These members, each with a comma in front. scope may be NULL.
void scope_encode(const struct scope *scope, struct buf *out);

#endif
