// What the engine says of the future, against a future that is played slot by slot.
#include "tests/support/engine_world.h"
#include "tests/support/outlook_scene.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Asks about every ingestion, then plays the future.
static void check(struct scene *scene, struct outlook outlooks[SCENE_INGESTIONS], const char *what,
                  uint64_t seed)
{
    struct engine *engine = scene_engine(scene);
    struct delayed_row rows[SCENE_BATCHES];
    size_t count = scene_delayed(scene, rows);
    for (size_t i = 0; i < scene->ingestion_count; i++) {
        struct standing standing = scene_standing(scene, (int64_t)i + 1, rows, count);
        outlooks[i] = engine_outlook(engine, &standing, scene->now, scene->now_wall);
        bool has_position = standing.waiting > 0 || standing.scheduled;
        bool has_eta = !scene->load.figures.paused && (has_position || standing.underway);
        ENSURE(outlooks[i].has_position == has_position, "%s, seed %llu, %zu", what, (unsigned long long)seed,
               i);
        ENSURE(outlooks[i].has_eta == has_eta, "%s, seed %llu, %zu", what, (unsigned long long)seed, i);
    }
    engine_free(engine);
    scene_compare(scene, outlooks, what, seed);
}

Test(outlook, positions_and_etas_are_what_then_happens)
{
    static struct scene scene;
    struct outlook outlooks[SCENE_INGESTIONS];
    struct random random = random_from(51);
    for (int round = 0; round < 10000; round++) {
        scene_random(&scene, &random);
        check(&scene, outlooks, "anything", random.seed);
    }
}

// ---- the engine itself, as it goes on ----

// Anything may happen in the first 20 seconds.
static void fails_while_young(struct world *world, struct world_running *running)
{
    if (mono_before((struct mono){20 * NS_PER_S}, world->now) || random_below(&world->random, 100) >= 30) {
        return;
    }
    running->outcome.class = OUTCOME_RETRY;
    running->outcome.down = random_below(&world->random, 2) == 0;
    if (random_below(&world->random, 4) == 0) {
        running->outcome.hold_ns = 1 + (int64_t)random_below(&world->random, 20 * (uint64_t)NS_PER_S);
        running->outcome.held_by = HOLD_RETRY_AFTER;
    }
}

static void live(struct world *world, size_t count)
{
    struct random *random = &world->random;
    for (size_t i = 0; i < count; i++) {
        enum priority priority = (enum priority)random_below(random, PRIORITIES);
        uint32_t batches = (uint32_t)(1 + random_below(random, 6));
        int64_t after_ms = 1 + (int64_t)random_below(random, 60000);
        bool later = random_below(random, 4) == 0;
        ENSURE(world_ingest_timed(world, 1, priority, batches, later ? world_wall(world).ms + after_ms : 0,
                                  0) == (int64_t)i + 1,
               "no room");
        world_run_until(world, world->now.ns + (int64_t)random_below(random, (uint64_t)NS_PER_S));
    }
    world_run_until(world, (int64_t)(24 + random_below(random, 10)) * NS_PER_S);
}

static void compare(const struct world *world, size_t from, int64_t seq, const struct outlook *outlook)
{
    unsigned long long seed = world->random.seed;
    size_t first = world->log_count;
    struct mono done = {0};
    for (size_t i = world->log_count; i > 0; i--) {
        const struct world_start *start = &world->log[i - 1];
        if (start->key.place.seq == seq) {
            first = i > from ? i - 1 : first;
            done = mono_max(done, mono_add(start->at, world->delivery_ns));
        }
    }
    ENSURE(!outlook->has_position || outlook->position == first - from,
           "seed %llu, seq %lld: position %llu, not %zu", seed, (long long)seq,
           (unsigned long long)outlook->position, first - from);
    int64_t off_ns = outlook->has_eta ? mono_diff(outlook->eta, done) : 0;
    ENSURE(off_ns <= 100 && off_ns >= -100, "seed %llu, seq %lld: eta off by %lld ns", seed, (long long)seq,
           (long long)off_ns);
}

Test(outlook, what_is_said_is_what_the_engine_does)
{
    static const struct rate rates[] = {{1, 5 * NS_PER_S}, {1, NS_PER_S}, {3, NS_PER_S}, {20, NS_PER_S}};
    struct random random = random_from(52);
    size_t asked = 0;
    for (int round = 0; round < 200; round++) {
        struct rate rate = rates[random_below(&random, COUNT(rates))];
        struct queue_settings settings = world_settings(rate.count, rate.per_ns, 1, 1);
        settings.concurrency = (uint32_t)(1 + random_below(&random, 4));
        settings.min_backoff_ns = NS_PER_S;
        settings.max_backoff_ns = 20 * NS_PER_S;
        settings.max_hold_ns = 60 * NS_PER_S;
        settings.max_attempts = 1000;
        settings.breaker = (uint32_t)random_below(&random, 4);
        struct world *world = world_of(settings, (int64_t)(1 + random_below(&random, 3000)) * NS_PER_MS);
        world->script = fails_while_young;
        world->random = (struct random){random.seed, random_next(&random)};
        size_t count = 10 + random_below(&random, 30);
        live(world, count);
        struct queue_view view = engine_view(world->engine, 0, world->now);
        bool measured = view.figures->delivery_ns == world->delivery_ns;
        struct outlook outlooks[40];
        for (size_t i = 0; i < count; i++) {
            struct standing standing = world_standing(world, (int64_t)i + 1);
            outlooks[i] = engine_outlook(world->engine, &standing, world->now, world_wall(world));
        }
        size_t from = world->log_count;
        world_run_until(world, INT64_MAX);
        for (size_t i = 0; i < count && measured; i++) {
            compare(world, from, (int64_t)i + 1, &outlooks[i]);
            asked += outlooks[i].has_eta;
        }
        world_free(world);
    }
    ENSURE(asked > 1000, "only %zu were not done yet", asked);
}

// ---- one thing at a time ----

// Slots every 5 s from now on, deliveries of 1 s, and one LOW ingestion of three batches.
static void as_it_is(struct scene *scene)
{
    (void)scene;
}
static void a_higher_priority(struct scene *scene)
{
    (void)scene_ingest(scene, PRIORITY_HIGH, 2, scene->now.ns);
}
static void a_lower_one_and_a_later_one(struct scene *scene)
{
    scene->ingestions[0].priority = PRIORITY_MEDIUM;
    for (size_t i = 0; i < scene->batch_count; i++) {
        scene->batches[i].place.priority = PRIORITY_MEDIUM;
    }
    (void)scene_ingest(scene, PRIORITY_LOW, 2, scene->now.ns);
    (void)scene_ingest(scene, PRIORITY_MEDIUM, 2, scene->now.ns);
}
static void held(struct scene *scene)
{
    scene->load.figures.held_until = mono_add(scene->now, 60 * NS_PER_S);
    scene->load.figures.held_by = HOLD_RETRY_AFTER;
}
static void paused(struct scene *scene)
{
    scene->load.figures.paused = true;
}
static void breaker_is_open(struct scene *scene)
{
    scene->load.figures.failures = scene->load.settings.breaker;
    scene->load.figures.probe_at = mono_add(scene->now, 30 * NS_PER_S);
    scene->load.figures.delivery_ns = 7 * NS_PER_S;
    scene->load.settings.concurrency = 2;
}
static void a_probe_is_out(struct scene *scene)
{
    breaker_is_open(scene);
    (void)scene_ingest(scene, PRIORITY_HIGH, 1, scene->now.ns);
    scene_fly(scene, 2, 0, NS_PER_S);
}
static void its_last_is_in_flight(struct scene *scene)
{
    scene_batch_at(scene, 1, 0)->where = DONE;
    scene_batch_at(scene, 1, 1)->where = DONE;
    scene_fly(scene, 1, 2, 300 * NS_PER_MS);
}
static void its_last_takes_long(struct scene *scene)
{
    its_last_is_in_flight(scene);
    scene_batch_at(scene, 1, 2)->start = mono_add(scene->now, -9 * NS_PER_S);
}
static void deliveries_take_longer_than_the_interval(struct scene *scene)
{
    scene->load.figures.delivery_ns = 20 * NS_PER_S;
    scene->load.settings.concurrency = 2;
}
static void no_limit(struct scene *scene)
{
    scene->load.settings.rate = (struct rate){0, 0};
}
static void a_retry_ahead_that_makes_it(struct scene *scene)
{
    (void)scene_ingest(scene, PRIORITY_HIGH, 2, scene->now.ns);
    scene_put_off(scene, 2, 1, 5 * NS_PER_S); // on the slot
}
static void a_retry_ahead_that_is_late_for_one(struct scene *scene)
{
    (void)scene_ingest(scene, PRIORITY_HIGH, 2, scene->now.ns);
    scene_put_off(scene, 2, 1, 5 * NS_PER_S + 1);
}
static void a_not_before_ahead(struct scene *scene)
{
    scene_schedule(scene, scene_ingest(scene, PRIORITY_HIGH, 4, scene->now.ns), 7000);
}
static void its_own_retry(struct scene *scene)
{
    scene_put_off(scene, 1, 2, 61 * NS_PER_S);
}
static void only_its_retry(struct scene *scene)
{
    scene_batch_at(scene, 1, 0)->where = DONE;
    scene_batch_at(scene, 1, 1)->where = DONE;
    scene_put_off(scene, 1, 2, 61 * NS_PER_S);
}
static void its_retry_goes_first(struct scene *scene)
{
    (void)scene_ingest(scene, PRIORITY_HIGH, 1, scene->now.ns);
    scene_put_off(scene, 1, 0, NS_PER_S);
}
static void its_not_before(struct scene *scene)
{
    scene_schedule(scene, 1, 61000);
}
static void its_not_before_with_work_until_then(struct scene *scene)
{
    its_not_before(scene);
    (void)scene_ingest(scene, PRIORITY_LOW, 100, scene->now.ns); // slots 0 to 60 s
}
static void its_not_before_with_more_ahead(struct scene *scene)
{
    its_not_before(scene);
    (void)scene_ingest(scene, PRIORITY_HIGH, 20, scene->now.ns);
}
static void its_not_before_with_others(struct scene *scene)
{
    its_not_before(scene);
    scene_schedule(scene, scene_ingest(scene, PRIORITY_LOW, 2, scene->now.ns), 59000);
    scene_schedule(scene, scene_ingest(scene, PRIORITY_HIGH, 1, scene->now.ns), 62000);
}
static void others_have_aged(struct scene *scene)
{
    scene->load.settings.aging_ns = 60 * NS_PER_S;
    scene->ingestions[0].accepted_ns = scene->now.ns - 130 * NS_PER_S; // counts as HIGH
    (void)scene_ingest(scene, PRIORITY_MEDIUM, 1, scene->now.ns - 61 * NS_PER_S);
    (void)scene_ingest(scene, PRIORITY_HIGH, 1, scene->now.ns);
}
static void an_aged_one_is_ahead(struct scene *scene)
{
    scene->load.settings.aging_ns = 60 * NS_PER_S;
    scene->ingestions[0].accepted_ns = scene->now.ns - 60 * NS_PER_S; // counts as MEDIUM
    (void)scene_ingest(scene, PRIORITY_MEDIUM, 2, scene->now.ns - 59 * NS_PER_S);
    (void)scene_ingest(scene, PRIORITY_HIGH, 2, scene->now.ns);
}
static void no_worker_is_there(struct scene *scene)
{
    scene->load.traits.pull = true;
}
Test(outlook, holds_pauses_priorities_retries_not_before_and_aging)
{
    static const struct {
        const char *what;
        void (*set)(struct scene *scene);
        int64_t seq;
        int64_t position; // -1: null
        int64_t eta_ms;   // from now; -1: null
    } cases[] = {
        {"as it is", as_it_is, 1, 0, 11000},
        {"a higher priority", a_higher_priority, 1, 2, 21000},
        {"a higher priority itself", a_higher_priority, 2, 0, 6000},
        {"a lower one and a later one", a_lower_one_and_a_later_one, 1, 0, 11000},
        {"a lower one itself", a_lower_one_and_a_later_one, 2, 5, 31000},
        {"a later one itself", a_lower_one_and_a_later_one, 3, 3, 21000},
        {"held", held, 1, 0, 71000},
        {"paused", paused, 1, 0, -1},
        {"the breaker is open", breaker_is_open, 1, 0, 49000}, // 30, done at 37; 37, 42
        {"a probe is out", a_probe_is_out, 1, 0, 23000},       // done at 6; 6, 11, 16
        {"its last is in flight", its_last_is_in_flight, 1, -1, 700},
        {"its last takes long", its_last_takes_long, 1, -1, 0},
        {"deliveries take longer", deliveries_take_longer_than_the_interval, 1, 0, 40000}, // 0, 5, 20
        {"no limit", no_limit, 1, 0, 3000},
        {"a retry ahead that makes it", a_retry_ahead_that_makes_it, 1, 2, 21000},
        {"a retry ahead that is late for one", a_retry_ahead_that_is_late_for_one, 1, 1, 21000},
        {"a not_before ahead", a_not_before_ahead, 1, 0, 31000}, // 0, 5, (10 15 20 25), 30
        {"its own retry", its_own_retry, 1, 0, 62000},
        {"only its retry", only_its_retry, 1, -1, 62000},
        {"its retry goes first", its_retry_goes_first, 1, 1, 16000},
        {"its not_before", its_not_before, 1, 0, 72000},
        {"its not_before, with work", its_not_before_with_work_until_then, 1, 13, 76000},
        {"its not_before, with more ahead", its_not_before_with_more_ahead, 1, 20, 111000},
        {"its not_before, with others", its_not_before_with_others, 1, 2, 80000}, // 59, 64 (HIGH), 69
        {"others have aged", others_have_aged, 1, 0, 11000},
        {"aged, with an older one", others_have_aged, 2, 3, 16000},
        {"not aged", others_have_aged, 3, 4, 21000},
        {"an aged one is ahead of its own", an_aged_one_is_ahead, 2, 5, 31000},
        {"an aged one is behind", an_aged_one_is_ahead, 1, 2, 21000},
        {"no worker is there", no_worker_is_there, 1, 0, 11000},
    };
    static struct scene scene;
    struct outlook outlooks[SCENE_INGESTIONS];
    for (size_t i = 0; i < COUNT(cases); i++) {
        scene_init(&scene, (struct rate){1, 5 * NS_PER_S}, 1, 1, NS_PER_S);
        (void)scene_ingest(&scene, PRIORITY_LOW, 3, scene.now.ns);
        cases[i].set(&scene);
        check(&scene, outlooks, cases[i].what, 0);
        const struct outlook *outlook = &outlooks[cases[i].seq - 1];
        cr_expect_eq(outlook->has_position ? (int64_t)outlook->position : -1, cases[i].position,
                     "%s: position %llu", cases[i].what, (unsigned long long)outlook->position);
        int64_t eta_ns = outlook->has_eta ? mono_diff(outlook->eta, scene.now) : -NS_PER_MS;
        cr_expect_eq(eta_ns, cases[i].eta_ms * NS_PER_MS, "%s: eta %lld ns", cases[i].what,
                     (long long)eta_ns);
    }
}

Test(outlook, nothing_to_say_about_what_is_done_or_unknown)
{
    static struct scene scene;
    scene_init(&scene, (struct rate){1, NS_PER_S}, 1, 1, NS_PER_S);
    int64_t seq = scene_ingest(&scene, PRIORITY_LOW, 1, scene.now.ns);
    scene_batch_at(&scene, seq, 0)->where = DONE;
    struct engine *engine = scene_engine(&scene);
    struct standing standing = scene_standing(&scene, seq, NULL, 0);
    struct outlook outlook = engine_outlook(engine, &standing, scene.now, scene.now_wall);
    cr_assert_not(outlook.has_position);
    cr_assert_not(outlook.has_eta);
    standing = (struct standing){.queue = 77, .waiting = 1};
    outlook = engine_outlook(engine, &standing, scene.now, scene.now_wall);
    cr_assert_not(outlook.has_position);
    cr_assert_not(outlook.has_eta);
    engine_free(engine);
}

Test(outlook, a_retry_after_all_that_is_listed_is_no_sooner_than_these)
{
    static struct scene scene;
    scene_init(&scene, (struct rate){0, 0}, 1, 1, NS_PER_MS);
    (void)scene_ingest(&scene, PRIORITY_LOW, STANDING_DELAYED_MAX, scene.now.ns);
    int64_t seq = scene_ingest(&scene, PRIORITY_HIGH, 1, scene.now.ns);
    for (uint32_t i = 0; i < STANDING_DELAYED_MAX; i++) {
        scene_put_off(&scene, 1, i, (1 + i) * NS_PER_S);
    }
    scene_put_off(&scene, seq, 0, 1000 * NS_PER_S);
    struct delayed_row rows[SCENE_BATCHES];
    struct engine *engine = scene_engine(&scene);
    (void)scene_delayed(&scene, rows);
    struct standing standing = scene_standing(&scene, seq, rows, STANDING_DELAYED_MAX);
    struct outlook outlook = engine_outlook(engine, &standing, scene.now, scene.now_wall);
    cr_assert_not(outlook.has_position);
    cr_assert(outlook.has_eta);
    cr_assert_eq(mono_diff(outlook.eta, scene.now), STANDING_DELAYED_MAX * NS_PER_S + NS_PER_MS);
    engine_free(engine);
}

// A clock that can go no further.
Test(outlook, the_end_of_time)
{
    static struct scene scene;
    scene_init(&scene, (struct rate){1, INT64_MAX / 4}, 1, 1, INT64_MAX / 4);
    (void)scene_ingest(&scene, PRIORITY_LOW, 9, scene.now.ns);
    scene_schedule(&scene, scene_ingest(&scene, PRIORITY_HIGH, 1, scene.now.ns), 1000);
    scene.ingestions[1].not_before.ms = INT64_MAX;
    struct engine *engine = scene_engine(&scene);
    struct delayed_row rows[SCENE_BATCHES];
    size_t count = scene_delayed(&scene, rows);
    for (int64_t seq = 1; seq <= 2; seq++) {
        struct standing standing = scene_standing(&scene, seq, rows, count);
        struct outlook outlook = engine_outlook(engine, &standing, scene.now, scene.now_wall);
        cr_assert(outlook.has_position);
        cr_assert_eq(outlook.eta.ns, INT64_MAX);
    }
    engine_free(engine);
}

// ---- how the queues are ----

Test(outlook, queues_are_found_by_name)
{
    struct engine *engine = engine_new(10, 5 * NS_PER_S);
    static const char *const names[] = {"default", "b", "c", "a.b"}; // by ID
    static const char *const sorted[] = {"a.b", "b", "c", "default"};
    static struct scene scene;
    scene_init(&scene, (struct rate){1, NS_PER_S}, 1, 1, NS_PER_S);
    for (size_t i = 0; i < COUNT(names); i++) {
        scene.load.id = (int64_t)i + 1;
        scene.load.name = names[i];
        scene.load.waiting[PRIORITY_MEDIUM] = i;
        cr_assert_eq(engine_add_queue(engine, &scene.load), ERR_OK);
    }
    struct queue_view view;
    int64_t id;
    cr_assert_eq(engine_queues(engine), COUNT(names));
    for (size_t i = 0; i < COUNT(names); i++) {
        cr_expect_str_eq(engine_view(engine, i, scene.now).name, sorted[i]);
        cr_expect_eq(engine_after_name(engine, sorted[i]), i + 1);
        cr_assert_eq(engine_find_queue(engine, names[i], &id), ERR_OK);
        cr_expect_eq(id, (int64_t)i + 1);
        cr_assert_eq(engine_view_by_id(engine, id, scene.now, &view), ERR_OK);
        cr_expect_str_eq(view.name, names[i]);
        cr_expect_eq(view.waiting[PRIORITY_MEDIUM], i);
        cr_expect_eq(view.in_flight, 0);
        cr_expect_eq(view.rate, 0.0);
        cr_expect_null(view.paused_reason);
    }
    cr_expect_eq(engine_after_name(engine, ""), 0);
    cr_expect_eq(engine_after_name(engine, "bb"), 2);
    cr_expect_eq(engine_after_name(engine, "z"), COUNT(names));
    cr_expect_eq(engine_find_queue(engine, "d", &id), ERR_UNKNOWN_QUEUE);
    cr_expect_eq(engine_view_by_id(engine, 5, scene.now, &view), ERR_UNKNOWN_QUEUE);
    cr_expect_eq(engine_age(engine, scene.now), scene.now.ns + 5 * NS_PER_S);
    engine_free(engine);
}

Test(outlook, why_a_queue_is_paused_and_until_when)
{
    static const struct {
        bool paused;
        int64_t held_s; // from now
        enum hold_reason held_by;
        uint32_t failures; // 10 open the breaker
        int64_t probe_s;
        const char *reason;
        int64_t until_s; // INT64_MAX: never
    } cases[] = {
        {false, 0, HOLD_NONE, 0, 0, NULL, 0},
        {true, 5, HOLD_RETRY_AFTER, 0, 0, "paused", INT64_MAX},
        {false, 5, HOLD_RETRY_AFTER, 9, 7, "retry_after", 5},
        {false, 5, HOLD_RATE_LIMIT, 10, 4, "rate_limit", 5},
        {false, 5, HOLD_RATE_LIMIT, 10, 6, "breaker", 6},
        {false, -5, HOLD_RATE_LIMIT, 0, 0, NULL, 0},
        {false, -5, HOLD_RATE_LIMIT, 11, 6, "breaker", 6},
        {false, 0, HOLD_NONE, 11, -1, "breaker", 0}, // its probe is out
        {true, 0, HOLD_NONE, 11, 1, "paused", INT64_MAX},
    };
    static struct scene scene;
    for (size_t i = 0; i < COUNT(cases); i++) {
        scene_init(&scene, (struct rate){1, NS_PER_S}, 1, 1, NS_PER_S);
        struct queue_figures *figures = &scene.load.figures;
        figures->paused = cases[i].paused;
        figures->held_until = mono_add(scene.now, cases[i].held_s * NS_PER_S);
        figures->held_by = cases[i].held_by;
        figures->failures = cases[i].failures;
        figures->probe_at = mono_add(scene.now, cases[i].probe_s * NS_PER_S);
        struct engine *engine = scene_engine(&scene);
        struct queue_view view = engine_view(engine, 0, scene.now);
        if (cases[i].reason == NULL) {
            cr_expect_null(view.paused_reason, "case %zu", i);
        } else {
            cr_assert_not_null(view.paused_reason, "case %zu", i);
            cr_expect_str_eq(view.paused_reason, cases[i].reason, "case %zu", i);
            int64_t until_ns = mono_diff(view.paused_until, scene.now);
            cr_expect_eq(until_ns, cases[i].until_s == INT64_MAX ? INT64_MAX : cases[i].until_s * NS_PER_S,
                         "case %zu", i);
        }
        engine_free(engine);
    }
}
