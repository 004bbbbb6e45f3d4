// verify.h - checks a data directory that no scheduler has open: that the store is whole, that its rows agree
// with one another, and that what was dispatched was dispatched as promised. Nothing is written.
//
// What the history (store_schema.c) decides exactly, for the entries that are there (the newest HISTORY_MAX):
// - rate: by the moment of the turn in which a batch was dispatched, its slot; to the nanosecond, since in
// whole
//   nanoseconds a slot may be rounded. A change of rate or burst and a reboot empty the bucket.
// - order: no batch may be passed over by another of its queue, from the entry on since which it waits.
// - concurrency: dispatches less those that have ended or were cut off by a crash.
// - attempts: each begins after the one before it ended, and they are counted without a gap.
// - pauses, and the queues' totals.
//
// What is left out: how long after its slot a delivery really started (within 2 ms, or else the next slots
// moved; that is not kept); lingers, holds of a target and the breaker, which only ever delay; batches that
// were cancelled or expired before they were dispatched, as having been passed over; what went before a more
// urgent batch while the `aging` of the queue was on (inside of a priority it changes nothing); the number in
// flight of ingestions that have been removed; and the rate across the first entry there is. Times by the
// wall clock are not compared with one another: it may be set.
//
// Memory does not grow with the store: rows are streamed, and sorted in temporary files ($SQLITE_TMPDIR,
// /var/tmp).
#ifndef SLUICE_SCHEDULER_VERIFY_H
#define SLUICE_SCHEDULER_VERIFY_H

#include "common/err.h"

#include <stdint.h>

struct verify_result {
    uint64_t ingestions;
    uint64_t batches;
    uint64_t dispatches;
    uint64_t violations; // also those that were too many to be said one by one
};

// Called for each violation, with a line without its end; at most VERIFY_LINES of a kind, then one that says
// how many more there are.
#define VERIFY_LINES 20u
typedef void verify_say(void *user, const char *line);

// ERR_OK: checked, and result->violations says the rest. ERR_NOT_FOUND: no directory, or no store in it, or
// it cannot be read. ERR_STORAGE_UNAVAILABLE: in use. ERR_STORAGE_REFUSED: not a store of ours, or of another
// version. ERR_STORAGE_IO, ERR_NO_MEMORY. For each there is one sentence in *fault.
MUST_CHECK enum err verify_directory(const char *dir, verify_say *say, void *user,
                                     struct verify_result *result, struct fault *fault);

// With what a program ends that was told of this error, as in sysexits.h.
int verify_exit_code(enum err err);

#endif
