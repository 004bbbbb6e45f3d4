#include "common/id.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <uuid/uuid.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

// True for the bytes that have a dash in front of them in the text.
static bool dash_before(size_t byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

bool id_parse(const char *text, size_t len, struct id *id)
{
    if (len != ID_TEXT_SIZE - 1) {
        return false;
    }
    struct id parsed;
    for (size_t i = 0; i < sizeof(parsed.bytes); i++) {
        if (dash_before(i) && *text++ != '-') {
            return false;
        }
        int high = hex_value(*text++);
        int low = hex_value(*text++);
        if (high < 0 || low < 0) {
            return false;
        }
        parsed.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *id = parsed;
    return true;
}

void id_format(const struct id *id, char text[static ID_TEXT_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    char *at = text;
    for (size_t i = 0; i < sizeof(id->bytes); i++) {
        if (dash_before(i)) {
            *at++ = '-';
        }
        *at++ = hex[id->bytes[i] >> 4];
        *at++ = hex[id->bytes[i] & 15];
    }
    *at = '\0';
}

bool id_equal(const struct id *a, const struct id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

struct id id_v5(const struct id *space, const char *name, size_t len)
{
    struct id id;
    uuid_generate_sha1(id.bytes, space->bytes, name, len);
    return id;
}

void id_minter_init(struct id_minter *minter)
{
    pthread_mutex_init(&minter->lock, NULL); // with no attributes it cannot fail on Linux
    minter->last_ms = -1;
    minter->counter = 0;
    minter->pool_left = 0;
}

void id_minter_fini(struct id_minter *minter)
{
    pthread_mutex_destroy(&minter->lock);
}

// From the pool, which is filled when it is empty. len divides ID_MINTER_POOL.
static bool random_bytes(struct id_minter *minter, void *into, size_t len)
{
    if (minter->pool_left == 0) {
        ssize_t got;
        do {
            got = getrandom(minter->pool, sizeof(minter->pool), 0);
        } while (got < 0 && errno == EINTR);
        if (got != (ssize_t)sizeof(minter->pool)) {
            return false;
        }
        minter->pool_left = sizeof(minter->pool);
    }
    memcpy(into, minter->pool + sizeof(minter->pool) - minter->pool_left, len);
    minter->pool_left -= len;
    return true;
}

#define COUNTER_BITS 26 // 12 in rand_a, 14 at the top of rand_b
#define COUNTER_MAX ((UINT32_C(1) << COUNTER_BITS) - 1)
#define COUNTER_SEED_MASK (COUNTER_MAX >> 1) // a millisecond starts in the lower half: room to count

// The next (millisecond, counter), greater than every one before. Called with the lock.
static void next_count(struct id_minter *minter, int64_t now_ms, uint32_t seed, int64_t *ms,
                       uint32_t *counter)
{
    if (now_ms > minter->last_ms) {
        minter->last_ms = now_ms;
        minter->counter = seed & COUNTER_SEED_MASK;
    } else if (minter->counter < COUNTER_MAX) {
        minter->counter++;
    } else { // run ahead of the clock rather than repeat
        minter->last_ms++;
        minter->counter = seed & COUNTER_SEED_MASK;
    }
    *ms = minter->last_ms;
    *counter = minter->counter;
}

enum err id_mint(struct id_minter *minter, int64_t now_ms, struct id *id)
{
    struct {
        uint8_t tail[6]; // what is left of rand_b
        uint8_t unused[2];
        uint32_t seed;
    } random;
    _Static_assert(ID_MINTER_POOL % sizeof(random) == 0, "the pool is used up exactly");
    int64_t ms = 0;
    uint32_t counter = 0;
    pthread_mutex_lock(&minter->lock);
    bool have_random = random_bytes(minter, &random, sizeof(random));
    if (have_random) {
        next_count(minter, now_ms < 0 ? 0 : now_ms, random.seed, &ms, &counter);
    }
    pthread_mutex_unlock(&minter->lock);
    if (!have_random) {
        return ERR_INTERNAL;
    }
    for (int i = 0; i < 6; i++) {
        id->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    id->bytes[6] = (uint8_t)(0x70 | counter >> 22); // version 7
    id->bytes[7] = (uint8_t)(counter >> 14);
    id->bytes[8] = (uint8_t)(0x80 | (counter >> 8 & 0x3f)); // variant 10
    id->bytes[9] = (uint8_t)counter;
    memcpy(id->bytes + 10, random.tail, sizeof(random.tail));
    return ERR_OK;
}
