// http.h - the HTTP side: takes connections, reads requests, and answers each from the endpoints.
//
// NNG's HTTP server accepts and reads the first request of each connection; then the connection is ours (see
// http_conn.c). All of it runs on NNG's threads; the functions here are for main.
#ifndef SLUICE_GATEWAY_HTTP_H
#define SLUICE_GATEWAY_HTTP_H

#include "common/err.h"
#include "common/id.h"
#include "common/worker.h"
#include "gateway/forward.h"
#include "gateway/keys.h"

#include <stddef.h>
#include <stdint.h>

struct http;
struct tls;

struct http_options {
    const char *listen;  // http://HOST:PORT or https://HOST:PORT
    size_t max_body;     // bytes
    int64_t timeout_ns;  // how long the scheduler may take
    int64_t idle_ns;     // from an answer to the end of the next header block
    int64_t transfer_ns; // for something short to arrive or to be taken; a long body or answer gets more
    // Borrowed until the end of the process.
    struct forward *forward;
    struct keys *keys;     // NULL: everybody may do everything
    struct tls *tls;       // for https://; NULL else
    struct worker *worker; // parses what is too long for a network thread
    struct id_minter *minter;
};

// Serves from now on. ERR_SCHEDULER_UNAVAILABLE when it cannot listen there, ERR_NO_MEMORY.
MUST_CHECK enum err http_open(const struct http_options *options, struct http **http, struct fault *fault);

// Reads the certificate and its key again, for the connections that come from now on. When they cannot be
// used, all stays as it was: errors as tls_reload. Only with a tls; one thread at a time.
MUST_CHECK enum err http_reload(struct http *http, struct fault *fault);

// The longest that a connection in our hands can go without anything being sent on it.
int64_t http_longest_silence_ns(const struct http_options *options);
// The longest that one can take to its first answer, when its first request is a small one.
int64_t http_first_answer_ns(const struct http_options *options);

// Accepts nothing more, hangs up on idle connections and waits until the others are answered and closed, at
// most within_ns. Returns how many are left. The process should end now, without any clearing up.
size_t http_stop(struct http *http, int64_t within_ns);

#endif
