#include "common/histogram.h"

#define US INT64_C(1000)
#define MS (1000 * US)
#define S (1000 * MS)

const struct histogram_scale histogram_times = {{100 * US, 250 * US, 500 * US, MS, 2 * MS, 5 * MS, 10 * MS,
                                                 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, S, 2500 * MS,
                                                 10 * S, 60 * S},
                                                S};
const struct histogram_scale histogram_counts = {
    {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}, 1};

void histogram_add(struct histogram *histogram, const struct histogram_scale *scale, int64_t value)
{
    size_t at = 0;
    value = value > 0 ? value : 0;
    while (at < HISTOGRAM_BOUNDS && value > scale->bounds[at]) {
        at++;
    }
    atomic_fetch_add_explicit(&histogram->counts[at], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum, (uint64_t)value, memory_order_relaxed);
}
