// http_conn.h - one connection: requests in, answers out, one after the other. Between http.c and http_conn.c
// only.
#ifndef SLUICE_GATEWAY_HTTP_CONN_H
#define SLUICE_GATEWAY_HTTP_CONN_H

#include "gateway/bodies.h"
#include "gateway/http.h"
#include "gateway/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

#include <nng/nng.h>
#include <nng/supplemental/http/http.h>

struct conn;
LIST_HEAD(conn_list, conn);

struct http {
    struct http_options options;
    nng_http_server *server;
    struct metrics metrics;
    struct bodies bodies;
    _Atomic bool stopping; // every answer is now the last of its connection; set under the lock
    int emptied;           // eventfd: readable once stopping is set and no connection is left
    pthread_mutex_t lock;  // for what follows
    struct conn_list conns;
    size_t count;
};

// A connection that was just taken over, with its first request read. NULL when there is no memory; both
// still belong to the caller then.
struct conn *conn_new(struct http *http, nng_http_conn *wire, nng_http_req *req);
// Answers that request and goes on by itself until the connection ends.
void conn_run(struct conn *conn);
// Ends the connections that wait for a request. With the lock held.
void conns_hang_up_idle(struct http *http);

// What a body of this length may take to arrive, or an answer to be taken.
int64_t transfer_ns(const struct http_options *options, size_t bytes);

#endif
