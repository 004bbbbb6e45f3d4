// What cmake --install leaves: the client library as other people link it, and the examples built against it.
// Release builds only, which are what is installed.
#include "tests/support/cli.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(installed, .fini = sluice_cleanup);

#define EXAMPLES SLUICE_SOURCE_DIR "/cli/examples"

// Runs a shell command where the installation is $P, and what its pkg-config file says is at hand. What it
// prints is the caller's.
static char *shell(const struct sluice *sluice, const char *command)
{
    char *whole, *out = sluice_path(sluice, "shell.out"), *err = sluice_path(sluice, "shell.err");
    cr_assert(
        asprintf(
            &whole,
            "set -e; P=$PWD/prefix; export PKG_CONFIG_PATH=$(dirname $(find $P -name sluice.pc)); "
            "export LD_LIBRARY_PATH=$(dirname $(find $P -name libsluice.so.0)); export SLUICE_IPC=%s; %s",
            sluice->ipc, command) > 0);
    int code = process_run(&(struct process_plan){.program = "/bin/bash",
                                                  .arguments = LIST("-c", whole),
                                                  .directory = sluice->dir,
                                                  .output = out,
                                                  .log = err});
    char *text = file_text(out), *errors = file_text(err);
    cr_assert_eq(code, 0, "%s: %d\n%s", command, code, errors);
    free(errors);
    free(whole);
    free(out);
    free(err);
    return text;
}

static struct sluice *with_installation(void)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "unlimited", "--target", "simulate:0"));
    char *out = sluice_path(sluice, "install.out");
    cr_assert_eq(process_run(&(struct process_plan){
                     .program = SLUICE_CMAKE,
                     .arguments = LIST("--install", SLUICE_BUILD_DIR, "--prefix", "prefix"),
                     .directory = sluice->dir,
                     .log = out}),
                 0);
    free(out);
    return sluice;
}

Test(installed, where_everything_is)
{
    struct sluice *sluice = with_installation();
    char *files = shell(sluice, "cd $P; find . -type f");
    expect_in(files, LIST("./bin/sluice\n", "./sbin/sluice-scheduler\n", "./sbin/sluice-gateway\n",
                          "./include/sluice/client.h\n", "/libsluice.a\n", "/libsluice.so.0.",
                          "/pkgconfig/sluice.pc\n", "/sbin/sluice-verify\n", "/man1/sluice.1\n",
                          "/man8/sluice-verify.8\n", "/man8/sluice-scheduler.8\n", "/man8/sluice-gateway.8\n",
                          "/bash-completion/completions/sluice\n"));
    free(files);
    sluice_end(sluice);
}

// Both libraries show the names of the header, all of them, and nothing else.
Test(installed, the_names_of_the_library)
{
    struct sluice *sluice = with_installation();
    char *wanted =
        shell(sluice, "grep -o '^SLUICE_API .*(' $P/include/sluice/client.h | grep -o 'sluice_[a-z_]*($' | "
                      "tr -d '(' | sort");
    char *shared =
        shell(sluice, "nm -D --defined-only $(find $P -name libsluice.so.0) | awk '{ print $3 }' | sort");
    char *archive = shell(
        sluice, "nm -g --defined-only $(find $P -name libsluice.a) | awk 'NF == 3 { print $3 }' | sort");
    expect_in(wanted, LIST("sluice_open\n", "sluice_request\n"));
    cr_assert_str_eq(shared, wanted);
    cr_assert_str_eq(archive, wanted);
    free(wanted);
    free(shared);
    free(archive);
    sluice_end(sluice);
}

// An example's output: the ID of the ingestion, and what became of it.
static void expect_completed(const struct sluice *sluice, char *out)
{
    char *end = strchr(out, '\n');
    cr_assert(end && strcmp(end, "\ncompleted\n") == 0, "%s", out);
    *end = '\0';
    cJSON *status = cli_reply(sluice, LIST("status", out, "--json"));
    cr_assert_eq(
        cJSON_GetArraySize(json_member(cJSON_GetArrayItem(json_member(status, "batches"), 0), "ids")), 2);
    cJSON_Delete(status);
    free(out);
}

Test(installed, the_example_in_c)
{
    struct sluice *sluice = with_installation();
    expect_completed(sluice,
                     shell(sluice, "cc -std=c11 -Wall -Wextra -Werror -D_DEFAULT_SOURCE -o shared " EXAMPLES
                                   "/ingest.c $(pkg-config --cflags --libs sluice); ./shared 7 9"));
    // The archive, beside the shared library of the same name.
    expect_completed(sluice,
                     shell(sluice, "cc -o static " EXAMPLES "/ingest.c $(pkg-config --cflags sluice) "
                                   "$(pkg-config --static --libs sluice | sed 's/-lsluice/-l:libsluice.a/'); "
                                   "readelf -d static | grep -q libsluice && exit 1; ./static 7 9"));
    char *out = shell(sluice, "! SLUICE_IPC=tcp://x ./shared 0 2>&1");
    expect_in(out, LIST("not an address"));
    free(out);
    out = shell(sluice, "! ./shared 0 2>&1");
    expect_in(out, LIST("id_out_of_range"));
    free(out);
    sluice_end(sluice);
}

Test(installed, the_example_in_python)
{
    struct sluice *sluice = with_installation();
    expect_completed(sluice, shell(sluice, "/usr/bin/python3 -B " EXAMPLES "/ingest.py 7 9"));
    char *out = shell(sluice, "! /usr/bin/python3 -B " EXAMPLES "/ingest.py 0 2>&1");
    expect_in(out, LIST("id_out_of_range: "));
    free(out);
    sluice_end(sluice);
}

// Also to a compiler of C++, and by itself.
Test(installed, the_header)
{
    struct sluice *sluice = with_installation();
    free(shell(sluice, "echo '#include <sluice/client.h>' >x.c; cp x.c x.cc; "
                       "cc -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I$P/include x.c; "
                       "c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I$P/include x.cc"));
    sluice_end(sluice);
}
