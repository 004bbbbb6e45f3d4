// id.h - UUIDs (RFC 9562): text, version 7 for what is minted, version 5 for what must come out the same
// again.
#ifndef SLUICE_COMMON_ID_H
#define SLUICE_COMMON_ID_H

#include "common/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct id {
    uint8_t bytes[16];
};

#define ID_TEXT_SIZE 37 // 36 characters and a NUL

// Accepts exactly 36 characters, either case; false for anything else.
bool id_parse(const char *text, size_t len, struct id *id);
// Writes lower case and a NUL.
void id_format(const struct id *id, char text[static ID_TEXT_SIZE]);
bool id_equal(const struct id *a, const struct id *b);

// Version 5: SHA-1 of the name space and the name (RFC 9562, 5.5).
struct id id_v5(const struct id *space, const char *name, size_t len);

// Mints version 7 IDs that grow: the milliseconds of the wall clock, then a counter within the millisecond
// (RFC 9562, 6.2 method 1: 12 bits of rand_a and the top of rand_b), then random bits from getrandom(2),
// fetched for several IDs at a time. A clock that steps back does not make an ID smaller than the one before.
// Safe for use by several threads at once.
#define ID_MINTER_POOL 252 // random bytes for 21 IDs: up to 256 come whole
struct id_minter {
    pthread_mutex_t lock; // guards what follows
    int64_t last_ms;
    uint32_t counter;
    uint8_t pool[ID_MINTER_POOL];
    size_t pool_left; // at its end
};
void id_minter_init(struct id_minter *minter);
void id_minter_fini(struct id_minter *minter);
// now_ms: milliseconds since 1970. ERR_INTERNAL when the kernel gives no random bytes.
MUST_CHECK enum err id_mint(struct id_minter *minter, int64_t now_ms, struct id *id);

#endif
