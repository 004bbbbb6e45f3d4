// store.h - where everything Sluice promised is kept. The one thread of the loop uses it.
//
// All calls take arrays, so that an embedded store loops and a networked one makes one round trip. Writes
// happen inside one transaction for each turn of the loop: begin, any of the writes, commit. After a failed
// write or commit the transaction is gone (rollback is then harmless) and the caller drops its memory and
// loads anew.
//
// Errors: ERR_STORAGE_FULL (no room: try later), ERR_STORAGE_IO (do not go on), ERR_STORAGE_REFUSED (open
// only: not a store of ours, newer than us, damaged, or in use), ERR_NO_MEMORY. Every function with `enum
// err` may return any of the others.
#ifndef SLUICE_SCHEDULER_STORE_H
#define SLUICE_SCHEDULER_STORE_H

#include "common/buf.h"
#include "proto/request.h"
#include "scheduler/model.h"

struct store;

// ---- opening ----

// Opens or creates the store in the directory (which exists). Moments on the monotonic clock that were stored
// in another boot mean nothing any more: compare store_load_meta, see store_rebase_backoff. What is refused
// is left as it was.
MUST_CHECK enum err store_sqlite_open(const char *dir, struct store **store, struct fault *fault);
void store_close(struct store *store); // NULL is fine

// ---- one transaction for each turn ----

MUST_CHECK enum err store_begin(struct store *store);
// Durable when it returns ERR_OK. A transaction that wrote nothing costs no sync.
MUST_CHECK enum err store_commit(struct store *store);
void store_rollback(struct store *store);
// Housekeeping between transactions (checkpoints), when there is nothing better to do or it has become
// urgent. Returns quickly when nothing is due.
MUST_CHECK enum err store_tend(struct store *store);

// ---- start-up ----

// The boot the stored moments belong to, and the flags of the last start (a small text, "" at first).
MUST_CHECK enum err store_load_meta(struct store *store, struct id *boot, struct buf *flags);
MUST_CHECK enum err store_save_meta(struct store *store, const struct id *boot, const char *flags);
// After a reboot: every batch in backoff is due at once.
MUST_CHECK enum err store_rebase_backoff(struct store *store, struct mono now);
// All queues, in the order they were made; the caller frees *rows with free().
MUST_CHECK enum err store_load_queues(struct store *store, struct queue_row **rows, size_t *count);
// Makes a queue when row->id is 0 (and sets it), else replaces its settings.
MUST_CHECK enum err store_save_queue(struct store *store, struct queue_row *row);
// How many batches of the queue wait, by priority.
MUST_CHECK enum err store_load_waiting(struct store *store, int64_t queue, uint64_t waiting[PRIORITIES]);

// Batches whose stored state is BATCH_IN_FLIGHT; the caller frees *keys with free().
MUST_CHECK enum err store_load_in_flight(struct store *store, struct batch_key **keys, size_t *count);

// ---- look-ahead for the engine ----

// Up to *count waiting runs of one queue and priority, in order, strictly after the batch (after_seq,
// after_index); -1, 0 for the first. *count becomes how many there were.
MUST_CHECK enum err store_read_waiting(struct store *store, int64_t queue, enum priority priority,
                                       int64_t after_seq, uint32_t after_index, struct run *runs,
                                       size_t *count);

// Up to *count batches in backoff, over all queues, by (due, seq, index), strictly after the given one.
MUST_CHECK enum err store_read_backoff(struct store *store, struct mono after_due, int64_t after_seq,
                                       uint32_t after_index, struct backoff_row *rows, size_t *count);

// ---- writes ----

enum insert_result { INSERT_NEW, INSERT_REPLAYED, INSERT_ID_REUSED, INSERT_KEY_REUSED, INSERT_NO_ROOM };
struct insert {
    const struct ingest_request *request; // has_id is true; borrowed
    int64_t queue;
    uint32_t batch_size;
    struct wall now;
    bool only_replay; // there is no room for new work
    // out
    enum insert_result result;
    int64_t seq;         // INSERT_NEW
    uint32_t batches;    // INSERT_NEW
    struct id ingestion; // INSERT_NEW and INSERT_REPLAYED: the ID to answer with
};
// Adds ingestions, in order. The same ID, or the same idempotency key, with the same content is a replay of
// what is there (also of one earlier in the array); with other content it is refused in `result`. An ID that
// is there counts before a key. With only_replay, what would be new is INSERT_NO_ROOM instead.
MUST_CHECK enum err store_insert(struct store *store, struct insert *inserts, size_t count);

struct dispatch_row {
    struct batch_key key;
    struct wall now;
    // out
    uint32_t attempt; // this one, from 1
    uint32_t excused; // attempts so far that do not count against max_attempts
    struct id ingestion;
    char *ids; // the batch's IDs, as in struct ids; owned by the caller
};
// Takes each batch (which is waiting) out of the waiting ones and marks it in flight.
MUST_CHECK enum err store_dispatch(struct store *store, struct dispatch_row *rows, size_t count);

// Ends the attempts of batches in flight: final, in backoff, or back to their place among the waiting.
MUST_CHECK enum err store_finish(struct store *store, const struct finish_row *rows, size_t count);

// Batches whose backoff is over go back to their places among the waiting.
MUST_CHECK enum err store_promote(struct store *store, const struct batch_key *keys, size_t count);

// Saves what changed of queues.
MUST_CHECK enum err store_save_figures(struct store *store, const int64_t *queues,
                                       const struct queue_figures *figures, size_t count);

// ---- the status table ----

struct ingestion_row {
    int64_t seq;
    struct id id;
    int64_t queue;
    enum priority priority;
    uint32_t batch_size;
    uint32_t ids;     // how many
    uint32_t batches; // how many
    struct wall created;
    uint32_t progress[STATUSES]; // batches by outside status; their sum is `batches`
};
// The outside status of an ingestion, from its progress.
enum status ingestion_status(const struct ingestion_row *row);

// ERR_NOT_FOUND when there is none.
MUST_CHECK enum err store_find(struct store *store, const struct id *id, struct ingestion_row *row);

struct batch_row {
    uint32_t index;
    enum batch_state state;
    uint32_t attempts;
    struct wall triggered; // its first dispatch
    struct wall completed; // when it reached a final state; ms 0 before
    struct mono due;       // BATCH_BACKOFF
    char *error;           // owned by the caller; NULL when there is none
};
// The started batches of an ingestion with first <= index < end, by index; the others have not started (or,
// in a cancelled ingestion, never will). The caller frees with store_free_batches.
MUST_CHECK enum err store_read_batches(struct store *store, int64_t seq, uint32_t first, uint32_t end,
                                       struct batch_row **rows, size_t *count);
void store_free_batches(struct batch_row *rows, size_t count);

// Appends the IDs with from <= position < from + count, as in struct ids.
MUST_CHECK enum err store_read_ids(struct store *store, const struct ingestion_row *row, uint32_t from,
                                   uint32_t count, struct buf *text);

// Its first and its last waiting batch; *any is false when none waits.
MUST_CHECK enum err store_read_span(struct store *store, const struct ingestion_row *row, bool *any,
                                    uint32_t *first, uint32_t *last);
// How many waiting batches of the same queue and priority stand before this one. Cost does not grow with the
// backlog.
MUST_CHECK enum err store_count_before(struct store *store, int64_t queue, const struct place *place,
                                       uint64_t *count);

// Up to *count ingestions that match (queue 0: any), newest first, with seq < before (INT64_MAX: from the
// newest). Looks at a bounded number of rows; *next becomes the seq to go on from, 0 when there is nothing
// more. Rows go into `rows`.
MUST_CHECK enum err store_list(struct store *store, const struct list_request *filter, int64_t queue,
                               int64_t before, struct ingestion_row *rows, size_t *count, int64_t *next);

#endif
