// What is refused to workers, and what becomes of those that wait when their queue changes.
#include "tests/support/queues.h"
#include "tests/support/worker.h"

#include <criterion/criterion.h>

TestSuite(pull_refused, .fini = sluice_cleanup);

#define ID "0190163d-8694-739b-aea5-966c26f8ad91"
#define LEASE "{\"op\":\"lease\",\"queue\":\"jobs\",\"wait\":\"20s\"}"

Test(pull_refused, by_name)
{
    static const struct {
        const char *line, *code;
    } cases[] = {
        {"{\"op\":\"lease\",\"queue\":\"other\"}", "unknown_queue"},
        {"{\"op\":\"lease\"}", "invalid_field"}, // the target of default is none
        {"{\"op\":\"lease\",\"queue\":\"jobs\",\"wait\":\"21s\"}", "invalid_field"},
        {"{\"op\":\"lease\",\"queue\":\"jobs\",\"wait\":5}", "invalid_field"},
        {"{\"op\":\"lease\",\"queue\":\"jobs\",\"max\":0}", "invalid_field"},
        {"{\"op\":\"lease\",\"queue\":\"jobs\",\"id\":\"1\"}", "invalid_field"},
        {"{\"op\":\"lease\",\"queue\":\"jobs\",\"batch_id\":\"" ID "\"}", "invalid_field"},
        {"{\"op\":\"ack\"}", "invalid_field"},
        {"{\"op\":\"ack\",\"id\":\"" ID "\"}", "lease_lost"},
        {"{\"op\":\"ack\",\"id\":\"" ID "\",\"error\":\"x\"}", "invalid_field"},
        {"{\"op\":\"nack\",\"id\":\"" ID "\"}", "lease_lost"},
        {"{\"op\":\"nack\",\"id\":\"" ID "\",\"delay\":\"8d\"}", "invalid_field"},
        {"{\"op\":\"nack\",\"id\":\"" ID "\",\"final\":1}", "invalid_field"},
        {"{\"op\":\"extend\",\"id\":\"" ID "\"}", "lease_lost"},
        {"{\"op\":\"extend\",\"id\":\"" ID "\",\"lease\":\"1ms\"}", "invalid_field"},
    };
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "jobs", "\"target\":\"pull:\"");
    struct worker *worker = worker_new(sluice);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        reply_expect_error(worker_ask(worker, "%s", cases[i].line), cases[i].code);
    }
    // Beside other lines a lease would hold them up.
    cJSON *reply = worker_ask(worker, LEASE "\n" LEASE);
    reply_expect_error(reply, "bad_request");
    worker_free(worker);
    sluice_end(sluice);
}

Test(pull_refused, who_waits_when_the_queue_goes_or_changes_is_answered)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "jobs", "\"target\":\"pull:\"");
    struct worker *worker = worker_new(sluice);
    struct call *waiting = worker_call(worker, LEASE);
    reply_expect_ok(worker_ask(worker, "{\"op\":\"ping\"}"));
    queue_put(sluice, "jobs", "\"target\":\"simulate:1ms\"");
    cr_assert_eq(leased_read(call_end(waiting)).count, 0);
    queue_put(sluice, "jobs", "\"target\":\"pull:\"");
    waiting = worker_call(worker, LEASE);
    reply_expect_ok(worker_ask(worker, "{\"op\":\"ping\"}"));
    struct http_response response = ask(sluice, "DELETE", NULL, "/queues/jobs");
    cr_assert_eq(response.status, 200, "%s", response.body);
    http_response_fini(&response);
    cr_assert_eq(leased_read(call_end(waiting)).count, 0);
    worker_free(worker);
    sluice_end(sluice);
}

// A lease that is out when the target changes stays its worker's.
Test(pull_refused, a_batch_that_is_out_when_the_target_changes_is_settled_by_its_worker)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "jobs", "\"target\":\"pull:\",\"rate\":\"unlimited\",\"batch_size\":1");
    struct worker *worker = worker_new(sluice);
    struct ingested ingested = queue_ingest(sluice, "jobs", "LOW", "[1,2]", "");
    struct leased leased = leased_read(worker_ask(worker, LEASE));
    queue_put(sluice, "jobs", "\"target\":\"simulate:1ms\"");
    reply_expect_ok(worker_ask(worker, "{\"op\":\"ack\",\"id\":\"%s\"}", leased.id));
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(batch_get(sluice, ingested.id, 0).attempts, 1);
    worker_free(worker);
    sluice_end(sluice);
}

// As many may wait as there are contexts kept for them, and the others are refused at once: what else is
// asked is answered all the time.
Test(pull_refused, many_that_wait_keep_nothing_else_from_being_read)
{
    enum { WAITERS = 1500 };
    struct sluice *sluice = sluice_start(NULL, NULL);
    queue_put(sluice, "jobs", "\"target\":\"pull:\"");
    struct worker *worker = worker_new(sluice), *other = worker_new(sluice);
    struct call *waiting[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        waiting[i] = worker_call(worker, LEASE);
    }
    reply_expect_ok(worker_ask(other, "{\"op\":\"ping\"}"));
    struct ingested ingested = sluice_ingest_range(sluice, "HIGH", 1, 1);
    cr_assert_eq(queue_figure(sluice, "jobs", "in_flight"), 0);
    ingestion_do(sluice, ingested.id, "cancel");
    worker_free(worker); // all that wait are dropped
    for (int i = 0; i < WAITERS; i++) {
        cJSON_Delete(call_end(waiting[i]));
    }
    // Nothing is left of them: what comes now goes to who asks now.
    (void)queue_ingest(sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = leased_read(worker_ask(other, LEASE));
    cr_assert_eq(leased.count, 1);
    cr_assert_eq(leased.batches[0].attempt, 1);
    worker_free(other);
    sluice_end(sluice);
}
