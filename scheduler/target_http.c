#include "scheduler/target_http.h"

#include "proto/queue_change.h"
#include "scheduler/target_attempt.h"
#include "scheduler/target_thread.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>

#define CONNECTIONS_KEPT 1024 // beside those in use
#define IDLE_MAX 256          // attempts kept for reuse
#define EVENTS_MAX 16         // few, so that what is new is never far behind
#define RETRY_POLL_MS 10      // after a failure of libcurl's own, such as no memory

struct http_target {
    struct target target;
    struct curl_slist *headers; // sent with each delivery, behind its key
};

struct http {
    struct target_thread thread; // sockets in its epoll are known by 1 + descriptor
    struct inbox *inbox;
    struct certificates certificates;

    // The thread's alone.
    CURLM *multi;      // NULL: there is no memory for one
    struct mono timer; // when libcurl wants to be called
    struct attempt *running;
    size_t running_count;
    struct attempt *idle;
    size_t idle_count;
};

// ---- attempts ----

static struct attempt *take_attempt(struct http *http)
{
    struct attempt *attempt = http->idle;

    if (!attempt) {
        return attempt_new(&http->certificates);
    }
    http->idle = attempt->next;
    http->idle_count--;
    return attempt;
}

static void put_attempt(struct http *http, struct attempt *attempt)
{
    attempt_end(attempt);
    if (http->idle_count == IDLE_MAX) {
        attempt_free(attempt);
        return;
    }
    attempt->next = http->idle;
    http->idle = attempt;
    http->idle_count++;
}

// libcurl's limit is on all connections: where very many deliveries hang, it would keep none of the others.
static bool limit_connections(const struct http *http)
{
    long limit = CONNECTIONS_KEPT + (long)http->running_count;

    return curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, limit) == CURLM_OK;
}

static void link_running(struct http *http, struct attempt *attempt)
{
    attempt->prev = NULL;
    attempt->next = http->running;
    if (http->running) {
        http->running->prev = attempt;
    }
    http->running = attempt;
    http->running_count++;
    (void)limit_connections(http);
}

static void unlink_running(struct http *http, struct attempt *attempt)
{
    if (attempt->prev) {
        attempt->prev->next = attempt->next;
    } else {
        http->running = attempt->next;
    }
    if (attempt->next) {
        attempt->next->prev = attempt->prev;
    }
    http->running_count--;
    (void)limit_connections(http);
}

static void start_delivery(void *user, struct delivery *delivery)
{
    struct http *http = user;
    struct http_target *target = (struct http_target *)delivery->target;
    struct attempt *attempt = take_attempt(http);
    bool ready = attempt && attempt_begin(attempt, delivery, target->headers) == ERR_OK;

    delivery_begin(delivery, http->inbox);
    if (ready && curl_multi_add_handle(http->multi, attempt->easy) == CURLM_OK) {
        link_running(http, attempt);
        return;
    }
    if (attempt) {
        put_attempt(http, attempt);
    }
    delivery_explain(delivery, "no memory for the delivery");
    delivery_end(delivery, OUTCOME_RETRY, http->inbox);
}

static void end_attempt(struct http *http, struct attempt *attempt, CURLcode code)
{
    struct delivery *delivery = attempt->delivery;
    enum outcome_class class = attempt_judge(attempt, code);

    (void)curl_multi_remove_handle(http->multi, attempt->easy);
    unlink_running(http, attempt);
    put_attempt(http, attempt);
    delivery_end(delivery, class, http->inbox);
}

static void end_finished(struct http *http)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(http->multi, &left))) {
        char *attempt = NULL;
        CURLcode code = msg->data.result; // removing the handle takes the message with it
        if (msg->msg != CURLMSG_DONE ||
            curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &attempt) != CURLE_OK) {
            continue;
        }
        end_attempt(http, (struct attempt *)(void *)attempt, code);
    }
}

// ---- events ----

// libcurl tells which sockets it waits for. Returning an error would make it give up for good: a socket that
// cannot be watched runs into its delivery's timeout instead.
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct http *http = arg;
    struct epoll_event event = {.data.u64 = (uint64_t)fd + 1};

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(http->thread.epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(http->thread.epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0 && !known) {
        (void)curl_multi_assign(http->multi, fd, http);
    }
    return 0;
}

static int on_timer(CURLM *multi, long wait_ms, void *arg)
{
    struct http *http = arg;

    (void)multi;
    http->timer = wait_ms < 0 ? MONO_NEVER : mono_add(mono_now(), wait_ms * NS_PER_MS);
    return 0;
}

static CURLMcode act(struct http *http, curl_socket_t fd, int what)
{
    int running;

    return http->multi ? curl_multi_socket_action(http->multi, fd, what, &running) : CURLM_BAD_HANDLE;
}

static CURLMcode act_on(struct http *http, const struct epoll_event *event)
{
    int what = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

    return act(http, (curl_socket_t)(event->data.u64 - 1), what);
}

static CURLMcode act_on_all(struct http *http)
{
    struct epoll_event events[EVENTS_MAX];
    int count = target_thread_wait(&http->thread, events, EVENTS_MAX, http->timer);
    CURLMcode code = CURLM_OK;

    for (int i = 0; i < count && code == CURLM_OK; i++) {
        if (events[i].data.u64 != 0) {
            code = act_on(http, &events[i]);
        }
    }
    return code;
}

static CURLMcode act_on_timer(struct http *http)
{
    if (mono_before(mono_now(), http->timer)) {
        return CURLM_OK;
    }
    http->timer = MONO_NEVER; // until libcurl sets it again
    return act(http, CURL_SOCKET_TIMEOUT, 0);
}

static bool set_up(struct http *http)
{
    http->multi = curl_multi_init();
    return http->multi && limit_connections(http) &&
           curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
           curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) == CURLM_OK &&
           curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
           curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http) == CURLM_OK;
}

// After a failure of its own, which is mostly one of memory, libcurl (7.88) may never say a word of a
// transfer again, and divides by zero when it next hears of a socket that it could not note down. So nothing
// of it is used further: what was under way is tried again.
static void start_over(struct http *http)
{
    while (http->running) {
        end_attempt(http, http->running, CURLE_OUT_OF_MEMORY);
    }
    (void)curl_multi_cleanup(http->multi);
    http->timer = MONO_NEVER;
    if (!set_up(http)) {
        (void)curl_multi_cleanup(http->multi);
        http->multi = NULL;
        http->timer = mono_now(); // fails, and leads back to here
    }
}

static void *http_main(void *arg)
{
    struct http *http = arg;

    target_thread_block_signals();
    while (target_thread_goes_on(&http->thread)) {
        bool good = act_on_all(http) == CURLM_OK;
        if (good) {
            target_thread_take(&http->thread, start_delivery, http);
            good = act_on_timer(http) == CURLM_OK;
        }
        end_finished(http);
        if (!good) {
            start_over(http);
            (void)poll(NULL, 0, RETRY_POLL_MS);
        }
    }
    return NULL;
}

// ---- the machinery ----

// The thread has ended, or never ran.
static void http_destroy(struct http *http)
{
    while (http->running) {
        struct attempt *attempt = http->running;
        struct delivery *delivery = attempt->delivery;
        (void)curl_multi_remove_handle(http->multi, attempt->easy);
        unlink_running(http, attempt);
        put_attempt(http, attempt);
        delivery_free(delivery);
    }
    while (http->idle) {
        struct attempt *attempt = http->idle;
        http->idle = attempt->next;
        attempt_free(attempt);
    }
    curl_multi_cleanup(http->multi); // still tells of sockets
    target_thread_fini(&http->thread);
    free(http);
    curl_global_cleanup();
}

// As the curl program does it; the library by itself looks at none of them.
static void find_certificates(struct certificates *certificates)
{
    const char *bundle = getenv("CURL_CA_BUNDLE");

    if (!bundle || bundle[0] == '\0') {
        bundle = getenv("SSL_CERT_FILE");
    }
    certificates->file = bundle && bundle[0] != '\0' ? bundle : NULL;
    certificates->path = getenv("SSL_CERT_DIR");
    if (certificates->path && certificates->path[0] == '\0') {
        certificates->path = NULL;
    }
}

static enum err http_begin(struct inbox *inbox, struct http **http, struct fault *fault)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fault_set(fault, ERR_INTERNAL, "libcurl cannot start");
    }
    struct http *made = calloc(1, sizeof(*made));
    if (!made) {
        curl_global_cleanup();
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    made->inbox = inbox;
    made->timer = MONO_NEVER;
    find_certificates(&made->certificates);
    if (target_thread_init(&made->thread) != ERR_OK || !set_up(made) ||
        target_thread_start(&made->thread, http_main, made) != ERR_OK) {
        http_destroy(made);
        return fault_set(fault, ERR_INTERNAL, "no descriptor, memory or thread for http targets");
    }
    *http = made;
    return ERR_OK;
}

void http_halt(struct http *http)
{
    if (http) {
        target_thread_stop(&http->thread);
    }
}

void http_stop(struct http *http)
{
    if (http) {
        http_halt(http);
        http_destroy(http);
    }
}

// ---- the kind ----

static enum err check(const char *text, struct fault *fault)
{
    CURLU *url = curl_url();
    CURLUcode code;
    char *host = NULL;

    if (!url) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    code = curl_url_set(url, CURLUPART_URL, text, 0);
    if (code == CURLUE_OK) {
        code = curl_url_get(url, CURLUPART_HOST, &host, 0);
    }
    curl_free(host);
    curl_url_cleanup(url);
    if (code == CURLUE_OUT_OF_MEMORY) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    if (code != CURLUE_OK) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "target '%.80s' is no URL such as http://host:port/path: %s", text,
                         curl_url_strerror(code));
    }
    return ERR_OK;
}

static bool append(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer) {
        *list = longer;
    }
    return longer != NULL;
}

// Ours, then the queue's own.
static bool make_headers(const char *lines, struct curl_slist **list)
{
    const char *name, *value;
    size_t name_len, value_len;
    struct buf line;
    bool good = append(list, "Content-Type: application/json") &&
                append(list, "Expect:"); // no waiting for 100-continue

    buf_init(&line);
    while (good && headers_next(&lines, &name, &name_len, &value, &value_len)) {
        buf_reset(&line);
        buf_put(&line, name, name_len);
        buf_str(&line, value_len > 0 ? ": " : ";"); // libcurl's way to say that the value is empty
        buf_put(&line, value, value_len);
        good = buf_err(&line) == ERR_OK && append(list, line.data);
    }
    buf_fini(&line);
    return good;
}

static void close_target(struct target *target)
{
    struct http_target *http_target = (struct http_target *)target;

    curl_slist_free_all(http_target->headers);
    free(http_target);
}

static enum err open_target(struct targets *targets, const char *text, const char *headers,
                            struct target **target, struct fault *fault)
{
    (void)text;
    if (!targets->http) {
        enum err err = http_begin(targets->inbox, &targets->http, fault);
        if (err != ERR_OK) {
            return err;
        }
    }
    struct http_target *made = calloc(1, sizeof(*made));
    if (!made || !make_headers(headers, &made->headers)) {
        if (made) {
            close_target(&made->target);
        }
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    *target = &made->target;
    return ERR_OK;
}

static void start(struct delivery *delivery)
{
    target_thread_hand(&delivery->target->targets->http->thread, delivery);
}

const struct target_kind target_http = {check, open_target, close_target, start};
