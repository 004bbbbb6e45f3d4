// retain.c - finished ingestions are removed when they have been kept long enough.
//
// That is done in small steps, after a turn's replies have left and its deliveries have started, each in a
// transaction of its own: one that fails takes no request along, and since nobody was promised that they go,
// it needs no sync. The moments are those of the age clock: a wall clock that is set changes nothing.
#include "scheduler/turn.h"

#include "common/log.h"

// A step goes on until it took this long or removed so many rows. As measured, a row takes from 0.3 µs (one
// of many batches of an ingestion) to 12 µs (with an idempotency key, or a long error), and more where the
// disk is slow to read: so the clock is looked at after each piece.
#define STEP_NS (2 * NS_PER_MS) // a dispatch may be as late
#define STEP_ROWS 1024u
#define PIECE_ROWS 32u

// Where dispatches come less than this apart, only so much goes as their turns leave behind, and half as much
// again: then removal is faster than what finishes, however long this lasts. In numbers: to remove an
// ingestion of one batch takes 10 µs, where 25 µs were taken from its arrival to its end; at 200 dispatches a
// second a step is 33 rows, and 0.2 ms. Turns of very many dispatches, which have no slots to miss, need
// more time than others for their part.
#define NEAR_NS (20 * NS_PER_MS)
#define BUSY_STEP_NS (2 * STEP_NS)

#define BLOCKED_NS (500 * NS_PER_MS) // without room, until the next try

void retain_init(struct retention *r, int64_t keep_ns)
{
    *r = (struct retention){.keep_ns = keep_ns,
                            .due = MONO_NEVER,
                            .unknown = true,
                            .blocked_until = {INT64_MIN},
                            .busy_until = {INT64_MIN}};
}

void retain_committed(struct loop *loop, const struct turn *t)
{
    struct retention *r = &loop->retention;
    r->unknown = r->unknown || r->due.ns == MONO_NEVER.ns; // the first may have finished
    r->allowance += t->leaves + t->leaves / 2;
    if (t->dispatch_count > 0) {
        r->busy_until = mono_add(t->now, NEAR_NS);
    }
}

static bool is_off(const struct loop *loop)
{
    return loop->retention.keep_ns == RETAIN_FOREVER || loop->failing || loop->cut_off || loop->ending;
}

// When the ingestion that finished then has been kept long enough.
static struct mono due_at(const struct loop *loop, int64_t finished_ns)
{
    if (finished_ns == DUE_NEVER) {
        return MONO_NEVER;
    }
    if (finished_ns == INT64_MIN) { // it is being removed
        return (struct mono){INT64_MIN};
    }
    struct mono now = mono_now();
    int64_t ago_ns = mono_diff((struct mono){engine_age(loop->engine, now)}, (struct mono){finished_ns});
    return mono_add(mono_add(now, loop->retention.keep_ns), -ago_ns);
}

// Whether one will be at a moment, which is now or later.
static bool slot_is_near(const struct loop *loop, struct mono at)
{
    int64_t ahead_ms = (mono_diff(at, mono_now()) + NS_PER_MS - 1) / NS_PER_MS;
    return mono_before(engine_wake(loop->engine), mono_add(at, NEAR_NS)) ||
           engine_wake_wall_ms(loop->engine) < wall_now().ms + ahead_ms + NEAR_NS / NS_PER_MS;
}

static enum err look(struct loop *loop)
{
    struct retention *r = &loop->retention;
    int64_t finished_ns;
    enum err err = store_first_finished(loop->store, &finished_ns);
    if (err == ERR_OK) {
        r->unknown = false;
        r->due = due_at(loop, finished_ns);
    }
    return err;
}

static enum err remove_some(struct loop *loop, struct mono now, struct mono end, size_t most)
{
    struct retention *r = &loop->retention;
    int64_t finished_by = engine_age(loop->engine, now) - r->keep_ns;
    struct removed piece = {.next = INT64_MIN};
    size_t rows = 0;
    size_t ingestions = 0;
    enum err err = store_begin_lazy(loop->store);
    while (err == ERR_OK && rows < most && piece.next <= finished_by && mono_before(now, end)) {
        err = store_remove_old(loop->store, finished_by, PIECE_ROWS, &piece);
        rows += piece.rows;
        ingestions += piece.ingestions;
        now = mono_now();
        if (piece.rows == 0) { // a retry comes first
            r->blocked_until = mono_add(now, BLOCKED_NS);
            break;
        }
    }
    if (err == ERR_OK) {
        err = store_commit(loop->store);
    }
    if (err != ERR_OK) {
        store_rollback(loop->store);
        return err;
    }
    r->failing = false;
    r->removed += ingestions;
    r->allowance -= rows < r->allowance ? rows : r->allowance;
    r->due = due_at(loop, piece.next);
    return ERR_OK;
}

static enum err step(struct loop *loop)
{
    struct retention *r = &loop->retention;
    enum err err = r->unknown ? look(loop) : ERR_OK;
    struct mono now = mono_now();
    if (err != ERR_OK || mono_before(now, r->blocked_until)) {
        return err;
    }
    if (mono_before(now, r->due)) {
        r->allowance = 0; // so that there is no burst
        return ERR_OK;
    }
    bool busy = mono_before(now, r->busy_until) || slot_is_near(loop, now);
    size_t most = busy && r->allowance < STEP_ROWS ? r->allowance : STEP_ROWS;
    struct mono end = mono_add(now, busy ? BUSY_STEP_NS : STEP_NS);
    return most >= PIECE_ROWS ? remove_some(loop, now, end, most) : ERR_OK;
}

enum err retain_step(struct loop *loop)
{
    struct retention *r = &loop->retention;
    if (is_off(loop) || (r->due.ns == MONO_NEVER.ns && !r->unknown)) {
        return ERR_OK;
    }
    enum err err = step(loop);
    if (err == ERR_OK || err == ERR_STORAGE_IO || err == ERR_OUTCOME_UNKNOWN) {
        return err;
    }
    if (!r->failing) { // the next tries would say the same
        r->failing = true;
        log_line(LOG_LEVEL_ERROR, "retain", "removal_failed", "error=%s", err_name(err));
    }
    r->blocked_until = mono_add(mono_now(), BLOCKED_NS);
    return ERR_OK;
}

struct mono retain_wake(const struct loop *loop)
{
    const struct retention *r = &loop->retention;
    if (is_off(loop) || r->due.ns == MONO_NEVER.ns) {
        return MONO_NEVER;
    }
    // Near a slot the loop wakes for that.
    struct mono at = mono_max(r->due, mono_max(r->blocked_until, r->busy_until));
    return slot_is_near(loop, mono_max(at, mono_now())) ? MONO_NEVER : at;
}
