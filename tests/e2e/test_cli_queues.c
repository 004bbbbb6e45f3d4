// The command line and queues: settings, figures, the live table.
#include "tests/support/cli.h"

#include "cli/exit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(cli_queues, .fini = sluice_cleanup);

static void expect_number(const cJSON *queue, const char *name, double value)
{
    cr_expect_eq(json_number(queue, name), value, "%s is %f", name, json_number(queue, name));
}

static void expect_text(const cJSON *queue, const char *name, const char *value)
{
    cr_expect_str_eq(json_text(queue, name), value, "%s", name);
}

Test(cli_queues, every_setting_has_an_option)
{
    struct sluice *sluice = cli_scheduler(NULL);
    cJSON *queue =
        cli_reply(sluice, LIST("queue", "set", "mail", "--json", "--rate", "100/s", "--burst", "7",
                               "--linger", "5ms", "--concurrency", "4", "--batch-size", "50", "--target",
                               "http://127.0.0.1:1/x", "--delivery-timeout", "9s", "--max-attempts", "8",
                               "--min-backoff", "2s", "--max-backoff", "3m", "--ids", "string", "--max-id",
                               "99", "--max-hold", "2h", "--breaker", "0", "--lease", "30s", "--on-interrupt",
                               "hold", "--aging", "1h", "--header", "Authorization: Bearer s3cret"));
    expect_text(queue, "rate", "100/s");
    expect_number(queue, "burst", 7);
    expect_text(queue, "linger", "5ms");
    expect_number(queue, "concurrency", 4);
    expect_number(queue, "batch_size", 50);
    expect_text(queue, "target", "http://127.0.0.1:1/x");
    expect_text(queue, "timeout", "9s");
    expect_number(json_member(queue, "retry"), "max_attempts", 8);
    expect_text(json_member(queue, "retry"), "min_backoff", "2s");
    expect_text(json_member(queue, "retry"), "max_backoff", "3m");
    expect_text(queue, "ids", "string");
    expect_number(queue, "max_id", 99);
    expect_text(queue, "max_hold", "2h");
    expect_number(queue, "breaker", 0);
    expect_text(queue, "lease", "30s");
    expect_text(queue, "on_interrupt", "hold");
    expect_text(queue, "aging", "1h");
    expect_text(json_member(queue, "headers"), "Authorization", "***");
    cJSON_Delete(queue);

    // What is not given stays; "default" is null.
    queue =
        cli_reply(sluice, LIST("queue", "set", "mail", "--json", "--burst", "default", "--aging", "default"));
    expect_number(queue, "burst", 1);
    expect_text(queue, "rate", "100/s");
    cr_assert(cJSON_IsNull(json_member(queue, "aging")));
    cJSON_Delete(queue);
    sluice_end(sluice);
}

// Secrets need not stand on a command line, where everybody sees them.
Test(cli_queues, headers_from_a_file)
{
    struct sluice *sluice = cli_scheduler(NULL);
    char *path = sluice_path(sluice, "headers"), *option;
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs("Authorization: Bearer x\n\nX-A:b\r\n", file) >= 0 && fclose(file) == 0);
    cr_assert(asprintf(&option, "--header=@%s", path) > 0);
    cJSON *queue = cli_reply(sluice, LIST("queue", "set", "default", option, "--header", "X-B: c", "--json"));
    cr_assert_eq(cJSON_GetArraySize(json_member(queue, "headers")), 3);
    cJSON_Delete(queue);
    queue = cli_reply(sluice, LIST("queue", "set", "default", "--no-headers", "--json"));
    cr_assert_eq(cJSON_GetArraySize(json_member(queue, "headers")), 0);
    cJSON_Delete(queue);
    cli_refused(sluice, EXIT_CODE_NOINPUT, "cannot be opened",
                LIST("queue", "set", "default", "--header", "@/nowhere"));
    cli_refused(sluice, EXIT_CODE_USAGE, "Name: value",
                LIST("queue", "set", "default", "--header", "secret"));
    free(path);
    free(option);
    sluice_end(sluice);
}

Test(cli_queues, list_show_pause_resume_retry_delete)
{
    struct sluice *sluice = cli_scheduler(NULL);
    char *out = cli_out(sluice, LIST("queue", "set", "mail", "--rate", "3/s"));
    expect_in(out, LIST("name                   mail\n", "rate                   3/s\n",
                        "retry.max_attempts     5\n", "aging                  -\n",
                        "paused                 no\n"));
    free(out);
    out = cli_out(sluice, LIST("queue", "pause", "mail"));
    cr_assert_str_eq(out, "mail is paused\n");
    free(out);
    out = cli_out(sluice, LIST("queue", "list"));
    expect_in(out, LIST("QUEUE ", "STATE\ndefault  1/5s ", "mail     3/s ", "paused\n"));
    free(out);
    out = cli_out(sluice, LIST("queue", "list", "--limit", "1"));
    expect_in(out, LIST("default", "more: --cursor default\n"));
    cr_assert(!strstr(out, "mail"));
    free(out);
    out = cli_out(sluice, LIST("queue", "list", "--cursor", "default"));
    expect_in(out, LIST("mail"));
    free(out);
    out = cli_out(sluice, LIST("queue", "resume", "mail"));
    cr_assert_str_eq(out, "mail is resumed\n");
    free(out);
    free(cli_out(sluice, LIST("queue", "retry", "mail")));
    out = cli_out(sluice, LIST("queue", "show", "mail"));
    expect_in(out, LIST("paused                 no\n", "waiting.HIGH           0\n"));
    free(out);
    out = cli_out(sluice, LIST("queue", "delete", "mail"));
    cr_assert_str_eq(out, "mail is deleted\n");
    free(out);
    cli_refused(sluice, EXIT_CODE_NOINPUT, "sluice: unknown_queue: ", LIST("queue", "show", "mail"));
    cli_refused(sluice, EXIT_CODE_REFUSED, "sluice: queue_protected: ", LIST("queue", "delete", "default"));
    cli_refused(sluice, EXIT_CODE_DATAERR,
                "sluice: invalid_field: ", LIST("queue", "set", "mail", "--rate", "fast"));
    cli_refused(sluice, EXIT_CODE_USAGE, "a number", LIST("queue", "set", "mail", "--breaker", "-1"));
    cli_refused(sluice, EXIT_CODE_USAGE, "\"queue frob\" is not a command", LIST("queue", "frob"));
    sluice_end(sluice);
}

// What is set for a scheduler is not taken for a change.
Test(cli_queues, settings_do_not_come_from_the_environment)
{
    struct sluice *sluice = cli_scheduler(NULL);
    struct cli_plan plan = {.arguments = LIST("queue", "set", "default", "--breaker", "3", "--json"),
                            .environment = LIST("SLUICE_RATE=77/s", "SLUICE_TIMEOUT=20s")};
    struct cli_result result = cli_run(sluice, &plan);
    cr_assert_eq(result.code, 0, "%s", result.err);
    expect_text(result.json, "rate", "1/5s");
    cli_result_fini(&result);
    sluice_end(sluice);
}

Test(cli_queues, string_ids)
{
    struct sluice *sluice = cli_scheduler(NULL);
    free(cli_out(sluice, LIST("queue", "set", "names", "--ids", "string", "--batch-size", "10")));
    struct cli_result result = cli_run(sluice, &(struct cli_plan){
                                                   .arguments = LIST("ingest", "--queue", "names", "--json"),
                                                   .input = "a \"quoted\" one\n17\n\xc3\xa4\n",
                                               });
    cr_assert_eq(result.code, 0, "%s", result.err);
    cJSON *status = cli_reply(sluice, LIST("status", json_text(result.json, "ingestion_id"), "--json"));
    const cJSON *ids = json_member(cJSON_GetArrayItem(json_member(status, "batches"), 0), "ids");
    static const char *const wanted[] = {"a \"quoted\" one", "17", "\xc3\xa4"};
    for (int i = 0; i < 3; i++) {
        cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetArrayItem(ids, i)), wanted[i]);
    }
    cJSON_Delete(status);
    cli_result_fini(&result);
    cli_refused(sluice, EXIT_CODE_DATAERR, "are strings", LIST("ingest", "--queue", "names", "\xff"));
    sluice_end(sluice);
}

// What a target or a client has put into a text does not reach the terminal as it is.
Test(cli_queues, no_control_characters)
{
    struct sluice *sluice = cli_scheduler(NULL);
    free(cli_out(sluice, LIST("queue", "set", "names", "--ids", "string", "--rate", "1/1h")));
    struct cli_result result = cli_run(
        sluice, &(struct cli_plan){.arguments = LIST("ingest", "--queue", "names", "\033]0;gotcha\a")});
    cr_assert_eq(result.code, 0, "%s", result.err);
    result.out[strcspn(result.out, "\n")] = '\0';
    char *out = cli_out(sluice, LIST("status", result.out));
    expect_in(out, LIST("?]0;gotcha?"));
    cr_assert(!strchr(out, '\033') && !strchr(out, '\a'));
    free(out);
    cli_result_fini(&result);
    sluice_end(sluice);
}

Test(cli_queues, stats)
{
    struct sluice *sluice = cli_scheduler(NULL);
    char *out = cli_out(sluice, LIST("stats"));
    expect_in(out, LIST("sluice-scheduler " SLUICE_VERSION ", up ", "; queues 1, requests ", "QUEUE ",
                        "default  1/5s "));
    free(out);
    cJSON *json = cli_reply(sluice, LIST("stats", "--json"));
    cr_assert_eq(json_number(json, "queues_total"), 1);
    cJSON_Delete(json);
    sluice_end(sluice);
}

Test(cli_queues, top)
{
    struct sluice *sluice = cli_scheduler(NULL);
    free(cli_out(sluice, LIST("queue", "set", "busy", "--rate", "1/1h")));
    free(cli_out(sluice, LIST("ingest", "1", "--queue", "busy", "--not-before", "+1h")));
    char *out = cli_out(sluice, LIST("top")); // no terminal: once
    char *busy = strstr(out, "busy "), *idle = strstr(out, "default ");
    cr_assert(busy && idle && busy < idle && !strchr(out, '\033'), "%s", out);
    free(out);

    struct cli_plan plan = {.arguments = LIST("top", "--interval", "100ms")};
    struct terminal terminal = terminal_start(sluice, &plan);
    terminal_expect(&terminal, "\033[H\033[J");
    terminal_expect(&terminal, "busy ");
    free(cli_out(sluice, LIST("queue", "set", "another")));
    terminal_expect(&terminal, "another ");
    terminal_type(&terminal, "xq");
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    terminal_fini(&terminal);

    terminal = terminal_start(sluice, &plan);
    terminal_expect(&terminal, "busy ");
    terminal_type(&terminal, "\003"); // ctrl-c
    cr_assert_eq(terminal_end(&terminal), 0, "%s", terminal.text);
    terminal_fini(&terminal);

    terminal = terminal_start(sluice, &(struct cli_plan){.arguments = LIST("top", "--timeout", "100ms")});
    terminal_expect(&terminal, "busy ");
    sluice_kill(sluice, SCHEDULER);
    cr_assert_eq(terminal_end(&terminal), EXIT_CODE_UNAVAILABLE, "%s", terminal.text);
    expect_in(terminal.text, LIST("sluice: scheduler_unavailable: "));
    terminal_fini(&terminal);
    sluice_launch(sluice, SCHEDULER);
    sluice_end(sluice);
}
