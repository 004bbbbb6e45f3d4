// watchdog.h - what systemd's WatchdogSec= asks for: signs of life at twice the rate at which it looks for
// them.
//
// Feeding is for the loop that is to be watched, and only while what it does goes on.
#ifndef SLUICE_COMMON_WATCHDOG_H
#define SLUICE_COMMON_WATCHDOG_H

#include "common/clock.h"

struct watchdog {
    int64_t every_ns; // 0: nobody watches
    struct mono due;  // MONO_NEVER when nobody watches: then nobody has to wake for it
};

// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, see sd_watchdog_enabled(3). The first feed is due now.
void watchdog_init(struct watchdog *watchdog, struct mono now);
// sd_notify(3) WATCHDOG=1 when it is due; else nothing.
void watchdog_feed(struct watchdog *watchdog, struct mono now);

#endif
