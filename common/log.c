#include "common/log.h"

#include "common/clock.h"
#include "common/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_SIZE 2048

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_DEBUG:
        return "DEBUG";
    case LOG_LEVEL_INFO:
        return "INFO";
    case LOG_LEVEL_WARNING:
        return "WARNING";
    case LOG_LEVEL_ERROR:
        return "ERROR";
    }
    return "?";
}

// How much of the size bytes a vsnprintf that returned `written` has filled, without the NUL.
static size_t filled(int written, size_t size)
{
    if (written < 0) {
        return 0;
    }
    return (size_t)written < size ? (size_t)written : size - 1;
}

static void write_line(const char *line, size_t len)
{
    ssize_t rc;
    do {
        rc = write(STDERR_FILENO, line, len);
    } while (rc < 0 && errno == EINTR);
    // A log that cannot be written has nowhere to say so.
}

void log_line(enum log_level level, const char *module, const char *event, const char *pairs, ...)
{
    char time[WALL_TEXT_SIZE];
    wall_format(wall_now(), time);
    char line[LINE_SIZE];
    size_t len = filled(snprintf(line, sizeof(line), "%s %s %s %s%s", time, level_name(level), module, event,
                                 pairs ? " " : ""),
                        sizeof(line));
    if (pairs) {
        va_list args;
        va_start(args, pairs);
        len += filled(vsnprintf(line + len, sizeof(line) - len, pairs, args), sizeof(line) - len);
        va_end(args);
    }
    len = utf8_cut(line, len);
    utf8_scrub(line, len);
    line[len++] = '\n'; // over the NUL
    write_line(line, len);
}

const char *log_quote(const char *value, struct log_text *into)
{
    const size_t room = sizeof(into->text) - sizeof("\\x\"");
    size_t len = 0;
    into->text[len++] = '"';
    for (const char *at = value; *at != '\0' && len < room; at++) {
        if (*at == '"' || *at == '\\') {
            into->text[len++] = '\\';
        }
        into->text[len++] = *at;
    }
    into->text[len++] = '"';
    into->text[len] = '\0';
    return into->text;
}
