// forward.h - the way to the scheduler: request lines go out, many in one message, and reply lines come back.
//
// While a few messages are under way, newcomers wait in a list; when one returns, all that wait go out as one
// message: no timer, no added latency when idle. When the connection breaks, the same lines are sent again
// (IDs are minted before, and all else that is sent is idempotent, so a repeat is harmless) until each
// request's own deadline.
#ifndef SLUICE_GATEWAY_FORWARD_H
#define SLUICE_GATEWAY_FORWARD_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/heap.h"
#include "common/histogram.h"
#include "proto/reply.h"

#include <sys/queue.h>

struct forward;
struct tls;
struct flight;

// What it means when a request was sent and no answer came.
enum call_kind {
    CALL_READ,       // nothing: it can be asked again (ERR_SCHEDULER_UNAVAILABLE)
    CALL_IDEMPOTENT, // it may have been done (ERR_OUTCOME_UNKNOWN), and can be repeated as it is
    CALL_INGEST      // it may have been accepted, and a repeat without a key may be accepted twice
};

enum call_state { CALL_IDLE, CALL_WAITING, CALL_SENDING, CALL_SENT };

// One request and its reply, embedded in the caller's object. Zero it, set the first three, hand it over with
// forward_call; it is the forwarder's until done is called.
struct call {
    const char *line; // one request line with its newline, at most MESSAGE_MAX; unchanged until done
    size_t len;
    enum call_kind kind;
    // Exactly once for each forward_call, on a thread of the network library: must not block. The reply, or a
    // fault of the forwarder's own, is borrowed for the call. The call may be used again or freed from here
    // on.
    void (*done)(struct call *call, const struct reply *reply);
    bool resent; // to be read in done: it was sent again after a send that may have got through

    // forward.c's, under its lock.
    TAILQ_ENTRY(call) link; // waiting, or about to be given up
    struct heap_node due;
    enum call_state state;
    bool alone;     // travels in a message of its own
    bool overdue;   // its deadline passed while it was being sent
    bool ever_sent; // some send of it has completed: the scheduler may have seen it
    int64_t within_ns;
    struct flight *flight;
    size_t index; // in the flight
};

// Connects to url (`ipc://PATH`, `tls+tcp://HOST:PORT` with a tls, `tcp://HOST:PORT`) in the background, for
// good; both are borrowed until the end of the process. ERR_INTERNAL, ERR_NO_MEMORY.
MUST_CHECK enum err forward_open(const char *url, struct tls *tls, struct forward **forward,
                                 struct fault *fault);

// Reads the certificates and the key again, for the next connection. When they cannot be used, all stays as
// it was: errors as tls_reload. Only with a tls; one thread at a time.
MUST_CHECK enum err forward_reload(struct forward *forward, struct fault *fault);

// Hands over a call, to be answered within this time. ERR_SCHEDULER_UNAVAILABLE when too many are under way;
// then done is not called.
MUST_CHECK enum err forward_call(struct forward *forward, struct call *call, int64_t within_ns,
                                 struct fault *fault);

// What it has done, and how it stands. Counts are since the start.
struct forward_stats {
    struct histogram round_trips; // of messages (histogram_times)
    struct histogram lines;       // requests in a message (histogram_counts)
    uint64_t connects;
    size_t waiting; // requests that are not sent
    size_t pending; // those, and those that are not answered
};
void forward_measure(struct forward *forward, struct forward_stats *stats);

#endif
