// engine_world.h - an engine with all that surrounds it, in memory and in virtual time: a store that keeps to
// store.h, a target that follows a script, and the turn of the loop. It checks on its own what must always
// hold: that every step of a batch is a legal one, that each dispatch is the first in the published order
// among those ready, that no more are in flight than may be, and that the engine never wants to be woken for
// nothing.
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_WORLD_H
#define SLUICE_TESTS_SUPPORT_ENGINE_WORLD_H

#include "scheduler/engine.h"
#include "tests/support/engine_check.h"

#define WORLD_QUEUES 4
#define WORLD_INGESTIONS 16384
#define WORLD_BATCHES 65536
#define WORLD_RUNNING 64
#define WORLD_LOG 131072

struct world_batch {
    enum batch_state state;
    bool taken; // dispatched in this turn, which is not yet in the store
    struct mono due;
    uint32_t attempts;
    uint32_t excused;
};
struct world_ingestion { // its seq is 1 + its index
    int64_t queue;
    enum priority priority;
    size_t first; // of its batches, in `batches`
    uint32_t count;
    uint32_t ready; // waiting and not taken
};
struct world_store {
    struct queue_row queues[WORLD_QUEUES]; // the id is 1 + the index
    size_t queue_count;
    struct world_ingestion ingestions[WORLD_INGESTIONS];
    size_t ingestion_count;
    struct world_batch batches[WORLD_BATCHES];
    size_t batch_count;
};

// A delivery under way.
struct world_running {
    struct flight *flight;
    struct batch_key key;
    uint32_t attempt;
    uint32_t excused;
    struct mono slot;
    struct mono started;
    // The script's to change.
    int64_t late_ns; // the start, after its slot
    int64_t took_ns; // the delivery's own time; the world's delivery_ns unless changed
    enum outcome_class class;
    int64_t hold_ns;
};

// A delivery that started.
struct world_start {
    struct batch_key key;
    uint32_t attempt;
    struct mono at;
};

struct world {
    struct engine *engine;
    uint64_t max_waiting;
    struct world_store store;
    struct mono now;
    int64_t delivery_ns;
    void (*script)(struct world *world, struct world_running *running); // NULL: all complete
    struct random random;
    struct world_running running[WORLD_RUNNING];
    size_t running_count;
    struct world_start log[WORLD_LOG];
    size_t log_count;
    size_t done_in_turn; // outcomes, retries taken up and dispatches of the last turn
};

struct queue_settings world_settings(uint64_t count, int64_t per_ns, uint32_t burst, uint32_t concurrency);

struct world *world_new(uint64_t max_waiting);
// With one queue, "default", and built.
struct world *world_of(struct queue_settings settings, int64_t delivery_ns);
void world_free(struct world *world);
// Before world_build. Returns its id.
int64_t world_add_queue(struct world *world, const char *name, const struct queue_settings *settings);
// Builds the engine from the store, anew if there is one; deliveries under way are taken over.
void world_build(struct world *world);
// All deliveries are cut off, and the engine is built anew.
void world_crash(struct world *world);

// An ingestion of as many batches. Returns its seq; 0 when there was no room.
int64_t world_ingest(struct world *world, int64_t queue, enum priority priority, uint32_t batches);
void world_turn(struct world *world);
// A turn whose commit fails.
void world_failing_turn(struct world *world);
// When the next turn is due: the engine's wake, or the end of a delivery.
struct mono world_next(const struct world *world);
// Turns, each when it is due and no other, up to and including this moment.
void world_run_until(struct world *world, int64_t ns);

const struct world_batch *world_batch(const struct world *world, int64_t seq, uint32_t index);
// What store_read_span and store_count_before would say.
struct standing world_standing(const struct world *world, int64_t seq);

#endif
