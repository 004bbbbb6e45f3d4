#include "common/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 64
#define U64_DIGITS 20
#define PRINTF_ROOM 128 // for what is printed mostly

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
    free(b->data);
    buf_init(b);
}

void buf_reset(struct buf *b)
{
    b->failed = false;
    buf_cut(b, 0);
}

void buf_cut(struct buf *b, size_t len)
{
    assert(len <= b->len);
    b->len = len;
    if (b->data) {
        b->data[len] = '\0';
    }
}

static bool grow(struct buf *b, size_t need)
{
    size_t cap = b->cap < FIRST_CAP ? FIRST_CAP : b->cap;
    while (cap < need) {
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        return false;
    }
    b->data = data;
    b->data[b->len] = '\0';
    b->cap = cap;
    return true;
}

char *buf_room(struct buf *b, size_t n)
{
    if (b->failed) {
        return NULL;
    }
    bool overflows = n > SIZE_MAX - b->len - 1; // 1 for the NUL
    if (overflows || (b->cap - b->len <= n && !grow(b, b->len + n + 1))) {
        b->failed = true;
        return NULL;
    }
    return b->data + b->len;
}

void buf_grew(struct buf *b, size_t n)
{
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_put(struct buf *b, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    char *room = buf_room(b, len);
    if (!room) {
        return;
    }
    memcpy(room, data, len);
    buf_grew(b, len);
}

void buf_str(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_char(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_u64(struct buf *b, uint64_t value)
{
    char digits[U64_DIGITS];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_put(b, digits + at, sizeof(digits) - at);
}

void buf_i64(struct buf *b, int64_t value)
{
    if (value < 0) {
        buf_char(b, '-');
    }
    buf_u64(b, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    char *room = buf_room(b, PRINTF_ROOM);
    int len = room ? vsnprintf(room, PRINTF_ROOM + 1, format, args) : -1;
    if (len > PRINTF_ROOM) { // once more, with what it takes
        room = buf_room(b, (size_t)len);
        len = room ? vsnprintf(room, (size_t)len + 1, format, again) : -1;
    }
    if (len >= 0) {
        buf_grew(b, (size_t)len);
    } else {
        b->failed = true;
    }
    va_end(again);
    va_end(args);
}

static void put_escape(struct buf *b, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "\"\\\b\f\n\r\t";
    static const char escapes[] = "\"\\bfnrt";
    const char *known = c == '\0' ? NULL : strchr(letters, c);
    if (known) {
        char two[2] = {'\\', escapes[known - letters]};
        buf_put(b, two, sizeof(two));
        return;
    }
    char six[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    buf_put(b, six, sizeof(six));
}

void buf_json(struct buf *b, const char *text, size_t len)
{
    buf_char(b, '"');
    size_t start = 0; // of the run that needs no escape
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buf_put(b, text + start, i - start);
        put_escape(b, c);
        start = i + 1;
    }
    buf_put(b, text + start, len - start);
    buf_char(b, '"');
}

enum err buf_err(const struct buf *b)
{
    return b->failed ? ERR_NO_MEMORY : ERR_OK;
}

char *buf_take(struct buf *b, size_t *len)
{
    // The room makes sure that a buffer nothing was written to gives an empty text, not NULL.
    char *data = buf_room(b, 0) ? b->data : NULL;
    if (!data) {
        free(b->data);
    }
    if (len) {
        *len = data ? b->len : 0;
    }
    buf_init(b);
    return data;
}
