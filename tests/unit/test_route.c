#include "common/buf.h"
#include "gateway/route.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(route, finds_the_endpoint)
{
    static const struct {
        const char *method, *target;
        enum endpoint endpoint;
        const char *param, *query;
    } cases[] = {
        {"POST", "/ingest", ENDPOINT_INGEST, "", ""},
        {"POST", "/ingest?", ENDPOINT_INGEST, "", ""},
        {"GET", "/status/abc", ENDPOINT_STATUS, "abc", ""},
        {"HEAD", "/status/abc?limit=1", ENDPOINT_STATUS, "abc", "limit=1"},
        {"GET", "/status/a.b?x=/../%20?y", ENDPOINT_STATUS, "a.b", "x=/../%20?y"},
        {"GET", "/status/...", ENDPOINT_STATUS, "...", ""},
        {"GET", "/ingestions?status=failed&limit=2", ENDPOINT_LIST, "", "status=failed&limit=2"},
        {"POST", "/ingestions/abc/cancel", ENDPOINT_CANCEL, "abc", ""},
        {"POST", "/ingestions/abc/retry?x=1", ENDPOINT_RETRY, "abc", "x=1"},
        {"GET", "/queues", ENDPOINT_QUEUE_LIST, "", ""},
        {"HEAD", "/queues?limit=2", ENDPOINT_QUEUE_LIST, "", "limit=2"},
        {"GET", "/queues/mail", ENDPOINT_QUEUE_GET, "mail", ""},
        {"HEAD", "/queues/mail", ENDPOINT_QUEUE_GET, "mail", ""},
        {"PUT", "/queues/mail", ENDPOINT_QUEUE_PUT, "mail", ""},
        {"DELETE", "/queues/mail", ENDPOINT_QUEUE_DELETE, "mail", ""},
        {"DELETE", "/queues/pause", ENDPOINT_QUEUE_DELETE, "pause", ""},
        {"POST", "/queues/mail/pause", ENDPOINT_QUEUE_PAUSE, "mail", ""},
        {"POST", "/queues/pause/resume", ENDPOINT_QUEUE_RESUME, "pause", ""},
        {"POST", "/queues/a-b.c_d/retry", ENDPOINT_QUEUE_RETRY, "a-b.c_d", ""},
        {"PUT", "/queues/Not%20Good", ENDPOINT_QUEUE_PUT, "Not%20Good", ""},
        {"GET", "/status/%61", ENDPOINT_STATUS, "%61", ""},
        {"POST", "/queues/a%2Fb/pause", ENDPOINT_QUEUE_PAUSE, "a%2Fb", ""},
        {"GET", "/healthz", ENDPOINT_HEALTHZ, "", ""},
        {"GET", "/readyz", ENDPOINT_READYZ, "", ""},
        {"GET", "http://127.0.0.1:8000/healthz", ENDPOINT_HEALTHZ, "", ""},
        {"GET", "HTTP://host/status/x?limit=3", ENDPOINT_STATUS, "x", "limit=3"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct route route;
        struct fault fault;
        cr_assert_eq(route_find(cases[i].method, cases[i].target, &route, &fault), ERR_OK, "%s",
                     cases[i].target);
        cr_expect_eq(route.endpoint, cases[i].endpoint, "%s", cases[i].target);
        cr_expect_eq(route.param_len, strlen(cases[i].param), "%s", cases[i].target);
        cr_expect(route.param_len == 0 || memcmp(route.param, cases[i].param, route.param_len) == 0);
        cr_expect_str_eq(route.query, cases[i].query);
    }
}

Test(route, refuses_other_paths)
{
    static const char *const targets[] = {
        "",
        "*",
        "/",
        "//",
        "ingest",
        "/ingest/",
        "/ingests",
        "/inges",
        "/Ingest",
        "/ingest#x",
        "/ingest;x",
        "/status",
        "/status/",
        "/status/a/b",
        "/status/..",
        "/status/.",
        "/./ingest",
        "/x/../ingest",
        "//ingest",
        "/ingest//",
        "/%69ngest",
        "/ingest%3f",
        "/queues/",
        "/queues/a/",
        "/queues//pause",
        "/queues/../pause",
        "/queues/a/paus",
        "/queues/a/pauses",
        "/queues/a/pause/",
        "/queues/a/pause/b",
        "/queues/a/b/pause",
        "/queues/a%2fpause/b",
        "/queues/a/%70ause",
        "/queue/a",
        "/ingestions/",
        "/ingestions/abc",
        "/ingestions/abc/cancels",
        "/ingestions/cancel",
        "/status/abc/cancel",
        "http://",
        "http://host",
        "http://host?/ingest",
        "https://host/ingest",
        "/http://host/ingest",
    };
    for (size_t i = 0; i < COUNT(targets); i++) {
        struct route route;
        struct fault fault = {.err = ERR_OK};
        cr_expect_eq(route_find("POST", targets[i], &route, &fault), ERR_NOT_FOUND, "%s", targets[i]);
        cr_expect_eq(fault.err, ERR_NOT_FOUND);
        cr_expect_eq(route.allow[0], '\0', "%s", targets[i]);
    }
}

Test(route, names_the_methods_of_a_path)
{
    static const struct {
        const char *method, *target, *allow;
    } cases[] = {
        {"GET", "/ingest", "POST"},
        {"HEAD", "/ingest", "POST"},
        {"", "/ingest", "POST"},
        {"post", "/ingest", "POST"},
        {"POST", "/status/x", "GET, HEAD"},
        {"DELETE", "/ingestions?x=1", "GET, HEAD"},
        {"OPTIONS", "/healthz", "GET, HEAD"},
        {"POST", "/queues", "GET, HEAD"},
        {"POST", "/queues/x", "GET, HEAD, PUT, DELETE"},
        {"PATCH", "/queues/No%20Queue", "GET, HEAD, PUT, DELETE"},
        {"GET", "/queues/x/pause", "POST"},
        {"HEAD", "/queues/x/resume", "POST"},
        {"PUT", "/queues/x/retry", "POST"},
        {"DELETE", "/ingestions/x/cancel", "POST"},
        {"GET", "/ingestions/x/retry", "POST"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct route route;
        struct fault fault;
        cr_expect_eq(route_find(cases[i].method, cases[i].target, &route, &fault), ERR_METHOD_NOT_ALLOWED,
                     "%s", cases[i].target);
        cr_expect_str_eq(route.allow, cases[i].allow);
        cr_expect(strstr(fault.detail, cases[i].allow), "%s", fault.detail);
    }
}

Test(query, parameters_in_turn)
{
    static const struct {
        const char *query;
        const char *expected; // name=value; of each, decoded
    } cases[] = {
        {"", ""},
        {"&&", ""},
        {"a=1", "a=1;"},
        {"a=1&b=2&a=3", "a=1;b=2;a=3;"},
        {"&a=1&&b", "a=1;b=;"},
        {"a==1=", "a==1=;"},
        {"=x", "=x;"},
        {"%61=%4a%4B%2d%26", "a=JK-&;"},
        {"a=+", "a=+;"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf seen;
        buf_init(&seen);
        struct query_param param;
        const char *at = cases[i].query;
        for (bool more = true; more;) {
            cr_assert_eq(query_next(&at, &param, &more, NULL), ERR_OK, "%s", cases[i].query);
            if (!more)
                break;
            buf_printf(&seen, "%s=%s;", param.name, param.value);
        }
        cr_expect_str_eq(seen.len > 0 ? seen.data : "", cases[i].expected, "%s", cases[i].query);
        buf_fini(&seen);
    }
}

Test(query, broken_parameters)
{
    char long_name[64] = {0};
    char long_value[200] = "a=";
    memset(long_name, 'n', sizeof(long_name) - 1);
    memset(long_value + 2, 'v', sizeof(long_value) - 3);
    const char *const queries[] = {"a=%",   "a=%4",    "a=%4g",   "a=%g4",   "a=%00",
                                   "%zz=1", "a=%&b=1", long_name, long_value};
    for (size_t i = 0; i < COUNT(queries); i++) {
        struct query_param param;
        struct fault fault;
        bool more;
        const char *at = queries[i];
        cr_expect_eq(query_next(&at, &param, &more, &fault), ERR_INVALID_FIELD, "%s", queries[i]);
    }
}
