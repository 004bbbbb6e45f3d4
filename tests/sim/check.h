// check.h - what must hold whenever the loop tells its store something. Each of them then moves the model
// along.
#ifndef SLUICE_TESTS_SIM_CHECK_H
#define SLUICE_TESTS_SIM_CHECK_H

#include "scheduler/store.h"
#include "tests/sim/model.h"

// ---- check_order.c: what is dispatched, and when ----

// The first in the published order at this moment, on a queue that may dispatch.
void check_dispatch(const struct dispatch_row *row);
void check_dispatched(const struct dispatch_row *row);
// A delivery starts now, which was decided at `slot`.
void check_start(int64_t queue, struct mono slot);
// The loop goes to sleep until this moment: nothing could be dispatched before.
void check_sleep(struct mono until);
void check_rate_changed(struct model_queue *queue);

// ---- check_batch.c: what becomes of batches ----

// What a worker said about a lease is being carried out: its request. NULL: not so.
extern const struct request *check_settling;
// A cancel or retry is being carried out of what is not in its scope: it changes nothing.
extern bool check_out_of_scope;

void check_insert(const struct insert *insert, size_t count);
void check_finish(const struct finish_row *row);
void check_due(int64_t queue, enum due_kind kind, const struct returned_row *row);
void check_next_due(int64_t queue, enum due_kind kind, int64_t next);
void check_expire(int64_t queue, int64_t age_ns, const struct removal *removals, size_t count);
void check_cancel(const struct id *id, int64_t age_ns, enum err result, const struct removal *removal);
void check_ask_retry(int64_t queue, int64_t first_seq, int64_t last_seq);
void check_retried(const struct retried_row *row);
void check_no_retries(void);
void check_removed(struct store *store, int64_t finished_by_ns, const struct removed *removed);

// ---- check_queue.c: queues and their figures ----

int64_t check_linger(const struct queue_settings *settings);
void check_save_queue(const struct queue_row *row, bool made);
void check_delete_queue(int64_t queue);
void check_figures(int64_t queue, const struct queue_figures *figures);
void check_before_commit(void);
void check_reboot(void);
// The engine is built anew from the store.
void check_rebuilt(void);
// What an outcome means for its whole queue. True when its failure says nothing new of a target that is down.
bool check_outcome(struct model_queue *queue, const struct model_batch *batch, const struct outcome *outcome);

// ---- eta.c ----

void eta_calm_begins(void);
void eta_seen(const struct model_queue *queue, const struct model_ingestion *ingestion, struct mono eta);
void eta_finished(const struct model_queue *queue, const struct model_ingestion *ingestion);

#endif
