// log.h - one line for each event on standard error: time, level, module, event, then key=value pairs
// (logfmt).
//
// Only main files, the loop and the edges log; leaf code returns errors. Safe for use by several threads: a
// line is one write(2).
#ifndef SLUICE_COMMON_LOG_H
#define SLUICE_COMMON_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

// log_line(LOG_LEVEL_INFO, "loop", "ready", "waiting=%zu data=%s", n, dir);
//   2026-11-23T18:47:05.123Z INFO loop ready waiting=3 data=/var/lib/sluice
// pairs is a printf format, or NULL. Control characters in the result become '?'; a line is cut at 2 KiB.
// A value that can hold spaces or quotes goes through log_quote.
void log_line(enum log_level level, const char *module, const char *event, const char *pairs, ...)
    __attribute__((format(printf, 4, 5)));

struct log_text {
    char text[1024];
};
// The value between double quotes, with a backslash before each quote and backslash in it; cut when too long.
// Returns into->text, so that it can stand among log_line's arguments: log_quote(detail, &(struct
// log_text){0}).
const char *log_quote(const char *value, struct log_text *into);

#endif
