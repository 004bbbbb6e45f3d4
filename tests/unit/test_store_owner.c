// Whose ingestions are: a name that comes back, keys that are each owner's own, and lists of some of them.
#include "tests/unit/store_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LONGEST "a234567890123456789012345678901234567890123456789012345678901234"

// One in a transaction of its own; owner and key may be NULL.
static struct insert put(struct store *store, uint64_t id, const char *owner, const char *key,
                         enum priority priority)
{
    struct ingest_request request = request_make(id, priority, 1, 3);
    request.idempotency_key = key != NULL ? strdup(key) : NULL;
    struct insert insert = insert_make(&request, 1, 3);
    insert.owner = owner;
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    OK(store_commit(store));
    free(request.idempotency_key);
    request_drop(&request);
    insert.request = NULL;
    return insert;
}

static void expect_put(struct store *store, uint64_t id, const char *owner, const char *key,
                       enum insert_result result, uint64_t answer)
{
    struct insert insert = put(store, id, owner, key, PRIORITY_LOW);
    struct id want = id_number(answer);
    cr_assert_eq(insert.result, result, "%s's %s: %d", owner, key, (int)insert.result);
    cr_assert(answer == 0 || id_equal(&insert.ingestion, &want), "%s's %s", owner, key);
}

// ---- its name ----

Test(store_owner, the_name_comes_back)
{
    static const char *const owners[] = {NULL, "ann", LONGEST, "0", "a.b_c-d"};
    struct fixture f;
    fixture_new(&f);
    for (size_t i = 0; i < COUNT(owners); i++) {
        expect_put(f.store, i, owners[i], NULL, INSERT_NEW, i);
    }
    fixture_reopen(&f);
    for (size_t i = 0; i < COUNT(owners); i++) {
        cr_assert_str_eq(find(f.store, i).owner, owners[i] != NULL ? owners[i] : "");
    }
    cr_assert_eq(sql_integer(f.store->db, "SELECT count(*) FROM ingestion WHERE owner IS NULL"), 1);
    expect_sound(f.store);
    fixture_free(&f);
}

// What no request could have brought is damage.
Test(store_owner, a_name_that_is_too_long_is_damage)
{
    struct fixture f;
    struct id id = id_number(1);
    struct ingestion_row row;
    fixture_new(&f);
    expect_put(f.store, 1, "ann", NULL, INSERT_NEW, 1);
    cr_assert_eq(sqlite3_exec(f.store->db, "UPDATE ingestion SET owner = '" LONGEST "5'", NULL, NULL, NULL),
                 SQLITE_OK);
    cr_assert_eq(store_find(f.store, &id, &row), ERR_STORAGE_IO);
    fixture_free(&f);
}

// ---- repeats ----

Test(store_owner, a_key_is_one_of_its_owner)
{
    struct fixture f;
    fixture_new(&f);
    for (int opened = 0; opened < 2; opened++) {
        enum insert_result first = opened == 0 ? INSERT_NEW : INSERT_REPLAYED;
        expect_put(f.store, 1, "ann", "k", first, 1);
        expect_put(f.store, 2, "bob", "k", first, 2);
        expect_put(f.store, 3, NULL, "k", first, 3);
        expect_put(f.store, 4, "ann", "k2", first, 4);
        fixture_reopen(&f);
    }
    expect_put(f.store, 11, "ann", "k", INSERT_REPLAYED, 1);
    expect_put(f.store, 11, "bob", "k", INSERT_REPLAYED, 2);
    expect_put(f.store, 11, NULL, "k", INSERT_REPLAYED, 3);
    // With other content it is each owner's to refuse.
    cr_assert_eq(put(f.store, 11, "bob", "k", PRIORITY_HIGH).result, INSERT_KEY_REUSED);
    cr_assert_eq(put(f.store, 11, NULL, "k", PRIORITY_HIGH).result, INSERT_KEY_REUSED);
    cr_assert_eq(put(f.store, 11, NULL, "k2", PRIORITY_HIGH).result, INSERT_NEW);
    cr_assert_eq(put(f.store, 12, "bob", "k2", PRIORITY_HIGH).result, INSERT_NEW);
    cr_assert_eq(sql_integer(f.store->db, "SELECT count(*) FROM ingestion"), 6);
    fixture_free(&f);
}

Test(store_owner, an_id_of_another_owner_is_reused)
{
    static const char *const owners[] = {"ann", "bob", NULL};
    struct fixture f;
    fixture_new(&f);
    for (size_t i = 0; i < COUNT(owners); i++) {
        expect_put(f.store, i, owners[i], "k", INSERT_NEW, i);
        for (size_t other = 0; other < COUNT(owners); other++) {
            enum insert_result want = other == i ? INSERT_REPLAYED : INSERT_ID_REUSED;
            expect_put(f.store, i, owners[other], NULL, want, other == i ? i : 0);
            expect_put(f.store, i, owners[other], "k", want, other == i ? i : 0);
        }
    }
    cr_assert_eq(sql_integer(f.store->db, "SELECT count(*) FROM ingestion"), COUNT(owners));
    fixture_free(&f);
}

// In one array, where the later find the earlier, and where nothing new is to be made.
Test(store_owner, several_at_once)
{
    static const struct {
        uint64_t id;
        const char *owner;
        bool only_replay;
        enum insert_result result;
        uint64_t answer;
    } cases[] = {{1, "ann", false, INSERT_NEW, 1},     {2, "bob", true, INSERT_NO_ROOM, 0},
                 {2, "bob", false, INSERT_NEW, 2},     {3, "ann", true, INSERT_REPLAYED, 1},
                 {3, NULL, true, INSERT_NO_ROOM, 0},   {2, NULL, true, INSERT_ID_REUSED, 0},
                 {3, "bob", false, INSERT_REPLAYED, 2}};
    struct ingest_request requests[COUNT(cases)];
    struct insert inserts[COUNT(cases)];
    char key[] = "k";
    struct fixture f;
    fixture_new(&f);
    for (size_t i = 0; i < COUNT(cases); i++) {
        requests[i] = request_make(cases[i].id, PRIORITY_LOW, 1, 3);
        requests[i].idempotency_key = key;
        inserts[i] = insert_make(&requests[i], 1, 3);
        inserts[i].owner = cases[i].owner;
        inserts[i].only_replay = cases[i].only_replay;
    }
    OK(store_begin(f.store));
    OK(store_insert(f.store, inserts, COUNT(cases)));
    OK(store_commit(f.store));
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct id answer = id_number(cases[i].answer);
        cr_assert_eq(inserts[i].result, cases[i].result, "case %zu: %d", i, (int)inserts[i].result);
        cr_assert(cases[i].answer == 0 || id_equal(&inserts[i].ingestion, &answer), "case %zu", i);
        request_drop(&requests[i]);
    }
    fixture_free(&f);
}

// ---- removal ----

Test(store_owner, a_removal_frees_the_key_for_its_owner_alone)
{
    static const char *const owners[] = {"ann", "bob", "eve"}; // eve's is the newest, and leaves a stub
    struct fixture f;
    fixture_new(&f);
    for (size_t i = 0; i < COUNT(owners); i++) {
        expect_put(f.store, i, owners[i], "k", INSERT_NEW, i);
    }
    for (uint64_t i = 0; i < COUNT(owners); i += 2) {
        dispatch_and_finish(f.store,
                            (struct finish_row){.key = key_make(1, PRIORITY_LOW, find(f.store, i).seq, 0),
                                                .state = BATCH_COMPLETED,
                                                .age_ns = 5});
    }
    cr_assert_eq(remove_old(f.store, 5, 100).ingestions, 2);
    cr_assert_eq(sql_integer(f.store->db, "SELECT count(*) FROM ingestion WHERE id = x'' AND owner IS NULL"),
                 1);
    expect_sound(f.store);
    expect_put(f.store, 11, "bob", "k", INSERT_REPLAYED, 1);
    expect_put(f.store, 11, "ann", "k", INSERT_NEW, 11);
    expect_put(f.store, 12, "eve", "k", INSERT_NEW, 12);
    expect_sound(f.store);
    fixture_free(&f);
}

// ---- lists ----

enum { TOTAL = 3500 }; // more than a page looks at

// Of three owners and nobody, on two queues; few of "eve".
static const char *owner_of(uint64_t i)
{
    static const char *const owners[] = {NULL, "ann", "bob"};
    return i % 1700 == 100 ? "eve" : owners[i % 3];
}

static void fill(struct store *store)
{
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    OK(store_begin(store));
    for (uint64_t i = 0; i < TOTAL; i++) {
        request.id = id_number(i);
        request.priority = i % 5 == 0 ? PRIORITY_HIGH : PRIORITY_LOW;
        struct insert insert = insert_make(&request, 1 + (int64_t)(i % 2), 3);
        insert.owner = owner_of(i);
        OK(store_insert(store, &insert, 1));
    }
    OK(store_commit(store));
    request_drop(&request);
}

// All that is in reach, newest first, page by page, against what was put in.
static void expect_list(struct store *store, const struct list_request *filter, const struct reach *reach,
                        size_t page, size_t calls_max)
{
    static struct ingestion_row rows[1000];
    int64_t before = INT64_MAX;
    uint64_t next = TOTAL;
    size_t calls = 0;
    do {
        size_t count = page;
        OK(store_list(store, filter, reach, before, rows, &count, &before));
        for (size_t i = 0; i < count; i++) {
            do {
                next--;
            } while (
                !reach_has(reach, 1 + (int64_t)(next % 2), owner_of(next) != NULL ? owner_of(next) : "") ||
                (filter->has_priority && (next % 5 == 0) != (filter->priority == PRIORITY_HIGH)));
            struct id id = id_number(next);
            cr_assert(id_equal(&rows[i].id, &id), "not %llu", (unsigned long long)next);
            cr_assert_str_eq(rows[i].owner, owner_of(next) != NULL ? owner_of(next) : "");
        }
        calls++;
    } while (before != 0);
    while (next > 0) {
        next--;
        cr_assert(!reach_has(reach, 1 + (int64_t)(next % 2), owner_of(next) != NULL ? owner_of(next) : "") ||
                      (filter->has_priority && (next % 5 == 0) != (filter->priority == PRIORITY_HIGH)),
                  "%llu is left out", (unsigned long long)next);
    }
    cr_assert_leq(calls, calls_max, "%zu pages", calls);
}

Test(store_owner, lists_are_of_what_is_in_reach)
{
    static const struct list_request all = {0}, high = {.has_priority = true, .priority = PRIORITY_HIGH};
    const struct reach reaches[] = {
        {.owner = "ann", .all_queues = true},
        {.owner = "eve", .all_queues = true},
        {.owner = "nemo", .all_queues = true},
        {.owner = "", .all_queues = true},
        {.owner = "", .queue_count = 1, .queues = {2}},
        {.owner = "bob", .queue_count = 2, .queues = {9, 1}},
        {.owner = "eve", .queue_count = 3, .queues = {2, 1, 2}},
        {.owner = "ann", .queue_count = 1, .queues = {9}},
        {.owner = "ann"},
    };
    struct fixture f;
    fixture_new(&f);
    fill(f.store);
    for (size_t i = 0; i < COUNT(reaches); i++) {
        expect_list(f.store, &all, &reaches[i], 50, TOTAL / 50 + 4);
        expect_list(f.store, &all, &reaches[i], 1000, 4);
        expect_list(f.store, &high, &reaches[i], 7, TOTAL / 35 + 4);
    }
    expect_list(f.store, &all, NULL, 1000, 4);
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

Test(store_owner, an_ingest_costs_the_same_with_an_owner)
{
    static const struct {
        const char *owner, *key;
    } kinds[] = {{NULL, NULL}, {"ann", NULL}, {NULL, "k"}, {"ann", "k"}};
    int cost[COUNT(kinds)];
    struct fixture f;
    fixture_new(&f);
    for (uint64_t i = 0; i < 16; i++) {
        (void)put(f.store, i, "bob", NULL, PRIORITY_LOW);
    }
    for (size_t i = 0; i < COUNT(kinds); i++) {
        (void)vm_steps(f.store);
        cr_assert_eq(put(f.store, 16 + i, kinds[i].owner, kinds[i].key, PRIORITY_LOW).result, INSERT_NEW);
        cost[i] = vm_steps(f.store);
    }
    cr_assert_leq(cost[1], cost[0] + 2, "%d steps, then %d", cost[0], cost[1]);
    cr_assert_leq(cost[3], cost[2] + 5, "%d steps, then %d", cost[2], cost[3]);
    cr_assert_leq(cost[2], cost[0] + 20, "%d steps, then %d", cost[0], cost[2]);
    fixture_free(&f);
}

// A key is found by all of the index, however many owners have the same.
Test(store_owner, a_key_is_looked_up_in_its_index)
{
    char sql[1024];
    sqlite3_stmt *plan;
    struct fixture f;
    fixture_new(&f);
    (void)snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", sqlite3_sql(f.store->statements[STMT_FIND_KEY]));
    cr_assert_eq(sqlite3_prepare_v2(f.store->db, sql, -1, &plan, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(plan), SQLITE_ROW);
    cr_assert_str_eq((const char *)sqlite3_column_text(plan, 3),
                     "SEARCH ingestion USING INDEX ingestion_key (idempotency_key=? AND <expr>=?)");
    sqlite3_finalize(plan);
    fixture_free(&f);
}
