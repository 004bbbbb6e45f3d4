#include "tests/crash/round.h"

#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>

#define CLIENTS 8
#define WORKERS 2
#define PAUSE_MS 25
#define CALLS_AHEAD 40 // so many calls of the write path from now it dies at the latest

#define FAST_RATE ((struct rate){200, NS_PER_S})
#define SLOW_RATE ((struct rate){4, NS_PER_S})

static uint64_t pick(struct round *round, uint64_t n)
{
    return random_below(&round->random, n);
}

// ---- the beginning ----

#define RETRY                                                                                                \
    "\"breaker\":0,\"retry\":{\"max_attempts\":3,\"min_backoff\":\"20ms\",\"max_backoff\":\"100ms\"}"

static void make_queues(const struct round *round)
{
    const struct sluice *sluice = round->sluice;
    const char *url = http_target_url(round->target);
    const char *timeout = round->plan.delivery_timeout ? round->plan.delivery_timeout : "30s";
    queue_put(sluice, "fast",
              RETRY ",\"rate\":\"200/s\",\"burst\":1,\"concurrency\":4,\"batch_size\":%u,\"target\":\"%s\","
                    "\"timeout\":\"%s\"",
              load_batch_sizes[QUEUE_FAST], url, timeout);
    queue_put(sluice, "slow",
              RETRY ",\"rate\":\"4/s\",\"burst\":1,\"batch_size\":%u,\"target\":\"%s\",\"timeout\":\"%s\"",
              load_batch_sizes[QUEUE_SLOW], url, timeout);
    queue_put(sluice, "kept",
              RETRY ",\"rate\":\"200/s\",\"burst\":1,\"batch_size\":%u,\"target\":\"%s\",\"timeout\":\"%s\"",
              load_batch_sizes[QUEUE_KEPT], url, timeout);
    queue_do(sluice, "kept", "pause");
    queue_put(sluice, "big",
              "\"rate\":\"unlimited\",\"concurrency\":8,\"batch_size\":%u,\"target\":\"simulate:2ms\"",
              load_batch_sizes[QUEUE_BIG]);
    queue_put(
        sluice, "jobs",
        RETRY
        ",\"rate\":\"200/s\",\"concurrency\":50,\"lease\":\"1s\",\"batch_size\":%u,\"target\":\"pull:\"",
        load_batch_sizes[QUEUE_JOBS]);
}

// A small file system for the data. It goes with this process and those it starts. False where that is not
// allowed.
static bool make_small(struct round *round)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        cr_assert_eq(errno, EPERM, "%s", strerror(errno));
        return false;
    }
    cr_assert_eq(mkdir(round->sluice->data, 0750), 0);
    char size[32];
    (void)snprintf(size, sizeof(size), "size=%um", SMALL_MIB);
    cr_assert_eq(mount("small", round->sluice->data, "tmpfs", 0, size), 0, "%s", strerror(errno));
    round->small = true;
    return true;
}

struct round *round_begin(const struct round_plan *plan, uint64_t seed)
{
    struct round *round = calloc(1, sizeof(*round));
    cr_assert_not_null(round);
    *round = (struct round){.plan = *plan, .seed = seed, .random = {seed, seed}};
    round->target = http_target_start(0);
    cr_assert_not_null(round->target);
    round->sluice =
        sluice_new(NULL, LIST("--timeout", plan->gateway_timeout ? plan->gateway_timeout : "300ms"));
    if (!plan->small || !make_small(round)) {
        round->disk = disk_new(round->sluice);
    }
    sluice_launch(round->sluice, SCHEDULER);
    sluice_launch(round->sluice, GATEWAY);
    make_queues(round);
    round->lateness = lateness_watch();
    round->load = load_start(round->sluice, CLIENTS, PAUSE_MS, &round->random);
    round->pull = pull_start(round->sluice, "jobs", WORKERS, &round->random);
    return round;
}

// ---- death ----

static void kill_gateway(struct round *round)
{
    sluice_kill(round->sluice, GATEWAY);
    round->kills++;
}

static void cut_power(struct round *round)
{
    if (round->sluice->part[GATEWAY].pid) {
        kill_gateway(round);
    }
    round->undone += disk_cut_power(round->disk, (enum power_loss)pick(round, POWER_LOSSES), &round->random);
}

static void count_death(struct round *round)
{
    round->kills++;
    round->deaths++;
    if (round->plan.power) {
        cut_power(round);
    }
    sluice_verify(round->sluice); // what the next one finds
}

void round_bury(struct round *round)
{
    sluice_kill(round->sluice, SCHEDULER);
    count_death(round);
}

void round_expect_end(struct round *round, int code)
{
    int ended = process_wait(&round->sluice->part[SCHEDULER]);
    cr_assert_eq(ended, code, "the scheduler ended with %d", ended);
    count_death(round);
}

void round_expect_no_start(struct round *round, int code)
{
    int ended = sluice_try(round->sluice, SCHEDULER);
    cr_assert_eq(ended, code, "the scheduler ended with %d", ended);
    count_death(round);
}

void round_revive(struct round *round)
{
    if (!round->sluice->part[SCHEDULER].pid) {
        sluice_launch(round->sluice, SCHEDULER);
    }
    if (!round->sluice->part[GATEWAY].pid) {
        sluice_launch(round->sluice, GATEWAY);
    }
}

// Waits a while for it to die by itself; whether it did.
static bool await_death(struct round *round)
{
    for (int i = 0; i < 200 && !disk_has_died(round->disk); i++) {
        wait_ms(2);
    }
    return disk_disarm(round->disk);
}

bool round_revive_to_die(struct round *round, unsigned n, enum disk_when when)
{
    disk_arm(round->disk, n, when);
    int code = sluice_try(round->sluice, SCHEDULER);
    if (code != 0) {
        cr_assert_eq(code, 128 + SIGKILL, "the scheduler ended with %d", code);
        (void)disk_disarm(round->disk);
        count_death(round);
        return true;
    }
    if (await_death(round)) {
        round_bury(round);
        return true;
    }
    return false;
}

void round_change_answer(struct round *round)
{
    static const struct http_target_answer answers[] = {
        {.status = 200},
        {.status = 200},
        {.status = 200, .delay_ns = 30 * NS_PER_MS},
        {.status = 200, .delay_ns = 100 * NS_PER_MS},
        {.status = 500},
        {.status = 404},
        {.how = HTTP_TARGET_DROP},
    };
    http_target_set_default(round->target, &answers[pick(round, sizeof(answers) / sizeof(answers[0]))]);
}

void round_kill(struct round *round)
{
    unsigned n = 1 + (unsigned)pick(round, CALLS_AHEAD);
    enum disk_when when = (enum disk_when)pick(round, 3);
    round_change_answer(round);
    wait_ms((int64_t)pick(round, 150));
    switch (pick(round, 10)) {
    case 0:
    case 1:
        kill_gateway(round);
        break;
    case 2:
        kill_gateway(round);
        round_bury(round);
        break;
    case 3:
    case 4:
    case 5:
        round_bury(round);
        break;
    case 6: // dies again in its start, or soon after
        round_bury(round);
        (void)round_revive_to_die(round, n, when);
        break;
    default:
        disk_arm(round->disk, n, when);
        (void)await_death(round);
        round_bury(round);
    }
    // Sometimes for longer than the gateway waits.
    wait_ms(pick(round, 3) == 0 ? (int64_t)pick(round, pick(round, 4) == 0 ? 800 : 50) : 0);
    round_revive(round);
}

// ---- the end ----

static bool is_quiet(const struct round *round)
{
    for (size_t i = 0; i < LOAD_QUEUES; i++) {
        if (queue_unfinished(round->sluice, load_queue_names[i]) > 0) {
            return false;
        }
    }
    return true;
}

static bool was_cancelled(const struct load *load, const char *id)
{
    for (size_t i = 0; i < load->count; i++) {
        const struct client *client = &load->clients[i];
        for (size_t n = 0; n < client->count; n++) {
            if (client->requests[n].cancelled && strcmp(client->requests[n].id, id) == 0) {
                return true;
            }
        }
    }
    return false;
}

// The retry of a queue leaves alone what was cancelled, and all of that may have failed. A page may be short.
static bool none_to_retry(const struct round *round)
{
    char cursor[64] = "";
    bool none = true;
    bool more = true;
    while (none && more) {
        struct http_response page =
            sluice_get(round->sluice, "/ingestions?status=failed&limit=1000%s", cursor);
        cr_assert_eq(page.status, 200, "%s", page.body);
        const cJSON *next = json_member(page.json, "next_cursor"), *one;
        cJSON_ArrayForEach(one, json_member(page.json, "ingestions"))
        {
            none = none && was_cancelled(round->load, json_text(one, "ingestion_id"));
        }
        more = cJSON_IsString(next);
        if (more) {
            (void)snprintf(cursor, sizeof(cursor), "&cursor=%s", next->valuestring);
        }
        http_response_fini(&page);
    }
    return none;
}

static void retry_all(const struct round *round)
{
    for (size_t i = 0; i < LOAD_QUEUES; i++) {
        queue_do(round->sluice, load_queue_names[i], "retry");
    }
}

// What failed since is put back once more, such as a lease that ran out at its last attempt.
static bool is_over(const struct round *round)
{
    if (!is_quiet(round)) {
        return false;
    }
    if (none_to_retry(round)) {
        return true;
    }
    retry_all(round);
    return false;
}

static void drain(struct round *round)
{
    queue_do(round->sluice, "kept", "resume");
    for (int i = 0; i < 2; i++) {
        wait_ms((int64_t)pick(round, 200));
        round_bury(round);
        round_revive(round);
    }
    WAIT_FOR(is_quiet(round));
    retry_all(round);
    WAIT_FOR(is_over(round));
}

// One dispatch too many is seen where the machine is not late by half an interval.
static void check_rate(const struct dispatches *all, const char *queue, struct rate rate, struct mono until,
                       int64_t lateness_ns)
{
    int64_t half_ns = rate.per_ns / (int64_t)rate.count / 2;
    struct dispatches of = dispatches_of(all, queue);
    while (of.count > 0 && !mono_before(of.list[of.count - 1].at, until)) {
        of.count--;
    }
    dispatches_check_window(&of, rate, 1, lateness_ns > half_ns / 2 ? lateness_ns : half_ns / 2);
    dispatches_fini(&of);
}

static void print(const struct round *round, const struct tally *tally, int64_t lateness_ns)
{
    fprintf(stderr,
            "%s, seed %" PRIu64
            ": %u kills (%u of the scheduler), %zu writes undone, %zu ingestions accepted, %zu there "
            "of unknown outcome, %zu refused, %zu batches, %zu deliveries (%zu repeated), %zu leased, %.1f "
            "ms late\n",
            round->plan.name, round->seed, round->kills, round->deaths, round->undone, tally->accepted,
            tally->unknown, tally->refused, tally->batches, tally->delivered, tally->repeated, tally->leased,
            (double)lateness_ns / (double)NS_PER_MS);
}

void round_end(struct round *round)
{
    load_stop(round->load);
    http_target_set_default(round->target, &(struct http_target_answer){.status = 200});
    kill_gateway(round); // the next one has patience
    sluice_set_flags(round->sluice, GATEWAY, LIST("--timeout", "60s"));
    sluice_launch(round->sluice, GATEWAY);
    atomic_store(&round->pull->good, true);
    struct mono hurried = mono_now();
    queue_put(round->sluice, "slow", "\"rate\":\"unlimited\"");
    drain(round);
    pull_stop(round->pull);
    int64_t lateness_ns = lateness_end(round->lateness);
    struct dispatches dispatches = dispatches_read(round->target);
    struct evidence evidence = {.sluice = round->sluice,
                                .load = round->load,
                                .pull = round->pull,
                                .dispatches = &dispatches,
                                .deaths = round->deaths,
                                .may_time_out = round->plan.may_time_out};
    struct tally tally = check_all(&evidence);
    check_rate(&dispatches, "fast", FAST_RATE, MONO_NEVER, lateness_ns);
    check_rate(&dispatches, "kept", FAST_RATE, MONO_NEVER, lateness_ns);
    check_rate(&dispatches, "slow", SLOW_RATE, hurried, lateness_ns);
    print(round, &tally, lateness_ns);
    dispatches_fini(&dispatches);
    cr_assert_eq(sluice_stop(round->sluice, GATEWAY), 0);
    cr_assert_eq(sluice_stop(round->sluice, SCHEDULER), 0);
    if (round->small) {
        sluice_verify(round->sluice);
        cr_assert_eq(umount(round->sluice->data), 0, "%s", strerror(errno));
    }
    sluice_end(round->sluice);
    http_target_stop(round->target);
    load_free(round->load);
    pull_free(round->pull);
    if (round->disk) {
        disk_free(round->disk);
    }
    free(round);
}

// ---- many of them ----

uint64_t round_seed(void)
{
    uint64_t random;
    cr_assert_eq(getrandom(&random, sizeof(random), 0), (ssize_t)sizeof(random));
    uint64_t seed = random_from(random % 1000000000).seed;
    fprintf(stderr, "seed %" PRIu64 ": SLUICE_TEST_SEED=%" PRIu64 " runs it again\n", seed, seed);
    return seed;
}

unsigned round_kills(unsigned fallback)
{
    const char *text = getenv("SLUICE_CRASH_KILLS");
    unsigned long kills = text ? strtoul(text, NULL, 10) : 0;
#ifdef __SANITIZE_ADDRESS__
    fallback /= 2;
#endif
    return kills > 0 && kills < 1000000 ? (unsigned)kills : fallback;
}

void rounds_of_kills(const struct round_plan *plan, unsigned kills)
{
    uint64_t seed = round_seed();
    for (unsigned done = 0; done < kills; seed++) {
        struct round *round = round_begin(plan, seed);
        while (round->kills < KILLS_PER_ROUND && done + round->kills < kills) {
            round_kill(round);
        }
        unsigned before = round->kills;
        round_end(round);
        done += before;
    }
}
