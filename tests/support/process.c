#include "tests/support/process.h"

#include "tests/support/wait.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_FD 3
#define WORDS_MAX 64

// In the child, between fork and exec.
static void place_files(const struct process_plan *plan, int ready)
{
    int log = open(plan->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int output =
        open(plan->output ? plan->output : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int input = open(plan->input ? plan->input : "/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || output < 0 || input < 0 || dup2(log, STDERR_FILENO) < 0 ||
        dup2(output, STDOUT_FILENO) < 0 || dup2(input, STDIN_FILENO) < 0) {
        _exit(126);
    }
    if (ready >= 0 && dup2(ready, READY_FD) < 0) {
        _exit(126);
    }
    if (close_range(ready >= 0 ? READY_FD + 1 : READY_FD, ~0U, 0) != 0) {
        _exit(126);
    }
}

struct program_path program_path(const char *name)
{
    struct program_path path;
    const char *dir = getenv("SLUICE_TEST_BIN_DIR");
    int len = snprintf(path.text, sizeof(path.text), "%s/%s", dir ? dir : SLUICE_BIN_DIR, name);
    cr_assert(len > 0 && (size_t)len < sizeof(path.text));
    return path;
}

static void fill_environment(const struct process_plan *plan, char **into)
{
    static const char *const passed[] = {"PATH",          "ASAN_OPTIONS", "LSAN_OPTIONS",
                                         "UBSAN_OPTIONS", "TSAN_OPTIONS", "HOME"};
    size_t count = 0;
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
        const char *value = getenv(passed[i]);
        if (value) {
            cr_assert(asprintf(&into[count++], "%s=%s", passed[i], value) > 0);
        }
    }
    for (size_t i = 0; plan->environment && plan->environment[i]; i++) {
        cr_assert(count + 1 < WORDS_MAX);
        into[count++] = strdup(plan->environment[i]);
    }
}

static void fill_arguments(const struct process_plan *plan, char **into)
{
    size_t count = 0;
    into[count++] = strdup(plan->program);
    for (size_t i = 0; plan->arguments && plan->arguments[i]; i++) {
        cr_assert(count + 3 < WORDS_MAX);
        into[count++] = strdup(plan->arguments[i]);
    }
    if (plan->ready_fd) {
        into[count++] = strdup("--ready-fd");
        cr_assert(asprintf(&into[count++], "%d", READY_FD) > 0);
    }
}

struct process process_start(const struct process_plan *plan)
{
    char *arguments[WORDS_MAX] = {NULL};
    char *environment[WORDS_MAX] = {NULL};
    int ready[2] = {-1, -1};
    fill_arguments(plan, arguments);
    fill_environment(plan, environment);
    cr_assert(!plan->ready_fd || pipe2(ready, O_CLOEXEC) == 0);

    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || (plan->directory && chdir(plan->directory) != 0)) {
            _exit(126);
        }
        place_files(plan, ready[1]);
        execve(plan->program, arguments, environment);
        _exit(127);
    }
    if (ready[1] >= 0) {
        close(ready[1]);
    }
    for (size_t i = 0; i < WORDS_MAX; i++) {
        free(arguments[i]);
        free(environment[i]);
    }
    return (struct process){.pid = pid, .ready = ready[0]};
}

bool process_ready(struct process *process)
{
    struct pollfd ready = {.fd = process->ready, .events = POLLIN};
    char newline;
    cr_assert_eq(poll(&ready, 1, WAIT_S * 1000), 1, "it neither became ready nor ended within %d s", WAIT_S);
    bool is_ready = read(process->ready, &newline, 1) == 1;
    close(process->ready);
    process->ready = -1;
    return is_ready;
}

int process_wait(struct process *process)
{
    int status = 0;
    pid_t ended = 0;
    WAIT_FOR((ended = waitpid(process->pid, &status, WNOHANG)) != 0);
    cr_assert_eq(ended, process->pid);
    if (process->ready >= 0) {
        close(process->ready);
    }
    *process = PROCESS_NONE;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int process_end(struct process *process, int signal)
{
    cr_assert_eq(kill(process->pid, signal), 0);
    return process_wait(process);
}

int process_run(const struct process_plan *plan)
{
    struct process process = process_start(plan);
    return process_wait(&process);
}

size_t process_files(pid_t pid)
{
    char path[64];
    size_t count = 0;
    const struct dirent *entry;
    cr_assert(snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid) > 0);
    DIR *dir = opendir(path);
    cr_assert_not_null(dir);
    while ((entry = readdir(dir))) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

size_t process_resident(pid_t pid)
{
    char path[64];
    cr_assert(snprintf(path, sizeof(path), "/proc/%d/status", (int)pid) > 0);
    char *status = file_text(path);
    const char *line = strstr(status, "VmRSS:");
    cr_assert_not_null(line, "%s", status);
    size_t kib = strtoul(line + strlen("VmRSS:"), NULL, 10);
    free(status);
    return kib;
}

char *file_text(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;
    if (!file || getdelim(&text, &size, '\0', file) < 0) {
        free(text);
        text = strdup("");
    }
    if (file) {
        (void)fclose(file);
    }
    return text;
}
