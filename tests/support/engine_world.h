// engine_world.h - an engine with all that surrounds it, in memory and in virtual time: a store
// (engine_model.h), targets that follow a script, and the turn of the loop. It checks on its own what must
// always hold: that every step of a batch is a legal one, that each dispatch is the first in the published
// order and one that may be made (engine_oracle.h), and that the engine never wants to be woken for nothing.
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_WORLD_H
#define SLUICE_TESTS_SUPPORT_ENGINE_WORLD_H

#include "scheduler/engine.h"
#include "tests/support/engine_check.h"
#include "tests/support/engine_model.h"

#define WORLD_RUNNING 256
#define WORLD_LOG 131072
#define WORLD_CHANGES 1024

// A delivery under way.
struct world_running {
    struct flight *flight;
    struct batch_key key;
    uint32_t attempt;
    uint32_t excused;
    struct mono slot;
    struct mono started;
    // The script's to change.
    int64_t late_ns;        // the start, after its slot
    int64_t took_ns;        // the delivery's own time; the world's delivery_ns unless changed
    struct outcome outcome; // completed unless changed
};

// A delivery that started.
struct world_start {
    struct batch_key key;
    uint32_t attempt;
    struct mono at;
};

// From when on a queue has had this rate.
struct world_change {
    int64_t queue;
    struct mono at;
    size_t log_count; // what started before
    struct rate rate;
    uint32_t burst;
};

struct world {
    struct engine *engine;
    uint64_t max_waiting;
    int64_t age_offset_ns;
    struct world_store store;
    struct mono now;
    int64_t wall_offset_ms; // of the wall clock to the other
    int64_t delivery_ns;
    void (*script)(struct world *world, struct world_running *running); // NULL: all complete
    size_t due_limit;                                                   // entries taken up in a turn; 0: all
    bool due_left;                                                      // the limit was reached
    struct random random;
    uint32_t demand[WORLD_QUEUES]; // of pull targets
    struct mono held[WORLD_QUEUES];
    struct world_running running[WORLD_RUNNING];
    size_t running_count;
    struct world_start log[WORLD_LOG];
    size_t log_count;
    struct world_change changes[WORLD_CHANGES];
    size_t change_count;
    size_t done_in_turn; // outcomes, due work and dispatches of the last turn
    struct delayed_row delayed[2 * STANDING_DELAYED_MAX]; // of the last standing
};

struct queue_settings world_settings(uint64_t count, int64_t per_ns, uint32_t burst, uint32_t concurrency);

struct world *world_new(uint64_t max_waiting);
// With one queue, "default", and built.
struct world *world_of(struct queue_settings settings, int64_t delivery_ns);
void world_free(struct world *world);
// Builds the engine from the store, anew if there is one; deliveries under way are taken over.
void world_build(struct world *world);
// All deliveries are cut off, and the engine is built anew.
void world_crash(struct world *world);

struct wall world_wall(const struct world *world);
struct world_queue *world_queue(struct world *world, int64_t queue);

// Queues. They are added to the engine as well if there is one.
int64_t world_add_queue(struct world *world, const char *name, const struct queue_settings *settings);
void world_change_queue(struct world *world, int64_t queue, const struct queue_settings *settings);
void world_set_pull(struct world *world, int64_t queue, bool pull);
// False when it is not empty.
bool world_remove_queue(struct world *world, int64_t queue);
void world_pause(struct world *world, int64_t queue, enum pause pause);
void world_demand(struct world *world, int64_t queue, uint32_t batches);

// An ingestion of as many batches. Returns its seq; 0 when there was no room.
int64_t world_ingest(struct world *world, int64_t queue, enum priority priority, uint32_t batches);
// The same with moments of the wall clock, 0 for none.
int64_t world_ingest_timed(struct world *world, int64_t queue, enum priority priority, uint32_t batches,
                           int64_t not_before_ms, int64_t deadline_ms);
void world_cancel(struct world *world, int64_t seq);
// By hand, what failed.
void world_retry(struct world *world, int64_t seq);

void world_turn(struct world *world);
// A turn whose commit fails.
void world_failing_turn(struct world *world);
// When the next turn is due: the engine's wake, or the end of a delivery.
struct mono world_next(const struct world *world);
// Turns, each when it is due and no other, up to and including this moment.
void world_run_until(struct world *world, int64_t ns);

const struct world_batch *world_batch(const struct world *world, int64_t seq, uint32_t index);
// Where an ingestion stands, as the store would say it. Its `delayed` is the world's, until the next call.
struct standing world_standing(struct world *world, int64_t seq);

#endif
