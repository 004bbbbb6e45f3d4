// The pure parts of the command line: texts, tables, bars, options, and how it ends.
#include "cli/exit.h"
#include "cli/ids.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/table.h"

#include "common/err.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// What is said on standard error is not looked at here.
static void quiet(void)
{
    (void)fclose(stderr);
    stderr = fopen("/dev/null", "we");
}

TestSuite(cli_parts, .init = quiet);

// ---- Texts ----

Test(cli_parts, spans)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {-5, "0s"},           {0, "0s"},           {1, "1s"},
        {1000, "1s"},         {59001, "1m00s"},    {61000, "1m01s"},
        {3599000, "59m59s"},  {3600000, "1h00m"},  {7500000, "2h05m"},
        {86399000, "23h59m"}, {86400000, "1d00h"}, {INT64_C(400) * 86400000, "400d00h"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[SPAN_TEXT_SIZE];
        span_format(cases[i].ms, text);
        cr_expect_str_eq(text, cases[i].text, "%lld: %s", (long long)cases[i].ms, text);
    }
}

static void expect_progress(const struct figures *figures, size_t width, const char *text)
{
    struct buf out;
    buf_init(&out);
    progress_write(figures, (struct wall){1000000}, width, &out);
    cr_expect_str_eq(out.data, text, "%s", out.data);
    buf_fini(&out);
}

Test(cli_parts, bars)
{
    struct figures figures = {.status = STATUS_TRIGGERED,
                              .total = 8,
                              .yet_to_start = 4,
                              .triggered = 1,
                              .completed = 2,
                              .failed = 1,
                              .has_position = true,
                              .position = 17,
                              .has_eta = true,
                              .eta = {1000000 + 192000}};
    expect_progress(
        &figures, 200,
        "triggered    [###############-------------------------] 3/8 batches, 1 failed, 1 in flight, "
        "17 ahead, done in 3m12s");
    expect_progress(
        &figures, 90,
        "triggered    [#####----------] 3/8 batches, 1 failed, 1 in flight, 17 ahead, done in 3m12s");
    expect_progress(
        &figures, 80,
        "triggered    3/8 batches, 1 failed, 1 in flight, 17 ahead, done in 3m12s"); // no room for a bar
    expect_progress(&figures, 20, "triggered    3/8 bat");
    figures = (struct figures){.status = STATUS_CANCELLED, .total = 3, .completed = 1, .cancelled = 2};
    expect_progress(&figures, 60, "cancelled    [####################] 3/3 batches, 2 cancelled");
    figures =
        (struct figures){.status = STATUS_YET_TO_START, .total = UINT64_C(100000), .yet_to_start = 100000};
    expect_progress(&figures, 50, "yet_to_start [------------------] 0/100000 batches");
}

Test(cli_parts, fates)
{
    static const struct {
        const char *reply;
        bool readable, final;
        int fate;
    } cases[] = {
        {"{\"status\":\"completed\",\"progress\":{\"total\":2,\"completed\":2}}", true, true, EXIT_CODE_OK},
        {"{\"status\":\"failed\",\"progress\":{\"total\":2,\"completed\":1,\"failed\":1}}", true, true,
         EXIT_CODE_FAILED},
        {"{\"status\":\"cancelled\",\"progress\":{\"total\":1,\"cancelled\":1}}", true, true,
         EXIT_CODE_CANCELLED},
        {"{\"status\":\"triggered\",\"progress\":{\"total\":2,\"failed\":1,\"triggered\":1}}", true, false,
         0},
        {"{\"status\":\"yet_to_start\",\"progress\":{\"total\":2,\"yet_to_start\":2},\"eta\":null}", true,
         false, 0},
        {"{\"status\":\"odd\",\"progress\":{\"total\":2}}", false, false, 0},
        {"{\"status\":\"failed\"}", false, false, 0},
        {"[]", false, false, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct figures figures;
        cJSON *reply = cJSON_Parse(cases[i].reply);
        bool readable = figures_read(reply, &figures);
        cr_expect_eq(readable, cases[i].readable, "%s", cases[i].reply);
        if (readable) {
            cr_expect_eq(figures_final(&figures), cases[i].final, "%s", cases[i].reply);
            cr_expect(!cases[i].final || figures_fate(&figures) == cases[i].fate, "%s", cases[i].reply);
        }
        cJSON_Delete(reply);
    }
}

// ---- Tables ----

static void expect_table(const struct table *table, size_t lines, size_t width, bool colours,
                         const char *text)
{
    struct buf out;
    buf_init(&out);
    table_write(table, lines, width, colours, &out);
    cr_expect_str_eq(out.data, text, "%s", out.data);
    buf_fini(&out);
}

Test(cli_parts, tables)
{
    struct table table;
    table_init(&table, (const char *const[]){"NAME", ">N", "LAST", NULL});
    table_text(&table, "\xc3\xa4rger", TINT_NONE); // two bytes, one place
    table_count(&table, 9007199254740991, TINT_BAD);
    table_text(&table, "", TINT_NONE);
    table_text(&table, "b\033[2Jd", TINT_GOOD);
    table_count(&table, 0, TINT_BAD);
    table_text(&table, "x", TINT_NONE);
    table_text(&table, "of a row that is not complete", TINT_NONE);
    expect_table(&table, 9, 200, false,
                 "NAME                                          N  LAST\n"
                 "\xc3\xa4rger                          9007199254740991\n"
                 "b?[2Jd                                        0  x\n");
    table_fini(&table);

    table_init(&table, (const char *const[]){"NAME", ">N", NULL});
    table_text(&table, "ab\xc3\xa4", TINT_GOOD);
    table_count(&table, 12, TINT_BAD);
    expect_table(&table, 9, 200, true,
                 "\033[1mNAME\033[0m   \033[1mN\033[0m\n\033[32mab\xc3\xa4\033[0m   \033[31m12\033[0m\n");
    expect_table(&table, 1, 200, false, "NAME   N\n");
    expect_table(&table, 9, 7, false, "NAME\nab\xc3\xa4   1\n");
    expect_table(&table, 9, 3, false, "NAM\nab\xc3\xa4\n");
    expect_table(&table, 9, 2, false, "NA\nab\n");
    table_fini(&table);
}

// ---- Exit codes ----

// Every error of the scheduler has one, and not by accident that of success.
Test(cli_parts, an_exit_code_for_every_error)
{
#define ERR_CODE(name, code, status, title) code,
    static const char *const codes[] = {ERR_LIST(ERR_CODE)};
#undef ERR_CODE
    for (size_t i = 0; i < COUNT(codes); i++) {
        int code = exit_of_error(codes[i]);
        cr_expect(code == EXIT_CODE_REFUSED || (code >= EXIT_CODE_USAGE && code <= EXIT_CODE_CONFIG),
                  "%s: %d", codes[i], code);
    }
    cr_assert_eq(exit_of_error("not_found"), EXIT_CODE_NOINPUT);
    cr_assert_eq(exit_of_error("overloaded"), EXIT_CODE_TEMPFAIL);
    cr_assert_eq(exit_of_error("queue_not_empty"), EXIT_CODE_REFUSED);
    cr_assert_eq(exit_of_error("one that is not known yet"), EXIT_CODE_REFUSED);
}

// ---- IDs ----

// All portions of a text, each followed by "|"; "!" and the exit code at a failure.
static char *portions(const char *text, size_t len, enum ids_kind kind)
{
    struct buf all, items;
    size_t count;
    FILE *file = tmpfile();
    cr_assert(file && fwrite(text, 1, len, file) == len);
    rewind(file);
    struct ids_source source = {.file = file, .name = "a test", .kind = kind};
    buf_init(&all);
    buf_init(&items);
    int code;
    while ((code = ids_take(&source, &items, &count)) == EXIT_CODE_OK && count > 0) {
        cr_assert_leq(count, IDS_MAX);
        buf_put(&all, items.data, items.len);
        buf_char(&all, '|');
    }
    if (code != EXIT_CODE_OK) {
        buf_printf(&all, "!%d", code);
    }
    buf_char(&all, '\0');
    buf_fini(&items);
    (void)fclose(file);
    return buf_take(&all, &len);
}

static void expect_portions(const char *text, enum ids_kind kind, const char *wanted)
{
    char *got = portions(text, strlen(text), kind);
    cr_expect_str_eq(got, wanted, "%s: %s", text, got);
    free(got);
}

Test(cli_parts, ids_from_lines)
{
    expect_portions("", IDS_INTEGER, "");
    expect_portions("\n\r\n", IDS_INTEGER, "");
    expect_portions("1\n2\r\n\n3", IDS_INTEGER, "1,2,3|");
    expect_portions("9007199254740991\n", IDS_INTEGER, "9007199254740991|");
    static const char *const bad[] = {
        "0",   "9007199254740992",       "-1", "+1", "1 ", " 1", "1,2", "0x1", "1.0", "1e3",
        "one", "99999999999999999999999"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        expect_portions(bad[i], IDS_INTEGER, "!65");
    }
    expect_portions("a\n b \n\"\\", IDS_STRING, "\"a\",\" b \",\"\\\"\\\\\"|");
    expect_portions("\xff", IDS_STRING, "!65");
    char *got = portions("a\0b\n", 4, IDS_STRING);
    cr_expect_str_eq(got, "!65");
    free(got);
    char longest[130];
    memset(longest, 'x', sizeof(longest));
    longest[129] = '\0';
    expect_portions(longest, IDS_STRING, "!65");
    longest[128] = '\r';
    char wanted[140];
    (void)snprintf(wanted, sizeof(wanted), "\"%.128s\"|", longest);
    expect_portions(longest, IDS_STRING, wanted);
    (void)snprintf(wanted, sizeof(wanted), "%.128s\r\r\rx", longest);
    expect_portions(wanted, IDS_STRING, "!65");
    expect_portions("1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
                    "11111111111111"
                    "1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
                    "11111111111111",
                    IDS_INTEGER, "!65");
}

// A portion ends at 100,000 IDs, and where it would no longer fit into a message.
Test(cli_parts, portions_of_ids)
{
    enum { MANY = 250001, LONG = 128, TALL = 30000 };
    char *text = malloc((size_t)TALL * (LONG + 1));
    size_t len = 0, parts = 0;
    cr_assert_not_null(text);
    for (size_t i = 0; i < MANY; i++) {
        memcpy(text + len, "7\n", 2);
        len += 2;
    }
    char *got = portions(text, len, IDS_INTEGER);
    for (char *at = got; *at; at++) {
        parts += *at == '|';
    }
    cr_assert_eq(parts, 3);
    free(got);
    len = 0;
    for (size_t i = 0; i < TALL; i++) {
        memset(text + len, '\001', LONG); // six bytes each in JSON
        text[len + LONG] = '\n';
        len += LONG + 1;
    }
    got = portions(text, len, IDS_STRING);
    parts = 0;
    for (char *at = got, *end; *at; at = end + 1, parts++) {
        end = strchr(at, '|');
        cr_assert(end && (size_t)(end - at) < MESSAGE_MAX - 4096);
    }
    cr_assert_eq(parts, 3);
    free(got);
    free(text);
}

// ---- Options ----

// The words in `words`, with spaces between.
static int parse(const struct command *command, const char *words, struct settings *settings, size_t *count)
{
    static char copy[256]; // options borrow from it, as from argv
    char *argv[16] = {NULL};
    char *rest = copy;
    bool help;
    (void)snprintf(copy, sizeof(copy), "%s", words);
    for (size_t i = 0; rest; i++) {
        cr_assert_lt(i + 1, COUNT(argv));
        argv[i] = strsep(&rest, " ");
    }
    *settings = (struct settings){.limit = UINT64_MAX};
    int code = options_parse(command, argv, settings, count, &help);
    cr_assert_not(help);
    return code;
}

Test(cli_parts, options)
{
    struct settings settings;
    size_t count;
    (void)unsetenv("SLUICE_TIMEOUT");
    cr_assert_eq(parse(&ingest_command, "1 --priority low 2 --wait -- --3", &settings, &count), EXIT_CODE_OK);
    cr_assert_eq(count, 3);
    cr_assert(settings.wait && !settings.json);
    cr_assert_str_eq(settings.priority, "LOW");
    cr_assert_eq(settings.timeout_ns, 5 * NS_PER_S);

    (void)setenv("SLUICE_TIMEOUT", "7s", 1);
    cr_assert_eq(parse(&ping_command, "--json", &settings, &count), EXIT_CODE_OK);
    cr_assert_eq(settings.timeout_ns, 7 * NS_PER_S);
    cr_assert_eq(parse(&ping_command, "--timeout=9s", &settings, &count), EXIT_CODE_OK);
    cr_assert_eq(settings.timeout_ns, 9 * NS_PER_S);
    (void)setenv("SLUICE_TIMEOUT", "soon", 1);
    cr_assert_eq(parse(&ping_command, "--json", &settings, &count), EXIT_CODE_USAGE);
    (void)setenv("SLUICE_TIMEOUT", "", 1);
    cr_assert_eq(parse(&ping_command, "--json", &settings, &count), EXIT_CODE_OK);

    cr_assert_eq(parse(&status_command, "x --limit -1", &settings, &count), EXIT_CODE_USAGE);
    cr_assert_eq(parse(&status_command, "x -n", &settings, &count), EXIT_CODE_USAGE);
    cr_assert_eq(parse(&status_command, "x y", &settings, &count), EXIT_CODE_USAGE);
    cr_assert_eq(parse(&status_command, "x --limi 3", &settings, &count), EXIT_CODE_USAGE);
    cr_assert_eq(parse(&list_command, "--status done", &settings, &count), EXIT_CODE_USAGE);
}
