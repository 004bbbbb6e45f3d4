// Options, exit codes, and what is said at the start and at the end.
#include "common/conf.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT_12 "/0123456789a"
#define TEXT_108 TEXT_12 TEXT_12 TEXT_12 TEXT_12 TEXT_12 TEXT_12 TEXT_12 TEXT_12 TEXT_12

TestSuite(options, .fini = sluice_cleanup);

struct ran {
    int code;
    char *output, *errors;
};

static struct ran run(const struct sluice *sluice, enum part part, const char *const *arguments,
                      const char *const *environment)
{
    struct ran ran;
    ran.code = sluice_run(sluice, part, arguments, environment, &ran.output, &ran.errors);
    return ran;
}

static void ran_fini(struct ran *ran)
{
    free(ran->output);
    free(ran->errors);
}

static void expect_one_line(const char *text)
{
    const char *end = strchr(text, '\n');
    cr_assert(end && end > text && end[1] == '\0', "not one line: %s", text);
}

static const struct {
    enum part part;
    const char *flag;
    const char *variable;
    const char *bad[8];
    const char *allowed; // part of what the line says
} options[] = {
    {SCHEDULER, "--rate", "SLUICE_RATE", {"fast", "0/s", "1/0s", "-1/s", "1/5", "1/5s ", "1.5/s"}, "1/5s"},
    {SCHEDULER, "--log-format", "SLUICE_LOG_FORMAT", {"xml", "JSON", "json "}, "logfmt or json"},
    {SCHEDULER, "--log-level", "SLUICE_LOG_LEVEL", {"trace", "INFO", "1"}, "debug, info, warning or error"},
    {SCHEDULER, "--access-log", "SLUICE_ACCESS_LOG", {"yes", "1", "On"}, "on or off"},
    {GATEWAY, "--log-format", "SLUICE_LOG_FORMAT", {"xml"}, "logfmt or json"},
    {GATEWAY, "--log-level", "SLUICE_LOG_LEVEL", {"trace"}, "debug, info, warning or error"},
    {GATEWAY, "--access-log", "SLUICE_ACCESS_LOG", {"yes"}, "on or off"},
    {SCHEDULER, "--burst", "SLUICE_BURST", {"0", "-1", "x", "1e3"}, "from 1 to"},
    {SCHEDULER, "--concurrency", "SLUICE_CONCURRENCY", {"0", "many"}, "from 1 to"},
    {SCHEDULER, "--batch-size", "SLUICE_BATCH_SIZE", {"0", "60001", "3x"}, "from 1 to 60000"},
    {SCHEDULER,
     "--target",
     "SLUICE_TARGET",
     {"ftp://a/b", "simulate:", "simulate:5", "simulate:1s,fail=2", "http://", "nowhere"},
     "simulate:"},
    {SCHEDULER,
     "--max-id",
     "SLUICE_MAX_ID",
     {"0", "9007199254740992", "18446744073709551617"},
     "9007199254740991"},
    {SCHEDULER, "--max-waiting", "SLUICE_MAX_WAITING", {"0", "-5", "1KiB"}, "from 1 to"},
    {SCHEDULER,
     "--retain",
     "SLUICE_RETAIN",
     {"0", "999ms", "3651d", "never", "7", "1s "},
     "from 1s to 3650d, or forever"},
    {SCHEDULER, "--ipc", "SLUICE_IPC", {"tcp://127.0.0.1:1", "ipc://", "ipc://" TEXT_108}, "ipc://"},
    {SCHEDULER, "--ready-fd", "SLUICE_READY_FD", {"x", "-1", "2", "987654"}, "an open descriptor"},
    {GATEWAY,
     "--listen",
     "SLUICE_LISTEN",
     {"127.0.0.1:8000", "http://127.0.0.1", "http://127.0.0.1:0", "http://127.0.0.1:65536",
      "ftp://127.0.0.1:1", "http://:80", "https://127.0.0.1"},
     "http://HOST:PORT"},
    {GATEWAY,
     "--scheduler",
     "SLUICE_SCHEDULER",
     {"udp://127.0.0.1:1", "ipc://", "/tmp/s", "tls+tcp://127.0.0.1", "tcp://127.0.0.1:0"},
     "ipc://"},
    {SCHEDULER,
     "--remote",
     "SLUICE_REMOTE",
     {"ipc://s", "tls+tcp://127.0.0.1", "tcp://:1", "https://127.0.0.1:1", "127.0.0.1:1"},
     "tls+tcp://HOST:PORT"},
    {GATEWAY, "--timeout", "SLUICE_TIMEOUT", {"5", "0s", "soon", "6m"}, "duration"},
    {GATEWAY, "--idle-timeout", "SLUICE_IDLE_TIMEOUT", {"0s", "2h", "60"}, "1h"},
    {GATEWAY, "--transfer-timeout", "SLUICE_TRANSFER_TIMEOUT", {"9ms", "6m", "soon"}, "5m"},
    {GATEWAY, "--max-body", "SLUICE_MAX_BODY", {"16MiB", "0", "large"}, "15MiB"},
};

Test(options, a_bad_value_is_refused_by_name)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    for (size_t i = 0; i < COUNT(options); i++) {
        for (size_t j = 0; options[i].bad[j]; j++) {
            const char *value = options[i].bad[j];
            struct ran ran = run(sluice, options[i].part, LIST(options[i].flag, value), NULL);
            cr_assert_eq(ran.code, EXIT_CODE_USAGE, "%s %s: %d", options[i].flag, value, ran.code);
            expect_one_line(ran.errors);
            cr_assert_not_null(strstr(ran.errors, options[i].flag), "%s", ran.errors);
            cr_assert_not_null(strstr(ran.errors, value), "%s", ran.errors);
            cr_assert_not_null(strstr(ran.errors, options[i].allowed), "%s: %s", options[i].flag, ran.errors);
            cr_assert_str_empty(ran.output);
            ran_fini(&ran);
        }
    }
    sluice_end(sluice);
}

Test(options, a_variable_is_refused_like_its_flag)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    for (size_t i = 0; i < COUNT(options); i++) {
        char setting[256];
        (void)snprintf(setting, sizeof(setting), "%s=%s", options[i].variable, options[i].bad[0]);
        struct ran ran = run(sluice, options[i].part, NULL, LIST(setting));
        cr_assert_eq(ran.code, EXIT_CODE_USAGE, "%s: %d", setting, ran.code);
        expect_one_line(ran.errors);
        cr_assert_not_null(strstr(ran.errors, options[i].flag), "%s", ran.errors);
        cr_assert_not_null(strstr(ran.errors, options[i].variable), "%s", ran.errors);
        ran_fini(&ran);
    }
    sluice_end(sluice);
}

Test(options, what_is_no_option_is_refused)
{
    static const enum part parts[] = {SCHEDULER, GATEWAY};
    struct sluice *sluice = sluice_new(NULL, NULL);
    for (size_t i = 0; i < COUNT(parts); i++) {
        const char *const *const wrong[] = {LIST("--speed", "5"), LIST("stray"), LIST("-x"),
                                            LIST("--ready-fd")};
        for (size_t j = 0; j < COUNT(wrong); j++) {
            struct ran ran = run(sluice, parts[i], wrong[j], NULL);
            cr_assert_eq(ran.code, EXIT_CODE_USAGE, "%s: %d", wrong[j][0], ran.code);
            expect_one_line(ran.errors);
            cr_assert_not_null(strstr(ran.errors, wrong[j][0]), "%s", ran.errors);
            ran_fini(&ran);
        }
    }
    sluice_end(sluice);
}

Test(options, help_names_all_of_them)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct ran help[PARTS] = {run(sluice, SCHEDULER, LIST("--help"), NULL),
                              run(sluice, GATEWAY, LIST("--help"), NULL)};
    for (size_t i = 0; i < COUNT(options); i++) {
        const struct ran *ran = &help[options[i].part];
        cr_assert_eq(ran->code, EXIT_CODE_OK);
        cr_assert_str_empty(ran->errors);
        cr_assert_not_null(strstr(ran->output, options[i].flag), "%s", options[i].flag);
    }
    ran_fini(&help[SCHEDULER]);
    ran_fini(&help[GATEWAY]);
    struct ran version = run(sluice, SCHEDULER, LIST("--version"), NULL);
    cr_assert_str_eq(version.output, "sluice-scheduler " SLUICE_VERSION "\n");
    ran_fini(&version);
    version = run(sluice, GATEWAY, LIST("--version"), NULL);
    cr_assert_str_eq(version.output, "sluice-gateway " SLUICE_VERSION "\n");
    ran_fini(&version);
    sluice_end(sluice);
}

static long post_id(const struct sluice *sluice, uint64_t id)
{
    char *body = ingest_body("LOW", id, 1);
    struct http_response response = sluice_post(sluice, body, NULL);
    long status = response.status;
    http_response_fini(&response);
    free(body);
    return status;
}

Test(options, the_flag_wins_over_the_variable)
{
    struct sluice *sluice = sluice_new(LIST("--max-id", "10"), LIST("--max-body=1KiB"));
    sluice->environment[SCHEDULER] = LIST("SLUICE_MAX_ID=5", "SLUICE_RATE=1/1h", "SLUICE_BURST=");
    sluice->environment[GATEWAY] = LIST("SLUICE_MAX_BODY=2MiB", "SLUICE_RATE=whatever");
    sluice_launch(sluice, SCHEDULER);
    sluice_launch(sluice, GATEWAY);
    cr_assert_eq(post_id(sluice, 10), 200);
    cr_assert_eq(post_id(sluice, 11), 400);
    char *body = ingest_body("LOW", 1, 1000);
    struct http_response response = sluice_post(sluice, body, NULL);
    cr_assert_eq(response.status, 413, "%ld %s", response.status, response.body);
    http_response_fini(&response);
    free(body);
    sluice_end(sluice);
}

Test(options, a_changed_flag_is_applied_and_logged)
{
    struct sluice *sluice = sluice_start(LIST("--rate", "1/1h", "--target", "simulate:1ms"), NULL);
    struct ingested ingested = sluice_ingest_range(sluice, "LOW", 1, 9);
    sluice_wait_status(sluice, ingested.id, "triggered");
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), EXIT_CODE_OK);
    sluice_launch(sluice, SCHEDULER);
    cr_assert(!sluice_logged(sluice, SCHEDULER, "flag_changed"));
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), EXIT_CODE_OK);

    sluice_set_flags(sluice, SCHEDULER, LIST("--rate", "50/s", "--target", "simulate:1ms", "--max-id", "9"));
    sluice_launch(sluice, SCHEDULER);
    cr_assert(sluice_logged(sluice, SCHEDULER, "flag=rate old=\"1/h\" new=\"50/s\""));
    cr_assert(sluice_logged(sluice, SCHEDULER, "flag=max-id old=\"9007199254740991\" new=\"9\""));
    cr_assert(!sluice_logged(sluice, SCHEDULER, "flag=target"));
    sluice_wait_status(sluice, ingested.id, "completed");
    cr_assert_eq(post_id(sluice, 10), 400);
    sluice_end(sluice);
}

// ---- What cannot be used ----

Test(options, a_directory_that_cannot_be_made)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *file = sluice_path(sluice, "file"), *below = sluice_path(sluice, "file/data");
    char ipc[SLUICE_TEXT + 16];
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0);
    close(fd);
    (void)snprintf(ipc, sizeof(ipc), "ipc://%s/ipc", below);
    const char *const *const wrong[] = {
        LIST("--data", below),
        LIST("--data", file),
        LIST("--data", sluice->data, "--ipc", ipc),
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct ran ran = run(sluice, SCHEDULER, wrong[i], NULL);
        cr_assert_eq(ran.code, EXIT_CODE_CANTCREAT, "%d: %s", ran.code, ran.errors);
        expect_one_line(ran.errors);
        cr_assert_not_null(strstr(ran.errors, file), "%s", ran.errors);
        ran_fini(&ran);
    }
    free(file);
    free(below);
    sluice_end(sluice);
}

// Overwrites a part of a file.
static void patch(const char *path, off_t at, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && pwrite(fd, bytes, len, at) == (ssize_t)len);
    close(fd);
}

static size_t read_all(const char *path, char *into, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(fd >= 0);
    ssize_t len = read(fd, into, size);
    cr_assert(len >= 0 && (size_t)len < size);
    close(fd);
    return (size_t)len;
}

static void expect_refused_untouched(const struct sluice *sluice, const char *store, const char *named)
{
    static char before[1 << 20], after[1 << 20];
    size_t len = read_all(store, before, sizeof(before));
    struct ran ran = run(sluice, SCHEDULER, LIST("--data", sluice->data, "--ipc", sluice->ipc), NULL);
    cr_assert_eq(ran.code, EXIT_CODE_CONFIG, "%d: %s", ran.code, ran.errors);
    expect_one_line(ran.errors);
    cr_assert_not_null(strstr(ran.errors, named), "%s", ran.errors);
    cr_assert_not_null(strstr(ran.errors, store), "%s", ran.errors);
    ran_fini(&ran);
    cr_assert_eq(read_all(store, after, sizeof(after)), len);
    cr_assert_eq(memcmp(before, after, len), 0, "%s was changed", store);
}

Test(options, a_store_of_another_kind_is_refused_and_left_alone)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *store = sluice_path(sluice, "data/sluice.db");
    sluice_launch(sluice, SCHEDULER);
    cr_assert_eq(sluice_stop(sluice, SCHEDULER), EXIT_CODE_OK);

    sluice->damaged = true;                  // it is no store of ours any more
    patch(store, 60, "\x00\x01\x00\x00", 4); // SQLite keeps user_version there
    expect_refused_untouched(sluice, store, "newer");
    patch(store, 0, "Something else", 14);
    expect_refused_untouched(sluice, store, "not a store");
    cr_assert_eq(truncate(store, 0), 0);
    expect_refused_untouched(sluice, store, "not a store");
    free(store);
    sluice_end(sluice);
}

// Without keys whoever reaches the port may do everything.
Test(options, only_loopback_unless_told_otherwise)
{
    static const char *const refused[] = {"http://0.0.0.0:1",   "http://[::]:1",
                                          "http://10.0.0.1:1",  "http://example.org:1",
                                          "http://128.0.0.1:1", "http://127.0.0.1.example.org:1"};
    struct sluice *sluice = sluice_new(NULL, NULL);
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct ran ran = run(sluice, GATEWAY, LIST("--listen", refused[i]), NULL);
        cr_assert_eq(ran.code, EXIT_CODE_CONFIG, "%s: %d", refused[i], ran.code);
        expect_one_line(ran.errors);
        cr_assert_not_null(strstr(ran.errors, refused[i]), "%s", ran.errors);
        cr_assert_not_null(strstr(ran.errors, "--insecure"), "%s", ran.errors);
        ran_fini(&ran);
    }
    sluice_end(sluice);
}

Test(options, insecure_opens_every_address)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char listen[SLUICE_TEXT];
    (void)snprintf(listen, sizeof(listen), "http://0.0.0.0%s", strrchr(sluice->url, ':'));
    sluice_set_flags(sluice, GATEWAY, LIST("--listen", listen, "--insecure"));
    sluice_launch(sluice, SCHEDULER);
    sluice_launch(sluice, GATEWAY);
    cr_assert_eq(post_id(sluice, 1), 200);
    sluice_end(sluice);
}

Test(options, a_hangup_ends_nothing)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (int part = SCHEDULER; part < PARTS; part++) {
        cr_assert_eq(kill(sluice->part[part].pid, SIGHUP), 0);
        WAIT_FOR(sluice_logged(sluice, (enum part)part, "reloaded"));
    }
    cr_assert_eq(post_id(sluice, 1), 200);
    sluice_end(sluice);
}

Test(options, a_port_that_is_taken)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    struct ran ran = run(sluice, GATEWAY, LIST("--listen", sluice->url, "--scheduler", sluice->ipc), NULL);
    cr_assert_eq(ran.code, EXIT_CODE_UNAVAILABLE, "%d: %s", ran.code, ran.errors);
    cr_assert_not_null(strstr(ran.errors, sluice->url), "%s", ran.errors);
    ran_fini(&ran);
    cr_assert_eq(post_id(sluice, 1), 200); // the first one works on
    sluice_end(sluice);
}

// ---- The start and the end ----

static void expect_notification(int fd, const char *expected)
{
    char text[256] = "";
    struct timeval limit = {.tv_sec = WAIT_S};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    cr_assert(recv(fd, text, sizeof(text) - 1, 0) > 0, "%s never came", expected);
    cr_assert_not_null(strstr(text, expected), "%s", text);
}

Test(options, systemd_is_told_of_the_start_and_the_end)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char setting[SLUICE_TEXT + 32];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", sluice->dir);
    (void)snprintf(setting, sizeof(setting), "NOTIFY_SOCKET=%s", address.sun_path);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    for (int part = SCHEDULER; part < PARTS; part++) {
        sluice->environment[part] = LIST(setting);
        sluice_launch(sluice, (enum part)part);
        expect_notification(fd, "READY=1");
        cr_assert_eq(process_end(&sluice->part[part], SIGINT), EXIT_CODE_OK);
        expect_notification(fd, "STOPPING=1");
    }
    close(fd);
    sluice_end(sluice);
}
