// Workers that fetch their batches: over NNG, and one in the shell.
#include "tests/support/metrics_text.h"
#include "tests/support/queues.h"
#include "tests/support/wait.h"
#include "tests/support/worker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(pull, .fini = sluice_cleanup);

#define LEASE "{\"op\":\"lease\",\"queue\":\"jobs\""
#define LEASE_ID "0190163d-8694-739b-aea5-966c26f8ad9"

struct setup {
    struct sluice *sluice;
    struct worker *worker;
};

// A pull queue "jobs", unlimited unless these further settings say otherwise.
static struct setup setup_start(const char *settings)
{
    struct setup setup = {.sluice = sluice_start(NULL, NULL)};
    queue_put(setup.sluice, "jobs",
              "\"target\":\"pull:\",\"rate\":\"unlimited\",\"batch_size\":1,\"concurrency\":100");
    queue_put(setup.sluice, "jobs", "%s", settings);
    setup.worker = worker_new(setup.sluice);
    return setup;
}

static void setup_end(struct setup *setup)
{
    worker_free(setup->worker);
    sluice_end(setup->sluice);
}

static struct leased lease(struct setup *setup, const char *more)
{
    return leased_read(worker_ask(setup->worker, LEASE "%s}", more));
}

static void settle(struct setup *setup, const char *op, const char *id, const char *more)
{
    reply_expect_ok(worker_ask(setup->worker, "{\"op\":\"%s\",\"id\":\"%s\"%s}", op, id, more));
}

static void expect_lost(struct setup *setup, const char *op, const char *id, const char *more)
{
    reply_expect_error(worker_ask(setup->worker, "{\"op\":\"%s\",\"id\":\"%s\"%s}", op, id, more),
                       "lease_lost");
}

// ---- lease and ack ----

Test(pull, a_batch_is_leased_and_acked)
{
    struct setup setup = setup_start("\"batch_size\":3");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "HIGH", "[5,6,7]", "");
    struct leased leased = lease(&setup, "");
    cr_assert_eq(leased.count, 1);
    cr_assert_str_eq(leased.batches[0].ids, "5,6,7");
    cr_assert_str_eq(leased.batches[0].ingestion, ingested.id);
    cr_assert_eq(leased.batches[0].attempt, 1);
    int64_t away_ms = leased.batches[0].deadline.ms - wall_now().ms;
    cr_assert(away_ms > 0 && away_ms <= 60100, "%lld ms", (long long)away_ms);
    struct batch_seen batch = batch_get(setup.sluice, ingested.id, 0);
    cr_assert_str_eq(batch.id, leased.batches[0].id);
    cr_assert_str_eq(batch.status, "triggered");
    cr_assert_eq(queue_figure(setup.sluice, "jobs", "in_flight"), 1);
    settle(&setup, "ack", leased.id, "");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    expect_lost(&setup, "ack", leased.id, ""); // there is nothing left of it
    expect_lost(&setup, "nack", leased.id, "");
    expect_lost(&setup, "extend", leased.id, "");
    setup_end(&setup);
}

Test(pull, several_batches_are_settled_together_or_one_by_one)
{
    char more[128];
    struct setup setup = setup_start("");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1,2,3,4,5]", "");
    struct leased leased = lease(&setup, ",\"max\":4");
    cr_assert_eq(leased.count, 4);
    for (size_t i = 0; i < 4; i++) {
        char expected[2] = {(char)('1' + i), '\0'};
        cr_assert_str_eq(leased.batches[i].ids, expected);
    }
    (void)snprintf(more, sizeof(more), ",\"batch_id\":\"%s\"", leased.batches[1].id);
    settle(&setup, "ack", leased.id, more);
    cr_assert_str_eq(batch_get(setup.sluice, ingested.id, 1).status, "completed");
    cr_assert_str_eq(batch_get(setup.sluice, ingested.id, 0).status, "triggered");
    expect_lost(&setup, "ack", leased.id, more);
    settle(&setup, "ack", leased.id, "");
    cr_assert_eq(ingestion_progress(setup.sluice, ingested.id, "completed"), 4);
    leased = lease(&setup, ",\"max\":4");
    cr_assert_eq(leased.count, 1);
    settle(&setup, "ack", leased.id, "");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    setup_end(&setup);
}

Test(pull, a_lease_without_work_waits_as_long_as_it_says)
{
    struct setup setup = setup_start("");
    struct mono before = mono_now();
    struct leased leased = lease(&setup, ",\"wait\":\"0s\"");
    cr_assert_eq(leased.count, 0);
    leased = lease(&setup, ",\"wait\":\"300ms\"");
    cr_assert_eq(leased.count, 0);
    cr_assert(mono_diff(mono_now(), before) >= 300 * NS_PER_MS);
    struct call *waiting = worker_call(setup.worker, LEASE "}");
    cJSON *ping = worker_ask(setup.worker, "{\"op\":\"ping\"}"); // others are read meanwhile
    reply_expect_ok(ping);
    cr_assert(!call_over(waiting));
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[9]", "");
    leased = leased_read(call_end(waiting));
    cr_assert_eq(leased.count, 1);
    settle(&setup, "ack", leased.id, "");
    setup_end(&setup);
}

Test(pull, leases_are_granted_as_the_rate_allows)
{
    struct setup setup = setup_start("\"rate\":\"2/s\"");
    struct mono granted[4];
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[1,2,3,4]", "");
    for (size_t i = 0; i < 4; i++) {
        struct leased leased = lease(&setup, ",\"max\":4");
        granted[i] = mono_now();
        cr_assert_eq(leased.count, 1);
        settle(&setup, "ack", leased.id, "");
    }
    // The reply of one may be seen late, of the next in time.
    int64_t took = mono_diff(granted[3], granted[0]);
    cr_assert(took >= 1000 * NS_PER_MS, "%.3f s", (double)took / NS_PER_S);
    setup_end(&setup);
}

Test(pull, no_more_are_out_than_may_be)
{
    struct setup setup = setup_start("\"concurrency\":2");
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[1,2,3]", "");
    struct leased leased = lease(&setup, ",\"max\":8");
    cr_assert_eq(leased.count, 2);
    cr_assert_eq(lease(&setup, ",\"wait\":\"200ms\"").count, 0);
    settle(&setup, "ack", leased.id, "");
    leased = lease(&setup, "");
    cr_assert_eq(leased.count, 1);
    settle(&setup, "ack", leased.id, "");
    setup_end(&setup);
}

Test(pull, first_come_first_served_and_the_most_urgent_first)
{
    enum { WAITERS = 3 };
    static const char *const ids[WAITERS] = {"30", "20", "10"};
    struct setup setup = setup_start("");
    struct call *waiting[WAITERS];
    for (size_t i = 0; i < WAITERS; i++) {
        waiting[i] = worker_call(setup.worker, LEASE ",\"wait\":\"20s\"}");
        reply_expect_ok(worker_ask(setup.worker, "{\"op\":\"ping\"}")); // it was read before the next is sent
    }
    queue_do(setup.sluice, "jobs", "pause");
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[10]", "");
    (void)queue_ingest(setup.sluice, "jobs", "MEDIUM", "[20]", "");
    (void)queue_ingest(setup.sluice, "jobs", "HIGH", "[30]", "");
    queue_do(setup.sluice, "jobs", "resume");
    for (size_t i = 0; i < WAITERS; i++) {
        struct leased leased = leased_read(call_end(waiting[i]));
        cr_assert_eq(leased.count, 1);
        cr_assert_str_eq(leased.batches[0].ids, ids[i]);
        settle(&setup, "ack", leased.id, "");
    }
    setup_end(&setup);
}

// ---- a lease that is repeated ----

Test(pull, a_repeat_with_the_same_id_finds_its_grant)
{
    struct setup setup = setup_start("");
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[1,2]", "");
    struct leased first = lease(&setup, ",\"id\":\"" LEASE_ID "1\"");
    struct leased again = lease(&setup, ",\"id\":\"" LEASE_ID "1\"");
    cr_assert_str_eq(first.id, LEASE_ID "1");
    cr_assert_eq(again.count, 1);
    cr_assert_str_eq(first.batches[0].id, again.batches[0].id);
    cr_assert_str_eq(first.batches[0].ids, again.batches[0].ids);
    cr_assert_eq(again.batches[0].attempt, 1);
    struct leased other = lease(&setup, ",\"id\":\"" LEASE_ID "2\"");
    cr_assert_str_eq(other.batches[0].ids, "2");
    settle(&setup, "ack", first.id, "");
    settle(&setup, "ack", other.id, "");
    setup_end(&setup);
}

Test(pull, a_repeat_takes_the_place_of_the_one_that_waits)
{
    struct setup setup = setup_start("");
    struct call *first = worker_call(setup.worker, LEASE ",\"id\":\"" LEASE_ID "1\",\"wait\":\"20s\"}");
    reply_expect_ok(worker_ask(setup.worker, "{\"op\":\"ping\"}"));
    struct call *again = worker_call(setup.worker, LEASE ",\"id\":\"" LEASE_ID "1\",\"wait\":\"20s\"}");
    cr_assert_eq(leased_read(call_end(first)).count, 0);
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = leased_read(call_end(again));
    cr_assert_eq(leased.count, 1);
    settle(&setup, "ack", leased.id, "");
    setup_end(&setup);
}

// ---- nack, extend, and time that runs out ----

Test(pull, nack_with_a_delay_and_for_good)
{
    struct setup setup = setup_start("");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = lease(&setup, "");
    settle(&setup, "nack", leased.id, ",\"error\":\"not \\\"today\\\"\",\"delay\":\"700ms\"");
    struct mono nacked = mono_now();
    struct batch_seen batch = batch_get(setup.sluice, ingested.id, 0);
    cr_assert_str_eq(batch.status, "triggered");
    cr_assert_str_eq(batch.error, "not \"today\"");
    cr_assert_eq(queue_figure(setup.sluice, "jobs", "delayed"), 1);
    leased = lease(&setup, "");
    int64_t took = mono_diff(mono_now(), nacked);
    cr_assert(took >= 600 * NS_PER_MS, "%.3f ms", (double)took / NS_PER_MS);
    cr_assert_eq(leased.batches[0].attempt, 2);
    settle(&setup, "nack", leased.id, ",\"delay\":\"0s\"");
    leased = lease(&setup, "");
    cr_assert_eq(leased.batches[0].attempt, 3);
    settle(&setup, "nack", leased.id, ",\"error\":\"never\",\"final\":true");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "failed"));
    cr_assert_str_eq(batch_get(setup.sluice, ingested.id, 0).error, "never");
    setup_end(&setup);
}

Test(pull, nack_without_a_delay_backs_off_and_attempts_are_counted)
{
    struct setup setup =
        setup_start("\"retry\":{\"max_attempts\":3,\"min_backoff\":\"50ms\",\"max_backoff\":\"60ms\"}");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    for (int i = 1; i <= 3; i++) {
        struct leased leased = lease(&setup, "");
        cr_assert_eq(leased.count, 1);
        cr_assert_eq(leased.batches[0].attempt, i);
        settle(&setup, "nack", leased.id, "");
    }
    cr_assert(ingestion_is(setup.sluice, ingested.id, "failed"));
    setup_end(&setup);
}

Test(pull, a_lease_that_runs_out_goes_back_and_counts_an_attempt)
{
    struct setup setup = setup_start("\"lease\":\"1s\",\"retry\":{\"max_attempts\":2}");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased lost = lease(&setup, "");
    struct mono leased_at = mono_now();
    struct leased leased = lease(&setup, ""); // it waits for the end of the other
    cr_assert(mono_diff(mono_now(), leased_at) >= 800 * NS_PER_MS);
    cr_assert_str_eq(leased.batches[0].id, lost.batches[0].id);
    cr_assert_eq(leased.batches[0].attempt, 2);
    expect_lost(&setup, "ack", lost.id, "");
    expect_lost(&setup, "extend", lost.id, "");
    sluice_wait_status(setup.sluice, ingested.id, "failed"); // this one runs out as well
    cr_assert_eq(batch_get(setup.sluice, ingested.id, 0).attempts, 2);
    cr_assert_not_null(strstr(batch_get(setup.sluice, ingested.id, 0).error, "lease"));
    setup_end(&setup);
}

Test(pull, a_lease_that_is_extended_stays)
{
    struct setup setup = setup_start("\"lease\":\"1s\"");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = lease(&setup, "");
    cJSON *reply = worker_ask(setup.worker, "{\"op\":\"extend\",\"id\":\"%s\",\"lease\":\"1h\"}", leased.id);
    struct wall deadline;
    cr_assert(wall_parse(json_text(reply, "deadline"), &deadline));
    int64_t away_ms = deadline.ms - wall_now().ms;
    cr_assert(away_ms > 3500000 && away_ms <= 3600100, "%lld ms", (long long)away_ms);
    reply_expect_ok(reply);
    cr_assert_eq(lease(&setup, ",\"wait\":\"1500ms\"").count, 0); // the old deadline passes
    sluice_kill(setup.sluice, SCHEDULER);                         // the new one is durable
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert_eq(lease(&setup, ",\"wait\":\"300ms\"").count, 0);
    settle(&setup, "ack", leased.id, "");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    cr_assert_eq(batch_get(setup.sluice, ingested.id, 0).attempts, 1);
    setup_end(&setup);
}

// ---- deaths ----

Test(pull, a_lease_outlives_a_kill_of_the_scheduler)
{
    struct setup setup = setup_start("\"lease\":\"3s\"");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1,2]", "");
    struct leased kept = lease(&setup, ",\"id\":\"" LEASE_ID "1\""), lost = lease(&setup, "");
    struct mono leased_at = mono_now();
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    cr_assert_eq(queue_figure(setup.sluice, "jobs", "in_flight"), 2);
    cr_assert(!batch_get(setup.sluice, ingested.id, 0).interrupted);
    struct leased again = lease(&setup, ",\"id\":\"" LEASE_ID "1\"");
    cr_assert_eq(again.count, 1);
    cr_assert_str_eq(again.batches[0].id, kept.batches[0].id);
    settle(&setup, "ack", kept.id, "");
    cr_assert_str_eq(batch_get(setup.sluice, ingested.id, 0).status, "completed");
    // The other one ends when it would have ended.
    struct leased leased = lease(&setup, "");
    cr_assert(mono_diff(mono_now(), leased_at) >= 2500 * NS_PER_MS, "too early");
    cr_assert_str_eq(leased.batches[0].id, lost.batches[0].id);
    cr_assert_eq(leased.batches[0].attempt, 2);
    expect_lost(&setup, "ack", lost.id, "");
    settle(&setup, "ack", leased.id, "");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    setup_end(&setup);
}

Test(pull, a_lease_whose_time_is_up_while_the_scheduler_is_down)
{
    struct setup setup = setup_start("\"lease\":\"1s\"");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased lost = lease(&setup, "");
    sluice_kill(setup.sluice, SCHEDULER);
    struct mono killed = mono_now();
    WAIT_FOR(mono_diff(mono_now(), killed) > 1100 * NS_PER_MS);
    sluice_launch(setup.sluice, SCHEDULER);
    struct leased leased = lease(&setup, "");
    cr_assert_eq(leased.count, 1);
    cr_assert_eq(leased.batches[0].attempt, 2);
    expect_lost(&setup, "ack", lost.id, "");
    settle(&setup, "ack", leased.id, "");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    cr_assert(!batch_get(setup.sluice, ingested.id, 0).interrupted);
    setup_end(&setup);
}

Test(pull, a_worker_that_waits_sees_no_restart)
{
    struct setup setup = setup_start("");
    struct call *waiting = worker_call(setup.worker, LEASE ",\"id\":\"" LEASE_ID "1\",\"wait\":\"20s\"}");
    reply_expect_ok(worker_ask(setup.worker, "{\"op\":\"ping\"}"));
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    (void)queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = leased_read(call_end(waiting));
    cr_assert_eq(leased.count, 1);
    settle(&setup, "ack", leased.id, "");
    setup_end(&setup);
}

// A lease outlives the scheduler: it is not waited for. Who waits is answered.
Test(pull, an_orderly_end_waits_for_no_worker)
{
    struct setup setup = setup_start("");
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = lease(&setup, "");
    struct call *waiting = worker_call(setup.worker, LEASE ",\"wait\":\"20s\"}");
    reply_expect_ok(worker_ask(setup.worker, "{\"op\":\"ping\"}"));
    struct mono before = mono_now();
    cr_assert_eq(sluice_stop(setup.sluice, SCHEDULER), 0);
    cr_assert(mono_diff(mono_now(), before) < 9 * NS_PER_S, "it waited");
    cr_assert_eq(leased_read(call_end(waiting)).count, 0);
    sluice_launch(setup.sluice, SCHEDULER);
    settle(&setup, "ack", leased.id, "");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    setup_end(&setup);
}

static struct process nngcat(const struct sluice *sluice, const char *line, const char *output)
{
    char *log = sluice_path(sluice, "nngcat.log");
    struct process process = process_start(&(struct process_plan){
        .program = "/usr/bin/nngcat",
        .arguments = LIST("--req", "--dial", sluice->ipc, "--recv-timeout", "60", "--raw", "--data", line),
        .output = output,
        .log = log});
    free(log);
    return process;
}

static double leases_waiting(const struct sluice *sluice)
{
    struct http_response response = sluice_get(sluice, "/metrics");
    cr_assert_eq(response.status, 200);
    double waiting = metrics_value(response.body, "sluice_leases_waiting");
    http_response_fini(&response);
    return waiting;
}

Test(pull, a_worker_that_dies_while_it_waits_loses_nothing)
{
    enum { DEAD = 3 };
    struct setup setup = setup_start("");
    for (int i = 0; i < DEAD; i++) {
        struct process dying = nngcat(setup.sluice, LEASE ",\"wait\":\"20s\"}", NULL);
        WAIT_FOR(leases_waiting(setup.sluice) == 1);
        (void)process_end(&dying, SIGKILL);
        // Until its end is known it may be given a batch, which then is back when the lease runs out.
        WAIT_FOR(leases_waiting(setup.sluice) == 0);
    }
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1,2]", "");
    struct leased leased = lease(&setup, ",\"max\":2");
    cr_assert_geq(leased.count, 1);
    cr_assert_str_eq(leased.batches[0].ids, "1");
    cr_assert_eq(leased.batches[0].attempt, 1);
    settle(&setup, "ack", leased.id, "");
    if (leased.count == 1) {
        leased = lease(&setup, "");
        cr_assert_str_eq(leased.batches[0].ids, "2");
        cr_assert_eq(leased.batches[0].attempt, 1);
        settle(&setup, "ack", leased.id, "");
    }
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    setup_end(&setup);
}

// ---- in another language ----

Test(pull, a_worker_in_the_shell)
{
    static const char script[] =
        "#!/bin/bash\n"
        "ask() { nngcat --req --recv-timeout 60 --dial \"$1\" --raw --data \"$2\"; }\n"
        "for n in 1 2 3; do\n"
        "  lease=$(ask \"$1\" '{\"op\":\"lease\",\"queue\":\"jobs\",\"wait\":\"20s\"}')\n"
        "  [[ $lease =~ '\"lease_id\":\"'([^\\\"]*) ]] || exit 1\n"
        "  id=${BASH_REMATCH[1]}\n"
        "  [[ $lease =~ '\"ids\":['([0-9,]*) ]] || exit 2\n"
        "  echo \"${BASH_REMATCH[1]}\"\n"
        "  ask \"$1\" \"{\\\"op\\\":\\\"ack\\\",\\\"id\\\":\\\"$id\\\"}\" | grep -q '\"ok\":true' || exit 3\n"
        "done\n";
    struct setup setup = setup_start("\"batch_size\":2,\"rate\":\"10/s\"");
    char *path = sluice_path(setup.sluice, "worker.sh"), *output = sluice_path(setup.sluice, "output"),
         *log = sluice_path(setup.sluice, "worker.log");
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs(script, file) >= 0 && fclose(file) == 0);
    struct process worker = process_start(&(struct process_plan){
        .program = "/bin/bash", .arguments = LIST(path, setup.sluice->ipc), .output = output, .log = log});
    struct ingested ingested = queue_ingest(setup.sluice, "jobs", "LOW", "[1,2,3,4,5]", "");
    int code = process_wait(&worker);
    cr_assert_eq(code, 0, "it ended with %d", code);
    char *text = file_text(output);
    cr_assert_str_eq(text, "1,2\n3,4\n5\n");
    cr_assert(ingestion_is(setup.sluice, ingested.id, "completed"));
    free(text);
    free(path);
    free(output);
    free(log);
    setup_end(&setup);
}
