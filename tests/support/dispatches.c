#include "tests/support/dispatches.h"

#include "tests/support/http_client.h"
#include "tests/support/wait.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENDER_NS (2 * NS_PER_MS)
#define NAP_NS NS_PER_MS

static int by_time(const void *a, const void *b)
{
    const struct dispatch *x = a, *y = b;
    return mono_before(x->at, y->at) ? -1 : mono_before(y->at, x->at);
}

static struct dispatch read_one(const struct http_target_request *request)
{
    struct dispatch dispatch = {.at = request->arrived, .answered = request->answered};
    cJSON *json = cJSON_Parse(request->body);
    const char *ids = strstr(request->body, "\"ids\":[");
    cr_assert(json && ids, "not the body of a delivery: %s", request->body);
    ids += strlen("\"ids\":[");
    int len = (int)strcspn(ids, "]");
    (void)snprintf(dispatch.ids, sizeof(dispatch.ids), "%.*s", len, ids);
    (void)snprintf(dispatch.ingestion, sizeof(dispatch.ingestion), "%s", json_text(json, "ingestion_id"));
    (void)snprintf(dispatch.batch, sizeof(dispatch.batch), "%s", json_text(json, "batch_id"));
    (void)snprintf(dispatch.queue, sizeof(dispatch.queue), "%s", json_text(json, "queue"));
    (void)snprintf(dispatch.priority, sizeof(dispatch.priority), "%s", json_text(json, "priority"));
    dispatch.attempt = (int)json_number(json, "attempt");
    cJSON_Delete(json);
    return dispatch;
}

struct dispatches dispatches_read(struct http_target *target)
{
    struct dispatches dispatches = {.count = http_target_count(target)};
    dispatches.list = calloc(dispatches.count + 1, sizeof(*dispatches.list));
    cr_assert_not_null(dispatches.list);
    for (size_t i = 0; i < dispatches.count; i++) {
        struct http_target_request request = http_target_get(target, i);
        dispatches.list[i] = read_one(&request);
    }
    qsort(dispatches.list, dispatches.count, sizeof(*dispatches.list), by_time);
    return dispatches;
}

void dispatches_fini(struct dispatches *dispatches)
{
    free(dispatches->list);
    *dispatches = (struct dispatches){0};
}

struct dispatches dispatches_of(const struct dispatches *dispatches, const char *queue)
{
    struct dispatches of = {.count = 0};
    of.list = calloc(dispatches->count + 1, sizeof(*of.list));
    cr_assert_not_null(of.list);
    for (size_t i = 0; i < dispatches->count; i++) {
        if (strcmp(dispatches->list[i].queue, queue) == 0) {
            of.list[of.count++] = dispatches->list[i];
        }
    }
    return of;
}

static int64_t grid_ns(struct rate rate, size_t intervals)
{
    return (int64_t)((double)intervals * (double)rate.per_ns / (double)rate.count);
}

int64_t dispatches_earliness(const struct dispatches *dispatches, struct rate rate, size_t burst,
                             size_t worst[2])
{
    // From i to j there is room for burst - 1 dispatches after the first, and for one more in each interval:
    // the worst i for a j is the one that was farthest behind a grid of intervals.
    int64_t earliest = INT64_MIN, farthest = INT64_MIN;
    size_t first = 0;
    for (size_t j = burst; j < dispatches->count; j++) {
        size_t i = j - burst;
        int64_t behind = mono_diff(dispatches->list[i].at, dispatches->list[0].at) - grid_ns(rate, i);
        if (behind > farthest) {
            farthest = behind;
            first = i;
        }
        int64_t window = mono_diff(dispatches->list[j].at, dispatches->list[first].at);
        int64_t needed = grid_ns(rate, j - first + 1 - burst);
        if (needed - window > earliest) {
            earliest = needed - window;
            worst[0] = first;
            worst[1] = j;
        }
    }
    return earliest;
}

// The dispatches from i to j, and a few on either side, for whoever looks into a failure.
static void print_window(const struct dispatches *dispatches, size_t i, size_t j)
{
    struct mono begin = dispatches->list[i].at;
    for (size_t k = i > 3 ? i - 3 : 0; k < dispatches->count && k < j + 4; k++) {
        const struct dispatch *dispatch = &dispatches->list[k];
        fprintf(stderr, "%c %10.3f ms  %s attempt %d of %s\n", k == i || k == j ? '>' : ' ',
                (double)mono_diff(dispatch->at, begin) / (double)NS_PER_MS, dispatch->priority,
                dispatch->attempt, dispatch->batch);
    }
}

struct lateness {
    pthread_t thread;
    atomic_bool end;
    int64_t worst_ns;
};

static void *watch(void *arg)
{
    struct lateness *lateness = arg;
    while (!atomic_load(&lateness->end)) {
        struct mono before = mono_now();
        wait_ms(NAP_NS / NS_PER_MS);
        int64_t late = mono_diff(mono_now(), before) - NAP_NS;
        if (late > lateness->worst_ns) {
            lateness->worst_ns = late;
        }
    }
    return NULL;
}

struct lateness *lateness_watch(void)
{
    struct lateness *lateness = calloc(1, sizeof(*lateness));
    cr_assert_not_null(lateness);
    cr_assert_eq(pthread_create(&lateness->thread, NULL, watch, lateness), 0);
    return lateness;
}

int64_t lateness_end(struct lateness *lateness)
{
    atomic_store(&lateness->end, true);
    pthread_join(lateness->thread, NULL);
    int64_t worst = lateness->worst_ns;
    free(lateness);
    return worst;
}

void dispatches_check_window(const struct dispatches *dispatches, struct rate rate, size_t burst,
                             int64_t lateness_ns)
{
    size_t worst[2] = {0, 0};
    int64_t early = dispatches_earliness(dispatches, rate, burst, worst);
    int64_t allowed = 2 * (SENDER_NS + lateness_ns);
    if (early > allowed) {
        print_window(dispatches, worst[0], worst[1]);
    }
    cr_assert(early <= allowed,
              "a window is %.3f ms too short for what is in it; %.3f ms may be the machine's",
              (double)early / (double)NS_PER_MS, (double)allowed / (double)NS_PER_MS);
}

void dispatches_check_rate(struct http_target *target, struct rate rate, size_t burst, int64_t lateness_ns)
{
    struct dispatches dispatches = dispatches_read(target);
    dispatches_check_window(&dispatches, rate, burst, lateness_ns);
    dispatches_fini(&dispatches);
}

// ---- pace ----

static int by_length(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

struct pace dispatches_pace(const struct dispatches *dispatches, struct rate rate, size_t burst)
{
    const struct dispatch *list = dispatches->list;
    size_t count = dispatches->count;
    struct pace pace = {.least_gap_ns = INT64_MAX};
    int64_t interval_ns = grid_ns(rate, 1), credit_ns = grid_ns(rate, burst - 1);
    int64_t *late = calloc(count + 1, sizeof(*late));
    cr_assert(late && count > burst);
    // A slot is open from `full`, when the bucket is full again, less the credit that it then has.
    struct mono full = list[0].at;
    for (size_t i = 0; i < count; i++) {
        struct mono slot = mono_max(list[0].at, mono_add(full, -credit_ns));
        late[i] = mono_diff(list[i].at, slot);
        if (late[i] < 0) { // those before it were seen late
            full = mono_add(full, late[i]);
            late[i] = 0;
        } else if (mono_diff(list[i].at, full) > SENDER_NS) {
            full = list[i].at;
        }
        full = mono_add(full, interval_ns);
        int64_t gap = i > 0 ? mono_diff(list[i].at, list[i - 1].at) : INT64_MAX;
        pace.least_gap_ns = gap < pace.least_gap_ns ? gap : pace.least_gap_ns;
    }
    qsort(late, count, sizeof(*late), by_length);
    pace.median_ns = late[count / 2];
    pace.p99_ns = late[count * 99 / 100];
    free(late);
    pace.used = (double)grid_ns(rate, count - burst) / (double)mono_diff(list[count - 1].at, list[0].at);
    return pace;
}
