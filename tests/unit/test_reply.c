#include "proto/reply.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UUID "0190163d-8694-739b-aea5-966c26f8ad91"

// A text with its length, so that it may hold a NUL.
#define TEXT(literal)                                                                                        \
    {                                                                                                        \
        literal, sizeof(literal) - 1                                                                         \
    }
struct text {
    const char *data;
    size_t len;
};

static struct buf buffer(void)
{
    struct buf b;
    buf_init(&b);
    return b;
}

// Without the newline that every reply has.
static size_t line_len(const struct buf *b)
{
    cr_assert_eq(buf_err(b), ERR_OK);
    cr_assert(b->len > 0 && b->data[b->len - 1] == '\n');
    return b->len - 1;
}

Test(reply, ping_says_version_and_protocol)
{
    struct buf b = buffer();
    reply_ping(&b);
    cr_expect_str_eq(b.data, "{\"ok\":true,\"version\":\"" SLUICE_VERSION "\",\"protocol\":1}\n");
    buf_fini(&b);
}

Test(reply, errors_come_back_as_they_were_sent)
{
    static const struct {
        enum err err, back;
        const char *message;
    } cases[] = {
        {ERR_ID_OUT_OF_RANGE, ERR_ID_OUT_OF_RANGE, "ids[3] is below 1"},
        {ERR_NOT_FOUND, ERR_NOT_FOUND, ""},
        {ERR_INVALID_FIELD, ERR_INVALID_FIELD, "not \"a\\b\" / \xc3\xa9"},
        {ERR_TRY_ALONE, ERR_TRY_ALONE, "x"},
        {ERR_STORAGE_FULL, ERR_STORAGE_UNAVAILABLE, "no room"}, // one code for all of them
        {ERR_LEASE_LOST, ERR_LEASE_LOST, "the lease ran out"},
        {ERR_QUEUE_PROTECTED, ERR_QUEUE_PROTECTED, "default"},
        {ERR_INTERNAL, ERR_INTERNAL, "x"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf b = buffer();
        struct reply reply;
        reply_error(&b, cases[i].err, cases[i].message);
        cr_assert_eq(reply_parse(b.data, line_len(&b), &reply), ERR_OK);
        cr_expect_not(reply.ok);
        cr_expect_eq(reply.fault.err, cases[i].back);
        cr_expect_str_eq(reply.fault.detail, cases[i].message);
        cr_expect_str_eq(reply.eta, "");
        buf_fini(&b);
    }
}

Test(reply, an_unreachable_deadline_comes_with_the_moment_that_could_be_met)
{
    struct buf b = buffer();
    struct reply reply;
    reply_unreachable(&b, "too \"late\"", (struct wall){1795459625123});
    cr_expect_str_eq(b.data, "{\"error\":{\"code\":\"deadline_unreachable\",\"message\":\"too \\\"late\\\"\","
                             "\"eta\":\"2026-11-23T18:47:05.123Z\"}}\n");
    cr_assert_eq(reply_parse(b.data, line_len(&b), &reply), ERR_OK);
    cr_expect_not(reply.ok);
    cr_expect_eq(reply.fault.err, ERR_DEADLINE_UNREACHABLE);
    cr_expect_str_eq(reply.fault.detail, "too \"late\"");
    cr_expect_str_eq(reply.eta, "2026-11-23T18:47:05.123Z");
    buf_fini(&b);
}

Test(reply, an_eta_is_taken_only_when_it_is_a_moment)
{
    static const struct {
        const char *member;
        const char *eta;
    } cases[] = {
        {"", ""},
        {",\"eta\":\"2026-11-23T18:47:05.123Z\"", "2026-11-23T18:47:05.123Z"},
        {",\"eta\":\"2026-11-23T18:47:05.123+01:00\"", "2026-11-23T18:47:05.123+01:00"},
        {",\"eta\":\"2026-11-23T18:47:05.0000000000Z\"", "2026-11-23T18:47:05.0000000000Z"},
        {",\"eta\":\"2026-11-23T18:47:05.00000000000Z\"", ""}, // too long
        {",\"eta\":null", ""},
        {",\"eta\":7", ""},
        {",\"eta\":\"\"", ""},
        {",\"eta\":\"soon\"", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf b = buffer();
        struct reply reply;
        buf_printf(&b, "{\"error\":{\"code\":\"deadline_unreachable\",\"message\":\"late\"%s}}",
                   cases[i].member);
        cr_assert_eq(reply_parse(b.data, b.len, &reply), ERR_OK, "%s", cases[i].member);
        cr_expect_eq(reply.fault.err, ERR_DEADLINE_UNREACHABLE);
        cr_expect_str_eq(reply.eta, cases[i].eta, "%s", cases[i].member);
        buf_fini(&b);
    }
}

Test(reply, a_message_with_control_characters_stays_on_its_line)
{
    struct buf b = buffer();
    reply_error(&b, ERR_BAD_REQUEST, "a\nb");
    cr_expect_str_eq(b.data, "{\"error\":{\"code\":\"bad_request\",\"message\":\"a\\nb\"}}\n");
    buf_fini(&b);
}

Test(reply, ingest_comes_back_as_it_was_sent)
{
    struct id id, back;
    cr_assert(id_parse(UUID, strlen(UUID), &id));
    for (int i = 0; i < 2; i++) {
        struct buf b = buffer();
        struct reply reply;
        bool replayed = i == 0;
        reply_ingest(&b, &id, i == 1);
        cr_assert_eq(reply_parse(b.data, line_len(&b), &reply), ERR_OK);
        cr_expect(reply.ok);
        cr_assert_eq(reply_parse_ingest(&reply, &back, &replayed), ERR_OK);
        cr_expect(id_equal(&id, &back));
        cr_expect_eq(replayed, i == 1);
        buf_fini(&b);
    }
}

Test(reply, members_reach_up_to_the_closing_brace)
{
    struct buf b = buffer();
    struct reply reply;
    reply_open(&b);
    reply_close(&b);
    cr_assert_eq(reply_parse(b.data, line_len(&b), &reply), ERR_OK);
    cr_expect_eq(reply.members_len, 1);
    cr_expect_eq(reply.members[0], '}');

    buf_reset(&b);
    reply_open(&b);
    buf_str(&b, ",\"a\":[{}]");
    reply_close(&b);
    cr_assert_eq(reply_parse(b.data, line_len(&b), &reply), ERR_OK);
    cr_assert_eq(reply.members_len, strlen(",\"a\":[{}]}"));
    cr_expect_arr_eq(reply.members, ",\"a\":[{}]}", reply.members_len);
    buf_fini(&b);
}

Test(reply, an_error_with_a_code_from_the_future_is_internal)
{
    static const char *const codes[] = {"brand_new", "ok", ""};
    for (size_t i = 0; i < COUNT(codes); i++) {
        struct buf b = buffer();
        struct reply reply;
        buf_printf(&b, "{\"error\":{\"code\":\"%s\",\"message\":\"why\",\"more\":1}}", codes[i]);
        cr_assert_eq(reply_parse(b.data, b.len, &reply), ERR_OK);
        cr_expect_not(reply.ok);
        cr_expect_eq(reply.fault.err, ERR_INTERNAL);
        cr_expect_str_eq(reply.fault.detail, "why");
        buf_fini(&b);
    }
}

Test(reply, junk_is_no_reply)
{
    static const struct text junk[] = {
        TEXT(""),
        TEXT("{"),
        TEXT("{}"),
        TEXT("null"),
        TEXT("[]"),
        TEXT("7"),
        TEXT("\"error\""),
        TEXT("\0"),
        TEXT("{\"ok\":true"),
        TEXT("{\"ok\":tru}"),
        TEXT("{\"ok\":false}"),
        TEXT("{\"ok\":true}x"),
        TEXT("{\"ok\":true}}"),
        TEXT("{\"ok\":true,\"a\":1"),
        TEXT("{\"ok\":trueish}"),
        TEXT("{\"error\":1}"),
        TEXT("{\"error\":null}"),
        TEXT("{\"error\":[]}"),
        TEXT("{\"error\":{}}"),
        TEXT("{\"error\":{\"code\":\"internal\"}}"),
        TEXT("{\"error\":{\"message\":\"x\"}}"),
        TEXT("{\"error\":{\"code\":7,\"message\":\"x\"}}"),
        TEXT("{\"error\":{\"code\":\"internal\",\"message\":null}}"),
        TEXT("{\"error\":{\"code\":\"internal\",\"message\":\"x\"}} x"),
        TEXT("{\"error\":{\"code\":\"internal\",\"message\":\"\xff\"}}"),
    };
    for (size_t i = 0; i < COUNT(junk); i++) {
        struct reply reply;
        cr_expect_eq(reply_parse(junk[i].data, junk[i].len, &reply), ERR_INTERNAL, "%zu: %s", i,
                     junk[i].data);
    }
}

Test(reply, ingest_members_must_be_there)
{
    static const struct {
        const char *line;
        enum err err;
    } cases[] = {
        {"{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":true}", ERR_OK},
        {"{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":false,\"later\":1}", ERR_OK},
        {"{\"ok\":true}", ERR_INTERNAL},
        {"{\"ok\":true,\"replayed\":true}", ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"\",\"replayed\":true}", ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"" UUID "\"}", ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":}", ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":truer}", ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"" UUID "0\",\"replayed\":true}", ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"g190163d-8694-739b-aea5-966c26f8ad91\",\"replayed\":true}",
         ERR_INTERNAL},
        {"{\"ok\":true,\"ingestion_id\":\"0190163d}", ERR_INTERNAL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply reply;
        struct id id;
        bool replayed;
        cr_assert_eq(reply_parse(cases[i].line, strlen(cases[i].line), &reply), ERR_OK, "%s", cases[i].line);
        cr_expect_eq(reply_parse_ingest(&reply, &id, &replayed), cases[i].err, "%s", cases[i].line);
    }
}

Test(reply, lines)
{
    static const struct {
        struct text message;
        size_t count;
        struct text lines[4];
    } cases[] = {
        {TEXT(""), 0, {{NULL, 0}}},
        {TEXT("a"), 1, {TEXT("a")}},
        {TEXT("a\n"), 1, {TEXT("a")}},
        {TEXT("\n"), 1, {TEXT("")}},
        {TEXT("a\n\nb"), 3, {TEXT("a"), TEXT(""), TEXT("b")}},
        {TEXT("\n\n"), 2, {TEXT(""), TEXT("")}},
        {TEXT("a\r\nb\r\n"), 2, {TEXT("a\r"), TEXT("b\r")}},
        {TEXT("a\0b\nc\0"), 2, {TEXT("a\0b"), TEXT("c\0")}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t at = 0, len, count = 0;
        const char *line;
        while ((line = lines_next(cases[i].message.data, cases[i].message.len, &at, &len)) != NULL) {
            cr_assert_lt(count, cases[i].count, "case %zu", i);
            cr_expect_eq(len, cases[i].lines[count].len, "case %zu", i);
            cr_expect_eq(memcmp(line, cases[i].lines[count].data, len), 0, "case %zu", i);
            count++;
        }
        cr_expect_eq(count, cases[i].count, "case %zu", i);
        cr_expect_null(lines_next(cases[i].message.data, cases[i].message.len, &at, &len),
                       "still at the end");
    }
}
