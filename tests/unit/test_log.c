#include "common/log.h"

#include <criterion/criterion.h>
#include <string.h>
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
