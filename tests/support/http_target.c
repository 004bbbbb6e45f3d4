#include "tests/support/http_target.h"

#include "common/buf.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CONNECTIONS_MAX 10000u

struct scripted {
    struct http_target_answer answer; // its texts are owned
    struct scripted *next;
};

// One request, from its first byte to the end of the server.
struct record {
    struct http_target_request request; // its texts are owned
    struct buf body;                    // while it is being read
};

struct http_target {
    struct MHD_Daemon *daemon;
    uint16_t port;
    char url[64];
    int stop_fd; // an eventfd that becomes readable for good when the server is to stop

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t arrived;
    struct scripted fallback;
    struct scripted *script;
    struct record **records;
    size_t count;
    size_t cap;
    unsigned connections;
};

static char *copy_text(const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy) {
        abort();
    }
    return copy;
}

static void free_text(const char *text)
{
    free((void *)(uintptr_t)text);
}

static struct http_target_answer copy_answer(const struct http_target_answer *answer)
{
    struct http_target_answer copy = *answer;

    copy.retry_after = copy_text(answer->retry_after);
    copy.location = copy_text(answer->location);
    copy.fields = copy_text(answer->fields);
    copy.body = copy_text(answer->body);
    return copy;
}

static void free_answer(struct http_target_answer *answer)
{
    free_text(answer->retry_after);
    free_text(answer->location);
    free_text(answer->fields);
    free_text(answer->body);
}

static void free_record(struct record *record)
{
    if (!record) {
        return;
    }
    free_text(record->request.method);
    free_text(record->request.path);
    free_text(record->request.version);
    free_text(record->request.headers);
    free_text(record->request.body);
    buf_fini(&record->body);
    free(record);
}

static enum MHD_Result add_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    buf_printf(arg, "%s: %s\n", name, value ? value : "");
    return MHD_YES;
}

static struct record *begin_record(struct MHD_Connection *connection, const char *url, const char *method,
                                   const char *version)
{
    struct record *record = calloc(1, sizeof(*record));
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct buf headers;
    size_t len;

    if (!record) {
        abort();
    }
    buf_init(&headers);
    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, add_header, &headers);
    buf_str(&headers, "");
    buf_init(&record->body);
    record->request = (struct http_target_request){
        .arrived = mono_now(),
        .connection = info ? (unsigned)(uintptr_t)info->socket_context : 0,
        .method = copy_text(method),
        .path = copy_text(url),
        .version = copy_text(version),
        .headers = buf_take(&headers, &len),
    };
    return record;
}

// Files a request that was read completely and takes the answer for it (to be freed by the caller).
static struct http_target_answer file_record(struct http_target *target, struct record *record)
{
    struct http_target_answer answer;
    char *body;

    buf_str(&record->body, "");
    body = buf_take(&record->body, &record->request.body_len);
    record->request.body = body ? body : copy_text("");

    pthread_mutex_lock(&target->lock);
    if (target->count == target->cap) {
        target->cap = target->cap ? 2 * target->cap : 64;
        target->records = realloc(target->records, target->cap * sizeof(struct record *));
        if (!target->records) {
            abort();
        }
    }
    target->records[target->count++] = record;
    struct scripted *scripted = target->script;
    if (scripted) {
        target->script = scripted->next;
        answer = scripted->answer;
        free(scripted);
    } else {
        answer = copy_answer(&target->fallback.answer);
    }
    record->request.answered = answer.how != HTTP_TARGET_ANSWER ? 0 : (answer.status ? answer.status : 200);
    pthread_cond_broadcast(&target->arrived);
    pthread_mutex_unlock(&target->lock);
    return answer;
}

static void add_fields(struct MHD_Response *response, const char *lines)
{
    char name[64], value[512];

    for (const char *end; *lines != '\0'; lines = end + 1) {
        const char *colon = strchr(lines, ':');
        end = strchr(lines, '\n');
        if (!colon || !end || strncmp(colon, ": ", 2) != 0 || (size_t)(colon - lines) >= sizeof(name) ||
            (size_t)(end - colon) >= sizeof(value)) {
            abort();
        }
        (void)snprintf(name, sizeof(name), "%.*s", (int)(colon - lines), lines);
        (void)snprintf(value, sizeof(value), "%.*s", (int)(end - colon - 2), colon + 2);
        (void)MHD_add_response_header(response, name, value);
    }
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, const struct http_target_answer *answer)
{
    struct MHD_Response *response;
    enum MHD_Result result;
    struct buf body;

    buf_init(&body);
    for (size_t i = 0; answer->body && i < (answer->repeat ? answer->repeat : 1); i++) {
        buf_str(&body, answer->body);
    }
    response = MHD_create_response_from_buffer(body.len, body.data, MHD_RESPMEM_MUST_COPY);
    buf_fini(&body);
    if (!response) {
        return MHD_NO;
    }
    if (answer->retry_after) {
        (void)MHD_add_response_header(response, "Retry-After", answer->retry_after);
    }
    if (answer->location) {
        (void)MHD_add_response_header(response, "Location", answer->location);
    }
    if (answer->fields) {
        add_fields(response, answer->fields);
    }
    result = MHD_queue_response(connection, answer->status ? answer->status : 200, response);
    MHD_destroy_response(response);
    return result;
}

// Waits for the delay, or for ever when it is negative; false when the server is to stop.
static bool wait_delay(struct http_target *target, int64_t delay_ns)
{
    struct pollfd stop = {.fd = target->stop_fd, .events = POLLIN};

    return poll(&stop, 1, delay_ns < 0 ? -1 : (int)(delay_ns / NS_PER_MS)) == 0;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *data_len,
                              void **state)
{
    struct http_target *target = arg;
    struct record *record = *state;

    if (!record) {
        *state = begin_record(connection, url, method, version);
        return MHD_YES;
    }
    if (*data_len > 0) {
        buf_put(&record->body, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    struct http_target_answer answer = file_record(target, record);
    *state = NULL;
    bool go = answer.how != HTTP_TARGET_DROP;
    if (answer.how == HTTP_TARGET_HANG) {
        go = wait_delay(target, -1);
    } else if (answer.delay_ns > 0) {
        go = wait_delay(target, answer.delay_ns) && go;
    }
    enum MHD_Result result = go ? send_answer(connection, &answer) : MHD_NO;
    free_answer(&answer);
    return result;
}

// Frees what was cut off before its end.
static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    (void)arg, (void)connection, (void)why;
    free_record(*state);
    *state = NULL;
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_target *target = arg;

    (void)connection;
    if (code != MHD_CONNECTION_NOTIFY_STARTED) {
        return;
    }
    pthread_mutex_lock(&target->lock);
    *socket_context = (void *)(uintptr_t)++target->connections;
    pthread_mutex_unlock(&target->lock);
}

static struct http_target *start(uint16_t port, const char *certificate, const char *key)
{
    struct http_target *target = calloc(1, sizeof(*target));
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)certificate},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
                                   {MHD_OPTION_END, 0, NULL}};
    // A thread for each connection: an answer that waits holds up no other. With select(2) there could not be
    // more than a thousand of them.
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL;
    const union MHD_DaemonInfo *info;

    if (!target) {
        return NULL;
    }
    pthread_mutex_init(&target->lock, NULL);
    pthread_cond_init(&target->arrived, NULL);
    target->stop_fd = eventfd(0, EFD_CLOEXEC);
    target->daemon = MHD_start_daemon(
        certificate ? flags | MHD_USE_TLS : flags, port, NULL, NULL, handle, target, MHD_OPTION_SOCK_ADDR,
        &address, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, target, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        target, MHD_OPTION_ARRAY, certificate ? tls : &tls[2], MHD_OPTION_END);
    info = target->daemon ? MHD_get_daemon_info(target->daemon, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!info || target->stop_fd < 0) {
        http_target_stop(target);
        return NULL;
    }
    target->port = info->port;
    int len = snprintf(target->url, sizeof(target->url), "%s://127.0.0.1:%u/deliver",
                       certificate ? "https" : "http", (unsigned)target->port);
    if (len < 0 || (size_t)len >= sizeof(target->url)) {
        abort();
    }
    return target;
}

struct http_target *http_target_start(uint16_t port)
{
    return start(port, NULL, NULL);
}

struct http_target *http_target_start_tls(const char *certificate, const char *key)
{
    return start(0, certificate, key);
}

void http_target_stop(struct http_target *target)
{
    if (!target) {
        return;
    }
    if (target->stop_fd >= 0) {
        (void)eventfd_write(target->stop_fd, 1);
    }
    if (target->daemon) {
        MHD_stop_daemon(target->daemon);
    }
    if (target->stop_fd >= 0) {
        close(target->stop_fd);
    }
    for (size_t i = 0; i < target->count; i++) {
        free_record(target->records[i]);
    }
    free(target->records);
    while (target->script) {
        struct scripted *next = target->script->next;
        free_answer(&target->script->answer);
        free(target->script);
        target->script = next;
    }
    free_answer(&target->fallback.answer);
    pthread_cond_destroy(&target->arrived);
    pthread_mutex_destroy(&target->lock);
    free(target);
}

uint16_t http_target_port(const struct http_target *target)
{
    return target->port;
}

const char *http_target_url(const struct http_target *target)
{
    return target->url;
}

void http_target_set_default(struct http_target *target, const struct http_target_answer *answer)
{
    pthread_mutex_lock(&target->lock);
    free_answer(&target->fallback.answer);
    target->fallback.answer = copy_answer(answer);
    pthread_mutex_unlock(&target->lock);
}

void http_target_script(struct http_target *target, const struct http_target_answer *answer)
{
    struct scripted *scripted = calloc(1, sizeof(*scripted));
    struct scripted **end = &target->script;

    if (!scripted) {
        abort();
    }
    scripted->answer = copy_answer(answer);
    pthread_mutex_lock(&target->lock);
    while (*end) {
        end = &(*end)->next;
    }
    *end = scripted;
    pthread_mutex_unlock(&target->lock);
}

size_t http_target_count(struct http_target *target)
{
    pthread_mutex_lock(&target->lock);
    size_t count = target->count;
    pthread_mutex_unlock(&target->lock);
    return count;
}

unsigned http_target_connections(struct http_target *target)
{
    pthread_mutex_lock(&target->lock);
    unsigned connections = target->connections;
    pthread_mutex_unlock(&target->lock);
    return connections;
}

bool http_target_wait(struct http_target *target, size_t n, int64_t timeout_ns)
{
    int64_t until_ms = wall_now().ms + timeout_ns / NS_PER_MS;
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * NS_PER_MS};
    int result = 0;

    pthread_mutex_lock(&target->lock);
    while (target->count < n && result == 0) {
        result = pthread_cond_timedwait(&target->arrived, &target->lock, &until);
    }
    bool there = target->count >= n;
    pthread_mutex_unlock(&target->lock);
    return there;
}

struct http_target_request http_target_get(struct http_target *target, size_t i)
{
    pthread_mutex_lock(&target->lock);
    if (i >= target->count) {
        abort();
    }
    struct http_target_request request = target->records[i]->request;
    pthread_mutex_unlock(&target->lock);
    return request;
}

bool http_target_header(const struct http_target_request *request, const char *name, char *value, size_t size)
{
    size_t name_len = strlen(name);

    for (const char *line = request->headers; *line; line = strchr(line, '\n') + 1) {
        if (strncasecmp(line, name, name_len) != 0 || strncmp(line + name_len, ": ", 2) != 0) {
            continue;
        }
        const char *start = line + name_len + 2;
        size_t len = (size_t)(strchr(start, '\n') - start);
        if (len >= size) {
            return false;
        }
        memcpy(value, start, len);
        value[len] = '\0';
        return true;
    }
    return false;
}
