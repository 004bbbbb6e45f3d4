#include "gateway/links.h"

#include "common/conf.h"
#include "common/tls.h"

#include <stdlib.h>
#include <string.h>

static enum err open_front(const struct links_options *options, const char *listen, struct tls **front,
                           struct fault *fault)
{
    const struct tls_option given[] = {
        {"--tls-cert", options->tls_cert},
        {"--tls-key", options->tls_key},
    };
    struct conf_address address;
    bool secure = conf_address(listen, "https", &address);
    enum err err = tls_check_options(secure ? TLS_USED : TLS_NOT_USED, "--listen https://HOST:PORT", given,
                                     sizeof(given) / sizeof(given[0]), fault);
    if (err || !secure) {
        return err;
    }
    const struct tls_files files = {.cert = options->tls_cert, .key = options->tls_key};
    return tls_open(TLS_SERVER, &files, front, fault);
}

static enum err open_back(const struct links_options *options, const char *scheduler, enum links_plain plain,
                          struct tls **back, struct fault *fault)
{
    const struct tls_option given[] = {
        {"--scheduler-cert", options->scheduler_cert},
        {"--scheduler-key", options->scheduler_key},
        {"--scheduler-ca", options->scheduler_ca},
    };
    struct conf_address address;
    bool secure = conf_address(scheduler, "tls+tcp", &address);
    if (plain == PLAIN_REFUSED && conf_address(scheduler, "tcp", &address)) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "--scheduler %s: whoever is on the way can read and change what is sent; use "
                         "tls+tcp://, or say --insecure to have it so",
                         scheduler);
    }
    enum err err = tls_check_options(secure ? TLS_USED : TLS_NOT_USED, "--scheduler tls+tcp://HOST:PORT",
                                     given, sizeof(given) / sizeof(given[0]), fault);
    if (err || !secure) {
        return err;
    }
    size_t bracket = address.host[0] == '[' ? 1 : 0;
    // The tls's, so the process's.
    char *name = strndup(address.host + bracket, address.host_len - bracket - bracket);
    if (!name) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    const struct tls_files files = {.cert = options->scheduler_cert,
                                    .key = options->scheduler_key,
                                    .ca = options->scheduler_ca,
                                    .peer = name};
    err = tls_open(TLS_CLIENT, &files, back, fault);
    if (err) {
        free(name);
    }
    return err;
}

enum err links_open(const struct links_options *options, const char *listen, const char *scheduler,
                    enum links_plain plain, struct links *links, struct fault *fault)
{
    enum err err = open_front(options, listen, &links->front, fault);
    return err ? err : open_back(options, scheduler, plain, &links->back, fault);
}
