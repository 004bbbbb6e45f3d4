// Idempotency-Key: the same request may be repeated, at any time and at the same time, and is one ingestion.
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KEYED(key) LIST("Content-Type: application/json", "Idempotency-Key: " key)

TestSuite(idempotency, .fini = sluice_cleanup);

static const char body[] = "{\"ids\":[1,2,3,4],\"priority\":\"HIGH\"}";

enum seen { NEW, REPLAYED };

// Posts it and expects an ingestion, new or not; gives its ID.
static struct ingested post(const struct sluice *sluice, const char *text, const char *const *headers,
                            enum seen seen)
{
    struct ingested ingested;
    char replayed[16] = "absent";
    struct http_response response = sluice_post(sluice, text, headers);
    cr_assert_eq(response.status, 200, "%s", response.body);
    (void)http_response_header(&response, "Idempotent-Replayed", replayed, sizeof(replayed));
    cr_assert_str_eq(replayed, seen == REPLAYED ? "true" : "absent");
    (void)snprintf(ingested.id, sizeof(ingested.id), "%s", json_text(response.json, "ingestion_id"));
    http_response_fini(&response);
    return ingested;
}

static size_t ingestions(const struct sluice *sluice)
{
    struct http_response page = sluice_get(sluice, "/ingestions?limit=1000");
    cr_assert_eq(page.status, 200);
    size_t count = (size_t)cJSON_GetArraySize(json_member(page.json, "ingestions"));
    http_response_fini(&page);
    return count;
}

Test(idempotency, the_same_content_is_the_same_ingestion)
{
    static const char *const same[] = {
        body,
        "{\"priority\":\"HIGH\",\"ids\":[1,2,3,4]}",
        " {\n\"ids\" : [ 1, 2,\t3, 4 ], \"priority\" : \"\\u0048IGH\", \"queue\":\"default\" }\r\n",
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    struct ingested first = post(sluice, body, KEYED("a-key"), NEW);
    for (size_t i = 0; i < COUNT(same); i++) {
        struct ingested again = post(sluice, same[i], KEYED("a-key"), REPLAYED);
        cr_assert_str_eq(again.id, first.id);
    }
    struct ingested other = post(sluice, body, KEYED("A-key"), NEW);
    cr_assert_str_neq(other.id, first.id);
    other = post(sluice, body, NULL, NEW);
    cr_assert_str_neq(other.id, first.id);
    cr_assert_eq(ingestions(sluice), 3);
    sluice_end(sluice);
}

Test(idempotency, other_content_is_refused)
{
    static const char *const others[] = {
        "{\"ids\":[1,2,3],\"priority\":\"HIGH\"}",
        "{\"ids\":[1,2,4,3],\"priority\":\"HIGH\"}",
        "{\"ids\":[1,2,3,4],\"priority\":\"LOW\"}",
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    struct ingested first = post(sluice, body, KEYED("k"), NEW);
    for (size_t i = 0; i < COUNT(others); i++) {
        struct http_response response = sluice_post(sluice, others[i], KEYED("k"));
        cr_assert_eq(response.status, 422, "%s", response.body);
        cr_assert_str_eq(json_text(response.json, "code"), "idempotency_key_reused");
        http_response_fini(&response);
    }
    struct ingested again = post(sluice, body, KEYED("k"), REPLAYED);
    cr_assert_str_eq(again.id, first.id);
    cr_assert_eq(ingestions(sluice), 1);
    sluice_end(sluice);
}

Test(idempotency, a_refused_request_leaves_its_key_free)
{
    struct sluice *sluice = sluice_start(LIST("--max-id", "100"), NULL);
    struct http_response response = sluice_post(sluice, "{\"ids\":[101],\"priority\":\"HIGH\"}", KEYED("k"));
    cr_assert_eq(response.status, 400, "%s", response.body);
    http_response_fini(&response);
    (void)post(sluice, body, KEYED("k"), NEW);
    sluice_end(sluice);
}

Test(idempotency, outlives_both_programs_and_completion)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "unlimited", "--target", "simulate:1ms"), NULL);
    struct ingested first = post(sluice, body, KEYED("k"), NEW);
    sluice_kill(sluice, SCHEDULER);
    sluice_kill(sluice, GATEWAY);
    sluice_launch(sluice, SCHEDULER);
    sluice_launch(sluice, GATEWAY);
    struct ingested again = post(sluice, body, KEYED("k"), REPLAYED);
    cr_assert_str_eq(again.id, first.id);
    sluice_wait_status(sluice, first.id, "completed");
    again = post(sluice, body, KEYED("k"), REPLAYED);
    cr_assert_str_eq(again.id, first.id);
    sluice_end(sluice);
}

// ---- At the same moment ----

#define AT_ONCE 8
#define ROUNDS 10

struct poster {
    pthread_t thread;
    pthread_barrier_t *together;
    const struct sluice *sluice;
    const char *key;
    struct http_response response;
};

static void *post_together(void *arg)
{
    struct poster *poster = arg;
    pthread_barrier_wait(poster->together);
    poster->response = sluice_post(poster->sluice, body, LIST("Content-Type: application/json", poster->key));
    return NULL;
}

Test(idempotency, holds_at_the_same_moment)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t round = 0; round < ROUNDS; round++) {
        struct poster posters[AT_ONCE];
        pthread_barrier_t together;
        char key[32], id[ID_TEXT_SIZE], replayed[8];
        size_t made = 0;
        (void)snprintf(key, sizeof(key), "Idempotency-Key: %zu", round);
        cr_assert_eq(pthread_barrier_init(&together, NULL, AT_ONCE), 0);
        for (size_t i = 0; i < AT_ONCE; i++) {
            posters[i] = (struct poster){.together = &together, .sluice = sluice, .key = key};
            cr_assert_eq(pthread_create(&posters[i].thread, NULL, post_together, &posters[i]), 0);
        }
        for (size_t i = 0; i < AT_ONCE; i++) {
            struct http_response *response = &posters[i].response;
            pthread_join(posters[i].thread, NULL);
            cr_assert_eq(response->status, 200, "%s", response->body);
            made += !http_response_header(response, "Idempotent-Replayed", replayed, sizeof(replayed));
            if (i == 0) {
                (void)snprintf(id, sizeof(id), "%s", json_text(response->json, "ingestion_id"));
            }
            cr_assert_str_eq(json_text(response->json, "ingestion_id"), id);
            http_response_fini(response);
        }
        cr_assert_eq(made, 1, "%zu of %d made it", made, AT_ONCE);
        pthread_barrier_destroy(&together);
    }
    cr_assert_eq(ingestions(sluice), ROUNDS);
    sluice_end(sluice);
}

// ---- The key itself ----

Test(idempotency, a_key_has_1_to_255_visible_characters)
{
    char longest[300], longer[300];
    (void)snprintf(longest, sizeof(longest), "Idempotency-Key: %0255d", 1);
    (void)snprintf(longer, sizeof(longer), "Idempotency-Key: %0256d", 1);
    const struct {
        const char *const *headers;
        int status;
    } keys[] = {
        {LIST(longest), 200},
        {LIST("Idempotency-Key: !\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\"), 200},
        {LIST(longer), 422},
        {LIST("Idempotency-Key;"), 422}, // as curl writes a header without a value
        {LIST("Idempotency-Key: two words"), 422},
        {LIST("Idempotency-Key: one", "Idempotency-Key: two"), 422},
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(keys); i++) {
        // A body without a type is JSON, but curl would give it one.
        const char *const *given = keys[i].headers;
        struct http_response response =
            sluice_post(sluice, body, LIST("Content-Type: application/json", given[0], given[1]));
        cr_assert_eq(response.status, keys[i].status, "%s: %ld %s", given[0], response.status, response.body);
        if (keys[i].status == 422) {
            cr_assert_str_eq(json_text(response.json, "code"), "invalid_field");
            cr_assert_not_null(strstr(json_text(response.json, "detail"), "Idempotency-Key"));
        }
        http_response_fini(&response);
    }
    sluice_end(sluice);
}
