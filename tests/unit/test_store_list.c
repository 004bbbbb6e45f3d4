// What the status table is asked about many ingestions.
#include "tests/unit/store_fixture.h"

// ---- lists ----

Test(store_list, list_pages_newest_first)
{
    struct fixture f;
    fixture_new(&f);
    enum { TOTAL = 3000 };
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    OK(store_begin(f.store));
    for (uint64_t i = 0; i < TOTAL; i++) {
        request.id = id_number(i);
        request.priority = i == 100 ? PRIORITY_HIGH : PRIORITY_LOW;
        struct insert insert = insert_make(&request, i == 200 ? 2 : 1, 3);
        OK(store_insert(f.store, &insert, 1));
    }
    OK(store_commit(f.store));
    request_drop(&request);
    struct ingestion_row target = find(f.store, 300);
    dispatch(f.store, key_make(1, PRIORITY_LOW, target.seq, 0));

    static const struct {
        struct list_request filter;
        int64_t queue;
        size_t page;
        size_t found;
        uint64_t only; // the one found
        size_t calls_max;
    } cases[] = {
        {{0}, 0, 50, TOTAL, 0, TOTAL / 50},
        {{0}, 0, 7, TOTAL, 0, TOTAL / 7 + 1},
        {{0}, 0, 1000, TOTAL, 0, 3},
        {{.has_priority = true, .priority = PRIORITY_HIGH}, 0, 50, 1, 100, 3},
        {{0}, 2, 50, 1, 200, 3},
        {{.has_status = true, .status = STATUS_TRIGGERED}, 0, 50, 1, 300, 3},
        {{.has_status = true, .status = STATUS_FAILED}, 0, 50, 0, 0, 3},
        {{.has_status = true, .status = STATUS_TRIGGERED}, 1, 1, 1, 300, 4},
    };
    struct ingestion_row rows[1000];
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int64_t before = INT64_MAX;
        int64_t last = INT64_MAX;
        size_t found = 0;
        size_t calls = 0;
        do {
            size_t count = cases[c].page;
            struct reach reach = {.owner = "", .all_queues = cases[c].queue == 0};
            if (cases[c].queue != 0) {
                reach_narrow(&reach, cases[c].queue);
            }
            OK(store_list(f.store, &cases[c].filter, &reach, before, rows, &count, &before));
            for (size_t i = 0; i < count; i++) {
                cr_assert_lt(rows[i].seq, last);
                last = rows[i].seq;
                struct id only = id_number(cases[c].only);
                cr_assert(cases[c].found > 1 || id_equal(&rows[i].id, &only), "case %zu", c);
            }
            found += count;
            calls++;
        } while (before != 0);
        cr_assert_eq(found, cases[c].found, "case %zu", c);
        cr_assert_leq(calls, cases[c].calls_max, "case %zu", c);
    }
    fixture_free(&f);
}

// ---- when they were accepted ----

Test(store_list, ingestions_are_found_by_when_they_were_accepted)
{
    struct fixture f;
    int64_t seq;
    enum { TOTAL = 300 };
    struct {
        int64_t seq;
        int64_t accepted_ns;
    } all[TOTAL];
    fixture_new(&f);
    OK(store_seq_accepted_by(f.store, INT64_MAX, &seq));
    cr_assert_eq(seq, 0);
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    int64_t accepted_ns = -500; // the age clock may begin anywhere
    for (uint64_t i = 0; i < TOTAL; i++) {
        request.id = id_number(i);
        struct insert insert = insert_make(&request, 1, 1);
        accepted_ns += (int64_t)(i * 7919 % 5); // several at one moment
        insert.accepted_ns = accepted_ns;
        OK(store_begin(f.store));
        OK(store_insert(f.store, &insert, 1));
        if (i % 3 == 1) {
            store_rollback(f.store);
            request.id = id_number(TOTAL + i);
            OK(store_begin(f.store));
            OK(store_insert(f.store, &insert, 1));
        }
        OK(store_commit(f.store));
        all[i].seq = insert.seq;
        all[i].accepted_ns = accepted_ns;
        if (i % 50 == 49 && i + 1 < TOTAL) {
            skip_seqs(f.store, 8 * insert.seq);
        } else if (i % 50 == 0) {
            drop_stub(f.store);
        }
    }
    request_drop(&request);
    for (int64_t at = -502; at < accepted_ns + 3; at++) {
        int64_t want = 0;
        for (size_t i = 0; i < TOTAL && all[i].accepted_ns <= at; i++) {
            want = all[i].seq;
        }
        OK(store_seq_accepted_by(f.store, at, &seq));
        cr_assert_eq(seq, want, "at %lld", (long long)at);
    }
    OK(store_seq_accepted_by(f.store, INT64_MIN, &seq));
    cr_assert_eq(seq, 0);
    OK(store_seq_accepted_by(f.store, INT64_MAX, &seq));
    cr_assert_eq(seq, all[TOTAL - 1].seq);
    fixture_free(&f);
}
