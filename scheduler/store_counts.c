// store_counts.c - how many batches wait, in sums over blocks of sequence numbers, so that counting what
// stands before a place costs the same however long the backlog is.
#include "scheduler/store_sqlite.h"

#define COUNT_LEVELS 3 // blocks of 64, 4,096 and 262,144 sequence numbers
_Static_assert(COUNT_LEVELS == 3 && COUNT_BITS == 6, "COUNT_BEFORE names them by number");

enum err counts_add(struct store *store, int64_t queue, enum priority priority, int64_t seq, int64_t n)
{
    int64_t block = seq >> COUNT_BITS;
    for (size_t i = store->delta_count; i > 0; i--) {
        struct count_delta *delta = &store->deltas[i - 1];
        if (delta->block == block && delta->queue == queue && delta->priority == priority) {
            delta->n += n;
            return ERR_OK;
        }
    }
    if (store->delta_count == COUNT_DELTAS_MAX) {
        enum err err = counts_flush(store);
        if (err != ERR_OK) {
            return err;
        }
    }
    store->deltas[store->delta_count++] = (struct count_delta){queue, priority, block, n};
    return ERR_OK;
}

static enum err write_delta(struct store *store, const struct count_delta *delta, int level)
{
    int64_t block = delta->block >> (level * COUNT_BITS);
    enum err err =
        stmt_run(BIND(store, STMT_ADD_COUNT, delta->queue, delta->priority, level, block, delta->n));
    if (err == ERR_OK && delta->n < 0) {
        err = stmt_run(BIND(store, STMT_DROP_COUNT, delta->queue, delta->priority, level, block));
    }
    return err;
}

enum err counts_flush(struct store *store)
{
    for (size_t i = 0; i < store->delta_count; i++) {
        for (int level = 0; level < COUNT_LEVELS && store->deltas[i].n != 0; level++) {
            enum err err = write_delta(store, &store->deltas[i], level);
            if (err != ERR_OK) {
                return err;
            }
        }
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
    enum err err = counts_flush(store);
    if (err == ERR_OK) {
        err = stmt_integer(BIND(store, STMT_COUNT_BEFORE, queue, place->priority, place->seq, place->index),
                           &n);
    }
    *count = err == ERR_OK ? (uint64_t)n : 0;
    return err;
}
