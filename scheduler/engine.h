// engine.h - what decides: accept, order, take the rate, dispatch, retry, finish.
//
// The engine is pure: time, randomness, requests and outcomes are handed in, decisions come out, and it knows
// no thread, socket, clock or store. The caller carries the decisions out in one transaction and, when that
// fails, throws the engine away and builds it anew from the store: so its memory is never ahead of the disk.
// One thread.
//
// Within a turn the caller goes: outcomes and requests, what is due (until engine_next_due has nothing, or
// enough was done), look-ahead, and then
//     for (;;) { look-ahead; if (!engine_next(...)) break; }
// where look-ahead is: while (engine_wants(...)) read the store and engine_give_runs(...); and it applies to
// the store what came out before it reads the store for a want. A queue with something overdue is not
// dispatched from until that has been taken up.
#ifndef SLUICE_SCHEDULER_ENGINE_H
#define SLUICE_SCHEDULER_ENGINE_H

#include "proto/request.h"
#include "scheduler/model.h"

struct engine;

// A delivery on its way; the engine's, valid from engine_next or engine_add_flight to engine_outcome.
struct flight;

// max_waiting: how many batches may wait (due or not), over all queues. age_offset_ns: what is added to the
// monotonic clock to have the age clock.
struct engine *engine_new(uint64_t max_waiting, int64_t age_offset_ns); // NULL without memory
void engine_free(struct engine *engine);                                // NULL is fine

// ---- queues ----

// What a queue's target means for the engine.
struct target_traits {
    bool pull;           // dispatches need a demand, see engine_demand
    int64_t expected_ns; // a first guess of a delivery's time for when none was measured
};

struct queue_load {
    int64_t id; // greater than that of every queue that is there
    const char *name;
    struct queue_settings settings;
    struct queue_figures figures;
    struct target_traits traits;
    uint64_t waiting[PRIORITIES];
    int64_t due[DUE_KINDS]; // the earliest moment of each time index, DUE_NEVER: empty
};
MUST_CHECK enum err engine_add_queue(struct engine *engine, const struct queue_load *load);
// New settings or a new target. After a change of rate or burst the bucket is empty.
void engine_change_queue(struct engine *engine, int64_t id, const struct queue_settings *settings,
                         const struct target_traits *traits, struct mono now);
// Its target is another one: holds and failures of the old one mean nothing.
void engine_new_target(struct engine *engine, int64_t id);
// ERR_QUEUE_NOT_EMPTY while anything of it waits, is not due or is in flight.
MUST_CHECK enum err engine_check_empty(const struct engine *engine, int64_t queue, struct fault *fault);
void engine_remove_queue(struct engine *engine, int64_t id); // it is empty
enum pause { PAUSE_OFF, PAUSE_ON };
void engine_pause(struct engine *engine, int64_t id, enum pause pause);
// How many batches workers wait for at this moment, on a queue whose target is pull.
void engine_demand(struct engine *engine, int64_t id, uint32_t batches);

// A delivery that is still running while the engine is built anew; `started`: when it was dispatched,
// `starting`: when it really started is not known, `cancelled`: its ingestion was.
MUST_CHECK enum err engine_add_flight(struct engine *engine, const struct batch_key *key, struct mono started,
                                      bool starting, bool cancelled, struct flight **flight);

// ---- look-ahead ----

// What it needs of the store before it can decide further: arguments of store_read_waiting.
struct want {
    int64_t queue;
    enum priority priority;
    int64_t after_seq;
    uint32_t after_index;
    size_t count; // at most WANT_MAX
};
#define WANT_MAX 512u
bool engine_wants(struct engine *engine, struct want *want);
// What the store had; fewer than want->count means that there is no more.
MUST_CHECK enum err engine_give_runs(struct engine *engine, const struct want *want, const struct run *runs,
                                     size_t count);

// ---- what becomes due ----

struct due {
    enum due_kind kind;
    int64_t queue;
};
// A time index in which something is due, the one that waits longest first; false when there is none.
bool engine_next_due(struct engine *engine, struct mono now, struct wall now_wall, struct due *due);
// Called after entries were taken out of that index (engine_returned or engine_removed for each): the
// earliest moment left in it. When that is due as well, other queues come first.
void engine_due_done(struct engine *engine, const struct due *due, int64_t next, struct mono now,
                     struct wall now_wall);
// Batches have come (back) to their places among the waiting. `from_delayed`: how many of them were not due
// before (all, or none after a retry by hand).
MUST_CHECK enum err engine_returned(struct engine *engine, int64_t queue, const struct returned_row *row,
                                    uint32_t from_delayed);
// An ingestion was cancelled, or expired. Its queue may be gone when nothing was left to remove.
void engine_removed(struct engine *engine, const struct removal *removal);

// ---- accepting ----

struct admission {
    int64_t queue;
    enum priority priority;
    uint32_t batch_size;
    uint32_t batches;
    int64_t accepted_ns;    // on the age clock
    struct wall not_before; // ms 0: it waits at once
    struct wall deadline;   // ms 0: none
    bool only_replay;       // there is no room for new work: ERR_OVERLOADED unless the store knows it already
};
// Checks a request against its queue's settings and keeps room for it. ERR_UNKNOWN_QUEUE,
// ERR_ID_OUT_OF_RANGE, ERR_INVALID_FIELD (the kind of ids).
MUST_CHECK enum err engine_admit(struct engine *engine, const struct ingest_request *request, struct mono now,
                                 struct wall now_wall, struct admission *admission, struct fault *fault);
// For each admission one of the two: the store took it as new, or there was nothing to add.
MUST_CHECK enum err engine_accepted(struct engine *engine, const struct admission *admission, int64_t seq,
                                    struct mono now);
void engine_declined(struct engine *engine, const struct admission *admission);

// ---- dispatching ----

// The batch to dispatch at `now`, if any slot is open: the first in the published order of its queue (with
// aging, as it stands at this moment). Spends the rate, and a demand. Queues take turns: one without a limit
// does not keep others waiting. ERR_NOT_FOUND when there is nothing to do (or it wants look-ahead first).
MUST_CHECK enum err engine_next(struct engine *engine, struct mono now, struct wall now_wall,
                                struct batch_key *key, struct flight **flight);

// The delivery has not started before `now`. (engine_next sees to it by itself where one is behind its slot
// by more than TARGET_LATE_NS.) When that is later than its slot, what is to come moves by as much; a later
// report of the same start adds the difference.
void engine_delayed(struct engine *engine, struct flight *flight, struct mono now);
// The delivery really started at `started`: the same, and the last that is said of it. Until it is said of
// all that was dispatched on a queue with a rate, and saved, the store has the queue as `starting`: should
// the process die, the bucket there does not hold what is to be known of the starts.
void engine_started(struct engine *engine, struct flight *flight, struct mono started);
// Whether the store has such a queue. Its figures are to be saved again before long: engine_take_changed has
// them when there is news.
bool engine_unconfirmed(const struct engine *engine);

// The attempt ended; ends the flight and says what becomes of the batch (row->error borrows from the
// outcome). `attempt` and `excused` as store_dispatch gave them, random: 64 even bits.
MUST_CHECK enum err engine_outcome(struct engine *engine, struct flight *flight,
                                   const struct outcome *outcome, uint32_t attempt, uint32_t excused,
                                   struct mono now, struct wall now_wall, uint64_t random,
                                   struct finish_row *row);

// The queues whose figures changed since the last call, one at a time.
bool engine_take_changed(struct engine *engine, int64_t *queue, struct queue_figures *figures);

// When the engine next has something to do if nothing reaches it, by either clock; MONO_NEVER and DUE_NEVER
// when idle, INT64_MIN: at once.
struct mono engine_wake(const struct engine *engine);
int64_t engine_wake_wall_ms(const struct engine *engine);

// ---- what can be asked ----

// Where an ingestion stands, as the store counts it (standing.h), by the order as it stands at this moment.
#define STANDING_DELAYED_MAX 512u // of each kind
struct standing {
    int64_t queue;
    int64_t seq;
    int64_t bounds[PRIORITIES]; // of each priority, what has a lower seq goes before it
    uint64_t ahead;             // waiting batches of others that go before it
    uint64_t waiting;           // its own
    bool scheduled;             // all its batches wait for `not_before`
    struct wall not_before;     // scheduled
    uint32_t batches;           // scheduled: how many
    bool underway;              // some batch is in flight or in backoff
    const struct delayed_row
        *delayed; // the queue's that are due next, DUE_RETRY and then DUE_START, each by due
    size_t delayed_count;
};
struct outlook {
    bool has_position;
    uint64_t position;
    bool has_eta;
    struct mono eta;
};
// `position` is exact as long as what becomes due before is listed; paused, it is as if the queue were not,
// and there is no eta. While a breaker is open, its next probe is taken to succeed.
struct outlook engine_outlook(const struct engine *engine, const struct standing *standing, struct mono now,
                              struct wall now_wall);

struct queue_view {
    int64_t id;
    const char *name; // the engine's, valid until the next call that changes it
    const struct queue_settings *settings;
    const struct queue_figures *figures;
    uint64_t waiting[PRIORITIES];
    size_t in_flight;
    int64_t
        oldest_ns; // when the oldest of what waits was accepted, on the age clock; INT64_MAX: nothing does
    double rate;   // effective, over the last minute
    struct mono paused_until;  // MONO_NEVER: by an operator; in the past or 0: not
    const char *paused_reason; // "paused", "retry_after", "rate_limit", "breaker", or NULL: not paused
};
size_t engine_queues(const struct engine *engine);
// By name, `at` from 0.
struct queue_view engine_view(const struct engine *engine, size_t at, struct mono now);
// The index in that order of the first name after this one.
size_t engine_after_name(const struct engine *engine, const char *name);
// ERR_UNKNOWN_QUEUE.
MUST_CHECK enum err engine_find_queue(const struct engine *engine, const char *name, int64_t *queue);
MUST_CHECK enum err engine_view_by_id(const struct engine *engine, int64_t queue, struct mono now,
                                      struct queue_view *view);
// The age clock's moment.
int64_t engine_age(const struct engine *engine, struct mono now);

#endif
