// Memory that runs out, loaded in front of the C library (LD_PRELOAD): of all that the program, its libraries
// and the C library itself allocate, on whatever thread, the one that memory.h says fails.
#include "tests/support/preload/memory.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct memory_control *control; // NULL: until the program starts there is enough

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv(MEMORY_FILE);
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped =
        fd >= 0 ? mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (mapped == MAP_FAILED) {
        abort();
    }
    close(fd);
    control = mapped;
}

static bool fails(void)
{
    if (control == NULL) {
        return false;
    }
    size_t left = atomic_load(&control->left);
    do {
        if (left == MEMORY_ENOUGH) {
            return false;
        }
    } while (left > 0 && !atomic_compare_exchange_weak(&control->left, &left, left - 1));
    if (left > 0) {
        return false;
    }
    size_t lasts = atomic_load(&control->lasts);
    while (lasts > 0 && !atomic_compare_exchange_weak(&control->lasts, &lasts, lasts - 1)) {
    }
    if (lasts == 0) {
        atomic_store(&control->left, MEMORY_ENOUGH);
    }
    atomic_fetch_add(&control->failed, 1);
    errno = ENOMEM;
    return true;
}

// The next one in line: the C library's, or a sanitizer's. (ISO C has no conversion from what dlsym returns.)
static void find_next(void *function, const char *name)
{
    *(void **)function = dlsym(RTLD_NEXT, name);
}

void *malloc(size_t size)
{
    static void *(*next)(size_t); // found twice at the worst, by two threads
    if (next == NULL) {
        find_next(&next, "malloc");
    }
    return fails() ? NULL : next(size);
}

void *calloc(size_t count, size_t size)
{
    static void *(*next)(size_t, size_t);
    if (next == NULL) {
        find_next(&next, "calloc");
    }
    return fails() ? NULL : next(count, size);
}

void *realloc(void *old, size_t size)
{
    static void *(*next)(void *, size_t);
    if (next == NULL) {
        find_next(&next, "realloc");
    }
    return fails() ? NULL : next(old, size);
}
