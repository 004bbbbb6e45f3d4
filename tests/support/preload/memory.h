// memory.h - how a test tells a program under test which of its allocations fails (memory.c): a file that
// both map, named by SLUICE_MEMORY_FILE.
#ifndef SLUICE_TESTS_SUPPORT_PRELOAD_MEMORY_H
#define SLUICE_TESTS_SUPPORT_PRELOAD_MEMORY_H

#include <stdatomic.h>
#include <stddef.h>

#define MEMORY_FILE "SLUICE_MEMORY_FILE"
#define MEMORY_ENOUGH SIZE_MAX

struct memory_control {
    atomic_size_t left;   // so many more allocations; then one fails. MEMORY_ENOUGH: none
    atomic_size_t lasts;  // so many after it fail, too
    atomic_size_t failed; // have failed so far
};

#endif
