// The command line with a scheduler: handing in, looking, and how it ends.
#include "tests/support/cli.h"

#include "cli/exit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

TestSuite(cli, .fini = sluice_cleanup);

static struct sluice *fast_scheduler(void)
{
    return cli_scheduler(LIST("--rate", "unlimited", "--target", "simulate:0"));
}

// What "ingest" prints: the ID and a newline.
static struct ingested ingest(const struct sluice *sluice, const char *const *arguments)
{
    struct ingested ingested;
    char *out = cli_out(sluice, arguments);
    cr_assert_eq(strlen(out), ID_TEXT_SIZE, "%s", out);
    out[ID_TEXT_SIZE - 1] = '\0';
    memcpy(ingested.id, out, ID_TEXT_SIZE);
    free(out);
    return ingested;
}

Test(cli, ping)
{
    struct sluice *sluice = fast_scheduler();
    char *out = cli_out(sluice, LIST("ping"));
    expect_in(out, LIST("sluice-scheduler " SLUICE_VERSION ", protocol 1, at ipc://", " ms\n"));
    free(out);
    cJSON *json = cli_reply(sluice, LIST("ping", "--json"));
    cr_assert(cJSON_IsTrue(json_member(json, "ok")));
    cr_assert_str_eq(json_text(json, "version"), SLUICE_VERSION);
    cJSON_Delete(json);
    sluice_end(sluice);
}

Test(cli, ingest_and_status)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "1/1h", "--target", "simulate:0"));
    struct ingested high = ingest(sluice, LIST("ingest", "1", "2", "3", "9007199254740991", "--priority",
                                               "high", "--not-before", "+1h"));
    struct ingested low = ingest(sluice, LIST("ingest", "--priority=LOW", "--not-before", "+1h", "--", "7"));
    cJSON *json = cli_reply(sluice, LIST("status", low.id, "--json"));
    cr_assert_str_eq(json_text(json, "priority"), "LOW");
    cr_assert_str_eq(json_text(json, "status"), "yet_to_start");
    cJSON_Delete(json);
    json = cli_reply(sluice, LIST("status", high.id, "--json", "--offset", "1", "--limit", "1"));
    cr_assert_eq(cJSON_GetArraySize(json_member(json, "batches")), 1);
    cr_assert_eq(json_number(json, "batches_total"), 2);
    cJSON_Delete(json);

    char *out = cli_out(sluice, LIST("status", high.id));
    expect_in(out,
              LIST(high.id, "priority     HIGH\n", "2 batches: 0 completed", "1,2,3", "9007199254740991"));
    cr_assert(!strchr(out, '\033'));
    free(out);
    out = cli_out(sluice, LIST("status", high.id, "--limit", "1"));
    expect_in(out, LIST("1,2,3", "1 more: --offset 1\n"));
    cr_assert(!strstr(out, "9007199254740991"));
    free(out);
    sluice_end(sluice);
}

Test(cli, ids_from_a_file_and_from_standard_input)
{
    struct sluice *sluice =
        cli_scheduler(LIST("--rate", "1/1h", "--target", "simulate:0", "--batch-size", "100"));
    struct cli_result result = cli_run(
        sluice, &(struct cli_plan){.arguments = LIST("ingest", "-", "--json"), .input = "5\r\n\n6\n7"});
    cr_assert_eq(result.code, 0, "%s", result.err);
    cJSON *json = cli_reply(sluice, LIST("status", json_text(result.json, "ingestion_id"), "--json"));
    char *batches = cJSON_PrintUnformatted(json_member(json, "batches"));
    expect_in(batches, LIST("\"ids\":[5,6,7]"));
    free(batches);
    cJSON_Delete(json);
    cli_result_fini(&result);

    char *path = sluice_path(sluice, "some ids");
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs("11\n12\n", file) >= 0 && fclose(file) == 0);
    struct ingested ingested = ingest(sluice, LIST("ingest", "--file", path));
    char *out = cli_out(sluice, LIST("status", ingested.id));
    expect_in(out, LIST("11,12\n"));
    free(out);
    free(path);
    sluice_end(sluice);
}

// 250,000 IDs become three ingestions, each at most 100,000, in order; each with a key of its own, so that
// the same command again makes nothing new.
Test(cli, many_ids_become_several_ingestions)
{
    struct sluice *sluice =
        cli_scheduler(LIST("--rate", "1/1h", "--target", "simulate:0", "--batch-size", "60000"));
    static char input[250000 * 8];
    size_t len = 0;
    for (int i = 1; i <= 250000; i++) {
        len += (size_t)snprintf(input + len, sizeof(input) - len, "%d\n", i);
    }
    struct cli_plan plan = {.arguments = LIST("ingest", "--idempotency-key", "night"), .input = input};
    struct cli_result first = cli_run(sluice, &plan);
    cr_assert_eq(first.code, 0, "%s", first.err);
    cr_assert_eq(strlen(first.out), (size_t)3 * ID_TEXT_SIZE, "%s", first.out);
    struct cli_result again = cli_run(sluice, &plan);
    cr_assert_eq(again.code, 0, "%s", again.err);
    cr_assert_str_eq(again.out, first.out);
    expect_in(again.err, LIST(" was there before\n"));

    cJSON *json = cli_reply(sluice, LIST("list", "--json"));
    cr_assert_eq(cJSON_GetArraySize(json_member(json, "ingestions")), 3);
    cJSON_Delete(json);
    static const double batches[] = {2, 2, 1};
    for (size_t i = 0; i < 3; i++) {
        first.out[(i + 1) * ID_TEXT_SIZE - 1] = '\0';
        json = cli_reply(sluice, LIST("status", first.out + i * ID_TEXT_SIZE, "--json", "--limit", "1"));
        cr_assert_eq(json_number(json, "batches_total"), batches[i]);
        const cJSON *batch = cJSON_GetArrayItem(json_member(json, "batches"), 0);
        cr_assert_eq(cJSON_GetNumberValue(cJSON_GetArrayItem(json_member(batch, "ids"), 0)),
                     100000.0 * (double)i + 1);
        cJSON_Delete(json);
    }
    cli_result_fini(&first);
    cli_result_fini(&again);
    sluice_end(sluice);
}

Test(cli, list_and_its_pages)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "1/1h", "--target", "simulate:0"));
    struct ingested ids[5];
    for (size_t i = 0; i < 5; i++) {
        ids[i] = ingest(sluice, LIST("ingest", "1", "--priority", i == 2 ? "LOW" : "HIGH"));
    }
    char *out = cli_out(sluice, LIST("list", "--limit", "3"));
    expect_in(out, LIST("INGESTION ", ids[4].id, ids[3].id, ids[2].id, "more: --cursor "));
    cr_assert(!strstr(out, ids[1].id));
    char *cursor = strstr(out, "--cursor ") + strlen("--cursor ");
    cursor[strcspn(cursor, "\n")] = '\0';
    char *rest = cli_out(sluice, LIST("list", "--cursor", cursor));
    expect_in(rest, LIST(ids[1].id, ids[0].id));
    cr_assert(!strstr(rest, ids[2].id) && !strstr(rest, "more"));
    free(rest);
    free(out);
    out =
        cli_out(sluice, LIST("list", "--priority", "low", "--status", "yet_to_start", "--queue", "default"));
    expect_in(out, LIST(ids[2].id));
    cr_assert(!strstr(out, ids[3].id));
    free(out);
    sluice_end(sluice);
}

// ---- Fates ----

Test(cli, wait_and_watch_end_with_the_fate)
{
    struct sluice *sluice = fast_scheduler();
    struct cli_result result = cli(sluice, LIST("ingest", "1", "2", "3", "4", "--wait"));
    cr_assert_eq(result.code, 0, "%s", result.err);
    cr_assert_eq(strlen(result.out), ID_TEXT_SIZE, "%s", result.out);
    expect_in(result.err, LIST(" completed    [####", "] 2/2 batches\n"));
    cr_assert(!strchr(result.err, '\033') && !strchr(result.err, '\r'));
    result.out[ID_TEXT_SIZE - 1] = '\0';
    char *out = cli_out(sluice, LIST("watch", result.out));
    expect_in(out, LIST(result.out, " completed "));
    free(out);
    cli_result_fini(&result);

    cJSON *json = cli_reply(sluice, LIST("ingest", "5", "--wait", "--json"));
    cr_assert_str_eq(json_text(json, "status"), "completed");
    cr_assert_eq(cJSON_GetArraySize(json_member(json, "batches")), 1);
    cJSON_Delete(json);
    sluice_end(sluice);
}

Test(cli, watch_of_what_failed_and_of_what_was_cancelled)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "unlimited", "--target", "exec:/bin/false"));
    struct cli_result result = cli(sluice, LIST("ingest", "1", "--wait"));
    cr_assert_eq(result.code, EXIT_CODE_FAILED, "%d %s", result.code, result.err);
    expect_in(result.err, LIST(" failed ", " 1 failed\n"));
    cli_result_fini(&result);

    struct ingested ingested = ingest(sluice, LIST("ingest", "2", "--not-before", "+1h"));
    char *out = cli_out(sluice, LIST("cancel", ingested.id));
    expect_in(out, LIST("cancelled", "1 cancelled"));
    free(out);
    result = cli(sluice, LIST("watch", ingested.id));
    cr_assert_eq(result.code, EXIT_CODE_CANCELLED, "%d %s", result.code, result.err);
    cli_result_fini(&result);
    sluice_end(sluice);
}

Test(cli, retry)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "unlimited", "--target", "exec:/bin/false"));
    struct cli_result result = cli(sluice, LIST("ingest", "1", "--wait", "--json"));
    cr_assert_eq(result.code, EXIT_CODE_FAILED);
    const char *id = json_text(result.json, "ingestion_id");
    char *out = cli_out(sluice, LIST("retry", id));
    expect_in(out, LIST(id));
    free(out);
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
    sluice_set_flags(sluice, SCHEDULER, LIST("--rate", "unlimited", "--target", "exec:/bin/true"));
    sluice_launch(sluice, SCHEDULER);
    cJSON_Delete(cli_reply(sluice, LIST("retry", id, "--json")));
    out = cli_out(sluice, LIST("watch", id));
    expect_in(out, LIST(" completed "));
    free(out);
    cli_result_fini(&result);
    sluice_end(sluice);
}

// ---- On a terminal ----

Test(cli, a_bar_and_colours_on_a_terminal)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "20/s", "--target", "simulate:10ms"));
    struct cli_plan plan = {.arguments = LIST("ingest", "1", "2", "3", "4", "5", "6", "7", "--wait")};
    struct terminal terminal = terminal_start(sluice, &plan);
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    expect_in(terminal.text, LIST("\r\033[K", "\033[32mcompleted ", "] 3/3 batches", "\033[0m"));
    terminal_fini(&terminal);

    plan.environment = LIST("NO_COLOR=1");
    terminal = terminal_start(sluice, &plan);
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    expect_in(terminal.text, LIST("\r\033[Kcompleted "));
    cr_assert(!strstr(terminal.text, "\033[32m") && !strstr(terminal.text, "\033[0m"));
    terminal_fini(&terminal);

    plan.environment = LIST("TERM=dumb");
    terminal = terminal_start(sluice, &plan);
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    cr_assert(!strchr(terminal.text, '\033'), "%s", terminal.text);
    terminal_fini(&terminal);
    sluice_end(sluice);
}

// What is printed looks the same, but for the colours.
Test(cli, a_table_on_a_terminal)
{
    struct sluice *sluice = fast_scheduler();
    free(cli_out(sluice, LIST("ingest", "1", "--wait")));
    struct cli_plan plan = {.arguments = LIST("list")};
    struct terminal terminal = terminal_start(sluice, &plan);
    cr_assert_eq(terminal_end(&terminal), 0);
    expect_in(terminal.text, LIST("\033[1mINGESTION\033[0m", "\033[32mcompleted\033[0m"));
    terminal_fini(&terminal);
    plan.environment = LIST("NO_COLOR=1");
    terminal = terminal_start(sluice, &plan);
    cr_assert_eq(terminal_end(&terminal), 0);
    expect_in(terminal.text, LIST("INGESTION", "completed"));
    cr_assert(!strchr(terminal.text, '\033'));
    terminal_fini(&terminal);
    sluice_end(sluice);
}

// ---- What goes wrong ----

Test(cli, output_that_cannot_be_written)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct program_path program = program_path("sluice");
    int code = process_run(&(struct process_plan){.program = program.text,
                                                  .arguments = LIST("help"),
                                                  .output = "/dev/full",
                                                  .log = sluice->log[SCHEDULER]});
    cr_assert_eq(code, EXIT_CODE_IOERR);
    cr_assert(sluice_logged(sluice, SCHEDULER, "standard output cannot be written"));
    sluice_end(sluice);
}

Test(cli, bad_arguments)
{
    struct sluice *sluice = sluice_new(NULL, NULL); // none of them gets as far as a scheduler
    cli_refused(sluice, EXIT_CODE_USAGE, "a command is missing", LIST(NULL));
    cli_refused(sluice, EXIT_CODE_USAGE, "\"frob\" is not a command", LIST("frob"));
    cli_refused(sluice, EXIT_CODE_USAGE, "\"--frob\" is not an option of ping", LIST("ping", "--frob"));
    cli_refused(sluice, EXIT_CODE_USAGE, "too many operands", LIST("ping", "1"));
    cli_refused(sluice, EXIT_CODE_USAGE, "an operand is missing", LIST("status"));
    cli_refused(sluice, EXIT_CODE_USAGE, "a value is missing", LIST("ping", "--timeout"));
    cli_refused(sluice, EXIT_CODE_USAGE, "\"soon\" is not allowed: a duration",
                LIST("ping", "--timeout", "soon"));
    cli_refused(sluice, EXIT_CODE_USAGE, "--json takes no value", LIST("ping", "--json=yes"));
    cli_refused(sluice, EXIT_CODE_USAGE, "HIGH, MEDIUM or LOW", LIST("ingest", "1", "--priority", "urgent"));
    cli_refused(sluice, EXIT_CODE_USAGE, "not both", LIST("ingest", "1", "--file", "x"));
    cli_refused(sluice, EXIT_CODE_USAGE, "\"tcp://x\" is not allowed", LIST("ping", "--ipc", "tcp://x"));
    cli_refused(sluice, EXIT_CODE_NOINPUT, "cannot be opened", LIST("ingest", "--file", "/nowhere/at/all"));
    cli_refused(sluice, EXIT_CODE_DATAERR, "\"1.5\" is no ID here", LIST("ingest", "1", "1.5"));
    cli_refused(sluice, EXIT_CODE_DATAERR, "there is no ID in standard input", LIST("ingest"));
    cli_refused(sluice, EXIT_CODE_USAGE, "\"?[31mred\" is not a command", LIST("\033[31mred"));
    struct cli_result result =
        cli_run(sluice, &(struct cli_plan){.arguments = LIST("ingest"), .input = "1\n2\nthree\n"});
    cr_assert_eq(result.code, EXIT_CODE_DATAERR);
    expect_in(result.err, LIST("standard input, line 3: \"three\" is no ID here"));
    cli_result_fini(&result);
    sluice_end(sluice);
}

Test(cli, refusals_of_the_scheduler)
{
    struct sluice *sluice = fast_scheduler();
    const char *none = "00000000-0000-7000-8000-000000000000";
    cli_refused(sluice, EXIT_CODE_NOINPUT, "sluice: not_found: ", LIST("status", none));
    cli_refused(sluice, EXIT_CODE_NOINPUT, "sluice: not_found: ", LIST("watch", none));
    cli_refused(sluice, EXIT_CODE_NOINPUT, "sluice: unknown_queue: ", LIST("ingest", "1", "--queue", "none"));
    cli_refused(sluice, EXIT_CODE_DATAERR, "sluice: invalid_field: ", LIST("list", "--limit", "0"));
    cli_refused(sluice, EXIT_CODE_REFUSED,
                "sluice: deadline_unreachable: ", LIST("ingest", "1", "--deadline", "2001-01-01T00:00:00Z"));
    struct ingested ingested = ingest(sluice, LIST("ingest", "1", "--idempotency-key", "k"));
    free(cli_out(sluice, LIST("watch", ingested.id)));
    cli_refused(sluice, EXIT_CODE_DATAERR,
                "sluice: idempotency_key_reused: ", LIST("ingest", "2", "--idempotency-key", "k"));
    cli_refused(sluice, EXIT_CODE_REFUSED, "sluice: already_finished: ", LIST("cancel", ingested.id));

    struct cli_result result = cli(sluice, LIST("status", none, "--json"));
    cr_assert_eq(result.code, EXIT_CODE_NOINPUT);
    cr_assert_str_eq(json_text(json_member(result.json, "error"), "code"), "not_found");
    cli_result_fini(&result);
    sluice_end(sluice);
}

Test(cli, no_scheduler)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct cli_result result = cli(sluice, LIST("ping", "--timeout", "50ms", "--json"));
    cr_assert_eq(result.code, EXIT_CODE_UNAVAILABLE, "%s", result.err);
    expect_in(result.err,
              LIST("sluice: scheduler_unavailable: no scheduler at ", sluice->ipc, " within 50ms"));
    cr_assert_str_eq(json_text(json_member(result.json, "error"), "code"), "scheduler_unavailable");
    cli_result_fini(&result);
    sluice_end(sluice);
}

// It takes a request and does not answer: the ID that was minted is said, since nobody knows whether it is
// there.
Test(cli, a_scheduler_that_does_not_answer)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *dir = sluice_path(sluice, "s");
    nng_socket silent;
    nng_msg *request;
    cr_assert_eq(mkdir(dir, 0700), 0);
    cr_assert(nng_rep0_open(&silent) == 0 && nng_listen(silent, sluice->ipc, NULL, 0) == 0);
    struct cli_result result = cli(sluice, LIST("ingest", "1", "--timeout", "2s"));
    cr_assert_eq(result.code, EXIT_CODE_TEMPFAIL, "%d %s", result.code, result.err);
    char *id = strstr(result.err, "it may have been done, and has then the ID ");
    cr_assert(id && strncmp(result.err, "sluice: outcome_unknown: ", 25) == 0, "%s", result.err);
    id = strrchr(id, ' ') + 1;
    id[strcspn(id, "\n")] = '\0';
    cr_assert_eq(nng_recvmsg(silent, &request, NNG_FLAG_NONBLOCK), 0);
    cr_assert_eq(nng_msg_append(request, "", 1), 0);
    expect_in(nng_msg_body(request), LIST("\"op\":\"ingest\"", id, "\"ids\":[1]"));
    nng_msg_free(request);
    nng_close(silent);
    free(dir);
    cli_result_fini(&result);
    sluice_end(sluice);
}

// One that hangs: nothing was sent.
Test(cli, a_scheduler_that_hangs)
{
    struct sluice *sluice = fast_scheduler();
    cr_assert_eq(kill(sluice->part[SCHEDULER].pid, SIGSTOP), 0);
    struct cli_result result = cli(sluice, LIST("ingest", "1", "--timeout", "100ms"));
    cr_assert_eq(kill(sluice->part[SCHEDULER].pid, SIGCONT), 0);
    cr_assert_eq(result.code, EXIT_CODE_UNAVAILABLE, "%d %s", result.code, result.err);
    cli_result_fini(&result);
    sluice_end(sluice);
}

// One that is started while a request waits answers it.
Test(cli, a_scheduler_that_comes_later)
{
    struct sluice *sluice = sluice_new(LIST("--target", "simulate:0"), NULL);
    struct cli_plan plan = {.arguments = LIST("ingest", "1", "--timeout", "50s", "--wait")};
    struct terminal terminal = terminal_start(sluice, &plan);
    wait_ms(100);
    sluice_launch(sluice, SCHEDULER);
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    terminal_fini(&terminal);
    sluice_end(sluice);
}

// A restart in the middle of watching is waited out.
Test(cli, a_scheduler_that_is_restarted)
{
    struct sluice *sluice = cli_scheduler(LIST("--rate", "5/s", "--target", "simulate:0"));
    struct cli_plan plan = {.arguments = LIST("ingest", "1", "2", "3", "4", "5", "6", "7", "8", "9",
                                              "--timeout", "50s", "--wait")};
    struct terminal terminal = terminal_start(sluice, &plan);
    terminal_expect(&terminal, "/3 batches");
    sluice_kill(sluice, SCHEDULER);
    wait_ms(50);
    sluice_launch(sluice, SCHEDULER);
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    expect_in(terminal.text, LIST(" 3/3 batches"));
    terminal_fini(&terminal);
    sluice_end(sluice);
}

// ---- Where the scheduler is looked for ----

static void finds(const struct sluice *sluice, const char *const *environment, const char *address)
{
    struct cli_plan plan = {.arguments = LIST("ping"), .environment = environment, .lost = true};
    struct cli_result result = cli_run(sluice, &plan);
    cr_assert_eq(result.code, 0, "%s", result.err);
    cr_expect(strstr(result.out, address), "no %s in %s", address, result.out);
    cli_result_fini(&result);
}

Test(cli, where_the_scheduler_is)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    int len = snprintf(sluice->ipc, sizeof(sluice->ipc), "ipc://%.64s/sluice.sock", sluice->data);
    cr_assert(len > 0 && (size_t)len < sizeof(sluice->ipc));
    sluice_launch(sluice, SCHEDULER);
    char data[SLUICE_TEXT + 16];
    (void)snprintf(data, sizeof(data), "SLUICE_DATA=%s", sluice->data);
    finds(sluice, NULL, "ipc://./data/sluice.sock");
    finds(sluice, LIST(data), sluice->ipc);
    finds(sluice, LIST("SLUICE_IPC=ipc://data/sluice.sock", "SLUICE_DATA=/nowhere"),
          "ipc://data/sluice.sock");
    char *out = cli_out(sluice, LIST("ping", "--ipc", "ipc://data/./sluice.sock"));
    expect_in(out, LIST("ipc://data/./sluice.sock"));
    free(out);
    sluice_end(sluice);
}

// ---- Help ----

Test(cli, help)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *all = cli_out(sluice, LIST("help"));
    char *same = cli_out(sluice, LIST("--help"));
    cr_assert_str_eq(all, same);
    expect_in(all, LIST("ingest [ID]...", "watch ID", "ping"));
    char *one = cli_out(sluice, LIST("help", "ingest"));
    char *other = cli_out(sluice, LIST("ingest", "--help"));
    cr_assert_str_eq(one, other);
    expect_in(one, LIST("Usage: sluice ingest [OPTION]... [ID]...", "--priority PRIORITY", "default MEDIUM",
                        "--json"));
    char *version = cli_out(sluice, LIST("--version"));
    cr_assert_str_eq(version, "sluice " SLUICE_VERSION "\n");
    char *group = cli_out(sluice, LIST("help", "queue"));
    char *again = cli_out(sluice, LIST("queue", "--help"));
    cr_assert_str_eq(group, again);
    expect_in(group, LIST("  queue set NAME ", "  queue list "));
    cr_assert(!strstr(group, "ingest "));
    free(group), free(again);
    free(all), free(same), free(one), free(other), free(version);
    cli_refused(sluice, EXIT_CODE_USAGE, "\"frob\" is not a command", LIST("help", "frob"));
    sluice_end(sluice);
}
