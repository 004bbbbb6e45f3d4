// The patches of packaging/nng for TLS: each test here fails on an NNG 1.5.2 without them. What they do for
// https is tried in tests/e2e/test_tls.c.
#include "tests/unit/nng_fixture.h"

#include <time.h>

Test(nng_tls, a_peer_that_hangs_up_early_does_not_end_a_tls_listener)
{
    static const char nonsense[] = "GET / HTTP/1.1\r\n\r\n";
    struct place place;
    place_make_tls(&place);
    nng_socket rep = listening(&place);
    for (int i = 0; i < HANG_UPS; i++) {
        int fd = connect_to_port(place.port);
        if (i % 2 == 0) {
            (void)send(fd, nonsense, strlen(nonsense), MSG_NOSIGNAL);
        }
        hang_up(fd);
        round_trip(rep, &place);
    }
    nng_close(rep);
    place_remove(&place);
}

Test(nng_tls, a_killed_tls_client_leaves_nothing_behind)
{
    kill_peers_of(answer, ask, place_make_tls);
}

Test(nng_tls, a_killed_tls_server_leaves_nothing_behind)
{
    kill_peers_of(ask, answer, place_make_tls);
}

// ---- A stream that is closed when all has been sent ----

enum { POURED = 256 << 10, GULP = 64 << 10, DESCRIPTORS = 64 };

// Waits for what was begun; its result.
static int outcome(nng_aio *aio)
{
    nng_aio_wait(aio);
    return nng_aio_result(aio);
}

static int listen_for_stream(const struct place *place, nng_stream_listener **listener)
{
    int rv = nng_stream_listener_alloc(listener, place->url);
    if (rv == 0) {
        rv = nng_stream_listener_set_string(*listener, NNG_OPT_TLS_CERT_KEY_FILE, place->identity);
    }
    return rv != 0 ? rv : nng_stream_listener_listen(*listener);
}

// So that the kernel holds little, and the rest is with NNG. Nobody says which descriptor a stream has.
static void narrow_all_sockets(void)
{
    const int bytes = 16384;
    for (int fd = 3; fd < DESCRIPTORS; fd++) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
}

// Sends it all to whoever comes, and closes at once.
static int pour(int fd, const void *place)
{
    static char bytes[GULP];
    nng_stream_listener *listener;
    nng_aio *aio;
    char byte;
    if (nng_aio_alloc(&aio, NULL, NULL) != 0 || listen_for_stream(place, &listener) != 0 ||
        write(fd, "", 1) != 1) {
        return 1;
    }
    nng_stream_listener_accept(listener, aio);
    if (outcome(aio) != 0) {
        return 1;
    }
    nng_stream *stream = nng_aio_get_output(aio, 0);
    narrow_all_sockets();
    for (size_t sent = 0; sent < POURED; sent += nng_aio_count(aio)) {
        nng_iov iov = {bytes, POURED - sent < GULP ? POURED - sent : GULP};
        if (nng_aio_set_iov(aio, 1, &iov) != 0) {
            return 1;
        }
        nng_stream_send(stream, aio);
        if (outcome(aio) != 0) {
            return 1;
        }
    }
    nng_stream_close(stream);
    nng_stream_free(stream);
    return read(fd, &byte, 1) == 0 ? 0 : 1;
}

static nng_stream *dial_stream(const struct place *place, nng_aio *aio)
{
    nng_stream_dialer *dialer;
    cr_assert_eq(nng_stream_dialer_alloc(&dialer, place->url), 0);
    cr_assert_eq(nng_stream_dialer_set_int(dialer, NNG_OPT_TLS_AUTH_MODE, NNG_TLS_AUTH_MODE_NONE), 0);
    nng_stream_dialer_dial(dialer, aio);
    cr_assert_eq(outcome(aio), 0);
    nng_stream_dialer_free(dialer);
    return nng_aio_get_output(aio, 0);
}

Test(nng_tls, what_was_sent_arrives_although_the_stream_is_closed)
{
    static char bytes[GULP];
    struct place place;
    char byte;
    nng_aio *aio;
    size_t got = 0;
    place_make_tls(&place);
    struct child server = child_start(pour, &place);
    cr_assert(child_says(&server, &byte, 1));
    cr_assert_eq(nng_aio_alloc(&aio, NULL, NULL), 0);
    nng_stream *stream = dial_stream(&place, aio);
    narrow_all_sockets();
    for (;;) {
        const struct timespec pause = {.tv_nsec = 1000000}; // so that the sender is always ahead
        nng_iov iov = {bytes, GULP};
        cr_assert_eq(nng_aio_set_iov(aio, 1, &iov), 0);
        nng_stream_recv(stream, aio);
        if (outcome(aio) != 0) {
            break;
        }
        got += nng_aio_count(aio);
        (void)nanosleep(&pause, NULL);
    }
    cr_expect_eq(got, (size_t)POURED, "%zu bytes of %d", got, (int)POURED);
    nng_stream_free(stream);
    nng_aio_free(aio);
    cr_assert_eq(child_end(&server), 0);
    place_remove(&place);
}
