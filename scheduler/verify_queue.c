#include "scheduler/verify_queue.h"

#include <stdlib.h>
#include <string.h>

// Room for one more, by doubling.
static bool grow(void **items, size_t *cap, size_t count, size_t size)
{
    if (count < *cap) {
        return true;
    }
    size_t more = *cap == 0 ? 16 : *cap * 2;
    void *grown = realloc(*items, more * size);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

// ---- queues ----

static size_t place_of(const struct pasts *pasts, int64_t id)
{
    size_t low = 0;
    size_t high = pasts->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pasts->items[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct queue_past *past_of(struct pasts *pasts, int64_t id)
{
    size_t at = place_of(pasts, id);
    if (at < pasts->count && pasts->items[at].id == id) {
        return &pasts->items[at];
    }
    void *items = pasts->items;
    if (!grow(&items, &pasts->cap, pasts->count, sizeof *pasts->items)) {
        return NULL;
    }
    pasts->items = items;
    struct queue_past *past = &pasts->items[at];
    memmove(past + 1, past, (pasts->count - at) * sizeof *past);
    pasts->count++;
    *past = (struct queue_past){.id = id};
    return past;
}

void pasts_free(struct pasts *pasts)
{
    for (size_t i = 0; i < pasts->count; i++) {
        for (int p = 0; p < PRIORITIES; p++) {
            free(pasts->items[i].trails[p].items);
        }
    }
    free(pasts->items);
}

// ---- rate ----

void window_empty(struct window *window, const struct in_force *now, int64_t at_ns)
{
    // The nth dispatch from here wants n * per_ns <= count * (t - at_ns): as if a full burst had gone just
    // now.
    wide per_ns = now->rate.per_ns;
    *window = (struct window){
        .any = true,
        .was_empty = true,
        .lowest = per_ns - (wide)now->burst * per_ns - (wide)now->rate.count * at_ns,
        .lowest_number = 1,
        .lowest_ns = at_ns,
    };
}

bool window_add(struct window *window, const struct in_force *now, int64_t at_ns, int64_t *n, int64_t *ns,
                bool *of_empty)
{
    wide per_ns = now->rate.per_ns;
    wide count = (wide)now->rate.count;
    wide f = ++window->number * per_ns - count * at_ns;
    // One nanosecond more, because moments are whole ones.
    bool good = !window->any || f - window->lowest + per_ns <= (wide)now->burst * per_ns + count;
    *n = window->number - window->lowest_number + 1;
    *ns = at_ns - window->lowest_ns;
    *of_empty = window->was_empty;
    if (!window->any || f <= window->lowest || !good) { // one violation is said once
        window->any = true;
        window->was_empty = false;
        window->lowest = f;
        window->lowest_number = window->number;
        window->lowest_ns = at_ns;
    }
    return good || now->rate.count == 0;
}

// ---- order ----

static bool is_behind(const struct passed *passed, const struct place *place)
{
    return passed->seq > place->seq || (passed->seq == place->seq && passed->index > (int64_t)place->index);
}

int64_t trails_passed(const struct trail trails[PRIORITIES], const struct place *place, int64_t since)
{
    for (int p = (int)place->priority + 1; p < PRIORITIES; p++) {
        if (trails[p].last > since) {
            return trails[p].last;
        }
    }
    const struct trail *own = &trails[place->priority];
    size_t low = 0;
    size_t high = own->count;
    while (low < high) { // the first after `since`
        size_t middle = low + (high - low) / 2;
        if (own->items[middle].entry <= since) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < own->count && is_behind(&own->items[low], place) ? own->items[low].entry : 0;
}

enum err trails_add(struct trail trails[PRIORITIES], bool aging, const struct place *place, int64_t entry)
{
    struct trail *trail = &trails[place->priority];
    while (trail->count > 0 && !is_behind(&trail->items[trail->count - 1], place)) {
        trail->count--;
    }
    void *items = trail->items;
    if (!grow(&items, &trail->cap, trail->count, sizeof *trail->items)) {
        return ERR_NO_MEMORY;
    }
    trail->items = items;
    trail->items[trail->count++] = (struct passed){entry, place->seq, place->index};
    trail->last = aging ? trail->last : entry;
    return ERR_OK;
}
