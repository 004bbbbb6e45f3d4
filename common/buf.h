// buf.h - a byte buffer that grows. The owner calls buf_init and buf_fini; one thread at a time.
//
// Appending never fails on the spot: when memory runs out the buffer remembers it, ignores what follows and
// says so in buf_err(), so that a writer of JSON checks once, at its end.
#ifndef SLUICE_COMMON_BUF_H
#define SLUICE_COMMON_BUF_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; // NUL-terminated when not NULL; the NUL is not counted in len
    size_t len;
    size_t cap;
    bool failed;
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);
// Empties it and clears the failure; keeps the memory.
void buf_reset(struct buf *b);
// Cuts it back to len bytes (len <= b->len).
void buf_cut(struct buf *b, size_t len);
// Room for at least n more bytes; returns where to write them or NULL. Follow with buf_grew(b, written).
char *buf_room(struct buf *b, size_t n);
void buf_grew(struct buf *b, size_t n);

void buf_put(struct buf *b, const void *data, size_t len);
void buf_str(struct buf *b, const char *text);
void buf_char(struct buf *b, char c);
void buf_u64(struct buf *b, uint64_t value); // decimal
void buf_i64(struct buf *b, int64_t value);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A JSON string with its quotes, escaped as RFC 8259 asks. The text is valid UTF-8 (callers have checked).
void buf_json(struct buf *b, const char *text, size_t len);

// ERR_NO_MEMORY if any append failed since init or reset.
MUST_CHECK enum err buf_err(const struct buf *b);
// Gives the memory away (NULL when failed); the buffer is as after buf_init. The caller frees it with free().
char *buf_take(struct buf *b, size_t *len);

#endif
