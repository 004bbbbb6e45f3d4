// What the store's work costs: the same, however much waits or has been.
#include "tests/unit/store_fixture.h"

static int vm_steps(struct store *store)
{
    int steps = 0;
    for (int i = 0; i < STATEMENTS; i++) {
        steps += sqlite3_stmt_status(store->statements[i], SQLITE_STMTSTATUS_VM_STEP, 1);
    }
    return steps;
}

// So many ingestions of one batch; the seq of the last.
static int64_t fill(struct store *store, uint64_t from, uint64_t to)
{
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    int64_t last = 0;
    OK(store_begin(store));
    for (uint64_t i = from; i < to; i++) {
        request.id = id_number(i);
        struct insert insert = insert_make(&request, 1, 1);
        OK(store_insert(store, &insert, 1));
        last = insert.seq;
    }
    OK(store_commit(store));
    request_drop(&request);
    return last;
}

// Steps of SQLite's machine for counting before the newest, with so many ingestions waiting.
static int cost_of_counting(struct store *store, uint64_t from, uint64_t to)
{
    struct place place = {PRIORITY_LOW, fill(store, from, to), 0};
    uint64_t count;
    (void)vm_steps(store);
    OK(store_count_before(store, 1, &place, &count));
    cr_assert_eq(count, to - 1);
    return vm_steps(store);
}

Test(store_cost, counting_costs_the_same_however_long_the_backlog)
{
    struct fixture f;
    fixture_new(&f);
    // Each total lies in the last block of its kind, so that as many small blocks as can be are summed up.
    int few = cost_of_counting(f.store, 0, 4095);
    int many = cost_of_counting(f.store, 4095, 40959);
    cr_assert_leq(many, few + 9 * 20);
    cr_assert_leq(many, 4000);
    fixture_free(&f);
}

Test(store_cost, taking_the_first_of_a_large_ingestion_costs_the_same_as_of_a_small_one)
{
    struct fixture f;
    fixture_new(&f);
    int cost[2];
    for (int large = 0; large < 2; large++) {
        int64_t seq = add(f.store, (uint64_t)large, 1, PRIORITY_LOW, 1, large ? 50000 : 2);
        (void)vm_steps(f.store);
        dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 0));
        cost[large] = vm_steps(f.store);
    }
    cr_assert_leq(cost[1], cost[0] + 20);
    fixture_free(&f);
}

// One more entry goes in, and where the history is full the oldest goes.
Test(store_cost, a_dispatch_costs_the_same_however_long_the_history)
{
    struct fixture f;
    fixture_new(&f);
    int64_t seq = add(f.store, 0, 1, PRIORITY_LOW, 1, 30000);
    uint32_t next = 0;
    int cost[3];
    for (int i = 0; i < 3; i++) { // with a short history, a long one, and a full one
        OK(store_begin(f.store));
        for (; next < (uint32_t)i * 10000; next++) {
            struct dispatch_row row = {.key = key_make(1, PRIORITY_LOW, seq, next), .now = NOW};
            OK(store_dispatch(f.store, &row, 1));
            free(row.ids);
        }
        f.store->history_max = i == 2 ? (int64_t)next : HISTORY_MAX;
        OK(store_commit(f.store));
        (void)vm_steps(f.store);
        dispatch(f.store, key_make(1, PRIORITY_LOW, seq, next++));
        cost[i] = vm_steps(f.store);
    }
    cr_assert_eq(sql_integer(f.store->db, "SELECT min(id) FROM history"), 2);
    cr_assert_leq(cost[1], cost[0] + 10, "%d steps, then %d", cost[0], cost[1]);
    cr_assert_leq(cost[2], cost[0] + 60, "%d steps, then %d", cost[0], cost[2]);
    fixture_free(&f);
}

// Of cancelling the newest ingestion, which has three batches, with so many others waiting before it.
static int cost_of_cancelling(struct store *store, uint64_t from, uint64_t to, int *reads)
{
    (void)fill(store, from, to);
    int64_t seq = add_timed(store, to, 1, PRIORITY_LOW, 3, 0, 1000);
    dispatch_and_finish(
        store,
        (struct finish_row){.key = key_make(1, PRIORITY_LOW, seq, 0), .state = BATCH_BACKOFF, .due = {5}});
    int highest;
    (void)vm_steps(store);
    (void)sqlite3_db_status(store->db, SQLITE_DBSTATUS_CACHE_HIT, reads, &highest, 1);
    struct removal removal = cancel(store, to, 9, ERR_OK);
    (void)sqlite3_db_status(store->db, SQLITE_DBSTATUS_CACHE_HIT, reads, &highest, 1);
    cr_assert(removal.waiting == 2 && removal.delayed == 1);
    return vm_steps(store);
}

Test(store_cost, cancelling_costs_the_same_however_long_the_backlog)
{
    struct fixture f;
    int reads[2];
    fixture_new(&f);
    int few = cost_of_cancelling(f.store, 0, 10, &reads[0]);
    int many = cost_of_cancelling(f.store, 11, 40000, &reads[1]);
    cr_assert_leq(many, few + 20);
    cr_assert_leq(reads[1], reads[0] + 60, "%d pages, then %d", reads[0], reads[1]); // the trees are higher
    fixture_free(&f);
}

// Of one dispatch and one retry by itself, with so many batches in backoff, failed, scheduled and with
// deadlines.
static int cost_of_a_retry(struct store *store, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        int64_t seq = add_timed(store, i, 1, PRIORITY_LOW, 3, 0, 1000);
        (void)add_timed(store, 1000000 + i, 1, PRIORITY_LOW, 1, 1000, 0);
        for (uint32_t b = 0; b < 2; b++) {
            dispatch_and_finish(store, (struct finish_row){.key = key_make(1, PRIORITY_LOW, seq, b),
                                                           .state = b == 0 ? BATCH_BACKOFF : BATCH_FAILED,
                                                           .due = {1000}});
        }
    }
    struct returned_row row;
    struct retried_row retried;
    struct removal removal;
    size_t count = 1;
    bool more;
    (void)vm_steps(store);
    (void)take_due(store, 1, DUE_RETRY, 1000, &row, &count);
    (void)dispatch(store, key_make(1, PRIORITY_LOW, row.run.seq, row.run.first));
    finish(store, (struct finish_row){.key = key_make(1, PRIORITY_LOW, row.run.seq, row.run.first),
                                      .state = BATCH_BACKOFF,
                                      .due = {2000}});
    count = 1;
    (void)take_due(store, 1, DUE_START, 1000, &row, &count);
    count = 1;
    (void)expire(store, 1, 1000, &removal, &count);
    ask_retry(store, 1, 0, INT64_MAX);
    (void)run_retries(store, &retried, 1, &more);
    return vm_steps(store);
}

Test(store_cost, what_becomes_due_costs_the_same_however_much_is_not)
{
    struct fixture f;
    fixture_new(&f);
    int few = cost_of_a_retry(f.store, 0, 10);
    int many = cost_of_a_retry(f.store, 10, 500);
    cr_assert_leq(many, few + 60, "%d steps, then %d", few, many);
    fixture_free(&f);
}

// So many ingestions of so many batches, all completed.
static void fill_ended(struct store *store, uint64_t from, uint64_t to, uint32_t batches)
{
    for (uint64_t i = from; i < to; i++) {
        int64_t seq = add(store, i, 1, PRIORITY_LOW, 1, batches);
        OK(store_begin(store));
        for (uint32_t b = 0; b < batches; b++) {
            struct dispatch_row out = {.key = key_make(1, PRIORITY_LOW, seq, b), .now = NOW};
            OK(store_dispatch(store, &out, 1));
            free(out.ids);
            struct finish_row row = {.key = out.key, .state = BATCH_COMPLETED, .age_ns = (int64_t)i};
            OK(store_finish(store, &row, 1));
        }
        OK(store_commit(store));
    }
}

// Of ending a batch: the first of its ingestion's two, and the last.
static void cost_of_ending(struct store *store, uint64_t id, int cost[2])
{
    int64_t seq = add(store, id, 1, PRIORITY_LOW, 1, 2);
    for (uint32_t b = 0; b < 2; b++) {
        struct finish_row row = {
            .key = key_make(1, PRIORITY_LOW, seq, b), .state = BATCH_COMPLETED, .age_ns = (int64_t)id};
        (void)dispatch(store, row.key);
        (void)vm_steps(store);
        finish(store, row);
        cost[b] = vm_steps(store);
    }
}

Test(store_cost, ending_a_batch_costs_the_same_however_many_have_ended)
{
    struct fixture f;
    int few[2];
    int many[2];
    fixture_new(&f);
    cost_of_ending(f.store, 0, few);
    fill_ended(f.store, 1, 2000, 1);
    cost_of_ending(f.store, 2000, many);
    for (int last = 0; last < 2; last++) {
        cr_assert_leq(many[last], few[last] + 5, "%d steps, then %d", few[last], many[last]);
    }
    cr_assert_leq(few[1], few[0] + 10, "%d for the last, %d for another", few[1], few[0]);
    fixture_free(&f);
}

// Of the second of several steps that remove one ingestion.
static int cost_of_removing(struct store *store, uint64_t id, uint32_t batches)
{
    fill_ended(store, id, id + 1, batches);
    cr_assert_eq(remove_old(store, (int64_t)id, 32).next, INT64_MIN);
    (void)vm_steps(store);
    cr_assert_eq(remove_old(store, (int64_t)id, 32).rows, 32);
    int cost = vm_steps(store);
    while (remove_old(store, (int64_t)id, 1000).next == INT64_MIN) {
    }
    return cost;
}

Test(store_cost, a_step_of_removing_costs_the_same_however_large_the_ingestion_or_the_backlog)
{
    struct fixture f;
    fixture_new(&f);
    int few = cost_of_removing(f.store, 0, 100);
    int large = cost_of_removing(f.store, 1, 50000);
    fill_ended(f.store, 1000, 3000, 1);
    (void)fill(f.store, 3000, 8000);
    int many = cost_of_removing(f.store, 2, 100);
    cr_assert_leq(large, few + 20, "%d steps, then %d", few, large);
    cr_assert_leq(many, few + 20, "%d steps, then %d", few, many);
    cr_assert_leq(few, 32 * 20, "%d steps", few);
    (void)vm_steps(f.store);
    cr_assert_eq(remove_old(f.store, INT64_MAX, 32).ingestions, 16);
    int small = vm_steps(f.store);
    cr_assert_leq(small, 16 * 200, "%d steps", small);
    fixture_free(&f);
}

// When an ingestion was accepted is found by halves.
Test(store_cost, looking_for_a_moment_takes_few_steps)
{
    struct fixture f;
    fixture_new(&f);
    (void)fill(f.store, 0, 40000);
    int64_t seq;
    (void)vm_steps(f.store);
    OK(store_seq_accepted_by(f.store, -1, &seq));
    cr_assert_eq(seq, 0);
    cr_assert_leq(vm_steps(f.store), 20 * 30);
    fixture_free(&f);
}

Test(store_cost, the_log_is_emptied_in_time)
{
    struct fixture f;
    fixture_new(&f);
    add(f.store, 0, 1, PRIORITY_LOW, 3, 5);
    int few = f.store->wal_frames;
    OK(store_tend(f.store)); // not worth it yet
    cr_assert(few > 0 && f.store->wal_frames == few);
    for (uint64_t i = 1; i < 20; i++) {
        add(f.store, i, 1, PRIORITY_LOW, 1000, IDS_MAX);
    }
    OK(store_tend(f.store));
    cr_assert_eq(f.store->wal_frames, 0);
    off_t size = log_size(&f);
    add(f.store, 20, 1, PRIORITY_LOW, 3, 5);
    cr_assert_eq(log_size(&f), size); // from its start again

    off_t largest = 0;
    for (uint64_t i = 21; i < 200; i++) { // never tended
        add(f.store, i, 1, PRIORITY_LOW, 1000, IDS_MAX);
        largest = log_size(&f) > largest ? log_size(&f) : largest;
    }
    cr_assert(largest > 60 << 20 && largest < 70 << 20, "%lld", (long long)largest);
    fixture_free(&f);
}

// No statement reads a table from end to end or sorts, but those that are meant to.
Test(store_cost, every_statement_has_an_index)
{
    static const enum statement whole[] = {STMT_LOAD_META, STMT_SAVE_META, STMT_LOAD_QUEUES, STMT_IN_FLIGHT,
                                           STMT_REBASE_LEASES};
    struct fixture f;
    fixture_new(&f);
    for (int i = STMT_LOAD_META; i < STATEMENTS; i++) {
        char sql[4096];
        sqlite3_stmt *plan;
        bool meant = false;
        for (size_t w = 0; w < sizeof whole / sizeof whole[0]; w++) {
            meant = meant || (int)whole[w] == i;
        }
        (void)snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", sqlite3_sql(f.store->statements[i]));
        cr_assert_eq(sqlite3_prepare_v2(f.store->db, sql, -1, &plan, NULL), SQLITE_OK);
        while (sqlite3_step(plan) == SQLITE_ROW) {
            const char *detail = (const char *)sqlite3_column_text(plan, 3);
            // Constants are no table; `blocks` is the name that COUNT_BEFORE gives to its own.
            bool scan = strncmp(detail, "SCAN", 4) == 0 && strstr(detail, " CONSTANT ROW") == NULL &&
                        strcmp(detail, "SCAN blocks") != 0;
            cr_assert(meant || (!scan && strstr(detail, "TEMP B-TREE") == NULL), "%s: %s", sql, detail);
        }
        sqlite3_finalize(plan);
    }
    fixture_free(&f);
}
