#include "scheduler/target_attempt.h"

#include "common/units.h"
#include "scheduler/pressure.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define ANSWER_MAX (64u << 10) // bytes of an answer that are read
#define ANSWER_BUFFER 4096L    // libcurl's, for each connection

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
    size_t room = ATTEMPT_ANSWER_KEPT - attempt->answer_len;
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

// ---- life ----

static CURLcode set_options(CURL *easy, struct attempt *attempt, const struct certificates *certificates)
{
    CURLcode code = CURLE_OK;

#define SET(option, value)                                                                                   \
    if (code == CURLE_OK)                                                                                    \
    code = curl_easy_setopt(easy, option, value)
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
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
    if (certificates->file) {
        SET(CURLOPT_CAINFO, certificates->file);
    }
    if (certificates->path) {
        SET(CURLOPT_CAPATH, certificates->path);
    }
#undef SET
    return code;
}

struct attempt *attempt_new(const struct certificates *certificates)
{
    struct attempt *attempt = calloc(1, sizeof(*attempt));

    if (!attempt) {
        return NULL;
    }
    buf_init(&attempt->body);
    memcpy(attempt->key, ATTEMPT_KEY, sizeof(ATTEMPT_KEY));
    attempt->key_line.data = attempt->key;
    memcpy(attempt->trace, ATTEMPT_TRACE, sizeof(ATTEMPT_TRACE));
    attempt->trace_line.data = attempt->trace;
    attempt->easy = curl_easy_init();
    if (!attempt->easy || set_options(attempt->easy, attempt, certificates) != CURLE_OK) {
        attempt_free(attempt);
        return NULL;
    }
    return attempt;
}

void attempt_free(struct attempt *attempt)
{
    if (!attempt) {
        return;
    }
    curl_easy_cleanup(attempt->easy);
    buf_fini(&attempt->body);
    free(attempt);
}

// ---- one delivery ----

// Whether one of the lines has this name, which ends in a colon and a space.
static bool has_header(const struct curl_slist *lines, const char *name)
{
    const size_t len = strlen(name) - strlen(": ");
    for (; lines; lines = lines->next) {
        if (strncasecmp(lines->data, name, len) == 0 && strchr(":;", lines->data[len])) {
            return true;
        }
    }
    return false;
}

enum err attempt_begin(struct attempt *attempt, struct delivery *delivery, struct curl_slist *headers)
{
    int64_t timeout_ms = delivery->timeout_ns / NS_PER_MS;
    CURL *easy = attempt->easy;

    delivery_body(delivery, &attempt->body);
    if (buf_err(&attempt->body) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    attempt->delivery = delivery;
    attempt->body_sent = 0;
    attempt->answer_len = 0;
    attempt->answer_read = 0;
    attempt->error[0] = '\0';
    attempt->key_line.next = headers;
    if (delivery->trace.traceparent[0] != '\0' && !has_header(headers, ATTEMPT_TRACE)) {
        memcpy(attempt->trace + strlen(ATTEMPT_TRACE), delivery->trace.traceparent, TRACEPARENT_SIZE);
        attempt->trace_line.next = headers;
        attempt->key_line.next = &attempt->trace_line;
    }
    id_format(&delivery->batch, attempt->key + strlen(ATTEMPT_KEY));
    bool set =
        curl_easy_setopt(easy, CURLOPT_URL, target_text(delivery->target)) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &attempt->key_line) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)attempt->body.len) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms > 0 ? (long)timeout_ms : 1L) == CURLE_OK;
    return set ? ERR_OK : ERR_NO_MEMORY;
}

void attempt_end(struct attempt *attempt)
{
    (void)curl_easy_setopt(attempt->easy, CURLOPT_HTTPHEADER, NULL);
    attempt->key_line.next = NULL;
    attempt->delivery = NULL;
    buf_fini(&attempt->body);
}

// ---- its outcome ----

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

// All lines of a field of the answer as one value, joined as RFC 9110 has it; NULL when there are none.
static const char *read_field(CURL *easy, const char *name, struct buf *into)
{
    struct curl_header *header = NULL;
    size_t amount = 1;

    buf_init(into);
    for (size_t i = 0; i < amount; i++) {
        if (curl_easy_header(easy, name, i, CURLH_HEADER, -1, &header) != CURLHE_OK) {
            break;
        }
        amount = header->amount;
        buf_str(into, i > 0 ? ", " : "");
        buf_str(into, header->value);
    }
    return buf_err(into) == ERR_OK ? into->data : NULL;
}

// Whether the answer holds the queue.
static bool judge_pressure(struct attempt *attempt, long status)
{
    static const char *const names[] = {"Retry-After", "RateLimit", "RateLimit-Remaining", "RateLimit-Reset"};
    struct outcome *outcome = &attempt->delivery->outcome;
    const char *values[4];
    struct buf texts[4];

    for (size_t i = 0; i < 4; i++) {
        values[i] = read_field(attempt->easy, names[i], &texts[i]);
    }
    struct pressure_fields fields = {.retry_after = values[0],
                                     .rate_limit = values[1],
                                     .rate_limit_remaining = values[2],
                                     .rate_limit_reset = values[3]};
    outcome->hold_ns = pressure_hold(status, &fields, wall_now(), &outcome->held_by);
    for (size_t i = 0; i < 4; i++) {
        buf_fini(&texts[i]);
    }
    return outcome->hold_ns > 0;
}

static enum outcome_class judge_answer(struct attempt *attempt)
{
    struct delivery *delivery = attempt->delivery;
    long status = 0;

    (void)curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
    enum outcome_class class = judge_status(status);
    if (judge_pressure(attempt, status) && (status == 429 || status == 503)) {
        class = OUTCOME_HOLD;
    }
    delivery->outcome.down = class == OUTCOME_RETRY && status >= 500;
    if (class != OUTCOME_COMPLETED) {
        delivery_explain(delivery, attempt->answer_len > 0 ? "HTTP %ld: %.*s" : "HTTP %ld", status,
                         (int)attempt->answer_len, attempt->answer);
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
    delivery->outcome.down = code != CURLE_OUT_OF_MEMORY; // which is ours and not the target's
    return OUTCOME_RETRY;
}

enum outcome_class attempt_judge(struct attempt *attempt, CURLcode code)
{
    // An answer that we stopped reading has told its status all the same.
    bool answered = code == CURLE_OK || (code == CURLE_WRITE_ERROR && attempt->answer_read > ANSWER_MAX);

    return answered ? judge_answer(attempt) : judge_failure(attempt, code);
}
