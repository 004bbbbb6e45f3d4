// reaper.h - ends the connections that nobody else watches: those whose first request does not come.
//
// NNG's HTTP server reads the first request of a connection without any deadline, and tells nobody about it.
// So the sockets themselves are asked, through /proc/self/fd. Called from one thread.
#ifndef SLUICE_GATEWAY_REAPER_H
#define SLUICE_GATEWAY_REAPER_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct reaper;

struct reaper_options {
    uint16_t port;          // the one we listen on
    size_t max_connections; // above it those that are idle the longest are ended
    int64_t first_ns; // without having sent anything; a connection that has received more than a header block
                      // gets
    int64_t silence_ns; // this, and so does one on which something was sent: since then
};

MUST_CHECK enum err reaper_open(const struct reaper_options *options, struct reaper **reaper,
                                struct fault *fault);
// Looks at every connection once, and returns how many it ended. To be called about once a second, and sooner
// again when it ended some.
size_t reaper_walk(struct reaper *reaper);

#endif
