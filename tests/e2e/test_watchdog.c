// What systemd is told by WatchdogSec=: signs of life that keep coming, and that stop with the threads that
// they are about, whatever others of the process still do.
#include "common/conf.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS 400 // WATCHDOG_USEC
#define EVERY_MS (LIMIT_MS / 2)
#define FEEDS 5
#define THREADS_MAX 256

TestSuite(watchdog, .fini = sluice_cleanup);

// ---- a supervisor ----

struct supervisor {
    int fd;
    char setting[SLUICE_TEXT + 32]; // NOTIFY_SOCKET
};

static void supervise(struct supervisor *supervisor, const struct sluice *sluice)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = WAIT_S};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", sluice->dir);
    (void)snprintf(supervisor->setting, sizeof(supervisor->setting), "NOTIFY_SOCKET=%s", address.sun_path);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    supervisor->fd = fd;
}

// The next message, if there is one, or with MSG_DONTWAIT in flags if it is there already.
static bool told(const struct supervisor *supervisor, int flags, char text[static 64])
{
    ssize_t len = recv(supervisor->fd, text, 63, flags);
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

static void expect(const struct supervisor *supervisor, const char *message)
{
    char text[64];
    cr_assert(told(supervisor, 0, text), "%s never came", message);
    cr_assert_str_eq(text, message);
}

// ---- threads that are stopped, and no others ----

enum threads { MAIN_THREAD, OTHER_THREADS };

struct stopped {
    pid_t id[THREADS_MAX];
    size_t count;
};

static void stop(struct stopped *stopped, pid_t pid, enum threads which)
{
    char path[64];
    const struct dirent *entry;
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    cr_assert_not_null(dir);
    stopped->count = 0;
    while ((entry = readdir(dir))) {
        pid_t id = (pid_t)strtol(entry->d_name, NULL, 10);
        if (id == 0 || (id == pid) != (which == MAIN_THREAD)) {
            continue;
        }
        int status;
        cr_assert_eq(ptrace(PTRACE_SEIZE, id, NULL, NULL), 0, "%s", strerror(errno));
        cr_assert_eq(ptrace(PTRACE_INTERRUPT, id, NULL, NULL), 0, "%s", strerror(errno));
        cr_assert(waitpid(id, &status, __WALL) == id && WIFSTOPPED(status));
        cr_assert_lt(stopped->count, THREADS_MAX);
        stopped->id[stopped->count++] = id;
    }
    closedir(dir);
    cr_assert_gt(stopped->count, 0);
}

static void go_on(const struct stopped *stopped)
{
    for (size_t i = 0; i < stopped->count; i++) {
        cr_assert_eq(ptrace(PTRACE_DETACH, stopped->id[i], NULL, NULL), 0, "%s", strerror(errno));
    }
}

// From its start to its end, with these threads stopped for a while. What was said until then is passed over,
// and so is what the main thread of a gateway says of a beat that was back already.
static void check_life(enum part part, enum threads which)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct supervisor supervisor;
    struct stopped stopped;
    char text[64], limit[64];
    supervise(&supervisor, sluice);
    (void)snprintf(limit, sizeof(limit), "WATCHDOG_USEC=%d", LIMIT_MS * 1000);
    sluice->environment[part] = LIST(supervisor.setting, limit);
    struct mono start = mono_now();
    sluice_launch(sluice, part);
    expect(&supervisor, "READY=1");
    for (int i = 0; i < FEEDS; i++) {
        expect(&supervisor, "WATCHDOG=1");
        cr_assert_geq(mono_diff(mono_now(), start), i * EVERY_MS * NS_PER_MS, "not more often than needed");
    }

    stop(&stopped, sluice->part[part].pid, which);
    if (which == OTHER_THREADS) {
        wait_ms(2 * LIMIT_MS);
    }
    while (told(&supervisor, MSG_DONTWAIT, text)) {
        cr_assert_str_eq(text, "WATCHDOG=1");
    }
    wait_ms(3 * LIMIT_MS);
    cr_assert_not(told(&supervisor, MSG_DONTWAIT, text), "it hangs, and said %s", text);
    go_on(&stopped);
    for (int i = 0; i < FEEDS; i++) {
        expect(&supervisor, "WATCHDOG=1");
    }

    cr_assert_eq(process_end(&sluice->part[part], SIGTERM), EXIT_CODE_OK);
    do {
        cr_assert(told(&supervisor, MSG_DONTWAIT, text), "no end was told");
    } while (strcmp(text, "WATCHDOG=1") == 0);
    cr_assert_str_eq(text, "STOPPING=1");
    close(supervisor.fd);
    sluice_end(sluice);
}

Test(watchdog, of_the_scheduler_is_fed_by_its_loop)
{
    check_life(SCHEDULER, MAIN_THREAD);
}

Test(watchdog, of_the_gateway_is_fed_by_its_main_thread)
{
    check_life(GATEWAY, MAIN_THREAD);
}

Test(watchdog, of_the_gateway_is_not_fed_when_nobody_serves)
{
    check_life(GATEWAY, OTHER_THREADS);
}

// ---- who is not watched does not wake for it ----

// How often the main thread has gone to sleep.
static long sleeps(pid_t pid)
{
    char path[64];
    static const char name[] = "\nvoluntary_ctxt_switches:";
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)pid);
    char *text = file_text(path);
    const char *at = strstr(text, name);
    cr_assert_not_null(at, "%s", text);
    long count = strtol(at + strlen(name), NULL, 10);
    free(text);
    return count;
}

static bool sleeps_for(pid_t pid, int64_t ms)
{
    long before = sleeps(pid);
    wait_ms(ms);
    return sleeps(pid) == before;
}

static void check_idle(const char *const *environment, bool idle)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct supervisor supervisor;
    supervise(&supervisor, sluice);
    const char *both[] = {supervisor.setting, environment[0], NULL};
    sluice->environment[SCHEDULER] = both;
    sluice_launch(sluice, SCHEDULER);
    expect(&supervisor, "READY=1");
    pid_t pid = sluice->part[SCHEDULER].pid;
    if (idle) {
        WAIT_FOR(sleeps_for(pid, 3 * EVERY_MS)); // the start is over
        cr_assert(sleeps_for(pid, 5 * EVERY_MS));
    } else {
        long before = sleeps(pid);
        WAIT_FOR(sleeps(pid) >= before + FEEDS);
    }
    sluice_stop(sluice, SCHEDULER);
    close(supervisor.fd);
    sluice_end(sluice);
}

Test(watchdog, an_idle_scheduler_wakes_for_it_alone)
{
    check_idle(LIST("WATCHDOG_USEC=400000"), false);
    check_idle(LIST("SLUICE_RATE=1/5s"), true);
    check_idle(LIST("WATCHDOG_USEC=0"), true);
}
