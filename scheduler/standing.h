// standing.h - where an ingestion stands, read from the store for the engine's outlook. The loop's thread.
#ifndef SLUICE_SCHEDULER_STANDING_H
#define SLUICE_SCHEDULER_STANDING_H

#include "scheduler/engine.h"
#include "scheduler/store.h"

// Position and ETA of an ingestion as it stands. Cost does not depend on the backlog.
MUST_CHECK enum err standing_outlook(struct store *store, struct engine *engine,
                                     const struct ingestion_row *row, struct mono now, struct wall now_wall,
                                     struct outlook *outlook);
// The ETA of one that is yet to be accepted, for its deadline.
MUST_CHECK enum err standing_prospect(struct store *store, struct engine *engine,
                                      const struct admission *admission, struct mono now,
                                      struct wall now_wall, struct outlook *outlook);

#endif
