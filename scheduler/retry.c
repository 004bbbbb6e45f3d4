#include "scheduler/retry.h"

int64_t retry_interval(int64_t min_ns, int64_t max_ns, uint32_t doublings)
{
    int64_t interval = min_ns;
    for (uint32_t i = 0; i < doublings && interval > 0 && interval < max_ns; i++) {
        interval = interval > max_ns / 2 ? max_ns : interval * 2;
    }
    return interval;
}

int64_t retry_delay(int64_t min_ns, int64_t max_ns, uint32_t attempt, uint64_t random)
{
    int64_t ceiling = retry_interval(min_ns, max_ns, attempt);
    return min_ns + (int64_t)(random % ((uint64_t)(ceiling - min_ns) + 1));
}
