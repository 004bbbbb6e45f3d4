// The limits of replies and leases, and what the order of things inside a turn must not change.
#include "tests/e2e/fault_fixture.h"

#include "common/buf.h"
#include "proto/words.h"

TestSuite(loop_limits, .fini = sluice_cleanup);

#define LEASE_ID "0190163d-8694-739b-aea5-966c26f8ad91"

// ---- how much a lease brings ----

enum { LARGE = 60000 }; // IDs in a batch whose reply nearly fills a line

static void ingest_large(struct scene *scene, size_t times)
{
    struct buf line;
    size_t len;
    buf_init(&line);
    buf_str(&line, "{\"op\":\"ingest\",\"queue\":\"jobs\",\"priority\":\"LOW\",\"ids\":[9007199254740991");
    for (int i = 1; i < LARGE; i++) {
        buf_str(&line, ",9007199254740991");
    }
    buf_str(&line, "]}");
    char *text = buf_take(&line, &len);
    cr_assert_not_null(text);
    for (size_t i = 0; i < times; i++) {
        reply_expect_ok(worker_ask(scene->worker, "%s", text));
    }
    free(text);
}

static void expect_one_batch(char *reply, size_t len)
{
    cr_assert_leq(len, REPLY_LINE_MAX);
    cr_assert_eq(count_of(reply, "\"batch_id\""), 1, "%zu batches in %zu bytes",
                 count_of(reply, "\"batch_id\""), len);
    free(reply);
}

static char *lease_many(struct scene *scene, size_t *len)
{
    return exchange(scene, "{\"op\":\"lease\",\"queue\":\"jobs\",\"max\":1000,\"id\":\"" LEASE_ID "\"}", len);
}

Test(loop_limits, a_lease_fits_its_reply_when_batches_were_larger_before)
{
    size_t len;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", LARGE, "");
    ingest_large(&scene, 3);
    queue_put(scene.sluice, "jobs", "\"batch_size\":1");
    char *reply = lease_many(&scene, &len);
    expect_one_batch(reply, len);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"" LEASE_ID "\"}"));
    sluice_kill(scene.sluice, SCHEDULER);
    sluice_launch(scene.sluice, SCHEDULER);
    reply = lease_many(&scene, &len);
    expect_one_batch(reply, len);
    scene_end(&scene);
}

// A queue where nothing waits still has batches that a retry brings back.
Test(loop_limits, a_lease_fits_its_reply_after_a_retry_of_larger_batches)
{
    size_t len;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", LARGE, "");
    ingest_large(&scene, 3);
    for (int i = 0; i < 3; i++) {
        char *reply = lease_many(&scene, &len);
        expect_one_batch(reply, len);
        reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"nack\",\"id\":\"" LEASE_ID "\",\"final\":true}"));
    }
    queue_put(scene.sluice, "jobs", "\"batch_size\":1");
    queue_do(scene.sluice, "jobs", "retry");
    WAIT_FOR(queue_figure(scene.sluice, "jobs", "waiting") == 3);
    char *reply = lease_many(&scene, &len);
    expect_one_batch(reply, len);
    scene_end(&scene);
}

Test(loop_limits, a_lease_that_waits_does_not_wait_for_larger_batches)
{
    size_t len;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", 1, "");
    struct call *waiting =
        worker_call(scene.worker, "{\"op\":\"lease\",\"queue\":\"jobs\",\"max\":1000,\"wait\":\"20s\"}");
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ping\"}")); // the lease was read before
    queue_put(scene.sluice, "jobs", "\"batch_size\":60000");
    queue_do(scene.sluice, "jobs", "pause");
    ingest_large(&scene, 3);
    queue_do(scene.sluice, "jobs", "resume");
    cr_assert_eq(leased_read(call_end(waiting)).count, 0);
    char *reply = lease_many(&scene, &len);
    expect_one_batch(reply, len);
    scene_end(&scene);
}

// ---- how long the replies of a message are ----

static void put_wide_queue(struct scene *scene)
{
    struct buf line;
    size_t len;
    buf_init(&line);
    buf_str(&line, "{\"op\":\"queue.put\",\"name\":\"wide\",\"headers\":{");
    for (unsigned i = 0; i < HEADERS_MAX; i++) {
        buf_printf(&line, "%s\"h%u%0200u\":\"v\"", i > 0 ? "," : "", i, 0u);
    }
    buf_str(&line, "}}");
    char *text = buf_take(&line, &len);
    cr_assert_not_null(text);
    reply_expect_ok(worker_ask(scene->worker, "%s", text));
    free(text);
}

Test(loop_limits, the_replies_of_a_message_stay_under_their_limit)
{
    enum { LINES = 16384 };
    size_t len, text_len;
    struct buf message;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_wide_queue(&scene);
    buf_init(&message);
    for (int i = 0; i < LINES - 1; i++) {
        buf_str(&message, "{\"op\":\"queue.get\",\"name\":\"wide\"}\n");
    }
    buf_str(&message, "{\"op\":\"queue.put\",\"name\":\"wide\",\"concurrency\":77}\n");
    char *text = buf_take(&message, &text_len);
    cr_assert_not_null(text);
    char *reply = exchange(&scene, text, &len);
    cr_assert_leq(len, REPLY_MESSAGE_MAX);
    size_t lines = count_of(reply, "\n") + (len > 0 && reply[len - 1] != '\n');
    cr_assert_eq(lines, LINES, "%zu lines", lines);
    // They are answered after the turn: each shows what the last line changed.
    size_t answered = count_of(reply, "\"concurrency\":77,"), refused = count_of(reply, "\"try_alone\"");
    cr_assert_gt(answered, 0);
    cr_assert_gt(refused, 0);
    cr_assert_eq(answered + refused, LINES - 1, "%zu and %zu", answered, refused);
    cr_assert_eq(count_of(reply, "{\"ok\":true}"), 1);
    cr_assert_eq(queue_figure(scene.sluice, "wide", "concurrency"), 77);
    char *log = file_text(scene.sluice->log[SCHEDULER]);
    size_t puts = count_of(log, "operation op=queue.put queue=wide");
    cr_assert_eq(puts, 2, "an operation that is answered in short is logged, too");
    free(log);
    free(text);
    free(reply);
    scene_end(&scene);
}

Test(loop_limits, a_queue_is_made_and_deleted_in_one_message)
{
    size_t len;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    char *reply = exchange(&scene,
                           "{\"op\":\"queue.put\",\"name\":\"brief\",\"target\":\"pull:\"}\n"
                           "{\"op\":\"queue.pause\",\"name\":\"brief\"}\n"
                           "{\"op\":\"queue.delete\",\"name\":\"brief\"}\n",
                           &len);
    cr_assert_eq(count_of(reply, "{\"ok\":true,\"name\":\"brief\""), 3, "%s", reply);
    cr_assert_eq(count_of(reply, "\"deleted\":true"), 1, "%s", reply);
    free(reply);
    reply_expect_error(worker_ask(scene.worker, "{\"op\":\"queue.get\",\"name\":\"brief\"}"),
                       "unknown_queue");
    scene_end(&scene);
}

// ---- leases ----

static struct call *lease_named(struct scene *scene, const char *queue, const char *wait)
{
    return worker_call(scene->worker,
                       "{\"op\":\"lease\",\"queue\":\"%s\",\"wait\":\"%s\",\"id\":\"" LEASE_ID "\"}", queue,
                       wait);
}

Test(loop_limits, one_lease_id_belongs_to_one_queue)
{
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "one", 1, "");
    put_pull(&scene, "two", 1, "");
    struct call *waiting = lease_named(&scene, "one", "20s");
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ping\"}"));
    reply_expect_error(call_end(lease_named(&scene, "two", "0s")), "invalid_field");
    (void)queue_ingest(scene.sluice, "one", "LOW", "[1]", "");
    (void)queue_ingest(scene.sluice, "two", "LOW", "[2]", "");
    struct leased leased = leased_read(call_end(waiting));
    cr_assert_eq(leased.count, 1);
    cr_assert_str_eq(leased.batches[0].ids, "1");
    reply_expect_error(call_end(lease_named(&scene, "two", "0s")), "invalid_field");
    leased = leased_read(call_end(lease_named(&scene, "one", "0s")));
    cr_assert_eq(leased.count, 1);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"" LEASE_ID "\"}"));
    leased = leased_read(call_end(lease_named(&scene, "two", "0s"))); // now it is free
    cr_assert_eq(leased.count, 1);
    cr_assert_str_eq(leased.batches[0].ids, "2");
    scene_end(&scene);
}

// The ack lies in the inbox when the lease's time comes, since the loop waits for the disk.
Test(loop_limits, an_ack_that_came_in_time_is_heard)
{
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", 1, ",\"lease\":\"2s\"");
    struct ingested ingested = queue_ingest(scene.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = leased_read(call_end(lease_named(&scene, "jobs", "0s")));
    struct mono granted = mono_now();
    cr_assert_eq(leased.count, 1);
    fault_begin(&scene, FAULT_SLOW);
    struct call *stalling = worker_call(scene.worker, "{\"op\":\"queue.put\",\"name\":\"other\"}");
    wait_ms(200); // it is being written; if not, this test says nothing
    struct call *ack = worker_call(scene.worker, "{\"op\":\"ack\",\"id\":\"" LEASE_ID "\"}");
    WAIT_FOR(mono_diff(mono_now(), granted) > 2200 * NS_PER_MS);
    cr_assert(!call_over(ack));
    fault_end(&scene);
    reply_expect_ok(call_end(stalling));
    reply_expect_ok(call_end(ack));
    cr_assert(ingestion_is(scene.sluice, ingested.id, "completed"));
    cr_assert_eq(batch_get(scene.sluice, ingested.id, 0).attempts, 1);
    scene_end(&scene);
}

// A batch starts when its worker is answered: where the commit takes long, that is long after its slot.
Test(loop_limits, a_grant_that_the_disk_held_up_moves_the_next_one)
{
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", 1, "");
    queue_put(scene.sluice, "jobs", "\"rate\":\"1/1s\"");
    (void)queue_ingest(scene.sluice, "jobs", "LOW", "[1,2]", "");
    fault_begin(&scene, FAULT_SLOW);
    struct call *first = lease_named(&scene, "jobs", "20s");
    wait_ms(700); // it is being written; if not, this test says nothing
    struct mono held_up = mono_now();
    fault_end(&scene);
    struct leased leased = leased_read(call_end(first));
    cr_assert_eq(leased.count, 1);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"" LEASE_ID "\"}"));
    leased = leased_read(call_end(lease_named(&scene, "jobs", "20s")));
    int64_t gap = mono_diff(mono_now(), held_up);
    cr_assert_eq(leased.count, 1);
    cr_assert(gap >= NS_PER_S, "%.3f s", (double)gap / NS_PER_S);
    scene_end(&scene);
}

// What was out when the scheduler died took longer than what is left of it after the restart.
Test(loop_limits, a_restart_makes_no_delivery_look_short)
{
    enum { OUT = 16, THEN = 10 };
    struct wall eta;
    size_t len;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", 1, "");
    (void)queue_ingest(scene.sluice, "jobs", "LOW", "[1]", "");
    cr_assert_eq(leased_read(call_end(lease_named(&scene, "jobs", "0s"))).count, 1);
    wait_ms(1500); // so long it takes
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"" LEASE_ID "\"}"));
    (void)queue_ingest_range(scene.sluice, "jobs", "LOW", 1, OUT);
    char *reply = lease_many(&scene, &len);
    cr_assert_eq(count_of(reply, "\"batch_id\""), OUT);
    free(reply);
    sluice_kill(scene.sluice, SCHEDULER);
    sluice_launch(scene.sluice, SCHEDULER);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"" LEASE_ID "\"}"));
    queue_put(scene.sluice, "jobs", "\"concurrency\":1");
    struct wall before = wall_now();
    struct ingested ingested = queue_ingest_range(scene.sluice, "jobs", "LOW", 1, THEN);
    struct http_response status = sluice_status(scene.sluice, ingested.id);
    cr_assert(wall_parse(json_text(status.json, "eta"), &eta), "%s", status.body);
    cr_assert_geq(eta.ms - before.ms, THEN * 1400, "%lld ms", (long long)(eta.ms - before.ms));
    http_response_fini(&status);
    scene_end(&scene);
}
