// process.h - a program under test as a child: its standard error goes to a file, it says when it is ready,
// and it does not outlive the test. Main thread of a test only: the kernel ends a child with the thread that
// made it.
#ifndef SLUICE_TESTS_SUPPORT_PROCESS_H
#define SLUICE_TESTS_SUPPORT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// A list of texts, NULL at its end, for as long as the block it stands in.
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

struct process_plan {
    const char *program;            // a path
    const char *const *arguments;   // without the program's name; NULL: none
    const char *const *environment; // NAME=value, beside PATH and what sanitizers want; NULL: none
    const char *directory;          // where it runs; NULL: here
    const char *input;              // the file its standard input is read from; NULL: nothing
    const char *output;             // the file its standard output is written to; NULL: nowhere
    const char *log;                // the file its standard error is appended to
    bool ready_fd;                  // it is given --ready-fd
};

// The path of a program under test, by its name: the one this tree built, or that in $SLUICE_TEST_BIN_DIR, so
// that programs can be tried that were built in a way in which Criterion itself does not run
// (ThreadSanitizer).
struct program_path {
    char text[512];
};
struct program_path program_path(const char *name);

struct process {
    pid_t pid; // 0: there is none
    int ready; // the pipe it says so on; -1: none
};

#define PROCESS_NONE ((struct process){.pid = 0, .ready = -1})

struct process process_start(const struct process_plan *plan);
// Until it is ready (true) or ends before that (false). Fails the test when neither comes in time.
bool process_ready(struct process *process);
// Its exit code, or 128 and the signal that ended it. Fails the test when it does not end in time.
int process_wait(struct process *process);
// Sends the signal and waits as above.
int process_end(struct process *process, int signal);
// Starts it, and waits for its end.
int process_run(const struct process_plan *plan);

// What a process holds, by /proc: its open descriptors, and its memory that is resident, in KiB.
size_t process_files(pid_t pid);
size_t process_resident(pid_t pid);

// A whole file, NUL-terminated, to be freed; "" when it cannot be read.
char *file_text(const char *path);

#endif
