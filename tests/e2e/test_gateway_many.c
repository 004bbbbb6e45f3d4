// Thousands of clients that mean no good, and one that does: it is served all the while, and when they are
// gone nothing of them is left. Both programs, as they are.
#include "tests/support/sluice.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(gateway_many, .fini = sluice_cleanup, .timeout = 400);

#define GET "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST "POST /ingest HTTP/1.1\r\nHost: h\r\n"
#define BODY "{\"ids\":[1,2,3],\"priority\":\"LOW\"}"

// ---- The good client ----

struct good {
    const struct sluice *sluice;
    atomic_bool stop;
    atomic_size_t served, refused;
    pthread_t thread;
};

// Ingests and asks for what became of it, on a new connection each time, until it is told to stop.
static void *ingest_and_look(void *arg)
{
    struct good *good = arg;
    while (!atomic_load(&good->stop)) {
        struct http_response post = sluice_post(good->sluice, BODY, NULL);
        const cJSON *id = cJSON_GetObjectItem(post.json, "ingestion_id");
        long status = post.status;
        if (status == 200 && id) {
            struct http_response get = sluice_get(good->sluice, "/status/%s", id->valuestring);
            status = get.status;
            http_response_fini(&get);
        }
        http_response_fini(&post);
        wait_ms(5); // the others need the processors as well
        atomic_fetch_add(status == 200 ? &good->served : &good->refused, 1);
    }
    return NULL;
}

static void good_start(struct good *good, const struct sluice *sluice)
{
    *good = (struct good){.sluice = sluice};
    cr_assert_eq(pthread_create(&good->thread, NULL, ingest_and_look, good), 0);
}

// It is served so many times more from now on.
static void good_goes_on(struct good *good, size_t times)
{
    size_t from = atomic_load(&good->served);
    WAIT_FOR(atomic_load(&good->served) >= from + times || atomic_load(&good->refused) > 0);
}

static void good_end(struct good *good)
{
    atomic_store(&good->stop, true);
    pthread_join(good->thread, NULL);
    cr_expect_eq(atomic_load(&good->refused), 0, "%zu were refused", atomic_load(&good->refused));
    cr_expect_gt(atomic_load(&good->served), 0);
}

// ---- The others ----

enum leaving { CLOSE, RESET, LEAVINGS };

// What one of them says before it stops or leaves.
static const char *const sayings[] = {
    "",
    "GET /healthz HTTP/1.1\r\nHo",
    "GET /healthz HTTP/1.1\r\nHost: h\r\n",
    GET,                             // and does not read the answer
    GET "GET /healthz HTTP/1.1\r\n", // is kept, and stops in the next header
    POST "Content-Length: 100\r\n\r\n{\"ids\":",
    POST "Content-Length: 60000\r\n\r\n{\"ids\":",
    POST "Expect: 100-continue\r\nContent-Length: 60000\r\n\r\n",
    POST "Content-Length: 32\r\n\r\n" BODY, // and does not wait for its answer
    POST "Transfer-Encoding: chunked\r\n\r\n2\r\n{}",
    "\x16\x03\x01\x02",
};
enum { SAYINGS = sizeof(sayings) / sizeof(sayings[0]) };

// From many addresses, as there are not ports enough on one. A port whose last connection the other side has
// not quite forgotten gets a reset: then from the next one.
static int connect_as(const struct sluice *sluice, size_t number)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (in_addr_t)(number % 200))};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)strtoul(strrchr(sluice->url, ':') + 1, NULL, 10))};
    for (int tries = 0; tries < 100; tries++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert(fd >= 0, "no descriptor");
        cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
            return fd;
        }
        close(fd);
    }
    cr_assert_fail("%s", strerror(errno));
    return -1;
}

static int say_as(const struct sluice *sluice, size_t number)
{
    const char *saying = sayings[number % SAYINGS];
    int fd = connect_as(sluice, number);
    (void)!send(fd, saying, strlen(saying), MSG_NOSIGNAL);
    return fd;
}

static void leave(int fd, enum leaving leaving)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (leaving == RESET) {
        cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    }
    close(fd);
}

// ---- What is left of them ----

enum { ROUNDS = 3 };

struct left {
    struct sluice *sluice;
    size_t files[PARTS];
    size_t kib[PARTS]; // after the second round
};

// So that memory tells of leaks: a sanitizer does not keep what was freed for a look, and glibc keeps it in
// one place, and not in as many as there are threads, which take several rounds to fill.
static const char *const environment[] = {
    "ASAN_OPTIONS=quarantine_size_mb=0:thread_local_quarantine_size_kb=0", "MALLOC_ARENA_MAX=1", NULL};

static struct sluice *start(struct left *left)
{
    *left = (struct left){
        .sluice = sluice_new(LIST("--rate", "1/1h", "--target", "simulate:0s"), LIST("--timeout", "1m"))};
    cr_assert_eq(unsetenv("ASAN_OPTIONS"), 0); // of the test's own, which would come first
    for (int part = 0; part < PARTS; part++) {
        left->sluice->environment[part] = environment;
        sluice_launch(left->sluice, (enum part)part);
    }
    struct http_response first = sluice_post(left->sluice, BODY, NULL); // every connection inside is there
    cr_assert_eq(first.status, 200);
    http_response_fini(&first);
    for (int part = 0; part < PARTS; part++)
        left->files[part] = process_files(left->sluice->part[part].pid);
    return left->sluice;
}

// Descriptors as at the start, and memory about as after an equal round before. (Not the first: where what is
// kept of it lies apart, the next one needs more.)
static void expect_nothing_left(struct left *left, int round)
{
    for (int part = 0; part < PARTS; part++) {
        pid_t pid = left->sluice->part[part].pid;
        WAIT_FOR(process_files(pid) <= left->files[part]);
        size_t kib = process_resident(pid);
        if (round < ROUNDS - 1) {
            left->kib[part] = kib;
        } else {
            cr_expect_leq(kib, left->kib[part] + left->kib[part] / 4 + 4096, "%zu KiB grew to %zu",
                          left->kib[part], kib);
        }
    }
}

static void raise_files(rlim_t needed)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_geq(limit.rlim_max, needed, "the hard limit of descriptors must be at least %lu",
                  (unsigned long)needed);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(gateway_many, two_thousand_that_stay)
{
    enum { STAYING = 2000 };
    static int fds[STAYING];
    struct left left;
    struct good good;
    raise_files(STAYING + 100);
    struct sluice *sluice = start(&left);
    for (int round = 0; round < ROUNDS; round++) {
        good_start(&good, sluice);
        for (size_t i = 0; i < STAYING; i++)
            fds[i] = say_as(sluice, i);
        good_goes_on(&good, 50);
        for (size_t i = 0; i < STAYING; i++)
            leave(fds[i], i / SAYINGS % LEAVINGS);
        good_end(&good);
        expect_nothing_left(&left, round);
    }
    sluice_end(sluice);
}

// A few of them at a time are still there.
Test(gateway_many, ten_thousand_that_come_and_go)
{
    enum { COMING = 3400, THERE = 64 };
    int fds[THERE];
    struct left left;
    struct good good;
    struct sluice *sluice = start(&left);
    for (int round = 0; round < ROUNDS; round++) {
        good_start(&good, sluice);
        for (size_t i = 0; i < COMING + THERE; i++) {
            if (i >= THERE)
                leave(fds[i % THERE], i / SAYINGS % LEAVINGS);
            if (i < COMING)
                fds[i % THERE] = say_as(sluice, i);
        }
        good_goes_on(&good, 1);
        good_end(&good);
        expect_nothing_left(&left, round);
    }
    sluice_end(sluice);
}
