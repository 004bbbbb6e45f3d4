// The patches of packaging/nng: each test here fails on an NNG 1.5.2 without them.
//
// A process must not fork once it has called NNG, so the sides that are killed, or that a defect could bring
// down, are children forked beforehand, and the test talks to them over a socket pair.
#include "tests/support/raw_ipc.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/http/http.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEADLINE_S = 10, DEADLINE_MS = DEADLINE_S * 1000 };

struct child {
    pid_t pid;
    int fd;
};

static void set_deadline(int fd)
{
    const struct timeval limit = {.tv_sec = DEADLINE_S};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
}

// Runs body in a child, which ends with what body returns. `arg` and its end of a socket pair are handed to
// it.
static struct child child_start(int (*body)(int fd, const void *arg), const void *arg)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        _exit(body(pair[1], arg));
    }
    close(pair[1]);
    set_deadline(pair[0]);
    return (struct child){.pid = pid, .fd = pair[0]};
}

// True when len bytes came from the child before the deadline.
static bool child_says(const struct child *child, void *buf, size_t len)
{
    return recv(child->fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

// Tells the child that its work is done (its end of the pair reads end of file) and gives the status of
// waitpid(2), or -1 when it has not ended by the deadline, in which case it is killed.
static int child_end(const struct child *child)
{
    char byte;
    int status;
    shutdown(child->fd, SHUT_WR);
    bool ended = recv(child->fd, &byte, 1, 0) == 0;
    if (!ended) {
        kill(child->pid, SIGKILL);
    }
    close(child->fd);
    return waitpid(child->pid, &status, 0) == child->pid && ended ? status : -1;
}

static void child_kill(const struct child *child)
{
    kill(child->pid, SIGKILL);
    waitpid(child->pid, NULL, 0);
    close(child->fd);
}

static int connect_to_port(uint16_t port)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

// A directory of its own for a socket.
struct place {
    char dir[sizeof "/tmp/nng_fixes_XXXXXX"];
    char url[64];
    const char *path; // of the socket, in url
};

static void place_make(struct place *place)
{
    *place = (struct place){.dir = "/tmp/nng_fixes_XXXXXX", .path = place->url + sizeof "ipc://" - 1};
    cr_assert_neq(mkdtemp(place->dir), NULL);
    cr_assert_lt(snprintf(place->url, sizeof place->url, "ipc://%s/s", place->dir), (int)sizeof place->url);
}

static void place_remove(const struct place *place)
{
    (void)unlink(place->path);
    cr_assert_eq(rmdir(place->dir), 0);
}

// ---- Percent-escapes in the path of a request ----

static void answer_ok(nng_aio *aio)
{
    nng_http_res *res;
    int rv = nng_http_res_alloc(&res);
    if (rv == 0) {
        nng_aio_set_output(aio, 0, res);
    }
    nng_aio_finish(aio, rv);
}

// An HTTP server that knows the paths in `arg`, a list that ends with NULL, and nothing else.
static int serve_http(int fd, const void *arg)
{
    nng_url *url;
    nng_http_server *server;
    nng_sockaddr addr;
    if (nng_url_parse(&url, "http://127.0.0.1:0") != 0 || nng_http_server_hold(&server, url) != 0) {
        return 1;
    }
    for (const char *const *path = arg; *path != NULL; path++) {
        nng_http_handler *handler;
        if (nng_http_handler_alloc(&handler, *path, answer_ok) != 0 ||
            nng_http_server_add_handler(server, handler) != 0) {
            return 1;
        }
    }
    if (nng_http_server_start(server) != 0 || nng_http_server_get_addr(server, &addr) != 0) {
        return 1;
    }
    uint16_t port = ntohs(addr.s_in.sa_port);
    char byte;
    if (write(fd, &port, sizeof port) != sizeof port || read(fd, &byte, 1) != 0) {
        return 1;
    }
    return 0;
}

// The status code of the answer to GET path, 0 when there was none.
static int http_get(uint16_t port, const char *path)
{
    char text[512];
    int fd = connect_to_port(port);
    set_deadline(fd);
    int len =
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    cr_assert_lt(len, (int)sizeof text);
    cr_assert_eq((int)send(fd, text, (size_t)len, MSG_NOSIGNAL), len);
    const size_t head = sizeof "HTTP/1.1 200" - 1;
    ssize_t got = recv(fd, text, head, MSG_WAITALL);
    close(fd);
    text[head] = '\0';
    return got == (ssize_t)head ? (int)strtol(text + head - 3, NULL, 10) : 0;
}

Test(nng_fixes, percent_escapes_are_decoded_once_and_within_the_path)
{
    static const char *const known[] = {"/", "/A", "/aAb", "/aAAb", "/a%4", "/a%zz", "/a b", NULL};
    static const struct {
        const char *path;
        int status;
    } cases[] = {
        {"/", 200},         {"/A", 200},     {"/%41", 200},  {"/a%41b", 200}, {"/%61%41%62", 200},
        {"/a%41%41b", 200}, {"/a%4", 200},   {"/a%zz", 200}, {"/a%20b", 200}, {"/%41%41", 404},
        {"/a%41", 404},     {"/%2541", 404}, {"/%42", 404},
    };
    struct child server = child_start(serve_http, known);
    uint16_t port = 0;
    cr_assert(child_says(&server, &port, sizeof port), "the server starts");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = http_get(port, cases[i].path);
        cr_expect_eq(status, cases[i].status, "GET %s", cases[i].path);
        if (status == 0) {
            break; // the server is gone
        }
    }
    // Each length puts the end of the path at another place in its heap block.
    for (int len = 1; len <= 128; len++) {
        char path[160];
        cr_assert_lt(snprintf(path, sizeof path, "/%0*d%%41", len, 0), (int)sizeof path);
        cr_assert_eq(http_get(port, path), 404, "GET %s", path);
    }
    cr_assert_eq(child_end(&server), 0, "the server is alive until it is told to end");
}

// ---- A peer that connects and leaves ----

// Ends a connection so that the other side's first write fails with EPIPE: over TCP this takes a reset after
// the FIN.
static void hang_up(int fd)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(fd);
}

// A request socket of its own asks, the reply socket answers.
static void round_trip(nng_socket rep, const char *url)
{
    nng_socket req;
    nng_msg *msg;
    cr_assert_eq(nng_req0_open(&req), 0);
    cr_assert_eq(nng_socket_set_ms(req, NNG_OPT_RECVTIMEO, DEADLINE_MS), 0);
    cr_assert_eq(nng_socket_set_ms(req, NNG_OPT_SENDTIMEO, DEADLINE_MS), 0);
    cr_assert_eq(nng_dial(req, url, NULL, NNG_FLAG_NONBLOCK), 0);
    cr_assert_eq(nng_msg_alloc(&msg, 0), 0);
    cr_assert_eq(nng_sendmsg(req, msg, 0), 0, "a request to %s is sent", url);
    cr_assert_eq(nng_recvmsg(rep, &msg, 0), 0, "a request to %s arrives", url);
    cr_assert_eq(nng_sendmsg(rep, msg, 0), 0);
    cr_assert_eq(nng_recvmsg(req, &msg, 0), 0, "an answer of %s arrives", url);
    nng_msg_free(msg);
    nng_close(req);
}

static nng_socket listening(const char *url, nng_listener *listener)
{
    nng_socket rep;
    cr_assert_eq(nng_rep0_open(&rep), 0);
    cr_assert_eq(nng_socket_set_ms(rep, NNG_OPT_RECVTIMEO, DEADLINE_MS), 0);
    cr_assert_eq(nng_listen(rep, url, listener, 0), 0);
    return rep;
}

enum { HANG_UPS = 20 };

Test(nng_fixes, a_peer_that_hangs_up_early_does_not_end_an_ipc_listener)
{
    struct place place;
    nng_listener listener;
    place_make(&place);
    nng_socket rep = listening(place.url, &listener);
    for (int i = 0; i < HANG_UPS; i++) {
        hang_up(raw_connect(place.path));
        round_trip(rep, place.url);
    }
    nng_close(rep);
    place_remove(&place);
}

Test(nng_fixes, a_peer_that_hangs_up_early_does_not_end_a_tcp_listener)
{
    char url[64];
    nng_listener listener;
    nng_sockaddr addr;
    nng_socket rep = listening("tcp://127.0.0.1:0", &listener);
    cr_assert_eq(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &addr), 0);
    uint16_t port = ntohs(addr.s_in.sa_port);
    cr_assert_lt(snprintf(url, sizeof url, "tcp://127.0.0.1:%u", port), (int)sizeof url);
    for (int i = 0; i < HANG_UPS; i++) {
        hang_up(connect_to_port(port));
        round_trip(rep, url);
    }
    nng_close(rep);
}

// ---- A peer that dies with requests in flight ----

enum { KILLS = 60, IN_FLIGHT = 64, ANSWERS_BEFORE_KILL = 256 };

enum role { ROLE_ASK, ROLE_ANSWER };

struct worker {
    struct traffic *traffic;
    nng_ctx ctx;
    nng_aio *aio;
    bool sending;
};

// One process's side of a stream of requests. `turns` counts messages that arrived; `fd` is told when there
// are enough of them for the peer to be in the midst of its work.
struct traffic {
    enum role role;
    int fd;
    atomic_int turns;
    struct worker workers[IN_FLIGHT];
};

static void worker_send(struct worker *worker, nng_msg *msg)
{
    worker->sending = true;
    nng_aio_set_msg(worker->aio, msg);
    nng_ctx_send(worker->ctx, worker->aio);
}

static void worker_receive(struct worker *worker)
{
    worker->sending = false;
    nng_ctx_recv(worker->ctx, worker->aio);
}

static void worker_start(struct worker *worker)
{
    nng_msg *msg;
    if (worker->traffic->role == ROLE_ANSWER) {
        worker_receive(worker);
    } else if (nng_msg_alloc(&msg, 0) == 0) {
        worker_send(worker, msg);
    }
}

static void worker_turn(void *arg)
{
    struct worker *worker = arg;
    struct traffic *traffic = worker->traffic;
    int rv = nng_aio_result(worker->aio);
    if (rv != 0 && worker->sending) {
        nng_msg_free(nng_aio_get_msg(worker->aio));
    }
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED) {
        return;
    }
    if (rv != 0) {
        worker_start(worker);
    } else if (worker->sending) {
        worker_receive(worker);
    } else {
        if (atomic_fetch_add(&traffic->turns, 1) + 1 == ANSWERS_BEFORE_KILL) {
            (void)!write(traffic->fd, "", 1);
        }
        worker_send(worker, nng_aio_get_msg(worker->aio));
    }
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return -1;
    }
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

static int traffic_open(enum role role, const char *url, nng_socket *sock)
{
    if (role == ROLE_ANSWER) {
        int rv = nng_rep0_open(sock);
        return rv != 0 ? rv : nng_listen(*sock, url, NULL, 0);
    }
    int rv = nng_req0_open(sock);
    // A request that is lost with its peer fails at once, and the next peer is found soon.
    if (rv != 0 || (rv = nng_socket_set_ms(*sock, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0 ||
        (rv = nng_socket_set_ms(*sock, NNG_OPT_RECONNMINT, 10)) != 0) {
        return rv;
    }
    return nng_dial(*sock, url, NULL, NNG_FLAG_NONBLOCK);
}

// Takes part in the traffic until fd says to end. Returns 0 when NNG closed and left no descriptor behind.
static int take_part(enum role role, int fd, const char *url)
{
    struct traffic traffic = {.role = role, .fd = fd};
    nng_socket sock;
    char byte;
    int before = count_descriptors();
    if (traffic_open(role, url, &sock) != 0) {
        return 1;
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        struct worker *worker = &traffic.workers[i];
        worker->traffic = &traffic;
        if (nng_ctx_open(&worker->ctx, sock) != 0 || nng_aio_alloc(&worker->aio, worker_turn, worker) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        worker_start(&traffic.workers[i]);
    }
    if (read(fd, &byte, 1) != 0) {
        return 1;
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        nng_aio_stop(traffic.workers[i].aio);
    }
    nng_close(sock);
    for (int i = 0; i < IN_FLIGHT; i++) {
        nng_aio_free(traffic.workers[i].aio);
    }
    nng_fini();
    return count_descriptors() == before ? 0 : 2;
}

static int ask(int fd, const void *url)
{
    return take_part(ROLE_ASK, fd, url);
}

static int answer(int fd, const void *url)
{
    return take_part(ROLE_ANSWER, fd, url);
}

// A child that takes part in the traffic and is in the midst of it.
static struct child peer_at_work(int (*body)(int, const void *), const char *url)
{
    char byte;
    struct child peer = child_start(body, url);
    cr_assert(child_says(&peer, &byte, 1), "a peer gets to work");
    return peer;
}

// Whoever lived through the end of its peers must be able to end.
static void expect_clean_end(const struct child *survivor)
{
    char byte;
    // What the survivor said about its own turns is not waited for.
    while (recv(survivor->fd, &byte, 1, MSG_DONTWAIT) == 1) {
    }
    int status = child_end(survivor);
    cr_assert_eq(status, 0, "nng_close returns, and leaves no descriptor (status %d)", status);
}

// One side goes on while the other is killed again and again.
static void kill_peers_of(int (*survivor_body)(int, const void *), int (*victim_body)(int, const void *))
{
    struct place place;
    place_make(&place);
    struct child survivor = child_start(survivor_body, place.url);
    for (int i = 0; i < KILLS; i++) {
        struct child victim = peer_at_work(victim_body, place.url);
        child_kill(&victim);
    }
    expect_clean_end(&survivor);
    place_remove(&place);
}

Test(nng_fixes, a_killed_client_leaves_nothing_behind)
{
    kill_peers_of(answer, ask);
}

Test(nng_fixes, a_killed_server_leaves_nothing_behind)
{
    kill_peers_of(ask, answer);
}

// ---- A peer that is sending when a reply to it fails ----

enum { DEAF_PEERS = 3000, DEAF_REQUESTS = 8, DEAF_BODY = 64 };

// Asks without hearing: the first reply fails, and ends the connection while requests come in, each in two
// pieces.
static void ask_deaf(const char *path)
{
    static const unsigned char head[9] = {1, [8] = DEAF_BODY};
    static const unsigned char body[DEAF_BODY] = {0x80};
    int fd = raw_connect(path);
    set_deadline(fd);
    raw_say_hello(fd);
    cr_assert_eq(shutdown(fd, SHUT_RD), 0);
    for (int i = 0; i < DEAF_REQUESTS; i++) {
        if (send(fd, head, sizeof head, MSG_NOSIGNAL) < 0 || send(fd, body, sizeof body, MSG_NOSIGNAL) < 0) {
            break;
        }
    }
    close(fd);
}

static void expect_answers(const char *url)
{
    struct child client = peer_at_work(ask, url);
    cr_assert_eq(child_end(&client), 0);
}

Test(nng_fixes, a_peer_that_takes_no_reply_leaves_nothing_behind)
{
    struct place place;
    place_make(&place);
    struct child survivor = child_start(answer, place.url);
    expect_answers(place.url);
    for (int i = 0; i < DEAF_PEERS; i++) {
        ask_deaf(place.path);
    }
    expect_answers(place.url); // the last of them is not still being greeted
    expect_clean_end(&survivor);
    place_remove(&place);
}
