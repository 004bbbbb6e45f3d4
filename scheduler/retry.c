#include "scheduler/retry.h"

int64_t retry_delay(int64_t min_ns, int64_t max_ns, uint32_t attempt, uint64_t random)
{
    if (max_ns <= min_ns) {
        return min_ns;
    }
    int64_t ceiling = min_ns;
    for (uint32_t i = 0; i < attempt && ceiling < max_ns; i++) {
        ceiling = ceiling > max_ns / 2 ? max_ns : ceiling * 2;
    }
    return min_ns + (int64_t)(random % ((uint64_t)(ceiling - min_ns) + 1));
}
