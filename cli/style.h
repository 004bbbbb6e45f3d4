// style.h - colours, where there is somebody to see them.
#ifndef SLUICE_CLI_STYLE_H
#define SLUICE_CLI_STYLE_H

#include <stdbool.h>
#include <stdio.h>

enum tint { TINT_NONE, TINT_GOOD, TINT_BAD, TINT_BUSY, TINT_FAINT, TINT_STRONG };

// A terminal that is not a dumb one (TERM).
bool is_terminal(FILE *file);
// The same, and NO_COLOR is not set (https://no-color.org: anything but the empty text counts).
bool has_colours(FILE *file);

// The sequences that begin and end a tint; "" when `colours` is false.
const char *tint_begin(enum tint tint, bool colours);
const char *tint_end(enum tint tint, bool colours);

// Of the status of an ingestion or a batch, by its name.
enum tint tint_of_status(const char *text);

#endif
