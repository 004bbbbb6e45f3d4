// units.h - the texts people write durations, sizes and rates in, and back.
//
// Pure. Every parser wants the whole text (NUL-terminated), refuses signs, spaces, fractions and overflow,
// and leaves its output alone when it returns false.
#ifndef SLUICE_COMMON_UNITS_H
#define SLUICE_COMMON_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A plain number: "100000000".
bool count_parse(const char *text, uint64_t *count);

// A number and one of ms, s, m, h, d: "250ms", "5s", "2m", "1h", "7d"; also "0". In nanoseconds, at most
// 3650d.
bool duration_parse(const char *text, int64_t *ns);
// The shortest text that parses back to ns rounded down to whole milliseconds, e.g. "1500ms", "5s", "2m".
#define DURATION_TEXT_SIZE 24
void duration_format(int64_t ns, char text[static DURATION_TEXT_SIZE]);

// A number and one of B, KiB, MiB, GiB (or none: bytes): "64KiB", "8MiB".
bool size_parse(const char *text, uint64_t *bytes);

// count per per_ns nanoseconds, exactly as written (it is never divided out); count 0 means no limit.
struct rate {
    uint64_t count;
    int64_t per_ns;
};
// "N/DURATION", the number in front of the unit may be left out ("100/s", "1/5s", "5000/1m"), or "unlimited".
// N is from 1 to 1000000000, the duration from 1ms to 366d.
bool rate_parse(const char *text, struct rate *rate);
#define RATE_TEXT_SIZE 48
void rate_format(struct rate rate, char text[static RATE_TEXT_SIZE]);

#endif
