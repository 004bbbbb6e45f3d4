// command.h - a command of the command line: what may stand behind it, and what it does. main.c has the table
// of them.
#ifndef SLUICE_CLI_COMMAND_H
#define SLUICE_CLI_COMMAND_H

#include "common/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEADERS_GIVEN_MAX 33 // one more than a queue may have, for the scheduler to refuse

// What the options of all commands say; texts are borrowed from argv, NULL when not given.
struct settings {
    bool json;
    char *ipc; // NULL: where it is looked for, see proto/client.h
    int64_t timeout_ns;

    // ingest
    char *file, *priority, *queue, *not_before, *deadline, *idempotency_key;
    bool wait;

    // status, list
    char *status;
    char *cursor;
    uint64_t limit, offset; // UINT64_MAX: not given

    // top
    int64_t interval_ns;

    // queue set: the text of each setting, by its place in the table of queue_set.c
    char *set[24];
    char *headers[HEADERS_GIVEN_MAX];
    size_t header_count;
};

struct session;

struct command {
    const char *name;     // one word or two: "queue set"
    const char *operands; // as in the usage: "[ID]..."; "" when there are none
    const char *summary;  // one line
    const char *details;  // more lines for its help; NULL: none
    size_t least, most;   // operands
    const struct conf_option
        *options; // beside those that all commands have; a metavar of NULL: takes no value
    size_t option_count;
    bool offline; // needs no scheduler: the session has no client
    // The exit code. What went wrong has been said.
    int (*run)(struct session *session, char *const *operands, size_t count);
};

#define OPTIONS(table) .options = (table), .option_count = sizeof(table) / sizeof((table)[0])

extern const struct command ingest_command;                                              // ingest.c
extern const struct command status_command, list_command, cancel_command, retry_command; // ingestion.c
extern const struct command watch_command;                                               // watch.c
extern const struct command ping_command, stats_command;                                 // stats.c

#endif
