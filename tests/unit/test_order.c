#include "scheduler/order.h"

#include "tests/support/engine_check.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BATCHES 8u // of one ingestion, at the most
#define INGESTIONS 20000

// What the store would know: which batches wait. Slow and simple.
struct waiting {
    bool is[INGESTIONS][BATCHES];
    int64_t end; // of the sequence numbers given
};

// The first waiting batch strictly after (seq, index); false when there is none.
static bool waiting_after(const struct waiting *w, int64_t *seq, uint32_t *index)
{
    uint32_t i = *seq < 0 ? 0 : *index + 1;
    for (int64_t s = *seq < 0 ? 0 : *seq; s < w->end; s++, i = 0) {
        for (; i < BATCHES; i++) {
            if (w->is[s][i]) {
                *seq = s;
                *index = i;
                return true;
            }
        }
    }
    return false;
}

static size_t read_runs(const struct waiting *w, int64_t seq, uint32_t index, struct run *runs, size_t count)
{
    size_t n = 0;
    while (waiting_after(w, &seq, &index)) {
        if (n > 0 && runs[n - 1].seq == seq && runs[n - 1].end == index) {
            runs[n - 1].end++;
        } else if (n == count) {
            break;
        } else {
            runs[n++] = (struct run){seq, index, index + 1};
        }
    }
    return n;
}

static void refill(struct window *window, const struct waiting *w)
{
    while (window_wants(window)) {
        struct run runs[WINDOW_REFILL];
        size_t n = read_runs(w, window->horizon_seq, window->horizon_index, runs, COUNT(runs));
        ENSURE(window_give(window, runs, n, COUNT(runs)) == ERR_OK, "give");
    }
}

// The window holds every waiting batch up to its horizon, in order, and nothing else.
static void check(const struct window *window, const struct waiting *w, uint64_t seed)
{
    int64_t seq = -1;
    uint32_t index = 0;
    for (size_t i = 0; i < window->len; i++) {
        const struct run *run = &window->runs[window->head + i];
        ENSURE(run->first < run->end, "seed %llu: an empty run", (unsigned long long)seed);
        for (uint32_t at = run->first; at < run->end; at++) {
            ENSURE(waiting_after(w, &seq, &index) && seq == run->seq && index == at,
                   "seed %llu: holds %lld.%u", (unsigned long long)seed, (long long)run->seq, at);
        }
    }
    bool more = waiting_after(w, &seq, &index);
    ENSURE(!more || (!window->complete && (seq > window->horizon_seq ||
                                           (seq == window->horizon_seq && index > window->horizon_index))),
           "seed %llu: lacks %lld.%u", (unsigned long long)seed, (long long)seq, index);
    ENSURE(window->len <= WINDOW_MAX, "seed %llu: %zu runs", (unsigned long long)seed, window->len);
}

static void add(struct window *window, struct waiting *w, uint32_t batches)
{
    for (uint32_t i = 0; i < batches; i++) {
        w->is[w->end][i] = true;
    }
    ENSURE(window_append(window, (struct run){w->end++, 0, batches}) == ERR_OK, "append");
}

static bool take(struct window *window, struct waiting *w, struct place *taken)
{
    refill(window, w);
    int64_t seq = -1;
    uint32_t index = 0;
    bool any = waiting_after(w, &seq, &index);
    ENSURE(window_first(window, &taken->seq, &taken->index) == any, "one has a first batch, the other not");
    if (any) {
        ENSURE(taken->seq == seq && taken->index == index, "not the first one");
        window_take_first(window);
        w->is[seq][index] = false;
    }
    return any;
}

Test(order, places_by_priority_then_sequence_then_index)
{
    static const struct place in_order[] = {
        {PRIORITY_HIGH, 1, 0},         {PRIORITY_HIGH, 1, 1},    {PRIORITY_HIGH, 9, 0},
        {PRIORITY_HIGH, INT64_MAX, 0}, {PRIORITY_MEDIUM, 0, 0},  {PRIORITY_MEDIUM, 0, UINT32_MAX},
        {PRIORITY_MEDIUM, 1, 0},       {PRIORITY_LOW, -1, 5000}, {PRIORITY_LOW, 0, 0},
    };
    for (size_t i = 0; i < COUNT(in_order); i++) {
        for (size_t j = 0; j < COUNT(in_order); j++) {
            int order = place_compare(&in_order[i], &in_order[j]);
            cr_assert_eq((order > 0) - (order < 0), (i > j) - (i < j), "%zu and %zu", i, j);
        }
    }
}

Test(order, a_new_window_holds_nothing_and_wants)
{
    struct window window;
    window_init(&window);
    cr_assert(window_wants(&window));
    cr_assert_eq(window.horizon_seq, -1);
    cr_assert_eq(window_append(&window, (struct run){1, 0, 3}), ERR_OK);
    cr_assert_eq(window_insert(&window, 0, 0), ERR_OK);
    cr_assert_eq(window.len, 0, "the store has them; the window does not reach so far");
    cr_assert_eq(window_give(&window, NULL, 0, WINDOW_REFILL), ERR_OK);
    cr_assert_not(window_wants(&window));
    cr_assert_eq(window_append(&window, (struct run){2, 0, 3}), ERR_OK);
    cr_assert_eq(window.len, 1, "now it reaches the end");
    window_fini(&window);
}

Test(order, as_many_as_asked_for_means_there_may_be_more)
{
    struct window window;
    struct run runs[WINDOW_REFILL];
    window_init(&window);
    for (size_t i = 0; i < COUNT(runs); i++) {
        runs[i] = (struct run){(int64_t)i, 2, 7};
    }
    cr_assert_eq(window_give(&window, runs, COUNT(runs), COUNT(runs)), ERR_OK);
    cr_assert_not(window.complete);
    cr_assert_eq(window.horizon_seq, (int64_t)COUNT(runs) - 1);
    cr_assert_eq(window.horizon_index, 6);
    for (uint32_t i = 0; i < 5 * (WINDOW_REFILL - WINDOW_LOW); i++) {
        window_take_first(&window);
        cr_assert_not(window_wants(&window));
    }
    for (int i = 0; i < 5; i++) {
        window_take_first(&window);
    }
    cr_assert(window_wants(&window));
    window_fini(&window);
}

Test(order, the_horizon_belongs_to_the_window)
{
    struct window window;
    const struct run run = {5, 0, 3};
    window_init(&window);
    cr_assert_eq(window_give(&window, &run, 1, 1), ERR_OK);
    for (int i = 0; i < 3; i++) {
        window_take_first(&window);
    }
    cr_assert_eq(window_insert(&window, 5, 3), ERR_OK);
    cr_assert_eq(window.len, 0, "beyond it");
    cr_assert_eq(window_insert(&window, 5, 2), ERR_OK);
    cr_assert_eq(window.len, 1, "on it");
    cr_assert_eq(window_insert(&window, 4, 9), ERR_OK);
    cr_assert_eq(window.len, 2, "before it");
    window_fini(&window);
}

Test(order, what_passes_the_limit_is_left_to_the_store)
{
    static struct waiting w;
    struct window window;
    window_init(&window);
    refill(&window, &w);
    for (uint32_t i = 0; i < WINDOW_MAX + 1; i++) {
        add(&window, &w, 2);
    }
    cr_assert_eq(window.len, WINDOW_MAX);
    cr_assert_not(window.complete);
    cr_assert_eq(window.horizon_seq, WINDOW_MAX - 1);
    cr_assert_eq(window.horizon_index, 1);
    // One comes back in the middle: the last goes, and the horizon with it.
    struct place taken;
    cr_assert(take(&window, &w, &taken));
    w.is[0][0] = true;
    cr_assert_eq(window_insert(&window, 0, 0), ERR_OK);
    cr_assert_eq(window.len, WINDOW_MAX);
    cr_assert_eq(window.horizon_seq, WINDOW_MAX - 2);
    check(&window, &w, 0);
    while (take(&window, &w, &taken)) {
    }
    cr_assert(window.complete);
    window_fini(&window);
}

// One phase of random steps; out of 100, so many add or take, the others bring back what was taken.
struct phase {
    int steps;
    uint64_t adds;
    uint64_t takes;
};

static void run_phase(struct window *window, struct waiting *w, const struct phase *phase,
                      struct random *random)
{
    static struct place out[INGESTIONS];
    static size_t out_count;
    for (int step = 0; step < phase->steps; step++) {
        uint64_t dice = random_below(random, 100);
        if (dice < phase->adds && w->end < INGESTIONS) {
            add(window, w, (uint32_t)(1 + random_below(random, BATCHES)));
        } else if (dice < phase->adds + phase->takes) {
            out_count += out_count < COUNT(out) && take(window, w, &out[out_count]);
        } else if (out_count > 0) {
            size_t at = random_below(random, out_count);
            struct place place = out[at];
            out[at] = out[--out_count];
            w->is[place.seq][place.index] = true;
            ENSURE(window_insert(window, place.seq, place.index) == ERR_OK, "insert");
        }
        if (step % 16 == 0) {
            check(window, w, random->seed);
        }
    }
}

Test(order, random_steps_against_a_plain_table)
{
    static const struct phase phases[] = {
        {2000, 30, 40}, {4000, 80, 10}, {6000, 5, 60}, {3000, 0, 30}, {4000, 0, 95}, {3000, 30, 30},
    };
    static struct waiting w;
    struct random random = random_from(11);
    struct window window;
    window_init(&window);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(phases); i++) {
            run_phase(&window, &w, &phases[i], &random);
        }
    }
    struct place taken;
    struct place last = {.seq = -1};
    while (take(&window, &w, &taken)) {
        taken.priority = last.priority;
        ENSURE(place_compare(&last, &taken) < 0, "seed %llu", (unsigned long long)random.seed);
        last = taken;
    }
    check(&window, &w, random.seed);
    window_fini(&window);
}
