// heap.h - a binary min-heap of nodes embedded in the caller's objects; each node knows its place, so any of
// them can be moved or removed in O(log n). Equal keys leave in no particular order. Pure; one thread.
#ifndef SLUICE_COMMON_HEAP_H
#define SLUICE_COMMON_HEAP_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t key;
    size_t at; // 1 + its index; 0 when it is in no heap
};

struct heap {
    struct heap_node **nodes;
    size_t len;
    size_t cap;
};

void heap_init(struct heap *heap);
void heap_fini(struct heap *heap); // the nodes are the caller's
// Makes room, so that the next n insertions cannot fail.
MUST_CHECK enum err heap_reserve(struct heap *heap, size_t n);
MUST_CHECK enum err heap_insert(struct heap *heap, struct heap_node *node, int64_t key);
// The node must be in this heap.
void heap_move(struct heap *heap, struct heap_node *node, int64_t key);
void heap_remove(struct heap *heap, struct heap_node *node);
// The smallest, or NULL.
struct heap_node *heap_top(const struct heap *heap);

#endif
