// model.h - what the store should hold, as plainly as can be: every ingestion with its batches, every queue.
// Changes go through model_touch, so that they can be taken back with the transaction they were made in.
#ifndef SLUICE_TESTS_SIM_MODEL_H
#define SLUICE_TESTS_SIM_MODEL_H

#include "tests/sim/sim.h"

#define MODEL_QUEUES 8
#define MODEL_INGESTIONS 512
#define MODEL_BATCHES 8

__extension__ typedef __int128 wide;

struct model_batch {
    enum batch_state state; // BATCH_WAITING without a row: never started
    bool row;
    uint32_t attempts;
    uint32_t excused;
    int64_t due_ns;
    bool doomed; // in flight when its ingestion was cancelled
    bool probe;  // dispatched while the breaker was open
    bool moved;  // the queue has had another target since
    uint64_t target_number;
    bool leased;
    struct id lease;
    int64_t lease_until_ns;
    int64_t slot_ns;
    bool asked; // to be retried by hand
};

struct model_ingestion {
    uint64_t touched; // in this transaction
    bool there;
    int64_t seq;
    struct id id;
    int64_t queue;
    char queue_name[QUEUE_NAME_SIZE];
    char owner[16]; // "": nobody
    enum priority priority;
    uint64_t first_id;
    uint32_t ids;
    uint32_t batch_size;
    uint32_t batches;
    char key[24];
    int64_t not_before_ms;
    int64_t deadline_ms;
    int64_t accepted_ns;
    int64_t finished_ns; // on the age clock
    bool scheduled;
    bool cancelled;
    bool expired; // its deadline came, or means nothing any more
    struct model_batch batch[MODEL_BATCHES];
};

struct model_queue {
    uint64_t touched; // as above
    bool there;
    int64_t id;
    char name[QUEUE_NAME_SIZE];
    char target[64];
    struct queue_settings settings;
    struct queue_figures saved; // the last
    struct queue_figures seen;  // what they should be, but for bucket and delivery_ns
    wide tat;                   // of the decided slots, in 1/count ns
    int64_t changed_ns;         // its rate; the bucket was empty then
    uint64_t epoch;             // of its rate
    uint64_t target_number;     // how many targets it has had
    int64_t lingers_ns;         // until
};

struct model {
    struct model_ingestion ingestions[MODEL_INGESTIONS];
    struct model_queue queues[MODEL_QUEUES];
    size_t used; // slots of ingestions beyond which there is none
    int64_t last_seq;
    bool retries;
};
extern struct model model;

// ---- transactions ----

void model_begin(void);
void model_commit(bool lazy); // lazy: the power may take it
void model_rollback(void);
bool model_in_transaction(void);
// Whether it happened is to be seen: keeps both.
void model_commit_maybe(void);
// After a restart: takes back what the store does not hold, and compares the rest. May be called when there
// is nothing to be taken back as well.
void model_settle(struct store *store);
struct model_ingestion *model_touch(struct model_ingestion *ingestion);
struct model_queue *model_touch_queue(struct model_queue *queue);
bool model_changed(void); // in this transaction: it is another one than before

// ---- looking ----

struct model_ingestion *model_by_seq(int64_t seq);
struct model_ingestion *model_by_id(const struct id *id);
struct model_ingestion *model_by_key(const char *key, const char *owner);
// Whether a request with this scope is about it.
bool model_in_scope(const struct scope *scope, const struct model_ingestion *ingestion);
struct model_queue *model_find_queue(int64_t id);
struct model_queue *model_queue_by_id(int64_t id); // fails when there is none
struct model_queue *model_queue_named(const char *name);
struct model_ingestion *model_free_slot(void);
struct model_queue *model_free_queue(void);

bool model_final(const struct model_batch *batch);
enum status model_outside(const struct model_ingestion *ingestion, const struct model_batch *batch);
void model_progress(const struct model_ingestion *ingestion, uint32_t progress[STATUSES]);
enum status model_status(const struct model_ingestion *ingestion);
bool model_finished(const struct model_ingestion *ingestion);
// It waits among the others, right now.
bool model_waits(const struct model_ingestion *ingestion, const struct model_batch *batch);
// What its priority counts as.
int model_counts_as(const struct model_queue *queue, const struct model_ingestion *ingestion, int64_t age_ns);
uint64_t model_count(int64_t queue, bool delayed, uint64_t waiting[PRIORITIES]);
size_t model_in_flight(int64_t queue);
// The IDs from..from+count of an ingestion as they are written.
size_t model_ids(const struct model_ingestion *ingestion, uint32_t from, uint32_t count, char *text,
                 size_t size);
struct id model_batch_id(const struct model_ingestion *ingestion, uint32_t index);

// ---- changing ----

// Moves a batch along an arrow that is allowed.
void model_move(struct model_ingestion *ingestion, uint32_t index, enum batch_state to);

// ---- comparing (compare.c) ----

// Everything. Says in `why` what is another.
bool model_equals(struct store *store, char *why, size_t size);

#endif
