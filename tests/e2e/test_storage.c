// The disk is full for a while.
#include "tests/support/dispatches.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

TestSuite(storage, .fini = sluice_cleanup);

// To the scheduler a limit on the size of files is what a full disk is: nothing can be written.
static void set_room(const struct sluice *sluice, rlim_t room)
{
    struct rlimit limit = {.rlim_cur = room, .rlim_max = RLIM_INFINITY};
    cr_assert_eq(prlimit(sluice->part[SCHEDULER].pid, RLIMIT_FSIZE, &limit, NULL), 0);
}

static void expect_no_room(const struct sluice *sluice)
{
    char retry_after[16];
    struct http_response response = sluice_post(sluice, "{\"ids\":[7],\"priority\":\"HIGH\"}", NULL);
    cr_assert_eq(response.status, 503, "%ld %s", response.status, response.body);
    cr_assert_str_eq(json_text(response.json, "code"), "storage_unavailable");
    cr_assert(http_response_header(&response, "Retry-After", retry_after, sizeof(retry_after)));
    http_response_fini(&response);
}

static bool is_accepted(const struct sluice *sluice, struct ingested *ingested)
{
    struct http_response response = sluice_post(sluice, "{\"ids\":[8],\"priority\":\"HIGH\"}", NULL);
    bool accepted = response.status == 200;
    if (accepted) {
        memcpy(ingested->id, json_text(response.json, "ingestion_id"), ID_TEXT_SIZE);
    }
    http_response_fini(&response);
    return accepted;
}

Test(storage, a_full_disk_stops_what_must_be_written_and_nothing_else)
{
    struct sigaction ignore = {.sa_handler =
                                   SIG_IGN}; // the programs inherit it: a write fails and does not kill
    cr_assert_eq(sigaction(SIGXFSZ, &ignore, NULL), 0);
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(LIST("--rate", "20/s", "--target", http_target_url(target)), NULL);
    http_target_script(target, &(struct http_target_answer){.delay_ns = 2 * NS_PER_S});
    struct ingested before = sluice_ingest_range(sluice, "LOW", 1, 6);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));

    set_room(sluice, 1);
    expect_no_room(sluice);
    wait_ms(3000); // the delivery's outcome has come, and so have many slots
    expect_no_room(sluice);
    struct http_response status = sluice_status(sluice, before.id);
    cr_assert_str_eq(json_text(status.json, "status"), "triggered");
    http_response_fini(&status);
    cr_assert_eq(http_target_count(target), 1, "a dispatch was not on disk before it began");

    set_room(sluice, RLIM_INFINITY);
    struct ingested after;
    WAIT_FOR(is_accepted(sluice, &after));
    sluice_wait_status(sluice, before.id, "completed");
    sluice_wait_status(sluice, after.id, "completed");
    cr_assert_eq(http_target_count(target), 3, "the outcome was not kept: %zu deliveries",
                 http_target_count(target));
    struct http_response list = sluice_get(sluice, "/ingestions");
    cr_assert_eq(cJSON_GetArraySize(json_member(list.json, "ingestions")), 2, "%s", list.body);
    http_response_fini(&list);
    sluice_end(sluice);
    http_target_stop(target);
}

Test(storage, a_start_on_a_full_disk_answers_and_goes_on_when_there_is_room)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    cr_assert_eq(sigaction(SIGXFSZ, &ignore, NULL), 0);
    struct http_target *target = http_target_start(0);
    cr_assert_not_null(target);
    struct sluice *sluice = sluice_start(LIST("--rate", "20/s", "--target", http_target_url(target)), NULL);
    http_target_script(target, &(struct http_target_answer){.delay_ns = 2 * NS_PER_S});
    struct ingested before = sluice_ingest_range(sluice, "LOW", 1, 6);
    cr_assert(http_target_wait(target, 1, WAIT_S * NS_PER_S));
    sluice_kill(sluice, SCHEDULER); // in the middle of a delivery

    struct rlimit own;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &own), 0);
    struct rlimit full = {.rlim_cur = 1, .rlim_max = own.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &full), 0); // the scheduler inherits it
    sluice_launch(sluice, SCHEDULER);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &own), 0);

    struct http_response status = sluice_status(sluice, before.id);
    cr_assert_str_eq(json_text(status.json, "status"), "triggered");
    http_response_fini(&status);
    expect_no_room(sluice);
    wait_ms(1500); // many slots, and several tries
    cr_assert_eq(http_target_count(target), 1, "a dispatch was not on disk before it began");

    set_room(sluice, RLIM_INFINITY);
    struct ingested after;
    WAIT_FOR(is_accepted(sluice, &after));
    sluice_wait_status(sluice, before.id, "completed");
    sluice_wait_status(sluice, after.id, "completed");
    cr_assert_eq(http_target_count(target), 4, "one was cut off and came twice: %zu deliveries",
                 http_target_count(target));
    sluice_end(sluice);
    http_target_stop(target);
}
