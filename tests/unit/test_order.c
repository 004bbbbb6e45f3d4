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
            runs[n++] = (struct run){seq, index, index + 1, 10 * seq};
        }
    }
    return n;
}

static void refill(struct window *window, const struct waiting *w, uint32_t max)
{
    while (window_wants(window, max)) {
        struct run runs[WINDOW_MAX / 2];
        size_t n = read_runs(w, window->horizon_seq, window->horizon_index, runs, max / 2);
        ENSURE(window_give(window, runs, n, max / 2) == ERR_OK, "give");
    }
}

// The window holds every waiting batch up to its horizon, in order, and nothing else.
static void check(const struct window *window, const struct waiting *w, uint32_t max, uint64_t seed)
{
    int64_t seq = -1;
    uint32_t index = 0;
    for (size_t i = 0; i < window->len; i++) {
        const struct run *run = &window->runs[window->head + i];
        ENSURE(run->first < run->end, "seed %llu: an empty run", (unsigned long long)seed);
        ENSURE(run->accepted_ns == 10 * run->seq, "seed %llu: accepted then", (unsigned long long)seed);
        for (uint32_t at = run->first; at < run->end; at++) {
            ENSURE(waiting_after(w, &seq, &index) && seq == run->seq && index == at,
                   "seed %llu: holds %lld.%u", (unsigned long long)seed, (long long)run->seq, at);
        }
    }
    bool more = waiting_after(w, &seq, &index);
    ENSURE(!more || (!window->complete && (seq > window->horizon_seq ||
                                           (seq == window->horizon_seq && index > window->horizon_index))),
           "seed %llu: lacks %lld.%u", (unsigned long long)seed, (long long)seq, index);
    ENSURE(window->len <= max && window->cap <= max, "seed %llu: %zu runs in %zu", (unsigned long long)seed,
           window->len, window->cap);
    ENSURE(window->len > 0 || window->cap <= WINDOW_MIN, "seed %llu: an empty one of %zu",
           (unsigned long long)seed, window->cap);
}

static void add(struct window *window, struct waiting *w, uint32_t batches, uint32_t max)
{
    for (uint32_t i = 0; i < batches; i++) {
        w->is[w->end][i] = true;
    }
    ENSURE(window_append(window, (struct run){w->end, 0, batches, 10 * w->end}, max) == ERR_OK, "append");
    w->end++;
}

static bool take(struct window *window, struct waiting *w, struct place *taken, uint32_t max)
{
    refill(window, w, max);
    int64_t seq = -1;
    uint32_t index = 0;
    struct run run;
    bool any = waiting_after(w, &seq, &index);
    ENSURE(window_first(window, &run) == any, "one has a first batch, the other not");
    if (any) {
        ENSURE(run.seq == seq && run.first == index, "not the first one");
        *taken = (struct place){PRIORITY_HIGH, seq, index};
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

// ---- aging ----

Test(order, a_priority_is_gained_for_each_time_waited)
{
    static const struct {
        enum priority own;
        int64_t waited_ns;
        int64_t aging_ns;
        enum priority counts;
    } cases[] = {
        {PRIORITY_LOW, 1000, 0, PRIORITY_LOW},       {PRIORITY_LOW, 99, 100, PRIORITY_LOW},
        {PRIORITY_LOW, 100, 100, PRIORITY_MEDIUM},   {PRIORITY_LOW, 199, 100, PRIORITY_MEDIUM},
        {PRIORITY_LOW, 200, 100, PRIORITY_HIGH},     {PRIORITY_LOW, 1000000, 100, PRIORITY_HIGH},
        {PRIORITY_MEDIUM, 99, 100, PRIORITY_MEDIUM}, {PRIORITY_MEDIUM, 100, 100, PRIORITY_HIGH},
        {PRIORITY_HIGH, 100, 100, PRIORITY_HIGH},    {PRIORITY_LOW, -500, 100, PRIORITY_LOW},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        enum priority counts =
            order_priority(cases[i].own, 5000, 5000 + cases[i].waited_ns, cases[i].aging_ns);
        cr_expect_eq(counts, cases[i].counts, "case %zu: %d", i, (int)counts);
    }
    cr_expect_eq(order_priority(PRIORITY_LOW, INT64_MIN, INT64_MAX, 1), PRIORITY_LOW, "no such wait");
}

// A batch of each priority, accepted at each moment, on either side of the one in question.
Test(order, bounds_say_what_goes_before)
{
    static const int64_t agings[] = {0, 1, 7, 30, 100, 1000, INT64_MAX};
    const int64_t now = 200;
    for (size_t a = 0; a < COUNT(agings); a++) {
        for (int own = 0; own < PRIORITIES; own++) {
            for (int64_t accepted = 0; accepted <= now; accepted += 13) {
                struct order_bound bounds[PRIORITIES];
                order_bounds((enum priority)own, accepted, now, agings[a], bounds);
                enum priority counts = order_priority((enum priority)own, accepted, now, agings[a]);
                for (int p = 0; p < PRIORITIES; p++) {
                    for (int64_t at = 0; at <= now; at++) {
                        enum priority its = order_priority((enum priority)p, at, now, agings[a]);
                        ENSURE((at <= bounds[p].before_ns) == (its < counts), "%d at %lld by %lld", p,
                               (long long)at, (long long)agings[a]);
                        ENSURE((at <= bounds[p].tied_ns) == (its <= counts), "%d at %lld by %lld", p,
                               (long long)at, (long long)agings[a]);
                    }
                }
            }
        }
    }
}

// ---- windows ----

Test(order, windows_share_the_budget)
{
    static const struct {
        size_t windows;
        uint32_t share;
    } cases[] = {
        {0, WINDOW_MAX}, {3, WINDOW_MAX}, {600, WINDOW_MAX}, {30000, WINDOW_MIN}, {1000000, WINDOW_MIN}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect_eq(window_share(cases[i].windows), cases[i].share, "%zu windows", cases[i].windows);
    }
    for (size_t windows = 1; windows <= PRIORITIES * QUEUES_MAX; windows += 7) {
        uint32_t share = window_share(windows);
        ENSURE(share * sizeof(struct run) * windows <= WINDOWS_BUDGET, "%zu windows of %u", windows, share);
        ENSURE(share >= WINDOW_MIN && share >= window_share(windows + 1), "%zu windows of %u", windows,
               share);
    }
}

Test(order, a_new_window_holds_nothing_and_wants)
{
    struct window window;
    window_init(&window);
    cr_assert(window_wants(&window, WINDOW_MAX));
    cr_assert_eq(window.horizon_seq, -1);
    cr_assert_eq(window_append(&window, (struct run){1, 0, 3, 0}, WINDOW_MAX), ERR_OK);
    cr_assert_eq(window_insert(&window, (struct run){0, 0, 1, 0}, WINDOW_MAX), ERR_OK);
    cr_assert_eq(window.len, 0, "the store has them; the window does not reach so far");
    cr_assert_eq(window_give(&window, NULL, 0, 512), ERR_OK);
    cr_assert_not(window_wants(&window, WINDOW_MAX));
    cr_assert_eq(window_append(&window, (struct run){2, 0, 3, 0}, WINDOW_MAX), ERR_OK);
    cr_assert_eq(window.len, 1, "now it reaches the end");
    window_reset(&window);
    cr_assert(window_wants(&window, WINDOW_MAX), "as if it were new");
    cr_assert_eq(window.horizon_seq, -1);
    window_finish(&window);
    cr_assert_not(window_wants(&window, WINDOW_MAX), "there is nothing to be asked for");
    window_fini(&window);
}

Test(order, it_wants_more_when_a_quarter_is_left)
{
    static const uint32_t shares[] = {WINDOW_MIN, 64, WINDOW_MAX};
    for (size_t s = 0; s < COUNT(shares); s++) {
        const uint32_t asked = shares[s] / 2;
        struct window window;
        struct run runs[WINDOW_MAX / 2];
        window_init(&window);
        for (uint32_t i = 0; i < asked; i++) {
            runs[i] = (struct run){i, 2, 7, 0};
        }
        cr_assert_eq(window_give(&window, runs, asked, asked), ERR_OK);
        cr_assert_not(window.complete, "as many as asked for: there may be more");
        cr_assert_eq(window.horizon_seq, (int64_t)asked - 1);
        cr_assert_eq(window.horizon_index, 6);
        for (uint32_t i = 0; i < 5 * shares[s] / 4; i++) {
            ENSURE(!window_wants(&window, shares[s]), "share %u, after %u", shares[s], i);
            window_take_first(&window);
        }
        cr_assert_not(window_wants(&window, shares[s]));
        for (int i = 0; i < 5; i++) {
            window_take_first(&window);
        }
        cr_assert(window_wants(&window, shares[s]), "share %u", shares[s]);
        window_fini(&window);
    }
}

Test(order, the_horizon_belongs_to_the_window)
{
    static const struct {
        struct run run;
        struct run kept; // of it; none: end 0
    } cases[] = {
        {{5, 3, 4, 50}, {0}},               // beyond it
        {{6, 0, 1, 60}, {0}},               // beyond it
        {{5, 2, 3, 50}, {5, 2, 3, 50}},     // on it
        {{5, 1, 9, 50}, {5, 1, 3, 50}},     // across it
        {{4, 9, 300, 40}, {4, 9, 300, 40}}, // before it
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct window window;
        struct run first = {0};
        const struct run run = {5, 0, 3, 50};
        window_init(&window);
        cr_assert_eq(window_give(&window, &run, 1, 1), ERR_OK);
        for (int taken = 0; taken < 3; taken++) {
            window_take_first(&window);
        }
        cr_assert_eq(window_insert(&window, cases[i].run, WINDOW_MAX), ERR_OK);
        cr_assert_eq(window_first(&window, &first), cases[i].kept.end > 0, "case %zu", i);
        cr_assert(first.seq == cases[i].kept.seq && first.first == cases[i].kept.first &&
                      first.end == cases[i].kept.end && first.accepted_ns == cases[i].kept.accepted_ns,
                  "case %zu: %lld, %u to %u", i, (long long)first.seq, first.first, first.end);
        window_fini(&window);
    }
}

Test(order, what_passes_the_limit_is_left_to_the_store)
{
    static const uint32_t shares[] = {WINDOW_MIN, WINDOW_MAX};
    static struct waiting w;
    for (size_t s = 0; s < COUNT(shares); s++) {
        const uint32_t max = shares[s];
        struct window window;
        memset(&w, 0, sizeof w);
        window_init(&window);
        refill(&window, &w, max);
        for (uint32_t i = 0; i < max + 1; i++) {
            add(&window, &w, 2, max);
        }
        cr_assert_eq(window.len, max);
        cr_assert_not(window.complete);
        cr_assert_eq(window.horizon_seq, max - 1);
        cr_assert_eq(window.horizon_index, 1);
        // One comes back in front: the last goes, and the horizon with it.
        struct place taken;
        cr_assert(take(&window, &w, &taken, max));
        w.is[0][0] = true;
        cr_assert_eq(window_insert(&window, (struct run){0, 0, 1, 0}, max), ERR_OK);
        cr_assert_eq(window.len, max);
        cr_assert_eq(window.horizon_seq, max - 2);
        check(&window, &w, max, 0);
        while (take(&window, &w, &taken, max)) {
        }
        cr_assert(window.complete);
        window_fini(&window);
    }
}

Test(order, a_full_window_that_reaches_the_end_does_not_take_what_comes_behind)
{
    struct window window;
    window_init(&window);
    window_finish(&window);
    for (uint32_t i = 0; i < WINDOW_MIN; i++) {
        cr_assert_eq(window_append(&window, (struct run){i, 0, 1, 0}, WINDOW_MIN), ERR_OK);
    }
    cr_assert(window.complete);
    cr_assert_eq(window_insert(&window, (struct run){99, 0, 1, 0}, WINDOW_MIN), ERR_OK);
    cr_assert_eq(window.len, WINDOW_MIN);
    cr_assert_not(window.complete);
    cr_assert_eq(window.horizon_seq, WINDOW_MIN - 1);
    window_fini(&window);
}

Test(order, a_smaller_share_is_kept_to_at_once)
{
    static struct waiting w;
    struct window window;
    struct place taken;
    window_init(&window);
    refill(&window, &w, WINDOW_MAX);
    for (int i = 0; i < 700; i++) {
        add(&window, &w, 3, WINDOW_MAX);
    }
    for (int i = 0; i < 300; i++) {
        cr_assert(take(&window, &w, &taken, WINDOW_MAX));
    }
    for (uint32_t share = WINDOW_MAX; share >= WINDOW_MIN; share /= 2) {
        window_shrink(&window, share);
        check(&window, &w, share, 0);
        cr_assert_eq(window.len, share < 600 ? share : 600);
    }
    while (take(&window, &w, &taken, WINDOW_MIN)) {
    }
    cr_assert(window.complete, "what had to go was read again");
    for (int i = 0; i < 700; i++) {
        add(&window, &w, 1, WINDOW_MAX);
    }
    for (int i = 0; i < 690; i++) {
        cr_assert(take(&window, &w, &taken, WINDOW_MAX));
    }
    cr_assert_eq(window.cap, WINDOW_MAX);
    window_shrink(&window, 64); // it holds less, and keeps that
    check(&window, &w, 64, 0);
    cr_assert(window.complete && window.len == 10);
    window_fini(&window);
}

// ---- random steps ----

// One phase; out of 100, so many add, take or remove, the others bring back what was taken. What the window
// may hold changes with each phase.
struct phase {
    int steps;
    uint64_t adds;
    uint64_t takes;
    uint64_t removes;
    uint32_t max;
};

static void bring_back(struct window *window, struct waiting *w, struct place place, uint32_t max)
{
    // With those behind it that are out as well, sometimes.
    uint32_t end = place.index;
    do {
        w->is[place.seq][end++] = true;
    } while (end < BATCHES && place.seq % 3 == 0 && !w->is[place.seq][end]);
    ENSURE(window_insert(window, (struct run){place.seq, place.index, end, 10 * place.seq}, max) == ERR_OK,
           "insert");
}

static void remove_one(struct window *window, struct waiting *w, int64_t seq)
{
    memset(w->is[seq], 0, sizeof w->is[seq]);
    window_remove(window, seq);
}

static void run_phase(struct window *window, struct waiting *w, const struct phase *phase,
                      struct random *random)
{
    static struct place out[INGESTIONS];
    static size_t out_count;
    window_shrink(window, phase->max);
    for (int step = 0; step < phase->steps; step++) {
        uint64_t dice = random_below(random, 100);
        if (dice < phase->adds && w->end < INGESTIONS) {
            add(window, w, (uint32_t)(1 + random_below(random, BATCHES)), phase->max);
        } else if (dice < phase->adds + phase->takes) {
            out_count += out_count < COUNT(out) && take(window, w, &out[out_count], phase->max);
        } else if (dice < phase->adds + phase->takes + phase->removes) {
            int64_t near = window->len > 0 && step % 2 == 0 ? window->runs[window->head].seq : 0;
            remove_one(window, w, near + (int64_t)random_below(random, (uint64_t)(w->end - near)));
        } else if (out_count > 0) {
            size_t at = random_below(random, out_count);
            struct place place = out[at];
            out[at] = out[--out_count];
            if (!w->is[place.seq][place.index]) {
                bring_back(window, w, place, phase->max);
            }
        } else if (random_below(random, 50) == 0) {
            window_reset(window);
        }
        if (step % 16 == 0) {
            check(window, w, phase->max, random->seed);
        }
    }
}

Test(order, random_steps_against_a_plain_table)
{
    static const struct phase phases[] = {
        {2000, 30, 40, 2, 1024}, {4000, 80, 10, 1, 1024}, {6000, 5, 60, 1, 256}, {3000, 0, 30, 3, 1024},
        {4000, 0, 95, 0, 16},    {3000, 30, 30, 5, 64},   {1500, 60, 20, 5, 16},
    };
    static struct waiting w;
    struct random random = random_from(11);
    struct window window;
    window_init(&window);
    w.end = 1;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(phases); i++) {
            run_phase(&window, &w, &phases[i], &random);
        }
    }
    struct place taken;
    struct place last = {.seq = -1};
    while (take(&window, &w, &taken, WINDOW_MIN)) {
        ENSURE(place_compare(&last, &taken) < 0, "seed %llu", (unsigned long long)random.seed);
        last = taken;
    }
    check(&window, &w, WINDOW_MIN, random.seed);
    window_fini(&window);
}
