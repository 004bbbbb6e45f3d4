// fault_vfs.h - SQLite's own file layer with faults: the n-th write or sync fails, or the power goes off in a
// sync.
//
// For the power it keeps, beside each file, a copy "….kept" as of its last sync: what a disk is sure to hold.
#ifndef SLUICE_TESTS_UNIT_FAULT_VFS_H
#define SLUICE_TESTS_UNIT_FAULT_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum fault_call { FAULT_WRITE, FAULT_SYNC, FAULT_CALLS };

struct fault_vfs {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    sqlite3_io_methods methods;
    int until[FAULT_CALLS]; // calls up to the one that fails; 0: none does
    int error;              // what it returns
    bool keep_copies;       // and FAULT_SYNC ends the process instead
};

// In front of the real file's object.
struct fault_file {
    sqlite3_file file;
    struct fault_vfs *owner;
    const char *name;
};

static inline sqlite3_file *fault_real(sqlite3_file *file)
{
    return (sqlite3_file *)(void *)((struct fault_file *)(void *)file + 1);
}

static inline struct fault_vfs *fault_owner(sqlite3_file *file)
{
    return ((struct fault_file *)(void *)file)->owner;
}

static inline bool fault_hits(struct fault_vfs *owner, enum fault_call call)
{
    if (owner->until[call] == 0) {
        return false;
    }
    owner->until[call]--;
    return owner->until[call] == 0;
}

static inline int fault_close(sqlite3_file *file)
{
    return fault_real(file)->pMethods->xClose(fault_real(file));
}

static inline int fault_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    return fault_real(file)->pMethods->xRead(fault_real(file), to, n, at);
}

static inline int fault_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    if (fault_hits(fault_owner(file), FAULT_WRITE)) {
        return fault_owner(file)->error;
    }
    return fault_real(file)->pMethods->xWrite(fault_real(file), from, n, at);
}

static inline int fault_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fault_real(file)->pMethods->xTruncate(fault_real(file), size);
}

static inline bool fault_copy(const char *from, const char *to)
{
    char bytes[65536];
    FILE *in = fopen(from, "rb");
    FILE *out = in != NULL ? fopen(to, "wb") : NULL;
    bool copied = out != NULL;
    for (size_t n = sizeof bytes; copied && n == sizeof bytes;) {
        n = fread(bytes, 1, sizeof bytes, in);
        copied = fwrite(bytes, 1, n, out) == n && ferror(in) == 0;
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    return out != NULL && fclose(out) == 0 && copied;
}

static inline int fault_sync(sqlite3_file *file, int flags)
{
    struct fault_file *f = (struct fault_file *)(void *)file;
    bool hit = fault_hits(f->owner, FAULT_SYNC);
    if (!f->owner->keep_copies) {
        return hit ? f->owner->error : fault_real(file)->pMethods->xSync(fault_real(file), flags);
    }
    char kept[256];
    if (hit || snprintf(kept, sizeof kept, "%s.kept", f->name) >= (int)sizeof kept ||
        !fault_copy(f->name, kept)) {
        _exit(hit ? 0 : 1);
    }
    return SQLITE_OK;
}

static inline int fault_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return fault_real(file)->pMethods->xFileSize(fault_real(file), size);
}

static inline int fault_lock(sqlite3_file *file, int level)
{
    return fault_real(file)->pMethods->xLock(fault_real(file), level);
}

static inline int fault_unlock(sqlite3_file *file, int level)
{
    return fault_real(file)->pMethods->xUnlock(fault_real(file), level);
}

static inline int fault_check_lock(sqlite3_file *file, int *result)
{
    return fault_real(file)->pMethods->xCheckReservedLock(fault_real(file), result);
}

static inline int fault_control(sqlite3_file *file, int op, void *argument)
{
    return fault_real(file)->pMethods->xFileControl(fault_real(file), op, argument);
}

static inline int fault_sector_size(sqlite3_file *file)
{
    return fault_real(file)->pMethods->xSectorSize(fault_real(file));
}

static inline int fault_characteristics(sqlite3_file *file)
{
    return fault_real(file)->pMethods->xDeviceCharacteristics(fault_real(file));
}

static inline int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                             int *out_flags)
{
    struct fault_vfs *owner = vfs->pAppData;
    struct fault_file *f = (struct fault_file *)(void *)file;
    int rc = owner->real->xOpen(owner->real, name, fault_real(file), flags, out_flags);
    f->file.pMethods = rc == SQLITE_OK ? &owner->methods : NULL;
    f->owner = owner;
    f->name = name; // SQLite keeps it as long as the file is open
    return rc;
}

// Stands in for the default from now on. Version 1 of the methods has no shared memory: only a store that
// locks its file for itself can use the write-ahead mode then.
static inline void fault_vfs_install(struct fault_vfs *owner)
{
    memset(owner, 0, sizeof *owner);
    owner->real = sqlite3_vfs_find(NULL);
    owner->vfs = *owner->real;
    owner->vfs.pNext = NULL;
    owner->vfs.zName = "fault";
    owner->vfs.szOsFile = (int)sizeof(struct fault_file) + owner->real->szOsFile;
    owner->vfs.pAppData = owner;
    owner->vfs.xOpen = fault_open;
    owner->methods = (sqlite3_io_methods){
        .iVersion = 1,
        .xClose = fault_close,
        .xRead = fault_read,
        .xWrite = fault_write,
        .xTruncate = fault_truncate,
        .xSync = fault_sync,
        .xFileSize = fault_file_size,
        .xLock = fault_lock,
        .xUnlock = fault_unlock,
        .xCheckReservedLock = fault_check_lock,
        .xFileControl = fault_control,
        .xSectorSize = fault_sector_size,
        .xDeviceCharacteristics = fault_characteristics,
    };
    sqlite3_vfs_register(&owner->vfs, 1);
}

#endif
