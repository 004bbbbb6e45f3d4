// outlook_scene.h - one queue at one moment, whose future can be played slot by slot, naively, to be compared
// with what the engine says of it.
#ifndef SLUICE_TESTS_SUPPORT_OUTLOOK_SCENE_H
#define SLUICE_TESTS_SUPPORT_OUTLOOK_SCENE_H

#include "scheduler/engine.h"
#include "tests/support/engine_check.h"

#define SCENE_QUEUE 1
#define SCENE_INGESTIONS 32
#define SCENE_BATCHES 640

enum scene_where { WAITS, DELAYED, FLIES, DONE };

struct scene_batch {
    struct place place;
    enum scene_where where;
    struct mono due;   // DELAYED
    struct mono start; // FLIES: when it did; later, when it was dispatched
};

struct scene_ingestion { // its seq is 1 + its index
    enum priority priority;
    int64_t accepted_ns;
    bool scheduled;
    struct wall not_before;
    size_t first; // of its batches
    uint32_t count;
};

struct scene {
    struct mono now;
    struct wall now_wall;
    struct queue_load load;
    struct scene_ingestion ingestions[SCENE_INGESTIONS];
    size_t ingestion_count;
    struct scene_batch batches[SCENE_BATCHES];
    size_t batch_count;
    struct mono ends[SCENE_BATCHES]; // of what was ever started, ascending
    size_t started;
    size_t order[SCENE_BATCHES]; // batches as they are dispatched from now on
    size_t dispatched;
};

// 1000 s after boot, everything is free and nothing waits. A breaker opens at 10 failures.
void scene_init(struct scene *scene, struct rate rate, uint32_t burst, uint32_t concurrency, int64_t took_ns);
// All of its batches wait. Returns its seq.
int64_t scene_ingest(struct scene *scene, enum priority priority, uint32_t batches, int64_t accepted_ns);
struct scene_batch *scene_batch_at(struct scene *scene, int64_t seq, uint32_t index);
// In backoff.
void scene_put_off(struct scene *scene, int64_t seq, uint32_t index, int64_t by_ns);
// All of it has a not_before.
void scene_schedule(struct scene *scene, int64_t seq, int64_t by_ms);
// It has been in flight for so long; those that began earlier come first.
void scene_fly(struct scene *scene, int64_t seq, uint32_t index, int64_t for_ns);

// Any one.
void scene_random(struct scene *scene, struct random *random);

// An engine as the scene is; and what it can be asked with, in the order of the rows.
struct engine *scene_engine(struct scene *scene);
size_t scene_delayed(const struct scene *scene, struct delayed_row rows[SCENE_BATCHES]);
struct standing scene_standing(const struct scene *scene, int64_t seq, const struct delayed_row *rows,
                               size_t count);

// Plays its future, and compares with what was said of every ingestion, in their order. `what` and the seed
// are printed when it is not the same.
void scene_compare(struct scene *scene, const struct outlook outlooks[SCENE_INGESTIONS], const char *what,
                   uint64_t seed);

#endif
