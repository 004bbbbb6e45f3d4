// tls.h - certificates and keys in files, for NNG's TLS: read and checked, and read again while connections
// are made with them. A library of its own, since it uses NNG (see CMakeLists.txt).
#ifndef SLUICE_COMMON_TLS_H
#define SLUICE_COMMON_TLS_H

#include "common/err.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdbool.h>
#include <stddef.h>

struct tls;

enum tls_side { TLS_SERVER, TLS_CLIENT };

// PEM files; the texts are borrowed until the end of the process.
struct tls_files {
    const char *cert; // our certificate, and those between it and the authority's, if any
    const char *key;  // its key, without a passphrase
    const char *ca;   // the authorities that sign the peer's certificate; NULL: a server that asks for none
    const char *peer; // the name that a server's certificate must be for; NULL for a server itself
};

// Reads the files and checks that they can be used together. ERR_INVALID_FIELD when they cannot, with the
// file and the reason in the fault; ERR_NO_MEMORY.
MUST_CHECK enum err tls_open(enum tls_side side, const struct tls_files *files, struct tls **tls,
                             struct fault *fault);

// What still uses a config keeps it. NULL is fine.
void tls_close(struct tls *tls);

// What the files held when they were last read. It is the tls's.
nng_tls_config *tls_config(const struct tls *tls);

// Gives a config to whoever makes connections with it: an error of NNG, or 0. It is not to be kept.
typedef int tls_use(void *user, nng_tls_config *config);

// Reads the files again, and has what they hold used from now on. When they cannot be used, all stays as it
// was, and the fault says why: errors as for tls_open. One thread at a time.
MUST_CHECK enum err tls_reload(struct tls *tls, tls_use *use, void *user, struct fault *fault);

// Options that name such files: all of them are needed where `with` (such as "--listen https://HOST:PORT") is
// said, and none may be given elsewhere. ERR_INVALID_FIELD, naming the option.
struct tls_option {
    const char *name;  // "--tls-cert"
    const char *value; // NULL: it is not given
};
enum tls_need { TLS_NOT_USED, TLS_USED };
MUST_CHECK enum err tls_check_options(enum tls_need need, const char *with, const struct tls_option *options,
                                      size_t count, struct fault *fault);

#endif
