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
#include "scheduler/reach.h"

struct store;

// ---- opening ----

// Opens or creates the store in the directory (which exists). Moments on the monotonic clock that were stored
// in another boot mean nothing any more: compare store_load_meta, see store_rebase_backoff. What is refused
// is left as it was.
MUST_CHECK enum err store_sqlite_open(const char *dir, struct store **store, struct fault *fault);
void store_close(struct store *store); // NULL is fine

// ---- one transaction for each turn ----

// Nothing may be promised from what the store holds before this has worked once: a process that was killed
// between the writing of a commit and its sync leaves what reads as if it had been committed, and would be
// gone with the power. Between transactions; costs nothing from then on.
MUST_CHECK enum err store_confirm(struct store *store);
MUST_CHECK enum err store_begin(struct store *store);
// For what may be lost when the power goes: the commit costs no sync. The next transaction that is begun in
// the usual way makes it durable with its own commit.
MUST_CHECK enum err store_begin_lazy(struct store *store);
// Durable when it returns ERR_OK. A transaction that wrote nothing costs no sync. ERR_OUTCOME_UNKNOWN: do not
// go on, and say nothing of what it was for: the store may hold it when it is opened again.
MUST_CHECK enum err store_commit(struct store *store);
void store_rollback(struct store *store);
// Outside of a transaction: what is read between the two is of one moment, and costs less than read by read.
// To begin again, or to end what has not begun, does nothing.
void store_begin_reading(struct store *store);
void store_end_reading(struct store *store);
// Housekeeping between transactions (checkpoints), when there is nothing better to do or it has become
// urgent. Returns quickly when nothing is due.
MUST_CHECK enum err store_tend(struct store *store);

// The bytes of its files: the data, and the log of what is not yet in it. 0 where there is none.
void store_size(struct store *store, uint64_t *data, uint64_t *log);

// ---- start-up ----

// The boot the stored moments belong to, the flags of the last start (a small text, "" at first), and what is
// added to that boot's monotonic clock to have the age clock.
struct meta {
    struct id boot;
    int64_t age_offset_ns;
};
MUST_CHECK enum err store_load_meta(struct store *store, struct meta *meta, struct buf *flags);
MUST_CHECK enum err store_save_meta(struct store *store, const struct meta *meta, const char *flags);
// When the newest ingestion was accepted, by both clocks; *any is false when there is none.
MUST_CHECK enum err store_newest(struct store *store, bool *any, int64_t *accepted_ns, struct wall *created);
// After a reboot: every batch in backoff is due at once, and every lease has run out at once.
MUST_CHECK enum err store_rebase_moments(struct store *store, struct mono now);

// All queues, in the order they were made; the caller frees with store_free_queues.
MUST_CHECK enum err store_load_queues(struct store *store, struct queue_row **rows, size_t *count);
void store_free_queues(struct queue_row *rows, size_t count);
// How many batches of the queue wait, by priority.
MUST_CHECK enum err store_load_waiting(struct store *store, int64_t queue, uint64_t waiting[PRIORITIES]);
// The earliest moment of one of the queue's time indexes, DUE_NEVER when it is empty.
MUST_CHECK enum err store_next_due(struct store *store, int64_t queue, enum due_kind kind, int64_t *due);
// Whether retries that were asked for (store_ask_retry) are still to be done.
MUST_CHECK enum err store_has_retries(struct store *store, bool *any);

// Batches whose stored state is BATCH_IN_FLIGHT.
struct in_flight_row {
    struct batch_key key;
    bool cancelled; // its ingestion was, meanwhile
    uint32_t attempt;
    uint32_t excused;
    struct id ingestion;
    bool leased; // to a worker; what follows is meaningful
    struct id lease;
    struct mono lease_until;
    struct trace trace;
    char *ids; // owned; NULL when not leased
};
// The caller frees with store_free_in_flight.
MUST_CHECK enum err store_load_in_flight(struct store *store, struct in_flight_row **rows, size_t *count);
void store_free_in_flight(struct in_flight_row *rows, size_t count);

// ---- look-ahead for the engine ----

// Up to *count waiting runs of one queue and priority, in order, strictly after the batch (after_seq,
// after_index); -1, 0 for the first. *count becomes how many there were.
MUST_CHECK enum err store_read_waiting(struct store *store, int64_t queue, enum priority priority,
                                       int64_t after_seq, uint32_t after_index, struct run *runs,
                                       size_t *count);

// Up to *count batches of the queue that are not due, of one kind (DUE_RETRY or DUE_START), by (due, seq,
// index), for the outlook.
MUST_CHECK enum err store_read_delayed(struct store *store, int64_t queue, enum due_kind kind,
                                       struct delayed_row *rows, size_t *count);

// ---- queues ----

// Makes a queue when row->id is 0 (and sets it), else replaces its settings, target and headers.
MUST_CHECK enum err store_save_queue(struct store *store, struct queue_row *row);
// Forgets a queue that is empty, and retries that were asked for. Its name is free again; its finished
// ingestions stay, and keep the name.
MUST_CHECK enum err store_delete_queue(struct store *store, int64_t queue);
// The name of a queue that is there or was deleted. ERR_NOT_FOUND.
MUST_CHECK enum err store_queue_name(struct store *store, int64_t queue, char name[static QUEUE_NAME_SIZE]);
// To be called before something of a queue changes that bears on when it may dispatch: keeps in the history
// what was in force up to `now`. CHANGE_BOOT: the monotonic clock has begun anew.
enum change_kind { CHANGE_SETTINGS, CHANGE_BOOT };
MUST_CHECK enum err store_note_change(struct store *store, int64_t queue, enum change_kind kind,
                                      struct mono now);
// Saves what changed of queues.
MUST_CHECK enum err store_save_figures(struct store *store, const int64_t *queues,
                                       const struct queue_figures *figures, size_t count);

// ---- writes ----

enum insert_result { INSERT_NEW, INSERT_REPLAYED, INSERT_ID_REUSED, INSERT_KEY_REUSED, INSERT_NO_ROOM };
struct insert {
    const struct ingest_request *request; // has_id is true; borrowed
    int64_t queue;
    uint32_t batch_size;
    struct wall now;
    int64_t accepted_ns;       // now, on the age clock
    bool only_replay;          // nothing new is to be made
    const char *owner;         // whose it becomes; NULL: nobody's; borrowed
    const struct trace *trace; // what is kept of it beside its content; NULL: nothing; borrowed
    // out
    enum insert_result result;
    int64_t seq;         // INSERT_NEW
    uint32_t batches;    // INSERT_NEW
    struct id ingestion; // INSERT_NEW and INSERT_REPLAYED: the ID to answer with
};
// Adds ingestions, in order. The same ID, or the same idempotency key, with the same content is a replay of
// what is there (also of one earlier in the array); with other content it is refused in `result`. An ID that
// is there counts before a key. With only_replay, what would be new is INSERT_NO_ROOM instead. The content is
// ids, priority, queue (by its name), not_before and deadline, and of an ID its owner, too; a key is one of
// its owner's, and the same key of another owner (or of nobody) is another key. What has a not_before after
// `now` goes into the time index and not among the waiting.
MUST_CHECK enum err store_insert(struct store *store, struct insert *inserts, size_t count);

struct dispatch_row {
    struct batch_key key;
    struct wall now;
    struct mono at; // the same moment, for the history
    bool leased;
    struct id lease;         // leased
    struct mono lease_until; // leased
    // out
    uint32_t attempt; // this one, from 1
    uint32_t excused; // attempts so far that do not count against max_attempts
    struct id ingestion;
    struct trace trace; // what the ingestion came with
    char *ids;          // the batch's IDs, as in struct ids; owned by the caller
};
// Takes each batch (which is waiting) out of the waiting ones, marks it in flight and adds it to the history,
// in this order.
MUST_CHECK enum err store_dispatch(struct store *store, struct dispatch_row *rows, size_t count);

// Ends the attempts of batches in flight: final, in backoff, or back to their place among the waiting; and
// their leases.
MUST_CHECK enum err store_finish(struct store *store, const struct finish_row *rows, size_t count);
// Moves the end of a batch's lease.
MUST_CHECK enum err store_extend_lease(struct store *store, const struct id *lease, const struct place *place,
                                       struct mono until);

// Takes up to *count entries that are due out of a queue's time index (DUE_RETRY by `now`, DUE_START by
// `now_wall`), the earliest first, and puts their batches among the waiting. *count becomes how many there
// were, *next the earliest moment that is left (DUE_NEVER: none).
MUST_CHECK enum err store_take_due(struct store *store, int64_t queue, enum due_kind kind, struct mono now,
                                   struct wall now_wall, struct returned_row *rows, size_t *count,
                                   int64_t *next);
// The same for DUE_DEADLINE: what of the ingestions has not started becomes cancelled, with error "deadline";
// batches that were dispatched before and wait for another attempt stay. Looks at up to *count deadlines;
// those of which nothing was left to cancel bring no removal. age_ns: now, on the age clock.
MUST_CHECK enum err store_expire(struct store *store, int64_t queue, struct wall now_wall, int64_t age_ns,
                                 struct removal *removals, size_t *count, int64_t *next);

// Everything of the ingestion that waits or is not due becomes cancelled, and what is in flight will not be
// tried again. ERR_NOT_FOUND, ERR_ALREADY_FINISHED (completed, or failed with no retry asked for); something
// cancelled already is ERR_OK with nothing removed (removal->cancelled is false then). Cost does not depend
// on the backlog. age_ns: now, on the age clock.
MUST_CHECK enum err store_cancel(struct store *store, const struct id *ingestion, struct wall now,
                                 int64_t age_ns, struct removal *removal);

// Asks for the failed batches with first_seq <= seq <= last_seq of a queue to be tried again from attempt 1:
// kept on disk until it is done, in steps, by store_run_retries. What fails after this call is not meant. A
// cancelled ingestion is left alone, unless it is the only one asked for (first_seq is last_seq) and
// something of it failed: then it is no longer cancelled, but for what never started.
MUST_CHECK enum err store_ask_retry(struct store *store, int64_t queue, int64_t first_seq, int64_t last_seq);
struct retried_row {
    int64_t queue;
    struct returned_row row;
};
// Takes up to *count failed batches (as runs, each of which counts as one) and puts them among the waiting;
// *count becomes how many there were, *more whether there are retries left to do. Looks at a bounded number
// of rows.
MUST_CHECK enum err store_run_retries(struct store *store, struct retried_row *rows, size_t *count,
                                      bool *more);

// ---- what finished long ago ----

// An ingestion has finished when all its batches are in a final state, and until some are retried by hand.
// The moment of the age clock when the first to do so finished; INT64_MIN when one is being removed,
// DUE_NEVER when there is none.
MUST_CHECK enum err store_first_finished(struct store *store, int64_t *finished_ns);
struct removed {
    size_t ingestions; // that are gone from now on
    size_t rows;       // that went, of these and of others
    int64_t next;      // as store_first_finished gives it now
};
// Removes ingestions that finished up to a moment of the age clock, the first to finish first, and no more
// than max_rows (and what a chunk of IDs counts for). One is gone with the first of its rows: it cannot be
// found, is in no list, and its ID and its key are free; the others may take further calls. None begins as
// long as retries that were asked for are to be done.
#define CHUNK_ROWS 4u // a chunk of 1,024 IDs counts as so many rows, since it has pages of its own
MUST_CHECK enum err store_remove_old(struct store *store, int64_t finished_by_ns, size_t max_rows,
                                     struct removed *removed);

// ---- a copy of it all ----

struct store_copy;
// Begins a copy in a file of its own, which must not be there (nor one of that name with ".part" behind it).
// Its name comes when it is complete. ERR_STORAGE_UNAVAILABLE, which says why, or ERR_NO_MEMORY. The caller
// ends it with store_copy_end, before the store is closed.
MUST_CHECK enum err store_copy_begin(struct store *store, const char *path, struct store_copy **copy,
                                     struct fault *fault);
struct store_copied {
    uint64_t pages; // of the store
    uint64_t left;  // of them
    bool done;
};
// Copies so many pages more, between transactions. Whatever is written meanwhile is in it as well: when it is
// done, it is the store of that moment. It is not synced to disk. ERR_STORAGE_UNAVAILABLE: it cannot be
// completed.
MUST_CHECK enum err store_copy_step(struct store_copy *copy, int pages, struct store_copied *copied,
                                    struct fault *fault);
// Frees it; what is not complete is removed. NULL is fine.
void store_copy_end(struct store_copy *copy);

// ---- the status table ----

struct ingestion_row {
    int64_t seq;
    struct id id;
    int64_t queue;
    char owner[OWNER_SIZE]; // "": nobody
    enum priority priority;
    uint32_t batch_size;
    uint32_t ids;     // how many
    uint32_t batches; // how many
    struct wall created;
    int64_t accepted_ns;         // on the age clock
    struct wall not_before;      // ms 0: none
    struct wall deadline;        // ms 0: none
    bool scheduled;              // all of it is in the time index until not_before
    bool expired;                // its deadline came: what had not started was cancelled
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
    bool interrupted;      // the scheduler ended while it was in flight
    char *error;           // owned by the caller; NULL when there is none
};
// The batches of an ingestion that have a row, with first <= index < end, by index: those that started once.
// (After a retry by hand they are there with attempts 0.) The others have not started, or, in a cancelled or
// expired ingestion, never will. The caller frees with store_free_batches.
MUST_CHECK enum err store_read_batches(struct store *store, int64_t seq, uint32_t first, uint32_t end,
                                       struct batch_row **rows, size_t *count);
void store_free_batches(struct batch_row *rows, size_t count);

// Appends the IDs with from <= position < from + count, as in struct ids.
MUST_CHECK enum err store_read_ids(struct store *store, const struct ingestion_row *row, uint32_t from,
                                   uint32_t count, struct buf *text);

// Its first and its last waiting batch; *any is false when none waits.
MUST_CHECK enum err store_read_span(struct store *store, const struct ingestion_row *row, bool *any,
                                    uint32_t *first, uint32_t *last);
// The largest seq that was accepted up to this moment of the age clock, 0 when there is none.
MUST_CHECK enum err store_seq_accepted_by(struct store *store, int64_t accepted_ns, int64_t *seq);
// How many waiting batches of the same queue and priority stand before this place. Cost does not grow with
// the backlog.
MUST_CHECK enum err store_count_before(struct store *store, int64_t queue, const struct place *place,
                                       uint64_t *count);

// Up to *count ingestions in reach (NULL: all) that match, newest first, with seq < before (INT64_MAX: from
// the newest). Of the filter only status and priority count: its queue is the reach's. Looks at a bounded
// number of rows; *next becomes the seq to go on from, 0 when there is nothing more. Rows go into `rows`.
MUST_CHECK enum err store_list(struct store *store, const struct list_request *filter,
                               const struct reach *reach, int64_t before, struct ingestion_row *rows,
                               size_t *count, int64_t *next);

#endif
