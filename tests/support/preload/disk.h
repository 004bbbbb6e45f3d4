// disk.h - what a test (tests/crash/disk.h) and the library in a program under test (disk.c) have in common:
// when the program is to die in a call of its write path, and what it wrote that a loss of power would take
// away.
//
// The directory that SLUICE_DISK_DIR names holds both files. Without the variable the library does neither.
#ifndef SLUICE_TESTS_SUPPORT_PRELOAD_DISK_H
#define SLUICE_TESTS_SUPPORT_PRELOAD_DISK_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define DISK_VARIABLE "SLUICE_DISK_DIR"
#define DISK_CONTROL "control" // a struct disk_control, mapped by both
#define DISK_UNDO "undo"       // struct disk_undo, one after the other

// The write path: calls that change what is on the disk, and the files they are for.
enum disk_call { DISK_WRITE, DISK_SYNC, DISK_TRUNCATE, DISK_CREATE, DISK_RENAME, DISK_UNLINK, DISK_CALLS };
enum disk_file { DISK_DATABASE, DISK_LOG, DISK_FRESH, DISK_DIRECTORY, DISK_OTHER, DISK_FILES };

enum disk_when { DISK_BEFORE, DISK_WITHIN, DISK_AFTER }; // within: half of a write is done

struct disk_control {
    _Atomic uint64_t calls; // of the write path, of all lives of the program
    _Atomic uint64_t last;  // it dies in the first call that has this number or a higher one; 0: in none
    _Atomic uint32_t when;
    _Atomic uint64_t died[DISK_CALLS][DISK_FILES]; // where it did
};

// How to undo what was done after the last sync. Records of before a sync of the same file (or, for names, of
// the directory) are of no use any more; when all are, the file is emptied. The last one may be cut off: then
// what it stands for was not begun.
enum disk_undo_kind {
    UNDO_WRITE,    // old bytes of a range
    UNDO_TRUNCATE, // of the end that was cut off
    UNDO_CREATE,   // a name that was not there
    UNDO_RENAME,   // from name to other
    UNDO_UNLINK,   // other, in the directory of the undo file, is a link to what was removed
    UNDO_SYNC,     // of a file
    UNDO_SYNC_DIR, // of the names
};

#define DISK_NAME_SIZE 48

struct disk_undo {
    uint32_t kind;
    uint32_t kept;  // old bytes that follow; those beyond the old end are not there
    uint64_t inode; // of the file
    int64_t at;
    int64_t len;  // of the write
    int64_t size; // of the file before
    char name[DISK_NAME_SIZE];
    char other[DISK_NAME_SIZE];
};

// ---- for faults.c ----

enum disk_file disk_file_of(int fd); // DISK_OTHER: not of the store
ssize_t disk_write(int fd, const void *data, size_t len, off_t at);
int disk_sync(int fd, long call);

#endif
