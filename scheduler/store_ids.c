// store_ids.c - the IDs of an ingestion: a few stand in its own row; more are kept apart from its counters
// and in chunks, so that a batch costs the same however long the list is. A batch may span chunks.
#include "scheduler/store_sqlite.h"

#include <string.h>

#define CHUNK_IDS 1024u // but the last chunk may hold fewer

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

bool ids_short(const struct ids *ids)
{
    return ids->len <= IDS_SHORT_MAX;
}

enum err ids_write(struct store *store, int64_t seq, const struct ids *ids)
{
    const char *at = ids->text;
    const char *end = ids->text + ids->len;
    uint32_t left = ids->count;
    for (int64_t chunk = 0; left > 0; chunk++) {
        uint32_t n = min_u32(left, CHUNK_IDS);
        const char *stop = ids_after(at, end, n);
        if (stop == NULL) {
            return ERR_INTERNAL;
        }
        sqlite3_stmt *stmt = BIND(store, STMT_INSERT_IDS, seq, chunk);
        sqlite3_bind_text(stmt, 3, at, (int)(stop - at), SQLITE_STATIC);
        enum err err = stmt_run(stmt);
        if (err != ERR_OK) {
            return err;
        }
        left -= n;
        at = stop + 1;
    }
    return ERR_OK;
}

// Appends n IDs of a column's text after skipping some.
static enum err append_ids(sqlite3_stmt *stmt, int column, uint32_t skip, uint32_t n, struct buf *text)
{
    const char *at = (const char *)sqlite3_column_text(stmt, column);
    if (at == NULL) {
        return ERR_STORAGE_IO;
    }
    const char *end = at + sqlite3_column_bytes(stmt, column);
    if (skip > 0) {
        const char *comma = ids_after(at, end, skip);
        at = comma != NULL && comma < end ? comma + 1 : end;
    }
    const char *stop = ids_after(at, end, n);
    if (stop == NULL) {
        return ERR_STORAGE_IO;
    }
    buf_put(text, at, (size_t)(stop - at));
    return buf_err(text);
}

static enum err read_chunks(struct store *store, int64_t seq, uint32_t from, uint32_t count, struct buf *text)
{
    uint32_t skip = from % CHUNK_IDS;
    sqlite3_stmt *stmt = BIND(store, STMT_READ_IDS, seq, from / CHUNK_IDS);
    enum err err = ERR_OK;
    for (uint32_t left = count; left > 0 && err == ERR_OK;) {
        bool row;
        err = stmt_next(stmt, &row);
        if (err != ERR_OK) {
            break;
        }
        uint32_t n = min_u32(left, CHUNK_IDS - skip);
        if (left < count) {
            buf_char(text, ',');
        }
        err = row ? append_ids(stmt, 0, skip, n, text) : ERR_STORAGE_IO;
        left -= n;
        skip = 0;
    }
    sqlite3_reset(stmt);
    return err;
}

// Of a row that has the ingestion's column `ids`.
static enum err read_ids(struct store *store, sqlite3_stmt *row, int column, int64_t seq, uint32_t from,
                         uint32_t count, struct buf *text)
{
    return sqlite3_column_type(row, column) != SQLITE_NULL ? append_ids(row, column, from, count, text)
                                                           : read_chunks(store, seq, from, count, text);
}

enum err ids_read(struct store *store, int64_t seq, uint32_t from, uint32_t count, struct buf *text)
{
    sqlite3_stmt *stmt = BIND(store, STMT_READ_SHORT_IDS, seq);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err == ERR_OK) {
        err = found ? read_ids(store, stmt, 0, seq, from, count, text) : ERR_STORAGE_IO;
    }
    sqlite3_reset(stmt);
    return err;
}

enum err ids_of_batch(struct store *store, sqlite3_stmt *row, int column, const struct place *place,
                      uint32_t batch_size, uint32_t ids, char **text)
{
    uint64_t from = (uint64_t)place->index * batch_size;
    if (batch_size == 0 || from >= ids) {
        return ERR_STORAGE_IO;
    }
    struct buf buf;
    buf_init(&buf);
    enum err err = read_ids(store, row, column, place->seq, (uint32_t)from,
                            min_u32(ids - (uint32_t)from, batch_size), &buf);
    if (err == ERR_OK) {
        *text = buf_take(&buf, NULL);
    }
    buf_fini(&buf);
    return err;
}

static enum err same_short(struct store *store, int64_t seq, const struct ids *ids, bool *same)
{
    sqlite3_stmt *stmt = BIND(store, STMT_READ_SHORT_IDS, seq);
    bool found;
    enum err err = stmt_next(stmt, &found);
    const unsigned char *text = found ? sqlite3_column_text(stmt, 0) : NULL;
    *same = text != NULL && (size_t)sqlite3_column_bytes(stmt, 0) == ids->len &&
            memcmp(ids->text, text, ids->len) == 0;
    sqlite3_reset(stmt);
    return err;
}

static enum err same_chunks(struct store *store, int64_t seq, const struct ids *ids, bool *same)
{
    sqlite3_stmt *stmt = BIND(store, STMT_READ_IDS, seq, 0);
    size_t at = 0;
    *same = true;
    for (;;) {
        bool row;
        enum err err = stmt_next(stmt, &row);
        if (err != ERR_OK) {
            return err;
        }
        if (!row) {
            break;
        }
        const unsigned char *text = sqlite3_column_text(stmt, 0);
        size_t len = (size_t)sqlite3_column_bytes(stmt, 0);
        if (at > 0) { // the comma between two chunks is not stored
            *same = at < ids->len && ids->text[at] == ',';
            at++;
        }
        *same = *same && text != NULL && at + len <= ids->len && memcmp(ids->text + at, text, len) == 0;
        at += len;
        if (!*same) {
            sqlite3_reset(stmt);
            return ERR_OK;
        }
    }
    *same = at == ids->len;
    return ERR_OK;
}

enum err ids_same(struct store *store, int64_t seq, const struct ids *ids, bool *same)
{
    return ids_short(ids) ? same_short(store, seq, ids, same) : same_chunks(store, seq, ids, same);
}
