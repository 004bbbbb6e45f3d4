// What cmake --install leaves: the client library as other people link it, and the examples built against it.
// Release builds only, which are what is installed.
#include "tests/support/cli.h"
#include "tests/support/pki.h"

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
    expect_in(files,
              LIST("./bin/sluice\n", "./sbin/sluice-scheduler\n", "./sbin/sluice-gateway\n",
                   "./include/sluice/client.h\n", "/libsluice.a\n", "/libsluice.so.0.",
                   "/pkgconfig/sluice.pc\n", "/sbin/sluice-verify\n", "/man1/sluice.1\n",
                   "/man8/sluice-verify.8\n", "/man8/sluice-scheduler.8\n", "/man8/sluice-gateway.8\n",
                   "/bash-completion/completions/sluice\n", "./lib/systemd/system/sluice-scheduler.service\n",
                   "./lib/systemd/system/sluice-gateway.service\n", "./lib/sysusers.d/sluice.conf\n",
                   "/examples/scheduler.env\n", "/examples/gateway.env\n"));
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

// ---- under systemd ----

#define UNITS "sluice-scheduler.service sluice-gateway.service"

// What a shell command prints where $R is a root directory with this installation and systemd's own units.
static char *under_root(const struct sluice *sluice, const char *command)
{
    char *whole;
    cr_assert(asprintf(&whole,
                       "R=$PWD/root; mkdir -p $R/etc $R/usr/lib/systemd $R/bin; cp /bin/sh $R/bin; "
                       "cp -r /lib/systemd/system $R/usr/lib/systemd; "
                       "DESTDIR=$R " SLUICE_CMAKE " --install " SLUICE_BUILD_DIR " >/dev/null; %s",
                       command) > 0);
    char *text = shell(sluice, whole);
    free(whole);
    return text;
}

// Nothing is unknown, nothing is missing; a word that systemd does not know is only said, and no error.
Test(installed, the_units_are_sound)
{
    struct sluice *sluice = with_installation();
    char *out = under_root(sluice, "systemd-analyze verify --man=no --root=$R " UNITS " 2>&1");
    cr_assert_str_empty(out, "%s", out);
    free(out);
    // It does look at these: without the program they are not.
    out = under_root(sluice, "rm $(find $R -name sluice-gateway -type f); "
                             "! systemd-analyze verify --man=no --root=$R " UNITS " 2>&1");
    expect_in(out, LIST("sluice-gateway is not executable"));
    free(out);
    sluice_end(sluice);
}

// An exposure of 2.0 at the most.
Test(installed, the_units_are_confined)
{
    struct sluice *sluice = with_installation();
    char *out = under_root(sluice, "set -o pipefail; for unit in " UNITS
                                   "; do systemd-analyze security --no-pager --offline=true --threshold=20 "
                                   "--root=$R $unit | tail -n 1; done");
    expect_in(out, LIST("exposure level for sluice-scheduler.service: ",
                        "exposure level for sluice-gateway.service: "));
    free(out);
    sluice_end(sluice);
}

// The user of each unit comes to be, and its group: the gateway's is the scheduler's.
Test(installed, the_users_of_the_units)
{
    struct sluice *sluice = with_installation();
    char *out = under_root(
        sluice, "systemd-sysusers --root=$R; U=$(find $R/usr/local -name 'sluice-*.service'); "
                "for user in $(sed -n 's/^User=//p' $U); do grep -o \"^$user:x\" $R/etc/passwd; done; "
                "for group in $(sed -n 's/^Group=//p' $U); do grep -o \"^$group:\" $R/etc/group; done");
    expect_in(out, LIST("sluice:x\n", "sluice-gateway:x\n", "sluice:\nsluice:\n"));
    free(out);
    sluice_end(sluice);
}

// Every option is in the example of its program, but for those that the unit sets, and no other.
Test(installed, the_environment_files_name_every_option)
{
    struct sluice *sluice = with_installation();
    free(shell(sluice,
               "E=$(dirname $(find $P -name gateway.env)); for p in scheduler gateway; do "
               "$P/sbin/sluice-$p --help | grep -o 'SLUICE_[A-Z_]*' | sort >$p.known; "
               "(echo SLUICE_READY_FD; grep -o '^#SLUICE_[A-Z_]*' $E/$p.env | tr -d '#'; "
               "grep '^Environment=' $P/lib/systemd/system/sluice-$p.service | grep -o 'SLUICE_[A-Z_]*') "
               "| sort >$p.said; diff $p.known $p.said >&2; done"));
    sluice_end(sluice);
}

// NAME=/etc/sluice/FILE becomes NAME=FILE, in the directory where the programs run.
static char *with_files_here(char *line)
{
    static const char etc[] = "/etc/sluice/";
    char *at = strstr(line, etc);
    if (at) {
        memmove(at, at + strlen(etc), strlen(at + strlen(etc)) + 1);
    }
    return line;
}

// The files that they name, and addresses that these are for.
static void make_certificates(struct sluice *sluice, char *remote, size_t size)
{
    static const char here[] = "DNS:127.0.0.1";
    pki_authority(sluice->dir, "ca");
    pki_certificate(sluice->dir, "ca", "server", PKI_SERVER, here, 1);
    pki_certificate(sluice->dir, "ca", "scheduler", PKI_SERVER, here, 2);
    pki_certificate(sluice->dir, "ca", "gateway-1", PKI_CLIENT, here, 3);
    (void)snprintf(remote, size, "tls+tcp://127.0.0.1:%u", free_port());
    (void)snprintf(sluice->url, sizeof(sluice->url), "https://127.0.0.1:%u", free_port());
    sluice_set_flags(sluice, SCHEDULER, LIST("--remote", remote));
    sluice_set_flags(sluice, GATEWAY, LIST("--scheduler", remote));
}

// What they say is what the program takes. A file of keys may be empty.
Test(installed, the_environment_files_are_taken)
{
    static const char *const files[PARTS] = {[SCHEDULER] = "scheduler.env", [GATEWAY] = "gateway.env"};
    char remote[64];
    struct sluice *sluice = sluice_new(NULL, NULL);
    make_certificates(sluice, remote, sizeof(remote));
    char *keys = sluice_path(sluice, "keys");
    FILE *empty = fopen(keys, "w");
    cr_assert(empty && fclose(empty) == 0);
    free(keys);
    for (int part = SCHEDULER; part < PARTS; part++) {
        const char *lines[2 * SLUICE_FLAGS_MAX] = {NULL};
        size_t count = 0;
        char path[512], *rest;
        (void)snprintf(path, sizeof(path), SLUICE_SOURCE_DIR "/packaging/systemd/%s", files[part]);
        char *text = file_text(path);
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            if (strncmp(line, "#SLUICE_", strlen("#SLUICE_")) == 0) {
                cr_assert_lt(count, sizeof(lines) / sizeof(lines[0]) - 1);
                lines[count++] = with_files_here(line + 1);
            }
        }
        cr_assert_gt(count, 0);
        sluice->environment[part] = lines;
        sluice_launch(sluice, (enum part)part);
        sluice->environment[part] = NULL;
        free(text);
    }
    sluice_end(sluice);
}
