// round.h - one life of a data directory: both programs under load and dying again and again, then quiet,
// then every check there is. Main thread.
#ifndef SLUICE_TESTS_CRASH_ROUND_H
#define SLUICE_TESTS_CRASH_ROUND_H

#include "tests/crash/check.h"
#include "tests/crash/disk.h"

#define SMALL_MIB 8

// What a round is like. A zeroed one has no kills of its own.
struct round_plan {
    const char *name;
    bool power; // with each death of the scheduler the power goes: both die, and what is not synced is lost
    bool may_time_out; // as in check.h
    bool small;        // the data is on a file system of SMALL_MIB, where mounting one is allowed
    const char *gateway_timeout;
    const char *delivery_timeout;
};

struct round {
    struct round_plan plan;
    uint64_t seed;
    struct random random;
    struct sluice *sluice;
    bool small;        // it is
    struct disk *disk; // NULL when it is
    struct http_target *target;
    struct load *load;
    struct pull *pull;
    struct lateness *lateness;
    unsigned kills;  // of either program
    unsigned deaths; // of the scheduler
    size_t undone;   // writes and the like that losses of power took away
};

// Starts everything, and clients and workers.
struct round *round_begin(const struct round_plan *plan, uint64_t seed);
// Kills something at random, in a random way and at a random moment, and starts it again.
void round_kill(struct round *round);
// The parts of that. The scheduler has died, or dies now.
void round_bury(struct round *round);
// Both programs are started, if they do not run.
void round_revive(struct round *round);
// The scheduler is started, and dies in the n-th call of its life, if that comes soon. False when it did not.
bool round_revive_to_die(struct round *round, unsigned n, enum disk_when when);
// The scheduler has ended by itself, with this exit code.
void round_expect_end(struct round *round, int code);
// It does not start, and ends with this.
void round_expect_no_start(struct round *round, int code);
// What the target answers from now on, at random.
void round_change_answer(struct round *round);
// No more kills: waits until all is done, checks everything, prints what it was, and frees.
void round_end(struct round *round);

// The seed to begin with ($SLUICE_TEST_SEED, or a random one), printed with the way to run it again; and how
// many kills are wanted ($SLUICE_CRASH_KILLS, or so many; a build with sanitizers makes half of these).
uint64_t round_seed(void);
unsigned round_kills(unsigned fallback);
// So many kills, in rounds of at most KILLS_PER_ROUND, with seeds that count up.
#define KILLS_PER_ROUND 25
void rounds_of_kills(const struct round_plan *plan, unsigned kills);

#endif
