// The gateway's operations on queues and ingestions: what it sends to the scheduler, what it refuses itself,
// and what it says when the scheduler does not.
#include "gw_fixture.h"

TestSuite(gateway_queues, .timeout = 60);

#define HOST "Host: h\r\n"
#define LENGTH(n) "Content-Length: " #n "\r\n"
#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

static void peer_end(struct gw *gw)
{
    cr_assert_eq(nng_close(gw->peer), 0);
    gw_stop(gw);
}

// ---- what is sent ----

static const struct sent_case {
    const char *request;
    const char *line; // the start of what the scheduler gets
    bool closes;
} sent_cases[] = {
    {"GET /queues HTTP/1.1\r\n" HOST "\r\n", "{\"op\":\"queue.list\"", false},
    {"GET /queues/a-b HTTP/1.1\r\n" HOST "\r\n", "{\"op\":\"queue.get\",\"name\":\"a-b\"", false},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(17) "\r\n{\"concurrency\":7}",
     "{\"op\":\"queue.put\",\"name\":\"mail\",\"concurrency\":7}", false},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(2) "Content-Type: application/json\r\n\r\n{}",
     "{\"op\":\"queue.put\",\"name\":\"mail\"}", false},
    {"DELETE /queues/mail HTTP/1.1\r\n" HOST "\r\n", "{\"op\":\"queue.delete\",\"name\":\"mail\"}", false},
    {"DELETE /queues/mail HTTP/1.1\r\n" HOST LENGTH(2) "\r\n{}",
     "{\"op\":\"queue.delete\",\"name\":\"mail\"}", false},
    // Without a length it has no body; but whoever thinks that it has one is not heard again.
    {"POST /queues/mail/pause HTTP/1.1\r\n" HOST "\r\n", "{\"op\":\"queue.pause\",\"name\":\"mail\"}", true},
    {"POST /queues/mail/pause HTTP/1.1\r\n" HOST LENGTH(0) "\r\n",
     "{\"op\":\"queue.pause\",\"name\":\"mail\"}", false},
    {"POST /queues/mail/resume HTTP/1.1\r\n" HOST LENGTH(0) FORM "\r\n",
     "{\"op\":\"queue.resume\",\"name\":\"mail\"}", false},
    {"POST /queues/mail/retry HTTP/1.1\r\n" HOST LENGTH(5) "\r\n { }\n",
     "{\"op\":\"queue.retry\",\"name\":\"mail\"}", false},
    {"POST /ingestions/" UUID
     "/cancel HTTP/1.1\r\n" HOST LENGTH(2) "Content-Type: application/json\r\n\r\n{}",
     "{\"op\":\"cancel\",\"id\":\"" UUID "\"}", false},
    {"POST /ingestions/" UUID "/retry HTTP/1.0\r\n\r\n", "{\"op\":\"retry\",\"id\":\"" UUID "\"}", true},
};

// As a connection's first request and as a later one; what the scheduler answers is passed on as it is.
Test(gateway_queues, operations_become_lines)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    for (size_t i = 0; i < COUNT(sent_cases); i++) {
        const struct sent_case *c = &sent_cases[i];
        for (size_t later = 0; later < 2; later++) {
            int fd = gw_connect(&gw);
            if (later) {
                gw_get(fd, "/healthz");
                gw_expect(fd, 200, "ok");
            }
            gw_say(fd, c->request);
            nng_msg *msg = gw_take(&gw);
            cr_expect_eq(strncmp(gw_lines(msg), c->line, strlen(c->line)), 0, "%s-> %s", c->request,
                         gw_lines(msg));
            gw_answer(&gw, msg, "{\"ok\":true,\"name\": \"as it is\" }\n");
            struct answer_seen seen = gw_read(fd, WITH_BODY);
            cr_expect_eq(seen.status, 200, "%s-> %s", c->request, seen.body);
            cr_expect_str_eq(seen.body, "{\"name\": \"as it is\" }");
            cr_expect_eq(gw_header(&seen, "Connection") != NULL, c->closes, "%s-> %s", c->request, seen.head);
            gw_seen_fini(&seen);
            if (c->closes) {
                shutdown(fd, SHUT_WR);
                gw_expect_end(fd);
            } else {
                gw_get(fd, "/healthz");
                gw_expect(fd, 200, "ok");
                close(fd);
            }
        }
    }
    peer_end(&gw);
}

// Longer than what a network thread parses.
Test(gateway_queues, a_long_body_is_parsed_elsewhere)
{
    static const char change[] = "{\"concurrency\":7}";
    struct gw gw = gw_start(NULL, NULL);
    struct buf request;
    size_t blank = 100000;
    buf_init(&request);
    buf_printf(&request, "PUT /queues/mail HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n",
               blank + strlen(change));
    char *room = buf_room(&request, blank);
    cr_assert_not_null(room);
    memset(room, ' ', blank);
    buf_grew(&request, blank);
    buf_str(&request, change);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_send(fd, request.data, request.len);
    nng_msg *msg = gw_take(&gw);
    cr_expect_str_eq(gw_lines(msg), "{\"op\":\"queue.put\",\"name\":\"mail\",\"concurrency\":7}\n");
    gw_answer(&gw, msg, "{\"ok\":true,\"name\":\"mail\"}\n");
    gw_expect(fd, 200, "{\"name\":\"mail\"}");
    close(fd);
    buf_fini(&request);
    peer_end(&gw);
}

Test(gateway_queues, head_has_no_body)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_say(fd, "HEAD /queues/mail HTTP/1.1\r\nHost: h\r\n\r\n");
    gw_answer(&gw, gw_take(&gw), "{\"ok\":true,\"name\":\"mail\"}\n");
    struct answer_seen seen = gw_read(fd, WITHOUT_BODY);
    cr_expect_eq(seen.status, 200);
    cr_expect_eq(seen.len, strlen("{\"name\":\"mail\"}"));
    gw_seen_fini(&seen);
    gw_get(fd, "/healthz"); // still in step
    gw_expect(fd, 200, "ok");
    close(fd);
    peer_end(&gw);
}

// ---- what is refused ----

static const struct refused_case {
    const char *request;
    int status;
    const char *text; // in the body
    const char *allow;
    bool closes;
} refused_cases[] = {
    {"PUT /queues/mail HTTP/1.1\r\n" HOST "\r\n", 411, "length_required", NULL, true},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(0) "\r\n", 400, "malformed_json", NULL, false},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(2) "\r\n{x", 400, "malformed_json", NULL, false},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(2) "\r\n[]", 422, "invalid_field", NULL, false},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(9) "\r\n{\"rat\":1}", 422, "rat", NULL, false},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(2) FORM "\r\n{}", 415, "application/json", NULL, true},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(2000) "\r\n", 413, "body_too_large", NULL, true},
    {"PUT /queues/mail HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 501,
     "not_implemented", NULL, true},
    {"PUT /queues/Mail HTTP/1.1\r\n" HOST LENGTH(2) "\r\n{}", 422, "invalid_field", NULL, true},
    {"PUT /queues/a%20b HTTP/1.1\r\n" HOST LENGTH(2) "\r\n{}", 422, "a%20b", NULL, true},
    {"GET /queues/Mail HTTP/1.1\r\n" HOST "\r\n", 404, "unknown_queue", NULL, false},
    {"GET /queues/a%20b HTTP/1.1\r\n" HOST "\r\n", 404, "unknown_queue", NULL, false},
    {"GET /queues/a/../b HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", NULL, false},
    {"DELETE /queues/Mail HTTP/1.1\r\n" HOST "\r\n", 404, "unknown_queue", NULL, false},
    {"DELETE /queues/mail HTTP/1.1\r\n" HOST LENGTH(1) "\r\nx", 422, "takes no body", NULL, false},
    {"POST /queues/Mail/pause HTTP/1.1\r\n" HOST LENGTH(0) "\r\n", 404, "unknown_queue", NULL, false},
    {"POST /queues/mail/pause HTTP/1.1\r\n" HOST LENGTH(2) "\r\n[]", 422, "takes no body", NULL, false},
    {"POST /queues/mail/pause HTTP/1.1\r\n" HOST LENGTH(300) "\r\n", 422, "takes no body", NULL, true},
    {"POST /queues/mail/pause HTTP/1.1\r\n" HOST LENGTH(2) FORM "\r\n{}", 415, "application/json", NULL,
     true},
    {"POST /queues/mail/pause HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501,
     "not_implemented", NULL, true},
    {"POST /queues/mail/pause?x=1 HTTP/1.1\r\n" HOST "\r\n", 422, "x", NULL, true},
    {"POST /ingestions/1/cancel HTTP/1.1\r\n" HOST LENGTH(0) "\r\n", 404, "not_found", NULL, false},
    {"POST /ingestions/" UUID "/retry HTTP/1.1\r\n" HOST LENGTH(1) "\r\n1", 422, "takes no body", NULL,
     false},
    {"GET /queues?limit=1001 HTTP/1.1\r\n" HOST "\r\n", 422, "limit", NULL, false},
    {"DELETE /queues HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed", "Allow: GET, HEAD\r\n", false},
    {"POST /queues/mail HTTP/1.1\r\n" HOST LENGTH(0) "\r\n", 405, "method_not_allowed",
     "Allow: GET, HEAD, PUT, DELETE\r\n", false},
    {"GET /queues/mail/pause HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed", "Allow: POST\r\n", false},
};

Test(gateway_queues, refuses_by_itself)
{
    struct gw gw = gw_start("--max-body", "1KiB");
    for (size_t i = 0; i < COUNT(refused_cases); i++) {
        const struct refused_case *c = &refused_cases[i];
        int fd = gw_connect(&gw);
        gw_say(fd, c->request);
        struct answer_seen seen = gw_read(fd, WITH_BODY);
        cr_expect_eq(seen.status, c->status, "%s-> %s%s", c->request, seen.head, seen.body);
        cr_expect(strstr(seen.body, c->text) != NULL, "%s-> %s", c->request, seen.body);
        cr_expect(!c->allow || strstr(seen.head, c->allow) != NULL, "%s-> %s", c->request, seen.head);
        cr_expect_eq(gw_header(&seen, "Connection") != NULL, c->closes, "%s-> %s", c->request, seen.head);
        gw_seen_fini(&seen);
        if (c->closes) {
            shutdown(fd, SHUT_WR);
            gw_expect_end(fd);
        } else {
            gw_get(fd, "/healthz");
            gw_expect(fd, 200, "ok");
            close(fd);
        }
    }
    gw_stop(&gw);
}

// What follows an operation without a length may be its body: it is never taken for a request.
Test(gateway_queues, what_may_be_a_body_is_no_request)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_say(fd, "POST /queues/mail/pause HTTP/1.1\r\n" HOST "\r\n"
               "DELETE /queues/mail HTTP/1.1\r\n" HOST "\r\n");
    gw_answer(&gw, gw_take(&gw), "{\"ok\":true,\"name\":\"mail\"}\n");
    gw_expect(fd, 200, "mail");
    shutdown(fd, SHUT_WR);
    gw_expect_end(fd);
    fd = gw_connect(&gw);
    gw_get(fd, "/queues"); // the next that the scheduler gets
    nng_msg *msg = gw_take(&gw);
    cr_expect(strstr(gw_lines(msg), "queue.list") != NULL, "%s", gw_lines(msg));
    gw_answer(&gw, msg, "{\"ok\":true,\"queues\":[]}\n");
    gw_expect(fd, 200, "queues");
    close(fd);
    peer_end(&gw);
}

// ---- a scheduler that refuses, dies, or says nothing ----

Test(gateway_queues, a_problem_has_the_time_that_would_do)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_post(fd, "", GOOD_BODY);
    gw_answer(&gw, gw_take(&gw),
              "{\"error\":{\"code\":\"deadline_unreachable\",\"message\":\"Too late.\","
              "\"eta\":\"2026-11-23T18:47:05.123Z\"}}\n");
    gw_expect(fd, 422, "\"code\":\"deadline_unreachable\",\"eta\":\"2026-11-23T18:47:05.123Z\"}");
    gw_say(fd, "DELETE /queues/mail HTTP/1.1\r\n" HOST "\r\n");
    gw_answer(&gw, gw_take(&gw), "{\"error\":{\"code\":\"queue_not_empty\",\"message\":\"2 wait.\"}}\n");
    gw_expect(fd, 409, "\"detail\":\"2 wait.\",\"code\":\"queue_not_empty\"}");
    close(fd);
    peer_end(&gw);
}

// The request has gone out twice; only the first one found the queue.
Test(gateway_queues, a_delete_that_may_have_been_done_before)
{
    static const char unknown[] = "{\"error\":{\"code\":\"unknown_queue\",\"message\":\"As it is.\"}}\n";
    static const struct {
        const char *request, *text;
    } cases[] = {
        {"DELETE /queues/mail HTTP/1.1\r\n" HOST "\r\n", "may have deleted"},
        {"POST /queues/mail/pause HTTP/1.1\r\n" HOST LENGTH(0) "\r\n", "As it is."},
    };
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    for (size_t i = 0; i < COUNT(cases); i++) {
        int fd = gw_connect(&gw);
        gw_say(fd, cases[i].request);
        gw_answer(&gw, gw_take(&gw), unknown);
        gw_expect(fd, 404, "As it is.");
        gw_say(fd, cases[i].request);
        nng_msg_free(gw_take(&gw));
        gw_peer_die(&gw);
        gw_peer_open(&gw);
        gw_answer(&gw, gw_take(&gw), unknown);
        gw_expect(fd, 404, cases[i].text);
        close(fd);
    }
    peer_end(&gw);
}

static const char *const writes[] = {
    "PUT /queues/mail HTTP/1.1\r\n" HOST LENGTH(2) "\r\n{}",
    "DELETE /queues/mail HTTP/1.1\r\n" HOST "\r\n",
    "POST /queues/mail/pause HTTP/1.1\r\n" HOST LENGTH(0) "\r\n",
    "POST /queues/mail/resume HTTP/1.1\r\n" HOST LENGTH(0) "\r\n",
    "POST /queues/mail/retry HTTP/1.1\r\n" HOST LENGTH(0) "\r\n",
    "POST /ingestions/" UUID "/cancel HTTP/1.1\r\n" HOST LENGTH(0) "\r\n",
    "POST /ingestions/" UUID "/retry HTTP/1.1\r\n" HOST LENGTH(0) "\r\n",
};

// They can be repeated as they are: no key is spoken of.
Test(gateway_queues, a_silent_scheduler)
{
    struct gw gw = gw_start("--timeout", "200ms");
    int fd = gw_connect(&gw);
    for (size_t i = 0; i < COUNT(writes); i++) {
        gw_say(fd, writes[i]);
        gw_expect(fd, 503, "nothing was accepted");
    }
    gw_peer_open(&gw);
    for (size_t i = 0; i < COUNT(writes); i++) {
        gw_say(fd, writes[i]);
        nng_msg_free(gw_take(&gw));
        struct answer_seen seen = gw_read(fd, WITH_BODY);
        cr_expect_eq(seen.status, 504, "%s-> %s", writes[i], seen.body);
        cr_expect(strstr(seen.body, "outcome_unknown") != NULL, "%s", seen.body);
        cr_expect(strstr(seen.body, "Repeat it") != NULL, "%s", seen.body);
        cr_expect(strstr(seen.body, "Idempotency-Key") == NULL, "%s", seen.body);
        gw_seen_fini(&seen);
    }
    gw_get(fd, "/queues/mail");
    nng_msg_free(gw_take(&gw));
    gw_expect(fd, 503, "scheduler_unavailable");
    close(fd);
    peer_end(&gw);
}

Test(gateway_queues, a_scheduler_that_cannot_be_understood)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    for (size_t i = 0; i < COUNT(writes); i++) {
        gw_say(fd, writes[i]);
        gw_answer(&gw, gw_take(&gw), "hello\n");
        struct answer_seen seen = gw_read(fd, WITH_BODY);
        cr_expect_eq(seen.status, 504, "%s-> %s", writes[i], seen.body);
        cr_expect(strstr(seen.body, "Idempotency-Key") == NULL, "%s", seen.body);
        gw_seen_fini(&seen);
        gw_say(fd, writes[i]); // what was done may be answered in short
        gw_answer(&gw, gw_take(&gw), "{\"ok\":true}\n");
        gw_expect(fd, 200, "{}");
    }
    gw_get(fd, "/queues");
    gw_answer(&gw, gw_take(&gw), "hello\n");
    gw_expect(fd, 503, "could not be understood");
    gw_get(fd, "/queues"); // and what was asked for may not
    gw_answer(&gw, gw_take(&gw), "{\"ok\":true}\n");
    gw_expect(fd, 500, "lacks");
    close(fd);
    peer_end(&gw);
}
