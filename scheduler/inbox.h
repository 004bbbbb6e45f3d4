// inbox.h - what reaches the loop from other threads: many producers, one consumer, woken through a
// descriptor.
#ifndef SLUICE_SCHEDULER_INBOX_H
#define SLUICE_SCHEDULER_INBOX_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

enum inbox_kind {
    INBOX_MESSAGE, // the item is embedded in an ipc_message
    INBOX_DONE,    // a delivery ended: the item is embedded in it
    INBOX_STARTED, // a delivery started: the item is its `start`
    INBOX_GONE,    // a connection ended: the item is embedded in an ipc_gone
};

// Embedded in what is posted.
struct inbox_item {
    enum inbox_kind kind;
    struct inbox_item *next;
};

struct inbox;

MUST_CHECK enum err inbox_new(struct inbox **inbox);
void inbox_free(struct inbox *inbox); // must be empty; NULL is fine
// From any thread. Never fails, never blocks for long. The quiet one does not wake the consumer: it finds the
// item when something else does.
void inbox_post_quietly(struct inbox *inbox, struct inbox_item *item);
void inbox_post(struct inbox *inbox, struct inbox_item *item);
// Everything that is there, in the order it came, as a list; NULL when empty. Consumer only.
struct inbox_item *inbox_take(struct inbox *inbox);
// Readable while something is there that was not posted quietly (for epoll).
int inbox_fd(const struct inbox *inbox);

#endif
