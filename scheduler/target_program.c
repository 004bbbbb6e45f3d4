#include "scheduler/target_program.h"

#include "common/units.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define CHUNK 16384u // read of standard error for one event: one that writes without end holds up no other
#define KILL_WAIT_MS 1000

_Static_assert(PROGRAM_TAIL_MAX + 1 == sizeof(((struct outcome *)0)->error), "the tail and a NUL fit");

// ---- descriptors ----

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void close_watch(struct watch *watch)
{
    if (watch->fd >= 0) {
        (void)epoll_ctl(watch->program->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
        close_fd(&watch->fd);
    }
}

static bool add_watch(struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    return epoll_ctl(watch->program->epoll, EPOLL_CTL_ADD, watch->fd, &event) == 0;
}

// ---- life ----

struct program *program_new(struct delivery *delivery, int epoll)
{
    struct program *program = calloc(1, sizeof(*program));

    if (!program) {
        return NULL;
    }
    program->delivery = delivery;
    program->epoll = epoll;
    program->input = (struct watch){program, WATCH_INPUT, -1};
    program->errors = (struct watch){program, WATCH_ERRORS, -1};
    program->exit = (struct watch){program, WATCH_EXIT, -1};
    buf_init(&program->body);
    delivery_body(delivery, &program->body);
    if (buf_err(&program->body) != ERR_OK) {
        program_free(program);
        return NULL;
    }
    return program;
}

// The first process is not reaped yet, so that its number is its own; it may have left its group.
static void kill_group(const struct program *program)
{
    (void)kill(-program->pid, SIGKILL);
    (void)kill(program->pid, SIGKILL);
}

// One that the kernel does not let go of is left to whoever comes after us.
static void end_process(struct program *program)
{
    struct pollfd exited = {.fd = program->exit.fd, .events = POLLIN};
    bool watched = program->exit.fd >= 0;

    kill_group(program);
    if (watched) {
        (void)poll(&exited, 1, KILL_WAIT_MS);
    }
    while (waitpid(program->pid, NULL, watched ? WNOHANG : 0) < 0 && errno == EINTR) {
    }
    program->pid = 0;
}

void program_free(struct program *program)
{
    if (!program) {
        return;
    }
    if (program->pid > 0) {
        end_process(program);
    }
    close_watch(&program->input);
    close_watch(&program->errors);
    close_watch(&program->exit);
    buf_fini(&program->body);
    free(program);
}

// ---- the start ----

// 0 or an errno, as for all of the spawn functions.
static int describe(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, int input, int errors)
{
    sigset_t all, none;
    int error = 0;

    sigfillset(&all);
    sigemptyset(&none);
#define STEP(call) error = error ? error : (call)
    STEP(posix_spawn_file_actions_adddup2(actions, input, STDIN_FILENO));
    STEP(posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0));
    STEP(posix_spawn_file_actions_adddup2(actions, errors, STDERR_FILENO));
    STEP(posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1));
    STEP(posix_spawnattr_setpgroup(attributes, 0));
    STEP(posix_spawnattr_setsigdefault(attributes, &all));
    STEP(posix_spawnattr_setsigmask(attributes, &none));
    STEP(posix_spawnattr_setflags(attributes,
                                  POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK));
#undef STEP
    return error;
}

static int spawn(pid_t *pid, const char *path, int input, int errors)
{
    char *copy = strdup(path);
    char *arguments[] = {copy, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    if (!copy) {
        return ENOMEM;
    }
    int error = posix_spawn_file_actions_init(&actions);
    if (!error) {
        error = posix_spawnattr_init(&attributes);
        if (!error) {
            error = describe(&actions, &attributes, input, errors);
            error = error ? error : posix_spawn(pid, path, &actions, &attributes, arguments, environ);
            (void)posix_spawnattr_destroy(&attributes);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    free(copy);
    return error;
}

// A pipe whose end `ours` (0 or 1) does not block; the other end is the program's, where blocking is
// expected.
static int make_pipe(int pipe[2], int ours)
{
    if (pipe2(pipe, O_CLOEXEC) != 0) {
        return errno;
    }
    return fcntl(pipe[ours], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
}

// 0 or an errno. Whatever was opened or started is in *program, for program_free.
static int start(struct program *program, const char *path)
{
    int input[2] = {-1, -1}, errors[2] = {-1, -1};
    int error = make_pipe(input, 1);

    error = error ? error : make_pipe(errors, 0);
    error = error ? error : spawn(&program->pid, path, input[0], errors[1]);
    if (error) {
        program->pid = 0;
    }
    close_fd(&input[0]);
    close_fd(&errors[1]);
    program->input.fd = input[1];
    program->errors.fd = errors[0];
    if (error) {
        return error;
    }
    program->exit.fd = pidfd_open(program->pid, 0);
    if (program->exit.fd < 0 || !add_watch(&program->exit, EPOLLIN) ||
        !add_watch(&program->errors, EPOLLIN) || !add_watch(&program->input, EPOLLOUT)) {
        return errno;
    }
    return 0;
}

enum err program_start(struct program *program, const char *path)
{
    int error = start(program, path);

    if (error) {
        delivery_explain(program->delivery, "could not start: %s", strerror(error));
        return ERR_INTERNAL;
    }
    return ERR_OK;
}

// ---- events ----

static void write_input(struct program *program)
{
    struct buf *body = &program->body;

    while (program->body_sent < body->len) {
        ssize_t written =
            write(program->input.fd, body->data + program->body_sent, body->len - program->body_sent);
        if (written < 0 && errno == EAGAIN) {
            return;
        }
        if (written < 0 && errno != EINTR) {
            break; // it reads no more, which is its own affair
        }
        program->body_sent += written > 0 ? (size_t)written : 0;
    }
    close_watch(&program->input);
    buf_fini(body);
}

static void keep_tail(struct program *program, const char *data, size_t len)
{
    if (len > PROGRAM_TAIL_MAX) {
        data += len - PROGRAM_TAIL_MAX;
        len = PROGRAM_TAIL_MAX;
        program->tail_cut = true;
    }
    size_t room = PROGRAM_TAIL_MAX - len;
    if (program->tail_len > room) {
        memmove(program->tail, program->tail + program->tail_len - room, room);
        program->tail_len = room;
        program->tail_cut = true;
    }
    memcpy(program->tail + program->tail_len, data, len);
    program->tail_len += len;
}

// Reads once; how many bytes it was, 0 when there is nothing (more) to read.
static size_t read_errors(struct program *program)
{
    char chunk[CHUNK];
    ssize_t len = read(program->errors.fd, chunk, sizeof(chunk));

    if (len > 0) {
        keep_tail(program, chunk, (size_t)len);
        return (size_t)len;
    }
    if (len == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_watch(&program->errors);
    }
    return 0;
}

// What is in the pipe now and no more: something that the program left behind may go on writing for ever.
static void read_rest(struct program *program)
{
    int there = 0;

    if (program->errors.fd < 0 || ioctl(program->errors.fd, FIONREAD, &there) != 0) {
        return;
    }
    for (size_t left = (size_t)there, len = 1; left > 0 && len > 0; left -= len < left ? len : left) {
        len = read_errors(program);
    }
}

static bool reap(struct program *program)
{
    program->end = (siginfo_t){0};
    int rc = waitid(P_PIDFD, (id_t)program->exit.fd, &program->end, WEXITED | WNOHANG);
    if (rc == 0 && program->end.si_pid == 0) {
        return false;
    }
    program->pid = 0;
    return true;
}

bool program_act(struct watch *watch)
{
    struct program *program = watch->program;

    if (watch->fd < 0) {
        return false;
    }
    switch (watch->kind) {
    case WATCH_INPUT:
        write_input(program);
        break;
    case WATCH_ERRORS:
        (void)read_errors(program);
        break;
    case WATCH_EXIT:
        return program->pid > 0 && reap(program);
    }
    return false;
}

void program_time_out(struct program *program)
{
    program->timed_out = true;
    kill_group(program);
}

// ---- the outcome ----

// The kept end of standard error without white space and halves of characters round it; its length.
static size_t trim_tail(struct program *program, const char **tail)
{
    size_t first = 0, len = program->tail_len;

    while (program->tail_cut && first < 3 && first < len && (program->tail[first] & 0xc0) == 0x80) {
        first++;
    }
    while (first < len && strchr(" \t\r\n", program->tail[first])) {
        first++;
    }
    while (len > first && strchr(" \t\r\n", program->tail[len - 1])) {
        len--;
    }
    for (size_t i = first; i < len; i++) {
        if (program->tail[i] == '\0') {
            program->tail[i] = '?'; // it would end the text
        }
    }
    *tail = program->tail + first;
    return len - first;
}

static enum outcome_class judge_exit(struct program *program, int status)
{
    const char *tail;
    size_t len = trim_tail(program, &tail);

    if (status == 0) {
        return OUTCOME_COMPLETED;
    }
    if (len > 0) {
        delivery_explain(program->delivery, "%.*s", (int)len, tail);
    } else {
        delivery_explain(program->delivery, "exit %d", status);
    }
    return status == EX_TEMPFAIL ? OUTCOME_RETRY : OUTCOME_FAILED;
}

static enum outcome_class judge_signal(struct program *program, int signal)
{
    struct delivery *delivery = program->delivery;
    const char *tail, *name = sigabbrev_np(signal);
    size_t len = trim_tail(program, &tail);
    char timeout[DURATION_TEXT_SIZE];

    delivery->outcome.down = true;
    if (program->timed_out && signal == SIGKILL) {
        duration_format(delivery->timeout_ns, timeout);
        delivery_explain(delivery, "timed out after %s", timeout);
    } else if (len > 0) {
        delivery_explain(delivery, "%.*s", (int)len, tail);
    } else if (name) {
        delivery_explain(delivery, "killed by SIG%s", name);
    } else {
        delivery_explain(delivery, "killed by signal %d", signal);
    }
    return OUTCOME_RETRY;
}

enum outcome_class program_judge(struct program *program)
{
    assert(program->pid == 0);
    read_rest(program);
    switch (program->end.si_code) {
    case CLD_EXITED:
        return judge_exit(program, program->end.si_status);
    case CLD_KILLED:
    case CLD_DUMPED:
        return judge_signal(program, program->end.si_status);
    default: // somebody else reaped it
        delivery_explain(program->delivery, "its exit status was lost");
        return OUTCOME_RETRY;
    }
}
