// verify_history.c - one pass over the history, from its oldest entry on. The ends of attempts, by the entry
// they followed, are merged into it.
#include "scheduler/rate.h"
#include "scheduler/verify_queue.h"

// In the order they stand in the statement.
enum column { ID, QUEUE, PRIORITY, SEQ, IDX, ATTEMPT, AT_NS, SINCE, ENDED, HAS_ROW };
static const char entries[] =
    "SELECT id, queue, priority, seq, idx, attempt, at_ns, since, ended, EXISTS (SELECT 1 FROM batch b WHERE "
    "b.seq = h.seq AND b.idx = h.idx) FROM history h ORDER BY id";

// Of batches that have a row. What ended before the first entry was in flight before it, too.
#define THE_ENDS                                                                                             \
    "SELECT b.ended AS ended, b.queue AS queue FROM batch b WHERE b.ended >= ?1 UNION ALL SELECT h.ended, "  \
    "h.queue FROM history h WHERE h.ended >= ?1 AND EXISTS (SELECT 1 FROM batch b WHERE b.seq = h.seq AND "  \
    "b.idx = h.idx)"
static const char ends[] = "SELECT ended, queue FROM (" THE_ENDS ") ORDER BY ended";
// In flight before the first entry: those that are now, and those that ended, less those that began.
static const char in_flight_before[] =
    "SELECT queue, 1 FROM batch INDEXED BY batch_in_flight WHERE state = 0 UNION ALL SELECT queue, 1 FROM "
    "(" THE_ENDS
    ") UNION ALL SELECT h.queue, -1 FROM history h WHERE h.seq > 0 AND EXISTS (SELECT 1 FROM batch "
    "b WHERE b.seq = h.seq AND b.idx = h.idx)";

struct pass {
    struct verify *v;
    struct pasts pasts;
    sqlite3_stmt *entries;
    sqlite3_stmt *ends;
    sqlite3_stmt *changes;
    sqlite3_stmt *queues;
    bool end_is_there; // `ends` stands at a row
    int64_t last;      // entry
    int64_t at_ns;     // of it, in this boot
};

static int64_t integer(const struct pass *pass, enum column column)
{
    return sqlite3_column_int64(pass->entries, (int)column);
}

// ---- what is in force ----

// Columns: rate_count, rate_per_ns, burst, concurrency, aging_ns, paused.
static struct in_force read_in_force(sqlite3_stmt *stmt)
{
    struct rate rate = {(uint64_t)sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1)};
    return (struct in_force){
        .rate = rate,
        .burst = rate.count > 0 && rate.per_ns <= 0 ? 1 : rate_burst(rate, column_u32(stmt, 2)),
        .concurrency = sqlite3_column_int64(stmt, 3),
        .aging = sqlite3_column_int64(stmt, 4) != 0,
        .paused = sqlite3_column_int64(stmt, 5) != 0,
        .until = INT64_MAX,
    };
}

// What holds from an entry on: what the next change says that it ended, or else what the queue has now.
static enum err look_up(struct pass *pass, struct queue_past *past, int64_t from)
{
    bool row = false;
    sqlite3_reset(pass->changes);
    sqlite3_bind_int64(pass->changes, 1, past->id);
    sqlite3_bind_int64(pass->changes, 2, from);
    enum err err = verify_step(pass->v, pass->changes, &row);
    if (row) {
        past->now = read_in_force(pass->changes);
        past->now.until = sqlite3_column_int64(pass->changes, 6);
        past->now.kind = sqlite3_column_int64(pass->changes, 7);
        past->now.dispatched = sqlite3_column_int64(pass->changes, 8);
    } else if (err == ERR_OK) {
        sqlite3_reset(pass->queues);
        sqlite3_bind_int64(pass->queues, 1, past->id);
        err = verify_step(pass->v, pass->queues, &row);
        past->now = row ? read_in_force(pass->queues) : (struct in_force){.until = INT64_MAX};
        past->now.dispatched = row ? sqlite3_column_int64(pass->queues, 6) : 0;
    }
    past->known = row;
    return err;
}

static enum err find_past(struct pass *pass, int64_t queue, struct queue_past **past)
{
    size_t count = pass->pasts.count;
    *past = past_of(&pass->pasts, queue);
    if (*past == NULL) {
        return ERR_NO_MEMORY;
    }
    if (pass->pasts.count == count) {
        return ERR_OK;
    }
    (*past)->total_known = pass->v->first_entry == 1;
    return look_up(pass, *past, pass->v->first_entry);
}

// ---- marks ----

static void check_total(struct pass *pass, const struct queue_past *past)
{
    int64_t rows = past->total + past->since;
    if (past->known && past->total_known && past->now.dispatched != rows) {
        violation(pass->v, VERIFY_TOTALS, (struct about){past->id, 0, -1},
                  "dispatches up to entry %lld: %lld are counted, %lld found", (long long)pass->last,
                  (long long)past->now.dispatched, (long long)rows);
    }
}

static enum err pass_mark(struct pass *pass, int64_t entry, int64_t queue)
{
    struct queue_past *past;
    if (queue == 0) {
        if (entry != pass->v->first_entry || entry != 2) {
            violation(pass->v, VERIFY_HISTORY, (struct about){.index = -1},
                      "entry %lld says that the store is older, and is not the first", (long long)entry);
        }
        return ERR_OK;
    }
    enum err err = find_past(pass, queue, &past);
    if (err != ERR_OK) {
        return err;
    }
    if (past->now.until != entry) {
        violation(pass->v, VERIFY_HISTORY, (struct about){queue, 0, -1},
                  "at entry %lld something changed, and nothing says what", (long long)entry);
        return ERR_OK;
    }
    check_total(pass, past);
    struct in_force before = past->now;
    past->total_known = true;
    past->total = before.dispatched;
    past->since = 0;
    past->dispatched = past->dispatched && before.kind != CHANGE_BOOT;
    err = look_up(pass, past, entry + 1);
    bool rate_changed = before.rate.count != past->now.rate.count ||
                        before.rate.per_ns != past->now.rate.per_ns || before.burst != past->now.burst;
    if (rate_changed || before.kind == CHANGE_BOOT) {
        window_empty(&past->window, &past->now, integer(pass, AT_NS));
    }
    return err;
}

// ---- dispatches ----

static void check_rate(struct pass *pass, struct queue_past *past, struct about about, int64_t entry)
{
    int64_t n;
    int64_t ns;
    bool of_empty;
    char rate[RATE_TEXT_SIZE];
    if (!window_add(&past->window, &past->now, integer(pass, AT_NS), &n, &ns, &of_empty)) {
        rate_format(past->now.rate, rate);
        violation(pass->v, VERIFY_RATE, about,
                  "entry %lld: %lld dispatches within %lld.%06lld ms%s, at %s, burst %u", (long long)entry,
                  (long long)n, (long long)(ns / NS_PER_MS), (long long)(ns % NS_PER_MS),
                  of_empty ? " of an empty bucket" : "", rate, past->now.burst);
    }
}

static void check_order(struct pass *pass, const struct queue_past *past, struct about about,
                        const struct place *place, int64_t since)
{
    int64_t by = trails_passed(past->trails, place, since);
    if (by != 0) {
        violation(pass->v, VERIFY_ORDER, about, "it waited from entry %lld on, and entry %lld went before it",
                  (long long)since, (long long)by);
    }
}

static void check_slots(struct pass *pass, struct queue_past *past, struct about about, int64_t entry)
{
    if (past->now.paused) {
        violation(pass->v, VERIFY_PAUSE, about, "entry %lld: the queue was paused", (long long)entry);
    }
    if (integer(pass, HAS_ROW) == 0) {
        return; // how long it was in flight is not known any more
    }
    past->in_flight++;
    if (past->in_flight > past->now.concurrency) {
        violation(pass->v, VERIFY_CONCURRENCY, about, "entry %lld: %lld were in flight, of %lld allowed",
                  (long long)entry, (long long)past->in_flight, (long long)past->now.concurrency);
    }
}

static enum err pass_dispatch(struct pass *pass, int64_t entry)
{
    struct queue_past *past;
    struct about about = {integer(pass, QUEUE), integer(pass, SEQ), integer(pass, IDX)};
    struct place place = {.seq = about.seq, .index = column_u32(pass->entries, IDX)};
    int64_t since = integer(pass, SINCE);
    enum err err = find_past(pass, about.queue, &past);
    if (err != ERR_OK) {
        return err;
    }
    if (!column_priority(pass->entries, PRIORITY, &place.priority) || integer(pass, ATTEMPT) < 1 ||
        !past->known || since < 0 || since >= entry || past->now.until <= entry) {
        violation(pass->v, VERIFY_HISTORY, about, "entry %lld makes no sense", (long long)entry);
        return ERR_OK;
    }
    check_rate(pass, past, about, entry);
    check_order(pass, past, about, &place, since);
    check_slots(pass, past, about, entry);
    past->since++;
    past->dispatched = true;
    past->at_ns = integer(pass, AT_NS);
    return trails_add(past->trails, past->now.aging, &place, entry);
}

// ---- the pass ----

// What ended before this entry is in flight no more.
static enum err take_ends(struct pass *pass, int64_t entry)
{
    enum err err = ERR_OK;
    while (pass->end_is_there && sqlite3_column_int64(pass->ends, 0) < entry && err == ERR_OK) {
        struct queue_past *past;
        err = find_past(pass, sqlite3_column_int64(pass->ends, 1), &past);
        if (err == ERR_OK) {
            past->in_flight--;
            err = verify_step(pass->v, pass->ends, &pass->end_is_there);
        }
    }
    return err;
}

static enum err read_in_flight(struct pass *pass)
{
    enum err err;
    bool row = false;
    sqlite3_stmt *stmt = verify_prepare(pass->v, in_flight_before, &err);
    if (stmt != NULL) {
        sqlite3_bind_int64(stmt, 1, pass->v->first_entry > 1 ? pass->v->first_entry - 1 : 1);
    }
    while (stmt != NULL && (err = verify_step(pass->v, stmt, &row)) == ERR_OK && row) {
        struct queue_past *past;
        err = find_past(pass, sqlite3_column_int64(stmt, 0), &past);
        if (err != ERR_OK) {
            break;
        }
        past->in_flight += sqlite3_column_int64(stmt, 1);
    }
    (void)sqlite3_finalize(stmt);
    return err;
}

// The entry's place in the sequence, by number and by time.
static void check_sequence(struct pass *pass, int64_t entry)
{
    struct about about = {.index = -1};
    int64_t at_ns = integer(pass, AT_NS);
    if (pass->last != 0 && entry != pass->last + 1) {
        violation(pass->v, VERIFY_HISTORY, about, "entries %lld to %lld are missing",
                  (long long)pass->last + 1, (long long)entry - 1);
    }
    bool boot = false;
    if (integer(pass, SEQ) == 0 && integer(pass, QUEUE) != 0) {
        const struct queue_past *past = past_of(&pass->pasts, integer(pass, QUEUE));
        boot = past != NULL && past->now.until == entry && past->now.kind == CHANGE_BOOT;
    }
    if (at_ns < pass->at_ns && !boot) {
        violation(pass->v, VERIFY_HISTORY, about, "entry %lld is earlier than the one before it",
                  (long long)entry);
    }
    pass->at_ns = at_ns;
}

static enum err pass_entries(struct pass *pass)
{
    enum err err = ERR_OK;
    bool row = false;
    while (err == ERR_OK && (err = verify_step(pass->v, pass->entries, &row)) == ERR_OK && row) {
        int64_t entry = integer(pass, ID);
        err = take_ends(pass, entry);
        struct queue_past *past;
        if (err == ERR_OK && integer(pass, QUEUE) != 0) {
            err = find_past(pass, integer(pass, QUEUE), &past);
        }
        if (err == ERR_OK) {
            check_sequence(pass, entry);
            err = integer(pass, SEQ) == 0 ? pass_mark(pass, entry, integer(pass, QUEUE))
                                          : pass_dispatch(pass, entry);
        }
        pass->last = entry;
    }
    return err;
}

// ---- after the last entry ----

// What waits, and what should wait by now. Columns: queue, priority, seq, index, since; due of those in
// backoff.
static enum err check_waiting(struct pass *pass, const char *sql)
{
    enum err err;
    bool row = false;
    sqlite3_stmt *stmt = verify_prepare(pass->v, sql, &err);
    while (stmt != NULL && (err = verify_step(pass->v, stmt, &row)) == ERR_OK && row) {
        struct queue_past *past;
        struct about about = {sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 2),
                              sqlite3_column_int64(stmt, 3)};
        struct place place = {.seq = about.seq, .index = column_u32(stmt, 3)};
        err = find_past(pass, about.queue, &past);
        if (err != ERR_OK) {
            break;
        }
        if (sqlite3_column_type(stmt, 4) == SQLITE_NULL) {
            if (past->dispatched && sqlite3_column_int64(stmt, 5) < past->at_ns) {
                violation(pass->v, VERIFY_ORDER, about, "its retry was due before the queue's last dispatch");
            }
        } else if (column_priority(stmt, 1, &place.priority)) {
            check_order(pass, past, about, &place, sqlite3_column_int64(stmt, 4));
        }
    }
    (void)sqlite3_finalize(stmt);
    return err;
}

static enum err check_end(struct pass *pass)
{
    static const char *const waiting[] = {
        "SELECT queue, priority, seq, next_idx, since FROM ingestion WHERE fresh",
        "SELECT w.queue, w.priority, w.seq, w.first_idx, coalesce(b.since, i.since) FROM waiting w JOIN "
        "ingestion "
        "i ON i.seq = w.seq LEFT JOIN batch b ON b.seq = w.seq AND b.idx = w.first_idx",
        "SELECT queue, 0, seq, idx, NULL, due_ns FROM batch WHERE state = 2",
    };
    enum err err = take_ends(pass, INT64_MAX);
    for (size_t i = 0; i < sizeof waiting / sizeof waiting[0] && err == ERR_OK; i++) {
        err = check_waiting(pass, waiting[i]);
    }
    for (size_t i = 0; i < pass->pasts.count && err == ERR_OK; i++) {
        check_total(pass, &pass->pasts.items[i]);
    }
    return err;
}

static enum err prepare(struct pass *pass)
{
    enum err err;
    pass->entries = verify_prepare(pass->v, entries, &err);
    if (pass->entries != NULL) {
        pass->ends = verify_prepare(pass->v, ends, &err);
    }
    if (pass->ends != NULL) {
        sqlite3_bind_int64(pass->ends, 1, pass->v->first_entry > 1 ? pass->v->first_entry - 1 : 1);
        pass->changes =
            verify_prepare(pass->v,
                           "SELECT rate_count, rate_per_ns, burst, concurrency, aging_ns, paused, id, "
                           "kind, dispatched FROM change WHERE queue = ?1 AND id >= ?2 ORDER BY id "
                           "LIMIT 1",
                           &err);
    }
    if (pass->changes != NULL) {
        pass->queues = verify_prepare(pass->v,
                                      "SELECT rate_count, rate_per_ns, burst, concurrency, aging_ns, paused, "
                                      "dispatched FROM queue WHERE id = ?1",
                                      &err);
    }
    return err;
}

enum err verify_history(struct verify *v)
{
    struct pass pass = {.v = v, .at_ns = INT64_MIN};
    enum err err = prepare(&pass);
    if (pass.queues != NULL) {
        err = read_in_flight(&pass);
        if (err == ERR_OK) {
            err = verify_step(v, pass.ends, &pass.end_is_there);
        }
        if (err == ERR_OK) {
            err = pass_entries(&pass);
        }
        if (err == ERR_OK) {
            err = check_end(&pass);
        }
    }
    (void)sqlite3_finalize(pass.entries);
    (void)sqlite3_finalize(pass.ends);
    (void)sqlite3_finalize(pass.changes);
    (void)sqlite3_finalize(pass.queues);
    pasts_free(&pass.pasts);
    return err;
}
