#include "proto/client.h"

#include "common/clock.h"
#include "common/id.h"
#include "proto/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#define SCHEME "ipc://"
#define SOCKET_NAME "sluice.sock"
#define HERE "./data/" SOCKET_NAME
#define INSTALLED "/run/sluice/" SOCKET_NAME

#define TIMEOUT_MAX_MS 86400000
#define RECONNECT_MIN_MS 50
#define RECONNECT_MAX_MS 500

_Static_assert(SLUICE_MESSAGE_MAX == MESSAGE_MAX, "as in the protocol");
_Static_assert(SLUICE_LINES_MAX == MESSAGE_LINES_MAX, "as in the protocol");
_Static_assert(SLUICE_ID_SIZE == ID_TEXT_SIZE, "as in the protocol");

struct sluice_client {
    nng_socket socket;
    int timeout_ms;
    struct id_minter minter;
};

// ---- Where ----

// Somebody else could have put it there for whoever comes along.
static bool is_own_socket(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISSOCK(info.st_mode) && (info.st_uid == geteuid() || info.st_uid == 0);
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] != '\0' ? value : NULL;
}

int sluice_address(char *address, size_t size)
{
    const char *ipc = variable("SLUICE_IPC");
    const char *data = variable("SLUICE_DATA");
    int len;
    if (ipc) {
        len = snprintf(address, size, "%s", ipc);
    } else if (data) {
        len = snprintf(address, size, SCHEME "%s/" SOCKET_NAME, data);
    } else {
        len = snprintf(address, size, SCHEME "%s", is_own_socket(HERE) ? HERE : INSTALLED);
    }
    return len >= 0 && (size_t)len < size ? SLUICE_OK : SLUICE_INVALID;
}

// The path in an address, or NULL when it is none.
static const char *path_of(const char *address)
{
    const struct sockaddr_un name;
    size_t scheme = strlen(SCHEME);
    size_t len = strlen(address);
    bool fits = len > scheme && len - scheme < sizeof(name.sun_path);
    return fits && strncmp(address, SCHEME, scheme) == 0 ? address + scheme : NULL;
}

// ---- Opening and closing ----

static int result_of(int nng_error)
{
    switch (nng_error) {
    case 0:
        return SLUICE_OK;
    case NNG_ENOMEM:
        return SLUICE_NO_MEMORY;
    case NNG_EADDRINVAL:
        return SLUICE_INVALID;
    case NNG_EPERM:
        return SLUICE_FORBIDDEN;
    default:
        return SLUICE_FAILED;
    }
}

static int socket_open(struct sluice_client *c, const char *address)
{
    int rv;
    // An infinite resend time: a lost connection fails the receive at once, and we decide.
    (void)((rv = nng_socket_set_ms(c->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) ||
           (rv = nng_socket_set_size(c->socket, NNG_OPT_RECVMAXSZ, MESSAGE_MAX)) ||
           (rv = nng_socket_set_ms(c->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS)) ||
           (rv = nng_socket_set_ms(c->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS)) ||
           (rv = nng_dial(c->socket, address, NULL, NNG_FLAG_NONBLOCK)));
    return rv;
}

static bool timeout_valid(int timeout_ms)
{
    return timeout_ms >= 1 && timeout_ms <= TIMEOUT_MAX_MS;
}

int sluice_open(const char *address, int timeout_ms, struct sluice_client **client)
{
    char found[sizeof(SCHEME) + sizeof(((struct sockaddr_un *)0)->sun_path)];
    *client = NULL;
    if (!timeout_valid(timeout_ms) || (!address && sluice_address(found, sizeof(found)) != SLUICE_OK)) {
        return SLUICE_INVALID;
    }
    const char *path = path_of(address ? address : found);
    if (!path) {
        return SLUICE_INVALID;
    }
    if (access(path, R_OK | W_OK) != 0 && errno == EACCES) {
        return SLUICE_FORBIDDEN;
    }
    struct sluice_client *c = calloc(1, sizeof(*c));
    if (!c) {
        return SLUICE_NO_MEMORY;
    }
    c->timeout_ms = timeout_ms;
    int rv = nng_req0_open(&c->socket);
    if (rv) {
        free(c);
        return result_of(rv);
    }
    id_minter_init(&c->minter);
    rv = socket_open(c, address ? address : found);
    if (rv) {
        sluice_close(c);
        return result_of(rv);
    }
    *client = c;
    return SLUICE_OK;
}

void sluice_close(struct sluice_client *client)
{
    if (client) {
        (void)nng_close(client->socket);
        id_minter_fini(&client->minter);
        free(client);
    }
}

int sluice_set_timeout(struct sluice_client *client, int timeout_ms)
{
    if (!timeout_valid(timeout_ms)) {
        return SLUICE_INVALID;
    }
    client->timeout_ms = timeout_ms;
    return SLUICE_OK;
}

// ---- Requests ----

static size_t count_lines(const char *text, size_t len)
{
    size_t count = 0;
    for (const char *at = text, *end = text + len; at < end; count++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    return count;
}

// What is left of the time, rounded up: 0 when it is over.
static nng_duration left_ms(struct mono until)
{
    int64_t left_ns = mono_diff(until, mono_now());
    return left_ns > 0 ? (nng_duration)((left_ns + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

// As one message. It waits for a connection.
static int send_lines(nng_socket socket, const char *lines, size_t len, nng_duration within_ms)
{
    nng_msg *msg;
    int rv = nng_msg_alloc(&msg, len);
    if (rv) {
        return rv;
    }
    memcpy(nng_msg_body(msg), lines, len);
    rv = nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, within_ms);
    if (!rv) {
        rv = nng_sendmsg(socket, msg, 0);
    }
    if (rv) {
        nng_msg_free(msg);
    }
    return rv;
}

static int receive(nng_socket socket, nng_duration within_ms, nng_msg **msg)
{
    int rv = nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, within_ms);
    return rv ? rv : nng_recvmsg(socket, msg, 0);
}

// Sends, and sends again when the connection was lost, until there is a reply.
static int exchange(struct sluice_client *c, const char *lines, size_t len, nng_msg **msg)
{
    struct mono until = mono_add(mono_now(), c->timeout_ms * NS_PER_MS);
    bool ever_sent = false;
    for (;;) {
        nng_duration within = left_ms(until);
        int rv = within > 0 ? send_lines(c->socket, lines, len, within) : NNG_ETIMEDOUT;
        if (rv == 0) {
            ever_sent = true;
            within = left_ms(until);
            rv = within > 0 ? receive(c->socket, within, msg) : NNG_ETIMEDOUT;
        }
        if (rv == NNG_ETIMEDOUT) {
            return ever_sent ? SLUICE_UNKNOWN : SLUICE_UNAVAILABLE;
        }
        if (rv != NNG_ECONNRESET && rv != NNG_ECONNSHUT) {
            return rv && ever_sent ? SLUICE_UNKNOWN : result_of(rv);
        }
    }
}

int sluice_request(struct sluice_client *client, const char *lines, size_t len, char **reply,
                   size_t *reply_len)
{
    nng_msg *msg = NULL;
    *reply = NULL;
    *reply_len = 0;
    size_t count = len <= MESSAGE_MAX ? count_lines(lines, len) : 0;
    if (count < 1 || count > MESSAGE_LINES_MAX) {
        return SLUICE_INVALID;
    }
    int result = exchange(client, lines, len, &msg);
    if (result != SLUICE_OK) {
        return result;
    }
    size_t got = nng_msg_len(msg);
    if (count_lines(nng_msg_body(msg), got) != count) {
        result = SLUICE_PROTOCOL;
    } else if (!(*reply = malloc(got + 1))) {
        result = SLUICE_NO_MEMORY;
    } else {
        memcpy(*reply, nng_msg_body(msg), got);
        (*reply)[got] = '\0';
        *reply_len = got;
    }
    nng_msg_free(msg);
    return result;
}

int sluice_mint(struct sluice_client *client, char id[SLUICE_ID_SIZE])
{
    struct id minted;
    if (id_mint(&client->minter, wall_now().ms, &minted) != ERR_OK) {
        return SLUICE_FAILED;
    }
    id_format(&minted, id);
    return SLUICE_OK;
}

const char *sluice_result_text(int result)
{
    static const char *const texts[] = {
        [SLUICE_OK] = "there is a reply",
        [SLUICE_INVALID] = "not an address of a scheduler, or not a message that it takes",
        [SLUICE_FORBIDDEN] = "this user may not use the scheduler's socket",
        [SLUICE_UNAVAILABLE] = "no scheduler was reached; nothing was done",
        [SLUICE_UNKNOWN] = "it was sent, and no reply came in time: it may have been done",
        [SLUICE_PROTOCOL] = "the reply could not be understood",
        [SLUICE_NO_MEMORY] = "out of memory",
        [SLUICE_FAILED] = "the system refused descriptors, threads or random bytes",
    };
    bool known = result >= 0 && (size_t)result < sizeof(texts) / sizeof(texts[0]);
    return known ? texts[result] : "unknown result";
}

void sluice_free(char *reply)
{
    free(reply);
}
