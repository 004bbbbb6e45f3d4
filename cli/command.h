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

    char *data; // verify

    char *keys, *role, *key_queues, *key_rate; // key

    // top
    int64_t interval_ns;

    // queue set: the text of each setting, by its place in the table of queue_set.c
    char *set[24];
    char *headers[HEADERS_GIVEN_MAX];
    size_t header_count;
    bool no_headers;
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
    bool opens; // calls session_open itself, if it needs a scheduler at all
    // The exit code. What went wrong has been said.
    int (*run)(struct session *session, char *const *operands, size_t count);
};

#define OPTIONS(table) .options = (table), .option_count = sizeof(table) / sizeof((table)[0])

// ingest.c, ingestion.c, watch.c
extern const struct command ingest_command, status_command, list_command, cancel_command, retry_command,
    watch_command;
// queue.c, queue_set.c
extern const struct command queue_list_command, queue_show_command, queue_set_command, queue_pause_command,
    queue_resume_command, queue_retry_command, queue_delete_command;
// key.c
extern const struct command key_add_command, key_list_command, key_revoke_command;
// stats.c, top.c, backup.c, verify.c
extern const struct command ping_command, stats_command, top_command, backup_command, verify_command;

#endif
