// The disk: SQLite's files in memory, of which it is known what was synced. They stay there from one life of
// the scheduler to the next. The real (tmpfs) disk has what is looked at past SQLite: whether a file is
// there, and how it begins.
#include "tests/sim/sim.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES 8
#define BEGINNING 4096

// What a write since the last sync has overwritten.
struct change {
    struct change *before;
    sqlite3_int64 at;
    sqlite3_int64 size; // of the file, before
    int len;            // of the old bytes
    int written;
    unsigned char bytes[];
};

struct image {
    bool there;
    bool open;
    char path[256];
    unsigned char *data;
    sqlite3_int64 size;
    sqlite3_int64 cap;
    struct change *changes; // the newest first
};

struct disk_file {
    sqlite3_file file;
    struct image *image;
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    sqlite3_io_methods methods;
    struct image images[FILES];
    bool dead;
    bool full;
    uint64_t fail_in; // 0: never
    struct random random;
} disk;

static struct image *image_of(sqlite3_file *file)
{
    return ((struct disk_file *)(void *)file)->image;
}

static void out_of_memory(const void *p)
{
    CHECK(p != NULL, "out of memory");
}

static void reserve(struct image *image, sqlite3_int64 size)
{
    if (size > image->cap) {
        image->cap = size * 2;
        image->data = realloc(image->data, (size_t)image->cap);
        out_of_memory(image->data);
    }
}

static void resize(struct image *image, sqlite3_int64 size)
{
    reserve(image, size);
    if (size > image->size) {
        memset(image->data + image->size, 0, (size_t)(size - image->size));
    }
    image->size = size;
}

// ---- what is not synced ----

static void forget_changes(struct image *image)
{
    while (image->changes != NULL) {
        struct change *change = image->changes;
        image->changes = change->before;
        free(change);
    }
}

static void remember(struct image *image, sqlite3_int64 at, sqlite3_int64 len)
{
    sqlite3_int64 old = at < image->size ? image->size - at : 0;
    old = old < len ? old : len;
    struct change *change = malloc(sizeof *change + (size_t)old);
    out_of_memory(change);
    *change = (struct change){
        .before = image->changes, .at = at, .size = image->size, .len = (int)old, .written = (int)len};
    if (old > 0) {
        memcpy(change->bytes, image->data + at, (size_t)old);
    }
    image->changes = change;
}

// All of it is lost, or each write is or is not.
static void lose(struct image *image, bool all)
{
    for (struct change *change = image->changes; change != NULL; change = change->before) {
        if (all || random_below(&disk.random, 2) == 0) {
            sqlite3_int64 end =
                change->at + change->written < image->size ? change->at + change->written : image->size;
            memcpy(image->data + change->at, change->bytes, (size_t)change->len);
            memset(image->data + change->at + change->len, 0, (size_t)(end - change->at - change->len));
            resize(image, all ? change->size : image->size);
        }
    }
    forget_changes(image);
}

// ---- SQLite's methods ----

static int broken(void)
{
    errno = EIO;
    return SQLITE_IOERR_WRITE;
}

// All of one that will be renamed.
static void keep(const struct image *image)
{
    size_t len = (size_t)image->size;
    size_t path_len = strlen(image->path);
    bool fresh = path_len > 4 && strcmp(image->path + path_len - 4, ".new") == 0;
    FILE *file = fopen(image->path, "wb");
    len = !fresh && len > BEGINNING ? BEGINNING : len;
    CHECK(file != NULL && (len == 0 || fwrite(image->data, 1, len, file) == len) && fclose(file) == 0,
          "cannot write %s", image->path);
}

static void forget_image(struct image *image)
{
    forget_changes(image);
    free(image->data);
    memset(image, 0, sizeof *image);
}

static int on_close(sqlite3_file *file)
{
    struct image *image = image_of(file);
    image->open = false;
    if (!disk.dead) {
        keep(image);
        forget_changes(image);
    }
    return SQLITE_OK;
}

static int on_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    const struct image *image = image_of(file);
    sqlite3_int64 there = at < image->size ? image->size - at : 0;
    if (there >= n) {
        memcpy(to, image->data + at, (size_t)n);
        return SQLITE_OK;
    }
    if (there > 0) {
        memcpy(to, image->data + at, (size_t)there);
    }
    memset((char *)to + there, 0, (size_t)(n - there));
    return SQLITE_IOERR_SHORT_READ;
}

static void put(struct image *image, const void *from, int n, sqlite3_int64 at)
{
    remember(image, at, n);
    if (at + n > image->size) {
        resize(image, at + n);
    }
    memcpy(image->data + at, from, (size_t)n);
}

static int on_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    struct image *image = image_of(file);
    if (disk.dead) {
        return broken();
    }
    if (disk.fail_in > 0 && --disk.fail_in == 0) {
        put(image, from, n / 2, at); // it was torn
        disk.dead = true;
        return broken();
    }
    if (disk.full && at + n > image->size) {
        return SQLITE_FULL;
    }
    put(image, from, n, at);
    return SQLITE_OK;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct image *image = image_of(file);
    if (disk.dead) {
        return broken();
    }
    if (size < image->size) {
        remember(image, size, image->size - size);
    }
    resize(image, size);
    return SQLITE_OK;
}

static int on_sync(sqlite3_file *file, int flags)
{
    (void)flags;
    if (disk.dead || (disk.fail_in > 0 && --disk.fail_in == 0)) {
        disk.dead = true;
        return broken();
    }
    forget_changes(image_of(file));
    return SQLITE_OK;
}

static int on_size(sqlite3_file *file, sqlite3_int64 *size)
{
    *size = image_of(file)->size;
    return SQLITE_OK;
}

static int on_lock(sqlite3_file *file, int level)
{
    (void)file, (void)level;
    return SQLITE_OK;
}

static int on_check_lock(sqlite3_file *file, int *result)
{
    (void)file;
    *result = 0;
    return SQLITE_OK;
}

static int on_control(sqlite3_file *file, int op, void *argument)
{
    (void)file, (void)op, (void)argument;
    return SQLITE_NOTFOUND;
}

static int on_sector_size(sqlite3_file *file)
{
    (void)file;
    return 4096;
}

static int on_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static void load(struct image *image)
{
    FILE *file = fopen(image->path, "rb");
    size_t n = 0;
    while (file != NULL) {
        reserve(image, image->size + 65536);
        n = fread(image->data + image->size, 1, 65536, file);
        image->size += (sqlite3_int64)n;
        if (n < 65536) {
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

// NULL: one that is not in use.
static struct image *find(const char *name)
{
    for (size_t i = 0; i < FILES; i++) {
        struct image *image = &disk.images[i];
        if (name == NULL ? !image->there : image->there && strcmp(image->path, name) == 0) {
            return image;
        }
    }
    return NULL;
}

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct disk_file *f = (struct disk_file *)(void *)file;
    struct image *image = find(name);
    (void)vfs;
    f->file.pMethods = NULL;
    if (disk.dead) {
        return SQLITE_CANTOPEN;
    }
    if (image == NULL) {
        image = find(NULL);
        CHECK(image != NULL && name != NULL &&
                  snprintf(image->path, sizeof image->path, "%s", name) < (int)sizeof image->path,
              "a file too many, or without a name, or with too long a one");
        image->there = true;
        load(image);
    }
    image->open = true;
    keep(image);
    f->image = image;
    f->file.pMethods = &disk.methods;
    if (out_flags != NULL) {
        *out_flags = flags;
    }
    return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    struct image *image = find(name);
    (void)vfs, (void)sync;
    if (disk.dead) {
        return SQLITE_IOERR_DELETE;
    }
    if (image != NULL) {
        forget_image(image);
    }
    return unlink(name) == 0 ? SQLITE_OK : SQLITE_IOERR_DELETE_NOENT;
}

// It decides about the salts of the log, and must not be another one in another run.
static int on_random(sqlite3_vfs *vfs, int n, char *bytes)
{
    (void)vfs;
    for (int i = 0; i < n; i++) {
        bytes[i] = (char)random_next(&disk.random);
    }
    return n;
}

void disk_install(void)
{
    disk.random = (struct random){sim.seed, sim.seed};
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real;
    disk.vfs.pNext = NULL;
    disk.vfs.zName = "sim";
    disk.vfs.szOsFile = (int)sizeof(struct disk_file);
    disk.vfs.xOpen = on_open;
    disk.vfs.xDelete = on_delete;
    disk.vfs.xRandomness = on_random;
    disk.methods = (sqlite3_io_methods){
        .iVersion = 1, // no shared memory: the store locks its file for itself
        .xClose = on_close,
        .xRead = on_read,
        .xWrite = on_write,
        .xTruncate = on_truncate,
        .xSync = on_sync,
        .xFileSize = on_size,
        .xLock = on_lock,
        .xUnlock = on_lock,
        .xCheckReservedLock = on_check_lock,
        .xFileControl = on_control,
        .xSectorSize = on_sector_size,
        .xDeviceCharacteristics = on_characteristics,
    };
    CHECK(sqlite3_vfs_register(&disk.vfs, 1) == SQLITE_OK, "SQLite does not take the simulated disk");
}

void disk_start(void)
{
    disk.dead = false;
    disk.fail_in = 0;
}

void disk_crash(bool power)
{
    bool all = random_below(&disk.random, 2) == 0;
    for (size_t i = 0; i < FILES; i++) {
        struct image *image = &disk.images[i];
        if (image->open) {
            if (power) {
                lose(image, all);
            }
            keep(image);
        }
    }
    disk.dead = true;
    disk.fail_in = 0;
}

void disk_full(bool full)
{
    disk.full = full;
}

void disk_fail_in(uint64_t writes)
{
    disk.fail_in = writes;
}

void disk_synced(void)
{
    for (size_t i = 0; i < FILES; i++) {
        forget_changes(&disk.images[i]);
    }
}

bool disk_dead(void)
{
    return disk.dead;
}
