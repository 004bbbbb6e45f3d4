#include "cli/table.h"

#include "cli/exit.h"
#include "cli/say.h"
#include "common/utf8.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define GAP 2 // between columns

size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

void table_init(struct table *table, const char *const *names)
{
    *table = (struct table){0};
    buf_init(&table->text);
    buf_init(&table->tints);
    for (; names[table->columns]; table->columns++) {
        table->right[table->columns] = names[table->columns][0] == '>';
    }
    for (size_t i = 0; i < table->columns; i++) {
        table_text(table, names[i] + table->right[i], TINT_STRONG);
    }
}

void table_fini(struct table *table)
{
    buf_fini(&table->text);
    buf_fini(&table->tints);
}

void table_text(struct table *table, const char *text, enum tint tint)
{
    size_t at = table->text.len;
    size_t len = strlen(text);
    size_t column = table->cells % table->columns;
    buf_put(&table->text, text, len + 1);
    buf_char(&table->tints, (char)tint);
    if (buf_err(&table->text) != ERR_OK) {
        return;
    }
    utf8_scrub(table->text.data + at, len);
    size_t width = text_width(table->text.data + at);
    table->width[column] = width > table->width[column] ? width : table->width[column];
    table->cells++;
}

void table_printf(struct table *table, enum tint tint, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (written >= (int)sizeof(text)) {
        text[utf8_cut(text, sizeof(text) - 1)] = '\0';
    }
    table_text(table, written < 0 ? "" : text, tint);
}

void table_count(struct table *table, double value, enum tint tint)
{
    table_printf(table, value > 0 ? tint : TINT_NONE, "%.0f", value);
}

// The bytes of the first `width` characters.
static size_t cut(const char *text, size_t width)
{
    size_t at = 0;
    for (; text[at]; at++) {
        bool starts = ((unsigned char)text[at] & 0xc0) != 0x80;
        if (starts && width-- == 0) {
            break;
        }
    }
    return at;
}

static void spaces(struct buf *out, size_t count)
{
    while (count-- > 0) {
        buf_char(out, ' ');
    }
}

// One cell, within what is left of the line. Nothing follows the last one of a row.
static void write_cell(const struct table *table, size_t column, const char *text, enum tint tint,
                       bool colours, size_t *left, struct buf *out)
{
    size_t gap = column > 0 ? GAP : 0;
    size_t width = text_width(text);
    size_t pad = table->width[column] - width;
    size_t before = gap + (table->right[column] ? pad : 0);
    size_t after = table->right[column] || column + 1 == table->columns ? 0 : pad;
    if (before >= *left) {
        *left = 0;
        return;
    }
    *left -= before;
    size_t shown = width < *left ? width : *left;
    *left -= shown;
    after = after < *left ? after : *left;
    *left -= after;
    spaces(out, before);
    buf_str(out, tint_begin(tint, colours));
    buf_put(out, text, cut(text, shown));
    buf_str(out, tint_end(tint, colours));
    spaces(out, after);
}

void table_write(const struct table *table, size_t lines, size_t width, bool colours, struct buf *out)
{
    size_t rows = table->cells / table->columns;
    const char *text = table->text.data;
    for (size_t row = 0; row < rows && row < lines; row++) {
        size_t left = width;
        size_t start = out->len;
        for (size_t column = 0; column < table->columns; column++) {
            enum tint tint = (enum tint)table->tints.data[row * table->columns + column];
            write_cell(table, column, text, tint, colours, &left, out);
            text += strlen(text) + 1;
        }
        size_t end = out->len;
        while (end > start && out->data[end - 1] == ' ') {
            end--;
        }
        buf_cut(out, end);
        buf_char(out, '\n');
    }
    out->failed = out->failed || table->text.failed || table->tints.failed;
}

int table_print(const struct table *table)
{
    struct buf out;
    buf_init(&out);
    table_write(table, SIZE_MAX, SIZE_MAX, has_colours(stdout), &out);
    int code = EXIT_CODE_OK;
    if (buf_err(&out) == ERR_OK) {
        (void)fwrite(out.data, 1, out.len, stdout);
    } else {
        say("out of memory");
        code = EXIT_CODE_SOFTWARE;
    }
    buf_fini(&out);
    return code;
}
