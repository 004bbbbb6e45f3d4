// queue_table.h - queues with their live figures, as rows.
#ifndef SLUICE_CLI_QUEUE_TABLE_H
#define SLUICE_CLI_QUEUE_TABLE_H

#include "cli/table.h"
#include "common/json.h"

void queue_table_init(struct table *table);
// queue: an object as in the reply to queue.get.
void queue_table_add(struct table *table, const cJSON *queue);
// An array of them: as they come, or those with the most work first.
enum queue_order { QUEUES_AS_THEY_COME, QUEUES_BUSIEST_FIRST };
// False when memory ran out.
bool queue_table_add_all(struct table *table, const cJSON *queues, enum queue_order order);

#endif
