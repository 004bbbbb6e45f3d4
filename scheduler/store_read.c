// store_read.c - what start-up and the status table read.
#include "scheduler/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#define LIST_LOOKS_MAX 1000 // rows that one page of a list looks at

// ---- in flight ----

static enum err read_in_flight(struct store *store, sqlite3_stmt *stmt, struct in_flight_row *row)
{
    *row = (struct in_flight_row){
        .key.queue = sqlite3_column_int64(stmt, 0),
        .key.place.seq = sqlite3_column_int64(stmt, 2),
        .key.place.index = column_u32(stmt, 3),
        .attempt = column_u32(stmt, 4),
        .excused = column_u32(stmt, 5),
        .leased = sqlite3_column_type(stmt, 6) != SQLITE_NULL,
        .lease_until.ns = sqlite3_column_int64(stmt, 7),
        .cancelled = (sqlite3_column_int64(stmt, 9) & MARK_CANCELLED) != 0,
    };
    bool sound = column_priority(stmt, 1, &row->key.place.priority) && column_id(stmt, 8, &row->ingestion) &&
                 (!row->leased || column_id(stmt, 6, &row->lease));
    if (!sound || !row->leased) {
        return sound ? ERR_OK : ERR_STORAGE_IO;
    }
    column_trace(stmt, 13, &row->trace);
    return ids_of_batch(store, stmt, 12, &row->key.place, column_u32(stmt, 10), column_u32(stmt, 11),
                        &row->ids);
}

enum err store_load_in_flight(struct store *store, struct in_flight_row **rows, size_t *count)
{
    sqlite3_stmt *stmt = store->statements[STMT_IN_FLIGHT];
    void *array = NULL;
    size_t n = 0;
    enum err err;
    bool row;
    while ((err = stmt_next(stmt, &row)) == ERR_OK && row) {
        err = store_grow(&array, n, sizeof **rows);
        if (err == ERR_OK) {
            err = read_in_flight(store, stmt, (struct in_flight_row *)array + n);
        }
        if (err != ERR_OK) {
            break;
        }
        n++;
    }
    sqlite3_reset(stmt);
    if (err != ERR_OK) {
        store_free_in_flight(array, n);
        array = NULL;
        n = 0;
    }
    *rows = array;
    *count = n;
    return err;
}

void store_free_in_flight(struct in_flight_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(rows[i].ids);
    }
    free(rows);
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

// From a row of INGESTION_COLUMNS; ERR_STORAGE_IO when it makes no sense.
static enum err read_ingestion(sqlite3_stmt *stmt, struct ingestion *ingestion)
{
    static const enum status stored[] = {STATUS_TRIGGERED, STATUS_COMPLETED, STATUS_FAILED, STATUS_CANCELLED};
    struct ingestion_row *row = &ingestion->row;
    ingestion->marks = sqlite3_column_int64(stmt, 11);
    ingestion->waiting = column_u32(stmt, 12);
    *row = (struct ingestion_row){
        .seq = sqlite3_column_int64(stmt, 0),
        .queue = sqlite3_column_int64(stmt, 2),
        .batch_size = column_u32(stmt, 4),
        .ids = column_u32(stmt, 5),
        .batches = column_u32(stmt, 6),
        .created.ms = sqlite3_column_int64(stmt, 7),
        .accepted_ns = sqlite3_column_int64(stmt, 8),
        .not_before.ms = sqlite3_column_int64(stmt, 9),
        .deadline.ms = sqlite3_column_int64(stmt, 10),
        .scheduled = (ingestion->marks & MARK_SCHEDULED) != 0,
        .expired = (ingestion->marks & MARK_EXPIRED) != 0,
    };
    bool sound =
        column_id(stmt, 1, &row->id) && column_priority(stmt, 3, &row->priority) && row->batch_size > 0 &&
        (sqlite3_column_type(stmt, 17) == SQLITE_NULL || column_text(stmt, 17, row->owner, OWNER_SIZE));
    uint64_t started = 0;
    for (int i = 0; i < (int)(sizeof stored / sizeof stored[0]); i++) {
        row->progress[stored[i]] = column_u32(stmt, 13 + i);
        started += row->progress[stored[i]];
    }
    if (!sound || started > row->batches) {
        return ERR_STORAGE_IO;
    }
    row->progress[STATUS_YET_TO_START] = row->batches - (uint32_t)started;
    return ERR_OK;
}

enum err find_ingestion(sqlite3_stmt *stmt, bool *found, struct ingestion *ingestion)
{
    enum err err = stmt_next(stmt, found);
    if (*found) {
        err = read_ingestion(stmt, ingestion);
        sqlite3_reset(stmt);
    }
    return err;
}

enum err store_find(struct store *store, const struct id *id, struct ingestion_row *row)
{
    struct ingestion ingestion;
    bool found;
    sqlite3_stmt *stmt = store->statements[STMT_FIND_ID];
    bind_id(stmt, 1, id);
    enum err err = find_ingestion(stmt, &found, &ingestion);
    if (err == ERR_OK && !found) {
        return ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        *row = ingestion.row;
    }
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
        .interrupted = sqlite3_column_int64(stmt, 6) != 0,
    };
    if (row->state == BATCH_BACKOFF) {
        row->due.ns = sqlite3_column_int64(stmt, 5);
    }
    const unsigned char *error = sqlite3_column_text(stmt, 7);
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
        err = store_grow(&array, n, sizeof **rows);
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

// ---- when ingestions were accepted ----

// The newest one with a seq up to this; *seq is 0 when there is none.
static enum err newest(struct store *store, int64_t up_to, int64_t *seq, int64_t *accepted_ns,
                       struct wall *created)
{
    sqlite3_stmt *stmt = BIND(store, STMT_NEWEST, up_to);
    bool found;
    enum err err = stmt_next(stmt, &found);
    *seq = found ? sqlite3_column_int64(stmt, 0) : 0;
    *accepted_ns = found ? sqlite3_column_int64(stmt, 1) : 0;
    created->ms = found ? sqlite3_column_int64(stmt, 2) : 0;
    sqlite3_reset(stmt);
    return err;
}

enum err store_newest(struct store *store, bool *any, int64_t *accepted_ns, struct wall *created)
{
    int64_t seq;
    enum err err = newest(store, INT64_MAX, &seq, accepted_ns, created);
    *any = seq != 0;
    return err;
}

// By halves, since it grows with seq: that saves an index.
enum err store_seq_accepted_by(struct store *store, int64_t accepted_ns, int64_t *seq)
{
    int64_t low = 0;          // nothing up to here was accepted later
    int64_t high = INT64_MAX; // what comes behind here was
    enum err err = ERR_OK;
    *seq = 0;
    while (err == ERR_OK && low < high) {
        // The first look is at the newest of all.
        int64_t middle = high == INT64_MAX ? high : low + (high - low + 1) / 2;
        int64_t found;
        int64_t at_ns;
        struct wall created;
        err = newest(store, middle, &found, &at_ns, &created);
        if (err == ERR_OK && found > low && at_ns > accepted_ns) {
            high = found - 1;
        } else if (err == ERR_OK) {
            *seq = found > low ? found : *seq;
            low = middle;
        }
    }
    return err;
}

// ---- lists ----

static bool matches(const struct list_request *filter, const struct reach *reach,
                    const struct ingestion_row *row)
{
    return reach_has(reach, row->queue, row->owner) &&
           (!filter->has_priority || row->priority == filter->priority) &&
           (!filter->has_status || ingestion_status(row) == filter->status);
}

enum err store_list(struct store *store, const struct list_request *filter, const struct reach *reach,
                    int64_t before, struct ingestion_row *rows, size_t *count, int64_t *next)
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
        struct ingestion ingestion;
        err = read_ingestion(stmt, &ingestion);
        if (err != ERR_OK) {
            break;
        }
        looked_at = ingestion.row.seq;
        if (matches(filter, reach, &ingestion.row)) {
            rows[n++] = ingestion.row;
        }
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}
