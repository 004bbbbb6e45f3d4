// settings.h - the settings of queues: their defaults, what a change makes of them, and what the flags and
// the boot mean for a store that has seen other flags and other boots.
#ifndef SLUICE_SCHEDULER_SETTINGS_H
#define SLUICE_SCHEDULER_SETTINGS_H

#include "proto/queue_change.h"
#include "scheduler/store.h"

// A queue of this name about which nothing was said: settings, target and figures, id 0. ERR_NO_MEMORY. The
// caller frees with queue_row_fini.
MUST_CHECK enum err settings_defaults(struct queue_row *row, const char *name);
void queue_row_fini(struct queue_row *row); // a zeroed one is fine
// Applies a change. ERR_INVALID_FIELD where the settings then do not fit together: a target that cannot be
// read, min_backoff over max_backoff, batches of strings that are too long, another kind of ids on a queue
// that exists (row->id is not 0). On failure the row may have changed in part.
MUST_CHECK enum err settings_change(struct queue_row *row, const struct queue_change *change,
                                    struct fault *fault);

// Brings the store up to this start, in one transaction. `flags` are those of the default queue: rate, burst,
// concurrency, batch_size, target and max_id, all set (`given` is not looked at). Makes the default queue if
// there is none; applies each flag whose value is another than at the last start (and logs old and new), and
// leaves alone what a flag that did not change would set; after a reboot, empties the buckets, makes every
// retry due and lets the age clock go on, since moments of another boot mean nothing.
MUST_CHECK enum err settings_apply(struct store *store, const struct queue_change *flags, struct mono now,
                                   struct wall now_wall);

#endif
