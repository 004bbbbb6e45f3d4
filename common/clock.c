#include "common/clock.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock, int64_t unit_ns)
{
    struct timespec now;
    int rc = clock_gettime(clock, &now);
    assert(rc == 0); // both clocks are there on every Linux that can run us
    return (int64_t)now.tv_sec * (NS_PER_S / unit_ns) + (int64_t)now.tv_nsec / unit_ns;
}

struct mono mono_now(void)
{
    return (struct mono){read_clock(CLOCK_BOOTTIME, 1)};
}

struct wall wall_now(void)
{
    return (struct wall){read_clock(CLOCK_REALTIME, NS_PER_MS)};
}

struct mono mono_add(struct mono t, int64_t ns)
{
    int64_t sum;
    if (t.ns == MONO_NEVER.ns) {
        return t;
    }
    if (__builtin_add_overflow(t.ns, ns, &sum)) {
        return (struct mono){ns > 0 ? INT64_MAX : INT64_MIN};
    }
    return (struct mono){sum};
}

int64_t mono_diff(struct mono a, struct mono b)
{
    int64_t ns;
    if (a.ns == MONO_NEVER.ns) {
        return INT64_MAX;
    }
    if (b.ns == MONO_NEVER.ns) {
        return INT64_MIN;
    }
    if (__builtin_sub_overflow(a.ns, b.ns, &ns)) {
        return a.ns > b.ns ? INT64_MAX : INT64_MIN;
    }
    return ns;
}

// Writes value in exactly `width` digits and returns where they end.
static char *put_digits(char *at, int64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + width;
}

#define WALL_MIN_MS (INT64_C(-62167219200) * 1000)       // 0000-01-01T00:00:00.000Z
#define WALL_MAX_MS (INT64_C(253402300799) * 1000 + 999) // 9999-12-31T23:59:59.999Z

void wall_format(struct wall t, char text[static WALL_TEXT_SIZE])
{
    int64_t ms = t.ms < WALL_MIN_MS ? WALL_MIN_MS : t.ms > WALL_MAX_MS ? WALL_MAX_MS : t.ms;
    int64_t fraction = (ms % 1000 + 1000) % 1000; // before 1970 too, it counts upwards from the second
    time_t seconds = (time_t)((ms - fraction) / 1000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm); // cannot fail: the year was clamped
    const struct {
        int64_t value;
        int width;
        char after;
    } parts[] = {
        {tm.tm_year + 1900, 4, '-'}, {tm.tm_mon + 1, 2, '-'}, {tm.tm_mday, 2, 'T'}, {tm.tm_hour, 2, ':'},
        {tm.tm_min, 2, ':'},         {tm.tm_sec, 2, '.'},     {fraction, 3, 'Z'},
    };
    char *at = text;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        at = put_digits(at, parts[i].value, parts[i].width);
        *at++ = parts[i].after;
    }
    *at = '\0';
}

// Reads exactly `width` digits and steps over them.
static bool take_digits(const char **at, int width, int *value)
{
    int number = 0;
    for (int i = 0; i < width; i++, (*at)++) {
        if (**at < '0' || **at > '9') {
            return false;
        }
        number = number * 10 + (**at - '0');
    }
    *value = number;
    return true;
}

// Steps over a character that is one of the two.
static bool take_char(const char **at, char one, char other)
{
    if (**at != one && **at != other) {
        return false;
    }
    (*at)++;
    return true;
}

// YYYY-MM-DD as the days since 1970-01-01.
static bool take_date(const char **at, int64_t *days)
{
    int year, month, day;
    if (!take_digits(at, 4, &year) || !take_char(at, '-', '-') || !take_digits(at, 2, &month) ||
        !take_char(at, '-', '-') || !take_digits(at, 2, &day)) {
        return false;
    }
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    *days = timegm(&tm) / 86400;
    return tm.tm_mon == month - 1 && tm.tm_mday == day; // otherwise it was moved to a date that exists
}

// hh:mm:ss as seconds; a leap second is the one after it.
static bool take_time(const char **at, int64_t *seconds, bool *leap)
{
    int hour, minute, second;
    if (!take_digits(at, 2, &hour) || !take_char(at, ':', ':') || !take_digits(at, 2, &minute) ||
        !take_char(at, ':', ':') || !take_digits(at, 2, &second)) {
        return false;
    }
    *seconds = hour * INT64_C(3600) + minute * INT64_C(60) + second;
    *leap = second == 60;
    return hour <= 23 && minute <= 59 && second <= 60;
}

// A fraction of a second, if there is one, as milliseconds, rounded up.
static bool take_fraction(const char **at, int64_t *ms)
{
    *ms = 0;
    if (**at != '.') {
        return true;
    }
    (*at)++;
    int64_t unit = 100;
    bool more = false; // than whole milliseconds
    const char *start = *at;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        *ms += (**at - '0') * unit;
        more = more || (unit == 0 && **at != '0');
        unit /= 10;
    }
    *ms += more ? 1 : 0;
    return *at > start;
}

// Z, +hh:mm or -hh:mm as the seconds that local time is ahead.
static bool take_offset(const char **at, int64_t *seconds)
{
    *seconds = 0;
    if (take_char(at, 'Z', 'z')) {
        return true;
    }
    int sign = **at == '-' ? -1 : 1;
    int hours, minutes;
    if (!take_char(at, '+', '-') || !take_digits(at, 2, &hours) || !take_char(at, ':', ':') ||
        !take_digits(at, 2, &minutes)) {
        return false;
    }
    *seconds = sign * (hours * INT64_C(3600) + minutes * INT64_C(60));
    return hours <= 23 && minutes <= 59;
}

bool wall_parse(const char *text, struct wall *t)
{
    const char *at = text;
    int64_t days, seconds, fraction_ms, offset;
    bool leap;
    if (!take_date(&at, &days) || !take_char(&at, 'T', 't') || !take_time(&at, &seconds, &leap) ||
        !take_fraction(&at, &fraction_ms) || !take_offset(&at, &offset) || *at != '\0') {
        return false;
    }
    int64_t moment = days * 86400 + seconds - offset;
    int64_t ms = moment * 1000 + fraction_ms;
    bool day_ends = moment % 86400 == 0; // the only place for a leap second, in UTC
    if ((leap && !day_ends) || ms < 0 || ms > WALL_MAX_MS) {
        return false;
    }
    t->ms = ms;
    return true;
}

enum err clock_boot_id(struct id *boot)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return ERR_INTERNAL;
    }
    char text[ID_TEXT_SIZE];
    ssize_t len = read(fd, text, sizeof(text)); // procfs gives such a short text in one piece
    close(fd);
    return len >= ID_TEXT_SIZE - 1 && id_parse(text, ID_TEXT_SIZE - 1, boot) ? ERR_OK : ERR_INTERNAL;
}
