#include "cli/say.h"

#include "common/utf8.h"

#include <stdarg.h>
#include <stdio.h>

void say(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    size_t len = written < 0 ? 0 : (size_t)written;
    if (len >= sizeof(line)) {
        len = utf8_cut(line, sizeof(line) - 1);
    }
    utf8_scrub(line, len);
    (void)fprintf(stderr, "sluice: %.*s\n", (int)len, line);
}
