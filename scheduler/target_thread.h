// target_thread.h - the thread of a kind of targets: deliveries are handed over to it, and it waits on one
// epoll for them, for its descriptors and for a moment.
#ifndef SLUICE_SCHEDULER_TARGET_THREAD_H
#define SLUICE_SCHEDULER_TARGET_THREAD_H

#include "scheduler/target.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

struct target_thread {
    int epoll;            // for the kind's own descriptors too; events with data.u64 0 are ours
    struct inbox *handed; // deliveries for the thread, and `stop` at the end
    struct inbox_item stop;
    atomic_bool stopping;
    bool running;
    pthread_t id;
};

// ---- the loop's thread ----

// Into a zeroed one. ERR_NO_MEMORY, ERR_INTERNAL; target_thread_fini is due in any case.
MUST_CHECK enum err target_thread_init(struct target_thread *thread);
// Starts it. ERR_INTERNAL.
MUST_CHECK enum err target_thread_start(struct target_thread *thread, void *(*main)(void *), void *arg);
void target_thread_hand(struct target_thread *thread, struct delivery *delivery);
// Asks it to end and waits for it; nothing is done where it never ran.
void target_thread_stop(struct target_thread *thread);
// Drops what was handed over and never taken. The thread has ended, or never ran.
void target_thread_fini(struct target_thread *thread);

// ---- the thread itself ----

// Once, first: it has no use for SIGPIPE (writes to pipes and OpenSSL's to its sockets).
void target_thread_block_signals(void);
// False when it is to end; then nothing more is taken.
bool target_thread_goes_on(struct target_thread *thread);
// The number of events, after `until` at the latest.
int target_thread_wait(struct target_thread *thread, struct epoll_event *events, int max, struct mono until);
// Calls `each` for every delivery that was handed over.
void target_thread_take(struct target_thread *thread, void (*each)(void *user, struct delivery *delivery),
                        void *user);

#endif
