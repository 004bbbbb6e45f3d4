#include "tests/sim/check.h"

#include "scheduler/rate.h"

#include <inttypes.h>
#include <string.h>

static int64_t age_now(void)
{
    return sim.now.ns + sim.loop->age_offset_ns;
}

// ---- the rate ----

// What started, as it was; a crash takes none of it back.
static struct {
    wide tat;
    uint64_t epoch;
} started[MODEL_QUEUES];

static wide burst_of(const struct model_queue *queue)
{
    return rate_burst(queue->settings.rate, queue->settings.burst);
}

// That there are at most burst + rate * T in every window of length T is the same as this: each is on time by
// a bucket that leaks (ITU-T I.371). In units of 1/count ns, nothing is rounded.
static bool on_time(wide *tat, const struct model_queue *queue, int64_t at_ns, int64_t tolerance_ns)
{
    wide count = (wide)queue->settings.rate.count;
    wide per = queue->settings.rate.per_ns;
    wide at = at_ns * count;
    bool good = at + tolerance_ns * count + count - 1 >= *tat - (burst_of(queue) - 1) * per;
    *tat = (*tat > at ? *tat : at) + per;
    return good;
}

// Since it is there a queue has its full burst.
static wide empty_at(const struct model_queue *queue, int64_t at_ns)
{
    if (at_ns == INT64_MIN) {
        return 0;
    }
    return (wide)at_ns * (wide)queue->settings.rate.count +
           burst_of(queue) * (wide)queue->settings.rate.per_ns;
}

void check_rate_changed(struct model_queue *queue)
{
    queue->changed_ns = sim.now.ns;
    queue->epoch++;
    queue->tat = empty_at(queue, sim.now.ns);
}

void check_start(int64_t id, struct mono slot)
{
    struct model_queue *queue = model_queue_by_id(id);
    size_t at = (size_t)(queue - model.queues);
    if (queue->settings.rate.count == 0 || slot.ns <= queue->changed_ns) {
        return;
    }
    if (started[at].epoch != queue->epoch) {
        started[at].epoch = queue->epoch;
        started[at].tat = empty_at(queue, queue->changed_ns);
    }
    CHECK(on_time(&started[at].tat, queue, sim.now.ns, TARGET_LATE_NS),
          "rate: a delivery of %s starts too early", queue->name);
    if (mono_diff(sim.now, slot) > TARGET_LATE_NS) {
        world_late_start();
    }
}

// ---- order ----

static bool goes_before(const struct model_queue *queue, const struct model_ingestion *a, uint32_t i,
                        const struct model_ingestion *b, uint32_t j)
{
    int one = model_counts_as(queue, a, age_now());
    int other = model_counts_as(queue, b, age_now());
    if (one != other) {
        return one < other;
    }
    return a->seq != b->seq ? a->seq < b->seq : i < j;
}

static void check_first(const struct model_queue *queue, const struct model_ingestion *own, uint32_t index)
{
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *other = &model.ingestions[i];
        if (!other->there || other->queue != queue->id) {
            continue;
        }
        CHECK(!other->scheduled || other->not_before_ms > sim_wall().ms,
              "%" PRId64 " is due and was not taken up", other->seq);
        for (uint32_t b = 0; b < other->batches; b++) {
            const struct model_batch *batch = &other->batch[b];
            CHECK(batch->state != BATCH_BACKOFF || batch->due_ns > sim.now.ns,
                  "%" PRId64 ".%u is due and was not taken up", other->seq, b);
            CHECK(!model_waits(other, batch) || !goes_before(queue, other, b, own, index),
                  "order: %" PRId64 ".%u goes before %" PRId64 ".%u", other->seq, b, own->seq, index);
            CHECK(batch->row || batch->state != BATCH_WAITING || other->deadline_ms == 0 || other->expired ||
                      other->deadline_ms > sim_wall().ms,
                  "the deadline of %" PRId64 " is over, and it was not taken up", other->seq);
        }
    }
}

static bool open_breaker(const struct model_queue *queue)
{
    return queue->settings.breaker > 0 && queue->seen.failures >= queue->settings.breaker;
}

static void check_open(const struct model_queue *queue)
{
    size_t in_flight = model_in_flight(queue->id);
    CHECK(!queue->seen.paused, "%s is paused", queue->name);
    CHECK(in_flight < queue->settings.concurrency, "concurrency: %zu are in flight on %s", in_flight,
          queue->name);
    CHECK(sim.now.ns >= queue->seen.held_until.ns, "hold: %s is held", queue->name);
    CHECK(!open_breaker(queue) || (in_flight == 0 && sim.now.ns >= queue->seen.probe_at.ns),
          "the breaker of %s is open", queue->name);
    CHECK(sim.now.ns >= queue->lingers_ns, "%s lingers", queue->name);
}

void check_dispatch(const struct dispatch_row *row)
{
    const struct place *place = &row->key.place;
    struct model_ingestion *ingestion = model_by_seq(place->seq);
    struct model_queue *queue = model_queue_by_id(row->key.queue);
    CHECK(ingestion != NULL && ingestion->queue == queue->id && place->index < ingestion->batches &&
              ingestion->priority == place->priority,
          "%" PRId64 ".%u is dispatched on %s, and is not there", place->seq, place->index, queue->name);
    CHECK(model_waits(ingestion, &ingestion->batch[place->index]), "%" PRId64 ".%u is dispatched in state %d",
          place->seq, place->index, (int)ingestion->batch[place->index].state);
    check_open(queue);
    check_first(queue, ingestion, place->index);
    CHECK(row->leased == (strcmp(queue->target, "pull:") == 0), "%s leases what it should deliver",
          queue->name);
    CHECK(!row->leased || clients_leases(queue->name) > 0, "nobody asks on %s", queue->name);

    struct model_batch *batch = &model_touch(ingestion)->batch[place->index];
    model_touch_queue(queue);
    if (queue->settings.rate.count > 0) {
        CHECK(on_time(&queue->tat, queue, sim.now.ns, 0), "rate: %s dispatches too early", queue->name);
    }
    batch->probe = open_breaker(queue);
    batch->moved = false;
    batch->target_number = queue->target_number;
    batch->doomed = false;
    batch->asked = false;
    batch->slot_ns = sim.now.ns;
    batch->leased = row->leased;
    batch->lease = row->lease;
    batch->lease_until_ns = row->leased ? row->lease_until.ns : 0;
    queue->seen.dispatched++;
    model_move(ingestion, place->index, BATCH_IN_FLIGHT);
}

void check_dispatched(const struct dispatch_row *row)
{
    char text[512];
    struct model_ingestion *ingestion = model_by_seq(row->key.place.seq);
    uint32_t index = row->key.place.index;
    struct model_batch *batch = &ingestion->batch[index];
    batch->attempts++;
    batch->row = true;
    size_t len =
        model_ids(ingestion, index * ingestion->batch_size, ingestion->batch_size, text, sizeof text);
    CHECK(row->attempt == batch->attempts && row->excused == batch->excused,
          "attempt %u (%u excused) of %" PRId64 ".%u should be %u (%u)", row->attempt, row->excused,
          ingestion->seq, index, batch->attempts, batch->excused);
    CHECK(id_equal(&row->ingestion, &ingestion->id) && row->ids != NULL && strlen(row->ids) == len &&
              memcmp(row->ids, text, len) == 0,
          "%" PRId64 ".%u is dispatched with other IDs", ingestion->seq, index);
}

// ---- sleep ----

// When the queue could dispatch if the loop were awake, as far as can be seen from outside.
static struct mono could_dispatch(const struct model_queue *queue)
{
    size_t slots = open_breaker(queue) ? 1 : queue->settings.concurrency;
    uint64_t waiting[PRIORITIES];
    if (queue->seen.paused || model_in_flight(queue->id) >= slots ||
        (strcmp(queue->target, "pull:") == 0 && clients_leases(queue->name) == 0) ||
        model_count(queue->id, false, waiting) == 0) {
        return MONO_NEVER;
    }
    struct mono opens = bucket_opens(&queue->saved.bucket, queue->settings.rate,
                                     rate_burst(queue->settings.rate, queue->settings.burst));
    opens = mono_max(opens, mono_max(queue->seen.held_until, (struct mono){queue->lingers_ns}));
    opens = open_breaker(queue) ? mono_max(opens, queue->seen.probe_at) : opens;
    // A late start may have moved it since it was saved.
    return mono_add(opens, sim.slow_commits || sim.slow_starts ? 100 * NS_PER_MS : 0);
}

// When something of it becomes due, or a lease of it runs out.
static struct mono next_due(const struct model_ingestion *ingestion)
{
    int64_t first_ms = ingestion->scheduled ? ingestion->not_before_ms : DUE_NEVER;
    bool fresh = false;
    struct mono first = MONO_NEVER;
    for (uint32_t b = 0; b < ingestion->batches; b++) {
        const struct model_batch *batch = &ingestion->batch[b];
        fresh = fresh || (batch->state == BATCH_WAITING && batch->attempts == 0);
        if (batch->state == BATCH_BACKOFF) {
            first = mono_min(first, (struct mono){batch->due_ns});
        } else if (batch->state == BATCH_IN_FLIGHT && batch->leased && !sim.lied) {
            first = mono_min(first, (struct mono){batch->lease_until_ns});
        }
    }
    if (fresh && ingestion->deadline_ms != 0 && !ingestion->expired && ingestion->deadline_ms < first_ms) {
        first_ms = ingestion->deadline_ms;
    }
    if (first_ms != DUE_NEVER) {
        first = mono_min(first, (struct mono){(first_ms - sim.wall_offset_ms) * NS_PER_MS});
    }
    return first;
}

void check_sleep(struct mono until)
{
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *ingestion = &model.ingestions[i];
        CHECK(!ingestion->there || until.ns <= mono_max(next_due(ingestion), sim.now).ns,
              "it sleeps until %" PRId64 ", and something of %" PRId64 " is due before", until.ns,
              ingestion->seq);
    }
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &model.queues[i];
        if (queue->there) {
            struct mono could = could_dispatch(queue);
            CHECK(until.ns <= mono_max(could, sim.now).ns,
                  "it sleeps until %" PRId64 ", and %s could dispatch at %" PRId64, until.ns, queue->name,
                  could.ns);
        }
    }
}
