// talk.h - how the clients of a crash test reach Sluice: over HTTP, or over IPC on a connection of their own.
// Each belongs to one thread, which need not be a test's main thread: nothing here fails a test.
#ifndef SLUICE_TESTS_CRASH_TALK_H
#define SLUICE_TESTS_CRASH_TALK_H

#include "tests/support/sluice.h"

struct talk;

struct answer {
    int status;  // of HTTP, or what it would be; 0: none came
    cJSON *json; // NULL: none
};

struct talk *talk_http(const struct sluice *sluice);
struct talk *talk_ipc(const struct sluice *sluice);
void talk_free(struct talk *talk);
bool talk_is_ipc(const struct talk *talk);

// members: "ids", "priority" and "queue" as JSON. id: over IPC alone. key: NULL for none.
struct answer talk_ingest(struct talk *talk, const char *members, const char *id, const char *key);
// verb: "cancel", "retry" or "status".
struct answer talk_about(struct talk *talk, const char *verb, const char *id);
// A line over IPC.
struct answer talk_line(struct talk *talk, const char *line, ...) __attribute__((format(printf, 2, 3)));
void answer_fini(struct answer *answer);
// A member of an answer that is a text; "" when there is none.
const char *answer_text(const struct answer *answer, const char *name);

#endif
