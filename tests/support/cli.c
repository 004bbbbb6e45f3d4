#include "tests/support/cli.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define VARIABLES_MAX 16
#define WORDS_MAX 64

// What the program is given, with where the scheduler is; the texts are borrowed.
struct variables {
    char ipc[SLUICE_TEXT + 16];
    const char *list[VARIABLES_MAX];
};

static void fill_variables(const struct sluice *sluice, const struct cli_plan *plan, const char *first,
                           struct variables *variables)
{
    size_t count = 0;
    (void)snprintf(variables->ipc, sizeof(variables->ipc), "SLUICE_IPC=%s", sluice->ipc);
    if (!plan->lost) {
        variables->list[count++] = variables->ipc;
    }
    if (first) {
        variables->list[count++] = first;
    }
    for (size_t i = 0; plan->environment && plan->environment[i]; i++) {
        cr_assert(count + 1 < VARIABLES_MAX);
        variables->list[count++] = plan->environment[i];
    }
    variables->list[count] = NULL;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

struct sluice *cli_scheduler(const char *const *flags)
{
    struct sluice *sluice = sluice_new(flags, NULL);
    sluice_launch(sluice, SCHEDULER);
    return sluice;
}

struct cli_result cli_run(const struct sluice *sluice, const struct cli_plan *plan)
{
    char *in = sluice_path(sluice, "cli.in"), *out = sluice_path(sluice, "cli.out"),
         *err = sluice_path(sluice, "cli.err");
    struct program_path program = program_path("sluice");
    struct variables variables;
    fill_variables(sluice, plan, NULL, &variables);
    write_file(in, plan->input ? plan->input : "");
    (void)unlink(err); // it is appended to
    struct cli_result result = {
        .code = process_run(&(struct process_plan){.program = program.text,
                                                   .arguments = plan->arguments,
                                                   .environment = variables.list,
                                                   .directory = sluice->dir,
                                                   .input = in,
                                                   .output = out,
                                                   .log = err}),
    };
    result.out = file_text(out);
    result.err = file_text(err);
    result.json = cJSON_Parse(result.out);
    cr_assert(!strstr(result.err, "Sanitizer: ") && !strstr(result.err, "runtime error: "), "%s", result.err);
    free(in);
    free(out);
    free(err);
    return result;
}

void cli_result_fini(struct cli_result *result)
{
    free(result->out);
    free(result->err);
    cJSON_Delete(result->json);
    *result = (struct cli_result){0};
}

struct cli_result cli(const struct sluice *sluice, const char *const *arguments)
{
    return cli_run(sluice, &(struct cli_plan){.arguments = arguments});
}

char *cli_out(const struct sluice *sluice, const char *const *arguments)
{
    struct cli_result result = cli(sluice, arguments);
    cr_assert_eq(result.code, 0, "%s %s: %d, %s", arguments[0], arguments[1], result.code, result.err);
    char *out = result.out;
    result.out = NULL;
    cli_result_fini(&result);
    return out;
}

char *cli_err(const struct sluice *sluice, int code, const char *const *arguments)
{
    struct cli_result result = cli(sluice, arguments);
    cr_assert_eq(result.code, code, "%s: %d, %s", arguments[0], result.code, result.err);
    char *err = result.err;
    size_t len = strlen(err);
    cr_assert(strncmp(err, "sluice: ", 8) == 0 && strchr(err, '\n') == err + len - 1, "%s", err);
    result.err = NULL;
    cli_result_fini(&result);
    return err;
}

cJSON *cli_reply(const struct sluice *sluice, const char *const *arguments)
{
    struct cli_result result = cli(sluice, arguments);
    cr_assert_eq(result.code, 0, "%s", result.err);
    cr_assert_not_null(result.json, "%s", result.out);
    cr_assert_eq(strchr(result.out, '\n') + 1, result.out + strlen(result.out));
    cJSON *json = result.json;
    result.json = NULL;
    cli_result_fini(&result);
    return json;
}

void expect_in(const char *text, const char *const *wanted)
{
    for (size_t i = 0; wanted[i]; i++) {
        cr_expect(strstr(text, wanted[i]), "no \"%s\" in\n%s", wanted[i], text);
    }
}

void cli_refused(const struct sluice *sluice, int code, const char *text, const char *const *arguments)
{
    char *err = cli_err(sluice, code, arguments);
    cr_expect(strstr(err, text), "no \"%s\" in %s", text, err);
    free(err);
}

// ---- On a terminal ----

static void in_child(const struct sluice *sluice, const struct cli_plan *plan)
{
    struct program_path program = program_path("sluice");
    struct variables variables;
    char *arguments[WORDS_MAX] = {program.text};
    fill_variables(sluice, plan, "TERM=xterm", &variables);
    for (size_t i = 0; plan->arguments[i] && i + 2 < WORDS_MAX; i++) {
        arguments[i + 1] = strdup(plan->arguments[i]);
    }
    (void)unsetenv("NO_COLOR");
    for (size_t i = 0; variables.list[i]; i++) {
        (void)putenv(strdup(variables.list[i]));
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && chdir(sluice->dir) == 0) {
        execv(program.text, arguments);
    }
    _exit(127);
}

struct terminal terminal_start(const struct sluice *sluice, const struct cli_plan *plan)
{
    const struct winsize size = {.ws_row = 24, .ws_col = 100};
    struct terminal terminal = {.process = PROCESS_NONE};
    pid_t pid = forkpty(&terminal.fd, NULL, NULL, &size);
    cr_assert(pid >= 0);
    if (pid == 0) {
        in_child(sluice, plan);
    }
    terminal.process.pid = pid;
    terminal.text = calloc(1, 1);
    return terminal;
}

// False when nothing more will come.
static bool read_more(struct terminal *terminal)
{
    char part[4096];
    struct pollfd ready = {.fd = terminal->fd, .events = POLLIN};
    cr_assert_eq(poll(&ready, 1, WAIT_S * 1000), 1, "nothing within %d s, after %s", WAIT_S, terminal->text);
    ssize_t got = read(terminal->fd, part, sizeof(part));
    if (got <= 0) { // EIO when the other end is closed
        return false;
    }
    terminal->text = realloc(terminal->text, terminal->len + (size_t)got + 1);
    cr_assert_not_null(terminal->text);
    memcpy(terminal->text + terminal->len, part, (size_t)got);
    terminal->len += (size_t)got;
    terminal->text[terminal->len] = '\0';
    return true;
}

void terminal_expect(struct terminal *terminal, const char *text)
{
    while (!strstr(terminal->text, text)) {
        cr_assert(read_more(terminal), "it ended without \"%s\": %s", text, terminal->text);
    }
}

void terminal_type(struct terminal *terminal, const char *keys)
{
    size_t len = strlen(keys);
    cr_assert_eq(write(terminal->fd, keys, len), (ssize_t)len);
}

int terminal_end(struct terminal *terminal)
{
    while (read_more(terminal)) {
    }
    int code = process_wait(&terminal->process);
    cr_assert(!strstr(terminal->text, "Sanitizer: "), "%s", terminal->text);
    return code;
}

void terminal_fini(struct terminal *terminal)
{
    close(terminal->fd);
    free(terminal->text);
}
