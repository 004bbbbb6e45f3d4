#include "gateway/http_conn.h"

#include "common/clock.h"
#include "common/tls.h"

#include "proto/words.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define HANG_UP_EVERY_MS 50

// The first request of a connection. NNG has read its header block and knows nothing more of it from here on.
static void first_request(nng_aio *aio)
{
    nng_http_req *req = nng_aio_get_input(aio, 0);
    nng_http_handler *handler = nng_aio_get_input(aio, 1);
    nng_http_conn *wire = nng_aio_get_input(aio, 2);
    struct conn *conn = conn_new(nng_http_handler_get_data(handler), wire, req);
    if (!conn) {
        nng_aio_finish(aio, NNG_ENOMEM);
        return;
    }
    (void)nng_http_hijack(wire); // fails only in a library without HTTP
    nng_aio_finish(aio, 0);
    conn_run(conn);
}

static int use_config(void *server, nng_tls_config *config)
{
    return nng_http_server_set_tls(server, config);
}

static int server_start(struct http *http)
{
    nng_url *url = NULL;
    nng_http_handler *handler = NULL;
    int rv;
    // One handler for every path and method. It takes no body: what follows the header block is ours to read.
    (void)((rv = nng_url_parse(&url, http->options.listen)) ||
           (rv = nng_http_server_hold(&http->server, url)) ||
           (rv = http->options.tls ? use_config(http->server, tls_config(http->options.tls)) : 0) ||
           (rv = nng_http_handler_alloc(&handler, "/", first_request)) ||
           (rv = nng_http_handler_set_method(handler, NULL)) || (rv = nng_http_handler_set_tree(handler)) ||
           (rv = nng_http_handler_collect_body(handler, false, 0)) ||
           (rv = nng_http_handler_set_data(handler, http, NULL)) ||
           (rv = nng_http_server_add_handler(http->server, handler)) ||
           (rv = nng_http_server_start(http->server)));
    nng_url_free(url);
    return rv;
}

enum err http_open(const struct http_options *options, struct http **out, struct fault *fault)
{
    struct http *http = calloc(1, sizeof(*http));
    if (!http) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    http->options = *options;
    http->metrics.started = wall_now();
    LIST_INIT(&http->conns);
    pthread_mutex_init(&http->lock, NULL);
    http->emptied = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (http->emptied < 0) {
        return fault_set(fault, ERR_INTERNAL, "no event descriptor: %s", strerror(errno));
    }
    int rv = server_start(http);
    // What was opened is left to the end of the process, which follows at once.
    if (rv) {
        return fault_set(fault, rv == NNG_ENOMEM ? ERR_NO_MEMORY : ERR_SCHEDULER_UNAVAILABLE,
                         "cannot listen on %s: %s", options->listen, nng_strerror(rv));
    }
    *out = http;
    return ERR_OK;
}

enum err http_reload(struct http *http, struct fault *fault)
{
    return tls_reload(http->options.tls, use_config, http->server, fault);
}

int64_t http_first_answer_ns(const struct http_options *options)
{
    return 2 * options->transfer_ns + options->timeout_ns;
}

int64_t http_longest_silence_ns(const struct http_options *options)
{
    return options->idle_ns + transfer_ns(options, options->max_body) + options->timeout_ns +
           transfer_ns(options, REPLY_LINE_MAX) + options->transfer_ns;
}

size_t http_stop(struct http *http, int64_t within_ns)
{
    struct mono until = mono_add(mono_now(), within_ns);
    pthread_mutex_lock(&http->lock);
    http->stopping = true;
    pthread_mutex_unlock(&http->lock);
    nng_http_server_stop(http->server);
    for (;;) {
        // Again and again: a hang-up that comes between two steps of a connection is lost.
        pthread_mutex_lock(&http->lock);
        conns_hang_up_idle(http);
        size_t left = http->count;
        pthread_mutex_unlock(&http->lock);
        if (left == 0 || !mono_before(mono_now(), until)) {
            return left;
        }
        struct pollfd emptied = {.fd = http->emptied, .events = POLLIN};
        (void)poll(&emptied, 1, HANG_UP_EVERY_MS);
    }
}
