// store_read.c - what start-up, the engine's look-ahead and the status table read.
#include "scheduler/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#define LIST_LOOKS_MAX 1000 // rows that one page of a list looks at

// ---- the look-ahead ----

// From columns queue, priority, seq, index.
static enum err read_key(sqlite3_stmt *stmt, struct batch_key *key)
{
    key->queue = sqlite3_column_int64(stmt, 0);
    key->place.seq = sqlite3_column_int64(stmt, 2);
    key->place.index = column_u32(stmt, 3);
    return column_priority(stmt, 1, &key->place.priority) ? ERR_OK : ERR_STORAGE_IO;
}

// Room for one more element of an array that grows by doubling.
static enum err grow(void **array, size_t count, size_t size)
{
    if (count != 0 && (count < 16 || (count & (count - 1)) != 0)) {
        return ERR_OK;
    }
    void *grown = realloc(*array, (count == 0 ? 16 : 2 * count) * size);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    *array = grown;
    return ERR_OK;
}

enum err store_load_in_flight(struct store *store, struct batch_key **keys, size_t *count)
{
    sqlite3_stmt *stmt = store->statements[STMT_IN_FLIGHT];
    void *array = NULL;
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row) {
        err = grow(&array, n, sizeof **keys);
        if (err == ERR_OK) {
            err = read_key(stmt, (struct batch_key *)array + n);
        }
        if (err != ERR_OK) {
            break;
        }
        n++;
    }
    sqlite3_reset(stmt);
    if (err != ERR_OK) {
        free(array);
        array = NULL;
        n = 0;
    }
    *keys = array;
    *count = n;
    return err;
}

enum err store_read_waiting(struct store *store, int64_t queue, enum priority priority, int64_t after_seq,
                            uint32_t after_index, struct run *runs, size_t *count)
{
    uint32_t past = after_seq < 0 ? 0 : after_index + 1; // the first index that may follow within after_seq
    sqlite3_stmt *stmt = BIND(store, STMT_READ_RUNS, queue, priority, after_seq, past, (int64_t)*count);
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row && n < *count) {
        struct run *run = &runs[n++];
        *run = (struct run){sqlite3_column_int64(stmt, 0), column_u32(stmt, 1), column_u32(stmt, 2)};
        if (run->seq == after_seq && run->first < past) {
            run->first = past;
        }
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}

enum err store_read_backoff(struct store *store, struct mono after_due, int64_t after_seq,
                            uint32_t after_index, struct backoff_row *rows, size_t *count)
{
    sqlite3_stmt *stmt =
        BIND(store, STMT_READ_BACKOFF, after_due.ns, after_seq, after_index, (int64_t)*count);
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row && n < *count) {
        err = read_key(stmt, &rows[n].key);
        if (err != ERR_OK) {
            break;
        }
        rows[n++].due.ns = sqlite3_column_int64(stmt, 4);
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}

// ---- the status table ----

enum status ingestion_status(const struct ingestion_row *row)
{
    const uint32_t *progress = row->progress;
    if (progress[STATUS_COMPLETED] == row->batches) {
        return STATUS_COMPLETED;
    }
    if (progress[STATUS_YET_TO_START] == row->batches) {
        return STATUS_YET_TO_START;
    }
    if (progress[STATUS_YET_TO_START] + progress[STATUS_TRIGGERED] > 0) {
        return STATUS_TRIGGERED;
    }
    return progress[STATUS_CANCELLED] > 0 ? STATUS_CANCELLED : STATUS_FAILED;
}

enum err read_ingestion(sqlite3_stmt *stmt, struct ingestion_row *row)
{
    static const enum status stored[] = {STATUS_TRIGGERED, STATUS_COMPLETED, STATUS_FAILED, STATUS_CANCELLED};
    *row = (struct ingestion_row){
        .seq = sqlite3_column_int64(stmt, 0),
        .queue = sqlite3_column_int64(stmt, 2),
        .batch_size = column_u32(stmt, 4),
        .ids = column_u32(stmt, 5),
        .batches = column_u32(stmt, 6),
        .created.ms = sqlite3_column_int64(stmt, 7),
    };
    bool sound =
        column_id(stmt, 1, &row->id) && column_priority(stmt, 3, &row->priority) && row->batch_size > 0;
    uint64_t started = 0;
    for (int i = 0; i < (int)(sizeof stored / sizeof stored[0]); i++) {
        row->progress[stored[i]] = column_u32(stmt, 8 + i);
        started += row->progress[stored[i]];
    }
    if (!sound || started > row->batches) {
        return ERR_STORAGE_IO;
    }
    row->progress[STATUS_YET_TO_START] = row->batches - (uint32_t)started;
    return ERR_OK;
}

enum err store_find(struct store *store, const struct id *id, struct ingestion_row *row)
{
    sqlite3_stmt *stmt = store->statements[STMT_FIND_ID];
    sqlite3_bind_blob(stmt, 1, id->bytes, sizeof id->bytes, SQLITE_STATIC);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err != ERR_OK) {
        return err;
    }
    err = found ? read_ingestion(stmt, row) : ERR_NOT_FOUND;
    sqlite3_reset(stmt);
    return err;
}

static enum err read_batch(sqlite3_stmt *stmt, struct batch_row *row)
{
    int64_t state = sqlite3_column_int64(stmt, 1);
    if (state < BATCH_IN_FLIGHT || state > BATCH_CANCELLED) {
        return ERR_STORAGE_IO;
    }
    *row = (struct batch_row){
        .index = column_u32(stmt, 0),
        .state = (enum batch_state)state,
        .attempts = column_u32(stmt, 2),
        .triggered.ms = sqlite3_column_int64(stmt, 3),
        .completed.ms = sqlite3_column_int64(stmt, 4),
        .due.ns = sqlite3_column_int64(stmt, 5),
    };
    const unsigned char *error = sqlite3_column_text(stmt, 6);
    if (error != NULL) {
        row->error = strdup((const char *)error);
        return row->error != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    return ERR_OK;
}

enum err store_read_batches(struct store *store, int64_t seq, uint32_t first, uint32_t end,
                            struct batch_row **rows, size_t *count)
{
    sqlite3_stmt *stmt = BIND(store, STMT_READ_BATCHES, seq, first, end);
    void *array = NULL;
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row) {
        err = grow(&array, n, sizeof **rows);
        if (err == ERR_OK) {
            err = read_batch(stmt, (struct batch_row *)array + n);
        }
        if (err != ERR_OK) {
            break;
        }
        n++;
    }
    sqlite3_reset(stmt);
    if (err != ERR_OK) {
        store_free_batches(array, n);
        array = NULL;
        n = 0;
    }
    *rows = array;
    *count = n;
    return err;
}

void store_free_batches(struct batch_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(rows[i].error);
    }
    free(rows);
}

enum err store_read_ids(struct store *store, const struct ingestion_row *row, uint32_t from, uint32_t count,
                        struct buf *text)
{
    if (from >= row->ids || count == 0) {
        return ERR_OK;
    }
    uint32_t left = row->ids - from;
    return ids_read(store, row->seq, from, count < left ? count : left, text);
}

enum err store_read_span(struct store *store, const struct ingestion_row *row, bool *any, uint32_t *first,
                         uint32_t *last)
{
    sqlite3_stmt *stmt = BIND(store, STMT_SPAN, row->queue, row->priority, row->seq);
    bool found;
    enum err err = stmt_next(stmt, &found);
    *any = found && sqlite3_column_type(stmt, 0) != SQLITE_NULL;
    if (*any) {
        *first = column_u32(stmt, 0);
        *last = column_u32(stmt, 1) - 1;
    }
    sqlite3_reset(stmt);
    return err;
}

static bool matches(const struct list_request *filter, int64_t queue, const struct ingestion_row *row)
{
    return (queue == 0 || row->queue == queue) &&
           (!filter->has_priority || row->priority == filter->priority) &&
           (!filter->has_status || ingestion_status(row) == filter->status);
}

enum err store_list(struct store *store, const struct list_request *filter, int64_t queue, int64_t before,
                    struct ingestion_row *rows, size_t *count, int64_t *next)
{
    sqlite3_stmt *stmt = BIND(store, STMT_LIST, before);
    size_t n = 0;
    int64_t looked_at = before;
    *next = 0;
    enum err err;
    bool more;
    for (int looks = 0; (err = stmt_next(stmt, &more)) == ERR_OK && more; looks++) {
        if (looks == LIST_LOOKS_MAX || n == *count) {
            *next = looked_at;
            break;
        }
        struct ingestion_row row;
        err = read_ingestion(stmt, &row);
        if (err != ERR_OK) {
            break;
        }
        looked_at = row.seq;
        if (matches(filter, queue, &row)) {
            rows[n++] = row;
        }
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}
