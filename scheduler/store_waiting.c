// store_waiting.c - the batches that wait, as runs of consecutive ones. The run that never started is in its
// ingestion's own row (next_idx to batch_count, while `fresh`); each other run is a row of `waiting`, and its
// batches are all alike: none of them has a row yet, or all have one with attempts 0 (a retry by hand), or it
// is a single one that was dispatched before.
#include "scheduler/store_sqlite.h"

enum err waiting_add(struct store *store, int64_t queue, enum priority priority, const struct run *run)
{
    enum err err = stmt_run(BIND(store, STMT_INSERT_RUN, queue, priority, run->seq, run->first, run->end));
    if (err == ERR_OK) {
        err = counts_add(store, queue, priority, run->seq, (int64_t)run->end - run->first);
    }
    return err;
}

enum err waiting_take(struct store *store, const struct batch_key *key)
{
    const struct place *place = &key->place;
    sqlite3_stmt *stmt = BIND(store, STMT_FIND_RUN, key->queue, place->priority, place->seq, place->index);
    bool found;
    enum err err = stmt_next(stmt, &found);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t first = found ? column_u32(stmt, 0) : 0;
    uint32_t end = found ? column_u32(stmt, 1) : 0;
    sqlite3_reset(stmt);
    if (!found || first > place->index) {
        return ERR_STORAGE_IO; // it does not wait
    }
    if (place->index + 1 < end) {
        stmt = BIND(store, STMT_SHORTEN_RUN, key->queue, place->priority, place->seq, end,
                    (int64_t)place->index + 1);
    } else {
        stmt = BIND(store, STMT_DELETE_RUN, key->queue, place->priority, place->seq, end);
    }
    err = stmt_run_one(stmt);
    if (err == ERR_OK && first < place->index) {
        err = stmt_run(
            BIND(store, STMT_INSERT_RUN, key->queue, place->priority, place->seq, first, place->index));
    }
    return err != ERR_OK ? err : counts_add(store, key->queue, place->priority, place->seq, -1);
}

enum err waiting_take_fresh(struct store *store, const struct batch_key *key, uint32_t next, uint32_t end)
{
    const struct place *place = &key->place;
    enum err err = ERR_OK;
    if (next < place->index) { // what is passed over goes on waiting
        err = stmt_run(
            BIND(store, STMT_INSERT_RUN, key->queue, place->priority, place->seq, next, place->index));
    }
    if (err == ERR_OK) {
        bool last = place->index + 1 == end;
        err = stmt_run_one(
            BIND(store, last ? STMT_TAKE_LAST_FRESH : STMT_TAKE_FRESH, place->seq, place->index));
    }
    return err != ERR_OK ? err : counts_add(store, key->queue, place->priority, place->seq, -1);
}

enum err waiting_return(struct store *store, const struct batch_key *key)
{
    const struct place *place = &key->place;
    enum err err = stmt_run_one(BIND(store, STMT_COUNT_RETURN, place->seq));
    if (err == ERR_OK) {
        struct run run = {.seq = place->seq, .first = place->index, .end = place->index + 1};
        err = waiting_add(store, key->queue, place->priority, &run);
    }
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
        *run = (struct run){
            .seq = sqlite3_column_int64(stmt, 0),
            .first = column_u32(stmt, 1),
            .end = column_u32(stmt, 2),
            .accepted_ns = sqlite3_column_int64(stmt, 3),
        };
        if (run->seq == after_seq && run->first < past) {
            run->first = past;
        }
    }
    sqlite3_reset(stmt);
    *count = err == ERR_OK ? n : 0;
    return err;
}

enum err store_read_span(struct store *store, const struct ingestion_row *row, bool *any, uint32_t *first,
                         uint32_t *last)
{
    sqlite3_stmt *stmt = BIND(store, STMT_SPAN, row->seq);
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
