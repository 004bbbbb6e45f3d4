// One turn of the loop: settle what ended, accept what came, take up what is due, dispatch what may go; one
// commit; then the deliveries start and the replies leave. If anything fails before the commit is through,
// nothing of the turn has happened: the engine is built anew from the store, and the deliveries that ended
// are settled in a later turn.
#include "scheduler/loop.h"

#include "common/container.h"
#include "common/log.h"
#include "proto/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_REQUESTS 8192u  // a turn takes no further message beyond it
#define TURN_DISPATCHES 256u // batches dispatched in a turn
#define TURN_DUE 512u        // retries taken up in a turn
#define BLOCKED_NS (500 * NS_PER_MS)

struct turn {
    struct mono now;
    struct wall wall;
    struct inbox_item *messages; // this turn's
    size_t requests;
    struct insert *inserts; // one for each admitted request, in the order of the requests
    struct admission *admissions;
    size_t insert_count;
    bool more_due;              // nothing may go before what has not been taken up yet
    struct inbox_item *settled; // the deliveries whose ends this turn commits
    struct delivery *dispatched[TURN_DISPATCHES];
    size_t dispatch_count;
};

static uint64_t next_random(struct loop *loop)
{
    // splitmix64 (S. Vigna, 2015)
    uint64_t z = loop->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct ipc_message *message_of(struct inbox_item *item)
{
    return container_of(item, struct ipc_message, item);
}

// ---- outcomes ----

static void live_add(struct loop *loop, struct delivery *delivery)
{
    delivery->live_prev = NULL;
    delivery->live_next = loop->live;
    if (loop->live != NULL) {
        loop->live->live_prev = delivery;
    }
    loop->live = delivery;
    loop->live_count++;
}

static void live_remove(struct loop *loop, struct delivery *delivery)
{
    *(delivery->live_prev != NULL ? &delivery->live_prev->live_next : &loop->live) = delivery->live_next;
    if (delivery->live_next != NULL) {
        delivery->live_next->live_prev = delivery->live_prev;
    }
    loop->live_count--;
}

// A late start moves what is to come. It stays in the list until that is on disk: an engine built anew knows
// nothing of it.
static void apply_late(struct loop *loop)
{
    for (struct inbox_item *item = loop->late; item != NULL; item = item->next) {
        struct delivery *d = container_of(item, struct delivery, late);
        engine_started(loop->engine, d->flight, d->started);
    }
}

static void log_outcome(struct loop *loop, const struct delivery *d, enum batch_state state, struct mono now)
{
    struct log_text error;
    if (d->outcome.class == OUTCOME_HOLD && !mono_before(now, loop->hold_logged_until)) {
        loop->hold_logged_until = mono_add(now, d->outcome.hold_ns);
        log_line(LOG_LEVEL_WARNING, "turn", "queue_held", "queue=%s seconds=%lld error=%s", d->queue_name,
                 (long long)(d->outcome.hold_ns / NS_PER_S), log_quote(d->outcome.error, &error));
    }
    if (state == BATCH_FAILED) {
        loop->failures++;
    }
    if (loop->failures > 0 && !mono_before(now, loop->next_failure_log)) { // at most one line a second
        loop->next_failure_log = mono_add(now, NS_PER_S);
        log_line(LOG_LEVEL_WARNING, "turn", "batches_failed", "queue=%s batches=%llu error=%s", d->queue_name,
                 (unsigned long long)loop->failures, log_quote(d->outcome.error, &error));
        loop->failures = 0;
    }
}

static enum err settle(struct loop *loop, struct turn *t)
{
    size_t count = 0;
    for (struct inbox_item *item = loop->done; item != NULL; item = item->next) {
        count++;
    }
    if (count == 0) {
        return ERR_OK;
    }
    struct finish_row *rows = calloc(count, sizeof *rows);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    size_t n = 0;
    for (struct inbox_item *item = loop->done; item != NULL && err == ERR_OK; item = item->next) {
        struct delivery *d = delivery_of(item);
        err = engine_outcome(loop->engine, d->flight, &d->outcome, d->attempt, d->excused, t->now, t->wall,
                             next_random(loop), &rows[n]);
        log_outcome(loop, d, rows[n++].state, t->now);
    }
    if (err == ERR_OK) {
        err = store_finish(loop->store, rows, n);
    }
    t->settled = loop->done;
    free(rows);
    return err;
}

static void forget_settled(struct loop *loop, struct turn *t)
{
    loop->late = NULL;
    loop->late_end = &loop->late;
    for (struct inbox_item *item = t->settled, *next; item != NULL; item = next) {
        next = item->next;
        live_remove(loop, delivery_of(item));
        delivery_free(delivery_of(item));
    }
    if (t->settled != NULL) {
        loop->done = NULL;
        loop->done_end = &loop->done;
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

static bool is_ingest(const struct ipc_request *r)
{
    return r->fault.err == ERR_OK && r->request.op == OP_INGEST;
}

static void admit_request(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    struct admission *admission = &t->admissions[t->insert_count];
    if (engine_admit(loop->engine, &r->request.ingest, admission, &r->fault) != ERR_OK) {
        return;
    }
    t->inserts[t->insert_count++] = (struct insert){.request = &r->request.ingest,
                                                    .queue = admission->queue,
                                                    .batch_size = admission->batch_size,
                                                    .now = t->wall,
                                                    .only_replay = admission->only_replay};
}

static enum err admit(struct loop *loop, struct turn *t)
{
    size_t count = 0;
    for (struct inbox_item *item = t->messages; item != NULL; item = item->next) {
        for (size_t i = 0; i < message_of(item)->count; i++) {
            count += is_ingest(&message_of(item)->requests[i]);
        }
    }
    if (count == 0) {
        return ERR_OK;
    }
    t->inserts = calloc(count, sizeof *t->inserts);
    t->admissions = calloc(count, sizeof *t->admissions);
    if (t->inserts == NULL || t->admissions == NULL) {
        return ERR_NO_MEMORY;
    }
    for (struct inbox_item *item = t->messages; item != NULL; item = item->next) {
        for (size_t i = 0; i < message_of(item)->count; i++) {
            if (is_ingest(&message_of(item)->requests[i])) {
                admit_request(loop, t, &message_of(item)->requests[i]);
            }
        }
    }
    enum err err = store_insert(loop->store, t->inserts, t->insert_count);
    for (size_t i = 0; i < t->insert_count && err == ERR_OK; i++) {
        if (t->inserts[i].result == INSERT_NEW) {
            err = engine_accepted(loop->engine, &t->admissions[i], t->inserts[i].seq, t->now);
        } else {
            engine_declined(loop->engine, &t->admissions[i]);
        }
    }
    return err;
}

// ---- dispatching ----

static enum err look_ahead(struct loop *loop)
{
    struct want want;
    enum err err = ERR_OK;
    while (err == ERR_OK && engine_wants(loop->engine, &want)) {
        size_t count = want.count;
        if (want.kind == WANT_BACKOFF) {
            struct backoff_row rows[WANT_MAX];
            err = store_read_backoff(loop->store, want.after_due, want.after_seq, want.after_index, rows,
                                     &count);
            if (err == ERR_OK) {
                err = engine_give_backoff(loop->engine, &want, rows, count);
            }
        } else {
            struct run runs[WANT_MAX];
            err = store_read_waiting(loop->store, want.queue, want.priority, want.after_seq, want.after_index,
                                     runs, &count);
            if (err == ERR_OK) {
                err = engine_give_runs(loop->engine, &want, runs, count);
            }
        }
    }
    return err;
}

static enum err take_up_due(struct loop *loop, struct turn *t)
{
    struct batch_key keys[TURN_DUE];
    size_t n = 0;
    enum err err = ERR_OK;
    while (n < TURN_DUE && (err = engine_next_due(loop->engine, t->now, &keys[n])) == ERR_OK) {
        n++;
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    t->more_due = n == TURN_DUE;
    return n > 0 ? store_promote(loop->store, keys, n) : ERR_OK;
}

static struct delivery *new_delivery(struct loop *loop, const struct turn *t, const struct batch_key *key,
                                     struct flight *flight)
{
    struct delivery *d = malloc(sizeof *d);
    struct queue_view queue;
    if (d == NULL || engine_view_by_id(loop->engine, key->queue, &queue) != ERR_OK) {
        free(d);
        return NULL;
    }
    d->flight = flight;
    d->queue = key->queue;
    (void)snprintf(d->queue_name, sizeof d->queue_name, "%s", queue.name);
    d->place = key->place;
    d->ids = NULL;
    d->timeout_ns = queue.settings->timeout_ns;
    d->slot = t->now;
    d->started = t->now;
    d->item.next = NULL;
    d->outcome.error[0] = '\0';
    return d;
}

// The v5 ID of a batch: the same on every attempt and after every restart.
static struct id batch_id(const struct id *ingestion, uint32_t index)
{
    char name[16];
    int len = snprintf(name, sizeof name, "%u", index);
    return id_v5(ingestion, name, (size_t)len);
}

static enum err store_dispatched(struct loop *loop, struct turn *t)
{
    struct dispatch_row rows[TURN_DISPATCHES];
    for (size_t i = 0; i < t->dispatch_count; i++) {
        const struct delivery *d = t->dispatched[i];
        rows[i] = (struct dispatch_row){.key = {d->queue, d->place}, .now = t->wall};
    }
    enum err err = store_dispatch(loop->store, rows, t->dispatch_count);
    for (size_t i = 0; i < t->dispatch_count; i++) {
        struct delivery *d = t->dispatched[i];
        d->ids = rows[i].ids; // NULL where it was not reached; freed with the delivery
        d->attempt = rows[i].attempt;
        d->excused = rows[i].excused;
        d->ingestion = rows[i].ingestion;
        d->batch = batch_id(&rows[i].ingestion, d->place.index);
    }
    return err;
}

static enum err dispatch(struct loop *loop, struct turn *t)
{
    enum err err = look_ahead(loop);
    while (err == ERR_OK && t->dispatch_count < TURN_DISPATCHES && !loop->ending && !t->more_due) {
        struct batch_key key;
        struct flight *flight;
        err = engine_next(loop->engine, t->now, &key, &flight);
        if (err != ERR_OK) {
            break;
        }
        struct delivery *d = new_delivery(loop, t, &key, flight);
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
    enum err err = store_begin(loop->store);
    if (err == ERR_OK) {
        apply_late(loop);
        err = settle(loop, t);
    }
    if (err == ERR_OK) {
        err = admit(loop, t);
    }
    if (err == ERR_OK) {
        err = look_ahead(loop);
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
        err = store_commit(loop->store);
    }
    return err;
}

// Nothing of the turn has happened. ERR_OK when the loop can go on.
static enum err undo(struct loop *loop, struct turn *t, enum err why)
{
    if (!loop->failing) { // the next tries, twice a second, would say the same
        loop->failing = true;
        log_line(LOG_LEVEL_ERROR, "turn", "commit_failed", "error=%s requests=%zu", err_name(why),
                 t->requests);
    }
    store_rollback(loop->store);
    for (size_t i = 0; i < t->dispatch_count; i++) {
        delivery_free(t->dispatched[i]);
    }
    t->dispatch_count = 0;
    t->settled = NULL;
    loop->blocked_until = mono_add(t->now, BLOCKED_NS);
    if (why == ERR_STORAGE_IO) {
        return why;
    }
    enum err err = recover(loop);
    return err == ERR_STORAGE_FULL ? ERR_OK : err;
}

static void start_deliveries(struct loop *loop, struct turn *t)
{
    for (size_t i = 0; i < t->dispatch_count; i++) {
        struct delivery *d = t->dispatched[i];
        struct target *target = loop_target(loop, d->queue);
        live_add(loop, d);
        // After a slow commit it starts late for certain. The target's own report may come after the next
        // slot's time, so what is known is applied now; the report then adds only what is missing.
        struct mono handed_over = mono_now();
        if (mono_diff(handed_over, d->slot) > TARGET_LATE_NS) {
            engine_started(loop->engine, d->flight, handed_over);
        }
        target->ops->start(target, d);
    }
}

// ---- replies ----

static void reply_insert(struct buf *out, const struct insert *insert)
{
    switch (insert->result) {
    case INSERT_NEW:
        reply_ingest(out, &insert->ingestion, false);
        break;
    case INSERT_REPLAYED:
        reply_ingest(out, &insert->ingestion, true);
        break;
    case INSERT_ID_REUSED:
        reply_error(out, ERR_ID_REUSED, "id: an ingestion with this ID and other content exists");
        break;
    case INSERT_KEY_REUSED:
        reply_error(out, ERR_IDEMPOTENCY_KEY_REUSED,
                    "idempotency_key: this key was used for an ingestion with other content");
        break;
    case INSERT_NO_ROOM:
        reply_error(out, ERR_OVERLOADED, "as many batches wait as may (--max-waiting); nothing was accepted");
        break;
    }
}

static void reply_one(struct loop *loop, const struct turn *t, struct ipc_request *r, enum err failed,
                      size_t *insert, struct buf *out)
{
    if (r->fault.err != ERR_OK) {
        reply_error(out, r->fault.err, r->fault.detail);
    } else if (r->request.op != OP_INGEST) {
        answer(loop, &r->request, out);
    } else if (failed != ERR_OK) {
        reply_error(out, ERR_STORAGE_UNAVAILABLE, "the store cannot write; nothing was accepted");
    } else {
        reply_insert(out, &t->inserts[(*insert)++]);
    }
}

static bool asks_for_much(const struct ipc_request *r)
{
    return r->fault.err == ERR_OK && (r->request.op == OP_STATUS || r->request.op == OP_LIST);
}

// The lines of a message together stay under REPLY_MESSAGE_MAX: a line that no longer fits is to be asked for
// alone.
static void reply_message(struct loop *loop, const struct turn *t, struct ipc_message *message,
                          enum err failed, size_t *insert)
{
    static const char too_much[] = "the replies of this message do not fit into one: ask for this alone";
    const size_t error_line = 384; // at most, and about: a fault with quotes to escape
    const size_t room = REPLY_MESSAGE_MAX - error_line * message->count;
    struct buf lines;
    buf_init(&lines);
    for (size_t i = 0; i < message->count; i++) {
        struct ipc_request *r = &message->requests[i];
        // What would perhaps not fit is not even read: a message of many long lines must not hold up the
        // loop.
        if (message->count > 1 && lines.len + REPLY_LINE_MAX > room && asks_for_much(r)) {
            reply_error(&lines, ERR_TRY_ALONE, too_much);
        } else {
            reply_one(loop, t, r, failed, insert, &lines);
        }
    }
    ipc_reply(message, &lines);
    buf_fini(&lines);
}

static void reply_all(struct loop *loop, struct turn *t, enum err failed)
{
    size_t insert = 0;
    for (struct inbox_item *item = t->messages, *next; item != NULL; item = next) {
        next = item->next;
        reply_message(loop, t, message_of(item), failed, &insert);
    }
}

enum err turn(struct loop *loop, struct mono now)
{
    struct turn t = {.now = now, .wall = wall_now()};
    loop_take(loop);
    take_messages(loop, &t);

    enum err failed = ERR_STORAGE_FULL; // as long as the store is known to have no room
    enum err fatal = ERR_OK;
    if (!mono_before(now, loop->blocked_until)) {
        failed = loop->cut_off ? recover(loop) : ERR_OK; // what a full disk prevented before
        if (failed == ERR_OK) {
            failed = transact(loop, &t);
        }
        if (failed == ERR_OK) {
            loop->failing = false;
            loop->commits += t.insert_count + t.dispatch_count > 0 || t.settled != NULL;
            start_deliveries(loop, &t);
            forget_settled(loop, &t);
        } else {
            fatal = undo(loop, &t, failed);
        }
    }
    if (fatal == ERR_OK || fatal == ERR_STORAGE_IO) {
        reply_all(loop, &t, failed);
    }
    free(t.inserts);
    free(t.admissions);
    if (fatal == ERR_OK && failed == ERR_OK) {
        fatal = store_tend(loop->store);
        if (fatal == ERR_STORAGE_FULL) {
            fatal = ERR_OK; // housekeeping can wait; the next commit will say so
        }
    }
    return fatal;
}
