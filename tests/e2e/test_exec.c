// Programs as targets, with real ones.
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(exec, .fini = sluice_cleanup);

// A program in the sluice's directory, and a queue "work" for it with these further settings. $DIR in the
// script is that directory.
static void make_program(const struct sluice *sluice, const char *script, const char *settings)
{
    char *path = sluice_path(sluice, "program");
    FILE *file = fopen(path, "we");
    cr_assert(file && fprintf(file, "#!/bin/bash\nDIR=%s\n%s\n", sluice->dir, script) > 0 &&
              fclose(file) == 0);
    cr_assert_eq(chmod(path, 0700), 0);
    queue_put(sluice, "work",
              "\"rate\":\"unlimited\",\"target\":\"exec:%s\",\"retry\":{\"min_backoff\":\"50ms\",\"max_"
              "backoff\":\"100ms\"}",
              path);
    queue_put(sluice, "work", "%s", settings);
    free(path);
}

static char *read_file(const struct sluice *sluice, const char *name)
{
    char *path = sluice_path(sluice, name), *text = file_text(path);
    free(path);
    return text;
}

Test(exec, exit_0_completes_and_the_batch_is_on_standard_input)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "cat >$DIR/input; echo $# >$DIR/arguments", "");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[7,9007199254740991,7]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    char expected[512];
    struct batch_seen batch = batch_get(sluice, ingested.id, 0);
    (void)snprintf(expected, sizeof(expected),
                   "{\"ingestion_id\":\"%s\",\"batch_id\":\"%s\",\"queue\":\"work\",\"priority\":\"HIGH\","
                   "\"ids\":[7,9007199254740991,7],\"attempt\":1}",
                   ingested.id, batch.id);
    char *input = read_file(sluice, "input"), *arguments = read_file(sluice, "arguments");
    input[strcspn(input, "\n")] = '\0';
    cr_assert_str_eq(input, expected);
    cr_assert_str_eq(arguments, "0\n");
    free(input);
    free(arguments);
    sluice_end(sluice);
}

Test(exec, a_batch_of_60000_ids_comes_whole)
{
    enum { COUNT = 60000 };
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "sleep 0.2; tr , '\\n' | grep -c 9007199 >$DIR/count", "\"batch_size\":60000");
    struct ingested ingested =
        queue_ingest_range(sluice, "work", "LOW", UINT64_C(9007199254700000) - COUNT, COUNT);
    sluice_wait_status(sluice, ingested.id, "completed");
    char *count = read_file(sluice, "count");
    cr_assert_str_eq(count, "60000\n");
    free(count);
    sluice_end(sluice);
}

// What it does not read is no failure.
Test(exec, input_may_be_left_unread)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "exec true", "\"batch_size\":60000");
    struct ingested ingested = queue_ingest_range(sluice, "work", "LOW", UINT64_C(1000000000000000), 60000);
    sluice_wait_status(sluice, ingested.id, "completed");
    sluice_end(sluice);
}

Test(exec, exit_75_is_tried_again)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "echo x >>$DIR/runs; [ $(wc -l <$DIR/runs) -ge 3 ] || exit 75", "");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[1]", "");
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(batch_get(sluice, ingested.id, 0).attempts, 3);
    sluice_end(sluice);
}

Test(exec, another_code_fails_for_good_with_the_end_of_standard_error)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice,
                 "for i in {1..2000}; do echo line $i >&2; done; echo \"the \\\"last\\\" word\" >&2; exit 3",
                 "");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[1]", "");
    sluice_wait_status(sluice, ingested.id, "failed");
    struct batch_seen batch = batch_get(sluice, ingested.id, 0);
    cr_assert_eq(batch.attempts, 1);
    cr_assert(strlen(batch.error) > 3500 && strlen(batch.error) <= 4096, "%zu", strlen(batch.error));
    cr_assert_not_null(strstr(batch.error, "the \"last\" word"), "%s", batch.error);
    cr_assert_not_null(strstr(batch.error, "line 2000"), "%s", batch.error);
    cr_assert_null(strstr(batch.error, "line 1 "), "%s", batch.error);
    sluice_end(sluice);
}

Test(exec, death_by_a_signal_is_tried_again_and_says_so)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "kill -KILL $$", "\"retry\":{\"max_attempts\":2}");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[1]", "");
    sluice_wait_status(sluice, ingested.id, "failed");
    struct batch_seen batch = batch_get(sluice, ingested.id, 0);
    cr_assert_eq(batch.attempts, 2);
    cr_assert(strstr(batch.error, "SIGKILL") || strstr(batch.error, "signal 9"), "%s", batch.error);
    sluice_end(sluice);
}

Test(exec, a_program_that_is_not_there_is_tried_again)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "work",
              "\"target\":\"exec:/nonexistent/program\",\"rate\":\"unlimited\","
              "\"retry\":{\"max_attempts\":2,\"min_backoff\":\"50ms\"}");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[1]", "");
    sluice_wait_status(sluice, ingested.id, "failed");
    struct batch_seen batch = batch_get(sluice, ingested.id, 0);
    cr_assert_str_not_empty(batch.error);
    sluice_end(sluice);
}

static bool is_written(const struct sluice *sluice, const char *name)
{
    char *text = read_file(sluice, name);
    bool is = strchr(text, '\n') != NULL;
    free(text);
    return is;
}

static pid_t read_pid(const struct sluice *sluice, const char *name)
{
    char *text = read_file(sluice, name);
    pid_t pid = (pid_t)strtol(text, NULL, 10);
    free(text);
    cr_assert(pid > 1);
    return pid;
}

static bool is_gone(pid_t pid)
{
    char path[64], *text;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    text = file_text(path);
    const char *state = strrchr(text, ')');
    bool gone = !state || state[2] == 'Z'; // a child of a child is its new parent's to reap
    free(text);
    return gone;
}

Test(exec, at_its_timeout_the_whole_group_is_killed)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "trap '' TERM; sleep 1000 & echo $! >$DIR/child; echo $$ >$DIR/self; wait",
                 "\"timeout\":\"500ms\",\"retry\":{\"max_attempts\":1}");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[1]", "");
    WAIT_FOR(is_written(sluice, "self"));
    pid_t child = read_pid(sluice, "child"), self = read_pid(sluice, "self");
    sluice_wait_status(sluice, ingested.id, "failed");
    struct batch_seen batch = batch_get(sluice, ingested.id, 0);
    cr_assert(batch.completed.ms - batch.triggered.ms >= 490, "%lld ms",
              (long long)(batch.completed.ms - batch.triggered.ms));
    cr_assert(strstr(batch.error, "500ms") || strstr(batch.error, "time"), "%s", batch.error);
    WAIT_FOR(is_gone(child) && is_gone(self));
    sluice_end(sluice);
}

// The mask of signals in a line of /proc/PID/status, without the two that belong to the C library.
static unsigned long long signals_of(const char *status, const char *name)
{
    const char *line = strstr(status, name);
    cr_assert_not_null(line, "%s", status);
    return strtoull(line + strlen(name), NULL, 16) & ~0x180000000ull;
}

Test(exec, it_inherits_the_standard_descriptors_alone_and_no_mask_of_signals)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    // What bash itself does to signals ends with its exec.
    make_program(sluice,
                 "(cd /proc/$$/fd && for fd in *; do echo \"$fd $(readlink $fd)\"; done) >$DIR/fds\n"
                 "ps -o pgid= $$ >$DIR/group; echo $$ >$DIR/self\n"
                 "exec grep -E '^Sig(Blk|Ign)' /proc/self/status >$DIR/signals",
                 "");
    struct ingested ingested =
        queue_ingest(sluice, "work", "HIGH", "[1]", ""); // connections are open, and files
    sluice_wait_status(sluice, ingested.id, "completed");
    char *fds = read_file(sluice, "fds"), *signals = read_file(sluice, "signals"), *rest = fds;
    int count = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; count++) {
        long fd = strtol(line, NULL, 10);
        cr_assert(fd <= 2 || fd == 255, "it has %s", line); // bash has its script open as 255
        cr_assert(fd != 1 || strstr(line, "/dev/null"), "standard output is %s", line);
    }
    cr_assert_geq(count, 3);
    cr_assert_eq(signals_of(signals, "SigBlk:"), 0, "%s", signals);
    cr_assert_eq(signals_of(signals, "SigIgn:"), 0, "%s", signals);
    cr_assert_eq(read_pid(sluice, "group"), read_pid(sluice, "self"));
    free(fds);
    free(signals);
    sluice_end(sluice);
}

Test(exec, no_more_run_at_once_than_may)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice, "echo + >>$DIR/log; sleep 0.1; echo - >>$DIR/log",
                 "\"batch_size\":1,\"concurrency\":3");
    struct ingested ingested = queue_ingest_range(sluice, "work", "HIGH", 1, 15);
    sluice_wait_status(sluice, ingested.id, "completed");
    char *log = read_file(sluice, "log");
    int running = 0, most = 0, runs = 0;
    for (const char *at = log; *at; at++) {
        running += *at == '+' ? 1 : *at == '-' ? -1 : 0;
        runs += *at == '+';
        most = running > most ? running : most;
    }
    cr_assert_eq(runs, 15);
    cr_assert(most <= 3, "%d at once", most);
    free(log);
    sluice_end(sluice);
}

// A kill takes the programs along only if they notice; the batch runs again under its ID.
Test(exec, what_runs_when_the_scheduler_dies_is_run_again)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    make_program(sluice,
                 "cat >>$DIR/inputs; echo >>$DIR/inputs; [ -e $DIR/go ] || { touch $DIR/go; echo $$ "
                 ">$DIR/self; exec sleep 1000; }",
                 "");
    struct ingested ingested = queue_ingest(sluice, "work", "HIGH", "[1]", "");
    WAIT_FOR(is_written(sluice, "self"));
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "completed");
    struct batch_seen batch = batch_get(sluice, ingested.id, 0);
    cr_assert_eq(batch.attempts, 2);
    cr_assert(batch.interrupted);
    char *inputs = read_file(sluice, "inputs");
    const char *first = strstr(inputs, batch.id);
    cr_assert(first && strstr(first + 1, batch.id), "%s", inputs);
    free(inputs);
    (void)kill(read_pid(sluice, "self"), SIGKILL);
    sluice_end(sluice);
}
