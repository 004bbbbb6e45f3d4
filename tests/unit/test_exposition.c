#include "common/exposition.h"
#include "tests/support/metrics_text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(exposition, .timeout = 30);

static const struct metric counter = {"a_total", METRIC_COUNTER, "Things."};
static const struct metric gauge = {"b", METRIC_GAUGE, "A \\ and\na line."};
static const struct metric histogram = {"c_seconds", METRIC_HISTOGRAM, "Times."};

static void expect(struct buf *out, const char *text)
{
    cr_assert_eq(buf_err(out), ERR_OK);
    cr_assert_str_eq(out->data, text);
    (void)metrics_check(out->data);
    buf_fini(out);
}

Test(exposition, samples)
{
    struct buf out;
    buf_init(&out);
    metric_open(&out, &counter);
    metric_u64(&out, &counter, NO_LABELS, UINT64_MAX);
    metric_u64(&out, &counter, (const struct label[]){{"x", "1"}, {"y", "/q/{n}"}, {NULL, NULL}}, 0);
    metric_single(&out, &gauge, 7);
    expect(&out, "# HELP a_total Things.\n# TYPE a_total counter\na_total 18446744073709551615\n"
                 "a_total{x=\"1\",y=\"/q/{n}\"} 0\n"
                 "# HELP b A \\\\ and\\na line.\n# TYPE b gauge\nb 7\n");
}

Test(exposition, values_of_labels_are_escaped)
{
    struct buf out;
    buf_init(&out);
    metric_open(&out, &gauge);
    metric_u64(&out, &gauge, (const struct label[]){{"x", "a\"b\\c\nd"}, {NULL, NULL}}, 1);
    metric_u64(&out, &gauge, (const struct label[]){{"x", ""}, {NULL, NULL}}, 2);
    metric_u64(&out, &gauge, (const struct label[]){{"x", "\\"}, {NULL, NULL}}, 3);
    expect(&out, "# HELP b A \\\\ and\\na line.\n# TYPE b gauge\nb{x=\"a\\\"b\\\\c\\nd\"} 1\nb{x=\"\"} "
                 "2\nb{x=\"\\\\\"} 3\n");
}

Test(exposition, numbers)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},           {0.25, "0.25"},      {-1, "-1"},   {1e12, "1000000000000"},
                 {INFINITY, "+Inf"}, {-INFINITY, "-Inf"}, {NAN, "NaN"}, {1795659682, "1795659682"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out;
        char line[64];
        buf_init(&out);
        metric_double(&out, &gauge, NO_LABELS, cases[i].value);
        (void)snprintf(line, sizeof(line), "b %s\n", cases[i].text);
        cr_expect_str_eq(out.data, line);
        buf_fini(&out);
    }
}

Test(exposition, histograms)
{
    struct histogram times = {.sum = 0};
    struct buf out;
    static const int64_t values[] = {-1, 0, 100000, 100001, 2000000, 2000001, 60000000000, 60000000001};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        histogram_add(&times, &histogram_times, values[i]);
    }
    buf_init(&out);
    metric_open(&out, &histogram);
    metric_histogram(&out, &histogram, (const struct label[]){{"q", "m"}, {NULL, NULL}}, &times,
                     &histogram_times);
    metric_histogram(&out, &histogram, (const struct label[]){{"q", "n"}, {NULL, NULL}}, &times,
                     &histogram_times);
    cr_assert_eq(metrics_check(out.data), 2 * (HISTOGRAM_BOUNDS + 3));
    cr_expect_eq(metrics_value(out.data, "c_seconds_bucket{q=\"m\",le=\"0.0001\"}"), 3);
    cr_expect_eq(metrics_value(out.data, "c_seconds_bucket{q=\"m\",le=\"0.00025\"}"), 4);
    cr_expect_eq(metrics_value(out.data, "c_seconds_bucket{q=\"m\",le=\"0.002\"}"), 5);
    cr_expect_eq(metrics_value(out.data, "c_seconds_bucket{q=\"m\",le=\"0.005\"}"), 6);
    cr_expect_eq(metrics_value(out.data, "c_seconds_bucket{q=\"m\",le=\"60\"}"), 7);
    cr_expect_eq(metrics_value(out.data, "c_seconds_bucket{q=\"m\",le=\"+Inf\"}"), 8);
    cr_expect_eq(metrics_value(out.data, "c_seconds_count{q=\"m\"}"), 8);
    cr_expect_float_eq(metrics_value(out.data, "c_seconds_sum{q=\"m\"}"), 120.0042, 1e-3);
    buf_fini(&out);
}

Test(exposition, counts_go_by_powers_of_two)
{
    struct histogram counts = {.sum = 0};
    struct buf out;
    for (int64_t value = 1; value <= 40000; value++) {
        histogram_add(&counts, &histogram_counts, value);
    }
    buf_init(&out);
    metric_open(&out, &histogram);
    metric_histogram(&out, &histogram, NO_LABELS, &counts, &histogram_counts);
    (void)metrics_check(out.data);
    for (int64_t bound = 1; bound <= 32768; bound *= 2) {
        char sample[64];
        (void)snprintf(sample, sizeof(sample), "c_seconds_bucket{le=\"%lld\"}", (long long)bound);
        cr_expect_eq(metrics_value(out.data, sample), (double)bound);
    }
    cr_expect_eq(metrics_value(out.data, "c_seconds_count"), 40000);
    cr_expect_eq(metrics_value(out.data, "c_seconds_sum"), 40000.0 * 40001 / 2);
    buf_fini(&out);
}
