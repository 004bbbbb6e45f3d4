#include "common/units.h"

#include "common/clock.h"

#include <criterion/criterion.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY_NS (86400 * NS_PER_S)

Test(units, counts)
{
    static const struct {
        const char *text;
        uint64_t count;
    } good[] = {{"0", 0}, {"7", 7}, {"100000000", 100000000}, {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "1.0",
                                      "1e3",
                                      "0x1",
                                      "1k",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    uint64_t count;
    for (size_t i = 0; i < COUNT(good); i++) {
        cr_assert(count_parse(good[i].text, &count), "%s", good[i].text);
        cr_assert_eq(count, good[i].count);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        count = 42;
        cr_assert_not(count_parse(bad[i], &count), "%s", bad[i]);
        cr_assert_eq(count, 42);
    }
}

Test(units, durations)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"0s", 0},
        {"0ms", 0},
        {"1ms", NS_PER_MS},
        {"250ms", 250 * NS_PER_MS},
        {"5s", 5 * NS_PER_S},
        {"2m", 120 * NS_PER_S},
        {"1h", 3600 * NS_PER_S},
        {"7d", 7 * DAY_NS},
        {"3650d", 3650 * DAY_NS},
        {"315360000s", 3650 * DAY_NS},
        {"007s", 7 * NS_PER_S},
    };
    static const char *const bad[] = {"",
                                      "s",
                                      "5",
                                      "00",
                                      "-1s",
                                      "+1s",
                                      " 1s",
                                      "1s ",
                                      "1 s",
                                      "1.5s",
                                      "1e3s",
                                      "1S",
                                      "1us",
                                      "1ns",
                                      "1sec",
                                      "1s1ms",
                                      "1y",
                                      "3651d",
                                      "315360001s",
                                      "18446744073709551615d",
                                      "18446744073709551616ms",
                                      "213503982335d" /* wraps around to little */};
    for (size_t i = 0; i < COUNT(good); i++) {
        int64_t ns = -1;
        cr_assert(duration_parse(good[i].text, &ns), "%s", good[i].text);
        cr_assert_eq(ns, good[i].ns, "%s", good[i].text);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t ns = 42;
        cr_assert_not(duration_parse(bad[i], &ns), "%s", bad[i]);
        cr_assert_eq(ns, 42, "left alone");
    }
}

Test(units, duration_texts)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1, "0"},
        {999999, "0"},
        {-5 * NS_PER_S, "0"},
        {NS_PER_MS, "1ms"},
        {NS_PER_MS + 1, "1ms"},
        {1500 * NS_PER_MS, "1500ms"},
        {5 * NS_PER_S, "5s"},
        {5 * NS_PER_S + 999999, "5s"},
        {60 * NS_PER_S, "1m"},
        {90 * NS_PER_S, "90s"},
        {120 * NS_PER_S, "2m"},
        {3600 * NS_PER_S, "1h"},
        {36 * 3600 * NS_PER_S, "36h"},
        {7 * DAY_NS, "7d"},
        {INT64_MAX, "9223372036854ms"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[DURATION_TEXT_SIZE];
        int64_t ns;
        duration_format(cases[i].ns, text);
        cr_assert_str_eq(text, cases[i].text);
        if (cases[i].ns >= 0 && cases[i].ns <= 3650 * DAY_NS) {
            cr_assert(duration_parse(text, &ns));
            cr_assert_eq(ns, cases[i].ns - cases[i].ns % NS_PER_MS);
        }
    }
}

Test(units, sizes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"0B", 0},
        {"512", 512},
        {"512B", 512},
        {"64KiB", 65536},
        {"8MiB", 8388608},
        {"3GiB", UINT64_C(3221225472)},
        {"17179869183GiB", UINT64_C(17179869183) << 30},
        {"18446744073709551615", UINT64_MAX},
    };
    static const char *const bad[] = {"",
                                      "B",
                                      "KiB",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1 KiB",
                                      "1.5KiB",
                                      "1K",
                                      "1KB",
                                      "1kib",
                                      "1TiB",
                                      "1BB",
                                      "17179869184GiB",
                                      "18446744073709551616",
                                      "18014398509481985KiB" /* wraps around */};
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t bytes = 1;
        cr_assert(size_parse(good[i].text, &bytes), "%s", good[i].text);
        cr_assert_eq(bytes, good[i].bytes, "%s", good[i].text);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t bytes = 42;
        cr_assert_not(size_parse(bad[i], &bytes), "%s", bad[i]);
        cr_assert_eq(bytes, 42, "left alone");
    }
}

Test(units, rates)
{
    static const struct {
        const char *text;
        uint64_t count;
        int64_t per_ns;
        const char *back;
    } good[] = {
        {"1/5s", 1, 5 * NS_PER_S, "1/5s"},
        {"100/s", 100, NS_PER_S, "100/s"},
        {"100/1s", 100, NS_PER_S, "100/s"},
        {"5000/1m", 5000, 60 * NS_PER_S, "5000/m"},
        {"5000/60s", 5000, 60 * NS_PER_S, "5000/m"},
        {"10/2s", 10, 2 * NS_PER_S, "10/2s"},
        {"3/10s", 3, 10 * NS_PER_S, "3/10s"},
        {"1/ms", 1, NS_PER_MS, "1/ms"},
        {"7/1500ms", 7, 1500 * NS_PER_MS, "7/1500ms"},
        {"1/366d", 1, 366 * DAY_NS, "1/366d"},
        {"1000000000/ms", 1000000000, NS_PER_MS, "1000000000/ms"},
        {"unlimited", 0, 0, "unlimited"},
    };
    static const char *const bad[] = {"",
                                      "/",
                                      "1",
                                      "1/",
                                      "/s",
                                      "0/s",
                                      "1/0s",
                                      "1/0",
                                      "1/0ms",
                                      "-1/s",
                                      "+1/s",
                                      " 1/s",
                                      "1 /s",
                                      "1/ s",
                                      "1/s ",
                                      "1.5/s",
                                      "1/1.5s",
                                      "1//s",
                                      "1/-1s",
                                      "1000000001/s",
                                      "1/367d",
                                      "1/8785h",
                                      "18446744073709551617/s",
                                      "1/18446744073709551617s",
                                      "1/213503982335d",
                                      "Unlimited",
                                      "unlimited ",
                                      "1/us",
                                      "1/5"};
    for (size_t i = 0; i < COUNT(good); i++) {
        struct rate rate = {42, 42};
        char text[RATE_TEXT_SIZE];
        cr_assert(rate_parse(good[i].text, &rate), "%s", good[i].text);
        cr_assert_eq(rate.count, good[i].count, "%s", good[i].text);
        cr_assert_eq(rate.per_ns, good[i].per_ns, "%s", good[i].text);
        rate_format(rate, text);
        cr_assert_str_eq(text, good[i].back);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct rate rate = {42, 42};
        cr_assert_not(rate_parse(bad[i], &rate), "%s", bad[i]);
        cr_assert(rate.count == 42 && rate.per_ns == 42, "left alone");
    }
}

Test(units, the_longest_rate_fits)
{
    char text[RATE_TEXT_SIZE];
    rate_format((struct rate){UINT64_MAX, INT64_MAX}, text);
    cr_assert_str_eq(text, "18446744073709551615/9223372036854ms");
}
