// store_life.h - a short life of a store, to be disturbed: turns that do everything a turn may do, and what
// must be there of them afterwards.
#ifndef SLUICE_TESTS_UNIT_STORE_LIFE_H
#define SLUICE_TESTS_UNIT_STORE_LIFE_H

#include "tests/unit/store_fixture.h"

#include <limits.h>

#define STEPS 12
#define STEP_BATCHES 3

// A turn on queue 1: an ingestion comes in, its first batch is completed, its second cut off.
static inline enum err deliver(struct store *store, uint64_t id, uint32_t ids)
{
    struct ingest_request request = request_make(id, PRIORITY_MEDIUM, 1000, ids);
    struct insert insert = insert_make(&request, 1, (ids + STEP_BATCHES - 1) / STEP_BATCHES);
    struct dispatch_row out[2] = {{.ids = NULL}, {.ids = NULL}};
    enum err err = store_insert(store, &insert, 1);
    if (err == ERR_OK) {
        out[0].key = key_make(1, PRIORITY_MEDIUM, insert.seq, 0);
        out[1].key = key_make(1, PRIORITY_MEDIUM, insert.seq, 1);
        err = store_dispatch(store, out, 2);
    }
    if (err == ERR_OK) {
        struct finish_row rows[2] = {{.key = out[0].key, .state = BATCH_COMPLETED},
                                     {.key = out[1].key, .state = BATCH_WAITING, .error = "cut off"}};
        err = store_finish(store, rows, 2);
    }
    free(out[0].ids);
    free(out[1].ids);
    request_drop(&request);
    return err;
}

// An ingestion of four batches on queue 2 (moments in milliseconds after NOW; 0: none), of which the first
// `dispatched` are.
static inline enum err add_dispatched(struct store *store, uint64_t id, int64_t not_before, int64_t deadline,
                                      uint32_t dispatched, int64_t *seq)
{
    struct ingest_request request = request_make(id, PRIORITY_LOW, 1, 4);
    request.not_before.ms = not_before != 0 ? NOW.ms + not_before : 0;
    request.deadline.ms = deadline != 0 ? NOW.ms + deadline : 0;
    struct insert insert = insert_make(&request, 2, 1);
    enum err err = store_insert(store, &insert, 1);
    *seq = insert.seq;
    for (uint32_t i = 0; i < dispatched && err == ERR_OK; i++) {
        struct dispatch_row out = {.key = key_make(2, PRIORITY_LOW, *seq, i),
                                   .leased = i == 2,
                                   .lease = id_number(id),
                                   .lease_until = {5}};
        err = store_dispatch(store, &out, 1);
        free(out.ids);
    }
    request_drop(&request);
    return err;
}

// Its first batch fails and is retried by hand, its second is retried by itself, its third leased for longer.
static inline enum err retry_and_lease(struct store *store, uint64_t id)
{
    int64_t seq = 0;
    int64_t next;
    size_t count = 1;
    struct returned_row due;
    struct retried_row retried;
    bool more;
    enum err err = add_dispatched(store, id, 0, 1000000, 3, &seq);
    if (err == ERR_OK) {
        struct finish_row rows[2] = {
            {.key = key_make(2, PRIORITY_LOW, seq, 0), .state = BATCH_FAILED, .error = "broken"},
            {.key = key_make(2, PRIORITY_LOW, seq, 1), .state = BATCH_BACKOFF, .due = {7}}};
        err = store_finish(store, rows, 2);
    }
    if (err == ERR_OK) {
        err = store_take_due(store, 2, DUE_RETRY, (struct mono){7}, NOW, &due, &count, &next);
    }
    if (err == ERR_OK) {
        err = store_ask_retry(store, 2, seq, seq);
    }
    if (err == ERR_OK) {
        err = store_run_retries(store, &retried, &count, &more);
    }
    if (err == ERR_OK) {
        struct id lease = id_number(id);
        err = store_extend_lease(store, &lease, &(struct place){PRIORITY_LOW, seq, 2}, (struct mono){9});
    }
    return err;
}

// One that starts at its not_before, one that is cancelled and one that expires, both after a batch was
// dispatched.
static inline enum err start_and_end(struct store *store, uint64_t id)
{
    int64_t seq;
    int64_t next;
    size_t count = 1;
    struct returned_row due;
    struct removal removal;
    struct id cancelled = id_number(id + 1);
    enum err err = add_dispatched(store, id, 1, 0, 0, &seq);
    if (err == ERR_OK) {
        err = store_take_due(store, 2, DUE_START, (struct mono){0}, (struct wall){NOW.ms + 1}, &due, &count,
                             &next);
    }
    if (err == ERR_OK) {
        err = add_dispatched(store, id + 1, 0, 0, 1, &seq);
    }
    if (err == ERR_OK) {
        err = store_cancel(store, &cancelled, NOW, AGE, &removal);
    }
    if (err == ERR_OK) {
        err = add_dispatched(store, id + 2, 0, 2, 1, &seq);
    }
    if (err == ERR_OK) {
        count = 1;
        err = store_expire(store, 2, (struct wall){NOW.ms + 2}, AGE, &removal, &count, &next);
    }
    return err;
}

// One that ends, of four batches: completed and failed, and then it is removed some time.
static inline enum err add_ended(struct store *store, uint64_t id)
{
    int64_t seq;
    enum err err = add_dispatched(store, id, 0, 1000000, 4, &seq);
    for (uint32_t i = 0; i < 4 && err == ERR_OK; i++) {
        struct finish_row row = {.key = key_make(2, PRIORITY_LOW, seq, i),
                                 .state = i == 1 ? BATCH_FAILED : BATCH_COMPLETED,
                                 .age_ns = (int64_t)id};
        err = store_finish(store, &row, 1);
    }
    return err;
}

// One turn as the loop has them. Beside `id`, it takes five from OTHERS(id) on for queue 2.
#define OTHERS(id) (1000 + 10 * (id))
static inline enum err turn(struct store *store, uint64_t id, uint32_t ids)
{
    enum err err = store_begin(store);
    if (err == ERR_OK) {
        err = deliver(store, id, ids);
    }
    if (err == ERR_OK) {
        err = retry_and_lease(store, OTHERS(id));
    }
    if (err == ERR_OK) {
        err = start_and_end(store, OTHERS(id) + 1);
    }
    if (err == ERR_OK) {
        err = add_ended(store, OTHERS(id) + 4);
    }
    if (err == ERR_OK) {
        err = store_commit(store);
    }
    store_rollback(store);
    return err;
}

// A step of removing what has ended, of fewer rows than come with a turn.
static inline enum err remove_ended(struct store *store)
{
    struct removed removed;
    enum err err = store_begin_lazy(store);
    if (err == ERR_OK) {
        err = store_remove_old(store, INT64_MAX, 3, &removed);
    }
    if (err == ERR_OK) {
        err = store_commit(store);
    }
    store_rollback(store);
    return err;
}

// Every few turns the log is made to look full.
static inline enum err tend(struct store *store, uint64_t step)
{
    enum err err = remove_ended(store);
    if (err != ERR_OK) {
        return err;
    }
    if (step % 4 == 3) {
        store->wal_frames = INT_MAX;
    }
    return store_tend(store);
}

// The ingestions of a turn are there and whole; ERR_NOT_FOUND when the first is not there.
static inline enum err check_turn(struct store *store, uint64_t id, uint32_t ids)
{
    struct id key = id_number(id);
    struct ingestion_row row;
    enum err err = store_find(store, &key, &row);
    if (err != ERR_OK) {
        return err;
    }
    cr_assert_eq(row.progress[STATUS_YET_TO_START], 1);
    cr_assert_eq(row.progress[STATUS_TRIGGERED], 1);
    cr_assert_eq(row.progress[STATUS_COMPLETED], 1);
    struct buf text;
    buf_init(&text);
    OK(store_read_ids(store, &row, 0, ids, &text));
    char *want = id_list(1000, ids);
    cr_assert_str_eq(text.data, want);
    free(want);
    buf_fini(&text);
    bool any;
    uint32_t first;
    uint32_t last;
    OK(store_read_span(store, &row, &any, &first, &last));
    cr_assert(any && first == 1 && last == 2);
    expect_progress(store, OTHERS(id), STATUS_TRIGGERED, PROGRESS(2, 2));
    expect_progress(store, OTHERS(id) + 1, STATUS_YET_TO_START, PROGRESS(4));
    expect_progress(store, OTHERS(id) + 2, STATUS_TRIGGERED, PROGRESS(0, 1, 0, 0, 3));
    expect_progress(store, OTHERS(id) + 3, STATUS_TRIGGERED, PROGRESS(0, 1, 0, 0, 3));
    if (!is_gone(store, OTHERS(id) + 4)) {
        expect_progress(store, OTHERS(id) + 4, STATUS_FAILED, PROGRESS(0, 0, 3, 1));
    }
    return ERR_OK;
}

// How many turns up to `steps` are there; those in `acknowledged` must be.
static inline uint64_t check_all(struct store *store, const bool *acknowledged, uint64_t steps, uint32_t ids)
{
    uint64_t present = 0;
    for (uint64_t i = 0; i < steps; i++) {
        enum err err = check_turn(store, i, ids);
        cr_assert(err == ERR_OK || err == ERR_NOT_FOUND);
        cr_assert(err == ERR_OK || !acknowledged[i], "turn %llu is lost", (unsigned long long)i);
        present += err == ERR_OK;
    }
    expect_waiting(store, 1, 0, 2 * present, 0);
    expect_waiting(store, 2, 0, 0, 7 * present);
    struct in_flight_row *rows;
    size_t count;
    OK(store_load_in_flight(store, &rows, &count));
    cr_assert_eq(count, 3 * present);
    for (size_t i = 0; i < count; i++) { // the leased one, the cancelled one and the expired one of each turn
        cr_assert_eq(rows[i].leased, i % 3 == 0);
        cr_assert(!rows[i].leased || (rows[i].lease_until.ns == 9 && strcmp(rows[i].ids, "3") == 0));
        cr_assert_eq(rows[i].cancelled, i % 3 == 1);
    }
    store_free_in_flight(rows, count);
    expect_sound(store);
    return present;
}

#endif
