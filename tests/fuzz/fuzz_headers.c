// What stands in the header blocks of others: an input is lines of `Name: value`. Those of a target's answer
// (how long to hold the queue), those of a client's request (where it ends, what it asks), and the texts that
// come in either, a time and an ID.
#include "gateway/api.h"
#include "gateway/frame.h"
#include "gateway/trail.h"
#include "scheduler/pressure.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#define FIELD_LIST(X)                                                                                        \
    X(METHOD, "Method")                                                                                      \
    X(TARGET, "Target")                                                                                      \
    X(VERSION, "Version")                                                                                    \
    X(HOST, "Host")                                                                                          \
    X(LENGTH, "Content-Length")                                                                              \
    X(ENCODING, "Transfer-Encoding")                                                                         \
    X(CONNECTION, "Connection")                                                                              \
    X(EXPECT, "Expect")                                                                                      \
    X(TYPE, "Content-Type")                                                                                  \
    X(KEY, "Idempotency-Key")                                                                                \
    X(REQUEST_ID, "X-Request-Id")                                                                            \
    X(TRACEPARENT, "traceparent")                                                                            \
    X(BODY, "Body")                                                                                          \
    X(STATUS, "Status")                                                                                      \
    X(RETRY_AFTER, "Retry-After")                                                                            \
    X(RATE_LIMIT, "RateLimit")                                                                               \
    X(REMAINING, "RateLimit-Remaining")                                                                      \
    X(RESET, "RateLimit-Reset")                                                                              \
    X(TIME, "Time")                                                                                          \
    X(ID, "Id")
#define FIELD_ENUM(name, text) name,
#define FIELD_TEXT(name, text) text,
enum field { FIELD_LIST(FIELD_ENUM) FIELDS };
static const char *const names[] = {FIELD_LIST(FIELD_TEXT)};

static void read_fields(char *text, const char *values[static FIELDS])
{
    for (char *line; (line = strsep(&text, "\n"));) {
        char *value = strstr(line, ": ");
        for (size_t i = 0; value && i < FIELDS; i++) {
            size_t len = (size_t)(value - line);
            if (strlen(names[i]) == len && memcmp(names[i], line, len) == 0) {
                values[i] = value + 2;
            }
        }
    }
}

static const char *or_else(const char *value, const char *other)
{
    return value ? value : other;
}

static void answer(const char *const values[static FIELDS])
{
    static const struct wall now = {1700000000123};
    struct pressure_fields fields = {values[RETRY_AFTER], values[RATE_LIMIT], values[REMAINING],
                                     values[RESET]};
    enum hold_reason by;
    long status = strtol(or_else(values[STATUS], "429"), NULL, 10);
    int64_t ns = pressure_hold(status, &fields, now, &by);
    REQUIRE(ns >= 0 && ns <= 366 * 86400 * NS_PER_S);
    REQUIRE((ns > 0) == (by != HOLD_NONE));
    REQUIRE(by != HOLD_RETRY_AFTER || status == 429 || status == 503);
}

static void texts(const char *time, const char *id_text)
{
    struct wall t = {-1}, back;
    char shown[WALL_TEXT_SIZE], id_shown[ID_TEXT_SIZE];
    struct id id, id_back;
    if (wall_parse(time, &t)) {
        wall_format(t, shown);
        REQUIRE(t.ms >= 0 && wall_parse(shown, &back) && back.ms == t.ms);
    } else {
        REQUIRE(t.ms == -1);
    }
    if (id_parse(id_text, strlen(id_text), &id)) {
        id_format(&id, id_shown);
        REQUIRE(strcasecmp(id_shown, id_text) == 0);
        REQUIRE(id_parse(id_shown, strlen(id_shown), &id_back) && id_equal(&id, &id_back));
    }
}

static void block(const char *const values[static FIELDS])
{
    struct header_block block = {.method = or_else(values[METHOD], "POST"),
                                 .version = or_else(values[VERSION], "HTTP/1.1"),
                                 .host = or_else(values[HOST], "127.0.0.1:8000"),
                                 .content_length = values[LENGTH],
                                 .transfer_encoding = values[ENCODING],
                                 .connection = values[CONNECTION],
                                 .expect = values[EXPECT]};
    struct frame frame;
    struct fault fault = {0};
    enum err err = frame_check(&block, 8 << 20, &frame, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
        REQUIRE(frame.close && !frame.wants_go);
        return;
    }
    REQUIRE(!block.transfer_encoding && frame.has_length == (block.content_length != NULL));
    REQUIRE(frame.length <= 8 << 20 && (frame.has_length || frame.length == 0));
    REQUIRE(!frame.unsure || frame.close);
}

static void refused_unless(enum err err, const struct fault *fault)
{
    if (err != ERR_OK) {
        fuzz_refused(err, fault);
    }
}

static void ask(const char *const values[static FIELDS])
{
    struct route route;
    struct request request;
    struct fault fault = {0};
    const char *body = or_else(values[BODY], "");
    refused_unless(api_media_type(values[TYPE], &fault), &fault);
    refused_unless(api_idempotency_key(values[KEY], &fault), &fault);
    refused_unless(api_no_body(body, strlen(body), &fault), &fault);
    enum err err = route_find(or_else(values[METHOD], "GET"), or_else(values[TARGET], "/"), &route, &fault);
    if (err == ERR_OK) {
        err = api_query(&route, &request, &fault);
    } else {
        REQUIRE((err == ERR_METHOD_NOT_ALLOWED) == (route.allow[0] != '\0'));
    }
    refused_unless(err, &fault);
    if (err == ERR_OK && api_body_rule(route.endpoint) != BODY_JSON) { // then it is whole
        fuzz_round_trip(&request);
    }
}

static void trace(const char *const values[static FIELDS])
{
    static const struct id minted = {{0x12}};
    struct trail trail;
    struct request request = {.op = OP_QUEUE_PAUSE, .queue.name = "q"};
    char parsed[TRACEPARENT_SIZE], again[TRACEPARENT_SIZE], text[TRACE_TEXT_SIZE];
    const char *given = values[REQUEST_ID];
    trail_begin(&trail, or_else(values[METHOD], "GET"), given, values[TRACEPARENT], &minted);
    REQUIRE(request_id_valid(trail.trace.request_id));
    REQUIRE(trail.given == (given && strcmp(given, trail.trace.request_id) == 0 && request_id_valid(given)));
    REQUIRE(strspn(trace_text(&trail.trace, text),
                   " =_-.:/+@~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") ==
            strlen(text));
    if (traceparent_parse(or_else(values[TRACEPARENT], ""), parsed)) {
        REQUIRE(strcmp(parsed, trail.trace.traceparent) == 0 && strlen(parsed) == TRACEPARENT_SIZE - 1);
        REQUIRE(traceparent_parse(parsed, again) && strcmp(parsed, again) == 0);
    } else {
        REQUIRE(trail.trace.traceparent[0] == '\0');
    }
    REQUIRE(trail_copy(&trail, request.op, &request.trace) == ERR_OK && request.trace);
    fuzz_round_trip(&request);
    request_fini(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *values[FIELDS] = {NULL};
    char *text = fuzz_text(data, size);
    read_fields(text, values);
    answer(values);
    texts(or_else(values[TIME], ""), or_else(values[ID], ""));
    block(values);
    ask(values);
    trace(values);
    free(text);
    return 0;
}
