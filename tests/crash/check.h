// check.h - what must hold when all is quiet after the kills: what clients, workers and the target saw,
// against what the scheduler says there is. Fails the test. Main thread.
#ifndef SLUICE_TESTS_CRASH_CHECK_H
#define SLUICE_TESTS_CRASH_CHECK_H

#include "tests/crash/load.h"
#include "tests/crash/pull.h"
#include "tests/support/dispatches.h"

struct evidence {
    const struct sluice *sluice;
    struct load *load;
    const struct pull *pull;
    const struct dispatches *dispatches;
    unsigned deaths;   // of the scheduler
    bool may_time_out; // deliveries, so that some are repeated for no other reason
};

struct tally {
    size_t accepted; // ingestions whose client knows of them
    size_t unknown;  // others that are there, whole
    size_t refused;  // and are not there
    size_t batches;
    size_t delivered; // to the HTTP target
    size_t repeated;  // of these
    size_t leased;
};

// Every ingestion that was acknowledged is there once, unaltered and in order, and has ended; what is there
// beside is whole, and was not refused. Every batch that completed was delivered, under its own batch ID,
// with its own IDs; more than once only where a delivery was cut off, or had not been answered well.
struct tally check_all(const struct evidence *evidence);

#endif
