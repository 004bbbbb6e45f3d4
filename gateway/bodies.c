#include "gateway/bodies.h"

// Bytes that all may hold together when one of this length comes.
static size_t most(size_t length)
{
    if (length > 64u << 10) {
        return 48u << 20;
    }
    return length > 1024 ? 56u << 20 : 64u << 20;
}

// What does not fit never counts, not even for a moment, in which it would keep a shorter one out.
bool bodies_take(struct bodies *bodies, size_t length)
{
    size_t held = atomic_load(&bodies->held);
    do {
        if (held + length > most(length)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&bodies->held, &held, held + length));
    return true;
}

void bodies_give_back(struct bodies *bodies, size_t length)
{
    atomic_fetch_sub(&bodies->held, length);
}
