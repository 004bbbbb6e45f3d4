// standing.h - where an ingestion stands, read from the store for the engine's outlook. The loop's thread.
//
// Cost does not depend on the backlog, and nothing is read that the queue does not need: two counts and the
// ingestion's own span, unless something of the queue is not due yet, or it has aging.
#ifndef SLUICE_SCHEDULER_STANDING_H
#define SLUICE_SCHEDULER_STANDING_H

#include "scheduler/engine.h"
#include "scheduler/store.h"

// Position and ETA of an ingestion as it stands.
MUST_CHECK enum err standing_outlook(struct store *store, const struct engine *engine,
                                     const struct ingestion_row *row, struct mono now, struct wall now_wall,
                                     struct outlook *outlook);
// The ETA of one that is yet to be accepted, for its deadline; of others that are, too, it knows nothing.
MUST_CHECK enum err standing_prospect(struct store *store, const struct engine *engine,
                                      const struct admission *admission, struct mono now,
                                      struct wall now_wall, struct outlook *outlook);

#endif
