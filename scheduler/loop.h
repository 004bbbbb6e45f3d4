// loop.h - the one thread that owns all state: it takes what is in the inbox, lets the engine apply it,
// commits once, and only then sends the replies and starts the deliveries.
#ifndef SLUICE_SCHEDULER_LOOP_H
#define SLUICE_SCHEDULER_LOOP_H

#include "common/watchdog.h"
#include "scheduler/backup.h"
#include "scheduler/engine.h"
#include "scheduler/inbox.h"
#include "scheduler/ipc.h"
#include "scheduler/lease.h"
#include "scheduler/metrics.h"
#include "scheduler/routes.h"
#include "scheduler/store.h"
#include "scheduler/target.h"

// How long finished ingestions are kept, and how far their removal has come. See retain.c.
#define RETAIN_FOREVER INT64_MAX
struct retention {
    int64_t keep_ns;
    struct mono due; // when the first that finished has been kept so long; MONO_NEVER: none has finished
    bool unknown;    // the store has to be asked for it
    struct mono blocked_until;
    struct mono busy_until; // there was a dispatch not long before
    size_t allowance;       // rows that may go all the same
    bool failing;
    uint64_t removed; // ingestions
};

struct loop {
    struct store *store; // borrowed
    uint64_t max_waiting;
    const char *ipc_url; // borrowed
    const char *remote;  // where else to listen, borrowed; NULL: nowhere
    struct tls *tls;     // for that, borrowed; NULL: it takes none
    int signals;         // descriptor of proc_signals
    int ready_fd;        // -1: none

    struct engine *engine;
    int64_t age_offset_ns; // of the age clock to the monotonic one
    struct inbox *inbox;
    struct ipc *ipc;
    struct targets *targets;
    struct routes routes;
    struct leases *leases;

    struct inbox_item *messages; // taken from the inbox, not yet answered
    struct inbox_item **messages_end;
    struct inbox_item *starts; // deliveries that started, and that is not yet on disk
    struct inbox_item **starts_end;
    struct inbox_item *done; // deliveries that ended, not yet settled on disk
    struct inbox_item **done_end;
    struct delivery *live; // all deliveries that were started and are not yet settled, leased ones among them
    size_t live_count;
    size_t leased_count;

    struct retention retention;
    struct backup backup;
    struct watchdog watchdog; // fed once a turn: one that hangs is the end of it

    bool knows_starts;         // no queue is `starting` in the store for what an earlier process did
    struct mono confirm_at;    // the starts of what was dispatched are to be on disk then
    struct mono blocked_until; // the store had no room: nothing is written before
    bool failing;              // the last commit did
    bool cut_off;              // batches that a crash cut off could not be put back yet
    bool retries;              // that were asked for are still to be done
    bool ending;
    uint64_t failures;                  // batches that failed for good and are not in the log yet
    char failed_queue[QUEUE_NAME_SIZE]; // of the last of them
    char failed_error[256];
    struct mono next_failure_log;
    uint64_t random; // state of the jitter's generator
    struct mono started;
    uint64_t commits;
    uint64_t requests;
    struct metrics metrics;
};

// Runs until a signal ends it or the store fails. The store is open and configured (settings.h). Returns the
// exit code.
int loop_run(struct loop *loop);

// ---- between the files of the loop ----

// loop.c: takes the inbox apart into messages, starts and ends.
void loop_take(struct loop *loop);

// recover.c: builds the engine and the routes from the store, at the start and after a failed turn alike.
// Deliveries that still run are taken over, and so are leases; others that were in flight were cut off, and
// their queue says what becomes of them. ERR_STORAGE_FULL: the engine is there, but there was no room to
// write that down (loop->cut_off); nothing may be dispatched before another recover succeeds.
MUST_CHECK enum err recover(struct loop *loop, struct fault *fault);

// retain.c: before loop_run.
void retain_init(struct retention *retention, int64_t keep_ns);
// Removes a bounded number of rows of what has been kept long enough, if there is something and this is a
// good moment. Between transactions. Only ERR_STORAGE_IO and the like say that the loop cannot go on.
MUST_CHECK enum err retain_step(struct loop *loop);
// When it is time for a step if nothing else happens; MONO_NEVER when it is not.
struct mono retain_wake(const struct loop *loop);

// turn.c: one turn. Anything but ERR_OK means that the loop cannot go on.
MUST_CHECK enum err turn(struct loop *loop, struct mono now);

#endif
