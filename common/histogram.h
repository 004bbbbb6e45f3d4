// histogram.h - how often a value fell between which bounds. Any thread; adding is two atomic additions.
#ifndef SLUICE_COMMON_HISTOGRAM_H
#define SLUICE_COMMON_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 16

// The bounds, growing; what is above the last one is counted apart.
struct histogram_scale {
    int64_t bounds[HISTOGRAM_BOUNDS];
    int64_t per_unit; // how many of the values' units are one of what is shown
};
extern const struct histogram_scale histogram_times;  // nanoseconds, shown as seconds: 100 us to a minute
extern const struct histogram_scale histogram_counts; // 1, 2, 4, … 32768

// A zeroed one is empty.
struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1];
    _Atomic uint64_t sum;
};

// A negative value counts as 0.
void histogram_add(struct histogram *histogram, const struct histogram_scale *scale, int64_t value);

#endif
