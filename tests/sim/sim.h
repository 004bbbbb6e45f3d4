// sim.h - what the files of the simulation share: the real scheduler (loop, turn, engine, store, SQLite) in
// one thread under virtual time, with everything around it driven from one seed.
//
// The linker puts functions of ours in front of some of the scheduler's (`--wrap`, see CMakeLists.txt):
// clocks, the wait of the loop, its socket and its HTTP target (world.c, target.c), and the calls of the loop
// to its store, which tell the model what happened (feed.c). One process runs one seed.
#ifndef SLUICE_TESTS_SIM_SIM_H
#define SLUICE_TESTS_SIM_SIM_H

#include "proto/request.h"
#include "scheduler/loop.h"
#include "tests/support/engine_check.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_WRAP(type, name, ...)                                                                            \
    type __real_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__)

// Ends the process with what is wrong, and how to see it again.
_Noreturn void sim_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            sim_fail(__FILE__, __LINE__, __VA_ARGS__);                                                       \
        }                                                                                                    \
    } while (0)

// How the scheduler ends, or the commit of a turn goes wrong.
enum blow {
    BLOW_NONE,
    BLOW_ASLEEP,        // killed while it waits
    BLOW_CALL,          // killed inside a turn, at one of its calls to the store
    BLOW_BEFORE_COMMIT, // killed
    BLOW_IN_COMMIT,     // killed at one of its writes
    BLOW_AFTER_COMMIT,  // killed
    BLOW_LIED,          // the commit happened, and an I/O error is reported
    BLOW_LIED_MILDLY,   // the commit happened, and a lack of memory is reported: it goes on
    BLOW_MILD_CALL,     // a call fails for lack of memory or room: it goes on
    BLOW_STOP,          // SIGTERM
    BLOWS,
};

enum target_class { TARGET_SCRIPTED, TARGET_STEADY, TARGET_PULL };

struct sim {
    struct random random;
    uint64_t seed;
    uint64_t steps;
    uint64_t step;
    bool tracing;
    uint64_t hash;

    // time
    struct mono now;
    int64_t wall_offset_ms;
    struct id boot;
    struct mono client_at;  // the next move of a client
    int64_t client_mean_ns; // between two of them
    bool slow_commits;      // commits of this seed may take long
    bool slow_starts;       // and so may the start of a delivery
    struct mono full_until; // the disk is full
    int64_t retain_ns;      // how long what has finished is kept

    // the process
    struct loop *loop; // NULL while it is down
    enum blow blow;    // the next, at ...
    uint64_t blow_in;  // ... so many calls or writes
    bool dead;         // nothing that it still does is seen by anybody
    bool reported;     // the loop will end, and its replies are seen
    bool spoiled;      // a call failed for lack of memory: where it recovers, it may end
    bool lied;         // a commit happened that was reported as failed, in this life
    bool power_lost;
    bool reboot;
    uint64_t lives;
    uint64_t events;                    // that the scheduler did something, counted
    uint64_t statuses, etas, etas_true; // that were checked
    uint64_t commits;                   // since the last wait

    // its timers
    int timer;
    int wall_timer;
    struct mono wake;
    int64_t wake_wall_ms;
    bool wall_cancelled; // the clock was set since the timer was

    struct mono calm_until; // nothing but questions reaches the steady queues
};

extern struct sim sim; // the linker's wraps have no other way to it

uint64_t sim_below(uint64_t n);
bool sim_chance(uint64_t of);                        // one in so many
int64_t sim_between_ms(int64_t least, int64_t most); // in nanoseconds
// One line of the trace, which is hashed whether it is shown or not.
void sim_note(const char *what, int64_t a, int64_t b, int64_t c);

// ---- world.c ----

struct mono sim_now(void);
struct wall sim_wall(void);
// Something started late, which the store does not know yet: a good moment to die.
void world_late_start(void);
// Runs the seed to its end.
void world_run(const char *dir);

// ---- clients.c ----

void clients_move(void);
void clients_forget(void); // what was asked is not answered any more
void clients_work(const struct id *lease, const struct id *batch, unsigned how);
// How many leases wait on a queue.
size_t clients_leases(const char *queue);
void clients_replied(struct ipc_message *message, const char *lines, size_t len);
void clients_random_settings(struct queue_change *change);

// ---- answers.c ----

void answer_check(const struct request *request, const char *line, size_t len);

// ---- target.c ----

// The next moment at which a target or a worker does something; and to do it.
struct mono target_next(void);
void target_run(void);
void target_run_until(struct mono end);
// A worker got the batch.
void target_lease_granted(int64_t queue, struct mono slot, const struct id *lease, const struct id *batch);
// A target has the batch, or it ended and the scheduler has not settled it on disk.
bool target_has(int64_t seq, uint32_t index);
// How it ended; NULL while it runs.
const struct outcome *target_outcome(int64_t seq, uint32_t index);
// How many ended so.
size_t target_unsettled(void);

// ---- disk.c ----

void disk_install(void);
void disk_start(void); // a new process
// The process was killed; with the power, what was not synced is gone, or some of it.
void disk_crash(bool power);
void disk_full(bool full);
void disk_fail_in(uint64_t writes); // and every write from then on
void disk_synced(void);             // all of it, past SQLite
bool disk_dead(void);

#endif
