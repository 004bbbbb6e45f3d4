// The API as a client sees it, with both programs running: what is accepted, what comes of it, and how it is
// told.
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UUID_PATTERN "^[0-9a-f]{8}-[0-9a-f]{4}-%c[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
#define TIME_PATTERN "^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3}Z$"

TestSuite(api, .fini = sluice_cleanup);

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;
    cr_assert_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool match = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return match;
}

static bool is_uuid(const char *text, char version)
{
    char pattern[sizeof(UUID_PATTERN)];
    (void)snprintf(pattern, sizeof(pattern), UUID_PATTERN, version);
    return matches(text, pattern);
}

static bool is_time(const char *text)
{
    return matches(text, TIME_PATTERN);
}

static const cJSON *batch_of(const struct http_response *status, int index)
{
    const cJSON *batch = cJSON_GetArrayItem(json_member(status->json, "batches"), index);
    cr_assert_not_null(batch, "there is no batch %d: %s", index, status->body);
    return batch;
}

static void expect_ids(const cJSON *batch, const char *expected)
{
    char *ids = cJSON_PrintUnformatted(json_member(batch, "ids"));
    cr_assert_str_eq(ids, expected);
    cJSON_free(ids);
}

static void expect_progress(const struct http_response *status, int total, int waiting, int triggered,
                            int completed)
{
    const cJSON *progress = json_member(status->json, "progress");
    cr_assert_eq(json_number(progress, "total"), total, "%s", status->body);
    cr_assert_eq(json_number(progress, "yet_to_start"), waiting, "%s", status->body);
    cr_assert_eq(json_number(progress, "triggered"), triggered, "%s", status->body);
    cr_assert_eq(json_number(progress, "completed"), completed, "%s", status->body);
    cr_assert_eq(json_number(progress, "failed"), 0, "%s", status->body);
    cr_assert_eq(json_number(progress, "cancelled"), 0, "%s", status->body);
}

Test(api, five_ids_are_two_batches)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h"), NULL);
    struct http_response response =
        sluice_post(sluice, "{\"ids\":[1,2,3,4,5],\"priority\":\"MEDIUM\"}", NULL);
    char type[64];
    cr_assert_eq(response.status, 200);
    cr_assert(http_response_header(&response, "Content-Type", type, sizeof(type)));
    cr_assert_str_eq(type, "application/json");
    cr_assert_eq(cJSON_GetArraySize(response.json), 1, "%s", response.body);
    cr_assert(is_uuid(json_text(response.json, "ingestion_id"), '7'), "%s", response.body);

    struct http_response status = sluice_status(sluice, json_text(response.json, "ingestion_id"));
    cr_assert(http_response_header(&status, "Content-Type", type, sizeof(type)));
    cr_assert_str_eq(type, "application/json");
    cr_assert_str_eq(json_text(status.json, "ingestion_id"), json_text(response.json, "ingestion_id"));
    cr_assert_eq(cJSON_GetArraySize(json_member(status.json, "batches")), 2);
    cr_assert_eq(json_number(status.json, "batches_total"), 2);
    expect_ids(batch_of(&status, 0), "[1,2,3]");
    expect_ids(batch_of(&status, 1), "[4,5]");
    http_response_fini(&status);
    http_response_fini(&response);
    sluice_end(sluice);
}

Test(api, batch_ids_follow_from_the_ingestion)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h", "--batch-size", "1"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 12);
    struct http_response status = sluice_status(sluice, ingested.id);
    struct id space;
    cr_assert(id_parse(ingested.id, strlen(ingested.id), &space));
    for (int i = 0; i < 12; i++) {
        char name[4], text[ID_TEXT_SIZE];
        int len = snprintf(name, sizeof(name), "%d", i);
        struct id batch = id_v5(&space, name, (size_t)len);
        id_format(&batch, text);
        cr_assert(is_uuid(text, '5'));
        cr_assert_str_eq(json_text(batch_of(&status, i), "batch_id"), text);
    }
    http_response_fini(&status);
    sluice_end(sluice);
}

static bool is_completed(const struct sluice *sluice, const char *id, int count)
{
    struct http_response status = sluice_status(sluice, id);
    bool done = json_number(json_member(status.json, "progress"), "completed") == count;
    http_response_fini(&status);
    return done;
}

Test(api, statuses_go_from_yet_to_start_over_triggered_to_completed)
{
    // A delivery of 100 ms after a linger of 100 ms, and then a long time for looking at what comes between.
    struct sluice *sluice = sluice_start(LIST("--rate", "1/5s", "--target", "simulate:100ms"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 5);
    struct ingested next = sluice_ingest_range(sluice, "HIGH", 6, 1);

    WAIT_FOR(is_completed(sluice, ingested.id, 1));
    struct http_response status = sluice_status(sluice, ingested.id);
    cr_assert_str_eq(json_text(status.json, "status"), "triggered");
    cr_assert_str_eq(json_text(status.json, "queue"), "default");
    cr_assert_str_eq(json_text(status.json, "priority"), "HIGH");
    cr_assert(is_time(json_text(status.json, "created_at")));
    cr_assert(is_time(json_text(status.json, "eta")));
    cr_assert_eq(json_number(status.json, "position"), 0);
    expect_progress(&status, 2, 1, 0, 1);
    const cJSON *first = batch_of(&status, 0), *second = batch_of(&status, 1);
    cr_assert_str_eq(json_text(first, "status"), "completed");
    cr_assert_eq(json_number(first, "attempts"), 1);
    cr_assert(is_time(json_text(first, "triggered_at")));
    cr_assert(is_time(json_text(first, "completed_at")));
    cr_assert(strcmp(json_text(first, "triggered_at"), json_text(first, "completed_at")) < 0);
    cr_assert_str_eq(json_text(second, "status"), "yet_to_start");
    cr_assert_eq(cJSON_GetArraySize(second), 3, "a batch that has not started has no times: %s", status.body);
    http_response_fini(&status);

    status = sluice_status(sluice, next.id);
    cr_assert_str_eq(json_text(status.json, "status"), "yet_to_start");
    cr_assert_eq(json_number(status.json, "position"), 1);
    expect_progress(&status, 1, 1, 0, 0);
    http_response_fini(&status);

    sluice_wait_status(sluice, ingested.id, "completed");
    status = sluice_status(sluice, ingested.id);
    expect_progress(&status, 2, 0, 0, 2);
    cr_assert(cJSON_IsNull(json_member(status.json, "position")));
    cr_assert(cJSON_IsNull(json_member(status.json, "eta")));
    http_response_fini(&status);
    sluice_end(sluice);
}

Test(api, a_delivery_under_way_is_triggered)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "1/s", "--target", "simulate:3s"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 1);
    sluice_wait_status(sluice, ingested.id, "triggered");
    struct http_response status = sluice_status(sluice, ingested.id);
    const cJSON *batch = batch_of(&status, 0);
    cr_assert_str_eq(json_text(batch, "status"), "triggered");
    cr_assert_eq(json_number(batch, "attempts"), 1);
    cr_assert(is_time(json_text(batch, "triggered_at")));
    cr_assert_null(cJSON_GetObjectItem(batch, "completed_at"));
    cr_assert(cJSON_IsNull(json_member(status.json, "position")));
    expect_progress(&status, 1, 0, 1, 0);
    http_response_fini(&status);
    sluice_wait_status(sluice, ingested.id, "completed");
    sluice_end(sluice);
}

Test(api, batches_come_in_pages)
{
    static const struct {
        const char *query;
        int count;
        int first; // the first ID on the page
    } pages[] = {
        {"", 1000, 1},
        {"?limit=2", 2, 1},
        {"?limit=2&offset=1", 2, 4},
        {"?offset=2499", 1, 7498},
        {"?limit=10000", 2500, 1},
        {"?limit=10000&offset=2500", 0, 0},
        {"?offset=4294967295", 0, 0},
    };
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 7500);
    for (size_t i = 0; i < COUNT(pages); i++) {
        struct http_response page = sluice_get(sluice, "/status/%s%s", ingested.id, pages[i].query);
        cr_assert_eq(page.status, 200, "%s: %s", pages[i].query, page.body);
        const cJSON *batches = json_member(page.json, "batches");
        cr_assert_eq(cJSON_GetArraySize(batches), pages[i].count, "%s has %d", pages[i].query,
                     cJSON_GetArraySize(batches));
        cr_assert_eq(json_number(page.json, "batches_total"), 2500);
        if (pages[i].count > 0) {
            const cJSON *ids = json_member(batch_of(&page, 0), "ids");
            cr_assert_eq(cJSON_GetArrayItem(ids, 0)->valuedouble, pages[i].first, "%s", pages[i].query);
        }
        http_response_fini(&page);
    }
    sluice_end(sluice);
}

// Which of those given a page lists, in its order: "210".
static void list_order(const struct http_response *page, const struct ingested *ingested, size_t count,
                       char *order)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, json_member(page->json, "ingestions"))
    {
        for (size_t i = 0; i < count; i++) {
            if (strcmp(json_text(row, "ingestion_id"), ingested[i].id) == 0) {
                *order++ = (char)('0' + i);
            }
        }
    }
    *order = '\0';
}

Test(api, ingestions_are_listed_newest_first)
{
    static const char *const priorities[] = {"HIGH", "LOW", "MEDIUM", "LOW", "HIGH"};
    static const struct {
        const char *query, *order;
    } pages[] = {
        {"", "43210"},
        {"?priority=LOW", "31"},
        {"?priority=HIGH&limit=1", "4"},
        {"?status=yet_to_start", "43210"},
        {"?status=completed", ""},
        {"?queue=default&limit=3", "432"},
        {"?status=yet_to_start&priority=MEDIUM&queue=default&limit=1000", "2"},
    };
    struct ingested ingested[COUNT(priorities)];
    char order[32], next[64];
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h"), NULL);
    for (size_t i = 0; i < COUNT(priorities); i++) {
        ingested[i] = sluice_ingest_range(sluice, priorities[i], 1, 4);
    }
    for (size_t i = 0; i < COUNT(pages); i++) {
        struct http_response page = sluice_get(sluice, "/ingestions%s", pages[i].query);
        cr_assert_eq(page.status, 200, "%s", page.body);
        list_order(&page, ingested, COUNT(ingested), order);
        cr_assert_str_eq(order, pages[i].order, "%s gives %s", pages[i].query, page.body);
        http_response_fini(&page);
    }

    struct http_response page = sluice_get(sluice, "/ingestions?limit=2");
    list_order(&page, ingested, COUNT(ingested), order);
    cr_assert_str_eq(order, "43");
    (void)snprintf(next, sizeof(next), "%s", json_text(page.json, "next_cursor"));
    http_response_fini(&page);
    (void)sluice_ingest_range(sluice, "HIGH", 1, 1); // what arrives meanwhile shifts nothing
    page = sluice_get(sluice, "/ingestions?limit=10&cursor=%s", next);
    list_order(&page, ingested, COUNT(ingested), order);
    cr_assert_str_eq(order, "210");
    cr_assert(cJSON_IsNull(json_member(page.json, "next_cursor")), "%s", page.body);
    const cJSON *row = cJSON_GetArrayItem(json_member(page.json, "ingestions"), 0);
    cr_assert_str_eq(json_text(row, "queue"), "default");
    cr_assert_str_eq(json_text(row, "priority"), "MEDIUM");
    cr_assert_str_eq(json_text(row, "status"), "yet_to_start");
    cr_assert(is_time(json_text(row, "created_at")));
    cr_assert_eq(json_number(json_member(row, "progress"), "total"), 2);
    http_response_fini(&page);
    sluice_end(sluice);
}

static int status_of(const struct sluice *sluice, const char *path)
{
    struct http_response response = sluice_get(sluice, "%s", path);
    int status = (int)response.status;
    http_response_fini(&response);
    return status;
}

Test(api, healthz_is_the_gateway_and_readyz_the_scheduler)
{
    struct sluice *sluice = sluice_start(NULL, LIST("--timeout", "200ms"));
    cr_assert_eq(status_of(sluice, "/healthz"), 200);
    cr_assert_eq(status_of(sluice, "/readyz"), 200);

    sluice_kill(sluice, SCHEDULER);
    char retry_after[16];
    WAIT_FOR(status_of(sluice, "/readyz") == 503);
    struct http_response response = sluice_get(sluice, "/readyz");
    cr_assert_str_eq(json_text(response.json, "code"), "scheduler_unavailable");
    cr_assert(http_response_header(&response, "Retry-After", retry_after, sizeof(retry_after)));
    http_response_fini(&response);
    cr_assert_eq(status_of(sluice, "/healthz"), 200);
    response = sluice_post(sluice, "{\"ids\":[1],\"priority\":\"LOW\"}", NULL);
    cr_assert_eq(response.status, 503);
    cr_assert_str_eq(json_text(response.json, "code"), "scheduler_unavailable");
    cr_assert(http_response_header(&response, "Retry-After", retry_after, sizeof(retry_after)));
    http_response_fini(&response);

    sluice_launch(sluice, SCHEDULER);
    WAIT_FOR(status_of(sluice, "/readyz") == 200);
    sluice_end(sluice);
}
