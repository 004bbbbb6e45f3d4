// What /status foretells, beside what then happens: through holds, priorities, retries and starts to come.
#include "tests/support/dispatches.h"
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(eta, .fini = sluice_cleanup);

#define INTERVAL_MS INT64_C(200)

struct setup {
    struct http_target *target;
    struct sluice *sluice;
    struct lateness *lateness;
};

// A queue "work" of single IDs, five in a second.
static struct setup setup_start(const char *settings)
{
    struct setup setup = {.target = http_target_start(0)};
    cr_assert_not_null(setup.target);
    setup.sluice = sluice_start(NULL, NULL);
    queue_put(setup.sluice, "work",
              "\"rate\":\"5/s\",\"burst\":1,\"batch_size\":1,\"concurrency\":4,\"target\":\"%s\"%s",
              http_target_url(setup.target), settings);
    // So that a delivery's time was measured and the bucket is not full.
    struct ingested first = queue_ingest_range(setup.sluice, "work", "HIGH", 1, 1);
    sluice_wait_status(setup.sluice, first.id, "completed");
    setup.lateness = lateness_watch();
    return setup;
}

static void setup_end(struct setup *setup)
{
    sluice_end(setup->sluice);
    http_target_stop(setup->target);
}

struct foretold {
    struct ingested of;
    int last; // the index of its last batch
    struct wall eta;
};

static void foretell(const struct setup *setup, struct foretold *foretold)
{
    struct http_response status = sluice_status(setup->sluice, foretold->of.id);
    cr_assert(wall_parse(json_text(status.json, "eta"), &foretold->eta), "%s", status.body);
    http_response_fini(&status);
}

// The lateness of this machine may add to every slot that was waited for; to be early nothing helps.
static void check(struct setup *setup, const struct foretold *foretold, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sluice_wait_status(setup->sluice, foretold[i].of.id, "completed");
    }
    int64_t late_ms = lateness_end(setup->lateness) / NS_PER_MS;
    for (size_t i = 0; i < count; i++) {
        struct batch_seen last = batch_get(setup->sluice, foretold[i].of.id, foretold[i].last);
        int64_t off_ms = last.completed.ms - foretold[i].eta.ms;
        cr_assert(off_ms >= -INTERVAL_MS && off_ms <= INTERVAL_MS + 10 * late_ms,
                  "number %zu was done %lld ms after its eta; the machine is up to %lld ms late", i,
                  (long long)off_ms, (long long)late_ms);
    }
}

Test(eta, through_a_hold)
{
    struct setup setup = setup_start("");
    struct foretold foretold[] = {{.last = 7}, {.last = 2}};
    http_target_script(setup.target, &(struct http_target_answer){.status = 429, .retry_after = "2"});
    foretold[0].of = queue_ingest_range(setup.sluice, "work", "LOW", 1, 8);
    WAIT_FOR(queue_paused_by(setup.sluice, "work", "retry_after"));
    foretold[1].of = queue_ingest_range(setup.sluice, "work", "HIGH", 1, 3);
    foretell(&setup, &foretold[0]);
    foretell(&setup, &foretold[1]);
    check(&setup, foretold, 2);
    setup_end(&setup);
}

Test(eta, with_others_before_it_and_starts_to_come)
{
    char time[WALL_TEXT_SIZE], more[64];
    struct setup setup = setup_start("");
    struct foretold foretold[] = {{.last = 9}, {.last = 4}, {.last = 4}};
    time_from_now(1500, time);
    (void)snprintf(more, sizeof(more), ",\"not_before\":\"%s\"", time);
    foretold[0].of = queue_ingest_range(setup.sluice, "work", "LOW", 1, 10);
    foretold[1].of = queue_ingest_range(setup.sluice, "work", "MEDIUM", 1, 5);
    foretold[2].of = queue_ingest(setup.sluice, "work", "HIGH", "[1,2,3,4,5]", more);
    for (size_t i = 0; i < 3; i++) {
        foretell(&setup, &foretold[i]);
    }
    check(&setup, foretold, 3);
    setup_end(&setup);
}

Test(eta, with_retries_ahead)
{
    struct setup setup = setup_start(",\"retry\":{\"min_backoff\":\"1s\",\"max_backoff\":\"1s\"}");
    struct foretold foretold[] = {{.last = 1}, {.last = 9}};
    http_target_script(setup.target, &(struct http_target_answer){.status = 500});
    http_target_script(setup.target, &(struct http_target_answer){.status = 500});
    foretold[0].of = queue_ingest_range(setup.sluice, "work", "HIGH", 1, 2);
    foretold[1].of = queue_ingest_range(setup.sluice, "work", "LOW", 1, 10);
    WAIT_FOR(queue_figure(setup.sluice, "work", "delayed") == 2);
    foretell(&setup, &foretold[0]);
    foretell(&setup, &foretold[1]);
    check(&setup, foretold, 2);
    setup_end(&setup);
}

// After a kill in the middle the same is foretold, from what is on disk.
Test(eta, after_a_restart)
{
    struct setup setup = setup_start("");
    struct foretold foretold[] = {{.last = 14}};
    foretold[0].of = queue_ingest_range(setup.sluice, "work", "LOW", 1, 15);
    foretell(&setup, &foretold[0]);
    struct wall before = foretold[0].eta;
    sluice_kill(setup.sluice, SCHEDULER);
    sluice_launch(setup.sluice, SCHEDULER);
    foretell(&setup, &foretold[0]);
    cr_assert(foretold[0].eta.ms >= before.ms - INTERVAL_MS, "it went back by %lld ms",
              (long long)(before.ms - foretold[0].eta.ms));
    check(&setup, foretold, 1);
    setup_end(&setup);
}

// ---- position ----

static uint64_t position(const struct setup *setup, const char *id)
{
    struct http_response status = sluice_status(setup->sluice, id);
    uint64_t position = (uint64_t)json_number(status.json, "position");
    http_response_fini(&status);
    return position;
}

// All of one ingestion, at the same time: those that come before its first.
static void check_positions(const char *settings, const char *const *priorities, size_t count)
{
    struct setup setup = setup_start(settings);
    struct ingested ingested[16];
    uint64_t positions[16];
    (void)lateness_end(setup.lateness);
    cr_assert(count <= 16);
    queue_put(setup.sluice, "work", "\"rate\":\"50/s\",\"concurrency\":1");
    queue_do(setup.sluice, "work", "pause");
    for (size_t i = 0; i < count; i++) {
        ingested[i] = queue_ingest_range(setup.sluice, "work", priorities[i], 1, 1 + i % 3);
    }
    ingestion_do(setup.sluice, ingested[2].id, "cancel");
    for (size_t i = 0; i < count; i++) {
        positions[i] = i == 2 ? 0 : position(&setup, ingested[i].id);
    }
    queue_do(setup.sluice, "work", "resume");
    for (size_t i = 0; i < count; i++) {
        sluice_wait_status(setup.sluice, ingested[i].id, i == 2 ? "cancelled" : "completed");
    }
    struct dispatches seen = dispatches_read(setup.target);
    for (size_t i = 0; i < count; i++) {
        size_t at = 1; // after the first of all
        while (at < seen.count && strcmp(seen.list[at].ingestion, ingested[i].id) != 0) {
            at++;
        }
        cr_assert(i == 2 || at - 1 == positions[i], "number %zu was said to be %llu and was %zu", i,
                  (unsigned long long)positions[i], at - 1);
    }
    dispatches_fini(&seen);
    setup_end(&setup);
}

Test(eta, positions_are_those_of_the_dispatches)
{
    check_positions(
        "", LIST("LOW", "HIGH", "HIGH", "MEDIUM", "LOW", "LOW", "HIGH", "MEDIUM", "HIGH", "LOW", "MEDIUM"),
        11);
}

Test(eta, positions_with_an_aging_that_is_far_away)
{
    check_positions(",\"aging\":\"1h\"",
                    LIST("LOW", "MEDIUM", "HIGH", "LOW", "HIGH", "MEDIUM", "LOW", "HIGH"), 8);
}

// What has waited for twice the aging counts as the most urgent, and then goes by acceptance.
Test(eta, positions_of_what_has_aged)
{
    static const char *const priorities[] = {"LOW", "MEDIUM", "HIGH", "LOW"};
    struct setup setup = setup_start(",\"aging\":\"1s\"");
    struct ingested ingested[4];
    (void)lateness_end(setup.lateness);
    queue_do(setup.sluice, "work", "pause");
    for (size_t i = 0; i < 4; i++) {
        if (i == 2) {
            struct mono accepted = mono_now();
            WAIT_FOR(mono_diff(mono_now(), accepted) > 2 * NS_PER_S);
        }
        ingested[i] = queue_ingest_range(setup.sluice, "work", priorities[i], 10 * i + 1, 2);
    }
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(position(&setup, ingested[i].id), 2 * i, "%zu", i);
    }
    queue_do(setup.sluice, "work", "resume");
    sluice_wait_status(setup.sluice, ingested[3].id, "completed");
    struct dispatches seen = dispatches_read(setup.target);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_str_eq(seen.list[1 + 2 * i].ingestion, ingested[i].id);
        cr_assert_str_eq(seen.list[2 + 2 * i].ingestion, ingested[i].id);
    }
    dispatches_fini(&seen);
    setup_end(&setup);
}
