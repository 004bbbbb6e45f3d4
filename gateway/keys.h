// keys.h - who may do what: the keys in force, and the pass of each request that came with one. Any thread.
#ifndef SLUICE_GATEWAY_KEYS_H
#define SLUICE_GATEWAY_KEYS_H

#include "gateway/route.h"
#include "proto/key.h"
#include "proto/request.h"

struct keys;
struct key_ring;

// Those of a file (proto/key.h). ERR_STORAGE_IO, ERR_INVALID_FIELD, ERR_NO_MEMORY.
MUST_CHECK enum err keys_open(const char *path, struct keys **keys, struct fault *fault);
// Passes that are not ended stay good. NULL is fine.
void keys_close(struct keys *keys);
// Reads the file again; a request that is under way goes on with what was in force when it came. On failure
// all stay as they are. Errors as of keys_open.
MUST_CHECK enum err keys_reload(struct keys *keys, struct fault *fault);
size_t keys_count(struct keys *keys);

// What a request may do. A zeroed one is that of a gateway without keys: everything.
struct pass {
    const struct key *key; // NULL: there are no keys; borrowed until pass_end
    struct key_ring *ring;
};

// What the answer to one that is turned away says beside its fault.
struct refusal {
    const char *challenge; // for `WWW-Authenticate` (RFC 6750, 3), or NULL; static
    int64_t retry_after_s; // 0: nothing
};

// For the value of the header Authorization (NULL when absent) and the endpoint. ERR_OK: the pass is to be
// ended with pass_end. ERR_UNAUTHORIZED: there is no key, or none that is known; ERR_TOO_MANY_REQUESTS: more
// than its rate; ERR_FORBIDDEN: it lacks a role. The pass is set then, too, as far as the key is known.
MUST_CHECK enum err keys_admit(struct keys *keys, const char *authorization, enum endpoint endpoint,
                               struct mono now, struct pass *pass, struct refusal *refusal,
                               struct fault *fault);
void pass_end(struct pass *pass);

// Whether the request keeps to the queues of its pass, as far as it names any. ERR_FORBIDDEN.
MUST_CHECK enum err pass_check(const struct pass *pass, const struct request *request, struct fault *fault);
// Sets request->scope to what the pass leaves of everything. ERR_NO_MEMORY.
MUST_CHECK enum err pass_limit(const struct pass *pass, struct request *request);

#endif
