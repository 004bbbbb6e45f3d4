// What is read and written, when memory runs out: requests of every kind, replies, HTTP answers, options.
// Each allocation fails, alone and with all after it: the error says so, nothing is leaked, and the same
// works then.
#include "common/conf.h"
#include "gateway/answer.h"
#include "gateway/api.h"
#include "gateway/keys.h"
#include "proto/reply.h"
#include "scheduler/ipc_decode.h"
#include "scheduler/settings.h"
#include "scheduler/target.h"
#include "tests/unit/no_memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

TestSuite(no_memory_parse, .init = memory_hook_libraries);

#define ID "01a209dc-4322-7622-a85d-000000000001"

// What a call says when there is enough, or that there was not.
static void expect(enum err err, enum err good, bool short_of, const struct fault *fault)
{
    if (short_of && err == ERR_NO_MEMORY) {
        cr_assert_eq(fault->err, ERR_NO_MEMORY);
        cr_assert_neq(fault->detail[0], '\0');
        return;
    }
    cr_assert_eq(err, good, "%s instead of %s: %s", err_name(err), err_name(good), fault->detail);
}

// ---- IPC lines ----

struct line {
    const char *text;
    enum op op;
    enum err err;
};

static const struct line lines[] = {
    {"{\"op\":\"ping\"}", OP_PING, ERR_OK},
    {"{\"op\":\"ingest\",\"id\":\"" ID "\",\"idempotency_key\":\"k\",\"queue\":\"mail\",\"priority\":\"LOW\","
     "\"not_before\":\"2030-01-31T12:00:00Z\",\"deadline\":\"2031-01-31T12:00:00Z\",\"ids\":[1,2,3,4,5,6,7,8]"
     "}",
     OP_INGEST, ERR_OK},
    {"{\"op\":\"ingest\",\"priority\":\"HIGH\",\"ids\":[\"a\",\"b\\u00e9\",\"c\"]}", OP_INGEST, ERR_OK},
    {"{\"op\":\"ingest\",\"priority\":\"HIGH\",\"ids\":[1,2,0]}", OP_INGEST, ERR_ID_OUT_OF_RANGE},
    {"{\"op\":\"ingest\",\"priority\":\"URGENT\",\"ids\":[1,2]}", OP_INGEST, ERR_INVALID_FIELD},
    {"{\"op\":\"status\",\"id\":\"" ID "\",\"limit\":5,\"offset\":7}", OP_STATUS, ERR_OK},
    {"{\"op\":\"list\",\"status\":\"failed\",\"priority\":\"HIGH\",\"queue\":\"mail\",\"limit\":9,\"cursor\":"
     "\"7\"}",
     OP_LIST, ERR_OK},
    {"{\"op\":\"ingest\",\"priority\":\"HIGH\",\"ids\":[1,2],\"owner\":\"shop\"}", OP_INGEST, ERR_OK},
    {"{\"op\":\"list\",\"owner\":\"shop\",\"queues\":[\"a\",\"b\"]}", OP_LIST, ERR_OK},
    {"{\"op\":\"cancel\",\"id\":\"" ID "\"}", OP_CANCEL, ERR_OK},
    {"{\"op\":\"retry\",\"id\":\"" ID "\"}", OP_RETRY, ERR_OK},
    {"{\"op\":\"queue.list\",\"limit\":3,\"cursor\":\"mail\"}", OP_QUEUE_LIST, ERR_OK},
    {"{\"op\":\"queue.get\",\"name\":\"mail\"}", OP_QUEUE_GET, ERR_OK},
    {"{\"op\":\"queue.put\",\"name\":\"mail\",\"rate\":\"3/"
     "1s\",\"burst\":2,\"linger\":\"5ms\",\"concurrency\":4,"
     "\"batch_size\":7,\"target\":\"http://h/"
     "\",\"timeout\":\"3s\",\"retry\":{\"max_attempts\":3,\"min_backoff\":"
     "\"1s\",\"max_backoff\":\"2s\"},\"ids\":\"string\",\"headers\":{\"A\":\"b\",\"C\":\"d\"},\"max_hold\":"
     "\"1h\","
     "\"breaker\":3,\"lease\":\"30s\",\"on_interrupt\":\"hold\",\"aging\":\"1h\"}",
     OP_QUEUE_PUT, ERR_OK},
    {"{\"op\":\"queue.put\",\"name\":\"mail\",\"target\":\"http://h/"
     "\",\"headers\":{\"A\":\"b\",\"a\":\"d\"}}",
     OP_QUEUE_PUT, ERR_INVALID_FIELD},
    {"{\"op\":\"queue.delete\",\"name\":\"mail\"}", OP_QUEUE_DELETE, ERR_OK},
    {"{\"op\":\"queue.pause\",\"name\":\"mail\"}", OP_QUEUE_PAUSE, ERR_OK},
    {"{\"op\":\"queue.resume\",\"name\":\"mail\"}", OP_QUEUE_RESUME, ERR_OK},
    {"{\"op\":\"queue.retry\",\"name\":\"mail\"}", OP_QUEUE_RETRY, ERR_OK},
    {"{\"op\":\"lease\",\"id\":\"" ID "\",\"queue\":\"mail\",\"wait\":\"1s\",\"max\":10}", OP_LEASE, ERR_OK},
    {"{\"op\":\"ack\",\"id\":\"" ID "\",\"batch_id\":\"" ID "\"}", OP_ACK, ERR_OK},
    {"{\"op\":\"nack\",\"id\":\"" ID "\",\"error\":\"no\",\"delay\":\"5s\"}", OP_NACK, ERR_OK},
    {"{\"op\":\"extend\",\"id\":\"" ID "\",\"lease\":\"5s\"}", OP_EXTEND, ERR_OK},
    {"{\"op\":\"stats\"}", OP_STATS, ERR_OK},
    {"{\"op\":\"dance\"}", OP_PING, ERR_BAD_REQUEST},
};
#define LINES (sizeof lines / sizeof lines[0])

static void read_line(void *user, bool short_of)
{
    const struct line *line = user;
    struct request request;
    struct fault fault = {0};
    enum err err = request_from_line(line->text, strlen(line->text), &request, &fault);
    expect(err, line->err, short_of, &fault);
    if (err != ERR_OK) {
        return;
    }
    struct buf out;
    cr_assert_eq(request.op, line->op);
    buf_init(&out);
    request_to_line(&request, &out);
    cr_assert(buf_err(&out) == ERR_OK || short_of);
    buf_fini(&out);
    request_fini(&request);
}

Test(no_memory_parse, requests_of_every_kind_are_refused_as_a_whole)
{
    unsigned seen = 0;
    for (size_t i = 0; i < LINES; i++) {
        struct line line = lines[i];
        cr_assert_gt(memory_exhaust(read_line, &line), 2 * 2, "%s", line.text);
        seen |= 1u << line.op;
    }
    cr_assert_eq(seen, (1u << (OP_STATS + 1)) - 1, "there are ops that were not tried");
}

// ---- keys ----

#define HASH "4bcfacac2c376c7c07c29a4cdbfcf6bd3f048563a37894869a3a6c2358719727"
#define OTHER "9b22e80adb3bf55f39495b11eb03e24b6000c23a4a050696e224a29879836cd1"

static void use_keys(void *user, bool short_of)
{
    const char *path = user;
    struct keys *keys;
    struct fault fault = {0};
    enum err err = keys_open(path, &keys, &fault);
    expect(err, ERR_OK, short_of, &fault);
    if (err != ERR_OK) {
        return;
    }
    err = keys_reload(keys, &fault);
    expect(err, ERR_OK, short_of, &fault);
    cr_assert_eq(keys_count(keys), 2, "those before are in force");
    keys_close(keys);
}

Test(no_memory_parse, keys_are_read_as_a_whole)
{
    static const char text[] = "shop submit " HASH " queues=a,b rate=1/s\ndesk read " OTHER "\n";
    char path[] = "/tmp/sluice-keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1 && close(fd) == 0);
    cr_assert_gt(memory_exhaust(use_keys, path), 2 * 8);
    unlink(path);
}

static void limit_request(void *user, bool short_of)
{
    struct request request = {.op = OP_LIST};
    const struct pass pass = {.key = user};
    enum err err = pass_limit(&pass, &request);
    cr_assert(err == ERR_OK || (short_of && err == ERR_NO_MEMORY));
    cr_assert_eq(request.scope != NULL, err == ERR_OK);
    free(request.scope);
}

Test(no_memory_parse, a_request_is_limited_or_not_sent)
{
    struct key key = {.name = "shop", .roles = ROLE_SUBMIT};
    cr_assert_gt(memory_exhaust(limit_request, &key), 1);
}

static void decode_message(void *user, bool short_of)
{
    static const char text[] =
        "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[1,2]}\n"
        "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[1,2],\"idempotency_key\":\"k\"}\n"
        "{\"op\":\"nack\",\"id\":\"" ID "\"}\nnonsense\n";
    struct ipc_message message = {.count = 0};
    struct fault fault = {0};
    size_t count = ipc_count_lines(text, strlen(text));
    cr_assert_eq(count, 4);
    enum err err = ipc_decode(text, strlen(text), count, user, &message, &fault);
    expect(err, ERR_OK, short_of, &fault);
    if (err == ERR_OK) {
        static const enum err good[] = {ERR_OK, ERR_OK, ERR_OK, ERR_MALFORMED_JSON};
        cr_assert_eq(message.count, 4);
        for (size_t i = 0; i < 4; i++) {
            expect(message.requests[i].fault.err, good[i], short_of, &message.requests[i].fault);
        }
    }
    ipc_free_requests(&message);
    cr_assert(message.requests == NULL && message.count == 0);
}

Test(no_memory_parse, a_message_is_refused_or_each_line_of_it)
{
    struct id_minter minter;
    id_minter_init(&minter);
    cr_assert_gt(memory_exhaust(decode_message, &minter), 30);
    id_minter_fini(&minter);
}

// ---- HTTP ----

struct body {
    const char *text;
    enum err (*read)(const char *body, size_t len, struct request *request, struct fault *fault);
};

static enum err read_ingest(const char *body, size_t len, struct request *request, struct fault *fault)
{
    static const struct id id = {{1, 2, 3}};
    return api_ingest(body, len, "key", &id, request, fault);
}

static enum err read_put(const char *body, size_t len, struct request *request, struct fault *fault)
{
    struct route route;
    enum err err = route_find("PUT", "/queues/mail", &route, fault);
    if (err == ERR_OK) {
        err = api_query(&route, request, fault);
    }
    return err == ERR_OK ? api_put(body, len, request, fault) : err;
}

static enum err read_list(const char *body, size_t len, struct request *request, struct fault *fault)
{
    struct route route;
    enum err err = route_find("GET", "/ingestions?status=failed&queue=mail&limit=5&cursor=7", &route, fault);
    if (err == ERR_OK) {
        err = api_query(&route, request, fault);
    }
    return err == ERR_OK ? api_no_body(body, len, fault) : err;
}

static void read_body(void *user, bool short_of)
{
    const struct body *body = user;
    struct request request = {.op = OP_PING};
    struct fault fault = {0};
    enum err err = body->read(body->text, strlen(body->text), &request, &fault);
    expect(err, ERR_OK, short_of, &fault);
    if (err == ERR_OK) {
        struct buf line;
        buf_init(&line);
        request_to_line(&request, &line);
        cr_assert(short_of || buf_err(&line) == ERR_OK);
        buf_fini(&line);
        request_fini(&request);
    }
}

Test(no_memory_parse, requests_over_http_are_refused_as_a_whole)
{
    static struct body bodies[] = {
        {"{\"ids\":[1,2,3],\"priority\":\"HIGH\",\"queue\":\"mail\"}", read_ingest},
        {"{\"ids\":[\"1\",\"2\"],\"priority\":\"HIGH\"}", read_ingest},
        {"{\"target\":\"exec:/bin/true\",\"headers\":{\"A\":\"b\"},\"rate\":\"5/1s\"}", read_put},
        {" { } ", read_list},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        cr_assert_gt(memory_exhaust(read_body, &bodies[i]), 2, "%s", bodies[i].text);
    }
}

struct replied {
    enum endpoint endpoint;
    const char *line;
    int status; // of the answer
};

// An answer that could not be written is not sent.
static void write_answer(void *user, bool short_of)
{
    const struct replied *replied = user;
    struct reply reply;
    struct answer answer;
    struct buf head;
    char first[16];
    enum err err = reply_parse(replied->line, strlen(replied->line), &reply);
    cr_assert(err == ERR_OK || short_of);
    answer_init(&answer);
    buf_init(&head);
    if (err == ERR_OK) {
        answer_reply(&answer, replied->endpoint, &reply);
    }
    answer_head(&answer, KEEP_OPEN, (struct wall){1700000000000}, &head);
    bool whole = err == ERR_OK && buf_err(&answer.body) == ERR_OK && buf_err(&head) == ERR_OK;
    cr_assert(whole || short_of);
    if (whole) {
        int status = err_status(answer.err);
        cr_assert(status == replied->status || (short_of && status >= 429));
        (void)snprintf(first, sizeof first, "HTTP/1.1 %d", status);
        cr_assert_eq(strncmp(head.data, first, strlen(first)), 0, "%s", head.data);
        cr_assert(answer.body.len > 0 && answer.body.data[0] == '{');
    }
    answer_clear(&answer);
    cr_assert_eq(buf_err(&answer.body), ERR_OK, "the next answer of this connection has a chance");
    answer_fini(&answer);
    buf_fini(&head);
}

Test(no_memory_parse, answers_are_whole_or_known_not_to_be)
{
    static struct replied all[] = {
        {ENDPOINT_INGEST, "{\"ok\":true,\"ingestion_id\":\"" ID "\",\"replayed\":true}", 200},
        {ENDPOINT_STATUS, "{\"ok\":true,\"ingestion_id\":\"" ID "\",\"status\":\"completed\"}", 200},
        {ENDPOINT_LIST, "{\"ok\":true,\"ingestions\":[],\"next_cursor\":null}", 200},
        {ENDPOINT_READYZ, "{\"ok\":true,\"version\":\"1\",\"protocol\":1}", 200},
        {ENDPOINT_INGEST, "{\"error\":{\"code\":\"overloaded\",\"message\":\"too \\\"much\\\"\"}}", 429},
        {ENDPOINT_INGEST,
         "{\"error\":{\"code\":\"deadline_unreachable\",\"message\":\"no\",\"eta\":\"2030-01-31T12:00:00Z\"}"
         "}",
         422},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        cr_assert_gt(memory_exhaust(write_answer, &all[i]), 2, "%s", all[i].line);
    }
}

// ---- replies ----

static void write_replies(void *user, bool short_of)
{
    static const struct id id = {{1, 2, 3}};
    struct buf out;
    (void)user;
    buf_init(&out);
    reply_ping(&out);
    reply_error(&out, ERR_OVERLOADED, "a text \"with\" things to escape\n");
    reply_unreachable(&out, "too late", (struct wall){1700000000000});
    reply_ingest(&out, &id, true);
    for (int i = 0; i < 100; i++) {
        reply_open(&out);
        buf_printf(&out, ",\"name\":\"%0200d\"", i);
        reply_close(&out);
    }
    cr_assert(short_of || buf_err(&out) == ERR_OK);
    if (buf_err(&out) == ERR_OK) {
        cr_assert_eq(strlen(out.data), out.len);
    } else {
        cr_assert_null(buf_take(&out, NULL));
    }
    buf_fini(&out);
}

Test(no_memory_parse, replies_are_whole_or_known_not_to_be)
{
    cr_assert_gt(memory_exhaust(write_replies, NULL), 2 * 5);
}

// ---- settings ----

// What a change could not bring about is not half of it on the next try.
static void change(void *user, bool short_of)
{
    const struct request *request = user;
    struct queue_row row = {.id = 0};
    struct fault fault = {0};
    enum err err = settings_defaults(&row, "mail");
    cr_assert(err == ERR_OK || (short_of && err == ERR_NO_MEMORY));
    if (err == ERR_OK) {
        expect(settings_change(&row, &request->queue.change, &fault), ERR_OK, short_of, &fault);
    }
    queue_row_fini(&row);
}

Test(no_memory_parse, settings_change_as_a_whole)
{
    static const char body[] = "{\"target\":\"http://h:1/p\",\"headers\":{\"A\":\"b\"},\"breaker\":7}";
    struct request request;
    struct fault fault;
    cr_assert_eq(request_from_put("mail", body, strlen(body), &request, &fault), ERR_OK, "%s", fault.detail);
    cr_assert_gt(memory_exhaust(change, &request), 8);
    request_fini(&request);
}

static void check_target(void *user, bool short_of)
{
    struct fault fault = {0};
    expect(target_check(user, &fault), ERR_OK, short_of, &fault);
}

Test(no_memory_parse, a_target_is_not_called_wrong_for_lack_of_memory)
{
    // No login in it: libcurl (7.88) calls one wrong when there is no memory for it.
    static char http[] = "https://host:8443/path?query";
    static char exec[] = "exec:/bin/true";
    cr_assert_gt(memory_exhaust(check_target, http), 4);
    (void)memory_exhaust(check_target, exec);
}

struct options {
    char *text;
    int64_t duration;
};

static void load(void *user, bool short_of)
{
    static const struct conf_option table[] = {
        {"text", "TEXT", "some", "a text", "a text", conf_text, offsetof(struct options, text)},
        {"duration", "TIME", "5s", "a duration", "a time", conf_duration, offsetof(struct options, duration)},
    };
    char *arguments[] = {user, (char[]){"--duration=7s"}};
    struct options options = {0};
    int code = -1;
    enum conf_result result = conf_load("program", "does", table, 2, &options, 2, arguments, &code);
    if (short_of && result == CONF_EXIT) {
        cr_assert_eq(code, EXIT_CODE_SOFTWARE);
        return;
    }
    cr_assert(result == CONF_GO && code == EXIT_CODE_OK && options.duration == 7 * NS_PER_S);
}

Test(no_memory_parse, options_that_cannot_be_read_end_the_program)
{
    static char name[] = "program";
    cr_assert_eq(memory_exhaust(load, name), 2);
}
