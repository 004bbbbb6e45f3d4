// ipc_pipes.h - the connections of the scheduler's socket, and word of their end for those on which a message
// is kept. Part of ipc.c, which alone uses it. Any thread.
#ifndef SLUICE_SCHEDULER_IPC_PIPES_H
#define SLUICE_SCHEDULER_IPC_PIPES_H

#include "scheduler/inbox.h"

#include <nng/nng.h>

struct ipc_pipes;

// Before the socket listens. ERR_NO_MEMORY.
MUST_CHECK enum err ipc_pipes_new(nng_socket socket, struct inbox *inbox, struct ipc_pipes **pipes);
// One more message is kept on this connection: when it ends an ipc_gone is posted, at once if it has ended.
// ERR_NO_MEMORY: nothing is.
MUST_CHECK enum err ipc_pipes_keep(struct ipc_pipes *pipes, uint32_t pipe);
// One is answered; without any there is no ipc_gone.
void ipc_pipes_release(struct ipc_pipes *pipes, uint32_t pipe);
// Nothing is posted afterwards. Before the socket is closed.
void ipc_pipes_stop(struct ipc_pipes *pipes);
// When the socket is closed. NULL is fine.
void ipc_pipes_free(struct ipc_pipes *pipes);

#endif
