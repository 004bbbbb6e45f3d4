#include "common/conf.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/units.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct settings {
    char *data;
    struct rate rate;
    uint64_t max_body;
    int64_t timeout;
    uint64_t burst;
    bool insecure;
};

static bool parse_rate(const char *text, void *into)
{
    return rate_parse(text, into);
}

static const struct conf_option options[] = {
    {"data", "DIR", "./data", "a directory", "where everything is kept", conf_text,
     offsetof(struct settings, data)},
    {"rate", "RATE", "1/5s", "a rate such as 1/5s, 100/s, 5000/1m or unlimited", "how often", parse_rate,
     offsetof(struct settings, rate)},
    {"max-body", "SIZE", "8MiB", "a size such as 64KiB", "the largest body", conf_size,
     offsetof(struct settings, max_body)},
    {"timeout", "DURATION", "5s", "a duration such as 5s", "how long to wait", conf_duration,
     offsetof(struct settings, timeout)},
    {"burst", "N", NULL, "a number", "how many at once", conf_count, offsetof(struct settings, burst)},
    {"insecure", NULL, "off", "on or off", "let anybody in", conf_on_off,
     offsetof(struct settings, insecure)},
};

struct run {
    enum conf_result result;
    int exit_code;
    struct settings settings;
    char out[4096];
    char err[4096];
};

static void read_back(FILE *file, char *text, size_t size)
{
    rewind(file);
    size_t len = fread(text, 1, size - 1, file);
    text[len] = '\0';
    fclose(file);
}

// Loads with these arguments (and the environment as it is), both standard streams going to files.
static struct run load(char *const *args, size_t count)
{
    char name[] = "sluice-scheduler";
    char *argv[20] = {name};
    cr_assert_lt(count, COUNT(argv) - 1);
    for (size_t i = 0; i < count; i++)
        argv[i + 1] = args[i];
    struct run run = {.exit_code = -1, .settings = {.burst = 42}};
    FILE *out = tmpfile();
    FILE *err = tmpfile();
    fflush(NULL);
    int saved_out = dup(STDOUT_FILENO);
    int saved_err = dup(STDERR_FILENO);
    cr_assert(out && err && saved_out >= 0 && saved_err >= 0);
    dup2(fileno(out), STDOUT_FILENO);
    dup2(fileno(err), STDERR_FILENO);
    run.result = conf_load("sluice-scheduler", "Keeps and dispatches.", options, COUNT(options),
                           &run.settings, (int)count + 1, argv, &run.exit_code);
    fflush(NULL);
    dup2(saved_out, STDOUT_FILENO);
    dup2(saved_err, STDERR_FILENO);
    close(saved_out);
    close(saved_err);
    read_back(out, run.out, sizeof(run.out));
    read_back(err, run.err, sizeof(run.err));
    return run;
}

static struct run load_words(const char *words)
{
    static char copy[256]; // options borrow from it, as from argv
    char *args[16];
    size_t count = 0;
    cr_assert_lt(strlen(words), sizeof(copy));
    memcpy(copy, words, strlen(words) + 1);
    char *rest = copy;
    while (rest && *rest) {
        cr_assert_lt(count, COUNT(args));
        args[count++] = strsep(&rest, " ");
    }
    return load(args, count);
}

static void clear_environment(void)
{
    static const char *const names[] = {"SLUICE_DATA",    "SLUICE_RATE",  "SLUICE_MAX_BODY",
                                        "SLUICE_TIMEOUT", "SLUICE_BURST", "SLUICE_INSECURE"};
    for (size_t i = 0; i < COUNT(names); i++)
        unsetenv(names[i]);
}

TestSuite(conf, .init = clear_environment);

static void expect_go(const struct run *run)
{
    cr_assert_eq(run->result, CONF_GO, "%s", run->err);
    cr_assert_eq(run->exit_code, EXIT_CODE_OK);
    cr_assert_str_eq(run->out, "");
    cr_assert_str_eq(run->err, "");
}

Test(conf, defaults)
{
    struct run run = load(NULL, 0);
    expect_go(&run);
    cr_assert_str_eq(run.settings.data, "./data");
    cr_assert_eq(run.settings.rate.count, 1);
    cr_assert_eq(run.settings.rate.per_ns, 5 * NS_PER_S);
    cr_assert_eq(run.settings.max_body, 8 << 20);
    cr_assert_eq(run.settings.timeout, 5 * NS_PER_S);
    cr_assert_eq(run.settings.burst, 42, "without a default it is left as it is");
}

Test(conf, flags_in_both_forms)
{
    static const char *const words[] = {
        "--data /x --rate 100/s --max-body 64KiB --timeout 250ms --burst 7",
        "--data=/x --rate=100/s --max-body=64KiB --timeout=250ms --burst=7",
        "--burst 1 --timeout=250ms --data=/y --max-body 64KiB --rate 100/s --burst 7 --data /x", // the last
                                                                                                 // one counts
    };
    for (size_t i = 0; i < COUNT(words); i++) {
        struct run run = load_words(words[i]);
        expect_go(&run);
        cr_assert_str_eq(run.settings.data, "/x");
        cr_assert_eq(run.settings.rate.count, 100);
        cr_assert_eq(run.settings.max_body, 65536);
        cr_assert_eq(run.settings.timeout, 250 * NS_PER_MS);
        cr_assert_eq(run.settings.burst, 7);
    }
}

Test(conf, a_switch_stands_alone)
{
    static const struct {
        const char *words;
        bool insecure;
    } rows[] = {{"", false},
                {"--insecure", true},
                {"--insecure=on", true},
                {"--insecure=off", false},
                {"--insecure --burst 7", true}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct run run = load_words(rows[i].words);
        expect_go(&run);
        cr_assert_eq(run.settings.insecure, rows[i].insecure, "%s", rows[i].words);
    }
    struct run run = load_words("--insecure on");
    cr_assert_eq(run.exit_code, EXIT_CODE_USAGE);
    cr_assert_not_null(strstr(run.err, "\"on\" is not an option"), "%s", run.err);
    setenv("SLUICE_INSECURE", "on", 1);
    run = load(NULL, 0);
    expect_go(&run);
    cr_assert(run.settings.insecure);
}

Test(conf, the_value_may_hold_anything)
{
    struct run run = load_words("--data=a=b,c=-d");
    expect_go(&run);
    cr_assert_str_eq(run.settings.data, "a=b,c=-d");
    run = load_words("--data -");
    expect_go(&run);
    cr_assert_str_eq(run.settings.data, "-");
}

Test(conf, environment)
{
    setenv("SLUICE_MAX_BODY", "64KiB", 1);
    setenv("SLUICE_RATE", "unlimited", 1);
    setenv("SLUICE_NOT_OURS", "whatever", 1);
    struct run run = load(NULL, 0);
    expect_go(&run);
    cr_assert_eq(run.settings.max_body, 65536);
    cr_assert_eq(run.settings.rate.count, 0);
}

Test(conf, an_empty_variable_is_absent)
{
    setenv("SLUICE_MAX_BODY", "", 1);
    setenv("SLUICE_BURST", "", 1);
    struct run run = load(NULL, 0);
    expect_go(&run);
    cr_assert_eq(run.settings.max_body, 8 << 20);
    cr_assert_eq(run.settings.burst, 42);
}

Test(conf, the_flag_wins_over_the_variable)
{
    setenv("SLUICE_MAX_BODY", "64KiB", 1);
    setenv("SLUICE_RATE", "nonsense that does not matter", 1);
    struct run run = load_words("--max-body 1KiB --rate 2/s");
    expect_go(&run);
    cr_assert_eq(run.settings.max_body, 1024);
    cr_assert_eq(run.settings.rate.count, 2);
}

Test(conf, what_is_refused_and_how)
{
    static const struct {
        const char *words;
        const char *line;
    } cases[] = {
        {"--rate 1/0s", "--rate: \"1/0s\" is not allowed: a rate such as 1/5s, 100/s, 5000/1m or unlimited"},
        {"--rate=1/0s", "--rate: \"1/0s\" is not allowed: a rate such as 1/5s, 100/s, 5000/1m or unlimited"},
        {"--rate=", "--rate: \"\" is not allowed: a rate such as 1/5s, 100/s, 5000/1m or unlimited"},
        {"--max-body 1.5MiB", "--max-body: \"1.5MiB\" is not allowed: a size such as 64KiB"},
        {"--timeout 5", "--timeout: \"5\" is not allowed: a duration such as 5s"},
        {"--burst -1", "--burst: \"-1\" is not allowed: a number"},
        {"--burst", "--burst: a value is missing: a number"},
        {"--burst --rate 1/s", "--burst: a value is missing: a number"},
        {"--speed 5", "\"--speed\" is not an option; see --help"},
        {"--speed=5", "\"--speed\" is not an option; see --help"},
        {"--rat 1/s", "\"--rat\" is not an option; see --help"},
        {"--RATE 1/s", "\"--RATE\" is not an option; see --help"},
        {"-rate 1/s", "\"-rate\" is not an option; see --help"},
        {"--", "\"--\" is not an option; see --help"},
        {"--=5", "\"--\" is not an option; see --help"},
        {"-", "\"-\" is not an option; see --help"},
        {"stray", "\"stray\" is not an option; see --help"},
        {"--rate 1/s stray", "\"stray\" is not an option; see --help"},
        {"--rate 1/s\n\x1b[2J", "--rate: \"1/s??[2J\" is not allowed: a rate such as 1/5s, 100/s, 5000/1m or "
                                "unlimited"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char expected[256];
        int len = snprintf(expected, sizeof(expected), "sluice-scheduler: %s\n", cases[i].line);
        cr_assert(len > 0 && (size_t)len < sizeof(expected));
        struct run run = load_words(cases[i].words);
        cr_assert_eq(run.result, CONF_EXIT, "%s", cases[i].words);
        cr_assert_eq(run.exit_code, EXIT_CODE_USAGE);
        cr_assert_str_eq(run.err, expected);
        cr_assert_str_eq(run.out, "");
    }
}

Test(conf, a_bad_variable_is_named)
{
    setenv("SLUICE_MAX_BODY", "much", 1);
    struct run run = load(NULL, 0);
    cr_assert_eq(run.result, CONF_EXIT);
    cr_assert_eq(run.exit_code, EXIT_CODE_USAGE);
    cr_assert_str_eq(
        run.err, "sluice-scheduler: --max-body from SLUICE_MAX_BODY: \"much\" is not allowed: a size such as "
                 "64KiB\n");
}

Test(conf, a_very_long_value_is_still_one_line)
{
    static char arg[5000] = "--rate=";
    memset(arg + 7, 'x', sizeof(arg) - 8);
    char *args[] = {arg};
    struct run run = load(args, 1);
    cr_assert_eq(run.exit_code, EXIT_CODE_USAGE);
    cr_assert_eq(strchr(run.err, '\n'), run.err + strlen(run.err) - 1);
    cr_assert_eq(strncmp(run.err, "sluice-scheduler: --rate: \"xxx", 30), 0);
    cr_assert_not_null(strstr(run.err, "is not allowed: a rate such as 1/5s"));
}

Test(conf, help)
{
    struct run run = load_words("--rate 1/s --help --nonsense");
    cr_assert_eq(run.result, CONF_EXIT);
    cr_assert_eq(run.exit_code, EXIT_CODE_OK);
    cr_assert_str_eq(run.err, "");
    static const char *const parts[] = {
        "Usage: sluice-scheduler ",
        "Keeps and dispatches.",
        "  --help              this text\n",
        "  --version           the version\n",
        "  --max-body SIZE     the largest body\n",
        "  --timeout DURATION  how long to wait\n",
        "                      a size such as 64KiB; default 8MiB; SLUICE_MAX_BODY\n",
        "                      a number; SLUICE_BURST\n",
        "  --insecure          let anybody in\n",
    };
    for (size_t i = 0; i < COUNT(parts); i++)
        cr_assert_not_null(strstr(run.out, parts[i]), "%s in\n%s", parts[i], run.out);
}

Test(conf, version)
{
    struct run run = load_words("--version");
    cr_assert_eq(run.result, CONF_EXIT);
    cr_assert_eq(run.exit_code, EXIT_CODE_OK);
    cr_assert_str_eq(run.out, "sluice-scheduler " SLUICE_VERSION "\n");
    cr_assert_str_eq(run.err, "");
}

Test(conf, a_descriptor_must_be_open)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    char text[16];
    int into = -1;
    (void)snprintf(text, sizeof text, "%d", fds[1]);
    cr_assert(conf_descriptor(text, &into));
    cr_assert_eq(into, fds[1]);
    cr_assert_neq(fcntl(fds[1], F_GETFD) & FD_CLOEXEC, 0);
    close(fds[1]);
    static const char *const bad[] = {"", "0", "1", "2", "-1", "x", "99999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_not(conf_descriptor(bad[i], &into), "%s", bad[i]);
    }
    cr_assert_not(conf_descriptor(text, &into), "it is closed");
    close(fds[0]);
}

Test(conf, an_address_has_a_host_and_a_port)
{
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } good[] = {
        {"tcp://127.0.0.1:1", "127.0.0.1", 1},
        {"tcp://a-1.example.org:65535", "a-1.example.org", 65535},
        {"tcp://[::1]:8000", "[::1]", 8000},
        {"tcp://[fe80::127.0.0.1]:8000", "[fe80::127.0.0.1]", 8000},
    };
    static const char *const bad[] = {
        "",
        "tcp",
        "tcp://",
        "tcp://h",
        "tcp://h:",
        "tcp://:1",
        "tcp://h:0",
        "tcp://h:x",
        "tcp://h:65536",
        "tcp://h:1/",
        "tcp://h:-1",
        "tcp://h/x:1",
        "tcp://a b:1",
        "tcp://::1:1",
        "tcp://[]:1",
        "tcp://[::1]1",
        "tcp://[::1",
        "tcp://[h]:1",
        "tcp:/h:1",
        "tcps://h:1",
        "tls+tcp://h:1",
        "tcp://u@h:1",
        "tcp://a;h:1",
        "TCP://h:1",
    };
    struct conf_address address;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert(conf_address(good[i].text, "tcp", &address), "%s", good[i].text);
        cr_assert_eq(address.host_len, strlen(good[i].host), "%s", good[i].text);
        cr_assert_eq(memcmp(address.host, good[i].host, address.host_len), 0, "%s", good[i].text);
        cr_assert_eq(address.port, good[i].port, "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_not(conf_address(bad[i], "tcp", &address), "%s", bad[i]);
    }
}
