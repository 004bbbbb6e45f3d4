#include "tests/support/sluice.h"

#include "common/buf.h"
#include "common/conf.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PORT_LOW 12000u
#define PORT_HIGH 32000u
#define PORT_TRIES 20

// What a test has not ended itself. A fixture of Criterion takes no argument.
static struct sluice *running;

static const char *const programs[PARTS] = {"sluice-scheduler", "sluice-gateway"};

static void format(char *text, const char *pattern, ...) __attribute__((format(printf, 2, 3)));
static void format(char *text, const char *pattern, ...)
{
    va_list arguments;
    va_start(arguments, pattern);
    int len = vsnprintf(text, SLUICE_TEXT, pattern, arguments);
    va_end(arguments);
    cr_assert(len >= 0 && len < SLUICE_TEXT);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

uint16_t free_port(void)
{
    for (;;) {
        uint16_t random = 0;
        int on = 1;
        cr_assert_eq(getrandom(&random, sizeof(random), 0), (ssize_t)sizeof(random));
        uint16_t port = (uint16_t)(PORT_LOW + random % (PORT_HIGH - PORT_LOW));
        struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert(fd >= 0);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        bool is_free = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        close(fd);
        if (is_free) {
            return port;
        }
    }
}

struct sluice *sluice_new(const char *const *scheduler_flags, const char *const *gateway_flags)
{
    struct sluice *sluice = calloc(1, sizeof(*sluice));
    cr_assert_not_null(sluice);
    format(sluice->dir, "/tmp/sluice-XXXXXX");
    cr_assert_not_null(mkdtemp(sluice->dir));
    sluice->next = running;
    running = sluice;
    format(sluice->data, "%s/data", sluice->dir);
    format(sluice->socket, "%s/s/ipc", sluice->dir);
    format(sluice->ipc, "ipc://%s", sluice->socket);
    format(sluice->url, "http://127.0.0.1:%u", (unsigned)free_port());
    format(sluice->log[SCHEDULER], "%s/scheduler.log", sluice->dir);
    format(sluice->log[GATEWAY], "%s/gateway.log", sluice->dir);
    sluice_set_flags(sluice, SCHEDULER, scheduler_flags);
    sluice_set_flags(sluice, GATEWAY, gateway_flags);
    sluice->part[SCHEDULER] = sluice->part[GATEWAY] = PROCESS_NONE;
    return sluice;
}

struct sluice *sluice_start(const char *const *scheduler_flags, const char *const *gateway_flags)
{
    struct sluice *sluice = sluice_new(scheduler_flags, gateway_flags);
    sluice_launch(sluice, SCHEDULER);
    sluice_launch(sluice, GATEWAY);
    return sluice;
}

void sluice_set_flags(struct sluice *sluice, enum part part, const char *const *flags)
{
    size_t count = 0;
    for (; flags && flags[count]; count++) {
        cr_assert(count + 1 < SLUICE_FLAGS_MAX);
        sluice->flags[part][count] = flags[count];
    }
    sluice->flags[part][count] = NULL;
}

static struct process start(struct sluice *sluice, enum part part)
{
    const char *const *where = part == SCHEDULER ? LIST("--data", sluice->data, "--ipc", sluice->ipc)
                                                 : LIST("--listen", sluice->url, "--scheduler", sluice->ipc);
    const char *arguments[SLUICE_FLAGS_MAX + 8];
    size_t count = 0;
    for (size_t i = 0; where[i]; i++) {
        arguments[count++] = where[i];
    }
    for (size_t i = 0; sluice->flags[part][i]; i++) {
        arguments[count++] = sluice->flags[part][i];
    }
    arguments[count] = NULL;
    struct program_path program = program_path(programs[part]);
    return process_start(&(struct process_plan){.program = program.text,
                                                .arguments = arguments,
                                                .environment = sluice->environment[part],
                                                .directory = sluice->dir,
                                                .log = sluice->log[part],
                                                .ready_fd = true});
}

void sluice_launch(struct sluice *sluice, enum part part)
{
    for (int try = 0; try < PORT_TRIES; try++) {
        sluice->part[part] = start(sluice, part);
        if (process_ready(&sluice->part[part])) {
            sluice->has_port |= part == GATEWAY;
            return;
        }
        int code = process_wait(&sluice->part[part]);
        cr_assert(part == GATEWAY && code == EXIT_CODE_UNAVAILABLE && !sluice->has_port, "%s ended with %d",
                  programs[part], code);
        bool secure = strncmp(sluice->url, "https", 5) == 0;
        format(sluice->url, "http%s://127.0.0.1:%u", secure ? "s" : "",
               (unsigned)free_port()); // somebody was faster
    }
    cr_assert_fail("no free port");
}

int sluice_run(const struct sluice *sluice, enum part part, const char *const *arguments,
               const char *const *environment, char **output, char **errors)
{
    char *output_path = sluice_path(sluice, "run.out"), *errors_path = sluice_path(sluice, "run.err");
    (void)unlink(errors_path); // a log is appended to
    struct program_path program = program_path(programs[part]);
    int code = process_run(&(struct process_plan){.program = program.text,
                                                  .arguments = arguments,
                                                  .environment = environment,
                                                  .directory = sluice->dir,
                                                  .output = output_path,
                                                  .log = errors_path});
    *output = file_text(output_path);
    *errors = file_text(errors_path);
    free(output_path);
    free(errors_path);
    return code;
}

int sluice_try(struct sluice *sluice, enum part part)
{
    sluice->part[part] = start(sluice, part);
    return process_ready(&sluice->part[part]) ? 0 : process_wait(&sluice->part[part]);
}

void sluice_kill(struct sluice *sluice, enum part part)
{
    cr_assert_eq(process_end(&sluice->part[part], SIGKILL), 128 + SIGKILL);
}

int sluice_stop(struct sluice *sluice, enum part part)
{
    return process_end(&sluice->part[part], SIGTERM);
}

bool sluice_logged(const struct sluice *sluice, enum part part, const char *text)
{
    char *log = file_text(sluice->log[part]);
    bool found = strstr(log, text) != NULL;
    free(log);
    return found;
}

char *sluice_path(const struct sluice *sluice, const char *name)
{
    char *path;
    cr_assert(asprintf(&path, "%s/%s", sluice->dir, name) > 0);
    return path;
}

static void forget(struct sluice *sluice)
{
    struct sluice **at = &running;
    while (*at != sluice) {
        at = &(*at)->next;
    }
    *at = sluice->next;
    remove_tree(sluice->dir);
    free(sluice);
}

static void check_log(const struct sluice *sluice, enum part part)
{
    static const char *const reports[] = {"Sanitizer: ", "runtime error: ", "Assertion"};
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
        cr_assert(!sluice_logged(sluice, part, reports[i]), "%s reports an error", programs[part]);
    }
}

void sluice_verify(const struct sluice *sluice)
{
    char *store = sluice_path(sluice, "data/sluice.db");
    char *said = sluice_path(sluice, "verify.out");
    char *errors = sluice_path(sluice, "verify.err");
    if (!sluice->damaged && access(store, F_OK) == 0) {
        struct program_path program = program_path("sluice-verify");
        int code = process_run(&(struct process_plan){.program = program.text,
                                                      .arguments = LIST("--data", sluice->data),
                                                      .directory = sluice->dir,
                                                      .output = said,
                                                      .log = errors});
        char *text = file_text(said);
        char *reason = file_text(errors);
        cr_assert_eq(code, EXIT_CODE_OK, "sluice-verify ended with %d:\n%s%s", code, text, reason);
        free(text);
        free(reason);
    }
    free(store);
    free(said);
    free(errors);
}

void sluice_end(struct sluice *sluice)
{
    for (int part = GATEWAY; part >= SCHEDULER; part--) {
        if (sluice->part[part].pid) {
            int code = sluice_stop(sluice, (enum part)part);
            cr_assert_eq(code, EXIT_CODE_OK, "%s ended with %d", programs[part], code);
        }
        check_log(sluice, (enum part)part);
    }
    sluice_verify(sluice);
    forget(sluice);
}

void sluice_cleanup(void)
{
    while (running) {
        for (int part = SCHEDULER; part < PARTS; part++) {
            char *log = file_text(running->log[part]);
            size_t len = strlen(log);
            fprintf(stderr, "---- %s\n%s", running->log[part], len > 16384 ? log + len - 16384 : log);
            free(log);
            if (running->part[part].pid) {
                (void)process_end(&running->part[part], SIGKILL);
            }
        }
        forget(running);
    }
}

struct http_response sluice_get(const struct sluice *sluice, const char *path, ...)
{
    char url[512];
    va_list arguments;
    va_start(arguments, path);
    int at = snprintf(url, sizeof(url), "%s", sluice->url);
    int len = vsnprintf(url + at, sizeof(url) - (size_t)at, path, arguments);
    va_end(arguments);
    cr_assert(len >= 0 && (size_t)(at + len) < sizeof(url));
    return http_send(&(struct http_request){.url = url});
}

struct http_response sluice_post(const struct sluice *sluice, const char *body, const char *const *headers)
{
    char url[SLUICE_TEXT + 8];
    (void)snprintf(url, sizeof(url), "%s/ingest", sluice->url);
    return http_send(&(struct http_request){.url = url, .headers = headers, .body = body});
}

char *ingest_body(const char *priority, uint64_t first, size_t count)
{
    struct buf body;
    size_t len;
    buf_init(&body);
    buf_str(&body, "{\"ids\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_char(&body, ',');
        }
        buf_u64(&body, first + i);
    }
    buf_str(&body, "],\"priority\":\"");
    buf_str(&body, priority);
    buf_str(&body, "\"}");
    return buf_take(&body, &len);
}

struct ingested sluice_ingest(const struct sluice *sluice, const char *body)
{
    struct ingested ingested;
    struct http_response response = sluice_post(sluice, body, NULL);
    cr_assert_eq(response.status, 200, "status %ld: %s", response.status, response.body);
    const char *id = json_text(response.json, "ingestion_id");
    cr_assert_eq(strlen(id), ID_TEXT_SIZE - 1);
    memcpy(ingested.id, id, ID_TEXT_SIZE);
    http_response_fini(&response);
    return ingested;
}

struct ingested sluice_ingest_range(const struct sluice *sluice, const char *priority, uint64_t first,
                                    size_t count)
{
    char *body = ingest_body(priority, first, count);
    struct ingested ingested = sluice_ingest(sluice, body);
    free(body);
    return ingested;
}

struct http_response sluice_status(const struct sluice *sluice, const char *id)
{
    struct http_response response = sluice_get(sluice, "/status/%s", id);
    cr_assert_eq(response.status, 200, "status %ld: %s", response.status, response.body);
    cr_assert_not_null(response.json, "%s", response.body);
    return response;
}

static bool has_status(const struct sluice *sluice, const char *id, const char *status)
{
    // The first page's shape is another test's; here the batches would only be in the way.
    struct http_response response = sluice_get(sluice, "/status/%s?limit=1", id);
    bool has = response.status == 200 && strcmp(json_text(response.json, "status"), status) == 0;
    http_response_fini(&response);
    return has;
}

void sluice_wait_status(const struct sluice *sluice, const char *id, const char *status)
{
    WAIT_FOR(has_status(sluice, id, status));
}

// Appends what stands between the brackets of each "ids" of a page, and counts them.
static size_t add_ids(const char *page, struct buf *ids)
{
    static const char before[] = "\"ids\":[";
    size_t count = 0;
    for (const char *at = strstr(page, before); at; at = strstr(at, before), count++) {
        at += strlen(before);
        if (ids->len > 0) {
            buf_char(ids, ',');
        }
        buf_put(ids, at, strcspn(at, "]"));
    }
    return count;
}

char *sluice_ids(const struct sluice *sluice, const char *id, unsigned limit)
{
    struct buf ids;
    size_t offset = 0, total = 0, len;
    buf_init(&ids);
    do {
        struct http_response page = sluice_get(sluice, "/status/%s?limit=%u&offset=%zu", id, limit, offset);
        cr_assert_eq(page.status, 200, "status %ld: %s", page.status, page.body);
        total = (size_t)json_number(page.json, "batches_total");
        size_t count = add_ids(page.body, &ids);
        cr_assert(count > 0 && count <= limit, "%zu batches in a page of %u", count, limit);
        offset += count;
        http_response_fini(&page);
    } while (offset < total);
    cr_assert_eq(offset, total);
    return buf_take(&ids, &len);
}
