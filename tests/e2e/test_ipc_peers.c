// Clients of the scheduler's socket that are broken, hostile or gone: the daemon lives, and another client is
// answered while they are there.
#include "tests/support/raw_ipc.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(ipc_peers, .fini = sluice_cleanup, .timeout = 120);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ID "0190163d-8694-739b-aea5-966c26f8ad91"
#define PING "{\"op\":\"ping\"}"
#define INGEST "{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"LOW\"}"
#define MESSAGE_MAX_SIZE (16u << 20)

// ---- The scheduler, and a client that means well ----

struct place {
    struct sluice *sluice;
    nng_socket witness;
    size_t open_files; // of the scheduler, with the witness connected
};

static void ask_for(nng_socket socket, const char *line, const char *expected)
{
    nng_msg *reply;
    cr_assert_eq(nng_send(socket, (void *)(uintptr_t)line, strlen(line), 0), 0);
    cr_assert_eq(nng_recvmsg(socket, &reply, 0), 0, "no reply to %s", line);
    cr_assert_not_null(memmem(nng_msg_body(reply), nng_msg_len(reply), expected, strlen(expected)),
                       "%s -> %.*s", line, (int)nng_msg_len(reply), (const char *)nng_msg_body(reply));
    nng_msg_free(reply);
}

static void expect_service(const struct place *place)
{
    ask_for(place->witness, PING, "\"protocol\":1");
    ask_for(place->witness, INGEST, "\"replayed\":false");
}

static nng_socket dial(const struct sluice *sluice)
{
    nng_socket socket;
    cr_assert_eq(nng_req0_open(&socket), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, WAIT_S * 1000), 0);
    cr_assert_eq(nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, WAIT_S * 1000), 0);
    cr_assert_eq(nng_dial(socket, sluice->ipc, NULL, 0), 0);
    return socket;
}

static struct place place_open(void)
{
    struct place place = {
        .sluice = sluice_new(LIST("--rate", "1/1h", "--batch-size", "1", "--target", "simulate:0s"), NULL)};
    sluice_launch(place.sluice, SCHEDULER);
    place.witness = dial(place.sluice);
    expect_service(&place);
    place.open_files = process_files(place.sluice->part[SCHEDULER].pid);
    return place;
}

// All the others are gone: nothing of them is left.
static void place_close(struct place *place)
{
    expect_service(place);
    // The scheduler asks itself now and then, over a connection of its own with two ends.
    WAIT_FOR(process_files(place->sluice->part[SCHEDULER].pid) <= place->open_files);
    cr_assert_eq(nng_close(place->witness), 0);
    sluice_end(place->sluice);
}

static int greet(const struct place *place)
{
    return raw_greet(place->sluice->socket);
}

static void send_all(int fd, const void *data, size_t len)
{
    for (const char *at = data; len > 0;) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        cr_assert(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

// It was cut off, and got nothing.
static void expect_end(int fd)
{
    char byte;
    cr_expect_leq(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

static void put_length(unsigned char *at, uint64_t length)
{
    put_u32(at, (uint32_t)(length >> 32));
    put_u32(at + 4, (uint32_t)length);
}

// ---- Who may ----

Test(ipc_peers, the_socket_is_for_owner_and_group)
{
    mode_t before = umask(0);
    struct place place = place_open();
    umask(before);
    char *dir = strdup(place.sluice->socket);
    struct stat st;
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(stat(dir, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0750, "%o", st.st_mode);
    cr_assert_eq(stat(place.sluice->socket, &st), 0);
    cr_expect(S_ISSOCK(st.st_mode));
    cr_expect_eq(st.st_mode & 07777, 0660, "%o", st.st_mode);
    free(dir);
    place_close(&place);
}

// ---- What they say ----

Test(ipc_peers, no_greeting_or_another)
{
    static const struct {
        const char *bytes;
        size_t len;
    } greetings[] = {
        {"", 0},
        {"\0", 1},
        {"\0SP\0\0\x30\0", 7},   // a byte is missing
        {"\0SP\1\0\x30\0\0", 8}, // another version
        {"\0SP\0\0\x20\0\0", 8}, // a publisher
        {"\0SP\0\0\x31\0\0", 8}, // a replier
        {"\0SP\0\0\x30\0\1", 8},
        {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
        {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27},
        {"{\"op\":\"ping\"}\n{\"op\":\"ping\"}\n", 28},
    };
    enum { EACH = 30 };
    struct place place = place_open();
    int fds[COUNT(greetings) * EACH];
    for (size_t i = 0; i < COUNT(fds); i++) {
        fds[i] = raw_connect(place.sluice->socket);
        (void)!send(fds[i], greetings[i / EACH].bytes, greetings[i / EACH].len, MSG_NOSIGNAL);
    }
    expect_service(&place); // with the silent and the half-hearted still there
    int fd = greet(&place); // and newcomers, too
    raw_ask(fd, 1, PING);
    char *reply = raw_reply(fd, 1);
    cr_expect(strstr(reply, "\"ok\":true") != NULL, "%s", reply);
    free(reply);
    close(fd);
    for (size_t i = 0; i < COUNT(fds); i++)
        close(fds[i]);
    place_close(&place);
}

// By what a frame announces, before any of it has come; and a message that is as long as it may be.
Test(ipc_peers, lengths)
{
    static const uint64_t too_long[] = {MESSAGE_MAX_SIZE + 5, 17u << 20,  UINT32_MAX,
                                        1ull << 32,           1ull << 63, UINT64_MAX};
    struct place place = place_open();
    for (size_t i = 0; i < COUNT(too_long); i++) {
        unsigned char frame[9] = {1};
        int fd = greet(&place);
        put_length(frame + 1, too_long[i]);
        send_all(fd, frame, sizeof(frame));
        expect_service(&place);
        expect_end(fd);
    }
    unsigned char head[13] = {1};
    char *message = malloc(MESSAGE_MAX_SIZE);
    cr_assert_not_null(message);
    memset(message, ' ', MESSAGE_MAX_SIZE);
    put_length(head + 1, MESSAGE_MAX_SIZE);
    put_u32(head + 9, 7 | 0x80000000u);
    int fd = greet(&place);
    send_all(fd, head, sizeof(head));
    send_all(fd, message, MESSAGE_MAX_SIZE / 2);
    expect_service(&place); // in the midst of it
    send_all(fd, message, MESSAGE_MAX_SIZE - 4 - MESSAGE_MAX_SIZE / 2);
    char *reply = raw_reply(fd, 7);
    cr_expect(strstr(reply, "malformed_json") != NULL, "%s", reply);
    free(reply);
    free(message);
    close(fd);
    place_close(&place);
}

// A frame that is no message, or whose message has no request's number in front, or too many.
Test(ipc_peers, malformed_frames)
{
    struct place place = place_open();
    unsigned char hops[9 + 256 * 4] = {1};
    put_length(hops + 1, sizeof(hops) - 9);
    const struct {
        const void *bytes;
        size_t len;
    } frames[] = {
        {"\0\0\0\0\0\0\0\0\4\x80\0\0\1", 13},  // of no kind
        {"\2\0\0\0\0\0\0\0\4\x80\0\0\1", 13},  // of another kind
        {"\1\0\0\0\0\0\0\0\0", 9},             // empty
        {"\1\0\0\0\0\0\0\0\3\x80\0\0", 12},    // half a number
        {"\1\0\0\0\0\0\0\0\4\0\0\0\1", 13},    // a number that is not the last, and no other
        {hops, sizeof(hops)},                  // more than there may be
        {"\1\0\0\0\0\0\0\0\x40\x80\0\0\1", 13} // and no more of it
    };
    for (size_t i = 0; i < COUNT(frames); i++) {
        int fd = greet(&place);
        send_all(fd, frames[i].bytes, frames[i].len);
        expect_service(&place);
        close(fd);
    }
    place_close(&place);
}

Test(ipc_peers, malformed_lines)
{
    static const char *const lines[] = {"",        "\n",   "\n\n\n", "x",      "{}",          "[]",
                                        "{\"op\"", "\xff", "null",   "{}{}\n", "{\"op\":{}}", "\x01\x02"};
    struct place place = place_open();
    int fd = greet(&place);
    for (uint32_t i = 0; i < COUNT(lines); i++) {
        raw_ask(fd, i, lines[i]);
        char *reply = raw_reply(fd, i);
        cr_expect(strncmp(reply, "{\"error\":", 9) == 0, "%s -> %s", lines[i], reply);
        free(reply);
        expect_service(&place);
    }
    close(fd);
    place_close(&place);
}

// ---- How they behave ----

// Its replies do not fit into the socket, and are more than the scheduler holds at a time: for the 5 seconds
// after which it is cut off at the latest, nobody else's request could be read. That others wait for less is
// seen in the best of a few rounds, since a busy machine may be slow in one.
Test(ipc_peers, a_client_that_never_reads)
{
    enum { REQUESTS = 200, IDS = 250, ROUNDS = 3 };
    int64_t shortest = INT64_MAX;
    struct place place = place_open();
    char *ids = ingest_body("LOW", UINT64_C(1000000000000000), IDS), *line;
    cr_assert(asprintf(&line, "{\"op\":\"ingest\",\"id\":\"" ID "\",%s", ids + 1) > 0);
    ask_for(place.witness, line, ID);
    for (int round = 0; round < ROUNDS; round++) {
        int fd = greet(&place);
        for (uint32_t i = 0; i < REQUESTS; i++)
            raw_ask(fd, i, "{\"op\":\"status\",\"id\":\"" ID "\",\"limit\":250}");
        struct mono asked = mono_now();
        for (int i = 0; i < 3; i++)
            expect_service(&place);
        int64_t waited = mono_diff(mono_now(), asked);
        shortest = waited < shortest ? waited : shortest;
        close(fd);
    }
    cr_expect_lt(shortest, 4 * NS_PER_S, "never less than %.1f s", (double)shortest / NS_PER_S);
    free(line);
    free(ids);
    place_close(&place);
}

Test(ipc_peers, a_hundred_clients)
{
    enum { CLIENTS = 100, EACH = 20 };
    struct place place = place_open();
    int fds[CLIENTS];
    for (size_t i = 0; i < CLIENTS; i++)
        fds[i] = greet(&place);
    for (uint32_t n = 0; n < EACH; n++) {
        for (size_t i = 0; i < CLIENTS; i++)
            raw_ask(fds[i], n, n % 2 ? PING : INGEST);
    }
    expect_service(&place);
    // The replies to one client's requests may come in another order: they bear the request's number.
    for (size_t i = 0; i < CLIENTS; i++) {
        for (uint32_t n = 0; n < EACH; n++) {
            unsigned char head[13];
            char text[256];
            cr_assert_eq(recv(fds[i], head, sizeof(head), MSG_WAITALL), (ssize_t)sizeof(head));
            size_t len = (size_t)head[7] << 8 | head[8];
            cr_assert_lt(len, sizeof(text));
            cr_assert_eq(recv(fds[i], text, len - 4, MSG_WAITALL), (ssize_t)(len - 4));
            text[len - 4] = '\0';
            cr_assert(strstr(text, head[12] % 2 ? "\"protocol\":1" : "\"replayed\":false"), "%s", text);
        }
        close(fds[i]);
    }
    place_close(&place);
}

// Some before their request is whole, some before it is read, some before it is answered.
Test(ipc_peers, clients_that_die_in_the_midst)
{
    enum { DEATHS = 400 };
    struct place place = place_open();
    for (uint32_t i = 0; i < DEATHS; i++) {
        int fd = greet(&place);
        if (i % 4 == 0) {
            send_all(fd, "\1\0\0\0\0\0\0\0\x40\x80\0\0\1{\"op\":", 19);
        } else {
            for (uint32_t n = 0; n < i % 4; n++)
                raw_ask(fd, n, INGEST);
        }
        close(fd);
        if (i % 20 == 0)
            expect_service(&place);
    }
    place_close(&place);
}

Test(ipc_peers, a_thousand_that_come_and_go)
{
    enum { COMING = 1000, THERE = 50 };
    struct place place = place_open();
    int fds[THERE];
    for (size_t i = 0; i < COMING + THERE; i++) {
        if (i >= THERE)
            close(fds[i % THERE]);
        if (i < COMING)
            fds[i % THERE] = i % 2 ? greet(&place) : raw_connect(place.sluice->socket);
        if (i % 50 == 0)
            expect_service(&place);
    }
    place_close(&place);
}
