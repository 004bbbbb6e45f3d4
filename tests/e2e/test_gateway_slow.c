// Clients that are slow, silent, too many, or gone: the gateway ends what takes too long and keeps nothing of
// it, and others are served meanwhile.
#include "gw_fixture.h"

#include "common/clock.h"
#include "tests/support/wait.h"

#include <netinet/tcp.h>

TestSuite(gateway_slow, .timeout = 60);

#define GET "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST "POST /ingest HTTP/1.1\r\nHost: h\r\n"
#define LENGTH_100K "Content-Length: 100000\r\n\r\n"

// One that is served, on a connection of its own.
static void expect_service(const struct gw *gw)
{
    int fd = gw_connect(gw);
    gw_get(fd, "/healthz");
    gw_expect(fd, 200, "ok");
    close(fd);
}

static bool has_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    cr_assert_leq(n, 0, "there is an answer");
    return n == 0 || errno != EAGAIN;
}

static void connect_some(const struct gw *gw, int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fds[i] = gw_connect(gw);
        gw_get(fds[i], "/healthz");
        gw_expect(fds[i], 200, "ok");
    }
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

// ---- Deadlines ----

#define IDLE_MS 600
#define TRANSFER_MS 300
#define TIMEOUT_MS 200
#define FIRST_MS (2 * TRANSFER_MS + TIMEOUT_MS)

// What a client says at first, and then says again and again, a byte each time; NULL: nothing more.
static const struct slow {
    const char *name;
    const char *start;
    int answers;      // to that
    const char *drip; // after it, its last byte for ever
    int64_t least_ms; // it must be given, from its last answer or from its start
} slows[] = {
    {"says nothing", "", 0, NULL, FIRST_MS},
    {"stops in its first header", "GET /healthz HTTP/1.1\r\nHo", 0, NULL, FIRST_MS},
    {"trickles its first header", "GET /healthz HTTP/1.1\r\nHost: h\r\nX: ", 0, "y", FIRST_MS},
    {"is idle", GET, 1, NULL, IDLE_MS},
    {"stops in a later header", GET "GET /healthz HTTP/1.1\r\nHo", 1, NULL, IDLE_MS},
    {"trickles a later header", GET "GET /healthz HTTP/1.1\r\nX: ", 1, "y", IDLE_MS},
    {"stops in its first body", POST LENGTH_100K "{", 0, NULL, TRANSFER_MS},
    {"trickles its first body", POST LENGTH_100K "{", 0, " ", TRANSFER_MS},
    {"trickles a later body", GET POST LENGTH_100K "{", 1, " ", TRANSFER_MS},
    {"sends no body though told to", POST "Expect: 100-continue\r\n" LENGTH_100K, 1, NULL, TRANSFER_MS},
    {"stops in a body that was refused", POST "Content-Type: a/b\r\n" LENGTH_100K, 1, NULL, 0},
    {"trickles a body that was refused", POST "Content-Type: a/b\r\n" LENGTH_100K, 1, " ", 0},
};

// Without a deadline for the whole, those that trickle would live for ever.
Test(gateway_slow, what_takes_too_long_is_cut_off)
{
    struct gw gw =
        gw_start_limited(LIST("--idle-timeout", "600ms", "--transfer-timeout", "300ms", "--timeout", "200ms"),
                         FILES_AS_THEY_ARE);
    size_t open_files = process_files(gw.pid);
    int fds[COUNT(slows)];
    struct mono start[COUNT(slows)];
    for (size_t i = 0; i < COUNT(slows); i++) {
        fds[i] = gw_connect(&gw);
        start[i] = mono_now();
        gw_say(fds[i], slows[i].start);
        for (int n = 0; n < slows[i].answers; n++) {
            start[i] = mono_now(); // before the answer, which is before the deadline begins
            struct answer_seen seen = gw_read(fds[i], WITH_BODY);
            gw_seen_fini(&seen);
        }
    }
    struct mono end = mono_add(mono_now(), WAIT_MS * NS_PER_MS);
    for (size_t left = COUNT(slows); left > 0; wait_ms(20)) {
        cr_assert(mono_before(mono_now(), end), "%zu are still there", left);
        expect_service(&gw);
        for (size_t i = 0; i < COUNT(slows); i++) {
            if (fds[i] < 0)
                continue;
            if (has_ended(fds[i])) {
                int64_t ms = mono_diff(mono_now(), start[i]) / NS_PER_MS;
                cr_expect_geq(ms, slows[i].least_ms, "who %s has only %ld ms", slows[i].name, (long)ms);
                close(fds[i]);
                fds[i] = -1;
                left--;
            } else if (slows[i].drip) {
                (void)!send(fds[i], slows[i].drip, 1, MSG_NOSIGNAL);
            }
        }
    }
    WAIT_FOR(process_files(gw.pid) <= open_files);
    gw_stop(&gw);
}

// Each at about the moment at which it would have been cut off: whoever is second must find nothing freed.
Test(gateway_slow, clients_that_leave_at_the_deadline)
{
    enum { ROUNDS = 16, CLIENTS = 60, DEADLINE_MS = 50 };
    struct gw gw = gw_start("--idle-timeout", "50ms");
    size_t open_files = process_files(gw.pid);
    for (int round = 0; round < ROUNDS; round++) {
        int fds[CLIENTS];
        struct mono start = mono_now();
        for (size_t i = 0; i < CLIENTS; i++) {
            fds[i] = gw_connect(&gw);
            gw_get(fds[i], "/healthz");
            gw_expect(fds[i], 200, "ok");
        }
        int64_t spent = mono_diff(mono_now(), start) / NS_PER_MS;
        wait_ms(spent < DEADLINE_MS ? DEADLINE_MS - spent + round % 3 : 0);
        for (size_t i = 0; i < CLIENTS; i++) {
            close(fds[i]);
            wait_ms(round % 2);
        }
    }
    expect_service(&gw);
    WAIT_FOR(process_files(gw.pid) <= open_files);
    gw_stop(&gw);
}

// Its answers do not fit into what the kernel holds for it: the gateway is stuck in writing one, and gives
// up.
Test(gateway_slow, who_does_not_read_is_cut_off)
{
    enum { ANSWERS = 100, LENGTH = 120 << 10 };
    struct gw gw = gw_start("--transfer-timeout", "300ms");
    struct buf line;
    nng_msg *msg;
    size_t answered = 0;
    buf_init(&line);
    buf_printf(&line, "{\"ok\":true,\"x\":\"%0*d\"}\n", LENGTH, 0);
    gw_peer_open(&gw);
    size_t open_files = process_files(gw.pid);
    int fd = gw_connect(&gw);
    for (size_t i = 0; i < ANSWERS; i++)
        gw_get(fd, "/queues");
    cr_assert_eq(nng_socket_set_ms(gw.peer, NNG_OPT_RECVTIMEO, 200), 0);
    struct mono end = mono_add(mono_now(), WAIT_MS * NS_PER_MS);
    // The scheduler answers whatever comes, until the connection is gone.
    do {
        cr_assert(mono_before(mono_now(), end), "it is still there");
        if (nng_recvmsg(gw.peer, &msg, 0) == 0) {
            gw_answer(&gw, msg, line.data);
            answered++;
        }
        expect_service(&gw);
        for (int i = 0; i < 20 && process_files(gw.pid) > open_files; i++) // that one goes, too
            wait_ms(5);
    } while (process_files(gw.pid) > open_files);
    cr_expect_lt(answered, (size_t)ANSWERS, "all of it fitted");
    close(fd);
    buf_fini(&line);
    cr_assert_eq(nng_close(gw.peer), 0);
    gw_stop(&gw);
}

// ---- Too many ----

enum {
    FILES = 256,
    CONNECTIONS = FILES - 64,
    OLDEST = 30,
    NEWEST = 60
}; // see reaper_start() of gateway/main.c

static size_t count_ended(int *fds, size_t count)
{
    size_t ended = 0;
    for (size_t i = 0; i < count; i++)
        ended += has_ended(fds[i]);
    return ended;
}

// Above the cap those go that have been idle for the longest, and no other.
Test(gateway_slow, the_longest_idle_make_room)
{
    enum { REST = CONNECTIONS - NEWEST };
    struct gw gw = gw_start_limited(LIST(NULL), FILES);
    int oldest[OLDEST], rest[REST], newest[NEWEST];
    connect_some(&gw, oldest, OLDEST);
    wait_ms(100); // so that they are older by more than the kernel's clock ticks
    connect_some(&gw, rest, REST);
    wait_ms(100);
    connect_some(&gw, newest, NEWEST);
    WAIT_FOR(count_ended(oldest, OLDEST) == OLDEST);
    gw_log_wait(&gw, "reaped");
    for (int i = 0; i < 2; i++) { // and not one more
        cr_expect_eq(count_ended(rest, REST), 0);
        cr_expect_eq(count_ended(newest, NEWEST), 0);
        wait_ms(i == 0 ? 1100 : 0);
    }
    for (size_t i = 0; i < REST; i++) {
        gw_get(rest[i], "/healthz");
        gw_expect(rest[i], 200, "ok");
    }
    close_all(oldest, OLDEST);
    close_all(rest, REST);
    close_all(newest, NEWEST);
    gw_stop(&gw);
}

// Asks for a place in the queue of those that are not accepted yet; may have to wait for it.
static int connect_later(const struct gw *gw)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(gw->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert(fd >= 0);
    cr_assert(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS);
    return fd;
}

// More clients than descriptors: whoever is served already still is, the scheduler is still reached, and a
// newcomer has its turn. (Where more clients come than the kernel keeps for the gateway, it may have a
// connection whose client it takes long to hear is gone: the gateway ends it at its deadline.)
Test(gateway_slow, descriptors_run_out)
{
    enum { MANY = 2 * FILES };
    struct gw gw = gw_start_limited(LIST("--timeout", "10s", "--transfer-timeout", "3s"), FILES);
    int many[MANY];
    gw_peer_open(&gw);
    size_t open_files = process_files(gw.pid);
    int known = gw_connect(&gw);
    gw_get(known, "/healthz");
    gw_expect(known, 200, "ok");
    for (size_t i = 0; i < MANY; i++)
        many[i] = connect_later(&gw);
    for (int i = 0; i < 20; i++) {
        gw_post(known, "", GOOD_BODY);
        cr_assert_eq(gw_accept(&gw, gw_take(&gw)), 1);
        gw_expect(known, 200, "ingestion_id");
        wait_ms(50);
    }
    expect_service(&gw);
    close_all(many, MANY);
    close(known);
    WAIT_FOR(process_files(gw.pid) <= open_files);
    expect_service(&gw);
    cr_assert_eq(nng_close(gw.peer), 0);
    gw_stop(&gw);
}
