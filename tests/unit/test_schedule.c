#include "scheduler/schedule.h"

#include "tests/support/engine_check.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// What the store would hold: every batch in backoff, in order.
struct backoffs {
    struct backoff_row rows[8192];
    size_t count;
};

static int compare(const struct backoff_row *a, const struct backoff_row *b)
{
    const struct place *p = &a->key.place;
    const struct place *q = &b->key.place;
    if (a->due.ns != b->due.ns) {
        return a->due.ns < b->due.ns ? -1 : 1;
    }
    if (p->seq != q->seq) {
        return p->seq < q->seq ? -1 : 1;
    }
    return p->index < q->index ? -1 : p->index > q->index;
}

static void keep(struct backoffs *all, const struct backoff_row *row)
{
    size_t at = all->count++;
    while (at > 0 && compare(row, &all->rows[at - 1]) < 0) {
        all->rows[at] = all->rows[at - 1];
        at--;
    }
    all->rows[at] = *row;
}

static void drop_first(struct backoffs *all)
{
    all->count--;
    for (size_t i = 0; i < all->count; i++) {
        all->rows[i] = all->rows[i + 1];
    }
}

static void refill(struct schedule *schedule, const struct backoffs *all)
{
    while (schedule_wants(schedule)) {
        struct backoff_row rows[SCHEDULE_REFILL];
        size_t n = 0;
        for (size_t i = 0; i < all->count && n < COUNT(rows); i++) {
            if (compare(&all->rows[i], &schedule->horizon) > 0) {
                rows[n++] = all->rows[i];
            }
        }
        ENSURE(schedule_give(schedule, rows, n, COUNT(rows)) == ERR_OK, "give");
    }
}

// It holds the head of them all, and everything up to its horizon.
static void check(const struct schedule *schedule, const struct backoffs *all, uint64_t seed)
{
    ENSURE(schedule->len <= all->count && schedule->len <= SCHEDULE_MAX, "seed %llu: holds too many",
           (unsigned long long)seed);
    for (size_t i = 0; i < schedule->len; i++) {
        ENSURE(compare(&schedule->rows[schedule->head + i], &all->rows[i]) == 0, "seed %llu: row %zu differs",
               (unsigned long long)seed, i);
    }
    ENSURE(schedule->complete
               ? schedule->len == all->count
               : schedule->len == all->count || compare(&all->rows[schedule->len], &schedule->horizon) > 0,
           "seed %llu: lacks some", (unsigned long long)seed);
}

static void add(struct schedule *schedule, struct backoffs *all, int64_t due, int64_t seq, uint32_t index)
{
    struct backoff_row row = {.key = {.queue = 1, .place = {PRIORITY_LOW, seq, index}}, .due = {due}};
    keep(all, &row);
    ENSURE(schedule_add(schedule, &row) == ERR_OK, "add");
}

Test(schedule, a_new_one_holds_nothing_and_wants)
{
    struct schedule schedule;
    struct backoff_row row = {.due = {5}};
    schedule_init(&schedule);
    cr_assert(schedule_wants(&schedule));
    cr_assert_null(schedule_first(&schedule));
    cr_assert_eq(schedule_add(&schedule, &row), ERR_OK);
    cr_assert_null(schedule_first(&schedule), "the store has it; the schedule does not reach so far");
    cr_assert_eq(schedule_give(&schedule, &row, 1, SCHEDULE_REFILL), ERR_OK);
    cr_assert_not(schedule_wants(&schedule));
    cr_assert_eq(schedule_first(&schedule)->due.ns, 5);
    schedule_fini(&schedule);
}

Test(schedule, equal_times_go_by_place)
{
    static struct backoffs all;
    struct schedule schedule;
    schedule_init(&schedule);
    refill(&schedule, &all);
    add(&schedule, &all, 7, 2, 1);
    add(&schedule, &all, 7, 1, 9);
    add(&schedule, &all, 7, 2, 0);
    add(&schedule, &all, 6, 5, 5);
    check(&schedule, &all, 0);
    static const int64_t seqs[] = {5, 1, 2, 2};
    for (size_t i = 0; i < COUNT(seqs); i++) {
        cr_assert_eq(schedule_first(&schedule)->key.place.seq, seqs[i]);
        schedule_take_first(&schedule);
    }
    cr_assert_null(schedule_first(&schedule));
    schedule_fini(&schedule);
}

Test(schedule, what_passes_the_limit_is_left_to_the_store)
{
    static struct backoffs all;
    struct schedule schedule;
    schedule_init(&schedule);
    refill(&schedule, &all);
    for (int64_t i = 0; i <= SCHEDULE_MAX; i++) {
        add(&schedule, &all, 1000 + i, i, 0);
    }
    cr_assert_eq(schedule.len, SCHEDULE_MAX);
    cr_assert_not(schedule.complete);
    cr_assert_eq(schedule.horizon.due.ns, 1000 + SCHEDULE_MAX - 1);
    add(&schedule, &all, 1, 9999, 0);
    cr_assert_eq(schedule.horizon.due.ns, 1000 + SCHEDULE_MAX - 2);
    check(&schedule, &all, 0);
    schedule_fini(&schedule);
}

Test(schedule, random_steps_against_a_sorted_list)
{
    static struct backoffs all;
    static const struct {
        int steps;
        uint64_t adds; // out of 100; the others take
    } phases[] = {{500, 50}, {4000, 85}, {6000, 20}, {3000, 70}, {8000, 5}};
    struct random random = random_from(21);
    struct schedule schedule;
    schedule_init(&schedule);
    int64_t seq = 0;
    for (size_t p = 0; p < COUNT(phases); p++) {
        for (int step = 0; step < phases[p].steps; step++) {
            if (random_below(&random, 100) < phases[p].adds && all.count < COUNT(all.rows)) {
                add(&schedule, &all, (int64_t)random_below(&random, 2000), seq / 3, (uint32_t)(seq % 3));
                seq++;
            } else if (all.count > 0) {
                refill(&schedule, &all);
                ENSURE(schedule_first(&schedule) != NULL, "seed %llu", (unsigned long long)random.seed);
                schedule_take_first(&schedule);
                drop_first(&all);
            }
            if (step % 16 == 0) {
                check(&schedule, &all, random.seed);
            }
        }
    }
    check(&schedule, &all, random.seed);
    schedule_fini(&schedule);
}
