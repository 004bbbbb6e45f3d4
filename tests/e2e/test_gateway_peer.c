// The gateway between its clients and a scheduler that is slow, silent, odd, dying or absent.
#include "gw_fixture.h"

#include "proto/words.h"

TestSuite(gateway_peer, .timeout = 60);

static void peer_end(struct gw *gw)
{
    cr_assert_eq(nng_close(gw->peer), 0);
    gw_stop(gw);
}

Test(gateway_peer, sees_requests_as_lines)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_post(fd, "Idempotency-Key: k\"1\r\nContent-Type: application/json\r\n", GOOD_BODY);
    nng_msg *msg = gw_take(&gw);
    static const char *const members[] = {"\"op\":\"ingest\"", "\"ids\":[1,2,3]", "\"priority\":\"HIGH\"",
                                          "\"idempotency_key\":\"k\\\"1\""};
    for (size_t i = 0; i < COUNT(members); i++)
        cr_expect(strstr(gw_lines(msg), members[i]) != NULL, "%s", gw_lines(msg));
    gw_answer(&gw, msg, "{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":true}\n");
    struct answer_seen seen = gw_read(fd, WITH_BODY);
    cr_expect_eq(seen.status, 200);
    cr_expect_str_eq(seen.body, "{\"ingestion_id\":\"" UUID "\"}");
    cr_expect_not_null(gw_header(&seen, "Idempotent-Replayed"));
    gw_seen_fini(&seen);

    gw_get(fd, "/status/" UUID "?limit=7");
    msg = gw_take(&gw);
    cr_expect(strstr(gw_lines(msg), "\"op\":\"status\"") && strstr(gw_lines(msg), UUID) &&
              strstr(gw_lines(msg), "\"limit\":7"));
    gw_answer(&gw, msg, "{\"ok\":true,\"x\": [9007199254740991] }\n"); // byte for byte
    seen = gw_read(fd, WITH_BODY);
    cr_expect_str_eq(seen.body, "{\"x\": [9007199254740991] }");
    gw_seen_fini(&seen);

    gw_get(fd, "/ingestions?status=failed&cursor=5");
    msg = gw_take(&gw);
    cr_expect(strstr(gw_lines(msg), "\"op\":\"list\"") && strstr(gw_lines(msg), "\"failed\""));
    gw_answer(&gw, msg, "{\"error\":{\"code\":\"overloaded\",\"message\":\"Full.\"}}\n");
    gw_expect(fd, 429, "\"detail\":\"Full.\"");

    gw_get(fd, "/readyz");
    msg = gw_take(&gw);
    cr_expect(strstr(gw_lines(msg), "\"op\":\"ping\"") != NULL);
    gw_answer(&gw, msg, "{\"ok\":true,\"version\":\"1\",\"protocol\":1}\n");
    gw_expect(fd, 200, "ready");
    close(fd);
    peer_end(&gw);
}

// Longer than what a network thread parses, and than what several lines together may have.
Test(gateway_peer, takes_long_bodies)
{
    struct gw gw = gw_start(NULL, NULL);
    struct buf body;
    buf_init(&body);
    buf_str(&body, "{\"priority\":\"LOW\",\"ids\":[9007199254740991");
    for (unsigned i = 1; i < IDS_MAX; i++)
        buf_str(&body, ",9007199254740991");
    buf_str(&body, "]}");
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_post(fd, "", body.data);
    nng_msg *msg = gw_take(&gw);
    cr_expect_gt(nng_msg_len(msg), body.len);
    cr_expect_eq(gw_lines_count(msg), 1);
    cr_expect(strstr(gw_lines(msg), "9007199254740991]") != NULL);
    cr_expect_eq(gw_accept(&gw, msg), 1);
    gw_expect(fd, 200, "ingestion_id");
    close(fd);
    buf_fini(&body);
    peer_end(&gw);
}

enum { GATHERED = 16, UNDER_WAY = 4 }; // see pump() of gateway/forward.c

static void expect_no_message(struct gw *gw)
{
    nng_msg *none = NULL;
    cr_assert_eq(nng_socket_set_ms(gw->peer, NNG_OPT_RECVTIMEO, 200), 0);
    cr_expect_eq(nng_recvmsg(gw->peer, &none, 0), NNG_ETIMEDOUT);
    cr_assert_eq(nng_socket_set_ms(gw->peer, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
}

// The first goes at once and alone; while it is under way the others gather, and go as soon as they are
// enough; while as many messages are under way as may be, all wait, and then go together.
Test(gateway_peer, gets_many_requests_in_few_messages)
{
    enum { IN_MESSAGES = 1 + (UNDER_WAY - 1) * GATHERED, MORE = 40 };
    struct gw gw = gw_start(NULL, NULL);
    int fds[IN_MESSAGES + MORE];
    nng_msg *held[UNDER_WAY];
    gw_peer_open(&gw);
    size_t sent = 0;
    for (size_t message = 0; message < UNDER_WAY; message++) {
        size_t lines = message == 0 ? 1 : GATHERED;
        for (size_t i = 0; i < lines; i++) {
            if (i > 0 && i == lines - 1) {
                expect_no_message(&gw); // one too few
            }
            fds[sent] = gw_connect(&gw);
            gw_post(fds[sent++], "", GOOD_BODY);
        }
        held[message] = gw_take(&gw);
        cr_expect_eq(gw_lines_count(held[message]), lines);
    }
    for (size_t i = 0; i < MORE; i++) {
        fds[sent] = gw_connect(&gw);
        gw_post(fds[sent++], "", GOOD_BODY);
    }
    expect_no_message(&gw); // as many are under way as may be
    gw_accept(&gw, held[UNDER_WAY - 1]);
    cr_expect_eq(gw_accept(&gw, gw_take(&gw)), MORE);
    for (size_t i = 0; i < UNDER_WAY - 1; i++) {
        gw_accept(&gw, held[i]);
    }
    for (size_t i = 0; i < sent; i++) {
        gw_expect(fds[i], 200, "ingestion_id");
        close(fds[i]);
    }
    peer_end(&gw);
}

// Answers each line with the offset that it asks for.
static void answer_with_offsets(struct gw *gw, nng_msg *msg)
{
    struct buf lines;
    buf_init(&lines);
    size_t count = gw_lines_count(msg);
    const char *at = gw_lines(msg);
    for (size_t i = 0; i < count; i++) {
        at = strstr(at, "\"offset\":");
        cr_assert_not_null(at);
        at += strlen("\"offset\":");
        buf_printf(&lines, "{\"ok\":true,\"n\":%.*s}\n", (int)strspn(at, "0123456789"), at);
    }
    gw_answer(gw, msg, lines.data);
    buf_fini(&lines);
}

// Each gets the reply of its own line, in whichever order messages come back.
Test(gateway_peer, replies_find_their_requests)
{
    enum { ALL = 1 + (UNDER_WAY - 1) * GATHERED };
    struct gw gw = gw_start(NULL, NULL);
    int fds[ALL];
    nng_msg *held[UNDER_WAY];
    size_t messages = 0;
    gw_peer_open(&gw);
    for (size_t i = 0; i < ALL; i++) {
        char target[96];
        fds[i] = gw_connect(&gw);
        cr_assert(snprintf(target, sizeof(target), "/status/" UUID "?offset=%zu", i + 100) > 0);
        gw_get(fds[i], target);
        if (i % GATHERED == 0) {
            held[messages++] = gw_take(&gw);
        }
    }
    while (messages > 0) {
        answer_with_offsets(&gw, held[--messages]);
    }
    for (size_t i = 0; i < ALL; i++) {
        char body[32];
        cr_assert(snprintf(body, sizeof(body), "{\"n\":%zu}", i + 100) > 0);
        gw_expect(fds[i], 200, body);
        close(fds[i]);
    }
    peer_end(&gw);
}

Test(gateway_peer, dies_and_gets_the_same_lines_again)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_post(fd, "", GOOD_BODY);
    nng_msg *msg = gw_take(&gw);
    struct id first = gw_line_id(gw_lines(msg));
    nng_msg_free(msg);
    for (int i = 0; i < 3; i++) {
        gw_peer_die(&gw);
        gw_peer_open(&gw);
        msg = gw_take(&gw);
        struct id again = gw_line_id(gw_lines(msg));
        cr_expect(id_equal(&first, &again));
        if (i < 2)
            nng_msg_free(msg);
    }
    gw_accept(&gw, msg);
    char text[ID_TEXT_SIZE];
    id_format(&first, text);
    gw_expect(fd, 200, text);
    close(fd);
    peer_end(&gw);
}

Test(gateway_peer, absent)
{
    struct gw gw = gw_start("--timeout", "300ms");
    int fd = gw_connect(&gw);
    gw_post(fd, "", GOOD_BODY);
    gw_expect(fd, 503, "nothing was accepted");
    gw_get(fd, "/status/" UUID);
    gw_expect(fd, 503, "scheduler_unavailable");
    gw_get(fd, "/readyz");
    gw_expect(fd, 503, "scheduler_unavailable");
    gw_get(fd, "/healthz");
    gw_expect(fd, 200, "ok");
    gw_peer_open(&gw); // needs no restart; and what was given up is not sent
    gw_post(fd, "", GOOD_BODY);
    cr_expect_eq(gw_accept(&gw, gw_take(&gw)), 1);
    gw_expect(fd, 200, "ingestion_id");
    close(fd);
    peer_end(&gw);
}

// More often than there are messages that may be under way, and late replies in between.
Test(gateway_peer, silent)
{
    struct gw gw = gw_start("--timeout", "200ms");
    int fd = gw_connect(&gw);
    gw_peer_open(&gw);
    for (int i = 0; i < 6; i++) {
        gw_post(fd, "", GOOD_BODY);
        nng_msg *late = gw_take(&gw);
        gw_expect(fd, 504, "Idempotency-Key");
        gw_accept(&gw, late);
        gw_get(fd, "/status/" UUID);
        nng_msg_free(gw_take(&gw));
        gw_expect(fd, 503, "scheduler_unavailable");
    }
    for (int status = 504; status != 200;) { // a busy machine may be late once more
        gw_post(fd, "", GOOD_BODY);
        gw_accept(&gw, gw_take(&gw));
        struct answer_seen seen = gw_read(fd, WITH_BODY);
        status = seen.status;
        cr_assert(status == 200 || status == 504, "%s", seen.head);
        gw_seen_fini(&seen);
    }
    close(fd);
    peer_end(&gw);
}

// readyz does not wait as long as others do.
Test(gateway_peer, silent_to_a_ping)
{
    struct gw gw = gw_start("--timeout", "5m");
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_get(fd, "/readyz");
    nng_msg_free(gw_take(&gw));
    gw_expect(fd, 503, "within 1s");
    close(fd);
    peer_end(&gw);
}

Test(gateway_peer, answers_oddly)
{
    static const struct {
        const char *lines;
        int read_status, write_status;
    } cases[] = {
        {"", 503, 504},
        {"{\"ok\":true}\n{\"ok\":true}\n", 503, 504},
        {"hello\n", 503, 504},
        {"{\"ok\":false}\n", 503, 504},
        {"{\"ok\":true}\n", 500, 500},
        {"{\"error\":{\"code\":\"no_such_code\",\"message\":\"x\"}}\n", 500, 500},
        {"{\"error\":{\"code\":\"not_found\",\"message\":\"x\"}}\n", 404, 404},
        {"{\"error\":{\"code\":\"storage_unavailable\",\"message\":\"x\"}}\n", 503, 503},
        {"{\"error\":{\"code\":\"idempotency_key_reused\",\"message\":\"x\"}}\n", 422, 422},
    };
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    for (size_t i = 0; i < COUNT(cases); i++) {
        gw_get(fd, "/status/" UUID);
        gw_answer(&gw, gw_take(&gw), cases[i].lines);
        gw_expect(fd, cases[i].read_status, "\"code\":");
        gw_post(fd, "", GOOD_BODY);
        gw_answer(&gw, gw_take(&gw), cases[i].lines);
        gw_expect(fd, cases[i].write_status, "\"code\":");
    }
    close(fd);
    peer_end(&gw);
}

Test(gateway_peer, asks_for_a_message_of_its_own)
{
    static const char try_alone[] = "{\"error\":{\"code\":\"try_alone\",\"message\":\"Too long.\"}}\n";
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int fd = gw_connect(&gw);
    gw_get(fd, "/status/" UUID);
    gw_answer(&gw, gw_take(&gw), try_alone);
    nng_msg *again = gw_take(&gw);
    cr_expect(strstr(gw_lines(again), UUID) != NULL);
    cr_expect_eq(gw_lines_count(again), 1);
    gw_answer(&gw, again, "{\"ok\":true,\"n\":1}\n");
    gw_expect(fd, 200, "{\"n\":1}");
    // Once is enough.
    gw_get(fd, "/status/" UUID);
    gw_answer(&gw, gw_take(&gw), try_alone);
    gw_answer(&gw, gw_take(&gw), try_alone);
    gw_expect(fd, 413, "try_alone");
    close(fd);
    peer_end(&gw);
}

// Four bodies of 15 MiB fill the budget of 64 MiB; when one goes, there is room again.
Test(gateway_peer, bodies_share_a_budget)
{
    static const char head[] = "POST /ingest HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                               "Content-Length: 15728640\r\n\r\n";
    struct gw gw = gw_start("--max-body", "15MiB");
    enum { LONG = 3 }; // 45 of 48 MiB
    static const char small[] = "POST /ingest HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                                "Content-Length: 65536\r\n\r\n";
    int fds[LONG];
    for (size_t i = 0; i < LONG; i++) {
        fds[i] = gw_connect(&gw);
        gw_say(fds[i], head);
        struct answer_seen go = gw_read(fds[i], WITHOUT_BODY);
        cr_assert_eq(go.status, 100);
        gw_seen_fini(&go);
    }
    int fd = gw_connect(&gw);
    gw_say(fd, head);
    gw_expect(fd, 503, "nothing was accepted");
    close(fd);
    fd = gw_connect(&gw); // long ones leave room for those of the usual size
    gw_say(fd, small);
    struct answer_seen go = gw_read(fd, WITHOUT_BODY);
    cr_assert_eq(go.status, 100);
    gw_seen_fini(&go);
    close(fd);
    close(fds[0]);
    for (int status = 503; status != 100;) { // until the gateway has seen that it is gone
        fd = gw_connect(&gw);
        gw_say(fd, head);
        struct answer_seen seen = gw_read(fd, WITH_BODY);
        status = seen.status;
        gw_seen_fini(&seen);
        close(fd);
    }
    for (size_t i = 1; i < LONG; i++)
        close(fds[i]);
    gw_stop(&gw);
}

// However many announce bodies and do not send them, a small one finds room.
Test(gateway_peer, bodies_that_do_not_come_leave_room_for_small_ones)
{
    enum { SLOW = 940 }; // of 64 KiB: more than 56 MiB
    static const char head[] = "POST /ingest HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                               "Content-Length: 65536\r\n\r\n";
    static int slow[SLOW];
    struct gw gw = gw_start("--transfer-timeout", "5m");
    size_t refused = 0;
    gw_peer_open(&gw);
    for (size_t i = 0; i < SLOW; i++) {
        slow[i] = gw_connect(&gw);
        gw_say(slow[i], head);
        struct answer_seen seen = gw_read(slow[i], WITH_BODY);
        cr_assert(seen.status == 100 || seen.status == 503, "%d", seen.status);
        refused += seen.status == 503;
        gw_seen_fini(&seen);
    }
    cr_expect_eq(refused, SLOW - (56 << 20) / 65536);
    for (size_t i = 0; i < 10; i++) {
        int fd = gw_connect(&gw);
        gw_post(fd, "", GOOD_BODY);
        cr_assert_eq(gw_accept(&gw, gw_take(&gw)), 1);
        gw_expect(fd, 200, "ingestion_id");
        close(fd);
    }
    for (size_t i = 0; i < SLOW; i++)
        close(slow[i]);
    peer_end(&gw);
}

Test(gateway_peer, what_is_in_hand_is_finished_at_the_end)
{
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    int idle = gw_connect(&gw);
    gw_get(idle, "/healthz");
    gw_expect(idle, 200, "ok");
    int fd = gw_connect(&gw);
    gw_post(fd, "", GOOD_BODY);
    nng_msg *msg = gw_take(&gw);
    kill(gw.pid, SIGTERM);
    gw_expect_end(idle);
    gw_accept(&gw, msg);
    struct answer_seen seen = gw_read(fd, WITH_BODY);
    cr_expect_eq(seen.status, 200);
    cr_expect_not_null(gw_header(&seen, "Connection"));
    gw_seen_fini(&seen);
    gw_expect_end(fd);
    peer_end(&gw);
}
