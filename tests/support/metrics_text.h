// metrics_text.h - a strict reader of Prometheus' text format (0.0.4), for tests. Main thread of a test: what
// is wrong fails it.
#ifndef SLUICE_TESTS_SUPPORT_METRICS_TEXT_H
#define SLUICE_TESTS_SUPPORT_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

// Everything that the format and its conventions ask for: each metric once, with HELP and TYPE in front of
// all its samples; names, labels and their escapes; no sample twice; counters that end in _total and nothing
// else that does; histograms with growing bounds and counts, +Inf, and a count that is the last bucket's.
// Returns how many samples there are.
size_t metrics_check(const char *text);

// The value of a sample, by its name and labels as they stand in the text.
bool metrics_find(const char *text, const char *sample, double *value);
double metrics_value(const char *text, const char *sample);
// How many samples start so.
size_t metrics_count_samples(const char *text, const char *start);
// Whether it has a metric of this name (HELP and TYPE).
bool metrics_has(const char *text, const char *name, size_t name_len);

#endif
