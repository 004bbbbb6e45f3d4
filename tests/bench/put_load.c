// Load on beanstalkd: puts of the same job, one after the other on each of many connections. (Several under
// way on each make it no faster.)
//
//   put_load PATH CONNECTIONS SECONDS JOB     (PATH: of its Unix socket)
//
// Every put must be answered with INSERTED; otherwise it says what came and exits with 1. Prints
// "result PUTS_PER_SECOND PUTS".
#include "common/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define EVENTS 64

struct load {
    int epoll;
    struct mono end;
    char *put;
    size_t len;
    size_t answered;
    size_t under_way;
};

static void die(const char *what)
{
    fprintf(stderr, "put_load: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void put(struct load *load, int fd)
{
    if (send(fd, load->put, load->len, MSG_NOSIGNAL) != (ssize_t)load->len) {
        die("send");
    }
    load->under_way++;
}

// The answer is a short line, which comes in one piece.
static void read_answer(struct load *load, int fd)
{
    static const char good[] = "INSERTED ";
    char text[256];
    ssize_t len = recv(fd, text, sizeof text, 0);
    if (len <= 0) {
        die("receive");
    }
    if ((size_t)len < sizeof good || memcmp(text, good, sizeof good - 1) != 0 || text[len - 1] != '\n') {
        fprintf(stderr, "put_load: answered with %.*s\n", (int)len, text);
        exit(EXIT_FAILURE);
    }
    load->answered++;
    load->under_way--;
}

static int connect_to(const struct load *load, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (len < 0 || (size_t)len >= sizeof address.sun_path || fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        die(path);
    }
    return fd;
}

static void run(struct load *load)
{
    while (load->under_way > 0) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(load->epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            read_answer(load, events[i].data.fd);
            if (mono_before(mono_now(), load->end)) {
                put(load, events[i].data.fd);
            }
        }
    }
}

static bool number(const char *text, size_t max, size_t *value)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    *value = (size_t)n;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n > 0 && n <= max;
}

int main(int argc, char **argv)
{
    struct load load = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    size_t count, seconds;
    if (argc != 5 || !number(argv[2], CONNECTIONS_MAX, &count) || !number(argv[3], 86400, &seconds)) {
        fprintf(stderr, "usage: put_load PATH CONNECTIONS SECONDS JOB\n");
        return 64;
    }
    int len = asprintf(&load.put, "put 0 0 60 %zu\r\n%s\r\n", strlen(argv[4]), argv[4]);
    if (len < 0) {
        die("a put");
    }
    load.len = (size_t)len;
    struct mono begin = mono_now();
    load.end = mono_add(begin, (int64_t)seconds * NS_PER_S);
    for (size_t i = 0; i < count; i++) {
        put(&load, connect_to(&load, argv[1]));
    }
    run(&load);
    double elapsed = (double)mono_diff(mono_now(), begin) / (double)NS_PER_S;
    printf("result %.0f %zu\n", (double)load.answered / elapsed, load.answered);
    free(load.put);
    return EXIT_SUCCESS;
}
