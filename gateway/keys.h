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

// What a request may do. One of a gateway without keys may do everything. A connection has one pass, zeroed
// at first, for its requests in turn: most come with the key of the one before, which is then not looked up
// again.
struct pass {
    const struct key
        *key; // NULL: there are no keys, or none is needed; until the next keys_admit or pass_end
    // The rest is keys.c's: the last key that came, and the token it came as.
    const struct key *known;
    struct key_ring *ring; // of known
    size_t token_len;
    char token[KEY_TOKEN_SIZE];
};

// What the answer to one that is turned away says beside its fault.
struct refusal {
    const char *challenge; // for `WWW-Authenticate` (RFC 6750, 3), or NULL; static
    int64_t retry_after_s; // 0: nothing
};

// For the value of the header Authorization (NULL when absent) and the endpoint: sets the pass for this
// request. ERR_UNAUTHORIZED: there is no key, or none that is known; ERR_TOO_MANY_REQUESTS: more than its
// rate; ERR_FORBIDDEN: it lacks a role. pass->key is set then, too, as far as the key is known.
MUST_CHECK enum err keys_admit(struct keys *keys, const char *authorization, enum endpoint endpoint,
                               struct mono now, struct pass *pass, struct refusal *refusal,
                               struct fault *fault);
// To be called at the end of the connection; leaves it zeroed.
void pass_end(struct pass *pass);

// Whether the request keeps to the queues of its pass, as far as it names any. ERR_FORBIDDEN.
MUST_CHECK enum err pass_check(const struct pass *pass, const struct request *request, struct fault *fault);
// Sets request->scope to what the pass leaves of everything. ERR_NO_MEMORY.
MUST_CHECK enum err pass_limit(const struct pass *pass, struct request *request);

#endif
