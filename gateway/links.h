// links.h - what secures the gateway's two sides: its certificate for https, and the one it shows to a
// scheduler on another host.
#ifndef SLUICE_GATEWAY_LINKS_H
#define SLUICE_GATEWAY_LINKS_H

#include "common/err.h"

struct tls;

// The options, as they were given; a file that was not is NULL.
struct links_options {
    const char *tls_cert;
    const char *tls_key;
    const char *scheduler_cert;
    const char *scheduler_key;
    const char *scheduler_ca;
};

struct links {
    struct tls *front; // NULL: the clients' side is plain HTTP
    struct tls *back;  // NULL: the scheduler's side is a Unix socket, or plain TCP
};

enum links_plain { PLAIN_REFUSED, PLAIN_ALLOWED }; // TCP to the scheduler without TLS

// Checks the options against the two URLs (each of a scheme that is allowed) and loads the files.
// ERR_INVALID_FIELD when they cannot be used, naming option or file; ERR_NO_MEMORY.
MUST_CHECK enum err links_open(const struct links_options *options, const char *listen, const char *scheduler,
                               enum links_plain plain, struct links *links, struct fault *fault);

#endif
