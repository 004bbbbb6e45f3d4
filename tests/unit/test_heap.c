#include "common/heap.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct heap heap;

static void set_up(void)
{
    heap_init(&heap);
}

static void tear_down(void)
{
    heap_fini(&heap);
}

TestSuite(heap, .init = set_up, .fini = tear_down);

static void check_invariants(void)
{
    for (size_t i = 0; i < heap.len; i++) {
        cr_assert_eq(heap.nodes[i]->at, i + 1);
        if (i > 0)
            cr_assert_leq(heap.nodes[(i - 1) / 2]->key, heap.nodes[i]->key);
    }
}

Test(heap, an_empty_one_has_no_top)
{
    cr_assert_null(heap_top(&heap));
}

Test(heap, gives_back_in_order)
{
    static const int64_t orders[][6] = {
        {1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1},    {3, 1, 4, 1, 5, 9},
        {7, 7, 7, 7, 7, 7}, {0, -1, 1, -2, 2, -3}, {INT64_MAX, INT64_MIN, 0, INT64_MAX, INT64_MIN, 5},
    };
    for (size_t i = 0; i < COUNT(orders); i++) {
        struct heap_node nodes[6] = {0};
        for (size_t j = 0; j < 6; j++) {
            cr_assert_eq(heap_insert(&heap, &nodes[j], orders[i][j]), ERR_OK);
            check_invariants();
        }
        int64_t last = INT64_MIN;
        for (size_t j = 0; j < 6; j++) {
            struct heap_node *top = heap_top(&heap);
            cr_assert_geq(top->key, last);
            last = top->key;
            heap_remove(&heap, top);
            cr_assert_eq(top->at, 0);
            check_invariants();
        }
        cr_assert_null(heap_top(&heap));
    }
}

// Removing from one branch can bring in a node that must rise: the last one comes from another branch.
Test(heap, what_fills_a_hole_may_have_to_rise)
{
    static const int64_t keys[] = {0, 10, 1, 11, 12, 2, 3};
    struct heap_node nodes[COUNT(keys)] = {0};
    for (size_t i = 0; i < COUNT(keys); i++)
        cr_assert_eq(heap_insert(&heap, &nodes[i], keys[i]), ERR_OK);
    heap_remove(&heap, &nodes[3]);
    check_invariants();
    cr_assert_eq(nodes[6].at, 2, "3 has passed 10");
}

Test(heap, any_node_moves_either_way)
{
    struct heap_node nodes[20] = {0};
    for (size_t i = 0; i < COUNT(nodes); i++)
        cr_assert_eq(heap_insert(&heap, &nodes[i], (int64_t)i), ERR_OK);
    heap_move(&heap, &nodes[17], -1);
    check_invariants();
    cr_assert_eq(heap_top(&heap), &nodes[17]);
    heap_move(&heap, &nodes[17], 100);
    check_invariants();
    cr_assert_eq(heap_top(&heap), &nodes[0]);
    heap_move(&heap, &nodes[0], 0);
    check_invariants();
    cr_assert_eq(heap_top(&heap), &nodes[0]);
}

Test(heap, random_operations_against_a_plain_array)
{
    struct heap_node nodes[64] = {0};
    uint64_t state = 12345;
    for (int step = 0; step < 20000; step++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        struct heap_node *node = &nodes[state >> 33 & 63];
        int64_t key = (int64_t)(state >> 40 & 31);
        if (node->at == 0)
            cr_assert_eq(heap_insert(&heap, node, key), ERR_OK);
        else if (state >> 60 & 1)
            heap_move(&heap, node, key);
        else
            heap_remove(&heap, node);
        check_invariants();
        size_t inside = 0;
        const struct heap_node *least = NULL;
        for (size_t i = 0; i < COUNT(nodes); i++) {
            inside += nodes[i].at != 0;
            if (nodes[i].at != 0 && (!least || nodes[i].key < least->key))
                least = &nodes[i];
        }
        cr_assert_eq(heap.len, inside);
        cr_assert_eq(heap_top(&heap) == NULL, least == NULL);
        if (least)
            cr_assert_eq(heap_top(&heap)->key, least->key);
    }
}

Test(heap, after_a_reserve_insertions_take_no_memory)
{
    struct heap_node nodes[1000] = {0};
    cr_assert_eq(heap_insert(&heap, &nodes[0], 0), ERR_OK);
    cr_assert_eq(heap_reserve(&heap, 999), ERR_OK);
    struct heap_node **place = heap.nodes;
    for (size_t i = 1; i < COUNT(nodes); i++)
        cr_assert_eq(heap_insert(&heap, &nodes[i], -(int64_t)i), ERR_OK);
    cr_assert_eq(heap.nodes, place);
    check_invariants();
}

Test(heap, a_reserve_of_too_much_fails_and_harms_nothing)
{
    struct heap_node node = {0};
    cr_assert_eq(heap_insert(&heap, &node, 5), ERR_OK);
    cr_assert_eq(heap_reserve(&heap, SIZE_MAX), ERR_NO_MEMORY);
    cr_assert_eq(heap_reserve(&heap, SIZE_MAX / sizeof(void *)), ERR_NO_MEMORY);
    cr_assert_eq(heap_reserve(&heap, 0), ERR_OK);
    cr_assert_eq(heap_top(&heap), &node);
}
