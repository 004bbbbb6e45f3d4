// sluice backup: a copy made while the scheduler works is one that a scheduler starts from.
#include "tests/support/cli.h"

#include "cli/exit.h"

#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(cli_backup, .fini = sluice_cleanup);

// A scheduler on this copy, with the same flags.
static struct sluice *restored(const char *file, const char *const *flags)
{
    struct sluice *sluice = sluice_new(flags, NULL);
    char *to = sluice_path(sluice, "data/sluice.db");
    cr_assert_eq(mkdir(sluice->data, 0750), 0);
    cr_assert_eq(rename(file, to), 0);
    free(to);
    char *out = cli_out(sluice, LIST("verify")); // of ./data
    expect_in(out, LIST(" dispatches checked; violations: 0\n"));
    free(out);
    sluice_launch(sluice, SCHEDULER);
    return sluice;
}

static char *ingest_words(const struct sluice *sluice, const char *const *arguments)
{
    char *id = cli_out(sluice, arguments);
    id[strcspn(id, "\n")] = '\0';
    return id;
}

// While it runs others ingest, and batches are dispatched: what was acknowledged before it began is in it,
// and nothing that was acknowledged after it ended.
Test(cli_backup, while_traffic_runs)
{
    const char *const *flags = LIST("--rate", "unlimited", "--target", "simulate:1ms", "--concurrency", "8");
    struct sluice *sluice = cli_scheduler(flags);
    free(cli_out(sluice, LIST("queue", "set", "later", "--rate", "1/1h", "--batch-size", "1")));
    char *before[20];
    for (size_t i = 0; i < 20; i++) {
        before[i] =
            ingest_words(sluice, LIST("ingest", "1", "2", "3", "--queue", "later", "--not-before", "+1h"));
    }
    static char many[200000 * 7 + 1];
    size_t len = 0;
    for (int i = 100000; i < 300000; i++) {
        len += (size_t)snprintf(many + len, sizeof(many) - len, "%d\n", i);
    }
    struct cli_result result =
        cli_run(sluice, &(struct cli_plan){.arguments = LIST("ingest"), .input = many});
    cr_assert_eq(result.code, 0, "%s", result.err);
    cli_result_fini(&result);

    char *file = sluice_path(sluice, "copy");
    struct terminal backup = terminal_start(sluice, &(struct cli_plan){.arguments = LIST("backup", file)});
    for (size_t i = 0; i < 10; i++) {
        free(ingest_words(sluice, LIST("ingest", "1", "2", "3", "--queue", "later", "--not-before", "+1h")));
    }
    cr_assert_eq(terminal_end(&backup), 0, "%s", backup.text);
    terminal_fini(&backup);
    char *after = ingest_words(sluice, LIST("ingest", "4", "--queue", "later"));

    struct sluice *copy = restored(file, flags);
    for (size_t i = 0; i < 20; i++) {
        cJSON *status = cli_reply(copy, LIST("status", before[i], "--json"));
        cr_assert_eq(json_number(status, "batches_total"), 3);
        cr_assert_str_eq(json_text(status, "status"), "yet_to_start");
        cJSON_Delete(status);
        free(before[i]);
    }
    cli_refused(copy, EXIT_CODE_NOINPUT, "sluice: not_found: ", LIST("status", after));
    char *again = ingest_words(copy, LIST("ingest", "1", "--priority", "high"));
    free(cli_out(copy, LIST("watch", again))); // it works on
    free(again);
    free(after);
    free(file);
    sluice_end(copy);
    sluice_end(sluice);
}

Test(cli_backup, its_reply_and_its_name)
{
    struct sluice *sluice = cli_scheduler(NULL);
    cJSON *reply =
        cli_reply(sluice, LIST("backup", "a copy", "--json")); // in the directory where the command runs
    char *path = sluice_path(sluice, "a copy"), *part = sluice_path(sluice, "a copy.part");
    struct stat info;
    cr_assert(cJSON_IsTrue(json_member(reply, "done")));
    cr_assert_str_eq(json_text(reply, "path"), path);
    cr_assert_eq(json_number(reply, "pages_left"), 0);
    cr_assert_eq(stat(path, &info), 0);
    cr_assert_eq(info.st_mode & 07777, 0640);
    cr_assert_neq(access(part, F_OK), 0);
    cJSON_Delete(reply);

    cli_refused(sluice, EXIT_CODE_CANTCREAT, "exists already", LIST("backup", path));
    cli_refused(sluice, EXIT_CODE_UNAVAILABLE, "sluice: storage_unavailable: /nowhere/copy cannot be made: ",
                LIST("backup", "/nowhere/copy"));
    free(path);
    free(part);
    free(cli_out(sluice, LIST("ping")));
    sluice_end(sluice);
}

// Of a scheduler that is not running.
static void change_store(const struct sluice *sluice, const char *sql)
{
    char *path = sluice_path(sluice, "data/sluice.db");
    sqlite3 *db;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    free(path);
}

Test(cli_backup, verify)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "unlimited", "--target", "simulate:0"));
    free(cli_out(sluice, LIST("ingest", "1", "2", "3", "4", "--wait")));
    cli_refused(sluice, EXIT_CODE_UNAVAILABLE,
                "sluice: storage_unavailable: ", LIST("verify", "--data", sluice->data));
    cli_refused(sluice, EXIT_CODE_NOINPUT, "sluice: not_found: ", LIST("verify", "--data", "/nowhere"));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    cJSON *result = cli_reply(sluice, LIST("verify", "--json"));
    cr_assert_eq(json_number(result, "ingestions"), 1);
    cr_assert_eq(json_number(result, "batches"), 2);
    cr_assert_eq(json_number(result, "dispatches"), 2);
    cr_assert_eq(json_number(result, "violations_total"), 0);
    cr_assert_eq(cJSON_GetArraySize(json_member(result, "violations")), 0);
    cJSON_Delete(result);
    // A row that says something else than the others.
    change_store(sluice, "UPDATE ingestion SET completed = completed - 1");
    struct cli_result bad = cli(sluice, LIST("verify"));
    cr_assert_eq(bad.code, EXIT_CODE_DATAERR, "%d %s %s", bad.code, bad.out, bad.err);
    expect_in(bad.out, LIST("completed: 1 are counted, 2 found\n", "; violations: 2\n"));
    cli_result_fini(&bad);
    bad = cli(sluice, LIST("verify", "--json"));
    cr_assert_eq(bad.code, EXIT_CODE_DATAERR);
    cr_assert_eq(json_number(bad.json, "violations_total"), 2);
    cr_assert_eq(cJSON_GetArraySize(json_member(bad.json, "violations")), 2);
    cli_result_fini(&bad);
    change_store(sluice, "UPDATE ingestion SET completed = completed + 1");
    sluice_end(sluice);
}
