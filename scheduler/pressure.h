// pressure.h - what the fields of an answer say about when to go on: Retry-After (RFC 9110, 10.2.3), and
// RateLimit and RateLimit-Reset (draft-ietf-httpapi-ratelimit-headers: the single fields up to its version
// 06, the dictionary of 07, and the list of items with r and t since 08). Pure; any thread.
#ifndef SLUICE_SCHEDULER_PRESSURE_H
#define SLUICE_SCHEDULER_PRESSURE_H

#include "scheduler/model.h"

// The values of the fields, NULL where the answer has none.
struct pressure_fields {
    const char *retry_after;
    const char *rate_limit;           // RateLimit
    const char *rate_limit_remaining; // RateLimit-Remaining
    const char *rate_limit_reset;     // RateLimit-Reset, in seconds
};

// For how long the queue is to be held, in ns, and by which field; 0 and HOLD_NONE when there is nothing to
// hold, also where a field makes no sense. Retry-After counts with 429 and 503 only and goes before the
// others, which count with any status when nothing remains, and with 429 and 503 also when they do not say
// how much remains. A wait is rounded up, never down, and is at most 366 days.
int64_t pressure_hold(long status, const struct pressure_fields *fields, struct wall now,
                      enum hold_reason *by);

#endif
