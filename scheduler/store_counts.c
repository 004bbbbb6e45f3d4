// store_counts.c - how many batches wait, in sums over blocks of sequence numbers, so that counting what
// stands before a place costs the same however long the backlog is.
#include "scheduler/store_sqlite.h"

#define COUNT_LEVELS 5 // blocks of 16, 256, 4,096, 65,536 and 1,048,576 sequence numbers
_Static_assert(COUNT_LEVELS == 5 && COUNT_BITS == 4, "COUNT_BEFORE names them by number");

// Adds to what is noted; false when it is of another block and there is no room.
static bool note(struct store *store, const struct count_delta *added)
{
    for (size_t i = store->delta_count; i > 0; i--) {
        struct count_delta *delta = &store->deltas[i - 1];
        if (delta->block == added->block && delta->queue == added->queue &&
            delta->priority == added->priority) {
            delta->n += added->n;
            return true;
        }
    }
    if (store->delta_count == COUNT_DELTAS_MAX) {
        return false;
    }
    store->deltas[store->delta_count++] = *added;
    return true;
}

enum err counts_add(struct store *store, int64_t queue, enum priority priority, int64_t seq, int64_t n)
{
    const struct count_delta delta = {queue, priority, seq >> COUNT_BITS, n};
    if (note(store, &delta)) {
        return ERR_OK;
    }
    enum err err = counts_flush(store);
    return err == ERR_OK && !note(store, &delta) ? ERR_INTERNAL : err;
}

static enum err write_delta(struct store *store, const struct count_delta *delta, int level)
{
    enum err err =
        stmt_run(BIND(store, STMT_ADD_COUNT, delta->queue, delta->priority, level, delta->block, delta->n));
    if (err == ERR_OK && delta->n < 0) {
        err = stmt_run(BIND(store, STMT_DROP_COUNT, delta->queue, delta->priority, level, delta->block));
    }
    return err;
}

// What was noted of blocks becomes what there is to note of the larger ones they lie in.
static void to_next_level(struct store *store)
{
    size_t count = store->delta_count;
    store->delta_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct count_delta delta = store->deltas[i];
        delta.block >>= COUNT_BITS;
        (void)note(store, &delta); // there is room: no more of them than there were
    }
}

enum err counts_flush(struct store *store)
{
    for (int level = 0; level < COUNT_LEVELS; level++) {
        for (size_t i = 0; i < store->delta_count; i++) {
            enum err err = store->deltas[i].n != 0 ? write_delta(store, &store->deltas[i], level) : ERR_OK;
            if (err != ERR_OK) {
                return err;
            }
        }
        to_next_level(store);
    }
    store->delta_count = 0;
    return ERR_OK;
}

enum err store_load_waiting(struct store *store, int64_t queue, uint64_t waiting[PRIORITIES])
{
    enum err err = counts_flush(store);
    for (int priority = 0; err == ERR_OK && priority < PRIORITIES; priority++) {
        int64_t n;
        err = stmt_integer(BIND(store, STMT_SUM_BLOCKS, queue, priority, COUNT_LEVELS - 1, 0, INT64_MAX), &n);
        waiting[priority] = err == ERR_OK ? (uint64_t)n : 0;
    }
    return err;
}

enum err store_count_before(struct store *store, int64_t queue, const struct place *place, uint64_t *count)
{
    int64_t n = 0;
    int64_t own = 0;
    enum err err = counts_flush(store);
    if (err == ERR_OK) {
        err = stmt_integer(BIND(store, STMT_COUNT_BEFORE, queue, place->priority, place->seq), &n);
    }
    if (err == ERR_OK && place->index > 0) {
        err = stmt_integer(
            BIND(store, STMT_COUNT_OWN_BEFORE, queue, place->priority, place->seq, place->index), &own);
    }
    *count = err == ERR_OK ? (uint64_t)(n + own) : 0;
    return err;
}
