// store_write.c - ingestions as they come in, and their batches on the way to a final state.
#include "scheduler/store_sqlite.h"

#include <assert.h>
#include <stdlib.h>

// ---- ingestions ----

static void bind_text_or_null(sqlite3_stmt *stmt, int parameter, const char *text)
{
    if (text != NULL) {
        sqlite3_bind_text(stmt, parameter, text, -1, SQLITE_STATIC);
    } else {
        sqlite3_bind_null(stmt, parameter);
    }
}

// One row of INGESTION_COLUMNS, or none.
static enum err find_ingestion(sqlite3_stmt *stmt, bool *found, struct ingestion_row *row)
{
    enum err err = stmt_next(stmt, found);
    if (*found) {
        err = read_ingestion(stmt, row);
        sqlite3_reset(stmt);
    }
    return err;
}

// What is there under the ID or else under the key, and the result if it says something else.
static enum err find_earlier(struct store *store, const struct ingest_request *request, bool *found,
                             struct ingestion_row *row, enum insert_result *reused)
{
    sqlite3_stmt *stmt = store->statements[STMT_FIND_ID];
    sqlite3_bind_blob(stmt, 1, request->id.bytes, sizeof request->id.bytes, SQLITE_STATIC);
    *reused = INSERT_ID_REUSED;
    enum err err = find_ingestion(stmt, found, row);
    if (err == ERR_OK && !*found && request->idempotency_key != NULL) {
        stmt = store->statements[STMT_FIND_KEY];
        sqlite3_bind_text(stmt, 1, request->idempotency_key, -1, SQLITE_STATIC);
        *reused = INSERT_KEY_REUSED;
        err = find_ingestion(stmt, found, row);
    }
    return err;
}

// For what is not inserted: the result that says why.
static enum err compare(struct store *store, struct insert *insert)
{
    const struct ingest_request *request = insert->request;
    struct ingestion_row row;
    bool found;
    enum err err = find_earlier(store, request, &found, &row, &insert->result);
    if (err != ERR_OK) {
        return err;
    }
    if (!found) {
        insert->result = INSERT_NO_ROOM;
        // Otherwise the indexes disagree: something was in the way of the insertion.
        return insert->only_replay ? ERR_OK : ERR_STORAGE_IO;
    }
    bool same =
        row.queue == insert->queue && row.priority == request->priority && row.ids == request->ids.count;
    if (same) {
        err = ids_same(store, row.seq, &request->ids, &same);
    }
    if (err == ERR_OK && same) {
        insert->result = INSERT_REPLAYED;
        insert->ingestion = row.id;
    }
    return err;
}

static enum err insert_run(struct store *store, int64_t queue, enum priority priority, const struct run *run)
{
    enum err err = stmt_run(BIND(store, STMT_INSERT_RUN, queue, priority, run->seq, run->first, run->end));
    if (err == ERR_OK) {
        err = counts_add(store, queue, priority, run->seq, (int64_t)run->end - run->first);
    }
    return err;
}

// Leaves everything as it is when the ID or the key is taken.
static enum err insert_ingestion(struct store *store, struct insert *insert, bool *made)
{
    const struct ingest_request *request = insert->request;
    uint32_t batches = (request->ids.count + insert->batch_size - 1) / insert->batch_size;
    sqlite3_stmt *stmt = BIND(store, STMT_INSERT_INGESTION, insert->queue, request->priority,
                              insert->batch_size, request->ids.count, batches, insert->now.ms);
    sqlite3_bind_blob(stmt, 7, request->id.bytes, sizeof request->id.bytes, SQLITE_STATIC);
    bind_text_or_null(stmt, 8, request->idempotency_key);
    enum err err = stmt_run(stmt);
    *made = err == ERR_OK && sqlite3_changes(store->db) == 1;
    if (!*made) {
        return err;
    }
    insert->result = INSERT_NEW;
    insert->seq = sqlite3_last_insert_rowid(store->db);
    insert->batches = batches;
    insert->ingestion = request->id;
    err = ids_write(store, insert->seq, &request->ids);
    if (err == ERR_OK) {
        struct run run = {insert->seq, 0, batches};
        err = insert_run(store, insert->queue, request->priority, &run);
    }
    return err;
}

// Taken for new until an index finds the ID or the key: that saves two look-ups for each ingestion.
static enum err insert_one(struct store *store, struct insert *insert)
{
    bool made = false;
    enum err err = insert->only_replay ? ERR_OK : insert_ingestion(store, insert, &made);
    return err == ERR_OK && !made ? compare(store, insert) : err;
}

enum err store_insert(struct store *store, struct insert *inserts, size_t count)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = insert_one(store, &inserts[i]);
    }
    return store_written(store, err);
}

// ---- batches ----

// Takes one batch out of the run it waits in.
static enum err take_waiting(struct store *store, const struct batch_key *key)
{
    const struct place *place = &key->place;
    sqlite3_stmt *stmt = BIND(store, STMT_FIND_RUN, key->queue, place->priority, place->seq, place->index);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err != ERR_OK) {
        return err;
    }
    struct run run = {place->seq, found ? column_u32(stmt, 0) : 0, found ? column_u32(stmt, 1) : 0};
    sqlite3_reset(stmt);
    if (!found || run.first > place->index) {
        return ERR_STORAGE_IO; // it does not wait
    }
    if (place->index + 1 < run.end) {
        stmt = BIND(store, STMT_SHORTEN_RUN, key->queue, place->priority, place->seq, run.end,
                    (int64_t)place->index + 1);
    } else {
        stmt = BIND(store, STMT_DELETE_RUN, key->queue, place->priority, place->seq, run.end);
    }
    err = stmt_run_one(stmt);
    if (err == ERR_OK && run.first < place->index) {
        err = stmt_run(
            BIND(store, STMT_INSERT_RUN, key->queue, place->priority, place->seq, run.first, place->index));
    }
    return err != ERR_OK ? err : counts_add(store, key->queue, place->priority, place->seq, -1);
}

// Puts a batch that was dispatched before back to its place.
static enum err return_waiting(struct store *store, const struct batch_key *key)
{
    const struct place *place = &key->place;
    enum err err = stmt_run_one(BIND(store, STMT_COUNT_RETURN, place->seq));
    if (err == ERR_OK) {
        struct run run = {place->seq, place->index, place->index + 1};
        err = insert_run(store, key->queue, place->priority, &run);
    }
    return err;
}

static enum err start_batch(struct store *store, struct dispatch_row *row)
{
    const struct place *place = &row->key.place;
    sqlite3_stmt *stmt = BIND(store, STMT_START_BATCH, place->seq, place->index, row->now.ms);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err != ERR_OK || !found) {
        return err != ERR_OK ? err : ERR_STORAGE_IO;
    }
    row->attempt = column_u32(stmt, 0);
    row->excused = column_u32(stmt, 1);
    return stmt_run(stmt);
}

static enum err read_batch_ids(struct store *store, struct dispatch_row *row, uint32_t batch_size,
                               uint32_t ids)
{
    uint64_t from = (uint64_t)row->key.place.index * batch_size;
    if (batch_size == 0 || from >= ids) {
        return ERR_STORAGE_IO;
    }
    uint32_t left = ids - (uint32_t)from;
    struct buf text;
    buf_init(&text);
    enum err err =
        ids_read(store, row->key.place.seq, (uint32_t)from, left < batch_size ? left : batch_size, &text);
    if (err == ERR_OK) {
        row->ids = buf_take(&text, NULL);
    }
    buf_fini(&text);
    return err;
}

static enum err dispatch_one(struct store *store, struct dispatch_row *row)
{
    const struct place *place = &row->key.place;
    enum err err = take_waiting(store, &row->key);
    if (err == ERR_OK) {
        err = start_batch(store, row);
    }
    if (err != ERR_OK) {
        return err;
    }
    sqlite3_stmt *stmt = BIND(store, STMT_COUNT_DISPATCH, place->seq, row->attempt == 1);
    bool found;
    err = stmt_next(stmt, &found);
    if (err != ERR_OK || !found) {
        return err != ERR_OK ? err : ERR_STORAGE_IO;
    }
    bool sound = column_id(stmt, 0, &row->ingestion);
    uint32_t batch_size = column_u32(stmt, 1);
    uint32_t ids = column_u32(stmt, 2);
    err = stmt_run(stmt);
    if (err == ERR_OK) {
        err = sound ? read_batch_ids(store, row, batch_size, ids) : ERR_STORAGE_IO;
    }
    return err;
}

enum err store_dispatch(struct store *store, struct dispatch_row *rows, size_t count)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count; i++) {
        rows[i].ids = NULL;
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = dispatch_one(store, &rows[i]);
    }
    for (size_t i = 0; i < count && err != ERR_OK; i++) {
        free(rows[i].ids);
        rows[i].ids = NULL;
    }
    return store_written(store, err);
}

static enum err finish_one(struct store *store, const struct finish_row *row)
{
    const struct place *place = &row->key.place;
    bool final = row->state == BATCH_COMPLETED || row->state == BATCH_FAILED;
    bool backoff = row->state == BATCH_BACKOFF;
    assert(final || backoff || row->state == BATCH_WAITING);
    sqlite3_stmt *stmt = BIND(store, STMT_FINISH_BATCH, place->seq, place->index, row->state, row->excused,
                              final ? row->now.ms : 0, row->due.ns);
    if (!backoff) {
        sqlite3_bind_null(stmt, 6);
    }
    bind_text_or_null(stmt, 7, row->error != NULL && row->error[0] != '\0' ? row->error : NULL);
    enum err err = stmt_run_one(stmt);
    if (err == ERR_OK && final) {
        err = stmt_run_one(BIND(store, STMT_COUNT_FINISH, place->seq, row->state == BATCH_COMPLETED,
                                row->state == BATCH_FAILED));
    } else if (err == ERR_OK && !backoff) {
        err = return_waiting(store, &row->key);
    }
    return err;
}

enum err store_finish(struct store *store, const struct finish_row *rows, size_t count)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = finish_one(store, &rows[i]);
    }
    return store_written(store, err);
}

enum err store_promote(struct store *store, const struct batch_key *keys, size_t count)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = stmt_run_one(BIND(store, STMT_PROMOTE_BATCH, keys[i].place.seq, keys[i].place.index));
        if (err == ERR_OK) {
            err = return_waiting(store, &keys[i]);
        }
    }
    return store_written(store, err);
}

// In steps, so that a large schedule does not have to be in memory at once.
enum err store_rebase_backoff(struct store *store, struct mono now)
{
    enum err err;
    do {
        err = stmt_run(BIND(store, STMT_REBASE_BACKOFF, now.ns));
    } while (err == ERR_OK && sqlite3_changes(store->db) > 0);
    return store_written(store, err);
}
