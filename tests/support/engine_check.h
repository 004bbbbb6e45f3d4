// engine_check.h - for tests that run many thousands of random steps: a random source from a seed, and an
// assertion that costs nothing when it holds (Criterion reports each one that passes to its parent process).
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_CHECK_H
#define SLUICE_TESTS_SUPPORT_ENGINE_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ENSURE(condition, ...)                                                                               \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                  \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct random {
    uint64_t seed; // to be printed when something fails
    uint64_t state;
};

// From SLUICE_TEST_SEED when it is set, so that a failure can be repeated and other seeds tried.
static inline struct random random_from(uint64_t seed)
{
    const char *text = getenv("SLUICE_TEST_SEED");
    if (text != NULL) {
        seed = strtoull(text, NULL, 10);
    }
    return (struct random){seed, seed};
}

static inline uint64_t random_next(struct random *random)
{
    // splitmix64 (S. Vigna, 2015)
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

// From 0 to n-1.
static inline uint64_t random_below(struct random *random, uint64_t n)
{
    return random_next(random) % n;
}

#endif
