// frame.h - what a request's header block says about where the request ends and what becomes of its
// connection.
//
// Strict on purpose: a request that two readers could split differently is refused and its connection closed.
// Pure; any thread.
#ifndef SLUICE_GATEWAY_FRAME_H
#define SLUICE_GATEWAY_FRAME_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

// Header values as they came, NULL when absent. A header given more than once is joined by ", ".
struct header_block {
    const char *method;
    const char *version;
    const char *host;
    const char *content_length;
    const char *transfer_encoding;
    const char *connection;
    const char *expect;
};

struct frame {
    bool has_length; // Content-Length was given
    size_t length;   // of the body
    bool head;       // the answer goes without its body
    bool wants_go;   // the client waits for `100 Continue` before it sends the body
    bool unsure;     // no length was given with a method that is made for a body: one may follow all the same
    bool close;      // after the answer; always so when unsure and after an error
};

// ERR_BAD_REQUEST, ERR_NOT_IMPLEMENTED (Transfer-Encoding), ERR_BODY_TOO_LARGE.
MUST_CHECK enum err frame_check(const struct header_block *block, size_t max_body, struct frame *frame,
                                struct fault *fault);

#endif
