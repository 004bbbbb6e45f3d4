#include "scheduler/standing.h"

#include "scheduler/order.h"

#define DELAYED_MAX (2 * STANDING_DELAYED_MAX)

struct question {
    struct store *store;
    const struct engine *engine;
    struct mono now;
    struct wall now_wall;
    struct queue_view queue;
    enum priority priority;
    int64_t accepted_ns;
    uint64_t before_own;  // of the same priority
    int64_t looked_up_ns; // the last moment the store was asked for, and what it said
    int64_t looked_up_seq;
};

// ---- what goes before a place ----

static enum err seq_accepted_by(struct question *q, int64_t ns, int64_t *seq)
{
    enum err err = ERR_OK;
    if (ns == INT64_MIN) {
        *seq = 0;
        return ERR_OK;
    }
    if (ns == INT64_MAX) {
        *seq = INT64_MAX - 1;
        return ERR_OK;
    }
    if (ns != q->looked_up_ns) {
        err = store_seq_accepted_by(q->store, ns, &q->looked_up_seq);
        q->looked_up_ns = err == ERR_OK ? ns : INT64_MIN;
    }
    *seq = q->looked_up_seq;
    return err;
}

// The seq below which everything of a priority goes before one that has own_seq.
static enum err bound_seq(struct question *q, const struct order_bound *bound, int64_t own_seq, int64_t *seq)
{
    int64_t tied;
    int64_t before;
    enum err err = seq_accepted_by(q, bound->tied_ns, &tied);
    if (err == ERR_OK) {
        err = seq_accepted_by(q, bound->before_ns, &before);
    }
    if (err == ERR_OK) {
        tied = tied + 1 < own_seq ? tied + 1 : own_seq;
        *seq = before + 1 > tied ? before + 1 : tied;
    }
    return err;
}

static enum err count_below(struct question *q, int64_t queue, enum priority priority, int64_t bound,
                            uint64_t *count)
{
    *count = 0;
    if (bound == INT64_MAX) {
        *count = q->queue.waiting[priority];
    } else if (bound > 1 && q->queue.waiting[priority] > 0) {
        const struct place place = {priority, bound, 0};
        return store_count_before(q->store, queue, &place, count);
    }
    return ERR_OK;
}

static enum err count_ahead(struct question *q, struct standing *standing)
{
    struct order_bound bounds[PRIORITIES];
    order_bounds(q->priority, q->accepted_ns, engine_age(q->engine, q->now), q->queue.settings->aging_ns,
                 bounds);
    for (int p = 0; p < PRIORITIES; p++) {
        if (q->queue.waiting[p] == 0 && q->queue.figures->delayed == 0) {
            continue;
        }
        uint64_t count;
        enum err err = bound_seq(q, &bounds[p], standing->seq, &standing->bounds[p]);
        if (err == ERR_OK) {
            err = count_below(q, standing->queue, (enum priority)p, standing->bounds[p], &count);
        }
        if (err != ERR_OK) {
            return err;
        }
        standing->ahead += count;
        if (p == (int)q->priority) {
            q->before_own = count;
        }
    }
    return ERR_OK;
}

// ---- the outlook ----

static enum err read_delayed(struct question *q, int64_t queue, struct delayed_row rows[DELAYED_MAX],
                             size_t *count)
{
    static const enum due_kind kinds[] = {DUE_RETRY, DUE_START};
    *count = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && q->queue.figures->delayed > 0; i++) {
        size_t more = STANDING_DELAYED_MAX;
        enum err err = store_read_delayed(q->store, queue, kinds[i], rows + *count, &more);
        if (err != ERR_OK) {
            return err;
        }
        *count += more;
    }
    return ERR_OK;
}

static enum err ask(struct question *q, struct standing standing, struct outlook *outlook)
{
    struct delayed_row rows[DELAYED_MAX];
    enum err err = read_delayed(q, standing.queue, rows, &standing.delayed_count);
    if (err == ERR_OK) {
        standing.delayed = rows;
        *outlook = engine_outlook(q->engine, &standing, q->now, q->now_wall);
    }
    return err;
}

// How many of its own wait, when some of it was dispatched before.
static enum err count_own(struct question *q, const struct ingestion_row *row, struct standing *standing)
{
    bool any;
    struct place last = {row->priority, row->seq, 0};
    uint32_t first;
    uint64_t before_last;
    enum err err = store_read_span(q->store, row, &any, &first, &last.index);
    if (err != ERR_OK || !any) {
        return err;
    }
    if (first == last.index) {
        standing->waiting = 1;
        return ERR_OK;
    }
    err = store_count_before(q->store, row->queue, &last, &before_last);
    if (err == ERR_OK) {
        standing->waiting = before_last - q->before_own + 1;
    }
    return err;
}

enum err standing_outlook(struct store *store, const struct engine *engine, const struct ingestion_row *row,
                          struct mono now, struct wall now_wall, struct outlook *outlook)
{
    *outlook = (struct outlook){.has_position = false};
    struct question q = {.store = store,
                         .engine = engine,
                         .now = now,
                         .now_wall = now_wall,
                         .priority = row->priority,
                         .accepted_ns = row->accepted_ns,
                         .looked_up_ns = INT64_MIN};
    struct standing standing = {.queue = row->queue,
                                .seq = row->seq,
                                .scheduled = row->scheduled,
                                .not_before = row->not_before,
                                .batches = row->batches,
                                .underway = row->progress[STATUS_TRIGGERED] > 0};
    bool open = row->progress[STATUS_YET_TO_START] > 0 || standing.underway;
    if (!open || engine_view_by_id(engine, row->queue, now, &q.queue) != ERR_OK) {
        return ERR_OK; // done, and its queue may be gone
    }
    enum err err = count_ahead(&q, &standing);
    if (err == ERR_OK && standing.underway) {
        err = count_own(&q, row, &standing);
    } else if (!standing.scheduled) {
        standing.waiting = row->progress[STATUS_YET_TO_START];
    }
    return err == ERR_OK ? ask(&q, standing, outlook) : err;
}

enum err standing_prospect(struct store *store, const struct engine *engine,
                           const struct admission *admission, struct mono now, struct wall now_wall,
                           struct outlook *outlook)
{
    *outlook = (struct outlook){.has_position = false};
    struct question q = {.store = store,
                         .engine = engine,
                         .now = now,
                         .now_wall = now_wall,
                         .priority = admission->priority,
                         .accepted_ns = admission->accepted_ns,
                         .looked_up_ns = INT64_MIN};
    struct standing standing = {.queue = admission->queue,
                                .seq = INT64_MAX,
                                .scheduled = admission->not_before.ms != 0,
                                .not_before = admission->not_before,
                                .batches = admission->batches};
    if (!standing.scheduled) {
        standing.waiting = admission->batches;
    }
    enum err err = engine_view_by_id(engine, admission->queue, now, &q.queue);
    if (err == ERR_OK) {
        err = count_ahead(&q, &standing);
    }
    return err == ERR_OK ? ask(&q, standing, outlook) : err;
}
