// ids.h - the list of IDs of an ingestion, in the one form it has from the wire to the disk and back: the
// items of a JSON array, separated by single commas, without its brackets: `1,2,3` or `"a","b,c"`. So every
// ID stays as it was written. Pure; any thread.
#ifndef SLUICE_PROTO_IDS_H
#define SLUICE_PROTO_IDS_H

#include "proto/words.h"

struct ids {
    char *text; // owned, NUL-terminated
    size_t len;
    uint32_t count; // 1 to IDS_MAX
    enum ids_kind kind;
    uint64_t largest; // of integers, for the queue's max_id
};

// Where the nth item (from 1) ends: at a comma, which is not inside a string, or at `end`. NULL when there
// are fewer.
const char *ids_after(const char *at, const char *end, uint32_t n);

#endif
