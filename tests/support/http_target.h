// http_target.h - a real HTTP server on the loopback that plays a delivery target in tests: it answers as
// scripted and remembers every request. All functions may be called from any thread; http_target_stop comes
// last.
#ifndef SLUICE_TESTS_SUPPORT_HTTP_TARGET_H
#define SLUICE_TESTS_SUPPORT_HTTP_TARGET_H

#include "common/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_target_how {
    HTTP_TARGET_ANSWER,
    HTTP_TARGET_HANG, // no answer until the server is stopped
    HTTP_TARGET_DROP, // the connection is closed after the whole request was read
};

// A zeroed one answers 200 at once with an empty body. Texts are copied when it is set.
struct http_target_answer {
    enum http_target_how how;
    unsigned status;         // 0: 200
    int64_t delay_ns;        // before the answer
    const char *retry_after; // value of the header, or NULL
    const char *location;    // value of the header, or NULL
    const char *fields;      // more headers, "Name: value\n" each, or NULL
    const char *body;        // NULL: empty
    size_t repeat;           // how often the body comes, one after the other; 0: once
};

struct http_target_request {
    struct mono arrived; // when its headers had been read
    unsigned connection; // which one it came over, from 1 in the order they were made
    unsigned answered;   // the status; 0: hung or dropped
    const char *method;
    const char *path;
    const char *version;
    const char *headers; // "Name: value\n" each, as they came
    const char *body;    // NUL-terminated
    size_t body_len;
};

struct http_target;

// Listens on 127.0.0.1, on this port or (0) on a free one. NULL when it cannot.
struct http_target *http_target_start(uint16_t port);
// The same over TLS ("https://127.0.0.1:PORT/deliver"), on a free port, with a certificate and its key as PEM
// texts, which must live as long as the target.
struct http_target *http_target_start_tls(const char *certificate, const char *key);
// Ends what hangs, closes all connections and frees; the port is free again afterwards.
void http_target_stop(struct http_target *target);
uint16_t http_target_port(const struct http_target *target);
// "http://127.0.0.1:PORT/deliver"; lives as long as the target.
const char *http_target_url(const struct http_target *target);

// What is answered when nothing is scripted for a request; and one more answer for one request, in order of
// arrival.
void http_target_set_default(struct http_target *target, const struct http_target_answer *answer);
void http_target_script(struct http_target *target, const struct http_target_answer *answer);

// Requests whose bodies have been read completely.
size_t http_target_count(struct http_target *target);
// Connections made so far.
unsigned http_target_connections(struct http_target *target);
// Waits until there are n requests or more; false when they did not come within the time.
bool http_target_wait(struct http_target *target, size_t n, int64_t timeout_ns);
// Request number i, from 0 by the end of their bodies; what it points to lives as long as the target. i <
// count.
struct http_target_request http_target_get(struct http_target *target, size_t i);
// The value of a header of a request (its name in any case) into value; false when it is not there or does
// not fit.
bool http_target_header(const struct http_target_request *request, const char *name, char *value,
                        size_t size);

#endif
