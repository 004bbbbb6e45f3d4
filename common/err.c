#include "common/err.h"

#include "common/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct err_entry {
    const char *name;
    const char *code;
    int status;
    const char *title;
};

static const struct err_entry entries[] = {
#define ERR_ENTRY(name, code, status, title) [ERR_##name] = {#name, code, status, title},
    ERR_LIST(ERR_ENTRY)
#undef ERR_ENTRY
};

_Static_assert(sizeof(entries) / sizeof(entries[0]) == ERR_COUNT, "one for each");

// A value from outside the list can only come from a defect of ours, which is what ERR_INTERNAL says.
static const struct err_entry *entry_of(enum err err)
{
    size_t at = (size_t)err;
    return &entries[at < ERR_COUNT ? at : ERR_INTERNAL];
}

const char *err_name(enum err err)
{
    return entry_of(err)->name;
}

const char *err_code(enum err err)
{
    return entry_of(err)->code;
}

int err_status(enum err err)
{
    return entry_of(err)->status;
}

const char *err_title(enum err err)
{
    return entry_of(err)->title;
}

enum err err_from_code(const char *code, size_t len)
{
    for (size_t i = 0; i < ERR_COUNT; i++) {
        if (strlen(entries[i].code) == len && memcmp(entries[i].code, code, len) == 0) {
            return (enum err)i;
        }
    }
    return ERR_INTERNAL;
}

enum err fault_set(struct fault *fault, enum err err, const char *format, ...)
{
    if (!fault) {
        return err;
    }
    fault->err = err;
    va_list args;
    va_start(args, format);
    int written = vsnprintf(fault->detail, sizeof(fault->detail), format, args);
    va_end(args);
    size_t len = written < 0 ? 0 : (size_t)written;
    if (len >= sizeof(fault->detail)) {
        len = utf8_cut(fault->detail, sizeof(fault->detail) - 1);
    }
    utf8_scrub(fault->detail, len);
    fault->detail[len] = '\0';
    return err;
}
