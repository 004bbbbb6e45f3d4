#include "tests/crash/pull.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t pick(struct pull_worker *worker, uint64_t n)
{
    return random_below(&worker->random, n);
}

static void expect(struct pull_worker *worker, const char *what, const struct answer *answer, bool allowed)
{
    if (!allowed && !worker->fault[0]) {
        char *text = cJSON_PrintUnformatted(answer->json);
        (void)snprintf(worker->fault, sizeof(worker->fault), "%s was answered %d: %.180s", what,
                       answer->status, text ? text : "");
        cJSON_free(text);
    }
}

// Sends a line until it is answered, or there is nothing to wait for any more.
static struct answer ask(struct pull_worker *worker, const char *line)
{
    struct answer answer = talk_line(worker->talk, "%s", line);
    while ((answer.status == 0 || answer.status == 503) && !atomic_load(&worker->pull->end)) {
        answer_fini(&answer);
        wait_ms(20);
        answer = talk_line(worker->talk, "%s", line);
    }
    return answer;
}

static char *ids_text(const cJSON *batch)
{
    char *json = cJSON_PrintUnformatted(cJSON_GetObjectItem(batch, "ids"));
    if (!json || strlen(json) < 2) {
        abort();
    }
    char *ids = strndup(json + 1, strlen(json) - 2);
    cJSON_free(json);
    return ids;
}

static void note(struct pull_worker *worker, const cJSON *batch, struct mono asked)
{
    struct pulled *list = realloc(worker->list, (worker->count + 1) * sizeof(*list));
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(batch, "batch_id"));
    const char *ingestion = cJSON_GetStringValue(cJSON_GetObjectItem(batch, "ingestion_id"));
    const cJSON *attempt = cJSON_GetObjectItem(batch, "attempt");
    if (!list || !id || !ingestion || !cJSON_IsNumber(attempt)) {
        abort();
    }
    worker->list = list;
    struct pulled *pulled = &list[worker->count++];
    *pulled = (struct pulled){.ids = ids_text(batch), .attempt = attempt->valueint, .asked = asked};
    (void)snprintf(pulled->batch, sizeof(pulled->batch), "%s", id);
    (void)snprintf(pulled->ingestion, sizeof(pulled->ingestion), "%s", ingestion);
}

static void settle(struct pull_worker *worker, const char *lease, size_t first)
{
    static const char *const ends[] = {"nack\"", "nack\",\"delay\":\"50ms\"", "nack\",\"final\":true"};
    char line[160];
    bool ack = atomic_load(&worker->pull->good) || pick(worker, 10) < 7;
    if (!ack && pick(worker, 3) == 0) {
        return; // it is forgotten, and runs out
    }
    (void)snprintf(line, sizeof(line), "{\"id\":\"%s\",\"op\":\"%s}", lease,
                   ack ? "ack\"" : ends[pick(worker, 3)]);
    struct answer answer = ask(worker, line);
    bool ok = answer.status == 200;
    expect(worker, "the end of a lease", &answer, ok || answer.status == 409 || answer.status == 0);
    for (size_t i = first; ack && i < worker->count; i++) {
        // A lease that is lost may be so by the same line, sent before: NNG repeats it by itself.
        worker->list[i].settled = ok ? SETTLED_ACK : SETTLED_UNKNOWN;
        worker->list[i].told = mono_now();
    }
    answer_fini(&answer);
}

static void lease(struct pull_worker *worker)
{
    char line[200], id[ID_TEXT_SIZE];
    uint64_t bits[2] = {random_next(&worker->random), random_next(&worker->random)};
    struct id made;
    memcpy(made.bytes, bits, sizeof(made.bytes));
    id_format(&made, id);
    (void)snprintf(line, sizeof(line),
                   "{\"op\":\"lease\",\"queue\":\"%s\",\"id\":\"%s\",\"max\":%u,\"wait\":\"200ms\"}",
                   worker->pull->queue, id, 1 + (unsigned)pick(worker, 4));
    struct mono asked = mono_now();
    struct answer answer = ask(worker, line);
    expect(worker, "a lease", &answer, answer.status == 200 || answer.status == 0);
    size_t first = worker->count;
    const cJSON *batch;
    cJSON_ArrayForEach(batch, cJSON_GetObjectItem(answer.json, "batches"))
    {
        note(worker, batch, asked);
    }
    answer_fini(&answer);
    if (worker->count > first) {
        wait_ms((int64_t)pick(worker, 30));
        settle(worker, id, first);
    }
}

static void *run(void *arg)
{
    struct pull_worker *worker = arg;
    while (!atomic_load(&worker->pull->end) && !worker->fault[0]) {
        lease(worker);
    }
    return NULL;
}

struct pull *pull_start(const struct sluice *sluice, const char *queue, size_t workers, struct random *random)
{
    struct pull *pull = calloc(1, sizeof(*pull));
    cr_assert_not_null(pull);
    pull->queue = queue;
    pull->workers = calloc(workers, sizeof(*pull->workers));
    cr_assert_not_null(pull->workers);
    pull->count = workers;
    for (size_t i = 0; i < workers; i++) {
        struct pull_worker *worker = &pull->workers[i];
        *worker = (struct pull_worker){.pull = pull, .talk = talk_ipc(sluice)};
        worker->random.state = random_next(random);
        cr_assert_eq(pthread_create(&worker->thread, NULL, run, worker), 0);
    }
    return pull;
}

void pull_stop(struct pull *pull)
{
    atomic_store(&pull->end, true);
    for (size_t i = 0; i < pull->count; i++) {
        pthread_join(pull->workers[i].thread, NULL);
        talk_free(pull->workers[i].talk);
    }
    for (size_t i = 0; i < pull->count; i++) {
        cr_assert_str_empty(pull->workers[i].fault, "worker %zu: %s", i, pull->workers[i].fault);
    }
}

void pull_free(struct pull *pull)
{
    for (size_t i = 0; i < pull->count; i++) {
        for (size_t j = 0; j < pull->workers[i].count; j++) {
            free(pull->workers[i].list[j].ids);
        }
        free(pull->workers[i].list);
    }
    free(pull->workers);
    free(pull);
}
