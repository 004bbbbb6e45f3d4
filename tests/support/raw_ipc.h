// raw_ipc.h - a client of an NNG req/rep socket that writes the wire by hand, so that it can write what no
// client should: the SP greeting, frames (a byte 1, the length in 64 bits), and a request's number before its
// text.
#ifndef SLUICE_TESTS_SUPPORT_RAW_IPC_H
#define SLUICE_TESTS_SUPPORT_RAW_IPC_H

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline void fill_address(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
}

static inline void put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (24 - 8 * i));
}

// Connected, and nothing said.
static inline int raw_connect(const char *path)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    fill_address(&address, path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

// Exchanges the greeting of a req socket.
static inline void raw_say_hello(int fd)
{
    static const unsigned char greeting[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    unsigned char theirs[8];

    cr_assert_eq(send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL), (ssize_t)sizeof(greeting));
    cr_assert_eq(recv(fd, theirs, sizeof(theirs), MSG_WAITALL), (ssize_t)sizeof(theirs));
}

// Connected, and the greeting exchanged.
static inline int raw_greet(const char *path)
{
    int fd = raw_connect(path);

    raw_say_hello(fd);
    return fd;
}

static inline void raw_ask(int fd, uint32_t request, const char *text)
{
    unsigned char frame[128] = {1};
    size_t len = strlen(text);

    cr_assert_leq(len, sizeof(frame) - 13);
    put_u32(frame + 5, (uint32_t)len + 4);
    put_u32(frame + 9, request | 0x80000000u);
    memcpy(frame + 13, text, len);
    cr_assert_eq(send(fd, frame, len + 13, MSG_NOSIGNAL), (ssize_t)(len + 13));
}

// The reply to a request of raw_ask, as text (freed by the caller).
static inline char *raw_reply(int fd, uint32_t request)
{
    unsigned char head[13], id[4];
    size_t len = 0;

    cr_assert_eq(recv(fd, head, sizeof(head), MSG_WAITALL), (ssize_t)sizeof(head));
    for (int i = 1; i < 9; i++)
        len = len << 8 | head[i];
    put_u32(id, request | 0x80000000u);
    cr_assert_eq(memcmp(head + 9, id, sizeof(id)), 0, "the reply to another request");
    char *text = calloc(1, len - 4 + 1);
    cr_assert_not_null(text);
    cr_assert_eq(recv(fd, text, len - 4, MSG_WAITALL), (ssize_t)(len - 4));
    return text;
}

#endif
