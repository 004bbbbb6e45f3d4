#include "scheduler/pressure.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>

#define WAIT_MAX_S (INT64_C(366) * 86400)
#define DATE_MAX 64 // longer than every form of it
#define ABSENT (-1) // what a field does not say

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define BLANK " \t"

static const char *skip_blank(const char *at)
{
    return at + strspn(at, BLANK);
}

// ---- seconds and dates ----

// A number of seconds, rounded up to a whole one and at most WAIT_MAX_S; ABSENT when there is none. *end is
// behind it.
static int64_t read_seconds(const char *at, const char **end)
{
    size_t digits = strspn(at, DIGITS);
    int64_t seconds = 0;

    if (digits == 0) {
        return ABSENT;
    }
    for (; digits > 0; digits--, at++) {
        if (seconds <= WAIT_MAX_S) {
            seconds = seconds * 10 + (*at - '0');
        }
    }
    if (*at == '.') {
        size_t fraction = strspn(at + 1, DIGITS);
        if (strspn(at + 1, "0") < fraction) {
            seconds++;
        }
        at += 1 + fraction;
    }
    *end = at;
    return seconds < WAIT_MAX_S ? seconds : WAIT_MAX_S;
}

// The wait that Retry-After asks for, in ns: 0 when it is over already, ABSENT when the value makes no sense.
static int64_t read_retry_after(const char *text, struct wall now)
{
    const char *end = NULL;

    text = skip_blank(text);
    int64_t seconds = read_seconds(text, &end);
    if (seconds != ABSENT) {
        return *skip_blank(end) == '\0' ? seconds * NS_PER_S : ABSENT;
    }
    // All three forms of a date start with the day of the week, as no number does.
    if (strspn(text, LOWER UPPER) < 3 || strnlen(text, DATE_MAX) == DATE_MAX) {
        return ABSENT;
    }
    time_t date = curl_getdate(text, NULL);
    if (date < 0) {
        return ABSENT;
    }
    if (date > now.ms / 1000 + WAIT_MAX_S) {
        return WAIT_MAX_S * NS_PER_S;
    }
    int64_t wait_ms = (int64_t)date * 1000 - now.ms;
    return wait_ms > 0 ? wait_ms * NS_PER_MS : 0;
}

// ---- RateLimit and its kin ----

// What one policy has left.
struct quota {
    int64_t remaining;
    int64_t reset_s;
};

// An integer with nothing but parameters behind it, which are skipped; ABSENT for anything else.
static int64_t read_single(const char *text)
{
    const char *end = NULL;

    if (!text) {
        return ABSENT;
    }
    int64_t value = read_seconds(skip_blank(text), &end);
    if (value == ABSENT) {
        return ABSENT;
    }
    end = skip_blank(end);
    return *end == '\0' || *end == ';' ? value : ABSENT;
}

// A bare item of a structured field (RFC 9651); its value when it is a number, else ABSENT. False when it is
// none.
static bool read_item(const char **at, int64_t *value)
{
    const char *s = *at;
    const char *end = NULL;

    *value = ABSENT;
    if (*s == '"') {
        for (s++; *s != '"'; s++) {
            if (*s == '\\') {
                s++;
            }
            if (*s == '\0') {
                return false;
            }
        }
        *at = s + 1;
        return true;
    }
    size_t len = strcspn(s, BLANK ",;=\"");
    int64_t number = read_seconds(s, &end);
    if (number != ABSENT && end == s + len) {
        *value = number;
    }
    *at = s + len;
    return len > 0;
}

// `name` or `name=item`, as parameters and the members of a dictionary are; the value of a name alone is
// ABSENT.
static bool read_pair(const char **at, const char **name, size_t *len, int64_t *value)
{
    *name = *at;
    *len = strspn(*at, LOWER DIGITS "_-.*");
    *at += *len;
    *value = ABSENT;
    if (*len == 0) {
        return false;
    }
    if (**at != '=') {
        return true;
    }
    (*at)++;
    return read_item(at, value);
}

static bool named(const char *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

// For how many seconds this holds.
static int64_t quota_wait(const struct quota *quota, bool refused)
{
    bool used_up = quota->remaining == 0 || (refused && quota->remaining == ABSENT);

    return used_up && quota->reset_s != ABSENT ? quota->reset_s : 0;
}

// The parameters behind an item.
static bool read_parameters(const char **at, struct quota *quota)
{
    const char *name;
    size_t len;
    int64_t value;

    for (*at = skip_blank(*at); **at == ';'; *at = skip_blank(*at)) {
        *at = skip_blank(*at + 1);
        if (!read_pair(at, &name, &len, &value)) {
            return false;
        }
        if (named(name, len, "r")) {
            quota->remaining = value;
        } else if (named(name, len, "t")) {
            quota->reset_s = value;
        }
    }
    return true;
}

// One member: of a list, whose item names a policy and has the parameters r and t, or of a dictionary, whose
// names tell what `whole` gets.
static bool read_member(const char **at, struct quota *whole, struct quota *policy)
{
    const char *pair = *at, *name;
    size_t len;
    int64_t value;

    if (read_pair(&pair, &name, &len, &value) && name[len] == '=') {
        if (named(name, len, "remaining")) {
            whole->remaining = value;
        } else if (named(name, len, "reset")) {
            whole->reset_s = value;
        }
        *at = pair;
    } else if (!read_item(at, &value)) {
        return false;
    }
    return read_parameters(at, policy);
}

// The longest wait that a RateLimit field asks for, in seconds; 0 when it is malformed, as a whole.
static int64_t read_rate_limit(const char *at, bool refused)
{
    struct quota whole = {ABSENT, ABSENT};
    int64_t longest = 0;

    if (!at) {
        return 0;
    }
    for (at = skip_blank(at);; at = skip_blank(at + 1)) {
        struct quota policy = {ABSENT, ABSENT};
        if (!read_member(&at, &whole, &policy)) {
            return 0;
        }
        int64_t wait = quota_wait(&policy, refused);
        longest = wait > longest ? wait : longest;
        if (*at == '\0') {
            break;
        }
        if (*at != ',') {
            return 0;
        }
    }
    int64_t wait = quota_wait(&whole, refused);
    return wait > longest ? wait : longest;
}

int64_t pressure_hold(long status, const struct pressure_fields *fields, struct wall now,
                      enum hold_reason *by)
{
    bool refused = status == 429 || status == 503;

    *by = HOLD_NONE;
    if (refused && fields->retry_after) {
        int64_t wait_ns = read_retry_after(fields->retry_after, now);
        if (wait_ns != ABSENT) {
            *by = wait_ns > 0 ? HOLD_RETRY_AFTER : HOLD_NONE;
            return wait_ns;
        }
    }
    struct quota quota = {read_single(fields->rate_limit_remaining), read_single(fields->rate_limit_reset)};
    int64_t single = quota_wait(&quota, refused);
    int64_t listed = read_rate_limit(fields->rate_limit, refused);
    int64_t longest = single > listed ? single : listed;
    *by = longest > 0 ? HOLD_RATE_LIMIT : HOLD_NONE;
    return longest * NS_PER_S;
}
