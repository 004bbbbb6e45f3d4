// queue.h - what the commands of queues share.
#ifndef SLUICE_CLI_QUEUE_H
#define SLUICE_CLI_QUEUE_H

#include "cli/session.h"

// Every member of a reply to queue.get, one a line.
void queue_print(const cJSON *queue);

#endif
