// A rolling upgrade: each program is stopped and started again under traffic, and no request is lost.
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(upgrade, .fini = sluice_cleanup);

#define CLIENTS 8u
#define REQUESTS_MAX 20000u // of a client
#define BETWEEN 100u        // requests, of all clients, between two restarts
#define TRIES_MAX 1000u     // of a request, where a gateway may be away

struct client {
    pthread_t thread;
    const struct sluice *gateways[2]; // asked in turn, when one is away
    size_t gateway_count;
    unsigned number;
    const atomic_bool *enough;
    atomic_uint *answered; // by all clients
    unsigned ingested;     // of this one
    char id[REQUESTS_MAX][ID_TEXT_SIZE];
    long refused; // the status of an answer that should not have been, 0: none
    char why[512];
};

static struct http_response post(const struct client *client, unsigned n, size_t gateway)
{
    char body[128], key[64], url[SLUICE_TEXT + 16];
    const char *headers[] = {"Content-Type: application/json", key, NULL};
    (void)snprintf(body, sizeof(body), "{\"priority\":\"LOW\",\"ids\":[%u]}",
                   client->number * REQUESTS_MAX + n + 1);
    (void)snprintf(key, sizeof(key), "Idempotency-Key: %u-%u", client->number, n);
    (void)snprintf(url, sizeof(url), "%s/ingest", client->gateways[gateway]->url);
    if (client->gateway_count == 1) {
        headers[1] = NULL; // nobody repeats anything
    }
    return http_send(&(struct http_request){.url = url, .headers = headers, .body = body});
}

static bool is_good(struct client *client, const struct http_response *response)
{
    if (response->status == 200 && response->json) {
        return true;
    }
    client->refused = response->status ? response->status : -1;
    (void)snprintf(client->why, sizeof(client->why), "%s", response->body ? response->body : "no answer");
    return false;
}

// True when it was answered well. One whose gateway is away, or ends, goes to the other one.
static bool ingest(struct client *client)
{
    unsigned n = client->ingested;
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        struct http_response response = post(client, n, (n + tries) % client->gateway_count);
        bool again = client->gateway_count > 1 && response.status == 0;
        bool good = !again && is_good(client, &response);
        if (good) {
            (void)snprintf(client->id[client->ingested++], ID_TEXT_SIZE, "%s",
                           cJSON_GetStringValue(cJSON_GetObjectItem(response.json, "ingestion_id")));
        }
        http_response_fini(&response);
        if (!again) {
            return good;
        }
        wait_ms(1);
    }
    client->refused = -1;
    (void)snprintf(client->why, sizeof(client->why), "no gateway answers");
    return false;
}

// What was accepted is there at once.
static bool look(struct client *client)
{
    struct http_response response =
        sluice_get(client->gateways[0], "/status/%s", client->id[client->ingested - 1]);
    bool good = is_good(client, &response);
    http_response_fini(&response);
    return good;
}

static void *run(void *arg)
{
    struct client *client = arg;
    while (!atomic_load(client->enough) && client->ingested < REQUESTS_MAX && ingest(client) &&
           (client->gateway_count > 1 || client->ingested % 4 > 0 || look(client))) {
        atomic_fetch_add(client->answered, 1);
    }
    return NULL;
}

struct traffic {
    struct client *clients;
    atomic_bool enough;
    atomic_uint answered;
};

static struct traffic *traffic_start(const struct sluice *one, const struct sluice *other)
{
    struct traffic *traffic = calloc(1, sizeof(*traffic));
    cr_assert(traffic && (traffic->clients = calloc(CLIENTS, sizeof(*traffic->clients))));
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &traffic->clients[i];
        client->gateways[0] = one;
        client->gateways[1] = other;
        client->gateway_count = other ? 2 : 1;
        client->number = i;
        client->enough = &traffic->enough;
        client->answered = &traffic->answered;
        cr_assert_eq(pthread_create(&client->thread, NULL, run, client), 0);
    }
    return traffic;
}

static bool any_refused(const struct traffic *traffic)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (traffic->clients[i].refused) {
            return true;
        }
    }
    return false;
}

static void traffic_flows(struct traffic *traffic)
{
    unsigned goal = atomic_load(&traffic->answered) + BETWEEN;
    WAIT_FOR(atomic_load(&traffic->answered) >= goal);
}

// Every request was answered well, and is one ingestion.
static void traffic_end(struct traffic *traffic, const struct sluice *sluice)
{
    unsigned all = 0;
    atomic_store(&traffic->enough, true);
    for (unsigned i = 0; i < CLIENTS; i++) {
        cr_assert_eq(pthread_join(traffic->clients[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        const struct client *client = &traffic->clients[i];
        cr_assert_eq(client->refused, 0, "request %u of client %u: %ld %s", client->ingested, i,
                     client->refused, client->why);
        for (unsigned n = 0; n < client->ingested; n += 7) {
            char expected[32];
            char *ids = sluice_ids(sluice, client->id[n], 10);
            (void)snprintf(expected, sizeof(expected), "%u", i * REQUESTS_MAX + n + 1);
            cr_assert_str_eq(ids, expected);
            free(ids);
        }
        all += client->ingested;
    }
    cr_assert_not(any_refused(traffic));
    cr_assert_eq(queue_figure(sluice, "default", "waiting"), all, "%u were accepted", all);
    free(traffic->clients);
    free(traffic);
}

// As long as it is back within --timeout nobody sees that it was away.
Test(upgrade, of_the_scheduler)
{
    enum { TIMES = 6 };
    struct sluice *sluice = sluice_start(NULL, LIST("--timeout", "60s"));
    queue_do(sluice, "default", "pause");
    struct traffic *traffic = traffic_start(sluice, NULL);
    for (int i = 0; i < TIMES; i++) {
        traffic_flows(traffic);
        if (i % 3 == 2) {
            sluice_kill(sluice, SCHEDULER);
        } else {
            cr_assert_eq(sluice_stop(sluice, SCHEDULER), 0);
        }
        sluice_launch(sluice, SCHEDULER);
    }
    traffic_flows(traffic);
    traffic_end(traffic, sluice);
    sluice_end(sluice);
}

// One after the other, while the clients go to the one that is there. One of them is killed.
Test(upgrade, of_two_gateways)
{
    enum { TIMES = 6 };
    struct sluice *sluice = sluice_start(NULL, LIST("--timeout", "60s"));
    struct sluice *second = sluice_new(NULL, LIST("--timeout", "60s"));
    memcpy(second->ipc, sluice->ipc, sizeof(second->ipc));
    sluice_launch(second, GATEWAY);
    queue_do(sluice, "default", "pause");
    struct traffic *traffic = traffic_start(sluice, second);
    for (int i = 0; i < TIMES; i++) {
        struct sluice *next = i % 2 == 0 ? sluice : second;
        traffic_flows(traffic);
        if (i == TIMES / 2) {
            sluice_kill(next, GATEWAY);
        } else {
            cr_assert_eq(sluice_stop(next, GATEWAY), 0);
        }
        sluice_launch(next, GATEWAY);
    }
    traffic_flows(traffic);
    traffic_end(traffic, sluice);
    sluice_end(second);
    sluice_end(sluice);
}
