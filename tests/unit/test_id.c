#include "common/id.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct id sample = {
    {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}};
static const char sample_text[] = "01234567-89ab-cdef-fedc-ba9876543210";

Test(id, text_and_back)
{
    struct id id;
    char text[ID_TEXT_SIZE];
    cr_assert(id_parse(sample_text, 36, &id));
    cr_assert(id_equal(&id, &sample));
    cr_assert(id_parse("01234567-89AB-CDEF-FEDC-BA9876543210!", 36, &id),
              "either case; len counts, not a NUL");
    cr_assert(id_equal(&id, &sample));
    id_format(&id, text);
    cr_assert_str_eq(text, sample_text);
}

Test(id, refuses_everything_else)
{
    static const char *const cases[] = {
        "",
        "01234567-89ab-cdef-fedc-ba987654321",
        "01234567-89ab-cdef-fedc-ba98765432100",
        "0123456789abcdeffedcba9876543210",
        "{01234567-89ab-cdef-fedc-ba98765432}",
        "01234567+89ab-cdef-fedc-ba9876543210",
        "0123456-789ab-cdef-fedc-ba9876543210",
        "01234567-89ab-cdef-fedcb-a9876543210",
        "g1234567-89ab-cdef-fedc-ba9876543210",
        "01234567-89ab-cdef-fedc-ba987654321g",
        "01234567-89ab-cdef-fedc-ba987654321 ",
        "-1234567-89ab-cdef-fedc-ba9876543210",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct id id = sample;
        cr_assert_not(id_parse(cases[i], strlen(cases[i]), &id), "%s", cases[i]);
        cr_assert(id_equal(&id, &sample), "left alone");
    }
}

Test(id, equal_looks_at_every_byte)
{
    for (size_t i = 0; i < sizeof(sample.bytes); i++) {
        struct id other = sample;
        other.bytes[i] ^= 1;
        cr_assert_not(id_equal(&sample, &other));
    }
}

Test(id, version_5)
{
    static const struct {
        const char *space, *name, *id;
    } cases[] = {
        // RFC 9562, appendix A.4
        {"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com", "2ed6657d-e927-568b-95e1-2665a8aea6a2"},
        {"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "python.org", "886313e1-3b8a-5372-9b90-0c9aee199e5d"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct id space;
        char text[ID_TEXT_SIZE];
        cr_assert(id_parse(cases[i].space, 36, &space));
        struct id id = id_v5(&space, cases[i].name, strlen(cases[i].name));
        id_format(&id, text);
        cr_assert_str_eq(text, cases[i].id);
    }
    struct id zero = id_v5(&sample, "0", 1);
    struct id again = id_v5(&sample, "01", 1);
    struct id one = id_v5(&sample, "1", 1);
    cr_assert(id_equal(&zero, &again));
    cr_assert_not(id_equal(&zero, &one));
}

static struct id_minter minter;

static void set_up(void)
{
    id_minter_init(&minter);
}

static void tear_down(void)
{
    id_minter_fini(&minter);
}

TestSuite(mint, .init = set_up, .fini = tear_down);

static struct id mint(int64_t ms)
{
    struct id id;
    cr_assert_eq(id_mint(&minter, ms, &id), ERR_OK);
    return id;
}

static bool smaller(const struct id *a, const struct id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) < 0;
}

static int64_t ms_of(const struct id *id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    return ms;
}

Test(mint, is_a_version_7_of_that_millisecond)
{
    for (int i = 0; i < 1000; i++) {
        struct id id = mint(INT64_C(0x0123456789ab) + i);
        cr_assert_eq(ms_of(&id), INT64_C(0x0123456789ab) + i);
        cr_assert_eq(id.bytes[6] >> 4, 7);
        cr_assert_eq(id.bytes[8] >> 6, 2);
    }
}

Test(mint, grows_whatever_the_clock_does)
{
    static const int64_t times[] = {1000, 1000, 1001, 1001,   500, 0,        -7,
                                    1001, 1002, 1000, 900000, 1,   INT64_MIN};
    struct id last = mint(times[0]);
    for (size_t i = 1; i < COUNT(times); i++) {
        struct id next = mint(times[i]);
        cr_assert(smaller(&last, &next), "step %zu", i);
        last = next;
    }
}

Test(mint, grows_within_a_millisecond)
{
    struct id last = mint(77);
    for (int i = 0; i < 20000; i++) {
        struct id next = mint(77);
        cr_assert(smaller(&last, &next));
        cr_assert_eq(ms_of(&next), 77);
        last = next;
    }
}

Test(mint, a_full_counter_moves_on_to_the_next_millisecond)
{
    mint(77);
    minter.counter = (UINT32_C(1) << 26) - 2;
    struct id last = mint(77);
    cr_assert_eq(ms_of(&last), 77);
    struct id next = mint(77);
    cr_assert_eq(ms_of(&next), 78);
    cr_assert(smaller(&last, &next));
    last = mint(78);
    cr_assert_eq(ms_of(&last), 78);
    cr_assert(smaller(&next, &last));
}

Test(mint, two_minters_do_not_meet)
{
    struct id_minter other;
    struct id id;
    id_minter_init(&other);
    struct id mine = mint(5);
    cr_assert_eq(id_mint(&other, 5, &id), ERR_OK);
    cr_assert_neq(memcmp(mine.bytes + 10, id.bytes + 10, 6), 0, "48 random bits differ");
    id_minter_fini(&other);
}

#define THREADS 4
#define PER_THREAD 5000

static void *mint_many(void *arg)
{
    struct id *ids = arg;
    for (size_t i = 0; i < PER_THREAD; i++) {
        if (id_mint(&minter, 9, &ids[i]))
            return NULL;
    }
    return ids;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct id));
}

Test(mint, threads_share_one_minter)
{
    static struct id ids[THREADS * PER_THREAD];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, mint_many, ids + i * PER_THREAD), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *done = NULL;
        cr_assert_eq(pthread_join(threads[i], &done), 0);
        cr_assert_not_null(done);
    }
    for (size_t i = 0; i < COUNT(ids); i++)
        cr_assert(i % PER_THREAD == 0 || smaller(&ids[i - 1], &ids[i]), "each thread sees them grow");
    qsort(ids, COUNT(ids), sizeof(ids[0]), compare_ids);
    for (size_t i = 1; i < COUNT(ids); i++) {
        // The time and the counter alone (80 bits, with version and variant) must already differ.
        cr_assert_lt(memcmp(ids[i - 1].bytes, ids[i].bytes, 10), 0);
    }
}
