#include "scheduler/reach.h"

#include "scheduler/engine.h"

#include <string.h>

struct reach reach_of(const struct scope *scope, const struct engine *engine)
{
    struct reach reach = {.owner = scope != NULL ? scope->owner : "",
                          .all_queues = scope == NULL || scope->queue_count == 0};
    for (size_t i = 0; !reach.all_queues && i < scope->queue_count; i++) {
        int64_t queue;
        if (engine_find_queue(engine, scope->queues[i], &queue) == ERR_OK) {
            reach.queues[reach.queue_count++] = queue;
        }
    }
    return reach;
}

void reach_narrow(struct reach *reach, int64_t queue)
{
    reach->all_queues = false;
    reach->queue_count = 1;
    reach->queues[0] = queue;
}

bool reach_empty(const struct reach *reach)
{
    return !reach->all_queues && reach->queue_count == 0;
}

bool reach_has(const struct reach *reach, int64_t queue, const char *owner)
{
    if (reach == NULL) {
        return true;
    }
    if (reach->owner[0] != '\0' && strcmp(reach->owner, owner) != 0) {
        return false;
    }
    size_t i = 0;
    while (i < reach->queue_count && reach->queues[i] != queue) {
        i++;
    }
    return reach->all_queues || i < reach->queue_count;
}
