// disk.h - the disk of a scheduler under test: it dies in a chosen call of its write path, and what it wrote
// after the last sync can be taken away, as a loss of power does (tests/support/preload/disk.c). Main thread.
#ifndef SLUICE_TESTS_CRASH_DISK_H
#define SLUICE_TESTS_CRASH_DISK_H

#include "tests/support/engine_check.h"
#include "tests/support/preload/disk.h"
#include "tests/support/sluice.h"

// What a loss of power leaves of what was not synced. A disk may do any of these: it writes in any order.
enum power_loss {
    POWER_ALL,  // nothing
    POWER_SOME, // some sectors of it, here and there, and the names or not
    POWER_TORN, // all but the end of the last write
};
#define POWER_LOSSES 3

struct disk;

// For the scheduler of this sluice, from its next launch on; faults as in fault_fixture.h can be set, too.
struct disk *disk_new(struct sluice *sluice);
void disk_free(struct disk *disk);

// It dies in the n-th call from now (1: the next one), if it comes to that.
void disk_arm(struct disk *disk, unsigned n, enum disk_when when);
bool disk_has_died(const struct disk *disk); // since it was armed
// No more of it. Whether it has died.
bool disk_disarm(struct disk *disk);
// Calls so far, and how often it died in which.
uint64_t disk_calls(const struct disk *disk);
uint64_t disk_died(const struct disk *disk, enum disk_call call, enum disk_file file);

// While the scheduler is dead. How many records there were: 0 means that all was synced.
size_t disk_cut_power(struct disk *disk, enum power_loss loss, struct random *random);
// Nothing is lost any more by what comes: what is there counts as synced.
void disk_settle(struct disk *disk);

// A fault as in fault_fixture.h; NULL: none.
void disk_fault(struct disk *disk, const char *fault);

#endif
