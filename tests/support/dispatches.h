// dispatches.h - what an HTTP target saw, as dispatches in the order of their arrival, and what may be said
// of their times on a machine that has other things to do.
#ifndef SLUICE_TESTS_SUPPORT_DISPATCHES_H
#define SLUICE_TESTS_SUPPORT_DISPATCHES_H

#include "common/clock.h"
#include "common/id.h"
#include "common/units.h"
#include "proto/words.h"
#include "tests/support/http_target.h"

#include <stddef.h>
#include <stdint.h>

#define DISPATCH_IDS_SIZE 64

struct dispatch {
    struct mono at;
    char ingestion[ID_TEXT_SIZE];
    char batch[ID_TEXT_SIZE];
    char queue[QUEUE_NAME_SIZE];
    char priority[8];
    char ids[DISPATCH_IDS_SIZE]; // "1,2,3"; cut when longer
    int attempt;
    unsigned answered; // as in http_target.h
};

struct dispatches {
    struct dispatch *list;
    size_t count;
};

// All that came so far; fails the test when one has no proper body.
struct dispatches dispatches_read(struct http_target *target);
void dispatches_fini(struct dispatches *dispatches);
// Those of one queue alone, in the same order.
struct dispatches dispatches_of(const struct dispatches *dispatches, const char *queue);

// A token bucket lets burst dispatches and `rate` more start in any window. This is by how much the worst
// window was too short for what arrived in it (0 or less when none was), and the first and last dispatch in
// it.
int64_t dispatches_earliness(const struct dispatches *dispatches, struct rate rate, size_t burst,
                             size_t worst[2]);

// Sees how late this machine wakes a thread, so that a test can tell a dispatch that was sent early from one
// before it that was seen late.
struct lateness;
struct lateness *lateness_watch(void);
// Ends the watch and frees it. The worst that was seen.
int64_t lateness_end(struct lateness *lateness);

// Fails the test when a window holds more than the rate allows, by more than what the contract leaves to the
// sender (2 ms at either end) and the lateness.
void dispatches_check_rate(struct http_target *target, struct rate rate, size_t burst, int64_t lateness_ns);
// The same for dispatches that were read.
void dispatches_check_window(const struct dispatches *dispatches, struct rate rate, size_t burst,
                             int64_t lateness_ns);

// How well a rate was kept, where enough waited all the time.
struct pace {
    double used; // the share of the rate that was used, from the first dispatch to the last
    // How late the dispatches were after their slots, as far as their arrivals tell: what every delivery
    // takes to arrive is not seen.
    int64_t median_ns;
    int64_t p99_ns;
    int64_t least_gap_ns;
};
struct pace dispatches_pace(const struct dispatches *dispatches, struct rate rate, size_t burst);

#endif
