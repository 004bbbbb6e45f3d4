#include "gateway/reaper.h"

#include "common/clock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEADER_BLOCK_MAX 8192 // NNG takes no longer one: who has received more is in our own hands

// Of tcpi_state. (<netinet/tcp.h> names them, but has an older struct tcp_info and excludes <linux/tcp.h>.)
#define STATE_ESTABLISHED 1
#define STATE_CLOSE_WAIT 8 // the client has sent all it wanted

// The descriptor may be closed and mean another connection before shutdown(2) reaches it. Then that one is
// ended, which its client must be ready for at any time.
struct reaper {
    struct reaper_options options;
    DIR *dir; // kept open: it is needed most when no descriptor is left
    struct seen {
        int fd;
        uint32_t idle_ms;
    } * seen; // of the walk at hand
    size_t cap;
};

enum err reaper_open(const struct reaper_options *options, struct reaper **out, struct fault *fault)
{
    struct reaper *reaper = calloc(1, sizeof(*reaper));
    if (!reaper) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    reaper->options = *options;
    reaper->dir = opendir("/proc/self/fd");
    if (!reaper->dir) {
        free(reaper);
        return fault_set(fault, ERR_INTERNAL, "/proc/self/fd: %s", strerror(errno));
    }
    *out = reaper;
    return ERR_OK;
}

// True for a TCP connection that was accepted on our port and that we have not closed yet.
static bool is_ours(const struct reaper *reaper, int fd, struct tcp_info *info)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } local = {.any.sa_family = AF_UNSPEC};
    socklen_t len = sizeof(local);
    int listens = 1;
    socklen_t listens_len = sizeof(listens);
    if (getsockname(fd, &local.any, &len) != 0) {
        return false;
    }
    bool v4 = local.any.sa_family == AF_INET && ntohs(local.v4.sin_port) == reaper->options.port;
    bool v6 = local.any.sa_family == AF_INET6 && ntohs(local.v6.sin6_port) == reaper->options.port;
    if ((!v4 && !v6) || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_len) != 0 || listens) {
        return false;
    }
    *info = (struct tcp_info){0};
    len = sizeof(*info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0 &&
           (info->tcpi_state == STATE_ESTABLISHED || info->tcpi_state == STATE_CLOSE_WAIT);
}

static bool is_overdue(const struct reaper *reaper, const struct tcp_info *info)
{
    // Until something is sent, the time since the last sending counts from the connection's start.
    bool first = info->tcpi_bytes_sent == 0 && info->tcpi_bytes_received <= HEADER_BLOCK_MAX;
    int64_t limit_ns = first ? reaper->options.first_ns : reaper->options.silence_ns;
    return (int64_t)info->tcpi_last_data_sent * NS_PER_MS > limit_ns;
}

static bool remember(struct reaper *reaper, size_t at, int fd, const struct tcp_info *info)
{
    if (at == reaper->cap) {
        size_t cap = reaper->cap > 0 ? reaper->cap * 2 : 256;
        struct seen *seen = realloc(reaper->seen, cap * sizeof(*seen));
        if (!seen) {
            return false;
        }
        reaper->seen = seen;
        reaper->cap = cap;
    }
    bool sent_last = info->tcpi_last_data_sent < info->tcpi_last_data_recv;
    reaper->seen[at].fd = fd;
    reaper->seen[at].idle_ms = sent_last ? info->tcpi_last_data_sent : info->tcpi_last_data_recv;
    return true;
}

static int compare_idle(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;
    return (x->idle_ms < y->idle_ms) - (x->idle_ms > y->idle_ms); // the longest first
}

size_t reaper_walk(struct reaper *reaper)
{
    size_t count = 0;
    size_t ended = 0;
    struct tcp_info info;
    const struct dirent *entry;
    rewinddir(reaper->dir);
    while ((entry = readdir(reaper->dir))) {
        char *end;
        long fd = strtol(entry->d_name, &end, 10); // stops at the start of "." and ".."
        if (*end != '\0' || !is_ours(reaper, (int)fd, &info)) {
            continue;
        }
        if (is_overdue(reaper, &info)) {
            (void)shutdown((int)fd, SHUT_RDWR);
            ended++;
        } else if (remember(reaper, count, (int)fd, &info)) {
            count++;
        }
    }
    if (count <= reaper->options.max_connections) {
        return ended;
    }
    qsort(reaper->seen, count, sizeof(reaper->seen[0]), compare_idle);
    for (size_t i = 0; i < count - reaper->options.max_connections; i++) {
        (void)shutdown(reaper->seen[i].fd, SHUT_RDWR);
        ended++;
    }
    return ended;
}
