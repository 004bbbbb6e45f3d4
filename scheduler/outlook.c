// The questions that can be asked of the engine: where something stands, when it will be done, how the queues
// are.
#include "scheduler/engine_state.h"
#include "scheduler/estimate.h"

#include <assert.h>
#include <string.h>

// ---- the future of a queue, as one ingestion sees it ----

// What waits is dispatched in this order: what is ahead of the ingestion, its own batches, what is behind it.
// As long as not all of the first two is dispatched, nothing is moved from them to `gone`: how many of them
// are is not needed, and would have to be searched for.
struct course {
    struct estimate estimate;
    uint64_t ahead;
    uint64_t own;
    uint64_t behind;
    uint64_t to_come;      // of its own, not due yet
    uint64_t gone;         // dispatched since the estimate goes on without a break
    uint64_t gone_earlier; // before that
    bool met;              // its next one is dispatched
    uint64_t position;     // met: after so many
    struct mono last;      // when the last of its own that are gone starts
};

static struct mono start_after(const struct course *c, uint64_t more)
{
    return estimate_start(&c->estimate, c->gone + more + 1);
}

static void meet(struct course *c)
{
    if (!c->met && c->own > 0) {
        c->met = true;
        c->position = c->gone_earlier + c->gone + c->ahead;
    }
}

static void pass(struct course *c)
{
    c->gone += c->ahead + c->own;
    if (c->own > 0) {
        c->last = estimate_start(&c->estimate, c->gone);
    }
    c->ahead = 0;
    c->own = 0;
}

// Dispatches what goes before this moment.
static void advance(struct course *c, struct mono until)
{
    if (!mono_before(start_after(c, c->ahead), until)) {
        return;
    }
    meet(c);
    if (c->own > 0 && !mono_before(start_after(c, c->ahead + c->own - 1), until)) {
        return;
    }
    pass(c);
    if (c->to_come == 0) {
        return;
    }
    uint64_t gone = estimate_count(&c->estimate, until, c->gone, c->gone + c->behind);
    c->behind -= gone - c->gone;
    c->gone = gone;
    if (c->behind == 0 && mono_before(start_after(c, 0), until)) {
        estimate_resume(&c->estimate, c->gone, until);
        c->gone_earlier += c->gone;
        c->gone = 0;
    }
}

// ---- what becomes due ----

enum side { SIDE_AHEAD, SIDE_OWN, SIDE_BEHIND };

struct arrival {
    struct mono due;
    enum side side;
    uint64_t count;
};

// The delayed rows of both kinds and the ingestion itself, to be read as one list by their dues.
struct arrivals {
    const struct standing *standing;
    struct mono now;
    struct wall now_wall;
    const struct delayed_row *retry, *retry_end;
    const struct delayed_row *start, *start_end;
    struct arrival itself; // count 0: it does not arrive, or did
};

static struct mono due_at(const struct arrivals *a, int64_t wall_ms)
{
    int64_t ms = wall_ms - a->now_wall.ms;
    if (ms <= 0) {
        return a->now;
    }
    int64_t ns;
    return __builtin_mul_overflow(ms, NS_PER_MS, &ns) ? MONO_NEVER : mono_add(a->now, ns);
}

static bool is_itself(const struct arrivals *a, const struct delayed_row *row)
{
    return a->standing->scheduled && row->place.seq == a->standing->seq;
}

static struct arrival arrival_of(const struct arrivals *a, const struct delayed_row *row, struct mono due)
{
    enum side side = row->place.seq < a->standing->bounds[row->place.priority] ? SIDE_AHEAD : SIDE_BEHIND;
    if (row->place.seq == a->standing->seq) {
        side = SIDE_OWN;
    }
    return (struct arrival){due, side, row->end - row->place.index};
}

static bool next_arrival(struct arrivals *a, struct arrival *next)
{
    while (a->start < a->start_end && is_itself(a, a->start)) {
        a->start++;
    }
    *next = a->itself;
    const struct delayed_row **from = NULL;
    if (a->retry < a->retry_end) {
        struct arrival retry = arrival_of(a, a->retry, (struct mono){a->retry->due});
        if (next->count == 0 || mono_before(retry.due, next->due)) {
            *next = retry;
            from = &a->retry;
        }
    }
    if (a->start < a->start_end) {
        struct arrival start = arrival_of(a, a->start, due_at(a, a->start->due));
        if (next->count == 0 || mono_before(start.due, next->due)) {
            *next = start;
            from = &a->start;
        }
    }
    if (from != NULL) {
        (*from)++;
    } else {
        a->itself.count = 0;
    }
    return next->count > 0;
}

static struct arrivals arrivals_of(const struct standing *standing, struct mono now, struct wall now_wall)
{
    struct arrivals a = {.standing = standing, .now = now, .now_wall = now_wall};
    const struct delayed_row *row = standing->delayed;
    const struct delayed_row *end = row + standing->delayed_count;
    a.retry = row;
    while (row < end && row->kind == DUE_RETRY) {
        row++;
    }
    a.retry_end = row;
    a.start = row;
    a.start_end = end;
    if (standing->scheduled) {
        a.itself = (struct arrival){due_at(&a, standing->not_before.ms), SIDE_OWN, standing->batches};
    }
    return a;
}

static uint64_t own_to_come(const struct arrivals *a)
{
    uint64_t count = a->itself.count;
    for (const struct delayed_row *row = a->retry; row < a->start_end; row++) {
        if (row->place.seq == a->standing->seq && !is_itself(a, row)) {
            count += row->end - row->place.index;
        }
    }
    return count;
}

// Lets everything happen until the last of its own is dispatched.
static void run(struct course *c, struct arrivals *arrivals)
{
    struct arrival next;
    while (c->own + c->to_come > 0 && next_arrival(arrivals, &next)) {
        if (c->to_come == 0 && next.side == SIDE_BEHIND) {
            continue;
        }
        advance(c, next.due);
        switch (next.side) {
        case SIDE_AHEAD:
            c->ahead += next.count;
            break;
        case SIDE_OWN:
            c->own += next.count;
            c->to_come -= next.count;
            break;
        case SIDE_BEHIND:
            c->behind += next.count;
            break;
        }
    }
    meet(c);
    pass(c);
}

// ---- where an ingestion stands ----

// When each of the last deliveries in flight should end. Returns how many there are.
static size_t flights_end(const struct queue *queue, struct mono now, struct mono ends[ESTIMATE_LANES])
{
    int64_t delivery_ns = queue_delivery_ns(queue);
    size_t count = 0;
    for (const struct flight *f = queue->flights_tail; f != NULL && count < ESTIMATE_LANES; f = f->prev) {
        count++;
    }
    const struct flight *flight = queue->flights_tail;
    for (size_t i = count; i > 0; i--) {
        ends[i - 1] = mono_max(now, mono_add(flight->started, delivery_ns));
        flight = flight->prev;
    }
    return count;
}

static struct estimate future(const struct queue *queue, struct mono now, struct mono ends[ESTIMATE_LANES])
{
    uint32_t concurrency = queue->settings.concurrency;
    struct estimate estimate = {
        .bucket = queue->figures.bucket,
        .rate = queue->settings.rate,
        .burst = queue_burst(queue),
        .concurrency = concurrency < ESTIMATE_LANES ? concurrency : ESTIMATE_LANES,
        .delivery_ns = queue_delivery_ns(queue),
        .from = mono_max(now, mono_max(queue->figures.held_until, queue->linger_until)),
        .ends = ends,
        .in_flight = flights_end(queue, now, ends),
    };
    if (queue_breaker_open(queue)) {
        estimate.probing = queue->in_flight == 0;
        assert(estimate.probing || estimate.in_flight > 0); // then ends has its first
        struct mono closes = estimate.probing ? queue->figures.probe_at : ends[0];
        estimate.from = mono_max(estimate.from, closes);
    }
    estimate_begin(&estimate);
    return estimate;
}

// When what it has in flight should be done; `now` when it has nothing there.
static struct mono flights_done(const struct queue *queue, const struct standing *standing, struct mono now)
{
    struct mono done = now;
    for (const struct flight *f = queue->flights_head; standing->underway && f != NULL; f = f->next) {
        if (f->place.seq == standing->seq) {
            done = mono_max(done, mono_add(f->started, queue_delivery_ns(queue)));
        }
    }
    return done;
}

static bool in_flight(const struct queue *queue, int64_t seq)
{
    const struct flight *flight = queue->flights_head;
    while (flight != NULL && flight->place.seq != seq) {
        flight = flight->next;
    }
    return flight != NULL;
}

// What it has in backoff may be due after all that is listed.
static void add_unlisted(const struct queue *queue, struct arrivals *arrivals)
{
    const struct standing *standing = arrivals->standing;
    size_t listed = (size_t)(arrivals->retry_end - arrivals->retry);
    if (standing->underway && standing->waiting == 0 && listed >= STANDING_DELAYED_MAX &&
        own_to_come(arrivals) == 0 && !in_flight(queue, standing->seq)) {
        arrivals->itself = (struct arrival){{arrivals->retry_end[-1].due}, SIDE_OWN, 1};
    }
}

struct outlook engine_outlook(const struct engine *engine, const struct standing *standing, struct mono now,
                              struct wall now_wall)
{
    struct outlook outlook = {.has_position = false};
    const struct queue *queue = engine_queue(engine, standing->queue);
    if (queue == NULL || (standing->waiting == 0 && !standing->scheduled && !standing->underway)) {
        return outlook;
    }
    outlook.has_eta = !queue->figures.paused;
    outlook.eta = flights_done(queue, standing, now);
    struct arrivals arrivals = arrivals_of(standing, now, now_wall);
    add_unlisted(queue, &arrivals);
    uint64_t to_come = own_to_come(&arrivals);
    if (standing->waiting + to_come > 0) {
        struct mono ends[ESTIMATE_LANES];
        uint64_t waiting = queue_waiting(queue);
        uint64_t counted = standing->ahead + standing->waiting;
        struct course course = {
            .estimate = future(queue, now, ends),
            .ahead = standing->ahead,
            .own = standing->waiting,
            .behind = waiting > counted ? waiting - counted : 0,
            .to_come = to_come,
        };
        run(&course, &arrivals);
        outlook.has_position = standing->waiting > 0 || standing->scheduled;
        outlook.position = course.position;
        outlook.eta = mono_max(outlook.eta, mono_add(course.last, course.estimate.delivery_ns));
    }
    return outlook;
}

// ---- how the queues are ----

size_t engine_queues(const struct engine *engine)
{
    return engine->count;
}

// Of each priority the first is the oldest, as far as memory looks ahead.
static int64_t oldest(const struct queue *queue)
{
    int64_t oldest_ns = INT64_MAX;
    for (int p = 0; p < PRIORITIES; p++) {
        struct run run;
        if (window_first(&queue->windows[p], &run) && run.accepted_ns < oldest_ns) {
            oldest_ns = run.accepted_ns;
        }
    }
    return oldest_ns;
}

static struct queue_view view(const struct queue *queue, struct mono now)
{
    const struct queue_figures *figures = &queue->figures;
    struct queue_view view = {
        .id = queue->id,
        .name = queue->name,
        .settings = &queue->settings,
        .figures = figures,
        .in_flight = queue->in_flight,
        .oldest_ns = oldest(queue),
        .rate = meter_rate(&queue->meter, now),
    };
    memcpy(view.waiting, queue->waiting, sizeof view.waiting);
    if (mono_before(now, figures->held_until)) {
        view.paused_until = figures->held_until;
        view.paused_reason = figures->held_by == HOLD_RATE_LIMIT ? "rate_limit" : "retry_after";
    }
    if (queue_breaker_open(queue) && !mono_before(figures->probe_at, view.paused_until)) {
        view.paused_until = mono_max(figures->probe_at, now);
        view.paused_reason = "breaker";
    }
    if (figures->paused) {
        view.paused_until = MONO_NEVER;
        view.paused_reason = "paused";
    }
    return view;
}

struct queue_view engine_view(const struct engine *engine, size_t at, struct mono now)
{
    return view(engine->by_name[at], now);
}

enum err engine_view_by_id(const struct engine *engine, int64_t id, struct mono now, struct queue_view *found)
{
    const struct queue *queue = engine_queue(engine, id);
    if (queue == NULL) {
        return ERR_UNKNOWN_QUEUE;
    }
    *found = view(queue, now);
    return ERR_OK;
}

size_t engine_after_name(const struct engine *engine, const char *name)
{
    size_t at = engine_name_at(engine, name);
    return at < engine->count && strcmp(engine->by_name[at]->name, name) == 0 ? at + 1 : at;
}

enum err engine_find_queue(const struct engine *engine, const char *name, int64_t *id)
{
    const struct queue *queue = engine_queue_named(engine, name);
    if (queue == NULL) {
        return ERR_UNKNOWN_QUEUE;
    }
    *id = queue->id;
    return ERR_OK;
}
