// A thousand queues, each with a target and a rate of its own: what one of them suffers is its own.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(many_queues, .fini = sluice_cleanup);

enum { QUEUES = 1000, BATCHES = 12 };
#define INTERVAL_NS NS_PER_S

struct town {
    struct sluice *sluice;
    struct http_target *good;
    struct http_target *hanging;
    struct http_target *pressed; // answers 429
    char down[64];               // nobody listens
};

enum { HANGING = 100, PRESSED = 500, DOWN = 900 };

static bool is_good(int queue)
{
    return queue != HANGING && queue != PRESSED && queue != DOWN;
}

static void url_of(const struct town *town, int queue, char url[static 96])
{
    if (queue == HANGING) {
        (void)snprintf(url, 96, "%s", http_target_url(town->hanging));
    } else if (queue == PRESSED) {
        (void)snprintf(url, 96, "%s", http_target_url(town->pressed));
    } else if (queue == DOWN) {
        (void)snprintf(url, 96, "%s", town->down);
    } else {
        (void)snprintf(url, 96, "http://127.0.0.1:%u/q/%d", (unsigned)http_target_port(town->good), queue);
    }
}

static struct town town_start(void)
{
    struct town town = {
        .good = http_target_start(0), .hanging = http_target_start(0), .pressed = http_target_start(0)};
    cr_assert(town.good && town.hanging && town.pressed);
    http_target_set_default(town.hanging, &(struct http_target_answer){.how = HTTP_TARGET_HANG});
    http_target_set_default(town.pressed, &(struct http_target_answer){.status = 429, .retry_after = "2"});
    (void)snprintf(town.down, sizeof(town.down), "http://127.0.0.1:%u/down", (unsigned)free_port());
    town.sluice = sluice_start(NULL, NULL);
    for (int i = 0; i < QUEUES; i++) {
        char name[16], url[96];
        (void)snprintf(name, sizeof(name), "q%d", i);
        url_of(&town, i, url);
        queue_put(town.sluice, name,
                  "\"rate\":\"1/s\",\"batch_size\":1,\"concurrency\":2,\"target\":\"%s\",\"timeout\":\"2m\"",
                  url);
    }
    return town;
}

static void town_end(struct town *town)
{
    sluice_end(town->sluice);
    http_target_stop(town->good);
    http_target_stop(town->hanging);
    http_target_stop(town->pressed);
}

static bool all_done(const struct town *town)
{
    return http_target_count(town->good) >= (size_t)(QUEUES - 3) * BATCHES;
}

// From its first dispatch to its last a queue had that many slots: how many of them it used. One is allowed
// to every queue for where its time begins and ends.
static void check_queue(const struct dispatches *of, const char *name, int64_t slack_ns)
{
    cr_assert_eq(of->count, BATCHES, "%s: %zu", name, of->count);
    int64_t took = mono_diff(of->list[BATCHES - 1].at, of->list[0].at);
    cr_assert(took >= (BATCHES - 1) * INTERVAL_NS - slack_ns, "%s was too fast: %.3f s", name,
              (double)took / NS_PER_S);
}

Test(many_queues, one_that_hangs_one_that_is_down_and_one_that_is_pressed_hold_up_no_other)
{
    struct town town = town_start();
    struct lateness *lateness = lateness_watch();
    for (int i = 0; i < QUEUES; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "q%d", i);
        (void)queue_ingest_range(town.sluice, name, "LOW", 1, is_good(i) ? BATCHES : 100);
    }
    WAIT_FOR(all_done(&town));
    int64_t lateness_ns = lateness_end(lateness);

    struct dispatches seen = dispatches_read(town.good);
    cr_assert_eq(seen.count, (QUEUES - 3) * BATCHES);
    double slots = 0, used = 0, worst = 1;
    for (int i = 0; i < QUEUES; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "q%d", i);
        if (!is_good(i)) {
            continue;
        }
        struct dispatches of = dispatches_of(&seen, name);
        check_queue(&of, name, 2 * (2 * NS_PER_MS + lateness_ns));
        double of_slots = (double)mono_diff(of.list[BATCHES - 1].at, of.list[0].at) / (double)INTERVAL_NS;
        slots += of_slots;
        used += BATCHES - 1;
        worst = (BATCHES - 1) / of_slots < worst ? (BATCHES - 1) / of_slots : worst;
        dispatches_fini(&of);
    }
    fprintf(stderr,
            "%d queues used %.2f %% of their rates, the worst of them %.2f %%; the machine is up to %.3f ms "
            "late\n",
            QUEUES - 3, 100 * used / slots, 100 * worst, (double)lateness_ns / NS_PER_MS);
    double machine = (double)lateness_ns / (double)INTERVAL_NS; // each slot may have suffered it
    cr_assert(used >= slots * (0.99 - machine), "%.2f of %.2f slots", used, slots);
    dispatches_fini(&seen);

    cr_assert_eq(queue_figure(town.sluice, "q100", "in_flight"), 2);
    cr_assert_eq(http_target_count(town.hanging), 2);
    cr_assert(queue_paused_by(town.sluice, "q500", "retry_after"));
    cr_assert(http_target_count(town.pressed) >= 2);
    cr_assert_eq(queue_figure(town.sluice, "q900", "completed"), 0);
    cr_assert(queue_figure(town.sluice, "q900", "dispatched") >= 2);
    sluice_kill(town.sluice, SCHEDULER); // it would wait for what hangs
    town_end(&town);
}

// What a thousand queues that have nothing to do cost a busy one is not seen; that they are all there after a
// restart is.
Test(many_queues, all_are_listed_before_and_after_a_restart)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (int i = 0; i < QUEUES; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "q%03d", i);
        queue_put(sluice, name, "\"rate\":\"%d/s\",\"target\":\"simulate:1ms\"", i + 1);
    }
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    char cursor[QUEUE_NAME_SIZE] = "";
    int count = 0;
    for (bool more = true; more;) {
        struct http_response page =
            sluice_get(sluice, "/queues?limit=300%s%s", cursor[0] ? "&cursor=" : "", cursor);
        const cJSON *queue, *next = json_member(page.json, "next_cursor");
        cr_assert_eq(page.status, 200, "%s", page.body);
        cJSON_ArrayForEach(queue, json_member(page.json, "queues"))
        {
            char rate[RATE_TEXT_SIZE];
            int number = 0;
            if (strcmp(json_text(queue, "name"), "default") == 0) {
                continue;
            }
            number = (int)strtol(json_text(queue, "name") + 1, NULL, 10);
            cr_assert_eq(number, count++);
            (void)snprintf(rate, sizeof(rate), "%d/s", number + 1);
            cr_assert_str_eq(json_text(queue, "rate"), rate);
        }
        more = cJSON_IsString(next);
        (void)snprintf(cursor, sizeof(cursor), "%s", more ? next->valuestring : "");
        http_response_fini(&page);
    }
    cr_assert_eq(count, QUEUES);
    sluice_end(sluice);
}
