// engine_log.h - what was dispatched in an engine's world, against what should have been.
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_LOG_H
#define SLUICE_TESTS_SUPPORT_ENGINE_LOG_H

#include "tests/support/engine_world.h"

struct expected_start {
    int64_t ms;
    int64_t seq;
    uint32_t index;
};

static inline void check_log(const struct world *world, const struct expected_start *starts, size_t count)
{
    for (size_t i = 0; i < count && i < world->log_count; i++) {
        const struct world_start *got = &world->log[i];
        ENSURE(got->at.ns == starts[i].ms * NS_PER_MS && got->key.place.seq == starts[i].seq &&
                   got->key.place.index == starts[i].index,
               "dispatch %zu: %lld.%u at %lld ms", i, (long long)got->key.place.seq, got->key.place.index,
               (long long)(got->at.ns / NS_PER_MS));
    }
    ENSURE(world->log_count == count, "%zu dispatches", world->log_count);
}
// All that was dispatched: {milliseconds, seq, index}, ...
#define CHECK_LOG(world, ...)                                                                                \
    do {                                                                                                     \
        static const struct expected_start starts[] = {__VA_ARGS__};                                         \
        check_log(world, starts, sizeof starts / sizeof starts[0]);                                          \
    } while (0)

#endif
