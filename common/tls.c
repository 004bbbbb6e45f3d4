#include "common/tls.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 20)

// The files' texts, each with its NUL.
struct texts {
    char *cert;
    char *key;
    char *ca;
};

struct tls {
    enum tls_side side;
    struct tls_files files;
    nng_tls_config *config;
    // Kept for one more reload: an NNG without our patches takes a listener's config without a lock.
    nng_tls_config *before;
};

static void texts_free(struct texts *texts)
{
    free(texts->cert);
    if (texts->key) {
        explicit_bzero(texts->key, strlen(texts->key));
    }
    free(texts->key);
    free(texts->ca);
    *texts = (struct texts){.cert = NULL};
}

// ---- Files ----

static enum err read_text(const char *path, char **text, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // which a FIFO would not return from
    if (fd < 0) {
        return fault_set(fault, ERR_INVALID_FIELD, "cannot read %s: %s", path, strerrordesc_np(errno));
    }
    char *made = calloc(1, FILE_MAX + 1);
    if (!made) {
        close(fd);
        return fault_set(fault, ERR_NO_MEMORY, "no memory for %s", path);
    }
    size_t len = 0;
    ssize_t got = 1;
    while (got > 0 && len < FILE_MAX) {
        got = read(fd, made + len, FILE_MAX - len);
        len += got > 0 ? (size_t)got : 0;
    }
    int reason = errno;
    close(fd);
    if (got == 0 && strlen(made) == len) {
        *text = made;
        return ERR_OK;
    }
    explicit_bzero(made, len);
    free(made);
    if (got < 0) {
        return fault_set(fault, ERR_INVALID_FIELD, "cannot read %s: %s", path, strerrordesc_np(reason));
    }
    return fault_set(fault, ERR_INVALID_FIELD, "%s is no PEM file", path);
}

static enum err read_texts(const struct tls_files *files, struct texts *texts, struct fault *fault)
{
    *texts = (struct texts){.cert = NULL};
    enum err err = read_text(files->cert, &texts->cert, fault);
    if (!err) {
        err = read_text(files->key, &texts->key, fault);
    }
    if (!err && files->ca) {
        err = read_text(files->ca, &texts->ca, fault);
    }
    if (err) {
        texts_free(texts);
    }
    return err;
}

// ---- Checks: NNG says of a file no more than that it was wrong ----

static enum err refuse(const char *path, const char *what, int reason, struct fault *fault)
{
    char text[128] = "";
    mbedtls_strerror(reason, text, sizeof(text));
    return fault_set(fault, ERR_INVALID_FIELD, "%s holds no %s that can be used: %s", path, what, text);
}

static enum err parse_certificates(const char *path, const char *text, mbedtls_x509_crt *into,
                                   struct fault *fault)
{
    assert(text); // it was read
    int result = mbedtls_x509_crt_parse(into, (const unsigned char *)text, strlen(text) + 1);
    if (result > 0) {
        return fault_set(fault, ERR_INVALID_FIELD, "%s: %d of its certificates cannot be read", path, result);
    }
    return result == 0 ? ERR_OK : refuse(path, "certificate", result, fault);
}

#if MBEDTLS_VERSION_MAJOR >= 3
static int random_bytes(void *unused, unsigned char *into, size_t len)
{
    (void)unused;
    return getrandom(into, len, 0) == (ssize_t)len ? 0 : MBEDTLS_ERR_ERROR_GENERIC_ERROR;
}
#endif

static int parse_key(const char *text, mbedtls_pk_context *into)
{
    const unsigned char *bytes = (const unsigned char *)text;
    assert(text); // it was read
#if MBEDTLS_VERSION_MAJOR >= 3
    return mbedtls_pk_parse_key(into, bytes, strlen(text) + 1, NULL, 0, random_bytes, NULL);
#else
    return mbedtls_pk_parse_key(into, bytes, strlen(text) + 1, NULL, 0);
#endif
}

static int check_pair(const mbedtls_pk_context *public, const mbedtls_pk_context *key)
{
#if MBEDTLS_VERSION_MAJOR >= 3
    return mbedtls_pk_check_pair(public, key, random_bytes, NULL);
#else
    return mbedtls_pk_check_pair(public, key);
#endif
}

// What the patched NNG can sign with: RSA, and the curves that it speaks.
static bool is_usable(const mbedtls_pk_context *key)
{
    if (!mbedtls_pk_can_do(key, MBEDTLS_PK_ECKEY)) {
        return mbedtls_pk_can_do(key, MBEDTLS_PK_RSA) != 0;
    }
    size_t bits = mbedtls_pk_get_bitlen(key);
#if MBEDTLS_VERSION_MAJOR >= 3
    return bits >= 256;
#else
    const mbedtls_ecp_keypair *pair = mbedtls_pk_ec(*key);
    mbedtls_ecp_group_id curve = pair ? pair->grp.id : MBEDTLS_ECP_DP_NONE;
    return bits >= 256 && (curve == MBEDTLS_ECP_DP_SECP256R1 || curve == MBEDTLS_ECP_DP_SECP384R1 ||
                           curve == MBEDTLS_ECP_DP_SECP521R1);
#endif
}

static enum err check_key(const struct tls_files *files, const struct texts *texts,
                          const mbedtls_x509_crt *cert, struct fault *fault)
{
    mbedtls_pk_context key;
    enum err err = ERR_OK;
    mbedtls_pk_init(&key);
    int result = parse_key(texts->key, &key);
    if (result != 0) {
        err = refuse(files->key, "private key", result, fault);
    } else if (check_pair(&cert->pk, &key) != 0) {
        err = fault_set(fault, ERR_INVALID_FIELD, "the key in %s does not belong to the certificate in %s",
                        files->key, files->cert);
    } else if (!is_usable(&key)) {
        err = fault_set(fault, ERR_INVALID_FIELD,
                        "the key in %s is of a kind that is not used: RSA, P-256, P-384 and P-521 are",
                        files->key);
    }
    mbedtls_pk_free(&key);
    return err;
}

static enum err check_texts(const struct tls_files *files, const struct texts *texts, struct fault *fault)
{
    mbedtls_x509_crt cert;
    mbedtls_x509_crt ca;
    mbedtls_x509_crt_init(&cert);
    mbedtls_x509_crt_init(&ca);
    enum err err = parse_certificates(files->cert, texts->cert, &cert, fault);
    if (!err) {
        err = check_key(files, texts, &cert, fault);
    }
    if (!err && files->ca) {
        err = parse_certificates(files->ca, texts->ca, &ca, fault);
    }
    mbedtls_x509_crt_free(&ca);
    mbedtls_x509_crt_free(&cert);
    return err;
}

// ---- Configs ----

static int fill(nng_tls_config *config, enum tls_side side, const struct tls_files *files,
                const struct texts *texts)
{
    int rv;
    if ((rv = nng_tls_config_version(config, NNG_TLS_1_2, NNG_TLS_1_3)) ||
        (rv = nng_tls_config_own_cert(config, texts->cert, texts->key, NULL))) {
        return rv;
    }
    if (files->ca && ((rv = nng_tls_config_ca_chain(config, texts->ca, NULL)) ||
                      (rv = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED)))) {
        return rv;
    }
    return side == TLS_CLIENT ? nng_tls_config_server_name(config, files->peer) : 0;
}

static enum err load(enum tls_side side, const struct tls_files *files, nng_tls_config **config,
                     struct fault *fault)
{
    struct texts texts;
    nng_tls_config *made = NULL;
    enum err err = read_texts(files, &texts, fault);
    if (err) {
        return err;
    }
    err = check_texts(files, &texts, fault);
    if (!err) {
        int rv = nng_tls_config_alloc(&made, side == TLS_SERVER ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
        rv = rv ? rv : fill(made, side, files, &texts);
        if (rv) {
            err = fault_set(fault, rv == NNG_ENOMEM ? ERR_NO_MEMORY : ERR_INVALID_FIELD,
                            "%s and %s cannot be used: %s", files->cert, files->key, nng_strerror(rv));
        }
    }
    texts_free(&texts);
    if (!err) {
        *config = made;
    } else if (made) {
        nng_tls_config_free(made);
    }
    return err;
}

// ---- From the outside ----

enum err tls_open(enum tls_side side, const struct tls_files *files, struct tls **tls, struct fault *fault)
{
    struct tls *made = calloc(1, sizeof(*made));
    if (!made) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    made->side = side;
    made->files = *files;
    enum err err = load(side, files, &made->config, fault);
    if (err) {
        free(made);
        return err;
    }
    *tls = made;
    return ERR_OK;
}

void tls_close(struct tls *tls)
{
    if (!tls) {
        return;
    }
    nng_tls_config_free(tls->config);
    if (tls->before) {
        nng_tls_config_free(tls->before);
    }
    free(tls);
}

nng_tls_config *tls_config(const struct tls *tls)
{
    return tls->config;
}

enum err tls_reload(struct tls *tls, tls_use *use, void *user, struct fault *fault)
{
    nng_tls_config *config;
    enum err err = load(tls->side, &tls->files, &config, fault);
    if (err) {
        return err;
    }
    int rv = use(user, config);
    if (rv) {
        nng_tls_config_free(config);
        return fault_set(fault, rv == NNG_ENOMEM ? ERR_NO_MEMORY : ERR_INVALID_FIELD,
                         "%s cannot be taken while it is in use: %s", tls->files.cert, nng_strerror(rv));
    }
    if (tls->before) {
        nng_tls_config_free(tls->before);
    }
    tls->before = tls->config;
    tls->config = config;
    return ERR_OK;
}

enum err tls_check_options(enum tls_need need, const char *with, const struct tls_option *options,
                           size_t count, struct fault *fault)
{
    for (size_t i = 0; i < count; i++) {
        if (need == TLS_USED && !options[i].value) {
            return fault_set(fault, ERR_INVALID_FIELD, "%s is missing: %s needs it", options[i].name, with);
        }
        if (need == TLS_NOT_USED && options[i].value) {
            return fault_set(fault, ERR_INVALID_FIELD, "%s is for %s only", options[i].name, with);
        }
    }
    return ERR_OK;
}
