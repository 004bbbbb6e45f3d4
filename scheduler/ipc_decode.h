// ipc_decode.h - from the text of a message to its requests. Part of ipc.c, which alone uses it. Any thread.
#ifndef SLUICE_SCHEDULER_IPC_DECODE_H
#define SLUICE_SCHEDULER_IPC_DECODE_H

#include "scheduler/ipc.h"

// At most MESSAGE_LINES_MAX + 1.
size_t ipc_count_lines(const char *text, size_t len);
// Fills message->requests, one for each of `count` lines (as counted above). A line that is wrong, or a lease
// that does not travel alone, becomes a request with a fault; ingests and leases without an ID get one. When
// the message is no good as a whole: its error with one sentence, and no requests.
MUST_CHECK enum err ipc_decode(const char *text, size_t len, size_t count, struct id_minter *minter,
                               struct ipc_message *message, struct fault *fault);
void ipc_free_requests(struct ipc_message *message);

#endif
