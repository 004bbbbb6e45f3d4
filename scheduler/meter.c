#include "scheduler/meter.h"

static int64_t second_of(struct mono t)
{
    return t.ns / NS_PER_S;
}

void meter_add(struct meter *meter, struct mono now)
{
    if (meter->began.ns == 0) {
        meter->began = now;
    }
    int64_t second = second_of(now);
    int64_t first = second - METER_SECONDS; // what stands there in the ring is over
    for (int64_t s = meter->second > first ? meter->second + 1 : first + 1; s <= second; s++) {
        meter->counts[s % METER_SECONDS] = 0;
    }
    meter->second = second;
    meter->counts[second % METER_SECONDS]++;
}

double meter_rate(const struct meter *meter, struct mono now)
{
    int64_t first = second_of(now) - METER_SECONDS + 1;
    uint64_t count = 0;
    for (int64_t s = first > 0 ? first : 0; s <= meter->second; s++) {
        count += meter->counts[s % METER_SECONDS];
    }
    struct mono from = mono_max(meter->began, (struct mono){first * NS_PER_S});
    int64_t span_ns = mono_diff(now, from);
    return (double)count * (double)NS_PER_S / (double)(span_ns > NS_PER_S ? span_ns : NS_PER_S);
}
