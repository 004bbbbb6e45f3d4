// store_copy.c - a copy of the whole store in another file, made in steps between transactions.
//
// SQLite's backup copies page after page; a page that this connection writes after it was copied is copied
// again with the commit. So the copy, when it is complete, is the store as it is at that moment, however long
// that took, and no traffic can make it begin anew. (A transaction that is taken back does; those are rare.)
#include "scheduler/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct store_copy {
    sqlite3 *to;
    sqlite3_backup *backup;
    char *path; // of the complete copy
    char *part; // while it is being made
};

// It is nobody's store before it has its name, so nothing of it needs to be safe from a crash.
static const char part_settings[] = "PRAGMA journal_mode = OFF;"
                                    "PRAGMA synchronous = OFF;"
                                    "PRAGMA locking_mode = EXCLUSIVE;"
                                    "PRAGMA cache_size = -2048;"; // KiB

static enum err cannot(const struct store_copy *copy, const char *what, const char *why, struct fault *fault)
{
    return fault_set(fault, ERR_STORAGE_UNAVAILABLE, "%s cannot be %s: %s", copy->path, what, why);
}

static enum err open_part(struct store *store, struct store_copy *copy, struct fault *fault)
{
    int fd = access(copy->path, F_OK) == 0
                 ? (errno = EEXIST, -1)
                 : open(copy->part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0) {
        enum err err = cannot(copy, "made", strerror(errno), fault);
        free(copy->part); // it is not ours to remove
        copy->part = NULL;
        return err;
    }
    close(fd);
    if (sqlite3_open_v2(copy->part, &copy->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_exec(copy->to, part_settings, NULL, NULL, NULL) != SQLITE_OK ||
        !(copy->backup = sqlite3_backup_init(copy->to, "main", store->db, "main"))) {
        return cannot(copy, "made", copy->to ? sqlite3_errmsg(copy->to) : "out of memory", fault);
    }
    return ERR_OK;
}

enum err store_copy_begin(struct store *store, const char *path, struct store_copy **copy,
                          struct fault *fault)
{
    struct store_copy *made = calloc(1, sizeof(*made));
    *copy = NULL;
    if (made) {
        made->path = strdup(path);
    }
    if (!made || !made->path || asprintf(&made->part, "%s.part", path) < 0) {
        if (made) {
            made->part = NULL; // there is no such file yet
        }
        store_copy_end(made);
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    enum err err = open_part(store, made, fault);
    if (err != ERR_OK) {
        store_copy_end(made);
        made = NULL;
    }
    *copy = made;
    return err;
}

// Gives it its name, unless there is a file by now that has it.
static enum err complete(struct store_copy *copy, struct fault *fault)
{
    int rc = sqlite3_backup_finish(copy->backup);
    copy->backup = NULL;
    if (rc == SQLITE_OK) {
        rc = sqlite3_close(copy->to);
        copy->to = rc == SQLITE_OK ? NULL : copy->to;
    }
    if (rc != SQLITE_OK) {
        return cannot(copy, "completed", sqlite3_errstr(rc), fault);
    }
    return link(copy->part, copy->path) == 0 ? ERR_OK : cannot(copy, "completed", strerror(errno), fault);
}

enum err store_copy_step(struct store_copy *copy, int pages, struct store_copied *copied, struct fault *fault)
{
    int rc = sqlite3_backup_step(copy->backup, pages);
    if (rc != SQLITE_OK && rc != SQLITE_DONE) {
        return cannot(copy, "made", sqlite3_errstr(rc), fault);
    }
    copied->pages = (uint64_t)sqlite3_backup_pagecount(copy->backup);
    copied->left = (uint64_t)sqlite3_backup_remaining(copy->backup);
    copied->done = rc == SQLITE_DONE;
    return copied->done ? complete(copy, fault) : ERR_OK;
}

void store_copy_end(struct store_copy *copy)
{
    if (!copy) {
        return;
    }
    (void)sqlite3_backup_finish(copy->backup); // NULL is fine, for both
    (void)sqlite3_close(copy->to);
    if (copy->part) {
        (void)unlink(copy->part);
    }
    free(copy->path);
    free(copy->part);
    free(copy);
}
