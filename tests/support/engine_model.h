// engine_model.h - what store.h promises the engine, as a plain table in memory: slow and simple.
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_MODEL_H
#define SLUICE_TESTS_SUPPORT_ENGINE_MODEL_H

#include "scheduler/engine.h"

#define WORLD_QUEUES 64
#define WORLD_INGESTIONS 16384
#define WORLD_BATCHES 65536

struct world_batch {
    enum batch_state state;
    bool taken;      // dispatched in this turn, which is not yet in the store
    struct mono due; // BATCH_BACKOFF
    uint32_t attempts;
    uint32_t excused;
};
struct world_ingestion { // its seq is 1 + its index
    int64_t queue;
    enum priority priority;
    size_t first; // of its batches, in `batches`
    uint32_t count;
    uint32_t ready;   // waiting, due and not taken
    uint32_t backoff; // in backoff
    int64_t accepted_ns;
    bool scheduled; // all wait for not_before
    struct wall not_before;
    struct wall deadline; // ms 0: none, or it is over
    bool cancelled;
};
struct world_queue { // its id is 1 + its index
    bool there;
    char name[QUEUE_NAME_SIZE];
    struct queue_settings settings;
    struct queue_figures figures;
    struct target_traits traits;
};
struct world_store {
    struct world_queue queues[WORLD_QUEUES];
    size_t queue_count; // that were made
    struct world_ingestion ingestions[WORLD_INGESTIONS];
    size_t ingestion_count;
    struct world_batch batches[WORLD_BATCHES];
    size_t batch_count;
};

struct world_ingestion *model_ingestion(struct world_store *store, int64_t seq);
struct world_batch *model_batch(struct world_store *store, int64_t seq, uint32_t index);
// Among the waiting: what a dispatch may take.
bool model_waits(const struct world_store *store, int64_t seq, uint32_t index);
// A step of a batch, which is a legal one.
void model_change(struct world_store *store, const struct batch_key *key, enum batch_state from,
                  enum batch_state to);

// A new ingestion; its seq.
int64_t model_insert(struct world_store *store, const struct admission *admission);
size_t model_read_waiting(const struct world_store *store, const struct want *want, struct run *runs);
void model_count_waiting(const struct world_store *store, int64_t queue, uint64_t waiting[PRIORITIES]);
uint64_t model_count_delayed(const struct world_store *store, int64_t queue);
int64_t model_next_due(const struct world_store *store, int64_t queue, enum due_kind kind);
// The earliest that are due, at most `count` of them.
size_t model_take_due(struct world_store *store, const struct due *due, struct mono now, struct wall now_wall,
                      struct returned_row *rows, size_t count);
size_t model_expire(struct world_store *store, int64_t queue, struct wall now_wall, struct removal *removals,
                    size_t count);
// As store_read_delayed.
size_t model_read_delayed(const struct world_store *store, int64_t queue, enum due_kind kind,
                          struct delayed_row *rows, size_t count);
struct removal model_cancel(struct world_store *store, int64_t seq);
// The first run of failed batches goes back among the waiting; false when none failed.
bool model_retry(struct world_store *store, int64_t seq, struct returned_row *row);

#endif
