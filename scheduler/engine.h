// engine.h - what decides: accept, order, take the rate, dispatch, retry, finish.
//
// The engine is pure: time, randomness, requests and outcomes are handed in, decisions come out, and it knows
// no thread, socket, clock or store. The caller carries the decisions out in one transaction and, when that
// fails, throws the engine away and builds it anew from the store: so its memory is never ahead of the disk.
// One thread.
//
// Within a turn the caller goes: outcomes, admissions, look-ahead, engine_next_due until none, then
//     for (;;) { look-ahead; if (!engine_next(...)) break; }
// where look-ahead is: while (engine_wants(...)) read the store and engine_give_...; and it applies to the
// store what came out before it reads the store for a want.
#ifndef SLUICE_SCHEDULER_ENGINE_H
#define SLUICE_SCHEDULER_ENGINE_H

#include "proto/request.h"
#include "scheduler/model.h"

struct engine;

// A delivery on its way; the engine's, valid from engine_next or engine_add_flight to engine_outcome.
struct flight;

// max_waiting: how many batches may wait, over all queues.
struct engine *engine_new(uint64_t max_waiting); // NULL without memory
void engine_free(struct engine *engine);         // NULL is fine

// ---- building it from the store ----

// expected_ns: a first guess of a delivery's time for when none was measured.
MUST_CHECK enum err engine_add_queue(struct engine *engine, const struct queue_row *row,
                                     const uint64_t waiting[PRIORITIES], int64_t expected_ns);
// A delivery that is still running while the engine is built anew.
MUST_CHECK enum err engine_add_flight(struct engine *engine, const struct batch_key *key, struct mono started,
                                      struct flight **flight);

// ---- look-ahead ----

enum want_kind { WANT_RUNS, WANT_BACKOFF };
// What it needs of the store before it can decide further; arguments of store_read_waiting or
// store_read_backoff.
struct want {
    enum want_kind kind;
    int64_t queue;
    enum priority priority;
    struct mono after_due;
    int64_t after_seq;
    uint32_t after_index;
    size_t count; // at most WANT_MAX
};
#define WANT_MAX 512u
bool engine_wants(struct engine *engine, struct want *want);
// What the store had; fewer than want->count means that there is no more.
MUST_CHECK enum err engine_give_runs(struct engine *engine, const struct want *want, const struct run *runs,
                                     size_t count);
MUST_CHECK enum err engine_give_backoff(struct engine *engine, const struct want *want,
                                        const struct backoff_row *rows, size_t count);

// ---- accepting ----

struct admission {
    int64_t queue;
    enum priority priority;
    uint32_t batch_size;
    uint32_t batches;
    bool only_replay; // there is no room for new work: ERR_OVERLOADED unless the store knows it already
};
// Checks a request against its queue's settings and keeps room for it. ERR_UNKNOWN_QUEUE,
// ERR_ID_OUT_OF_RANGE.
MUST_CHECK enum err engine_admit(struct engine *engine, const struct ingest_request *request,
                                 struct admission *admission, struct fault *fault);
// For each admission one of the two: the store took it as new, or there was nothing to add.
MUST_CHECK enum err engine_accepted(struct engine *engine, const struct admission *admission, int64_t seq,
                                    struct mono now);
void engine_declined(struct engine *engine, const struct admission *admission);

// ---- dispatching ----

// A batch whose backoff is over at `now`: it waits at its old place again (store_promote). ERR_NOT_FOUND when
// there is none.
MUST_CHECK enum err engine_next_due(struct engine *engine, struct mono now, struct batch_key *key);

// The batch to dispatch at `now`, if any slot is open: the first in the published order of its queue. Spends
// the rate. ERR_NOT_FOUND when there is nothing to do (or it wants look-ahead first).
MUST_CHECK enum err engine_next(struct engine *engine, struct mono now, struct batch_key *key,
                                struct flight **flight);

// The delivery really started at `started`. When that is later than its slot, what is to come moves by as
// much; a later and better report of the same start adds the difference.
void engine_started(struct engine *engine, struct flight *flight, struct mono started);

// The attempt ended; ends the flight and says what becomes of the batch (row->error borrows from the
// outcome). `attempt` and `excused` as store_dispatch gave them, random: 64 even bits.
MUST_CHECK enum err engine_outcome(struct engine *engine, struct flight *flight,
                                   const struct outcome *outcome, uint32_t attempt, uint32_t excused,
                                   struct mono now, struct wall now_wall, uint64_t random,
                                   struct finish_row *row);

// The queues whose figures changed since the last call, one at a time.
bool engine_take_changed(struct engine *engine, int64_t *queue, struct queue_figures *figures);

// When the engine next has something to do if nothing reaches it; MONO_NEVER when idle. In the past while it
// wants look-ahead on the retries, as after it was built.
struct mono engine_wake(const struct engine *engine);

// ---- what can be asked ----

// Where an ingestion stands among the waiting, as the store counts it.
struct standing {
    int64_t queue;
    int64_t seq;
    bool waiting; // some batch of it is; first and last are meaningful
    struct place first;
    uint64_t
        before_first; // waiting batches of its priority before its first waiting one, or before it if none
    struct place last;
    uint64_t before_last;
    bool underway; // some batch is in flight or in backoff
};
struct outlook {
    bool has_position;
    uint64_t position;
    bool has_eta;
    struct mono eta;
};
struct outlook engine_outlook(struct engine *engine, const struct standing *standing, struct mono now);

struct queue_view {
    const char *name; // the engine's, valid until the next call that changes it
    const struct queue_settings *settings;
    const struct queue_figures *figures;
    uint64_t waiting[PRIORITIES];
    size_t in_flight;
};
size_t engine_queues(const struct engine *engine);
struct queue_view engine_view(const struct engine *engine, size_t at);
// ERR_UNKNOWN_QUEUE.
MUST_CHECK enum err engine_find_queue(const struct engine *engine, const char *name, int64_t *queue);
MUST_CHECK enum err engine_view_by_id(const struct engine *engine, int64_t queue, struct queue_view *view);

#endif
