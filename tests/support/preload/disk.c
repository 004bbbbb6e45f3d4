// Death in a chosen call of the write path, and a record of what a loss of power would undo: loaded with
// faults.c in front of the C library. SIGKILL alone never loses what was written and not synced, and a
// process cannot be killed from outside in the middle of a write.
//
// Only the thread that owns the store calls what is here; others only open files, of other names.
#undef _FORTIFY_SOURCE // its headers define functions that are defined here
#include "tests/support/preload/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define UNSYNCED_MAX 16 // files at a time
#define PATH_SIZE 512

// A library has no main to own this.
static struct {
    bool looked; // whether there is anything to do
    struct disk_control *control;
    int undo;
    char dir[PATH_SIZE];
    uint64_t unsynced[UNSYNCED_MAX]; // inodes
    size_t unsynced_count;
    bool names_unsynced;
    unsigned links; // made so far
} disk;

static void give_up(const char *what)
{
    (void)!write(STDERR_FILENO, what, strlen(what));
    abort();
}

// ---- what is not synced ----

static void note(const struct disk_undo *record)
{
    size_t i = 0;
    while (i < disk.unsynced_count && disk.unsynced[i] != record->inode) {
        i++;
    }
    switch ((enum disk_undo_kind)record->kind) {
    case UNDO_WRITE:
    case UNDO_TRUNCATE:
        if (i == UNSYNCED_MAX) {
            give_up("disk.c: too many files\n");
        }
        disk.unsynced[i] = record->inode;
        disk.unsynced_count += i == disk.unsynced_count;
        break;
    case UNDO_CREATE:
    case UNDO_RENAME:
    case UNDO_UNLINK:
        disk.names_unsynced = true;
        break;
    case UNDO_SYNC:
        if (i < disk.unsynced_count) {
            disk.unsynced[i] = disk.unsynced[--disk.unsynced_count];
        }
        break;
    case UNDO_SYNC_DIR:
        disk.names_unsynced = false;
        break;
    }
}

// What an earlier life of the program left is as unsynced as before.
static void read_undo(void)
{
    struct disk_undo record;
    off_t at = 0;
    while (syscall(SYS_pread64, disk.undo, &record, sizeof record, at) == (ssize_t)sizeof record) {
        off_t next = at + (off_t)sizeof record + record.kept;
        struct stat info;
        if (fstat(disk.undo, &info) != 0 || info.st_size < next) {
            break;
        }
        note(&record);
        at = next;
    }
    if (ftruncate64(disk.undo, at) != 0) { // what was cut off
        give_up("disk.c: the undo file cannot be cut\n");
    }
}

static bool active(void)
{
    if (disk.looked) {
        return disk.control != NULL;
    }
    char path[PATH_SIZE + 16];
    const char *dir = getenv(DISK_VARIABLE);
    disk.looked = true;
    if (dir == NULL) {
        return false;
    }
    (void)snprintf(disk.dir, sizeof disk.dir, "%s", dir);
    (void)snprintf(path, sizeof path, "%s/" DISK_CONTROL, dir);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    void *control = mmap(NULL, sizeof *disk.control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)snprintf(path, sizeof path, "%s/" DISK_UNDO, dir);
    disk.undo = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_APPEND | O_CLOEXEC);
    if (fd < 0 || control == MAP_FAILED || disk.undo < 0) {
        give_up("disk.c: " DISK_VARIABLE " is not as it should be\n");
    }
    close(fd);
    disk.control = control;
    read_undo();
    return true;
}

static void record(struct disk_undo *undo, const void *kept)
{
    struct iovec parts[] = {{undo, sizeof *undo}, {(void *)(uintptr_t)kept, undo->kept}};
    if (writev(disk.undo, parts, 2) != (ssize_t)(sizeof *undo + undo->kept)) {
        give_up("disk.c: the undo file cannot be written\n");
    }
    note(undo);
    if (disk.unsynced_count == 0 && !disk.names_unsynced && ftruncate64(disk.undo, 0) != 0) {
        give_up("disk.c: the undo file cannot be emptied\n");
    }
}

// ---- files ----

static enum disk_file file_of(const char *path)
{
    const char *name = strstr(path, "/sluice.db");
    if (name == NULL) {
        return DISK_OTHER;
    }
    name += strlen("/sluice.db");
    if (*name == '\0') {
        return DISK_DATABASE;
    }
    if (strcmp(name, "-wal") == 0) {
        return DISK_LOG;
    }
    return strncmp(name, ".new", 4) == 0 ? DISK_FRESH : DISK_OTHER;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

enum disk_file disk_file_of(int fd)
{
    char link[64];
    char path[PATH_SIZE];
    struct stat info;
    int saved = errno;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[len > 0 ? len : 0] = '\0';
    enum disk_file file = file_of(path);
    if (file == DISK_OTHER && active() && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        file = DISK_DIRECTORY; // nothing else here syncs one
    }
    errno = saved;
    return file;
}

// ---- death ----

static void die_if(bool now)
{
    if (now) {
        (void)syscall(SYS_kill, getpid(), SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
}

// Counts a call. Returns false when the program is to live through it.
static bool is_last(enum disk_call call, enum disk_file file, enum disk_when *when)
{
    uint64_t number = atomic_fetch_add(&disk.control->calls, 1) + 1;
    uint64_t last = atomic_load(&disk.control->last);
    if (last == 0 || number < last) {
        return false;
    }
    *when = (enum disk_when)atomic_load(&disk.control->when);
    atomic_fetch_add(&disk.control->died[call][file], 1);
    die_if(*when == DISK_BEFORE);
    return true;
}

// ---- the calls ----

static void record_range(int fd, enum disk_undo_kind kind, off_t at, size_t len)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        give_up("disk.c: fstat\n");
    }
    struct disk_undo undo = {
        .kind = kind, .inode = info.st_ino, .at = at, .len = (int64_t)len, .size = info.st_size};
    size_t kept = at >= info.st_size ? 0 : (size_t)(info.st_size - at);
    kept = kept < len ? kept : len;
    char *bytes = malloc(kept + 1);
    if (bytes == NULL || syscall(SYS_pread64, fd, bytes, kept, at) != (ssize_t)kept) {
        give_up("disk.c: what is there cannot be read\n");
    }
    undo.kept = (uint32_t)kept;
    record(&undo, bytes);
    free(bytes);
}

ssize_t disk_write(int fd, const void *data, size_t len, off_t at)
{
    enum disk_file file = disk_file_of(fd);
    enum disk_when when = DISK_AFTER;
    if (file == DISK_OTHER || !active()) {
        return syscall(SYS_pwrite64, fd, data, len, at);
    }
    bool last = is_last(DISK_WRITE, file, &when);
    record_range(fd, UNDO_WRITE, at, len);
    ssize_t done = syscall(SYS_pwrite64, fd, data, last && when == DISK_WITHIN ? len / 2 : len, at);
    die_if(last);
    return done;
}

int disk_sync(int fd, long call)
{
    enum disk_file file = disk_file_of(fd);
    enum disk_when when = DISK_AFTER;
    if (file == DISK_OTHER || !active()) {
        return (int)syscall(call, fd);
    }
    bool last = is_last(DISK_SYNC, file, &when);
    die_if(last && when == DISK_WITHIN); // what it would have reached is not known
    int result = (int)syscall(call, fd);
    struct stat info;
    if (result == 0 && fstat(fd, &info) == 0) {
        struct disk_undo undo = {.kind = file == DISK_DIRECTORY ? UNDO_SYNC_DIR : UNDO_SYNC,
                                 .inode = info.st_ino};
        record(&undo, "");
    }
    die_if(last);
    return result;
}

static int disk_truncate(int fd, off_t size)
{
    enum disk_file file = disk_file_of(fd);
    enum disk_when when = DISK_AFTER;
    struct stat info;
    if (file == DISK_OTHER || !active() || fstat(fd, &info) != 0) {
        return (int)syscall(SYS_ftruncate, fd, size);
    }
    bool last = is_last(DISK_TRUNCATE, file, &when);
    record_range(fd, UNDO_TRUNCATE, size, info.st_size > size ? (size_t)(info.st_size - size) : 0);
    int result = (int)syscall(SYS_ftruncate, fd, size);
    die_if(last);
    return result;
}

int ftruncate(int fd, off_t size)
{
    return disk_truncate(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return disk_truncate(fd, size);
}

static int open_file(const char *path, int flags, mode_t mode)
{
    enum disk_file file = file_of(path);
    enum disk_when when = DISK_AFTER;
    if (file == DISK_OTHER || (flags & O_CREAT) == 0 || !active() || access(path, F_OK) == 0) {
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    }
    struct disk_undo undo = {.kind = UNDO_CREATE};
    bool last = is_last(DISK_CREATE, file, &when);
    (void)snprintf(undo.name, sizeof undo.name, "%s", name_of(path));
    record(&undo, "");
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    die_if(last);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_file(path, flags, mode);
}

// Keeps a name for what loses its own. Names of links: nobody else makes any, and each process goes on
// counting.
static void keep_link(const char *path, char name[static DISK_NAME_SIZE])
{
    char kept[PATH_SIZE + DISK_NAME_SIZE];
    do {
        (void)snprintf(name, DISK_NAME_SIZE, "kept.%u", disk.links++);
        (void)snprintf(kept, sizeof kept, "%s/%s", disk.dir, name);
    } while (access(kept, F_OK) == 0);
    if (link(path, kept) != 0) {
        give_up("disk.c: link\n");
    }
}

static void record_unlink(const char *path)
{
    struct disk_undo undo = {.kind = UNDO_UNLINK};
    (void)snprintf(undo.name, sizeof undo.name, "%s", name_of(path));
    keep_link(path, undo.other);
    record(&undo, "");
}

int unlink(const char *path)
{
    enum disk_file file = file_of(path);
    enum disk_when when = DISK_AFTER;
    bool last = false;
    if (file != DISK_OTHER && active() && access(path, F_OK) == 0) {
        last = is_last(DISK_UNLINK, file, &when);
        record_unlink(path);
    }
    int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    die_if(last);
    return result;
}

int rename(const char *from, const char *to)
{
    enum disk_file file = file_of(from);
    enum disk_when when = DISK_AFTER;
    bool last = false;
    if (file != DISK_OTHER && active() && access(from, F_OK) == 0) {
        struct disk_undo undo = {.kind = UNDO_RENAME};
        last = is_last(DISK_RENAME, file, &when);
        if (access(to, F_OK) == 0) {
            record_unlink(to);
        }
        (void)snprintf(undo.name, sizeof undo.name, "%s", name_of(from));
        (void)snprintf(undo.other, sizeof undo.other, "%s", name_of(to));
        record(&undo, "");
    }
    int result = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    die_if(last);
    return result;
}
