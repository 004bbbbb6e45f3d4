#include "scheduler/target_http.h"

#include "common/units.h"

#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 1024L // kept ones; a queue's concurrency may still be higher
#define IDLE_MAX 256          // attempts kept for reuse
#define IDLE_POLL_MS 60000
#define RETRY_POLL_MS 100        // after a failure of libcurl's own, such as no memory
#define ANSWER_MAX (64u << 10)   // bytes of an answer that are read
#define ANSWER_KEPT 200u         // bytes of it that an error quotes
#define ANSWER_BUFFER 4096L      // libcurl's, for each connection
#define HOLD_MAX_S (366 * 86400) // so that no Retry-After overflows; the queue has a limit of its own
#define KEY_HEADER "Idempotency-Key: "

// A slot for one delivery at a time, with its easy handle, whose options are set once. The thread's alone.
struct attempt {
    struct attempt *next; // in http->idle or http->running
    struct attempt *prev; // in http->running
    CURL *easy;
    struct curl_slist *headers; // the first is KEY_HEADER, its value overwritten for each delivery
    struct delivery *delivery;
    struct buf body;
    size_t body_sent;
    char answer[ANSWER_KEPT];
    size_t answer_len;  // bytes kept
    size_t answer_read; // bytes read
    char error[CURL_ERROR_SIZE];
};

struct http {
    struct target target;
    struct inbox *inbox;
    char *url;
    const char *ca_file; // NULL: libcurl's own
    const char *ca_path;
    CURLM *multi;
    pthread_t thread;

    pthread_mutex_t lock;     // guards what follows
    struct inbox_item *first; // deliveries that the thread has not yet taken
    struct inbox_item *last;
    bool stopping;

    // The thread's alone.
    struct attempt *idle;
    size_t idle_count;
    struct attempt *running;
};

// ---- libcurl's callbacks ----

static size_t read_body(char *into, size_t size, size_t count, void *arg)
{
    struct attempt *attempt = arg;
    size_t room = size * count;
    size_t left = attempt->body.len - attempt->body_sent;
    size_t len = left < room ? left : room;

    if (len > 0) {
        memcpy(into, attempt->body.data + attempt->body_sent, len);
    }
    attempt->body_sent += len;
    return len;
}

// libcurl sends a request once more by itself when a kept connection breaks before the answer, unless it
// cannot go back to the start of the body. Whether and when to try again is for the scheduler to say, which
// counts attempts and keeps the rate.
static int refuse_rewind(void *arg, curl_off_t offset, int origin)
{
    (void)arg, (void)offset, (void)origin;
    return CURL_SEEKFUNC_FAIL;
}

static size_t write_answer(char *data, size_t size, size_t count, void *arg)
{
    struct attempt *attempt = arg;
    size_t len = size * count;
    size_t room = ANSWER_KEPT - attempt->answer_len;
    size_t kept = len < room ? len : room;

    memcpy(attempt->answer + attempt->answer_len, data, kept);
    attempt->answer_len += kept;
    attempt->answer_read += len;
    return attempt->answer_read <= ANSWER_MAX ? len : 0; // 0 ends the transfer
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg, (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// ---- attempts ----

static void attempt_free(struct attempt *attempt)
{
    if (!attempt) {
        return;
    }
    curl_easy_cleanup(attempt->easy);
    curl_slist_free_all(attempt->headers);
    buf_fini(&attempt->body);
    free(attempt);
}

static bool make_headers(struct attempt *attempt)
{
    static const char *const lines[] = {
        KEY_HEADER "00000000-0000-0000-0000-000000000000", "Content-Type: application/json",
        "Expect:", // no waiting for 100-continue
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct curl_slist *longer = curl_slist_append(attempt->headers, lines[i]);
        if (!longer) {
            return false;
        }
        attempt->headers = longer;
    }
    return true;
}

static CURLcode set_options(CURL *easy, struct attempt *attempt, const struct http *http)
{
    CURLcode code = CURLE_OK;

#define SET(option, value)                                                                                   \
    if (code == CURLE_OK)                                                                                    \
    code = curl_easy_setopt(easy, option, value)
    SET(CURLOPT_URL, http->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
    SET(CURLOPT_HTTPHEADER, attempt->headers);
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_READFUNCTION, read_body);
    SET(CURLOPT_READDATA, attempt);
    SET(CURLOPT_SEEKFUNCTION, refuse_rewind);
    SET(CURLOPT_WRITEFUNCTION, write_answer);
    SET(CURLOPT_WRITEDATA, attempt);
    SET(CURLOPT_BUFFERSIZE, ANSWER_BUFFER);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_ERRORBUFFER, attempt->error);
    SET(CURLOPT_PRIVATE, attempt);
    if (http->ca_file) {
        SET(CURLOPT_CAINFO, http->ca_file);
    }
    if (http->ca_path) {
        SET(CURLOPT_CAPATH, http->ca_path);
    }
#undef SET
    return code;
}

static struct attempt *attempt_new(const struct http *http)
{
    struct attempt *attempt = calloc(1, sizeof(*attempt));

    if (!attempt) {
        return NULL;
    }
    buf_init(&attempt->body);
    attempt->easy = curl_easy_init();
    if (!attempt->easy || !make_headers(attempt) || set_options(attempt->easy, attempt, http) != CURLE_OK) {
        attempt_free(attempt);
        return NULL;
    }
    return attempt;
}

static struct attempt *take_attempt(struct http *http)
{
    struct attempt *attempt = http->idle;

    if (!attempt) {
        return attempt_new(http);
    }
    http->idle = attempt->next;
    http->idle_count--;
    return attempt;
}

static void put_attempt(struct http *http, struct attempt *attempt)
{
    buf_fini(&attempt->body);
    if (http->idle_count == IDLE_MAX) {
        attempt_free(attempt);
        return;
    }
    attempt->next = http->idle;
    http->idle = attempt;
    http->idle_count++;
}

// ---- the start of a delivery ----

static bool prepare(struct attempt *attempt, const struct delivery *delivery)
{
    int64_t timeout_ms = delivery->timeout_ns / NS_PER_MS;

    delivery_body(delivery, &attempt->body);
    if (buf_err(&attempt->body) != ERR_OK) {
        return false;
    }
    attempt->body_sent = 0;
    attempt->answer_len = 0;
    attempt->answer_read = 0;
    attempt->error[0] = '\0';
    id_format(&delivery->batch, attempt->headers->data + strlen(KEY_HEADER));
    return curl_easy_setopt(attempt->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)attempt->body.len) ==
               CURLE_OK &&
           curl_easy_setopt(attempt->easy, CURLOPT_TIMEOUT_MS, timeout_ms > 0 ? (long)timeout_ms : 1L) ==
               CURLE_OK;
}

static void start_delivery(struct http *http, struct delivery *delivery)
{
    struct attempt *attempt = take_attempt(http);
    bool ready = attempt && prepare(attempt, delivery);

    delivery_begin(delivery, http->inbox);
    if (!ready || curl_multi_add_handle(http->multi, attempt->easy) != CURLM_OK) {
        if (attempt) {
            put_attempt(http, attempt);
        }
        delivery_explain(delivery, "no memory for the delivery");
        delivery_end(delivery, OUTCOME_RETRY, http->inbox);
        return;
    }
    attempt->delivery = delivery;
    attempt->prev = NULL;
    attempt->next = http->running;
    if (http->running) {
        http->running->prev = attempt;
    }
    http->running = attempt;
}

// ---- its end ----

// What a status means, but for Retry-After.
static enum outcome_class judge_status(long status)
{
    if (status >= 200 && status <= 299) {
        return OUTCOME_COMPLETED;
    }
    if (status == 408 || status == 425 || status == 429 || (status >= 500 && status <= 599)) {
        return OUTCOME_RETRY;
    }
    return OUTCOME_FAILED;
}

static enum outcome_class judge_answer(struct attempt *attempt)
{
    struct delivery *delivery = attempt->delivery;
    long status = 0;
    curl_off_t wait_s = 0;

    (void)curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(attempt->easy, CURLINFO_RETRY_AFTER, &wait_s);

    enum outcome_class class = judge_status(status);
    if (class == OUTCOME_COMPLETED) {
        return class;
    }
    for (size_t i = 0; i < attempt->answer_len; i++) {
        if (strchr("\t\n\r", attempt->answer[i])) {
            attempt->answer[i] = ' '; // the error is one line
        }
    }
    delivery_explain(delivery, attempt->answer_len > 0 ? "HTTP %ld: %.*s" : "HTTP %ld", status,
                     (int)attempt->answer_len, attempt->answer);
    // A wait that is over already (0, or a date that has passed) holds nothing: that is a plain retry, with
    // its backoff.
    if ((status == 429 || status == 503) && wait_s > 0) {
        delivery->outcome.hold_ns = (wait_s < HOLD_MAX_S ? wait_s : HOLD_MAX_S) * NS_PER_S;
        return OUTCOME_HOLD;
    }
    return class;
}

static enum outcome_class judge_failure(struct attempt *attempt, CURLcode code)
{
    struct delivery *delivery = attempt->delivery;
    const char *reason = attempt->error[0] != '\0' ? attempt->error : curl_easy_strerror(code);
    char timeout[DURATION_TEXT_SIZE];
    curl_off_t connected_us = 0;

    (void)curl_easy_getinfo(attempt->easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
    if (code == CURLE_OPERATION_TIMEDOUT) {
        duration_format(delivery->timeout_ns, timeout);
        delivery_explain(delivery, "timed out after %s", timeout);
    } else if (code ==
               CURLE_SEND_FAIL_REWIND) { // a kept connection that broke: libcurl wanted to send it again
        delivery_explain(delivery, "connection lost before an answer came");
    } else if (connected_us == 0) {
        delivery_explain(delivery, "could not connect: %s", reason);
    } else {
        delivery_explain(delivery, "connection failed: %s", reason);
    }
    return OUTCOME_RETRY;
}

static void end_attempt(struct http *http, struct attempt *attempt, CURLcode code)
{
    struct delivery *delivery = attempt->delivery;
    // An answer that we stopped reading has told its status all the same.
    bool answered = code == CURLE_OK || (code == CURLE_WRITE_ERROR && attempt->answer_read > ANSWER_MAX);
    enum outcome_class class = answered ? judge_answer(attempt) : judge_failure(attempt, code);

    (void)curl_multi_remove_handle(http->multi, attempt->easy);
    if (attempt->prev) {
        attempt->prev->next = attempt->next;
    } else {
        http->running = attempt->next;
    }
    if (attempt->next) {
        attempt->next->prev = attempt->prev;
    }
    attempt->delivery = NULL;
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

// ---- the thread ----

// Starts what has been handed over; false when the target is to end.
static bool start_new(struct http *http)
{
    struct inbox_item *item, *next;
    bool stopping;

    pthread_mutex_lock(&http->lock);
    stopping = http->stopping;
    item = stopping ? NULL : http->first;
    if (item) {
        http->first = NULL;
        http->last = NULL;
    }
    pthread_mutex_unlock(&http->lock);
    for (; item; item = next) {
        next = item->next;
        start_delivery(http, delivery_of(item));
    }
    return !stopping;
}

static void *http_main(void *arg)
{
    struct http *http = arg;

    while (start_new(http)) {
        int running;
        CURLMcode code = curl_multi_perform(http->multi, &running);
        end_finished(http);
        if (code == CURLM_OK) {
            code = curl_multi_poll(http->multi, NULL, 0, IDLE_POLL_MS, NULL);
        }
        if (code != CURLM_OK) {
            (void)poll(NULL, 0, RETRY_POLL_MS);
        }
    }
    return NULL;
}

static void http_start(struct target *target, struct delivery *delivery)
{
    struct http *http = (struct http *)target;
    bool was_empty;

    delivery->item.next = NULL;
    pthread_mutex_lock(&http->lock);
    was_empty = !http->first;
    if (was_empty) {
        http->first = &delivery->item;
    } else {
        http->last->next = &delivery->item;
    }
    http->last = &delivery->item;
    pthread_mutex_unlock(&http->lock);
    if (was_empty) {
        (void)curl_multi_wakeup(http->multi);
    }
}

// ---- life ----

// The thread has ended, or never ran.
static void http_destroy(struct http *http)
{
    while (http->running) {
        struct attempt *attempt = http->running;
        http->running = attempt->next;
        (void)curl_multi_remove_handle(http->multi, attempt->easy);
        delivery_free(attempt->delivery);
        attempt_free(attempt);
    }
    while (http->idle) {
        struct attempt *attempt = http->idle;
        http->idle = attempt->next;
        attempt_free(attempt);
    }
    while (http->first) {
        struct delivery *delivery = delivery_of(http->first);
        http->first = http->first->next;
        delivery_free(delivery);
    }
    curl_multi_cleanup(http->multi);
    pthread_mutex_destroy(&http->lock);
    free(http->url);
    free(http);
    curl_global_cleanup();
}

static void http_free(struct target *target)
{
    struct http *http = (struct http *)target;

    pthread_mutex_lock(&http->lock);
    http->stopping = true;
    pthread_mutex_unlock(&http->lock);
    (void)curl_multi_wakeup(http->multi);
    pthread_join(http->thread, NULL);
    http_destroy(http);
}

static const struct target_ops http_ops = {http_start, NULL, http_free};

enum err target_http_check(const char *text, struct fault *fault)
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

// As the curl program does it; the library by itself looks at none of them.
static void find_certificates(struct http *http)
{
    const char *bundle = getenv("CURL_CA_BUNDLE");

    if (!bundle || bundle[0] == '\0') {
        bundle = getenv("SSL_CERT_FILE");
    }
    http->ca_file = bundle && bundle[0] != '\0' ? bundle : NULL;
    http->ca_path = getenv("SSL_CERT_DIR");
    if (http->ca_path && http->ca_path[0] == '\0') {
        http->ca_path = NULL;
    }
}

enum err target_http_new(const char *text, struct inbox *inbox, struct target **target, struct fault *fault)
{
    enum err err = target_http_check(text, fault);

    if (err != ERR_OK) {
        return err;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fault_set(fault, ERR_INTERNAL, "libcurl cannot start");
    }
    struct http *http = calloc(1, sizeof(*http));
    if (!http) {
        curl_global_cleanup();
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    http->target.ops = &http_ops;
    http->inbox = inbox;
    find_certificates(http);
    pthread_mutex_init(&http->lock, NULL);
    http->url = strdup(text);
    http->multi = curl_multi_init();
    if (!http->url || !http->multi ||
        curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX) != CURLM_OK ||
        pthread_create(&http->thread, NULL, http_main, http) != 0) {
        http_destroy(http);
        return fault_set(fault, ERR_NO_MEMORY, "no memory or no thread for a target");
    }
    *target = &http->target;
    return ERR_OK;
}
