#include "tests/support/outlook_scene.h"

#include "scheduler/order.h"
#include "scheduler/rate.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PAST 20

#define ROUNDING_NS 64 // where an interval has a fraction, a nanosecond is rounded up now and then

static int64_t delivery_ns(const struct scene *scene)
{
    return scene->load.figures.delivery_ns;
}

void scene_init(struct scene *scene, struct rate rate, uint32_t burst, uint32_t concurrency, int64_t took_ns)
{
    *scene = (struct scene){
        .now = {1000 * NS_PER_S},
        .now_wall = {INT64_C(1790000000000)},
        .load = {.id = SCENE_QUEUE,
                 .name = "default",
                 .settings = {.rate = rate,
                              .burst = burst,
                              .concurrency = concurrency,
                              .batch_size = 1,
                              .max_attempts = 5,
                              .max_id = 1,
                              .min_backoff_ns = 1,
                              .max_backoff_ns = 1,
                              .breaker = 10},
                 .figures = {.delivery_ns = took_ns, .bucket = {{999 * NS_PER_S}, 0}},
                 .due = {DUE_NEVER, DUE_NEVER, DUE_NEVER}},
    };
}

int64_t scene_ingest(struct scene *scene, enum priority priority, uint32_t batches, int64_t accepted_ns)
{
    struct scene_ingestion *ingestion = &scene->ingestions[scene->ingestion_count++];
    *ingestion = (struct scene_ingestion){
        .priority = priority, .accepted_ns = accepted_ns, .first = scene->batch_count, .count = batches};
    for (uint32_t i = 0; i < batches; i++) {
        ENSURE(scene->batch_count < SCENE_BATCHES, "no room");
        scene->batches[scene->batch_count++] =
            (struct scene_batch){.place = {priority, (int64_t)scene->ingestion_count, i}};
    }
    return (int64_t)scene->ingestion_count;
}

struct scene_batch *scene_batch_at(struct scene *scene, int64_t seq, uint32_t index)
{
    return &scene->batches[scene->ingestions[seq - 1].first + index];
}

void scene_put_off(struct scene *scene, int64_t seq, uint32_t index, int64_t by_ns)
{
    struct scene_batch *batch = scene_batch_at(scene, seq, index);
    batch->where = DELAYED;
    batch->due = mono_add(scene->now, by_ns);
}

void scene_schedule(struct scene *scene, int64_t seq, int64_t by_ms)
{
    struct scene_ingestion *ingestion = &scene->ingestions[seq - 1];
    ingestion->scheduled = true;
    ingestion->not_before = (struct wall){scene->now_wall.ms + by_ms};
    for (uint32_t i = 0; i < ingestion->count; i++) {
        scene_put_off(scene, seq, i, by_ms * NS_PER_MS);
    }
}

void scene_fly(struct scene *scene, int64_t seq, uint32_t index, int64_t for_ns)
{
    struct scene_batch *batch = scene_batch_at(scene, seq, index);
    batch->where = FLIES;
    batch->start = mono_add(scene->now, -for_ns);
    scene->ends[scene->started++] = mono_add(batch->start, delivery_ns(scene));
}

// ---- anything ----

// Dispatches of the past, by the rate. What of them is still on its way belongs to some ingestion.
static void random_past(struct scene *scene, struct random *random, struct mono began[PAST], size_t *count)
{
    const struct queue_settings *settings = &scene->load.settings;
    struct bucket *bucket = &scene->load.figures.bucket;
    uint64_t interval = 1 + (uint64_t)rate_interval(settings->rate);
    struct mono at = bucket->tat;
    struct mono ends[PAST];
    size_t n = 0;
    for (uint64_t left = random_below(random, COUNT(ends)); left > 0; left--) {
        at = mono_max(mono_add(at, (int64_t)random_below(random, 2 * interval)),
                      bucket_opens(bucket, settings->rate, settings->burst));
        at = n >= settings->concurrency ? mono_max(at, ends[n - settings->concurrency]) : at;
        (void)bucket_take(bucket, settings->rate, at);
        began[n] = at;
        ends[n++] = mono_add(at, delivery_ns(scene));
    }
    scene->now.ns = (at.ns / NS_PER_MS + (int64_t)random_below(random, 1 + interval / NS_PER_MS)) * NS_PER_MS;
    scene->now = mono_max(scene->now, mono_add(at, 0));
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        if (mono_before(scene->now, ends[i])) {
            began[(*count)++] = began[i];
        }
    }
}

static int64_t random_span(struct random *random, int64_t unit_ns)
{
    uint64_t unit_ms = (uint64_t)(unit_ns / NS_PER_MS);
    return NS_PER_MS * (int64_t)random_below(random, 1 + unit_ms * (1 + random_below(random, 40)));
}

static void random_batches(struct scene *scene, struct random *random, uint32_t delayed_share,
                           int64_t unit_ns)
{
    size_t ingestions = 1 + random_below(random, 12);
    int64_t accepted_ns = scene->now.ns - 20 * unit_ns;
    for (size_t i = 0; i < ingestions; i++) {
        accepted_ns += (int64_t)random_below(random, 2) * random_span(random, unit_ns) / 20;
        accepted_ns = accepted_ns < scene->now.ns ? accepted_ns : scene->now.ns;
        uint32_t batches = (uint32_t)(1 + random_below(random, random_below(random, 4) == 0 ? 40 : 5));
        int64_t seq =
            scene_ingest(scene, (enum priority)random_below(random, PRIORITIES), batches, accepted_ns);
        if (random_below(random, 100) < delayed_share / 2) {
            scene_schedule(scene, seq, 1 + random_span(random, unit_ns) / NS_PER_MS);
            continue;
        }
        for (uint32_t index = 0; index < batches; index++) {
            if (random_below(random, 100) < delayed_share) {
                scene_put_off(scene, seq, index, random_span(random, unit_ns));
            } else if (random_below(random, 8) == 0) {
                scene_batch_at(scene, seq, index)->where = DONE;
            }
        }
    }
}

void scene_random(struct scene *scene, struct random *random)
{
    static const struct rate rates[] = {{1, 5 * NS_PER_S}, {1, NS_PER_S},    {3, NS_PER_S},
                                        {20, NS_PER_S},    {1000, NS_PER_S}, {0, 0}};
    struct rate rate = rates[random_below(random, COUNT(rates))];
    int64_t unit_ns = rate.count > 0 && rate.count < 50 ? rate_interval(rate) : 100 * NS_PER_MS;
    int64_t took_ns = NS_PER_MS + random_span(random, unit_ns) / 8;
    uint32_t burst = random_below(random, 2) == 0 ? 1 : (uint32_t)(1 + random_below(random, 6));
    scene_init(scene, rate, burst, (uint32_t)(1 + random_below(random, 6)), took_ns);
    struct mono began[PAST];
    size_t flying;
    random_past(scene, random, began, &flying);
    struct queue_figures *figures = &scene->load.figures;
    if (random_below(random, 3) == 0) {
        figures->held_until = mono_add(scene->now, random_span(random, unit_ns));
    }
    if (random_below(random, 5) == 0) {
        figures->failures = scene->load.settings.breaker + (uint32_t)random_below(random, 3);
        figures->probe_at = mono_add(scene->now, random_span(random, unit_ns));
    }
    if (random_below(random, 3) == 0) {
        scene->load.settings.aging_ns = 1 + random_span(random, unit_ns);
    }
    static const uint32_t shares[] = {0, 10, 50, 90};
    random_batches(scene, random, shares[random_below(random, COUNT(shares))], unit_ns);
    for (size_t i = 0; i < flying; i++) {
        struct scene_ingestion *own = &scene->ingestions[random_below(random, scene->ingestion_count)];
        int64_t seq = 1 + (own - scene->ingestions);
        uint32_t index = (uint32_t)random_below(random, own->count);
        if (own->scheduled || scene_batch_at(scene, seq, index)->where == FLIES) {
            // one that nobody asks about
            seq = scene_ingest(scene, PRIORITY_HIGH, 1, scene->now.ns);
            index = 0;
        }
        scene_fly(scene, seq, index, mono_diff(scene->now, began[i]));
    }
}

// ---- its future ----

// By the order as it stands now.
static bool goes_before(const struct scene *scene, const struct scene_batch *a, const struct scene_batch *b)
{
    const struct scene_ingestion *of_a = &scene->ingestions[a->place.seq - 1];
    const struct scene_ingestion *of_b = &scene->ingestions[b->place.seq - 1];
    int64_t aging_ns = scene->load.settings.aging_ns;
    struct place place_a = a->place;
    struct place place_b = b->place;
    place_a.priority = order_priority(of_a->priority, of_a->accepted_ns, scene->now.ns, aging_ns);
    place_b.priority = order_priority(of_b->priority, of_b->accepted_ns, scene->now.ns, aging_ns);
    return place_compare(&place_a, &place_b) < 0;
}

// The first in order of what waits at that moment, and the next moment at which something becomes due.
static struct scene_batch *first_waiting(struct scene *scene, struct mono at, struct mono *next_due)
{
    struct scene_batch *first = NULL;
    *next_due = MONO_NEVER;
    for (size_t i = 0; i < scene->batch_count; i++) {
        struct scene_batch *batch = &scene->batches[i];
        if (batch->where == DELAYED && mono_before(at, batch->due)) {
            *next_due = mono_min(*next_due, batch->due);
        } else if (batch->where == DELAYED || batch->where == WAITS) {
            first = first == NULL || goes_before(scene, batch, first) ? batch : first;
        }
    }
    return first;
}

static bool breaker_open(const struct scene *scene)
{
    return scene->load.figures.failures >= scene->load.settings.breaker;
}

// The next slot, not before `from`.
static struct mono next_slot(const struct scene *scene, const struct bucket *bucket, bool probe,
                             struct mono from)
{
    const struct queue_settings *settings = &scene->load.settings;
    struct mono slot = mono_max(from, bucket_opens(bucket, settings->rate, settings->burst));
    size_t lanes = probe ? 1 : settings->concurrency;
    return scene->started >= lanes ? mono_max(slot, scene->ends[scene->started - lanes]) : slot;
}

static void play(struct scene *scene)
{
    struct bucket bucket = scene->load.figures.bucket;
    struct mono from = mono_max(scene->now, scene->load.figures.held_until);
    struct mono next_due;
    bool probe = false;
    if (breaker_open(scene) && scene->started == 0) {
        from = mono_max(from, scene->load.figures.probe_at);
        probe = true;
    } else if (breaker_open(scene)) {
        from = mono_max(from, scene->ends[0]);
    }
    struct mono at = from;
    for (;;) {
        struct mono slot = next_slot(scene, &bucket, probe && scene->dispatched == 1, at);
        struct scene_batch *batch = first_waiting(scene, slot, &next_due);
        if (batch == NULL && next_due.ns == INT64_MAX) {
            return;
        }
        at = batch == NULL ? next_due : slot;
        if (batch != NULL) {
            (void)bucket_take(&bucket, scene->load.settings.rate, slot);
            batch->where = DONE;
            batch->start = slot;
            scene->order[scene->dispatched++] = (size_t)(batch - scene->batches);
            scene->ends[scene->started++] = mono_add(slot, delivery_ns(scene));
        }
    }
}

// ---- what the engine is told ----

static int by_due(const void *a, const void *b)
{
    const struct delayed_row *row_a = a;
    const struct delayed_row *row_b = b;
    if (row_a->kind != row_b->kind) {
        return row_a->kind < row_b->kind ? -1 : 1;
    }
    return row_a->due < row_b->due ? -1 : row_a->due > row_b->due;
}

size_t scene_delayed(const struct scene *scene, struct delayed_row rows[SCENE_BATCHES])
{
    size_t count = 0;
    for (size_t i = 0; i < scene->batch_count; i++) {
        const struct scene_batch *batch = &scene->batches[i];
        const struct scene_ingestion *ingestion = &scene->ingestions[batch->place.seq - 1];
        if (batch->where != DELAYED || (ingestion->scheduled && batch->place.index > 0)) {
            continue;
        }
        rows[count++] =
            ingestion->scheduled
                ? (struct delayed_row){batch->place, ingestion->count, DUE_START, ingestion->not_before.ms}
                : (struct delayed_row){batch->place, batch->place.index + 1, DUE_RETRY, batch->due.ns};
    }
    qsort(rows, count, sizeof *rows, by_due);
    return count;
}

static int64_t seq_accepted_by(const struct scene *scene, int64_t ns)
{
    int64_t seq = 0;
    while (seq < (int64_t)scene->ingestion_count && scene->ingestions[seq].accepted_ns <= ns) {
        seq++;
    }
    return seq;
}

struct standing scene_standing(const struct scene *scene, int64_t seq, const struct delayed_row *rows,
                               size_t count)
{
    const struct scene_ingestion *own = &scene->ingestions[seq - 1];
    struct standing standing = {.queue = SCENE_QUEUE,
                                .seq = seq,
                                .scheduled = own->scheduled,
                                .not_before = own->not_before,
                                .batches = own->count,
                                .delayed = rows,
                                .delayed_count = count};
    struct order_bound bounds[PRIORITIES];
    order_bounds(own->priority, own->accepted_ns, scene->now.ns, scene->load.settings.aging_ns, bounds);
    for (int p = 0; p < PRIORITIES; p++) {
        int64_t tied = seq_accepted_by(scene, bounds[p].tied_ns) + 1;
        int64_t before = seq_accepted_by(scene, bounds[p].before_ns) + 1;
        tied = tied < seq ? tied : seq;
        standing.bounds[p] = before > tied ? before : tied;
    }
    for (size_t i = 0; i < scene->batch_count; i++) {
        const struct scene_batch *batch = &scene->batches[i];
        bool is_own = batch->place.seq == seq;
        bool ahead = !is_own && goes_before(scene, batch, &scene->batches[own->first]);
        standing.waiting += is_own && batch->where == WAITS;
        standing.ahead += ahead && batch->where == WAITS;
        standing.underway |=
            is_own && (batch->where == FLIES || (batch->where == DELAYED && !own->scheduled));
    }
    return standing;
}

struct engine *scene_engine(struct scene *scene)
{
    struct engine *engine = engine_new(UINT64_MAX, 0);
    ENSURE(engine != NULL, "no memory");
    memset(scene->load.waiting, 0, sizeof scene->load.waiting);
    for (size_t i = 0; i < scene->batch_count; i++) {
        const struct scene_batch *batch = &scene->batches[i];
        scene->load.waiting[batch->place.priority] += batch->where == WAITS;
        scene->load.figures.delayed += batch->where == DELAYED;
    }
    ENSURE(engine_add_queue(engine, &scene->load) == ERR_OK, "no memory");
    for (size_t i = 0; i < scene->batch_count; i++) {
        const struct scene_batch *batch = &scene->batches[i];
        const struct batch_key key = {SCENE_QUEUE, batch->place};
        struct flight *flight;
        if (batch->where == FLIES) {
            ENSURE(engine_add_flight(engine, &key, batch->start, false, false, &flight) == ERR_OK,
                   "no memory");
        }
    }
    return engine;
}

// ---- the one against the other ----

static void check_truth(const struct scene *scene, int64_t seq, const struct outlook *outlook,
                        const char *what, uint64_t seed)
{
    struct mono done = scene->now;
    uint64_t position = UINT64_MAX;
    for (size_t i = 0; i < scene->dispatched; i++) {
        bool own = scene->batches[scene->order[i]].place.seq == seq;
        position = own && position == UINT64_MAX ? i : position;
    }
    for (size_t i = 0; i < scene->batch_count; i++) {
        const struct scene_batch *batch = &scene->batches[i];
        if (batch->place.seq == seq && batch->start.ns != 0) {
            done = mono_max(done, mono_add(batch->start, delivery_ns(scene)));
        }
    }
    if (outlook->has_position) {
        ENSURE(outlook->position == position, "%s, seed %llu, seq %lld: position %lld, not %lld", what,
               (unsigned long long)seed, (long long)seq, (long long)outlook->position, (long long)position);
    }
    if (outlook->has_eta) {
        int64_t off_ns = mono_diff(outlook->eta, done);
        ENSURE(off_ns <= ROUNDING_NS && off_ns >= -ROUNDING_NS,
               "%s, seed %llu, seq %lld: eta %lld, off by %lld ns", what, (unsigned long long)seed,
               (long long)seq, (long long)mono_diff(outlook->eta, scene->now), (long long)off_ns);
        ENSURE(outlook->eta.ns >= scene->now.ns, "%s, seed %llu: an eta in the past", what,
               (unsigned long long)seed);
    }
}

void scene_compare(struct scene *scene, const struct outlook outlooks[SCENE_INGESTIONS], const char *what,
                   uint64_t seed)
{
    play(scene);
    for (size_t i = 0; i < scene->ingestion_count; i++) {
        check_truth(scene, (int64_t)i + 1, &outlooks[i], what, seed);
    }
}
