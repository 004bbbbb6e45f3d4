#include "proto/ids.h"

#include <string.h>

// Where a JSON string ends that starts at `at`: after its closing quote.
static const char *after_string(const char *at, const char *end)
{
    at++;
    while (at < end && *at != '"') {
        at += *at == '\\' && end - at > 1 ? 2 : 1;
    }
    return at < end ? at + 1 : end;
}

const char *ids_after(const char *at, const char *end, uint32_t n)
{
    for (;; at++) {
        if (at == end) {
            return NULL;
        }
        if (*at == '"') {
            at = after_string(at, end);
        }
        const char *comma = memchr(at, ',', (size_t)(end - at));
        at = comma ? comma : end;
        n--;
        if (n == 0) {
            return at;
        }
        if (!comma) {
            return NULL;
        }
    }
}
