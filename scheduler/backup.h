// backup.h - a copy of the store that a client has asked for, made beside everything else.
//
// It goes on in small steps, each after a turn's replies have left and its deliveries have started, and half
// of the time at the most. The client asks again and again (proto/PROTOCOL.md, backup) and is told how far it
// is.
#ifndef SLUICE_SCHEDULER_BACKUP_H
#define SLUICE_SCHEDULER_BACKUP_H

#include "common/buf.h"
#include "common/clock.h"
#include "proto/request.h"
#include "scheduler/store.h"

struct backup {
    bool any;
    struct id id;            // of the last one that was begun
    char *path;              // owned
    struct store_copy *copy; // NULL: it is complete, or has failed
    struct store_copied copied;
    struct fault fault; // why it has failed; ERR_OK: it has not
    struct mono due;    // the next step
};

void backup_init(struct backup *backup);
// What is not complete is removed. Before the store is closed.
void backup_fini(struct backup *backup);

// Begins it, unless it was, and appends the reply line: how far it is, or an error. Not inside a transaction.
void backup_answer(struct backup *backup, struct store *store, const struct backup_request *request,
                   struct buf *out);
// Goes on, if it is time. Between transactions.
void backup_step(struct backup *backup);
// When it is time for a step; MONO_NEVER when there is nothing to do.
struct mono backup_wake(const struct backup *backup);

#endif
