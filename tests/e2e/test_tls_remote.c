// A gateway and a scheduler on two hosts: tls+tcp:// with certificates on both sides, and plain tcp:// for
// those who insist.
#include "tests/e2e/tls_fixture.h"

#include "common/conf.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SERIAL 0x21u
#define NEXT_SERIAL 0x22u
#define CLIENT_SERIAL 0x31u

TestSuite(tls_remote, .fini = sluice_cleanup);

// Two hosts' files in one directory, and where the scheduler listens.
struct hosts {
    struct sluice *sluice;
    uint16_t port;
    char remote[64];
};

static void hosts_new(struct hosts *hosts, const char *scheme)
{
    hosts->sluice = sluice_new(NULL, NULL);
    hosts->port = free_port();
    (void)snprintf(hosts->remote, sizeof(hosts->remote), "%s://127.0.0.1:%u", scheme, hosts->port);
}

static void secure_hosts_new(struct hosts *hosts)
{
    hosts_new(hosts, "tls+tcp");
    const char *dir = hosts->sluice->dir;
    pki_authority(dir, "ca");
    pki_authority(dir, "stranger");
    pki_certificate(dir, "ca", "server", PKI_SERVER, HERE, SERIAL);
    pki_certificate(dir, "ca", "client", PKI_CLIENT, "DNS:gateway", CLIENT_SERIAL);
    pki_certificate(dir, "stranger", "foreign", PKI_CLIENT, "DNS:gateway", CLIENT_SERIAL);
    sluice_set_flags(hosts->sluice, SCHEDULER,
                     LIST("--remote", hosts->remote, "--remote-cert", "server.pem", "--remote-key",
                          "server.key", "--remote-ca", "ca.pem"));
    sluice_launch(hosts->sluice, SCHEDULER);
}

static void launch_gateway(const struct hosts *hosts, const char *url, const char *cert, const char *key,
                           const char *ca, const char *timeout)
{
    sluice_set_flags(hosts->sluice, GATEWAY,
                     LIST("--scheduler", url, "--scheduler-cert", cert, "--scheduler-key", key,
                          "--scheduler-ca", ca, "--timeout", timeout));
    sluice_launch(hosts->sluice, GATEWAY);
}

static void expect_answer(const struct hosts *hosts)
{
    struct http_response response = sluice_post(hosts->sluice, GOOD_BODY, NULL);
    cr_expect_eq(response.status, 200, "%ld: %s", response.status, response.body);
    http_response_fini(&response);
}

static bool is_ready(const struct hosts *hosts)
{
    struct http_response response = sluice_get(hosts->sluice, "/readyz");
    bool ready = response.status == 200;
    http_response_fini(&response);
    return ready;
}

static void reload(const struct hosts *hosts, enum part part)
{
    char *before = file_text(hosts->sluice->log[part]);
    size_t len = strlen(before);
    free(before);
    cr_assert_eq(kill(hosts->sluice->part[part].pid, SIGHUP), 0);
    for (bool said = false; !said;) {
        char *log = file_text(hosts->sluice->log[part]);
        said = strstr(log + len, "reloaded") != NULL;
        free(log);
        wait_ms(5);
    }
}

Test(tls_remote, requests_travel_between_two_hosts_through_restarts_and_nonsense)
{
    static const char nonsense[] = "GET / HTTP/1.1\r\n\r\n";
    struct hosts hosts;
    secure_hosts_new(&hosts);
    launch_gateway(&hosts, hosts.remote, "client.pem", "client.key", "ca.pem", "60s");
    expect_answer(&hosts);

    sluice_kill(hosts.sluice, SCHEDULER);
    sluice_launch(hosts.sluice, SCHEDULER);
    expect_answer(&hosts);

    for (int i = 0; i < 20; i++) {
        int fd = connect_bare(hosts.port);
        if (i % 2 == 0) {
            say_bare(fd, nonsense, strlen(nonsense));
            (void)drain_bare(fd);
        } else {
            close(fd);
        }
    }
    expect_answer(&hosts);
    sluice_kill(hosts.sluice, GATEWAY);
    sluice_launch(hosts.sluice, GATEWAY); // so it still listens
    expect_answer(&hosts);
    sluice_end(hosts.sluice);
}

Test(tls_remote, replaced_certificates_are_used_after_sighup)
{
    struct hosts hosts;
    secure_hosts_new(&hosts);
    struct sluice *sluice = hosts.sluice;
    launch_gateway(&hosts, hosts.remote, "client.pem", "client.key", "ca.pem", "60s");
    expect_answer(&hosts);
    expect_serial(sluice, hosts.port, SERIAL);
    // New ones all round, of another authority.
    pki_authority(sluice->dir, "ca");
    pki_certificate(sluice->dir, "ca", "server", PKI_SERVER, HERE, NEXT_SERIAL);
    pki_certificate(sluice->dir, "ca", "client", PKI_CLIENT, "DNS:gateway", CLIENT_SERIAL);
    reload(&hosts, SCHEDULER);
    expect_serial(sluice, hosts.port, NEXT_SERIAL);
    expect_answer(&hosts); // over the connection that was there
    reload(&hosts, GATEWAY);
    sluice_kill(sluice, SCHEDULER);
    sluice_launch(sluice, SCHEDULER);
    expect_answer(&hosts); // over a new one

    cr_assert_eq(shell(sluice, "echo nonsense >server.pem; echo nonsense >client.key"), 0);
    reload(&hosts, SCHEDULER);
    reload(&hosts, GATEWAY);
    cr_expect(sluice_logged(sluice, SCHEDULER, "ERROR loop not_reloaded"));
    cr_expect(sluice_logged(sluice, SCHEDULER, "server.pem holds no certificate"));
    cr_expect(sluice_logged(sluice, GATEWAY, "client.key holds no private key"));
    expect_serial(sluice, hosts.port, NEXT_SERIAL);
    expect_answer(&hosts);
    sluice_end(sluice);
}

Test(tls_remote, nobody_gets_in_without_a_certificate_and_nobody_poses_as_the_scheduler)
{
    struct hosts hosts;
    char localhost[64];
    secure_hosts_new(&hosts);
    (void)snprintf(localhost, sizeof(localhost), "tls+tcp://localhost:%u", hosts.port);
    const struct {
        const char *url, *cert, *key, *ca;
    } wrong[] = {
        {hosts.remote, "foreign.pem", "foreign.key", "ca.pem"},     // a client of another authority
        {hosts.remote, "client.pem", "client.key", "stranger.pem"}, // a scheduler of another authority
        {localhost, "client.pem", "client.key", "ca.pem"},          // one of another name
        {hosts.remote, "server.pem", "server.key", "ca.pem"},       // a certificate that is not for clients
    };
    launch_gateway(&hosts, hosts.remote, "client.pem", "client.key", "ca.pem", "60s");
    WAIT_FOR(is_ready(&hosts));
    cr_assert_eq(sluice_stop(hosts.sluice, GATEWAY), EXIT_CODE_OK);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        launch_gateway(&hosts, wrong[i].url, wrong[i].cert, wrong[i].key, wrong[i].ca, "1s");
        cr_expect_not(is_ready(&hosts), "%zu", i);
        struct http_response response = sluice_post(hosts.sluice, GOOD_BODY, NULL);
        cr_expect_eq(response.status, 503, "%zu: %ld %s", i, response.status, response.body);
        http_response_fini(&response);
        cr_assert_eq(sluice_stop(hosts.sluice, GATEWAY), EXIT_CODE_OK);
    }
    // The handshake itself comes to nothing.
    cr_expect_neq(shell(hosts.sluice, "openssl s_client -connect 127.0.0.1:%u </dev/null 2>&1", hosts.port),
                  0);
    cr_expect_eq(shell(hosts.sluice,
                       "openssl s_client -connect 127.0.0.1:%u -cert client.pem -key client.key "
                       "</dev/null 2>&1",
                       hosts.port),
                 0);
    launch_gateway(&hosts, hosts.remote, "client.pem", "client.key", "ca.pem", "60s");
    expect_answer(&hosts);
    sluice_end(hosts.sluice);
}

Test(tls_remote, who_does_not_finish_the_handshake_is_ended)
{
    struct hosts hosts;
    secure_hosts_new(&hosts);
    size_t files = process_files(hosts.sluice->part[SCHEDULER].pid);
    int silent = connect_bare(hosts.port);
    int waiting = connect_bare(hosts.port);
    say_bare(waiting, client_hello, sizeof(client_hello));
    cr_expect_eq(drain_bare(silent), 0);
    cr_expect_gt(drain_bare(waiting), 500, "its certificate was sent");
    WAIT_FOR(process_files(hosts.sluice->part[SCHEDULER].pid) <= files);
    sluice_end(hosts.sluice);
}

// ---- Plain TCP ----

Test(tls_remote, plain_tcp_is_spoken_when_it_is_insisted_on)
{
    // A request socket's greeting, and a message of 2^40 bytes.
    static const unsigned char greeting[] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    static const unsigned char forged[] = {0, 0, 1, 0, 0, 0, 0, 0};
    struct hosts hosts;
    hosts_new(&hosts, "tcp");
    sluice_set_flags(hosts.sluice, SCHEDULER, LIST("--remote", hosts.remote, "--insecure"));
    sluice_set_flags(hosts.sluice, GATEWAY,
                     LIST("--scheduler", hosts.remote, "--insecure", "--timeout", "60s"));
    sluice_launch(hosts.sluice, SCHEDULER);
    sluice_launch(hosts.sluice, GATEWAY);
    expect_answer(&hosts);
    int fd = connect_bare(hosts.port);
    say_bare(fd, greeting, sizeof(greeting));
    say_bare(fd, forged, sizeof(forged));
    cr_expect_leq(drain_bare(fd), sizeof(greeting));
    expect_answer(&hosts);
    sluice_end(hosts.sluice);
}

static const struct {
    enum part part;
    const char *arguments[9];
    const char *reason;
} refused[] = {
    {SCHEDULER,
     {"--remote", "tcp://127.0.0.1:9"},
     "--remote tcp://127.0.0.1:9: whoever reaches this address"},
    {SCHEDULER,
     {"--remote", "tls+tcp://127.0.0.1:9"},
     "--remote-cert is missing: --remote tls+tcp://HOST:PORT needs it"},
    {SCHEDULER,
     {"--remote", "tls+tcp://127.0.0.1:9", "--remote-cert", "server.pem", "--remote-key", "server.key"},
     "--remote-ca is missing"},
    {SCHEDULER, {"--remote-key", "server.key"}, "--remote-key is for --remote tls+tcp://HOST:PORT only"},
    {SCHEDULER,
     {"--remote", "tls+tcp://127.0.0.1:9", "--remote-cert", "server.pem", "--remote-key", "server.key",
      "--remote-ca", "server.key"},
     "server.key holds no certificate that can be used"},
    {GATEWAY, {"--scheduler", "tcp://127.0.0.1:9"}, "--scheduler tcp://127.0.0.1:9: whoever is on the way"},
    {GATEWAY, {"--scheduler", "tls+tcp://127.0.0.1:9", "--scheduler-ca", "a"}, "--scheduler-cert is missing"},
    {GATEWAY, {"--scheduler-ca", "a"}, "--scheduler-ca is for --scheduler tls+tcp://HOST:PORT only"},
    {GATEWAY,
     {"--scheduler", "tls+tcp://[::1]:9", "--scheduler-cert", "server.pem", "--scheduler-key", "server.key",
      "--scheduler-ca", "none.pem"},
     "cannot read none.pem: No such file or directory"},
};

Test(tls_remote, what_does_not_go_together_is_refused)
{
    struct hosts hosts;
    hosts_new(&hosts, "tls+tcp");
    pki_authority(hosts.sluice->dir, "server");
    for (size_t i = 0; i < COUNT(refused); i++) {
        char *output, *errors;
        int code = sluice_run(hosts.sluice, refused[i].part, refused[i].arguments, NULL, &output, &errors);
        cr_expect_eq(code, EXIT_CODE_CONFIG, "%zu ended with %d: %s", i, code, errors);
        cr_expect(strstr(errors, refused[i].reason) != NULL, "\"%s\" is not in: %s", refused[i].reason,
                  errors);
        free(output);
        free(errors);
    }
    sluice_end(hosts.sluice);
}

Test(tls_remote, a_port_that_is_taken_is_said)
{
    struct hosts hosts;
    secure_hosts_new(&hosts);
    struct sluice *second = sluice_new(NULL, NULL);
    char remote[64];
    (void)snprintf(remote, sizeof(remote), "tcp://127.0.0.1:%u", hosts.port);
    sluice_set_flags(second, SCHEDULER, LIST("--remote", remote, "--insecure"));
    cr_expect_eq(sluice_try(second, SCHEDULER), EXIT_CODE_UNAVAILABLE);
    cr_expect(sluice_logged(second, SCHEDULER, "cannot listen on tcp://127.0.0.1:"));
    sluice_end(second);
    sluice_end(hosts.sluice);
}
