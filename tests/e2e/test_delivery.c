// Delivery to a real HTTP server that answers well, badly, late or not at all.
#include "tests/support/dispatches.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

TestSuite(delivery, .fini = sluice_cleanup);

struct setup {
    struct http_target *target;
    struct sluice *sluice;
};

// 20 batches of one ID each in a second, one at a time unless told otherwise.
static struct setup setup_start(const char *concurrency)
{
    struct setup setup = {.target = http_target_start(0)};
    cr_assert_not_null(setup.target);
    setup.sluice = sluice_start(LIST("--rate", "20/s", "--batch-size", "1", "--concurrency", concurrency,
                                     "--target", http_target_url(setup.target)),
                                NULL);
    return setup;
}

static void setup_end(struct setup *setup)
{
    sluice_end(setup->sluice);
    http_target_stop(setup->target);
}

static void script(struct setup *setup, unsigned status, const char *retry_after)
{
    http_target_script(setup->target,
                       &(struct http_target_answer){.status = status, .retry_after = retry_after});
}

static void expect_header(const struct http_target_request *request, const char *name, const char *expected)
{
    char value[256];
    cr_assert(http_target_header(request, name, value, sizeof(value)), "no %s in\n%s", name,
              request->headers);
    cr_assert_str_eq(value, expected, "%s: %s", name, value);
}

// What /status tells of one batch.
static void expect_batch(const struct setup *setup, const char *id, int index, const char *status,
                         int attempts, const char *error)
{
    struct http_response response = sluice_status(setup->sluice, id);
    const cJSON *batch = cJSON_GetArrayItem(json_member(response.json, "batches"), index);
    cr_assert_str_eq(json_text(batch, "status"), status, "%s", response.body);
    cr_assert_eq(json_number(batch, "attempts"), attempts, "%s", response.body);
    if (error) {
        cr_assert_not_null(strstr(json_text(batch, "error"), error), "%s", response.body);
    }
    http_response_fini(&response);
}

Test(delivery, the_request_is_exactly_this)
{
    struct setup setup = setup_start("1");
    struct ingested ingested =
        sluice_ingest(setup.sluice, "{\"ids\":[9007199254740991],\"priority\":\"MEDIUM\"}");
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    cr_assert_eq(http_target_count(setup.target), 1);

    struct http_target_request request = http_target_get(setup.target, 0);
    struct http_response status = sluice_status(setup.sluice, ingested.id);
    const char *batch = json_text(cJSON_GetArrayItem(json_member(status.json, "batches"), 0), "batch_id");
    char body[512], length[16];
    (void)snprintf(
        body, sizeof(body),
        "{\"ingestion_id\":\"%s\",\"batch_id\":\"%s\",\"queue\":\"default\",\"priority\":\"MEDIUM\","
        "\"ids\":[9007199254740991],\"attempt\":1}",
        ingested.id, batch);
    (void)snprintf(length, sizeof(length), "%zu", strlen(body));
    cr_assert_str_eq(request.method, "POST");
    cr_assert_str_eq(request.path, "/deliver");
    cr_assert_str_eq(request.version, "HTTP/1.1");
    cr_assert_str_eq(request.body, body);
    expect_header(&request, "Content-Type", "application/json");
    expect_header(&request, "Content-Length", length);
    expect_header(&request, "Idempotency-Key", batch);
    expect_header(&request, "User-Agent", "sluice/" SLUICE_VERSION);
    cr_assert(!http_target_header(&request, "Expect", length, sizeof(length)));
    expect_batch(&setup, ingested.id, 0, "completed", 1, NULL);
    http_response_fini(&status);
    setup_end(&setup);
}

Test(delivery, what_a_repeat_cannot_mend_fails_at_once)
{
    static const unsigned statuses[] = {400, 401, 404, 409, 410, 413, 422, 301, 304};
    struct setup setup = setup_start("1");
    for (size_t i = 0; i < COUNT(statuses); i++) {
        http_target_script(setup.target,
                           &(struct http_target_answer){.status = statuses[i], .location = "/deliver"});
        struct ingested ingested = sluice_ingest_range(setup.sluice, "HIGH", 1, 2);
        char code[8];
        (void)snprintf(code, sizeof(code), "%u", statuses[i]);
        sluice_wait_status(setup.sluice, ingested.id, "failed");
        expect_batch(&setup, ingested.id, 0, "failed", 1, code);
        expect_batch(&setup, ingested.id, 1, "completed", 1, NULL);
    }
    cr_assert_eq(http_target_count(setup.target), 2 * COUNT(statuses));
    struct http_response list = sluice_get(setup.sluice, "/ingestions?status=failed");
    cr_assert_eq(cJSON_GetArraySize(json_member(list.json, "ingestions")), COUNT(statuses));
    http_response_fini(&list);
    cr_assert(
        sluice_logged(setup.sluice, SCHEDULER, "batches_failed queue=default batches=1 error=\"HTTP 400"));
    setup_end(&setup);
}

Test(delivery, what_a_repeat_can_mend_is_repeated_later)
{
    static const unsigned statuses[] = {408, 425, 429, 500, 501, 502, 503, 504};
    enum { DROPPED = COUNT(statuses), BATCHES };
    struct setup setup = setup_start("1");
    for (size_t i = 0; i < COUNT(statuses); i++) {
        script(&setup, statuses[i], NULL);
    }
    http_target_script(setup.target, &(struct http_target_answer){.how = HTTP_TARGET_DROP});
    struct lateness *lateness = lateness_watch();
    struct ingested ingested = sluice_ingest_range(setup.sluice, "LOW", 1, BATCHES);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    int64_t lateness_ns = lateness_end(lateness);
    for (int i = 0; i < BATCHES; i++) {
        expect_batch(&setup, ingested.id, i, "completed", 2, NULL);
    }

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 2 * BATCHES);
    for (size_t i = 0; i < BATCHES; i++) {
        for (size_t j = BATCHES; j < seen.count; j++) {
            if (strcmp(seen.list[i].batch, seen.list[j].batch) != 0) {
                continue;
            }
            int64_t pause = mono_diff(seen.list[j].at, seen.list[i].at);
            cr_assert(pause >= NS_PER_S, "it was repeated after %.3f s", (double)pause / NS_PER_S);
            cr_assert_str_eq(seen.list[i].ids, seen.list[j].ids);
            cr_assert_eq(seen.list[j].attempt, 2);
        }
    }
    dispatches_fini(&seen);
    dispatches_check_rate(setup.target, (struct rate){20, NS_PER_S}, 1, lateness_ns);
    setup_end(&setup);
}

Test(delivery, one_that_waits_for_its_repeat_is_passed_by_and_takes_its_place_again)
{
    enum { LOW = 80 };
    struct setup setup = setup_start("1");
    script(&setup, 500, NULL);
    struct ingested high = sluice_ingest_range(setup.sluice, "HIGH", 1000, 1);
    struct ingested low = sluice_ingest_range(setup.sluice, "LOW", 1, LOW);
    sluice_wait_status(setup.sluice, high.id, "completed");
    sluice_wait_status(setup.sluice, low.id, "completed");

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, LOW + 2);
    size_t again = 1;
    while (again < seen.count && strcmp(seen.list[again].ids, "1000") != 0) {
        again++;
    }
    cr_assert_str_eq(seen.list[0].ids, "1000");
    cr_assert(again > 1 && again < LOW + 1, "it came again as number %zu of %zu", again, seen.count);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(delivery, retry_after_holds_the_queue_and_uses_up_no_attempt)
{
    enum { HOLDS = 6 }; // more than there are attempts
    struct setup setup = setup_start("1");
    for (size_t i = 0; i < HOLDS; i++) {
        script(&setup, i % 2 ? 503 : 429, "1");
    }
    struct ingested ingested = sluice_ingest_range(setup.sluice, "HIGH", 1, 1);
    struct ingested other = sluice_ingest_range(setup.sluice, "LOW", 2, 3);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    sluice_wait_status(setup.sluice, other.id, "completed");

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 4 + HOLDS);
    for (size_t i = 0; i < HOLDS; i++) {
        int64_t gap = mono_diff(seen.list[i + 1].at, seen.list[i].at);
        cr_assert(gap >= NS_PER_S, "only %.3f s after number %zu", (double)gap / NS_PER_S, i);
    }
    dispatches_fini(&seen);
    cr_assert(sluice_logged(setup.sluice, SCHEDULER, "queue_held queue=default seconds=1 error=\"HTTP 429"));
    setup_end(&setup);
}

Test(delivery, retry_after_may_be_a_date)
{
    struct setup setup = setup_start("1");
    time_t until = time(NULL) + 4;
    struct tm tm;
    char date[64];
    cr_assert_not_null(gmtime_r(&until, &tm));
    cr_assert(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0);
    script(&setup, 429, date);
    struct ingested ingested = sluice_ingest_range(setup.sluice, "HIGH", 1, 2);
    sluice_wait_status(setup.sluice, ingested.id, "completed");

    struct dispatches seen = dispatches_read(setup.target);
    cr_assert_eq(seen.count, 3);
    int64_t ago_ms = mono_diff(mono_now(), seen.list[1].at) / NS_PER_MS;
    int64_t early_ms = (int64_t)until * 1000 - (wall_now().ms - ago_ms);
    cr_assert(early_ms <= 5, "it came %lld ms before that date", (long long)early_ms);
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(delivery, one_that_hangs_does_not_block_the_others)
{
    struct setup setup = setup_start("2");
    http_target_script(setup.target, &(struct http_target_answer){.how = HTTP_TARGET_HANG});
    struct ingested hanging = sluice_ingest_range(setup.sluice, "HIGH", 1, 1);
    struct ingested others = sluice_ingest_range(setup.sluice, "LOW", 2, 10);
    sluice_wait_status(setup.sluice, others.id, "completed");
    expect_batch(&setup, hanging.id, 0, "triggered", 1, NULL);
    setup_end(&setup); // the scheduler waits as long as it does for a delivery in flight, and ends well
}

Test(delivery, a_target_that_is_not_there_is_tried_until_it_is)
{
    char url[64];
    uint16_t port = free_port();
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/deliver", (unsigned)port);
    struct setup setup = {.sluice = sluice_start(LIST("--rate", "20/s", "--target", url), NULL)};
    struct ingested ingested = sluice_ingest_range(setup.sluice, "HIGH", 1, 3);
    struct http_response status;
    bool tried;
    do {
        status = sluice_status(setup.sluice, ingested.id);
        const cJSON *batch = cJSON_GetArrayItem(json_member(status.json, "batches"), 0);
        tried = cJSON_GetObjectItem(batch, "error") != NULL;
        http_response_fini(&status);
    } while (!tried);
    expect_batch(&setup, ingested.id, 0, "triggered", 1, "connect");
    setup.target = http_target_start(port);
    cr_assert_not_null(setup.target);
    sluice_wait_status(setup.sluice, ingested.id, "completed");
    cr_assert_eq(http_target_count(setup.target), 1);
    setup_end(&setup);
}

Test(delivery, fails_when_all_attempts_are_used_up)
{
    struct setup setup = setup_start("1");
    http_target_set_default(setup.target, &(struct http_target_answer){.status = 500});
    struct ingested ingested = sluice_ingest_range(setup.sluice, "HIGH", 1, 1);
    sluice_wait_status(setup.sluice, ingested.id, "failed");
    expect_batch(&setup, ingested.id, 0, "failed", 5, "500");
    cr_assert_eq(http_target_count(setup.target), 5);

    struct dispatches seen = dispatches_read(setup.target);
    for (size_t i = 0; i < seen.count; i++) {
        cr_assert_eq(seen.list[i].attempt, (int)i + 1);
        cr_assert_str_eq(seen.list[i].batch, seen.list[0].batch);
    }
    dispatches_fini(&seen);
    setup_end(&setup);
}
