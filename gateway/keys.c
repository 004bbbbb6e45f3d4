#include "gateway/keys.h"

#include "common/clock.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// The keys of one reading of the file, for as long as they are in force or a request has a pass of them.
struct key_ring {
    _Atomic size_t holders;
    struct key_list list;
    _Atomic int64_t *tats; // of each key's requests, see limit_take
};

struct keys {
    const char *path;
    pthread_mutex_t lock;
    struct key_ring *_Atomic ring; // in force; whoever takes hold of it, or replaces it, has the lock
};

// ---- rings ----

static void ring_release(struct key_ring *ring)
{
    if (ring && atomic_fetch_sub(&ring->holders, 1) == 1) {
        key_list_fini(&ring->list);
        free(ring->tats);
        free(ring);
    }
}

static enum err ring_read(const char *path, struct key_ring **out, struct fault *fault)
{
    struct key_ring *ring = calloc(1, sizeof(*ring));
    if (!ring) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    atomic_init(&ring->holders, 1);
    enum err err = key_list_read(path, &ring->list, fault);
    if (!err && !(ring->tats = calloc(ring->list.count + 1, sizeof(ring->tats[0])))) { // never of size 0
        err = fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    if (err) {
        ring_release(ring);
        return err;
    }
    *out = ring;
    return ERR_OK;
}

static struct key_ring *ring_take(struct keys *keys)
{
    pthread_mutex_lock(&keys->lock);
    struct key_ring *ring = keys->ring;
    atomic_fetch_add(&ring->holders, 1);
    pthread_mutex_unlock(&keys->lock);
    return ring;
}

// A key that stays, with its rate, has used of it what it has used.
static void ring_carry_over(struct key_ring *to, const struct key_ring *from)
{
    size_t old = 0;
    for (size_t i = 0; i < to->list.count; i++) {
        int order = -1;
        while (old < from->list.count &&
               (order = memcmp(from->list.keys[old].hash, to->list.keys[i].hash, KEY_HASH_BYTES)) < 0) {
            old++;
        }
        if (order == 0 && from->list.keys[old].rate.count == to->list.keys[i].rate.count &&
            from->list.keys[old].rate.per_ns == to->list.keys[i].rate.per_ns) {
            to->tats[i] = from->tats[old];
        }
    }
}

enum err keys_open(const char *path, struct keys **out, struct fault *fault)
{
    struct keys *keys = calloc(1, sizeof(*keys));
    if (!keys) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    struct key_ring *ring = NULL;
    enum err err = ring_read(path, &ring, fault);
    if (err) {
        free(keys);
        return err;
    }
    assert(ring); // it was read
    keys->ring = ring;
    keys->path = path;
    pthread_mutex_init(&keys->lock, NULL);
    *out = keys;
    return ERR_OK;
}

void keys_close(struct keys *keys)
{
    if (keys) {
        ring_release(keys->ring);
        pthread_mutex_destroy(&keys->lock);
        free(keys);
    }
}

enum err keys_reload(struct keys *keys, struct fault *fault)
{
    struct key_ring *ring = NULL;
    enum err err = ring_read(keys->path, &ring, fault);
    if (err) {
        return err;
    }
    assert(ring); // it was read
    pthread_mutex_lock(&keys->lock);
    struct key_ring *old = keys->ring;
    ring_carry_over(ring, old);
    keys->ring = ring;
    pthread_mutex_unlock(&keys->lock);
    ring_release(old);
    return ERR_OK;
}

size_t keys_count(struct keys *keys)
{
    struct key_ring *ring = ring_take(keys);
    size_t count = ring->list.count;
    ring_release(ring);
    return count;
}

// ---- the rate of a key ----

// GCRA (ITU-T I.371) with a burst of all that the rate gives in its duration: at most N at once, and N more
// in each such time. The interval is in whole nanoseconds. Returns for how long to wait; 0: it is taken.
static int64_t limit_take(_Atomic int64_t *tat, struct rate rate, struct mono now)
{
    int64_t interval_ns = rate.per_ns / (int64_t)rate.count;
    int64_t tolerance_ns = interval_ns * (int64_t)(rate.count - 1);
    int64_t was = atomic_load(tat);
    int64_t next;
    do {
        if (was - tolerance_ns > now.ns) {
            return was - tolerance_ns - now.ns;
        }
        next = (was > now.ns ? was : now.ns) + interval_ns;
    } while (!atomic_compare_exchange_weak(tat, &was, next));
    return 0;
}

// ---- admission ----

#define CHALLENGE "Bearer realm=\"sluice\""
#define CHALLENGE_ROLE(role) CHALLENGE ", error=\"insufficient_scope\", scope=\"" role "\""

// Any of these roles will do; the first is named when none is there.
static const struct need {
    const char *name;
    unsigned roles; // 0: no key is needed
} needs[] = {
    [ENDPOINT_INGEST] = {"submit", ROLE_SUBMIT},
    [ENDPOINT_STATUS] = {"read", ROLE_READ | ROLE_SUBMIT},
    [ENDPOINT_LIST] = {"read", ROLE_READ | ROLE_SUBMIT},
    [ENDPOINT_CANCEL] = {"operate", ROLE_OPERATE | ROLE_SUBMIT},
    [ENDPOINT_RETRY] = {"operate", ROLE_OPERATE | ROLE_SUBMIT},
    [ENDPOINT_QUEUE_LIST] = {"read", ROLE_READ},
    [ENDPOINT_QUEUE_GET] = {"read", ROLE_READ},
    [ENDPOINT_QUEUE_PUT] = {"operate", ROLE_OPERATE},
    [ENDPOINT_QUEUE_DELETE] = {"operate", ROLE_OPERATE},
    [ENDPOINT_QUEUE_PAUSE] = {"operate", ROLE_OPERATE},
    [ENDPOINT_QUEUE_RESUME] = {"operate", ROLE_OPERATE},
    [ENDPOINT_QUEUE_RETRY] = {"operate", ROLE_OPERATE},
    [ENDPOINT_HEALTHZ] = {"", 0},
    [ENDPOINT_READYZ] = {"", 0},
    [ENDPOINT_METRICS] = {"read", ROLE_READ},
};
_Static_assert(sizeof(needs) / sizeof(needs[0]) == ENDPOINTS, "one for each endpoint");

static const char *challenge_of(unsigned roles)
{
    if (roles & ROLE_READ) {
        return CHALLENGE_ROLE("read");
    }
    return roles & ROLE_OPERATE ? CHALLENGE_ROLE("operate") : CHALLENGE_ROLE("submit");
}

// The token of `Bearer TOKEN` (the scheme in any case), or NULL.
static const char *bearer(const char *authorization, size_t *len)
{
    static const char scheme[] = "Bearer";
    size_t scheme_len = sizeof(scheme) - 1;
    if (strncasecmp(authorization, scheme, scheme_len) != 0 || authorization[scheme_len] != ' ') {
        return NULL;
    }
    const char *token = authorization + scheme_len + strspn(authorization + scheme_len, " ");
    *len = strcspn(token, " ");
    return *len > 0 && token[*len + strspn(token + *len, " ")] == '\0' ? token : NULL;
}

static enum err unauthorized(const char *challenge, struct refusal *refusal, struct fault *fault,
                             const char *detail)
{
    refusal->challenge = challenge;
    return fault_set(fault, ERR_UNAUTHORIZED, "%s", detail);
}

static enum err forbidden(const struct key *key, const struct need *need, struct refusal *refusal,
                          struct fault *fault)
{
    char roles[ROLES_TEXT_SIZE];
    roles_format(key->roles, roles);
    refusal->challenge = challenge_of(need->roles);
    return fault_set(fault, ERR_FORBIDDEN, "This needs the role %s; the key %s has %s.", need->name,
                     key->name, roles);
}

// Whether the key that is known came as this token, and is in force. The connection may be one of a proxy, on
// which others' tokens come: how long it takes must not tell of the one before.
static bool is_known(const struct keys *keys, const struct pass *pass, const char *token, size_t len)
{
    return pass->ring && pass->ring == keys->ring && pass->token_len == len &&
           sodium_memcmp(pass->token, token, len) == 0;
}

// Looks the token up, and keeps what it is for the next request.
static const struct key *look_up(struct keys *keys, struct pass *pass, const char *token, size_t len)
{
    struct key_ring *ring = ring_take(keys);
    const struct key *key = key_list_find(&ring->list, token, len);
    if (!key) {
        ring_release(ring);
        return NULL;
    }
    ring_release(pass->ring);
    pass->known = key;
    pass->ring = ring;
    pass->token_len = len <= sizeof(pass->token) ? len : 0; // one that is not ours may be longer
    memcpy(pass->token, token, pass->token_len);
    return key;
}

enum err keys_admit(struct keys *keys, const char *authorization, enum endpoint endpoint, struct mono now,
                    struct pass *pass, struct refusal *refusal, struct fault *fault)
{
    const struct need *need = &needs[endpoint];
    size_t len = 0;
    pass->key = NULL;
    *refusal = (struct refusal){.challenge = NULL};
    if (pass->ring && pass->ring != keys->ring) { // nothing that is out of force is held for longer
        pass_end(pass);
    }
    if (!keys || need->roles == 0) {
        return ERR_OK;
    }
    if (!authorization) {
        return unauthorized(CHALLENGE, refusal, fault,
                            "This needs a key: send the header Authorization: Bearer KEY.");
    }
    const char *token = bearer(authorization, &len);
    if (!token) {
        return unauthorized(CHALLENGE, refusal, fault, "Authorization must be given once, as: Bearer KEY.");
    }
    const struct key *key = is_known(keys, pass, token, len) ? pass->known : look_up(keys, pass, token, len);
    if (!key) {
        return unauthorized(CHALLENGE ", error=\"invalid_token\"", refusal, fault,
                            "This key is not known here: it may have been revoked.");
    }
    pass->key = key;
    _Atomic int64_t *tat = &pass->ring->tats[key - pass->ring->list.keys];
    int64_t wait_ns = key->rate.count > 0 ? limit_take(tat, key->rate, now) : 0;
    if (wait_ns > 0) {
        char rate[RATE_TEXT_SIZE];
        rate_format(key->rate, rate);
        refusal->retry_after_s = wait_ns / NS_PER_S + (wait_ns % NS_PER_S > 0);
        return fault_set(fault, ERR_TOO_MANY_REQUESTS, "The key %s may send %s; nothing was accepted.",
                         key->name, rate);
    }
    return key->roles & need->roles ? ERR_OK : forbidden(key, need, refusal, fault);
}

void pass_end(struct pass *pass)
{
    ring_release(pass->ring);
    sodium_memzero(pass, sizeof(*pass));
}

// ---- what is left of everything ----

// The queue that a request names, or NULL.
static const char *queue_of(const struct request *request)
{
    switch (request->op) {
    case OP_INGEST:
        return request->ingest.queue;
    case OP_LIST:
        return request->list.has_queue ? request->list.queue : NULL;
    case OP_QUEUE_GET:
    case OP_QUEUE_PUT:
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
        return request->queue.name;
    case OP_PING:
    case OP_STATUS:
    case OP_CANCEL:
    case OP_RETRY:
    case OP_QUEUE_LIST:
    case OP_LEASE:
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
    case OP_STATS:
    case OP_BACKUP:
    case OP_METRICS:
        break;
    }
    return NULL;
}

enum err pass_check(const struct pass *pass, const struct request *request, struct fault *fault)
{
    const struct key *key = pass->key;
    if (!key || key->queue_count == 0) {
        return ERR_OK;
    }
    if (request->op == OP_METRICS) {
        return fault_set(fault, ERR_FORBIDDEN, "Metrics tell of all queues; the key %s is for some only.",
                         key->name);
    }
    const char *queue = queue_of(request);
    return !queue || key_has_queue(key, queue)
               ? ERR_OK
               : fault_set(fault, ERR_FORBIDDEN, "The key %s is not for the queue %s.", key->name, queue);
}

enum err pass_limit(const struct pass *pass, struct request *request)
{
    const struct key *key = pass->key;
    if (!key) {
        return ERR_OK;
    }
    bool owned = false;
    bool queues = key->queue_count > 0;
    switch (request->op) {
    case OP_INGEST:
        owned = true;
        queues = false; // pass_check has looked at it
        break;
    case OP_STATUS:
    case OP_LIST:
        owned = !(key->roles & ROLE_READ);
        break;
    case OP_CANCEL:
    case OP_RETRY:
        owned = !(key->roles & ROLE_OPERATE);
        break;
    case OP_QUEUE_LIST:
        break;
    case OP_PING:
    case OP_QUEUE_GET:
    case OP_QUEUE_PUT:
    case OP_QUEUE_DELETE:
    case OP_QUEUE_PAUSE:
    case OP_QUEUE_RESUME:
    case OP_QUEUE_RETRY:
    case OP_LEASE:
    case OP_ACK:
    case OP_NACK:
    case OP_EXTEND:
    case OP_STATS:
    case OP_BACKUP:
    case OP_METRICS:
        queues = false;
        break;
    }
    if (!owned && !queues) {
        return ERR_OK;
    }
    request->scope = scope_new(owned ? key->name : NULL, (const char(*)[QUEUE_NAME_SIZE])key->queues,
                               queues ? key->queue_count : 0);
    return request->scope ? ERR_OK : ERR_NO_MEMORY;
}
