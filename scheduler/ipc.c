#include "scheduler/ipc.h"

#include "common/clock.h"
#include "common/container.h"
#include "common/log.h"
#include "common/worker.h"
#include "proto/reply.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/transport/ipc/ipc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL_SCHEME "ipc://"
#define PATH_LENGTH_MAX 107 // what fits into a sockaddr_un
#define SOCKET_MODE 0660
#define CONTEXTS 64              // messages between arrival and reply
#define CALLBACK_MAX (64u << 10) // bytes; a longer message is decoded by the worker
#define SEND_MS 5000             // a peer that has not taken a reply by then is cut off
#define CHECK_EVERY_MS 3000
#define CHECK_MS 2000 // for each half of a round trip
#define GRACE_MS 1000 // for replies on their way when we end
#define LINGER_MS 100
#define CLOSE_MS 2000 // for NNG to close the socket

// Bytes of all messages together, from the moment a receive is posted to the end of its reply. Until a
// message has come and its lines are counted it is taken for the largest one.
#define BUDGET ((size_t)64 << 20)
#define LARGEST (MESSAGE_MAX + MESSAGE_LINES_MAX * sizeof(struct ipc_request))
_Static_assert(LARGEST <= BUDGET, "one message must always be allowed");

enum context_state { CONTEXT_RECEIVING, CONTEXT_SENDING };

// One message at a time goes through a context: idle -> receiving -> decoding (in a callback or by the
// worker) -> in the inbox and the loop -> sending -> idle. Whoever has it at its stage owns it alone; `next`
// and `charge` are guarded by ipc->lock.
struct ipc_context {
    struct ipc *ipc;
    struct ipc_context *next; // idle ones
    size_t charge;            // what it counts for in ipc->held
    nng_ctx ctx;
    nng_aio *aio;
    enum context_state state; // what the aio does
    nng_pipe pipe;            // where the message came from
    nng_msg *msg;             // until it is decoded
    struct work work;
    struct ipc_message message;
};

struct ipc {
    char *url;
    const char *path; // inside url
    struct inbox *inbox;
    nng_socket socket;
    struct id_minter minter;
    struct worker *worker;

    // The watch thread's, once it runs.
    nng_listener listener;
    // Two, since NNG 1.5 forgets to report time-outs on an aio that has slept once. ipc_close stops them,
    // which ends the thread.
    nng_aio *sleep_aio;
    nng_aio *probe_aio;
    pthread_t watch;
    int closed_fd; // an eventfd: readable when the watch thread has closed the socket

    // The line by which ipc.c knows its own round trips. Constant.
    char probe[96];
    size_t probe_len;

    nng_aio *grace; // sleeps while ipc_close waits for `sending` to become 0

    pthread_mutex_t lock; // guards what follows; taken before the inbox's, never while calling a function
                          // that may call back
    bool closing;
    struct ipc_context *idle;
    size_t held;
    size_t receiving;
    size_t sending;
    size_t calls; // of NNG for a context, that have not returned: nng_close must not overtake them
    pthread_cond_t no_calls;
    size_t users; // ipc_close not yet done, and each message that is in the inbox or in the loop
    struct ipc_context contexts[CONTEXTS];
};

// ---- contexts
// --------------------------------------------------------------------------------------------------------

static struct ipc_context *take_idle(struct ipc *ipc)
{
    struct ipc_context *context = NULL;

    pthread_mutex_lock(&ipc->lock);
    if (!ipc->closing && ipc->idle && ipc->held + LARGEST <= BUDGET) {
        context = ipc->idle;
        ipc->idle = context->next;
        context->charge = LARGEST;
        context->state = CONTEXT_RECEIVING;
        ipc->held += LARGEST;
        ipc->receiving++;
        ipc->calls++;
    }
    pthread_mutex_unlock(&ipc->lock);
    return context;
}

static void end_call(struct ipc *ipc)
{
    pthread_mutex_lock(&ipc->lock);
    ipc->calls--;
    if (ipc->calls == 0)
        pthread_cond_broadcast(&ipc->no_calls);
    pthread_mutex_unlock(&ipc->lock);
}

// Posts as many receives as contexts and budget allow.
static void receive_more(struct ipc *ipc)
{
    struct ipc_context *context;

    while ((context = take_idle(ipc))) {
        nng_aio_set_timeout(context->aio, NNG_DURATION_INFINITE);
        nng_ctx_recv(context->ctx, context->aio);
        end_call(ipc);
    }
}

static void set_charge(struct ipc_context *context, size_t charge)
{
    struct ipc *ipc = context->ipc;

    pthread_mutex_lock(&ipc->lock);
    ipc->held -= context->charge;
    ipc->held += charge;
    context->charge = charge;
    pthread_mutex_unlock(&ipc->lock);
}

static void release(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;

    pthread_mutex_lock(&ipc->lock);
    ipc->held -= context->charge;
    context->charge = 0;
    context->next = ipc->idle;
    ipc->idle = context;
    pthread_mutex_unlock(&ipc->lock);
    receive_more(ipc);
}

static void drop_message(struct ipc_context *context)
{
    nng_msg_free(context->msg);
    context->msg = NULL;
}

// False when ipc_close has begun.
static bool begin_sending(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    bool open;

    pthread_mutex_lock(&ipc->lock);
    open = !ipc->closing;
    if (open) {
        context->state = CONTEXT_SENDING;
        ipc->sending++;
        ipc->calls++;
    }
    pthread_mutex_unlock(&ipc->lock);
    return open;
}

static void send_reply(struct ipc_context *context, const struct buf *lines)
{
    struct ipc *ipc = context->ipc;
    nng_msg *msg = NULL;

    if (buf_err(lines) != ERR_OK || nng_msg_alloc(&msg, lines->len) != 0) {
        // A connection that breaks tells the peer that the outcome is unknown, sooner than silence would.
        nng_pipe_close(context->pipe);
        release(context);
        return;
    }
    if (lines->len > 0)
        memcpy(nng_msg_body(msg), lines->data, lines->len);
    if (!begin_sending(context)) {
        nng_msg_free(msg);
        release(context);
        return;
    }
    nng_aio_set_msg(context->aio, msg);
    nng_aio_set_timeout(context->aio, SEND_MS);
    nng_ctx_send(context->ctx, context->aio); // the context may be in its next round when this returns
    end_call(ipc);
}

static void sent(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    int result = nng_aio_result(context->aio);

    if (result != 0) {
        nng_msg_free(nng_aio_get_msg(context->aio));
        nng_aio_set_msg(context->aio, NULL);
    }
    if (result == NNG_ETIMEDOUT)
        nng_pipe_close(context->pipe);
    pthread_mutex_lock(&ipc->lock);
    ipc->sending--;
    if (ipc->closing && ipc->sending == 0)
        nng_aio_cancel(ipc->grace); // it has no callback
    pthread_mutex_unlock(&ipc->lock);
    release(context);
}

// ---- messages
// --------------------------------------------------------------------------------------------------------

static void decode_line(struct ipc *ipc, const char *line, size_t len, struct ipc_request *into)
{
    struct request *request = &into->request;
    struct fault *fault = &into->fault;

    fault->err = request_from_line(line, len, request, fault);
    if (fault->err != ERR_OK || request->op != OP_INGEST || request->ingest.has_id)
        return;
    enum err err = id_mint(&ipc->minter, wall_now().ms, &request->ingest.id);
    request->ingest.has_id = err == ERR_OK;
    if (err != ERR_OK) {
        request_fini(request);
        (void)fault_set(fault, err, "no random bytes for an ID");
    }
}

static void free_requests(struct ipc_message *message)
{
    for (size_t i = 0; i < message->count; i++)
        request_fini(&message->requests[i].request);
    free(message->requests);
    message->requests = NULL;
    message->count = 0;
}

// One error reply for the message as a whole.
static void refuse(struct ipc_context *context, enum err err, const char *text)
{
    struct buf line;

    drop_message(context);
    buf_init(&line);
    reply_error(&line, err, text);
    send_reply(context, &line);
    buf_fini(&line);
}

// Sends it back as it came.
static void answer_probe(struct ipc_context *context)
{
    struct buf line;

    drop_message(context);
    buf_init(&line);
    buf_put(&line, context->ipc->probe, context->ipc->probe_len);
    send_reply(context, &line);
    buf_fini(&line);
}

// At most MESSAGE_LINES_MAX + 1.
static size_t count_lines(const char *text, size_t len)
{
    size_t count = 0, at = 0, line_len;

    while (count <= MESSAGE_LINES_MAX && lines_next(text, len, &at, &line_len))
        count++;
    return count;
}

static void post(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    bool open;

    pthread_mutex_lock(&ipc->lock);
    open = !ipc->closing;
    if (open) {
        ipc->users++;
        inbox_post(ipc->inbox, &context->message.item);
    }
    pthread_mutex_unlock(&ipc->lock);
    if (!open) {
        free_requests(&context->message);
        release(context);
    }
}

static void decode(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    struct ipc_message *message = &context->message;
    const char *text = nng_msg_body(context->msg);
    size_t len = nng_msg_len(context->msg);
    size_t count = count_lines(text, len);
    size_t at = 0, line_len;
    const char *line;

    set_charge(context, len + count * sizeof(struct ipc_request));
    receive_more(ipc);
    if (len == ipc->probe_len && memcmp(text, ipc->probe, len) == 0) {
        answer_probe(context);
        return;
    }
    if (count == 0) {
        refuse(context, ERR_BAD_REQUEST,
               "the message is empty: a message is one JSON object or several, one on each line");
        return;
    }
    if (count > MESSAGE_LINES_MAX) {
        refuse(context, ERR_BAD_REQUEST, "the message has too many lines: at most 16384 are allowed");
        return;
    }
    message->requests = calloc(count, sizeof(*message->requests));
    if (!message->requests) {
        refuse(context, ERR_NO_MEMORY, "no memory for the message");
        return;
    }
    while ((line = lines_next(text, len, &at, &line_len)))
        decode_line(ipc, line, line_len, &message->requests[message->count++]);
    drop_message(context);
    post(context);
}

static void decode_work(struct work *work)
{
    decode(container_of(work, struct ipc_context, work));
}

static void received(struct ipc_context *context)
{
    struct ipc *ipc = context->ipc;
    int result = nng_aio_result(context->aio);

    pthread_mutex_lock(&ipc->lock);
    ipc->receiving--;
    pthread_mutex_unlock(&ipc->lock);
    if (result != 0) {
        release(context);
        return;
    }
    context->msg = nng_aio_get_msg(context->aio);
    nng_aio_set_msg(context->aio, NULL);
    context->pipe = nng_msg_get_pipe(context->msg);
    if (nng_msg_len(context->msg) <= CALLBACK_MAX)
        decode(context);
    else
        worker_post(ipc->worker, &context->work);
}

static void on_event(void *arg)
{
    struct ipc_context *context = arg;

    switch (context->state) {
    case CONTEXT_RECEIVING:
        received(context);
        break;
    case CONTEXT_SENDING:
        sent(context);
        break;
    }
}

// ---- the listener and its watch
// --------------------------------------------------------------------------------------

static enum err listen_on_path(struct ipc *ipc, struct fault *fault)
{
    struct stat st;
    nng_listener listener = NNG_LISTENER_INITIALIZER;
    int result;

    // NNG itself would delete whatever is there.
    if (lstat(ipc->path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "%s exists and is not a socket", ipc->path);
        if (unlink(ipc->path) != 0)
            return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot remove the old socket %s: %s",
                             ipc->path, strerrordesc_np(errno));
    } else if (errno != ENOENT) {
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot use %s: %s", ipc->path,
                         strerrordesc_np(errno));
    }
    result = nng_listener_create(&listener, ipc->socket, ipc->url);
    if (result == 0)
        result = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, SOCKET_MODE);
    if (result == 0)
        result = nng_listener_start(listener, 0);
    if (result != 0) {
        (void)nng_listener_close(listener);
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot listen on %s: %s", ipc->path,
                         nng_strerror(result));
    }
    ipc->listener = listener;
    return ERR_OK;
}

// Sends the probe and waits for the answer on probe_aio; false when there was none in time, or the aio was
// stopped.
static bool exchange(struct ipc *ipc, nng_socket socket)
{
    nng_aio *aio = ipc->probe_aio;
    nng_msg *msg;

    if (nng_msg_alloc(&msg, ipc->probe_len) != 0)
        return false;
    memcpy(nng_msg_body(msg), ipc->probe, ipc->probe_len);
    nng_aio_set_timeout(aio, CHECK_MS);
    nng_aio_set_msg(aio, msg);
    nng_send_aio(socket, aio);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0) {
        nng_aio_set_msg(aio, NULL);
        nng_msg_free(msg);
        return false;
    }
    nng_recv_aio(socket, aio);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0)
        return false;
    msg = nng_aio_get_msg(aio);
    nng_aio_set_msg(aio, NULL);
    bool same =
        nng_msg_len(msg) == ipc->probe_len && memcmp(nng_msg_body(msg), ipc->probe, ipc->probe_len) == 0;
    nng_msg_free(msg);
    return same;
}

// A full round trip over a new connection: a send alone succeeds on a dead listener, too.
static bool round_trip(struct ipc *ipc)
{
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    bool good;

    if (nng_req0_open(&socket) != 0)
        return false;
    good = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE) == 0 &&
           nng_dial(socket, ipc->url, NULL, NNG_FLAG_NONBLOCK) == 0 && exchange(ipc, socket);
    (void)nng_close(socket);
    return good;
}

// Without a receive posted (the loop is behind) a round trip that fails says nothing about the listener.
static bool is_receiving(struct ipc *ipc)
{
    bool receiving;

    pthread_mutex_lock(&ipc->lock);
    receiving = ipc->receiving > 0 && !ipc->closing;
    pthread_mutex_unlock(&ipc->lock);
    return receiving;
}

static bool is_dead(struct ipc *ipc)
{
    return !round_trip(ipc) && is_receiving(ipc) && !round_trip(ipc) && is_receiving(ipc);
}

static void listen_anew(struct ipc *ipc)
{
    struct fault fault;

    (void)nng_listener_close(ipc->listener);
    if (listen_on_path(ipc, &fault) == ERR_OK)
        log_line(LOG_LEVEL_WARNING, "ipc", "listening_anew", "path=\"%s\"", ipc->path);
    else
        log_line(LOG_LEVEL_ERROR, "ipc", "cannot_listen", "error=\"%s\"", fault.detail);
}

static void *watch_main(void *arg)
{
    struct ipc *ipc = arg;

    for (;;) {
        nng_sleep_aio(CHECK_EVERY_MS, ipc->sleep_aio);
        nng_aio_wait(ipc->sleep_aio);
        if (nng_aio_result(ipc->sleep_aio) != 0)
            break;
        if (is_dead(ipc))
            listen_anew(ipc);
    }
    // Here and not in ipc_close, which must not wait for it without a limit.
    (void)nng_close(ipc->socket);
    (void)eventfd_write(ipc->closed_fd, 1);
    return NULL;
}

// ---- life
// ------------------------------------------------------------------------------------------------------------

static void ipc_free(struct ipc *ipc)
{
    for (size_t i = 0; i < CONTEXTS; i++)
        nng_aio_free(ipc->contexts[i].aio);
    nng_aio_free(ipc->sleep_aio);
    nng_aio_free(ipc->probe_aio);
    nng_aio_free(ipc->grace);
    if (ipc->closed_fd >= 0)
        close(ipc->closed_fd);
    id_minter_fini(&ipc->minter);
    pthread_cond_destroy(&ipc->no_calls);
    pthread_mutex_destroy(&ipc->lock);
    free(ipc->url);
    free(ipc);
}

// From here on nothing is received, posted or sent; what is on its way goes on.
static void close_for_calls(struct ipc *ipc)
{
    pthread_mutex_lock(&ipc->lock);
    ipc->closing = true;
    while (ipc->calls > 0)
        pthread_cond_wait(&ipc->no_calls, &ipc->lock);
    pthread_mutex_unlock(&ipc->lock);
}

// After the socket was closed: waits for the callbacks and for what the worker has got.
static void stop_contexts(struct ipc *ipc)
{
    for (size_t i = 0; i < CONTEXTS; i++)
        nng_aio_stop(ipc->contexts[i].aio);
    worker_stop(ipc->worker);
    ipc->worker = NULL;
}

static void drop_user(struct ipc *ipc)
{
    bool last;

    pthread_mutex_lock(&ipc->lock);
    last = --ipc->users == 0;
    pthread_mutex_unlock(&ipc->lock);
    if (last)
        ipc_free(ipc);
}

static enum err open_contexts(struct ipc *ipc)
{
    for (size_t i = 0; i < CONTEXTS; i++) {
        struct ipc_context *context = &ipc->contexts[i];
        context->ipc = ipc;
        context->work.run = decode_work;
        context->message.item.kind = INBOX_MESSAGE;
        context->message.context = context;
        if (nng_aio_alloc(&context->aio, on_event, context) != 0 ||
            nng_ctx_open(&context->ctx, ipc->socket) != 0)
            return ERR_NO_MEMORY;
        context->next = ipc->idle;
        ipc->idle = context;
    }
    return ERR_OK;
}

static enum err make_probe(struct ipc *ipc)
{
    char nonce[ID_TEXT_SIZE];
    struct id id;
    enum err err = id_mint(&ipc->minter, wall_now().ms, &id);

    if (err != ERR_OK)
        return err;
    id_format(&id, nonce);
    int len = snprintf(ipc->probe, sizeof(ipc->probe), "{\"op\":\"ping\",\"probe\":\"%s\"}\n", nonce);
    if (len < 0 || (size_t)len >= sizeof(ipc->probe))
        return ERR_INTERNAL;
    ipc->probe_len = (size_t)len;
    return ERR_OK;
}

static enum err ipc_build(const char *url, struct inbox *inbox, struct ipc *ipc)
{
    ipc->closed_fd = -1;
    ipc->inbox = inbox;
    ipc->users = 1;
    pthread_mutex_init(&ipc->lock, NULL);
    pthread_cond_init(&ipc->no_calls, NULL);
    id_minter_init(&ipc->minter);
    ipc->url = strdup(url);
    if (!ipc->url)
        return ERR_NO_MEMORY;
    ipc->path = ipc->url + strlen(URL_SCHEME);
    ipc->closed_fd = eventfd(0, EFD_CLOEXEC);
    if (ipc->closed_fd < 0 || nng_aio_alloc(&ipc->sleep_aio, NULL, NULL) != 0 ||
        nng_aio_alloc(&ipc->probe_aio, NULL, NULL) != 0 || nng_aio_alloc(&ipc->grace, NULL, NULL) != 0)
        return ERR_NO_MEMORY;
    if (nng_rep0_open(&ipc->socket) != 0 ||
        nng_socket_set_size(ipc->socket, NNG_OPT_RECVMAXSZ, MESSAGE_MAX) != 0)
        return ERR_NO_MEMORY;
    enum err err = make_probe(ipc);
    if (err == ERR_OK)
        err = open_contexts(ipc);
    if (err == ERR_OK)
        err = worker_start(&ipc->worker);
    return err;
}

enum err ipc_open(const char *url, struct inbox *inbox, struct ipc **ipc, struct fault *fault)
{
    size_t scheme_len = strlen(URL_SCHEME);

    if (strncmp(url, URL_SCHEME, scheme_len) != 0 || url[scheme_len] == '\0' ||
        strlen(url) > scheme_len + PATH_LENGTH_MAX)
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE,
                         "'%s' is not ipc://PATH with a path of 1 to %d bytes", url, PATH_LENGTH_MAX);

    struct ipc *made = calloc(1, sizeof(*made));
    if (!made)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for %s", url);
    enum err err = ipc_build(url, inbox, made);
    if (err != ERR_OK)
        (void)fault_set(fault, err, "no memory or no resources for %s", url);
    else
        err = listen_on_path(made, fault);
    if (err == ERR_OK) {
        receive_more(made);
        if (!round_trip(made))
            err = fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "%s does not answer its own round trip", url);
    }
    if (err == ERR_OK && pthread_create(&made->watch, NULL, watch_main, made) != 0)
        err = fault_set(fault, ERR_NO_MEMORY, "no thread to watch %s", url);
    if (err != ERR_OK) {
        close_for_calls(made);
        (void)nng_close(made->socket);
        stop_contexts(made);
        ipc_free(made);
        return err;
    }
    *ipc = made;
    return ERR_OK;
}

void ipc_reply(struct ipc_message *message, struct buf *lines)
{
    struct ipc_context *context = message->context;
    struct ipc *ipc = context->ipc;

    free_requests(message);
    send_reply(context, lines);
    buf_fini(lines);
    drop_user(ipc);
}

void ipc_close(struct ipc *ipc)
{
    if (!ipc)
        return;
    close_for_calls(ipc);
    pthread_mutex_lock(&ipc->lock);
    if (ipc->sending > 0)
        nng_sleep_aio(GRACE_MS, ipc->grace); // sent() ends it early
    pthread_mutex_unlock(&ipc->lock);
    nng_aio_wait(ipc->grace);
    // What NNG calls sent lies in the peers' sockets, and a peer that sees us hang up first does not read it
    // any more.
    nng_sleep_aio(LINGER_MS, ipc->grace);
    nng_aio_wait(ipc->grace);

    nng_aio_stop(ipc->sleep_aio);
    nng_aio_stop(ipc->probe_aio);
    struct pollfd closed = {.fd = ipc->closed_fd, .events = POLLIN};
    if (poll(&closed, 1, CLOSE_MS) != 1) {
        // Its thread may use all of it yet. The process is about to end.
        log_line(LOG_LEVEL_WARNING, "ipc", "close_hangs", NULL);
        pthread_detach(ipc->watch);
        return;
    }
    pthread_join(ipc->watch, NULL);
    stop_contexts(ipc);
    drop_user(ipc);
}
