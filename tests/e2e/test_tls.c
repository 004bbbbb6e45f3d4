// https: what is spoken, with which files, how a certificate is replaced, and what bad peers can do.
#include "tests/e2e/tls_fixture.h"

#include "common/conf.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SERIAL 0x11u
#define NEXT_SERIAL 0x12u

TestSuite(tls, .fini = sluice_cleanup);

// A directory with certificates for 127.0.0.1, nothing running.
static struct sluice *secure_new(const char *const *scheduler_flags, const char *const *gateway_flags)
{
    struct sluice *sluice = sluice_new(scheduler_flags, gateway_flags);
    cr_assert_lt(snprintf(sluice->url, SLUICE_TEXT, "https://127.0.0.1:%u", free_port()), SLUICE_TEXT);
    pki_authority(sluice->dir, "ca");
    pki_certificate(sluice->dir, "ca", "server", PKI_SERVER, HERE, SERIAL);
    return sluice;
}

static struct sluice *secure_start(const char *const *scheduler_flags)
{
    struct sluice *sluice =
        secure_new(scheduler_flags, LIST("--tls-cert", "server.pem", "--tls-key", "server.key"));
    sluice_launch(sluice, SCHEDULER);
    sluice_launch(sluice, GATEWAY);
    return sluice;
}

Test(tls, requests_are_answered_over_one_connection)
{
    struct sluice *sluice = secure_start(NULL);
    struct client client;
    client_open(&client, sluice);
    cr_assert_eq(client_ask(&client, sluice, "/ingest", GOOD_BODY), 200);
    cJSON *ingested = cJSON_Parse(client.body.data);
    char path[64];
    (void)snprintf(path, sizeof(path), "/status/%s", json_text(ingested, "ingestion_id"));
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(client_ask(&client, sluice, path, NULL), 200);
        cr_expect(client_kept(&client), "a connection for request %d", i);
        cr_expect(strstr(client.body.data, "[1,2,3]") != NULL, "%s", client.body.data);
    }
    cJSON_Delete(ingested);
    client_close(&client);
    sluice_end(sluice);
}

// Whether openssl comes to terms with the gateway when it offers only this, however weak.
static bool speaks(const struct sluice *sluice, const char *version, const char *suites)
{
    int code =
        shell(sluice, "openssl s_client -connect 127.0.0.1:%u %s -cipher '%s:@SECLEVEL=0' </dev/null 2>&1",
              port_of(sluice->url), version, suites);
    return code == 0;
}

Test(tls, version_1_2_with_strong_suites_is_spoken_and_nothing_else)
{
    static const char *const weak[] = {"ECDHE-ECDSA-AES128-SHA",
                                       "ECDHE-ECDSA-AES256-SHA384",
                                       "ECDHE-ECDSA-AES128-CCM8",
                                       "AES128-GCM-SHA256",
                                       "AES256-SHA",
                                       "DHE-RSA-AES128-GCM-SHA256"};
    static const char *const strong[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
    struct sluice *sluice = secure_start(NULL);
    for (size_t i = 0; i < COUNT(strong); i++) {
        cr_expect(speaks(sluice, "-tls1_2", strong[i]), "%s", strong[i]);
        expect_output(sluice, strong[i]);
    }
    for (size_t i = 0; i < COUNT(weak); i++) {
        cr_expect_not(speaks(sluice, "-tls1_2", weak[i]), "%s", weak[i]);
    }
    cr_expect_not(speaks(sluice, "-tls1", "ALL"));
    cr_expect_not(speaks(sluice, "-tls1_1", "ALL"));
    expect_output(sluice, "alert protocol version"); // and not for want of what openssl would do
    cr_expect_eq(ask_once(sluice, "/readyz", NULL), 200);
    sluice_end(sluice);
}

Test(tls, plain_http_to_the_port_harms_nobody)
{
    static const char plain[] = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    struct sluice *sluice = secure_start(NULL);
    struct client client;
    client_open(&client, sluice);
    cr_assert_eq(client_ask(&client, sluice, "/readyz", NULL), 200);
    for (int i = 0; i < 20; i++) {
        int fd = connect_bare(port_of(sluice->url));
        say_bare(fd, plain, strlen(plain));
        cr_expect_leq(drain_bare(fd), 16, "more than an alert comes");
        cr_expect_eq(ask_once(sluice, "/readyz", NULL), 200);
    }
    cr_expect_eq(client_ask(&client, sluice, "/readyz", NULL), 200);
    cr_expect(client_kept(&client));
    client_close(&client);
    sluice_end(sluice);
}

// ---- Files ----

static void copy(const struct sluice *sluice, const char *from, const char *to)
{
    cr_assert_eq(shell(sluice, "cp %s.pem %s.pem && cp %s.key %s.key", from, to, from, to), 0);
}

static unsigned logged(const struct sluice *sluice, const char *text)
{
    unsigned count = 0;
    char *log = file_text(sluice->log[GATEWAY]);
    for (const char *at = log; (at = strstr(at, text)); at++) {
        count++;
    }
    free(log);
    return count;
}

static void reload(const struct sluice *sluice)
{
    unsigned before = logged(sluice, "reloaded");
    cr_assert_eq(kill(sluice->part[GATEWAY].pid, SIGHUP), 0);
    WAIT_FOR(logged(sluice, "reloaded") > before);
}

Test(tls, a_replaced_certificate_is_used_after_sighup)
{
    struct sluice *sluice = secure_start(NULL);
    uint16_t port = port_of(sluice->url);
    struct client client;
    client_open(&client, sluice);
    pki_certificate(sluice->dir, "ca", "next", PKI_SERVER, HERE, NEXT_SERIAL);
    cr_assert_eq(client_ask(&client, sluice, "/healthz", NULL), 200);
    expect_serial(sluice, port, SERIAL);

    copy(sluice, "next", "server");
    expect_serial(sluice, port, SERIAL); // it is not looked at before
    reload(sluice);
    expect_serial(sluice, port, NEXT_SERIAL); // the very first that comes
    cr_expect_eq(ask_once(sluice, "/healthz", NULL), 200);
    cr_expect_eq(client_ask(&client, sluice, "/healthz", NULL), 200);
    cr_expect(client_kept(&client), "what was there before goes on");

    cr_assert_eq(shell(sluice, "echo nonsense >server.pem"), 0);
    reload(sluice);
    cr_expect(sluice_logged(sluice, GATEWAY, "ERROR gateway not_reloaded"));
    cr_expect(sluice_logged(sluice, GATEWAY, "server.pem holds no certificate"));
    expect_serial(sluice, port, NEXT_SERIAL);
    cr_expect_eq(client_ask(&client, sluice, "/healthz", NULL), 200);
    cr_expect(client_kept(&client));

    copy(sluice, "next", "server");
    for (int i = 0; i < 10; i++) { // configs come and go
        reload(sluice);
        cr_expect_eq(ask_once(sluice, "/healthz", NULL), 200);
    }
    client_close(&client);
    sluice_end(sluice);
}

static const struct {
    const char *make; // what the shell does before
    const char *cert, *key;
    const char *reason;
} bad_files[] = {
    {":", "server.pem", NULL, "--tls-key is missing: --listen https://HOST:PORT needs it"},
    {":", NULL, "server.key", "--tls-cert is missing"},
    {":", "none.pem", "server.key", "cannot read none.pem: No such file or directory"},
    {":", ".", "server.key", "cannot read .: Is a directory"},
    {":", "server.pem", "none.key", "cannot read none.key: No such file or directory"},
    {":", "server.key", "server.key", "server.key holds no certificate that can be used: "},
    {":", "server.pem", "server.pem", "server.pem holds no private key that can be used: "},
    {"echo nonsense >n.pem", "n.pem", "server.key", "n.pem holds no certificate that can be used: "},
    {": >n.pem", "n.pem", "server.key", "n.pem holds no certificate"},
    {"printf 'a\\0b' >n.pem", "n.pem", "server.key", "n.pem is no PEM file"},
    {"head -c 2000000 /dev/zero | tr '\\0' a >n.pem", "n.pem", "server.key", "n.pem is no PEM file"},
    {"{ cat server.pem; sed 's/^MII/AAA/' ca.pem; } >n.pem", "n.pem", "server.key",
     "n.pem: 1 of its certificates cannot be read"},
    {":", "server.pem", "ca.key", "the key in ca.key does not belong to the certificate in server.pem"},
    {"openssl pkey -in server.key -aes128 -passout pass:x >n.key", "server.pem", "n.key",
     "n.key holds no private key that can be used: "},
    {"openssl req -config openssl.cnf -x509 -nodes -newkey ed25519 -subj /CN=n -keyout n.key -out n.pem",
     "n.pem", "n.key", "n.pem holds no certificate that can be used: "},
    {"openssl req -config openssl.cnf -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:secp256k1 "
     "-pkeyopt ec_param_enc:named_curve -subj /CN=n -keyout n.key -out n.pem",
     "n.pem", "n.key", "the key in n.key is of a kind that is not used"},
};

Test(tls, files_that_cannot_be_used_are_named_at_the_start)
{
    struct sluice *sluice = secure_new(NULL, NULL);
    for (size_t i = 0; i < COUNT(bad_files); i++) {
        char *output, *errors;
        const char *arguments[8] = {"--listen", sluice->url};
        size_t count = 2;
        if (bad_files[i].cert) {
            arguments[count++] = "--tls-cert";
            arguments[count++] = bad_files[i].cert;
        }
        if (bad_files[i].key) {
            arguments[count++] = "--tls-key";
            arguments[count++] = bad_files[i].key;
        }
        cr_assert_eq(shell(sluice, "%s", bad_files[i].make), 0, "%s", bad_files[i].make);
        int code = sluice_run(sluice, GATEWAY, arguments, NULL, &output, &errors);
        cr_expect_eq(code, EXIT_CODE_CONFIG, "%d: %s", code, errors);
        cr_expect(strstr(errors, bad_files[i].reason) != NULL, "\"%s\" is not in: %s", bad_files[i].reason,
                  errors);
        const char *end = strchr(errors, '\n');
        cr_expect(end && end[1] == '\0', "not one line: %s", errors);
        free(output);
        free(errors);
    }
    sluice_end(sluice);
}

Test(tls, files_without_https_are_refused)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *output, *errors;
    int code =
        sluice_run(sluice, GATEWAY, LIST("--listen", sluice->url, "--tls-cert", "a"), NULL, &output, &errors);
    cr_expect_eq(code, EXIT_CODE_CONFIG);
    cr_expect(strstr(errors, "--tls-cert is for --listen https://HOST:PORT only") != NULL, "%s", errors);
    free(output);
    free(errors);
    sluice_end(sluice);
}

// ---- Peers that say nothing, or not enough ----

Test(tls, who_does_not_finish_the_handshake_is_ended)
{
    struct sluice *sluice = secure_new(NULL, LIST("--tls-cert", "server.pem", "--tls-key", "server.key",
                                                  "--timeout", "100ms", "--transfer-timeout", "100ms",
                                                  "--idle-timeout", "100ms", "--max-body", "1KiB"));
    sluice_launch(sluice, GATEWAY);
    size_t files = process_files(sluice->part[GATEWAY].pid);
    uint16_t port = port_of(sluice->url);
    int silent = connect_bare(port);
    int half = connect_bare(port);
    int waiting = connect_bare(port);
    say_bare(half, client_hello, sizeof(client_hello) / 2);
    say_bare(waiting, client_hello, sizeof(client_hello));
    cr_expect_eq(drain_bare(silent), 0);
    cr_expect_eq(drain_bare(half), 0);
    cr_expect_gt(drain_bare(waiting), 500, "its certificate was sent");
    WAIT_FOR(process_files(sluice->part[GATEWAY].pid) <= files);
    cr_expect_eq(ask_once(sluice, "/healthz", NULL), 200);
    sluice_end(sluice);
}
