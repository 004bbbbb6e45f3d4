// ipc.h - the scheduler's socket: NNG rep contexts that receive messages, split them into requests and hand
// them to the inbox; and the way back. Threads: NNG's callbacks and one worker; the loop calls ipc_reply.
#ifndef SLUICE_SCHEDULER_IPC_H
#define SLUICE_SCHEDULER_IPC_H

#include "common/buf.h"
#include "proto/request.h"
#include "scheduler/inbox.h"

struct ipc;
struct tls;

#define IPC_KEPT_MAX 1024u // messages that wait for a late answer, or whose answer is on its way

// One request of a message: decoded, or the fault that decoding found.
struct ipc_request {
    struct request request; // meaningful when fault.err is ERR_OK
    struct fault fault;
};

// One message: its requests, and one reply line for each in the same order. The inbox and the loop hold it
// between arrival and ipc_reply.
struct ipc_message {
    struct inbox_item item;
    struct ipc_request *requests;
    size_t count;  // a lease is alone in its message
    uint32_t pipe; // the connection it came on (NNG's number), for INBOX_GONE
    // The rest is ipc.c's.
    struct ipc_context *context;
};

// A connection ended on which a kept message (ipc_keep) came that is not answered yet. Posted as INBOX_GONE;
// the loop frees it with free().
struct ipc_gone {
    struct inbox_item item;
    uint32_t pipe;
};

// Listens on url ("ipc://PATH"; the directory exists), socket mode 0660. A stale socket file is replaced,
// anything else at the path is refused. Serves until ipc_close. ERR_SCHEDULER_UNAVAILABLE when the path is
// taken or cannot be used. (The caller holds a lock file beside the socket, so that a living daemon's socket
// is never taken for a stale one.)
MUST_CHECK enum err ipc_open(const char *url, struct inbox *inbox, struct ipc **ipc, struct fault *fault);
// Listens on url, too: "tls+tcp://HOST:PORT" with a tls, "tcp://HOST:PORT" with NULL. Both are borrowed until
// ipc_close. Once, after ipc_open. ERR_SCHEDULER_UNAVAILABLE when it cannot.
MUST_CHECK enum err ipc_listen(struct ipc *ipc, const char *url, struct tls *tls, struct fault *fault);
// Reads the certificates and the key of that again, for the connections that come from now on. When they
// cannot be used, all stays as it was: errors as tls_reload. The loop's thread.
MUST_CHECK enum err ipc_reload(struct ipc *ipc, struct fault *fault);
// The message is answered much later (a lease that waits): its context no longer counts among those that read
// requests, and another one takes its place. When the connection ends before the reply, or has ended already,
// an ipc_gone follows: one for all its kept messages, or one more for each that is kept later. The loop's
// thread. ERR_OVERLOADED (IPC_KEPT_MAX are kept, or ipc_close was called), ERR_NO_MEMORY: it is not kept.
MUST_CHECK enum err ipc_keep(struct ipc_message *message);
// Sends the lines (one for each request; `lines` is copied or taken: it is empty afterwards) and frees the
// message with its requests. If the peer is gone the reply is dropped.
void ipc_reply(struct ipc_message *message, struct buf *lines);
// Takes no more messages, waits a moment for replies on their way (at most 1 s), removes the socket file.
// Nothing is posted to the inbox afterwards; messages that were posted before must still be given to
// ipc_reply, which then only frees them.
void ipc_close(struct ipc *ipc);

#endif
