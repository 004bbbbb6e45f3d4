// One turn of the loop: settle what ended, do what was asked, take up what is due, dispatch what may go; one
// commit; then the deliveries start and the replies leave. If anything fails before the commit is through,
// nothing of the turn has happened: the engine is built anew from the store, and the deliveries that ended
// are settled in a later turn.
#include "scheduler/turn.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_REQUESTS 8192u // a turn takes no further message beyond it
#define TURN_DUE 1024u      // entries of time indexes taken up in a turn
#define DUE_AT_ONCE 128u    // of one queue, before it is another's turn
#define TURN_RETRIES 512u   // failed batches put back in a turn
#define BLOCKED_NS (500 * NS_PER_MS)
#define CONFIRM_NS (20 * NS_PER_MS) // for starts to get to the disk

struct id batch_id(const struct id *ingestion, uint32_t index)
{
    char name[16];
    int len = snprintf(name, sizeof name, "%u", index);
    return id_v5(ingestion, name, (size_t)len);
}

uint64_t next_random(struct loop *loop)
{
    // splitmix64 (S. Vigna, 2015)
    uint64_t z = loop->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void live_add(struct loop *loop, struct delivery *delivery)
{
    delivery->live_prev = NULL;
    delivery->live_next = loop->live;
    if (loop->live != NULL) {
        loop->live->live_prev = delivery;
    }
    loop->live = delivery;
    loop->live_count++;
}

void live_remove(struct loop *loop, struct delivery *delivery)
{
    *(delivery->live_prev != NULL ? &delivery->live_prev->live_next : &loop->live) = delivery->live_next;
    if (delivery->live_next != NULL) {
        delivery->live_next->live_prev = delivery->live_prev;
    }
    loop->live_count--;
}

void update_demand(const struct loop *loop, int64_t queue)
{
    if (loop->engine != NULL &&
        routes_find(&loop->routes, queue) != NULL) { // it may have been deleted meanwhile
        engine_demand(loop->engine, queue, leases_demand(loop->leases, queue));
    }
}

// ---- requests ----

// Takes messages up to the turn's limit, at least one, off the loop's list.
static void take_messages(struct loop *loop, struct turn *t)
{
    struct inbox_item **end = &loop->messages;
    while (*end != NULL && t->requests < TURN_REQUESTS) {
        t->requests += message_of(*end)->count;
        end = &(*end)->next;
    }
    t->messages = end == &loop->messages ? NULL : loop->messages;
    loop->messages = *end;
    *end = NULL;
    if (loop->messages == NULL) {
        loop->messages_end = &loop->messages;
    }
    loop->requests += t->requests;
}

static enum err apply(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    if (r->fault.err != ERR_OK || !op_writes(r->request.op)) {
        return ERR_OK;
    }
    t->changes++;
    if (r->request.op == OP_INGEST) {
        return accept_ingest(loop, t, r);
    }
    enum err err = accept_flush(loop, t);
    return err == ERR_OK ? operate(loop, t, r) : err;
}

// What was asked, in the order it came.
static enum err apply_all(struct loop *loop, struct turn *t)
{
    enum err err = ERR_OK;
    for (struct inbox_item *item = t->messages; item != NULL; item = item->next) {
        for (size_t i = 0; i < message_of(item)->count && err == ERR_OK; i++) {
            err = apply(loop, t, &message_of(item)->requests[i]);
        }
    }
    return err == ERR_OK ? accept_flush(loop, t) : err;
}

// ---- what is due ----

static enum err take_due(struct loop *loop, const struct turn *t, const struct due *due, size_t *count)
{
    struct returned_row rows[DUE_AT_ONCE];
    int64_t next;
    enum err err = store_take_due(loop->store, due->queue, due->kind, t->now, t->wall, rows, count, &next);
    for (size_t i = 0; i < *count && err == ERR_OK; i++) {
        err = engine_returned(loop->engine, due->queue, &rows[i], rows[i].run.end - rows[i].run.first);
    }
    if (err == ERR_OK) {
        engine_due_done(loop->engine, due, next, t->now, t->wall);
    }
    return err;
}

static enum err expire(struct loop *loop, const struct turn *t, const struct due *due, size_t *count)
{
    struct removal removals[DUE_AT_ONCE];
    int64_t next;
    enum err err = store_expire(loop->store, due->queue, t->wall, engine_age(loop->engine, t->now), removals,
                                count, &next);
    for (size_t i = 0; i < *count && err == ERR_OK; i++) {
        engine_removed(loop->engine, &removals[i]);
    }
    if (err == ERR_OK) {
        engine_due_done(loop->engine, due, next, t->now, t->wall);
    }
    return err;
}

static enum err take_up_due(struct loop *loop, struct turn *t)
{
    struct due due;
    enum err err = ERR_OK;
    for (size_t taken = 0; taken < TURN_DUE && err == ERR_OK;) {
        if (!engine_next_due(loop->engine, t->now, t->wall, &due)) {
            break;
        }
        size_t count = DUE_AT_ONCE;
        err = due.kind == DUE_DEADLINE ? expire(loop, t, &due, &count) : take_due(loop, t, &due, &count);
        t->changes += count;
        taken += count + 1; // an entry that was cancelled meanwhile is looked for, too
    }
    return err;
}

static enum err run_retries(struct loop *loop, struct turn *t)
{
    struct retried_row rows[TURN_RETRIES];
    size_t count = TURN_RETRIES;
    enum err err = ERR_OK;
    if (!loop->retries) {
        return ERR_OK;
    }
    err = store_run_retries(loop->store, rows, &count, &loop->retries);
    t->changes += count;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = engine_returned(loop->engine, rows[i].queue, &rows[i].row, 0);
    }
    return err;
}

// ---- dispatching ----

static enum err look_ahead(struct loop *loop)
{
    struct want want;
    enum err err = ERR_OK;
    while (err == ERR_OK && engine_wants(loop->engine, &want)) {
        struct run runs[WANT_MAX];
        size_t count = want.count;
        err = store_read_waiting(loop->store, want.queue, want.priority, want.after_seq, want.after_index,
                                 runs, &count);
        if (err == ERR_OK) {
            err = engine_give_runs(loop->engine, &want, runs, count);
        }
    }
    return err;
}

static struct delivery *make_delivery(struct loop *loop, const struct turn *t, const struct batch_key *key,
                                      struct flight *flight)
{
    struct queue_view queue;
    struct target *target = routes_find(&loop->routes, key->queue);
    struct delivery *d = NULL;
    if (target != NULL && engine_view_by_id(loop->engine, key->queue, t->now, &queue) == ERR_OK) {
        d = delivery_new(target);
    }
    if (d == NULL) {
        return NULL;
    }
    d->flight = flight;
    d->queue = key->queue;
    (void)snprintf(d->queue_name, sizeof d->queue_name, "%s", queue.name);
    d->place = key->place;
    d->timeout_ns = queue.settings->timeout_ns;
    d->slot = t->now;
    d->started = t->now;
    d->paced = queue.settings->rate.count > 0;
    if (target_is_pull(target) && leases_grant(loop->leases, d, t->now, queue.settings->lease_ns) != ERR_OK) {
        delivery_free(d);
        d = NULL;
    }
    return d;
}

static enum err store_dispatched(struct loop *loop, struct turn *t)
{
    struct dispatch_row rows[TURN_DISPATCHES];
    for (size_t i = 0; i < t->dispatch_count; i++) {
        const struct delivery *d = t->dispatched[i];
        rows[i] = (struct dispatch_row){.key = {d->queue, d->place},
                                        .now = t->wall,
                                        .at = t->now,
                                        .leased = target_is_pull(d->target),
                                        .lease = d->lease,
                                        .lease_until = {d->due.key}};
    }
    enum err err = store_dispatch(loop->store, rows, t->dispatch_count);
    for (size_t i = 0; i < t->dispatch_count; i++) {
        struct delivery *d = t->dispatched[i];
        d->ids = rows[i].ids; // NULL where it was not reached; freed with the delivery
        d->attempt = rows[i].attempt;
        d->excused = rows[i].excused;
        d->ingestion = rows[i].ingestion;
        d->trace = rows[i].trace;
        d->batch = batch_id(&rows[i].ingestion, d->place.index);
        t->leaves += 2; // its ingestion may have no other batch
        t->leaves += d->ids != NULL ? LEFT_BY_IDS(strlen(d->ids)) : 0;
    }
    return err;
}

static enum err dispatch(struct loop *loop, struct turn *t)
{
    enum err err = look_ahead(loop);
    while (err == ERR_OK && t->dispatch_count < TURN_DISPATCHES && !loop->ending) {
        struct batch_key key;
        struct flight *flight;
        err = engine_next(loop->engine, t->now, t->wall, &key, &flight);
        if (err != ERR_OK) {
            break;
        }
        struct delivery *d = make_delivery(loop, t, &key, flight);
        if (d == NULL) {
            return ERR_NO_MEMORY;
        }
        t->dispatched[t->dispatch_count++] = d;
        err = look_ahead(loop);
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    return t->dispatch_count > 0 ? store_dispatched(loop, t) : ERR_OK;
}

static enum err save_figures(struct loop *loop)
{
    int64_t queue;
    struct queue_figures figures;
    enum err err = ERR_OK;
    while (err == ERR_OK && engine_take_changed(loop->engine, &queue, &figures)) {
        err = store_save_figures(loop->store, &queue, &figures, 1);
    }
    return err;
}

// ---- the transaction ----

static enum err transact(struct loop *loop, struct turn *t)
{
    enum err err = store_confirm(loop->store);
    if (err == ERR_OK) {
        err = store_begin(loop->store);
    }
    if (err == ERR_OK) {
        apply_starts(loop);
        err = settle(loop, t);
    }
    if (err == ERR_OK) {
        err = apply_all(loop, t);
    }
    if (err == ERR_OK) {
        err = run_retries(loop, t);
    }
    if (err == ERR_OK) {
        err = take_up_due(loop, t);
    }
    if (err == ERR_OK) {
        err = dispatch(loop, t);
    }
    if (err == ERR_OK) {
        err = save_figures(loop);
    }
    if (err == ERR_OK) {
        const struct mono begun = mono_now();
        err = store_commit(loop->store);
        t->commit_ns = mono_diff(mono_now(), begun);
    }
    return err;
}

// Nothing of the turn has happened. ERR_OK when the loop can go on.
static enum err undo(struct loop *loop, struct turn *t, enum err why)
{
    struct fault fault;
    if (!loop->failing) { // the next tries, twice a second, would say the same
        loop->failing = true;
        log_line(LOG_LEVEL_ERROR, "turn", "commit_failed", "error=%s requests=%zu", err_name(why),
                 t->requests);
    }
    store_rollback(loop->store);
    leases_undo(loop->leases);
    for (size_t i = 0; i < t->dispatch_count; i++) {
        delivery_free(t->dispatched[i]);
    }
    t->dispatch_count = 0;
    t->settled = NULL;
    t->acked = NULL;
    loop->blocked_until = mono_add(t->now, BLOCKED_NS);
    if (why == ERR_STORAGE_IO || why == ERR_OUTCOME_UNKNOWN) {
        return why;
    }
    enum err err = recover(loop, &fault);
    return err == ERR_STORAGE_FULL ? ERR_OK : err;
}

// Their connections end with the process: those who asked ask the next one, and hear what has become of it.
static void leave_unanswered(struct loop *loop, struct turn *t)
{
    struct inbox_item **end = &t->messages;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    if (t->messages == NULL) {
        return;
    }
    *end = loop->messages;
    loop->messages_end = loop->messages == NULL ? end : loop->messages_end;
    loop->messages = t->messages;
    t->messages = NULL;
}

// Its worker is answered now. That it starts late is not on disk yet.
static void start_lease(struct loop *loop, struct delivery *d, struct mono now)
{
    bool late = delivery_is_late(d, now);
    loop->leased_count++;
    d->begun = true;
    d->started = late ? now : d->started;
    engine_started(loop->engine, d->flight, d->started);
    if (late) {
        d->start.next = NULL;
        *loop->starts_end = &d->start;
        loop->starts_end = &d->start.next;
    }
}

static void start_deliveries(struct loop *loop, struct turn *t)
{
    for (size_t i = 0; i < t->dispatch_count; i++) {
        struct delivery *d = t->dispatched[i];
        struct mono now = mono_now();
        live_add(loop, d);
        if (target_is_pull(d->target)) {
            start_lease(loop, d, now);
            continue;
        }
        // After a slow commit it starts late for certain. The target's own report may come after the next
        // slot's time, so what is known is applied now; the report then adds only what is missing.
        if (delivery_is_late(d, now)) {
            engine_delayed(loop->engine, d->flight, now);
        }
        target_start(d);
    }
}

// Mostly another turn has done it by then.
static void plan_confirmation(struct loop *loop, struct mono now)
{
    if (!engine_unconfirmed(loop->engine)) {
        loop->confirm_at = MONO_NEVER;
    } else if (loop->confirm_at.ns == MONO_NEVER.ns || !mono_before(now, loop->confirm_at)) {
        loop->confirm_at = mono_add(now, CONFIRM_NS);
    }
}

static void turn_fini(struct turn *t)
{
    free(t->inserts);
    free(t->admissions);
    free(t->etas);
}

enum err turn(struct loop *loop, struct mono now)
{
    struct turn t = {.now = now, .wall = wall_now()};
    loop_take(loop);
    take_messages(loop, &t);
    take_leases(loop, &t);

    struct fault fault;
    enum err failed = ERR_STORAGE_FULL; // as long as the store is known to have no room
    enum err fatal = ERR_OK;
    bool tried = !mono_before(now, loop->blocked_until);
    if (tried) {
        failed = loop->cut_off ? recover(loop, &fault) : ERR_OK; // what a full disk prevented before
        if (failed == ERR_OK) {
            failed = transact(loop, &t);
        }
        if (failed == ERR_OK) {
            loop->failing = false;
            loop->knows_starts = true;
            if (t.changes + t.dispatch_count > 0 || t.settled != NULL) {
                loop->commits++;
                histogram_add(&loop->metrics.commit_times, &histogram_times, t.commit_ns);
                histogram_add(&loop->metrics.commit_writes, &histogram_counts,
                              (int64_t)(t.changes + t.dispatch_count + t.ends));
                totals_add(&loop->metrics.gone, &t.gone);
                retain_committed(loop, &t);
            }
            forget_settled(loop, &t);
            start_deliveries(loop, &t);
            plan_confirmation(loop, now);
            log_failures(loop, now);
        } else {
            fatal = undo(loop, &t, failed);
        }
    }
    if (fatal == ERR_OK) {
        reply_all(loop, &t, failed);
        end_overdue_leases(loop, now);
    } else {
        if (fatal == ERR_OUTCOME_UNKNOWN) {
            leave_unanswered(loop, &t);
        }
        reply_none(&t);
    }
    turn_fini(&t);
    if (fatal == ERR_OK && tried && (failed == ERR_OK || failed == ERR_STORAGE_FULL)) {
        fatal = store_tend(loop->store);
        if (fatal == ERR_STORAGE_FULL) {
            fatal = ERR_OK; // housekeeping can wait; the next commit will say so
        }
    }
    return fatal;
}
