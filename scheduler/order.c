#include "scheduler/order.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// ---- the order ----

int batch_compare(int64_t a_seq, uint32_t a_index, int64_t b_seq, uint32_t b_index)
{
    if (a_seq != b_seq) {
        return a_seq < b_seq ? -1 : 1;
    }
    return a_index < b_index ? -1 : a_index > b_index;
}

int place_compare(const struct place *a, const struct place *b)
{
    if (a->priority != b->priority) {
        return a->priority < b->priority ? -1 : 1;
    }
    return batch_compare(a->seq, a->index, b->seq, b->index);
}

enum priority order_priority(enum priority own, int64_t accepted_ns, int64_t age_now_ns, int64_t aging_ns)
{
    int64_t waited_ns;
    if (aging_ns == 0 || __builtin_sub_overflow(age_now_ns, accepted_ns, &waited_ns) || waited_ns < 0) {
        return own;
    }
    int64_t steps = waited_ns / aging_ns;
    return steps < (int64_t)own ? (enum priority)((int64_t)own - steps) : PRIORITY_HIGH;
}

// The latest moment of acceptance with which something of this priority counts as `counts` or higher.
static int64_t accepted_by(enum priority priority, int counts, int64_t age_now_ns, int64_t aging_ns)
{
    int steps = (int)priority - counts;
    if (counts < PRIORITY_HIGH) {
        return INT64_MIN;
    }
    if (steps <= 0) {
        return INT64_MAX;
    }
    int64_t by_ns;
    if (aging_ns == 0 || __builtin_mul_overflow(aging_ns, steps, &by_ns) ||
        __builtin_sub_overflow(age_now_ns, by_ns, &by_ns)) {
        return INT64_MIN;
    }
    return by_ns;
}

void order_bounds(enum priority own, int64_t accepted_ns, int64_t age_now_ns, int64_t aging_ns,
                  struct order_bound bounds[PRIORITIES])
{
    int counts = (int)order_priority(own, accepted_ns, age_now_ns, aging_ns);
    for (int p = 0; p < PRIORITIES; p++) {
        bounds[p].before_ns = accepted_by((enum priority)p, counts - 1, age_now_ns, aging_ns);
        bounds[p].tied_ns = accepted_by((enum priority)p, counts, age_now_ns, aging_ns);
    }
}

// ---- windows ----

uint32_t window_share(size_t windows)
{
    uint32_t share = WINDOW_MAX;
    while (share > WINDOW_MIN && share * sizeof(struct run) * windows > WINDOWS_BUDGET) {
        share /= 2;
    }
    return share;
}

void window_init(struct window *window)
{
    *window = (struct window){.horizon_seq = -1};
}

void window_fini(struct window *window)
{
    free(window->runs);
    window_init(window);
}

bool window_first(const struct window *window, struct run *run)
{
    if (window->len == 0) {
        return false;
    }
    *run = window->runs[window->head];
    return true;
}

// An empty window keeps no more than a small buffer.
static void emptied(struct window *window)
{
    window->head = 0;
    if (window->cap > WINDOW_MIN) {
        free(window->runs);
        window->runs = NULL;
        window->cap = 0;
    }
}

void window_take_first(struct window *window)
{
    assert(window->len > 0);
    struct run *run = &window->runs[window->head];
    run->first++;
    if (run->first == run->end) {
        window->head++;
        window->len--;
        if (window->len == 0) {
            emptied(window);
        }
    }
}

static void move_to_front(struct window *window)
{
    if (window->head > 0) {
        memmove(window->runs, window->runs + window->head, window->len * sizeof *window->runs);
        window->head = 0;
    }
}

// Makes sure that one more run can stand behind the last.
static enum err make_room(struct window *window)
{
    if (window->head + window->len < window->cap) {
        return ERR_OK;
    }
    if (window->head > 0) {
        move_to_front(window);
        return ERR_OK;
    }
    size_t cap = window->cap == 0 ? WINDOW_MIN : window->cap * 2;
    struct run *runs = realloc(window->runs, cap * sizeof *runs);
    if (runs == NULL) {
        return ERR_NO_MEMORY;
    }
    window->runs = runs;
    window->cap = cap;
    return ERR_OK;
}

// The horizon draws back to the last run that is held.
static void draw_back(struct window *window)
{
    const struct run *last = &window->runs[window->head + window->len - 1];
    window->complete = false;
    window->horizon_seq = last->seq;
    window->horizon_index = last->end - 1;
}

enum err window_append(struct window *window, struct run run, uint32_t max)
{
    if (!window->complete) {
        return ERR_OK;
    }
    if (window->len >= max) {
        draw_back(window);
        return ERR_OK;
    }
    enum err err = make_room(window);
    if (err != ERR_OK) {
        return err;
    }
    window->runs[window->head + window->len++] = run;
    return ERR_OK;
}

// Cuts off what of the run is beyond the horizon; false when nothing is left.
static bool within_horizon(const struct window *window, struct run *run)
{
    if (window->complete || run->seq < window->horizon_seq) {
        return true;
    }
    if (run->seq > window->horizon_seq || run->first > window->horizon_index) {
        return false;
    }
    if (run->end - 1 > window->horizon_index) {
        run->end = window->horizon_index + 1;
    }
    return true;
}

enum err window_insert(struct window *window, struct run run, uint32_t max)
{
    if (!within_horizon(window, &run)) {
        return ERR_OK;
    }
    if (window->len >= max) {
        // The last one makes room, unless that would be the new one.
        const struct run *last = &window->runs[window->head + window->len - 1];
        if (batch_compare(last->seq, last->first, run.seq, run.first) > 0) {
            window->len--;
        }
        draw_back(window);
        if (!within_horizon(window, &run)) {
            return ERR_OK;
        }
    }
    enum err err = make_room(window);
    if (err != ERR_OK) {
        return err;
    }
    struct run *runs = window->runs + window->head;
    size_t low = 0;
    size_t high = window->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (batch_compare(runs[middle].seq, runs[middle].first, run.seq, run.first) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    memmove(runs + low + 1, runs + low, (window->len - low) * sizeof *runs);
    runs[low] = run;
    window->len++;
    return ERR_OK;
}

void window_remove(struct window *window, int64_t seq)
{
    struct run *runs = window->runs + window->head;
    size_t left = 0;
    for (size_t i = 0; i < window->len; i++) {
        if (runs[i].seq != seq) {
            runs[left++] = runs[i];
        }
    }
    if (left < window->len) {
        window->len = left;
        if (left == 0) {
            emptied(window);
        }
    }
}

void window_reset(struct window *window)
{
    window->len = 0;
    emptied(window);
    window->complete = false;
    window->horizon_seq = -1;
    window->horizon_index = 0;
}

void window_finish(struct window *window)
{
    assert(window->len == 0);
    window->complete = true;
}

void window_shrink(struct window *window, uint32_t max)
{
    if (window->cap <= max) {
        return;
    }
    move_to_front(window);
    if (window->len > max) {
        window->len = max;
        draw_back(window);
    }
    struct run *runs = realloc(window->runs, max * sizeof *runs);
    if (runs != NULL) { // else it stays larger than it must be
        window->runs = runs;
        window->cap = max;
    }
}

bool window_wants(const struct window *window, uint32_t max)
{
    return !window->complete && window->len < max / 4;
}

enum err window_give(struct window *window, const struct run *runs, size_t count, size_t asked)
{
    for (size_t i = 0; i < count; i++) {
        enum err err = make_room(window);
        if (err != ERR_OK) {
            return err;
        }
        window->runs[window->head + window->len++] = runs[i];
        window->horizon_seq = runs[i].seq;
        window->horizon_index = runs[i].end - 1;
    }
    window->complete = count < asked;
    return ERR_OK;
}
