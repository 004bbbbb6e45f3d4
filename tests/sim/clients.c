// Clients and workers: what they ask, at random.
#include "tests/sim/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKED 512
#define REMEMBERED 16
#define STEADY "steady"

static const char *const names[] = {DEFAULT_QUEUE, STEADY, "work", "pull", "tmp"};
#define NAMES (sizeof names / sizeof names[0])

// Messages that are not answered.
static struct ipc_message *asked[ASKED];
static size_t asked_count;

// ---- messages ----

static struct ipc_message *new_message(size_t count)
{
    struct ipc_message *message = calloc(1, sizeof *message);
    struct ipc_request *requests = calloc(count, sizeof *requests);
    CHECK(message != NULL && requests != NULL && asked_count < ASKED, "too many messages");
    message->requests = requests;
    message->count = count;
    message->pipe = 1 + (uint32_t)sim_below(6);
    message->item.kind = INBOX_MESSAGE;
    return message;
}

static void post(struct ipc_message *message)
{
    asked[asked_count++] = message;
    inbox_post(sim.loop->inbox, &message->item);
}

static void free_message(struct ipc_message *message)
{
    for (size_t i = 0; i < asked_count; i++) {
        if (asked[i] == message) {
            asked[i] = asked[--asked_count];
            break;
        }
    }
    for (size_t i = 0; i < message->count; i++) {
        request_fini(&message->requests[i].request);
    }
    free(message->requests);
    free(message);
}

void clients_replied(struct ipc_message *message, const char *lines, size_t len)
{
    const char *at = lines;
    for (size_t i = 0; lines != NULL && len > 0 && i < message->count; i++) {
        const char *end = memchr(at, '\n', len - (size_t)(at - lines));
        CHECK(end != NULL, "a reply lacks a line");
        answer_check(&message->requests[i].request, at, (size_t)(end - at));
        at = end + 1;
    }
    sim.events += message->count == 1 && message->requests[0].request.op == OP_LEASE;
    free_message(message);
}

// The loop has given all of them back.
void clients_forget(void)
{
    CHECK(asked_count == 0, "%zu messages were neither answered nor dropped", asked_count);
}

size_t clients_leases(const char *queue)
{
    size_t n = 0;
    for (size_t i = 0; i < asked_count; i++) {
        const struct request *request = &asked[i]->requests[0].request;
        n += request->op == OP_LEASE && strcmp(request->lease.queue, queue) == 0 ? request->lease.max : 0;
    }
    return n;
}

// ---- choosing ----

static bool calm(void)
{
    return mono_before(sim.now, sim.calm_until);
}

// "": nobody
static const char *some_owner(void)
{
    static const char *const owners[] = {"", "ann", "bob", "eve"};
    return owners[sim_below(sizeof owners / sizeof owners[0])];
}

// Of what a request is about: of this owner, and mostly on some queues alone, which may not be there.
static struct scope *some_scope(const char *owner)
{
    char queues[3][QUEUE_NAME_SIZE];
    size_t count = sim_chance(3) ? 0 : 1 + sim_below(3);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(queues[i], sizeof queues[i], "%s", names[sim_below(NAMES)]);
    }
    struct scope *scope = scope_new(owner, (const char(*)[QUEUE_NAME_SIZE])queues, count);
    CHECK(scope != NULL, "out of memory");
    return scope;
}

static const char *some_name(void)
{
    const char *name;
    do {
        name = names[sim_below(NAMES)];
    } while (calm() && strcmp(name, STEADY) == 0);
    return name;
}

static const struct model_ingestion *some_ingestion(void)
{
    for (size_t tries = 0; tries < 16 && model.used > 0; tries++) {
        const struct model_ingestion *ingestion = &model.ingestions[sim_below(model.used)];
        bool wanted = !calm() || strcmp(ingestion->queue_name, STEADY) == 0 || sim_chance(8);
        if (ingestion->there && wanted && !(model_finished(ingestion) && sim_chance(2))) {
            return ingestion;
        }
    }
    return NULL;
}

// One of which something is in flight, if there is one among a few.
static const struct model_ingestion *some_underway(void)
{
    for (size_t tries = 0; tries < 32 && model.used > 0; tries++) {
        const struct model_ingestion *ingestion = &model.ingestions[sim_below(model.used)];
        for (uint32_t b = 0; ingestion->there && b < ingestion->batches; b++) {
            if (ingestion->batch[b].state == BATCH_IN_FLIGHT) {
                return ingestion;
            }
        }
    }
    return some_ingestion();
}

static struct id new_id(void)
{
    struct id id;
    uint64_t high = random_next(&sim.random);
    uint64_t low = random_next(&sim.random);
    memcpy(id.bytes, &high, 8);
    memcpy(id.bytes + 8, &low, 8);
    return id;
}

// ---- ingesting ----

// What was sent before, to be sent again.
static struct sent {
    struct id id;
    char queue[QUEUE_NAME_SIZE];
    const char *owner;
    enum priority priority;
    uint64_t first;
    uint32_t count;
    char key[24];
    int64_t not_before_ms;
    int64_t deadline_ms;
} sent[REMEMBERED];

static uint64_t sent_count;

static void fill_ids(struct ids *ids, uint64_t first, uint32_t count)
{
    char text[512];
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%" PRIu64, i > 0 ? "," : "", first + i);
    }
    *ids = (struct ids){
        .text = strdup(text), .len = len, .count = count, .kind = IDS_INTEGER, .largest = first + count - 1};
}

static struct sent roll_ingest(void)
{
    static const char digits[] = "%" PRIu64;
    int64_t wall_ms = sim_wall().ms;
    struct sent made = {.id = new_id(),
                        .owner = some_owner(),
                        .priority = (enum priority)sim_below(PRIORITIES),
                        .first = 1 + sim_below(UINT64_C(1) << (1 + sim_below(52))),
                        .count = 1 + (uint32_t)sim_below(MODEL_BATCHES)};
    (void)snprintf(made.queue, sizeof made.queue, "%s", some_name());
    if (sim_chance(3)) {
        made.key[0] = 'k';
        (void)snprintf(made.key + 1, sizeof made.key - 1, digits, sim_below(1000000));
    }
    made.not_before_ms = sim_chance(10) ? wall_ms + sim_between_ms(0, 4000) / NS_PER_MS - 500 : 0;
    made.deadline_ms = sim_chance(10) ? wall_ms + sim_between_ms(1, 8000) / NS_PER_MS : 0;
    return made;
}

static void ingest(struct request *request)
{
    struct sent what = roll_ingest();
    if (sent_count > 0 && sim_chance(8)) {
        struct sent again =
            sent[(sent_count - 1 - sim_below(sent_count < REMEMBERED ? sent_count : REMEMBERED)) %
                 REMEMBERED];
        if (calm() && strcmp(again.queue, STEADY) == 0) {
            again.id = what.id;
            memcpy(again.queue, DEFAULT_QUEUE, sizeof DEFAULT_QUEUE);
        }
        what.id = sim_chance(2) ? again.id : what.id;
        again.id = what.id;
        again.count = sim_chance(8) ? what.count : again.count;
        again.priority = sim_chance(8) ? what.priority : again.priority;
        again.owner = sim_chance(4) ? what.owner : again.owner;
        again.deadline_ms = sim_chance(16) ? what.deadline_ms : again.deadline_ms;
        what = again;
    } else {
        sent[sent_count++ % REMEMBERED] = what;
    }
    request->op = OP_INGEST;
    struct ingest_request *into = &request->ingest;
    *into = (struct ingest_request){.has_id = true,
                                    .id = what.id,
                                    .priority = what.priority,
                                    .not_before = {what.not_before_ms},
                                    .deadline = {what.deadline_ms},
                                    .idempotency_key = what.key[0] != '\0' ? strdup(what.key) : NULL};
    memcpy(into->queue, what.queue, sizeof into->queue);
    request->scope = what.owner[0] != '\0' || sim_chance(2) ? scope_new(what.owner, NULL, 0) : NULL;
    fill_ids(&into->ids, what.first, what.count);
}

// ---- queues ----

void clients_random_settings(struct queue_change *change)
{
    static const struct rate rates[] = {{50, NS_PER_S},       {300, NS_PER_S}, {0, 0},
                                        {1, 500 * NS_PER_MS}, {7, NS_PER_S},   {3, 100 * NS_PER_MS},
                                        {20, NS_PER_S},       {1, NS_PER_S}};
    *change = (struct queue_change){
        .given = SETTING_RATE | SETTING_BURST | SETTING_CONCURRENCY | SETTING_BATCH_SIZE | SETTING_TARGET |
                 SETTING_TIMEOUT | SETTING_MAX_ATTEMPTS | SETTING_MIN_BACKOFF | SETTING_MAX_BACKOFF |
                 SETTING_MAX_HOLD | SETTING_BREAKER | SETTING_LEASE | SETTING_ON_INTERRUPT | SETTING_LINGER,
        .rate = rates[sim_below(8)],
        .burst = (uint32_t)sim_below(5),
        .linger_ns = (int64_t)sim_below(3) * 5 * NS_PER_MS - 1, // -1: the default
        .concurrency = 1 + (uint32_t)sim_below(5),
        .batch_size = 1 + (uint32_t)sim_below(3),
        .timeout_ns = sim_between_ms(100, 1000),
        .max_attempts = 1 + (uint32_t)sim_below(4),
        .min_backoff_ns = sim_between_ms(20, 200),
        .max_backoff_ns = sim_between_ms(200, 1500),
        .max_hold_ns = sim_between_ms(0, 2000),
        .breaker = (uint32_t)sim_below(5),
        .lease_ns = sim_between_ms(1000, 2000),
        .on_interrupt = sim_chance(4) ? ON_INTERRUPT_HOLD : ON_INTERRUPT_RESEND,
        .aging_ns = sim_between_ms(1000, 5000),
    };
    change->given |= sim_chance(3) ? SETTING_AGING : 0;
    if (change->linger_ns > 0) {
        change->linger_ns++;
    }
}

static const char *target_of(const char *name)
{
    if (strcmp(name, STEADY) == 0) {
        return sim_chance(2) ? "simulate:20ms" : "simulate:150ms";
    }
    if (strcmp(name, "pull") == 0) {
        return sim_chance(16) ? "http://other/" : "pull:";
    }
    return sim_chance(4) ? "simulate:30ms,fail=0.2" : sim_chance(2) ? "http://target/" : "http://other/";
}

static void put_on_queue(struct request *request, const char *name)
{
    struct queue_change *change = &request->queue.change;
    bool there = model_queue_named(name) != NULL;
    request->op = OP_QUEUE_PUT;
    clients_random_settings(change);
    if (there && !sim_chance(4)) { // only some of it
        change->given &= (unsigned)random_next(&sim.random) & (unsigned)random_next(&sim.random);
    }
    if (strcmp(name, DEFAULT_QUEUE) == 0) {
        change->given &= ~(unsigned)SETTING_TARGET;
    }
    if ((change->given & SETTING_TARGET) != 0) {
        change->target = strdup(target_of(name));
    }
}

static void operate_on_queue(struct request *request)
{
    const char *name = some_name();
    const struct model_queue *queue = model_queue_named(name);
    uint64_t dice = sim_below(16);
    if (queue == NULL || dice < 4) {
        put_on_queue(request, name);
    } else if (dice < 6) {
        request->op = OP_QUEUE_PAUSE;
    } else if (dice < 12) {
        request->op = OP_QUEUE_RESUME;
    } else if (dice < 14) {
        request->op = OP_QUEUE_RETRY;
    } else {
        request->op = OP_QUEUE_DELETE;
    }
    // What is paused stays so for a while, not for good.
    if (request->op == OP_QUEUE_PAUSE && sim_chance(2)) {
        request->op = OP_QUEUE_GET;
    }
    (void)snprintf(request->queue.name, sizeof request->queue.name, "%s", name);
}

// ---- what is asked ----

static void ask_about(struct request *request, enum op op)
{
    const struct model_ingestion *ingestion =
        op == OP_CANCEL && sim_chance(2) ? some_underway() : some_ingestion();
    struct id id = ingestion != NULL ? ingestion->id : new_id();
    bool writes = op == OP_CANCEL || op == OP_RETRY;
    if (writes && calm() && ingestion != NULL && strcmp(ingestion->queue_name, STEADY) == 0) {
        op = OP_STATUS;
    }
    request->op = op;
    if (!calm() && sim_chance(3)) { // what is asked in a calm is about etas
        request->scope = some_scope(ingestion != NULL && sim_chance(2) ? ingestion->owner : some_owner());
    }
    if (op == OP_STATUS) {
        request->status = (struct status_request){.id = id, .limit = PAGE_DEFAULT};
    } else {
        request->ingestion.id = id;
    }
}

static void ask_for_a_list(struct request *request, enum op op)
{
    request->op = op;
    if (sim_chance(2)) {
        request->scope = some_scope(op == OP_LIST ? some_owner() : "");
    }
    if (op == OP_LIST) {
        request->list = (struct list_request){.limit = 1 + (uint32_t)sim_below(20),
                                              .has_status = sim_chance(2),
                                              .status = (enum status)sim_below(STATUSES),
                                              .has_queue = sim_chance(3)};
        (void)snprintf(request->list.queue, sizeof request->list.queue, "%s", names[sim_below(NAMES)]);
        return;
    }
    request->queue_list = (struct queue_list_request){.limit = 1 + (uint32_t)sim_below(NAMES)};
    if (sim_chance(2)) {
        (void)snprintf(request->queue_list.cursor, sizeof request->queue_list.cursor, "%s",
                       names[sim_below(NAMES)]);
    }
}

static void one_request(struct request *request)
{
    uint64_t dice = sim_below(100);
    bool crowded = model.used > MODEL_INGESTIONS - 64;
    if (dice < 42 && !crowded) {
        ingest(request);
    } else if (dice < 66) {
        ask_about(request, OP_STATUS);
    } else if (dice < 71) {
        ask_about(request, OP_CANCEL);
        if (!calm() && sim.blow == BLOW_NONE && sim_chance(32)) {
            sim.blow = BLOW_ASLEEP; // right after it, while what it cannot stop is under way
        }
    } else if (dice < 76) {
        ask_about(request, OP_RETRY);
    } else if (dice < 86) {
        operate_on_queue(request);
    } else if (dice < 93) {
        request->op = OP_QUEUE_GET;
        (void)snprintf(request->queue.name, sizeof request->queue.name, "%s", some_name());
    } else {
        ask_for_a_list(request, dice < 95 ? OP_QUEUE_LIST : OP_LIST);
    }
}

static void ask_lease(void)
{
    struct ipc_message *message = new_message(1);
    struct request *request = &message->requests[0].request;
    request->op = OP_LEASE;
    request->lease = (struct lease_request){.has_id = true,
                                            .id = new_id(),
                                            .wait_ns = sim_between_ms(0, 3000),
                                            .max = 1 + (uint32_t)sim_below(3)};
    (void)snprintf(request->lease.queue, sizeof request->lease.queue, "%s",
                   sim_chance(8) ? some_name() : "pull");
    post(message);
}

static void lose_connection(void)
{
    struct ipc_gone *gone = calloc(1, sizeof *gone);
    CHECK(gone != NULL, "out of memory");
    gone->item.kind = INBOX_GONE;
    gone->pipe = 1 + (uint32_t)sim_below(6);
    inbox_post(sim.loop->inbox, &gone->item);
}

void clients_move(void)
{
    // Now and then nobody comes for long, and all is done.
    int64_t pause_ns =
        (int64_t)sim_below((uint64_t)sim.client_mean_ns * 2) + (sim_chance(300) ? 20 * NS_PER_S : 0);
    sim.client_at = mono_add(sim.now, pause_ns);
    if (sim_chance(6) && clients_leases("pull") < 12) {
        ask_lease();
        return;
    }
    if (sim_chance(100)) {
        lose_connection();
        return;
    }
    struct ipc_message *message = new_message(sim_chance(6) ? 1 + sim_below(5) : 1);
    for (size_t i = 0; i < message->count; i++) {
        one_request(&message->requests[i].request);
    }
    post(message);
}

// ---- workers ----

void clients_work(const struct id *lease, const struct id *batch, unsigned how)
{
    if (how >= 14) {
        return; // it died
    }
    struct ipc_message *message = new_message(1);
    struct request *request = &message->requests[0].request;
    struct settle_request *settle = &request->settle;
    request->op = how < 8 ? OP_ACK : how < 12 ? OP_NACK : OP_EXTEND;
    *settle = (struct settle_request){.id = *lease, .has_batch = how % 4 != 0, .batch = *batch};
    if (request->op == OP_NACK) {
        settle->error = strdup("no");
        settle->final = how == 9;
        settle->has_delay = how >= 10;
        settle->delay_ns = how == 10 ? 0 : sim_between_ms(1, 500);
    }
    if (request->op == OP_EXTEND) {
        settle->lease_ns = how == 12 ? 0 : sim_between_ms(1000, 3000);
    }
    post(message);
}
