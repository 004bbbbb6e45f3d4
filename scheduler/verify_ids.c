// verify_ids.c - the IDs of each ingestion: as many as it says, whole, and in chunks without a gap, so that
// each batch has its own.
#include "scheduler/verify_check.h"

#include <string.h>

#define CHUNK_IDS 1024 // but the last chunk may hold fewer

// Skips one ID: a number of an ID's range, or a JSON string. NULL when there is none.
static const char *skip_id(const char *at, const char *end)
{
    if (at < end && *at == '"') {
        for (at++; at < end && *at != '"'; at++) {
            at += *at == '\\';
        }
        return at < end ? at + 1 : NULL;
    }
    const char *first = at;
    uint64_t value = 0;
    while (at < end && *at >= '0' && *at <= '9' && at - first < 16) {
        value = value * 10 + (uint64_t)(*at++ - '0');
    }
    return at > first && *first != '0' && value <= ID_VALUE_MAX ? at : NULL;
}

// How many IDs the text of a column holds; -1 when it is no list of IDs.
static int64_t count_ids(sqlite3_stmt *stmt, int column)
{
    const char *at = (const char *)sqlite3_column_text(stmt, column);
    const char *end = at != NULL ? at + sqlite3_column_bytes(stmt, column) : NULL;
    for (int64_t n = 1; at != NULL; n++) {
        at = skip_id(at, end);
        if (at == end) {
            return n;
        }
        at = at != NULL && *at == ',' ? at + 1 : NULL;
    }
    return -1;
}

struct list {
    struct about about;
    int64_t want;
    int64_t found;
    int64_t chunks;
};

static void end(struct verify *v, const struct list *list)
{
    if (list->about.seq != 0 && list->found != list->want) {
        violation(v, VERIFY_IDS, list->about, "it has %lld IDs, and %lld are there", (long long)list->want,
                  (long long)list->found);
    }
}

// Columns: seq, queue, id_count, ids, chunk, text.
static void add_row(struct verify *v, sqlite3_stmt *stmt, struct list *list)
{
    bool in_row = sqlite3_column_type(stmt, 3) != SQLITE_NULL;
    bool in_chunk = sqlite3_column_type(stmt, 4) != SQLITE_NULL;
    if (in_row && in_chunk) {
        violation(v, VERIFY_IDS, list->about, "its IDs are there twice");
    }
    if (in_chunk && !in_row) {
        if (sqlite3_column_int64(stmt, 4) != list->chunks) {
            violation(v, VERIFY_IDS, list->about, "chunk %lld of its IDs follows on %lld others",
                      (long long)sqlite3_column_int64(stmt, 4), (long long)list->chunks);
        }
        if (list->found != list->chunks * CHUNK_IDS) {
            violation(v, VERIFY_IDS, list->about, "a chunk of its IDs holds fewer than it should");
        }
        list->chunks++;
    }
    if (!in_row && !in_chunk) {
        return;
    }
    int64_t n = count_ids(stmt, in_row ? 3 : 5);
    if (n < 0) {
        violation(v, VERIFY_IDS, list->about, "what should be its IDs is no list of IDs");
    } else {
        list->found += n;
    }
}

enum err verify_ids(struct verify *v)
{
    enum err err;
    struct list list = {.about.seq = 0};
    bool row = false;
    sqlite3_stmt *stmt =
        verify_prepare(v,
                       "SELECT i.seq, i.queue, i.id_count, i.ids, c.chunk, c.text FROM ingestion i LEFT JOIN "
                       "ids c ON c.seq = i.seq WHERE i.id <> x'' ORDER BY i.seq, c.chunk",
                       &err);
    while (stmt != NULL && (err = verify_step(v, stmt, &row)) == ERR_OK && row) {
        int64_t seq = sqlite3_column_int64(stmt, 0);
        if (seq != list.about.seq) {
            end(v, &list);
            list = (struct list){.about = {sqlite3_column_int64(stmt, 1), seq, -1},
                                 .want = sqlite3_column_int64(stmt, 2)};
        }
        add_row(v, stmt, &list);
    }
    end(v, &list);
    (void)sqlite3_finalize(stmt);
    return err;
}
