// queues.h - queues, and what is on them, of a sluice under test, asked for over HTTP. A function that
// returns no response fails the test when it is refused. Names are queues'; formats are those of printf. Main
// thread.
#ifndef SLUICE_TESTS_SUPPORT_QUEUES_H
#define SLUICE_TESTS_SUPPORT_QUEUES_H

#include "common/clock.h"
#include "tests/support/sluice.h"

// Any request, without a body when that is NULL; the response is the caller's to free.
struct http_response ask(const struct sluice *sluice, const char *method, const char *body, const char *path,
                         ...) __attribute__((format(printf, 4, 5)));
// The same, which must be answered with this status, and as a problem with this code.
struct http_response ask_refused(const struct sluice *sluice, const char *method, const char *path,
                                 long status, const char *code);

// ---- queues ----

// PUT with these settings, the members of the body without its braces.
void queue_put(const struct sluice *sluice, const char *name, const char *settings, ...)
    __attribute__((format(printf, 3, 4)));
// POST /queues/NAME/pause, resume, retry.
void queue_do(const struct sluice *sluice, const char *name, const char *what);
// GET; the caller's to free.
struct http_response queue_get(const struct sluice *sluice, const char *name);
// Its batches that wait, are delayed or are in flight, at one moment.
double queue_unfinished(const struct sluice *sluice, const char *name);
// One of its figures; "waiting" is all priorities together.
double queue_figure(const struct sluice *sluice, const char *name, const char *figure);
// Whether paused_reason is this (NULL: null), and paused_until if it is a time (ms 0 when not).
bool queue_paused_by(const struct sluice *sluice, const char *name, const char *reason);
struct wall queue_paused_until(const struct sluice *sluice, const char *name);

// ---- ingestions ----

// ids: as in JSON; more: further members, with a comma in front ("": none).
struct ingested queue_ingest(const struct sluice *sluice, const char *name, const char *priority,
                             const char *ids, const char *more);
struct ingested queue_ingest_range(const struct sluice *sluice, const char *name, const char *priority,
                                   uint64_t first, size_t count);
// POST /ingestions/ID/cancel, retry.
void ingestion_do(const struct sluice *sluice, const char *id, const char *what);
bool ingestion_is(const struct sluice *sluice, const char *id, const char *status);
// A member of its progress.
int ingestion_progress(const struct sluice *sluice, const char *id, const char *status);

// What /status tells of one batch: "" or 0 where it says nothing.
#define BATCH_ERROR_SIZE 8192
struct batch_seen {
    char id[ID_TEXT_SIZE];
    char status[16];
    int attempts;
    bool interrupted;
    struct wall triggered;
    struct wall completed;
    char error[BATCH_ERROR_SIZE];
};
struct batch_seen batch_get(const struct sluice *sluice, const char *id, int index);

// A moment this far from now, as text.
void time_from_now(int64_t ms, char text[static WALL_TEXT_SIZE]);

#endif
