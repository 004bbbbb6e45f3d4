#include "tests/crash/check.h"

#include "tests/support/queues.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Criterion reports each assertion that holds to its parent process: here are too many.
#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            cr_assert_fail(__VA_ARGS__);                                                                     \
        }                                                                                                    \
    } while (0)

#define PAGE 1000
#define IDS_TEXT 96 // of a batch that was delivered

// An ingestion of the list, newest first.
struct listed {
    struct posting *request;
    char id[ID_TEXT_SIZE];
};

struct check {
    const struct evidence *evidence;
    struct dispatches by_batch;
    struct pulled *pulled; // by batch, those of one in the order they came
    size_t pulled_count;
    size_t pulled_used;
    struct listed *listed;
    size_t listed_count;
    size_t completed[LOAD_QUEUES]; // batches
    struct tally tally;
};

// ---- the evidence, by batch ----

static int by_batch(const void *a, const void *b)
{
    const struct dispatch *x = a, *y = b;
    int order = strcmp(x->batch, y->batch);
    return order ? order : (mono_before(y->at, x->at)) - (mono_before(x->at, y->at));
}

static int by_pulled(const void *a, const void *b)
{
    const struct pulled *x = a, *y = b;
    int order = strcmp(x->batch, y->batch);
    return order ? order : (mono_before(y->asked, x->asked)) - (mono_before(x->asked, y->asked));
}

static void sort_evidence(struct check *check)
{
    const struct dispatches *all = check->evidence->dispatches;
    const struct pull *pull = check->evidence->pull;
    check->by_batch = (struct dispatches){.count = all->count};
    check->by_batch.list = calloc(all->count + 1, sizeof(*all->list));
    CHECK(check->by_batch.list, "out of memory");
    memcpy(check->by_batch.list, all->list, all->count * sizeof(*all->list));
    qsort(check->by_batch.list, all->count, sizeof(*all->list), by_batch);
    for (size_t i = 0; i < pull->count; i++) {
        check->pulled_count += pull->workers[i].count;
    }
    check->pulled = calloc(check->pulled_count + 1, sizeof(*check->pulled));
    CHECK(check->pulled, "out of memory");
    for (size_t i = 0, at = 0; i < pull->count; i++) {
        for (size_t j = 0; j < pull->workers[i].count; j++) {
            check->pulled[at++] = pull->workers[i].list[j];
        }
    }
    qsort(check->pulled, check->pulled_count, sizeof(*check->pulled), by_pulled);
}

static size_t first_of(const void *list, size_t count, size_t size, size_t offset, const char *batch)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp((const char *)list + middle * size + offset, batch) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// ---- a batch ----

// What /status says of it, and what it must be.
struct batch {
    const struct posting *request;
    const char *ingestion;
    char id[ID_TEXT_SIZE];
    char ids[IDS_TEXT]; // cut off where there are more
    bool completed;
    int attempts;
    bool interrupted;
};

static const cJSON *optional(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static struct batch read_batch(const struct listed *listed, uint32_t index, const cJSON *json)
{
    const struct posting *request = listed->request;
    struct batch batch = {.request = request, .ingestion = listed->id};
    uint32_t size = load_batch_sizes[request->queue], first = index * size, len = 0;
    uint32_t count = request->count - first < size ? request->count - first : size, at = 0;
    struct id ingestion, id;
    CHECK(id_parse(listed->id, strlen(listed->id), &ingestion), "%s", listed->id);
    char name[16];
    id = id_v5(&ingestion, name, (size_t)snprintf(name, sizeof(name), "%u", index));
    id_format(&id, batch.id);
    CHECK(strcmp(batch.id, json_text(json, "batch_id")) == 0, "batch %u of %s is called %s", index,
          listed->id, json_text(json, "batch_id"));
    const cJSON *value;
    cJSON_ArrayForEach(value, json_member(json, "ids"))
    {
        uint64_t expected = request->first + first + at;
        CHECK(at < count && cJSON_IsNumber(value) && value->valuedouble == (double)expected,
              "the ID %.0f in batch %u of %s should be %llu", value->valuedouble, index, listed->id,
              (unsigned long long)expected);
        if (len < sizeof(batch.ids)) {
            len += (uint32_t)snprintf(batch.ids + len, sizeof(batch.ids) - len, "%s%llu", at > 0 ? "," : "",
                                      (unsigned long long)expected);
        }
        at++;
    }
    CHECK(at == count, "batch %u of %s has %u IDs and not %u", index, listed->id, at, count);
    const char *status = json_text(json, "status");
    batch.completed = strcmp(status, "completed") == 0;
    // Failed batches of what was cancelled are left alone by the retry of a queue.
    CHECK(batch.completed ||
              (request->cancelled && (strcmp(status, "cancelled") == 0 || strcmp(status, "failed") == 0)),
          "batch %u of %s is %s", index, listed->id, status);
    const cJSON *attempts = optional(json, "attempts");
    batch.attempts = attempts ? attempts->valueint : 0;
    batch.interrupted = cJSON_IsTrue(optional(json, "interrupted"));
    return batch;
}

// Of a batch of which each delivery that arrived was answered well.
static void check_repeats(const struct check *check, const struct batch *batch, const struct dispatch *list,
                          size_t count)
{
    for (size_t i = 1; i < count; i++) {
        CHECK(list[i].attempt > list[i - 1].attempt, "attempt %d of %s came after attempt %d",
              list[i].attempt, batch->id, list[i - 1].attempt);
    }
    CHECK(count == 0 || list[count - 1].attempt <= batch->attempts, "attempt %d of %s, which had %d",
          list[count - 1].attempt, batch->id, batch->attempts);
    CHECK(count <= 1 || batch->interrupted, "%s came %zu times, and no delivery was cut off", batch->id,
          count);
    CHECK(count <= 1 + check->evidence->deaths, "%s came %zu times in %u deaths", batch->id, count,
          check->evidence->deaths);
}

static void check_deliveries(struct check *check, const struct batch *batch)
{
    const struct dispatches *all = &check->by_batch;
    size_t first =
        first_of(all->list, all->count, sizeof(*all->list), offsetof(struct dispatch, batch), batch->id);
    size_t count = 0, good = 0;
    for (; first + count < all->count && strcmp(all->list[first + count].batch, batch->id) == 0; count++) {
        const struct dispatch *dispatch = &all->list[first + count];
        CHECK(strcmp(dispatch->ids, batch->ids) == 0, "%s came with the IDs %s and not %s", batch->id,
              dispatch->ids, batch->ids);
        CHECK(strcmp(dispatch->ingestion, batch->ingestion) == 0 &&
                  strcmp(dispatch->queue, load_queue_names[batch->request->queue]) == 0 &&
                  strcmp(dispatch->priority, priority_name(batch->request->priority)) == 0,
              "%s came as of %s, %s, %s", batch->id, dispatch->ingestion, dispatch->queue,
              dispatch->priority);
        good += dispatch->answered == 200;
    }
    CHECK(good > 0 || !batch->completed, "%s is completed and never came", batch->id);
    // A retry forgets the attempts of what failed; it may then have been cancelled before it came again.
    bool forgotten = batch->request->cancelled && good < count;
    CHECK(count == 0 || batch->attempts > 0 || forgotten, "%s came without an attempt on disk", batch->id);
    if (good == count && !check->evidence->may_time_out) {
        check_repeats(check, batch, &all->list[first], count);
    }
    check->tally.delivered += count;
    check->tally.repeated += count > 1 ? count - 1 : 0;
}

static void check_leases(struct check *check, const struct batch *batch)
{
    size_t first = first_of(check->pulled, check->pulled_count, sizeof(*check->pulled),
                            offsetof(struct pulled, batch), batch->id);
    const struct pulled *acknowledged = NULL;
    bool may_be = false;
    size_t count = 0;
    for (; first + count < check->pulled_count && strcmp(check->pulled[first + count].batch, batch->id) == 0;
         count++) {
        const struct pulled *pulled = &check->pulled[first + count];
        CHECK(strcmp(pulled->ids, batch->ids) == 0 && strcmp(pulled->ingestion, batch->ingestion) == 0,
              "%s was leased as %s of %s", batch->id, pulled->ids, pulled->ingestion);
        CHECK(!acknowledged || mono_before(pulled->asked, acknowledged->told),
              "%s was leased after it was acknowledged", batch->id);
        acknowledged = pulled->settled == SETTLED_ACK ? pulled : acknowledged;
        may_be |= pulled->settled != SETTLED_NOT;
    }
    CHECK(may_be || !batch->completed, "%s is completed, and no worker did it", batch->id);
    CHECK(!acknowledged || (batch->completed && batch->attempts == acknowledged->attempt),
          "%s was acknowledged at attempt %d, and is %s after %d", batch->id,
          acknowledged ? acknowledged->attempt : 0, batch->completed ? "completed" : "cancelled",
          batch->attempts);
    check->pulled_used += count;
}

// ---- an ingestion ----

static void check_ingestion(struct check *check, const struct listed *listed)
{
    const struct posting *request = listed->request;
    uint32_t size = load_batch_sizes[request->queue], batches = (request->count + size - 1) / size, index = 0;
    int cancelled = 0;
    while (index < batches) {
        struct http_response page =
            sluice_get(check->evidence->sluice, "/status/%s?limit=%u&offset=%u", listed->id, PAGE, index);
        CHECK(page.status == 200, "%s: %ld %s", listed->id, page.status, page.body);
        CHECK((uint32_t)json_number(page.json, "batches_total") == batches, "%s has %.0f batches and not %u",
              listed->id, json_number(page.json, "batches_total"), batches);
        CHECK(strcmp(json_text(page.json, "queue"), load_queue_names[request->queue]) == 0 &&
                  strcmp(json_text(page.json, "priority"), priority_name(request->priority)) == 0,
              "%s is %s on %s", listed->id, json_text(page.json, "priority"), json_text(page.json, "queue"));
        const cJSON *json;
        uint32_t before = index;
        cJSON_ArrayForEach(json, json_member(page.json, "batches"))
        {
            struct batch batch = read_batch(listed, index++, json);
            check->completed[request->queue] += batch.completed;
            cancelled += strcmp(json_text(json, "status"), "cancelled") == 0;
            if (request->queue == QUEUE_JOBS) {
                check_leases(check, &batch);
            } else if (request->queue != QUEUE_BIG) {
                check_deliveries(check, &batch);
            }
        }
        CHECK(index > before && index <= batches, "%s: %u batches after %u of %u", listed->id, index, before,
              batches);
        http_response_fini(&page);
    }
    CHECK(cancelled >= request->called_off, "%s: %d batches were called off, and %d are", listed->id,
          request->called_off, cancelled);
    check->tally.batches += batches;
}

// The request that an ingestion comes from, by its first ID.
static struct posting *request_of(const struct check *check, const char *id)
{
    struct http_response response = sluice_get(check->evidence->sluice, "/status/%s?limit=1", id);
    CHECK(response.status == 200, "%s: %ld %s", id, response.status, response.body);
    const cJSON *batch = cJSON_GetArrayItem(json_member(response.json, "batches"), 0);
    const cJSON *first = cJSON_GetArrayItem(json_member(batch, "ids"), 0);
    CHECK(cJSON_IsNumber(first), "%s", response.body);
    struct posting *request = load_find(check->evidence->load, (uint64_t)first->valuedouble);
    CHECK(request && request->first == (uint64_t)first->valuedouble, "nobody sent %s", response.body);
    http_response_fini(&response);
    return request;
}

static void add_listed(struct check *check, const char *id)
{
    struct listed *list = realloc(check->listed, (check->listed_count + 1) * sizeof(*list));
    CHECK(list, "out of memory");
    check->listed = list;
    struct listed *listed = &list[check->listed_count++];
    (void)snprintf(listed->id, sizeof(listed->id), "%s", id);
    struct posting *request = listed->request = request_of(check, id);
    CHECK(!request->seen, "what was sent once is there twice: %s", id);
    CHECK(request->end != REQUEST_REFUSED, "%s was refused, and is there", id);
    CHECK(request->end != REQUEST_ACCEPTED || strcmp(request->id, id) == 0, "%s is there as %s", request->id,
          id);
    request->seen = true;
    *(request->end == REQUEST_ACCEPTED ? &check->tally.accepted : &check->tally.unknown) += 1;
}

static void list_all(struct check *check)
{
    char cursor[64] = "";
    do {
        struct http_response page = sluice_get(check->evidence->sluice, "/ingestions?limit=%u%s%s", PAGE,
                                               cursor[0] ? "&cursor=" : "", cursor);
        CHECK(page.status == 200, "%ld %s", page.status, page.body);
        const cJSON *row;
        cJSON_ArrayForEach(row, json_member(page.json, "ingestions"))
        {
            if (strcmp(json_text(row, "queue"), OWN_QUEUE) != 0) {
                add_listed(check, json_text(row, "ingestion_id"));
            }
        }
        const cJSON *next = json_member(page.json, "next_cursor");
        (void)snprintf(cursor, sizeof(cursor), "%s", cJSON_IsString(next) ? next->valuestring : "");
        http_response_fini(&page);
    } while (cursor[0]);
}

static void check_requests(struct check *check)
{
    const struct load *load = check->evidence->load;
    for (size_t i = 0; i < load->count; i++) {
        for (size_t j = 0; j < load->clients[i].count; j++) {
            const struct posting *request = &load->clients[i].requests[j];
            CHECK(request->seen || request->end != REQUEST_ACCEPTED, "%s was accepted and is not there",
                  request->id);
            check->tally.refused += request->end == REQUEST_REFUSED;
        }
    }
}

// ---- order ----

// A client sent its next request when it had been told of the last one.
static void check_acceptance(const struct check *check)
{
    const struct load *load = check->evidence->load;
    for (size_t i = 0; i < load->count; i++) {
        const struct client *client = &load->clients[i];
        const struct posting *later = NULL;
        for (size_t j = 0; j < check->listed_count; j++) {
            const struct posting *request = check->listed[j].request;
            if (request < client->requests || request >= client->requests + client->count ||
                request->end != REQUEST_ACCEPTED) {
                continue;
            }
            CHECK(!later || request < later, "of a client's, %s was accepted before %s",
                  later ? later->id : "", request->id);
            later = request;
        }
    }
}

// What stood in a paused queue came out by priority, acceptance and index.
static void check_order(const struct check *check)
{
    struct dispatches kept = dispatches_of(check->evidence->dispatches, load_queue_names[QUEUE_KEPT]);
    size_t last = check->listed_count, rank[2] = {0, 0}; // of the last first delivery: priority, age
    uint64_t last_id = 0;
    for (size_t i = 0; i < kept.count; i++) {
        const struct dispatch *dispatch = &kept.list[i];
        bool again = false;
        for (size_t j = 0; j < i; j++) {
            again |= strcmp(kept.list[j].batch, dispatch->batch) == 0;
        }
        if (again) {
            continue;
        }
        size_t at = 0;
        while (at < check->listed_count && strcmp(check->listed[at].id, dispatch->ingestion) != 0) {
            at++;
        }
        CHECK(at < check->listed_count, "%s is of no ingestion", dispatch->batch);
        size_t now[2] = {check->listed[at].request->priority, check->listed_count - at};
        uint64_t id = strtoull(dispatch->ids, NULL, 10);
        CHECK(last == check->listed_count || now[0] > rank[0] || (now[0] == rank[0] && now[1] > rank[1]) ||
                  (at == last && id > last_id),
              "%s of %s came before its turn", dispatch->batch, dispatch->ingestion);
        last = at, rank[0] = now[0], rank[1] = now[1], last_id = id;
    }
    dispatches_fini(&kept);
}

struct tally check_all(const struct evidence *evidence)
{
    struct check check = {.evidence = evidence};
    sort_evidence(&check);
    list_all(&check);
    check_requests(&check);
    for (size_t i = 0; i < check.listed_count; i++) {
        check_ingestion(&check, &check.listed[i]);
    }
    CHECK(check.tally.delivered == evidence->dispatches->count, "%zu deliveries are of no batch there is",
          evidence->dispatches->count - check.tally.delivered);
    CHECK(check.pulled_used == check.pulled_count, "%zu leased batches are of none there is",
          check.pulled_count - check.pulled_used);
    for (int queue = 0; queue < LOAD_QUEUES; queue++) {
        double completed = queue_figure(evidence->sluice, load_queue_names[queue], "completed");
        CHECK(completed == (double)check.completed[queue],
              "%s says that %.0f batches completed, and %zu have", load_queue_names[queue], completed,
              check.completed[queue]);
    }
    check_acceptance(&check);
    check_order(&check);
    check.tally.leased = check.pulled_count;
    dispatches_fini(&check.by_batch);
    free(check.pulled);
    free(check.listed);
    return check.tally;
}
