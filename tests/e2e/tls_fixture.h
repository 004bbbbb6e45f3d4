// tls_fixture.h - clients of an https gateway, and what openssl(1) sees of a port.
#ifndef SLUICE_TESTS_TLS_FIXTURE_H
#define SLUICE_TESTS_TLS_FIXTURE_H

#include "common/buf.h"
#include "tests/support/pki.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GOOD_BODY "{\"ids\":[1,2,3],\"priority\":\"HIGH\"}"
#define HERE "DNS:127.0.0.1,IP:127.0.0.1" // Mbed TLS 2 looks at the names only

static inline uint16_t port_of(const char *url)
{
    return (uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10);
}

// Formats a line of shell, runs it in the sluice's directory and gives its exit code.
__attribute__((format(printf, 2, 3))) static inline int shell(const struct sluice *sluice, const char *line,
                                                              ...)
{
    char text[1024];
    va_list args;
    va_start(args, line);
    cr_assert_lt(vsnprintf(text, sizeof(text), line, args), (int)sizeof(text));
    va_end(args);
    return pki_shell(sluice->dir, text);
}

static inline void expect_output(const struct sluice *sluice, const char *text)
{
    char *path = sluice_path(sluice, "output");
    char *output = file_text(path);
    cr_expect(strstr(output, text) != NULL, "\"%s\" is not in: %s", text, output);
    free(output);
    free(path);
}

// The serial number of the certificate that a new connection to the port is shown.
static inline void expect_serial(const struct sluice *sluice, uint16_t port, unsigned serial)
{
    char line[32];
    (void)shell(sluice,
                "openssl s_client -connect 127.0.0.1:%u </dev/null 2>&1 | openssl x509 -noout -serial", port);
    cr_assert_lt(snprintf(line, sizeof(line), "serial=%02X\n", serial), (int)sizeof(line));
    expect_output(sluice, line);
}

// ---- A client with one connection that it keeps ----

struct client {
    CURL *curl;
    struct buf body; // of the last answer
};

static inline size_t client_take(char *data, size_t size, size_t count, void *arg)
{
    buf_put(arg, data, size * count);
    return size * count;
}

static inline void client_open(struct client *client, const struct sluice *sluice)
{
    char *ca = sluice_path(sluice, "ca.pem");
    client->curl = curl_easy_init();
    buf_init(&client->body);
    curl_easy_setopt(client->curl, CURLOPT_CAINFO, ca);
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT, (long)WAIT_S);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, client_take);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &client->body);
    free(ca);
}

static inline void client_close(struct client *client)
{
    curl_easy_cleanup(client->curl);
    buf_fini(&client->body);
}

// GET, or POST with a body. The answer's status; 0 when no whole answer came.
static inline long client_ask(struct client *client, const struct sluice *sluice, const char *path,
                              const char *body)
{
    char url[256];
    long status = 0;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    cr_assert_lt(snprintf(url, sizeof(url), "%s%s", sluice->url, path), (int)sizeof(url));
    buf_reset(&client->body);
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    if (body) {
        curl_easy_setopt(client->curl, CURLOPT_COPYPOSTFIELDS, body);
    } else {
        curl_easy_setopt(client->curl, CURLOPT_HTTPGET, 1L);
    }
    CURLcode code = curl_easy_perform(client->curl);
    if (code == CURLE_OK) {
        curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    } else {
        (void)fprintf(stderr, "%s: %s\n", url, curl_easy_strerror(code));
    }
    curl_slist_free_all(headers);
    buf_str(&client->body, "");
    return status;
}

// Whether the last request went over the connection that was there.
static inline bool client_kept(struct client *client)
{
    long connects = -1;
    curl_easy_getinfo(client->curl, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0;
}

// One request over a connection of its own.
static inline long ask_once(const struct sluice *sluice, const char *path, const char *body)
{
    struct client client;
    client_open(&client, sluice);
    long status = client_ask(&client, sluice, path, body);
    client_close(&client);
    return status;
}

// ---- Bare connections ----

static inline int connect_bare(uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

static inline void say_bare(int fd, const void *bytes, size_t len)
{
    cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

// Reads until the other side ends it; gives the bytes that came.
static inline size_t drain_bare(int fd)
{
    char bytes[4096];
    size_t count = 0;
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
        count += (size_t)got;
    }
    cr_assert(got == 0 || errno == ECONNRESET, "the connection is not ended: %s", strerror(errno));
    close(fd);
    return count;
}

// A client's whole first message: TLS 1.2, ECDHE-ECDSA-AES128-GCM-SHA256, P-256, ECDSA with SHA-256.
static const unsigned char client_hello[] = {
    0x16, 3,    1, 0,    0x45, 1, 0, 0, 0x41, 3,    3,                      // record, handshake, version
    1,    2,    3, 4,    5,    6, 7, 8, 9,    10,   11, 12, 13, 14, 15, 16, // random
    1,    2,    3, 4,    5,    6, 7, 8, 9,    10,   11, 12, 13, 14, 15, 16, //
    0,    0,    2, 0xc0, 0x2b, 1, 0, // no session, a suite, no compression
    0,    0x16, 0, 10,   0,    4, 0, 2, 0,    0x17, 0,  11, 0,  2,  1,  0, // curves, formats
    0,    13,   0, 4,    0,    2, 4, 3,                                    // signatures
};

#endif
