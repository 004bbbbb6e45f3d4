#include "common/heap.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_CAP 16

void heap_init(struct heap *heap)
{
    *heap = (struct heap){0};
}

void heap_fini(struct heap *heap)
{
    free(heap->nodes);
    heap_init(heap);
}

enum err heap_reserve(struct heap *heap, size_t n)
{
    if (n <= heap->cap - heap->len) {
        return ERR_OK;
    }
    if (n > SIZE_MAX / sizeof(*heap->nodes) / 2 - heap->len) {
        return ERR_NO_MEMORY;
    }
    size_t need = heap->len + n;
    size_t cap = heap->cap * 2 > need ? heap->cap * 2 : need;
    if (cap < FIRST_CAP) {
        cap = FIRST_CAP;
    }
    struct heap_node **nodes = realloc(heap->nodes, cap * sizeof(*nodes));
    if (!nodes) {
        return ERR_NO_MEMORY;
    }
    heap->nodes = nodes;
    heap->cap = cap;
    return ERR_OK;
}

static void place(struct heap *heap, size_t at, struct heap_node *node)
{
    heap->nodes[at] = node;
    node->at = at + 1;
}

// Puts node, for which the place `at` is free, where it belongs between there and the root.
static void sift_up(struct heap *heap, size_t at, struct heap_node *node)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (heap->nodes[parent]->key <= node->key) {
            break;
        }
        place(heap, at, heap->nodes[parent]);
        at = parent;
    }
    place(heap, at, node);
}

// The same between `at` and the leaves.
static void sift_down(struct heap *heap, size_t at, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->len) {
            break;
        }
        if (child + 1 < heap->len && heap->nodes[child + 1]->key < heap->nodes[child]->key) {
            child++;
        }
        if (heap->nodes[child]->key >= node->key) {
            break;
        }
        place(heap, at, heap->nodes[child]);
        at = child;
    }
    place(heap, at, node);
}

static void settle(struct heap *heap, size_t at, struct heap_node *node)
{
    if (at > 0 && node->key < heap->nodes[(at - 1) / 2]->key) {
        sift_up(heap, at, node);
    } else {
        sift_down(heap, at, node);
    }
}

enum err heap_insert(struct heap *heap, struct heap_node *node, int64_t key)
{
    assert(node->at == 0);
    enum err err = heap_reserve(heap, 1);
    if (err) {
        return err;
    }
    node->key = key;
    heap->len++;
    sift_up(heap, heap->len - 1, node);
    return ERR_OK;
}

void heap_move(struct heap *heap, struct heap_node *node, int64_t key)
{
    assert(node->at > 0 && heap->nodes[node->at - 1] == node);
    node->key = key;
    settle(heap, node->at - 1, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    assert(node->at > 0 && heap->nodes[node->at - 1] == node);
    size_t hole = node->at - 1;
    struct heap_node *last = heap->nodes[--heap->len];
    node->at = 0;
    if (last != node) {
        settle(heap, hole, last);
    }
}

struct heap_node *heap_top(const struct heap *heap)
{
    return heap->len > 0 ? heap->nodes[0] : NULL;
}
