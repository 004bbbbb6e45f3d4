// stats.h - what `stats` and `top` share.
#ifndef SLUICE_CLI_STATS_H
#define SLUICE_CLI_STATS_H

#include "cli/queue_table.h"
#include "cli/session.h"

// The scheduler's own figures, from a reply to stats: one line with its newline.
void stats_head(const cJSON *stats, struct buf *out);
// Asks, and prints them with a table of the queues.
int stats_show(struct session *session, enum queue_order order);

#endif
