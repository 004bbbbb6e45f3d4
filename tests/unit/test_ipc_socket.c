#include "tests/unit/ipc_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

// ---- where it listens ----

Test(ipc_socket, refuses_what_it_cannot_listen_on)
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

Test(ipc_socket, replaces_a_stale_socket_and_lets_the_group_in)
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

Test(ipc_socket, listens_anew_when_the_socket_is_lost, .timeout = 60)
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

// ---- clients that behave badly: the wire by hand ----

// By the length that its frame announces, before any of it has come.
Test(ipc_socket, cuts_off_a_message_over_the_limit)
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

Test(ipc_socket, outlives_peers_that_die_before_their_reply)
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

Test(ipc_socket, outlives_a_peer_that_never_reads, .timeout = 60)
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

Test(ipc_socket, survives_noise_on_the_socket)
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
