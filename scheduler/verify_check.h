// verify_check.h - what the files of the check share.
//
// verify.c           opening the store, the file itself, saying what is wrong
// verify_rows.c      rows of one table that those of another contradict
// verify_batches.c   an ingestion's counters and the states of its batches
// verify_ids.c       an ingestion's IDs
// verify_history.c   one pass over the history: rate, order, in flight, pauses, totals
// verify_queue.c     what that pass knows of a queue
// verify_attempts.c  the attempts of each batch, one after another
#ifndef SLUICE_SCHEDULER_VERIFY_CHECK_H
#define SLUICE_SCHEDULER_VERIFY_CHECK_H

#include "scheduler/store_sqlite.h"
#include "scheduler/verify.h"

// The first word of a line.
#define VERIFY_KINDS(X)                                                                                      \
    X(INTEGRITY, "integrity")                                                                                \
    X(SCHEMA, "schema")                                                                                      \
    X(ROWS, "rows")                                                                                          \
    X(COUNTS, "counts")                                                                                      \
    X(PROGRESS, "progress")                                                                                  \
    X(STATES, "states")                                                                                      \
    X(IDS, "ids")                                                                                            \
    X(HISTORY, "history")                                                                                    \
    X(ATTEMPTS, "attempts")                                                                                  \
    X(CONCURRENCY, "concurrency")                                                                            \
    X(PAUSE, "pause")                                                                                        \
    X(RATE, "rate")                                                                                          \
    X(ORDER, "order")                                                                                        \
    X(TOTALS, "totals")

enum verify_kind {
#define VERIFY_ENUM(name, word) VERIFY_##name,
    VERIFY_KINDS(VERIFY_ENUM)
#undef VERIFY_ENUM
};
#define VERIFY_KIND_COUNT (VERIFY_TOTALS + 1)

struct verify {
    sqlite3 *db;
    verify_say *say;
    void *user;
    struct verify_result *result;
    uint64_t of_kind[VERIFY_KIND_COUNT];
    int64_t first_entry; // of the history; 1 when it is empty, too
    int64_t last_entry;
};

// What a violation is about.
struct about {
    int64_t queue; // 0: not said
    int64_t seq;   // 0: not said
    int64_t index; // negative: not said
};

// Says what is wrong with it.
void violation(struct verify *v, enum verify_kind kind, struct about about, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// A statement of one's own, to be finalized; NULL and *err when it cannot be made.
sqlite3_stmt *verify_prepare(struct verify *v, const char *sql, enum err *err);
// The next row; at the end *row is false. What SQLite calls damage is a violation, and the end.
MUST_CHECK enum err verify_step(struct verify *v, sqlite3_stmt *stmt, bool *row);

// Each reads the whole store.
MUST_CHECK enum err verify_rows(struct verify *v);
MUST_CHECK enum err verify_batches(struct verify *v);
MUST_CHECK enum err verify_ids(struct verify *v);
MUST_CHECK enum err verify_history(struct verify *v);
MUST_CHECK enum err verify_attempts(struct verify *v);

#endif
