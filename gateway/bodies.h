// bodies.h - the bytes of all bodies that the gateway holds at a moment, which are bounded. Any thread.
#ifndef SLUICE_GATEWAY_BODIES_H
#define SLUICE_GATEWAY_BODIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

// A zeroed one holds none.
struct bodies {
    _Atomic size_t held; // bytes
};

// Makes room for one of this length, to be given back; false when there is none. The longer it is, the more
// room it leaves to shorter ones: so nobody fills it with long bodies that do not come, and the last 8 MiB
// hold one of the shortest for each of as many connections as there may be.
bool bodies_take(struct bodies *bodies, size_t length);
void bodies_give_back(struct bodies *bodies, size_t length);

#endif
