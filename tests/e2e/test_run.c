// run.sh in a folder of its own, with the programs under test in it. Only building is left out: `cmake` and
// `dpkg-query` are stand-ins that find nothing to do.
#include "common/conf.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(run, .fini = sluice_cleanup);

struct run {
    struct sluice *sluice; // for its directory, URL and requests: its parts are never launched
    struct process script;
    char *program; // a link to the script
    char *output;
    char *log;
    char data[SLUICE_TEXT + 32]; // the settings
    char listen[SLUICE_TEXT + 32];
};

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
    cr_assert_eq(chmod(path, 0755), 0);
}

static void make_dir(const struct sluice *sluice, const char *name)
{
    char *path = sluice_path(sluice, name);
    cr_assert_eq(mkdir(path, 0755), 0);
    free(path);
}

static struct run run_prepare(void)
{
    struct run run = {.sluice = sluice_new(NULL, NULL), .script = PROCESS_NONE};
    make_dir(run.sluice, "stand-ins");
    make_dir(run.sluice, "clone");
    make_dir(run.sluice, "clone/build");
    char *script = sluice_path(run.sluice, "clone/run.sh"),
         *programs = sluice_path(run.sluice, "clone/build/bin");
    char *cmake = sluice_path(run.sluice, "stand-ins/cmake"),
         *dpkg = sluice_path(run.sluice, "stand-ins/dpkg-query");
    char *text = file_text(SLUICE_SOURCE_DIR "/run.sh"), *path;
    run.program = sluice_path(run.sluice, "link");
    run.output = sluice_path(run.sluice, "run.out");
    run.log = run.sluice->log[SCHEDULER]; // so that it is shown when the test fails
    write_file(script, text);
    write_file(cmake, "#!/bin/sh\n");
    write_file(dpkg, "#!/bin/sh\necho installed\n");
    cr_assert_eq(symlink(SLUICE_BIN_DIR, programs), 0);
    cr_assert_eq(symlink("clone/run.sh", run.program), 0);
    cr_assert(asprintf(&path, "%s/stand-ins:%s", run.sluice->dir, getenv("PATH")) > 0);
    cr_assert_eq(setenv("PATH", path, 1), 0);
    (void)snprintf(run.data, sizeof(run.data), "SLUICE_DATA=%s", run.sluice->data);
    (void)snprintf(run.listen, sizeof(run.listen), "SLUICE_LISTEN=%s", run.sluice->url);
    free(script);
    free(programs);
    free(cmake);
    free(dpkg);
    free(text);
    free(path);
    return run;
}

static void run_free(struct run *run)
{
    free(run->program);
    free(run->output);
    sluice_end(run->sluice);
}

// From another directory, and through the link.
static struct process_plan plan(const struct run *run, const char *const *arguments,
                                const char *const *environment)
{
    return (struct process_plan){.program = run->program,
                                 .arguments = arguments,
                                 .environment = environment,
                                 .directory = "/",
                                 .output = run->output,
                                 .log = run->log};
}

static int run_once(const struct run *run, const char *const *arguments, const char *const *environment)
{
    struct process_plan once = plan(run, arguments, environment);
    return process_run(&once);
}

static bool printed(const struct run *run, const char *text)
{
    char *output = file_text(run->output);
    bool found = strstr(output, text) != NULL;
    free(output);
    return found;
}

// The script's child of this name; 0 when there is none now.
static pid_t child_of(const struct run *run, const char *name)
{
    char path[64], *list, *rest;
    pid_t found = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", run->script.pid, run->script.pid);
    rest = list = file_text(path);
    for (char *end; !found; rest = end) {
        pid_t pid = (pid_t)strtol(rest, &end, 10);
        if (end == rest) {
            break;
        }
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        char *comm = file_text(path);
        comm[strcspn(comm, "\n")] = '\0';
        // The kernel cuts the name at 15 characters.
        found = strncmp(comm, name, 15) == 0 ? pid : 0;
        free(comm);
    }
    free(list);
    return found;
}

// Kills it and waits for the next of its name.
static void kill_and_wait(const struct run *run, const char *name)
{
    pid_t before = child_of(run, name), after = 0;
    cr_assert(before > 0 && kill(before, SIGKILL) == 0);
    WAIT_FOR((after = child_of(run, name)) > 0 && after != before);
}

static bool answers(const struct run *run, const char *path)
{
    struct http_response response = sluice_get(run->sluice, "%s", path);
    bool ok = response.status == 200;
    http_response_fini(&response);
    return ok;
}

Test(run, up_starts_both_and_keeps_them_running)
{
    struct run run = run_prepare();
    const char *const *environment =
        LIST(run.data, run.listen, "SLUICE_RATE=unlimited", "SLUICE_TARGET=simulate:1ms");
    struct process_plan up = plan(&run, NULL, environment);
    run.script = run.sluice->part[GATEWAY] =
        process_start(&up); // killed with the sluice, should the test fail
    WAIT_FOR(printed(&run, "/ingest"));
    cr_assert(printed(&run, run.sluice->url));
    struct ingested ingested = sluice_ingest_range(run.sluice, "HIGH", 1, 5);
    sluice_wait_status(run.sluice, ingested.id, "completed");

    cr_assert_eq(run_once(&run, LIST("up"), environment), EXIT_CODE_UNAVAILABLE);
    cr_assert(sluice_logged(run.sluice, SCHEDULER, "runs already"));

    kill_and_wait(&run, "sluice-gateway");
    WAIT_FOR(answers(&run, "/healthz"));
    kill_and_wait(&run, "sluice-scheduler");
    WAIT_FOR(answers(&run, "/readyz"));
    sluice_wait_status(run.sluice, ingested.id, "completed");

    run.sluice->part[GATEWAY] = PROCESS_NONE;
    cr_assert_eq(process_end(&run.script, SIGTERM), EXIT_CODE_OK);
    cr_assert(!answers(&run, "/healthz"));
    cr_assert(sluice_logged(run.sluice, SCHEDULER, "loop ended"));
    run_free(&run);
}

Test(run, up_gives_up_when_a_program_cannot_start)
{
    struct run run = run_prepare();
    cr_assert_eq(run_once(&run, NULL, LIST(run.data, run.listen, "SLUICE_RATE=fast")), EXIT_CODE_USAGE);
    cr_assert(sluice_logged(run.sluice, SCHEDULER, "--rate"));
    cr_assert_eq(run_once(&run, NULL, LIST(run.data, "SLUICE_LISTEN=nowhere")), EXIT_CODE_USAGE);
    cr_assert(sluice_logged(run.sluice, SCHEDULER, "--listen"));
    cr_assert_eq(run_once(&run, NULL, LIST("SLUICE_DATA=/dev/null/data", run.listen)), EXIT_CODE_CANTCREAT);
    cr_assert(!printed(&run, "/ingest"));
    run_free(&run);
}

Test(run, says_what_it_can_do)
{
    struct run run = run_prepare();
    cr_assert_eq(run_once(&run, LIST("help"), NULL), EXIT_CODE_OK);
    cr_assert(printed(&run, "SLUICE_DATA"));
    cr_assert_eq(run_once(&run, LIST("dance"), NULL), EXIT_CODE_USAGE);
    cr_assert_eq(run_once(&run, LIST("up", "and", "away"), NULL), EXIT_CODE_USAGE);
    run_free(&run);
}
