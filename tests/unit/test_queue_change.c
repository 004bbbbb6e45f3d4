#include "common/clock.h"
#include "proto/queue_change.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_NS (3600 * NS_PER_S)
#define DAY_NS (24 * HOUR_NS)
#define TEN "tttttttttt"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define THOUSAND HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED

static enum err decode(const char *text, struct queue_change *change, struct fault *fault)
{
    static const struct json_limits limits = {.max_elements = 1000, .max_depth = 8};
    struct json json;
    cr_assert_eq(json_parse(text, strlen(text), &limits, &json, NULL), ERR_OK, "%s", text);
    *change = (struct queue_change){0};
    enum err err = queue_change_decode(json.root, change, fault);
    json_free(&json);
    return err;
}

static struct queue_change decoded(const char *text)
{
    struct queue_change change;
    struct fault fault = {0};
    cr_assert_eq(decode(text, &change, &fault), ERR_OK, "%s: %s", text, fault.detail);
    return change;
}

// The change as a JSON object; the caller frees it.
static char *encoded(const struct queue_change *change)
{
    struct buf members, object;
    buf_init(&members);
    buf_init(&object);
    queue_change_encode(change, &members);
    cr_assert_eq(buf_err(&members), ERR_OK);
    cr_assert(members.len == 0 || members.data[0] == ',');
    buf_char(&object, '{');
    if (members.len > 0) {
        buf_str(&object, members.data + 1);
    }
    buf_char(&object, '}');
    buf_fini(&members);
    char *text = buf_take(&object, NULL);
    cr_assert_not_null(text);
    return text;
}

// ---- one member ----

Test(queue_change, every_member_comes_back_as_it_was_given)
{
    static const struct {
        unsigned given;
        const char *text;
        const char *written; // NULL: as `text`
    } cases[] = {
        {0, "{}", NULL},
        {SETTING_RATE, "{\"rate\":\"100/s\"}", NULL},
        {SETTING_RATE, "{\"rate\":\"1/5s\"}", NULL},
        {SETTING_RATE, "{\"rate\":\"unlimited\"}", NULL},
        {SETTING_RATE, "{\"rate\":\"1000000000/366d\"}", NULL},
        {SETTING_RATE, "{\"rate\":\"60/60s\"}", "{\"rate\":\"60/m\"}"},
        {SETTING_BURST, "{\"burst\":1}", NULL},
        {SETTING_BURST, "{\"burst\":1000000}", NULL},
        {SETTING_BURST, "{\"burst\":null}", NULL},
        {SETTING_LINGER, "{\"linger\":\"0\"}", NULL},
        {SETTING_LINGER, "{\"linger\":\"0s\"}", "{\"linger\":\"0\"}"},
        {SETTING_LINGER, "{\"linger\":\"1h\"}", NULL},
        {SETTING_LINGER, "{\"linger\":null}", NULL},
        {SETTING_CONCURRENCY, "{\"concurrency\":1}", NULL},
        {SETTING_CONCURRENCY, "{\"concurrency\":10000}", NULL},
        {SETTING_BATCH_SIZE, "{\"batch_size\":1}", NULL},
        {SETTING_BATCH_SIZE, "{\"batch_size\":60000}", NULL},
        {SETTING_TARGET, "{\"target\":\"x\"}", NULL},
        {SETTING_TARGET, "{\"target\":\"exec:/bin/a \\\"b\\\" \\\\\"}", NULL},
        {SETTING_TARGET, "{\"target\":\"" THOUSAND TEN TEN "ttt\"}", NULL}, // 1023
        {SETTING_TIMEOUT, "{\"timeout\":\"1ms\"}", NULL},
        {SETTING_TIMEOUT, "{\"timeout\":\"1h\"}", NULL},
        {SETTING_TIMEOUT, "{\"timeout\":\"1500ms\"}", NULL},
        {0, "{\"retry\":{}}", "{}"},
        {SETTING_MAX_ATTEMPTS, "{\"retry\":{\"max_attempts\":1}}", NULL},
        {SETTING_MAX_ATTEMPTS, "{\"retry\":{\"max_attempts\":1000}}", NULL},
        {SETTING_MIN_BACKOFF, "{\"retry\":{\"min_backoff\":\"1ms\"}}", NULL},
        {SETTING_MIN_BACKOFF, "{\"retry\":{\"min_backoff\":\"7d\"}}", NULL},
        {SETTING_MAX_BACKOFF, "{\"retry\":{\"max_backoff\":\"1ms\"}}", NULL},
        {SETTING_MAX_BACKOFF, "{\"retry\":{\"max_backoff\":\"7d\"}}", NULL},
        {SETTING_MAX_ATTEMPTS | SETTING_MAX_BACKOFF,
         "{\"retry\":{\"max_backoff\":\"2m\",\"max_attempts\":3}}",
         "{\"retry\":{\"max_attempts\":3,\"max_backoff\":\"2m\"}}"},
        {SETTING_IDS, "{\"ids\":\"integer\"}", NULL},
        {SETTING_IDS, "{\"ids\":\"string\"}", NULL},
        {SETTING_MAX_ID, "{\"max_id\":1}", NULL},
        {SETTING_MAX_ID, "{\"max_id\":9007199254740991}", NULL},
        {SETTING_HEADERS, "{\"headers\":{}}", NULL},
        {SETTING_HEADERS, "{\"headers\":{\"X-A\":\"1\"}}", NULL},
        {SETTING_HEADERS, "{\"headers\":{\"Authorization\":\"Bearer a:b \\\"c\\\"\\t\\\\\",\"X-B\":\"***\"}}",
         NULL},
        {SETTING_HEADERS, "{\"headers\":{\"!#$%&'*+-.^_`|~09azAZ\":\"~!\"}}", NULL},
        {SETTING_MAX_HOLD, "{\"max_hold\":\"0\"}", NULL},
        {SETTING_MAX_HOLD, "{\"max_hold\":\"7d\"}", NULL},
        {SETTING_BREAKER, "{\"breaker\":0}", NULL},
        {SETTING_BREAKER, "{\"breaker\":1000000}", NULL},
        {SETTING_LEASE, "{\"lease\":\"1s\"}", NULL},
        {SETTING_LEASE, "{\"lease\":\"1d\"}", NULL},
        {SETTING_ON_INTERRUPT, "{\"on_interrupt\":\"resend\"}", NULL},
        {SETTING_ON_INTERRUPT, "{\"on_interrupt\":\"hold\"}", NULL},
        {SETTING_AGING, "{\"aging\":null}", NULL},
        {SETTING_AGING, "{\"aging\":\"0\"}", "{\"aging\":null}"},
        {SETTING_AGING, "{\"aging\":\"0ms\"}", "{\"aging\":null}"},
        {SETTING_AGING, "{\"aging\":\"1s\"}", NULL},
        {SETTING_AGING, "{\"aging\":\"366d\"}", NULL},
        {0, "{\"name\":\"q\",\"op\":7}", "{}"}, // others are the caller's
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct queue_change change = decoded(cases[i].text);
        cr_expect_eq(change.given, cases[i].given, "%s: %x", cases[i].text, change.given);
        char *text = encoded(&change);
        cr_expect_str_eq(text, cases[i].written ? cases[i].written : cases[i].text);
        free(text);
        queue_change_fini(&change);
    }
}

#define NUMBER "must be an integer from "
#define SPAN "must be a duration from "

Test(queue_change, what_is_not_allowed_is_refused_by_name)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"{\"rate\":\"fast\"}", "rate must be N/DURATION"},
        {"{\"rate\":\"0/s\"}", "rate must be"},
        {"{\"rate\":\"1/0s\"}", "rate must be"},
        {"{\"rate\":\"1000000001/s\"}", "N from 1 to 1000000000"},
        {"{\"rate\":\"1/367d\"}", "1ms to 366d"},
        {"{\"rate\":100}", "rate must be"},
        {"{\"rate\":null}", "rate must be"},
        {"{\"burst\":0}", "burst " NUMBER "1 to 1000000"},
        {"{\"burst\":1000001}", "burst " NUMBER},
        {"{\"burst\":\"5\"}", "burst " NUMBER},
        {"{\"burst\":1.5}", "burst " NUMBER},
        {"{\"linger\":5}", "linger " SPAN "0 to 1h"},
        {"{\"linger\":\"3601s\"}", "linger " SPAN},
        {"{\"linger\":\"-1s\"}", "linger " SPAN},
        {"{\"linger\":\"\"}", "linger " SPAN},
        {"{\"concurrency\":0}", "concurrency " NUMBER "1 to 10000"},
        {"{\"concurrency\":10001}", "concurrency " NUMBER},
        {"{\"concurrency\":null}", "concurrency " NUMBER},
        {"{\"batch_size\":0}", "batch_size " NUMBER "1 to 60000"},
        {"{\"batch_size\":60001}", "batch_size " NUMBER},
        {"{\"batch_size\":-1}", "batch_size " NUMBER},
        {"{\"target\":\"\"}", "target must be a string of 1 to 1023 bytes"},
        {"{\"target\":\"" THOUSAND TEN TEN "tttt\"}", "target must be"},
        {"{\"target\":7}", "target must be"},
        {"{\"target\":null}", "target must be"},
        {"{\"timeout\":\"0\"}", "timeout " SPAN "1ms to 1h"},
        {"{\"timeout\":\"2h\"}", "timeout " SPAN},
        {"{\"timeout\":30}", "timeout " SPAN},
        {"{\"retry\":null}", "retry: expected an object"},
        {"{\"retry\":5}", "retry: expected an object"},
        {"{\"retry\":[]}", "retry: expected an object"},
        {"{\"retry\":{\"attempts\":5}}",
         "retry: \"attempts\" is not a field here; allowed are: max_attempts, "
         "min_backoff, max_backoff"},
        {"{\"retry\":{\"max_attempts\":5,\"max_attempts\":5}}",
         "retry: \"max_attempts\" is given more than once"},
        {"{\"retry\":{\"max_attempts\":0}}", "retry.max_attempts " NUMBER "1 to 1000"},
        {"{\"retry\":{\"max_attempts\":1001}}", "retry.max_attempts " NUMBER},
        {"{\"retry\":{\"max_attempts\":null}}", "retry.max_attempts " NUMBER},
        {"{\"retry\":{\"min_backoff\":\"0\"}}", "retry.min_backoff " SPAN "1ms to 7d"},
        {"{\"retry\":{\"min_backoff\":1000}}", "retry.min_backoff " SPAN},
        {"{\"retry\":{\"max_backoff\":\"8d\"}}", "retry.max_backoff " SPAN "1ms to 7d"},
        {"{\"retry\":{\"max_backoff\":null}}", "retry.max_backoff " SPAN},
        {"{\"ids\":\"Integer\"}", "ids must be \"integer\" or \"string\""},
        {"{\"ids\":[1]}", "ids must be"},
        {"{\"ids\":null}", "ids must be"},
        {"{\"max_id\":0}", "max_id " NUMBER "1 to 9007199254740991"},
        {"{\"max_id\":9007199254740992}", "max_id " NUMBER},
        {"{\"max_id\":\"7\"}", "max_id " NUMBER},
        {"{\"headers\":null}", "headers must be an object of strings"},
        {"{\"headers\":[\"a\"]}", "headers must be an object of strings"},
        {"{\"headers\":\"A: b\"}", "headers must be an object of strings"},
        {"{\"max_hold\":\"169h\"}", "max_hold " SPAN "0 to 7d"},
        {"{\"max_hold\":null}", "max_hold " SPAN},
        {"{\"breaker\":-1}", "breaker " NUMBER "0 to 1000000"},
        {"{\"breaker\":1000001}", "breaker " NUMBER},
        {"{\"breaker\":null}", "breaker " NUMBER},
        {"{\"lease\":\"999ms\"}", "lease " SPAN "1s to 1d"},
        {"{\"lease\":\"25h\"}", "lease " SPAN},
        {"{\"lease\":60}", "lease " SPAN},
        {"{\"on_interrupt\":\"drop\"}", "on_interrupt must be \"resend\" or \"hold\""},
        {"{\"on_interrupt\":true}", "on_interrupt must be"},
        {"{\"on_interrupt\":null}", "on_interrupt must be"},
        {"{\"aging\":\"999ms\"}", "aging " SPAN "1s to 366d"},
        {"{\"aging\":\"367d\"}", "aging " SPAN},
        {"{\"aging\":0}", "aging " SPAN},
        {"{\"aging\":\"off\"}", "aging " SPAN},
        {"{\"aging\":false}", "aging " SPAN},
        // Good ones before and after a bad one do not hide it, and are freed.
        {"{\"rate\":\"1/"
         "s\",\"target\":\"pull:\",\"headers\":{\"A\":\"b\"},\"breaker\":\"no\",\"aging\":\"1s\"}",
         "breaker " NUMBER},
        {"{\"burst\":null,\"linger\":null,\"aging\":null,\"concurrency\":0}", "concurrency " NUMBER},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct queue_change change;
        struct fault fault = {0};
        cr_expect_eq(decode(cases[i].text, &change, &fault), ERR_INVALID_FIELD, "%s", cases[i].text);
        cr_expect_eq(fault.err, ERR_INVALID_FIELD, "%s", cases[i].text);
        cr_expect(strstr(fault.detail, cases[i].says), "%s: \"%s\" lacks \"%s\"", cases[i].text, fault.detail,
                  cases[i].says);
        queue_change_fini(&change);
        cr_expect_eq(decode(cases[i].text, &change, NULL), ERR_INVALID_FIELD, "%s", cases[i].text);
        queue_change_fini(&change);
    }
}

// ---- all of them ----

Test(queue_change, all_members_together)
{
    struct queue_change change = decoded(
        "{\"rate\":\"7/3s\",\"burst\":5,\"linger\":\"20ms\",\"concurrency\":8,\"batch_size\":100,"
        "\"target\":\"http://h/\",\"timeout\":\"10s\","
        "\"retry\":{\"max_attempts\":9,\"min_backoff\":\"2s\",\"max_backoff\":\"4m\"},"
        "\"ids\":\"string\",\"max_id\":1000,\"headers\":{\"A\":\"b\"},\"max_hold\":\"2h\",\"breaker\":3,"
        "\"lease\":\"90s\",\"on_interrupt\":\"hold\",\"aging\":\"1d\"}");
    cr_expect_eq(change.given, SETTING_AGING * 2 - 1, "every bit");
    cr_expect_eq(change.rate.count, 7);
    cr_expect_eq(change.rate.per_ns, 3 * NS_PER_S);
    cr_expect_eq(change.burst, 5);
    cr_expect_eq(change.linger_ns, 20 * NS_PER_MS);
    cr_expect_eq(change.concurrency, 8);
    cr_expect_eq(change.batch_size, 100);
    cr_expect_str_eq(change.target, "http://h/");
    cr_expect_eq(change.timeout_ns, 10 * NS_PER_S);
    cr_expect_eq(change.max_attempts, 9);
    cr_expect_eq(change.min_backoff_ns, 2 * NS_PER_S);
    cr_expect_eq(change.max_backoff_ns, 240 * NS_PER_S);
    cr_expect_eq(change.ids, IDS_STRING);
    cr_expect_eq(change.max_id, 1000);
    cr_expect_str_eq(change.headers, "A: b\n");
    cr_expect_eq(change.max_hold_ns, 2 * HOUR_NS);
    cr_expect_eq(change.breaker, 3);
    cr_expect_eq(change.lease_ns, 90 * NS_PER_S);
    cr_expect_eq(change.on_interrupt, ON_INTERRUPT_HOLD);
    cr_expect_eq(change.aging_ns, DAY_NS);

    char *once = encoded(&change);
    struct queue_change again = decoded(once);
    char *twice = encoded(&again);
    cr_expect_str_eq(once, twice);
    cr_expect_eq(again.given, change.given);
    free(twice);
    free(once);
    queue_change_fini(&again);
    queue_change_fini(&change);
    cr_expect_eq(change.given, 0);
    cr_expect_null(change.target);
    cr_expect_null(change.headers);
    queue_change_fini(&change); // harmless
}

Test(queue_change, null_stands_for_the_default)
{
    struct queue_change change = decoded("{\"burst\":null,\"linger\":null,\"aging\":null}");
    cr_expect_eq(change.given, SETTING_BURST | SETTING_LINGER | SETTING_AGING);
    cr_expect_eq(change.burst, 0);
    cr_expect_eq(change.linger_ns, -1);
    cr_expect_eq(change.aging_ns, 0);
    queue_change_fini(&change);
}

Test(queue_change, the_names_for_json_only_are_those_that_are_read)
{
    static const char all[] =
        "{\"rate\":1,\"burst\":1,\"linger\":1,\"concurrency\":1,\"batch_size\":1,\"target\":1,"
        "\"timeout\":1,\"retry\":1,\"ids\":1,\"max_id\":1,\"headers\":1,\"max_hold\":1,"
        "\"breaker\":1,\"lease\":1,\"on_interrupt\":1,\"aging\":1}";
    static const struct json_limits limits = {.max_elements = 100, .max_depth = 8};
    struct json json;
    cr_assert_eq(json_parse(all, strlen(all), &limits, &json, NULL), ERR_OK);
    cr_expect_eq(queue_change_member_count, (size_t)cJSON_GetArraySize(json.root));
    cr_expect_eq(json_only(json.root, queue_change_members, queue_change_member_count, NULL), ERR_OK);
    json_free(&json);
}

// ---- headers ----

Test(queue_change, bad_headers_are_refused)
{
    static const struct {
        const char *header;
        const char *says;
    } cases[] = {
        {"\"\":\"a\"", "\"\" is no name"},
        {"\"A B\":\"a\"", "\"A B\" is no name"},
        {"\"A:\":\"a\"", "\"A:\" is no name"},
        {"\"A\\nB\":\"a\"", "is no name"},
        {"\"A(b)\":\"a\"", "is no name"},
        {"\"\xc3\xa9\":\"a\"", "is no name"},
        {"\"X-A\":\"\"", "headers.X-A must be"},
        {"\"X-A\":\" a\"", "headers.X-A must be"},
        {"\"X-A\":\"a\\t\"", "headers.X-A must be"},
        {"\"X-A\":\"a\\r\\nB: c\"", "headers.X-A must be"},
        {"\"X-A\":\"a\\nb\"", "headers.X-A must be"},
        {"\"X-A\":\"\\u007f\"", "headers.X-A must be"},
        {"\"X-A\":\"\xc3\xa9\"", "headers.X-A must be"},
        {"\"X-A\":7", "headers.X-A must be a string"},
        {"\"X-A\":null", "headers.X-A must be a string"},
        {"\"X-A\":[\"a\"]", "headers.X-A must be a string"},
        {"\"X-A\":\"1\",\"X-A\":\"2\"", "headers.X-A is given more than once"},
        {"\"X-A\":\"1\",\"B\":\"2\",\"x-a\":\"2\"", "headers.x-a is given more than once"},
        {"\"Content-Length\":\"5\"", "headers.Content-Length is set by Sluice"},
        {"\"transfer-encoding\":\"chunked\"", "headers.transfer-encoding is set by Sluice"},
        {"\"CONNECTION\":\"close\"", "set by Sluice"},
        {"\"Content-Type\":\"text/plain\"", "set by Sluice"},
        {"\"Idempotency-Key\":\"k\"", "set by Sluice"},
        {"\"User-Agent\":\"me\"", "set by Sluice"},
        {"\"Expect\":\"100-continue\"", "set by Sluice"},
        {"\"" THOUSAND "\":\"\"", "headers.ttt"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf text;
        buf_init(&text);
        buf_printf(&text, "{\"headers\":{%s}}", cases[i].header);
        struct queue_change change;
        struct fault fault = {0};
        cr_expect_eq(decode(text.data, &change, &fault), ERR_INVALID_FIELD, "%s", text.data);
        cr_expect(strstr(fault.detail, cases[i].says), "%s: \"%s\" lacks \"%s\"", text.data, fault.detail,
                  cases[i].says);
        queue_change_fini(&change);
        buf_fini(&text);
    }
}

Test(queue_change, what_may_be_secret_is_not_quoted)
{
    static const char *const texts[] = {
        "{\"headers\":{\"Authorization\":\"s3cret\\n\"}}",
        "{\"target\":7,\"headers\":{\"Authorization\":\"s3cret\"}}",
        "{\"headers\":{\"Authorization\":\"s3cret\",\"authorization\":\"s3cret\"}}",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct queue_change change;
        struct fault fault = {0};
        cr_expect_eq(decode(texts[i], &change, &fault), ERR_INVALID_FIELD);
        cr_expect_null(strstr(fault.detail, "s3cret"), "%s", fault.detail);
        queue_change_fini(&change);
    }
}

// `count` headers, the value of the first padded to make lines of `size` bytes; the caller frees it.
static char *many_headers(unsigned count, size_t size)
{
    struct buf b;
    buf_init(&b);
    buf_str(&b, "{\"headers\":{");
    size_t used = 0;
    for (unsigned i = 1; i < count; i++) {
        buf_printf(&b, "\"H%02u\":\"v\",", i);
        used += strlen("H00: v\n");
    }
    buf_str(&b, "\"H00\":\"");
    for (used += strlen("H00: \n"); used < size; used++) {
        buf_char(&b, 'v');
    }
    buf_str(&b, "\"}}");
    char *text = buf_take(&b, NULL);
    cr_assert_not_null(text);
    return text;
}

Test(queue_change, the_number_and_size_of_headers_are_limited)
{
    static const struct {
        unsigned count;
        size_t size;
        const char *says; // NULL: allowed
    } cases[] = {
        {HEADERS_MAX, 1000, NULL},
        {HEADERS_MAX, HEADERS_SIZE_MAX, NULL},
        {1, HEADERS_SIZE_MAX, NULL},
        {HEADERS_MAX + 1, 1000, "headers: at most 32"},
        {1, HEADERS_SIZE_MAX + 1, "headers: together at most 8192 bytes"},
        {HEADERS_MAX, HEADERS_SIZE_MAX + 1, "headers: together at most 8192 bytes"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text = many_headers(cases[i].count, cases[i].size);
        struct queue_change change;
        struct fault fault = {0};
        enum err err = decode(text, &change, &fault);
        if (cases[i].says) {
            cr_expect_eq(err, ERR_INVALID_FIELD, "case %zu", i);
            cr_expect(strstr(fault.detail, cases[i].says), "%s", fault.detail);
        } else {
            cr_expect_eq(err, ERR_OK, "case %zu: %s", i, fault.detail);
            cr_expect_eq(strlen(change.headers), cases[i].size);
        }
        queue_change_fini(&change);
        free(text);
    }
}

Test(queue_change, headers_one_by_one)
{
    static const struct {
        const char *lines;
        size_t count;
        struct {
            const char *name, *value;
        } headers[3];
    } cases[] = {
        {"", 0, {{NULL, NULL}}},
        {"A: b\n", 1, {{"A", "b"}}},
        {"Authorization: Bearer a:b c\nX: ***\nY: 1\n",
         3,
         {{"Authorization", "Bearer a:b c"}, {"X", "***"}, {"Y", "1"}}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *at = cases[i].lines;
        const char *name, *value;
        size_t name_len, value_len, count = 0;
        while (headers_next(&at, &name, &name_len, &value, &value_len)) {
            cr_assert_lt(count, cases[i].count);
            cr_expect_eq(name_len, strlen(cases[i].headers[count].name));
            cr_expect_arr_eq(name, cases[i].headers[count].name, name_len);
            cr_expect_eq(value_len, strlen(cases[i].headers[count].value));
            cr_expect_arr_eq(value, cases[i].headers[count].value, value_len);
            count++;
        }
        cr_expect_eq(count, cases[i].count);
        cr_expect_not(headers_next(&at, &name, &name_len, &value, &value_len), "still at the end");
    }
}
