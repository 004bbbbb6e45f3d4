#include "tests/support/engine_model.h"

#include "scheduler/order.h"
#include "tests/support/engine_check.h"

// ---- looking ----

struct world_ingestion *model_ingestion(struct world_store *store, int64_t seq)
{
    ENSURE(seq >= 1 && (size_t)seq <= store->ingestion_count, "seq %lld", (long long)seq);
    return &store->ingestions[seq - 1];
}

struct world_batch *model_batch(struct world_store *store, int64_t seq, uint32_t index)
{
    const struct world_ingestion *ingestion = model_ingestion(store, seq);
    ENSURE(index < ingestion->count, "no such batch: %lld.%u", (long long)seq, index);
    return &store->batches[ingestion->first + index];
}

bool model_waits(const struct world_store *store, int64_t seq, uint32_t index)
{
    const struct world_ingestion *ingestion = &store->ingestions[seq - 1];
    return !ingestion->scheduled && store->batches[ingestion->first + index].state == BATCH_WAITING;
}

static bool is_of(const struct world_ingestion *ingestion, int64_t queue, enum priority priority)
{
    return ingestion->queue == queue && ingestion->priority == priority;
}

size_t model_read_waiting(const struct world_store *store, const struct want *want, struct run *runs)
{
    size_t n = 0;
    int64_t seq = want->after_seq < 1 ? 1 : want->after_seq;
    for (; seq <= (int64_t)store->ingestion_count; seq++) {
        const struct world_ingestion *ingestion = &store->ingestions[seq - 1];
        if (!is_of(ingestion, want->queue, want->priority)) {
            continue;
        }
        uint32_t i = seq == want->after_seq ? want->after_index + 1 : 0;
        for (bool open = false; i < ingestion->count; i++) {
            if (!model_waits(store, seq, i)) {
                open = false;
            } else if (open) {
                runs[n - 1].end++;
            } else if (n == want->count) {
                return n;
            } else {
                runs[n++] = (struct run){seq, i, i + 1, ingestion->accepted_ns};
                open = true;
            }
        }
    }
    return n;
}

void model_count_waiting(const struct world_store *store, int64_t queue, uint64_t waiting[PRIORITIES])
{
    for (int p = 0; p < PRIORITIES; p++) {
        waiting[p] = 0;
    }
    for (size_t i = 0; i < store->ingestion_count; i++) {
        const struct world_ingestion *ingestion = &store->ingestions[i];
        if (ingestion->queue == queue) {
            waiting[ingestion->priority] += ingestion->ready;
        }
    }
}

uint64_t model_count_delayed(const struct world_store *store, int64_t queue)
{
    uint64_t n = 0;
    for (size_t i = 0; i < store->ingestion_count; i++) {
        const struct world_ingestion *ingestion = &store->ingestions[i];
        if (ingestion->queue == queue) {
            n += ingestion->backoff + (ingestion->scheduled ? ingestion->count : 0);
        }
    }
    return n;
}

// ---- changes ----

void model_change(struct world_store *store, const struct batch_key *key, enum batch_state from,
                  enum batch_state to)
{
    struct world_ingestion *ingestion = model_ingestion(store, key->place.seq);
    struct world_batch *batch = model_batch(store, key->place.seq, key->place.index);
    ENSURE(is_of(ingestion, key->queue, key->place.priority), "%lld is elsewhere", (long long)key->place.seq);
    ENSURE(batch->state == from, "%lld.%u is in state %d, not %d", (long long)key->place.seq,
           key->place.index, batch->state, from);
    ENSURE(!ingestion->scheduled, "%lld has not begun", (long long)key->place.seq);
    batch->state = to;
    ingestion->ready += to == BATCH_WAITING;
    ingestion->backoff += to == BATCH_BACKOFF;
    ingestion->backoff -= from == BATCH_BACKOFF;
}

int64_t model_insert(struct world_store *store, const struct admission *admission)
{
    bool scheduled = admission->not_before.ms != 0;
    ENSURE(store->ingestion_count < WORLD_INGESTIONS &&
               store->batch_count + admission->batches <= WORLD_BATCHES,
           "the world is full");
    store->ingestions[store->ingestion_count++] =
        (struct world_ingestion){.queue = admission->queue,
                                 .priority = admission->priority,
                                 .first = store->batch_count,
                                 .count = admission->batches,
                                 .ready = scheduled ? 0 : admission->batches,
                                 .accepted_ns = admission->accepted_ns,
                                 .scheduled = scheduled,
                                 .not_before = admission->not_before,
                                 .deadline = admission->deadline};
    for (uint32_t i = 0; i < admission->batches; i++) {
        store->batches[store->batch_count++] = (struct world_batch){.state = BATCH_WAITING};
    }
    return (int64_t)store->ingestion_count;
}

// Takes a waiting batch (due or not) away for good.
static void drop(struct world_ingestion *ingestion, struct world_batch *batch, struct removal *removal)
{
    if (batch->state == BATCH_BACKOFF) {
        ingestion->backoff--;
        removal->delayed++;
    } else if (ingestion->scheduled) {
        removal->delayed++;
    } else {
        ingestion->ready--;
        removal->waiting++;
    }
    batch->state = BATCH_CANCELLED;
}

struct removal model_cancel(struct world_store *store, int64_t seq)
{
    struct world_ingestion *ingestion = model_ingestion(store, seq);
    struct removal removal = {
        .queue = ingestion->queue, .priority = ingestion->priority, .seq = seq, .cancelled = true};
    for (uint32_t i = 0; i < ingestion->count; i++) {
        struct world_batch *batch = model_batch(store, seq, i);
        if (batch->state == BATCH_WAITING || batch->state == BATCH_BACKOFF) {
            drop(ingestion, batch, &removal);
        }
    }
    ingestion->scheduled = false;
    ingestion->cancelled = true;
    return removal;
}

bool model_retry(struct world_store *store, int64_t seq, struct returned_row *row)
{
    struct world_ingestion *ingestion = model_ingestion(store, seq);
    uint32_t first = 0;
    while (first < ingestion->count && model_batch(store, seq, first)->state != BATCH_FAILED) {
        first++;
    }
    uint32_t end = first;
    while (end < ingestion->count && model_batch(store, seq, end)->state == BATCH_FAILED) {
        *model_batch(store, seq, end++) = (struct world_batch){.state = BATCH_WAITING};
    }
    ingestion->ready += end - first;
    *row = (struct returned_row){ingestion->priority, {seq, first, end, ingestion->accepted_ns}};
    return end > first;
}

// ---- time indexes ----

static int64_t ingestion_due(const struct world_ingestion *ingestion, enum due_kind kind)
{
    switch (kind) {
    case DUE_RETRY:
        break;
    case DUE_START:
        return ingestion->scheduled ? ingestion->not_before.ms : DUE_NEVER;
    case DUE_DEADLINE:
        return ingestion->deadline.ms != 0 ? ingestion->deadline.ms : DUE_NEVER;
    }
    return DUE_NEVER;
}

static bool after(const struct delayed_row *a, const struct delayed_row *b)
{
    return a->due != b->due ? a->due > b->due
                            : batch_compare(a->place.seq, a->place.index, b->place.seq, b->place.index) > 0;
}

// The first entry of an index after this one, by (due, seq, index); due is DUE_NEVER when there is none.
static struct delayed_row entry_after(const struct world_store *store, int64_t queue, enum due_kind kind,
                                      const struct delayed_row *last)
{
    struct delayed_row best = {.kind = kind, .due = DUE_NEVER};
    for (size_t i = 0; i < store->ingestion_count; i++) {
        const struct world_ingestion *ingestion = &store->ingestions[i];
        struct delayed_row entry = {.place = {ingestion->priority, (int64_t)i + 1, 0},
                                    .end = ingestion->count,
                                    .kind = kind,
                                    .due = ingestion_due(ingestion, kind)};
        if (ingestion->queue != queue || (kind == DUE_RETRY && ingestion->backoff == 0)) {
            continue;
        }
        for (uint32_t at = 0; at < (kind == DUE_RETRY ? ingestion->count : 1); at++) {
            const struct world_batch *batch = &store->batches[ingestion->first + at];
            if (kind == DUE_RETRY) {
                entry.place.index = at;
                entry.end = at + 1;
                entry.due = batch->state == BATCH_BACKOFF ? batch->due.ns : DUE_NEVER;
            }
            if (entry.due != DUE_NEVER && after(&entry, last) &&
                (best.due == DUE_NEVER || after(&best, &entry))) {
                best = entry;
            }
        }
    }
    return best;
}

static const struct delayed_row before_all = {.due = INT64_MIN};

int64_t model_next_due(const struct world_store *store, int64_t queue, enum due_kind kind)
{
    return entry_after(store, queue, kind, &before_all).due;
}

size_t model_read_delayed(const struct world_store *store, int64_t queue, enum due_kind kind,
                          struct delayed_row *rows, size_t count)
{
    size_t n = 0;
    struct delayed_row row = before_all;
    while (n < count && (row = entry_after(store, queue, kind, &row)).due != DUE_NEVER) {
        rows[n++] = row;
    }
    return n;
}

size_t model_take_due(struct world_store *store, const struct due *due, struct mono now, struct wall now_wall,
                      struct returned_row *rows, size_t count)
{
    size_t n = 0;
    int64_t at = due->kind == DUE_RETRY ? now.ns : now_wall.ms;
    struct delayed_row entry;
    while (n < count && (entry = entry_after(store, due->queue, due->kind, &before_all)).due <= at &&
           entry.due != DUE_NEVER) {
        struct world_ingestion *ingestion = model_ingestion(store, entry.place.seq);
        if (due->kind == DUE_RETRY) {
            model_change(store, &(struct batch_key){due->queue, entry.place}, BATCH_BACKOFF, BATCH_WAITING);
        } else {
            ingestion->scheduled = false;
            ingestion->ready = ingestion->count;
        }
        rows[n++] = (struct returned_row){
            ingestion->priority, {entry.place.seq, entry.place.index, entry.end, ingestion->accepted_ns}};
    }
    return n;
}

size_t model_expire(struct world_store *store, int64_t queue, struct wall now_wall, struct removal *removals,
                    size_t count)
{
    size_t n = 0;
    struct delayed_row entry;
    while (n < count && (entry = entry_after(store, queue, DUE_DEADLINE, &before_all)).due <= now_wall.ms) {
        struct world_ingestion *ingestion = model_ingestion(store, entry.place.seq);
        removals[n] =
            (struct removal){.queue = queue, .priority = ingestion->priority, .seq = entry.place.seq};
        for (uint32_t i = 0; i < ingestion->count; i++) {
            struct world_batch *batch = model_batch(store, entry.place.seq, i);
            if (batch->state == BATCH_WAITING && batch->attempts == 0) {
                drop(ingestion, batch, &removals[n]);
            }
        }
        ingestion->scheduled = false;
        ingestion->deadline.ms = 0;
        n++;
    }
    return n;
}
