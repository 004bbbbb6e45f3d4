// engine_oracle.h - what must always hold in an engine's world, found out the slow and simple way.
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_ORACLE_H
#define SLUICE_TESTS_SUPPORT_ENGINE_ORACLE_H

#include "tests/support/engine_world.h"

// What a batch accepted then counts as at this moment.
int oracle_counts_as(const struct world *world, int64_t queue, enum priority priority, int64_t accepted_ns);
// This batch may be dispatched now: its queue is open to it, nothing is overdue, and no other goes before.
void oracle_dispatch(struct world *world, const struct batch_key *key);
// The engine's memory is what the store has: counts, windows, time indexes, within the budget.
void oracle_memory(struct world *world);
// At most burst + rate * T starts in any window of the log, and no burst after a change of rate.
void oracle_rate(const struct world *world, int64_t queue);

#endif
