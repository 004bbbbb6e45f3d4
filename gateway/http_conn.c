#include "gateway/http_conn.h"

#include "common/container.h"
#include "gateway/answer.h"
#include "gateway/api.h"
#include "gateway/frame.h"
#include "gateway/trail.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define TRANSFER_RATE (128u << 10) // bytes a second that a slow peer must manage on top of that
#define DRAIN_NS (5 * NS_PER_S)
#define DRAIN_QUIET_NS NS_PER_S // nothing for so long: nothing more will come
#define DRAIN_MAX (16u << 20)
#define REQUESTS_MAX 10000u        // on one connection
#define PARSE_HERE_MAX (64u << 10) // bytes of JSON that a network thread parses itself
#define KEEP_MAX (16u << 10)       // bytes of a buffer that an idle connection keeps
#define PING_NS NS_PER_S

enum conn_state {
    CONN_REQUEST, // reading a header block, or waiting for one
    CONN_GO,      // writing `100 Continue`
    CONN_BODY,    // reading the body
    CONN_ANSWER,  // nothing on the wire: the worker or the scheduler is at it
    CONN_WRITE,   // writing the answer
    CONN_DRAIN    // reading what is left of a refused request, so that closing does not destroy the answer
};

// Owned by whoever has its operation: one callback of its aio, its work or its call at a time.
struct conn {
    struct http *http;
    nng_http_conn *wire;
    nng_http_req *req;
    nng_aio *aio;
    enum conn_state state;
    unsigned served;
    bool blank;  // an empty line came where a request should start
    bool unread; // bytes of this request may still be on the wire
    struct mono drain_until;
    size_t drained;

    struct trail trail;
    struct frame frame;
    struct route route; // borrows from req
    struct pass pass;
    size_t reserved; // bytes of the common budget
    struct buf body;
    struct request request;
    struct work work;
    struct buf line;
    struct call call;
    struct answer answer;
    struct buf head;

    LIST_ENTRY(conn) link; // under http->lock, as the next
    bool idle;             // waits for a request: may be hung up on
};

static void conn_cb(void *arg);

int64_t transfer_ns(const struct http_options *options, size_t bytes)
{
    return options->transfer_ns + (int64_t)(bytes / TRANSFER_RATE) * NS_PER_S;
}

struct conn *conn_new(struct http *http, nng_http_conn *wire, nng_http_req *req)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c || nng_aio_alloc(&c->aio, conn_cb, c) != 0) {
        free(c);
        return NULL;
    }
    c->http = http;
    c->wire = wire;
    c->req = req;
    answer_init(&c->answer);
    pthread_mutex_lock(&http->lock);
    LIST_INSERT_HEAD(&http->conns, c, link);
    http->count++;
    pthread_mutex_unlock(&http->lock);
    return c;
}

static void body_release(struct conn *c)
{
    bodies_give_back(&c->http->bodies, c->reserved);
    c->reserved = 0;
}

static void conn_free(struct conn *c)
{
    struct http *http = c->http;
    pthread_mutex_lock(&http->lock);
    LIST_REMOVE(c, link);
    pthread_mutex_unlock(&http->lock);
    body_release(c);
    pass_end(&c->pass);
    nng_http_conn_close(c->wire);
    nng_http_req_free(c->req);
    buf_fini(&c->body);
    buf_fini(&c->line);
    buf_fini(&c->head);
    answer_fini(&c->answer);
    nng_aio_reap(c->aio); // this may be its callback
    free(c);
    pthread_mutex_lock(&http->lock);
    bool last = --http->count == 0 && http->stopping;
    pthread_mutex_unlock(&http->lock);
    if (last) {
        (void)eventfd_write(http->emptied, 1);
    }
}

static void set_timeout(struct conn *c, int64_t ns)
{
    nng_aio_set_timeout(c->aio, (nng_duration)(ns / NS_PER_MS));
}

static void set_iov(struct conn *c, const nng_iov *iov, unsigned count)
{
    int rv = nng_aio_set_iov(c->aio, count, iov);
    assert(rv == 0); // it refuses more than 8
    (void)rv;
}

// ---- The answer ----

static void buf_idle(struct buf *b)
{
    if (b->cap > KEEP_MAX) {
        buf_fini(b);
    } else {
        buf_reset(b);
    }
}

static void conn_wait(struct conn *c)
{
    c->state = CONN_REQUEST;
    pthread_mutex_lock(&c->http->lock);
    bool stopping = c->http->stopping;
    c->idle = !stopping;
    pthread_mutex_unlock(&c->http->lock);
    if (stopping) {
        conn_free(c);
        return;
    }
    set_timeout(c, c->http->options.idle_ns);
    nng_http_conn_read_req(c->wire, c->req, c->aio);
}

static void conn_next(struct conn *c)
{
    body_release(c);
    c->pass.key = NULL;
    buf_idle(&c->body);
    buf_idle(&c->line);
    buf_idle(&c->head);
    buf_idle(&c->answer.body);
    answer_clear(&c->answer);
    nng_http_req_reset(c->req);
    c->blank = false;
    conn_wait(c);
}

static void conn_write(struct conn *c)
{
    c->answer.request_id = c->trail.trace.request_id;
    c->frame.close = c->frame.close || ++c->served >= REQUESTS_MAX || c->http->stopping;
    answer_head(&c->answer, c->frame.close ? KEEP_CLOSE : KEEP_OPEN, wall_now(), &c->head);
    if (buf_err(&c->answer.body) != ERR_OK || buf_err(&c->head) != ERR_OK) {
        conn_free(c);
        return;
    }
    nng_iov iov[2] = {{c->head.data, c->head.len}, {c->answer.body.data, c->answer.body.len}};
    set_iov(c, iov, c->frame.head ? 1 : 2);
    set_timeout(c, transfer_ns(&c->http->options, c->answer.body.len));
    c->state = CONN_WRITE;
    nng_http_conn_write_all(c->wire, c->aio);
}

static void conn_fault(struct conn *c, const struct fault *fault)
{
    answer_fault(&c->answer, fault);
    if (fault->err == ERR_METHOD_NOT_ALLOWED) {
        c->answer.allow = c->route.allow;
    }
    conn_write(c);
}

static void conn_drain(struct conn *c)
{
    int64_t left_ns = mono_diff(c->drain_until, mono_now());
    char *room = buf_room(&c->body, KEEP_MAX);
    if (left_ns < NS_PER_MS || c->drained >= DRAIN_MAX || !room) {
        conn_free(c);
        return;
    }
    nng_iov iov = {room, KEEP_MAX};
    set_iov(c, &iov, 1);
    set_timeout(c, left_ns < DRAIN_QUIET_NS ? left_ns : DRAIN_QUIET_NS);
    c->state = CONN_DRAIN;
    nng_http_conn_read(c->wire, c->aio);
}

static void conn_written(struct conn *c)
{
    if (!c->frame.close) {
        conn_next(c);
    } else if (!c->unread) {
        conn_free(c);
    } else {
        c->drain_until = mono_add(mono_now(), DRAIN_NS);
        c->drained = 0;
        conn_drain(c);
    }
}

// ---- The endpoints ----

static struct conn *conn_of_call(struct call *call)
{
    return container_of(call, struct conn, call);
}

static void conn_metrics(struct conn *c, const struct reply *reply)
{
    struct metrics_now now = {.bodies = c->http->bodies.held};
    pthread_mutex_lock(&c->http->lock);
    now.connections = c->http->count;
    pthread_mutex_unlock(&c->http->lock);
    forward_measure(c->http->options.forward, &now.forward);
    metrics_answer(&c->http->metrics, &now, reply, &c->answer);
}

static void conn_replied(struct call *call, const struct reply *reply)
{
    struct conn *c = conn_of_call(call);
    c->answer.resent = call->resent;
    if (c->route.endpoint == ENDPOINT_METRICS) {
        conn_metrics(c, reply);
    } else {
        answer_reply(&c->answer, c->route.endpoint, reply);
    }
    conn_write(c);
}

static enum call_kind kind_of(enum op op)
{
    if (op == OP_INGEST) {
        return CALL_INGEST;
    }
    return op_writes(op) ? CALL_IDEMPOTENT : CALL_READ;
}

static void conn_forward(struct conn *c, int64_t within_ns)
{
    struct fault fault;
    enum call_kind kind = kind_of(c->request.op);
    if (pass_check(&c->pass, &c->request, &fault)) {
        request_fini(&c->request);
        conn_fault(c, &fault);
        return;
    }
    enum err err = trail_copy(&c->trail, c->request.op, &c->request.trace);
    err = err ? err : pass_limit(&c->pass, &c->request);
    request_to_line(&c->request, &c->line);
    request_fini(&c->request);
    err = err ? err : buf_err(&c->line);
    if (err) {
        (void)fault_set(&fault, err, "The gateway is out of memory; try again.");
    } else {
        c->call = (struct call){.line = c->line.data, .len = c->line.len, .kind = kind, .done = conn_replied};
        err = forward_call(c->http->options.forward, &c->call, within_ns, &fault);
    }
    if (err && c->route.endpoint == ENDPOINT_METRICS) {
        conn_metrics(c, &(struct reply){.ok = false});
        conn_write(c);
    } else if (err) {
        conn_fault(c, &fault);
    }
}

static enum err conn_ingest(struct conn *c, struct fault *fault)
{
    return api_ingest(c->body.data, c->body.len, nng_http_req_get_header(c->req, "Idempotency-Key"),
                      &c->answer.minted, &c->request, fault);
}

// Makes the request whole and sends it on.
static void conn_body(struct conn *c)
{
    struct fault fault;
    enum err err = c->route.endpoint == ENDPOINT_INGEST
                       ? conn_ingest(c, &fault)
                       : api_put(c->body.data, c->body.len, &c->request, &fault);
    buf_idle(&c->body);
    if (err) {
        conn_fault(c, &fault);
    } else {
        conn_forward(c, c->http->options.timeout_ns);
    }
}

static void conn_work(struct work *work)
{
    conn_body(container_of(work, struct conn, work));
}

static void conn_without_body(struct conn *c)
{
    struct fault fault;
    int64_t timeout_ns = c->http->options.timeout_ns;
    bool ping = c->route.endpoint == ENDPOINT_READYZ || c->route.endpoint == ENDPOINT_METRICS;
    if (c->route.endpoint == ENDPOINT_HEALTHZ) {
        answer_healthz(&c->answer);
        conn_write(c);
    } else if (api_body_rule(c->route.endpoint) == BODY_NONE &&
               api_no_body(c->body.data, c->body.len, &fault)) {
        conn_fault(c, &fault);
    } else {
        conn_forward(c, ping && timeout_ns > PING_NS ? PING_NS : timeout_ns);
    }
}

// The request is all there, as far as its length says.
static void conn_handle(struct conn *c)
{
    c->unread = c->frame.unsure;
    c->state = CONN_ANSWER;
    if (api_body_rule(c->route.endpoint) != BODY_JSON) {
        conn_without_body(c);
    } else if (c->body.len <= PARSE_HERE_MAX) {
        conn_body(c);
    } else {
        c->work.run = conn_work;
        worker_post(c->http->options.worker, &c->work);
    }
}

// ---- The request ----

static enum err body_reserve(struct conn *c, struct fault *fault)
{
    if (bodies_take(&c->http->bodies, c->frame.length)) {
        c->reserved = c->frame.length;
        if (buf_room(&c->body, c->frame.length)) {
            return ERR_OK;
        }
        body_release(c);
    }
    return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE,
                     "The bodies of the requests at hand fill the gateway's memory; nothing was accepted.");
}

static void conn_read_body(struct conn *c)
{
    nng_iov iov = {c->body.data, c->frame.length};
    set_iov(c, &iov, 1);
    set_timeout(c, transfer_ns(&c->http->options, c->frame.length));
    c->state = CONN_BODY;
    nng_http_conn_read_all(c->wire, c->aio);
}

static void conn_write_go(struct conn *c)
{
    static const char go[] = "HTTP/1.1 100 Continue\r\n\r\n";
    buf_str(&c->head, go);
    if (buf_err(&c->head) != ERR_OK) {
        conn_free(c);
        return;
    }
    nng_iov iov = {c->head.data, c->head.len};
    set_iov(c, &iov, 1);
    set_timeout(c, c->http->options.transfer_ns);
    c->state = CONN_GO;
    nng_http_conn_write_all(c->wire, c->aio);
}

static enum err body_check(const struct conn *c, struct fault *fault)
{
    enum body_rule rule = api_body_rule(c->route.endpoint);
    if (rule == BODY_IGNORED &&
        c->frame.length > NO_BODY_MAX) { // nobody's, and it would take the room of others'
        return fault_set(fault, ERR_BODY_TOO_LARGE, "This operation takes no body.");
    }
    if (rule == BODY_IGNORED || (rule == BODY_NONE && c->frame.length == 0)) {
        return ERR_OK;
    }
    if (!c->frame.has_length) {
        return fault_set(fault, ERR_LENGTH_REQUIRED, "The body must come with a Content-Length.");
    }
    enum err err = api_media_type(nng_http_req_get_header(c->req, "Content-Type"), fault);
    if (err) {
        return err;
    }
    if (rule == BODY_NONE && c->frame.length > NO_BODY_MAX) {
        return api_no_body(NULL, c->frame.length, fault);
    }
    return c->route.endpoint == ENDPOINT_INGEST
               ? api_idempotency_key(nng_http_req_get_header(c->req, "Idempotency-Key"), fault)
               : ERR_OK;
}

static enum err conn_admit(struct conn *c, struct fault *fault)
{
    struct refusal refusal;
    enum err err = keys_admit(c->http->options.keys, nng_http_req_get_header(c->req, "Authorization"),
                              c->route.endpoint, c->trail.begun, &c->pass, &refusal, fault);
    c->answer.challenge = refusal.challenge;
    c->answer.retry_after_s = refusal.retry_after_s;
    c->trail.key = c->pass.key ? c->pass.key->name : NULL;
    return err;
}

// All that can be said before the body is read.
static enum err conn_check(struct conn *c, struct fault *fault)
{
    nng_http_req *req = c->req;
    const struct header_block block = {
        .method = nng_http_req_get_method(req),
        .version = nng_http_req_get_version(req),
        .host = nng_http_req_get_header(req, "Host"),
        .content_length = nng_http_req_get_header(req, "Content-Length"),
        .transfer_encoding = nng_http_req_get_header(req, "Transfer-Encoding"),
        .connection = nng_http_req_get_header(req, "Connection"),
        .expect = nng_http_req_get_header(req, "Expect"),
    };
    enum err err = frame_check(&block, c->http->options.max_body, &c->frame, fault);
    if (err) {
        return err;
    }
    c->unread = c->frame.length > 0 || c->frame.unsure;
    if ((err = route_find(block.method, nng_http_req_get_uri(req), &c->route, fault))) {
        return err;
    }
    c->trail.route = c->route.endpoint;
    if ((err = conn_admit(c, fault))) {
        return err;
    }
    if ((err = api_query(&c->route, &c->request, fault))) {
        return err;
    }
    if ((err = body_check(c, fault))) {
        return err;
    }
    return c->frame.length > 0 ? body_reserve(c, fault) : ERR_OK;
}

// An ID for the request, which is that of the ingestion if it becomes one.
static enum err conn_identify(struct conn *c, struct fault *fault)
{
    c->answer.minted = (struct id){{0}};
    enum err err = id_mint(c->http->options.minter, wall_now().ms, &c->answer.minted);
    trail_begin(&c->trail, nng_http_req_get_method(c->req), nng_http_req_get_header(c->req, "X-Request-Id"),
                nng_http_req_get_header(c->req, "traceparent"), &c->answer.minted);
    return err ? fault_set(fault, err, "The gateway could not make an ID; try again.") : ERR_OK;
}

void conn_run(struct conn *c)
{
    struct fault fault;
    c->unread = true;
    c->frame = (struct frame){.close = true};
    if (conn_identify(c, &fault) != ERR_OK || conn_check(c, &fault) != ERR_OK) {
        c->frame.close = c->frame.close || c->unread;
        conn_fault(c, &fault);
    } else if (c->frame.length == 0) {
        conn_handle(c);
    } else if (c->frame.wants_go) {
        conn_write_go(c);
    } else {
        conn_read_body(c);
    }
}

// A header block is there, or an empty line, which some clients send after a body: one is passed over.
static void conn_requested(struct conn *c)
{
    pthread_mutex_lock(&c->http->lock);
    c->idle = false;
    pthread_mutex_unlock(&c->http->lock);
    if (nng_aio_result(c->aio) != 0) {
        conn_free(c);
    } else if (!c->blank && nng_http_req_get_uri(c->req)[0] == '\0' &&
               !nng_http_req_get_header(c->req, "Host")) {
        c->blank = true;
        conn_wait(c);
    } else {
        conn_run(c);
    }
}

static void conn_cb(void *arg)
{
    struct conn *c = arg;
    if (c->state == CONN_WRITE) {
        trail_end(&c->trail, &c->answer, &c->http->metrics);
    }
    if (c->state != CONN_REQUEST && nng_aio_result(c->aio) != 0) {
        conn_free(c); // the peer is gone or too slow
        return;
    }
    switch (c->state) {
    case CONN_REQUEST:
        conn_requested(c);
        break;
    case CONN_GO:
        buf_reset(&c->head);
        conn_read_body(c);
        break;
    case CONN_BODY:
        buf_grew(&c->body, c->frame.length);
        conn_handle(c);
        break;
    case CONN_WRITE:
        conn_written(c);
        break;
    case CONN_DRAIN:
        c->drained += nng_aio_count(c->aio);
        conn_drain(c);
        break;
    case CONN_ANSWER:
        assert(c->state != CONN_ANSWER); // nothing is on the wire then
    }
}

void conns_hang_up_idle(struct http *http)
{
    struct conn *c;
    LIST_FOREACH(c, &http->conns, link)
    if (c->idle) {
        nng_aio_cancel(c->aio);
    }
}
