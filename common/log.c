#include "common/log.h"

#include "common/clock.h"
#include "common/utf8.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_SIZE 2048                  // of a line as logfmt
#define LINE_SIZE (4 * TEXT_SIZE + 128) // as JSON a pair has at most four times its length
#define KEPT_SIZE 4096                  // PIPE_BUF: one write of it stays whole in a pipe

// The one thing that is kept at file scope: see log.h.
static struct {
    struct log_options options; // set before there are threads
    bool journal;               // the same
    pthread_mutex_t lock;       // for what follows, and for writing
    size_t kept_len;
    char kept[KEPT_SIZE];
} sink = {.options = {.level = LOG_LEVEL_INFO}, .lock = PTHREAD_MUTEX_INITIALIZER};

static const struct {
    const char *name;
    const char *option;
    char priority; // as in syslog(3)
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"DEBUG", "debug", '7'},
    [LOG_LEVEL_INFO] = {"INFO", "info", '6'},
    [LOG_LEVEL_WARNING] = {"WARNING", "warning", '4'},
    [LOG_LEVEL_ERROR] = {"ERROR", "error", '3'},
};

// ---- set-up ----

// Whether standard error is the stream that systemd's JOURNAL_STREAM names, by device and inode: a program
// that was started with another one inherits the variable all the same.
static bool is_journal(void)
{
    char name[64];
    struct stat info;
    const char *stream = getenv("JOURNAL_STREAM");
    if (!stream || fstat(STDERR_FILENO, &info) != 0) {
        return false;
    }
    (void)snprintf(name, sizeof(name), "%llu:%llu", (unsigned long long)info.st_dev,
                   (unsigned long long)info.st_ino);
    return strcmp(name, stream) == 0;
}

void log_setup(const struct log_options *options)
{
    sink.options = *options;
    sink.options.access = options->access && options->level <= LOG_LEVEL_INFO;
    sink.journal = is_journal();
}

bool conf_log_format(const char *text, void *into)
{
    bool json = strcmp(text, "json") == 0;
    if (!json && strcmp(text, "logfmt") != 0) {
        return false;
    }
    *(enum log_format *)into = json ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT;
    return true;
}

bool conf_log_level(const char *text, void *into)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(text, levels[i].option) == 0) {
            *(enum log_level *)into = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool conf_on_off(const char *text, void *into)
{
    bool on = strcmp(text, "on") == 0;
    if (!on && strcmp(text, "off") != 0) {
        return false;
    }
    *(bool *)into = on;
    return true;
}

// ---- a line ----

// A line under way: what no longer fits is left out.
struct line {
    size_t len;
    char text[LINE_SIZE];
};

static void put(struct line *line, const char *text, size_t len)
{
    size_t room = sizeof(line->text) - line->len;
    len = len < room ? len : room;
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void put_str(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

// A key=value of logfmt.
struct pair {
    const char *key;
    size_t key_len;
    const char *value; // between its quotes, if it has some
    size_t value_len;
    bool quoted;
};

// The next pair of a text; false at its end. A word alone is a key without a value.
static bool next_pair(const char **at, struct pair *pair)
{
    const char *from = *at + strspn(*at, " ");
    *pair = (struct pair){.key = from, .key_len = strcspn(from, "= ")};
    from += pair->key_len;
    if (*from == '=') {
        pair->quoted = *++from == '"';
        from += pair->quoted;
        pair->value = from;
        while (*from != '\0' && *from != (pair->quoted ? '"' : ' ')) {
            from += pair->quoted && from[0] == '\\' && from[1] != '\0' ? 2 : 1;
        }
        pair->value_len = (size_t)(from - pair->value);
        from += *from == '"';
    }
    *at = from;
    return pair->key_len > 0;
}

// A number as JSON has it, without an exponent.
static bool is_number(const char *text, size_t len)
{
    const char *end = text + len;
    text += len > 0 && *text == '-';
    size_t whole = strspn(text, "0123456789");
    bool plain = whole > 0 && (whole == 1 || *text != '0');
    text += whole;
    if (text < end && *text == '.') {
        size_t fraction = strspn(++text, "0123456789");
        plain = plain && fraction > 0;
        text += fraction;
    }
    return plain && text == end;
}

// A JSON string. What was between quotes has its quotes and backslashes escaped, as far as it went through
// log_quote.
static void put_string(struct line *line, const char *text, size_t len, bool quoted)
{
    put_str(line, "\"");
    for (size_t i = 0; i < len; i++) {
        bool escaped =
            quoted && text[i] == '\\' && i + 1 < len && (text[i + 1] == '\\' || text[i + 1] == '"');
        bool escape = !escaped && (text[i] == '\\' || text[i] == '"');
        put_str(line, escape ? "\\" : "");
        put(line, text + i, escaped ? 2 : 1);
        i += escaped;
    }
    put_str(line, "\"");
}

static void put_member(struct line *line, const struct pair *pair, bool number)
{
    put_str(line, ",");
    put_string(line, pair->key, pair->key_len, false);
    put_str(line, ":");
    if (number && pair->value_len > 0 && is_number(pair->value, pair->value_len)) {
        put(line, pair->value, pair->value_len);
    } else {
        put_string(line, pair->value, pair->value_len, pair->quoted);
    }
}

// Whether the value of this pair was printed as a number.
static bool printed_as_number(const char *format, const struct pair *pair)
{
    struct pair model;
    while (next_pair(&format, &model)) {
        if (model.key_len == pair->key_len && memcmp(model.key, pair->key, pair->key_len) == 0) {
            return !model.quoted && model.value_len > 0 && !memmem(model.value, model.value_len, "%s", 2);
        }
    }
    return false;
}

static void put_members(struct line *line, const char *format, const char *pairs)
{
    struct pair pair;
    while (next_pair(&pairs, &pair)) {
        put_member(line, &pair, printed_as_number(format, &pair));
    }
}

// How much of the size bytes a vsnprintf that returned `written` has filled, without the NUL.
static size_t filled(int written, size_t size)
{
    if (written < 0) {
        return 0;
    }
    return (size_t)written < size ? (size_t)written : size - 1;
}

static void format_line(struct line *line, enum log_level level, const char *module, const char *event,
                        const char *format, va_list args) __attribute__((format(printf, 5, 0)));

static void format_line(struct line *line, enum log_level level, const char *module, const char *event,
                        const char *format, va_list args)
{
    char time[WALL_TEXT_SIZE];
    char pairs[TEXT_SIZE] = "";
    const bool json = sink.options.format == LOG_FORMAT_JSON;
    const char *const parts[] = {json ? "{\"time\":\"" : "",
                                 time,
                                 json ? "\",\"level\":\"" : " ",
                                 levels[level].name,
                                 json ? "\",\"module\":\"" : " ",
                                 module,
                                 json ? "\",\"event\":\"" : " ",
                                 event,
                                 json ? "\"" : ""};
    wall_format(wall_now(), time);
    line->len = 0;
    if (sink.journal) {
        put(line, (const char[]){'<', levels[level].priority, '>'}, 3);
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        put_str(line, parts[i]);
    }
    assert(line->len < TEXT_SIZE / 2); // names of ours
    const size_t room = TEXT_SIZE - 1 - line->len;
    size_t len = format ? filled(vsnprintf(pairs, room, format, args), room) : 0;
    len = utf8_cut(pairs, len);
    while (len > 0 && pairs[len - 1] == ' ') {
        len--;
    }
    pairs[len] = '\0';
    utf8_scrub(pairs, len);
    if (json) {
        put_members(line, format ? format : "", pairs);
        put_str(line, "}");
    } else if (len > 0) {
        put_str(line, " ");
        put(line, pairs, len);
    }
    put_str(line, "\n");
}

// ---- writing (with the lock held) ----

static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            return; // a log that cannot be written has nowhere to say so
        }
    }
}

static void write_kept(void)
{
    write_all(sink.kept, sink.kept_len);
    sink.kept_len = 0;
}

void log_line(enum log_level level, const char *module, const char *event, const char *pairs, ...)
{
    struct line line;
    va_list args;
    if (level < sink.options.level) {
        return;
    }
    va_start(args, pairs);
    format_line(&line, level, module, event, pairs, args);
    va_end(args);
    pthread_mutex_lock(&sink.lock);
    write_kept();
    write_all(line.text, line.len);
    pthread_mutex_unlock(&sink.lock);
}

bool log_access_on(void)
{
    return sink.options.access;
}

void log_access(const char *module, const char *event, const char *pairs, ...)
{
    struct line line;
    va_list args;
    if (!sink.options.access) {
        return;
    }
    va_start(args, pairs);
    format_line(&line, LOG_LEVEL_INFO, module, event, pairs, args);
    va_end(args);
    pthread_mutex_lock(&sink.lock);
    if (sink.kept_len + line.len > sizeof(sink.kept)) {
        write_kept();
    }
    if (line.len > sizeof(sink.kept)) {
        write_all(line.text, line.len);
    } else {
        memcpy(sink.kept + sink.kept_len, line.text, line.len);
        sink.kept_len += line.len;
    }
    pthread_mutex_unlock(&sink.lock);
}

void log_flush(void)
{
    pthread_mutex_lock(&sink.lock);
    write_kept();
    pthread_mutex_unlock(&sink.lock);
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
