// ids.h - the IDs that a person or a script gives: as words, or in a file, one a line; in portions that fit
// into an ingestion.
#ifndef SLUICE_CLI_IDS_H
#define SLUICE_CLI_IDS_H

#include "common/buf.h"
#include "proto/words.h"

#include <stdio.h>

struct ids_source {
    char *const *words; // from these, when there is no file
    size_t word_count;
    FILE *file;       // one a line; empty lines are nothing, a carriage return at the end of one neither
    const char *name; // of the file, for what is said
    enum ids_kind kind;
    uint64_t at;                  // words or lines that were read
    char line[ID_STRING_MAX + 4]; // of a file: an ID, one byte too many, and the end of the line
};

// The next portion: at most IDS_MAX, and no more than fit into a message, as items of a JSON array with
// commas between, into `items` (emptied before). *count is 0 at the end. The exit code; EXIT_CODE_DATAERR or
// EXIT_CODE_IOERR when it has said what is wrong, and with which line.
int ids_take(struct ids_source *source, struct buf *items, size_t *count);

#endif
