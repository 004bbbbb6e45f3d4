// Ingestions as they come in: what goes in comes out again, once, also after closing and opening.
#include "tests/unit/store_fixture.h"

Test(store_ingest, ingestion_comes_back)
{
    struct fixture f;
    fixture_new(&f);
    struct ingest_request request = request_make(1, PRIORITY_LOW, 1, 5);
    struct insert insert = insert_make(&request, 4, 3);
    insert.accepted_ns = 7 * NS_PER_S;
    OK(store_begin(f.store));
    OK(store_insert(f.store, &insert, 1));
    OK(store_commit(f.store));
    request_drop(&request);
    int64_t seq = insert.seq;
    cr_assert_gt(add(f.store, 2, 4, PRIORITY_LOW, 3, 5), seq);
    fixture_reopen(&f);

    struct ingestion_row row = find(f.store, 1);
    struct id id = id_number(1);
    cr_assert(id_equal(&row.id, &id));
    cr_assert_eq(row.seq, seq);
    cr_assert_eq(row.queue, 4);
    cr_assert_eq(row.priority, PRIORITY_LOW);
    cr_assert_eq(row.batch_size, 3);
    cr_assert_eq(row.ids, 5);
    cr_assert_eq(row.batches, 2);
    cr_assert_eq(row.created.ms, NOW.ms);
    cr_assert_eq(row.accepted_ns, 7 * NS_PER_S);
    cr_assert(row.not_before.ms == 0 && row.deadline.ms == 0 && !row.scheduled && !row.expired);
    cr_assert_eq(row.progress[STATUS_YET_TO_START], 2);
    cr_assert_eq(ingestion_status(&row), STATUS_YET_TO_START);
    id = id_number(3);
    cr_assert_eq(store_find(f.store, &id, &row), ERR_NOT_FOUND);
    fixture_free(&f);
}

Test(store_ingest, repeats_and_reuse)
{
    struct fixture f;
    fixture_new(&f);
    char key_a[] = "a";
    char key_b[] = "b";
    // Inserted in one array that is rolled back, then each in a transaction of its own: the results are the
    // same.
    const struct {
        uint64_t id;
        char *key;
        int64_t queue;
        enum priority priority;
        uint64_t first;
        uint32_t count;
        uint32_t batch_size;
        bool only_replay;
        enum insert_result result;
        uint64_t answer;
    } cases[] = {
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, true, INSERT_NO_ROOM, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_NEW, 1},
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_REPLAYED, 1},
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 2, false, INSERT_REPLAYED, 1}, // a queue's setting, no content
        {1, NULL, 1, PRIORITY_LOW, 1, 5, 3, true, INSERT_REPLAYED, 1},
        {1, NULL, 2, PRIORITY_LOW, 1, 5, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_HIGH, 1, 5, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 2, 5, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 4, 3, false, INSERT_ID_REUSED, 0},
        {1, NULL, 1, PRIORITY_LOW, 1, 4, 3, true, INSERT_ID_REUSED, 0},
        {2, key_a, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_NEW, 2},
        {3, key_a, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_REPLAYED, 2},
        {3, key_a, 1, PRIORITY_LOW, 1, 5, 3, true, INSERT_REPLAYED, 2},
        {3, key_a, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_KEY_REUSED, 0},
        {3, key_a, 1, PRIORITY_HIGH, 1, 5, 3, true, INSERT_KEY_REUSED, 0},
        {1, key_a, 1, PRIORITY_LOW, 1, 5, 3, false, INSERT_REPLAYED, 1}, // the ID counts before the key
        {1, key_b, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_ID_REUSED, 0},
        {4, key_b, 1, PRIORITY_LOW, 1, 6, 3, true, INSERT_NO_ROOM, 0},
        {4, key_b, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_NEW, 4}, // the refused one has not taken the key
        {5, NULL, 1, PRIORITY_LOW, 1, 6, 3, false, INSERT_NEW, 5},  // no key twice is no repeat
        {6, NULL, 2, PRIORITY_LOW, 1000, 2, 3, false, INSERT_NEW, 6},
        {6, NULL, 2, PRIORITY_LOW, 1, 2, 3, false, INSERT_ID_REUSED, 0}, // as many, but a shorter text
        {6, NULL, 2, PRIORITY_LOW, 10000, 2, 3, false, INSERT_ID_REUSED, 0},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct ingest_request requests[CASES];
    struct insert inserts[CASES];
    for (size_t i = 0; i < CASES; i++) {
        requests[i] = request_make(cases[i].id, cases[i].priority, cases[i].first, cases[i].count);
        requests[i].idempotency_key = cases[i].key;
        inserts[i] = insert_make(&requests[i], cases[i].queue, cases[i].batch_size);
        inserts[i].only_replay = cases[i].only_replay;
    }
    OK(store_begin(f.store));
    OK(store_insert(f.store, inserts, CASES));
    store_rollback(f.store);
    for (size_t i = 0; i < 2 * CASES; i++) {
        size_t c = i % CASES;
        if (i >= CASES) {
            OK(store_begin(f.store));
            OK(store_insert(f.store, &inserts[c], 1));
            OK(store_commit(f.store));
        }
        cr_assert_eq(inserts[c].result, cases[c].result, "case %zu", i);
        struct id answer = id_number(cases[c].answer);
        cr_assert(cases[c].answer == 0 || id_equal(&inserts[c].ingestion, &answer), "case %zu", i);
    }
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(f.store, 1, waiting));
    cr_assert_eq(waiting[PRIORITY_LOW], 8);
    for (size_t i = 0; i < CASES; i++) {
        request_drop(&requests[i]);
    }
    fixture_free(&f);
}

Test(store_ingest, repeats_of_many_chunks_are_compared_to_the_end)
{
    struct fixture f;
    fixture_new(&f);
    struct ingest_request request = request_make(1, PRIORITY_LOW, 10000, 5000);
    struct insert insert = insert_make(&request, 1, 3);
    OK(store_begin(f.store));
    OK(store_insert(f.store, &insert, 1));
    OK(store_insert(f.store, &insert, 1));
    cr_assert_eq(insert.result, INSERT_REPLAYED);
    static const size_t places[] = {0, 6 * 1023, 6 * 2500, 6 * 5000 - 2};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char kept = request.ids.text[places[i]];
        request.ids.text[places[i]] = kept == '1' ? '2' : '1';
        OK(store_insert(f.store, &insert, 1));
        cr_assert_eq(insert.result, INSERT_ID_REUSED, "place %zu", places[i]);
        request.ids.text[places[i]] = kept;
    }
    OK(store_commit(f.store));
    request_drop(&request);
    fixture_free(&f);
}

// What a batch gives and what a page gives, against the text that went in.
static void check_ids(struct store *store, const struct ingest_request *request, uint32_t batch_size)
{
    struct insert insert = insert_make(request, 1, batch_size);
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    OK(store_commit(store));
    struct ingestion_row row;
    OK(store_find(store, &request->id, &row));
    cr_assert_eq(row.batches, (request->ids.count + batch_size - 1) / batch_size);

    struct buf text;
    buf_init(&text);
    OK(store_read_ids(store, &row, 0, UINT32_MAX, &text)); // all of it
    cr_assert_str_eq(text.data, request->ids.text);

    size_t width = request->ids.len / request->ids.count + 1; // all IDs here are equally long
    cr_assert_eq((request->ids.len + 1) % width, 0);
    static const uint32_t pages[][2] = {{0, 1},      {1, 1},    {1023, 2},     {1020, 5000},
                                        {4999, 2},   {5000, 1}, {99999, 1},    {99999, 7},
                                        {100000, 1}, {17, 0},   {50000, 10000}};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        uint32_t from = pages[i][0];
        uint32_t n = from >= row.ids ? 0 : row.ids - from < pages[i][1] ? row.ids - from : pages[i][1];
        buf_reset(&text);
        OK(store_read_ids(store, &row, from, pages[i][1], &text));
        cr_assert_eq(text.len, n == 0 ? 0 : n * width - 1, "page %zu", i);
        cr_assert(n == 0 || memcmp(text.data, request->ids.text + from * width, text.len) == 0, "page %zu",
                  i);
    }
    buf_fini(&text);

    OK(store_begin(store));
    for (uint32_t index = 0; index < row.batches; index += index % 7 == 0 ? 1 : row.batches / 50 + 1) {
        struct dispatch_row out = {.key = key_make(1, request->priority, row.seq, index), .now = NOW};
        OK(store_dispatch(store, &out, 1));
        uint32_t from = index * batch_size;
        uint32_t n = row.ids - from < batch_size ? row.ids - from : batch_size;
        cr_assert_eq(strlen(out.ids), n * width - 1);
        cr_assert_eq(memcmp(out.ids, request->ids.text + from * width, n * width - 1), 0);
        cr_assert(id_equal(&out.ingestion, &request->id));
        free(out.ids);
    }
    OK(store_commit(store));
}

Test(store_ingest, large_ingestions_in_chunks)
{
    struct fixture f;
    fixture_new(&f);
    static const uint32_t sizes[] = {1, 3, 7, 1000, 1023, 1024, 1025, 5000, IDS_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ingest_request request =
            request_make(i + 1, PRIORITY_MEDIUM, ID_VALUE_MAX - IDS_MAX + 1, IDS_MAX);
        cr_assert_str_eq(request.ids.text + request.ids.len - 17, ",9007199254740991");
        check_ids(f.store, &request, sizes[i]);
        request_drop(&request);
    }
    fixture_free(&f);
}

// ---- moments ----

Test(store_ingest, repeats_say_the_same_moments)
{
    struct fixture f;
    fixture_new(&f);
    static const struct {
        uint64_t id;
        int64_t not_before;
        int64_t deadline;
        enum insert_result result;
    } cases[] = {
        {1, 0, 0, INSERT_NEW},       {1, 5, 0, INSERT_ID_REUSED}, {1, 0, 5, INSERT_ID_REUSED},
        {2, 5, 0, INSERT_NEW},       {2, 5, 0, INSERT_REPLAYED},  {2, 6, 0, INSERT_ID_REUSED},
        {2, 0, 0, INSERT_ID_REUSED}, {3, 0, 5, INSERT_NEW},       {3, 0, 5, INSERT_REPLAYED},
        {3, 0, 6, INSERT_ID_REUSED}, {4, 5, 6, INSERT_NEW},       {4, 5, 6, INSERT_REPLAYED},
        {4, 6, 5, INSERT_ID_REUSED}, {5, -5, 0, INSERT_NEW},      {5, -5, 0, INSERT_REPLAYED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ingest_request request = request_make(cases[i].id, PRIORITY_LOW, 1, 3);
        request.not_before.ms = cases[i].not_before != 0 ? NOW.ms + cases[i].not_before : 0;
        request.deadline.ms = cases[i].deadline != 0 ? NOW.ms + cases[i].deadline : 0;
        struct insert insert = insert_make(&request, 1, 1);
        OK(store_begin(f.store));
        OK(store_insert(f.store, &insert, 1));
        OK(store_commit(f.store));
        cr_assert_eq(insert.result, cases[i].result, "case %zu", i);
        request_drop(&request);
    }
    expect_waiting(f.store, 1, 0, 0, 3 * 3); // all but the two that wait for their moment
    cr_assert(find(f.store, 4).scheduled && find(f.store, 4).not_before.ms == NOW.ms + 5);
    cr_assert(find(f.store, 4).deadline.ms == NOW.ms + 6);
    cr_assert_not(find(f.store, 5).scheduled);
    expect_sound(f.store);
    fixture_free(&f);
}

// What is compared is the name: a queue may be deleted and made anew between two attempts.
Test(store_ingest, a_repeat_may_come_to_a_queue_made_anew)
{
    struct fixture f;
    fixture_new(&f);
    int64_t queues[3];
    static const char *const names[] = {"a", "a", "b"};
    for (size_t i = 0; i < 3; i++) {
        struct queue_row row = {.id = 0};
        (void)snprintf(row.name, sizeof row.name, "%s", names[i]);
        OK(store_begin(f.store));
        OK(store_save_queue(f.store, &row));
        queues[i] = row.id;
        if (i == 0) {
            struct ingest_request request = request_make(1, PRIORITY_LOW, 1, 3);
            struct insert insert = insert_make(&request, queues[0], 3);
            OK(store_insert(f.store, &insert, 1));
            request_drop(&request);
            OK(store_delete_queue(f.store, queues[0]));
        }
        OK(store_commit(f.store));
    }
    static const enum insert_result want[] = {INSERT_REPLAYED, INSERT_REPLAYED, INSERT_ID_REUSED};
    for (size_t i = 0; i < 3; i++) {
        struct ingest_request request = request_make(1, PRIORITY_LOW, 1, 3);
        (void)snprintf(request.queue, sizeof request.queue, "%s", names[i]);
        struct insert insert = insert_make(&request, queues[i], 3);
        OK(store_begin(f.store));
        OK(store_insert(f.store, &insert, 1));
        OK(store_commit(f.store));
        cr_assert_eq(insert.result, want[i], "queue %zu", i);
        request_drop(&request);
    }
    fixture_free(&f);
}

// ---- strings ----

// The nth of the strings, which differ in length and hold what separates them.
static void put_string(struct buf *out, uint32_t n)
{
    static const char *const forms[] = {"\"%u\"", "\",%u,\"", "\"\\\"%u\\\\\"", "\"\\\\%u,\\\"\"",
                                        "\"],[%u\""};
    char text[32];
    (void)snprintf(text, sizeof text, "%u", n);
    const char *form = forms[n % 5];
    const char *at = strstr(form, "%u");
    buf_put(out, form, (size_t)(at - form));
    buf_str(out, text);
    buf_str(out, at + 2);
}

static char *string_list(uint32_t from, uint32_t to)
{
    struct buf out;
    buf_init(&out);
    for (uint32_t i = from; i < to; i++) {
        if (i > from) {
            buf_char(&out, ',');
        }
        put_string(&out, i);
    }
    char *list = buf_take(&out, NULL);
    cr_assert_not_null(list);
    return list;
}

Test(store_ingest, strings_with_commas_and_quotes_cross_chunks)
{
    struct fixture f;
    enum { COUNT = 5003 };
    static const uint32_t sizes[] = {1, 7, 1000, 1023, 1024, 1025, 5003};
    fixture_new(&f);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ingest_request request = {.has_id = true, .id = id_number(i), .priority = PRIORITY_LOW};
        request.ids = (struct ids){.text = string_list(0, COUNT), .count = COUNT, .kind = IDS_STRING};
        request.ids.len = strlen(request.ids.text);
        struct insert inserts[2];
        inserts[0] = inserts[1] = insert_make(&request, 1, sizes[i]);
        OK(store_begin(f.store));
        OK(store_insert(f.store, inserts, 2));
        OK(store_commit(f.store));
        cr_assert_eq(inserts[1].result, INSERT_REPLAYED);
        struct ingestion_row row = find(f.store, i);
        static const uint32_t pages[][2] = {{0, COUNT},   {0, 1},    {1022, 4},
                                            {1024, 1024}, {2047, 2}, {COUNT - 1, 1}};
        for (size_t p = 0; p < sizeof pages / sizeof pages[0]; p++) {
            struct buf text;
            buf_init(&text);
            OK(store_read_ids(f.store, &row, pages[p][0], pages[p][1], &text));
            char *want = string_list(pages[p][0], pages[p][0] + pages[p][1]);
            cr_assert_str_eq(text.data, want);
            free(want);
            buf_fini(&text);
        }
        for (uint32_t index = 0; index < row.batches; index += row.batches / 20 + 1) {
            struct dispatch_row out = {.key = key_make(1, PRIORITY_LOW, row.seq, index)};
            OK(store_begin(f.store));
            OK(store_dispatch(f.store, &out, 1));
            OK(store_commit(f.store));
            uint32_t to = (index + 1) * sizes[i] < COUNT ? (index + 1) * sizes[i] : COUNT;
            char *want = string_list(index * sizes[i], to);
            cr_assert_str_eq(out.ids, want);
            free(want);
            free(out.ids);
        }
        free(request.ids.text);
    }
    fixture_free(&f);
}
