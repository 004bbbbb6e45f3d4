// The programs when memory runs out, which is that of their libraries and of the C library, too
// (tests/support/preload/ memory.c): they answer, hang up, or end with a word and a code; nothing that was
// accepted is lost.
//
// A connection is taken by NNG with enough memory: NNG (1.5.2) follows a NULL pointer when there is none for
// its own record of it (http_sconn_init).
#include "tests/support/preload/memory.h"
#include "tests/support/sluice.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(no_memory, .fini = sluice_cleanup);

#define CLOSED 0 // in the place of a status
#define ANSWER_MAX 16384u
#define ROUNDS_MAX 400u

struct scene {
    struct sluice *sluice;
    enum part part; // whose memory it is
    struct memory_control *memory;
    char *variables[2];
    const char *environment[3];
    int fd; // a connection
    char answer[ANSWER_MAX];
    struct ingested accepted[ROUNDS_MAX];
    size_t rounds;
};

static void scene_new(struct scene *s, enum part part)
{
    *s = (struct scene){
        .sluice = sluice_new(LIST("--rate", "unlimited", "--concurrency", "10", "--target", "simulate:1ms"),
                             LIST("--timeout", "500ms")),
        .part = part,
        .fd = -1};
    char *text = sluice_path(s->sluice, "memory");
    int fd = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && ftruncate(fd, sizeof *s->memory) == 0);
    void *mapped = mmap(NULL, sizeof *s->memory, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(mapped, MAP_FAILED);
    close(fd);
    s->memory = mapped;
    s->memory->left = MEMORY_ENOUGH;
    cr_assert(asprintf(&s->variables[0], "LD_PRELOAD=%s", SLUICE_MEMORY) > 0);
    cr_assert(asprintf(&s->variables[1], MEMORY_FILE "=%s", text) > 0);
    free(text);
    s->environment[0] = s->variables[0];
    s->environment[1] = s->variables[1];
    s->sluice->environment[part] = s->environment;
}

static void scene_free(struct scene *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    sluice_end(s->sluice);
    free(s->variables[0]);
    free(s->variables[1]);
    cr_assert_eq(munmap(s->memory, sizeof *s->memory), 0);
}

// The nth allocation from now on fails, and so many after it.
static void memory_limit(struct scene *s, size_t n, size_t lasts)
{
    s->memory->failed = 0;
    s->memory->lasts = lasts;
    s->memory->left = n;
}

// ---- a client ----

static void hang_up(struct scene *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    s->fd = -1;
}

// The status; the body is in s->answer.
static int exchange(struct scene *s, const char *method, const char *path, const char *body)
{
    char request[1024];
    size_t len = 0;
    size_t want = SIZE_MAX;
    const char *end = NULL;
    int sent =
        snprintf(request, sizeof request,
                 "%s %s HTTP/1.1\r\nHost: h\r\nIdempotency-Key: key-%zu\r\nContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 method, path, s->rounds, strlen(body), body);
    if (send(s->fd, request, (size_t)sent, MSG_NOSIGNAL) != sent) {
        return CLOSED;
    }
    while (len < want) {
        struct pollfd more = {.fd = s->fd, .events = POLLIN};
        cr_assert_eq(poll(&more, 1, WAIT_S * 1000), 1, "%s %s: neither an answer nor an end", method, path);
        ssize_t got = recv(s->fd, s->answer + len, ANSWER_MAX - 1 - len, 0);
        if (got <= 0) {
            return CLOSED;
        }
        len += (size_t)got;
        s->answer[len] = '\0';
        if (!end && (end = strstr(s->answer, "\r\n\r\n"))) {
            const char *length = strstr(s->answer, "Content-Length: ");
            cr_assert(length && length < end, "%s", s->answer);
            want = (size_t)(end + 4 - s->answer) + strtoul(length + strlen("Content-Length: "), NULL, 10);
            cr_assert_lt(want, ANSWER_MAX);
        }
    }
    int status = (int)strtol(s->answer + strlen("HTTP/1.1 "), NULL, 10);
    memmove(s->answer, end + 4, len - (size_t)(end + 4 - s->answer) + 1);
    return status;
}

static void dial(struct scene *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)strtoul(strrchr(s->sluice->url, ':') + 1, NULL, 10));
    hang_up(s);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(s->fd, (const struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(exchange(s, "GET", "/healthz", ""), 200);
}

// ---- the programs ----

static bool has_ended(const struct scene *s)
{
    siginfo_t info = {0};
    pid_t pid = s->sluice->part[s->part].pid;
    cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    return info.si_pid == pid;
}

static void expect_a_good_end(struct scene *s, int code, size_t n)
{
    char *log = file_text(s->sluice->log[s->part]);
    size_t len = strlen(log);
    cr_assert(code > 0 && code < 128, "%d after %zu: %s", code, n, log);
    cr_assert(len > 0 && log[len - 1] == '\n', "it says nothing");
    free(log);
}

static void start_again(struct scene *s, size_t n)
{
    s->memory->left = MEMORY_ENOUGH;
    expect_a_good_end(s, process_wait(&s->sluice->part[s->part]), n);
    sluice_launch(s->sluice, s->part);
}

// With too little memory, whatever becomes of it.
static int try(struct scene *s, const char *method, const char *path, const char *body, size_t n)
{
    if (has_ended(s)) {
        start_again(s, n);
    }
    if (s->fd < 0) {
        size_t left = atomic_exchange(&s->memory->left, MEMORY_ENOUGH);
        dial(s);
        s->memory->left = left;
    }
    int status = exchange(s, method, path, body);
    if (status == CLOSED) {
        hang_up(s);
    } else {
        cr_assert(status == 200 || status == 404 || status == 409 || status == 429 || status == 503 ||
                      status == 504,
                  "%s %s: %d %s", method, path, status, s->answer);
    }
    return status;
}

static struct ingested read_id(const struct scene *s)
{
    struct ingested ingested;
    const char *at = strstr(s->answer, "\"ingestion_id\":\"");
    cr_assert_not_null(at, "%s", s->answer);
    (void)snprintf(ingested.id, sizeof ingested.id, "%s", at + strlen("\"ingestion_id\":\""));
    return ingested;
}

#define BODY "{\"ids\":[1,2,3,4,5],\"priority\":\"HIGH\"}"

// Sent again with enough: what was accepted before is not accepted twice. It may yet end by what it went
// through, and a gateway may have to dial first.
static bool accepts_again(struct scene *s, size_t n)
{
    if (has_ended(s)) {
        start_again(s, n);
    }
    if (s->fd < 0) {
        dial(s);
    }
    int status = exchange(s, "POST", "/ingest", BODY);
    if (status == CLOSED) {
        hang_up(s);
    }
    return status == 200;
}

// False when what was limited sufficed.
static bool round_of_requests(struct scene *s, size_t n, size_t lasts)
{
    char path[128];
    struct ingested got = {""};
    cr_assert_lt(s->rounds, ROUNDS_MAX);
    memory_limit(s, n, lasts);
    if (try(s, "POST", "/ingest", BODY, n) == 200) {
        got = read_id(s);
    }
    (void)snprintf(path, sizeof path, "/status/%s",
                   got.id[0] ? got.id : "01a209dc-4322-7622-a85d-000000000001");
    (void)try(s, "GET", path, "", n);
    (void)try(s, "GET", "/ingestions?limit=2", "", n);
    (void)try(s, "PUT", "/queues/q", "{\"rate\":\"1/1s\",\"target\":\"exec:/bin/true\"}", n);
    (void)try(s, "DELETE", "/queues/q", "", n);
    s->memory->left = MEMORY_ENOUGH;
    bool reached = s->memory->failed > 0;
    WAIT_FOR(accepts_again(s, n));
    s->accepted[s->rounds] = read_id(s);
    cr_assert(!got.id[0] || strcmp(got.id, s->accepted[s->rounds].id) == 0, "accepted twice");
    s->rounds++;
    return reached;
}

static void exhaust(struct scene *s)
{
    static const size_t lasts[] = {0, 3};
    sluice_launch(s->sluice, SCHEDULER);
    sluice_launch(s->sluice, GATEWAY);
    dial(s);
    for (size_t i = 0; i < sizeof lasts / sizeof lasts[0]; i++) {
        for (size_t n = 0; round_of_requests(s, n, lasts[i]); n += 1 + n / 4) {
        }
    }
    cr_assert_gt(s->rounds, 20);
    for (size_t i = 0; i < s->rounds; i++) {
        sluice_wait_status(s->sluice, s->accepted[i].id, "completed");
    }
}

Test(no_memory, a_scheduler_loses_nothing)
{
    static struct scene scene;
    scene_new(&scene, SCHEDULER);
    exhaust(&scene);
    scene_free(&scene);
}

Test(no_memory, a_gateway_answers_or_hangs_up)
{
    static struct scene scene;
    scene_new(&scene, GATEWAY);
    exhaust(&scene);
    scene_free(&scene);
}
