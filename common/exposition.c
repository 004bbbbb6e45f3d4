#include "common/exposition.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void put_escaped(struct buf *out, const char *text, const char *escaped)
{
    for (const char *at = text; *at != '\0';) {
        size_t plain = strcspn(at, escaped);
        buf_put(out, at, plain);
        at += plain;
        if (*at != '\0') {
            buf_char(out, '\\');
            buf_char(out, (char)(*at == '\n' ? 'n' : *at));
            at++;
        }
    }
}

void metric_open(struct buf *out, const struct metric *metric)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
    buf_str(out, "# HELP ");
    buf_str(out, metric->name);
    buf_char(out, ' ');
    put_escaped(out, metric->help, "\\\n");
    buf_str(out, "\n# TYPE ");
    buf_str(out, metric->name);
    buf_char(out, ' ');
    buf_str(out, types[metric->type]);
    buf_char(out, '\n');
}

static void put_label(struct buf *out, const char *before, const struct label *label)
{
    buf_str(out, before);
    buf_str(out, label->name);
    buf_str(out, "=\"");
    put_escaped(out, label->value, "\\\"\n");
    buf_char(out, '"');
}

// `name_suffix{labels} `; `extra` is one more label, or NULL.
static void put_name(struct buf *out, const struct metric *metric, const char *suffix,
                     const struct label *labels, const struct label *extra)
{
    const char *before = "{";
    buf_str(out, metric->name);
    buf_str(out, suffix);
    for (; labels->name; labels++) {
        put_label(out, before, labels);
        before = ",";
    }
    if (extra) {
        put_label(out, before, extra);
        before = ",";
    }
    buf_str(out, before[0] == ',' ? "} " : " ");
}

static void put_double(struct buf *out, double value)
{
    if (isnan(value)) {
        buf_str(out, "NaN\n");
    } else if (isinf(value)) {
        buf_str(out, value > 0 ? "+Inf\n" : "-Inf\n");
    } else {
        buf_printf(out, "%.15g\n", value);
    }
}

void metric_u64(struct buf *out, const struct metric *metric, const struct label *labels, uint64_t value)
{
    put_name(out, metric, "", labels, NULL);
    buf_u64(out, value);
    buf_char(out, '\n');
}

void metric_double(struct buf *out, const struct metric *metric, const struct label *labels, double value)
{
    put_name(out, metric, "", labels, NULL);
    put_double(out, value);
}

void metric_histogram(struct buf *out, const struct metric *metric, const struct label *labels,
                      const struct histogram *histogram, const struct histogram_scale *scale)
{
    assert(metric->type == METRIC_HISTOGRAM);
    const double per_unit = (double)scale->per_unit;
    uint64_t count = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        char bound[32] = "+Inf";
        if (i < HISTOGRAM_BOUNDS) {
            (void)snprintf(bound, sizeof(bound), "%g", (double)scale->bounds[i] / per_unit);
        }
        count += histogram->counts[i];
        put_name(out, metric, "_bucket", labels, &(struct label){"le", bound});
        buf_u64(out, count);
        buf_char(out, '\n');
    }
    put_name(out, metric, "_sum", labels, NULL);
    put_double(out, (double)histogram->sum / per_unit);
    put_name(out, metric, "_count", labels, NULL);
    buf_u64(out, count);
    buf_char(out, '\n');
}

void metric_single(struct buf *out, const struct metric *metric, uint64_t value)
{
    metric_open(out, metric);
    metric_u64(out, metric, NO_LABELS, value);
}
