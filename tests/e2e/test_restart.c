// Either program ends, by a signal of its own or a merciless one, and is started again: what was promised is
// kept.
#include "common/conf.h"
#include "tests/support/dispatches.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

TestSuite(restart, .fini = sluice_cleanup);

static struct http_target *target_start(void)
{
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    return target;
}

Test(restart, the_rate_holds_across_a_kill_between_two_dispatches)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(LIST("--rate", "1/5s", "--target", http_target_url(target)), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 5);
    struct lateness *lateness = lateness_watch();
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    wait_ms(1000);
    sluice_kill(sluice, SCHEDULER);
    wait_ms(500);
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "completed");
    int64_t allowed = 2 * (2 * NS_PER_MS + lateness_end(lateness));

    struct dispatches seen = dispatches_read(target);
    cr_assert_eq(seen.count, 2);
    int64_t gap = mono_diff(seen.list[1].at, seen.list[0].at);
    cr_assert(gap >= 5 * NS_PER_S - allowed && gap < 5600 * NS_PER_MS, "the gap is %.3f s",
              (double)gap / NS_PER_S);
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
}

Test(restart, a_delivery_cut_off_by_a_kill_is_repeated_under_its_batch_id)
{
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(LIST("--rate", "1/2s", "--target", http_target_url(target)), NULL);
    http_target_script(target, &(struct http_target_answer){.delay_ns = 30 * NS_PER_S});
    struct lateness *lateness = lateness_watch();
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 3);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "completed");

    struct dispatches seen = dispatches_read(target);
    cr_assert_eq(seen.count, 2);
    cr_assert_str_eq(seen.list[0].batch, seen.list[1].batch);
    cr_assert_str_eq(seen.list[0].ids, seen.list[1].ids);
    cr_assert_eq(seen.list[0].attempt, 1);
    cr_assert_eq(seen.list[1].attempt, 2);
    dispatches_fini(&seen);
    dispatches_check_rate(target, (struct rate){1, 2 * NS_PER_S}, 1, lateness_end(lateness));
    sluice_end(sluice);
    http_target_stop(target);
}

Test(restart, the_order_is_kept)
{
    static const char *const order[] = {"1,2,3", "30,31,32", "20,21,22", "23", "4", "10,11,12", "13,14,15"};
    struct http_target *target = target_start();
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h", "--target", http_target_url(target)), NULL);
    (void)sluice_ingest_range(sluice, "LOW", 1, 4);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    struct ingested last = sluice_ingest_range(sluice, "LOW", 10, 6);
    (void)sluice_ingest_range(sluice, "MEDIUM", 20, 4);
    (void)sluice_ingest_range(sluice, "HIGH", 30, 3);
    sluice_kill(sluice, SCHEDULER);
    sluice_set_flags(sluice, SCHEDULER, LIST("--rate", "20/s", "--target", http_target_url(target)));
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, last.id, "completed");

    struct dispatches seen = dispatches_read(target);
    // The first delivery may not have been over when the kill came; then it came again.
    size_t repeats = seen.count > 1 && strcmp(seen.list[1].ids, order[0]) == 0;
    cr_assert_eq(seen.count, sizeof(order) / sizeof(order[0]) + repeats);
    for (size_t i = 1; i < sizeof(order) / sizeof(order[0]); i++) {
        cr_assert_str_eq(seen.list[i + repeats].ids, order[i]);
    }
    dispatches_fini(&seen);
    sluice_end(sluice);
    http_target_stop(target);
}

// ---- Random kills under load ----

#define LOAD_CLIENTS 4
#define LOAD_KILLS 20
#define LOAD_INGESTIONS 400 // for each client, at most

struct posted {
    char id[ID_TEXT_SIZE];
    char ids[DISPATCH_IDS_SIZE];
};

struct client {
    pthread_t thread;
    const struct sluice *sluice;
    atomic_bool *end;
    unsigned number;
    struct posted posted[LOAD_INGESTIONS];
    size_t count;
    char refused[256]; // an answer there should not be
};

// Repeats a request until it is answered; false when the answer is one that no restart explains.
static bool post_until_answered(struct client *client, const char *body, struct posted *posted)
{
    char key[64];
    (void)snprintf(key, sizeof(key), "Idempotency-Key: client-%u-%zu", client->number, client->count);
    for (struct mono end = mono_add(mono_now(), WAIT_S * NS_PER_S); mono_before(mono_now(), end);
         wait_ms(20)) {
        struct http_response response =
            sluice_post(client->sluice, body, LIST(key, "Content-Type: application/json"));
        long status = response.status;
        cJSON *id = cJSON_GetObjectItem(response.json, "ingestion_id");
        if (status == 200 && cJSON_IsString(id)) {
            (void)snprintf(posted->id, sizeof(posted->id), "%s", id->valuestring);
        } else if (status != 0 && status != 503 && status != 504) {
            (void)snprintf(client->refused, sizeof(client->refused), "%.255s", response.body);
        }
        http_response_fini(&response);
        if (status == 200) {
            return true;
        }
        if (client->refused[0]) {
            return false;
        }
    }
    (void)snprintf(client->refused, sizeof(client->refused), "no answer within %d s", WAIT_S);
    return false;
}

static void *post_all(void *arg)
{
    struct client *client = arg;
    while (!atomic_load(client->end) && client->count < LOAD_INGESTIONS) {
        struct posted *posted = &client->posted[client->count];
        char body[160];
        // 1 to 5 IDs, at both ends of what a double holds exactly.
        uint64_t first = client->number * UINT64_C(1000000) + client->count * 10 + 1;
        size_t ids = 1 + client->count % 5, len = 0;
        for (size_t i = 0; i < ids; i++) {
            len += (size_t)snprintf(
                posted->ids + len, sizeof(posted->ids) - len, "%s%llu", i > 0 ? "," : "",
                (unsigned long long)(i == 1 ? UINT64_C(9007199254740991) - first : first + i));
        }
        (void)snprintf(body, sizeof(body), "{\"ids\":[%s],\"priority\":\"%s\"}", posted->ids,
                       client->count % 3 == 0 ? "HIGH" : "LOW");
        if (!post_until_answered(client, body, posted)) {
            return NULL;
        }
        client->count++;
        wait_ms(100);
    }
    return NULL;
}

static void kill_at_random(struct sluice *sluice, unsigned short seed[3])
{
    for (int i = 0; i < LOAD_KILLS; i++) {
        enum part part = nrand48(seed) % 3 == 0 ? GATEWAY : SCHEDULER;
        wait_ms(nrand48(seed) % 800);
        sluice_kill(sluice, part);
        wait_ms(nrand48(seed) % 200);
        sluice_launch(sluice, part);
    }
}

static int by_batch(const void *a, const void *b)
{
    const struct dispatch *x = a, *y = b;
    return strcmp(x->batch, y->batch);
}

// Every dispatch belongs to an ingestion, a batch has the same content each time, and every batch came.
static void check_deliveries(struct http_target *target, const struct client *clients)
{
    struct dispatches seen = dispatches_read(target);
    size_t expected = 0, distinct = 0;
    qsort(seen.list, seen.count, sizeof(*seen.list), by_batch);
    for (size_t i = 0; i < seen.count; i++) {
        if (i == 0 || strcmp(seen.list[i].batch, seen.list[i - 1].batch) != 0) {
            distinct++;
            continue;
        }
        cr_assert_str_eq(seen.list[i].ids, seen.list[i - 1].ids);
        cr_assert_str_eq(seen.list[i].ingestion, seen.list[i - 1].ingestion);
    }
    for (const struct client *client = clients; client < clients + LOAD_CLIENTS; client++) {
        for (size_t i = 0; i < client->count; i++) {
            expected += i % 5 + 1 > 3 ? 2 : 1; // of 3 IDs each
        }
    }
    cr_assert_eq(distinct, expected, "%zu batches came of %zu", distinct, expected);
    dispatches_fini(&seen);
}

static void check_ingestions(const struct sluice *sluice, const struct client *clients)
{
    for (const struct client *client = clients; client < clients + LOAD_CLIENTS; client++) {
        for (size_t i = 0; i < client->count; i++) {
            sluice_wait_status(sluice, client->posted[i].id, "completed");
            char *ids = sluice_ids(sluice, client->posted[i].id, 1000);
            cr_assert_str_eq(ids, client->posted[i].ids);
            free(ids);
        }
    }
}

Test(restart, nothing_accepted_is_lost_by_random_kills_under_load)
{
    uint64_t random;
    cr_assert_eq(getrandom(&random, sizeof(random), 0), (ssize_t)sizeof(random));
    unsigned short seed[3] = {(unsigned short)random, (unsigned short)(random >> 16),
                              (unsigned short)(random >> 32)};
    fprintf(stderr, "seed {%d, %d, %d}\n", seed[0], seed[1], seed[2]);

    struct http_target *target = target_start();
    struct sluice *sluice =
        sluice_start(LIST("--rate", "50/s", "--concurrency", "4", "--target", http_target_url(target)), NULL);
    struct client *clients = calloc(LOAD_CLIENTS, sizeof(*clients));
    atomic_bool end = false;
    cr_assert_not_null(clients);
    struct lateness *lateness = lateness_watch();
    for (unsigned i = 0; i < LOAD_CLIENTS; i++) {
        clients[i].sluice = sluice;
        clients[i].end = &end;
        clients[i].number = i;
        cr_assert_eq(pthread_create(&clients[i].thread, NULL, post_all, &clients[i]), 0);
    }
    kill_at_random(sluice, seed);
    atomic_store(&end, true);
    for (unsigned i = 0; i < LOAD_CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
    }
    for (unsigned i = 0; i < LOAD_CLIENTS; i++) {
        cr_assert_str_empty(clients[i].refused, "%s", clients[i].refused);
        cr_assert(clients[i].count > 0);
    }
    check_ingestions(sluice, clients);
    check_deliveries(target, clients);
    dispatches_check_rate(target, (struct rate){50, NS_PER_S}, 1, lateness_end(lateness));
    free(clients);
    sluice_end(sluice);
    http_target_stop(target);
}

// ---- One program goes, the other stays ----

struct poster {
    const struct sluice *sluice;
    struct http_response response;
};

static void *post_one(void *arg)
{
    struct poster *poster = arg;
    poster->response = sluice_post(poster->sluice, "{\"ids\":[1],\"priority\":\"LOW\"}", NULL);
    return NULL;
}

Test(restart, a_request_waits_for_the_scheduler_to_come_back)
{
    struct sluice *sluice = sluice_start(NULL, LIST("--timeout", "60s"));
    struct poster poster = {.sluice = sluice};
    pthread_t thread;
    sluice_kill(sluice, SCHEDULER);
    cr_assert_eq(pthread_create(&thread, NULL, post_one, &poster), 0);
    wait_ms(300); // so that it probably is on its way
    sluice_launch(sluice, SCHEDULER);
    pthread_join(thread, NULL);
    cr_assert_eq(poster.response.status, 200, "%s", poster.response.body);
    sluice_wait_status(sluice, json_text(poster.response.json, "ingestion_id"), "completed");
    http_response_fini(&poster.response);
    sluice_end(sluice);
}

Test(restart, sigterm_waits_for_the_delivery_in_flight)
{
    struct http_target *target = target_start();
    http_target_set_default(target, &(struct http_target_answer){.delay_ns = 3 * NS_PER_S});
    struct sluice *sluice = sluice_start(LIST("--rate", "100/s", "--target", http_target_url(target)), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 5);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), EXIT_CODE_OK);
    cr_assert_eq(http_target_count(target), 1, "nothing new is dispatched at the end");

    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(http_target_count(target), 2, "what was waited for is not repeated");
    sluice_end(sluice);
    http_target_stop(target);
}

Test(restart, a_second_scheduler_is_refused_and_a_killed_one_is_not_in_the_way)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "unlimited"), NULL);
    char *other_data = sluice_path(sluice, "other"), *output, *errors;
    char other_ipc[SLUICE_TEXT + 8];
    (void)snprintf(other_ipc, sizeof(other_ipc), "%s2", sluice->ipc);

    int code = sluice_run(sluice, SCHEDULER, LIST("--data", sluice->data, "--ipc", other_ipc), NULL, &output,
                          &errors);
    cr_assert_eq(code, EXIT_CODE_UNAVAILABLE, "%d: %s", code, errors);
    free(output);
    free(errors);
    code = sluice_run(sluice, SCHEDULER, LIST("--data", other_data, "--ipc", sluice->ipc), NULL, &output,
                      &errors);
    cr_assert_eq(code, EXIT_CODE_UNAVAILABLE, "%d: %s", code, errors);
    free(output);
    free(errors);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 1); // the first one works on

    sluice_kill(sluice, SCHEDULER);
    cr_assert_eq(access(sluice->socket, F_OK), 0, "the killed one left its socket");
    sluice_launch(sluice, SCHEDULER);
    sluice_wait_status(sluice, ingested.id, "completed");
    free(other_data);
    sluice_end(sluice);
}
