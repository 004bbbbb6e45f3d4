#include "scheduler/estimate.h"

#include "scheduler/rate.h"

#include <string.h>

// Products of nanoseconds and counts pass 64 bits.
__extension__ typedef __int128 wide;

static struct mono by_rate(const struct estimate *e, uint64_t n)
{
    return bucket_nth(&e->bucket, e->rate, e->burst, e->from, n);
}

static struct mono after_rounds(const struct estimate *e, struct mono start, uint64_t rounds)
{
    int64_t wait;
    if (__builtin_mul_overflow(rounds, e->delivery_ns, &wait)) {
        return MONO_NEVER;
    }
    return mono_add(start, wait);
}

// The earliest start of dispatch n >= known.at that the rate allows after the known one. (Where an interval
// has a fraction, the known start was rounded up already.)
static struct mono after_start(const struct estimate *e, struct estimate_at known, uint64_t n)
{
    bool exact = e->rate.count == 0 || (uint64_t)e->rate.per_ns % e->rate.count == 0;
    struct bucket bucket = {mono_add(known.start, exact ? 0 : -1), 0};
    return bucket_nth(&bucket, e->rate, e->burst, bucket.tat, n - known.at + 1);
}

// Of two known starts, the one that delays later ones the more.
static struct estimate_at later(const struct estimate *e, struct estimate_at a, struct estimate_at b)
{
    if (a.at == 0) {
        return b;
    }
    wide ns = (wide)b.start.ns - a.start.ns;
    wide intervals = (wide)b.at - (wide)a.at;
    return ns * (wide)e->rate.count > intervals * e->rate.per_ns ? b : a;
}

// The deliveries take turns on `concurrency` lanes: first those that are free now, then those in flight in
// the order they end.
static size_t busy_lanes(const struct estimate *e)
{
    return e->in_flight < e->concurrency ? e->in_flight : e->concurrency;
}

static struct mono *busy_ends(const struct estimate *e)
{
    return e->ends + (e->in_flight - busy_lanes(e));
}

// Deliveries may end closer to one another than the rate lets the next ones start: they began at another
// rate, or took longer than they should. `ends` becomes when the next ones can start.
static void space_out(struct estimate *e)
{
    size_t busy = busy_lanes(e);
    struct mono *ends = busy_ends(e);
    e->lags.at = 0;
    for (size_t i = 0; i < busy && e->rate.count > 0; i++) {
        struct estimate_at next = {ends[i], e->concurrency - busy + i + 1};
        if (e->lags.at > 0) {
            next.start = mono_max(next.start, after_start(e, e->lags, next.at));
        }
        e->lags = later(e, e->lags, next);
        ends[i] = next.start;
    }
}

void estimate_begin(struct estimate *e)
{
    if (e->probing) {
        e->probe = by_rate(e, 1);
        e->before_probe = e->bucket;
        (void)bucket_take(&e->bucket, e->rate, e->probe);
        e->from = mono_add(e->probe, e->delivery_ns);
    }
    space_out(e);
}

struct mono estimate_start(const struct estimate *e, uint64_t n)
{
    if (e->probing) {
        if (n == 1) {
            return e->probe;
        }
        n--;
    }
    uint64_t lane = (n - 1) % e->concurrency;
    uint64_t rounds = (n - 1) / e->concurrency;
    struct mono start = mono_max(by_rate(e, n), after_rounds(e, by_rate(e, lane + 1), rounds));
    if (e->lags.at > 0 && n >= e->lags.at) {
        uint64_t later_rounds = (n - e->lags.at) / e->concurrency;
        uint64_t same = n - later_rounds * e->concurrency;
        start = mono_max(start, after_start(e, e->lags, n));
        start = mono_max(start, after_rounds(e, after_start(e, e->lags, same), later_rounds));
    }
    size_t busy = busy_lanes(e);
    size_t free = e->concurrency - busy;
    const struct mono *ends = busy_ends(e);
    if (lane >= free) {
        start = mono_max(start, after_rounds(e, ends[lane - free], rounds));
    }
    if (busy > 0 && rounds > 0) { // not before the last of the round before
        start = mono_max(start, after_rounds(e, ends[busy - 1], rounds - 1));
    }
    return start;
}

uint64_t estimate_count(const struct estimate *e, struct mono before, uint64_t least, uint64_t limit)
{
    uint64_t step = 1;
    while (least < limit) {
        uint64_t next = limit - least > step ? least + step : limit;
        if (!mono_before(estimate_start(e, next), before)) {
            limit = next - 1;
            break;
        }
        least = next;
        step *= 2;
    }
    while (least < limit) {
        uint64_t middle = limit - (limit - least) / 2;
        if (mono_before(estimate_start(e, middle), before)) {
            least = middle;
        } else {
            limit = middle - 1;
        }
    }
    return least;
}

// ---- going on after a time with nothing to dispatch ----

static void reverse(struct mono *ends, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct mono end = ends[i];
        ends[i] = ends[count - 1 - i];
        ends[count - 1 - i] = end;
    }
}

// Some lanes stay free: the deliveries come behind those in flight. As take_lanes.
static struct estimate_at take_free_lanes(struct estimate *e, size_t taken)
{
    struct estimate_at most = {.at = 0};
    for (size_t i = 0; i < taken; i++) {
        struct estimate_at next = {estimate_start(e, i + 1), i + 1};
        most = later(e, most, next);
        e->ends[e->in_flight + i] = mono_add(next.start, e->delivery_ns);
    }
    e->in_flight += taken;
    return most;
}

// Every lane has something in flight after that. As take_lanes.
static struct estimate_at take_all_lanes(struct estimate *e, uint64_t taken)
{
    struct estimate_at most = e->lags.at <= taken ? e->lags : (struct estimate_at){.at = 0};
    size_t lanes = e->concurrency;
    size_t busy = busy_lanes(e);
    memmove(e->ends + (lanes - busy), busy_ends(e), busy * sizeof *e->ends);
    for (size_t i = 0; i < lanes - busy; i++) {
        e->ends[i].ns = INT64_MIN;
    }
    e->in_flight = lanes;
    for (size_t i = 0; i < lanes && i < taken; i++) {
        uint64_t rounds = (taken - 1 - i) / lanes; // its last; what is known of later lanes is all it needs
        struct estimate_at last = {.at = i + 1 + rounds * lanes};
        last.start = estimate_start(e, last.at);
        most = later(e, most, last);
        e->ends[i] = mono_add(last.start, e->delivery_ns);
    }
    size_t next = (size_t)(taken % lanes);
    reverse(e->ends, next);
    reverse(e->ends + next, lanes - next);
    reverse(e->ends, lanes);
    return most;
}

// Gives the lanes their ends after `taken` dispatches. Returns the start among these that delays later ones
// the most, by the rate.
static struct estimate_at take_lanes(struct estimate *e, uint64_t taken)
{
    size_t free = e->concurrency - busy_lanes(e);
    return taken <= free ? take_free_lanes(e, (size_t)taken) : take_all_lanes(e, taken);
}

static void drop_ended(struct estimate *e, struct mono now)
{
    size_t ended = 0;
    while (ended < e->in_flight && !mono_before(now, e->ends[ended])) {
        ended++;
    }
    e->in_flight -= ended;
    memmove(e->ends, e->ends + ended, e->in_flight * sizeof *e->ends);
}

void estimate_resume(struct estimate *e, uint64_t taken, struct mono from)
{
    if (e->probing && taken == 0) {
        e->bucket = e->before_probe;
        e->from = mono_max(e->probe, from);
        estimate_begin(e);
        return;
    }
    if (e->probing) {
        e->probing = false;
        taken--;
    }
    if (taken > 0) {
        struct mono last = estimate_start(e, taken);
        struct bucket full = {last, 0};
        struct mono filled = bucket_nth(&full, e->rate, 0, last, e->burst);
        if (!mono_before(from, mono_max(filled, mono_add(last, e->delivery_ns)))) {
            e->bucket = (struct bucket){from, 0}; // it is full, and all deliveries are done
            e->in_flight = 0;
        } else {
            struct mono tat = bucket_nth(&e->bucket, e->rate, 0, e->from, taken);
            struct estimate_at most = take_lanes(e, taken);
            struct bucket late = {most.start, 0};
            tat = mono_max(tat, bucket_nth(&late, e->rate, 0, most.start, taken - most.at + 1));
            e->bucket = (struct bucket){tat, 0};
        }
    }
    e->from = mono_max(e->from, from);
    drop_ended(e, from);
    space_out(e);
}
