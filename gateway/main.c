// sluice-gateway: the stateless HTTP side of Sluice. It keeps nothing: kill it, or start as many as you like.
#include "common/clock.h"
#include "common/conf.h"
#include "common/log.h"
#include "common/proc.h"
#include "common/units.h"
#include "common/watchdog.h"
#include "common/worker.h"
#include "gateway/forward.h"
#include "gateway/http.h"
#include "gateway/links.h"
#include "gateway/pulse.h"
#include "gateway/reaper.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#define REAP_EVERY_MS 1000      // and write what the access log has kept
#define REAP_AGAIN_MS 100       // after a walk that ended some: where descriptors run out, others wait
#define SPARE_FILES 64ul        // descriptors that are not for connections
#define CONNECTIONS_MAX 8192u   // about 100 MB, when all are there
#define SECURE_MAX 4096u        // with https: 160 MB, and up to 300 while all transfer at once
#define STOP_MARGIN_NS NS_PER_S // on top of what a request may take

struct settings {
    const char *listen;
    const char *scheduler;
    struct links_options links; // files of certificates and keys
    int64_t timeout_ns;
    int64_t idle_ns;
    int64_t transfer_ns;
    uint64_t max_body;
    const char *keys; // NULL: none
    bool insecure;
    struct log_options log;
    int ready_fd;
};

static bool listen_parse(const char *text, struct conf_address *address)
{
    return conf_address(text, "http", address) || conf_address(text, "https", address);
}

// Whether only programs on this host can reach it: 127.0.0.0/8, [::1] or localhost.
static bool listens_on_loopback(const char *listen)
{
    struct conf_address address = {.host = ""};
    bool known = listen_parse(listen, &address);
    assert(known); // it was checked when the options were read
    (void)known;
    const char *host = address.host;
    size_t len = address.host_len;
    struct in_addr v4;
    char text[INET_ADDRSTRLEN] = "";
    if (len < sizeof(text)) {
        memcpy(text, host, len);
    }
    return (inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127) ||
           (len == strlen("[::1]") && memcmp(host, "[::1]", len) == 0) ||
           (len == strlen("localhost") && strncasecmp(host, "localhost", len) == 0);
}

static bool conf_listen(const char *text, void *into)
{
    struct conf_address address;
    return listen_parse(text, &address) && conf_text(text, into);
}

static bool conf_scheduler(const char *text, void *into)
{
    static const char scheme[] = "ipc://";
    const struct sockaddr_un address;
    struct conf_address remote;
    size_t len = strlen(text);
    bool local = strncmp(text, scheme, strlen(scheme)) == 0 && len > strlen(scheme) &&
                 len - strlen(scheme) < sizeof(address.sun_path);
    return (local || conf_address(text, "tls+tcp", &remote) || conf_address(text, "tcp", &remote)) &&
           conf_text(text, into);
}

static bool duration_within(const char *text, int64_t max_ns, void *into)
{
    int64_t ns;
    if (!conf_duration(text, &ns) || ns < 10 * NS_PER_MS || ns > max_ns) {
        return false;
    }
    *(int64_t *)into = ns;
    return true;
}

static bool conf_timeout(const char *text, void *into)
{
    return duration_within(text, 300 * NS_PER_S, into);
}

static bool conf_idle(const char *text, void *into)
{
    return duration_within(text, 3600 * NS_PER_S, into);
}

static bool conf_max_body(const char *text, void *into)
{
    uint64_t bytes;
    if (!conf_size(text, &bytes) || bytes < 1 << 10 || bytes > 15 << 20) {
        return false;
    }
    *(uint64_t *)into = bytes;
    return true;
}

static const struct conf_option options[] = {
    {"listen", "URL", "http://127.0.0.1:8000", "http://HOST:PORT or https://HOST:PORT", "where to serve HTTP",
     conf_listen, offsetof(struct settings, listen)},
    {"tls-cert", "FILE", NULL, "a file in PEM, which may hold a chain", "the certificate for https",
     conf_text, offsetof(struct settings, links.tls_cert)},
    {"tls-key", "FILE", NULL, "a file in PEM", "its key", conf_text,
     offsetof(struct settings, links.tls_key)},
    {"scheduler", "URL", "ipc://./data/sluice.sock",
     "ipc://PATH, with a path of at most 107 bytes, tls+tcp://HOST:PORT or tcp://HOST:PORT",
     "where the scheduler is", conf_scheduler, offsetof(struct settings, scheduler)},
    {"scheduler-cert", "FILE", NULL, "a file in PEM", "what to show to a scheduler at tls+tcp://", conf_text,
     offsetof(struct settings, links.scheduler_cert)},
    {"scheduler-key", "FILE", NULL, "a file in PEM", "its key", conf_text,
     offsetof(struct settings, links.scheduler_key)},
    {"scheduler-ca", "FILE", NULL, "a file in PEM", "who signs the certificate of a scheduler at tls+tcp://",
     conf_text, offsetof(struct settings, links.scheduler_ca)},
    {"timeout", "DURATION", "5s", "a duration from 10ms to 5m", "how long the scheduler may take to answer",
     conf_timeout, offsetof(struct settings, timeout_ns)},
    {"idle-timeout", "DURATION", "60s", "a duration from 10ms to 1h",
     "how long a connection is kept for its next request", conf_idle, offsetof(struct settings, idle_ns)},
    {"transfer-timeout", "DURATION", "10s", "a duration from 10ms to 5m",
     "how long a client may take to send a body or to take an answer, and 1s more for each 128KiB of it",
     conf_timeout, offsetof(struct settings, transfer_ns)},
    {"max-body", "SIZE", "8MiB", "a size from 1KiB to 15MiB", "the longest body that is taken", conf_max_body,
     offsetof(struct settings, max_body)},
    {"keys", "FILE", NULL, "a file of keys, as sluice key makes it", "whom to serve (default: everybody)",
     conf_text, offsetof(struct settings, keys)},
    {"insecure", NULL, "off", "on or off", "listen on any address without keys, too", conf_on_off,
     offsetof(struct settings, insecure)},
    {"log-format", "FORMAT", "logfmt", "logfmt or json", "how lines of the log look", conf_log_format,
     offsetof(struct settings, log.format)},
    {"log-level", "LEVEL", "info", "debug, info, warning or error", "log nothing below it", conf_log_level,
     offsetof(struct settings, log.level)},
    {"access-log", "on|off", "off", "on or off", "log each request, too", conf_on_off,
     offsetof(struct settings, log.access)},
    {"ready-fd", "FD", NULL, "an open descriptor beyond 2", "write a newline there when ready, and close it",
     conf_descriptor, offsetof(struct settings, ready_fd)},
};

struct gateway {
    int signals;
    struct id_minter minter;
    struct keys *keys; // NULL: none
    struct links links;
    struct forward *forward;
    struct reaper *reaper;
    struct http *http;
    struct watchdog watchdog;
    struct pulse pulse; // only where there is a watchdog
};

static enum err reaper_start(const struct settings *settings, const struct http_options *http,
                             struct gateway *gateway, struct fault *fault)
{
    unsigned long files = proc_raise_files();
    size_t spare = files > 2 * SPARE_FILES ? files - SPARE_FILES : files / 2;
    size_t most = gateway->links.front ? SECURE_MAX : CONNECTIONS_MAX;
    struct reaper_options reaper = {
        .max_connections = spare < most ? spare : most,
        .first_ns = http_first_answer_ns(http),
        .silence_ns = http_longest_silence_ns(http),
    };
    struct conf_address address = {.port = 0};
    bool known = listen_parse(settings->listen, &address);
    assert(known); // it was checked when the options were read
    (void)known;
    reaper.port = address.port;
    return reaper_open(&reaper, &gateway->reaper, fault);
}

static enum err gateway_start(const struct settings *settings, struct gateway *gateway, struct fault *fault)
{
    struct http_options http = {
        .listen = settings->listen,
        .max_body = settings->max_body,
        .timeout_ns = settings->timeout_ns,
        .idle_ns = settings->idle_ns,
        .transfer_ns = settings->transfer_ns,
        .keys = gateway->keys,
        .tls = gateway->links.front,
        .minter = &gateway->minter,
    };
    enum err err;
    id_minter_init(&gateway->minter);
    if ((err = worker_start(&http.worker))) {
        return fault_set(fault, err, "cannot start a thread");
    }
    if ((err = reaper_start(settings, &http, gateway, fault)) ||
        (err = forward_open(settings->scheduler, gateway->links.back, &http.forward, fault))) {
        return err;
    }
    gateway->forward = http.forward;
    if ((err = http_open(&http, &gateway->http, fault))) {
        return err;
    }
    watchdog_init(&gateway->watchdog, mono_now());
    if (gateway->watchdog.every_ns > 0 && (err = pulse_open(&gateway->pulse, http.worker))) {
        return fault_set(fault, err, "out of memory");
    }
    return ERR_OK;
}

// Feeds the watchdog while this thread and those that serve are alive. Returns for how long to sleep at the
// most.
static int feed_watchdog(struct gateway *gateway)
{
    struct watchdog *watchdog = &gateway->watchdog;
    if (watchdog->every_ns == 0) {
        return REAP_EVERY_MS;
    }
    struct mono now = mono_now();
    if (!mono_before(now, watchdog->due) && pulse_beat(&gateway->pulse)) {
        watchdog_feed(watchdog, now);
    }
    int64_t left_ns = mono_diff(watchdog->due, now); // 0 or less while a beat is not back
    if (left_ns > REAP_EVERY_MS * NS_PER_MS) {
        return REAP_EVERY_MS;
    }
    return left_ns > REAP_AGAIN_MS * NS_PER_MS ? (int)(left_ns / NS_PER_MS) : REAP_AGAIN_MS;
}

static void log_reload(const char *what, enum err err, const struct fault *fault)
{
    if (err) {
        log_line(LOG_LEVEL_ERROR, "gateway", "not_reloaded", "in_force=\"%s before\" reason=%s", what,
                 log_quote(fault->detail, &(struct log_text){0}));
    } else {
        log_line(LOG_LEVEL_INFO, "gateway", "reloaded", "changed=\"%s\"", what);
    }
}

static void reload_keys(struct gateway *gateway)
{
    struct fault fault;
    enum err err = keys_reload(gateway->keys, &fault);
    if (err) {
        log_reload("the keys", err, &fault);
    } else {
        log_line(LOG_LEVEL_INFO, "gateway", "reloaded", "keys=%zu", keys_count(gateway->keys));
    }
}

// Reads again what was read from files. What cannot be used stays as it is.
static void gateway_reload(struct gateway *gateway)
{
    struct fault fault;
    if (!gateway->keys && !gateway->links.front && !gateway->links.back) {
        log_line(LOG_LEVEL_INFO, "gateway", "reloaded", "changed=nothing");
    }
    if (gateway->keys) {
        reload_keys(gateway);
    }
    if (gateway->links.front) {
        enum err err = http_reload(gateway->http, &fault);
        log_reload("the certificate for https", err, &fault);
    }
    if (gateway->links.back) {
        enum err err = forward_reload(gateway->forward, &fault);
        log_reload("the certificate for the scheduler", err, &fault);
    }
}

// Returns when a signal says to end.
static void gateway_watch(struct gateway *gateway)
{
    for (size_t ended = 0;;) {
        struct pollfd ready = {.fd = gateway->signals, .events = POLLIN};
        int patience_ms = feed_watchdog(gateway);
        int count = poll(&ready, 1, ended > 0 ? REAP_AGAIN_MS : patience_ms);
        enum proc_order order = count > 0 ? proc_take_signal(gateway->signals) : PROC_NONE;
        if (order == PROC_END) {
            return;
        }
        if (order == PROC_RELOAD) {
            gateway_reload(gateway);
        }
        log_flush();
        ended = count == 0 ? reaper_walk(gateway->reaper) : 0;
        if (ended > 0) {
            log_line(LOG_LEVEL_INFO, "gateway", "reaped", "connections=%zu", ended);
        }
    }
}

// The keys, or that there may be none.
static enum err open_keys(const struct settings *settings, struct gateway *gateway, struct fault *fault)
{
    bool loopback = listens_on_loopback(settings->listen);
    struct fault what;
    enum err err;
    if (!settings->keys) {
        return settings->insecure || loopback
                   ? ERR_OK
                   : fault_set(
                         fault, ERR_INVALID_FIELD,
                         "--listen %s: whoever reaches this address could do everything there; give --keys "
                         "FILE, listen on loopback, or say --insecure to have it so",
                         settings->listen);
    }
    if ((err = keys_open(settings->keys, &gateway->keys, &what))) {
        return fault_set(fault, err, "--keys %s", what.detail);
    }
    if (!loopback && !gateway->links.front) {
        log_line(LOG_LEVEL_WARNING, "gateway", "keys_in_clear",
                 "listen=%s reason=\"plain HTTP shows keys to everybody on the way\"", settings->listen);
    }
    return ERR_OK;
}

// What no single option can say of itself, and the files that they name.
static enum err check_settings(const struct settings *settings, struct gateway *gateway, struct fault *fault)
{
    enum err err = links_open(&settings->links, settings->listen, settings->scheduler,
                              settings->insecure ? PLAIN_ALLOWED : PLAIN_REFUSED, &gateway->links, fault);
    return err ? err : open_keys(settings, gateway, fault);
}

static _Noreturn void fail(int exit_code, const struct fault *fault)
{
    log_line(LOG_LEVEL_ERROR, "gateway", "failed", "reason=%s",
             log_quote(fault->detail, &(struct log_text){0}));
    _exit(exit_code); // threads of the network library may run
}

int main(int argc, char **argv)
{
    struct settings settings = {.ready_fd = -1};
    int exit_code;
    proc_confine();
    if (conf_load("sluice-gateway", "Serves Sluice's HTTP API and hands requests to the scheduler.", options,
                  sizeof(options) / sizeof(options[0]), &settings, argc, argv, &exit_code) == CONF_EXIT) {
        return exit_code;
    }
    log_setup(&settings.log);
#ifdef SLUICE_UNSAFE_NNG
    log_line(LOG_LEVEL_WARNING, "gateway", "unsafe_nng",
             "reason=\"built on a network library that anybody who reaches this port can crash\"");
#endif
    // Before anything that may start a thread: each thread inherits what is blocked.
    struct gateway gateway = {.signals = proc_signals()};
    struct fault fault;
    if (gateway.signals < 0) {
        (void)fault_set(&fault, ERR_INTERNAL, "cannot watch signals: %s", strerror(errno));
        fail(EXIT_CODE_SOFTWARE, &fault);
    }
    enum err err = check_settings(&settings, &gateway, &fault);
    if (err) {
        fail(EXIT_CODE_CONFIG, &fault);
    }
    if ((err = gateway_start(&settings, &gateway, &fault))) {
        fail(err == ERR_SCHEDULER_UNAVAILABLE ? EXIT_CODE_UNAVAILABLE : EXIT_CODE_SOFTWARE, &fault);
    }
    char keys[32] = "none";
    if (gateway.keys) {
        (void)snprintf(keys, sizeof(keys), "%zu", keys_count(gateway.keys));
    }
    log_line(LOG_LEVEL_INFO, "gateway", "ready", "listen=%s scheduler=%s keys=%s version=%s", settings.listen,
             settings.scheduler, keys, SLUICE_VERSION);
    proc_ready(settings.ready_fd);
    gateway_watch(&gateway);
    log_line(LOG_LEVEL_INFO, "gateway", "stopping", NULL);
    proc_stopping();
    size_t left = http_stop(gateway.http, settings.timeout_ns + STOP_MARGIN_NS);
    log_line(LOG_LEVEL_INFO, "gateway", "stop", "abandoned=%zu", left);
    _exit(EXIT_CODE_OK); // without clearing up: closing the sockets of NNG 1.x under traffic can hang
}
