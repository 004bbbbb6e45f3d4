// wait.h - waiting for what must come, in tests. Nothing is said about how soon: the limit is for what never
// comes.
#ifndef SLUICE_TESTS_SUPPORT_WAIT_H
#define SLUICE_TESTS_SUPPORT_WAIT_H

#include "common/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <time.h>

#define WAIT_S 60

// Fails the test when the condition does not come to hold within WAIT_S seconds.
#define WAIT_FOR(condition)                                                                                  \
    do {                                                                                                     \
        struct mono wait_end_ = mono_add(mono_now(), WAIT_S * NS_PER_S);                                     \
        while (!(condition)) {                                                                               \
            cr_assert(mono_before(mono_now(), wait_end_), "not within %d s: %s", WAIT_S, #condition);        \
            wait_ms(5);                                                                                      \
        }                                                                                                    \
    } while (0)

static inline void wait_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NS_PER_MS};
    while (clock_nanosleep(CLOCK_BOOTTIME, 0, &pause, &pause) == EINTR) {
    }
}

#endif
