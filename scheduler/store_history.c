// store_history.c - what was dispatched when, and what was in force then: see store_schema.c. It is written
// with what it tells of, in the same transaction, and read by sluice-verify alone.
#include "scheduler/store_sqlite.h"

enum err history_last(struct store *store, int64_t *last)
{
    enum err err =
        store->last_entry < 0 ? stmt_integer(store->statements[STMT_LAST_ENTRY], &store->last_entry) : ERR_OK;
    *last = store->last_entry;
    return err;
}

// Its number is the next one, which becomes the last.
static enum err insert_entry(struct store *store, int64_t queue, const struct place *place, uint32_t attempt,
                             struct mono at, int64_t since, int64_t ended)
{
    int64_t last;
    enum err err = history_last(store, &last);
    if (err == ERR_OK) {
        err = stmt_run(BIND(store, STMT_INSERT_ENTRY, last + 1, queue, place->priority, place->seq,
                            place->index, attempt, at.ns, since, ended));
    }
    if (err == ERR_OK) {
        store->last_entry = last + 1;
    }
    return err;
}

enum err history_add(struct store *store, const struct dispatch_row *row, int64_t since, int64_t ended)
{
    return insert_entry(store, row->key.queue, &row->key.place, row->attempt, row->at, since, ended);
}

enum err history_shorten(struct store *store)
{
    int64_t last;
    enum err err = history_last(store, &last);
    if (err != ERR_OK || last <= store->history_max) {
        return err;
    }
    err = stmt_run(BIND(store, STMT_DELETE_ENTRIES, last - store->history_max));
    return err == ERR_OK ? stmt_run(BIND(store, STMT_DELETE_CHANGES, last - store->history_max)) : err;
}

enum err store_note_change(struct store *store, int64_t queue, enum change_kind kind, struct mono now)
{
    enum err err = insert_entry(store, queue, &(struct place){.seq = 0}, 0, now, 0, 0);
    if (err == ERR_OK) {
        err = stmt_run_one(BIND(store, STMT_INSERT_CHANGE, store->last_entry, queue, kind));
    }
    if (err == ERR_OK) {
        err = history_shorten(store);
    }
    return store_written(store, err);
}
