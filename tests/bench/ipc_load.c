// Load on the scheduler's socket: the same request again and again, many lines in a message, several messages
// under way at once.
//
//   ipc_load ipc://PATH CONTEXTS LINES (SECONDS | xCOUNT) REQUEST
//
// For so many seconds, or (x100000) so many requests. Every line of every reply must be good; otherwise it
// says what came and exits with 1. Prints "result REQUESTS_PER_SECOND REQUESTS".
#include "common/clock.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTEXTS_MAX 1024
#define LINES_MAX 16384 // of a message, see PROTOCOL.md

static const char good[] = "{\"ok\":true";

struct load {
    nng_socket socket;
    size_t lines; // of a message
    size_t line;  // bytes of a line
    char *body;   // a whole message
    struct mono end;
    pthread_mutex_t lock; // of what follows
    pthread_cond_t ended;
    size_t left;    // requests still to be sent
    size_t running; // contexts
    size_t answered;
};

enum state { SENDING, RECEIVING };

struct context {
    struct load *load;
    nng_ctx ctx;
    nng_aio *aio;
    enum state state;
    size_t asked; // lines of the message that is under way
};

static void check(int rv, const char *what)
{
    if (rv != 0) {
        fprintf(stderr, "ipc_load: %s: %s\n", what, nng_strerror(rv));
        _exit(EXIT_FAILURE);
    }
}

// Each line of a reply, and as many as were asked for.
static void check_reply(const char *text, size_t len, size_t asked)
{
    size_t lines = 0;
    for (const char *end = text + len; text < end; lines++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t line = (size_t)((newline ? newline : end) - text);
        if (line < sizeof good || memcmp(text, good, sizeof good - 1) != 0) {
            fprintf(stderr, "ipc_load: answered with %.*s\n", (int)(line < 1000 ? line : 1000), text);
            _exit(EXIT_FAILURE);
        }
        text += line + 1;
    }
    if (lines != asked) {
        fprintf(stderr, "ipc_load: %zu lines were answered with %zu\n", asked, lines);
        _exit(EXIT_FAILURE);
    }
}

// Takes as many requests as go into the next message; 0 at the end.
static size_t take(struct context *context)
{
    struct load *load = context->load;
    pthread_mutex_lock(&load->lock);
    load->answered += context->asked;
    if (!mono_before(mono_now(), load->end)) {
        load->left = 0;
    }
    size_t taken = load->left < load->lines ? load->left : load->lines;
    load->left -= taken;
    if (taken == 0 && --load->running == 0) {
        pthread_cond_signal(&load->ended);
    }
    pthread_mutex_unlock(&load->lock);
    return taken;
}

static void send_next(struct context *context)
{
    context->asked = take(context);
    if (context->asked == 0) {
        return;
    }
    nng_msg *msg = NULL;
    size_t len = context->asked * context->load->line;
    check(nng_msg_alloc(&msg, len), "a message");
    memcpy(nng_msg_body(msg), context->load->body, len);
    nng_aio_set_msg(context->aio, msg);
    context->state = SENDING;
    nng_ctx_send(context->ctx, context->aio);
}

static void advance(void *arg)
{
    struct context *context = arg;
    check(nng_aio_result(context->aio), context->state == SENDING ? "send" : "receive");
    switch (context->state) {
    case SENDING:
        context->state = RECEIVING;
        nng_ctx_recv(context->ctx, context->aio);
        return;
    case RECEIVING: {
        nng_msg *msg = nng_aio_get_msg(context->aio);
        check_reply(nng_msg_body(msg), nng_msg_len(msg), context->asked);
        nng_msg_free(msg);
        send_next(context);
        return;
    }
    }
}

static void connect_to(struct load *load, const char *url)
{
    check(nng_req0_open(&load->socket), "open");
    // Sent again, ingestions would be accepted twice: these lines bring no ID of their own.
    check(nng_socket_set_ms(load->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), "resend time");
    check(nng_dial(load->socket, url, NULL, 0), url);
}

static void make_body(struct load *load, const char *request)
{
    load->line = strlen(request) + 1;
    load->body = malloc(load->lines * load->line);
    if (!load->body) {
        check(NNG_ENOMEM, "a message");
    }
    for (size_t i = 0; i < load->lines; i++) {
        memcpy(load->body + i * load->line, request, load->line - 1);
        load->body[(i + 1) * load->line - 1] = '\n';
    }
}

static void run(struct load *load, struct context *contexts, size_t count)
{
    load->running = count;
    for (size_t i = 0; i < count; i++) {
        contexts[i].load = load;
        check(nng_ctx_open(&contexts[i].ctx, load->socket), "a context");
        check(nng_aio_alloc(&contexts[i].aio, advance, &contexts[i]), "an aio");
    }
    for (size_t i = 0; i < count; i++) {
        send_next(&contexts[i]);
    }
    pthread_mutex_lock(&load->lock);
    while (load->running > 0) {
        pthread_cond_wait(&load->ended, &load->lock);
    }
    pthread_mutex_unlock(&load->lock);
}

static bool number(const char *text, size_t max, size_t *value)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    *value = (size_t)n;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n > 0 && n <= max;
}

int main(int argc, char **argv)
{
    size_t contexts = 0, length = 0;
    struct load load = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    bool counted = argc == 6 && argv[4][0] == 'x';
    if (argc != 6 || !number(argv[2], CONTEXTS_MAX, &contexts) || !number(argv[3], LINES_MAX, &load.lines) ||
        !number(argv[4] + counted, counted ? SIZE_MAX : 86400, &length)) {
        fprintf(stderr, "usage: ipc_load ipc://PATH CONTEXTS LINES (SECONDS | xCOUNT) REQUEST\n");
        return 64;
    }
    struct context *list = calloc(contexts, sizeof(*list));
    if (!list) {
        check(NNG_ENOMEM, "contexts");
    }
    make_body(&load, argv[5]);
    connect_to(&load, argv[1]);

    struct mono begin = mono_now();
    load.end = counted ? MONO_NEVER : mono_add(begin, (int64_t)length * NS_PER_S);
    load.left = counted ? length : SIZE_MAX;
    run(&load, list, contexts);
    double seconds = (double)mono_diff(mono_now(), begin) / (double)NS_PER_S;
    printf("result %.0f %zu\n", (double)load.answered / seconds, load.answered);
    fflush(stdout);
    _exit(EXIT_SUCCESS); // what NNG still has is the kernel's to free
}
