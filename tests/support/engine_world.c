#include "tests/support/engine_world.h"

#include "scheduler/order.h"

#include <string.h>

// ---- the store ----

static struct world_ingestion *ingestion_at(struct world_store *store, int64_t seq)
{
    ENSURE(seq >= 1 && (size_t)seq <= store->ingestion_count, "seq %lld", (long long)seq);
    return &store->ingestions[seq - 1];
}

static struct world_batch *batch_at(struct world_store *store, const struct batch_key *key)
{
    const struct world_ingestion *ingestion = ingestion_at(store, key->place.seq);
    ENSURE(key->place.index < ingestion->count && key->place.priority == ingestion->priority &&
               key->queue == ingestion->queue,
           "no such batch: %lld.%u", (long long)key->place.seq, key->place.index);
    return &store->batches[ingestion->first + key->place.index];
}

const struct world_batch *world_batch(const struct world *world, int64_t seq, uint32_t index)
{
    const struct world_ingestion *ingestion = &world->store.ingestions[seq - 1];
    return &world->store.batches[ingestion->first + index];
}

static bool is_waiting(const struct world *world, int64_t seq, uint32_t index)
{
    return world_batch(world, seq, index)->state == BATCH_WAITING;
}

static void change(struct world *world, const struct batch_key *key, enum batch_state from,
                   enum batch_state to)
{
    struct world_batch *batch = batch_at(&world->store, key);
    ENSURE(batch->state == from, "%lld.%u is in state %d, not %d", (long long)key->place.seq,
           key->place.index, batch->state, from);
    batch->state = to;
    if (to == BATCH_WAITING) {
        ingestion_at(&world->store, key->place.seq)->ready++;
    }
}

static size_t read_waiting(const struct world *world, const struct want *want, struct run *runs)
{
    size_t n = 0;
    int64_t seq = want->after_seq < 1 ? 1 : want->after_seq;
    for (; seq <= (int64_t)world->store.ingestion_count; seq++) {
        const struct world_ingestion *ingestion = &world->store.ingestions[seq - 1];
        if (ingestion->queue != want->queue || ingestion->priority != want->priority) {
            continue;
        }
        uint32_t i = seq == want->after_seq ? want->after_index + 1 : 0;
        for (bool open = false; i < ingestion->count; i++) {
            if (!is_waiting(world, seq, i)) {
                open = false;
            } else if (open) {
                runs[n - 1].end++;
            } else if (n == want->count) {
                return n;
            } else {
                runs[n++] = (struct run){seq, i, i + 1};
                open = true;
            }
        }
    }
    return n;
}

static int compare_due(const void *a, const void *b)
{
    const struct backoff_row *p = a;
    const struct backoff_row *q = b;
    if (p->due.ns != q->due.ns) {
        return p->due.ns < q->due.ns ? -1 : 1;
    }
    if (p->key.place.seq != q->key.place.seq) {
        return p->key.place.seq < q->key.place.seq ? -1 : 1;
    }
    return (p->key.place.index > q->key.place.index) - (p->key.place.index < q->key.place.index);
}

static size_t read_backoff(const struct world *world, const struct want *want, struct backoff_row *rows)
{
    static struct backoff_row all[WORLD_BATCHES];
    const struct backoff_row after = {.key.place = {.seq = want->after_seq, .index = want->after_index},
                                      .due = want->after_due};
    size_t n = 0;
    for (int64_t seq = 1; seq <= (int64_t)world->store.ingestion_count; seq++) {
        const struct world_ingestion *ingestion = &world->store.ingestions[seq - 1];
        for (uint32_t i = 0; i < ingestion->count; i++) {
            const struct world_batch *batch = world_batch(world, seq, i);
            if (batch->state == BATCH_BACKOFF) {
                all[n] = (struct backoff_row){{ingestion->queue, {ingestion->priority, seq, i}}, batch->due};
                n += compare_due(&all[n], &after) > 0;
            }
        }
    }
    qsort(all, n, sizeof all[0], compare_due);
    n = n < want->count ? n : want->count;
    memcpy(rows, all, n * sizeof all[0]);
    return n;
}

static void look_ahead(struct world *world)
{
    struct want want;
    while (engine_wants(world->engine, &want)) {
        ENSURE(want.count <= WANT_MAX, "wants %zu", want.count);
        enum err err = ERR_OK;
        if (want.kind == WANT_BACKOFF) {
            struct backoff_row rows[WANT_MAX];
            size_t n = read_backoff(world, &want, rows);
            err = engine_give_backoff(world->engine, &want, rows, n);
        } else {
            struct run runs[WANT_MAX];
            size_t n = read_waiting(world, &want, runs);
            err = engine_give_runs(world->engine, &want, runs, n);
        }
        ENSURE(err == ERR_OK, "give: %s", err_code(err));
    }
}

static void save_figures(struct world *world)
{
    int64_t queue;
    struct queue_figures figures;
    while (engine_take_changed(world->engine, &queue, &figures)) {
        world->store.queues[queue - 1].figures = figures;
    }
}

// ---- building it ----

struct queue_settings world_settings(uint64_t count, int64_t per_ns, uint32_t burst, uint32_t concurrency)
{
    return (struct queue_settings){.rate = {count, per_ns},
                                   .burst = burst,
                                   .concurrency = concurrency,
                                   .batch_size = 3,
                                   .max_id = ID_VALUE_MAX,
                                   .max_attempts = 5,
                                   .min_backoff_ns = NS_PER_S,
                                   .max_backoff_ns = 300 * NS_PER_S,
                                   .max_hold_ns = 60 * NS_PER_S};
}

struct world *world_new(uint64_t max_waiting)
{
    struct world *world = calloc(1, sizeof *world);
    ENSURE(world != NULL, "out of memory");
    world->max_waiting = max_waiting;
    world->random = random_from(1);
    return world;
}

struct world *world_of(struct queue_settings settings, int64_t delivery_ns)
{
    struct world *world = world_new(1000000);
    world->delivery_ns = delivery_ns;
    world_add_queue(world, "default", &settings);
    world_build(world);
    return world;
}

void world_free(struct world *world)
{
    engine_free(world->engine);
    free(world);
}

int64_t world_add_queue(struct world *world, const char *name, const struct queue_settings *settings)
{
    struct queue_row *row = &world->store.queues[world->store.queue_count++];
    *row = (struct queue_row){.id = (int64_t)world->store.queue_count, .settings = *settings};
    (void)snprintf(row->name, sizeof row->name, "%s", name);
    return row->id;
}

void world_build(struct world *world)
{
    engine_free(world->engine);
    world->engine = engine_new(world->max_waiting);
    ENSURE(world->engine != NULL, "out of memory");
    for (size_t i = 0; i < world->store.queue_count; i++) {
        uint64_t waiting[PRIORITIES] = {0};
        for (size_t j = 0; j < world->store.ingestion_count; j++) {
            const struct world_ingestion *ingestion = &world->store.ingestions[j];
            if (ingestion->queue == (int64_t)i + 1) {
                waiting[ingestion->priority] += ingestion->ready;
            }
        }
        ENSURE(engine_add_queue(world->engine, &world->store.queues[i], waiting, world->delivery_ns) ==
                   ERR_OK,
               "add queue");
    }
    for (size_t i = 0; i < world->running_count; i++) {
        struct world_running *r = &world->running[i];
        ENSURE(engine_add_flight(world->engine, &r->key, r->slot, &r->flight) == ERR_OK, "add flight");
    }
}

void world_crash(struct world *world)
{
    for (size_t i = 0; i < world->running_count; i++) {
        change(world, &world->running[i].key, BATCH_IN_FLIGHT, BATCH_WAITING);
        batch_at(&world->store, &world->running[i].key)->excused++;
    }
    world->running_count = 0;
    world_build(world);
}

// ---- a turn ----

int64_t world_ingest(struct world *world, int64_t queue, enum priority priority, uint32_t batches)
{
    struct world_store *store = &world->store;
    const struct queue_row *row = &store->queues[queue - 1];
    struct ingest_request request = {.priority = priority};
    struct admission admission;
    request.ids.count = batches * row->settings.batch_size - (batches % 2); // the last one may be short
    memcpy(request.queue, row->name, sizeof request.queue);
    ENSURE(engine_admit(world->engine, &request, &admission, NULL) == ERR_OK, "admit");
    ENSURE(admission.batches == batches, "%u batches", admission.batches);
    if (admission.only_replay) {
        engine_declined(world->engine, &admission);
        return 0;
    }
    ENSURE(store->ingestion_count < WORLD_INGESTIONS && store->batch_count + batches <= WORLD_BATCHES,
           "the world is full");
    int64_t seq = (int64_t)store->ingestion_count + 1;
    store->ingestions[store->ingestion_count++] =
        (struct world_ingestion){queue, priority, store->batch_count, batches, batches};
    for (uint32_t i = 0; i < batches; i++) {
        store->batches[store->batch_count++] = (struct world_batch){.state = BATCH_WAITING};
    }
    ENSURE(engine_accepted(world->engine, &admission, seq, world->now) == ERR_OK, "accepted");
    return seq;
}

static struct mono ends(const struct world_running *running)
{
    return mono_add(running->started, running->took_ns);
}

static void settle(struct world *world)
{
    size_t left = 0;
    for (size_t i = 0; i < world->running_count; i++) {
        struct world_running *r = &world->running[i];
        if (mono_before(world->now, ends(r))) {
            world->running[left++] = *r;
            continue;
        }
        struct outcome outcome = {.class = r->class, .hold_ns = r->hold_ns, .took_ns = r->took_ns};
        struct finish_row row;
        enum err err =
            engine_outcome(world->engine, r->flight, &outcome, r->attempt, r->excused, world->now,
                           (struct wall){world->now.ns / NS_PER_MS}, random_next(&world->random), &row);
        ENSURE(err == ERR_OK, "outcome: %s", err_code(err));
        change(world, &row.key, BATCH_IN_FLIGHT, row.state);
        struct world_batch *batch = batch_at(&world->store, &row.key);
        batch->due = row.due;
        batch->excused += row.excused;
        world->done_in_turn++;
    }
    world->running_count = left;
}

static void take_up_due(struct world *world)
{
    struct batch_key key;
    enum err err;
    look_ahead(world);
    while ((err = engine_next_due(world->engine, world->now, &key)) == ERR_OK) {
        ENSURE(!mono_before(world->now, batch_at(&world->store, &key)->due), "not due yet");
        change(world, &key, BATCH_BACKOFF, BATCH_WAITING);
        world->done_in_turn++;
        look_ahead(world);
    }
    ENSURE(err == ERR_NOT_FOUND, "due: %s", err_code(err));
}

// No other batch of the queue that is ready, or whose retry is due, comes before this one.
static void check_first(const struct world *world, const struct batch_key *key)
{
    for (size_t i = 0; i < world->store.ingestion_count; i++) {
        const struct world_ingestion *ingestion = &world->store.ingestions[i];
        struct place place = {ingestion->priority, (int64_t)i + 1, 0};
        if (ingestion->queue != key->queue || ingestion->ready == 0 ||
            place_compare(&place, &key->place) > 0) {
            continue;
        }
        for (; place.index < ingestion->count && place_compare(&place, &key->place) < 0; place.index++) {
            const struct world_batch *batch = &world->store.batches[ingestion->first + place.index];
            bool ready = (batch->state == BATCH_WAITING && !batch->taken) ||
                         (batch->state == BATCH_BACKOFF && !mono_before(world->now, batch->due));
            ENSURE(!ready, "seed %llu: %lld.%u goes before %lld.%u", (unsigned long long)world->random.seed,
                   (long long)key->place.seq, key->place.index, (long long)place.seq, place.index);
        }
    }
}

static void check_concurrency(const struct world *world, int64_t queue)
{
    size_t n = 0;
    for (size_t i = 0; i < world->running_count; i++) {
        n += world->running[i].key.queue == queue;
    }
    ENSURE(n <= world->store.queues[queue - 1].settings.concurrency, "seed %llu: %zu in flight",
           (unsigned long long)world->random.seed, n);
}

static void begin(struct world *world, struct world_running *r)
{
    struct world_batch *batch = batch_at(&world->store, &r->key);
    change(world, &r->key, BATCH_WAITING, BATCH_IN_FLIGHT);
    batch->taken = false;
    r->attempt = ++batch->attempts;
    r->excused = batch->excused;
    r->took_ns = world->delivery_ns;
    r->class = OUTCOME_COMPLETED;
    if (world->script != NULL) {
        world->script(world, r);
    }
    r->started = mono_add(r->slot, r->late_ns);
    ENSURE(world->log_count < WORLD_LOG, "the log is full");
    world->log[world->log_count++] = (struct world_start){r->key, r->attempt, r->started};
}

// As the loop does it, the store hears of the dispatches only when all of the turn are decided.
static void dispatch(struct world *world)
{
    size_t first = world->running_count;
    struct batch_key key;
    struct flight *flight;
    enum err err;
    look_ahead(world);
    while ((err = engine_next(world->engine, world->now, &key, &flight)) == ERR_OK) {
        ENSURE(world->running_count < WORLD_RUNNING, "too many in flight");
        check_first(world, &key);
        batch_at(&world->store, &key)->taken = true;
        ingestion_at(&world->store, key.place.seq)->ready--;
        world->running[world->running_count++] =
            (struct world_running){.flight = flight, .key = key, .slot = world->now};
        check_concurrency(world, key.queue);
        look_ahead(world);
    }
    ENSURE(err == ERR_NOT_FOUND, "next: %s", err_code(err));
    for (size_t i = first; i < world->running_count; i++) {
        begin(world, &world->running[i]);
        world->done_in_turn++;
    }
}

static void decide(struct world *world)
{
    world->done_in_turn = 0;
    settle(world);
    take_up_due(world);
    dispatch(world);
    save_figures(world);
    ENSURE(mono_before(world->now, engine_wake(world->engine)), "seed %llu: something is left to do",
           (unsigned long long)world->random.seed);
}

void world_turn(struct world *world)
{
    decide(world);
    for (size_t i = 0; i < world->running_count; i++) {
        struct world_running *r = &world->running[i];
        if (r->slot.ns == world->now.ns && r->late_ns > 0) {
            // Twice, as the loop does: what is known when it is handed over, then what the target says.
            engine_started(world->engine, r->flight, mono_add(r->started, -(r->late_ns / 3)));
            engine_started(world->engine, r->flight, r->started);
        }
    }
    save_figures(world);
}

void world_failing_turn(struct world *world)
{
    struct world *before = malloc(sizeof *before);
    ENSURE(before != NULL, "out of memory");
    *before = *world;
    decide(world);
    struct engine *engine = world->engine;
    *world = *before;
    world->engine = engine;
    free(before);
    world_build(world);
}

struct mono world_next(const struct world *world)
{
    struct mono next = engine_wake(world->engine);
    for (size_t i = 0; i < world->running_count; i++) {
        next = mono_min(next, ends(&world->running[i]));
    }
    return next;
}

void world_run_until(struct world *world, int64_t ns)
{
    struct mono next;
    while (next = world_next(world), next.ns <= ns && next.ns != MONO_NEVER.ns) {
        // Right after it was built the engine wants its look-ahead, and may find that there is nothing.
        bool fresh = next.ns == INT64_MIN;
        world->now = mono_max(world->now, next);
        world_turn(world);
        ENSURE(fresh || world->done_in_turn > 0, "seed %llu: woken for nothing at %lld",
               (unsigned long long)world->random.seed, (long long)world->now.ns);
    }
    if (ns != INT64_MAX) {
        world->now = mono_max(world->now, (struct mono){ns});
    }
}

// ---- questions ----

static uint64_t count_before(const struct world *world, int64_t queue, const struct place *place)
{
    uint64_t n = 0;
    for (int64_t seq = 1; seq <= place->seq; seq++) {
        const struct world_ingestion *ingestion = &world->store.ingestions[seq - 1];
        if (ingestion->queue != queue || ingestion->priority != place->priority) {
            continue;
        }
        uint32_t end = seq == place->seq ? place->index : ingestion->count;
        for (uint32_t i = 0; i < end; i++) {
            n += is_waiting(world, seq, i);
        }
    }
    return n;
}

struct standing world_standing(const struct world *world, int64_t seq)
{
    const struct world_ingestion *ingestion = &world->store.ingestions[seq - 1];
    struct standing standing = {.queue = ingestion->queue,
                                .seq = seq,
                                .first = {ingestion->priority, seq, 0},
                                .last = {ingestion->priority, seq, 0}};
    for (uint32_t i = 0; i < ingestion->count; i++) {
        const struct world_batch *batch = world_batch(world, seq, i);
        if (batch->state == BATCH_WAITING) {
            standing.first.index = standing.waiting ? standing.first.index : i;
            standing.last.index = i;
            standing.waiting = true;
        }
        standing.underway |= batch->attempts > 0 && batch->state <= BATCH_BACKOFF;
    }
    standing.before_first = count_before(world, standing.queue, &standing.first);
    standing.before_last = count_before(world, standing.queue, &standing.last);
    return standing;
}
