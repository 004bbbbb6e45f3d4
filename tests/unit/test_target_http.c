#include "tests/unit/http_target_fixture.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}
// ---- the request ----

Test(target_http, posts_what_the_contract_says)
{
    struct fixture f;
    char value[128];

    struct http_target *server = begin_with_server(&f);
    struct delivery *delivery = deliver(&f, make(&f, 7));
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED);
    cr_assert_str_eq(delivery->outcome.error, "");
    cr_assert_eq(http_target_count(server), 1);

    struct http_target_request request = http_target_get(server, 0);
    cr_assert_str_eq(request.method, "POST");
    cr_assert_str_eq(request.path, "/deliver");
    cr_assert_str_eq(request.version, "HTTP/1.1");
    cr_assert_str_eq(request.body, "{\"ingestion_id\":\"0198c0de-0000-7000-8000-000000000001\","
                                   "\"batch_id\":\"5a0d0c60-1111-5222-8333-000000000007\",\"queue\":\"mail\","
                                   "\"priority\":\"MEDIUM\",\"ids\":[1,2,9007199254740991],\"attempt\":3}");
    static const char *const headers[][2] = {
        {"idempotency-key", "5a0d0c60-1111-5222-8333-000000000007"},
        {"Content-Type", "application/json"},
        {"User-Agent", "sluice/" SLUICE_VERSION},
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        cr_assert(http_target_header(&request, headers[i][0], value, sizeof(value)), "%s", headers[i][0]);
        cr_assert_str_eq(value, headers[i][1]);
    }
    cr_assert(http_target_header(&request, "Content-Length", value, sizeof(value)));
    cr_assert_eq(strtoul(value, NULL, 10), request.body_len);
    static const char *const absent[] = {"Expect", "Transfer-Encoding", "Upgrade", "HTTP2-Settings"};
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        cr_assert_not(http_target_header(&request, absent[i], value, sizeof(value)), "%s", absent[i]);
    }

    cr_assert(!mono_before(request.arrived, delivery->started));
    cr_assert_geq(delivery->outcome.took_ns, mono_diff(request.arrived, delivery->started));
    delivery_free(delivery);
    end_with_server(&f, server);
}

Test(target_http, sends_long_bodies_whole)
{
    struct fixture f;
    struct buf ids;
    size_t len;

    struct http_target *server = begin_with_server(&f);
    struct delivery *delivery = make(&f, 1);
    buf_init(&ids);
    for (int i = 0; i < 100000; i++) {
        buf_str(&ids, i == 0 ? "9007199254740991" : ",9007199254740991");
    }
    free(delivery->ids);
    delivery->ids = buf_take(&ids, &len);
    (void)deliver(&f, delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED);
    struct http_target_request request = http_target_get(server, 0);
    cr_assert_not_null(strstr(request.body, delivery->ids));
    delivery_free(delivery);
    end_with_server(&f, server);
}

Test(target_http, keeps_connections)
{
    struct fixture f;
    char key[64], expected[ID_TEXT_SIZE];

    struct http_target *server = begin_with_server(&f);
    for (uint8_t i = 0; i < 50; i++) {
        delivery_free(deliver(&f, make(&f, i)));
    }
    cr_assert_eq(http_target_connections(server), 1);
    for (uint8_t i = 0; i < 50; i++) {
        struct http_target_request request = http_target_get(server, i);
        struct delivery *same = make(&f, i);
        id_format(&same->batch, expected);
        cr_assert(http_target_header(&request, "Idempotency-Key", key, sizeof(key)));
        cr_assert_str_eq(key, expected);
        cr_assert_not_null(strstr(request.body, expected));
        delivery_free(same);
    }
    end_with_server(&f, server);
}

// Several deliveries on kept connections all at once.
Test(target_http, runs_deliveries_side_by_side)
{
    enum { WIDTH = 16, ROUNDS = 20 };
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    for (int i = 0; i < WIDTH; i++) {
        target_start(make(&f, 0));
    }
    for (int i = 0; i < WIDTH * ROUNDS; i++) {
        struct delivery *delivery = next_done(&f);
        cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
        if (i < WIDTH * (ROUNDS - 1)) {
            target_start(delivery);
        } else {
            delivery_free(delivery);
        }
    }
    cr_assert_eq(http_target_count(server), WIDTH * ROUNDS);
    cr_assert_leq(http_target_connections(server), WIDTH);
    end_with_server(&f, server);
}

Test(target_http, tells_a_late_start_before_the_end)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    struct delivery *delivery = make(&f, 1);
    delivery->slot = mono_add(mono_now(), -5 * NS_PER_MS);
    target_start(delivery);
    cr_assert_eq(next_item(&f), &delivery->start);
    cr_assert_eq(delivery->start.kind, INBOX_STARTED);
    cr_assert_eq(next_done(&f), delivery);
    delivery_free(delivery);
    end_with_server(&f, server);
}

// ---- the answer ----

struct answer_case {
    struct http_target_answer answer;
    enum outcome_class class;
    bool down;
    int64_t hold_s;
    enum hold_reason by;
    const char *error;
};

static const struct answer_case answers[] = {
    {{.status = 200}, OUTCOME_COMPLETED, false, 0, HOLD_NONE, ""},
    {{.status = 201, .body = "made"}, OUTCOME_COMPLETED, false, 0, HOLD_NONE, ""},
    {{.status = 204}, OUTCOME_COMPLETED, false, 0, HOLD_NONE, ""},
    {{.status = 299}, OUTCOME_COMPLETED, false, 0, HOLD_NONE, ""},
    {{.status = 200, .fields = "RateLimit-Remaining: 0\nRateLimit-Reset: 9\n"},
     OUTCOME_COMPLETED,
     false,
     9,
     HOLD_RATE_LIMIT,
     ""},
    {{.status = 200, .fields = "ratelimit: \"a\";r=0;t=3\nRATELIMIT: \"b\";r=0;t=5\n"},
     OUTCOME_COMPLETED,
     false,
     5,
     HOLD_RATE_LIMIT,
     ""},
    {{.status = 200, .retry_after = "7"}, OUTCOME_COMPLETED, false, 0, HOLD_NONE, ""},
    {{.status = 301, .location = "/elsewhere"}, OUTCOME_FAILED, false, 0, HOLD_NONE, "HTTP 301"},
    {{.status = 302, .location = "/elsewhere"}, OUTCOME_FAILED, false, 0, HOLD_NONE, "HTTP 302"},
    {{.status = 307, .location = "/elsewhere"}, OUTCOME_FAILED, false, 0, HOLD_NONE, "HTTP 307"},
    {{.status = 400, .body = "no\tsuch\r\nfield"},
     OUTCOME_FAILED,
     false,
     0,
     HOLD_NONE,
     "HTTP 400: no such  field"},
    {{.status = 400, .body = "a\001b\xff \xc3\xa4"},
     OUTCOME_FAILED,
     false,
     0,
     HOLD_NONE,
     "HTTP 400: a?b? \xc3\xa4"},
    {{.status = 401}, OUTCOME_FAILED, false, 0, HOLD_NONE, "HTTP 401"},
    {{.status = 404, .body = "nothing here"}, OUTCOME_FAILED, false, 0, HOLD_NONE, "HTTP 404: nothing here"},
    {{.status = 404, .retry_after = "7"}, OUTCOME_FAILED, false, 0, HOLD_NONE, "HTTP 404"},
    {{.status = 404, .fields = "RateLimit: limit=5, remaining=0, reset=7\n"},
     OUTCOME_FAILED,
     false,
     7,
     HOLD_RATE_LIMIT,
     "HTTP 404"},
    {{.status = 408}, OUTCOME_RETRY, false, 0, HOLD_NONE, "HTTP 408"},
    {{.status = 425}, OUTCOME_RETRY, false, 0, HOLD_NONE, "HTTP 425"},
    {{.status = 429, .retry_after = "7"}, OUTCOME_HOLD, false, 7, HOLD_RETRY_AFTER, "HTTP 429"},
    // What the answer before said is forgotten.
    {{.status = 429}, OUTCOME_RETRY, false, 0, HOLD_NONE, "HTTP 429"},
    {{.status = 429, .fields = "RateLimit-Reset: 11\n"},
     OUTCOME_HOLD,
     false,
     11,
     HOLD_RATE_LIMIT,
     "HTTP 429"},
    {{.status = 429, .retry_after = "0"}, OUTCOME_RETRY, false, 0, HOLD_NONE, "HTTP 429"},
    {{.status = 429, .retry_after = "soon"}, OUTCOME_RETRY, false, 0, HOLD_NONE, "HTTP 429"},
    {{.status = 429, .retry_after = "-5"}, OUTCOME_RETRY, false, 0, HOLD_NONE, "HTTP 429"},
    {{.status = 429, .retry_after = "Sun, 06 Nov 1994 08:49:37 GMT"},
     OUTCOME_RETRY,
     false,
     0,
     HOLD_NONE,
     "HTTP 429"},
    {{.status = 429, .retry_after = "99999999999"},
     OUTCOME_HOLD,
     false,
     366 * 86400,
     HOLD_RETRY_AFTER,
     "HTTP 429"},
    {{.status = 500, .body = "boom"}, OUTCOME_RETRY, true, 0, HOLD_NONE, "HTTP 500: boom"},
    {{.status = 500, .retry_after = "7"}, OUTCOME_RETRY, true, 0, HOLD_NONE, "HTTP 500"},
    {{.status = 500, .fields = "RateLimit-Remaining: 0\nRateLimit-Reset: 9\n"},
     OUTCOME_RETRY,
     true,
     9,
     HOLD_RATE_LIMIT,
     "HTTP 500"},
    {{.status = 503, .retry_after = "120", .body = "later"},
     OUTCOME_HOLD,
     false,
     120,
     HOLD_RETRY_AFTER,
     "HTTP 503: later"},
    {{.status = 503}, OUTCOME_RETRY, true, 0, HOLD_NONE, "HTTP 503"},
    {{.status = 599}, OUTCOME_RETRY, true, 0, HOLD_NONE, "HTTP 599"},
};

Test(target_http, judges_answers_by_their_status)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        const struct answer_case *c = &answers[i];
        http_target_script(server, &c->answer);
        struct delivery *delivery = deliver(&f, make(&f, 1));
        const struct outcome *outcome = &delivery->outcome;
        cr_assert_eq(outcome->class, c->class, "case %zu: %s", i, outcome->error);
        cr_assert_eq(outcome->down, c->down, "case %zu: %s", i, outcome->error);
        cr_assert_str_eq(outcome->error, c->error);
        cr_assert_eq(outcome->hold_ns, c->hold_s * NS_PER_S, "case %zu", i);
        cr_assert_eq(outcome->held_by, c->by, "case %zu", i);
        cr_assert_eq(http_target_count(server), i + 1, "one delivery, one request");
        delivery_free(delivery);
    }
    end_with_server(&f, server);
}

Test(target_http, holds_until_a_date)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    struct wall before = wall_now();
    time_t until = (time_t)(before.ms / 1000 + 100);
    char date[64];
    struct tm tm;

    cr_assert_not_null(gmtime_r(&until, &tm));
    cr_assert_gt(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm), 0);
    http_target_script(server, &(struct http_target_answer){.status = 503, .retry_after = date});
    struct delivery *delivery = deliver(&f, make(&f, 1));
    struct wall after = wall_now();
    cr_assert_eq(delivery->outcome.class, OUTCOME_HOLD);
    cr_assert_eq(delivery->outcome.held_by, HOLD_RETRY_AFTER);
    cr_assert_leq(delivery->outcome.hold_ns, ((int64_t)until * 1000 - before.ms) * NS_PER_MS);
    cr_assert_geq(delivery->outcome.hold_ns, ((int64_t)until * 1000 - after.ms) * NS_PER_MS);
    delivery_free(delivery);
    end_with_server(&f, server);
}

Test(target_http, reads_no_more_of_an_answer_than_it_needs)
{
    struct fixture f;
    static const unsigned statuses[] = {200, 400, 500};
    static const enum outcome_class classes[] = {OUTCOME_COMPLETED, OUTCOME_FAILED, OUTCOME_RETRY};

    struct http_target *server = begin_with_server(&f);
    for (size_t i = 0; i < 3; i++) {
        http_target_script(server, &(struct http_target_answer){
                                       .status = statuses[i], .body = "0123456789", .repeat = 1 << 20});
        struct delivery *delivery = deliver(&f, make(&f, 1));
        cr_assert_eq(delivery->outcome.class, classes[i], "%s", delivery->outcome.error);
        size_t len = strlen(delivery->outcome.error);
        cr_assert_eq(len, statuses[i] == 200 ? 0 : strlen("HTTP 400: ") + 200);
        delivery_free(delivery);
    }
    // One that is below the limit leaves the connection as it was.
    unsigned before = http_target_connections(server);
    http_target_script(server, &(struct http_target_answer){.body = "0123456789", .repeat = 6000});
    delivery_free(deliver(&f, make(&f, 1)));
    delivery_free(deliver(&f, make(&f, 1)));
    cr_assert_leq(http_target_connections(server), before + 1);
    end_with_server(&f, server);
}

// ---- no answer ----

Test(target_http, gives_up_when_the_time_is_over)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    struct delivery *delivery = make(&f, 1);
    http_target_script(server, &(struct http_target_answer){.how = HTTP_TARGET_HANG});
    delivery->timeout_ns = 300 * NS_PER_MS;
    (void)deliver(&f, delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
    cr_assert(delivery->outcome.down);
    cr_assert_str_eq(delivery->outcome.error, "timed out after 300ms");
    cr_assert_geq(delivery->outcome.took_ns, 299 * NS_PER_MS);
    delivery_free(delivery);

    // Others are not held up by one that hangs.
    http_target_script(server, &(struct http_target_answer){.how = HTTP_TARGET_HANG});
    struct delivery *stuck = make(&f, 2);
    target_start(stuck);
    cr_assert(http_target_wait(server, 2, 30 * NS_PER_S));
    delivery = deliver(&f, make(&f, 3));
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED);
    delivery_free(delivery);
    end_with_server(&f, server); // and one that still runs is dropped
}

Test(target_http, reports_a_port_where_nobody_listens)
{
    struct fixture f;
    struct http_target *gone = http_target_start(0);
    char url[64];

    cr_assert_not_null(gone);
    (void)snprintf(url, sizeof(url), "%s", http_target_url(gone));
    http_target_stop(gone);
    begin(&f, url);
    struct delivery *delivery = deliver(&f, make(&f, 1));
    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
    cr_assert(delivery->outcome.down);
    cr_assert(starts_with(delivery->outcome.error, "could not connect: "), "%s", delivery->outcome.error);
    delivery_free(delivery);
    end(&f);
}

Test(target_http, reports_a_name_that_does_not_exist)
{
    struct fixture f;

    begin(&f, "http://nobody.invalid/");
    struct delivery *delivery = make(&f, 1);
    delivery->timeout_ns = 10 * NS_PER_S;
    (void)deliver(&f, delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
    cr_assert(delivery->outcome.down);
    cr_assert_neq(delivery->outcome.error[0], '\0');
    delivery_free(delivery);
    end(&f);
}

Test(target_http, leaves_it_to_the_scheduler_to_send_again)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    for (size_t round = 0; round < 5; round++) {
        delivery_free(deliver(&f, make(&f, 1))); // a kept connection
        size_t before = http_target_count(server);
        http_target_script(server, &(struct http_target_answer){.how = HTTP_TARGET_DROP});
        struct delivery *delivery = deliver(&f, make(&f, 2));
        cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
        cr_assert_str_eq(delivery->outcome.error, "connection lost before an answer came");
        cr_assert_eq(http_target_count(server), before + 1, "libcurl sent it again by itself");
        struct http_target_request last = http_target_get(server, before);
        struct http_target_request kept = http_target_get(server, before - 1);
        cr_assert_eq(last.connection, kept.connection, "it was not over the kept connection");
        delivery_free(delivery);
    }
    // And on a connection that is new.
    http_target_script(server, &(struct http_target_answer){.how = HTTP_TARGET_DROP});
    struct delivery *delivery = deliver(&f, make(&f, 3));
    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
    cr_assert(delivery->outcome.down);
    cr_assert(starts_with(delivery->outcome.error, "connection "), "%s", delivery->outcome.error);
    delivery_free(delivery);
    end_with_server(&f, server);
}

// ---- the text ----

Test(target_http, reads_its_text)
{
    static const char *const good[] = {"http://127.0.0.1:1/x", "https://example.org", "http://[::1]:80/a?b=c",
                                       "http://user:secret@host/"};
    static const char *const bad[] = {"http://",       "https://",         "http://host:99999/",
                                      "http://ho st/", "http://host/\n",   "http:/host/",
                                      "HTTPX://host/", "http://host:port/"};
    struct fault fault;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        cr_assert_eq(target_check(good[i], &fault), ERR_OK, "%s: %s", good[i], fault.detail);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(target_check(bad[i], &fault), ERR_INVALID_FIELD, "%s", bad[i]);
    }
}

Test(target_http, obeys_the_proxy_of_the_environment)
{
    struct fixture f;
    struct http_target *server = http_target_start(0);

    cr_assert_not_null(server);
    cr_assert_eq(setenv("http_proxy", http_target_url(server), 1), 0);
    cr_assert_eq(unsetenv("no_proxy"), 0);
    begin(&f, "http://target.invalid/x");
    struct delivery *delivery = deliver(&f, make(&f, 1));
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
    char host[64];
    struct http_target_request request = http_target_get(server, 0);
    cr_assert(http_target_header(&request, "Host", host, sizeof(host)));
    cr_assert_str_eq(host, "target.invalid");
    delivery_free(delivery);
    end_with_server(&f, server);
}

// ---- TLS ----

static char *read_file(const char *path)
{
    char *text = calloc(1, 16384);
    FILE *file = fopen(path, "re");

    cr_assert(text && file);
    cr_assert_gt(fread(text, 1, 16383, file), 0);
    (void)fclose(file);
    return text;
}

Test(target_http, delivers_over_tls_to_whom_it_can_verify)
{
    static const char make_certificate[] =
        "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=target -addext subjectAltName=IP:127.0.0.1 -keyout key -out certificate 2>/dev/null";
    struct fixture f;
    char dir[] = "/tmp/sluice-tls-XXXXXX", command[512], certificate_path[64], key_path[64];

    if (access("/usr/bin/openssl", X_OK) != 0) {
        cr_skip_test("openssl is not installed");
    }
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(command, sizeof(command), make_certificate, dir);
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s/certificate", dir);
    (void)snprintf(key_path, sizeof(key_path), "%s/key", dir);
    cr_assert_eq(system(command), 0);
    char *certificate = read_file(certificate_path), *key = read_file(key_path);
    struct http_target *server = http_target_start_tls(certificate, key);
    cr_assert_not_null(server);

    // Nobody vouches for it.
    cr_assert_eq(unsetenv("CURL_CA_BUNDLE") | unsetenv("SSL_CERT_FILE") | unsetenv("SSL_CERT_DIR"), 0);
    begin(&f, http_target_url(server));
    struct delivery *delivery = deliver(&f, make(&f, 1));
    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
    cr_assert(delivery->outcome.down);
    cr_assert(starts_with(delivery->outcome.error, "could not connect: "), "%s", delivery->outcome.error);
    delivery_free(delivery);
    end(&f);
    cr_assert_eq(http_target_count(server), 0);

    static const char *const variables[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE"};
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(setenv(variables[i], certificate_path, 1), 0);
        begin(&f, http_target_url(server));
        delivery = deliver(&f, make(&f, 1));
        cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
        cr_assert_eq(http_target_count(server), i + 1);
        struct http_target_request request = http_target_get(server, i);
        cr_assert_str_eq(request.version, "HTTP/1.1");
        delivery_free(delivery);
        end(&f);
        cr_assert_eq(unsetenv(variables[i]), 0);
    }
    http_target_stop(server);
    cr_assert_eq(unlink(certificate_path) | unlink(key_path) | rmdir(dir), 0);
    free(certificate);
    free(key);
}
