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
        if (i > 1)
            buf_char(&b, ',');
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
        REFUSED(BODY("[null]"), ERR_INVALID_FIELD, "ids[0] is no number"),
        REFUSED(BODY("[1,2,true]"), ERR_INVALID_FIELD, "ids[2] is no number"),
        REFUSED(BODY("[1,[2]]"), ERR_INVALID_FIELD, "ids[1] is no number"),
        REFUSED(BODY("[{}]"), ERR_INVALID_FIELD, "ids[0] is no number"),
        REFUSED(BODY("[\"[,,\",1.5]"), ERR_INVALID_FIELD, "ids[0] is no number"),
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
}

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
        REFUSED("{}", ERR_BAD_REQUEST, "ping, ingest, status, list, stats"),
        REFUSED("{\"op\":7}", ERR_BAD_REQUEST, "ping, ingest, status, list, stats"),
        REFUSED("{\"op\":\"dance\"}", ERR_BAD_REQUEST, "dance"),
        REFUSED("{\"op\":\"PING\"}", ERR_BAD_REQUEST, "ping, ingest, status, list, stats"),
        REFUSED("{\"OP\":\"ping\"}", ERR_BAD_REQUEST, "ping, ingest, status, list, stats"),
        REFUSED("{\"op\":\"ping\",\"op\":\"ping\"}", ERR_INVALID_FIELD, "\"op\""),
        REFUSED("{\"op\":\"ping\",\"id\":1}", ERR_INVALID_FIELD, "\"id\""),
        REFUSED("{\"op\":\"stats\",\"queue\":\"default\"}", ERR_INVALID_FIELD, "\"queue\""),
    };
    expect_refused(request_from_line, cases, COUNT(cases));
}

#define INGEST(members) "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"," members "}"
#define STATUS(members) "{\"op\":\"status\",\"id\":\"" UUID "\"," members "}"
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
                          "\",\"idempotency_key\":\"k\",\"queue\":\"q\",\"priority\":\"LOW\",\"ids\":[",
                          IDS_MAX, "]}\n");
    struct request request;
    cr_assert_eq(request_from_line(line, strlen(line) - 1, &request, NULL), ERR_OK);
    cr_expect_eq(request.ingest.ids.count, IDS_MAX);
    expect_round_trip(&request, line);
    request_fini(&request);
    free(line);
}

// ---- content ----

Test(request, the_same_content_is_the_same_whatever_its_bytes)
{
    static const struct {
        const char *line;
        bool same;
    } cases[] = {
        {"{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"LOW\"}", true},
        {"{\"priority\":\"LOW\", \"ids\":[ 1, 2 ], \"op\":\"ingest\",\"queue\":\"default\"}", true},
        {"{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"LOW\",\"id\":\"" UUID
         "\",\"idempotency_key\":\"k\"}",
         true},
        {"{\"op\":\"ingest\",\"ids\":[2,1],\"priority\":\"LOW\"}", false},
        {"{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}", false},
        {"{\"op\":\"ingest\",\"ids\":[12],\"priority\":\"LOW\"}", false},
        {"{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"HIGH\"}", false},
        {"{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"LOW\",\"queue\":\"other\"}", false},
    };
    struct request one = decoded(request_from_line, cases[0].line);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct request other = decoded(request_from_line, cases[i].line);
        cr_expect_eq(ingest_same_content(&one.ingest, &other.ingest), cases[i].same, "%s", cases[i].line);
        cr_expect_eq(ingest_same_content(&other.ingest, &one.ingest), cases[i].same, "%s", cases[i].line);
        request_fini(&other);
    }
    request_fini(&one);
}
