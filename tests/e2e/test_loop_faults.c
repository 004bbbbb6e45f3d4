// What the scheduler does when the disk is full or broken, or the clock is set, at a bad moment.
#include "tests/e2e/fault_fixture.h"

#include "common/buf.h"
#include "common/conf.h"
#include "tests/support/http_target.h"

#include <sys/wait.h>

TestSuite(loop_faults, .fini = sluice_cleanup);

#define PING "{\"op\":\"ping\"}"

static void start_with_target(struct scene *scene, struct http_target *target)
{
    cr_assert_not_null(target);
    *scene = scene_start(LIST("--rate", "unlimited", "--target", http_target_url(target)));
    scene_launch(scene);
}

static bool is_put(struct scene *scene, const char *name)
{
    cJSON *reply = worker_ask(scene->worker, "{\"op\":\"queue.put\",\"name\":\"%s\"}", name);
    bool ok = cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok"));
    cJSON_Delete(reply);
    return ok;
}

// Ends it by a fault, and starts it again without.
static void expect_io_end(struct scene *scene)
{
    int code = process_wait(&scene->sluice->part[SCHEDULER]);
    cr_assert_eq(code, EXIT_CODE_IOERR, "it ended with %d", code);
    fault_end(scene);
    sluice_launch(scene->sluice, SCHEDULER);
}

// ---- the clock ----

Test(loop_faults, a_clock_that_is_set_ends_nothing)
{
    char more[128], due_text[WALL_TEXT_SIZE];
    struct wall due;
    struct scene scene = scene_start(LIST("--rate", "unlimited", "--target", "simulate:1ms"));
    scene_launch(&scene);
    fault_begin(&scene, FAULT_CLOCK_SET);
    time_from_now(1500, due_text);
    cr_assert(wall_parse(due_text, &due));
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", due_text);
    struct ingested ingested = queue_ingest(scene.sluice, "default", "HIGH", "[1]", more);
    WAIT_FOR(!fault_lasts(&scene));
    sluice_wait_status(scene.sluice, ingested.id, "completed");
    cr_assert_geq(batch_get(scene.sluice, ingested.id, 0).triggered.ms, due.ms);
    scene_end(&scene);
}

// ---- a full disk ----

// Nobody asks it anything meanwhile: what shows that it goes on is the delivery.
Test(loop_faults, what_came_due_on_a_full_disk_goes_on_by_itself)
{
    char more[128], due_text[WALL_TEXT_SIZE];
    struct http_target *target = http_target_start(0);
    struct scene scene;
    start_with_target(&scene, target);
    time_from_now(1000, due_text);
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", due_text);
    struct ingested ingested = queue_ingest(scene.sluice, "default", "HIGH", "[1]", more);
    fault_begin(&scene, FAULT_FULL);
    WAIT_FOR(scene_logged(&scene, "commit_failed error=STORAGE_FULL"));
    cr_assert_eq(http_target_count(target), 0);
    fault_end(&scene);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S), "it sleeps on");
    sluice_wait_status(scene.sluice, ingested.id, "completed");
    scene_end(&scene);
    http_target_stop(target);
}

Test(loop_faults, what_a_crash_cut_off_is_sent_again_when_there_is_room)
{
    struct http_target *target = http_target_start(0);
    struct scene scene;
    start_with_target(&scene, target);
    http_target_script(target, &(struct http_target_answer){.delay_ns = 30 * NS_PER_S});
    struct ingested ingested = queue_ingest(scene.sluice, "default", "HIGH", "[1]", "");
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    sluice_kill(scene.sluice, SCHEDULER);
    fault_begin(&scene, FAULT_FULL);
    sluice_launch(scene.sluice, SCHEDULER);
    WAIT_FOR(scene_logged(&scene, "commit_failed error=STORAGE_FULL"));
    cr_assert_eq(http_target_count(target), 1);
    fault_end(&scene);
    cr_assert(http_target_wait(target, 2, WAIT_S * NS_PER_S), "it sleeps on");
    sluice_wait_status(scene.sluice, ingested.id, "completed");
    scene_end(&scene);
    http_target_stop(target);
}

// So many failed batches are put back in two turns, of which the second fails.
Test(loop_faults, retries_that_a_turn_could_not_write_are_done_later)
{
    enum { BATCHES = 2500 };
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    queue_put(scene.sluice, "work",
              "\"target\":\"simulate:0s,fail=1\",\"rate\":\"unlimited\",\"batch_size\":1,\"breaker\":0,"
              "\"concurrency\":1000,\"retry\":{\"max_attempts\":1}");
    struct ingested ingested = queue_ingest_range(scene.sluice, "work", "LOW", 1, BATCHES);
    sluice_wait_status(scene.sluice, ingested.id, "failed");
    cr_assert_eq(ingestion_progress(scene.sluice, ingested.id, "failed"), BATCHES);
    queue_put(scene.sluice, "work", "\"target\":\"simulate:0s\"");
    queue_do(scene.sluice, "work", "pause");
    fault_begin(&scene, FAULT_FULL_AFTER_A_COMMIT);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"queue.retry\",\"name\":\"work\"}"));
    WAIT_FOR(scene_logged(&scene, "commit_failed error=STORAGE_FULL"));
    fault_end(&scene);
    WAIT_FOR(ingestion_progress(scene.sluice, ingested.id, "failed") == 0);
    WAIT_FOR(is_put(&scene, "work"));
    queue_do(scene.sluice, "work", "resume");
    sluice_wait_status(scene.sluice, ingested.id, "completed");
    scene_end(&scene);
}

Test(loop_faults, an_operation_is_logged_when_it_is_on_disk)
{
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    fault_begin(&scene, FAULT_FULL);
    reply_expect_error(worker_ask(scene.worker, "{\"op\":\"queue.put\",\"name\":\"work\"}"),
                       "storage_unavailable");
    WAIT_FOR(scene_logged(&scene, "commit_failed error=STORAGE_FULL"));
    cr_assert(!scene_logged(&scene, "op=queue.put"));
    fault_end(&scene);
    WAIT_FOR(is_put(&scene, "work"));
    cr_assert(scene_logged(&scene, "operation op=queue.put queue=work"));
    queue_do(scene.sluice, "work", "pause");
    cr_assert(scene_logged(&scene, "operation op=queue.pause queue=work"));
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"queue.delete\",\"name\":\"work\"}"));
    cr_assert(scene_logged(&scene, "operation op=queue.delete queue=work"));
    scene_end(&scene);
}

// ---- a broken disk ----

Test(loop_faults, a_broken_disk_ends_it_while_a_worker_waits)
{
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    put_pull(&scene, "jobs", 1, "");
    struct call *waiting =
        worker_call(scene.worker, "{\"op\":\"lease\",\"queue\":\"jobs\",\"wait\":\"20s\"}");
    reply_expect_ok(worker_ask(scene.worker, PING)); // the lease was read before
    fault_begin(&scene, FAULT_IO);
    struct call *ingest =
        worker_call(scene.worker, "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\",\"queue\":\"jobs\","
                                  "\"id\":\"0190163d-8694-739b-aea5-966c26f8ad91\"}");
    expect_io_end(&scene);
    // Either the refusal came through, or the request was sent again to the next scheduler.
    cJSON_Delete(call_end(ingest));
    cJSON *reply =
        worker_ask(scene.worker, "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\",\"queue\":\"jobs\","
                                 "\"id\":\"0190163d-8694-739b-aea5-966c26f8ad91\"}");
    reply_expect_ok(reply);
    struct leased leased = leased_read(call_end(waiting)); // it is sent again by itself
    cr_assert_eq(leased.count, 1);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"%s\"}", leased.id));
    scene_end(&scene);
}

Test(loop_faults, a_turn_that_ends_in_an_io_error_answers_nothing_from_memory)
{
    size_t len;
    struct scene scene = scene_start(NULL);
    scene_launch(&scene);
    fault_begin(&scene, FAULT_IO);
    char *reply = exchange(&scene,
                           "{\"op\":\"queue.put\",\"name\":\"work\",\"target\":\"pull:\"}\n"
                           "{\"op\":\"queue.get\",\"name\":\"work\"}\n"
                           "{\"op\":\"queue.list\"}\n",
                           &len);
    cr_assert_eq(count_of(reply, "storage_unavailable"), 3, "%s", reply);
    free(reply);
    expect_io_end(&scene);
    reply_expect_error(worker_ask(scene.worker, "{\"op\":\"queue.get\",\"name\":\"work\"}"), "unknown_queue");
    scene_end(&scene);
}

static bool has_ended(const struct scene *scene)
{
    siginfo_t info = {.si_pid = 0};
    cr_assert_eq(waitid(P_PID, (id_t)scene->sluice->part[SCHEDULER].pid, &info, WEXITED | WNOHANG | WNOWAIT),
                 0);
    return info.si_pid != 0;
}

// Asks for so much that whichever turn it is has something to answer.
static void ask_until_the_end(struct scene *scene)
{
    enum { CALLS = 4, LINES = 200 };
    struct call *calls[CALLS] = {NULL};
    struct buf lines;
    size_t len;
    buf_init(&lines);
    for (int i = 0; i < LINES; i++) {
        buf_str(&lines, "{\"op\":\"queue.get\",\"name\":\"default\"}\n");
    }
    char *text = buf_take(&lines, &len);
    cr_assert_not_null(text);
    for (size_t i = 0; !has_ended(scene); i = (i + 1) % CALLS) {
        if (calls[i] && call_over(calls[i])) {
            cJSON_Delete(call_end(calls[i]));
            calls[i] = NULL;
        }
        if (!calls[i]) {
            calls[i] = worker_call(scene->worker, "%s", text);
        }
    }
    expect_io_end(scene);
    for (size_t i = 0; i < CALLS; i++) {
        cJSON_Delete(calls[i] ? call_end(calls[i]) : NULL); // it is sent again by itself
    }
    free(text);
}

// Then there is no memory to answer from.
Test(loop_faults, a_disk_that_is_full_and_then_breaks)
{
    struct http_target *target = http_target_start(0);
    struct scene scene;
    start_with_target(&scene, target);
    http_target_script(target, &(struct http_target_answer){.delay_ns = 30 * NS_PER_S});
    struct ingested ingested = queue_ingest(scene.sluice, "default", "HIGH", "[1]", "");
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    sluice_kill(scene.sluice, SCHEDULER);
    fault_begin(&scene, FAULT_FULL);
    sluice_launch(scene.sluice, SCHEDULER);
    WAIT_FOR(scene_logged(&scene, "commit_failed error=STORAGE_FULL"));
    fault_begin(&scene, FAULT_IO);
    ask_until_the_end(&scene);
    sluice_wait_status(scene.sluice, ingested.id, "completed");
    scene_end(&scene);
    http_target_stop(target);
}

// ---- the end ----

Test(loop_faults, an_end_with_a_lease_out_and_a_delivery_that_does_not_end)
{
    struct scene scene = scene_start(LIST("--rate", "unlimited", "--target", "simulate:1h"));
    scene_launch(&scene);
    put_pull(&scene, "jobs", 1, "");
    (void)queue_ingest(scene.sluice, "jobs", "LOW", "[1]", "");
    struct leased leased = leased_read(worker_ask(scene.worker, "{\"op\":\"lease\",\"queue\":\"jobs\"}"));
    cr_assert_eq(leased.count, 1);
    struct ingested endless = queue_ingest(scene.sluice, "default", "LOW", "[1]", "");
    sluice_wait_status(scene.sluice, endless.id, "triggered");
    int code = sluice_stop(scene.sluice, SCHEDULER);
    cr_assert_eq(code, EXIT_CODE_OK, "it ended with %d", code);
    cr_assert(scene_logged(&scene, "abandoned deliveries=1"));
    sluice_set_flags(scene.sluice, SCHEDULER, LIST("--rate", "unlimited", "--target", "simulate:1ms"));
    sluice_launch(scene.sluice, SCHEDULER);
    reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"ack\",\"id\":\"%s\"}", leased.id));
    sluice_wait_status(scene.sluice, endless.id, "completed");
    scene_end(&scene);
}
