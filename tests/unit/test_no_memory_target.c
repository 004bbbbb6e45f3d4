// Targets when memory runs out: each allocation of setting one up, and of a delivery on whatever thread,
// fails, alone and with all after it. A target is there or it is not; a delivery comes back, at the worst to
// be tried again.
#include "tests/support/wait.h"
#include "tests/unit/no_memory.h"
#include "tests/unit/target_fixture.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(no_memory_target, .init = memory_hook_libraries);

static void set_up(void *user, bool short_of)
{
    struct inbox *inbox = NULL;
    struct targets *targets = NULL;
    struct target *target = NULL;
    struct fault fault = {0};
    enum err err = inbox_new(&inbox);
    if (err == ERR_OK) {
        err = targets_new(inbox, &targets);
    }
    if (err == ERR_OK) {
        err = target_open(targets, user, "A: b\nC: d\n", &target, &fault);
        cr_assert(err == ERR_OK || fault.detail[0] != '\0');
    }
    // Where a thread or a library could not start, it may have been for something else.
    cr_assert(err == ERR_OK || (short_of && (err == ERR_NO_MEMORY || err == ERR_INTERNAL)), "%s",
              err_name(err));
    target_close(target);
    targets_free(targets);
    inbox_free(inbox);
}

Test(no_memory_target, a_target_is_there_or_not)
{
    static char texts[][32] = {"simulate:1ms", "http://127.0.0.1:9/", "exec:/bin/true", "pull:"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        cr_assert_gt(memory_exhaust(set_up, texts[i]), 2 * 3, "%s", texts[i]);
    }
}

// Answers one connection after the other, without any memory.
static void *serve(void *arg)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    char request[4096];
    for (int fd; (fd = accept(*(int *)arg, NULL, NULL)) >= 0; close(fd)) {
        if (recv(fd, request, sizeof request, 0) > 0) {
            (void)send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
            (void)shutdown(fd, SHUT_WR);
            while (recv(fd, request, sizeof request, 0) > 0) {
            }
        }
    }
    return NULL;
}

static int listen_anywhere(char url[32])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, 64) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(url, 32, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    return fd;
}

// Until it comes back.
static void carry_out(struct fixture *f, struct delivery *delivery)
{
    struct pollfd wait = {.fd = inbox_fd(f->inbox), .events = POLLIN};
    target_start(delivery);
    while (poll(&wait, 1, 1) == 0) {
        (void)targets_run(f->targets, mono_now());
    }
    cr_assert_eq(next_done(f), delivery);
}

// Another one gets there: at once, or when what went to pieces has been put together again.
static void expect_recovery(struct fixture *f, size_t n)
{
    struct mono until = mono_add(mono_now(), WAIT_S * NS_PER_S);
    bool good;
    do {
        struct delivery *delivery = make(f, 2);
        carry_out(f, delivery);
        good = delivery->outcome.class == OUTCOME_COMPLETED;
        cr_assert(good || mono_before(mono_now(), until), "after %zu: %s", n, delivery->outcome.error);
        delivery_free(delivery);
    } while (!good);
}

static size_t exhaust_deliveries(const char *text)
{
    size_t failures = 0;
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        bool reached = true;
        for (size_t n = 0; reached; n++) {
            struct fixture f;
            begin(&f, text);
            struct delivery *delivery = make(&f, 1);
            memory_of_all_fails_at(n, (enum shortage)shortage);
            carry_out(&f, delivery);
            reached = memory_failed();
            enum outcome_class class = delivery->outcome.class;
            cr_assert(class == OUTCOME_COMPLETED || (class == OUTCOME_RETRY && reached), "%d after %zu: %s",
                      class, n, delivery->outcome.error);
            cr_assert((class == OUTCOME_COMPLETED) == (delivery->outcome.error[0] == '\0'));
            delivery_free(delivery);
            expect_recovery(&f, n);
            end(&f);
            failures += reached;
        }
    }
    return failures;
}

Test(no_memory_target, a_delivery_comes_back)
{
    char url[32];
    pthread_t server;
    int fd = listen_anywhere(url);
    cr_assert_eq(pthread_create(&server, NULL, serve, &fd), 0);
    cr_assert_gt(exhaust_deliveries("simulate:0ms"), 1);
    cr_assert_gt(exhaust_deliveries("exec:/bin/true"), 2);
    cr_assert_gt(exhaust_deliveries(url), 20);
    (void)shutdown(fd, SHUT_RDWR);
    pthread_join(server, NULL);
    close(fd);
}
