#include "common/watchdog.h"

#include <stdlib.h>
#include <systemd/sd-daemon.h>

void watchdog_init(struct watchdog *watchdog, struct mono now)
{
    uint64_t limit_us = 0;
    bool watched = getenv("NOTIFY_SOCKET") != NULL && sd_watchdog_enabled(0, &limit_us) > 0;
    if (!watched || limit_us > (uint64_t)(INT64_MAX / NS_PER_US)) {
        *watchdog = (struct watchdog){.every_ns = 0, .due = MONO_NEVER};
        return;
    }
    *watchdog = (struct watchdog){.every_ns = (int64_t)limit_us * NS_PER_US / 2, .due = now};
}

void watchdog_feed(struct watchdog *watchdog, struct mono now)
{
    if (mono_before(now, watchdog->due)) {
        return;
    }
    sd_notify(0, "WATCHDOG=1");
    watchdog->due = mono_add(now, watchdog->every_ns);
}
