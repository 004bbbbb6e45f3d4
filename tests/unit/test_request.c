#include "proto/request.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UUID "0190163d-8694-739b-aea5-966c26f8ad91"
#define TEN "kkkkkkkkkk"
#define FIFTY TEN TEN TEN TEN TEN
#define KEY_250 FIFTY FIFTY FIFTY FIFTY FIFTY

// What is sent, with its length so that it may hold a NUL; the error it gets and words its detail must hold.
struct refused {
    const char *text;
    size_t len;
    enum err err;
    const char *says;
};
#define REFUSED(literal, err, says)                                                                          \
    {                                                                                                        \
        literal, sizeof(literal) - 1, err, says                                                              \
    }

typedef enum err decoder(const char *text, size_t len, struct request *request, struct fault *fault);

static void expect_refused(decoder *decode, const struct refused *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct refused *c = &cases[i];
        struct request request;
        struct fault fault = {0};
        enum err err = decode(c->text, c->len, &request, &fault);
        cr_expect_eq(err, c->err, "%s: %s (%s)", c->text, err_code(err), fault.detail);
        cr_expect_eq(fault.err, err, "%s", c->text);
        cr_expect(strstr(fault.detail, c->says), "%s: \"%s\" lacks \"%s\"", c->text, fault.detail, c->says);
        // Nobody has to be told why.
        cr_expect_eq(decode(c->text, c->len, &request, NULL), c->err, "%s", c->text);
    }
}

static struct request decoded(decoder *decode, const char *text)
{
    struct request request;
    struct fault fault;
    cr_assert_eq(decode(text, strlen(text), &request, &fault), ERR_OK, "%s: %s", text, fault.detail);
    return request;
}

// PREFIX 1,2,…,count SUFFIX; the caller frees it.
static char *with_ids(const char *prefix, uint32_t count, const char *suffix)
{
    struct buf b;
    buf_init(&b);
    buf_str(&b, prefix);
    for (uint32_t i = 1; i <= count; i++) {
        if (i > 1) {
            buf_char(&b, ',');
        }
        buf_u64(&b, i);
    }
    buf_str(&b, suffix);
    char *text = buf_take(&b, NULL);
    cr_assert_not_null(text);
    return text;
}

// ---- HTTP bodies ----

Test(request, a_body_becomes_an_ingest_request)
{
    struct request request = decoded(request_from_body, " {\"ids\":[1, 2,\t3\n],\"priority\":\"HIGH\"} \r\n");
    const struct ingest_request *ingest = &request.ingest;
    cr_expect_eq(request.op, OP_INGEST);
    cr_expect_not(ingest->has_id);
    cr_expect_null(ingest->idempotency_key);
    cr_expect_eq(ingest->priority, PRIORITY_HIGH);
    cr_expect_str_eq(ingest->queue, "default");
    cr_expect_str_eq(ingest->ids.text, "1,2,3");
    cr_expect_eq(ingest->ids.len, 5);
    cr_expect_eq(ingest->ids.count, 3);
    cr_expect_eq(ingest->ids.largest, 3);
    cr_expect_eq(ingest->ids.kind, IDS_INTEGER);
    cr_expect_eq(ingest->not_before.ms, 0);
    cr_expect_eq(ingest->deadline.ms, 0);
    request_fini(&request);
    cr_expect_eq(request.op, OP_PING);
    request_fini(&request); // harmless

    request = decoded(request_from_body, "{\"queue\":\"q.1\",\"priority\":\"LOW\",\"ids\":[7]}");
    cr_expect_str_eq(request.ingest.queue, "q.1");
    cr_expect_eq(request.ingest.priority, PRIORITY_LOW);
    request_fini(&request);
}

Test(request, ids_come_out_digit_for_digit)
{
    static const struct {
        const char *ids;
        uint32_t count;
        uint64_t largest;
    } cases[] = {
        {"1", 1, 1},
        {"9007199254740991", 1, UINT64_C(9007199254740991)},
        {"9007199254740990,9007199254740989", 2, UINT64_C(9007199254740990)},
        {"1500000000000000,1,1,1", 4, UINT64_C(1500000000000000)}, // repeated ones are kept
        {"10,9,100,99,4294967296,2147483648", 6, UINT64_C(4294967296)},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf body;
        buf_init(&body);
        buf_printf(&body, "{\"ids\":[%s],\"priority\":\"MEDIUM\"}", cases[i].ids);
        struct request request = decoded(request_from_body, body.data);
        cr_expect_str_eq(request.ingest.ids.text, cases[i].ids);
        cr_expect_eq(request.ingest.ids.len, strlen(cases[i].ids));
        cr_expect_eq(request.ingest.ids.count, cases[i].count);
        cr_expect_eq(request.ingest.ids.largest, cases[i].largest);
        cr_expect_eq(request.ingest.ids.kind, IDS_INTEGER);
        request_fini(&request);
        buf_fini(&body);
    }
}

#define BODY(ids) "{\"ids\":" ids ",\"priority\":\"HIGH\"}"

Test(request, bad_ids_are_refused)
{
    static const struct refused cases[] = {
        REFUSED(BODY("[]"), ERR_INVALID_FIELD, "ids is empty"),
        REFUSED(BODY("null"), ERR_INVALID_FIELD, "ids must be an array"),
        REFUSED(BODY("1"), ERR_INVALID_FIELD, "ids must be an array"),
        REFUSED(BODY("\"1\""), ERR_INVALID_FIELD, "ids must be an array"),
        REFUSED(BODY("{\"0\":1}"), ERR_INVALID_FIELD, "ids must be an array"),
        REFUSED(BODY("[1,\"2\"]"), ERR_INVALID_FIELD, "ids[1] is no number"),
        REFUSED(BODY("[null]"), ERR_INVALID_FIELD, "ids[0] is neither a number nor a string"),
        REFUSED(BODY("[null,1]"), ERR_INVALID_FIELD, "ids[0] is neither a number nor a string"),
        REFUSED(BODY("[1,2,true]"), ERR_INVALID_FIELD, "ids[2] is no number"),
        REFUSED(BODY("[1,[2]]"), ERR_INVALID_FIELD, "ids[1] is no number"),
        REFUSED(BODY("[{}]"), ERR_INVALID_FIELD, "ids[0] is neither a number nor a string"),
        REFUSED(BODY("[\"[,,\",1.5]"), ERR_INVALID_FIELD, "ids[1] is no string"),
        REFUSED(BODY("[\"a\",\"b\",7]"), ERR_INVALID_FIELD, "ids[2] is no string"),
        REFUSED(BODY("[\"a\",null]"), ERR_INVALID_FIELD, "ids[1] is no string"),
        REFUSED(BODY("[\"a\",[\"b\"]]"), ERR_INVALID_FIELD, "ids[1] is no string"),
        REFUSED(BODY("[\"\"]"), ERR_INVALID_FIELD, "ids[0] is empty: an ID is a string of 1 to 128 bytes"),
        REFUSED(BODY("[\"a\",\"" FIFTY FIFTY TEN TEN "123456789\"]"), ERR_INVALID_FIELD,
                "ids[1] is too long: an ID is a string of 1 to 128 bytes"),
        REFUSED(BODY("[\"a\",\"" FIFTY FIFTY TEN TEN "1234567\xc3\xa9\"]"), ERR_INVALID_FIELD,
                "ids[1] is too long"),
        REFUSED(BODY("[\"\\u0000\"]"), ERR_MALFORMED_JSON, "byte 9"),
        REFUSED(BODY("[\"\xff\"]"), ERR_MALFORMED_JSON, "byte 9"),
        REFUSED(BODY("[1.0]"), ERR_INVALID_FIELD, "ids[0] is written with a fraction"),
        REFUSED(BODY("[1,2, 1e3,4]"), ERR_INVALID_FIELD, "ids[2] is written with a fraction or an exponent"),
        REFUSED(BODY("[1,1E0]"), ERR_INVALID_FIELD, "ids[1] is written"),
        REFUSED(BODY("[1,2.5,-1]"), ERR_INVALID_FIELD, "ids[1] is written"),
        REFUSED(BODY("[1e400]"), ERR_INVALID_FIELD, "ids[0] is written"),
        REFUSED(BODY("[1e-400]"), ERR_INVALID_FIELD, "ids[0] is written"),
        REFUSED(BODY("[0]"), ERR_ID_OUT_OF_RANGE, "ids[0] is below 1"),
        REFUSED(BODY("[-0]"), ERR_ID_OUT_OF_RANGE, "ids[0] is below 1"),
        REFUSED(BODY("[1,2,3,-1]"), ERR_ID_OUT_OF_RANGE, "ids[3] is below 1"),
        REFUSED(BODY("[-9007199254740993]"), ERR_ID_OUT_OF_RANGE, "ids[0] is below 1"),
        REFUSED(BODY("[9007199254740992]"), ERR_ID_OUT_OF_RANGE, "ids[0] is too large"),
        REFUSED(BODY("[1,9007199254740993]"), ERR_ID_OUT_OF_RANGE, "1 to 9007199254740991"),
        REFUSED(BODY("[18446744073709551617]"), ERR_ID_OUT_OF_RANGE, "ids[0] is too large"),
        REFUSED(BODY("[123456789012345678901234567890123456789012345678901234567890]"), ERR_ID_OUT_OF_RANGE,
                "ids[0] is too large"),
        REFUSED(BODY("[01]"), ERR_MALFORMED_JSON, "byte 9"),
        REFUSED(BODY("[+1]"), ERR_MALFORMED_JSON, "byte 8"),
        REFUSED(BODY("[1,]"), ERR_MALFORMED_JSON, "byte 10"),
        REFUSED(BODY("[NaN]"), ERR_MALFORMED_JSON, "byte 8"),
        REFUSED(BODY("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
                ERR_MALFORMED_JSON, "deep"),
    };
    expect_refused(request_from_body, cases, COUNT(cases));
}

Test(request, bad_members_of_a_body_are_refused_by_name)
{
    static const struct refused cases[] = {
        REFUSED("{}", ERR_INVALID_FIELD, "ids is missing"),
        REFUSED("{\"priority\":\"HIGH\"}", ERR_INVALID_FIELD, "ids is missing"),
        REFUSED("{\"ids\":[1]}", ERR_INVALID_FIELD, "priority is missing"),
        REFUSED("{\"ids\":[1],\"priority\":\"URGENT\"}", ERR_INVALID_FIELD,
                "HIGH, MEDIUM, LOW, not \"URGENT\""),
        REFUSED("{\"ids\":[1],\"priority\":\"high\"}", ERR_INVALID_FIELD, "HIGH, MEDIUM, LOW"),
        REFUSED("{\"ids\":[1],\"priority\":1.5}", ERR_INVALID_FIELD, "priority must be a string"),
        REFUSED("{\"ids\":[1],\"priority\":null}", ERR_INVALID_FIELD, "priority must be a string"),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"queue\":7}", ERR_INVALID_FIELD,
                "queue must be a string"),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"queue\":null}", ERR_INVALID_FIELD,
                "queue must be a string"),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"queue\":\"\"}", ERR_INVALID_FIELD, "queue must be"),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"queue\":\"My Queue\"}", ERR_INVALID_FIELD,
                "not \"My Queue\""),
        REFUSED("{\"IDS\":[1],\"priority\":\"LOW\"}", ERR_INVALID_FIELD, "\"IDS\""),
        REFUSED("{\"ids\":[1],\"IDS\":[1],\"priority\":\"LOW\"}", ERR_INVALID_FIELD, "\"IDS\""),
        REFUSED("{\"ids\":[1],\"ids\":[1],\"priority\":\"LOW\"}", ERR_INVALID_FIELD, "\"ids\""),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"priority\":\"LOW\"}", ERR_INVALID_FIELD, "\"priority\""),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"colour\":1.0}", ERR_INVALID_FIELD, "\"colour\""),
        // These are for IPC only: over HTTP the gateway mints the one, and a header carries the other.
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"id\":\"" UUID "\"}", ERR_INVALID_FIELD, "\"id\""),
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"idempotency_key\":\"k\"}", ERR_INVALID_FIELD,
                "\"idempotency_key\""),
        REFUSED("{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}", ERR_INVALID_FIELD, "\"op\""),
        REFUSED("[1,2]", ERR_INVALID_FIELD, "JSON object"),
        REFUSED("null", ERR_INVALID_FIELD, "JSON object"),
        REFUSED("\"ids\"", ERR_INVALID_FIELD, "JSON object"),
        REFUSED("", ERR_MALFORMED_JSON, "byte 0"),
        REFUSED("{", ERR_MALFORMED_JSON, "byte 1"),
        REFUSED("{'ids':[1]}", ERR_MALFORMED_JSON, "byte 1"),
        REFUSED(BODY("[1]") "x", ERR_MALFORMED_JSON, "byte 29"),
        REFUSED(BODY("[1]") BODY("[1]"), ERR_MALFORMED_JSON, "byte 29"),
        REFUSED(BODY("[1]") "\0", ERR_MALFORMED_JSON, "byte 29"),
        REFUSED("{\"ids\":[1],\"priority\":\"\0HIGH\"}", ERR_MALFORMED_JSON, "byte 23"),
        REFUSED("{\"ids\":[1],\"priority\":\"HIGH\\u0000\"}", ERR_MALFORMED_JSON, "byte 27"),
        REFUSED("{\"ids\":[1],\"priority\":\"\xff\"}", ERR_MALFORMED_JSON, "byte 23"),
        REFUSED("{\"ids\":[1],\"priority\":\"\xc0\x80\"}", ERR_MALFORMED_JSON, "byte 23"),
        REFUSED("{\"ids\":[1],\"priority\":\"\\ud800\"}", ERR_MALFORMED_JSON, "byte 23"),
    };
    expect_refused(request_from_body, cases, COUNT(cases));
}

Test(request, the_number_of_ids_is_limited)
{
    static const struct {
        uint32_t count;
        enum err err;
    } cases[] = {
        {IDS_MAX - 1, ERR_OK},
        {IDS_MAX, ERR_OK},
        {IDS_MAX + 1, ERR_TOO_MANY_IDS},
        {2 * IDS_MAX, ERR_TOO_MANY_IDS},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct request request;
        struct fault fault = {0};
        char *body = with_ids("{\"ids\":[", cases[i].count, "],\"priority\":\"LOW\"}");
        char *expected = with_ids("", cases[i].count, "");
        cr_expect_eq(request_from_body(body, strlen(body), &request, &fault), cases[i].err, "%u",
                     cases[i].count);
        if (cases[i].err == ERR_OK) {
            cr_expect_eq(request.ingest.ids.count, cases[i].count);
            cr_expect_eq(request.ingest.ids.len, strlen(expected));
            cr_expect_eq(strcmp(request.ingest.ids.text, expected), 0);
            request_fini(&request);
        } else {
            cr_expect(strstr(fault.detail, "at most 100000"), "%s", fault.detail);
        }
        free(expected);
        free(body);
    }
}

Test(request, string_ids_are_kept_in_one_form)
{
    static const struct {
        const char *ids;
        const char *text;
        uint32_t count;
    } cases[] = {
        {"\"a\"", "\"a\"", 1},
        {" \"a\" , \"b,c\"\n", "\"a\",\"b,c\"", 2},
        {"\"\\u0061\\/\"", "\"a/\"", 1},
        {"\"\\\"\",\"\\\\\",\"\\n\\u0001\"", "\"\\\"\",\"\\\\\",\"\\n\\u0001\"", 3},
        {"\"\\u00e9\",\"\xc3\xa9\"", "\"\xc3\xa9\",\"\xc3\xa9\"", 2}, // repeated ones are kept
        {"\"\\ud83c\\udfbf\"", "\"\xf0\x9f\x8e\xbf\"", 1},
        {"\"1\",\"01\",\" \"", "\"1\",\"01\",\" \"", 3},
        {"\"" FIFTY FIFTY TEN TEN "12345678\"", "\"" FIFTY FIFTY TEN TEN "12345678\"", 1}, // 128 bytes
        {"\"" FIFTY FIFTY TEN TEN "123456\xc3\xa9\"", "\"" FIFTY FIFTY TEN TEN "123456\xc3\xa9\"", 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf body;
        buf_init(&body);
        buf_printf(&body, "{\"ids\":[%s],\"priority\":\"LOW\"}", cases[i].ids);
        struct request request = decoded(request_from_body, body.data);
        cr_expect_str_eq(request.ingest.ids.text, cases[i].text);
        cr_expect_eq(request.ingest.ids.len, strlen(cases[i].text));
        cr_expect_eq(request.ingest.ids.count, cases[i].count);
        cr_expect_eq(request.ingest.ids.kind, IDS_STRING);
        cr_expect_eq(request.ingest.ids.largest, 0);
        const char *end = request.ingest.ids.text + request.ingest.ids.len;
        cr_expect_eq(ids_after(request.ingest.ids.text, end, cases[i].count), end);
        request_fini(&request);
        buf_fini(&body);
    }
}

Test(request, times_of_an_ingestion)
{
    static const struct {
        const char *members;
        int64_t not_before, deadline;
    } cases[] = {
        {"", 0, 0},
        {",\"not_before\":\"2026-11-23T18:47:05Z\"", 1795459625000, 0},
        {",\"deadline\":\"2026-11-23t19:47:05.5001+01:00\"", 0, 1795459625501},
        {",\"deadline\":\"2026-11-23T18:47:06Z\",\"not_before\":\"2026-11-23T18:47:05Z\"", 1795459625000,
         1795459626000},
        {",\"deadline\":\"1970-01-01T00:00:00Z\"", 0, 1}, // given, although long past
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf body;
        buf_init(&body);
        buf_printf(&body, "{\"ids\":[1],\"priority\":\"LOW\"%s}", cases[i].members);
        struct request request = decoded(request_from_body, body.data);
        cr_expect_eq(request.ingest.not_before.ms, cases[i].not_before, "%s", body.data);
        cr_expect_eq(request.ingest.deadline.ms, cases[i].deadline, "%s", body.data);
        request_fini(&request);
        buf_fini(&body);
    }
}

// ---- PUT bodies ----

static enum err put_on_q(const char *body, size_t len, struct request *request, struct fault *fault)
{
    return request_from_put("q", body, len, request, fault);
}

Test(request, a_put_body_becomes_a_queue_put)
{
    struct request request =
        decoded(put_on_q, "{\"rate\":\"10/s\",\"target\":\"pull:\",\"headers\":{\"A\":\"b\"}}");
    cr_expect_eq(request.op, OP_QUEUE_PUT);
    cr_expect_str_eq(request.queue.name, "q");
    cr_expect_eq(request.queue.change.given, SETTING_RATE | SETTING_TARGET | SETTING_HEADERS);
    cr_expect_eq(request.queue.change.rate.count, 10);
    cr_expect_str_eq(request.queue.change.target, "pull:");
    cr_expect_str_eq(request.queue.change.headers, "A: b\n");
    request_fini(&request);

    request = decoded(put_on_q, " {} ");
    cr_expect_eq(request.queue.change.given, 0);
    request_fini(&request);
}

Test(request, bad_put_bodies_are_refused)
{
    static const struct refused cases[] = {
        REFUSED("", ERR_MALFORMED_JSON, "byte 0"),
        REFUSED("{\"rate\":\"1/s\"}}", ERR_MALFORMED_JSON, "byte 14"),
        REFUSED("null", ERR_INVALID_FIELD, "JSON object"),
        REFUSED("[]", ERR_INVALID_FIELD, "JSON object"),
        REFUSED("{\"name\":\"q\"}", ERR_INVALID_FIELD, "\"name\" is not a field here"),
        REFUSED("{\"op\":\"queue.put\"}", ERR_INVALID_FIELD, "\"op\" is not a field here"),
        REFUSED("{\"Rate\":\"1/s\"}", ERR_INVALID_FIELD, "on_interrupt, aging"), // all are listed
        REFUSED("{\"rate\":\"1/s\",\"rate\":\"2/s\"}", ERR_INVALID_FIELD, "\"rate\" is given more than once"),
        REFUSED("{\"target\":\"pull:\",\"retry\":{\"max_backoff\":5}}", ERR_INVALID_FIELD,
                "retry.max_backoff"),
    };
    expect_refused(put_on_q, cases, COUNT(cases));
}

// ---- IPC lines ----

// The line of a request, which must read back as a request with the same line.
static void expect_round_trip(const struct request *request, const char *line)
{
    struct buf out, again;
    buf_init(&out);
    buf_init(&again);
    request_to_line(request, &out);
    cr_assert_eq(buf_err(&out), ERR_OK);
    cr_expect_str_eq(out.data, line);

    struct request back;
    struct fault fault;
    cr_assert_eq(request_from_line(out.data, out.len - 1, &back, &fault), ERR_OK, "%s", fault.detail);
    cr_expect_eq(back.op, request->op);
    request_to_line(&back, &again);
    cr_expect_str_eq(again.data, line);
    request_fini(&back);
    buf_fini(&again);
    buf_fini(&out);
}

Test(request, lines_of_requests_without_members)
{
    expect_round_trip(&(struct request){.op = OP_PING}, "{\"op\":\"ping\"}\n");
    expect_round_trip(&(struct request){.op = OP_STATS}, "{\"op\":\"stats\"}\n");
}

Test(request, lines_of_backup_requests)
{
    char path[] = "/var/backups/sluice.db";
    struct request backup = {.op = OP_BACKUP, .backup = {.path = path}};
    cr_assert(id_parse(UUID, strlen(UUID), &backup.backup.id));
    expect_round_trip(&backup,
                      "{\"op\":\"backup\",\"id\":\"" UUID "\",\"path\":\"/var/backups/sluice.db\"}\n");
}

Test(request, lines_of_ingest_requests)
{
    static char ids[] = "9007199254740991,1";
    static char key[] = "a\"b\\c";
    struct request request = {
        .op = OP_INGEST,
        .ingest = {.priority = PRIORITY_LOW,
                   .queue = "mail",
                   .ids = {.text = ids, .len = sizeof(ids) - 1, .count = 2, .largest = ID_VALUE_MAX}},
    };
    expect_round_trip(
        &request,
        "{\"op\":\"ingest\",\"queue\":\"mail\",\"priority\":\"LOW\",\"ids\":[9007199254740991,1]}\n");

    request.ingest.has_id = true;
    cr_assert(id_parse(UUID, strlen(UUID), &request.ingest.id));
    request.ingest.idempotency_key = key;
    expect_round_trip(&request, "{\"op\":\"ingest\",\"id\":\"" UUID
                                "\",\"idempotency_key\":\"a\\\"b\\\\c\",\"queue\":\"mail\","
                                "\"priority\":\"LOW\",\"ids\":[9007199254740991,1]}\n");
}

Test(request, lines_of_status_requests)
{
    struct request request = {.op = OP_STATUS, .status = {.limit = PAGE_MAX, .offset = UINT32_MAX}};
    cr_assert(id_parse(UUID, strlen(UUID), &request.status.id));
    expect_round_trip(&request,
                      "{\"op\":\"status\",\"id\":\"" UUID "\",\"limit\":10000,\"offset\":4294967295}\n");
}

Test(request, lines_of_list_requests)
{
    struct request request = {.op = OP_LIST, .list = {.limit = 1}};
    expect_round_trip(&request, "{\"op\":\"list\",\"limit\":1}\n");

    request.list = (struct list_request){
        .has_status = true,
        .has_priority = true,
        .has_queue = true,
        .status = STATUS_FAILED,
        .priority = PRIORITY_MEDIUM,
        .queue = "q",
        .limit = LIST_MAX,
        .cursor = INT64_MAX,
    };
    expect_round_trip(
        &request,
        "{\"op\":\"list\",\"status\":\"failed\",\"priority\":\"MEDIUM\",\"queue\":\"q\",\"limit\":1000,"
        "\"cursor\":\"9223372036854775807\"}\n");
}

Test(request, lines_of_ingest_requests_with_times_and_strings)
{
    static char ids[] = "\"a,b\",\"\\\"\"";
    struct request request = {
        .op = OP_INGEST,
        .ingest = {.priority = PRIORITY_HIGH,
                   .queue = "mail",
                   .not_before = {1795459625123},
                   .deadline = {1795459625124},
                   .ids = {.text = ids, .len = sizeof(ids) - 1, .count = 2, .kind = IDS_STRING}},
    };
    expect_round_trip(&request, "{\"op\":\"ingest\",\"queue\":\"mail\",\"priority\":\"HIGH\","
                                "\"not_before\":\"2026-11-23T18:47:05.123Z\","
                                "\"deadline\":\"2026-11-23T18:47:05.124Z\",\"ids\":[\"a,b\",\"\\\"\"]}\n");
}

Test(request, lines_of_requests_on_one_ingestion)
{
    struct request request = {.op = OP_CANCEL};
    cr_assert(id_parse(UUID, strlen(UUID), &request.ingestion.id));
    expect_round_trip(&request, "{\"op\":\"cancel\",\"id\":\"" UUID "\"}\n");
    request.op = OP_RETRY;
    expect_round_trip(&request, "{\"op\":\"retry\",\"id\":\"" UUID "\"}\n");
}

Test(request, lines_of_requests_on_queues)
{
    static const struct {
        enum op op;
        const char *line;
    } cases[] = {
        {OP_QUEUE_GET, "{\"op\":\"queue.get\",\"name\":\"mail\"}\n"},
        {OP_QUEUE_PUT, "{\"op\":\"queue.put\",\"name\":\"mail\"}\n"},
        {OP_QUEUE_DELETE, "{\"op\":\"queue.delete\",\"name\":\"mail\"}\n"},
        {OP_QUEUE_PAUSE, "{\"op\":\"queue.pause\",\"name\":\"mail\"}\n"},
        {OP_QUEUE_RESUME, "{\"op\":\"queue.resume\",\"name\":\"mail\"}\n"},
        {OP_QUEUE_RETRY, "{\"op\":\"queue.retry\",\"name\":\"mail\"}\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct request request = {.op = cases[i].op, .queue = {.name = "mail"}};
        expect_round_trip(&request, cases[i].line);
    }
}

Test(request, lines_of_queue_put_hold_the_change)
{
    static char target[] = "http://h/?a=\"b\"";
    static char headers[] = "A: b\n";
    struct request request = {.op = OP_QUEUE_PUT, .queue = {.name = "mail"}};
    request.queue.change = (struct queue_change){
        .given = SETTING_RATE | SETTING_TARGET | SETTING_HEADERS | SETTING_MAX_ATTEMPTS | SETTING_LINGER,
        .rate = {.count = 3, .per_ns = NS_PER_S},
        .target = target,
        .headers = headers,
        .max_attempts = 2,
        .linger_ns = -1,
    };
    expect_round_trip(&request, "{\"op\":\"queue.put\",\"name\":\"mail\",\"rate\":\"3/s\",\"linger\":null,"
                                "\"target\":\"http://h/?a=\\\"b\\\"\",\"retry\":{\"max_attempts\":2},"
                                "\"headers\":{\"A\":\"b\"}}\n");
}

Test(request, lines_of_queue_list)
{
    struct request request = {.op = OP_QUEUE_LIST, .queue_list = {.limit = 1}};
    expect_round_trip(&request, "{\"op\":\"queue.list\",\"limit\":1}\n");
    request.queue_list = (struct queue_list_request){.limit = QUEUES_DEFAULT, .cursor = "mail"};
    expect_round_trip(&request, "{\"op\":\"queue.list\",\"limit\":1000,\"cursor\":\"mail\"}\n");
}

Test(request, lines_of_leases)
{
    struct request request = {.op = OP_LEASE, .lease = {.queue = "mail", .wait_ns = 0, .max = 1}};
    expect_round_trip(&request, "{\"op\":\"lease\",\"queue\":\"mail\",\"wait\":\"0\",\"max\":1}\n");
    request.lease.has_id = true;
    cr_assert(id_parse(UUID, strlen(UUID), &request.lease.id));
    request.lease.wait_ns = LEASE_WAIT_MAX_NS;
    request.lease.max = LEASE_BATCHES_MAX;
    expect_round_trip(&request, "{\"op\":\"lease\",\"id\":\"" UUID
                                "\",\"queue\":\"mail\",\"wait\":\"20s\",\"max\":1000}\n");
}

#define BATCH "f51b4346-131d-5a45-81aa-4ba96319e9c0"

Test(request, lines_that_settle)
{
    static char error[] = "disk \"full\"";
    struct request request = {.op = OP_ACK};
    cr_assert(id_parse(UUID, strlen(UUID), &request.settle.id));
    expect_round_trip(&request, "{\"op\":\"ack\",\"id\":\"" UUID "\"}\n");
    request.settle.has_batch = true;
    cr_assert(id_parse(BATCH, strlen(BATCH), &request.settle.batch));
    expect_round_trip(&request, "{\"op\":\"ack\",\"id\":\"" UUID "\",\"batch_id\":\"" BATCH "\"}\n");

    request.op = OP_EXTEND;
    expect_round_trip(&request, "{\"op\":\"extend\",\"id\":\"" UUID "\",\"batch_id\":\"" BATCH "\"}\n");
    request.settle.lease_ns = 90 * NS_PER_S;
    expect_round_trip(&request, "{\"op\":\"extend\",\"id\":\"" UUID "\",\"batch_id\":\"" BATCH
                                "\",\"lease\":\"90s\"}\n");

    request.op = OP_NACK;
    request.settle.lease_ns = 0;
    request.settle.has_batch = false;
    expect_round_trip(&request, "{\"op\":\"nack\",\"id\":\"" UUID "\"}\n");
    request.settle.error = error;
    request.settle.has_delay = true;
    expect_round_trip(&request, "{\"op\":\"nack\",\"id\":\"" UUID
                                "\",\"error\":\"disk \\\"full\\\"\",\"delay\":\"0\"}\n");
    request.settle.has_delay = false;
    request.settle.final = true;
    expect_round_trip(&request, "{\"op\":\"nack\",\"id\":\"" UUID
                                "\",\"error\":\"disk \\\"full\\\"\",\"final\":true}\n");
}

Test(request, what_workers_leave_out_has_defaults)
{
    struct request request = decoded(request_from_line, "{\"op\":\"lease\"}");
    cr_expect_not(request.lease.has_id);
    cr_expect_str_eq(request.lease.queue, "default");
    cr_expect_eq(request.lease.wait_ns, LEASE_WAIT_DEFAULT_NS);
    cr_expect_eq(request.lease.max, 1);
    request_fini(&request);

    request =
        decoded(request_from_line, "{\"op\":\"nack\",\"id\":\"" UUID "\",\"final\":false,\"delay\":\"7d\"}");
    cr_expect_str_eq(request.settle.error, "");
    cr_expect_not(request.settle.final);
    cr_expect_not(request.settle.has_batch);
    cr_expect(request.settle.has_delay);
    cr_expect_eq(request.settle.delay_ns, 7 * 86400 * NS_PER_S);
    request_fini(&request);

    request = decoded(request_from_line, "{\"op\":\"extend\",\"id\":\"" UUID "\"}");
    cr_expect_eq(request.settle.lease_ns, 0);
    request_fini(&request);
}

Test(request, what_writes)
{
    static const struct {
        enum op op;
        bool writes;
    } cases[] = {
        {OP_PING, false},       {OP_INGEST, true},       {OP_STATUS, false},     {OP_LIST, false},
        {OP_CANCEL, true},      {OP_RETRY, true},        {OP_QUEUE_LIST, false}, {OP_QUEUE_GET, false},
        {OP_QUEUE_PUT, true},   {OP_QUEUE_DELETE, true}, {OP_QUEUE_PAUSE, true}, {OP_QUEUE_RESUME, true},
        {OP_QUEUE_RETRY, true}, {OP_LEASE, false},       {OP_ACK, true},         {OP_NACK, true},
        {OP_EXTEND, true},      {OP_STATS, false},       {OP_BACKUP, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect_eq(op_writes(cases[i].op), cases[i].writes, "%d", (int)cases[i].op);
    }
}

Test(request, an_ingest_line_holds_what_it_says)
{
    struct request request =
        decoded(request_from_line, "{\"ids\":[5],\"idempotency_key\":\"k\",\"op\":\"ingest\","
                                   "\"id\":\"0190163D-8694-739B-AEA5-966C26F8AD91\",\"priority\":\"HIGH\"}");
    char id[ID_TEXT_SIZE];
    cr_expect_eq(request.op, OP_INGEST);
    cr_assert(request.ingest.has_id);
    id_format(&request.ingest.id, id);
    cr_expect_str_eq(id, UUID);
    cr_expect_str_eq(request.ingest.idempotency_key, "k");
    cr_expect_str_eq(request.ingest.queue, "default");
    cr_expect_str_eq(request.ingest.ids.text, "5");
    request_fini(&request);

    request = decoded(request_from_line, "{\"op\":\"ingest\",\"ids\":[5],\"priority\":\"HIGH\"}");
    cr_expect_not(request.ingest.has_id);
    cr_expect_null(request.ingest.idempotency_key);
    request_fini(&request);
}

Test(request, pages_have_defaults)
{
    struct request request = decoded(request_from_line, "{\"op\":\"status\",\"id\":\"" UUID "\"}");
    cr_expect_eq(request.status.limit, PAGE_DEFAULT);
    cr_expect_eq(request.status.offset, 0);

    request = decoded(request_from_line, "{\"op\":\"list\"}");
    cr_expect_eq(request.list.limit, LIST_DEFAULT);
    cr_expect_eq(request.list.cursor, 0);
    cr_expect_not(request.list.has_status || request.list.has_priority || request.list.has_queue);

    request = decoded(request_from_line, "{\"op\":\"queue.list\"}");
    cr_expect_eq(request.queue_list.limit, QUEUES_DEFAULT);
    cr_expect_str_eq(request.queue_list.cursor, "");
}

#define OPS                                                                                                  \
    "ping, ingest, status, list, cancel, retry, queue.list, queue.get, queue.put, queue.delete, "            \
    "queue.pause, queue.resume, queue.retry, lease, ack, nack, extend, stats, backup, metrics, not "

Test(request, lines_that_are_no_request_are_refused)
{
    static const struct refused cases[] = {
        REFUSED("", ERR_MALFORMED_JSON, "byte 0"),
        REFUSED("ping", ERR_MALFORMED_JSON, "byte 0"),
        REFUSED("{\"op\":\"ping\"}{", ERR_MALFORMED_JSON, "byte 13"),
        REFUSED("{\"op\":\"ping\"}\0", ERR_MALFORMED_JSON, "byte 13"),
        REFUSED("{\"op\":\"ping\xff\"}", ERR_MALFORMED_JSON, "byte 11"),
        REFUSED("[]", ERR_BAD_REQUEST, "object"),
        REFUSED("\"ping\"", ERR_BAD_REQUEST, "object"),
        REFUSED("7", ERR_BAD_REQUEST, "object"),
        REFUSED("{}", ERR_BAD_REQUEST, OPS),
        REFUSED("{\"op\":7}", ERR_BAD_REQUEST, OPS),
        REFUSED("{\"op\":\"dance\"}", ERR_BAD_REQUEST, "dance"),
        REFUSED("{\"op\":\"PING\"}", ERR_BAD_REQUEST, OPS),
        REFUSED("{\"OP\":\"ping\"}", ERR_BAD_REQUEST, OPS),
        REFUSED("{\"op\":\"ping\",\"op\":\"ping\"}", ERR_INVALID_FIELD, "\"op\""),
        REFUSED("{\"op\":\"ping\",\"id\":1}", ERR_INVALID_FIELD, "\"id\""),
        REFUSED("{\"op\":\"queue\"}", ERR_BAD_REQUEST, OPS "queue"),
        REFUSED("{\"op\":\"" KEY_250 "\"}", ERR_BAD_REQUEST, OPS TEN),
        REFUSED("{\"op\":null}", ERR_BAD_REQUEST, OPS "absent"),
        REFUSED("{\"op\":\"stats\",\"queue\":\"default\"}", ERR_INVALID_FIELD, "\"queue\""),
        REFUSED("{\"op\":\"backup\",\"id\":\"" UUID "\"}", ERR_INVALID_FIELD, "path"),
        REFUSED("{\"op\":\"backup\",\"path\":\"/x\"}", ERR_INVALID_FIELD, "id"),
        REFUSED("{\"op\":\"backup\",\"id\":\"" UUID "\",\"path\":\"x\"}", ERR_INVALID_FIELD, "begin with /"),
    };
    expect_refused(request_from_line, cases, COUNT(cases));
}

#define INGEST(members) "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"," members "}"
#define STATUS(members) "{\"op\":\"status\",\"id\":\"" UUID "\"," members "}"
#define LEASE(members) "{\"op\":\"lease\"," members "}"
#define ACK(members) "{\"op\":\"ack\",\"id\":\"" UUID "\"," members "}"
#define NACK(members) "{\"op\":\"nack\",\"id\":\"" UUID "\"," members "}"
#define EXTEND(members) "{\"op\":\"extend\",\"id\":\"" UUID "\"," members "}"
#define PUT(members) "{\"op\":\"queue.put\",\"name\":\"q\"," members "}"
#define LIST(members) "{\"op\":\"list\"," members "}"

Test(request, bad_members_of_a_line_are_refused_by_name)
{
    static const struct refused cases[] = {
        REFUSED(INGEST("\"id\":\"x\""), ERR_INVALID_FIELD, "id must be a UUID"),
        REFUSED(INGEST("\"id\":\"" UUID "0\""), ERR_INVALID_FIELD, "id must be a UUID"),
        REFUSED(INGEST("\"id\":7"), ERR_INVALID_FIELD, "id must be a string"),
        REFUSED(INGEST("\"idempotency_key\":\"\""), ERR_INVALID_FIELD, "idempotency_key must be 1 to 255"),
        REFUSED(INGEST("\"idempotency_key\":\"a b\""), ERR_INVALID_FIELD, "idempotency_key must be 1 to 255"),
        REFUSED(INGEST("\"idempotency_key\":\"" KEY_250 "123456\""), ERR_INVALID_FIELD,
                "idempotency_key must be 1 to 255"),
        REFUSED(INGEST("\"idempotency_key\":[]"), ERR_INVALID_FIELD, "idempotency_key must be a string"),
        REFUSED(INGEST("\"limit\":1"), ERR_INVALID_FIELD, "\"limit\""),
        REFUSED("{\"op\":\"ingest\",\"idempotency_key\":\"k\",\"priority\":\"LOW\",\"ids\":[1,0]}",
                ERR_ID_OUT_OF_RANGE, "ids[1] is below 1"),
        REFUSED("{\"op\":\"ingest\",\"idempotency_key\":\"k\",\"ids\":[1]}", ERR_INVALID_FIELD,
                "priority is missing"),
        REFUSED("{\"op\":\"status\"}", ERR_INVALID_FIELD, "id is missing"),
        REFUSED("{\"op\":\"status\",\"id\":7}", ERR_INVALID_FIELD, "id must be a string"),
        REFUSED("{\"op\":\"status\",\"id\":\"nope\"}", ERR_NOT_FOUND, "nope"),
        REFUSED("{\"op\":\"status\",\"id\":\"\"}", ERR_NOT_FOUND, "no ingestion"),
        REFUSED(STATUS("\"limit\":0"), ERR_INVALID_FIELD, "limit must be an integer from 1 to 10000"),
        REFUSED(STATUS("\"limit\":10001"), ERR_INVALID_FIELD, "limit must be"),
        REFUSED(STATUS("\"limit\":1.5"), ERR_INVALID_FIELD, "limit must be"),
        REFUSED(STATUS("\"limit\":\"5\""), ERR_INVALID_FIELD, "limit must be"),
        REFUSED(STATUS("\"offset\":-1"), ERR_INVALID_FIELD, "offset must be"),
        REFUSED(STATUS("\"offset\":4294967296"), ERR_INVALID_FIELD, "offset must be"),
        REFUSED(LIST("\"status\":\"done\""), ERR_INVALID_FIELD,
                "yet_to_start, triggered, completed, failed, cancelled"),
        REFUSED(LIST("\"priority\":\"\""), ERR_INVALID_FIELD, "HIGH, MEDIUM, LOW"),
        REFUSED(LIST("\"queue\":\"Q\""), ERR_INVALID_FIELD, "queue must be"),
        REFUSED(LIST("\"limit\":1001"), ERR_INVALID_FIELD, "limit must be an integer from 1 to 1000"),
        REFUSED(LIST("\"offset\":1"), ERR_INVALID_FIELD, "\"offset\""),
        REFUSED(LIST("\"cursor\":5"), ERR_INVALID_FIELD, "cursor must be a string"),
        REFUSED(LIST("\"cursor\":\"\""), ERR_INVALID_FIELD, "cursor must be"),
        REFUSED(LIST("\"cursor\":\"0\""), ERR_INVALID_FIELD, "cursor must be"),
        REFUSED(LIST("\"cursor\":\"-1\""), ERR_INVALID_FIELD, "cursor must be"),
        REFUSED(LIST("\"cursor\":\"5 \""), ERR_INVALID_FIELD, "cursor must be"),
        REFUSED(LIST("\"cursor\":\"9223372036854775808\""), ERR_INVALID_FIELD, "cursor must be"),
        REFUSED(LIST("\"cursor\":\"99999999999999999999999\""), ERR_INVALID_FIELD, "cursor must be"),
        REFUSED(INGEST("\"not_before\":\"tomorrow\""), ERR_INVALID_FIELD,
                "not_before must be a date and time"),
        REFUSED(INGEST("\"not_before\":1795459625"), ERR_INVALID_FIELD, "not_before must be"),
        REFUSED(INGEST("\"not_before\":null"), ERR_INVALID_FIELD, "not_before must be"),
        REFUSED(INGEST("\"deadline\":\"2026-02-29T00:00:00Z\""), ERR_INVALID_FIELD, "deadline must be"),
        REFUSED(INGEST("\"deadline\":1.5"), ERR_INVALID_FIELD, "deadline must be"),
        REFUSED("{\"op\":\"cancel\"}", ERR_INVALID_FIELD, "id is missing"),
        REFUSED("{\"op\":\"cancel\",\"id\":7}", ERR_INVALID_FIELD, "id must be a string"),
        REFUSED("{\"op\":\"cancel\",\"id\":\"nope\"}", ERR_NOT_FOUND, "no ingestion has the id \"nope\""),
        REFUSED("{\"op\":\"retry\",\"id\":\"nope\"}", ERR_NOT_FOUND, "nope"),
        REFUSED("{\"op\":\"retry\",\"name\":\"q\"}", ERR_INVALID_FIELD, "\"name\""),
    };
    expect_refused(request_from_line, cases, COUNT(cases));
}

Test(request, bad_members_of_queue_lines_are_refused_by_name)
{
    static const struct refused cases[] = {
        REFUSED("{\"op\":\"queue.get\"}", ERR_INVALID_FIELD, "name is missing"),
        REFUSED("{\"op\":\"queue.get\",\"name\":7}", ERR_INVALID_FIELD, "name must be a string"),
        REFUSED("{\"op\":\"queue.get\",\"queue\":\"q\"}", ERR_INVALID_FIELD, "\"queue\""),
        REFUSED("{\"op\":\"queue.get\",\"name\":\"Q\"}", ERR_UNKNOWN_QUEUE, "there is no queue \"Q\""),
        REFUSED("{\"op\":\"queue.delete\",\"name\":\"\"}", ERR_UNKNOWN_QUEUE, "there is no queue"),
        REFUSED("{\"op\":\"queue.pause\",\"name\":\"q\",\"rate\":\"1/s\"}", ERR_INVALID_FIELD, "\"rate\""),
        REFUSED("{\"op\":\"queue.put\"}", ERR_INVALID_FIELD, "name is missing"),
        REFUSED("{\"op\":\"queue.put\",\"name\":\"Q\"}", ERR_INVALID_FIELD,
                "name must be 1 to 64 characters"),
        REFUSED("{\"op\":\"queue.put\",\"name\":null}", ERR_INVALID_FIELD, "name must be a string"),
        REFUSED(PUT("\"colour\":1"), ERR_INVALID_FIELD, "on_interrupt, aging"), // all are listed
        REFUSED(PUT("\"paused\":true"), ERR_INVALID_FIELD, "\"paused\" is not a field here"),
        REFUSED(PUT("\"target\":\"pull:\",\"headers\":{\"A\":\"b\"},\"lease\":\"0\""), ERR_INVALID_FIELD,
                "lease must be"),
        REFUSED("{\"op\":\"queue.list\",\"limit\":1001}", ERR_INVALID_FIELD,
                "limit must be an integer from 1 to 1000"),
        REFUSED("{\"op\":\"queue.list\",\"limit\":0}", ERR_INVALID_FIELD, "limit must be"),
        REFUSED("{\"op\":\"queue.list\",\"cursor\":\"\"}", ERR_INVALID_FIELD, "cursor must be"),
        REFUSED("{\"op\":\"queue.list\",\"cursor\":\"a b\"}", ERR_INVALID_FIELD, "not \"a b\""),
        REFUSED("{\"op\":\"queue.list\",\"cursor\":7}", ERR_INVALID_FIELD, "cursor must be a string"),
    };
    expect_refused(request_from_line, cases, COUNT(cases));
}

Test(request, bad_members_of_workers_lines_are_refused_by_name)
{
    static const struct refused cases[] = {
        REFUSED(LEASE("\"id\":\"x\""), ERR_INVALID_FIELD, "id must be a UUID"),
        REFUSED(LEASE("\"name\":\"q\""), ERR_INVALID_FIELD, "\"name\""),
        REFUSED(LEASE("\"queue\":\"Q\""), ERR_INVALID_FIELD, "queue must be"),
        REFUSED(LEASE("\"wait\":20"), ERR_INVALID_FIELD, "wait must be a duration from 0 to 20s"),
        REFUSED(LEASE("\"wait\":\"20001ms\""), ERR_INVALID_FIELD, "wait must be"),
        REFUSED(LEASE("\"wait\":null"), ERR_INVALID_FIELD, "wait must be"),
        REFUSED(LEASE("\"max\":0"), ERR_INVALID_FIELD, "max must be an integer from 1 to 1000"),
        REFUSED(LEASE("\"max\":1001"), ERR_INVALID_FIELD, "max must be"),
        REFUSED("{\"op\":\"ack\"}", ERR_INVALID_FIELD, "id is missing"),
        REFUSED("{\"op\":\"ack\",\"id\":\"nope\"}", ERR_INVALID_FIELD, "id must be a UUID"),
        REFUSED("{\"op\":\"nack\",\"error\":\"e\"}", ERR_INVALID_FIELD, "id is missing"),
        REFUSED(ACK("\"batch_id\":\"nope\""), ERR_INVALID_FIELD, "batch_id must be a UUID"),
        REFUSED(ACK("\"batch_id\":null"), ERR_INVALID_FIELD, "batch_id must be a string"),
        REFUSED(ACK("\"error\":\"e\""), ERR_INVALID_FIELD, "\"error\""),
        REFUSED(NACK("\"error\":7"), ERR_INVALID_FIELD, "error must be a string"),
        REFUSED(NACK("\"final\":\"true\""), ERR_INVALID_FIELD, "final must be true or false"),
        REFUSED(NACK("\"final\":null"), ERR_INVALID_FIELD, "final must be true or false"),
        REFUSED(NACK("\"delay\":5"), ERR_INVALID_FIELD, "delay must be a duration from 0 to 7d"),
        REFUSED(NACK("\"delay\":\"8d\""), ERR_INVALID_FIELD, "delay must be"),
        REFUSED(NACK("\"delay\":\"0\",\"final\":true"), ERR_INVALID_FIELD,
                "delay must not be given with final"),
        REFUSED(NACK("\"lease\":\"5s\""), ERR_INVALID_FIELD, "\"lease\""),
        REFUSED(EXTEND("\"lease\":\"0\""), ERR_INVALID_FIELD, "lease must be a duration from 1s to 1d"),
        REFUSED(EXTEND("\"lease\":\"25h\""), ERR_INVALID_FIELD, "lease must be"),
        REFUSED(EXTEND("\"delay\":\"5s\""), ERR_INVALID_FIELD, "\"delay\""),
    };
    expect_refused(request_from_line, cases, COUNT(cases));
}

Test(request, the_longest_key_is_taken)
{
    struct request request = decoded(request_from_line, INGEST("\"idempotency_key\":\"" KEY_250 "12345\""));
    cr_expect_eq(strlen(request.ingest.idempotency_key), IDEMPOTENCY_KEY_MAX);
    request_fini(&request);
}

Test(request, a_full_ingestion_with_every_member_fits)
{
    char *line = with_ids("{\"op\":\"ingest\",\"id\":\"" UUID
                          "\",\"idempotency_key\":\"k\",\"queue\":\"q\",\"priority\":\"LOW\","
                          "\"not_before\":\"2026-11-23T18:47:05.123Z\","
                          "\"deadline\":\"2026-11-23T18:47:05.124Z\",\"ids\":[",
                          IDS_MAX, "]}\n");
    struct request request;
    cr_assert_eq(request_from_line(line, strlen(line) - 1, &request, NULL), ERR_OK);
    cr_expect_eq(request.ingest.ids.count, IDS_MAX);
    expect_round_trip(&request, line);
    request_fini(&request);
    free(line);
}

// ---- what a request is followed by ----

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Test(request, any_request_may_carry_a_trace)
{
    static const char *const lines[] = {
        "{\"op\":\"ping\",\"request_id\":\"r-1\",\"traceparent\":\"" TRACEPARENT "\"}",
        "{\"traceparent\":\"" TRACEPARENT "\",\"op\":\"queue.pause\",\"name\":\"a\",\"request_id\":\"r-1\"}",
        "{\"op\":\"queue.put\",\"name\":\"a\",\"rate\":\"1/"
        "s\",\"request_id\":\"r-1\",\"traceparent\":\"" TRACEPARENT "\"}",
        "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\",\"request_id\":\"r-1\",\"traceparent\":"
        "\"" TRACEPARENT "\"}",
    };
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct request request = decoded(request_from_line, lines[i]);
        cr_assert_not_null(request.trace, "%s", lines[i]);
        cr_assert_str_eq(request.trace->request_id, "r-1");
        cr_assert_str_eq(request.trace->traceparent, TRACEPARENT);
        struct buf line;
        buf_init(&line);
        request_to_line(&request, &line);
        struct request again = decoded(request_from_line, line.data);
        cr_assert_str_eq(again.trace->request_id, "r-1");
        cr_assert_str_eq(again.trace->traceparent, TRACEPARENT);
        buf_fini(&line);
        request_fini(&request);
        request_fini(&again);
    }
    struct request one = decoded(request_from_line, "{\"op\":\"ping\",\"request_id\":\"r\"}");
    cr_assert_str_eq(one.trace->traceparent, "");
    request_fini(&one);
    struct request none = decoded(request_from_line, "{\"op\":\"ping\"}");
    cr_assert_null(none.trace);
    request_fini(&none);
}

Test(request, a_trace_is_what_it_should_be)
{
    static const struct refused cases[] = {
        REFUSED("{\"op\":\"ping\",\"request_id\":\"\"}", ERR_INVALID_FIELD, "request_id must be"),
        REFUSED("{\"op\":\"ping\",\"request_id\":\"a b\"}", ERR_INVALID_FIELD, "request_id must be"),
        REFUSED("{\"op\":\"ping\",\"request_id\":\"a\\n\"}", ERR_INVALID_FIELD, "request_id must be"),
        REFUSED("{\"op\":\"ping\",\"request_id\":7}", ERR_INVALID_FIELD, "request_id must be a string"),
        REFUSED("{\"op\":\"ping\",\"request_id\":null}", ERR_INVALID_FIELD, "request_id must be a string"),
        REFUSED("{\"op\":\"ping\",\"traceparent\":\"00-1\"}", ERR_INVALID_FIELD, "traceparent is not"),
        REFUSED("{\"op\":\"ping\",\"request_id\":\"r\",\"traceparent\":1.5}", ERR_INVALID_FIELD,
                "traceparent must be a string"),
    };
    expect_refused(request_from_line, cases, COUNT(cases));
    // It is the gateway's to add, and no member of a body.
    static const struct refused body =
        REFUSED("{\"ids\":[1],\"priority\":\"LOW\",\"request_id\":\"r\"}", ERR_INVALID_FIELD, "request_id");
    expect_refused(request_from_body, &body, 1);
}
