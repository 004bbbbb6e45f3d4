// proc.h - what a daemon needs of the process it lives in: signals, lock files, readiness.
#ifndef SLUICE_COMMON_PROC_H
#define SLUICE_COMMON_PROC_H

#include "common/err.h"

#include <stdint.h>

// What this process creates is nobody's beyond its owner and group (umask 027), and neither it nor a program
// that it starts can gain privileges (PR_SET_NO_NEW_PRIVS: setuid programs run without them). The first call
// of main.
void proc_confine(void);

// Blocks SIGTERM, SIGINT and SIGHUP for this thread and all it will start, ignores SIGPIPE, and gives a
// descriptor (close-on-exec, non-blocking) that becomes readable when one of the three arrives. -1 on
// failure.
int proc_signals(void);

// What a signal that has arrived asks for. Takes one off the descriptor; anything else that can be read from
// it (a test's eventfd) says to end.
enum proc_order {
    PROC_NONE,
    PROC_END,    // SIGTERM, SIGINT
    PROC_RELOAD, // SIGHUP: read again what was read from files
};
enum proc_order proc_take_signal(int signals);

// Takes an exclusive flock on path (created 0640 when absent, its directory is not). The descriptor is kept
// open for as long as the lock is held. ERR_STORAGE_REFUSED when somebody holds it, ERR_STORAGE_IO when the
// file cannot be created.
MUST_CHECK enum err proc_lock(const char *path, int *fd, struct fault *fault);

// Creates path and its missing parents (mode for the last, 0755 for the others). An existing directory is
// fine. What was created is synced to disk. ERR_STORAGE_IO, naming the path, when it cannot be done.
MUST_CHECK enum err proc_make_dir(const char *path, unsigned mode, struct fault *fault);

// Raises RLIMIT_NOFILE to its hard limit and returns the limit now in force.
unsigned long proc_raise_files(void);

// Bytes of memory that this process has in RAM; 0 when the kernel does not say.
uint64_t proc_resident(void);

// Says that the program serves: sd_notify(3) READY=1 when NOTIFY_SOCKET is set, and a newline to ready_fd,
// which is then closed, when it is not -1 (as in s6's notification-fd).
void proc_ready(int ready_fd);
// The same channel at the end: STOPPING=1.
void proc_stopping(void);

#endif
