// ipc_watch.h - the listening end of the scheduler's socket, and a thread that watches over it: NNG can lose
// a listener without a word, and anybody may delete the socket file. Part of ipc.c, which alone uses it.
#ifndef SLUICE_SCHEDULER_IPC_WATCH_H
#define SLUICE_SCHEDULER_IPC_WATCH_H

#include "common/err.h"

#include <nng/nng.h>
#include <stdbool.h>
#include <stddef.h>

struct ipc_watch;

// Whether a receive is posted. Without one (the loop is behind) a round trip that fails says nothing about
// the listener.
typedef bool ipc_watch_receiving(void *arg);

// Errors and url as ipc_open. Listens with the socket, which stays the caller's until ipc_watch_start.
MUST_CHECK enum err ipc_watch_new(const char *url, nng_socket socket, ipc_watch_receiving *receiving,
                                  void *arg, struct ipc_watch **watch, struct fault *fault);
// Makes a first round trip, then one every few seconds, and listens anew when they fail. On ERR_OK the socket
// is the watch's.
MUST_CHECK enum err ipc_watch_start(struct ipc_watch *watch, struct fault *fault);
// The line that travels on the round trips: whoever receives exactly this sends it back as it is.
const char *ipc_watch_line(const struct ipc_watch *watch, size_t *len);
// Ends the thread and closes the socket. ERR_INTERNAL when NNG does not come to an end with it within a
// bounded time; the socket may then still be in use.
MUST_CHECK enum err ipc_watch_stop(struct ipc_watch *watch);
// Not before it was stopped (or never started). NULL is fine.
void ipc_watch_free(struct ipc_watch *watch);

#endif
