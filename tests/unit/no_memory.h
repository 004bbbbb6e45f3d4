// no_memory.h - memory that runs out: the linker puts these functions in the place of the C library's (tests
// of the name unit_no_memory*), SQLite and cJSON are given them, and a test says which allocation fails.
// Included once by each program.
#ifndef SLUICE_TESTS_UNIT_NO_MEMORY_H
#define SLUICE_TESTS_UNIT_NO_MEMORY_H

#include "common/err.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <curl/curl.h>
#include <errno.h>
#include <search.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_realpath(const char *path, char *into);
void *__real_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_realpath(const char *path, char *into);
void *__wrap_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));

// ---- which allocation fails ----

enum shortage {
    SHORTAGE_ONE, // just this one
    SHORTAGE_ALL, // and all after it
};
#define SHORTAGES 2

struct supply {
    atomic_size_t left; // so many more allocations; then one fails, SIZE_MAX: none
    atomic_bool lasts;
    atomic_bool reached;
};
static _Thread_local struct supply of_thread = {.left = SIZE_MAX};
static struct supply of_all = {.left = SIZE_MAX};

static inline bool supply_fails(struct supply *supply)
{
    size_t left = atomic_load(&supply->left);
    do {
        if (left == SIZE_MAX) {
            return false;
        }
        // At its end it stays at 0, or does not count any more.
    } while (!atomic_compare_exchange_weak(&supply->left, &left,
                                           left > 0 ? left - 1 : (supply->lasts ? 0 : SIZE_MAX)));
    if (left == 0) {
        atomic_store(&supply->reached, true);
    }
    return left == 0;
}

static bool fails(void)
{
    if (!supply_fails(&of_thread) && !supply_fails(&of_all)) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

static inline void supply_limit(struct supply *supply, size_t n, enum shortage shortage)
{
    atomic_store(&supply->reached, false);
    atomic_store(&supply->lasts, shortage == SHORTAGE_ALL);
    atomic_store(&supply->left, n);
}

// The nth allocation of this thread from now on fails, from 0.
static inline void memory_fails_at(size_t n, enum shortage shortage)
{
    supply_limit(&of_thread, n, shortage);
}

// The same over all threads.
static inline void memory_of_all_fails_at(size_t n, enum shortage shortage)
{
    supply_limit(&of_all, n, shortage);
}

// There is enough again. Whether that allocation was reached, and failed.
static inline bool memory_failed(void)
{
    atomic_store(&of_thread.left, SIZE_MAX);
    atomic_store(&of_all.left, SIZE_MAX);
    bool reached = of_thread.reached || of_all.reached;
    of_thread.reached = of_all.reached = false;
    return reached;
}

// ---- in the place of the C library's ----

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_realpath(const char *path, char *into)
{
    return fails() ? NULL : __real_realpath(path, into);
}

void *__wrap_tsearch(const void *key, void **root, int (*compare)(const void *, const void *))
{
    return fails() ? NULL : __real_tsearch(key, root, compare);
}

// ---- libraries, which the linker does not reach ----

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int size)
{
    return fails() ? NULL : sqlite_memory.xMalloc(size);
}

static void *sqlite_realloc(void *old, int size)
{
    return fails() ? NULL : sqlite_memory.xRealloc(old, size);
}

// To be called first: the memory of SQLite, cJSON and libcurl runs out, too.
static inline void memory_hook_libraries(void)
{
    cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = free};
    sqlite3_mem_methods methods;
    cr_assert_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory), SQLITE_OK);
    methods = sqlite_memory;
    methods.xMalloc = sqlite_malloc;
    methods.xRealloc = sqlite_realloc;
    cr_assert_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
    cJSON_InitHooks(&hooks);
    cr_assert_eq(curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, free, realloc, strdup, calloc), CURLE_OK);
}

// ---- all of them, one after the other ----

// Does something with this many allocations and then none, in either way, until they suffice; what is done
// says so itself when it can do without. Returns how often one failed.
static inline size_t memory_exhaust(void (*act)(void *user, bool short_of), void *user)
{
    size_t failures = 0;
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        for (size_t n = 0;; n++) {
            memory_fails_at(n, (enum shortage)shortage);
            act(user, true);
            if (!memory_failed()) {
                break;
            }
            failures++;
            act(user, false); // and the same works afterwards
        }
    }
    return failures;
}

#endif
