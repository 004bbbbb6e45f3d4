// store_fixture.h - what the tests of the store share: a store in a directory of its own, and short ways to
// fill it.
#ifndef SLUICE_TESTS_UNIT_STORE_FIXTURE_H
#define SLUICE_TESTS_UNIT_STORE_FIXTURE_H

#include "scheduler/store.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert_eq((call), ERR_OK)

struct fixture {
    char dir[64];
    struct store *store;
};

static inline void fixture_open(struct fixture *f)
{
    struct fault fault = {0};
    cr_assert_eq(store_sqlite_open(f->dir, &f->store, &fault), ERR_OK, "%s", fault.detail);
}

static inline void fixture_new(struct fixture *f)
{
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/sluice-store-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    fixture_open(f);
}

static inline void fixture_reopen(struct fixture *f)
{
    store_close(f->store);
    fixture_open(f);
}

static inline void fixture_free(struct fixture *f)
{
    store_close(f->store);
    DIR *dir = opendir(f->dir);
    cr_assert_not_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.') {
            cr_assert_eq(unlinkat(dirfd(dir), entry->d_name, 0), 0);
        }
    }
    closedir(dir);
    cr_assert_eq(rmdir(f->dir), 0);
}

static inline struct id id_number(uint64_t n)
{
    struct id id = {{0}};
    for (int i = 0; i < 8; i++) {
        id.bytes[15 - i] = (uint8_t)(n >> (8 * i));
    }
    return id;
}

// The IDs first, first + 1, …; free with free().
static inline char *id_list(uint64_t first, uint32_t count)
{
    struct buf text;
    buf_init(&text);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_char(&text, ',');
        }
        buf_u64(&text, first + i);
    }
    char *list = buf_take(&text, NULL);
    cr_assert_not_null(list);
    return list;
}

// A request for `count` IDs that begin at `first`; end with request_drop.
static inline struct ingest_request request_make(uint64_t id, enum priority priority, uint64_t first,
                                                 uint32_t count)
{
    struct ingest_request request = {.has_id = true, .id = id_number(id), .priority = priority};
    request.ids.text = id_list(first, count);
    request.ids.len = strlen(request.ids.text);
    request.ids.count = count;
    request.ids.largest = first + count - 1;
    return request;
}

static inline void request_drop(struct ingest_request *request)
{
    free(request->ids.text);
}

#define NOW ((struct wall){1700000000123})

static inline struct insert insert_make(const struct ingest_request *request, int64_t queue,
                                        uint32_t batch_size)
{
    return (struct insert){.request = request, .queue = queue, .batch_size = batch_size, .now = NOW};
}

// One ingestion in a transaction of its own; returns its seq.
static inline int64_t add(struct store *store, uint64_t id, int64_t queue, enum priority priority,
                          uint32_t batch_size, uint32_t count)
{
    struct ingest_request request = request_make(id, priority, 1, count);
    struct insert insert = insert_make(&request, queue, batch_size);
    OK(store_begin(store));
    OK(store_insert(store, &insert, 1));
    OK(store_commit(store));
    cr_assert_eq(insert.result, INSERT_NEW);
    request_drop(&request);
    return insert.seq;
}

static inline struct batch_key key_make(int64_t queue, enum priority priority, int64_t seq, uint32_t index)
{
    return (struct batch_key){queue, {priority, seq, index}};
}

// One dispatch in a transaction of its own; returns the attempt.
static inline uint32_t dispatch(struct store *store, struct batch_key key)
{
    struct dispatch_row row = {.key = key, .now = NOW};
    OK(store_begin(store));
    OK(store_dispatch(store, &row, 1));
    OK(store_commit(store));
    free(row.ids);
    return row.attempt;
}

static inline void finish(struct store *store, struct finish_row row)
{
    OK(store_begin(store));
    OK(store_finish(store, &row, 1));
    OK(store_commit(store));
}

#endif
