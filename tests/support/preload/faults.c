// Faults in what the scheduler asks of the kernel, loaded in front of the C library (LD_PRELOAD): a disk that
// breaks, that is full from the second commit on, or that is slow, and a wall clock that is set. No test can
// bring these about for real, and the kernel's own ways to a full disk (RLIMIT_FSIZE) cannot be timed. What
// does not fail goes through disk.c.
//
// The file that SLUICE_FAULT_FILE names says what is wrong at the moment, in one of the words of
// tests/e2e/fault_fixture.h; as long as it is not there, nothing is. Only the store's files are touched.
#undef _FORTIFY_SOURCE // its headers define functions that are defined here
#include "tests/support/preload/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

// The word of the moment; false when there is none.
static bool fault_read(char text[static 32])
{
    int saved = errno;
    const char *path = getenv("SLUICE_FAULT_FILE");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t len = fd >= 0 ? read(fd, text, 31) : -1;
    if (fd >= 0) {
        close(fd);
    }
    text[len > 0 ? len : 0] = '\0';
    errno = saved;
    return len > 0;
}

static bool fault_is(const char *kind)
{
    char text[32];
    return fault_read(text) && strcmp(text, kind) == 0;
}

static bool is_of_store(int fd)
{
    enum disk_file file = disk_file_of(fd);
    return file != DISK_OTHER && file != DISK_DIRECTORY;
}

// What a call fails with, by the word that stands for this call alone; 0: it does not.
static int failure(int fd, const char *alone)
{
    char text[32];
    if (!fault_read(text) || !is_of_store(fd)) {
        return 0;
    }
    bool writes = strcmp(alone, "io-read") != 0;
    if (strcmp(text, alone) == 0 || (writes && strcmp(text, "io") == 0)) {
        return EIO;
    }
    return writes && strcmp(text, "full") == 0 ? ENOSPC : 0;
}

static ssize_t store_write(int fd, const void *data, size_t len, off_t at)
{
    int error = failure(fd, "io-write");
    if (error != 0) {
        errno = error;
        return -1;
    }
    return disk_write(fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return store_write(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    return store_write(fd, data, len, at);
}

static ssize_t store_read(int fd, void *data, size_t len, off_t at)
{
    int error = failure(fd, "io-read");
    if (error != 0) {
        errno = error;
        return -1;
    }
    return syscall(SYS_pread64, fd, data, len, at);
}

ssize_t pread(int fd, void *data, size_t len, off_t at)
{
    return store_read(fd, data, len, at);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t at)
{
    return store_read(fd, data, len, at);
}

static void pass_full(void)
{
    int fd = open(getenv("SLUICE_FAULT_FILE"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0 || write(fd, "full", 4) != 4) {
        abort();
    }
    close(fd);
}

static int store_sync(int fd, long call)
{
    int error = failure(fd, "io-sync");
    if (error != 0) {
        errno = error;
        return -1;
    }
    while (is_of_store(fd) && fault_is("slow")) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    if (is_of_store(fd) && fault_is("full-after-a-commit")) {
        pass_full();
    }
    return disk_sync(fd, call);
}

int fsync(int fd)
{
    return store_sync(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return store_sync(fd, SYS_fdatasync);
}

// A timer that is to be cancelled when the clock is set says so once, armed all the same, as the kernel does.
int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
    bool armed = new->it_value.tv_sec != 0 || new->it_value.tv_nsec != 0;
    int result = (int)syscall(SYS_timerfd_settime, fd, flags, new, old);
    if (result == 0 && armed && (flags & TFD_TIMER_CANCEL_ON_SET) != 0 && fault_is("clock-set")) {
        (void)unlink(getenv("SLUICE_FAULT_FILE"));
        errno = ECANCELED;
        return -1;
    }
    return result;
}
