// session.h - one run of the command line: its settings, its connection, and what comes over it.
#ifndef SLUICE_CLI_SESSION_H
#define SLUICE_CLI_SESSION_H

#include "cli/command.h"
#include "cli/exit.h"
#include "common/buf.h"
#include "common/json.h"
#include "proto/client.h"

#include <stdio.h>

#define ADDRESS_SIZE 256

struct session {
    struct settings settings;
    struct sluice_client *client; // NULL before session_open
    char address[ADDRESS_SIZE];
    const char *minted; // what the next request makes, if it does: said when nobody knows. NULL: nothing
};

// EXIT_CODE_OK, or another when it has said what is wrong. Then, too, session_fini may be called.
int session_open(struct session *session);
void session_fini(struct session *session);

// A reply that is a good one, as it came and taken apart.
struct answer {
    char *line; // with its newline
    size_t len;
    struct json json;
};
void answer_fini(struct answer *answer); // a zeroed one is fine

// A request: line_begin, then members with proto/fields.h, and session_ask, which adds the end.
void line_begin(struct buf *line, const char *op);

// Sends the line and waits for the reply; the line is empty afterwards, and keeps its memory.
// EXIT_CODE_OK: *answer is the caller's. Another exit code: it was said what is wrong (with --json also on
// standard output, as the scheduler's error line), and *answer is zeroed.
int session_ask(struct session *session, struct buf *line, struct answer *answer);

// Says an error of our own like one of the scheduler's. The exit code for it.
int session_error(const struct session *session, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// The reply as it came, on standard output.
void answer_print(const struct answer *answer);

// ---- Members of a reply that a scheduler always writes: "" and 0 when one is missing ----

const char *member_text(const cJSON *object, const char *name);
uint64_t member_count(const cJSON *object, const char *name);

#endif
