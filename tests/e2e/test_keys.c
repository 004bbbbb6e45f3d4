// Keys over HTTP: who comes in, what each sees, and how keys come and go while the gateway serves.
#include "common/buf.h"
#include "common/conf.h"
#include "tests/support/cli.h"
#include "tests/support/queues.h"
#include "tests/support/sluice.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BODY "{\"ids\":[1,2,3],\"priority\":\"HIGH\"}"
#define UNKNOWN "01900000-0000-7000-8000-000000000000"

TestSuite(keys_http, .fini = sluice_cleanup);

// ---- Support ----

struct key_text {
    char header[96]; // "Authorization: Bearer ..."
};

// `sluice key add NAME --role ROLES`, with one more option or none.
static struct key_text add_key(const struct sluice *sluice, const char *name, const char *roles,
                               const char *option, const char *value)
{
    struct key_text key;
    char *token =
        cli_out(sluice, option ? LIST("key", "add", name, "--keys", "keys", "--role", roles, option, value)
                               : LIST("key", "add", name, "--keys", "keys", "--role", roles));
    token[strcspn(token, "\n")] = '\0';
    (void)snprintf(key.header, sizeof(key.header), "Authorization: Bearer %s", token);
    free(token);
    return key;
}

static void start(struct sluice *sluice)
{
    sluice_launch(sluice, SCHEDULER);
    sluice_launch(sluice, GATEWAY);
}

static struct sluice *with_keys(const char *const *scheduler_flags)
{
    // A file's name counts from where the gateway is started, which is the sluice's directory.
    return sluice_new(scheduler_flags, LIST("--keys", "keys", "--access-log", "on"));
}

// key: NULL for none.
static struct http_response send_with(const struct sluice *sluice, const struct key_text *key,
                                      const char *method, const char *path, const char *body)
{
    char url[SLUICE_TEXT + 128];
    (void)snprintf(url, sizeof(url), "%s%s", sluice->url, path);
    return http_send(&(struct http_request){
        .method = method,
        .url = url,
        .headers = LIST("Content-Type: application/json", key ? key->header : "X-Other: 1"),
        .body = body});
}

static void expect_status(const struct sluice *sluice, const struct key_text *key, const char *method,
                          const char *path, const char *body, long status)
{
    struct http_response response = send_with(sluice, key, method, path, body);
    cr_assert_eq(response.status, status, "%s %s: %ld %s", method, path, response.status, response.body);
    http_response_fini(&response);
}

static struct ingested post(const struct sluice *sluice, const struct key_text *key, const char *body)
{
    struct ingested ingested;
    struct http_response response = send_with(sluice, key, "POST", "/ingest", body);
    cr_assert_eq(response.status, 200, "%s", response.body);
    (void)snprintf(ingested.id, sizeof(ingested.id), "%s", json_text(response.json, "ingestion_id"));
    http_response_fini(&response);
    return ingested;
}

// A path with an ID in it, until the next one.
static const char *path_of(const char *before, const char *id, const char *behind)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s%s%s", before, id, behind);
    return path;
}

// The IDs in a list, each followed by a blank, in the order that they come; to be freed.
static char *listed(const struct sluice *sluice, const struct key_text *key, const char *path)
{
    struct buf ids;
    const cJSON *item;
    struct http_response response = send_with(sluice, key, "GET", path, NULL);
    cr_assert_eq(response.status, 200, "%s", response.body);
    buf_init(&ids);
    cJSON_ArrayForEach(item, json_member(response.json, "ingestions"))
    {
        buf_printf(&ids, "%s ", json_text(item, "ingestion_id"));
    }
    http_response_fini(&response);
    buf_str(&ids, "");
    return ids.data ? ids.data : strdup("");
}

static void expect_listed(const struct sluice *sluice, const struct key_text *key, const char *path,
                          const char *const *ids)
{
    char wanted[512] = "";
    char *got = listed(sluice, key, path);
    for (size_t i = 0; ids[i]; i++) {
        size_t len = strlen(wanted);
        (void)snprintf(wanted + len, sizeof(wanted) - len, "%s ", ids[i]);
    }
    cr_assert_str_eq(got, wanted, "%s", path);
    free(got);
}

// ---- Who comes in ----

Test(keys_http, nobody_without_a_key)
{
    static const char *const routes[][2] = {
        {"POST", "/ingest"},
        {"GET", "/status/" UNKNOWN},
        {"GET", "/ingestions"},
        {"POST", "/ingestions/" UNKNOWN "/cancel"},
        {"POST", "/ingestions/" UNKNOWN "/retry"},
        {"GET", "/queues"},
        {"GET", "/queues/default"},
        {"PUT", "/queues/default"},
        {"DELETE", "/queues/default"},
        {"POST", "/queues/default/pause"},
        {"POST", "/queues/default/resume"},
        {"POST", "/queues/default/retry"},
        {"GET", "/metrics"},
    };
    struct key_text wrong = {"Authorization: Bearer sluice_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    struct sluice *sluice = with_keys(NULL);
    (void)add_key(sluice, "shop", "submit,read,operate", NULL, NULL);
    start(sluice);
    for (size_t i = 0; i < COUNT(routes); i++) {
        for (int known = 0; known < 2; known++) {
            char challenge[128];
            const char *body = strcmp(routes[i][0], "GET") == 0 ? NULL : BODY;
            struct http_response response =
                send_with(sluice, known ? &wrong : NULL, routes[i][0], routes[i][1], body);
            cr_assert_eq(response.status, 401, "%s: %ld %s", routes[i][1], response.status, response.body);
            cr_assert_str_eq(json_text(response.json, "code"), "unauthorized");
            cr_assert(http_response_header(&response, "WWW-Authenticate", challenge, sizeof(challenge)));
            cr_assert_eq(strncmp(challenge, "Bearer realm=\"sluice\"", 21), 0, "%s", challenge);
            cr_assert_eq(strstr(challenge, "invalid_token") != NULL, known == 1);
            cr_assert_null(strstr(response.body, "sluice_A"), "%s", response.body);
            http_response_fini(&response);
        }
    }
    expect_status(sluice, NULL, "GET", "/healthz", NULL, 200);
    expect_status(sluice, NULL, "GET", "/readyz", NULL, 200);
    expect_status(sluice, NULL, "GET", "/nothing", NULL, 404);
    sluice_end(sluice);
}

static size_t reloads(const struct sluice *sluice)
{
    size_t count = 0;
    char *log = file_text(sluice->log[GATEWAY]);
    for (const char *at = log; (at = strstr(at, "gateway reloaded")); at++) {
        count++;
    }
    free(log);
    return count;
}

static void reload(struct sluice *sluice)
{
    size_t before = reloads(sluice);
    cr_assert_eq(kill(sluice->part[GATEWAY].pid, SIGHUP), 0);
    WAIT_FOR(reloads(sluice) > before);
}

// ---- One connection ----

static int raw_open(const struct sluice *sluice)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port =
                                      htons((uint16_t)strtoul(strrchr(sluice->url, ':') + 1, NULL, 10))};
    struct timeval limit = {.tv_sec = WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    return fd;
}

// The status of the answer to a request with these headers, each with its CRLF; the answer's body is read to
// its end.
static int raw_status(int fd, const char *line, const char *headers)
{
    char text[4096];
    size_t len = 0;
    int status = 0;
    int asked = snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: x\r\n%s\r\n", line, headers);
    cr_assert_eq(send(fd, text, (size_t)asked, MSG_NOSIGNAL), asked);
    for (const char *end = NULL, *length;
         !end || len < (size_t)(end + 4 - text) + strtoul(length + 16, NULL, 10);) {
        ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        cr_assert_gt(n, 0, "no whole answer to %s", line);
        len += (size_t)n;
        text[len] = '\0';
        end = strstr(text, "\r\n\r\n");
        length = strstr(text, "Content-Length: ");
        cr_assert(!end || length, "%s", text);
    }
    cr_assert_eq(sscanf(text, "HTTP/1.1 %d ", &status), 1, "%s", text);
    return status;
}

// Neither is a body waited for that is refused, nor do those who have no key take the room for others'
// bodies.
Test(keys_http, a_refusal_does_not_wait_for_the_body)
{
    static const char length[] = "Content-Type: application/json\r\nContent-Length: 600000\r\n";
    struct sluice *sluice = with_keys(NULL);
    (void)add_key(sluice, "shop", "submit", NULL, NULL);
    start(sluice);
    int fd = raw_open(sluice);
    cr_assert_eq(raw_status(fd, "POST /ingest", length), 401);
    close(fd);
    fd = raw_open(sluice);
    cr_assert_eq(raw_status(fd, "GET /healthz", length), 413);
    close(fd);
    fd = raw_open(sluice);
    cr_assert_eq(raw_status(fd, "GET /readyz", length), 413);
    close(fd);
    sluice_end(sluice);
}

// As a proxy sends what comes from many: each request has its own key, or none.
Test(keys_http, a_connection_is_nobodys)
{
    struct sluice *sluice = with_keys(NULL);
    struct key_text desk = add_key(sluice, "desk", "read", NULL, NULL);
    struct key_text shop = add_key(sluice, "shop", "submit", NULL, NULL);
    char desk_header[128];
    char shop_header[128];
    (void)snprintf(desk_header, sizeof(desk_header), "%s\r\n", desk.header);
    (void)snprintf(shop_header, sizeof(shop_header), "%s\r\n", shop.header);
    start(sluice);
    int fd = raw_open(sluice);
    cr_assert_eq(raw_status(fd, "GET /queues/default", desk_header), 200);
    cr_assert_eq(raw_status(fd, "GET /queues/default", desk_header), 200);
    cr_assert_eq(raw_status(fd, "GET /queues/default", ""), 401);
    cr_assert_eq(raw_status(fd, "GET /healthz", ""), 200);
    cr_assert_eq(raw_status(fd, "GET /queues/default", shop_header), 403);
    cr_assert_eq(raw_status(fd, "GET /queues/default", desk_header), 200);
    free(cli_out(sluice, LIST("key", "revoke", "desk", "--keys", "keys")));
    reload(sluice);
    cr_assert_eq(raw_status(fd, "GET /queues/default", desk_header), 401);
    cr_assert_eq(raw_status(fd, "GET /queues/default", shop_header), 403);
    close(fd);
    sluice_end(sluice);
}

Test(keys_http, a_missing_role_is_named)
{
    struct sluice *sluice = with_keys(NULL);
    struct key_text read = add_key(sluice, "desk", "read", NULL, NULL);
    struct key_text submit = add_key(sluice, "shop", "submit", NULL, NULL);
    struct key_text operate = add_key(sluice, "boss", "operate", NULL, NULL);
    const struct {
        const struct key_text *key;
        const char *method, *path, *body, *role;
    } rows[] = {
        {&read, "POST", "/ingest", BODY, "submit"},
        {&operate, "POST", "/ingest", BODY, "submit"},
        {&read, "PUT", "/queues/a", "{\"rate\":\"1/s\"}", "operate"},
        {&submit, "POST", "/queues/default/pause", NULL, "operate"},
        {&submit, "GET", "/metrics", NULL, "read"},
        {&operate, "GET", "/queues", NULL, "read"},
    };
    start(sluice);
    for (size_t i = 0; i < COUNT(rows); i++) {
        char challenge[128];
        char wanted[64];
        struct http_response response =
            send_with(sluice, rows[i].key, rows[i].method, rows[i].path, rows[i].body);
        cr_assert_eq(response.status, 403, "%s: %ld %s", rows[i].path, response.status, response.body);
        cr_assert_str_eq(json_text(response.json, "code"), "forbidden");
        (void)snprintf(wanted, sizeof(wanted), "role %s", rows[i].role);
        cr_assert_not_null(strstr(json_text(response.json, "detail"), wanted), "%s", response.body);
        cr_assert(http_response_header(&response, "WWW-Authenticate", challenge, sizeof(challenge)));
        (void)snprintf(wanted, sizeof(wanted), "scope=\"%s\"", rows[i].role);
        cr_assert_not_null(strstr(challenge, wanted), "%s", challenge);
        http_response_fini(&response);
    }
    expect_status(sluice, &operate, "PUT", "/queues/a", "{\"rate\":\"1/s\"}", 200);
    expect_status(sluice, &operate, "POST", "/queues/a/pause", NULL, 200);
    expect_status(sluice, &operate, "DELETE", "/queues/a", NULL, 200);
    expect_status(sluice, &read, "GET", "/queues", NULL, 200);
    expect_status(sluice, &read, "GET", "/metrics", NULL, 200);
    sluice_end(sluice);
}

// ---- What each sees ----

Test(keys_http, a_submitter_sees_its_own_and_a_reader_all)
{
    struct sluice *sluice = with_keys(LIST("--rate", "1/1h"));
    struct key_text shop = add_key(sluice, "shop", "submit", NULL, NULL);
    struct key_text mill = add_key(sluice, "mill", "submit", NULL, NULL);
    struct key_text desk = add_key(sluice, "desk", "read", NULL, NULL);
    start(sluice);
    struct ingested a = post(sluice, &shop, BODY);
    struct ingested b = post(sluice, &mill, BODY);
    struct ingested c = post(sluice, &shop, BODY);
    expect_status(sluice, &shop, "GET", path_of("/status/", a.id, ""), NULL, 200);
    expect_listed(sluice, &shop, "/ingestions", LIST(c.id, a.id));
    expect_listed(sluice, &mill, "/ingestions", LIST(b.id));
    expect_listed(sluice, &desk, "/ingestions", LIST(c.id, b.id, a.id));
    struct http_response seen = send_with(sluice, &desk, "GET", path_of("/status/", b.id, ""), NULL);
    cr_assert_str_eq(json_text(seen.json, "owner"), "mill");
    http_response_fini(&seen);

    // What is another's looks like what is not there.
    struct http_response other = send_with(sluice, &shop, "GET", path_of("/status/", b.id, ""), NULL);
    struct http_response none = send_with(sluice, &shop, "GET", "/status/" UNKNOWN, NULL);
    cr_assert_eq(other.status, 404);
    cr_assert_str_eq(other.body, none.body);
    http_response_fini(&other);
    http_response_fini(&none);
    expect_status(sluice, &shop, "POST", path_of("/ingestions/", b.id, "/cancel"), NULL, 404);
    expect_status(sluice, &shop, "POST", path_of("/ingestions/", b.id, "/retry"), NULL, 404);
    expect_status(sluice, &desk, "POST", path_of("/ingestions/", b.id, "/cancel"), NULL, 403);
    expect_status(sluice, &mill, "POST", path_of("/ingestions/", b.id, "/cancel"), NULL, 200);
    sluice_end(sluice);
}

// Before there were keys nobody owned what came.
Test(keys_http, what_is_older_than_the_keys_is_for_readers)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h"), NULL);
    struct ingested old = post(sluice, NULL, BODY);
    cr_assert_eq(sluice_stop(sluice, GATEWAY), EXIT_CODE_OK);
    struct key_text shop = add_key(sluice, "shop", "submit", NULL, NULL);
    struct key_text desk = add_key(sluice, "desk", "read", NULL, NULL);
    sluice_set_flags(sluice, GATEWAY, LIST("--keys", "keys"));
    sluice_launch(sluice, GATEWAY);
    expect_status(sluice, &shop, "GET", path_of("/status/", old.id, ""), NULL, 404);
    expect_status(sluice, &desk, "GET", path_of("/status/", old.id, ""), NULL, 200);
    sluice_end(sluice);
}

static struct http_response post_idempotent(const struct sluice *sluice, const struct key_text *key)
{
    char url[SLUICE_TEXT + 16];
    (void)snprintf(url, sizeof(url), "%s/ingest", sluice->url);
    return http_send(&(struct http_request){
        .url = url,
        .headers = LIST("Content-Type: application/json", key->header, "Idempotency-Key: order-7"),
        .body = BODY});
}

Test(keys_http, an_idempotency_key_is_its_owners)
{
    struct sluice *sluice = with_keys(LIST("--rate", "1/1h"));
    struct key_text shop = add_key(sluice, "shop", "submit", NULL, NULL);
    struct key_text again = add_key(sluice, "shop", "submit", NULL, NULL); // the one that takes its place
    struct key_text mill = add_key(sluice, "mill", "submit", NULL, NULL);
    char replayed[8];
    start(sluice);
    struct http_response first = post_idempotent(sluice, &shop);
    struct http_response second = post_idempotent(sluice, &again);
    struct http_response other = post_idempotent(sluice, &mill);
    cr_assert(first.status == 200 && second.status == 200 && other.status == 200, "%s", other.body);
    cr_assert_str_eq(json_text(first.json, "ingestion_id"), json_text(second.json, "ingestion_id"));
    cr_assert(http_response_header(&second, "Idempotent-Replayed", replayed, sizeof(replayed)));
    cr_assert_str_neq(json_text(first.json, "ingestion_id"), json_text(other.json, "ingestion_id"));
    cr_assert_not(http_response_header(&other, "Idempotent-Replayed", replayed, sizeof(replayed)));
    http_response_fini(&first);
    http_response_fini(&second);
    http_response_fini(&other);
    sluice_end(sluice);
}

Test(keys_http, a_key_keeps_to_its_queues)
{
    static const char on_a[] = "{\"ids\":[1],\"priority\":\"LOW\",\"queue\":\"a\"}";
    struct sluice *sluice = with_keys(LIST("--rate", "1/1h"));
    struct key_text boss = add_key(sluice, "boss", "submit,read,operate", NULL, NULL);
    struct key_text some = add_key(sluice, "some", "submit,read,operate", "--queues", "a,b");
    start(sluice);
    expect_status(sluice, &some, "PUT", "/queues/a", "{\"rate\":\"1/h\"}", 200);
    expect_status(sluice, &some, "PUT", "/queues/c", "{\"rate\":\"1/h\"}", 403);
    expect_status(sluice, &some, "GET", "/queues/default", NULL, 403);
    expect_status(sluice, &some, "POST", "/queues/default/pause", NULL, 403);
    expect_status(sluice, &some, "GET", "/metrics", NULL, 403);
    expect_status(sluice, &some, "POST", "/ingest", BODY, 403); // which is for the queue default
    expect_status(sluice, &some, "GET", "/ingestions?queue=default", NULL, 403);
    struct ingested mine = post(sluice, &some, on_a);
    struct ingested theirs = post(sluice, &boss, BODY);
    struct ingested also = post(sluice, &boss, on_a);
    expect_listed(sluice, &some, "/ingestions", LIST(also.id, mine.id));
    expect_listed(sluice, &some, "/ingestions?queue=a", LIST(also.id, mine.id));
    expect_status(sluice, &some, "GET", path_of("/status/", theirs.id, ""), NULL, 404);
    expect_status(sluice, &some, "GET", path_of("/status/", also.id, ""), NULL, 200);
    expect_status(sluice, &some, "POST", path_of("/ingestions/", theirs.id, "/cancel"), NULL, 404);
    expect_status(sluice, &some, "POST", path_of("/ingestions/", also.id, "/cancel"), NULL, 200);
    struct http_response queues = send_with(sluice, &some, "GET", "/queues", NULL);
    cr_assert_eq(cJSON_GetArraySize(json_member(queues.json, "queues")), 1, "%s", queues.body);
    http_response_fini(&queues);
    sluice_end(sluice);
}

// ---- How fast ----

Test(keys_http, a_key_that_asks_too_often_waits)
{
    char after[16];
    struct sluice *sluice = with_keys(NULL);
    struct key_text slow = add_key(sluice, "slow", "read", "--rate", "2/1h");
    struct key_text desk = add_key(sluice, "desk", "read", NULL, NULL);
    start(sluice);
    expect_status(sluice, &slow, "GET", "/queues", NULL, 200);
    expect_status(sluice, &slow, "GET", "/queues", NULL, 200);
    struct http_response response = send_with(sluice, &slow, "GET", "/queues", NULL);
    cr_assert_eq(response.status, 429, "%s", response.body);
    cr_assert_str_eq(json_text(response.json, "code"), "too_many_requests");
    cr_assert(http_response_header(&response, "Retry-After", after, sizeof(after)));
    long seconds = strtol(after, NULL, 10);
    cr_assert(seconds > 0 && seconds <= 1800, "%s", after); // one each half hour
    http_response_fini(&response);
    expect_status(sluice, &desk, "GET", "/queues", NULL, 200);
    sluice_end(sluice);
}

// ---- Keys come and go ----

struct client {
    const struct sluice *sluice;
    const struct key_text *key;
    atomic_bool stop;
    atomic_size_t good, bad;
};

static void *client_run(void *arg)
{
    struct client *client = arg;
    while (!client->stop) {
        struct http_response response = send_with(client->sluice, client->key, "POST", "/ingest", BODY);
        if (response.status == 200) {
            client->good++;
        } else {
            client->bad++;
        }
        http_response_fini(&response);
    }
    return NULL;
}

Test(keys_http, a_hangup_reads_them_again_and_drops_nobody)
{
    struct sluice *sluice = with_keys(LIST("--rate", "unlimited", "--target", "simulate:0s"));
    struct key_text shop = add_key(sluice, "shop", "submit", NULL, NULL);
    struct client client = {.sluice = sluice, .key = &shop};
    pthread_t threads[2];
    start(sluice);
    for (size_t i = 0; i < COUNT(threads); i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, client_run, &client), 0);
    }
    for (int i = 0; i < 10; i++) {
        char name[32];
        size_t good = client.good;
        (void)snprintf(name, sizeof(name), "guest-%d", i);
        struct key_text guest = add_key(sluice, name, "read", NULL, NULL);
        expect_status(sluice, &guest, "GET", "/queues", NULL, 401);
        reload(sluice);
        expect_status(sluice, &guest, "GET", "/queues", NULL, 200);
        free(cli_out(sluice, LIST("key", "revoke", name, "--keys", "keys")));
        reload(sluice);
        expect_status(sluice, &guest, "GET", "/queues", NULL, 401);
        WAIT_FOR(client.good > good);
    }
    client.stop = true;
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    cr_assert_eq(client.bad, 0);
    sluice_end(sluice);
}

Test(keys_http, a_bad_file_leaves_those_before_in_force)
{
    struct sluice *sluice = with_keys(NULL);
    struct key_text shop = add_key(sluice, "shop", "read", NULL, NULL);
    start(sluice);
    char *path = sluice_path(sluice, "keys");
    FILE *file = fopen(path, "a");
    cr_assert(file && fputs("nonsense\n", file) >= 0 && fclose(file) == 0);
    cr_assert_eq(kill(sluice->part[GATEWAY].pid, SIGHUP), 0);
    WAIT_FOR(sluice_logged(sluice, GATEWAY, "ERROR gateway not_reloaded"));
    cr_assert(sluice_logged(sluice, GATEWAY, "keys: line 2: "));
    expect_status(sluice, &shop, "GET", "/queues", NULL, 200);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(kill(sluice->part[GATEWAY].pid, SIGHUP), 0);
    WAIT_FOR(sluice_logged(sluice, GATEWAY, "keys: No such file or directory"));
    expect_status(sluice, &shop, "GET", "/queues", NULL, 200);
    free(path);
    sluice_end(sluice);
}

Test(keys_http, a_file_that_is_no_good_is_refused_at_the_start)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *path = sluice_path(sluice, "keys");
    char *out, *err;
    cr_assert_eq(sluice_run(sluice, GATEWAY, LIST("--keys", path), NULL, &out, &err), EXIT_CODE_CONFIG);
    cr_assert_not_null(strstr(err, "No such file"), "%s", err);
    free(out);
    free(err);
    FILE *file = fopen(path, "w");
    cr_assert(file && fputs("# keys\nshop boss 12\n", file) >= 0 && fclose(file) == 0);
    cr_assert_eq(sluice_run(sluice, GATEWAY, LIST("--keys", path), NULL, &out, &err), EXIT_CODE_CONFIG);
    cr_assert(strstr(err, path) && strstr(err, "line 2: the roles"), "%s", err);
    free(out);
    free(err);
    free(path);
    sluice_end(sluice);
}

// With keys other hosts may come, and somebody is told that plain HTTP shows them.
Test(keys_http, keys_open_every_address)
{
    char listen[SLUICE_TEXT];
    struct sluice *sluice = with_keys(NULL);
    struct key_text shop = add_key(sluice, "shop", "read", NULL, NULL);
    (void)snprintf(listen, sizeof(listen), "http://0.0.0.0%s", strrchr(sluice->url, ':'));
    sluice_set_flags(sluice, GATEWAY, LIST("--keys", "keys", "--listen", listen));
    start(sluice);
    expect_status(sluice, &shop, "GET", "/queues", NULL, 200);
    cr_assert(sluice_logged(sluice, GATEWAY, "WARNING gateway keys_in_clear"));
    sluice_end(sluice);
}

// ---- What is told of them ----

Test(keys_http, a_name_is_logged_and_a_key_never)
{
    struct sluice *sluice = with_keys(LIST("--access-log", "on", "--log-level", "debug"));
    struct key_text shop = add_key(sluice, "shop", "submit", NULL, NULL);
    const char *token = strstr(shop.header, "sluice_");
    start(sluice);
    (void)post(sluice, &shop, BODY);
    expect_status(sluice, &shop, "GET", "/queues", NULL, 403);
    WAIT_FOR(sluice_logged(sluice, GATEWAY, "route=/queues status=403 code=forbidden"));
    cr_assert(sluice_logged(sluice, GATEWAY, " key=shop\n"));
    cr_assert_not(sluice_logged(sluice, GATEWAY, token) || sluice_logged(sluice, SCHEDULER, token));
    char *keys = sluice_path(sluice, "keys");
    char *text = file_text(keys);
    cr_assert(strstr(text, "shop submit ") && !strstr(text, token));
    free(text);
    free(keys);
    sluice_end(sluice);
}
