// The load generator and the sink of the benchmark: that they count what is there, and tell when it goes
// wrong. How fast anything is is not looked at.
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(bench, .fini = sluice_cleanup);

#define CLIENTS "4"
#define LINES "64"
#define INGEST "{\"op\":\"ingest\",\"queue\":\"out\",\"ids\":[1,2,3,4,5],\"priority\":\"LOW\"}"
enum { BATCHES = 2000 };

static int load(const struct sluice *sluice, const char *length, const char *request, char **output)
{
    char *file = sluice_path(sluice, "load.out");
    char *log = sluice_path(sluice, "load.log");
    int code =
        process_run(&(struct process_plan){.program = SLUICE_BIN_DIR "/ipc_load",
                                           .arguments = LIST(sluice->ipc, CLIENTS, LINES, length, request),
                                           .output = file,
                                           .log = log});
    *output = file_text(file);
    free(file);
    free(log);
    return code;
}

static unsigned long number_behind(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    return at ? strtoul(at + strlen(word), NULL, 10) : 0;
}

static unsigned sink_port(const char *file)
{
    char *text = file_text(file);
    unsigned long port = strchr(text, '\n') ? number_behind(text, "ready ") : 0;
    free(text);
    return (unsigned)port;
}

Test(bench, all_that_was_loaded_comes_to_the_sink)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    char *file = sluice_path(sluice, "sink.out"), *log = sluice_path(sluice, "sink.log"), *output;
    struct process sink = process_start(
        &(struct process_plan){.program = SLUICE_BIN_DIR "/http_sink", .output = file, .log = log});
    WAIT_FOR(sink_port(file) != 0);
    queue_put(sluice, "out", "\"rate\":\"unlimited\",\"concurrency\":16,\"target\":\"http://127.0.0.1:%u/\"",
              sink_port(file));

    cr_assert_eq(load(sluice, "x1000", INGEST, &output), 0);
    cr_assert_eq(number_behind(strstr(output, "result ") + strlen("result "), " "), 1000, "%s", output);
    WAIT_FOR(queue_figure(sluice, "out", "completed") == BATCHES);
    cr_assert_eq(process_end(&sink, SIGTERM), 0);
    free(output);
    output = file_text(file);
    cr_assert_eq(number_behind(output, "count "), BATCHES, "%s", output);
    free(output);
    free(file);
    free(log);
    sluice_end(sluice);
}

Test(bench, an_answer_that_is_not_good_ends_the_load)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    char *output;
    cr_assert_eq(load(sluice, "1", "{\"op\":\"status\",\"id\":\"there is none\"}", &output), EXIT_FAILURE);
    cr_assert_str_empty(output);
    free(output);
    sluice_end(sluice);
}
