#include "cli/key_file.h"

#include "cli/exit.h"
#include "cli/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NEW_MODE 0640u

static int refuse(int code, const char *path)
{
    say("%s: %s", path, strerror(errno));
    return code;
}

// Where the file is, or would be, and its directory.
static int locate(struct key_file *file, const char *path)
{
    char *real = realpath(path, NULL);
    struct stat link;
    if (!real &&
        (errno != ENOENT || lstat(path, &link) == 0)) { // a link to what is not there is not followed
        return refuse(EXIT_CODE_NOINPUT, path);
    }
    file->path = real ? real : strdup(path);
    const char *slash = file->path ? strrchr(file->path, '/') : NULL;
    if (slash) {
        file->dir = strndup(file->path, slash == file->path ? 1 : (size_t)(slash - file->path));
    } else {
        file->dir = strdup(".");
    }
    return file->path && file->dir ? EXIT_CODE_OK : refuse(EXIT_CODE_SOFTWARE, path);
}

static int lock(struct key_file *file)
{
    file->lock = open(file->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = file->lock >= 0 ? flock(file->lock, LOCK_EX | LOCK_NB) : -1;
    if (file->lock >= 0 && rc != 0 && errno == EWOULDBLOCK) {
        say("%s: somebody else has it locked: waiting", file->dir);
        while ((rc = flock(file->lock, LOCK_EX)) != 0 && errno == EINTR) {
        }
    }
    return rc == 0 ? EXIT_CODE_OK : refuse(EXIT_CODE_CANTCREAT, file->dir);
}

static int load(struct key_file *file, enum key_file_use use)
{
    struct fault fault;
    file->exists = stat(file->path, &file->stat) == 0;
    if (!file->exists && errno == ENOENT && use == KEY_FILE_MAKE) {
        return EXIT_CODE_OK;
    }
    enum err err = key_file_read(file->path, &file->text, &fault);
    if (err) {
        say("%s", fault.detail);
        return err == ERR_STORAGE_IO ? EXIT_CODE_NOINPUT : EXIT_CODE_DATAERR;
    }
    err = key_list_parse(file->text.data, file->text.len, &file->list, &fault);
    if (err) {
        say("%s: %s", file->path, fault.detail);
    }
    return err ? EXIT_CODE_DATAERR : EXIT_CODE_OK;
}

int key_file_open(struct key_file *file, const char *path, enum key_file_use use)
{
    *file = (struct key_file){.lock = -1};
    buf_init(&file->text);
    const char *from = path ? path : getenv("SLUICE_KEYS");
    if (!from || from[0] == '\0') {
        say("which file of keys? give --keys FILE, or set SLUICE_KEYS");
        return EXIT_CODE_USAGE;
    }
    int code = locate(file, from);
    if (code == EXIT_CODE_OK && use != KEY_FILE_READ) {
        code = lock(file);
    }
    return code == EXIT_CODE_OK ? load(file, use) : code;
}

static bool write_all(int fd, const struct buf *text)
{
    for (size_t at = 0; at < text->len;) {
        ssize_t n = write(fd, text->data + at, text->len - at);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

// An owner who is not us can only be kept by root; a file that cannot be like the old one is not made.
static bool take_after(int fd, const struct key_file *file)
{
    struct stat made;
    if (!file->exists) {
        mode_t mask = umask(0);
        (void)umask(mask);
        return fchmod(fd, NEW_MODE & ~mask) == 0;
    }
    bool same = fstat(fd, &made) == 0 && made.st_uid == file->stat.st_uid && made.st_gid == file->stat.st_gid;
    return (same || fchown(fd, file->stat.st_uid, file->stat.st_gid) == 0) &&
           fchmod(fd, file->stat.st_mode & 07777) == 0;
}

int key_file_write(struct key_file *file)
{
    char *part = NULL;
    if (buf_err(&file->text) || asprintf(&part, "%s.part", file->path) < 0) {
        say("out of memory");
        return EXIT_CODE_SOFTWARE;
    }
    if (file->text.len > KEY_FILE_MAX) {
        say("%s would be longer than %u bytes", file->path, KEY_FILE_MAX);
        free(part);
        return EXIT_CODE_REFUSED;
    }
    (void)unlink(part); // of one that was killed: the lock is ours
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write_all(fd, &file->text) && take_after(fd, file) && fsync(fd) == 0 &&
                rename(part, file->path) == 0;
    int code = good ? EXIT_CODE_OK : refuse(EXIT_CODE_CANTCREAT, part);
    if (!good && fd >= 0) {
        (void)unlink(part);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(part);
    if (good && fsync(file->lock) != 0 && errno != EINVAL) { // the directory
        code = refuse(EXIT_CODE_IOERR, file->dir);
    }
    return code;
}

void key_file_close(struct key_file *file)
{
    if (file->lock >= 0) {
        close(file->lock);
    }
    key_list_fini(&file->list);
    buf_fini(&file->text);
    free(file->path);
    free(file->dir);
}
