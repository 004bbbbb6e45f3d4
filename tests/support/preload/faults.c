// Faults in what the scheduler asks of the kernel, loaded in front of the C library (LD_PRELOAD): a disk that
// breaks, that is full from the second commit on, or that is slow, and a wall clock that is set. No test can
// bring these about for real, and the kernel's own ways to a full disk (RLIMIT_FSIZE) cannot be timed.
//
// The file that SLUICE_FAULT_FILE names says what is wrong at the moment, in one of the words of
// tests/e2e/fault_fixture.h; as long as it is not there, nothing is. Only the store's files are touched.
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

static bool fault_is(const char *kind)
{
    char text[32];
    int saved = errno;
    const char *path = getenv("SLUICE_FAULT_FILE");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t len = fd >= 0 ? read(fd, text, sizeof text) : -1;
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return len == (ssize_t)strlen(kind) && memcmp(text, kind, (size_t)len) == 0;
}

static bool is_of_store(int fd)
{
    char link[64];
    char path[512];
    int saved = errno;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[len > 0 ? len : 0] = '\0';
    errno = saved;
    return strstr(path, "/sluice.db") != NULL;
}

// What a write or a sync of this file fails with; 0: it does not.
static int failure(int fd)
{
    if (!is_of_store(fd)) {
        return 0;
    }
    if (fault_is("io")) {
        return EIO;
    }
    return fault_is("full") ? ENOSPC : 0;
}

static ssize_t store_write(int fd, const void *data, size_t len, off_t at)
{
    int error = failure(fd);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return store_write(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    return store_write(fd, data, len, at);
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
    int error = failure(fd);
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
    return (int)syscall(call, fd);
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
