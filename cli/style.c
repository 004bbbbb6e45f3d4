#include "cli/style.h"

#include "proto/words.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool is_terminal(FILE *file)
{
    const char *term = getenv("TERM");
    return isatty(fileno(file)) && !(term && strcmp(term, "dumb") == 0);
}

bool has_colours(FILE *file)
{
    const char *no = getenv("NO_COLOR");
    return !(no && no[0] != '\0') && is_terminal(file);
}

const char *tint_begin(enum tint tint, bool colours)
{
    static const char *const sequences[] = {
        [TINT_NONE] = "",         [TINT_GOOD] = "\033[32m", [TINT_BAD] = "\033[31m",
        [TINT_BUSY] = "\033[33m", [TINT_FAINT] = "\033[2m", [TINT_STRONG] = "\033[1m",
    };
    return colours ? sequences[tint] : "";
}

const char *tint_end(enum tint tint, bool colours)
{
    return colours && tint != TINT_NONE ? "\033[0m" : "";
}

enum tint tint_of_status(const char *text)
{
    static const enum tint tints[STATUSES] = {
        [STATUS_YET_TO_START] = TINT_FAINT, [STATUS_TRIGGERED] = TINT_BUSY, [STATUS_COMPLETED] = TINT_GOOD,
        [STATUS_FAILED] = TINT_BAD,         [STATUS_CANCELLED] = TINT_BAD,
    };
    enum status status;
    return status_parse(text, &status) ? tints[status] : TINT_NONE;
}
