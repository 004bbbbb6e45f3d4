// What is not accepted, and how that is said; and the largest that is.
#include "common/buf.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ABSENT_ID "0190163d-8694-739b-aea5-966c26f8ad91"
#define NEST8(x) x x x x x x x x

TestSuite(bad_input, .fini = sluice_cleanup);

// A whole problem document (RFC 9457) with this status and code, whose detail names what is to be named.
static void expect_problem(const char *what, const struct http_response *response, long status,
                           const char *code, const char *named)
{
    char type[64], retry[16];
    cr_assert_eq(response->status, status, "%s: %ld %s", what, response->status, response->body);
    cr_assert(http_response_header(response, "Content-Type", type, sizeof(type)), "%s", what);
    cr_assert_str_eq(type, "application/problem+json", "%s", what);
    cr_assert_not_null(response->json, "%s: %s", what, response->body);
    cr_assert_str_eq(json_text(response->json, "code"), code, "%s: %s", what, response->body);
    cr_assert_eq(json_number(response->json, "status"), (double)status, "%s: %s", what, response->body);
    cr_assert_str_not_empty(json_text(response->json, "type"), "%s: %s", what, response->body);
    cr_assert_str_not_empty(json_text(response->json, "title"), "%s: %s", what, response->body);
    cr_assert_str_not_empty(json_text(response->json, "detail"), "%s: %s", what, response->body);
    cr_assert(!named || strstr(json_text(response->json, "detail"), named), "%s: %s is not named in: %s",
              what, named, response->body);
    bool later = status == 429 || status == 503;
    cr_assert_eq(http_response_header(response, "Retry-After", retry, sizeof(retry)), later, "%s", what);
}

Test(bad_input, bodies)
{
    static const struct {
        const char *body;
        long status;
        const char *code;
        const char *named; // in the detail
    } bodies[] = {
        {"", 400, "malformed_json", NULL},
        {"ids", 400, "malformed_json", "byte"},
        {"{\"ids\":[1,2,3],\"priority\":\"HIGH\"", 400, "malformed_json", "byte"},
        {"{\"ids\":[1,2,3],\"priority\":\"HIGH\"}x", 400, "malformed_json", "byte"},
        {"{\"ids\":[1,2,3],\"priority\":\"HIGH\"}{}", 400, "malformed_json", "byte"},
        {"{\"ids\":[1,2,3,],\"priority\":\"HIGH\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[01],\"priority\":\"HIGH\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[+1],\"priority\":\"HIGH\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[1.],\"priority\":\"HIGH\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[0x1],\"priority\":\"HIGH\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[NaN],\"priority\":\"HIGH\"}", 400, "malformed_json", "byte"},
        {"{'ids':[1],'priority':'HIGH'}", 400, "malformed_json", "byte"},
        {"{\"ids\":[1],\"priority\":\"HI\xffGH\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[1],\"priority\":\"HIGH\\u0000\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[1],\"priority\":\"\\ud800\"}", 400, "malformed_json", "byte"},
        {"{\"ids\":[1],\"priority\":\"HIGH\n\"}", 400, "malformed_json", "byte"},
        {"\xef\xbb\xbf{\"ids\":[1],\"priority\":\"HIGH\"}", 400, "malformed_json", NULL},
        {NEST8("[[[[[[[[") NEST8("]]]]]]]]"), 400, "malformed_json", NULL},
        {"null", 422, "invalid_field", NULL},
        {"[1,2,3]", 422, "invalid_field", NULL},
        {"\"HIGH\"", 422, "invalid_field", NULL},
        {"{}", 422, "invalid_field", "ids"},
        {"{\"ids\":[1]}", 422, "invalid_field", "priority"},
        {"{\"priority\":\"HIGH\"}", 422, "invalid_field", "ids"},
        {"{\"ids\":[],\"priority\":\"HIGH\"}", 422, "invalid_field", "ids"},
        {"{\"ids\":null,\"priority\":\"HIGH\"}", 422, "invalid_field", "ids"},
        {"{\"ids\":1,\"priority\":\"HIGH\"}", 422, "invalid_field", "ids"},
        {"{\"ids\":{\"0\":1},\"priority\":\"HIGH\"}", 422, "invalid_field", "ids"},
        {"{\"ids\":[\"1\"],\"priority\":\"HIGH\"}", 422, "invalid_field", "ids[0]"},
        {"{\"ids\":[1,2,null],\"priority\":\"HIGH\"}", 422, "invalid_field", "ids[2]"},
        {"{\"ids\":[1,true],\"priority\":\"HIGH\"}", 422, "invalid_field", "ids[1]"},
        {"{\"ids\":[[1]],\"priority\":\"HIGH\"}", 422, "invalid_field", "ids[0]"},
        {"{\"ids\":[1.5],\"priority\":\"HIGH\"}", 422, "invalid_field", "ids[0]"},
        {"{\"ids\":[1],\"priority\":\"URGENT\"}", 422, "invalid_field", "HIGH, MEDIUM"},
        {"{\"ids\":[1],\"priority\":\"high\"}", 422, "invalid_field", "HIGH, MEDIUM"},
        {"{\"ids\":[1],\"priority\":1}", 422, "invalid_field", "priority"},
        {"{\"ids\":[1],\"priority\":null}", 422, "invalid_field", "priority"},
        {"{\"ids\":[1],\"Priority\":\"HIGH\"}", 422, "invalid_field", "Priority"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"IDS\":[2]}", 422, "invalid_field", "IDS"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"ids\":[1]}", 422, "invalid_field", "ids"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"colour\":\"red\"}", 422, "invalid_field", "colour"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":7}", 422, "invalid_field", "queue"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"No Queue\"}", 422, "invalid_field", "queue"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"\"}", 422, "invalid_field", "queue"},
        {"{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"other\"}", 404, "unknown_queue", "other"},
        {"{\"ids\":[0],\"priority\":\"HIGH\"}", 400, "id_out_of_range", "ids[0]"},
        {"{\"ids\":[1,-1],\"priority\":\"HIGH\"}", 400, "id_out_of_range", "ids[1]"},
        {"{\"ids\":[1,2,9007199254740992],\"priority\":\"HIGH\"}", 400, "id_out_of_range", "ids[2]"},
        {"{\"ids\":[18446744073709551617],\"priority\":\"HIGH\"}", 400, "id_out_of_range", "ids[0]"},
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(bodies); i++) {
        struct http_response response = sluice_post(sluice, bodies[i].body, NULL);
        expect_problem(bodies[i].body, &response, bodies[i].status, bodies[i].code, bodies[i].named);
        http_response_fini(&response);
    }
    struct http_response list = sluice_get(sluice, "/ingestions");
    cr_assert_eq(cJSON_GetArraySize(json_member(list.json, "ingestions")), 0, "nothing was accepted");
    http_response_fini(&list);
    sluice_end(sluice);
}

Test(bad_input, headers)
{
    static const char good[] = "{\"ids\":[1],\"priority\":\"LOW\"}";
    const struct {
        const char *const *headers;
        long status;
        const char *code;
    } cases[] = {
        {LIST("Content-Type:"), 200, NULL}, // as curl leaves it out
        {LIST("Content-Type: application/json; charset=utf-8"), 200, NULL},
        {LIST("Content-Type: APPLICATION/JSON"), 200, NULL},
        {LIST("Content-Type: application/vnd.api+json"), 200, NULL},
        {LIST("Content-Type: application/x-www-form-urlencoded"), 415, "unsupported_media_type"},
        {LIST("Content-Type: text/plain"), 415, "unsupported_media_type"},
        {LIST("Content-Type: application/jsonp"), 415, "unsupported_media_type"},
        {LIST("Transfer-Encoding: chunked", "Content-Type: application/json"), 501, "not_implemented"},
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_response response = sluice_post(sluice, good, cases[i].headers);
        if (cases[i].code) {
            expect_problem(cases[i].headers[0], &response, cases[i].status, cases[i].code, NULL);
        } else {
            cr_assert_eq(response.status, cases[i].status, "%s: %s", cases[i].headers[0], response.body);
        }
        http_response_fini(&response);
    }
    sluice_end(sluice);
}

Test(bad_input, paths_and_queries)
{
    static const struct {
        const char *method;
        const char *path;
        long status;
        const char *code;
        const char *named;
    } cases[] = {
        {"GET", "/", 404, "not_found", NULL},
        {"GET", "/ingest/1", 404, "not_found", NULL},
        {"GET", "/status", 404, "not_found", NULL},
        {"GET", "/status/", 404, "not_found", NULL},
        {"GET", "/status/1", 404, "not_found", NULL},
        {"GET", "/status/not-a-uuid", 404, "not_found", NULL},
        {"GET", "/status/" ABSENT_ID, 404, "not_found", NULL},
        {"GET", "/ingest", 405, "method_not_allowed", NULL},
        {"DELETE", "/status/" ABSENT_ID, 405, "method_not_allowed", NULL},
        {"PUT", "/ingestions", 405, "method_not_allowed", NULL},
        {"GET", "/status/" ABSENT_ID "?limit=0", 422, "invalid_field", "limit"},
        {"GET", "/status/" ABSENT_ID "?limit=10001", 422, "invalid_field", "limit"},
        {"GET", "/status/" ABSENT_ID "?limit=-1", 422, "invalid_field", "limit"},
        {"GET", "/status/" ABSENT_ID "?limit=", 422, "invalid_field", "limit"},
        {"GET", "/status/" ABSENT_ID "?limit=1&limit=2", 422, "invalid_field", "limit"},
        {"GET", "/status/" ABSENT_ID "?offset=1e3", 422, "invalid_field", "offset"},
        {"GET", "/status/" ABSENT_ID "?offset=4294967296", 422, "invalid_field", "offset"},
        {"GET", "/status/" ABSENT_ID "?page=2", 422, "invalid_field", "page"},
        {"GET", "/ingestions?status=done", 422, "invalid_field", "yet_to_start"},
        {"GET", "/ingestions?priority=low", 422, "invalid_field", "LOW"},
        {"GET", "/ingestions?queue=No%20Queue", 422, "invalid_field", "queue"},
        {"GET", "/ingestions?limit=1001", 422, "invalid_field", "limit"},
        {"GET", "/ingestions?cursor=x", 422, "invalid_field", "cursor"},
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char url[256], allow[64];
        (void)snprintf(url, sizeof(url), "%s%s", sluice->url, cases[i].path);
        struct http_response response =
            http_send(&(struct http_request){.method = cases[i].method, .url = url});
        expect_problem(cases[i].path, &response, cases[i].status, cases[i].code, cases[i].named);
        cr_assert_eq(http_response_header(&response, "Allow", allow, sizeof(allow)), cases[i].status == 405);
        http_response_fini(&response);
    }
    sluice_end(sluice);
}

Test(bad_input, more_than_there_may_be)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h", "--max-waiting", "10", "--max-id", "200000"),
                                         LIST("--max-body", "2MiB"));
    struct {
        const char *what;
        uint64_t first;
        size_t count;
        long status;
        const char *code;
    } cases[] = {
        {"100,001 ids", 1, 100001, 413, "too_many_ids"},
        {"more than 2 MiB", 1000000000, 200000, 413, "body_too_large"},
        {"an ID above max_id", 199999, 3, 400, "id_out_of_range"},
        {"as many as may wait", 1, 30, 200, NULL},
        {"one more, for the one that was dispatched", 1, 3, 200, NULL},
        {"more than may wait", 1, 4, 429, "overloaded"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *body = ingest_body("LOW", cases[i].first, cases[i].count);
        struct http_response response = sluice_post(sluice, body, NULL);
        if (cases[i].code) {
            expect_problem(cases[i].what, &response, cases[i].status, cases[i].code, NULL);
        } else {
            cr_assert_eq(response.status, cases[i].status, "%s: %s", cases[i].what, response.body);
            const char *id = json_text(response.json, "ingestion_id");
            if (cases[i].count == 30) {
                sluice_wait_status(sluice, id, "triggered");
            }
        }
        http_response_fini(&response);
        free(body);
    }
    sluice_end(sluice);
}

// ---- As large as it may be ----

// What the scheduler has used of the processors: unlike the time it took, it does not depend on what else
// runs.
static int64_t cpu_ns(const struct sluice *sluice)
{
    clockid_t clock;
    struct timespec used;
    cr_assert_eq(clock_getcpuclockid(sluice->part[SCHEDULER].pid, &clock), 0);
    cr_assert_eq(clock_gettime(clock, &used), 0);
    return used.tv_sec * NS_PER_S + used.tv_nsec;
}

// Takes these IDs in, waits until all are done, and gets them back; the processor time that took.
static int64_t cost_of(const struct sluice *sluice, uint64_t first, size_t count)
{
    struct buf expected;
    int64_t before = cpu_ns(sluice);
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", first, count);
    sluice_wait_status(sluice, ingested.id, "completed");
    char *ids = sluice_ids(sluice, ingested.id, 10000);
    int64_t cost = cpu_ns(sluice) - before;
    buf_init(&expected);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_char(&expected, ',');
        }
        buf_u64(&expected, first + i);
    }
    cr_assert_eq(strcmp(ids, expected.data), 0, "the IDs are not those that were sent");
    buf_fini(&expected);
    free(ids);
    return cost;
}

Test(bad_input, a_hundred_thousand_ids_are_none)
{
    const uint64_t largest = UINT64_C(9007199254740991);
    struct sluice *sluice =
        sluice_start(LIST("--rate", "unlimited", "--concurrency", "1000", "--target", "simulate:1ms"), NULL);
    int64_t some = cost_of(sluice, largest - 9999, 10000);
    int64_t all = cost_of(sluice, largest - 99999, 100000);
    // In proportion it is 10; if it grew with the square it would be 100.
    cr_assert(all <= 20 * some, "10,000 IDs took %.3f s of a processor, 100,000 %.3f s",
              (double)some / NS_PER_S, (double)all / NS_PER_S);
    sluice_end(sluice);
}
