// nng_fixture.h - for the tests of packaging/nng's patches: peers of a socket that live and die, over a Unix
// socket, TCP or TLS.
//
// A process must not fork once it has called NNG, so the sides that are killed, or that a defect could bring
// down, are children forked beforehand, and the test talks to them over a socket pair.
#ifndef SLUICE_TESTS_NNG_FIXTURE_H
#define SLUICE_TESTS_NNG_FIXTURE_H

#include "tests/support/pki.h"
#include "tests/support/raw_ipc.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>
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

static inline void set_deadline(int fd)
{
    const struct timeval limit = {.tv_sec = DEADLINE_S};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
}

// Runs body in a child, which ends with what body returns. `arg` and its end of a socket pair are handed to
// it.
static inline struct child child_start(int (*body)(int fd, const void *arg), const void *arg)
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
static inline bool child_says(const struct child *child, void *buf, size_t len)
{
    return recv(child->fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

// Tells the child that its work is done (its end of the pair reads end of file) and gives the status of
// waitpid(2), or -1 when it has not ended by the deadline, in which case it is killed.
static inline int child_end(const struct child *child)
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

static inline void child_kill(const struct child *child)
{
    kill(child->pid, SIGKILL);
    waitpid(child->pid, NULL, 0);
    close(child->fd);
}

static inline int connect_to_port(uint16_t port)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

// A directory of its own for a socket, or for the certificate of one.
struct place {
    char dir[sizeof "/tmp/nng_fixes_XXXXXX"];
    char url[64];
    const char *path;  // of the socket, in url
    uint16_t port;     // with tls
    char identity[64]; // the file of its certificate and key; "" without tls
};

static inline void place_make(struct place *place)
{
    *place = (struct place){.dir = "/tmp/nng_fixes_XXXXXX", .path = place->url + sizeof "ipc://" - 1};
    cr_assert_neq(mkdtemp(place->dir), NULL);
    cr_assert_lt(snprintf(place->url, sizeof place->url, "ipc://%s/s", place->dir), (int)sizeof place->url);
}

static inline void place_make_tls(struct place *place)
{
    place_make(place);
    place->port = free_port();
    pki_authority(place->dir, "own");
    cr_assert_eq(pki_shell(place->dir, "cat own.pem own.key >identity"), 0);
    cr_assert_lt(snprintf(place->identity, sizeof place->identity, "%s/identity", place->dir),
                 (int)sizeof place->identity);
    cr_assert_lt(snprintf(place->url, sizeof place->url, "tls+tcp://127.0.0.1:%u", place->port),
                 (int)sizeof place->url);
}

static inline void place_remove(const struct place *place)
{
    if (place->identity[0] != '\0') {
        remove_tree(place->dir); // the certificates
        return;
    }
    (void)unlink(place->path);
    cr_assert_eq(rmdir(place->dir), 0); // nothing else was left there
}

static inline int listen_at(nng_socket sock, const struct place *place)
{
    nng_listener listener;
    int rv = nng_listener_create(&listener, sock, place->url);
    if (rv == 0 && place->identity[0] != '\0') {
        rv = nng_listener_set_string(listener, NNG_OPT_TLS_CERT_KEY_FILE, place->identity);
    }
    return rv != 0 ? rv : nng_listener_start(listener, 0);
}

static inline int dial_to(nng_socket sock, const struct place *place)
{
    nng_dialer dialer;
    int rv = nng_dialer_create(&dialer, sock, place->url);
    if (rv == 0 && place->identity[0] != '\0') {
        rv = nng_dialer_set_int(dialer, NNG_OPT_TLS_AUTH_MODE, NNG_TLS_AUTH_MODE_NONE);
    }
    return rv != 0 ? rv : nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
}

// ---- A peer that connects and leaves ----

// Ends a connection so that the other side's first write fails with EPIPE: over TCP this takes a reset after
// the FIN.
static inline void hang_up(int fd)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(fd);
}

// A request socket of its own asks, the reply socket answers.
static inline void round_trip(nng_socket rep, const struct place *place)
{
    const char *url = place->url;
    nng_socket req;
    nng_msg *msg;
    cr_assert_eq(nng_req0_open(&req), 0);
    cr_assert_eq(nng_socket_set_ms(req, NNG_OPT_RECVTIMEO, DEADLINE_MS), 0);
    cr_assert_eq(nng_socket_set_ms(req, NNG_OPT_SENDTIMEO, DEADLINE_MS), 0);
    cr_assert_eq(dial_to(req, place), 0);
    cr_assert_eq(nng_msg_alloc(&msg, 0), 0);
    cr_assert_eq(nng_sendmsg(req, msg, 0), 0, "a request to %s is sent", url);
    cr_assert_eq(nng_recvmsg(rep, &msg, 0), 0, "a request to %s arrives", url);
    cr_assert_eq(nng_sendmsg(rep, msg, 0), 0);
    cr_assert_eq(nng_recvmsg(req, &msg, 0), 0, "an answer of %s arrives", url);
    nng_msg_free(msg);
    nng_close(req);
}

static inline nng_socket listening(const struct place *place)
{
    nng_socket rep;
    cr_assert_eq(nng_rep0_open(&rep), 0);
    cr_assert_eq(nng_socket_set_ms(rep, NNG_OPT_RECVTIMEO, DEADLINE_MS), 0);
    cr_assert_eq(listen_at(rep, place), 0);
    return rep;
}

enum { HANG_UPS = 20 };

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

static inline void worker_send(struct worker *worker, nng_msg *msg)
{
    worker->sending = true;
    nng_aio_set_msg(worker->aio, msg);
    nng_ctx_send(worker->ctx, worker->aio);
}

static inline void worker_receive(struct worker *worker)
{
    worker->sending = false;
    nng_ctx_recv(worker->ctx, worker->aio);
}

static inline void worker_start(struct worker *worker)
{
    nng_msg *msg;
    if (worker->traffic->role == ROLE_ANSWER) {
        worker_receive(worker);
    } else if (nng_msg_alloc(&msg, 0) == 0) {
        worker_send(worker, msg);
    }
}

static inline void worker_turn(void *arg)
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

static inline int count_descriptors(void)
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

static inline int traffic_open(enum role role, const struct place *place, nng_socket *sock)
{
    if (role == ROLE_ANSWER) {
        int rv = nng_rep0_open(sock);
        return rv != 0 ? rv : listen_at(*sock, place);
    }
    int rv = nng_req0_open(sock);
    // A request that is lost with its peer fails at once, and the next peer is found soon.
    if (rv != 0 || (rv = nng_socket_set_ms(*sock, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0 ||
        (rv = nng_socket_set_ms(*sock, NNG_OPT_RECONNMINT, 10)) != 0) {
        return rv;
    }
    return dial_to(*sock, place);
}

// Takes part in the traffic until fd says to end. Returns 0 when NNG closed and left no descriptor behind.
static inline int take_part(enum role role, int fd, const struct place *place)
{
    struct traffic traffic = {.role = role, .fd = fd};
    nng_socket sock;
    char byte;
    int before = count_descriptors();
    if (traffic_open(role, place, &sock) != 0) {
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

static inline int ask(int fd, const void *place)
{
    return take_part(ROLE_ASK, fd, place);
}

static inline int answer(int fd, const void *place)
{
    return take_part(ROLE_ANSWER, fd, place);
}

// A child that takes part in the traffic and is in the midst of it.
static inline struct child peer_at_work(int (*body)(int, const void *), const struct place *place)
{
    char byte;
    struct child peer = child_start(body, place);
    cr_assert(child_says(&peer, &byte, 1), "a peer gets to work");
    return peer;
}

// Whoever lived through the end of its peers must be able to end.
static inline void expect_clean_end(const struct child *survivor)
{
    char byte;
    // What the survivor said about its own turns is not waited for.
    while (recv(survivor->fd, &byte, 1, MSG_DONTWAIT) == 1) {
    }
    int status = child_end(survivor);
    cr_assert_eq(status, 0, "nng_close returns, and leaves no descriptor (status %d)", status);
}

// One side goes on while the other is killed again and again.
static inline void kill_peers_of(int (*survivor_body)(int, const void *),
                                 int (*victim_body)(int, const void *), void (*place_maker)(struct place *))
{
    struct place place;
    place_maker(&place);
    struct child survivor = child_start(survivor_body, &place);
    for (int i = 0; i < KILLS; i++) {
        struct child victim = peer_at_work(victim_body, &place);
        child_kill(&victim);
    }
    expect_clean_end(&survivor);
    place_remove(&place);
}

#endif
