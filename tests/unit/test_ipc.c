#include "tests/unit/ipc_fixture.h"

#define ID "0198c0de-0000-7000-8000-000000000001"

Test(ipc, answers_each_line_in_order)
{
    struct fixture f;

    begin(&f);
    nng_socket client = dial(&f);
    expect_pong(client);

    char *reply =
        ask_text(client, "{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[1,2],\"priority\":\"HIGH\"}\n"
                         "not json\n"
                         "{\"op\":\"dance\"}\n"
                         "\n"
                         "{\"op\":\"ping\"}\n");
    static const char *const expected[] = {ID, "malformed_json", "\"error\"", "\"error\"", "\"protocol\":1"};
    size_t at = 0, len;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const char *line = lines_next(reply, strlen(reply), &at, &len);
        cr_assert_not_null(line);
        cr_assert_not_null(memmem(line, len, expected[i], strlen(expected[i])), "line %zu: %.*s", i, (int)len,
                           line);
    }
    cr_assert_null(lines_next(reply, strlen(reply), &at, &len));
    free(reply);

    nng_close(client);
    end(&f);
}

Test(ipc, mints_an_id_where_none_came)
{
    struct fixture f;
    struct reply reply;
    struct id first, second;
    bool replayed;
    size_t at = 0, len;

    begin(&f);
    nng_socket client = dial(&f);
    char *text = ask_text(client, "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}\n"
                                  "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}");
    const char *line = lines_next(text, strlen(text), &at, &len);
    cr_assert_eq(reply_parse(line, len, &reply), ERR_OK);
    cr_assert_eq(reply_parse_ingest(&reply, &first, &replayed), ERR_OK);
    line = lines_next(text, strlen(text), &at, &len);
    cr_assert_eq(reply_parse(line, len, &reply), ERR_OK);
    cr_assert_eq(reply_parse_ingest(&reply, &second, &replayed), ERR_OK);
    cr_assert_lt(memcmp(&first, &second, sizeof(first)), 0, "they are version 7 and grow");
    cr_assert_eq(first.bytes[6] >> 4, 7);
    free(text);
    nng_close(client);
    end(&f);
}

// `line` n times, then `rest`.
static char *repeat(const char *line, size_t n, const char *rest)
{
    struct buf text;
    size_t len;

    buf_init(&text);
    for (size_t i = 0; i < n; i++)
        buf_str(&text, line);
    buf_str(&text, rest);
    char *taken = buf_take(&text, &len);
    cr_assert_not_null(taken);
    return taken;
}

Test(ipc, decodes_long_messages_too)
{
    struct fixture f;
    char *ids = repeat("9007199254740991,", IDS_MAX - 1, "1],\"priority\":\"LOW\"}\n");
    char *message = repeat("{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[", 1, ids);

    begin(&f);
    nng_socket client = dial(&f);
    char *reply = ask_text(client, message);
    cr_assert_not_null(strstr(reply, ID), "%s", reply);
    free(reply);
    free(message);
    free(ids);
    nng_close(client);
    end(&f);
}

Test(ipc, refuses_a_lease_that_is_not_alone)
{
    struct fixture f;
    size_t at = 0, len;

    begin(&f);
    nng_socket client = dial(&f);
    char *reply = ask_text(client, "{\"op\":\"lease\"}\n{\"op\":\"ping\"}\n{\"op\":\"lease\",\"max\":0}\n");
    static const char *const expected[] = {"\"bad_request\",\"message\":\"a lease must be alone",
                                           "\"protocol\":1", "\"invalid_field\""};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const char *line = lines_next(reply, strlen(reply), &at, &len);
        cr_assert_not_null(line);
        cr_assert_not_null(memmem(line, len, expected[i], strlen(expected[i])), "%.*s", (int)len, line);
    }
    free(reply);

    for (int i = 0; i < 2; i++) { // the newline at its end makes no second line
        reply = ask_text(client, i == 0 ? "{\"op\":\"lease\"}" : "{\"op\":\"lease\"}\n");
        cr_assert_not_null(strstr(reply, "lease_lost"), "%s", reply);
        free(reply);
    }
    nng_close(client);
    end(&f);
}

Test(ipc, refuses_an_empty_message_and_one_with_too_many_lines)
{
    struct fixture f;

    begin(&f);
    nng_socket client = dial(&f);

    char *reply = ask(client, "", 0);
    cr_assert_not_null(strstr(reply, "bad_request"), "%s", reply);
    cr_assert_eq(count_newlines(reply), 1);
    free(reply);

    for (size_t lines = MESSAGE_LINES_MAX; lines <= MESSAGE_LINES_MAX + 1; lines++) {
        char *message = repeat("{\"op\":\"ping\"}\n", lines, "");
        reply = ask_text(client, message);
        if (lines <= MESSAGE_LINES_MAX) {
            cr_assert_eq(count_newlines(reply), lines);
        } else {
            cr_assert_not_null(strstr(reply, "bad_request"), "%s", reply);
            cr_assert_eq(count_newlines(reply), 1);
        }
        free(reply);
        free(message);
    }
    expect_pong(client);
    nng_close(client);
    end(&f);
}

#define CLIENTS 100
#define ROUNDS 50

struct client {
    pthread_t thread;
    const struct fixture *fixture;
    int good;
};

static void *ping_often(void *arg)
{
    struct client *client = arg;
    nng_socket socket = dial(client->fixture);

    for (int i = 0; i < ROUNDS; i++) {
        char *reply = try_ask(socket, "{\"op\":\"ping\"}", strlen("{\"op\":\"ping\"}"));
        client->good += reply && strstr(reply, "\"ok\":true");
        free(reply);
    }
    nng_close(socket);
    return NULL;
}

Test(ipc, serves_many_clients_at_once, .timeout = 110)
{
    struct fixture f;
    static struct client clients[CLIENTS];

    begin(&f);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.fixture = &f};
        cr_assert_eq(pthread_create(&clients[i].thread, NULL, ping_often, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        cr_assert_eq(clients[i].good, ROUNDS);
    }
    end(&f);
}

// ---- the end ----

Test(ipc, frees_what_is_answered_after_the_end)
{
    struct fixture f;
    struct pollfd wait;
    struct buf lines;

    set_up(&f);
    open_socket(&f);
    nng_socket client = dial(&f);
    cr_assert_eq(nng_send(client, (void *)(uintptr_t) "{\"op\":\"ping\"}", 13, 0), 0);
    wait = (struct pollfd){.fd = inbox_fd(f.inbox), .events = POLLIN};
    cr_assert_eq(poll(&wait, 1, 30000), 1);
    ipc_close(f.ipc);
    cr_assert_neq(access(f.path, F_OK), 0);

    struct inbox_item *item = inbox_take(f.inbox);
    cr_assert_null(item->next);
    buf_init(&lines);
    reply_ping(&lines);
    ipc_reply(container_of(item, struct ipc_message, item), &lines);
    nng_close(client);
    tear_down(&f);
    ipc_close(NULL);
}

Test(ipc, sends_the_last_replies_before_it_ends)
{
    struct fixture f;
    struct pollfd wait;
    struct buf lines;
    nng_aio *aio;

    set_up(&f);
    open_socket(&f);
    nng_socket client = dial(&f);
    cr_assert_eq(nng_send(client, (void *)(uintptr_t) "{\"op\":\"ping\"}", 13, 0), 0);
    cr_assert_eq(nng_aio_alloc(&aio, NULL, NULL), 0);
    nng_recv_aio(client, aio);
    wait = (struct pollfd){.fd = inbox_fd(f.inbox), .events = POLLIN};
    cr_assert_eq(poll(&wait, 1, 30000), 1);
    buf_init(&lines);
    reply_ping(&lines);
    ipc_reply(container_of(inbox_take(f.inbox), struct ipc_message, item), &lines);
    ipc_close(f.ipc);
    nng_aio_wait(aio);
    cr_assert_eq(nng_aio_result(aio), 0);
    nng_msg_free(nng_aio_get_msg(aio));
    nng_aio_free(aio);
    nng_close(client);
    tear_down(&f);
}

Test(ipc, understands_nngcat)
{
    struct fixture f;
    char command[256], output[256] = {0};

    if (access("/usr/bin/nngcat", X_OK) != 0)
        cr_skip_test("nngcat (nng-utils) is not installed");
    begin(&f);
    (void)snprintf(command, sizeof(command), "nngcat --req --dial %s --data '{\"op\":\"ping\"}' --raw",
                   f.url);
    FILE *pipe = popen(command, "re");
    cr_assert_not_null(pipe);
    cr_assert_not_null(fgets(output, sizeof(output), pipe));
    cr_assert_eq(pclose(pipe), 0);
    cr_assert_not_null(strstr(output, "\"ok\":true"), "%s", output);
    end(&f);
}
