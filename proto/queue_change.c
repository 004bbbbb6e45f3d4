#include "proto/queue_change.h"

#include "common/clock.h"
#include "proto/fields.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define BURST_MAX 1000000u
#define CONCURRENCY_MAX 10000u
#define ATTEMPTS_MAX 1000u
#define BREAKER_MAX 1000000u
#define HOUR_NS (3600 * NS_PER_S)
#define DAY_NS (24 * HOUR_NS)

#define RETRY_SETTINGS (SETTING_MAX_ATTEMPTS | SETTING_MIN_BACKOFF | SETTING_MAX_BACKOFF)

const char *const queue_change_members[] = {
    "rate", "burst",  "linger",  "concurrency", "batch_size", "target", "timeout",      "retry",
    "ids",  "max_id", "headers", "max_hold",    "breaker",    "lease",  "on_interrupt", "aging",
};
const size_t queue_change_member_count = COUNT(queue_change_members);

static const char *const retry_members[] = {"max_attempts", "min_backoff", "max_backoff"};

void queue_change_fini(struct queue_change *change)
{
    free(change->target);
    free(change->headers);
    *change = (struct queue_change){0};
}

// ---- reading ----

// Once a member was refused the rest is not looked at.
struct reader {
    const cJSON *object;
    struct queue_change *change;
    struct fault *fault;
    enum err err;
};

// True when the member is there and to be read; it counts as given.
static bool given(struct reader *r, const char *path, enum queue_setting setting)
{
    if (r->err || !field_find(r->object, path)) {
        return false;
    }
    r->change->given |= setting;
    return true;
}

static bool given_null(struct reader *r, const char *path, enum queue_setting setting)
{
    return cJSON_IsNull(field_find(r->object, path)) && given(r, path, setting);
}

static void read_number(struct reader *r, const char *path, enum queue_setting setting, uint32_t min,
                        uint32_t max, uint32_t *value)
{
    if (given(r, path, setting)) {
        r->err = field_u32(r->object, path, min, max, value, r->fault);
    }
}

static void read_duration(struct reader *r, const char *path, enum queue_setting setting, int64_t min_ns,
                          int64_t max_ns, int64_t *ns)
{
    if (given(r, path, setting)) {
        r->err = field_duration(r->object, path, min_ns, max_ns, ns, r->fault);
    }
}

// The text of a string member that is to be one of a few words, or "" when it is of another type.
static const char *read_word(const struct reader *r, const char *path)
{
    const char *text = cJSON_GetStringValue(field_find(r->object, path));
    return text ? text : "";
}

static char *copy(struct reader *r, const char *text)
{
    char *own = strdup(text);
    if (!own) {
        r->err = fault_set(r->fault, ERR_NO_MEMORY, "out of memory");
    }
    return own;
}

static void read_pace(struct reader *r)
{
    struct queue_change *change = r->change;
    if (given(r, "rate", SETTING_RATE) && !rate_parse(read_word(r, "rate"), &change->rate)) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD,
                           "rate must be N/DURATION, such as \"100/s\" or \"1/5s\", N from 1 to 1000000000 "
                           "and DURATION from 1ms to 366d, or \"unlimited\"");
    }
    if (given_null(r, "burst", SETTING_BURST)) {
        change->burst = 0;
    } else {
        read_number(r, "burst", SETTING_BURST, 1, BURST_MAX, &change->burst);
    }
    if (given_null(r, "linger", SETTING_LINGER)) {
        change->linger_ns = -1;
    } else {
        read_duration(r, "linger", SETTING_LINGER, 0, HOUR_NS, &change->linger_ns);
    }
    read_number(r, "concurrency", SETTING_CONCURRENCY, 1, CONCURRENCY_MAX, &change->concurrency);
    read_number(r, "batch_size", SETTING_BATCH_SIZE, 1, BATCH_SIZE_MAX, &change->batch_size);
}

static void read_target(struct reader *r)
{
    if (!given(r, "target", SETTING_TARGET)) {
        return;
    }
    const char *text = read_word(r, "target");
    size_t len = strlen(text);
    if (len < 1 || len > TARGET_MAX) { // not quoted: it may hold a password
        r->err =
            fault_set(r->fault, ERR_INVALID_FIELD, "target must be a string of 1 to %u bytes", TARGET_MAX);
        return;
    }
    r->change->target = copy(r, text);
}

static void read_retry(struct reader *r)
{
    const cJSON *retry = r->err ? NULL : field_find(r->object, "retry");
    struct fault inner;
    if (!retry) {
        return;
    }
    if (json_only(retry, retry_members, COUNT(retry_members), &inner) != ERR_OK) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD, "retry: %s", inner.detail);
        return;
    }
    struct queue_change *change = r->change;
    read_number(r, "retry.max_attempts", SETTING_MAX_ATTEMPTS, 1, ATTEMPTS_MAX, &change->max_attempts);
    read_duration(r, "retry.min_backoff", SETTING_MIN_BACKOFF, NS_PER_MS, 7 * DAY_NS,
                  &change->min_backoff_ns);
    read_duration(r, "retry.max_backoff", SETTING_MAX_BACKOFF, NS_PER_MS, 7 * DAY_NS,
                  &change->max_backoff_ns);
}

static void read_ids(struct reader *r)
{
    struct queue_change *change = r->change;
    if (given(r, "ids", SETTING_IDS) && !ids_kind_parse(read_word(r, "ids"), &change->ids)) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD, "ids must be \"integer\" or \"string\"");
    }
    if (given(r, "max_id", SETTING_MAX_ID)) {
        r->err = field_u64(r->object, "max_id", 1, ID_VALUE_MAX, &change->max_id, r->fault);
    }
}

static void read_failures(struct reader *r)
{
    struct queue_change *change = r->change;
    read_duration(r, "timeout", SETTING_TIMEOUT, NS_PER_MS, HOUR_NS, &change->timeout_ns);
    read_duration(r, "max_hold", SETTING_MAX_HOLD, 0, 7 * DAY_NS, &change->max_hold_ns);
    read_number(r, "breaker", SETTING_BREAKER, 0, BREAKER_MAX, &change->breaker);
    read_duration(r, "lease", SETTING_LEASE, NS_PER_S, DAY_NS, &change->lease_ns);
    if (given(r, "on_interrupt", SETTING_ON_INTERRUPT) &&
        !on_interrupt_parse(read_word(r, "on_interrupt"), &change->on_interrupt)) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD, "on_interrupt must be \"resend\" or \"hold\"");
    }
}

static void read_aging(struct reader *r)
{
    struct queue_change *change = r->change;
    int64_t ns = -1;
    bool zero = duration_parse(read_word(r, "aging"), &ns) && ns == 0;
    if (given_null(r, "aging", SETTING_AGING) || (zero && given(r, "aging", SETTING_AGING))) {
        change->aging_ns = 0;
    } else {
        read_duration(r, "aging", SETTING_AGING, NS_PER_S, 366 * DAY_NS, &change->aging_ns);
    }
}

// ---- headers ----

// RFC 9110, 5.6.2.
static bool is_token(const char *text)
{
    size_t len = 0;
    for (; text[len] != '\0'; len++) {
        char c = text[len];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && !strchr("!#$%&'*+-.^_`|~", c)) {
            return false;
        }
    }
    return len > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// Visible ASCII, with spaces and tabs inside.
static bool is_header_value(const char *text)
{
    size_t len = 0;
    for (; text[len] != '\0'; len++) {
        if (!is_blank(text[len]) && (text[len] < '!' || text[len] > '~')) {
            return false;
        }
    }
    return len > 0 && !is_blank(text[0]) && !is_blank(text[len - 1]);
}

static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {
        "Content-Length",  "Transfer-Encoding", "Connection", "Content-Type",
        "Idempotency-Key", "User-Agent",        "Expect",
    };
    for (size_t i = 0; i < COUNT(reserved); i++) {
        if (strcasecmp(name, reserved[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_first(const cJSON *headers, const cJSON *header)
{
    const cJSON *other;
    cJSON_ArrayForEach(other, headers)
    {
        if (strcasecmp(other->string, header->string) == 0) {
            return other == header;
        }
    }
    return false;
}

// Values are secrets, and not quoted.
static enum err check_header(const cJSON *headers, const cJSON *header, struct fault *fault)
{
    const char *name = header->string;
    if (!is_token(name)) {
        return fault_set(fault, ERR_INVALID_FIELD, "headers: \"%s\" is no name of a header", name);
    }
    if (is_reserved(name)) {
        return fault_set(fault, ERR_INVALID_FIELD, "headers.%s is set by Sluice itself", name);
    }
    if (!is_first(headers, header)) {
        return fault_set(fault, ERR_INVALID_FIELD, "headers.%s is given more than once", name);
    }
    if (!cJSON_IsString(header) || !is_header_value(header->valuestring)) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "headers.%.100s must be a string of visible ASCII characters, with spaces and tabs "
                         "only between them",
                         name);
    }
    return ERR_OK;
}

static void read_headers(struct reader *r)
{
    if (!given(r, "headers", SETTING_HEADERS)) {
        return;
    }
    const cJSON *headers = field_find(r->object, "headers");
    if (!cJSON_IsObject(headers)) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD, "headers must be an object of strings");
        return;
    }
    if (cJSON_GetArraySize(headers) > (int)HEADERS_MAX) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD, "headers: at most %u are allowed", HEADERS_MAX);
        return;
    }
    struct buf lines;
    buf_init(&lines);
    const cJSON *header;
    cJSON_ArrayForEach(header, headers)
    {
        r->err = check_header(headers, header, r->fault);
        if (r->err) {
            break;
        }
        buf_str(&lines, header->string);
        buf_str(&lines, ": ");
        buf_str(&lines, header->valuestring);
        buf_char(&lines, '\n');
    }
    if (!r->err && lines.len > HEADERS_SIZE_MAX) {
        r->err = fault_set(r->fault, ERR_INVALID_FIELD, "headers: together at most %u bytes are allowed",
                           HEADERS_SIZE_MAX);
    }
    if (r->err) {
        buf_fini(&lines);
        return;
    }
    r->change->headers = buf_take(&lines, NULL);
    if (!r->change->headers) {
        r->err = fault_set(r->fault, ERR_NO_MEMORY, "out of memory");
    }
}

bool headers_next(const char **at, const char **name, size_t *name_len, const char **value, size_t *value_len)
{
    const char *colon = strchr(*at, ':');
    const char *end = colon ? strchr(colon, '\n') : NULL;
    if (!end) {
        return false;
    }
    *name = *at;
    *name_len = (size_t)(colon - *at);
    *value = colon + 2; // past the space
    *value_len = (size_t)(end - *value);
    *at = end + 1;
    return true;
}

// ---- all of it ----

enum err queue_change_decode(const cJSON *object, struct queue_change *change, struct fault *fault)
{
    struct reader r = {.object = object, .change = change, .fault = fault, .err = ERR_OK};
    read_pace(&r);
    read_target(&r);
    read_retry(&r);
    read_ids(&r);
    read_headers(&r);
    read_failures(&r);
    read_aging(&r);
    return r.err;
}

static void put_number(const struct queue_change *change, const char *name, enum queue_setting setting,
                       uint64_t value, struct buf *out)
{
    if ((change->given & setting) != 0) {
        field_put_integer(out, name, value);
    }
}

static void put_duration(const struct queue_change *change, const char *name, enum queue_setting setting,
                         int64_t ns, struct buf *out)
{
    if ((change->given & setting) != 0) {
        field_put_duration(out, name, ns);
    }
}

static void put_text(const struct queue_change *change, const char *name, enum queue_setting setting,
                     const char *text, struct buf *out)
{
    if ((change->given & setting) != 0) {
        field_put_string(out, name, text);
    }
}

// Those whose default is written as null.
static void put_defaults(const struct queue_change *change, struct buf *out)
{
    if ((change->given & SETTING_BURST) != 0 && change->burst == 0) {
        field_put_null(out, "burst");
    } else {
        put_number(change, "burst", SETTING_BURST, change->burst, out);
    }
    if ((change->given & SETTING_LINGER) != 0 && change->linger_ns < 0) {
        field_put_null(out, "linger");
    } else {
        put_duration(change, "linger", SETTING_LINGER, change->linger_ns, out);
    }
    if ((change->given & SETTING_AGING) != 0 && change->aging_ns == 0) {
        field_put_null(out, "aging");
    } else {
        put_duration(change, "aging", SETTING_AGING, change->aging_ns, out);
    }
}

static void put_retry(const struct queue_change *change, struct buf *out)
{
    if ((change->given & RETRY_SETTINGS) == 0) {
        return;
    }
    struct buf members;
    buf_init(&members);
    put_number(change, "max_attempts", SETTING_MAX_ATTEMPTS, change->max_attempts, &members);
    put_duration(change, "min_backoff", SETTING_MIN_BACKOFF, change->min_backoff_ns, &members);
    put_duration(change, "max_backoff", SETTING_MAX_BACKOFF, change->max_backoff_ns, &members);
    if (buf_err(&members) == ERR_OK) {
        buf_str(out, ",\"retry\":{");
        buf_put(out, members.data + 1, members.len - 1); // without the first comma
        buf_char(out, '}');
    } else {
        out->failed = true;
    }
    buf_fini(&members);
}

static void put_headers(const struct queue_change *change, struct buf *out)
{
    if ((change->given & SETTING_HEADERS) == 0) {
        return;
    }
    const char *at = change->headers;
    const char *name;
    const char *value;
    size_t name_len;
    size_t value_len;
    const char *before = "";
    buf_str(out, ",\"headers\":{");
    while (headers_next(&at, &name, &name_len, &value, &value_len)) {
        buf_str(out, before);
        buf_json(out, name, name_len);
        buf_char(out, ':');
        buf_json(out, value, value_len);
        before = ",";
    }
    buf_char(out, '}');
}

void queue_change_encode(const struct queue_change *change, struct buf *out)
{
    char rate[RATE_TEXT_SIZE];
    rate_format(change->rate, rate);
    put_text(change, "rate", SETTING_RATE, rate, out);
    put_defaults(change, out);
    put_number(change, "concurrency", SETTING_CONCURRENCY, change->concurrency, out);
    put_number(change, "batch_size", SETTING_BATCH_SIZE, change->batch_size, out);
    put_text(change, "target", SETTING_TARGET, change->target, out);
    put_duration(change, "timeout", SETTING_TIMEOUT, change->timeout_ns, out);
    put_retry(change, out);
    put_text(change, "ids", SETTING_IDS, ids_kind_name(change->ids), out);
    put_number(change, "max_id", SETTING_MAX_ID, change->max_id, out);
    put_headers(change, out);
    put_duration(change, "max_hold", SETTING_MAX_HOLD, change->max_hold_ns, out);
    put_number(change, "breaker", SETTING_BREAKER, change->breaker, out);
    put_duration(change, "lease", SETTING_LEASE, change->lease_ns, out);
    put_text(change, "on_interrupt", SETTING_ON_INTERRUPT, on_interrupt_name(change->on_interrupt), out);
}
