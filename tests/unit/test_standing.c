// Position and ETA as the real store and the engine give them together, against a future that is played slot
// by slot.
#include "scheduler/standing.h"

#include "tests/support/outlook_scene.h"
#include "tests/unit/store_fixture.h"

// ---- a scene in the store ----

static void put_ingestion(struct store *store, const struct scene *scene, int64_t seq)
{
    const struct scene_ingestion *own = &scene->ingestions[seq - 1];
    struct ingest_request request = request_make((uint64_t)seq, own->priority, 1, own->count);
    request.not_before = own->not_before;
    struct insert insert = insert_make(&request, SCENE_QUEUE, 1);
    insert.now = scene->now_wall;
    insert.accepted_ns = own->accepted_ns;
    OK(store_insert(store, &insert, 1));
    ENSURE(insert.result == INSERT_NEW && insert.seq == seq, "not inserted");
    request_drop(&request);
}

static void put_batch(struct store *store, const struct scene *scene, const struct scene_batch *batch)
{
    const struct batch_key key = {SCENE_QUEUE, batch->place};
    struct finish_row row = {.key = key, .state = BATCH_COMPLETED, .now = scene->now_wall};
    if (batch->where == WAITS || scene->ingestions[batch->place.seq - 1].scheduled) {
        return;
    }
    struct dispatch_row dispatched = {.key = key, .now = scene->now_wall};
    OK(store_dispatch(store, &dispatched, 1));
    free(dispatched.ids);
    if (batch->where == DELAYED) {
        row.state = BATCH_BACKOFF;
        row.due = batch->due;
    }
    if (batch->where != FLIES) {
        OK(store_finish(store, &row, 1));
    }
}

static void put_scene(struct store *store, const struct scene *scene)
{
    OK(store_begin(store));
    for (size_t i = 0; i < scene->ingestion_count; i++) {
        put_ingestion(store, scene, (int64_t)i + 1);
    }
    for (size_t i = 0; i < scene->batch_count; i++) {
        put_batch(store, scene, &scene->batches[i]);
    }
    OK(store_commit(store));
}

static void ask_all(struct store *store, struct scene *scene, struct outlook outlooks[SCENE_INGESTIONS])
{
    struct engine *engine = scene_engine(scene);
    for (size_t i = 0; i < scene->ingestion_count; i++) {
        struct ingestion_row row = find(store, i + 1);
        OK(standing_outlook(store, engine, &row, scene->now, scene->now_wall, &outlooks[i]));
        bool has_position = false;
        for (size_t b = 0; b < scene->batch_count; b++) {
            const struct scene_batch *batch = &scene->batches[b];
            has_position |= batch->place.seq == (int64_t)i + 1 &&
                            (batch->where == WAITS || scene->ingestions[i].scheduled);
        }
        ENSURE(outlooks[i].has_position == has_position, "ingestion %zu", i);
    }
    engine_free(engine);
}

Test(standing, is_what_then_happens)
{
    static struct scene scene;
    struct outlook outlooks[SCENE_INGESTIONS];
    struct random random = random_from(61);
    for (int round = 0; round < 60; round++) {
        struct fixture f;
        fixture_new(&f);
        scene_random(&scene, &random);
        put_scene(f.store, &scene);
        ask_all(f.store, &scene, outlooks);
        scene_compare(&scene, outlooks, "in the store", random.seed);
        fixture_free(&f);
    }
}

// ---- what is yet to be accepted ----

Test(standing, a_prospect_is_what_it_then_is)
{
    static struct scene scene;
    struct random random = random_from(62);
    for (int round = 0; round < 60; round++) {
        struct fixture f;
        struct outlook before;
        struct outlook after;
        fixture_new(&f);
        scene_random(&scene, &random);
        put_scene(f.store, &scene);
        enum priority priority = (enum priority)random_below(&random, PRIORITIES);
        uint32_t batches = (uint32_t)(1 + random_below(&random, 9));
        struct admission admission = {
            .queue = SCENE_QUEUE, .priority = priority, .batches = batches, .accepted_ns = scene.now.ns};
        bool later = random_below(&random, 3) == 0;
        int64_t by_ms = 1 + (int64_t)random_below(&random, 60000);
        admission.not_before.ms = later ? scene.now_wall.ms + by_ms : 0;
        struct engine *engine = scene_engine(&scene);
        OK(standing_prospect(f.store, engine, &admission, scene.now, scene.now_wall, &before));
        engine_free(engine);

        int64_t seq = scene_ingest(&scene, priority, batches, scene.now.ns);
        if (later) {
            scene_schedule(&scene, seq, by_ms);
        }
        OK(store_begin(f.store));
        put_ingestion(f.store, &scene, seq);
        OK(store_commit(f.store));
        struct ingestion_row row = find(f.store, (uint64_t)seq);
        engine = scene_engine(&scene);
        OK(standing_outlook(f.store, engine, &row, scene.now, scene.now_wall, &after));
        engine_free(engine);
        ENSURE(before.has_position && after.has_position && before.position == after.position,
               "seed %llu, round %d: %llu and %llu", (unsigned long long)random.seed, round,
               (unsigned long long)before.position, (unsigned long long)after.position);
        ENSURE(before.has_eta && after.has_eta && before.eta.ns == after.eta.ns, "seed %llu, round %d",
               (unsigned long long)random.seed, round);
        fixture_free(&f);
    }
}

// ---- what it costs, and what goes wrong ----

static int count_statement(unsigned what, void *user, void *statement, void *text)
{
    (void)what;
    (void)statement;
    (void)text;
    ++*(int *)user;
    return 0;
}

static int statements_of(struct fixture *f, struct scene *scene, int64_t seq)
{
    struct outlook outlook;
    int count = 0;
    struct ingestion_row row = find(f->store, (uint64_t)seq);
    struct engine *engine = scene_engine(scene);
    sqlite3_trace_v2(f->store->db, SQLITE_TRACE_STMT, count_statement, &count);
    OK(standing_outlook(f->store, engine, &row, scene->now, scene->now_wall, &outlook));
    sqlite3_trace_v2(f->store->db, 0, NULL, NULL);
    engine_free(engine);
    return count;
}

static int statements_of_a_count(struct fixture *f, int64_t seq)
{
    int count = 0;
    uint64_t before;
    const struct place place = {PRIORITY_MEDIUM, seq, 0};
    sqlite3_trace_v2(f->store->db, SQLITE_TRACE_STMT, count_statement, &count);
    OK(store_count_before(f->store, SCENE_QUEUE, &place, &before));
    sqlite3_trace_v2(f->store->db, 0, NULL, NULL);
    return count;
}

Test(standing, nothing_is_read_that_is_not_needed)
{
    static struct scene scene;
    struct fixture f;
    fixture_new(&f);
    scene_init(&scene, (struct rate){1, NS_PER_S}, 1, 1, NS_PER_S);
    for (int p = 0; p < PRIORITIES; p++) {
        (void)scene_ingest(&scene, (enum priority)p, 3, 0);
    }
    int64_t waits = scene_ingest(&scene, PRIORITY_MEDIUM, 5, 0);
    int64_t half_done = scene_ingest(&scene, PRIORITY_MEDIUM, 5, 0);
    int64_t done = scene_ingest(&scene, PRIORITY_MEDIUM, 1, 0);
    scene_batch_at(&scene, half_done, 0)->where = DONE;
    scene_fly(&scene, half_done, 1, 0);
    scene_batch_at(&scene, done, 0)->where = DONE;
    put_scene(f.store, &scene);
    int one = statements_of_a_count(&f, waits);
    cr_assert_gt(one, 0);
    cr_expect_eq(statements_of(&f, &scene, done), 0);
    cr_expect_eq(statements_of(&f, &scene, waits), one);
    cr_expect_leq(statements_of(&f, &scene, half_done), 2 * one + 2, "two counts and a span");
    fixture_free(&f);
}

struct budget {
    int left; // steps of SQLite
};

static int stop_when_spent(void *user)
{
    struct budget *budget = user;
    return budget->left-- <= 0;
}

// Every read fails once, wherever it may.
static void fail_everywhere(struct fixture *f, struct scene *scene, int64_t seq)
{
    struct ingestion_row row = find(f->store, (uint64_t)seq);
    struct engine *engine = scene_engine(scene);
    const struct admission admission = {
        .queue = SCENE_QUEUE, .priority = row.priority, .batches = 1, .accepted_ns = scene->now.ns};
    for (int prospect = 0; prospect < 2; prospect++) {
        enum err err = ERR_INTERNAL;
        for (int steps = 0; err != ERR_OK; steps++) {
            struct budget budget = {steps};
            struct outlook outlook = {.has_position = true, .has_eta = true};
            sqlite3_progress_handler(f->store->db, 1, stop_when_spent, &budget);
            err = prospect
                      ? standing_prospect(f->store, engine, &admission, scene->now, scene->now_wall, &outlook)
                      : standing_outlook(f->store, engine, &row, scene->now, scene->now_wall, &outlook);
            sqlite3_progress_handler(f->store->db, 0, NULL, NULL);
            ENSURE(err == ERR_OK || (err == ERR_STORAGE_IO && !outlook.has_position && !outlook.has_eta),
                   "after %d steps: %d", steps, (int)err);
            ENSURE(steps < 100000, "it never gets through");
        }
    }
    engine_free(engine);
}

Test(standing, every_read_may_fail)
{
    static struct scene scene;
    struct fixture f;
    fixture_new(&f);
    scene_init(&scene, (struct rate){1, NS_PER_S}, 1, 1, NS_PER_S);
    scene.load.settings.aging_ns = 10 * NS_PER_S;
    for (int64_t i = 0; i < 9; i++) {
        (void)scene_ingest(&scene, (enum priority)(i % PRIORITIES), 3, scene.now.ns - (40 - i) * NS_PER_S);
    }
    int64_t own = scene_ingest(&scene, PRIORITY_MEDIUM, 4, scene.now.ns - 5 * NS_PER_S);
    (void)scene_ingest(&scene, PRIORITY_LOW, 4, scene.now.ns);
    scene_put_off(&scene, own, 0, NS_PER_S);
    scene_schedule(&scene, scene_ingest(&scene, PRIORITY_HIGH, 1, scene.now.ns), 1000);
    put_scene(f.store, &scene);
    fail_everywhere(&f, &scene, own);
    fixture_free(&f);
}

// The queue of something that is done may be gone.
Test(standing, nothing_to_say_about_what_is_done_or_has_no_queue)
{
    static struct scene scene;
    struct fixture f;
    struct outlook outlook;
    fixture_new(&f);
    scene_init(&scene, (struct rate){1, NS_PER_S}, 1, 1, NS_PER_S);
    (void)scene_ingest(&scene, PRIORITY_LOW, 1, 0);
    scene_batch_at(&scene, 1, 0)->where = DONE;
    put_scene(f.store, &scene);
    struct ingestion_row row = find(f.store, 1);
    struct engine *engine = engine_new(1, 0);
    OK(standing_outlook(f.store, engine, &row, scene.now, scene.now_wall, &outlook));
    cr_assert_not(outlook.has_position);
    cr_assert_not(outlook.has_eta);
    const struct admission admission = {.queue = 7, .batches = 1};
    cr_assert_eq(standing_prospect(f.store, engine, &admission, scene.now, scene.now_wall, &outlook),
                 ERR_UNKNOWN_QUEUE);
    engine_free(engine);
    fixture_free(&f);
}
