#include "common/log.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TIME_LEN 24

// Standard error is a pipe in these tests; `line` is what one read gives: one write is one line.
static int reader;
static char line[8192];

static void set_up(void)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
}

TestSuite(log, .init = set_up, .timeout = 30);

static void read_line(void)
{
    ssize_t len = read(reader, line, sizeof(line) - 1);
    cr_assert_gt(len, TIME_LEN);
    line[len] = '\0';
    cr_assert_eq(strchr(line, '\n'), line + len - 1, "one line, ended");
}

Test(log, a_line)
{
    log_line(LOG_LEVEL_INFO, "loop", "ready", "waiting=%zu data=%s", (size_t)3, "/var/lib/sluice");
    read_line();
    cr_assert_str_eq(line + TIME_LEN, " INFO loop ready waiting=3 data=/var/lib/sluice\n");
    cr_assert_eq(line[10], 'T');
    cr_assert_eq(line[TIME_LEN - 1], 'Z');
}

Test(log, levels_and_no_pairs)
{
    static const struct {
        enum log_level level;
        const char *line;
    } cases[] = {
        {LOG_LEVEL_DEBUG, " DEBUG m e\n"},
        {LOG_LEVEL_INFO, " INFO m e\n"},
        {LOG_LEVEL_WARNING, " WARNING m e\n"},
        {LOG_LEVEL_ERROR, " ERROR m e\n"},
    };
    log_setup(&(struct log_options){.level = LOG_LEVEL_DEBUG});
    for (size_t i = 0; i < COUNT(cases); i++) {
        log_line(cases[i].level, "m", "e", NULL);
        read_line();
        cr_assert_str_eq(line + TIME_LEN, cases[i].line);
    }
}

Test(log, nothing_can_forge_a_line)
{
    log_line(LOG_LEVEL_ERROR, "m", "e", "error=\"%s\"",
             "a\n2026 INFO\r\x1b[2J\xff\xc2\x9b gr\xc3\xbc\xc3\x9f");
    read_line();
    cr_assert_str_eq(line + TIME_LEN, " ERROR m e error=\"a?2026 INFO??[2J??? gr\xc3\xbc\xc3\x9f\"\n");
}

Test(log, is_cut_at_two_kilobytes_between_characters)
{
    char text[4000];
    for (size_t offset = 0; offset < 2; offset++) {
        memset(text, 'x', offset);
        for (size_t i = offset; i + 2 < sizeof(text); i += 2)
            memcpy(text + i, "\xc3\xbc", 3);
        log_line(LOG_LEVEL_INFO, "m", "e", "text=%s", text);
        read_line();
        size_t len = strlen(line);
        cr_assert(len == 2048 || len == 2047, "%zu", len);
        cr_assert_null(strchr(line, '?'));
    }
}

Test(log, a_quoted_value_is_one_value)
{
    static const struct {
        const char *value;
        const char *quoted;
    } cases[] = {
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a \"b\" c", "\"a \\\"b\\\" c\""},
        {"back\\slash", "\"back\\\\slash\""},
    };
    struct log_text text;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_str_eq(log_quote(cases[i].value, &text), cases[i].quoted);
    }
    char longer[4 * sizeof(text.text)];
    memset(longer, '"', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    size_t len = strlen(log_quote(longer, &text));
    cr_assert_lt(len, sizeof(text.text));
    cr_assert_eq(text.text[len - 1], '"', "a value that was cut ends in its quote, too");
    cr_assert_eq(len % 2, 0, "and never behind a lone backslash");
}

// ---- JSON ----

// What a JSON line says, past its time.
static const char *json_line(void)
{
    static const char start[] = "{\"time\":\"";
    read_line();
    cr_assert_eq(strncmp(line, start, strlen(start)), 0, "%s", line);
    cJSON *parsed = cJSON_Parse(line);
    cr_assert(cJSON_IsObject(parsed), "no JSON: %s", line);
    cJSON_Delete(parsed);
    return line + strlen(start) + TIME_LEN;
}

static void json(void)
{
    log_setup(&(struct log_options){.format = LOG_FORMAT_JSON, .level = LOG_LEVEL_INFO});
}

Test(log, json_has_numbers_where_numbers_were_printed)
{
    json();
    log_line(LOG_LEVEL_INFO, "loop", "ready", "waiting=%zu queue=%s ms=%.3f low=%d again=\"at 1\" empty=%s",
             (size_t)3, "7", 0.25, -7, "");
    cr_assert_str_eq(
        json_line(),
        "\",\"level\":\"INFO\",\"module\":\"loop\",\"event\":\"ready\",\"waiting\":3,\"queue\":\"7\","
        "\"ms\":0.250,\"low\":-7,\"again\":\"at 1\",\"empty\":\"\"}\n");
    log_line(LOG_LEVEL_ERROR, "m", "e", NULL);
    cr_assert_str_eq(json_line(), "\",\"level\":\"ERROR\",\"module\":\"m\",\"event\":\"e\"}\n");
}

static void expect_error(const char *expected)
{
    const char *got = json_line();
    if (expected) {
        static const char key[] = "\"error\":\"";
        const char *value = strstr(got, key);
        cr_assert_not_null(value, "%s", got);
        value += strlen(key);
        cr_assert_eq(strncmp(value, expected, strlen(expected)), 0, "%s", got);
        cr_assert_str_eq(value + strlen(expected), "\"}\n");
    }
}

Test(log, nothing_can_break_json)
{
    static const struct {
        const char *value;
        const char *quoted, *bare, *raw; // through log_quote, as it is, and between quotes as it is
    } cases[] = {
        {"two words", "two words", "two\",\"words\":\"", "two words"},
        {"a \"b\" \\c", "a \\\"b\\\" \\\\c", NULL, NULL},
        {"a\n\r\t\x01\x7f\x1b[2J", "a??????[2J", "a??????[2J", "a??????[2J"},
        {"\xff\xc2\x9b gr\xc3\xbc\xc3\x9f\xed\xa0\x80", "??? gr\xc3\xbc\xc3\x9f???", NULL, NULL},
        {"\\", "\\\\", "\\\\", NULL},
        {"\\n", "\\\\n", "\\\\n", "\\\\n"},
        {"a\"b", "a\\\"b", "a\\\"b", NULL},
        {"\",\"level\":\"x", "\\\",\\\"level\\\":\\\"x", NULL, NULL},
        {"01", "01", "01", "01"},
        {"1e3", "1e3", "1e3", "1e3"},
    };
    struct log_text text;
    json();
    for (size_t i = 0; i < COUNT(cases); i++) {
        log_line(LOG_LEVEL_INFO, "m", "e", "error=%s", log_quote(cases[i].value, &text));
        expect_error(cases[i].quoted);
        log_line(LOG_LEVEL_INFO, "m", "e", "error=%s", cases[i].value);
        expect_error(cases[i].bare);
        log_line(LOG_LEVEL_INFO, "m", "e", "error=\"%s\"", cases[i].value);
        expect_error(cases[i].raw);
    }
}

Test(log, a_long_line_is_json_all_the_same)
{
    char text[4000];
    json();
    for (size_t offset = 0; offset < 3; offset++) {
        memset(text, 'x', sizeof(text));
        for (size_t i = offset; i + 1 < sizeof(text); i += 3)
            memcpy(text + i, "\\\"", 2);
        text[sizeof(text) - 1] = '\0';
        log_line(LOG_LEVEL_INFO, "m", "e", "error=\"%s\"", text);
        (void)json_line();
        log_line(LOG_LEVEL_INFO, "m", "e", "error=%s", text);
        (void)json_line();
        memset(text, '"', sizeof(text) - 1);
        log_line(LOG_LEVEL_INFO, "m", "e", "error=x%s", text);
        (void)json_line();
        for (size_t i = 0; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "a=b ", 4);
        log_line(LOG_LEVEL_INFO, "m", "e", "%s", text);
        (void)json_line();
    }
}

// ---- what is written, and when ----

Test(log, what_is_below_the_level_is_dropped)
{
    log_line(LOG_LEVEL_DEBUG, "m", "dropped", NULL);
    log_setup(&(struct log_options){.level = LOG_LEVEL_ERROR, .access = true});
    log_line(LOG_LEVEL_INFO, "m", "dropped", NULL);
    log_line(LOG_LEVEL_WARNING, "m", "dropped", NULL);
    log_access("m", "dropped", "a=%d", 1);
    log_flush();
    log_line(LOG_LEVEL_ERROR, "m", "written", NULL);
    log_setup(&(struct log_options){.level = LOG_LEVEL_DEBUG});
    log_access("m", "dropped", "a=%d", 1);
    log_flush();
    read_line();
    cr_assert_str_eq(line + TIME_LEN, " ERROR m written\n");
    log_line(LOG_LEVEL_DEBUG, "m", "written", NULL);
    read_line();
    cr_assert_str_eq(line + TIME_LEN, " DEBUG m written\n");
}

// What can be read now.
static size_t read_some(void)
{
    struct pollfd ready = {.fd = reader, .events = POLLIN};
    ssize_t len = poll(&ready, 1, 0) == 1 ? read(reader, line, sizeof(line) - 1) : 0;
    cr_assert_geq(len, 0);
    line[len] = '\0';
    return (size_t)len;
}

Test(log, access_lines_are_kept_and_written_in_order)
{
    log_setup(&(struct log_options){.level = LOG_LEVEL_INFO, .access = true});
    cr_assert(log_access_on());
    log_access("m", "e", "n=%d", 1);
    log_access("m", "e", "n=%d", 2);
    cr_assert_eq(read_some(), 0, "kept");
    log_line(LOG_LEVEL_INFO, "m", "e", "n=%d", 3);
    (void)read_some();
    const char *one = strstr(line, "n=1\n"), *two = strstr(line, "n=2\n");
    cr_assert(one && two && one < two);
    if (!strstr(line, "n=3\n")) {
        read_line(); // a write of its own
    }
    cr_assert(strstr(line, "n=3\n"));
    log_access("m", "e", "n=%d", 4);
    log_flush();
    read_line();
    cr_assert(strstr(line, "n=4\n"));
    log_flush();
    cr_assert_eq(read_some(), 0);
}

Test(log, access_lines_are_written_when_there_are_many)
{
    size_t written = 0, lines = 0;
    log_setup(&(struct log_options){.level = LOG_LEVEL_INFO, .access = true});
    for (int i = 0; i < 1000; i++) {
        log_access("m", "e", "n=%d", i);
        size_t len = read_some();
        cr_assert_leq(len, 4096, "no more than a pipe takes whole");
        for (size_t at = 0; at < len; at++)
            lines += line[at] == '\n';
        written += len > 0;
    }
    cr_assert_gt(lines, 800);
    cr_assert_lt(written, 50);
}

// ---- the journal ----

Test(log, the_journal_gets_priorities)
{
    static const struct {
        enum log_level level;
        const char *start;
    } cases[] = {{LOG_LEVEL_DEBUG, "<7>2"},
                 {LOG_LEVEL_INFO, "<6>2"},
                 {LOG_LEVEL_WARNING, "<4>2"},
                 {LOG_LEVEL_ERROR, "<3>2"}};
    char stream[64];
    struct stat info;
    cr_assert_eq(fstat(STDERR_FILENO, &info), 0);
    (void)snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)info.st_dev,
                   (unsigned long long)info.st_ino);
    cr_assert_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_setup(&(struct log_options){.level = LOG_LEVEL_DEBUG});
    for (size_t i = 0; i < COUNT(cases); i++) {
        log_line(cases[i].level, "m", "e", NULL);
        read_line();
        cr_assert_eq(strncmp(line, cases[i].start, 4), 0, "%s", line);
    }
    log_setup(&(struct log_options){.format = LOG_FORMAT_JSON, .level = LOG_LEVEL_INFO});
    log_line(LOG_LEVEL_INFO, "m", "e", NULL);
    read_line();
    cr_assert_eq(strncmp(line, "<6>{\"time\":", 11), 0, "%s", line);
}

Test(log, another_stream_is_not_the_journal)
{
    char stream[64];
    struct stat info;
    cr_assert_eq(fstat(STDERR_FILENO, &info), 0);
    const unsigned long long dev = info.st_dev, ino = info.st_ino;
    for (int way = 0; way < 3; way++) {
        (void)snprintf(stream, sizeof(stream), way == 2 ? "%llu" : "%llu:%llu", dev + (way == 1),
                       ino + (way == 0));
        cr_assert_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
        log_setup(&(struct log_options){.level = LOG_LEVEL_INFO});
        log_line(LOG_LEVEL_INFO, "m", "e", NULL);
        read_line();
        cr_assert_eq(line[0], '2', "%s", line);
    }
}
