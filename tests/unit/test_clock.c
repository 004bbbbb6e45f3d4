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
    for (size_t i = 0; i < COUNT(cases); i++)
        cr_assert_eq(mono_add((struct mono){cases[i].t}, cases[i].ns).ns, cases[i].sum, "case %zu", i);
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
    for (size_t i = 0; i < COUNT(cases); i++)
        cr_assert_eq(mono_diff((struct mono){cases[i].a}, (struct mono){cases[i].b}), cases[i].ns, "case %zu",
                     i);
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
