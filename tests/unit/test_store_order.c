// The waiting batches: their order, their runs and their counts, against a plain model of the same traffic.
#include "scheduler/store_sqlite.h"
#include "tests/unit/store_fixture.h"

#include <sys/stat.h>

// ---- a model ----

#define MODEL_INGESTIONS 240
#define MODEL_BATCHES 12
#define QUEUES 2

enum model_state { M_NEW, M_IN_FLIGHT, M_WAITING, M_BACKOFF, M_DONE };

struct model_ingestion {
    int64_t seq;
    int64_t queue;
    enum priority priority;
    uint32_t batches;
    enum model_state states[MODEL_BATCHES];
};

struct model {
    struct model_ingestion ingestions[MODEL_INGESTIONS];
    size_t count;
    uint64_t random;
};

static uint32_t draw(struct model *m, uint32_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((m->random >> 33) % below);
}

static bool waits(const struct model_ingestion *in, uint32_t index)
{
    return in->states[index] == M_NEW || in->states[index] == M_WAITING;
}

static uint64_t count_waiting(const struct model *m, int64_t queue, enum priority priority, int64_t seq,
                              uint32_t index)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_ingestion *in = &m->ingestions[i];
        for (uint32_t j = 0; j < in->batches && in->queue == queue && in->priority == priority; j++) {
            n += waits(in, j) && (in->seq < seq || (in->seq == seq && j < index));
        }
    }
    return n;
}

static void model_insert(struct model *m, struct store *store)
{
    if (m->count == MODEL_INGESTIONS) {
        return;
    }
    struct model_ingestion *in = &m->ingestions[m->count];
    in->queue = 1 + draw(m, QUEUES);
    in->priority = (enum priority)draw(m, PRIORITIES);
    in->batches = 1 + draw(m, MODEL_BATCHES);
    struct ingest_request request = request_make(m->count, in->priority, 1, in->batches * 2 - draw(m, 2));
    struct insert insert = insert_make(&request, in->queue, 2);
    OK(store_insert(store, &insert, 1));
    cr_assert_eq(insert.batches, in->batches);
    in->seq = insert.seq;
    m->count++;
    request_drop(&request);
}

// One step in the life of a batch that is drawn.
static void model_step(struct model *m, struct store *store)
{
    static const enum batch_state ends[] = {BATCH_COMPLETED, BATCH_FAILED, BATCH_BACKOFF, BATCH_WAITING};
    static const enum model_state after[] = {M_DONE, M_DONE, M_BACKOFF, M_WAITING};
    if (m->count == 0) {
        return;
    }
    struct model_ingestion *in = &m->ingestions[draw(m, (uint32_t)m->count)];
    uint32_t index = draw(m, in->batches);
    struct batch_key key = key_make(in->queue, in->priority, in->seq, index);
    switch (in->states[index]) {
    case M_NEW:
    case M_WAITING: {
        struct dispatch_row row = {.key = key};
        OK(store_dispatch(store, &row, 1));
        free(row.ids);
        in->states[index] = M_IN_FLIGHT;
        break;
    }
    case M_IN_FLIGHT: {
        uint32_t end = draw(m, 4);
        struct finish_row row = {.key = key, .state = ends[end], .due = {draw(m, 100)}};
        OK(store_finish(store, &row, 1));
        in->states[index] = after[end];
        break;
    }
    case M_BACKOFF:
        OK(store_promote(store, &key, 1));
        in->states[index] = M_WAITING;
        break;
    case M_DONE:
        break;
    }
}

// ---- comparisons ----

static void check_place(const struct model *m, struct store *store, int64_t queue, struct place place)
{
    uint64_t count;
    OK(store_count_before(store, queue, &place, &count));
    cr_assert_eq(count, count_waiting(m, queue, place.priority, place.seq, place.index), "seq %lld index %u",
                 (long long)place.seq, place.index);
}

static void check_counts(struct model *m, struct store *store)
{
    for (int64_t queue = 1; queue <= QUEUES; queue++) {
        uint64_t waiting[PRIORITIES];
        OK(store_load_waiting(store, queue, waiting));
        for (int p = 0; p < PRIORITIES; p++) {
            cr_assert_eq(waiting[p], count_waiting(m, queue, (enum priority)p, INT64_MAX, 0));
        }
    }
    for (int i = 0; i < 4 && m->count > 0; i++) {
        const struct model_ingestion *in = &m->ingestions[draw(m, (uint32_t)m->count)];
        check_place(m, store, in->queue,
                    (struct place){in->priority, in->seq + draw(m, 2), draw(m, in->batches + 1)});
    }
}

// Moves on to the next batch that waits, which may be this one.
static void next_waiting(const struct model *m, int64_t queue, enum priority priority, size_t *at,
                         uint32_t *index)
{
    for (;;) {
        cr_assert_lt(*at, m->count);
        const struct model_ingestion *in = &m->ingestions[*at];
        if (in->queue != queue || in->priority != priority || *index >= in->batches) {
            *at += 1;
            *index = 0;
        } else if (!waits(in, *index)) {
            *index += 1;
        } else {
            return;
        }
    }
}

// Reads everything that waits after one batch (from SIZE_MAX: everything), some runs at a time.
static void check_order(const struct model *m, struct store *store, int64_t queue, enum priority priority,
                        size_t from, uint32_t after, size_t page)
{
    bool all = from == SIZE_MAX;
    struct run runs[16];
    struct run last = {all ? -1 : m->ingestions[from].seq, 0, after + 1};
    size_t at = all ? 0 : from;
    uint32_t index = all ? 0 : after + 1;
    for (size_t count = page; count == page;) {
        OK(store_read_waiting(store, queue, priority, last.seq, last.end - 1, runs, &count));
        for (size_t i = 0; i < count; i++) {
            cr_assert_lt(runs[i].first, runs[i].end);
            for (uint32_t j = runs[i].first; j < runs[i].end; j++) {
                next_waiting(m, queue, priority, &at, &index);
                cr_assert_eq(runs[i].seq, m->ingestions[at].seq);
                cr_assert_eq(j, index);
                index++;
            }
            last = runs[i];
        }
    }
    cr_assert_eq(count_waiting(m, queue, priority, INT64_MAX, 0),
                 count_waiting(m, queue, priority, last.seq, last.end));
}

static void check_span(const struct model *m, struct store *store, size_t which)
{
    const struct model_ingestion *in = &m->ingestions[which];
    struct ingestion_row row;
    struct id id = id_number(which);
    bool any;
    uint32_t first;
    uint32_t last;
    OK(store_find(store, &id, &row));
    OK(store_read_span(store, &row, &any, &first, &last));
    uint64_t waiting = count_waiting(m, in->queue, in->priority, in->seq + 1, 0) -
                       count_waiting(m, in->queue, in->priority, in->seq, 0);
    cr_assert_eq(any, waiting > 0);
    if (any) {
        cr_assert(waits(in, first));
        cr_assert(waits(in, last));
        for (uint32_t i = 0; i < in->batches; i++) {
            cr_assert(!waits(in, i) || (i >= first && i <= last));
        }
    }
}

// ---- tests ----

// Gaps between sequence numbers bring blocks of all sizes into play.
static void skip_seqs(struct fixture *f, uint32_t by)
{
    char path[128];
    char sql[128];
    sqlite3 *db;
    store_close(f->store);
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, STORE_FILE);
    (void)snprintf(sql, sizeof sql, "UPDATE sqlite_sequence SET seq = seq + %u WHERE name = 'ingestion'", by);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    fixture_open(f);
}

static void run_model(uint64_t seed, uint32_t steps)
{
    struct fixture f;
    struct model *m = calloc(1, sizeof *m);
    cr_assert_not_null(m);
    m->random = seed;
    fixture_new(&f);
    for (uint32_t step = 0; step < steps; step++) {
        OK(store_begin(f.store));
        for (uint32_t i = draw(m, 8); i > 0; i--) {
            if (draw(m, 12) == 0) {
                model_insert(m, f.store);
            } else {
                model_step(m, f.store);
            }
        }
        check_counts(m, f.store); // inside the transaction
        OK(store_commit(f.store));
        check_counts(m, f.store);
        if (step % 16 == 0 && m->count > 0) {
            size_t which = draw(m, (uint32_t)m->count);
            const struct model_ingestion *in = &m->ingestions[which];
            check_order(m, f.store, 1 + draw(m, QUEUES), (enum priority)draw(m, PRIORITIES), SIZE_MAX, 0, 16);
            check_order(m, f.store, in->queue, in->priority, which, draw(m, in->batches), 1 + draw(m, 16));
            check_span(m, f.store, which);
        }
        if (step % 97 == 96) {
            static const uint32_t gaps[] = {0, 63, 4096, 262144, 300000};
            skip_seqs(&f, gaps[draw(m, 5)]);
        }
    }
    free(m);
    fixture_free(&f);
}

Test(store_order, agrees_with_the_model)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_model(seed, 1000);
    }
}

Test(store_order, one_transaction_may_touch_more_blocks_than_are_noted)
{
    struct fixture f;
    fixture_new(&f);
    enum { TOTAL = COUNT_DELTAS_MAX << COUNT_BITS, BLOCKS = COUNT_DELTAS_MAX / 2 };
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    OK(store_begin(f.store));
    for (uint64_t i = 0; i < TOTAL; i++) {
        request.id = id_number(i);
        request.priority = (enum priority)(i % PRIORITIES);
        struct insert insert = insert_make(&request, 1, 1);
        OK(store_insert(f.store, &insert, 1));
    }
    OK(store_commit(f.store));
    request_drop(&request);
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(f.store, 1, waiting));
    cr_assert_eq(waiting[0] + waiting[1] + waiting[2], TOTAL);
    struct place place = {PRIORITY_MEDIUM, TOTAL, 0};
    uint64_t count;
    OK(store_count_before(f.store, 1, &place, &count));
    cr_assert_eq(count, waiting[PRIORITY_MEDIUM] - (TOTAL % PRIORITIES == 2));
    fixture_free(&f);
}

Test(store_order, nothing_is_left_of_what_no_longer_waits)
{
    struct fixture f;
    fixture_new(&f);
    for (uint64_t i = 0; i < 70; i++) {
        int64_t seq = add(f.store, i, 1, PRIORITY_LOW, 2, 4);
        dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 1));
        dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 0));
    }
    static const char *const empty[] = {"SELECT 1 FROM waiting", "SELECT 1 FROM waiting_count"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        sqlite3_stmt *stmt;
        cr_assert_eq(sqlite3_prepare_v2(f.store->db, empty[i], -1, &stmt, NULL), SQLITE_OK);
        cr_assert_eq(sqlite3_step(stmt), SQLITE_DONE, "%s", empty[i]);
        sqlite3_finalize(stmt);
    }
    fixture_free(&f);
}

// ---- cost ----

static int vm_steps(struct store *store)
{
    int steps = 0;
    for (int i = 0; i < STATEMENTS; i++) {
        steps += sqlite3_stmt_status(store->statements[i], SQLITE_STMTSTATUS_VM_STEP, 1);
    }
    return steps;
}

// Steps of SQLite's machine for counting before the newest, with so many ingestions waiting.
static int cost_of_counting(struct store *store, uint64_t from, uint64_t to)
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
    struct place place = {PRIORITY_LOW, last, 0};
    uint64_t count;
    (void)vm_steps(store);
    OK(store_count_before(store, 1, &place, &count));
    cr_assert_eq(count, to - 1);
    return vm_steps(store);
}

Test(store_order, counting_costs_the_same_however_long_the_backlog)
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

Test(store_order, taking_the_first_of_a_large_ingestion_costs_the_same_as_of_a_small_one)
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

static off_t log_size(const struct fixture *f)
{
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/%s-wal", f->dir, STORE_FILE);
    cr_assert_eq(stat(path, &st), 0);
    return st.st_size;
}

Test(store_order, the_log_is_emptied_in_time)
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
Test(store_order, every_statement_has_an_index)
{
    static const enum statement whole[] = {STMT_LOAD_META, STMT_SAVE_META, STMT_LOAD_QUEUES, STMT_IN_FLIGHT};
    struct fixture f;
    fixture_new(&f);
    for (int i = STMT_LOAD_META; i < STATEMENTS; i++) {
        char sql[1024];
        sqlite3_stmt *plan;
        bool meant = false;
        for (size_t w = 0; w < sizeof whole / sizeof whole[0]; w++) {
            meant = meant || (int)whole[w] == i;
        }
        (void)snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", sqlite3_sql(f.store->statements[i]));
        cr_assert_eq(sqlite3_prepare_v2(f.store->db, sql, -1, &plan, NULL), SQLITE_OK);
        while (sqlite3_step(plan) == SQLITE_ROW) {
            const char *detail = (const char *)sqlite3_column_text(plan, 3);
            bool scan = strncmp(detail, "SCAN", 4) == 0 && strcmp(detail, "SCAN CONSTANT ROW") != 0;
            cr_assert(meant || (!scan && strstr(detail, "TEMP B-TREE") == NULL), "%s: %s", sql, detail);
        }
        sqlite3_finalize(plan);
    }
    fixture_free(&f);
}
