#include "scheduler/ipc_watch.h"

#include "common/clock.h"
#include "common/id.h"
#include "common/log.h"

#include <errno.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/transport/ipc/ipc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL_SCHEME "ipc://"
#define PATH_LENGTH_MAX 107 // what fits into a sockaddr_un
#define SOCKET_MODE 0660
#define CHECK_EVERY_MS 3000
#define CHECK_MS 2000 // for each half of a round trip
#define CLOSE_MS 2000 // for NNG to close the socket

// From ipc_watch_start on `listener` is the thread's; all else is constant.
struct ipc_watch {
    char *url;
    const char *path; // inside url
    nng_socket socket;
    nng_listener listener;
    ipc_watch_receiving *receiving;
    void *arg;
    char line[96];
    size_t line_len;
    // Two, since NNG 1.5 forgets to report time-outs on an aio that has slept once. Stopping them ends the
    // thread.
    nng_aio *sleep_aio;
    nng_aio *probe_aio;
    pthread_mutex_t lock; // NNG 1.5 reads without one what stopping an aio writes: nothing begins meanwhile
    pthread_t thread;
    int closed_fd; // an eventfd: readable when the thread has closed the socket
};

static enum err listen_on_path(struct ipc_watch *watch, struct fault *fault)
{
    struct stat st;
    nng_listener listener = NNG_LISTENER_INITIALIZER;
    int result;

    // NNG itself would delete whatever is there.
    if (lstat(watch->path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "%s exists and is not a socket", watch->path);
        }
        if (unlink(watch->path) != 0) {
            return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot remove the old socket %s: %s",
                             watch->path, strerrordesc_np(errno));
        }
    } else if (errno != ENOENT) {
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot use %s: %s", watch->path,
                         strerrordesc_np(errno));
    }
    result = nng_listener_create(&listener, watch->socket, watch->url);
    if (result == 0) {
        result = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, SOCKET_MODE);
    }
    if (result == 0) {
        result = nng_listener_start(listener, 0);
    }
    if (result != 0) {
        (void)nng_listener_close(listener);
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "cannot listen on %s: %s", watch->path,
                         nng_strerror(result));
    }
    watch->listener = listener;
    return ERR_OK;
}

// Sends the probe and waits for the answer on probe_aio; false when there was none in time, or the aio was
// stopped.
static bool exchange(struct ipc_watch *watch, nng_socket socket)
{
    nng_aio *aio = watch->probe_aio;
    nng_msg *msg;

    if (nng_msg_alloc(&msg, watch->line_len) != 0) {
        return false;
    }
    memcpy(nng_msg_body(msg), watch->line, watch->line_len);
    nng_aio_set_timeout(aio, CHECK_MS);
    nng_aio_set_msg(aio, msg);
    pthread_mutex_lock(&watch->lock);
    nng_send_aio(socket, aio);
    pthread_mutex_unlock(&watch->lock);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0) {
        nng_aio_set_msg(aio, NULL);
        nng_msg_free(msg);
        return false;
    }
    pthread_mutex_lock(&watch->lock);
    nng_recv_aio(socket, aio);
    pthread_mutex_unlock(&watch->lock);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0) {
        return false;
    }
    msg = nng_aio_get_msg(aio);
    nng_aio_set_msg(aio, NULL);
    bool same =
        nng_msg_len(msg) == watch->line_len && memcmp(nng_msg_body(msg), watch->line, watch->line_len) == 0;
    nng_msg_free(msg);
    return same;
}

// A full round trip over a new connection: a send alone succeeds on a dead listener, too.
static bool round_trip(struct ipc_watch *watch)
{
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    bool good;

    if (nng_req0_open(&socket) != 0) {
        return false;
    }
    good = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE) == 0 &&
           nng_dial(socket, watch->url, NULL, NNG_FLAG_NONBLOCK) == 0 && exchange(watch, socket);
    (void)nng_close(socket);
    return good;
}

static bool is_dead(struct ipc_watch *watch)
{
    return !round_trip(watch) && watch->receiving(watch->arg) && !round_trip(watch) &&
           watch->receiving(watch->arg);
}

static void listen_anew(struct ipc_watch *watch)
{
    struct fault fault;

    (void)nng_listener_close(watch->listener);
    if (listen_on_path(watch, &fault) == ERR_OK) {
        log_line(LOG_LEVEL_WARNING, "ipc", "listening_anew", "path=%s",
                 log_quote(watch->path, &(struct log_text){0}));
    } else {
        log_line(LOG_LEVEL_ERROR, "ipc", "cannot_listen", "error=%s",
                 log_quote(fault.detail, &(struct log_text){0}));
    }
}

static void *watch_main(void *arg)
{
    struct ipc_watch *watch = arg;

    for (;;) {
        pthread_mutex_lock(&watch->lock);
        nng_sleep_aio(CHECK_EVERY_MS, watch->sleep_aio);
        pthread_mutex_unlock(&watch->lock);
        nng_aio_wait(watch->sleep_aio);
        if (nng_aio_result(watch->sleep_aio) != 0) {
            break;
        }
        if (is_dead(watch)) {
            listen_anew(watch);
        }
    }
    // Here and not in ipc_watch_stop, which must not wait for it without a limit.
    (void)nng_close(watch->socket);
    (void)eventfd_write(watch->closed_fd, 1);
    return NULL;
}

static enum err make_line(struct ipc_watch *watch)
{
    struct id_minter minter;
    char nonce[ID_TEXT_SIZE];
    struct id id;

    id_minter_init(&minter);
    enum err err = id_mint(&minter, wall_now().ms, &id);
    id_minter_fini(&minter);
    if (err != ERR_OK) {
        return err;
    }
    id_format(&id, nonce);
    int len = snprintf(watch->line, sizeof(watch->line), "{\"op\":\"ping\",\"probe\":\"%s\"}\n", nonce);
    if (len < 0 || (size_t)len >= sizeof(watch->line)) {
        return ERR_INTERNAL;
    }
    watch->line_len = (size_t)len;
    return ERR_OK;
}

static enum err build(struct ipc_watch *watch, const char *url)
{
    watch->closed_fd = eventfd(0, EFD_CLOEXEC);
    watch->url = strdup(url);
    if (watch->closed_fd < 0 || !watch->url || nng_aio_alloc(&watch->sleep_aio, NULL, NULL) != 0 ||
        nng_aio_alloc(&watch->probe_aio, NULL, NULL) != 0) {
        return ERR_NO_MEMORY;
    }
    watch->path = watch->url + strlen(URL_SCHEME);
    return make_line(watch);
}

enum err ipc_watch_new(const char *url, nng_socket socket, ipc_watch_receiving *receiving, void *arg,
                       struct ipc_watch **watch, struct fault *fault)
{
    size_t scheme_len = strlen(URL_SCHEME);

    if (strncmp(url, URL_SCHEME, scheme_len) != 0 || url[scheme_len] == '\0' ||
        strlen(url) > scheme_len + PATH_LENGTH_MAX) {
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE,
                         "'%s' is not ipc://PATH with a path of 1 to %d bytes", url, PATH_LENGTH_MAX);
    }
    struct ipc_watch *made = calloc(1, sizeof(*made));
    if (!made) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for %s", url);
    }
    pthread_mutex_init(&made->lock, NULL);
    made->socket = socket;
    made->receiving = receiving;
    made->arg = arg;
    enum err err = build(made, url);
    if (err != ERR_OK) {
        (void)fault_set(fault, err, "no memory or no resources for %s", url);
    } else {
        err = listen_on_path(made, fault);
    }
    if (err != ERR_OK) {
        ipc_watch_free(made);
        return err;
    }
    *watch = made;
    return ERR_OK;
}

enum err ipc_watch_start(struct ipc_watch *watch, struct fault *fault)
{
    if (!round_trip(watch)) {
        return fault_set(fault, ERR_SCHEDULER_UNAVAILABLE, "%s does not answer its own round trip",
                         watch->url);
    }
    if (pthread_create(&watch->thread, NULL, watch_main, watch) != 0) {
        return fault_set(fault, ERR_NO_MEMORY, "no thread to watch %s", watch->url);
    }
    return ERR_OK;
}

const char *ipc_watch_line(const struct ipc_watch *watch, size_t *len)
{
    *len = watch->line_len;
    return watch->line;
}

enum err ipc_watch_stop(struct ipc_watch *watch)
{
    struct pollfd closed = {.fd = watch->closed_fd, .events = POLLIN};

    pthread_mutex_lock(&watch->lock);
    nng_aio_stop(watch->sleep_aio);
    nng_aio_stop(watch->probe_aio);
    pthread_mutex_unlock(&watch->lock);
    if (poll(&closed, 1, CLOSE_MS) != 1) {
        pthread_detach(watch->thread);
        return ERR_INTERNAL;
    }
    pthread_join(watch->thread, NULL);
    return ERR_OK;
}

void ipc_watch_free(struct ipc_watch *watch)
{
    if (!watch) {
        return;
    }
    nng_aio_free(watch->sleep_aio);
    nng_aio_free(watch->probe_aio);
    if (watch->closed_fd >= 0) {
        close(watch->closed_fd);
    }
    pthread_mutex_destroy(&watch->lock);
    free(watch->url);
    free(watch);
}
