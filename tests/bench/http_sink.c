// The lightest target there is for deliveries over HTTP: one thread that answers every request with an empty
// 200, keeps connections, and counts.
//
//   http_sink [ARRIVALS]
//
// Listens on a free port of the loopback and prints "ready PORT"; at SIGTERM or SIGINT it prints "count N"
// and ends. ARRIVALS: a file that gets the moment of each request then, an int64_t in nanoseconds.
#include "common/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 65536 // of a connection: a whole request must fit
#define EVENTS 64

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

struct connection {
    int fd;
    size_t len;
    char buffer[BUFFER + 1];
};

struct sink {
    int epoll;
    int listener;
    int signals;
    size_t count;
    bool recorded;
    int64_t *arrivals;
    size_t room;
};

static void die(const char *what)
{
    fprintf(stderr, "http_sink: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void arrived(struct sink *sink)
{
    if (sink->recorded && sink->count == sink->room) {
        sink->room = sink->room ? sink->room * 2 : 4096;
        sink->arrivals = realloc(sink->arrivals, sink->room * sizeof(*sink->arrivals));
        if (!sink->arrivals) {
            die("arrivals");
        }
    }
    if (sink->recorded) {
        sink->arrivals[sink->count] = mono_now().ns;
    }
    sink->count++;
}

// The length of the request at the start of a text; 0 when it is not whole yet.
static size_t request_length(const char *text, size_t len)
{
    const char *end = memmem(text, len, "\r\n\r\n", 4);
    const char *field = end ? strcasestr(text, "\r\nContent-Length:") : NULL;
    size_t body = field && field < end ? strtoul(field + strlen("\r\nContent-Length:"), NULL, 10) : 0;
    size_t whole = end ? (size_t)(end - text) + 4 + body : 0;
    return whole <= len ? whole : 0;
}

// False when the connection is over.
static bool serve(struct sink *sink, struct connection *connection)
{
    ssize_t got = recv(connection->fd, connection->buffer + connection->len, BUFFER - connection->len, 0);
    if (got <= 0) {
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    connection->len += (size_t)got;
    connection->buffer[connection->len] = '\0';
    size_t whole;
    while ((whole = request_length(connection->buffer, connection->len)) > 0) {
        arrived(sink);
        connection->len -= whole;
        memmove(connection->buffer, connection->buffer + whole, connection->len + 1);
        if (send(connection->fd, answer, sizeof answer - 1, MSG_NOSIGNAL) != sizeof answer - 1) {
            return false;
        }
    }
    return connection->len < BUFFER;
}

static void watch(const struct sink *sink, int fd, void *ptr)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ptr};
    if (epoll_ctl(sink->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void take_connection(const struct sink *sink)
{
    int fd = accept4(sink->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *connection = fd >= 0 ? calloc(1, sizeof(*connection)) : NULL;
    int on = 1;
    if (!connection || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        die("accept");
    }
    connection->fd = fd;
    watch(sink, fd, connection);
}

static void start(struct sink *sink)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    sink->signals = signalfd(-1, &ends, SFD_CLOEXEC);
    sink->epoll = epoll_create1(EPOLL_CLOEXEC);
    sink->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sink->signals < 0 || sink->epoll < 0 || sink->listener < 0 ||
        bind(sink->listener, (struct sockaddr *)&address, len) != 0 || listen(sink->listener, 1024) != 0 ||
        getsockname(sink->listener, (struct sockaddr *)&address, &len) != 0) {
        die("listen");
    }
    watch(sink, sink->listener, &sink->listener);
    watch(sink, sink->signals, &sink->signals);
    printf("ready %u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
}

static _Noreturn void end(const struct sink *sink, const char *arrivals)
{
    FILE *file = arrivals ? fopen(arrivals, "wb") : NULL;
    if (arrivals &&
        (!file || fwrite(sink->arrivals, sizeof(*sink->arrivals), sink->count, file) != sink->count ||
         fclose(file) != 0)) {
        die(arrivals);
    }
    printf("count %zu\n", sink->count);
    fflush(stdout);
    _exit(EXIT_SUCCESS); // its connections are the kernel's to close
}

int main(int argc, char **argv)
{
    struct sink sink = {.recorded = argc > 1};
    start(&sink);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(sink.epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *ptr = events[i].data.ptr;
            if (ptr == &sink.signals) {
                end(&sink, sink.recorded ? argv[1] : NULL);
            }
            if (ptr == &sink.listener) {
                take_connection(&sink);
            } else if (!serve(&sink, ptr)) {
                close(((struct connection *)ptr)->fd);
                free(ptr);
            }
        }
    }
}
