// The store when memory runs out while it is opened or made: it says so, what is on disk stays as it was, and
// the next start finds it. (What is done with it: test_no_memory_turn.c.)
#include "tests/unit/no_memory.h"
#include "tests/unit/store_fixture.h"

TestSuite(no_memory_store, .init = memory_hook_libraries);

// Many allocations: the first ones one by one, of the later ones some.
static size_t next_of_many(size_t n)
{
    return n + 1 + n / 8;
}

static void try_open(struct fixture *f, size_t n, enum shortage shortage, bool *reached)
{
    struct fault fault = {0};
    memory_fails_at(n, shortage);
    enum err err = store_sqlite_open(f->dir, &f->store, &fault);
    *reached = memory_failed();
    if (err != ERR_OK) {
        cr_assert(*reached && err == ERR_NO_MEMORY, "%s after %zu: %s", err_name(err), n, fault.detail);
        cr_assert_neq(fault.detail[0], '\0');
        cr_assert_null(f->store);
        fixture_open(f);
    }
    expect_sound(f->store);
}

Test(no_memory_store, opening_a_store_that_is_there)
{
    struct fixture f;
    size_t failures = 0;
    fixture_new(&f);
    (void)add(f.store, 1, 1, PRIORITY_HIGH, 1, 3);
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        bool reached = true;
        for (size_t n = 0; reached; n = next_of_many(n)) {
            store_close(f.store);
            try_open(&f, n, (enum shortage)shortage, &reached);
            cr_assert_not(is_gone(f.store, 1));
            failures += reached;
        }
    }
    cr_assert_gt(failures, 2 * 40);
    fixture_free(&f);
}

Test(no_memory_store, making_a_store)
{
    size_t failures = 0;
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        bool reached = true;
        for (size_t n = 0; reached; n = next_of_many(n)) {
            struct fixture f = {.dir = "/tmp/sluice-store-XXXXXX"};
            cr_assert_not_null(mkdtemp(f.dir));
            try_open(&f, n, (enum shortage)shortage, &reached);
            fixture_free(&f);
            failures += reached;
        }
    }
    cr_assert_gt(failures, 2 * 40);
}
