// table.h - rows of text in columns, for people.
#ifndef SLUICE_CLI_TABLE_H
#define SLUICE_CLI_TABLE_H

#include "cli/style.h"
#include "common/buf.h"

#include <stddef.h>

#define TABLE_COLUMNS_MAX 16

struct table {
    size_t columns;
    bool right[TABLE_COLUMNS_MAX];   // numbers stand at the right of their column
    size_t width[TABLE_COLUMNS_MAX]; // in characters, as far as it is known
    struct buf text;                 // the cells, each ended by a NUL
    struct buf tints;                // a byte for each
    size_t cells;
};

// The names of the columns, each with a ">" in front if it stands right; NULL at the end.
void table_init(struct table *table, const char *const *names);
void table_fini(struct table *table);
// Cells come row by row. Control characters become '?'.
void table_text(struct table *table, const char *text, enum tint tint);
void table_count(struct table *table, double value, enum tint tint); // an integer of at most 2^53
void table_printf(struct table *table, enum tint tint, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// All rows (an incomplete last one is left out), at most `lines` with the names of the columns, and no line
// longer than `width` characters; SIZE_MAX: as it comes.
void table_write(const struct table *table, size_t lines, size_t width, bool colours, struct buf *out);
// The same to standard output. The exit code.
int table_print(const struct table *table);

// The characters of a text on a terminal: one for each that is not a continuation byte of UTF-8.
size_t text_width(const char *text);

#endif
