#include "scheduler/pressure.h"

#include <criterion/criterion.h>
#include <stdio.h>

// 1994-11-06T08:49:37Z, the moment that RFC 9110 has in its examples.
#define MOMENT_MS INT64_C(784111777000)
#define MONTH_S (INT64_C(31) * 86400)
#define LONGEST_S (INT64_C(366) * 86400)

struct pressure_case {
    long status;
    struct pressure_fields fields;
    int64_t hold_ms;
    enum hold_reason by;
};

#define AFTER(value)                                                                                         \
    {                                                                                                        \
        .retry_after = value                                                                                 \
    }
#define LIMIT(value)                                                                                         \
    {                                                                                                        \
        .rate_limit = value                                                                                  \
    }
#define LEFT(remaining, reset)                                                                               \
    {                                                                                                        \
        .rate_limit_remaining = remaining, .rate_limit_reset = reset                                         \
    }

static const struct pressure_case cases[] = {
    {200, {0}, 0, HOLD_NONE},
    {429, {0}, 0, HOLD_NONE},

    // Retry-After in seconds.
    {429, AFTER("7"), 7000, HOLD_RETRY_AFTER},
    {503, AFTER("120"), 120000, HOLD_RETRY_AFTER},
    {503, AFTER(" 120\t"), 120000, HOLD_RETRY_AFTER},
    {429, AFTER("0007"), 7000, HOLD_RETRY_AFTER},
    {429, AFTER("1.5"), 2000, HOLD_RETRY_AFTER},
    {429, AFTER("1.0"), 1000, HOLD_RETRY_AFTER},
    {429, AFTER("0.001"), 1000, HOLD_RETRY_AFTER},
    {429, AFTER("0"), 0, HOLD_NONE},
    {429, AFTER("31622400"), LONGEST_S * 1000, HOLD_RETRY_AFTER},
    {429, AFTER("31622401"), LONGEST_S * 1000, HOLD_RETRY_AFTER},
    {429, AFTER("99999999999999999999999999999999"), LONGEST_S * 1000, HOLD_RETRY_AFTER},
    {429, AFTER(""), 0, HOLD_NONE},
    {429, AFTER("-5"), 0, HOLD_NONE},
    {429, AFTER("+5"), 0, HOLD_NONE},
    {429, AFTER("5s"), 0, HOLD_NONE},
    {429, AFTER("5, 10"), 0, HOLD_NONE},
    {429, AFTER("0x10"), 0, HOLD_NONE},
    {429, AFTER("soon"), 0, HOLD_NONE},
    {200, AFTER("7"), 0, HOLD_NONE},
    {500, AFTER("7"), 0, HOLD_NONE},
    {404, AFTER("7"), 0, HOLD_NONE},

    // Retry-After as a date, in its three forms; `now` is the moment and 250 ms.
    {429, AFTER("Sun, 06 Nov 1994 08:49:47 GMT"), 9750, HOLD_RETRY_AFTER},
    {429, AFTER("Sunday, 06-Nov-94 08:49:47 GMT"), 9750, HOLD_RETRY_AFTER},
    {429, AFTER("Sun Nov  6 08:49:47 1994"), 9750, HOLD_RETRY_AFTER},
    {503, AFTER("Wed, 07 Dec 1994 08:49:37 GMT"), MONTH_S * 1000 - 250, HOLD_RETRY_AFTER},
    {429, AFTER("Sun, 06 Nov 1994 08:49:38 GMT"), 750, HOLD_RETRY_AFTER},
    {429, AFTER("Sun, 06 Nov 1994 08:49:37 GMT"), 0, HOLD_NONE},
    {429, AFTER("Thu, 01 Jan 1970 00:00:00 GMT"), 0, HOLD_NONE},
    {429, AFTER("Fri, 31 Dec 9999 23:59:59 GMT"), LONGEST_S * 1000, HOLD_RETRY_AFTER},
    {429, AFTER("Sun, 06 Nov"), 0, HOLD_NONE},
    {429, AFTER("Sun, 32 Nov 1994 08:49:47 GMT"), 0, HOLD_NONE},
    {429, AFTER("1994-11-06T08:49:47Z"), 0, HOLD_NONE},
    {429, AFTER("Sunday Sunday Sunday Sunday Sunday Sunday Sunday Sunday, 06-Nov-94 08:49:47 GMT"), 0,
     HOLD_NONE},

    // The single fields.
    {200, LEFT("0", "9"), 9000, HOLD_RATE_LIMIT},
    {404, LEFT("0", "9"), 9000, HOLD_RATE_LIMIT},
    {429, LEFT("0", "9"), 9000, HOLD_RATE_LIMIT},
    {200, LEFT("0", " 9 "), 9000, HOLD_RATE_LIMIT},
    {200, LEFT("0;w=60", "9;x"), 9000, HOLD_RATE_LIMIT},
    {200, LEFT("0", "0.2"), 1000, HOLD_RATE_LIMIT},
    {200, LEFT("0", "99999999999"), LONGEST_S * 1000, HOLD_RATE_LIMIT},
    {200, LEFT("1", "9"), 0, HOLD_NONE},
    {429, LEFT("1", "9"), 0, HOLD_NONE},
    {200, LEFT(NULL, "9"), 0, HOLD_NONE},
    {429, LEFT(NULL, "9"), 9000, HOLD_RATE_LIMIT},
    {503, LEFT("what", "9"), 9000, HOLD_RATE_LIMIT},
    {200, LEFT("0", NULL), 0, HOLD_NONE},
    {200, LEFT("0", "0"), 0, HOLD_NONE},
    {200, LEFT("0", "later"), 0, HOLD_NONE},
    {200, LEFT("0", "-9"), 0, HOLD_NONE},
    {200, LEFT("0", "9, 9"), 0, HOLD_NONE},

    // The dictionary.
    {200, LIMIT("limit=100, remaining=0, reset=50"), 50000, HOLD_RATE_LIMIT},
    {200, LIMIT("limit=100,remaining=0,reset=50"), 50000, HOLD_RATE_LIMIT},
    {200, LIMIT("limit=100, remaining=1, reset=50"), 0, HOLD_NONE},
    {200, LIMIT("limit=100, reset=50"), 0, HOLD_NONE},
    {429, LIMIT("limit=100, reset=50"), 50000, HOLD_RATE_LIMIT},
    {429, LIMIT("limit=100, remaining=0"), 0, HOLD_NONE},
    {200, LIMIT("limit=100;w=60, remaining=0;x=\"a,b\", reset=50;y"), 50000, HOLD_RATE_LIMIT},

    // The list of items.
    {200, LIMIT("\"default\";r=0;t=30"), 30000, HOLD_RATE_LIMIT},
    {200, LIMIT("default; r=0 ; t=30"), 30000, HOLD_RATE_LIMIT},
    {200, LIMIT("\"a\\\"b;,\";r=0;t=30"), 30000, HOLD_RATE_LIMIT},
    {200, LIMIT("\"default\";r=1;t=30"), 0, HOLD_NONE},
    {429, LIMIT("\"default\";r=1;t=30"), 0, HOLD_NONE},
    {200, LIMIT("\"default\";r=0"), 0, HOLD_NONE},
    {200, LIMIT("\"default\";t=30"), 0, HOLD_NONE},
    {503, LIMIT("\"default\";t=30"), 30000, HOLD_RATE_LIMIT},
    {200, LIMIT("\"a\";r=0;t=30, \"b\";r=0;t=60,\"c\";r=5;t=90"), 60000, HOLD_RATE_LIMIT},
    {200, LIMIT("\"a\";r=0;t=60, \"b\";r=0;t=30"), 60000, HOLD_RATE_LIMIT},
    {200, LIMIT("\"a\";r=0;t=30;pk=:c2x1aWNl:"), 30000, HOLD_RATE_LIMIT},
    {200, LIMIT("\"a\";r=0;t=-1"), 0, HOLD_NONE},
    {200, LIMIT("\"a\";r=0;t=\"30\""), 0, HOLD_NONE},
    {200, LIMIT("\"a\";R=0;T=30"), 0, HOLD_NONE},

    // Malformed: ignored as a whole.
    {429, LIMIT(""), 0, HOLD_NONE},
    {429, LIMIT(","), 0, HOLD_NONE},
    {429, LIMIT("\"a\";r=0;t=30,"), 0, HOLD_NONE},
    {429, LIMIT("\"a;r=0;t=30"), 0, HOLD_NONE},
    {429, LIMIT("\"a\\"), 0, HOLD_NONE},
    {429, LIMIT("\"a\";r=0;t=30 \"b\""), 0, HOLD_NONE},
    {429, LIMIT("\"a\";r=0;t=30;"), 0, HOLD_NONE},
    {429, LIMIT("\"a\";r=0;t="), 0, HOLD_NONE},
    {429, LIMIT("remaining=0, reset="), 0, HOLD_NONE},
    {429, LIMIT("=5"), 0, HOLD_NONE},

    // Together: Retry-After goes before the others where it counts and makes sense; of the others the
    // longest.
    {429, {.retry_after = "3", .rate_limit_remaining = "0", .rate_limit_reset = "9"}, 3000, HOLD_RETRY_AFTER},
    {429, {.retry_after = "0", .rate_limit_remaining = "0", .rate_limit_reset = "9"}, 0, HOLD_NONE},
    {429,
     {.retry_after = "soon", .rate_limit_remaining = "0", .rate_limit_reset = "9"},
     9000,
     HOLD_RATE_LIMIT},
    {200, {.retry_after = "3", .rate_limit_remaining = "0", .rate_limit_reset = "9"}, 9000, HOLD_RATE_LIMIT},
    {200,
     {.rate_limit = "\"a\";r=0;t=5", .rate_limit_remaining = "0", .rate_limit_reset = "9"},
     9000,
     HOLD_RATE_LIMIT},
    {200,
     {.rate_limit = "\"a\";r=0;t=15", .rate_limit_remaining = "0", .rate_limit_reset = "9"},
     15000,
     HOLD_RATE_LIMIT},
};

Test(pressure, reads_what_answers_say)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct pressure_case *c = &cases[i];
        const struct pressure_fields *f = &c->fields;
        char what[512];
        enum hold_reason by = HOLD_RETRY_AFTER;
        struct wall now = {MOMENT_MS + 250};

        (void)snprintf(what, sizeof(what), "case %zu: %ld '%s' '%s' '%s' '%s'", i, c->status,
                       f->retry_after ? f->retry_after : "", f->rate_limit ? f->rate_limit : "",
                       f->rate_limit_remaining ? f->rate_limit_remaining : "",
                       f->rate_limit_reset ? f->rate_limit_reset : "");
        cr_expect_eq(pressure_hold(c->status, f, now, &by), c->hold_ms * NS_PER_MS, "%s", what);
        cr_expect_eq(by, c->by, "%s", what);
    }
}
