#include "common/proc.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Each test works in an empty directory of its own, which is the current one.
static char dir[] = "/tmp/sluice-proc-XXXXXX";

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    umask(0);
}

static void tear_down(void)
{
    static const char *const left[] = {"lock", "file", "notify", "a/b/c", "a/b", "a"};
    for (size_t i = 0; i < COUNT(left); i++)
        remove(left[i]);
    cr_expect_eq(rmdir(dir), 0);
}

TestSuite(proc, .init = set_up, .fini = tear_down, .timeout = 30);

static mode_t mode_of(const char *path)
{
    struct stat st;
    cr_assert_eq(stat(path, &st), 0, "%s", path);
    return st.st_mode & 07777;
}

Test(proc, confined_for_good)
{
    proc_confine();
    cr_assert_eq(umask(0), 0027);
    cr_assert_eq(prctl(PR_GET_NO_NEW_PRIVS, 0ul, 0ul, 0ul, 0ul), 1);
}

Test(proc, signals_arrive_at_the_descriptor)
{
    static const int signals[] = {SIGTERM, SIGINT};
    int fd = proc_signals();
    cr_assert_geq(fd, 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    struct signalfd_siginfo info;
    cr_assert(read(fd, &info, sizeof(info)) < 0 && errno == EAGAIN, "it does not block");
    for (size_t i = 0; i < COUNT(signals); i++) {
        cr_assert_eq(kill(getpid(), signals[i]), 0);
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&poll_fd, 1, 10000), 1);
        cr_assert_eq(read(fd, &info, sizeof(info)), (ssize_t)sizeof(info));
        cr_assert_eq(info.ssi_signo, (unsigned)signals[i]);
    }
    close(fd);
}

Test(proc, a_signal_says_what_to_do)
{
    static const struct {
        int signal;
        enum proc_order order;
    } rows[] = {{SIGHUP, PROC_RELOAD}, {SIGTERM, PROC_END}, {SIGHUP, PROC_RELOAD}, {SIGINT, PROC_END}};
    int fd = proc_signals();
    cr_assert_eq(proc_take_signal(fd), PROC_NONE);
    for (size_t i = 0; i < COUNT(rows); i++) {
        cr_assert_eq(kill(getpid(), rows[i].signal), 0);
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&poll_fd, 1, 10000), 1);
        cr_assert_eq(proc_take_signal(fd), rows[i].order, "%d", rows[i].signal);
        cr_assert_eq(proc_take_signal(fd), PROC_NONE);
    }
    close(fd);
}

Test(proc, a_broken_pipe_is_an_error_and_not_the_end)
{
    int fd = proc_signals();
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    close(ends[0]);
    cr_assert(write(ends[1], "x", 1) < 0 && errno == EPIPE);
    close(ends[1]);
    close(fd);
}

static void *is_blocked(void *arg)
{
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1 ? arg : NULL;
}

Test(proc, threads_started_later_do_not_take_the_signals)
{
    int fd = proc_signals();
    pthread_t thread;
    void *blocked = NULL;
    cr_assert_eq(pthread_create(&thread, NULL, is_blocked, &fd), 0);
    pthread_join(thread, &blocked);
    cr_assert_not_null(blocked);
    close(fd);
}

Test(proc, a_lock_is_taken_once)
{
    int first = -1;
    int second = -1;
    struct fault fault;
    cr_assert_eq(proc_lock("lock", &first, &fault), ERR_OK);
    cr_assert_geq(first, 0);
    cr_assert_eq(mode_of("lock"), 0640);
    cr_assert(fcntl(first, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(proc_lock("lock", &second, &fault), ERR_STORAGE_REFUSED);
    cr_assert_eq(second, -1);
    cr_assert_not_null(strstr(fault.detail, "lock"));
    close(first);
    cr_assert_eq(proc_lock("lock", &second, NULL), ERR_OK,
                 "free when its holder is gone, though the file stays");
    close(second);
}

Test(proc, a_lock_that_cannot_be_made)
{
    int fd = -1;
    struct fault fault;
    cr_assert_eq(proc_lock("missing/lock", &fd, &fault), ERR_STORAGE_IO);
    cr_assert_not_null(strstr(fault.detail, "missing/lock"));
    cr_assert_eq(proc_lock(".", &fd, NULL), ERR_STORAGE_IO);
    cr_assert_eq(fd, -1);
}

Test(proc, directories_with_their_parents)
{
    static const char *const paths[] = {"a/b/c", "a/b/c", "a//b/./c/", "a", "/", "."};
    for (size_t i = 0; i < COUNT(paths); i++)
        cr_assert_eq(proc_make_dir(paths[i], 0750, NULL), ERR_OK, "%s", paths[i]);
    cr_assert_eq(mode_of("a/b/c"), 0750);
    cr_assert_eq(mode_of("a/b"), 0755);
    cr_assert_eq(mode_of("a"), 0755);
}

Test(proc, an_absolute_directory)
{
    char path[64];
    int len = snprintf(path, sizeof(path), "%s/a/b", dir);
    cr_assert(len > 0 && (size_t)len < sizeof(path));
    cr_assert_eq(proc_make_dir(path, 0700, NULL), ERR_OK);
    cr_assert_eq(mode_of("a/b"), 0700);
}

Test(proc, directories_that_cannot_be)
{
    char endless[5000];
    memset(endless, 'x', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    close(open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    const char *const paths[] = {"", "file", "file/", "file/a", "/proc/sluice", endless};
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct fault fault = {0};
        cr_assert_eq(proc_make_dir(paths[i], 0755, &fault), ERR_STORAGE_IO, "%s", paths[i]);
        cr_assert_gt(strlen(fault.detail), 2);
    }
}

Test(proc, raise_files_goes_to_the_hard_limit)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(proc_raise_files(), limit.rlim_max);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(limit.rlim_cur, limit.rlim_max);
}

static void expect_message(int socket_fd, const char *text)
{
    char message[64];
    ssize_t len = recv(socket_fd, message, sizeof(message) - 1, 0);
    cr_assert_geq(len, 0);
    message[len] = '\0';
    cr_assert_str_eq(message, text);
}

Test(proc, readiness_is_told_to_the_supervisor)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "notify"};
    int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char path[64];
    int len = snprintf(path, sizeof(path), "%s/notify", dir);
    cr_assert(len > 0 && (size_t)len < sizeof(path));
    cr_assert_eq(bind(socket_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(setenv("NOTIFY_SOCKET", path, 1), 0);
    proc_ready(-1);
    expect_message(socket_fd, "READY=1");
    proc_stopping();
    expect_message(socket_fd, "STOPPING=1");
    close(socket_fd);
}

Test(proc, readiness_is_a_newline_on_the_descriptor_and_its_end)
{
    char got[4];
    int ends[2];
    cr_assert_eq(unsetenv("NOTIFY_SOCKET"), 0);
    cr_assert_eq(pipe(ends), 0);
    proc_ready(ends[1]);
    cr_assert_eq(read(ends[0], got, sizeof(got)), 1);
    cr_assert_eq(got[0], '\n');
    cr_assert_eq(read(ends[0], got, sizeof(got)), 0, "closed");
    close(ends[0]);
    proc_ready(-1);
    proc_stopping();
}
