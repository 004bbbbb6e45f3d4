#include "common/units.h"

#include "common/clock.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400 * (uint64_t)NS_PER_S}, {"h", 3600 * (uint64_t)NS_PER_S}, {"m", 60 * (uint64_t)NS_PER_S},
    {"s", (uint64_t)NS_PER_S},         {"ms", (uint64_t)NS_PER_MS},
};
static const struct unit sizes[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY_NS (INT64_C(86400) * NS_PER_S)
#define DURATION_MAX_NS (3650 * DAY_NS)
#define RATE_MAX_COUNT UINT64_C(1000000000)
#define RATE_MAX_PER_NS (366 * DAY_NS)

// Reads the digits at *text, at least one, and moves *text past them.
static bool take_number(const char **text, uint64_t *number)
{
    const char *at = *text;
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
            return false;
        }
    }
    if (at == *text) {
        return false;
    }
    *text = at;
    *number = value;
    return true;
}

// number * the factor of the unit that is the whole of `name`.
static bool scale(uint64_t number, const char *name, const struct unit *units, size_t count, uint64_t *result)
{
    size_t i = 0;
    while (i < count && strcmp(units[i].name, name) != 0) {
        i++;
    }
    uint64_t product;
    if (i == count || __builtin_mul_overflow(number, units[i].factor, &product)) {
        return false;
    }
    *result = product;
    return true;
}

bool count_parse(const char *text, uint64_t *count)
{
    uint64_t number;
    if (!take_number(&text, &number) || *text != '\0') {
        return false;
    }
    *count = number;
    return true;
}

bool duration_parse(const char *text, int64_t *ns)
{
    uint64_t number;
    uint64_t value = 0;
    bool zero = strcmp(text, "0") == 0; // the one number that needs no unit
    if (!zero && !(take_number(&text, &number) && scale(number, text, durations, COUNT(durations), &value))) {
        return false;
    }
    if (value > (uint64_t)DURATION_MAX_NS) {
        return false;
    }
    *ns = (int64_t)value;
    return true;
}

// The largest unit that holds ns a whole number of times. ns is a positive number of whole milliseconds.
static const struct unit *duration_unit(uint64_t ns)
{
    const struct unit *unit = durations;
    while (ns % unit->factor != 0) {
        unit++;
    }
    return unit;
}

void duration_format(int64_t ns, char text[static DURATION_TEXT_SIZE])
{
    uint64_t whole = ns < NS_PER_MS ? 0 : (uint64_t)(ns - ns % NS_PER_MS);
    if (whole == 0) {
        memcpy(text, "0", 2);
        return;
    }
    const struct unit *unit = duration_unit(whole);
    int len = snprintf(text, DURATION_TEXT_SIZE, "%" PRIu64 "%s", whole / unit->factor, unit->name);
    assert(len > 0 && len < DURATION_TEXT_SIZE);
}

bool size_parse(const char *text, uint64_t *bytes)
{
    uint64_t number;
    return take_number(&text, &number) && scale(number, text, sizes, COUNT(sizes), bytes);
}

bool rate_parse(const char *text, struct rate *rate)
{
    if (strcmp(text, "unlimited") == 0) {
        *rate = (struct rate){0};
        return true;
    }
    uint64_t count;
    if (!take_number(&text, &count) || *text++ != '/') {
        return false;
    }
    uint64_t number = 1; // "100/s" is "100/1s"
    uint64_t per_ns;
    bool written = *text >= '0' && *text <= '9';
    if (written && !take_number(&text, &number)) {
        return false;
    }
    if (!scale(number, text, durations, COUNT(durations), &per_ns)) {
        return false;
    }
    if (count < 1 || count > RATE_MAX_COUNT || per_ns < 1 || per_ns > (uint64_t)RATE_MAX_PER_NS) {
        return false;
    }
    *rate = (struct rate){.count = count, .per_ns = (int64_t)per_ns};
    return true;
}

void rate_format(struct rate rate, char text[static RATE_TEXT_SIZE])
{
    if (rate.count == 0) {
        memcpy(text, "unlimited", sizeof("unlimited"));
        return;
    }
    char per[DURATION_TEXT_SIZE];
    duration_format(rate.per_ns, per);
    bool one = per[0] == '1' && (per[1] < '0' || per[1] > '9');
    int len = snprintf(text, RATE_TEXT_SIZE, "%" PRIu64 "/%s", rate.count, one ? per + 1 : per);
    assert(len > 0 && len < RATE_TEXT_SIZE);
}
