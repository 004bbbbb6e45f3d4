// ipc_context.h - the contexts that messages go through, one at a time each, and how many there may be. Part
// of ipc.c, which alone uses it. Any thread.
#ifndef SLUICE_SCHEDULER_IPC_CONTEXT_H
#define SLUICE_SCHEDULER_IPC_CONTEXT_H

#include "common/worker.h"
#include "scheduler/ipc.h"

#include <nng/nng.h>
#include <pthread.h>
#include <stdbool.h>

struct ipc_pipes;
struct ipc_watch;

enum context_state { CONTEXT_RECEIVING, CONTEXT_SENDING };

// One message at a time goes through a context: idle -> receiving -> decoding (in a callback or by the
// worker) -> in the inbox and the loop -> sending -> idle. Whoever has it at its stage owns it alone; `next`,
// `kept` and `charge` are guarded by ipc->lock.
struct ipc_context {
    struct ipc *ipc;
    struct ipc_context *made_before; // all of them; constant
    struct ipc_context *next;        // idle ones
    bool kept;                       // its message is, from ipc_keep to the end of its reply
    size_t charge;                   // what it counts for in ipc->held
    nng_ctx ctx;
    nng_aio *aio;
    enum context_state state; // what the aio does
    nng_pipe pipe;            // where the message came from
    nng_msg *msg;             // until it is decoded
    struct work work;
    struct ipc_message message;
};

struct ipc {
    struct inbox *inbox;
    nng_socket socket;
    struct id_minter minter;
    struct worker *worker;
    struct ipc_watch *watch;
    struct ipc_pipes *pipes;
    nng_listener remote; // with the next: of ipc_listen
    struct tls *tls;
    nng_aio *grace; // sleeps while ipc_close waits for `sending` to become 0

    pthread_mutex_t lock; // guards what follows; taken before the inbox's, never while calling a function
                          // that may call back
    bool closing;
    struct ipc_context *contexts; // all, the youngest first: never more than have been busy and kept at once
    struct ipc_context *idle;
    size_t busy; // neither idle nor kept
    size_t kept;
    size_t held;
    size_t receiving;
    size_t sending;
    size_t calls; // of NNG for a context, that have not returned: nng_close must not overtake them
    pthread_cond_t no_calls;
    size_t users; // ipc_close not yet done, and each message that is in the inbox or in the loop
};

// One more context, the caller's; NULL without memory. While ipc->calls counts the caller, or before the
// socket listens: NNG 1.5 never ends closing a socket that gets a context meanwhile.
struct ipc_context *context_make(struct ipc *ipc);
// Posts as many receives as contexts and budget allow; what comes goes to ipc_received.
void context_receive_more(struct ipc *ipc);
// What its message counts for from now on, in bytes.
void context_set_charge(struct ipc_context *context, size_t charge);
// Its message is done with, without a reply.
void context_release(struct ipc_context *context);
// Sends the lines to where its message came from, if that is there yet, and releases it.
void context_send(struct ipc_context *context, const struct buf *lines);
// Whether one more message may be kept; if so, there is a context that can take the place of its own. Errors
// as ipc_keep.
MUST_CHECK enum err context_make_way(struct ipc *ipc);
// Follows it.
void context_keep(struct ipc_context *context);

// ipc.c's: the receive of this context has ended.
void ipc_received(struct ipc_context *context);

#endif
