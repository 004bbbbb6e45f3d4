#include "common/clock.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(clock, wall_texts)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {999, "1970-01-01T00:00:00.999Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-1000, "1969-12-31T23:59:59.000Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {951868799999, "2000-02-29T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {1795459625123, "2026-11-23T18:47:05.123Z"},
        {INT64_C(253402300799999), "9999-12-31T23:59:59.999Z"},
        {INT64_C(253402300800000), "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {INT64_C(-62167219200000), "0000-01-01T00:00:00.000Z"},
        {INT64_C(-62167219200001), "0000-01-01T00:00:00.000Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[WALL_TEXT_SIZE];
        wall_format((struct wall){cases[i].ms}, text);
        cr_assert_str_eq(text, cases[i].text, "case %zu: %s", i, text);
    }
}

Test(clock, moments_are_read)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:00.001Z", 1},
        {"2026-11-23T18:47:05Z", 1795459625000},
        {"2026-11-23T18:47:05.123Z", 1795459625123},
        {"2026-11-23t18:47:05.123z", 1795459625123},
        {"2026-11-23t19:47:05.5+01:00", 1795459625500},
        {"2026-11-23T13:17:05.5-05:30", 1795459625500},
        {"2026-11-24T18:46:05+23:59", 1795459625000},
        {"2026-11-23T18:47:05-00:00", 1795459625000},
        {"1969-12-31T23:59:59-00:01", 59000}, // 1970 in UTC
        {"2000-02-29T00:00:00Z", 951782400000},
        {"2100-03-01T00:00:00Z", 4107542400000},
        // A fraction is rounded up, so that nothing starts too early.
        {"2026-11-23T18:47:05.1Z", 1795459625100},
        {"2026-11-23T18:47:05.12Z", 1795459625120},
        {"2026-11-23T18:47:05.1230000000000000000000000000000Z", 1795459625123},
        {"2026-11-23T18:47:05.1230000000000000000000000000001Z", 1795459625124},
        {"2026-11-23T18:47:05.0001Z", 1795459625001},
        {"2026-11-23T18:47:05.9999Z", 1795459626000},
        {"2026-11-23T23:59:59.9995Z", 1795478400000},
        // Leap seconds are the second after them.
        {"2016-12-31T23:59:60Z", 1483228800000},
        {"2016-12-31T23:59:60.5Z", 1483228800500},
        {"2016-12-31T15:59:60-08:00", 1483228800000},
        {"9999-12-31T23:59:59.999Z", INT64_C(253402300799999)},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wall t = {-1};
        cr_expect(wall_parse(cases[i].text, &t), "%s", cases[i].text);
        cr_expect_eq(t.ms, cases[i].ms, "%s: %lld", cases[i].text, (long long)t.ms);
    }
}

Test(clock, what_is_no_moment_is_left_alone)
{
    static const char *const texts[] = {
        "",
        "2026",
        "2026-11-23",
        "18:47:05Z",
        "2026-11-23T18:47:05",
        "2026-11-23T18:47Z",
        "2026-11-23 18:47:05Z",
        "2026-11-23_18:47:05Z",
        " 2026-11-23T18:47:05Z",
        "2026-11-23T18:47:05Z ",
        "2026-11-23T18:47:05ZZ",
        "2026-11-23T18:47:05.Z",
        "2026-11-23T18:47:05,5Z",
        "2026-11-23T18:47:05.5",
        "2026-11-23T18:47:05.5.5Z",
        "2026-11-23T18:47:05+1:00",
        "2026-11-23T18:47:05+01",
        "2026-11-23T18:47:05+0100",
        "2026-11-23T18:47:05+24:00",
        "2026-11-23T18:47:05+00:60",
        "2026-11-23T18:47:05+01:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T18:60:05Z",
        "2026-11-23T18:47:61Z",
        "2026-11-23T18:47:60Z", // leap seconds end a day in UTC
        "2016-12-31T23:59:60+01:00",
        "2026-00-23T18:47:05Z",
        "2026-13-23T18:47:05Z",
        "2026-11-00T18:47:05Z",
        "2026-11-31T18:47:05Z",
        "2026-02-29T18:47:05Z",
        "2100-02-29T18:47:05Z",
        "26-11-23T18:47:05Z",
        "+2026-11-23T18:47:05Z",
        "-2026-11-23T18:47:05Z",
        "20261-11-23T18:47:05Z",
        "20261123T184705Z",
        "2026-1-23T18:47:05Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999Z",
        "9999-12-31T23:59:59-00:01",
        "now",
        "1795459625",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct wall t = {-1};
        cr_expect_not(wall_parse(texts[i], &t), "%s", texts[i]);
        cr_expect_eq(t.ms, -1, "%s", texts[i]);
    }
}

Test(clock, no_beginning_of_a_moment_is_one)
{
    static const char whole[] = "2026-11-23T18:47:05.123+01:00";
    struct wall t;
    cr_assert(wall_parse(whole, &t));
    for (size_t len = 0; len < strlen(whole); len++) {
        char part[sizeof(whole)] = "";
        memcpy(part, whole, len);
        cr_expect_not(wall_parse(part, &t), "%s", part);
    }
}

Test(clock, what_is_written_reads_back)
{
    static const int64_t moments[] = {0, 1, 999, 951782400000, 1795459625123, INT64_C(253402300799999)};
    for (size_t i = 0; i < COUNT(moments); i++) {
        char text[WALL_TEXT_SIZE];
        struct wall t = {-1};
        wall_format((struct wall){moments[i]}, text);
        cr_expect(wall_parse(text, &t), "%s", text);
        cr_expect_eq(t.ms, moments[i], "%s", text);
    }
}

Test(clock, add_saturates)
{
    static const struct {
        int64_t t, ns, sum;
    } cases[] = {
        {1, 2, 3},
        {5, -7, -2},
        {INT64_MAX - 1, 1, INT64_MAX},
        {INT64_MAX - 1, 100, INT64_MAX},
        {INT64_MIN, -1, INT64_MIN},
        {INT64_MAX, -5, INT64_MAX}, // never stays never
        {INT64_MAX, INT64_MIN, INT64_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(mono_add((struct mono){cases[i].t}, cases[i].ns).ns, cases[i].sum, "case %zu", i);
    }
}

Test(clock, diff_saturates)
{
    static const struct {
        int64_t a, b, ns;
    } cases[] = {
        {5, 3, 2},
        {3, 5, -2},
        {INT64_MAX - 1, -10, INT64_MAX},
        {INT64_MIN, 10, INT64_MIN},
        {INT64_MAX, 5, INT64_MAX}, // until never: for ever
        {INT64_MAX, INT64_MAX, INT64_MAX},
        {5, INT64_MAX, INT64_MIN},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(mono_diff((struct mono){cases[i].a}, (struct mono){cases[i].b}), cases[i].ns, "case %zu",
                     i);
    }
}

Test(clock, order)
{
    struct mono early = {1};
    struct mono late = {2};
    cr_assert(mono_before(early, late));
    cr_assert_not(mono_before(late, early));
    cr_assert_not(mono_before(early, early));
    cr_assert(mono_before(late, MONO_NEVER));
    cr_assert_eq(mono_min(early, late).ns, 1);
    cr_assert_eq(mono_max(early, late).ns, 2);
}

Test(clock, mono_does_not_go_back)
{
    struct mono last = mono_now();
    cr_assert_gt(last.ns, 0);
    for (int i = 0; i < 1000; i++) {
        struct mono now = mono_now();
        cr_assert_not(mono_before(now, last));
        last = now;
    }
}

Test(clock, wall_is_in_milliseconds)
{
    // From 2020 to 2200: seconds or nanoseconds would be far outside.
    cr_assert(wall_now().ms > INT64_C(1577836800000) && wall_now().ms < INT64_C(7258118400000));
}

Test(clock, boot_id_is_the_same_each_time)
{
    struct id first;
    struct id second;
    static const struct id nil = {{0}};
    cr_assert_eq(clock_boot_id(&first), ERR_OK);
    cr_assert_eq(clock_boot_id(&second), ERR_OK);
    cr_assert(id_equal(&first, &second));
    cr_assert_not(id_equal(&first, &nil));
}
