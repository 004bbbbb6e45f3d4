// target_program.h - one run of a program for a delivery: its process, its input and the end of its standard
// error. Nothing here waits, but for killed processes. The exec thread's.
#ifndef SLUICE_SCHEDULER_TARGET_PROGRAM_H
#define SLUICE_SCHEDULER_TARGET_PROGRAM_H

#include "scheduler/target.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#define PROGRAM_TAIL_MAX 4095u // bytes of standard error that are kept: what fits into outcome.error

// What an event of the epoll is about; its data.ptr points here.
enum watch_kind { WATCH_INPUT, WATCH_ERRORS, WATCH_EXIT };
struct watch {
    struct program *program;
    enum watch_kind kind;
    int fd; // -1 when closed
};

struct program {
    struct program *next; // for whoever has it
    struct program *prev;
    struct delivery *delivery;
    struct heap_node deadline; // for the owner
    int epoll;                 // where its descriptors are watched
    pid_t pid;                 // of its first process and its group; 0 when there is none (any more)
    bool timed_out;            // so it was killed
    siginfo_t end;             // how it ended
    struct watch input;        // for writing the body, then closed
    struct watch errors;
    struct watch exit; // a pidfd
    struct buf body;
    size_t body_sent;
    char tail[PROGRAM_TAIL_MAX]; // the last of standard error
    size_t tail_len;
    bool tail_cut; // there was more before
};

struct program *program_new(struct delivery *delivery, int epoll); // NULL without memory
// Kills and reaps what runs. NULL is fine.
void program_free(struct program *program);
// Starts it. ERR_INTERNAL: it could not be, and the delivery's outcome says why.
MUST_CHECK enum err program_start(struct program *program, const char *path);
// Does what an event asks for; true when it ended and was reaped.
bool program_act(struct watch *watch);
// Its time is up: kills the group. The end comes as an event.
void program_time_out(struct program *program);
// It has ended: fills in the delivery's outcome but for its class and time, and returns the class.
enum outcome_class program_judge(struct program *program);

#endif
