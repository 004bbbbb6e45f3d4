#include "scheduler/order.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int place_compare(const struct place *a, const struct place *b)
{
    if (a->priority != b->priority) {
        return a->priority < b->priority ? -1 : 1;
    }
    if (a->seq != b->seq) {
        return a->seq < b->seq ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
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

bool window_first(const struct window *window, int64_t *seq, uint32_t *index)
{
    if (window->len == 0) {
        return false;
    }
    *seq = window->runs[window->head].seq;
    *index = window->runs[window->head].first;
    return true;
}

void window_take_first(struct window *window)
{
    assert(window->len > 0);
    struct run *run = &window->runs[window->head];
    run->first++;
    if (run->first == run->end) {
        window->head++;
        window->len--;
    }
}

// Makes sure that one more run can stand behind the last.
static enum err make_room(struct window *window)
{
    if (window->head + window->len < window->cap) {
        return ERR_OK;
    }
    if (window->head > 0) {
        memmove(window->runs, window->runs + window->head, window->len * sizeof *window->runs);
        window->head = 0;
        return ERR_OK;
    }
    size_t cap = window->cap == 0 ? 16 : window->cap * 2;
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

enum err window_append(struct window *window, struct run run)
{
    if (!window->complete) {
        return ERR_OK;
    }
    if (window->len >= WINDOW_MAX) {
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

static bool beyond_horizon(const struct window *window, int64_t seq, uint32_t index)
{
    if (window->complete) {
        return false;
    }
    return seq > window->horizon_seq || (seq == window->horizon_seq && index > window->horizon_index);
}

enum err window_insert(struct window *window, int64_t seq, uint32_t index)
{
    if (beyond_horizon(window, seq, index)) {
        return ERR_OK;
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
        if (runs[middle].seq < seq || (runs[middle].seq == seq && runs[middle].first < index)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    memmove(runs + low + 1, runs + low, (window->len - low) * sizeof *runs);
    runs[low] = (struct run){seq, index, index + 1};
    window->len++;
    if (window->len > WINDOW_MAX) {
        window->len--;
        draw_back(window);
    }
    return ERR_OK;
}

bool window_wants(const struct window *window)
{
    return !window->complete && window->len < WINDOW_LOW;
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
