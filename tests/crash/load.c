#include "tests/crash/load.h"

#include "common/buf.h"

#include <criterion/criterion.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const load_queue_names[LOAD_QUEUES] = {"fast", "slow", "kept", "big", "jobs"};
const uint32_t load_batch_sizes[LOAD_QUEUES] = {3, 3, 2, 2000, 3};

#define BIG_IDS 20000
#define SMALL_IDS 6
#define CLIENT_IDS UINT64_C(1000000000000) // that far apart are two clients' IDs
#define REQUEST_IDS UINT64_C(1000000)      // and two requests'

// Half of the clients are at the upper end, where a double would just do.
static uint64_t first_id(unsigned client, size_t number)
{
    uint64_t base = (client + 1) * CLIENT_IDS;
    return (client % 2 == 0 ? base : ID_VALUE_MAX + 1 - base) + number * REQUEST_IDS;
}

struct posting *load_find(struct load *load, uint64_t id)
{
    for (size_t i = 0; i < load->count; i++) {
        struct client *client = &load->clients[i];
        uint64_t first = first_id(client->number, 0);
        if (id >= first && (id - first) / REQUEST_IDS < client->count) {
            return &client->requests[(id - first) / REQUEST_IDS];
        }
    }
    return NULL;
}

static uint64_t pick(struct client *client, uint64_t n)
{
    return random_below(&client->random, n);
}

// Whether to go on after an answer; what no death explains is kept.
static void expect(struct client *client, const char *what, const struct answer *answer, bool allowed)
{
    if (!allowed && !client->fault[0]) {
        char *text = cJSON_PrintUnformatted(answer->json);
        (void)snprintf(client->fault, sizeof(client->fault), "%s was answered %d: %.180s", what,
                       answer->status, text ? text : "");
        cJSON_free(text);
    }
}

// Nothing can be said of what was asked.
static bool is_lost(const struct answer *answer)
{
    return answer->status == 0 || answer->status == 503 || answer->status == 504;
}

// ---- ingesting ----

static char *members_of(const struct posting *request)
{
    struct buf members;
    size_t len;
    buf_init(&members);
    buf_printf(&members, "\"queue\":\"%s\",\"priority\":\"%s\",\"ids\":[", load_queue_names[request->queue],
               priority_name(request->priority));
    for (unsigned i = 0; i < request->count; i++) {
        buf_printf(&members, "%s%llu", i > 0 ? "," : "", (unsigned long long)(request->first + i));
    }
    buf_str(&members, "]");
    return buf_take(&members, &len);
}

static struct posting make_request(struct client *client)
{
    static const enum load_queue often[] = {QUEUE_FAST, QUEUE_FAST, QUEUE_FAST, QUEUE_FAST,
                                            QUEUE_FAST, QUEUE_FAST, QUEUE_JOBS, QUEUE_JOBS,
                                            QUEUE_JOBS, QUEUE_KEPT, QUEUE_KEPT, QUEUE_BIG};
    struct posting request = {.first = first_id(client->number, client->count)};
    request.queue =
        pick(client, 30) == 0 ? QUEUE_SLOW : often[pick(client, sizeof(often) / sizeof(often[0]))];
    request.priority = (enum priority)pick(client, PRIORITIES);
    request.count = 1 + (unsigned)pick(client, request.queue == QUEUE_BIG ? BIG_IDS : SMALL_IDS);
    return request;
}

static void random_id(struct client *client, char text[static ID_TEXT_SIZE])
{
    uint64_t bits[2] = {random_next(&client->random), random_next(&client->random)};
    struct id id;
    memcpy(id.bytes, bits, sizeof(id.bytes));
    id.bytes[6] = (uint8_t)(0x40 | (id.bytes[6] & 0x0f));
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
    id_format(&id, text);
}

// Notes what an answer says; whether it says something.
static bool take_answer(struct client *client, struct posting *request, const struct answer *answer)
{
    expect(client, "ingest", answer, answer->status == 200 || is_lost(answer));
    if (answer->status == 200) {
        const char *id = answer_text(answer, "ingestion_id");
        expect(client, "a repeated ingest, with another ID,", answer,
               request->end != REQUEST_ACCEPTED || strcmp(request->id, id) == 0);
        (void)snprintf(request->id, sizeof(request->id), "%s", id);
        request->end = REQUEST_ACCEPTED;
    }
    return answer->status == 200 || client->fault[0];
}

// With a key, or over IPC, until it is answered; else once. Sometimes it is sent again although it was
// answered.
static void ingest(struct client *client)
{
    struct posting request = make_request(client);
    char *members = members_of(&request), name[64], id[ID_TEXT_SIZE];
    bool keyed = pick(client, 3) > 0, again = pick(client, 10) == 0, answered = false;
    unsigned times = keyed || talk_is_ipc(client->talk) ? UINT32_MAX : 1;
    request.end = REQUEST_REFUSED;
    (void)snprintf(name, sizeof(name), "client-%u-%zu", client->number, client->count);
    random_id(client, id);
    struct mono end = mono_add(mono_now(), WAIT_S * NS_PER_S);
    for (unsigned i = 0; i < times && (!answered || again); i++) {
        again = again && !answered;
        struct answer answer = talk_ingest(client->talk, members, id, keyed ? name : NULL);
        answered = take_answer(client, &request, &answer);
        if (request.end == REQUEST_REFUSED && answer.status != 503) {
            request.end = REQUEST_UNKNOWN;
        }
        answer_fini(&answer);
        if (!mono_before(mono_now(), end)) {
            (void)snprintf(client->fault, sizeof(client->fault), "no answer within %d s", WAIT_S);
        }
        if (client->fault[0]) {
            break;
        }
        wait_ms(answered ? 0 : 10);
    }
    free(members);
    client->requests[client->count++] = request;
}

// ---- the rest ----

static struct posting *any_accepted(struct client *client)
{
    struct posting *request = client->count > 0 ? &client->requests[pick(client, client->count)] : NULL;
    return request && request->end == REQUEST_ACCEPTED ? request : NULL;
}

static void cancel(struct client *client)
{
    struct posting *request = any_accepted(client);
    if (!request) {
        return;
    }
    request->cancelled = true;
    struct answer answer = talk_about(client->talk, "cancel", request->id);
    expect(client, "cancel", &answer, answer.status == 200 || answer.status == 409 || is_lost(&answer));
    const cJSON *off = cJSON_GetObjectItem(cJSON_GetObjectItem(answer.json, "progress"), "cancelled");
    if (answer.status == 200 && cJSON_IsNumber(off)) {
        request->called_off = off->valueint;
    }
    answer_fini(&answer);
}

static void retry(struct client *client)
{
    struct posting *request = any_accepted(client);
    if (!request) {
        return;
    }
    request->retried = true;
    struct answer answer = talk_about(client->talk, "retry", request->id);
    expect(client, "retry", &answer, answer.status == 200 || is_lost(&answer));
    answer_fini(&answer);
}

// What was accepted is there at all times.
static void look(struct client *client)
{
    struct posting *request = any_accepted(client);
    if (!request) {
        return;
    }
    struct answer answer = talk_about(client->talk, "status", request->id);
    expect(client, "status of what was accepted", &answer, answer.status == 200 || is_lost(&answer));
    answer_fini(&answer);
}

static void *run(void *arg)
{
    struct client *client = arg;
    while (!atomic_load(&client->load->end) && !client->fault[0]) {
        uint64_t what = pick(client, 100);
        if (what < 70 && client->count < REQUESTS_MAX) {
            ingest(client);
        } else if (what < 78) {
            cancel(client);
        } else if (what < 84) {
            retry(client);
        } else {
            look(client);
        }
        wait_ms((int64_t)pick(client, 2 * client->load->pause_ms + 1));
    }
    return NULL;
}

struct load *load_start(const struct sluice *sluice, size_t clients, unsigned pause_ms, struct random *random)
{
    struct load *load = calloc(1, sizeof(*load));
    cr_assert_not_null(load);
    load->clients = calloc(clients, sizeof(*load->clients));
    cr_assert_not_null(load->clients);
    load->count = clients;
    load->pause_ms = pause_ms;
    cr_assert_eq(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK); // before threads do
    for (unsigned i = 0; i < clients; i++) {
        struct client *client = &load->clients[i];
        *client = (struct client){.number = i, .load = load};
        client->random.state = random_next(random);
        client->talk = i / 2 % 2 == 0 ? talk_http(sluice) : talk_ipc(sluice);
        cr_assert_eq(pthread_create(&client->thread, NULL, run, client), 0);
    }
    return load;
}

void load_stop(struct load *load)
{
    atomic_store(&load->end, true);
    for (size_t i = 0; i < load->count; i++) {
        pthread_join(load->clients[i].thread, NULL);
        talk_free(load->clients[i].talk);
    }
    for (size_t i = 0; i < load->count; i++) {
        cr_assert_str_empty(load->clients[i].fault, "client %zu: %s", i, load->clients[i].fault);
    }
}

void load_free(struct load *load)
{
    free(load->clients);
    free(load);
}
