// clock.h - the two clocks, as two types, so that an interval and a date cannot be mixed up.
//
// clock_gettime is called in clock.c and nowhere else. Everything else takes time as an argument.
// All functions may be called from any thread.
#ifndef SLUICE_COMMON_CLOCK_H
#define SLUICE_COMMON_CLOCK_H

#include "common/err.h"
#include "common/id.h"

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

// A moment on CLOCK_BOOTTIME, in nanoseconds since boot: never steps, goes on through suspend, comparable
// between processes of one boot. Durations are plain int64_t with a name that ends in _ns.
struct mono {
    int64_t ns;
};

// A moment on the wall clock, in milliseconds since 1970-01-01T00:00:00Z (no leap seconds). It may step.
struct wall {
    int64_t ms;
};

#define MONO_NEVER ((struct mono){INT64_MAX}) // later than every other moment

struct mono mono_now(void);
struct wall wall_now(void);

// t + ns, and a - b in nanoseconds; both saturate, and MONO_NEVER stays never: from b to never is INT64_MAX.
struct mono mono_add(struct mono t, int64_t ns);
int64_t mono_diff(struct mono a, struct mono b);
static inline bool mono_before(struct mono a, struct mono b)
{
    return a.ns < b.ns;
}
static inline struct mono mono_min(struct mono a, struct mono b)
{
    return a.ns < b.ns ? a : b;
}
static inline struct mono mono_max(struct mono a, struct mono b)
{
    return a.ns > b.ns ? a : b;
}

#define WALL_TEXT_SIZE 32
// RFC 3339 in UTC with milliseconds, "2026-11-23T18:47:05.123Z", into text (at least WALL_TEXT_SIZE bytes,
// NUL-terminated). Years outside 0000 to 9999 are clamped.
void wall_format(struct wall t, char text[static WALL_TEXT_SIZE]);

// RFC 3339 with any offset ("2026-11-23T18:47:05Z", "2026-11-23t19:47:05.5+01:00"), a fraction rounded up to
// the millisecond; a leap second (:60) is the second after it. False for anything else, years before 1970,
// and dates that do not exist; then *t is left alone.
bool wall_parse(const char *text, struct wall *t);

// The ID of this boot (/proc/sys/kernel/random/boot_id). ERR_INTERNAL when it cannot be read.
MUST_CHECK enum err clock_boot_id(struct id *boot);

#endif
