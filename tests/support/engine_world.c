#include "tests/support/engine_world.h"

#include "scheduler/rate.h"
#include "tests/support/engine_oracle.h"

#include <string.h>

#define SEED(world) ((unsigned long long)(world)->random.seed)

struct wall world_wall(const struct world *world)
{
    return (struct wall){world->now.ns / NS_PER_MS + world->wall_offset_ms};
}

struct world_queue *world_queue(struct world *world, int64_t queue)
{
    ENSURE(queue >= 1 && (size_t)queue <= world->store.queue_count, "queue %lld", (long long)queue);
    return &world->store.queues[queue - 1];
}

const struct world_batch *world_batch(const struct world *world, int64_t seq, uint32_t index)
{
    return &world->store.batches[world->store.ingestions[seq - 1].first + index];
}

static void look_ahead(struct world *world)
{
    struct want want;
    while (engine_wants(world->engine, &want)) {
        struct run runs[WANT_MAX];
        ENSURE(want.count <= WANT_MAX, "wants %zu", want.count);
        size_t n = model_read_waiting(&world->store, &want, runs);
        ENSURE(engine_give_runs(world->engine, &want, runs, n) == ERR_OK, "give");
    }
}

static void save_figures(struct world *world)
{
    int64_t queue;
    struct queue_figures figures;
    while (engine_take_changed(world->engine, &queue, &figures)) {
        world_queue(world, queue)->figures = figures;
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

static void load_queue(struct world *world, int64_t id)
{
    const struct world_queue *queue = world_queue(world, id);
    struct queue_load load = {.id = id,
                              .name = queue->name,
                              .settings = queue->settings,
                              .figures = queue->figures,
                              .traits = queue->traits};
    model_count_waiting(&world->store, id, load.waiting);
    for (int kind = 0; kind < DUE_KINDS; kind++) {
        load.due[kind] = model_next_due(&world->store, id, (enum due_kind)kind);
    }
    ENSURE(engine_add_queue(world->engine, &load) == ERR_OK, "add queue");
    engine_demand(world->engine, id, world->demand[id - 1]);
}

void world_build(struct world *world)
{
    engine_free(world->engine);
    world->engine = engine_new(world->max_waiting, world->age_offset_ns);
    ENSURE(world->engine != NULL, "out of memory");
    for (size_t i = 0; i < world->store.queue_count; i++) {
        if (world->store.queues[i].there) {
            load_queue(world, (int64_t)i + 1);
        }
    }
    for (size_t i = 0; i < world->running_count; i++) {
        struct world_running *r = &world->running[i];
        bool cancelled = model_ingestion(&world->store, r->key.place.seq)->cancelled;
        ENSURE(engine_add_flight(world->engine, &r->key, r->slot, false, cancelled, &r->flight) == ERR_OK,
               "flight");
    }
}

void world_crash(struct world *world)
{
    for (size_t i = 0; i < world->running_count; i++) {
        const struct batch_key *key = &world->running[i].key;
        bool cancelled = model_ingestion(&world->store, key->place.seq)->cancelled;
        model_change(&world->store, key, BATCH_IN_FLIGHT, cancelled ? BATCH_CANCELLED : BATCH_WAITING);
        model_batch(&world->store, key->place.seq, key->place.index)->excused++;
    }
    world->running_count = 0;
    world_build(world);
}

// ---- queues ----

static void note_rate(struct world *world, int64_t id)
{
    const struct queue_settings *settings = &world_queue(world, id)->settings;
    ENSURE(world->change_count < WORLD_CHANGES, "too many changes");
    world->changes[world->change_count++] = (struct world_change){
        id, world->now, world->log_count, settings->rate, rate_burst(settings->rate, settings->burst)};
}

int64_t world_add_queue(struct world *world, const char *name, const struct queue_settings *settings)
{
    ENSURE(world->store.queue_count < WORLD_QUEUES, "too many queues");
    struct world_queue *queue = &world->store.queues[world->store.queue_count++];
    int64_t id = (int64_t)world->store.queue_count;
    *queue = (struct world_queue){.there = true, .settings = *settings};
    queue->traits.expected_ns = world->delivery_ns;
    (void)snprintf(queue->name, sizeof queue->name, "%s", name);
    note_rate(world, id);
    if (world->engine != NULL) {
        load_queue(world, id);
    }
    return id;
}

void world_change_queue(struct world *world, int64_t id, const struct queue_settings *settings)
{
    struct world_queue *queue = world_queue(world, id);
    struct rate old = queue->settings.rate;
    uint32_t old_burst = rate_burst(old, queue->settings.burst);
    for (size_t i = 0; i < world->running_count; i++) { // what was reported late has started by now
        if (world->running[i].key.queue == id) {
            world->now = mono_max(world->now, world->running[i].started);
        }
    }
    queue->settings = *settings;
    if (old.count != settings->rate.count || old.per_ns != settings->rate.per_ns ||
        old_burst != rate_burst(settings->rate, settings->burst)) {
        note_rate(world, id);
    }
    engine_change_queue(world->engine, id, settings, &queue->traits, world->now);
    save_figures(world);
}

void world_set_pull(struct world *world, int64_t id, bool pull)
{
    struct world_queue *queue = world_queue(world, id);
    queue->traits.pull = pull;
    world->demand[id - 1] = 0;
    engine_change_queue(world->engine, id, &queue->settings, &queue->traits, world->now);
    save_figures(world);
}

bool world_remove_queue(struct world *world, int64_t id)
{
    uint64_t waiting[PRIORITIES];
    model_count_waiting(&world->store, id, waiting);
    uint64_t held = waiting[0] + waiting[1] + waiting[2] + model_count_delayed(&world->store, id);
    for (size_t i = 0; i < world->running_count; i++) {
        held += world->running[i].key.queue == id;
    }
    struct fault fault;
    enum err err = engine_check_empty(world->engine, id, &fault);
    ENSURE(err == (held == 0 ? ERR_OK : ERR_QUEUE_NOT_EMPTY), "seed %llu: %llu there: %s", SEED(world),
           (unsigned long long)held, err_code(err));
    if (held == 0) {
        engine_remove_queue(world->engine, id);
        world_queue(world, id)->there = false;
        for (size_t i = 0; i < world->store.ingestion_count; i++) {
            if (world->store.ingestions[i].queue == id) {
                world->store.ingestions[i].deadline.ms = 0; // nothing of it is left to expire
            }
        }
    }
    return held == 0;
}

void world_pause(struct world *world, int64_t id, enum pause pause)
{
    engine_pause(world->engine, id, pause);
    save_figures(world);
}

void world_demand(struct world *world, int64_t id, uint32_t batches)
{
    world->demand[id - 1] = batches;
    engine_demand(world->engine, id, batches);
}

// ---- ingestions ----

int64_t world_ingest_timed(struct world *world, int64_t id, enum priority priority, uint32_t batches,
                           int64_t not_before_ms, int64_t deadline_ms)
{
    const struct world_queue *queue = world_queue(world, id);
    struct ingest_request request = {
        .priority = priority, .not_before = {not_before_ms}, .deadline = {deadline_ms}};
    struct admission admission;
    request.ids.count = batches * queue->settings.batch_size - (batches % 2); // the last one may be short
    memcpy(request.queue, queue->name, sizeof request.queue);
    ENSURE(engine_admit(world->engine, &request, world->now, world_wall(world), &admission, NULL) == ERR_OK,
           "admit");
    ENSURE(admission.batches == batches, "%u batches", admission.batches);
    ENSURE(admission.accepted_ns == world->now.ns + world->age_offset_ns, "accepted then");
    if (admission.only_replay) {
        engine_declined(world->engine, &admission);
        return 0;
    }
    int64_t seq = model_insert(&world->store, &admission);
    ENSURE(engine_accepted(world->engine, &admission, seq, world->now) == ERR_OK, "accepted");
    save_figures(world);
    return seq;
}

int64_t world_ingest(struct world *world, int64_t queue, enum priority priority, uint32_t batches)
{
    return world_ingest_timed(world, queue, priority, batches, 0, 0);
}

void world_cancel(struct world *world, int64_t seq)
{
    struct removal removal = model_cancel(&world->store, seq);
    engine_removed(world->engine, &removal);
    save_figures(world);
}

void world_retry(struct world *world, int64_t seq)
{
    struct returned_row row;
    int64_t queue = model_ingestion(&world->store, seq)->queue;
    while (world_queue(world, queue)->there && model_retry(&world->store, seq, &row)) {
        ENSURE(engine_returned(world->engine, queue, &row, 0) == ERR_OK, "returned");
    }
    save_figures(world);
}

// ---- a turn ----

static struct mono ends(const struct world_running *running)
{
    return mono_add(running->started, running->took_ns);
}

static void note_hold(struct world *world, int64_t queue, int64_t hold_ns)
{
    int64_t most_ns = world_queue(world, queue)->settings.max_hold_ns;
    struct mono until = mono_add(world->now, hold_ns < most_ns ? hold_ns : most_ns);
    if (hold_ns > 0) {
        world->held[queue - 1] = mono_max(world->held[queue - 1], until);
    }
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
        struct finish_row row;
        r->outcome.took_ns = r->took_ns;
        enum err err = engine_outcome(world->engine, r->flight, &r->outcome, r->attempt, r->excused,
                                      world->now, world_wall(world), random_next(&world->random), &row);
        ENSURE(err == ERR_OK, "outcome: %s", err_code(err));
        ENSURE(row.error == r->outcome.error && row.now.ms == world_wall(world).ms, "the row");
        model_change(&world->store, &row.key, BATCH_IN_FLIGHT, row.state);
        struct world_batch *batch = model_batch(&world->store, row.key.place.seq, row.key.place.index);
        batch->due = row.due;
        batch->excused += row.excused;
        bool cancelled = model_ingestion(&world->store, row.key.place.seq)->cancelled;
        ENSURE(!cancelled || (row.state != BATCH_WAITING && row.state != BATCH_BACKOFF),
               "seed %llu: cancelled", SEED(world));
        note_hold(world, row.key.queue, r->outcome.hold_ns);
        world->done_in_turn++;
    }
    world->running_count = left;
}

// Takes up to so many entries of one index.
static void take_up(struct world *world, const struct due *due, size_t count)
{
    size_t n = 0;
    if (due->kind == DUE_DEADLINE) {
        struct removal removals[16];
        n = model_expire(&world->store, due->queue, world_wall(world), removals, count < 16 ? count : 16);
        for (size_t i = 0; i < n; i++) {
            engine_removed(world->engine, &removals[i]);
        }
    } else {
        struct returned_row rows[16];
        n = model_take_due(&world->store, due, world->now, world_wall(world), rows, count < 16 ? count : 16);
        for (size_t i = 0; i < n; i++) {
            ENSURE(engine_returned(world->engine, due->queue, &rows[i],
                                   rows[i].run.end - rows[i].run.first) == ERR_OK,
                   "returned");
        }
    }
    engine_due_done(world->engine, due, model_next_due(&world->store, due->queue, due->kind), world->now,
                    world_wall(world));
    world->done_in_turn++; // also when what was there is gone meanwhile
}

static void take_up_due(struct world *world)
{
    struct due due;
    size_t n = 0;
    world->due_left = false;
    while (engine_next_due(world->engine, world->now, world_wall(world), &due)) {
        if (world->due_limit > 0 && n++ == world->due_limit) {
            world->due_left = true;
            return;
        }
        take_up(world, &due, world->due_limit > 0 ? 1 : 16);
    }
}

static void begin(struct world *world, struct world_running *r)
{
    struct world_batch *batch = model_batch(&world->store, r->key.place.seq, r->key.place.index);
    model_change(&world->store, &r->key, BATCH_WAITING, BATCH_IN_FLIGHT);
    batch->taken = false;
    r->attempt = ++batch->attempts;
    r->excused = batch->excused;
    r->took_ns = world->delivery_ns;
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
    while ((err = engine_next(world->engine, world->now, world_wall(world), &key, &flight)) == ERR_OK) {
        ENSURE(world->running_count < WORLD_RUNNING, "too many in flight");
        oracle_dispatch(world, &key);
        model_batch(&world->store, key.place.seq, key.place.index)->taken = true;
        model_ingestion(&world->store, key.place.seq)->ready--;
        world->demand[key.queue - 1] -= world_queue(world, key.queue)->traits.pull;
        world->running[world->running_count++] =
            (struct world_running){.flight = flight, .key = key, .slot = world->now};
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
    save_figures(world); // as they are before the dispatches
    dispatch(world);
    save_figures(world);
    bool more = !mono_before(world->now, engine_wake(world->engine)) ||
                engine_wake_wall_ms(world->engine) <= world_wall(world).ms;
    ENSURE(more == world->due_left, "seed %llu: something is left to do", SEED(world));
}

void world_turn(struct world *world)
{
    decide(world);
    for (size_t i = 0; i < world->running_count; i++) {
        struct world_running *r = &world->running[i];
        if (r->slot.ns != world->now.ns) {
            continue;
        }
        if (r->late_ns > 0) {
            // Twice, as the loop does: what is known when it is handed over, then what the target says.
            engine_delayed(world->engine, r->flight, mono_add(r->started, -(r->late_ns / 3)));
        }
        engine_started(world->engine, r->flight, r->started);
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

// When the wall clock, as it is set now, shows this.
static struct mono wall_moment(const struct world *world, int64_t ms)
{
    if (ms == INT64_MIN || ms == DUE_NEVER) {
        return (struct mono){ms};
    }
    return (struct mono){(ms - world->wall_offset_ms) * NS_PER_MS};
}

struct mono world_next(const struct world *world)
{
    struct mono next =
        mono_min(engine_wake(world->engine), wall_moment(world, engine_wake_wall_ms(world->engine)));
    for (size_t i = 0; i < world->running_count; i++) {
        next = mono_min(next, ends(&world->running[i]));
    }
    return next;
}

void world_run_until(struct world *world, int64_t ns)
{
    struct mono next;
    while (next = world_next(world), next.ns <= ns && next.ns != MONO_NEVER.ns) {
        world->now = mono_max(world->now, next);
        world_turn(world);
        // What was due before the clock was set back need not be any more.
        ENSURE(world->done_in_turn > 0 || next.ns == INT64_MIN, "seed %llu: woken for nothing at %lld",
               SEED(world), (long long)world->now.ns);
    }
    if (ns != INT64_MAX) {
        world->now = mono_max(world->now, (struct mono){ns});
    }
}

// ---- questions ----

struct standing world_standing(struct world *world, int64_t seq)
{
    const struct world_store *store = &world->store;
    const struct world_ingestion *own = &store->ingestions[seq - 1];
    struct standing standing = {.queue = own->queue,
                                .seq = seq,
                                .waiting = own->ready,
                                .scheduled = own->scheduled,
                                .not_before = own->not_before,
                                .batches = own->scheduled ? own->count : 0,
                                .delayed = world->delayed};
    int counts = oracle_counts_as(world, own->queue, own->priority, own->accepted_ns);
    for (int64_t other = 1; other <= (int64_t)store->ingestion_count; other++) {
        const struct world_ingestion *ingestion = &store->ingestions[other - 1];
        int its = oracle_counts_as(world, own->queue, ingestion->priority, ingestion->accepted_ns);
        if (ingestion->queue == own->queue && (its < counts || (its == counts && other < seq))) {
            standing.bounds[ingestion->priority] = other + 1;
            standing.ahead += other != seq ? ingestion->ready : 0;
        }
    }
    for (uint32_t i = 0; i < own->count; i++) {
        enum batch_state state = world_batch(world, seq, i)->state;
        standing.underway |= state == BATCH_IN_FLIGHT || state == BATCH_BACKOFF;
    }
    standing.delayed_count =
        model_read_delayed(store, own->queue, DUE_RETRY, world->delayed, STANDING_DELAYED_MAX);
    standing.delayed_count += model_read_delayed(
        store, own->queue, DUE_START, world->delayed + standing.delayed_count, STANDING_DELAYED_MAX);
    return standing;
}
