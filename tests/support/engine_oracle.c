#include "tests/support/engine_oracle.h"

#include "scheduler/engine_state.h"
#include "scheduler/order.h"
#include "scheduler/rate.h"

#define SEED(world) ((unsigned long long)(world)->random.seed)

// ---- a dispatch ----

int oracle_counts_as(const struct world *world, int64_t queue, enum priority priority, int64_t accepted_ns)
{
    int64_t aging_ns = world->store.queues[queue - 1].settings.aging_ns;
    int64_t left_ns = world->now.ns + world->age_offset_ns - accepted_ns;
    int counts = (int)priority;
    for (; aging_ns > 0 && left_ns >= aging_ns && counts > PRIORITY_HIGH; left_ns -= aging_ns) {
        counts--;
    }
    return counts;
}

static size_t running_on(const struct world *world, int64_t queue)
{
    size_t n = 0;
    for (size_t i = 0; i < world->running_count; i++) {
        n += world->running[i].key.queue == queue;
    }
    return n;
}

// As its figures were before this turn's dispatches.
static void check_open(const struct world *world, int64_t id)
{
    const struct world_queue *queue = &world->store.queues[id - 1];
    size_t in_flight = running_on(world, id);
    ENSURE(queue->there, "seed %llu: queue %lld is gone", SEED(world), (long long)id);
    ENSURE(!queue->figures.paused, "seed %llu: %s is paused", SEED(world), queue->name);
    ENSURE(in_flight < queue->settings.concurrency, "seed %llu: %zu in flight on %s", SEED(world), in_flight,
           queue->name);
    ENSURE(!mono_before(world->now, world->held[id - 1]), "seed %llu: %s is held", SEED(world), queue->name);
    ENSURE(!queue->traits.pull || world->demand[id - 1] > 0, "seed %llu: nobody asks on %s", SEED(world),
           queue->name);
    if (queue->settings.breaker > 0 && queue->figures.failures >= queue->settings.breaker) {
        ENSURE(in_flight == 0 && !mono_before(world->now, queue->figures.probe_at),
               "seed %llu: the breaker of %s is open", SEED(world), queue->name);
    }
}

static void check_not_before(const struct world *world, const struct batch_key *key, int counts, size_t at)
{
    const struct world_ingestion *ingestion = &world->store.ingestions[at];
    int64_t seq = (int64_t)at + 1;
    bool starts = ingestion->scheduled && ingestion->not_before.ms <= world_wall(world).ms;
    ENSURE(!starts, "seed %llu: %lld is due and was not taken up", SEED(world), (long long)seq);
    int other = oracle_counts_as(world, key->queue, ingestion->priority, ingestion->accepted_ns);
    bool before = other < counts || (other == counts && seq <= key->place.seq);
    for (uint32_t i = 0; i < ingestion->count && (ingestion->ready > 0 || ingestion->backoff > 0); i++) {
        const struct world_batch *batch = &world->store.batches[ingestion->first + i];
        ENSURE(batch->state != BATCH_BACKOFF || mono_before(world->now, batch->due),
               "seed %llu: %lld.%u is due and was not taken up", SEED(world), (long long)seq, i);
        bool ready = !ingestion->scheduled && batch->state == BATCH_WAITING && !batch->taken;
        bool earlier = before && (seq != key->place.seq || i < key->place.index);
        ENSURE(!ready || !earlier, "seed %llu: %lld.%u goes before %lld.%u", SEED(world), (long long)seq, i,
               (long long)key->place.seq, key->place.index);
        ENSURE(!ready || batch->attempts > 0 || ingestion->deadline.ms == 0 ||
                   ingestion->deadline.ms > world_wall(world).ms,
               "seed %llu: the deadline of %lld is over", SEED(world), (long long)seq);
    }
}

void oracle_dispatch(struct world *world, const struct batch_key *key)
{
    const struct world_ingestion *own = model_ingestion(&world->store, key->place.seq);
    int counts = oracle_counts_as(world, key->queue, own->priority, own->accepted_ns);
    check_open(world, key->queue);
    for (size_t i = 0; i < world->store.ingestion_count; i++) {
        if (world->store.ingestions[i].queue == key->queue) {
            check_not_before(world, key, counts, i);
        }
    }
}

// ---- memory ----

// The next waiting batch of a priority strictly after this one.
static bool waiting_after(const struct world_store *store, int64_t queue, enum priority priority,
                          int64_t *seq, uint32_t *index)
{
    uint32_t i = *seq < 1 ? 0 : *index + 1;
    for (int64_t s = *seq < 1 ? 1 : *seq; s <= (int64_t)store->ingestion_count; s++, i = 0) {
        const struct world_ingestion *ingestion = &store->ingestions[s - 1];
        if (ingestion->queue != queue || ingestion->priority != priority || ingestion->ready == 0) {
            continue;
        }
        for (; i < ingestion->count; i++) {
            if (model_waits(store, s, i)) {
                *seq = s;
                *index = i;
                return true;
            }
        }
    }
    return false;
}

// The window holds every waiting batch up to its horizon, in order, and nothing else.
static void check_window(const struct world *world, const struct queue *queue, enum priority priority)
{
    const struct window *window = &queue->windows[priority];
    int64_t seq = -1;
    uint32_t index = 0;
    for (size_t i = 0; i < window->len; i++) {
        const struct run *run = &window->runs[window->head + i];
        ENSURE(run->first < run->end, "seed %llu: an empty run", SEED(world));
        for (uint32_t at = run->first; at < run->end; at++) {
            ENSURE(waiting_after(&world->store, queue->id, priority, &seq, &index) && seq == run->seq &&
                       index == at,
                   "seed %llu: holds %lld.%u, not %lld.%u", SEED(world), (long long)run->seq, at,
                   (long long)seq, index);
        }
        ENSURE(run->accepted_ns == world->store.ingestions[run->seq - 1].accepted_ns,
               "seed %llu: when %lld was accepted", SEED(world), (long long)run->seq);
    }
    bool more = waiting_after(&world->store, queue->id, priority, &seq, &index);
    bool beyond = seq > window->horizon_seq || (seq == window->horizon_seq && index > window->horizon_index);
    ENSURE(!more || (!window->complete && beyond), "seed %llu: lacks %lld.%u", SEED(world), (long long)seq,
           index);
}

static void check_queue(const struct world *world, const struct world_queue *known, const struct queue *queue)
{
    uint64_t waiting[PRIORITIES];
    model_count_waiting(&world->store, queue->id, waiting);
    for (int p = 0; p < PRIORITIES; p++) {
        ENSURE(queue->waiting[p] == waiting[p], "seed %llu: %s: %llu wait, not %llu", SEED(world),
               queue->name, (unsigned long long)waiting[p], (unsigned long long)queue->waiting[p]);
        check_window(world, queue, (enum priority)p);
    }
    uint64_t delayed = model_count_delayed(&world->store, queue->id);
    ENSURE(queue->figures.delayed == delayed && known->figures.delayed == delayed,
           "seed %llu: %s: %llu are not due, not %llu", SEED(world), queue->name, (unsigned long long)delayed,
           (unsigned long long)queue->figures.delayed);
    ENSURE(queue->in_flight == running_on(world, queue->id), "seed %llu: %s: %zu in flight", SEED(world),
           queue->name, queue->in_flight);
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        ENSURE(queue->due_at[kind] <= model_next_due(&world->store, queue->id, (enum due_kind)kind),
               "seed %llu: %s: the earliest of kind %d was lost", SEED(world), queue->name, kind);
    }
}

void oracle_memory(struct world *world)
{
    size_t bytes = 0;
    size_t there = 0;
    uint64_t all = 0;
    for (size_t i = 0; i < world->store.queue_count; i++) {
        const struct world_queue *known = &world->store.queues[i];
        const struct queue *queue = engine_queue(world->engine, (int64_t)i + 1);
        ENSURE((queue != NULL) == known->there, "seed %llu: queue %s", SEED(world), known->name);
        if (queue == NULL) {
            continue;
        }
        ENSURE(engine_queue_named(world->engine, known->name) == queue, "seed %llu: the name %s", SEED(world),
               known->name);
        check_queue(world, known, queue);
        for (int p = 0; p < PRIORITIES; p++) {
            const struct window *window = &queue->windows[p];
            bytes += window->cap * sizeof(struct run);
            ENSURE(window->cap <= world->engine->window_max || window->cap <= WINDOW_MIN,
                   "seed %llu: a window of %zu", SEED(world), window->cap);
        }
        all += queue_waiting(queue) + queue->figures.delayed;
        there++;
    }
    ENSURE(bytes <= WINDOWS_BUDGET, "seed %llu: windows of %zu bytes", SEED(world), bytes);
    ENSURE(world->engine->count == there, "seed %llu: %zu queues", SEED(world), world->engine->count);
    ENSURE(world->engine->waiting == all && world->engine->reserved == 0, "seed %llu: %llu wait in all",
           SEED(world), (unsigned long long)world->engine->waiting);
}

// ---- the rate ----

static int compare_moments(const void *a, const void *b)
{
    int64_t p = *(const int64_t *)a;
    int64_t q = *(const int64_t *)b;
    return (p > q) - (p < q);
}

// While one rate holds; `empty`: from a moment at which the bucket had no token.
static void check_segment(const struct world *world, const struct world_change *change, bool empty,
                          const int64_t *at, size_t n)
{
    int64_t per = change->rate.per_ns;
    int64_t count = (int64_t)change->rate.count;
    // (j - i + 1 - burst) * per <= (at[j] - at[i]) * count for all i < j, with each side's own terms put
    // together; a moment is a whole nanosecond.
    int64_t allowed = ((int64_t)change->burst - 1) * per + count - 1;
    int64_t ahead = INT64_MIN / 2;
    for (size_t i = 0; i < n && per > 0; i++) {
        int64_t gained = (at[i] - change->at.ns) * count - (int64_t)i * per;
        ENSURE(gained + allowed >= ahead, "seed %llu: start %zu at %lld on queue %lld is too early",
               SEED(world), i, (long long)at[i], (long long)change->queue);
        ENSURE(!empty || gained >= per,
               "seed %llu: start %zu after the rate of queue %lld changed is too early", SEED(world), i,
               (long long)change->queue);
        ahead = gained > ahead ? gained : ahead;
    }
}

void oracle_rate(const struct world *world, int64_t queue)
{
    static int64_t at[WORLD_LOG];
    size_t seen = 0;
    for (size_t c = 0; c < world->change_count; c++) {
        if (world->changes[c].queue != queue) {
            continue;
        }
        size_t next = c + 1;
        while (next < world->change_count && world->changes[next].queue != queue) {
            next++;
        }
        size_t end = next < world->change_count ? world->changes[next].log_count : world->log_count;
        size_t n = 0;
        for (size_t i = world->changes[c].log_count; i < end; i++) {
            if (world->log[i].key.queue == queue) {
                at[n++] = world->log[i].at.ns;
            }
        }
        qsort(at, n, sizeof at[0], compare_moments);
        check_segment(world, &world->changes[c], seen++ > 0, at, n);
    }
}
