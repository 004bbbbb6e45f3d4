// All kinds of queues at once, with whatever can be done to them in a random order, and the scheduler killed
// again and again: at the end every batch is accounted for.
#include "tests/support/engine_check.h"
#include "tests/support/http_target.h"
#include "tests/support/queues.h"
#include "tests/support/worker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

TestSuite(storm, .fini = sluice_cleanup);

enum { STEPS = 900, KILL_EVERY = 150, INGESTIONS = 400 };

static const char *const names[] = {"web", "slow", "held", "run", "jobs", "play"};
enum { NAMES = sizeof(names) / sizeof(names[0]) };

struct storm {
    struct sluice *sluice;
    struct http_target *good, *bad;
    struct worker *worker;
    struct call *lease; // of the worker, under way
    struct random random;
    struct ingested ingested[INGESTIONS];
    size_t count;
};

static uint64_t pick(struct storm *storm, uint64_t n)
{
    return random_below(&storm->random, n);
}

// ---- the queues ----

#define FAST                                                                                                 \
    "\"batch_size\":2,\"retry\":{\"max_attempts\":3,\"min_backoff\":\"20ms\",\"max_backoff\":\"100ms\"}"

static char *make_program(const struct sluice *sluice)
{
    char *path = sluice_path(sluice, "program");
    FILE *file = fopen(path, "we");
    cr_assert(file &&
              fputs("#!/bin/sh\nread -r line\ncase $$ in *7) exit 75 ;; *8) exit 1 ;; esac\n", file) >= 0);
    cr_assert(fclose(file) == 0 && chmod(path, 0700) == 0);
    return path;
}

static void make_queues(struct storm *storm)
{
    char *program = make_program(storm->sluice);
    const struct sluice *sluice = storm->sluice;
    queue_put(sluice, "web", FAST ",\"rate\":\"200/s\",\"concurrency\":4,\"target\":\"%s\"",
              http_target_url(storm->good));
    queue_put(sluice, "slow", FAST ",\"rate\":\"20/s\",\"burst\":3,\"aging\":\"1s\",\"target\":\"%s\"",
              http_target_url(storm->bad));
    queue_put(sluice, "held",
              FAST ",\"rate\":\"50/s\",\"breaker\":3,\"max_hold\":\"300ms\",\"target\":\"%s\"",
              http_target_url(storm->bad));
    queue_put(sluice, "run", FAST ",\"rate\":\"20/s\",\"concurrency\":2,\"target\":\"exec:%s\"", program);
    queue_put(sluice, "jobs",
              FAST ",\"rate\":\"100/s\",\"concurrency\":9,\"lease\":\"1s\",\"target\":\"pull:\"");
    queue_put(sluice, "play",
              FAST ",\"rate\":\"unlimited\",\"concurrency\":3,\"on_interrupt\":\"hold\","
                   "\"target\":\"simulate:5ms,fail=0.2,seed=7\"");
    free(program);
}

static void script_bad(struct storm *storm)
{
    static const struct http_target_answer answers[] = {
        {.status = 200},
        {.status = 500},
        {.status = 429, .retry_after = "1"},
        {.status = 404},
        {.how = HTTP_TARGET_DROP},
        {.status = 200, .fields = "RateLimit: \"x\";r=0;t=1\n"},
        {.status = 200, .delay_ns = 50 * NS_PER_MS},
    };
    http_target_script(storm->bad, &answers[pick(storm, sizeof(answers) / sizeof(answers[0]))]);
}

// ---- the steps ----

static void step_ingest(struct storm *storm)
{
    static const char *const priorities[] = {"HIGH", "MEDIUM", "LOW"};
    char body[512], time[WALL_TEXT_SIZE], more[64] = "";
    if (storm->count == INGESTIONS) {
        return;
    }
    uint64_t kind = pick(storm, 8);
    if (kind < 2) {
        time_from_now((int64_t)pick(storm, 1500), time);
        (void)snprintf(more, sizeof(more), ",\"%s\":\"%s\"", kind == 0 ? "not_before" : "deadline", time);
    }
    int len = snprintf(body, sizeof(body), "{\"queue\":\"%s\",\"priority\":\"%s\"%s,\"ids\":[1",
                       names[pick(storm, NAMES)], priorities[pick(storm, 3)], more);
    for (uint64_t n = pick(storm, 12); n > 0; n--) {
        len += snprintf(body + len, sizeof(body) - (size_t)len, ",%u", (unsigned)n);
    }
    (void)snprintf(body + len, sizeof(body) - (size_t)len, "]}");
    struct http_response response = sluice_post(storm->sluice, body, NULL);
    cr_assert(response.status == 200 || (kind == 1 && response.status == 422), "%ld %s", response.status,
              response.body);
    if (response.status == 200) {
        (void)snprintf(storm->ingested[storm->count++].id, ID_TEXT_SIZE, "%s",
                       json_text(response.json, "ingestion_id"));
    }
    http_response_fini(&response);
}

static void step_ingestion(struct storm *storm, const char *what)
{
    if (storm->count == 0) {
        return;
    }
    const char *id = storm->ingested[pick(storm, storm->count)].id;
    struct http_response response = ask(storm->sluice, "POST", NULL, "/ingestions/%s/%s", id, what);
    cr_assert(response.status == 200 || (response.status == 409 && strcmp(what, "cancel") == 0), "%ld %s",
              response.status, response.body);
    http_response_fini(&response);
}

static void step_change(struct storm *storm)
{
    static const char *const changes[] = {"\"rate\":\"100/s\"", "\"rate\":\"30/s\"", "\"concurrency\":5",
                                          "\"concurrency\":2",  "\"aging\":\"1s\"",  "\"aging\":null",
                                          "\"batch_size\":1",   "\"batch_size\":3",  "\"breaker\":2",
                                          "\"linger\":\"1ms\""};
    queue_put(storm->sluice, names[pick(storm, NAMES)], "%s",
              changes[pick(storm, sizeof(changes) / sizeof(changes[0]))]);
}

// The worker settles what it got in one way or another, or forgets it, and asks again.
static void step_worker(struct storm *storm)
{
    static const char *const ends[] = {"ack\"",
                                       "ack\"",
                                       "ack\"",
                                       "nack\"",
                                       "nack\",\"delay\":\"50ms\"",
                                       "nack\",\"final\":true",
                                       "nack\",\"delay\":\"0s\"",
                                       "extend\""};
    if (storm->lease && !call_over(storm->lease)) {
        return;
    }
    if (storm->lease) {
        struct leased leased = leased_read(call_end(storm->lease));
        if (leased.count > 0 && pick(storm, 10) > 0) {
            cJSON_Delete(worker_ask(storm->worker, "{\"id\":\"%s\",\"op\":\"%s}", leased.id,
                                    ends[pick(storm, sizeof(ends) / sizeof(ends[0]))]));
        }
    }
    storm->lease =
        worker_call(storm->worker, "{\"op\":\"lease\",\"queue\":\"jobs\",\"max\":%u,\"wait\":\"1s\"}",
                    (unsigned)pick(storm, 3) + 1);
}

static void step_read(struct storm *storm)
{
    if (storm->count > 0) {
        struct http_response status =
            sluice_status(storm->sluice, storm->ingested[pick(storm, storm->count)].id);
        http_response_fini(&status);
    }
    struct http_response queue = queue_get(storm->sluice, names[pick(storm, NAMES)]);
    http_response_fini(&queue);
}

static void step(struct storm *storm)
{
    script_bad(storm);
    step_worker(storm);
    switch (pick(storm, 10)) {
    case 0:
        step_ingestion(storm, "cancel");
        break;
    case 1:
        step_ingestion(storm, "retry");
        break;
    case 2:
        queue_do(storm->sluice, names[pick(storm, NAMES)], pick(storm, 2) == 0 ? "pause" : "resume");
        break;
    case 3:
        if (pick(storm, 4) == 0) {
            queue_do(storm->sluice, names[pick(storm, NAMES)], "retry");
        }
        break;
    case 4:
        step_change(storm);
        break;
    case 5:
    case 6:
        step_read(storm);
        break;
    default:
        step_ingest(storm);
    }
}

// ---- the end ----

static bool is_quiet(struct storm *storm)
{
    step_worker(storm);
    for (size_t i = 0; i < NAMES; i++) {
        if (queue_unfinished(storm->sluice, names[i]) > 0) {
            return false;
        }
    }
    return true;
}

// Every ingestion is in a final state, its parts make up the whole, and the queues' totals know of each.
static void check_ingestions(const struct storm *storm)
{
    double all = 0, all_of_queues = 0;
    for (size_t i = 0; i < storm->count; i++) {
        struct http_response status = sluice_status(storm->sluice, storm->ingested[i].id);
        const cJSON *progress = json_member(status.json, "progress"), *batch;
        double ended = json_number(progress, "completed") + json_number(progress, "failed") +
                       json_number(progress, "cancelled");
        cr_assert_eq(ended, json_number(progress, "total"), "seed %llu: %s",
                     (unsigned long long)storm->random.seed, status.body);
        cr_assert(cJSON_IsNull(json_member(status.json, "position")), "%s", status.body);
        int completed = 0;
        cJSON_ArrayForEach(batch, json_member(status.json, "batches"))
        {
            completed += strcmp(json_text(batch, "status"), "completed") == 0;
        }
        cr_assert_eq(completed, json_number(progress, "completed"), "%s", status.body);
        all += completed;
        http_response_fini(&status);
    }
    for (size_t i = 0; i < NAMES; i++) {
        all_of_queues += queue_figure(storm->sluice, names[i], "completed");
    }
    cr_assert_eq(all, all_of_queues, "%.0f completed, and %.0f by the queues", all, all_of_queues);
}

Test(storm, every_batch_is_accounted_for)
{
    struct storm storm = {
        .good = http_target_start(0), .bad = http_target_start(0), .random = random_from(1)};
    cr_assert(storm.good && storm.bad);
    storm.sluice = sluice_start(NULL, NULL);
    make_queues(&storm);
    storm.worker = worker_new(storm.sluice);
    for (int i = 0; i < STEPS; i++) {
        if (i % KILL_EVERY == KILL_EVERY - 1) {
            wait_ms((int64_t)pick(&storm, 100));
            sluice_kill(storm.sluice, SCHEDULER);
            sluice_launch(storm.sluice, SCHEDULER);
        }
        step(&storm);
    }
    queue_put(storm.sluice, "slow", "\"target\":\"%s\"", http_target_url(storm.good));
    queue_put(storm.sluice, "held", "\"target\":\"%s\"", http_target_url(storm.good));
    queue_put(storm.sluice, "play", "\"target\":\"simulate:1ms\"");
    for (size_t i = 0; i < NAMES; i++) {
        queue_put(storm.sluice, names[i], "\"rate\":\"unlimited\",\"concurrency\":9");
        queue_do(storm.sluice, names[i], "resume");
    }
    WAIT_FOR(is_quiet(&storm));
    check_ingestions(&storm);
    sluice_kill(storm.sluice, SCHEDULER);
    sluice_launch(storm.sluice, SCHEDULER);
    cr_assert(is_quiet(&storm));
    check_ingestions(&storm);
    worker_free(storm.worker);
    cJSON_Delete(call_end(storm.lease));
    sluice_end(storm.sluice);
    http_target_stop(storm.good);
    http_target_stop(storm.bad);
}
