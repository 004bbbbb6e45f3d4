// Thousands of clients at once, while both programs die and come back.
#include "tests/crash/round.h"
#include "tests/support/queues.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(crowd, .fini = sluice_cleanup);

#define CLIENTS 2000

struct crowd {
    const struct sluice *sluice;
    CURLM *multi;
    struct one {
        CURL *curl;
        struct curl_slist *headers;
        char body[128];
        char reply[512];
        size_t len;
        char id[ID_TEXT_SIZE]; // "" until it is accepted
        bool again;            // it is to be sent again
    } * ones;
    size_t accepted;
};

static size_t take(char *data, size_t size, size_t count, void *arg)
{
    struct one *one = arg;
    size_t room = sizeof(one->reply) - 1 - one->len, len = size * count < room ? size * count : room;
    memcpy(one->reply + one->len, data, len);
    one->len += len;
    return size * count;
}

static void make_one(struct crowd *crowd, size_t number)
{
    struct one *one = &crowd->ones[number];
    char url[SLUICE_TEXT + 8], key[64];
    (void)snprintf(url, sizeof(url), "%s/ingest", crowd->sluice->url);
    (void)snprintf(key, sizeof(key), "Idempotency-Key: crowd-%zu", number);
    (void)snprintf(one->body, sizeof(one->body), "{\"priority\":\"LOW\",\"ids\":[%zu]}", number + 1);
    one->headers = curl_slist_append(NULL, "Content-Type: application/json");
    one->headers = curl_slist_append(one->headers, key);
    one->curl = curl_easy_init();
    cr_assert(one->curl && one->headers);
    curl_easy_setopt(one->curl, CURLOPT_URL, url);
    curl_easy_setopt(one->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(one->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(one->curl, CURLOPT_TIMEOUT, (long)WAIT_S);
    curl_easy_setopt(one->curl, CURLOPT_HTTPHEADER, one->headers);
    curl_easy_setopt(one->curl, CURLOPT_POSTFIELDS, one->body);
    curl_easy_setopt(one->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(one->curl, CURLOPT_WRITEDATA, one);
    curl_easy_setopt(one->curl, CURLOPT_PRIVATE, one);
    one->again = true;
}

static void take_answer(struct crowd *crowd, CURL *curl)
{
    struct one *one;
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_PRIVATE, &one);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(crowd->multi, curl);
    one->reply[one->len] = '\0';
    cJSON *json = cJSON_Parse(one->reply);
    const cJSON *id = cJSON_GetObjectItem(json, "ingestion_id");
    if (status == 200 && cJSON_IsString(id)) {
        (void)snprintf(one->id, sizeof(one->id), "%s", id->valuestring);
        crowd->accepted++;
    } else {
        cr_assert(status == 0 || status == 200 || status == 503 || status == 504 || status == 429, "%ld %s",
                  status, one->reply);
        one->again = true;
    }
    cJSON_Delete(json);
}

// What is to be sent is sent, and what has come is taken.
static void run(struct crowd *crowd, int64_t ms)
{
    for (struct mono end = mono_add(mono_now(), ms * NS_PER_MS); mono_before(mono_now(), end);) {
        int running, left;
        for (size_t i = 0; i < CLIENTS; i++) {
            if (crowd->ones[i].again) {
                crowd->ones[i].again = false;
                crowd->ones[i].len = 0;
                curl_multi_add_handle(crowd->multi, crowd->ones[i].curl);
            }
        }
        curl_multi_perform(crowd->multi, &running);
        for (CURLMsg *message; (message = curl_multi_info_read(crowd->multi, &left));) {
            if (message->msg == CURLMSG_DONE) {
                take_answer(crowd, message->easy_handle);
            }
        }
        curl_multi_poll(crowd->multi, NULL, 0, 10, NULL);
    }
}

static struct crowd gather(const struct sluice *sluice)
{
    struct crowd crowd = {.sluice = sluice, .multi = curl_multi_init()};
    crowd.ones = calloc(CLIENTS, sizeof(*crowd.ones));
    cr_assert(crowd.multi && crowd.ones);
    for (size_t i = 0; i < CLIENTS; i++) {
        make_one(&crowd, i);
    }
    return crowd;
}

static void part_with(struct crowd *crowd)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        curl_multi_remove_handle(crowd->multi, crowd->ones[i].curl);
        curl_easy_cleanup(crowd->ones[i].curl);
        curl_slist_free_all(crowd->ones[i].headers);
    }
    curl_multi_cleanup(crowd->multi);
    free(crowd->ones);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct one *)a)->id, ((const struct one *)b)->id);
}

// Each client has an ingestion of its own, and there are no others.
static void check_accepted(const struct crowd *crowd)
{
    qsort(crowd->ones, CLIENTS, sizeof(*crowd->ones), by_id);
    for (size_t i = 1; i < CLIENTS; i++) {
        if (strcmp(crowd->ones[i].id, crowd->ones[i - 1].id) == 0) {
            cr_assert_fail("two clients got %s", crowd->ones[i].id);
        }
    }
    WAIT_FOR(queue_figure(crowd->sluice, "default", "completed") == CLIENTS);
    cr_assert_eq(queue_figure(crowd->sluice, "default", "waiting"), 0);
    cr_assert_eq(queue_figure(crowd->sluice, "default", "in_flight"), 0);
}

Test(crowd, two_thousand_clients_while_both_die)
{
    struct random random = random_from(round_seed());
    struct sluice *sluice =
        sluice_start(LIST("--rate", "unlimited", "--concurrency", "100", "--target", "simulate:1ms"),
                     LIST("--timeout", "5s"));
    struct crowd crowd = gather(sluice);
    unsigned kills = round_kills(6), killed = 0;
    for (unsigned i = 0; i < kills; i++) {
        run(&crowd, (int64_t)random_below(&random, 150));
        if (i % 3 != 1) {
            sluice_kill(sluice, SCHEDULER);
            killed++;
        }
        if (i % 3 != 0) {
            sluice_kill(sluice, GATEWAY);
            killed++;
        }
        run(&crowd, (int64_t)random_below(&random, 50));
        if (!sluice->part[SCHEDULER].pid) {
            sluice_launch(sluice, SCHEDULER);
        }
        if (!sluice->part[GATEWAY].pid) {
            sluice_launch(sluice, GATEWAY);
        }
    }
    struct mono end = mono_add(mono_now(), WAIT_S * NS_PER_S);
    while (crowd.accepted < CLIENTS) {
        cr_assert(mono_before(mono_now(), end), "%zu accepted", crowd.accepted);
        run(&crowd, 50);
    }
    check_accepted(&crowd);
    fprintf(stderr, "crowd, seed %llu: %u kills, %d clients\n", (unsigned long long)random.seed, killed,
            CLIENTS);
    part_with(&crowd);
    sluice_end(sluice);
}
