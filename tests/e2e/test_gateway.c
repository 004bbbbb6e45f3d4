// The gateway's HTTP side, on the wire.
#include "gw_fixture.h"

TestSuite(gateway, .timeout = 60);

#define HOST "Host: h\r\n"
#define LENGTH(n) "Content-Length: " #n "\r\n"
#define JSON "Content-Type: application/json\r\n"

static const struct wire_case {
    const char *request;
    int status;
    const char *code;
    const char *header; // that the answer must have, or NULL
    bool closes;
} wire_cases[] = {
    {"GET /healthz HTTP/1.1\r\n" HOST "\r\n", 200, "\"status\":\"ok\"", NULL, false},
    {"GET http://h/healthz HTTP/1.1\r\n" HOST "\r\n", 200, "\"status\":\"ok\"", NULL, false},
    {"GET /healthz HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200, "ok", "Connection: close", true},
    {"GET /healthz HTTP/1.0\r\n\r\n", 200, "ok", "Connection: close", true},
    {"GET /healthz HTTP/1.1\r\n" HOST LENGTH(3) "\r\nabc", 200, "ok", NULL, false},
    {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL, false},
    {"GET /status/%41 HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL, false},
    {"GET /a/../healthz HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL, false},
    {"GET //healthz HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL, false},
    {"GET /status/123 HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL, false},
    {"GET /ingest HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed", "Allow: POST", false},
    {"DELETE /ingestions HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed", "Allow: GET, HEAD", false},
    {"GET /status/" UUID "?limit=x HTTP/1.1\r\n" HOST "\r\n", 422, "limit must be", NULL, false},
    {"GET /ingestions?page=2 HTTP/1.1\r\n" HOST "\r\n", 422, "page", NULL, false},
    {"POST /ingest HTTP/1.1\r\n" HOST "\r\n", 411, "length_required", NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(0) "\r\n", 400, "malformed_json", NULL, false},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) "\r\n{}", 422, "invalid_field", NULL, false},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) JSON "\r\n{x", 400, "malformed_json", NULL, false},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) "Content-Type: text/plain\r\n\r\n{}", 415, "application/json",
     NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) "Content-Type: application/x-www-form-urlencoded\r\n\r\n{}",
     415, "curl -d", NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) "Idempotency-Key: a b\r\n\r\n{}", 422, "Idempotency-Key",
     NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) "Idempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n{}", 422,
     "Idempotency-Key", NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2000) "\r\n", 413, "body_too_large", NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(99999999999999999999999) "\r\n", 413, "body_too_large", NULL,
     true},
    {"POST /ingest HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 501,
     "not_implemented", NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST LENGTH(2) LENGTH(2) "\r\n{}", 400, "bad_request", NULL, true},
    {"POST /ingest HTTP/1.1\r\n" HOST "Content-Length: +2\r\n\r\n{}", 400, "bad_request", NULL, true},
    {"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request", NULL, true},
};

static void expect_case(int fd, const struct wire_case *c)
{
    struct answer_seen seen = gw_read(fd, WITH_BODY);
    cr_expect_eq(seen.status, c->status, "%s-> %s%s", c->request, seen.head, seen.body);
    cr_expect(strstr(seen.body, c->code) != NULL, "%s-> %s", c->request, seen.body);
    cr_expect(!c->header || strstr(seen.head, c->header) != NULL, "%s-> %s", c->request, seen.head);
    cr_expect_eq(gw_header(&seen, "Connection") != NULL, c->closes, "%s-> %s", c->request, seen.head);
    gw_seen_fini(&seen);
}

// As a connection's first request (which NNG reads) and as a later one (which we read).
Test(gateway, answers_as_the_contract_says)
{
    struct gw gw = gw_start("--max-body", "1KiB");
    for (size_t i = 0; i < COUNT(wire_cases); i++) {
        for (size_t later = 0; later < 2; later++) {
            int fd = gw_connect(&gw);
            if (later) {
                gw_get(fd, "/healthz");
                gw_expect(fd, 200, "ok");
            }
            gw_say(fd, wire_cases[i].request);
            expect_case(fd, &wire_cases[i]);
            if (wire_cases[i].closes) {
                shutdown(fd, SHUT_WR);
                gw_expect_end(fd);
            } else {
                gw_get(fd, "/healthz");
                gw_expect(fd, 200, "ok");
                close(fd);
            }
        }
    }
    gw_stop(&gw);
}

// What NNG would take for the next request must never be answered.
Test(gateway, a_refused_body_is_no_request)
{
    static const char inner[] = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    static const char *const heads[] = {
        "POST /ingest HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST /ingest HTTP/1.1\r\n" HOST "Content-Length: 0, 36\r\n\r\n",
        "POST /ingest HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 36\r\n\r\n",
        "POST /nothing HTTP/1.1\r\n" HOST "Content-Length: 36\r\n\r\n",
        "PUT /ingest HTTP/1.1\r\n" HOST "Content-Length: 36\r\n\r\n",
        "POST /ingest HTTP/1.1\r\n" HOST "Content-Length: 99999999\r\n\r\n",
        "POST /ingest HTTP/1.1\r\n" HOST "\r\n",
        "POST /nothing HTTP/1.1\r\n" HOST "\r\n",
    };
    struct gw gw = gw_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(heads); i++) {
        int fd = gw_connect(&gw);
        gw_say(fd, heads[i]);
        gw_say(fd, inner);
        struct answer_seen seen = gw_read(fd, WITH_BODY);
        cr_expect_geq(seen.status, 400, "%s-> %s", heads[i], seen.head);
        cr_expect_not_null(gw_header(&seen, "Connection"));
        gw_seen_fini(&seen);
        shutdown(fd, SHUT_WR);
        gw_expect_end(fd);
    }
    gw_stop(&gw);
}

// What NNG itself reads and refuses: it ends the connection, with an answer or without, and what looks like a
// request in the body is never one.
Test(gateway, what_cannot_be_framed_ends_the_connection)
{
    static const char inner[] = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    static const char *const heads[] = {
        "GET /healthz HTTP/1.1\r\n" HOST "Content-Length : 36\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n" HOST "Content-Length  : 36\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n" HOST " Content-Length: 36\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n" HOST ": 36\r\n\r\n",
        "POST /ingest HTTP/1.1\r\nContent-Length: 36\r\n\r\n", // no Host
        "OPTIONS * HTTP/1.1\r\n" HOST "Content-Length: 36\r\n\r\n",
    };
    struct gw gw = gw_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(heads); i++) {
        for (int first = 0; first < 2; first++) { // of its connection, and behind another
            int fd = gw_connect(&gw);
            if (first == 0) {
                gw_get(fd, "/healthz");
                gw_expect(fd, 200, NULL);
            }
            gw_say(fd, heads[i]);
            gw_say(fd, inner);
            shutdown(fd, SHUT_WR);
            struct buf all;
            buf_init(&all);
            ssize_t n;
            char *room;
            while ((room = buf_room(&all, 4096)) && (n = recv(fd, room, 4096, 0)) > 0) {
                buf_grew(&all, (size_t)n);
            }
            cr_expect_null(all.data ? strstr(all.data, "HTTP/1.1 200") : NULL, "%s-> %s", heads[i], all.data);
            buf_fini(&all);
            close(fd);
        }
    }
    gw_stop(&gw);
}

Test(gateway, head_is_get_without_its_body)
{
    static const char *const targets[] = {"/healthz", "/nothing"};
    struct gw gw = gw_start(NULL, NULL);
    int fd = gw_connect(&gw);
    for (size_t i = 0; i < COUNT(targets); i++) {
        char request[64];
        gw_get(fd, targets[i]);
        struct answer_seen get = gw_read(fd, WITH_BODY);
        cr_assert(snprintf(request, sizeof(request), "HEAD %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i]) > 0);
        gw_say(fd, request);
        struct answer_seen head = gw_read(fd, WITHOUT_BODY);
        cr_expect_eq(head.status, get.status);
        cr_expect_eq(head.len, get.len);
        gw_seen_fini(&get);
        gw_seen_fini(&head);
    }
    gw_get(fd, "/healthz"); // still in step
    gw_expect(fd, 200, "ok");
    close(fd);
    gw_stop(&gw);
}

Test(gateway, requests_in_a_row)
{
    static const char get[] = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    struct gw gw = gw_start(NULL, NULL);
    int fd = gw_connect(&gw);
    for (int i = 0; i < 100; i++) { // one after the other
        gw_say(fd, get);
        gw_expect(fd, 200, "ok");
    }
    for (int i = 0; i < 20; i++) // all at once
        gw_say(fd, get);
    for (int i = 0; i < 20; i++)
        gw_expect(fd, 200, "ok");
    for (size_t i = 0; i < strlen(get); i++) // byte by byte
        gw_send(fd, get + i, 1);
    gw_expect(fd, 200, "ok");
    gw_say(fd, "\r\n"); // an empty line too many
    gw_say(fd, get);
    gw_expect(fd, 200, "ok");
    gw_say(fd, "\r\n\r\n"); // two
    gw_expect(fd, 400, "bad_request");
    shutdown(fd, SHUT_WR);
    gw_expect_end(fd);
    gw_stop(&gw);
}

Test(gateway, a_body_in_pieces_and_one_behind_it)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_say(fd, "POST /ingest HTTP/1.1\r\n" HOST "Content-Length: 34\r\n\r\n{\"ids\":[1,2");
    gw_say(fd, ",3],\"prior");
    gw_say(fd, "ity\":\"HIGH\"} GET /healthz HTTP/1.1\r\n" HOST "\r\n");
    cr_assert_eq(gw_accept(&gw, gw_take(&gw)), 1);
    gw_expect(fd, 200, "{\"ingestion_id\":\"");
    gw_expect(fd, 200, "ok");
    close(fd);
    nng_close(gw.peer);
    gw_stop(&gw);
}

Test(gateway, expect_100_continue)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    for (int i = 0; i < 2; i++) { // on a fresh connection and on a used one
        int fd = gw_connect(&gw);
        if (i > 0) {
            gw_get(fd, "/healthz");
            gw_expect(fd, 200, "ok");
        }
        gw_say(fd, "POST /ingest HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 33\r\n\r\n");
        struct answer_seen go = gw_read(fd, WITHOUT_BODY);
        cr_expect_eq(go.status, 100);
        gw_seen_fini(&go);
        gw_say(fd, GOOD_BODY);
        cr_assert_eq(gw_accept(&gw, gw_take(&gw)), 1);
        gw_expect(fd, 200, "ingestion_id");
        // Who is refused is not asked for the body.
        gw_say(fd,
               "POST /ingest HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n");
        gw_expect(fd, 413, "body_too_large");
        shutdown(fd, SHUT_WR);
        gw_expect_end(fd);
    }
    nng_close(gw.peer);
    gw_stop(&gw);
}

// NNG itself would wait for ever.
Test(gateway, a_first_request_that_never_comes_is_hung_up_on)
{
    struct gw gw =
        gw_start_limited(LIST("--timeout", "300ms", "--transfer-timeout", "500ms"), FILES_AS_THEY_ARE);
    int silent = gw_connect(&gw);
    int half = gw_connect(&gw);
    gw_say(half, "GET /healthz HTTP/1.1\r\nHo");
    gw_log_wait(&gw, "reaped");
    gw_expect_end(silent);
    gw_expect_end(half);
    gw_stop(&gw);
}

Test(gateway, exit_codes)
{
    struct gw gw = gw_start(NULL, NULL);
    char taken[64];
    cr_assert(snprintf(taken, sizeof(taken), "http://127.0.0.1:%u", gw.port) > 0);
    static const struct {
        const char *option, *value;
    } bad[] = {
        {"--listen", "127.0.0.1:8000"},
        {"--listen", "ftp://127.0.0.1:1"},
        {"--listen", "https://127.0.0.1"},
        {"--listen", "http://127.0.0.1"},
        {"--listen", "http://:1"},
        {"--listen", "http://h:0"},
        {"--listen", "http://h:65536"},
        {"--listen", "http://h:1/"},
        {"--listen", "http://h:1/x"},
        {"--listen", "http://u@h:1"},
        {"--listen", "http://[::1:1"},
        {"--scheduler", "udp://127.0.0.1:1"},
        {"--scheduler", "tls+tcp://127.0.0.1"},
        {"--scheduler", "ipc://"},
        {"--timeout", "0s"},
        {"--timeout", "1h"},
        {"--max-body", "16MiB"},
        {"--max-body", "1"},
        {"--ready-fd", "0"},
        {"--nonsense", "1"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        const char *arguments[] = {bad[i].option, bad[i].value, NULL};
        int log[2];
        char line[512] = "";
        cr_assert_eq(pipe(log), 0);
        pid_t pid = gw_spawn(arguments, log[1]);
        close(log[1]);
        cr_expect_eq(gw_exit_code(pid), 64, "%s %s", bad[i].option, bad[i].value);
        cr_assert(read(log[0], line, sizeof(line) - 1) > 0);
        cr_expect(strstr(line, bad[i].option + 2) != NULL, "%s", line);
        cr_expect_eq(strchr(line, '\n'), line + strlen(line) - 1, "one line: %s", line);
        close(log[0]);
    }
    const char *arguments[] = {"--listen", taken, NULL};
    cr_expect_eq(gw_exit_code(gw_spawn(arguments, STDERR_FILENO)), 69);
    gw_stop(&gw);
}

Test(gateway, says_when_it_is_ready)
{
    int ready[2];
    char listen_url[64], number[16], byte;
    cr_assert_eq(pipe(ready), 0);
    cr_assert(snprintf(listen_url, sizeof(listen_url), "http://127.0.0.1:%u", gw_free_port()) > 0);
    cr_assert(snprintf(number, sizeof(number), "%d", ready[1]) > 0);
    const char *arguments[] = {"--listen", listen_url, "--ready-fd", number, NULL};
    pid_t pid = gw_spawn(arguments, STDERR_FILENO);
    close(ready[1]);
    cr_expect_eq(read(ready[0], &byte, 1), 1);
    cr_expect_eq(byte, '\n');
    cr_expect_eq(read(ready[0], &byte, 1), 0); // closed
    kill(pid, SIGINT);
    cr_expect_eq(gw_exit_code(pid), 0);
}
