#include "cli/queue_table.h"

#include "cli/session.h"

#include <stdlib.h>
#include <string.h>

void queue_table_init(struct table *table)
{
    static const char *const names[] = {"QUEUE",     "RATE",       ">HIGH",   ">MEDIUM", ">LOW",  ">DELAYED",
                                        ">INFLIGHT", ">COMPLETED", ">FAILED", ">NOW/S",  "STATE", NULL};
    table_init(table, names);
}

// Whether it is held, and by what: "retry_after until 12:00:30Z".
static void add_state(struct table *table, const cJSON *queue)
{
    const char *reason = member_text(queue, "paused_reason");
    const char *until = member_text(queue, "paused_until");
    if (cJSON_IsTrue(json_get(queue, "paused"))) {
        table_text(table, "paused", TINT_BUSY);
    } else if (strlen(until) >= 19) {
        table_printf(table, TINT_BUSY, "%s until %.8sZ", reason, until + 11);
    } else {
        table_text(table, "open", TINT_NONE);
    }
}

void queue_table_add(struct table *table, const cJSON *queue)
{
    static const char *const priorities[] = {"HIGH", "MEDIUM", "LOW"};
    const cJSON *waiting = json_get(queue, "waiting");
    table_text(table, member_text(queue, "name"), TINT_NONE);
    table_text(table, member_text(queue, "rate"), TINT_NONE);
    for (size_t i = 0; i < sizeof(priorities) / sizeof(priorities[0]); i++) {
        table_count(table, (double)member_count(waiting, priorities[i]), TINT_NONE);
    }
    table_count(table, (double)member_count(queue, "delayed"), TINT_NONE);
    table_count(table, (double)member_count(queue, "in_flight"), TINT_BUSY);
    table_count(table, (double)member_count(queue, "completed"), TINT_GOOD);
    table_count(table, (double)member_count(queue, "failed"), TINT_BAD);
    table_printf(table, TINT_NONE, "%.1f",
                 json_get(queue, "effective_rate") ? cJSON_GetNumberValue(json_get(queue, "effective_rate"))
                                                   : 0);
    add_state(table, queue);
}

static uint64_t work(const cJSON *queue)
{
    const cJSON *waiting = json_get(queue, "waiting");
    return member_count(waiting, "HIGH") + member_count(waiting, "MEDIUM") + member_count(waiting, "LOW") +
           member_count(queue, "delayed") + member_count(queue, "in_flight");
}

// The most work first; then by name.
static int compare(const void *a, const void *b)
{
    const cJSON *left = *(const cJSON *const *)a, *right = *(const cJSON *const *)b;
    uint64_t l = work(left), r = work(right);
    return l == r ? strcmp(member_text(left, "name"), member_text(right, "name")) : l < r ? 1 : -1;
}

bool queue_table_add_all(struct table *table, const cJSON *queues, enum queue_order order)
{
    size_t count = (size_t)cJSON_GetArraySize(queues), n = 0;
    const cJSON **rows = calloc(count + 1, sizeof(const cJSON *));
    const cJSON *queue;
    if (!rows) {
        return false;
    }
    cJSON_ArrayForEach(queue, queues)
    {
        rows[n++] = queue;
    }
    if (order == QUEUES_BUSIEST_FIRST) {
        qsort(rows, n, sizeof(rows[0]), compare);
    }
    for (size_t i = 0; i < n; i++) {
        queue_table_add(table, rows[i]);
    }
    free(rows);
    return true;
}
