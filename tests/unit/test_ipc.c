#include "scheduler/ipc.h"

#include "common/clock.h"
#include "common/container.h"
#include "proto/reply.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static void answer_one(const struct fixture *f, const struct ipc_request *request, struct buf *lines)
{
    if (request->fault.err != ERR_OK) {
        reply_error(lines, request->fault.err, request->fault.detail);
    } else if (request->request.op == OP_INGEST) {
        cr_assert(request->request.ingest.has_id);
        reply_ingest(lines, &request->request.ingest.id, false);
    } else if (f->reply_bytes > 0) {
        reply_open(lines);
        buf_printf(lines, ",\"pad\":\"%0*d\"", (int)f->reply_bytes, 0);
        reply_close(lines);
    } else {
        reply_ping(lines);
    }
}

static void answer(struct fixture *f, struct ipc_message *message)
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

static void *consume(void *arg)
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

static void set_up(struct fixture *f)
{
    *f = (struct fixture){.gate_fd = -1};
    (void)snprintf(f->dir, sizeof(f->dir), "%s", "/tmp/sluice-ipc-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
    (void)snprintf(f->url, sizeof(f->url), "ipc://%s", f->path);
    cr_assert_eq(inbox_new(&f->inbox), ERR_OK);
    f->stop_fd = eventfd(0, EFD_CLOEXEC);
}

static void open_socket(struct fixture *f)
{
    struct fault fault = {0};

    cr_assert_eq(ipc_open(f->url, f->inbox, &f->ipc, &fault), ERR_OK, "%s", fault.detail);
}

static void begin(struct fixture *f)
{
    set_up(f);
    open_socket(f);
    cr_assert_eq(pthread_create(&f->consumer, NULL, consume, f), 0);
}

static void tear_down(struct fixture *f)
{
    inbox_free(f->inbox);
    close(f->stop_fd);
    if (f->gate_fd >= 0)
        close(f->gate_fd);
    cr_assert_eq(rmdir(f->dir), 0, "the socket was left behind");
}

static void stop_consumer(struct fixture *f)
{
    cr_assert_eq(eventfd_write(f->stop_fd, 1), 0);
    pthread_join(f->consumer, NULL);
}

static void end(struct fixture *f)
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

static nng_socket dial(const struct fixture *f)
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
static char *try_ask(nng_socket socket, const char *message, size_t len)
{
    nng_msg *reply;
    char *text;

    if (nng_send(socket, (void *)(uintptr_t)message, len, 0) != 0 || nng_recvmsg(socket, &reply, 0) != 0)
        return NULL;
    text = strndup(nng_msg_body(reply), nng_msg_len(reply));
    nng_msg_free(reply);
    return text;
}

static char *ask(nng_socket socket, const char *message, size_t len)
{
    char *text = try_ask(socket, message, len);

    cr_assert_not_null(text);
    return text;
}

static char *ask_text(nng_socket socket, const char *message)
{
    return ask(socket, message, strlen(message));
}

static size_t count_newlines(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += *text == '\n';
    return count;
}

static void expect_pong(nng_socket socket)
{
    char *reply = ask_text(socket, "{\"op\":\"ping\"}");

    cr_assert(strstr(reply, "\"protocol\":1") != NULL, "%s", reply);
    free(reply);
}

#define ID "0198c0de-0000-7000-8000-000000000001"

Test(ipc, answers_each_line_in_order)
{
    struct fixture f;

    begin(&f);
    nng_socket client = dial(&f);
    expect_pong(client);

    char *reply =
        ask_text(client, "{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[1,2],\"priority\":\"HIGH\"}\n"
                         "not json\n"
                         "{\"op\":\"dance\"}\n"
                         "\n"
                         "{\"op\":\"ping\"}\n");
    static const char *const expected[] = {ID, "malformed_json", "\"error\"", "\"error\"", "\"protocol\":1"};
    size_t at = 0, len;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const char *line = lines_next(reply, strlen(reply), &at, &len);
        cr_assert_not_null(line);
        cr_assert_not_null(memmem(line, len, expected[i], strlen(expected[i])), "line %zu: %.*s", i, (int)len,
                           line);
    }
    cr_assert_null(lines_next(reply, strlen(reply), &at, &len));
    free(reply);

    nng_close(client);
    end(&f);
}

Test(ipc, mints_an_id_where_none_came)
{
    struct fixture f;
    struct reply reply;
    struct id first, second;
    bool replayed;
    size_t at = 0, len;

    begin(&f);
    nng_socket client = dial(&f);
    char *text = ask_text(client, "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}\n"
                                  "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}");
    const char *line = lines_next(text, strlen(text), &at, &len);
    cr_assert_eq(reply_parse(line, len, &reply), ERR_OK);
    cr_assert_eq(reply_parse_ingest(&reply, &first, &replayed), ERR_OK);
    line = lines_next(text, strlen(text), &at, &len);
    cr_assert_eq(reply_parse(line, len, &reply), ERR_OK);
    cr_assert_eq(reply_parse_ingest(&reply, &second, &replayed), ERR_OK);
    cr_assert_lt(memcmp(&first, &second, sizeof(first)), 0, "they are version 7 and grow");
    cr_assert_eq(first.bytes[6] >> 4, 7);
    free(text);
    nng_close(client);
    end(&f);
}

// `line` n times, then `rest`.
static char *repeat(const char *line, size_t n, const char *rest)
{
    struct buf text;
    size_t len;

    buf_init(&text);
    for (size_t i = 0; i < n; i++)
        buf_str(&text, line);
    buf_str(&text, rest);
    char *taken = buf_take(&text, &len);
    cr_assert_not_null(taken);
    return taken;
}

Test(ipc, decodes_long_messages_too)
{
    struct fixture f;
    char *ids = repeat("9007199254740991,", IDS_MAX - 1, "1],\"priority\":\"LOW\"}\n");
    char *message = repeat("{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[", 1, ids);

    begin(&f);
    nng_socket client = dial(&f);
    char *reply = ask_text(client, message);
    cr_assert_not_null(strstr(reply, ID), "%s", reply);
    free(reply);
    free(message);
    free(ids);
    nng_close(client);
    end(&f);
}

Test(ipc, refuses_an_empty_message_and_one_with_too_many_lines)
{
    struct fixture f;

    begin(&f);
    nng_socket client = dial(&f);

    char *reply = ask(client, "", 0);
    cr_assert_not_null(strstr(reply, "bad_request"), "%s", reply);
    cr_assert_eq(count_newlines(reply), 1);
    free(reply);

    for (size_t lines = MESSAGE_LINES_MAX; lines <= MESSAGE_LINES_MAX + 1; lines++) {
        char *message = repeat("{\"op\":\"ping\"}\n", lines, "");
        reply = ask_text(client, message);
        if (lines <= MESSAGE_LINES_MAX) {
            cr_assert_eq(count_newlines(reply), lines);
        } else {
            cr_assert_not_null(strstr(reply, "bad_request"), "%s", reply);
            cr_assert_eq(count_newlines(reply), 1);
        }
        free(reply);
        free(message);
    }
    expect_pong(client);
    nng_close(client);
    end(&f);
}

Test(ipc, refuses_what_it_cannot_listen_on)
{
    struct fixture f;
    struct fault fault;
    char url[256];

    set_up(&f);
    // 107 bytes fit, 108 do not.
    for (int len = 107; len <= 108; len++) {
        (void)snprintf(url, sizeof(url), "%s/%0*d", f.url, len - (int)strlen(f.path) - 1, 0);
        (void)snprintf(url, sizeof(url), "ipc://%s/%0*d", f.dir, len - (int)strlen(f.dir) - 1, 0);
        cr_assert_eq(ipc_open(url, f.inbox, &f.ipc, &fault), len <= 107 ? ERR_OK : ERR_SCHEDULER_UNAVAILABLE);
        if (len <= 107)
            ipc_close(f.ipc);
    }
    static const char *const bad[] = {"", "ipc://", "tcp://127.0.0.1:1", "/tmp/x",
                                      "ipc:///nonexistent/directory/s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(ipc_open(bad[i], f.inbox, &f.ipc, &fault), ERR_SCHEDULER_UNAVAILABLE, "%s", bad[i]);

    int fd = open(f.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "mine", 4), 4);
    cr_assert_eq(ipc_open(f.url, f.inbox, &f.ipc, &fault), ERR_SCHEDULER_UNAVAILABLE);
    cr_assert_not_null(strstr(fault.detail, "not a socket"), "%s", fault.detail);
    struct stat st;
    cr_assert_eq(stat(f.path, &st), 0);
    cr_assert_eq(st.st_size, 4, "a file that is not ours was touched");
    close(fd);
    unlink(f.path);
    tear_down(&f);
}

static void fill_address(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
}

Test(ipc, replaces_a_stale_socket_and_lets_the_group_in)
{
    struct fixture f;
    struct sockaddr_un address;
    struct stat st;

    set_up(&f);
    fill_address(&address, f.path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);

    open_socket(&f);
    cr_assert_eq(pthread_create(&f.consumer, NULL, consume, &f), 0);
    cr_assert_eq(stat(f.path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0660);
    nng_socket client = dial(&f);
    expect_pong(client);
    nng_close(client);
    end(&f);
}

Test(ipc, listens_anew_when_the_socket_is_lost, .timeout = 60)
{
    struct fixture f;

    begin(&f);
    nng_socket before = dial(&f);
    expect_pong(before);
    cr_assert_eq(unlink(f.path), 0);

    nng_socket client;
    cr_assert_eq(nng_req0_open(&client), 0);
    cr_assert_eq(nng_socket_set_ms(client, NNG_OPT_RECVTIMEO, 40000), 0);
    cr_assert_eq(nng_dial(client, f.url, NULL, NNG_FLAG_NONBLOCK), 0); // tries until there is a socket
    expect_pong(client);
    nng_close(client);
    nng_close(before);
    end(&f);
}

#define CLIENTS 100
#define ROUNDS 50

struct client {
    pthread_t thread;
    const struct fixture *fixture;
    int good;
};

static void *ping_often(void *arg)
{
    struct client *client = arg;
    nng_socket socket = dial(client->fixture);

    for (int i = 0; i < ROUNDS; i++) {
        char *reply = try_ask(socket, "{\"op\":\"ping\"}", strlen("{\"op\":\"ping\"}"));
        client->good += reply && strstr(reply, "\"ok\":true");
        free(reply);
    }
    nng_close(socket);
    return NULL;
}

Test(ipc, serves_many_clients_at_once, .timeout = 110)
{
    struct fixture f;
    static struct client clients[CLIENTS];

    begin(&f);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.fixture = &f};
        cr_assert_eq(pthread_create(&clients[i].thread, NULL, ping_often, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        cr_assert_eq(clients[i].good, ROUNDS);
    }
    end(&f);
}

// ---- clients that behave badly: the wire by hand ----

static void put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (24 - 8 * i));
}

// Connected, and the greeting of a req socket exchanged.
static int raw_dial(const struct fixture *f)
{
    static const unsigned char greeting[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    unsigned char theirs[8];
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    fill_address(&address, f->path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(write(fd, greeting, sizeof(greeting)), (ssize_t)sizeof(greeting));
    cr_assert_eq(recv(fd, theirs, sizeof(theirs), MSG_WAITALL), (ssize_t)sizeof(theirs));
    return fd;
}

static void raw_ask(int fd, uint32_t request, const char *text)
{
    unsigned char frame[128] = {1};
    size_t len = strlen(text);

    cr_assert_leq(len, sizeof(frame) - 13);
    put_u32(frame + 5, (uint32_t)len + 4);
    put_u32(frame + 9, request | 0x80000000u);
    memcpy(frame + 13, text, len);
    cr_assert_eq(send(fd, frame, len + 13, MSG_NOSIGNAL), (ssize_t)(len + 13));
}

// By the length that its frame announces, before any of it has come.
Test(ipc, cuts_off_a_message_over_the_limit)
{
    struct fixture f;
    unsigned char frame[9] = {1}; // a message, then its length in 64 bits
    char byte;

    begin(&f);
    nng_socket other = dial(&f);
    expect_pong(other);
    int fd = raw_dial(&f);
    put_u32(frame + 5, 17u << 20);
    cr_assert_eq(send(fd, frame, sizeof(frame), MSG_NOSIGNAL), (ssize_t)sizeof(frame));
    cr_assert_eq(recv(fd, &byte, 1, 0), 0, "the connection is not closed");
    close(fd);
    expect_pong(other);
    nng_close(other);
    end(&f);
}

Test(ipc, outlives_peers_that_die_before_their_reply)
{
    struct fixture f;

    set_up(&f);
    f.gate_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    open_socket(&f);
    cr_assert_eq(pthread_create(&f.consumer, NULL, consume, &f), 0);
    // More of them than there are contexts, each dead while its request waits for the loop.
    for (int i = 0; i < 200; i++) {
        int fd = raw_dial(&f);
        raw_ask(fd, 1, "{\"op\":\"ping\"}");
        close(fd);
    }
    cr_assert_eq(eventfd_write(f.gate_fd, 1000), 0);
    nng_socket client = dial(&f);
    expect_pong(client);
    nng_close(client);
    end(&f);
}

Test(ipc, outlives_a_peer_that_never_reads, .timeout = 60)
{
    struct fixture f;

    set_up(&f);
    f.reply_bytes = 300000; // more than a socket buffers
    open_socket(&f);
    cr_assert_eq(pthread_create(&f.consumer, NULL, consume, &f), 0);
    int fd = raw_dial(&f);
    for (uint32_t i = 0; i < 200; i++) // more than there are contexts: all of them get stuck
        raw_ask(fd, i, "{\"op\":\"ping\"}");
    nng_socket client = dial(&f);
    char *reply = ask_text(client, "{\"op\":\"ping\"}");
    cr_assert_not_null(strstr(reply, "\"ok\":true"));
    free(reply);
    nng_close(client);
    close(fd);
    end(&f);
}

Test(ipc, survives_noise_on_the_socket)
{
    struct fixture f;
    static const unsigned char forged[17] = {1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    begin(&f);
    for (int i = 0; i < 20; i++) {
        struct sockaddr_un address;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        fill_address(&address, f.path);
        cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        if (i % 2 == 0)
            cr_assert_eq(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
        close(fd);
        fd = raw_dial(&f);
        cr_assert_eq(send(fd, forged, sizeof(forged), MSG_NOSIGNAL), (ssize_t)sizeof(forged));
        close(fd);
    }
    nng_socket client = dial(&f);
    expect_pong(client);
    nng_close(client);
    end(&f);
}

// ---- the end ----

Test(ipc, frees_what_is_answered_after_the_end)
{
    struct fixture f;
    struct pollfd wait;
    struct buf lines;

    set_up(&f);
    open_socket(&f);
    nng_socket client = dial(&f);
    cr_assert_eq(nng_send(client, (void *)(uintptr_t) "{\"op\":\"ping\"}", 13, 0), 0);
    wait = (struct pollfd){.fd = inbox_fd(f.inbox), .events = POLLIN};
    cr_assert_eq(poll(&wait, 1, 30000), 1);
    ipc_close(f.ipc);
    cr_assert_neq(access(f.path, F_OK), 0);

    struct inbox_item *item = inbox_take(f.inbox);
    cr_assert_null(item->next);
    buf_init(&lines);
    reply_ping(&lines);
    ipc_reply(container_of(item, struct ipc_message, item), &lines);
    nng_close(client);
    tear_down(&f);
    ipc_close(NULL);
}

Test(ipc, sends_the_last_replies_before_it_ends)
{
    struct fixture f;
    struct pollfd wait;
    struct buf lines;
    nng_aio *aio;

    set_up(&f);
    open_socket(&f);
    nng_socket client = dial(&f);
    cr_assert_eq(nng_send(client, (void *)(uintptr_t) "{\"op\":\"ping\"}", 13, 0), 0);
    cr_assert_eq(nng_aio_alloc(&aio, NULL, NULL), 0);
    nng_recv_aio(client, aio);
    wait = (struct pollfd){.fd = inbox_fd(f.inbox), .events = POLLIN};
    cr_assert_eq(poll(&wait, 1, 30000), 1);
    buf_init(&lines);
    reply_ping(&lines);
    ipc_reply(container_of(inbox_take(f.inbox), struct ipc_message, item), &lines);
    ipc_close(f.ipc);
    nng_aio_wait(aio);
    cr_assert_eq(nng_aio_result(aio), 0);
    nng_msg_free(nng_aio_get_msg(aio));
    nng_aio_free(aio);
    nng_close(client);
    tear_down(&f);
}

Test(ipc, understands_nngcat)
{
    struct fixture f;
    char command[256], output[256] = {0};

    if (access("/usr/bin/nngcat", X_OK) != 0)
        cr_skip_test("nngcat (nng-utils) is not installed");
    begin(&f);
    (void)snprintf(command, sizeof(command), "nngcat --req --dial %s --data '{\"op\":\"ping\"}' --raw",
                   f.url);
    FILE *pipe = popen(command, "re");
    cr_assert_not_null(pipe);
    cr_assert_not_null(fgets(output, sizeof(output), pipe));
    cr_assert_eq(pclose(pipe), 0);
    cr_assert_not_null(strstr(output, "\"ok\":true"), "%s", output);
    end(&f);
}
