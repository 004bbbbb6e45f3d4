// worker.h - a client of the scheduler's IPC, as workers of pull queues are: one connection over NNG, and any
// number of requests on it at once. One thread.
#ifndef SLUICE_TESTS_SUPPORT_WORKER_H
#define SLUICE_TESTS_SUPPORT_WORKER_H

#include "tests/support/sluice.h"

struct worker;
struct call; // a request under way

struct worker *worker_new(const struct sluice *sluice);
// Closes the connection; calls that are not over end without a reply.
void worker_free(struct worker *worker);

// Sends one line. It must be ended.
struct call *worker_call(struct worker *worker, const char *line, ...) __attribute__((format(printf, 2, 3)));
bool call_over(const struct call *call);
// Waits for its reply, which is the caller's to free, and frees the call. NULL when the worker was freed.
cJSON *call_end(struct call *call);
// Both.
cJSON *worker_ask(struct worker *worker, const char *line, ...) __attribute__((format(printf, 2, 3)));

// Fails the test unless the reply is good, or an error of this code; frees it.
void reply_expect_ok(cJSON *reply);
void reply_expect_error(cJSON *reply, const char *code);

// A lease as it was granted.
#define LEASED_MAX 8
struct leased {
    char id[ID_TEXT_SIZE];
    size_t count;
    struct {
        char id[ID_TEXT_SIZE];
        char ingestion[ID_TEXT_SIZE];
        char ids[64]; // "1,2,3"
        int attempt;
        struct wall deadline;
    } batches[LEASED_MAX];
};
// Reads the reply to a lease, and frees it.
struct leased leased_read(cJSON *reply);

#endif
