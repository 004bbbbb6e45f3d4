// sluice-scheduler: the daemon that owns the priority queue, the rate timer, the status table, the store and
// delivery.
#include "common/clock.h"
#include "common/conf.h"
#include "common/log.h"
#include "common/proc.h"
#include "common/tls.h"
#include "scheduler/loop.h"
#include "scheduler/settings.h"
#include "scheduler/target.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define SOCKET_PATH_MAX 107 // sun_path less its NUL, see unix(7)
#define IPC_SCHEME "ipc://"
#define DATA_MODE 0750u

struct settings {
    char *ipc;
    const char *remote; // NULL: none
    struct tls_files files;
    bool insecure;
    char *data;
    uint64_t max_waiting;
    int64_t retain_ns;
    struct log_options log;
    int ready_fd;              // -1: none
    struct queue_change queue; // the default queue's
};

static bool parse_ipc(const char *text, void *into)
{
    size_t scheme = strlen(IPC_SCHEME);
    size_t len = strlen(text);
    return strncmp(text, IPC_SCHEME, scheme) == 0 && len > scheme && len - scheme <= SOCKET_PATH_MAX &&
           conf_text(text, into);
}

static bool parse_remote(const char *text, void *into)
{
    struct conf_address address;
    return (conf_address(text, "tls+tcp", &address) || conf_address(text, "tcp", &address)) &&
           conf_text(text, into);
}

static bool parse_rate(const char *text, void *into)
{
    return rate_parse(text, into);
}

static bool parse_between(const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
    return conf_count(text, value) && *value >= low && *value <= high;
}

static bool parse_u32(const char *text, uint32_t high, void *into)
{
    uint64_t value;
    if (!parse_between(text, 1, high, &value)) {
        return false;
    }
    *(uint32_t *)into = (uint32_t)value;
    return true;
}

static bool parse_burst(const char *text, void *into)
{
    return parse_u32(text, 1000000, into);
}

static bool parse_concurrency(const char *text, void *into)
{
    return parse_u32(text, 10000, into);
}

static bool parse_batch_size(const char *text, void *into)
{
    return parse_u32(text, BATCH_SIZE_MAX, into);
}

static bool parse_max_id(const char *text, void *into)
{
    uint64_t value;
    if (!parse_between(text, 1, ID_VALUE_MAX, &value)) {
        return false;
    }
    *(uint64_t *)into = value;
    return true;
}

static bool parse_max_waiting(const char *text, void *into)
{
    uint64_t value;
    if (!parse_between(text, 1, UINT64_C(1000000000000), &value)) {
        return false;
    }
    *(uint64_t *)into = value;
    return true;
}

static bool parse_retain(const char *text, void *into)
{
    int64_t ns;
    if (strcmp(text, "forever") == 0) {
        ns = RETAIN_FOREVER;
    } else if (!duration_parse(text, &ns) || ns < NS_PER_S) {
        return false;
    }
    *(int64_t *)into = ns;
    return true;
}

static bool parse_dir(const char *text, void *into)
{
    return text[0] != '\0' && conf_text(text, into);
}

static bool parse_target(const char *text, void *into)
{
    return strlen(text) <= TARGET_MAX && target_check(text, NULL) == ERR_OK && conf_text(text, into);
}

static const struct conf_option options[] = {
    {"ipc", "URL", NULL, "ipc://PATH with a path of at most 107 bytes",
     "the socket to serve on (default: sluice.sock in the data directory)", parse_ipc,
     offsetof(struct settings, ipc)},
    {"remote", "URL", NULL, "tls+tcp://HOST:PORT or tcp://HOST:PORT",
     "where to serve gateways on other hosts, too (default: nowhere)", parse_remote,
     offsetof(struct settings, remote)},
    {"remote-cert", "FILE", NULL, "a file in PEM, which may hold a chain", "the certificate for tls+tcp://",
     conf_text, offsetof(struct settings, files.cert)},
    {"remote-key", "FILE", NULL, "a file in PEM", "its key", conf_text, offsetof(struct settings, files.key)},
    {"remote-ca", "FILE", NULL, "a file in PEM", "who signs the certificates of gateways there", conf_text,
     offsetof(struct settings, files.ca)},
    {"insecure", NULL, "off", "on or off", "take tcp:// for --remote, which anybody who reaches it can use",
     conf_on_off, offsetof(struct settings, insecure)},
    {"data", "DIR", "./data", "a directory", "where the store is kept", parse_dir,
     offsetof(struct settings, data)},
    {"max-waiting", "N", "100000000", "a number from 1 to 1000000000000",
     "batches that may wait; past it new work is refused (429)", parse_max_waiting,
     offsetof(struct settings, max_waiting)},
    {"retain", "DURATION", "7d", "a duration from 1s to 3650d, or forever",
     "how long an ingestion is kept after it has finished", parse_retain,
     offsetof(struct settings, retain_ns)},
    {"rate", "N/DURATION", "1/5s", "a rate such as 1/5s, 100/s, 5000/1m or unlimited",
     "dispatches of the default queue", parse_rate, offsetof(struct settings, queue.rate)},
    {"burst", "N", NULL, "a number from 1 to 1000000",
     "dispatches that may start at once (default: what the rate gives in 10 ms, at least 1)", parse_burst,
     offsetof(struct settings, queue.burst)},
    {"concurrency", "N", "1", "a number from 1 to 10000", "deliveries in flight at the most",
     parse_concurrency, offsetof(struct settings, queue.concurrency)},
    {"batch-size", "N", "3", "a number from 1 to 60000", "IDs in a batch at the most", parse_batch_size,
     offsetof(struct settings, queue.batch_size)},
    {"target", "TARGET", "simulate:1500ms",
     "simulate:DURATION[,fail=SHARE][,seed=N], http://..., https://..., exec:/PATH or pull:, at most 1023 "
     "bytes",
     "where batches of the default queue go", parse_target, offsetof(struct settings, queue.target)},
    {"max-id", "N", "9007199254740991", "a number from 1 to 9007199254740991", "the largest ID allowed",
     parse_max_id, offsetof(struct settings, queue.max_id)},
    {"log-format", "FORMAT", "logfmt", "logfmt or json", "how lines of the log look", conf_log_format,
     offsetof(struct settings, log.format)},
    {"log-level", "LEVEL", "info", "debug, info, warning or error", "log nothing below it", conf_log_level,
     offsetof(struct settings, log.level)},
    {"access-log", "on|off", "off", "on or off", "log each ingestion and each delivery, too", conf_on_off,
     offsetof(struct settings, log.access)},
    {"ready-fd", "FD", NULL, "an open descriptor beyond 2",
     "write a newline to this descriptor, and close it, when ready", conf_descriptor,
     offsetof(struct settings, ready_fd)},
};

static int refuse(int code, const char *detail)
{
    log_line(LOG_LEVEL_ERROR, "main", "cannot_start", "exit=%d detail=%s", code,
             log_quote(detail, &(struct log_text){0}));
    return code;
}

// The directory of the socket, which only its owner and group may enter, and a lock beside the socket:
// whoever holds it may take a socket file that is there for one that a killed daemon left.
static int prepare_socket(const char *url, int *lock)
{
    const char *path = url + strlen(IPC_SCHEME);
    char text[PATH_SIZE];
    struct fault fault;
    (void)snprintf(text, sizeof text, "%s", path);
    char *slash = strrchr(text, '/');
    if (slash != NULL && slash != text) {
        *slash = '\0';
        if (proc_make_dir(text, DATA_MODE, &fault) != ERR_OK) {
            return refuse(EXIT_CODE_CANTCREAT, fault.detail);
        }
    }
    struct stat info;
    if (lstat(path, &info) == 0 && !S_ISSOCK(info.st_mode)) {
        (void)snprintf(text, sizeof text, "%s exists and is not a socket", path);
        return refuse(EXIT_CODE_CANTCREAT, text);
    }
    (void)snprintf(text, sizeof text, "%s.lock", path);
    enum err err = proc_lock(text, lock, &fault);
    if (err != ERR_OK) {
        return refuse(err == ERR_STORAGE_REFUSED ? EXIT_CODE_UNAVAILABLE : EXIT_CODE_CANTCREAT, fault.detail);
    }
    return EXIT_CODE_OK;
}

static int prepare_data(const char *dir, int *lock)
{
    char path[PATH_SIZE];
    struct fault fault;
    if (proc_make_dir(dir, DATA_MODE, &fault) != ERR_OK) {
        return refuse(EXIT_CODE_CANTCREAT, fault.detail);
    }
    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int)sizeof path) {
        return refuse(EXIT_CODE_CANTCREAT, "the path of the data directory is too long");
    }
    enum err err = proc_lock(path, lock, &fault);
    if (err != ERR_OK) {
        return refuse(err == ERR_STORAGE_REFUSED ? EXIT_CODE_UNAVAILABLE : EXIT_CODE_CANTCREAT, fault.detail);
    }
    return EXIT_CODE_OK;
}

static int open_store(const struct settings *settings, struct store **store)
{
    struct fault fault;
    enum err err = store_sqlite_open(settings->data, store, &fault);
    if (err == ERR_STORAGE_REFUSED) {
        return refuse(EXIT_CODE_CONFIG, fault.detail);
    }
    if (err != ERR_OK) {
        return refuse(EXIT_CODE_IOERR, fault.detail);
    }
    err = settings_apply(*store, &settings->queue, mono_now(), wall_now());
    if (err != ERR_OK) {
        return refuse(EXIT_CODE_IOERR, "the store cannot be written");
    }
    return EXIT_CODE_OK;
}

// What --remote needs, and the files it names.
static int prepare_remote(const struct settings *settings, struct tls **tls)
{
    const struct tls_option given[] = {
        {"--remote-cert", settings->files.cert},
        {"--remote-key", settings->files.key},
        {"--remote-ca", settings->files.ca},
    };
    struct conf_address address;
    struct fault fault;
    bool secure = settings->remote != NULL && conf_address(settings->remote, "tls+tcp", &address);
    if (settings->remote != NULL && !secure && !settings->insecure) {
        (void)fault_set(
            &fault, ERR_INVALID_FIELD,
            "--remote %s: whoever reaches this address could do everything there; use tls+tcp://, or "
            "say --insecure to have it so",
            settings->remote);
        return refuse(EXIT_CODE_CONFIG, fault.detail);
    }
    enum err err = tls_check_options(secure ? TLS_USED : TLS_NOT_USED, "--remote tls+tcp://HOST:PORT", given,
                                     sizeof given / sizeof given[0], &fault);
    if (err == ERR_OK && secure) {
        err = tls_open(TLS_SERVER, &settings->files, tls, &fault);
    }
    if (err == ERR_OK) {
        return EXIT_CODE_OK;
    }
    return refuse(err == ERR_NO_MEMORY ? EXIT_CODE_SOFTWARE : EXIT_CODE_CONFIG, fault.detail);
}

static void close_if_open(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

int main(int argc, char **argv)
{
    struct settings settings = {.ready_fd = -1};
    proc_confine();
    int signals = proc_signals(); // before anything else: a signal is never missed
    int code = EXIT_CODE_OK;
    if (conf_load("sluice-scheduler",
                  "hands batches of IDs to a target, by urgency and never faster than it allows", options,
                  sizeof options / sizeof options[0], &settings, argc, argv, &code) == CONF_EXIT) {
        return code;
    }
    log_setup(&settings.log);
    char ipc[PATH_SIZE];
    if (settings.ipc == NULL) {
        (void)snprintf(ipc, sizeof ipc, IPC_SCHEME "%s/sluice.sock", settings.data);
        if (!parse_ipc(ipc, &settings.ipc)) {
            return refuse(EXIT_CODE_CONFIG,
                          "the path of the data directory is too long for a socket: give --ipc");
        }
    }
    int data_lock = -1;
    int socket_lock = -1;
    struct loop loop = {.max_waiting = settings.max_waiting,
                        .ipc_url = settings.ipc,
                        .remote = settings.remote,
                        .signals = signals,
                        .ready_fd = settings.ready_fd};
    retain_init(&loop.retention, settings.retain_ns);
    (void)proc_raise_files();
    code = loop.signals < 0 ? refuse(EXIT_CODE_SOFTWARE, "signals cannot be watched") : EXIT_CODE_OK;
    if (code == EXIT_CODE_OK) {
        code = prepare_remote(&settings, &loop.tls);
    }
    if (code == EXIT_CODE_OK) {
        code = prepare_data(settings.data, &data_lock);
    }
    if (code == EXIT_CODE_OK) {
        code = prepare_socket(settings.ipc, &socket_lock);
    }
    if (code == EXIT_CODE_OK) {
        code = open_store(&settings, &loop.store);
    }
    if (code == EXIT_CODE_OK) {
        code = loop_run(&loop);
    }
    tls_close(loop.tls);
    store_close(loop.store);
    close_if_open(socket_lock);
    close_if_open(data_lock);
    close_if_open(loop.signals);
    return code;
}
