// log.h - one line for each event on standard error: time, level, module, event, then what belongs to it, as
// logfmt or as JSON.
//
//   2026-11-23T18:47:05.123Z INFO loop ready waiting=3 data=/var/lib/sluice
//   {"time":"2026-11-23T18:47:05.123Z","level":"INFO","module":"loop","event":"ready","waiting":3,"data":"/var…"}
//
// Where standard error is systemd's journal (JOURNAL_STREAM names it), each line starts with its priority,
// `<6>`, as sd-daemon(3) has it. Only main files, the loop and the edges log; leaf code returns errors. Safe
// for use by several threads: lines never mix.
//
// How lines look and which are written belongs to the process, as standard error does: it is set once and
// kept here.
#ifndef SLUICE_COMMON_LOG_H
#define SLUICE_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_options {
    enum log_format format;
    enum log_level level; // what is below it is dropped
    bool access;          // log_access writes, at INFO
};

// Called once from main, before any thread. Without it: logfmt, from INFO on, no access lines.
void log_setup(const struct log_options *options);

// log_line(LOG_LEVEL_INFO, "loop", "ready", "waiting=%zu data=%s", n, dir);
// pairs is a printf format of key=value pairs, or NULL. A value that can hold spaces or quotes goes through
// log_quote. A "%s" that stands alone may bring more pairs, or none. In JSON a value is a number when it is
// printed with a conversion of numbers. Control characters
// and what is no UTF-8 become '?'; a line is cut at 2 KiB (as logfmt).
void log_line(enum log_level level, const char *module, const char *event, const char *pairs, ...)
    __attribute__((format(printf, 4, 5)));

// A line of the many that are only written with --access-log: one for each request, ingestion or delivery.
// They are kept until there are 4 KiB of them, another line is written, or log_flush is called.
void log_access(const char *module, const char *event, const char *pairs, ...)
    __attribute__((format(printf, 3, 4)));
// False when log_access does nothing, so that there is no need to gather what it would say.
bool log_access_on(void);
// Writes what log_access kept. To be called before the process ends or sleeps.
void log_flush(void);

struct log_text {
    char text[1024];
};
// The value between double quotes, with a backslash before each quote and backslash in it; cut when too long.
// Returns into->text, so that it can stand among log_line's arguments: log_quote(detail, &(struct
// log_text){0}).
const char *log_quote(const char *value, struct log_text *into);

// Parsers for the options of both programs (conf.h). into: enum log_format / enum log_level / bool.
bool conf_log_format(const char *text, void *into);
bool conf_log_level(const char *text, void *into);
bool conf_on_off(const char *text, void *into);

#endif
