// The engine when memory runs out: each allocation of what it does fails, alone and with all after it. The
// call says so, and then the engine is good for nothing but to be freed, with nothing leaked.
#include "scheduler/engine.h"
#include "scheduler/order.h"
#include "tests/unit/no_memory.h"

#include <string.h>

#define AT ((struct mono){1000 * NS_PER_S})
#define WALL ((struct wall){1700000000000})

static const struct queue_settings settings = {
    .concurrency = 100,
    .batch_size = 1,
    .largest_batch = 1,
    .max_id = ID_VALUE_MAX,
    .max_attempts = 3,
    .min_backoff_ns = NS_PER_S,
    .max_backoff_ns = NS_PER_S,
    .linger_ns = 0,
};

static enum err add_queues(struct engine *engine, uint64_t waiting)
{
    enum err err = ERR_OK;
    for (int64_t id = 1; id <= 20 && err == ERR_OK; id++) {
        char name[] = {'q', (char)('a' + id), '\0'};
        struct queue_load load = {
            .id = id, .name = name, .settings = settings, .due = {DUE_NEVER, DUE_NEVER, DUE_NEVER}};
        load.waiting[PRIORITY_LOW] = id == 1 ? waiting : 0;
        err = engine_add_queue(engine, &load);
    }
    return err;
}

// The store has one run for each batch.
static enum err look_ahead(struct engine *engine, uint64_t waiting)
{
    enum err err = ERR_OK;
    struct want want;
    while (err == ERR_OK && engine_wants(engine, &want)) {
        struct run runs[WANT_MAX];
        size_t count = 0;
        int64_t last = want.queue == 1 && want.priority == PRIORITY_LOW ? (int64_t)waiting : 0;
        int64_t first = want.after_seq > 0 ? want.after_seq + 1 : 1;
        for (int64_t seq = first; seq <= last && count < want.count; seq++) {
            runs[count++] = (struct run){.seq = seq, .first = 0, .end = 1};
        }
        err = engine_give_runs(engine, &want, runs, count);
    }
    return err;
}

static enum err take_in(struct engine *engine, int64_t seq)
{
    struct ingest_request request = {
        .priority = PRIORITY_HIGH, .queue = "qb", .ids = {.count = 3, .largest = 3}};
    struct admission admission;
    struct fault fault;
    enum err err = engine_admit(engine, &request, AT, WALL, &admission, &fault);
    return err == ERR_OK ? engine_accepted(engine, &admission, seq, AT) : err;
}

static enum err come_back(struct engine *engine)
{
    enum err err = ERR_OK;
    for (int64_t seq = 0; seq < 40 && err == ERR_OK; seq++) {
        struct returned_row row = {PRIORITY_MEDIUM, {.seq = seq + 1, .first = 0, .end = 2}};
        err = engine_returned(engine, 2, &row, 0);
    }
    return err;
}

static enum err dispatch_and_end(struct engine *engine, uint64_t waiting)
{
    struct flight *flights[50];
    struct batch_key key;
    enum err err = ERR_OK;
    size_t count = 0;
    while (err == ERR_OK && count < 50 && (err = look_ahead(engine, waiting)) == ERR_OK) {
        err = engine_next(engine, AT, WALL, &key, &flights[count]);
        count += err == ERR_OK;
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct outcome outcome = {.class = i % 2 == 0 ? OUTCOME_COMPLETED : OUTCOME_RETRY};
        struct finish_row row;
        err = engine_outcome(engine, flights[i], &outcome, 1, 0, AT, WALL, i, &row);
    }
    return err;
}

static enum err live(struct engine *engine)
{
    const uint64_t waiting = 1000;
    enum err err = add_queues(engine, waiting);
    for (int64_t i = 1; i <= 100 && err == ERR_OK; i++) {
        err = look_ahead(engine, waiting);
        err = err == ERR_OK ? take_in(engine, (int64_t)waiting + i) : err;
    }
    if (err == ERR_OK) {
        err = come_back(engine);
    }
    if (err == ERR_OK) {
        struct batch_key key = {1, {PRIORITY_LOW, 5000, 0}};
        struct flight *flight;
        err = engine_add_flight(engine, &key, AT, true, false, &flight);
    }
    return err == ERR_OK ? dispatch_and_end(engine, waiting) : err;
}

static void whole_life(void *user, bool short_of)
{
    size_t *lived = user;
    struct engine *engine = engine_new(UINT64_C(1) << 40, 0);
    if (engine == NULL) {
        cr_assert(short_of);
        return;
    }
    enum err err = live(engine);
    cr_assert(err == ERR_OK || (short_of && err == ERR_NO_MEMORY), "%s", err_name(err));
    *lived += err == ERR_OK;
    engine_free(engine);
}

Test(no_memory_engine, every_call_says_that_there_was_none)
{
    size_t lived = 0;
    size_t failures = memory_exhaust(whole_life, &lived);
    cr_assert_gt(failures, 2 * 100);
    // What fails and may is one: a window that cannot shrink stays as it is.
    cr_assert_leq(lived, failures + 2 + 10, "%zu of %zu", lived - failures - 2, failures);
}
