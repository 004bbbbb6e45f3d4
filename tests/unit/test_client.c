// The client library against a peer that does what a scheduler never should.
#include "proto/client.h"

#include "common/id.h"
#include "tests/support/wait.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

static char dir[64], path[96], address[104];

static void prepare(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/sluice-client-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/s", dir);
    (void)snprintf(address, sizeof(address), "ipc://%s", path);
}

static void clean(void)
{
    (void)unlink(path);
    (void)rmdir(dir);
}

TestSuite(client, .init = prepare, .fini = clean);

static const char ping[] = "{\"op\":\"ping\"}\n";

// A peer that answers so many requests with this text, the first `lost` of them by hanging up.
struct peer {
    const char *answer;
    int lost;
    pthread_t thread;
    char seen[8][256];
    int count;
};

static void *serve(void *arg)
{
    struct peer *peer = arg;
    for (bool answered = false; !answered;) {
        nng_socket socket;
        nng_msg *msg;
        if (nng_rep0_open(&socket) != 0 || nng_listen(socket, address, NULL, 0) != 0 ||
            nng_recvmsg(socket, &msg, 0) != 0) {
            abort();
        }
        (void)snprintf(peer->seen[peer->count++], sizeof(peer->seen[0]), "%.*s", (int)nng_msg_len(msg),
                       (const char *)nng_msg_body(msg));
        if (peer->lost-- <= 0) {
            nng_msg_clear(msg);
            if (nng_msg_append(msg, peer->answer, strlen(peer->answer)) != 0 ||
                nng_sendmsg(socket, msg, 0) != 0) {
                abort();
            }
            wait_ms(100); // until it is out
            answered = true;
        } else {
            nng_msg_free(msg);
        }
        (void)nng_close(socket);
    }
    return NULL;
}

static void peer_start(struct peer *peer)
{
    cr_assert_eq(pthread_create(&peer->thread, NULL, serve, peer), 0);
}

static struct sluice_client *open_client(int timeout_ms)
{
    struct sluice_client *client;
    cr_assert_eq(sluice_open(address, timeout_ms, &client), SLUICE_OK);
    return client;
}

Test(client, a_lost_reply_is_asked_for_again)
{
    struct peer peer = {.answer = "{\"ok\":true}\n", .lost = 2};
    struct sluice_client *client = open_client(50000);
    char *reply;
    size_t len;
    peer_start(&peer);
    cr_assert_eq(sluice_request(client, ping, strlen(ping), &reply, &len), SLUICE_OK);
    cr_assert_str_eq(reply, peer.answer);
    cr_assert_eq(len, strlen(peer.answer));
    sluice_free(reply);
    pthread_join(peer.thread, NULL);
    cr_assert_eq(peer.count, 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_str_eq(peer.seen[i], ping);
    }
    sluice_close(client);
}

static void expect_protocol(const char *answer)
{
    struct peer peer = {.answer = answer};
    struct sluice_client *client = open_client(50000);
    char *reply;
    size_t len;
    peer_start(&peer);
    cr_expect_eq(sluice_request(client, ping, strlen(ping), &reply, &len), SLUICE_PROTOCOL, "%s", answer);
    cr_assert_null(reply);
    pthread_join(peer.thread, NULL);
    sluice_close(client);
}

Test(client, another_number_of_lines_is_no_reply)
{
    expect_protocol("");
    expect_protocol("{}\n{}\n");
}

Test(client, nobody_there)
{
    struct sluice_client *client = open_client(50);
    char *reply;
    size_t len;
    cr_assert_eq(sluice_request(client, ping, strlen(ping), &reply, &len), SLUICE_UNAVAILABLE);
    cr_assert_null(reply);
    sluice_close(client);
}

Test(client, somebody_who_says_nothing)
{
    struct sluice_client *client = open_client(200);
    nng_socket socket;
    char *reply;
    size_t len;
    cr_assert_eq(nng_rep0_open(&socket), 0);
    cr_assert_eq(nng_listen(socket, address, NULL, 0), 0);
    cr_assert_eq(sluice_set_timeout(client, 300), SLUICE_OK);
    cr_assert_eq(sluice_request(client, ping, strlen(ping), &reply, &len), SLUICE_UNKNOWN);
    sluice_close(client);
    nng_close(socket);
}

Test(client, arguments)
{
    struct sluice_client *client;
    char *reply;
    size_t len;
    static char many[2 * (SLUICE_LINES_MAX + 1)];
    char far[160];
    (void)snprintf(far, sizeof(far), "ipc:///%0110d", 0);
    cr_assert_eq(sluice_open("tcp://127.0.0.1:1", 1000, &client), SLUICE_INVALID);
    cr_assert_eq(sluice_open("ipc://", 1000, &client), SLUICE_INVALID);
    cr_assert_eq(sluice_open(far, 1000, &client), SLUICE_INVALID);
    cr_assert_eq(sluice_open(address, 0, &client), SLUICE_INVALID);
    cr_assert_null(client);
    sluice_close(NULL);
    sluice_free(NULL);

    client = open_client(50);
    cr_assert_eq(sluice_set_timeout(client, -1), SLUICE_INVALID);
    cr_assert_eq(sluice_request(client, "", 0, &reply, &len), SLUICE_INVALID);
    cr_assert_eq(sluice_request(client, many, (size_t)SLUICE_MESSAGE_MAX + 1, &reply, &len), SLUICE_INVALID);
    for (size_t i = 0; i < sizeof(many); i += 2) {
        memcpy(many + i, "x\n", 2);
    }
    cr_assert_eq(sluice_request(client, many, sizeof(many), &reply, &len), SLUICE_INVALID);
    cr_assert_eq(sluice_request(client, many, sizeof(many) - 2, &reply, &len), SLUICE_UNAVAILABLE);
    sluice_close(client);
}

Test(client, a_socket_of_others)
{
    struct sluice_client *client;
    nng_socket socket;
    cr_assert_eq(nng_rep0_open(&socket), 0);
    cr_assert_eq(nng_listen(socket, address, NULL, 0), 0);
    cr_assert_eq(chmod(path, 0), 0);
    cr_assert(geteuid() != 0 || setuid(65534) == 0);
    cr_assert_eq(sluice_open(address, 1000, &client), SLUICE_FORBIDDEN);
    nng_close(socket);
}

Test(client, minted_ids)
{
    struct sluice_client *client = open_client(50);
    char one[SLUICE_ID_SIZE], two[SLUICE_ID_SIZE];
    struct id id;
    cr_assert_eq(sluice_mint(client, one), SLUICE_OK);
    cr_assert_eq(sluice_mint(client, two), SLUICE_OK);
    cr_assert(id_parse(one, strlen(one), &id) && strcmp(one, two) < 0);
    sluice_close(client);
}

Test(client, every_result_has_a_text)
{
    for (int result = SLUICE_OK; result <= SLUICE_FAILED; result++) {
        cr_assert_str_neq(sluice_result_text(result), sluice_result_text(-1));
    }
    cr_assert_str_eq(sluice_result_text(SLUICE_FAILED + 1), sluice_result_text(-1));
}
