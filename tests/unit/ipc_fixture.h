// ipc_fixture.h - what the tests of the socket share: a socket in a directory of its own, a thread in the
// loop's place, and clients, some of which write the wire by hand.
#ifndef SLUICE_TESTS_UNIT_IPC_FIXTURE_H
#define SLUICE_TESTS_UNIT_IPC_FIXTURE_H

#include "common/container.h"
#include "proto/reply.h"
#include "scheduler/ipc.h"
#include "tests/support/raw_ipc.h"

#include <criterion/criterion.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// ---- a scheduler of its own for each test: the socket, and a thread in the loop's place ----

struct fixture {
    char dir[64];
    char path[96];
    char url[128];
    struct inbox *inbox;
    struct ipc *ipc;
    pthread_t consumer;
    int stop_fd;
    int gate_fd;        // a semaphore: how many more messages the consumer may answer; -1: all of them
    size_t reply_bytes; // a reply line is padded to this
};

static inline void answer_one(const struct fixture *f, const struct ipc_request *request, struct buf *lines)
{
    if (request->fault.err != ERR_OK) {
        reply_error(lines, request->fault.err, request->fault.detail);
    } else if (request->request.op == OP_INGEST) {
        cr_assert(request->request.ingest.has_id);
        reply_ingest(lines, &request->request.ingest.id, false);
    } else if (request->request.op == OP_LEASE) {
        cr_assert(request->request.lease.has_id);
        reply_error(lines, ERR_LEASE_LOST, "there is nothing to lease");
    } else if (f->reply_bytes > 0) {
        reply_open(lines);
        buf_printf(lines, ",\"pad\":\"%0*d\"", (int)f->reply_bytes, 0);
        reply_close(lines);
    } else {
        reply_ping(lines);
    }
}

static inline void answer(struct fixture *f, struct ipc_message *message)
{
    struct buf lines;
    eventfd_t one;

    if (f->gate_fd >= 0)
        cr_assert_eq(eventfd_read(f->gate_fd, &one), 0);
    buf_init(&lines);
    for (size_t i = 0; i < message->count; i++)
        answer_one(f, &message->requests[i], &lines);
    ipc_reply(message, &lines);
    cr_assert_null(lines.data);
}

static inline void *consume(void *arg)
{
    struct fixture *f = arg;
    struct pollfd fds[] = {{.fd = inbox_fd(f->inbox), .events = POLLIN},
                           {.fd = f->stop_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) > 0 && fds[1].revents == 0) {
        for (struct inbox_item *item = inbox_take(f->inbox), *next; item; item = next) {
            next = item->next;
            cr_assert_eq(item->kind, INBOX_MESSAGE);
            answer(f, container_of(item, struct ipc_message, item));
        }
    }
    return NULL;
}

static inline void set_up(struct fixture *f)
{
    *f = (struct fixture){.gate_fd = -1};
    (void)snprintf(f->dir, sizeof(f->dir), "%s", "/tmp/sluice-ipc-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
    (void)snprintf(f->url, sizeof(f->url), "ipc://%s", f->path);
    cr_assert_eq(inbox_new(&f->inbox), ERR_OK);
    f->stop_fd = eventfd(0, EFD_CLOEXEC);
}

static inline void open_socket(struct fixture *f)
{
    struct fault fault = {0};

    cr_assert_eq(ipc_open(f->url, f->inbox, &f->ipc, &fault), ERR_OK, "%s", fault.detail);
}

static inline void begin(struct fixture *f)
{
    set_up(f);
    open_socket(f);
    cr_assert_eq(pthread_create(&f->consumer, NULL, consume, f), 0);
}

static inline void tear_down(struct fixture *f)
{
    inbox_free(f->inbox);
    close(f->stop_fd);
    if (f->gate_fd >= 0)
        close(f->gate_fd);
    cr_assert_eq(rmdir(f->dir), 0, "the socket was left behind");
}

static inline void stop_consumer(struct fixture *f)
{
    cr_assert_eq(eventfd_write(f->stop_fd, 1), 0);
    pthread_join(f->consumer, NULL);
}

static inline void end(struct fixture *f)
{
    ipc_close(f->ipc);
    stop_consumer(f);
    // What came in the last moment is only freed now.
    for (struct inbox_item *item = inbox_take(f->inbox), *next; item; item = next) {
        struct buf none;
        next = item->next;
        buf_init(&none);
        ipc_reply(container_of(item, struct ipc_message, item), &none);
    }
    tear_down(f);
}

// ---- clients ----

static inline nng_socket dial(const struct fixture *f)
{
    nng_socket socket;

    cr_assert_eq(nng_req0_open(&socket), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, 30000), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, 30000), 0);
    cr_assert_eq(nng_dial(socket, f->url, NULL, 0), 0);
    return socket;
}

// The reply as a NUL-terminated text (freed by the caller), or NULL.
static inline char *try_ask(nng_socket socket, const char *message, size_t len)
{
    nng_msg *reply;
    char *text;

    if (nng_send(socket, (void *)(uintptr_t)message, len, 0) != 0 || nng_recvmsg(socket, &reply, 0) != 0)
        return NULL;
    text = strndup(nng_msg_body(reply), nng_msg_len(reply));
    nng_msg_free(reply);
    return text;
}

static inline char *ask(nng_socket socket, const char *message, size_t len)
{
    char *text = try_ask(socket, message, len);

    cr_assert_not_null(text);
    return text;
}

static inline char *ask_text(nng_socket socket, const char *message)
{
    return ask(socket, message, strlen(message));
}

static inline size_t count_newlines(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += *text == '\n';
    return count;
}

static inline void expect_pong(nng_socket socket)
{
    char *reply = ask_text(socket, "{\"op\":\"ping\"}");

    cr_assert(strstr(reply, "\"protocol\":1") != NULL, "%s", reply);
    free(reply);
}

// ---- clients that write the wire by hand ----

// Connected, and the greeting of a req socket exchanged.
static inline int raw_dial(const struct fixture *f)
{
    return raw_greet(f->path);
}

#endif
