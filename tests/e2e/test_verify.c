// sluice-verify as a program: what it prints, and its exit codes. What it finds is tests/unit/test_verify.c.
#include "common/conf.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(verify, .fini = sluice_cleanup);

struct ran {
    int code;
    char *output;
    char *errors;
};

static struct ran run(const struct sluice *sluice, const char *const *arguments,
                      const char *const *environment)
{
    struct ran ran;
    char *output = sluice_path(sluice, "run.out");
    char *errors = sluice_path(sluice, "run.err");
    (void)unlink(errors);
    struct program_path program = program_path("sluice-verify");
    ran.code = process_run(&(struct process_plan){.program = program.text,
                                                  .arguments = arguments,
                                                  .environment = environment,
                                                  .directory = sluice->dir,
                                                  .output = output,
                                                  .log = errors});
    ran.output = file_text(output);
    ran.errors = file_text(errors);
    free(output);
    free(errors);
    return ran;
}

// With this in the one or the other.
static void expect(const struct sluice *sluice, const char *const *arguments, int code, const char *said)
{
    struct ran ran = run(sluice, arguments, NULL);
    cr_assert_eq(ran.code, code, "%d: %s%s", ran.code, ran.output, ran.errors);
    cr_assert(strstr(ran.output, said) || strstr(ran.errors, said), "%s%s", ran.output, ran.errors);
    free(ran.output);
    free(ran.errors);
}

static void damage(const struct sluice *sluice, const char *sql)
{
    sqlite3 *db;
    char *path = sluice_path(sluice, "data/sluice.db");
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    free(path);
}

Test(verify, says_what_it_takes)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    expect(sluice, LIST("--help"), EXIT_CODE_OK, "--data DIR");
    expect(sluice, LIST("--version"), EXIT_CODE_OK, "sluice-verify " SLUICE_VERSION "\n");
    expect(sluice, LIST("--date", "x"), EXIT_CODE_USAGE, "--date");
    expect(sluice, LIST("x"), EXIT_CODE_USAGE, "x");
    expect(sluice, LIST("--data", "nowhere"), EXIT_CODE_NOINPUT, "nowhere: No such file");
    expect(sluice, LIST("--data", "."), EXIT_CODE_NOINPUT, "sluice.db: No such file");
    sluice_end(sluice);
}

Test(verify, a_store_that_runs_that_has_stopped_and_that_is_wrong)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "unlimited", "--target", "simulate:0s"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 10);
    sluice_wait_status(sluice, ingested.id, "completed");
    expect(sluice, LIST("--data", sluice->data), EXIT_CODE_UNAVAILABLE, "a scheduler is running on");
    sluice_kill(sluice, SCHEDULER);
    expect(sluice, LIST("--data", sluice->data), EXIT_CODE_OK,
           "1 ingestions, 4 batches, 4 dispatches checked: nothing wrong\n");
    char *variable;
    cr_assert(asprintf(&variable, "SLUICE_DATA=%s", sluice->data) > 0);
    struct ran ran = run(sluice, NULL, LIST(variable));
    cr_assert_eq(ran.code, EXIT_CODE_OK, "%s", ran.errors);
    free(ran.output);
    free(ran.errors);
    free(variable);
    sluice_launch(sluice, SCHEDULER); // it left nothing in the way
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), EXIT_CODE_OK);
    sluice->damaged = true;
    damage(sluice, "DELETE FROM batch WHERE idx = 2");
    expect(sluice, LIST("--data", sluice->data), EXIT_CODE_DATAERR, "it was dispatched, and has no row\n");
    expect(sluice, LIST("--data", sluice->data), EXIT_CODE_DATAERR, "checked: 3 violations\n");
    damage(sluice, "PRAGMA user_version = 1000");
    expect(sluice, LIST("--data", sluice->data), EXIT_CODE_CONFIG, "newer Sluice");
    sluice_end(sluice);
}

// What the bucket holds goes through a change of rate, which empties it, and through kills: it is sluice_end
// that looks at the gaps between these dispatches.
Test(verify, changes_of_rate_and_kills)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "work", "\"rate\":\"1/100ms\",\"burst\":1,\"target\":\"simulate:0s\",\"batch_size\":1");
    struct ingested first = queue_ingest_range(sluice, "work", "HIGH", 1, 2);
    sluice_wait_status(sluice, first.id, "completed");
    struct ingested second = queue_ingest_range(sluice, "work", "LOW", 1, 3);
    queue_put(sluice, "work", "\"rate\":\"1/300ms\"");
    sluice_wait_status(sluice, second.id, "triggered");
    for (int kill = 0; kill < 2; kill++) {
        sluice_kill(sluice, SCHEDULER);
        sluice_launch(sluice, SCHEDULER);
    }
    sluice_wait_status(sluice, second.id, "completed");
    sluice_end(sluice);
}
