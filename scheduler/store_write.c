// store_write.c - ingestions as they come in, and their batches on the way to a final state.
#include "scheduler/store_sqlite.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// ---- ingestions ----

static const char *owner_of(const struct insert *insert)
{
    return insert->owner != NULL ? insert->owner : "";
}

// What is there under the ID or else under the owner's key, and the result if it says something else.
static enum err find_earlier(struct store *store, const struct insert *insert, bool *found,
                             struct ingestion *ingestion, enum insert_result *reused)
{
    const struct ingest_request *request = insert->request;
    sqlite3_stmt *stmt = store->statements[STMT_FIND_ID];
    bind_id(stmt, 1, &request->id);
    *reused = INSERT_ID_REUSED;
    enum err err = find_ingestion(stmt, found, ingestion);
    if (err == ERR_OK && !*found && request->idempotency_key != NULL) {
        stmt = store->statements[STMT_FIND_KEY];
        sqlite3_bind_text(stmt, 1, request->idempotency_key, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, owner_of(insert), -1, SQLITE_STATIC);
        *reused = INSERT_KEY_REUSED;
        err = find_ingestion(stmt, found, ingestion);
    }
    return err;
}

// Whether an earlier ingestion is on the queue of a request: the one there is, or one of its name that was
// deleted.
static enum err same_queue(struct store *store, int64_t earlier, const struct insert *insert, bool *same)
{
    char name[QUEUE_NAME_SIZE];
    *same = earlier == insert->queue;
    if (*same) {
        return ERR_OK;
    }
    enum err err = store_queue_name(store, earlier, name);
    *same = err == ERR_OK && strcmp(name, insert->request->queue) == 0;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err same_content(struct store *store, const struct ingestion_row *row,
                             const struct insert *insert, bool *same)
{
    const struct ingest_request *request = insert->request;
    *same = row->priority == request->priority && row->ids == request->ids.count &&
            row->not_before.ms == request->not_before.ms && row->deadline.ms == request->deadline.ms &&
            strcmp(row->owner, owner_of(insert)) == 0;
    enum err err = *same ? same_queue(store, row->queue, insert, same) : ERR_OK;
    return err == ERR_OK && *same ? ids_same(store, row->seq, &request->ids, same) : err;
}

// For what is not inserted: the result that says why.
static enum err compare(struct store *store, struct insert *insert)
{
    struct ingestion earlier;
    bool found;
    enum err err = find_earlier(store, insert, &found, &earlier, &insert->result);
    if (err != ERR_OK) {
        return err;
    }
    if (!found) {
        insert->result = INSERT_NO_ROOM;
        // Otherwise the indexes disagree: something was in the way of the insertion.
        return insert->only_replay ? ERR_OK : ERR_STORAGE_IO;
    }
    bool same;
    err = same_content(store, &earlier.row, insert, &same);
    if (err == ERR_OK && same) {
        insert->result = INSERT_REPLAYED;
        insert->ingestion = earlier.row.id;
    }
    return err;
}

// Puts a new ingestion among the waiting, or into the index by not_before.
static enum err place_ingestion(struct store *store, const struct insert *insert, bool scheduled)
{
    const struct ingest_request *request = insert->request;
    enum err err;
    if (scheduled) {
        err =
            stmt_run(BIND(store, STMT_INSERT_SCHEDULED, insert->queue, request->not_before.ms, insert->seq));
    } else {
        err = counts_add(store, insert->queue, request->priority, insert->seq, insert->batches);
    }
    if (err == ERR_OK && request->deadline.ms != 0) {
        err = stmt_run(BIND(store, STMT_INSERT_DEADLINE, insert->queue, request->deadline.ms, insert->seq));
    }
    return err;
}

static void bind_given(sqlite3_stmt *stmt, int parameter, const char *text)
{
    bind_text_or_null(stmt, parameter, text[0] != '\0' ? text : NULL);
}

// Leaves everything as it is when the ID or the key is taken.
static enum err insert_ingestion(struct store *store, struct insert *insert, bool *made)
{
    const struct ingest_request *request = insert->request;
    uint32_t batches = (request->ids.count + insert->batch_size - 1) / insert->batch_size;
    bool scheduled = request->not_before.ms > insert->now.ms;
    int64_t since;
    enum err err = history_last(store, &since);
    if (err != ERR_OK) {
        return err;
    }
    sqlite3_stmt *stmt =
        BIND(store, STMT_INSERT_INGESTION, insert->queue, request->priority, insert->batch_size,
             request->ids.count, batches, insert->now.ms, insert->accepted_ns, request->not_before.ms,
             request->deadline.ms, scheduled ? 0 : batches, scheduled ? MARK_SCHEDULED : 0, since);
    bool in_row = ids_short(&request->ids);
    if (scheduled) {
        sqlite3_bind_null(stmt, 13);
    } else {
        sqlite3_bind_int64(stmt, 13, 1);
    }
    bind_id(stmt, 14, &request->id);
    bind_text_or_null(stmt, 15, request->idempotency_key);
    if (in_row) {
        sqlite3_bind_text(stmt, 16, request->ids.text, (int)request->ids.len, SQLITE_STATIC);
    } else {
        sqlite3_bind_null(stmt, 16);
    }
    bind_given(stmt, 17, insert->trace != NULL ? insert->trace->request_id : "");
    bind_given(stmt, 18, insert->trace != NULL ? insert->trace->traceparent : "");
    bind_given(stmt, 19, owner_of(insert));
    err = stmt_run(stmt);
    *made = err == ERR_OK && sqlite3_changes(store->db) == 1;
    if (!*made) {
        return err;
    }
    insert->result = INSERT_NEW;
    insert->seq = sqlite3_last_insert_rowid(store->db);
    insert->batches = batches;
    insert->ingestion = request->id;
    err = in_row ? ERR_OK : ids_write(store, insert->seq, &request->ids);
    return err == ERR_OK ? place_ingestion(store, insert, scheduled) : err;
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

// An ingestion, as far as starting one of its batches needs it.
struct start {
    bool fresh; // the run that never started, next to end, waits
    uint32_t next;
    uint32_t end;
    int64_t since; // its batches waited from then on, those apart that have a row
    int64_t ended; // the batch's previous attempt; 0: there was none
};

static enum err read_to_start(struct store *store, struct dispatch_row *row, struct start *start)
{
    const struct place *place = &row->key.place;
    sqlite3_stmt *stmt = BIND(store, STMT_READ_TO_START, place->seq);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err != ERR_OK || !found) {
        return err != ERR_OK ? err : ERR_STORAGE_IO;
    }
    *start = (struct start){
        .next = column_u32(stmt, 3),
        .end = column_u32(stmt, 4),
        .fresh = sqlite3_column_int64(stmt, 5) != 0,
        .since = sqlite3_column_int64(stmt, 6),
    };
    err = column_id(stmt, 0, &row->ingestion)
              ? ids_of_batch(store, stmt, 7, place, column_u32(stmt, 1), column_u32(stmt, 2), &row->ids)
              : ERR_STORAGE_IO;
    column_trace(stmt, 8, &row->trace);
    sqlite3_reset(stmt);
    return err;
}

static enum err write_start(struct store *store, enum statement which, const struct dispatch_row *row)
{
    const struct place *place = &row->key.place;
    sqlite3_stmt *stmt =
        BIND(store, which, place->seq, place->index, row->key.queue, row->now.ms, row->lease_until.ns);
    if (row->leased) {
        bind_id(stmt, 6, &row->lease);
    } else {
        sqlite3_bind_null(stmt, 5);
        sqlite3_bind_null(stmt, 6);
    }
    return stmt_run_one(stmt);
}

// What there is of the batch before this attempt.
static enum err read_attempts(struct store *store, struct dispatch_row *row, struct start *start)
{
    sqlite3_stmt *stmt = BIND(store, STMT_READ_ATTEMPTS, row->key.place.seq, row->key.place.index);
    bool found;
    enum err err = stmt_next(stmt, &found);
    row->attempt = 1;
    row->excused = 0;
    if (found) {
        row->attempt = column_u32(stmt, 0) + 1;
        row->excused = column_u32(stmt, 1);
        start->since = sqlite3_column_int64(stmt, 2);
        start->ended = sqlite3_column_int64(stmt, 3);
    }
    sqlite3_reset(stmt);
    return err;
}

// The usual case: no batch of the run has a row yet.
static enum err start_fresh(struct store *store, struct dispatch_row *row, const struct start *start)
{
    enum err err = waiting_take_fresh(store, &row->key, start->next, start->end);
    row->attempt = 1;
    row->excused = 0;
    return err == ERR_OK ? write_start(store, STMT_START_BATCH, row) : err;
}

static enum err start_waiting(struct store *store, struct dispatch_row *row, struct start *start)
{
    enum err err = waiting_take(store, &row->key);
    if (err == ERR_OK) {
        err = read_attempts(store, row, start);
    }
    if (err == ERR_OK) {
        err = write_start(store, STMT_START_AGAIN, row);
    }
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_COUNT_DISPATCH, row->key.place.seq, row->attempt == 1));
    }
    return err;
}

static enum err dispatch_one(struct store *store, struct dispatch_row *row)
{
    struct start start;
    enum err err = read_to_start(store, row, &start);
    if (err != ERR_OK) {
        return err;
    }
    bool fresh = start.fresh && row->key.place.index >= start.next;
    err = fresh ? start_fresh(store, row, &start) : start_waiting(store, row, &start);
    return err == ERR_OK ? history_add(store, row, start.since, start.ended) : err;
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
    if (err == ERR_OK) {
        err = history_shorten(store);
    }
    for (size_t i = 0; i < count && err != ERR_OK; i++) {
        free(rows[i].ids);
        rows[i].ids = NULL;
    }
    return store_written(store, err);
}

static bool is_final(enum batch_state state)
{
    switch (state) {
    case BATCH_COMPLETED:
    case BATCH_FAILED:
    case BATCH_CANCELLED:
        return true;
    case BATCH_IN_FLIGHT:
    case BATCH_WAITING:
    case BATCH_BACKOFF:
        return false;
    }
    return false;
}

static enum err finish_one(struct store *store, const struct finish_row *row)
{
    const struct place *place = &row->key.place;
    int64_t ended;
    assert(row->state != BATCH_IN_FLIGHT);
    enum err err = history_last(store, &ended);
    if (err != ERR_OK) {
        return err;
    }
    sqlite3_stmt *stmt = BIND(store, STMT_FINISH_BATCH, place->seq, place->index, row->state, row->excused,
                              row->interrupted, is_final(row->state) ? row->now.ms : 0, row->due.ns, ended);
    if (row->state != BATCH_BACKOFF) {
        sqlite3_bind_null(stmt, 7);
    }
    bind_text_or_null(stmt, 9, row->error != NULL && row->error[0] != '\0' ? row->error : NULL);
    err = stmt_run_one(stmt);
    if (err == ERR_OK && is_final(row->state)) {
        err = stmt_run_one(BIND(store, STMT_COUNT_FINISH, place->seq, row->state == BATCH_COMPLETED,
                                row->state == BATCH_FAILED, row->state == BATCH_CANCELLED, row->age_ns));
    } else if (err == ERR_OK && row->state == BATCH_WAITING) {
        err = waiting_return(store, &row->key);
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

enum err store_extend_lease(struct store *store, const struct id *lease, const struct place *place,
                            struct mono until)
{
    sqlite3_stmt *stmt = BIND(store, STMT_EXTEND_LEASE, place->seq, place->index, until.ns);
    bind_id(stmt, 4, lease);
    return store_written(store, stmt_run_one(stmt));
}
