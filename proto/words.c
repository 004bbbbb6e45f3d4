#include "proto/words.h"

#include <string.h>

static const char *const PRIORITY_NAMES[] = {
    [PRIORITY_HIGH] = "HIGH",
    [PRIORITY_MEDIUM] = "MEDIUM",
    [PRIORITY_LOW] = "LOW",
};
_Static_assert(sizeof(PRIORITY_NAMES) / sizeof(PRIORITY_NAMES[0]) == PRIORITIES, "a name for each priority");

static const char *const STATUS_NAMES[] = {
    [STATUS_YET_TO_START] = "yet_to_start", [STATUS_TRIGGERED] = "triggered",
    [STATUS_COMPLETED] = "completed",       [STATUS_FAILED] = "failed",
    [STATUS_CANCELLED] = "cancelled",
};
_Static_assert(sizeof(STATUS_NAMES) / sizeof(STATUS_NAMES[0]) == STATUSES, "a name for each status");

static const char *const IDS_KIND_NAMES[] = {[IDS_INTEGER] = "integer", [IDS_STRING] = "string"};
static const char *const ON_INTERRUPT_NAMES[] = {
    [ON_INTERRUPT_RESEND] = "resend", [ON_INTERRUPT_HOLD] = "hold"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The index of text among the names, or count.
static size_t find(const char *const *names, size_t count, const char *text)
{
    size_t at = 0;
    while (at < count && strcmp(names[at], text) != 0) {
        at++;
    }
    return at;
}

const char *priority_name(enum priority priority)
{
    return PRIORITY_NAMES[priority];
}

bool priority_parse(const char *text, enum priority *priority)
{
    size_t at = find(PRIORITY_NAMES, PRIORITIES, text);
    if (at == PRIORITIES) {
        return false;
    }
    *priority = (enum priority)at;
    return true;
}

const char *status_name(enum status status)
{
    return STATUS_NAMES[status];
}

bool status_parse(const char *text, enum status *status)
{
    size_t at = find(STATUS_NAMES, STATUSES, text);
    if (at == STATUSES) {
        return false;
    }
    *status = (enum status)at;
    return true;
}

const char *ids_kind_name(enum ids_kind kind)
{
    return IDS_KIND_NAMES[kind];
}

bool ids_kind_parse(const char *text, enum ids_kind *kind)
{
    size_t at = find(IDS_KIND_NAMES, COUNT(IDS_KIND_NAMES), text);
    if (at == COUNT(IDS_KIND_NAMES)) {
        return false;
    }
    *kind = (enum ids_kind)at;
    return true;
}

const char *on_interrupt_name(enum on_interrupt what)
{
    return ON_INTERRUPT_NAMES[what];
}

bool on_interrupt_parse(const char *text, enum on_interrupt *what)
{
    size_t at = find(ON_INTERRUPT_NAMES, COUNT(ON_INTERRUPT_NAMES), text);
    if (at == COUNT(ON_INTERRUPT_NAMES)) {
        return false;
    }
    *what = (enum on_interrupt)at;
    return true;
}

// Not isalnum(): that depends on the locale.
static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool queue_name_valid(const char *text)
{
    if (!is_lower_or_digit(text[0])) {
        return false;
    }
    size_t len = 1;
    while (is_lower_or_digit(text[len]) || text[len] == '.' || text[len] == '_' || text[len] == '-') {
        len++;
    }
    return len <= QUEUE_NAME_MAX && text[len] == '\0';
}

bool idempotency_key_valid(const char *text)
{
    size_t len = 0;
    while (text[len] >= '!' && text[len] <= '~') {
        len++;
    }
    return text[len] == '\0' && len >= 1 && len <= IDEMPOTENCY_KEY_MAX;
}
