// What the short way of decoding takes, and that it comes to the same as the long one.
#include "proto/request_ops.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UUID "0190163d-8694-739b-aea5-966c26f8ad91"
#define TEN "kkkkkkkkkk"
#define NAME_64 TEN TEN TEN TEN TEN TEN "kkkk"

// The same JSON with the first letter of its first member written as an escape: only the long way takes it.
static char *escaped(const char *text, size_t len, size_t *escaped_len)
{
    const char *quote = memchr(text, '"', len);
    cr_assert_not_null(quote);
    size_t before = (size_t)(quote - text) + 1;
    char escape[8];
    char *copy = malloc(len + sizeof(escape));
    cr_assert_not_null(copy);
    cr_assert_eq(snprintf(escape, sizeof(escape), "\\u%04x", quote[1]), 6);
    memcpy(copy, text, before);
    memcpy(copy + before, escape, 6);
    memcpy(copy + before + 6, text + before + 1, len - before - 1);
    *escaped_len = len + 5;
    return copy;
}

static enum err decode(enum plain_form form, const char *text, size_t len, struct request *request,
                       struct fault *fault)
{
    return form == PLAIN_BODY ? request_from_body(text, len, request, fault)
                              : request_from_line(text, len, request, fault);
}

// True when the short way takes it, and then the long way must have come to the same.
static bool takes(enum plain_form form, const char *text, size_t len)
{
    struct request a, b;
    struct fault fault = {0};
    struct buf line_a, line_b;
    if (!request_plain(text, len, form, &a)) {
        return false;
    }
    size_t long_len;
    char *other = escaped(text, len, &long_len);
    cr_assert_not(request_plain(other, long_len, form, &b), "%.*s", (int)long_len, other);
    cr_assert_eq(decode(form, other, long_len, &b, &fault), ERR_OK, "%.*s: %s", (int)len, text, fault.detail);
    buf_init(&line_a);
    buf_init(&line_b);
    request_to_line(&a, &line_a);
    request_to_line(&b, &line_b);
    cr_assert_str_eq(line_a.data, line_b.data, "%.*s", (int)len, text);
    const struct ids *x = &a.ingest.ids, *y = &b.ingest.ids;
    cr_assert(x->count == y->count && x->kind == y->kind && x->largest == y->largest && x->len == y->len);
    cr_assert_eq(x->len, strlen(x->text));
    buf_fini(&line_a);
    buf_fini(&line_b);
    free(other);
    request_fini(&a);
    request_fini(&b);
    return true;
}

static const char *const taken_bodies[] = {
    "{\"ids\":[1,2,3,4,5],\"priority\":\"HIGH\"}",
    "{\"priority\":\"LOW\",\"ids\":[9007199254740991]}",
    "{\"queue\": \"mail\", \"ids\": [1, 2], \"priority\": \"MEDIUM\"}",
    "\r\n{ \"ids\" :\t[ 1 ,\n2 ] , \"priority\" : \"HIGH\" }\n ",
    "{\"ids\":[9999999999999,1,9999999999999],\"priority\":\"HIGH\",\"queue\":\"" NAME_64 "\"}",
};

static const char *const taken_lines[] = {
    "{\"op\":\"ingest\",\"id\":\"" UUID "\",\"queue\":\"default\",\"priority\":\"HIGH\",\"ids\":[1,2]}",
    "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[7]}",
    "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[7],\"owner\":\"shop\"}",
    "{\"ids\":[7],\"priority\":\"LOW\",\"id\":\"0190163D-8694-739B-AEA5-966C26F8AD91\",\"op\":\"ingest\"}",
};

// Bodies, good ones among them, that are left to the long way.
static const char *const left[] = {
    "",
    "{",
    "{}",
    "[]",
    "{\"ids\":[1],\"priority\":\"HIGH\"",
    "{\"ids\":[1],\"priority\":\"HIGH\"}}",
    "{\"ids\":[1],\"priority\":\"HIGH\"}\v",
    "{\"ids\":[1],\"priority\":\"HIGH\",}",
    "{\"ids\":[1] \"priority\":\"HIGH\"}",
    "{\"ids\":[1],\"priority\" \"HIGH\"}",
    "{\"ids\":[1]}",
    "{\"priority\":\"HIGH\"}",
    "{\"ids\":[1],\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"priority\":\"HIGH\"}",
    "{\"ids\":[1],\"Priority\":\"HIGH\"}",
    "{\"ids\":[1],\"priority\":\"high\"}",
    "{\"ids\":[1],\"priority\":\"HIG\\u0048\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"Mail\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":null}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"" NAME_64 "k\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"queue\":\"m\xc3\xa9\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"not_before\":\"2030-01-01T00:00:00Z\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"id\":\"" UUID "\"}",
    "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"ids\":[],\"priority\":\"HIGH\"}",
    "{\"ids\":[1,],\"priority\":\"HIGH\"}",
    "{\"ids\":[,1],\"priority\":\"HIGH\"}",
    "{\"ids\":[1 2],\"priority\":\"HIGH\"}",
    "{\"ids\":[0],\"priority\":\"HIGH\"}",
    "{\"ids\":[01],\"priority\":\"HIGH\"}",
    "{\"ids\":[-1],\"priority\":\"HIGH\"}",
    "{\"ids\":[+1],\"priority\":\"HIGH\"}",
    "{\"ids\":[1.0],\"priority\":\"HIGH\"}",
    "{\"ids\":[1e0],\"priority\":\"HIGH\"}",
    "{\"ids\":[9007199254740992],\"priority\":\"HIGH\"}",
    "{\"ids\":[9999999999999999],\"priority\":\"HIGH\"}",
    "{\"ids\":[10000000000000000],\"priority\":\"HIGH\"}",
    "{\"ids\":[18446744073709551617],\"priority\":\"HIGH\"}",
    "{\"ids\":[\"a\"],\"priority\":\"HIGH\"}",
    "{\"ids\":[[1]],\"priority\":\"HIGH\"}",
    "{\"ids\":[1,\"priority\":\"HIGH\"}",
    "{\"ids\":1,\"priority\":\"HIGH\"}",
    "{\"ids\":[1],\"priority\":\"HIGH\",\"owner\":\"shop\"}",
};

static const char *const left_lines[] = {
    "{\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"status\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"ingest\",\"op\":\"ingest\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"ingest\",\"id\":\"0190163d\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"ingest\",\"id\":\"" UUID "0\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"ingest\",\"owner\":\"Shop\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"ingest\",\"owner\":\"a\",\"owner\":\"a\",\"ids\":[1],\"priority\":\"HIGH\"}",
    "{\"op\":\"ingest\",\"idempotency_key\":\"k\",\"ids\":[1],\"priority\":\"HIGH\"}",
};

Test(request_plain, takes_the_usual_shape)
{
    for (size_t i = 0; i < COUNT(taken_bodies); i++) {
        cr_expect(takes(PLAIN_BODY, taken_bodies[i], strlen(taken_bodies[i])), "%s", taken_bodies[i]);
    }
    for (size_t i = 0; i < COUNT(taken_lines); i++) {
        cr_expect(takes(PLAIN_LINE, taken_lines[i], strlen(taken_lines[i])), "%s", taken_lines[i]);
    }
}

Test(request_plain, leaves_everything_else)
{
    for (size_t i = 0; i < COUNT(left); i++) {
        cr_expect_not(takes(PLAIN_BODY, left[i], strlen(left[i])), "%s", left[i]);
    }
    for (size_t i = 0; i < COUNT(left_lines); i++) {
        cr_expect_not(takes(PLAIN_LINE, left_lines[i], strlen(left_lines[i])), "%s", left_lines[i]);
    }
}

// A cut text is in memory of just its length, so that a sanitizer sees a step beyond it.
Test(request_plain, looks_at_nothing_behind_the_text)
{
    for (size_t i = 0; i < COUNT(taken_lines); i++) {
        size_t whole = strlen(taken_lines[i]);
        for (size_t len = 0; len < whole; len++) {
            char *cut = malloc(len + 1);
            cr_assert_not_null(cut);
            memcpy(cut + 1, taken_lines[i], len);
            cr_assert_not(takes(PLAIN_LINE, cut + 1, len), "%.*s", (int)len, cut + 1);
            free(cut);
        }
    }
}

Test(request_plain, takes_as_many_ids_as_are_allowed)
{
    for (uint32_t more = 0; more < 2; more++) {
        struct buf text;
        buf_init(&text);
        buf_str(&text, "{\"priority\":\"HIGH\",\"ids\":[1");
        for (uint32_t id = 2; id <= IDS_MAX + more; id++) {
            buf_char(&text, ',');
            buf_u64(&text, id);
        }
        buf_str(&text, "]}");
        cr_expect_eq(takes(PLAIN_BODY, text.data, text.len), more == 0);
        buf_fini(&text);
    }
}

// Bytes of good texts changed at random: most are then taken no more, by either way.
Test(request_plain, comes_to_the_same_as_the_long_way)
{
    static const char bytes[] = "{}[],:\"\\ 0123456789.-+eE\nidsopquerty";
    uint64_t random = 1;
    size_t taken = 0;
    for (int i = 0; i < 60000; i++) {
        bool line = i % 2 == 1;
        const char *from = line ? taken_lines[(size_t)i / 2 % COUNT(taken_lines)]
                                : taken_bodies[(size_t)i / 2 % COUNT(taken_bodies)];
        char text[512];
        size_t len = strlen(from);
        cr_assert_lt(len, sizeof(text));
        memcpy(text, from, len);
        for (int changes = 1 + i % 3; changes > 0; changes--) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            text[(random >> 33) % len] = bytes[(random >> 20) % (sizeof(bytes) - 1)];
        }
        taken += takes(line ? PLAIN_LINE : PLAIN_BODY, text, len);
    }
    cr_expect_gt(taken, 1000);
}
