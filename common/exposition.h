// exposition.h - metrics as text, in the format that Prometheus reads (text/plain; version=0.0.4). No I/O;
// one thread for each buffer.
//
// A metric is opened once, and all its samples follow.
#ifndef SLUICE_COMMON_EXPOSITION_H
#define SLUICE_COMMON_EXPOSITION_H

#include "common/buf.h"
#include "common/histogram.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    const char *name;
    enum metric_type type;
    const char *help;
};

// A list of them ends with a NULL name. Values may be any text.
struct label {
    const char *name;
    const char *value;
};
#define NO_LABELS ((const struct label[]){{NULL, NULL}})

// `# HELP` and `# TYPE`.
void metric_open(struct buf *out, const struct metric *metric);
void metric_u64(struct buf *out, const struct metric *metric, const struct label *labels, uint64_t value);
void metric_double(struct buf *out, const struct metric *metric, const struct label *labels, double value);
// Of one whose type is METRIC_HISTOGRAM: its buckets, sum and count.
void metric_histogram(struct buf *out, const struct metric *metric, const struct label *labels,
                      const struct histogram *histogram, const struct histogram_scale *scale);
// A metric with one sample and no labels.
void metric_single(struct buf *out, const struct metric *metric, uint64_t value);

#endif
