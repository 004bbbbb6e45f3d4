// key_file.h - a file of keys while it is changed: locked against another that changes it, and put in its
// place as a whole, so that a gateway reads the old one or the new one.
#ifndef SLUICE_CLI_KEY_FILE_H
#define SLUICE_CLI_KEY_FILE_H

#include "common/buf.h"
#include "proto/key.h"

#include <sys/stat.h>

struct key_file {
    char *path; // what a symbolic link leads to
    char *dir;
    int lock; // the directory's
    bool exists;
    struct stat stat; // when it exists
    struct buf text;  // what is in it, for the caller to change
    struct key_list list;
};

enum key_file_use { KEY_FILE_READ, KEY_FILE_CHANGE, KEY_FILE_MAKE };

// path: NULL for $SLUICE_KEYS. KEY_FILE_READ takes no lock, KEY_FILE_MAKE is content with a file that is not
// there. EXIT_CODE_OK, or another when it has said what is wrong: a file that is no good file of keys is
// refused (EXIT_CODE_DATAERR). In either case the caller ends it with key_file_close.
int key_file_open(struct key_file *file, const char *path, enum key_file_use use);
// Writes the text, on disk when it returns; owner, group and mode stay (an ACL does not), those of a new file
// are this user's and 0640, less its umask. EXIT_CODE_OK, or another when it has said what is wrong; then the
// file is as it was, but for EXIT_CODE_IOERR: it is changed, and a loss of power may undo that.
int key_file_write(struct key_file *file);
void key_file_close(struct key_file *file);

#endif
