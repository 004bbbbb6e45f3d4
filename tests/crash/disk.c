#include "tests/crash/disk.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512

struct disk {
    const struct sluice *sluice;
    char *dir;
    char *fault;
    char *fault_next;
    struct disk_control *control;
    uint64_t died_before;
    char *variables[3];
    const char *environment[4];
};

static char *path_in(const struct disk *disk, const char *name)
{
    char *path;
    cr_assert(asprintf(&path, "%s/%s", disk->dir, name) > 0);
    return path;
}

static int make_file(const struct disk *disk, const char *name, off_t size)
{
    char *path = path_in(disk, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && ftruncate(fd, size) == 0);
    free(path);
    return fd;
}

// The library comes before the sanitizer's own, which is all right: it calls nothing of the C library's that
// the sanitizer would have to be ready for.
static void allow_preload(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    char *all;
    cr_assert(asprintf(&all, "%s:verify_asan_link_order=0", options ? options : "") > 0);
    cr_assert_eq(setenv("ASAN_OPTIONS", all, 1), 0);
    free(all);
}

struct disk *disk_new(struct sluice *sluice)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    cr_assert_not_null(disk);
    disk->sluice = sluice;
    disk->dir = sluice_path(sluice, "disk");
    disk->fault = sluice_path(sluice, "fault");
    disk->fault_next = sluice_path(sluice, "fault.next");
    cr_assert_eq(mkdir(disk->dir, 0700), 0);
    int fd = make_file(disk, DISK_CONTROL, sizeof(*disk->control));
    disk->control = mmap(NULL, sizeof(*disk->control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq((void *)disk->control, MAP_FAILED);
    close(fd);
    close(make_file(disk, DISK_UNDO, 0));
    cr_assert(asprintf(&disk->variables[0], "LD_PRELOAD=%s", SLUICE_FAULTS) > 0);
    cr_assert(asprintf(&disk->variables[1], DISK_VARIABLE "=%s", disk->dir) > 0);
    cr_assert(asprintf(&disk->variables[2], "SLUICE_FAULT_FILE=%s", disk->fault) > 0);
    for (size_t i = 0; i < 3; i++) {
        disk->environment[i] = disk->variables[i];
    }
    sluice->environment[SCHEDULER] = disk->environment;
    allow_preload();
    return disk;
}

void disk_free(struct disk *disk)
{
    (void)munmap(disk->control, sizeof(*disk->control));
    for (size_t i = 0; i < 3; i++) {
        free(disk->variables[i]);
    }
    free(disk->dir);
    free(disk->fault);
    free(disk->fault_next);
    free(disk);
}

static uint64_t died_at_all(const struct disk *disk)
{
    uint64_t sum = 0;
    for (int call = 0; call < DISK_CALLS; call++) {
        for (int file = 0; file < DISK_FILES; file++) {
            sum += atomic_load(&disk->control->died[call][file]);
        }
    }
    return sum;
}

void disk_arm(struct disk *disk, unsigned n, enum disk_when when)
{
    disk->died_before = died_at_all(disk);
    atomic_store(&disk->control->when, (uint32_t)when);
    atomic_store(&disk->control->last, disk_calls(disk) + n);
}

bool disk_has_died(const struct disk *disk)
{
    return died_at_all(disk) > disk->died_before;
}

// A call that has seen that it is the last one is counted at once.
bool disk_disarm(struct disk *disk)
{
    atomic_store(&disk->control->last, 0);
    wait_ms(1);
    return disk_has_died(disk);
}

uint64_t disk_calls(const struct disk *disk)
{
    return atomic_load(&disk->control->calls);
}

uint64_t disk_died(const struct disk *disk, enum disk_call call, enum disk_file file)
{
    return atomic_load(&disk->control->died[call][file]);
}

void disk_fault(struct disk *disk, const char *fault)
{
    if (!fault) {
        (void)unlink(disk->fault);
        return;
    }
    FILE *file = fopen(disk->fault_next, "we");
    cr_assert(file && fputs(fault, file) >= 0 && fclose(file) == 0);
    cr_assert_eq(rename(disk->fault_next, disk->fault), 0);
}

// ---- the loss of power ----

struct undo {
    struct disk_undo record;
    const char *kept; // in the text
    bool lost;        // no sync came after it
};

struct undo_list {
    char *text;
    struct undo *list;
    size_t count;
};

static char *read_all(const char *path, size_t *len)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(fd >= 0 && fstat(fd, &info) == 0);
    char *text = malloc((size_t)info.st_size + 1);
    cr_assert(text && read(fd, text, (size_t)info.st_size) == (ssize_t)info.st_size);
    close(fd);
    *len = (size_t)info.st_size;
    return text;
}

static bool is_name(uint32_t kind)
{
    return kind == UNDO_CREATE || kind == UNDO_RENAME || kind == UNDO_UNLINK;
}

static void mark_synced(struct undo_list *undo, const struct disk_undo *sync)
{
    for (size_t i = 0; i < undo->count; i++) {
        const struct disk_undo *record = &undo->list[i].record;
        bool data = record->kind == UNDO_WRITE || record->kind == UNDO_TRUNCATE;
        if (sync->kind == UNDO_SYNC_DIR ? is_name(record->kind) : data && record->inode == sync->inode) {
            undo->list[i].lost = false;
        }
    }
}

static struct undo_list read_undo(const struct disk *disk)
{
    struct undo_list undo = {.count = 0};
    char *path = path_in(disk, DISK_UNDO);
    size_t len, at = 0;
    undo.text = read_all(path, &len);
    free(path);
    undo.list = calloc(len / sizeof(struct disk_undo) + 1, sizeof(*undo.list));
    cr_assert_not_null(undo.list);
    while (len - at >= sizeof(struct disk_undo)) {
        struct undo *next = &undo.list[undo.count];
        memcpy(&next->record, undo.text + at, sizeof(next->record));
        at += sizeof(next->record);
        if (len - at < next->record.kept) {
            break; // it was killed while it wrote this
        }
        next->kept = undo.text + at;
        at += next->record.kept;
        if (next->record.kind == UNDO_SYNC || next->record.kind == UNDO_SYNC_DIR) {
            mark_synced(&undo, &next->record);
        } else {
            next->lost = true;
            undo.count++;
        }
    }
    return undo;
}

static int open_inode_in(const char *dir, uint64_t inode)
{
    DIR *entries = opendir(dir);
    int fd = -1;
    for (const struct dirent *entry; entries && fd < 0 && (entry = readdir(entries));) {
        if (entry->d_ino == inode) {
            fd = openat(dirfd(entries), entry->d_name, O_RDWR | O_CLOEXEC);
        }
    }
    if (entries) {
        (void)closedir(entries);
    }
    return fd;
}

// A file by its inode, whatever it is called by now; -1 when it is gone for good.
static int open_inode(const struct disk *disk, uint64_t inode)
{
    int fd = open_inode_in(disk->sluice->data, inode);
    return fd >= 0 ? fd : open_inode_in(disk->dir, inode);
}

// Puts back [from, to) of what a write or the cutting off of the end replaced; what was beyond the old end is
// 0.
static void put_back(int fd, const struct undo *undo, int64_t from, int64_t to)
{
    char zeros[SECTOR] = {0};
    for (int64_t at = from; at < to;) {
        int64_t in = at - undo->record.at, n = to - at;
        const char *bytes = zeros;
        if (in < undo->record.kept) {
            bytes = undo->kept + in;
            n = n < undo->record.kept - in ? n : undo->record.kept - in;
        } else {
            n = n < SECTOR ? n : SECTOR;
        }
        cr_assert_eq(pwrite(fd, bytes, (size_t)n, at), n);
        at += n;
    }
}

static void undo_data(const struct disk *disk, const struct undo *undo, enum power_loss loss,
                      struct random *random)
{
    int64_t end = undo->record.at + undo->record.len;
    int fd = open_inode(disk, undo->record.inode);
    if (fd < 0) {
        return;
    }
    if (undo->record.kind == UNDO_TRUNCATE &&
        (loss == POWER_TORN || (loss == POWER_SOME && random_below(random, 2)))) {
        close(fd); // there are no sectors of it
        return;
    }
    if (undo->record.kind == UNDO_TRUNCATE) {
        loss = POWER_ALL;
    }
    if (loss == POWER_TORN) {
        put_back(fd, undo, undo->record.at + (int64_t)random_below(random, (uint64_t)undo->record.len + 1),
                 end);
    } else if (loss == POWER_ALL) {
        put_back(fd, undo, undo->record.at, end);
        cr_assert_eq(ftruncate(fd, undo->record.size), 0);
    } else {
        for (int64_t at = undo->record.at, next; at < end; at = next) {
            next = (at / SECTOR + 1) * SECTOR;
            next = next < end ? next : end;
            if (random_below(random, 2) == 0) {
                put_back(fd, undo, at, next);
            }
        }
    }
    close(fd);
}

static void undo_name(const struct disk *disk, const struct disk_undo *record)
{
    char *name, *other;
    cr_assert(asprintf(&name, "%s/%s", disk->sluice->data, record->name) > 0);
    if (record->kind == UNDO_CREATE) {
        (void)unlink(name);
        free(name);
        return;
    }
    // It may have been killed before what it recorded, so that there is nothing to undo.
    cr_assert(asprintf(&other, "%s/%s", record->kind == UNDO_RENAME ? disk->sluice->data : disk->dir,
                       record->other) > 0);
    if (record->kind == UNDO_UNLINK && access(name, F_OK) != 0) {
        cr_assert_eq(link(other, name), 0);
    } else if (record->kind == UNDO_RENAME && access(name, F_OK) != 0) {
        cr_assert_eq(rename(other, name), 0);
    }
    free(name);
    free(other);
}

size_t disk_cut_power(struct disk *disk, enum power_loss loss, struct random *random)
{
    struct undo_list undo = read_undo(disk);
    size_t lost = 0;
    bool names = loss == POWER_ALL || (loss == POWER_SOME && random_below(random, 2) == 0);
    for (size_t i = undo.count; i > 0; i--) {
        const struct undo *one = &undo.list[i - 1];
        if (!one->lost) {
            continue;
        }
        lost++;
        if (!is_name(one->record.kind)) {
            if (loss != POWER_TORN || lost == 1) {
                undo_data(disk, one, loss, random);
            }
        } else if (names) {
            undo_name(disk, &one->record);
        }
    }
    free(undo.text);
    free(undo.list);
    disk_settle(disk);
    return lost;
}

void disk_settle(struct disk *disk)
{
    char *path = path_in(disk, DISK_UNDO);
    cr_assert_eq(truncate(path, 0), 0);
    free(path);
}
