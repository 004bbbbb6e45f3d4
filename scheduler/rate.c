#include "scheduler/rate.h"

#define BURST_SPAN_NS (10 * NS_PER_MS)
#define LINGER_MAX_NS (100 * NS_PER_MS)
#define LINGER_SHARE 50 // 2 %

// Products of nanoseconds and counts pass 64 bits.
__extension__ typedef __int128 wide;

// t + steps intervals, where steps may be negative; exact, and saturating at both ends of a moment's range.
static struct bucket advance(struct bucket t, struct rate rate, wide steps)
{
    wide count = (wide)rate.count;
    wide units = steps * rate.per_ns + (wide)t.fraction;
    wide whole = units / count;
    wide rest = units % count;
    if (rest < 0) {
        rest += count;
        whole--;
    }
    wide ns = (wide)t.tat.ns + whole;
    if (ns >= INT64_MAX) {
        return (struct bucket){MONO_NEVER, 0};
    }
    if (ns < INT64_MIN) {
        return (struct bucket){{INT64_MIN}, 0};
    }
    return (struct bucket){{(int64_t)ns}, (uint64_t)rest};
}

static struct mono round_up(struct bucket t)
{
    return t.fraction > 0 ? mono_add(t.tat, 1) : t.tat;
}

// A bucket that was full before `now` is full now. One that fills within the nanosecond before `now` is on
// time, and keeps its fraction: to drop it would add up to a drift.
static struct bucket at_least(struct bucket t, struct mono now)
{
    return mono_before(round_up(t), now) ? (struct bucket){now, 0} : t;
}

int64_t rate_interval(struct rate rate)
{
    if (rate.count == 0) {
        return 0;
    }
    return round_up(advance((struct bucket){{0}, 0}, rate, 1)).ns;
}

uint32_t rate_burst(struct rate rate, uint32_t set)
{
    if (set > 0) {
        return set;
    }
    if (rate.count == 0) {
        return 1;
    }
    wide burst = (wide)rate.count * (wide)BURST_SPAN_NS / rate.per_ns;
    if (burst < 1) {
        return 1;
    }
    return burst > UINT32_MAX ? UINT32_MAX : (uint32_t)burst;
}

int64_t rate_linger(struct rate rate, int64_t set_ns)
{
    if (set_ns >= 0) {
        return set_ns;
    }
    int64_t linger = rate_interval(rate) / LINGER_SHARE;
    return linger < LINGER_MAX_NS ? linger : LINGER_MAX_NS;
}

struct bucket bucket_empty(struct rate rate, uint32_t burst, struct mono now)
{
    struct bucket bucket = {now, 0};
    return rate.count == 0 ? bucket : advance(bucket, rate, burst);
}

struct mono bucket_opens(const struct bucket *bucket, struct rate rate, uint32_t burst)
{
    if (rate.count == 0) {
        return (struct mono){INT64_MIN};
    }
    return round_up(advance(*bucket, rate, 1 - (wide)burst));
}

struct mono bucket_take(struct bucket *bucket, struct rate rate, struct mono now)
{
    *bucket = at_least(*bucket, now);
    struct mono slot = round_up(*bucket);
    if (rate.count > 0) {
        *bucket = advance(*bucket, rate, 1);
    }
    return slot;
}

void bucket_shift(struct bucket *bucket, int64_t ns)
{
    bucket->tat = mono_add(bucket->tat, ns);
}

struct mono bucket_nth(const struct bucket *bucket, struct rate rate, uint32_t burst, struct mono from,
                       uint64_t nth)
{
    if (rate.count == 0) {
        return from;
    }
    struct bucket start = at_least(*bucket, from);
    return mono_max(from, round_up(advance(start, rate, (wide)nth - (wide)burst)));
}
