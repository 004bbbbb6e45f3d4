// gw_fixture.h - a real sluice-gateway, raw connections to it, and this process in the scheduler's place, so
// that a test sees every message and answers it as it likes: late, oddly, or not at all.
#ifndef SLUICE_TESTS_GW_FIXTURE_H
#define SLUICE_TESTS_GW_FIXTURE_H

#include "proto/reply.h"
#include "tests/support/process.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WAIT_MS 30000 // for what must come; only a failing test waits so long
#define GOOD_BODY "{\"ids\":[1,2,3],\"priority\":\"HIGH\"}"
#define UUID "0190163d-8694-739b-aea5-966c26f8ad91"

struct gw {
    pid_t pid;
    uint16_t port;
    int log; // its standard error
    char dir[64];
    char url[96]; // of the scheduler's socket
    nng_socket peer;
};

struct answer_seen {
    int status;
    char head[2048]; // with its last empty line
    char *body;      // NUL-terminated; freed by gw_seen_fini
    size_t len;
};

// ---- The program ----

static inline uint16_t gw_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

#define FILES_AS_THEY_ARE 0

// Runs the gateway with these arguments (NULL at the end), its standard error into log_fd, and so many
// descriptors at the most.
static inline pid_t gw_spawn_limited(const char *const *arguments, int log_fd, rlim_t files)
{
    char *argv[24] = {strdup("sluice-gateway")};
    struct program_path program = program_path("sluice-gateway");
    char *tsan = NULL; // the one variable that is passed on
    cr_assert(asprintf(&tsan, "TSAN_OPTIONS=%s", getenv("TSAN_OPTIONS") ? getenv("TSAN_OPTIONS") : "") > 0);
    char *const env[] = {tsan, NULL};
    for (size_t i = 0; arguments[i]; i++) {
        cr_assert(i + 2 < COUNT(argv));
        argv[i + 1] = strdup(arguments[i]);
    }
    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        const struct rlimit limit = {files, files};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(log_fd, STDERR_FILENO);
        if (files != FILES_AS_THEY_ARE && setrlimit(RLIMIT_NOFILE, &limit) != 0)
            _exit(126);
        execve(program.text, argv, env);
        _exit(127);
    }
    free(tsan);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    return pid;
}

static inline pid_t gw_spawn(const char *const *arguments, int log_fd)
{
    return gw_spawn_limited(arguments, log_fd, FILES_AS_THEY_ARE);
}

static inline int gw_exit_code(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

// Waits until the log has said this word.
static inline void gw_log_wait(const struct gw *gw, const char *word)
{
    char line[4096];
    size_t len = 0;
    for (;;) {
        struct pollfd ready = {.fd = gw->log, .events = POLLIN};
        cr_assert_eq(poll(&ready, 1, WAIT_MS), 1, "the log never said %s", word);
        cr_assert_eq(read(gw->log, line + len, 1), 1, "the log ended without %s", word);
        len = line[len] == '\n' || len + 2 == sizeof(line) ? 0 : len + 1;
        line[len] = '\0';
        if (strstr(line, word))
            return;
    }
}

// Starts it, with these options besides; the scheduler's place stays empty.
static inline struct gw gw_start_limited(const char *const *options, rlim_t files)
{
    struct gw gw = {.port = gw_free_port(), .dir = "/tmp/gw-test-XXXXXX"};
    char listen_url[64];
    int log[2];
    cr_assert_not_null(mkdtemp(gw.dir));
    cr_assert(snprintf(gw.url, sizeof(gw.url), "ipc://%s/s.sock", gw.dir) < (int)sizeof(gw.url));
    cr_assert(snprintf(listen_url, sizeof(listen_url), "http://127.0.0.1:%u", gw.port) <
              (int)sizeof(listen_url));
    cr_assert_eq(pipe(log), 0);
    const char *arguments[16] = {"--listen", listen_url, "--scheduler", gw.url};
    for (size_t i = 0; options[i]; i++) {
        cr_assert(i + 5 < COUNT(arguments));
        arguments[i + 4] = options[i];
    }
    gw.pid = gw_spawn_limited(arguments, log[1], files);
    close(log[1]);
    gw.log = log[0];
    gw_log_wait(&gw, "ready");
    return gw;
}

// With up to one more option.
static inline struct gw gw_start(const char *option, const char *value)
{
    return gw_start_limited(LIST(option, value), FILES_AS_THEY_ARE);
}

static inline void gw_stop(struct gw *gw)
{
    char path[96];
    char text[4096];
    ssize_t len;
    kill(gw->pid, SIGTERM);
    cr_expect_eq(gw_exit_code(gw->pid), 0);
    while ((len = read(gw->log, text, sizeof(text))) > 0) // a sanitizer may have said something
        cr_assert_eq(write(STDERR_FILENO, text, (size_t)len), len);
    cr_assert(snprintf(path, sizeof(path), "%s/s.sock", gw->dir) < (int)sizeof(path));
    unlink(path);
    rmdir(gw->dir);
    close(gw->log);
}

// ---- The scheduler's place ----

// In raw mode, so that messages can be answered in any order, or never.
static inline void gw_peer_open(struct gw *gw)
{
    cr_assert_eq(nng_rep0_open_raw(&gw->peer), 0);
    cr_assert_eq(nng_socket_set_ms(gw->peer, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    cr_assert_eq(nng_socket_set_size(gw->peer, NNG_OPT_RECVMAXSZ, 16 << 20), 0);
    cr_assert_eq(nng_listen(gw->peer, gw->url, NULL, 0), 0);
    gw_log_wait(gw, "scheduler_connected");
}

static inline void gw_peer_die(struct gw *gw)
{
    cr_assert_eq(nng_close(gw->peer), 0);
    gw_log_wait(gw, "scheduler_lost");
}

static inline nng_msg *gw_take(struct gw *gw)
{
    nng_msg *msg = NULL;
    cr_assert_eq(nng_recvmsg(gw->peer, &msg, 0), 0, "no message came");
    cr_assert_eq(nng_msg_append(msg, "", 1), 0); // a NUL behind the lines
    return msg;
}

// Without the request IDs that the gateway made, which are different each time.
static inline const char *gw_lines(nng_msg *msg)
{
    static const char name[] = "\"request_id\":\"";
    struct id id;
    char *at = nng_msg_body(msg);
    while ((at = strstr(at, name))) {
        char *value = at + strlen(name), *rest = value + ID_TEXT_SIZE - 1 + strlen("\",");
        cr_assert(id_parse(value, ID_TEXT_SIZE - 1, &id) && memcmp(rest - 2, "\",", 2) == 0, "%s", at);
        memmove(at, rest, strlen(rest) + 1);
    }
    return nng_msg_body(msg);
}

static inline size_t gw_lines_count(nng_msg *msg)
{
    size_t count = 0;
    for (const char *at = gw_lines(msg); (at = strchr(at, '\n')); at++)
        count++;
    return count;
}

static inline struct id gw_line_id(const char *line)
{
    struct id id;
    const char *at = strstr(line, "\"id\":\"");
    cr_assert(at && id_parse(at + 6, ID_TEXT_SIZE - 1, &id), "%s", line);
    return id;
}

// Answers with these lines.
static inline void gw_answer(struct gw *gw, nng_msg *msg, const char *lines)
{
    nng_msg_clear(msg);
    cr_assert_eq(nng_msg_append(msg, lines, strlen(lines)), 0);
    cr_assert_eq(nng_sendmsg(gw->peer, msg, 0), 0);
}

// Answers every ingest in it as accepted; returns how many there were.
static inline size_t gw_accept(struct gw *gw, nng_msg *msg)
{
    struct buf lines;
    size_t count = gw_lines_count(msg);
    const char *line = gw_lines(msg);
    buf_init(&lines);
    for (size_t i = 0; i < count; i++) {
        struct id id = gw_line_id(line);
        reply_ingest(&lines, &id, false);
        line = strchr(line, '\n') + 1;
    }
    gw_answer(gw, msg, lines.data);
    buf_fini(&lines);
    return count;
}

// ---- Clients ----

static inline int gw_connect(const struct gw *gw)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(gw->port)};
    struct timeval wait = {.tv_sec = 2 * WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
    return fd;
}

static inline void gw_send(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        cr_assert(sent > 0);
        data += sent;
        len -= (size_t)sent;
    }
}

static inline void gw_say(int fd, const char *text)
{
    gw_send(fd, text, strlen(text));
}

static inline void gw_post(int fd, const char *headers, const char *body)
{
    struct buf request;
    buf_init(&request);
    buf_printf(&request, "POST /ingest HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", headers,
               strlen(body), body);
    gw_send(fd, request.data, request.len);
    buf_fini(&request);
}

static inline void gw_get(int fd, const char *target)
{
    struct buf request;
    buf_init(&request);
    buf_printf(&request, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);
    gw_send(fd, request.data, request.len);
    buf_fini(&request);
}

// A header's value (up to the line's end), or NULL.
static inline const char *gw_header(const struct answer_seen *seen, const char *name)
{
    for (const char *line = seen->head; (line = strstr(line, "\r\n"));) {
        line += 2;
        if (strncasecmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            return line + strlen(name) + 2;
    }
    return NULL;
}

enum body_expected { WITH_BODY, WITHOUT_BODY };

static inline struct answer_seen gw_read(int fd, enum body_expected body)
{
    struct answer_seen seen = {0};
    size_t at = 0;
    while (!strstr(seen.head, "\r\n\r\n")) {
        cr_assert(at + 1 < sizeof(seen.head));
        cr_assert_eq(recv(fd, seen.head + at, 1, 0), 1, "the connection ended in a head: %s", seen.head);
        at++;
    }
    cr_assert_eq(strncmp(seen.head, "HTTP/1.1 ", 9), 0, "%s", seen.head);
    seen.status = (int)strtol(seen.head + 9, NULL, 10);
    const char *length = gw_header(&seen, "Content-Length");
    seen.len = length ? strtoul(length, NULL, 10) : 0;
    seen.body = calloc(1, seen.len + 1);
    cr_assert_not_null(seen.body);
    if (body == WITH_BODY && seen.len > 0)
        cr_assert_eq(recv(fd, seen.body, seen.len, MSG_WAITALL), (ssize_t)seen.len);
    return seen;
}

static inline void gw_seen_fini(struct answer_seen *seen)
{
    free(seen->body);
    seen->body = NULL;
}

// Reads an answer and checks what all have in common, its status and (unless NULL) a text in its body.
static inline void gw_expect(int fd, int status, const char *text)
{
    struct answer_seen seen = gw_read(fd, WITH_BODY);
    cr_assert_eq(seen.status, status, "%s%s", seen.head, seen.body);
    cr_expect(strstr(seen.head, "X-Content-Type-Options: nosniff\r\n") != NULL, "%s", seen.head);
    cr_expect(strstr(seen.head, "Cache-Control: no-store\r\n") != NULL, "%s", seen.head);
    const char *type =
        status == 200 ? "Content-Type: application/json\r\n" : "Content-Type: application/problem+json\r\n";
    cr_expect(strstr(seen.head, type) != NULL, "%s", seen.head);
    cr_expect_eq(gw_header(&seen, "Retry-After") != NULL, status == 429 || status == 503, "%s", seen.head);
    if (text)
        cr_expect(strstr(seen.body, text) != NULL, "%s", seen.body);
    gw_seen_fini(&seen);
}

static inline void gw_expect_end(int fd)
{
    char c;
    cr_expect_leq(recv(fd, &c, 1, 0), 0, "the connection goes on with '%c'", c);
    close(fd);
}

#endif
