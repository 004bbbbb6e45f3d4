// cli.h - the command line `sluice` under test: run to its end with its standard streams in files, or on a
// terminal. Main thread of a test only.
#ifndef SLUICE_TESTS_SUPPORT_CLI_H
#define SLUICE_TESTS_SUPPORT_CLI_H

#include "tests/support/sluice.h"

// Only a scheduler, with these flags: the command line needs no gateway.
struct sluice *cli_scheduler(const char *const *flags);

struct cli_plan {
    const char *const *arguments;
    const char *const
        *environment;  // beside SLUICE_IPC, which says where the sluice's scheduler is; NULL: none
    const char *input; // what it reads from its standard input; NULL: nothing
    bool lost;         // without SLUICE_IPC
};

struct cli_result {
    int code;
    char *out, *err; // the caller's; on a terminal both are in out
    cJSON *json;     // out, if it is JSON
};
void cli_result_fini(struct cli_result *result);

// In the sluice's directory.
struct cli_result cli_run(const struct sluice *sluice, const struct cli_plan *plan);
// With these arguments, and nothing else.
struct cli_result cli(const struct sluice *sluice, const char *const *arguments);
// The same; fails the test when it does not end with this code, and gives its output, which is the caller's.
char *cli_out(const struct sluice *sluice, const char *const *arguments);
// What it says on standard error; fails the test when it does not end with this code, or says more than one
// line.
char *cli_err(const struct sluice *sluice, int code, const char *const *arguments);

// It ends with this code, and what it says has this text in it.
void cli_refused(const struct sluice *sluice, int code, const char *text, const char *const *arguments);
// The reply that it prints, which is one line of JSON, and ends with 0; the caller's.
cJSON *cli_reply(const struct sluice *sluice, const char *const *arguments);
// Each of the texts is in it.
void expect_in(const char *text, const char *const *wanted);

// On a terminal of 24 lines and 100 columns, TERM=xterm.
struct terminal {
    struct process process;
    int fd;
    char *text; // all that came so far
    size_t len;
};
struct terminal terminal_start(const struct sluice *sluice, const struct cli_plan *plan);
// Until this text has come; fails the test when it does not come.
void terminal_expect(struct terminal *terminal, const char *text);
void terminal_type(struct terminal *terminal, const char *keys);
// Its end: the exit code; all that came is in text until terminal_fini.
int terminal_end(struct terminal *terminal);
void terminal_fini(struct terminal *terminal);

#endif
