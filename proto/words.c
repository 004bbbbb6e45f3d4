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
    return text[len] == '\0' && len <= QUEUE_NAME_MAX;
}

bool idempotency_key_valid(const char *text)
{
    size_t len = 0;
    while (text[len] >= '!' && text[len] <= '~') {
        len++;
    }
    return text[len] == '\0' && len >= 1 && len <= IDEMPOTENCY_KEY_MAX;
}
