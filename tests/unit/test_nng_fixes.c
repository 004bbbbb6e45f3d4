// The patches of packaging/nng: each test here fails on an NNG 1.5.2 without them.
#include "tests/unit/nng_fixture.h"

#include <nng/supplemental/http/http.h>

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

Test(nng_fixes, a_peer_that_hangs_up_early_does_not_end_an_ipc_listener)
{
    struct place place;
    place_make(&place);
    nng_socket rep = listening(&place);
    for (int i = 0; i < HANG_UPS; i++) {
        hang_up(raw_connect(place.path));
        round_trip(rep, &place);
    }
    nng_close(rep);
    place_remove(&place);
}

Test(nng_fixes, a_peer_that_hangs_up_early_does_not_end_a_tcp_listener)
{
    struct place place = {.port = free_port()};
    cr_assert_lt(snprintf(place.url, sizeof place.url, "tcp://127.0.0.1:%u", place.port),
                 (int)sizeof place.url);
    nng_socket rep = listening(&place);
    for (int i = 0; i < HANG_UPS; i++) {
        hang_up(connect_to_port(place.port));
        round_trip(rep, &place);
    }
    nng_close(rep);
}

// ---- A peer that dies with requests in flight ----

Test(nng_fixes, a_killed_client_leaves_nothing_behind)
{
    kill_peers_of(answer, ask, place_make);
}

Test(nng_fixes, a_killed_server_leaves_nothing_behind)
{
    kill_peers_of(ask, answer, place_make);
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

static void expect_answers(const struct place *place)
{
    struct child client = peer_at_work(ask, place);
    cr_assert_eq(child_end(&client), 0);
}

Test(nng_fixes, a_peer_that_takes_no_reply_leaves_nothing_behind)
{
    struct place place;
    place_make(&place);
    struct child survivor = child_start(answer, &place);
    expect_answers(&place);
    for (int i = 0; i < DEAF_PEERS; i++) {
        ask_deaf(place.path);
    }
    expect_answers(&place); // the last of them is not still being greeted
    expect_clean_end(&survivor);
    place_remove(&place);
}
