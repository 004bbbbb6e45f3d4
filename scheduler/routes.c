#include "scheduler/routes.h"

#include <stdlib.h>
#include <string.h>

void routes_fini(struct routes *routes)
{
    for (size_t i = 0; i < routes->count; i++) {
        target_close(routes->items[i].target);
    }
    free(routes->items);
    *routes = (struct routes){0};
}

// The index of the first queue that is not before this one.
static size_t route_at(const struct routes *routes, int64_t queue)
{
    size_t low = 0;
    size_t high = routes->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (routes->items[middle].queue < queue) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct route *routes_get(const struct routes *routes, int64_t queue)
{
    size_t at = route_at(routes, queue);
    return at < routes->count && routes->items[at].queue == queue ? &routes->items[at] : NULL;
}

struct target *routes_find(const struct routes *routes, int64_t queue)
{
    const struct route *route = routes_get(routes, queue);
    return route != NULL ? route->target : NULL;
}

static enum err insert(struct routes *routes, size_t at, int64_t queue)
{
    if (routes->count == routes->cap) {
        size_t cap = routes->cap == 0 ? 8 : routes->cap * 2;
        struct route *items = realloc(routes->items, cap * sizeof *items);
        if (items == NULL) {
            return ERR_NO_MEMORY;
        }
        routes->items = items;
        routes->cap = cap;
    }
    memmove(routes->items + at + 1, routes->items + at, (routes->count - at) * sizeof *routes->items);
    const bool named = routes->named < ROUTES_NAMED_MAX;
    routes->items[at] = (struct route){.queue = queue, .named = named};
    routes->named += named;
    routes->count++;
    return ERR_OK;
}

enum err routes_set(struct routes *routes, struct targets *targets, int64_t queue, const char *text,
                    const char *headers, struct fault *fault)
{
    size_t at = route_at(routes, queue);
    bool found = at < routes->count && routes->items[at].queue == queue;
    if (found && strcmp(target_text(routes->items[at].target), text) == 0 &&
        strcmp(target_headers(routes->items[at].target), headers) == 0) {
        return ERR_OK;
    }
    struct target *target;
    enum err err = target_open(targets, text, headers, &target, fault);
    if (err == ERR_OK && !found) {
        err = insert(routes, at, queue);
        if (err != ERR_OK) {
            target_close(target);
            return fault_set(fault, err, "out of memory");
        }
    }
    if (err == ERR_OK) {
        target_close(routes->items[at].target);
        routes->items[at].target = target;
    }
    return err;
}

void routes_remove(struct routes *routes, int64_t queue)
{
    size_t at = route_at(routes, queue);
    if (at < routes->count && routes->items[at].queue == queue) {
        target_close(routes->items[at].target);
        routes->named -= routes->items[at].named;
        routes->count--;
        memmove(routes->items + at, routes->items + at + 1, (routes->count - at) * sizeof *routes->items);
    }
}

struct target_traits route_traits(const struct target *target)
{
    return (struct target_traits){.pull = target_is_pull(target), .expected_ns = target_expected_ns(target)};
}
