#include "common/proc.h"
#include "tests/support/wait.h"
#include "tests/unit/http_target_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

Test(target_many, sends_the_headers_of_a_queue_after_its_own)
{
    struct fixture f;
    char value[64];

    struct http_target *server = begin_with_server(&f);
    struct target *other = open_with_headers(&f, http_target_url(server),
                                             "X-Api-Key: s3cret, and more\nX-Empty: \nAccept: text/plain\n");
    delivery_free(deliver(&f, make_for(other, 1)));
    delivery_free(deliver(&f, make(&f, 2))); // over the same connection, by the same handle
    struct http_target_request with = http_target_get(server, 0), without = http_target_get(server, 1);
    const char *ours = strstr(with.headers, "Content-Type: "), *theirs = strstr(with.headers, "X-Api-Key: ");
    cr_assert(ours && theirs && ours < theirs);
    cr_assert(http_target_header(&with, "X-Api-Key", value, sizeof(value)));
    cr_assert_str_eq(value, "s3cret, and more");
    cr_assert(http_target_header(&with, "X-Empty", value, sizeof(value)));
    cr_assert_str_eq(value, "");
    cr_assert(http_target_header(&with, "Accept", value, sizeof(value)));
    cr_assert_str_eq(value, "text/plain");
    cr_assert_not(http_target_header(&without, "X-Api-Key", value, sizeof(value)));
    cr_assert_not(http_target_header(&without, "X-Empty", value, sizeof(value)));
    cr_assert_eq(http_target_connections(server), 1);
    target_close(other);
    end_with_server(&f, server);
}

// One handle and one connection serve targets with and without credentials.
Test(target_many, keeps_credentials_to_their_target)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    char url[128], value[64];

    (void)snprintf(url, sizeof(url), "http://user:secret@127.0.0.1:%u/x", (unsigned)http_target_port(server));
    struct target *other = open_one(&f, url);
    for (size_t i = 0; i < 6; i++) {
        delivery_free(deliver(&f, make_for(i % 2 == 0 ? other : f.target, 1)));
        struct http_target_request request = http_target_get(server, i);
        cr_assert_eq(http_target_header(&request, "Authorization", value, sizeof(value)), i % 2 == 0);
    }
    target_close(other);
    end_with_server(&f, server);
}

// A queue's target may change while deliveries to the old one are under way.
Test(target_many, keeps_a_closed_target_for_what_is_under_way)
{
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    struct target *old = open_with_headers(&f, http_target_url(server), "X-Old: yes\n");
    char value[8];

    http_target_script(server, &(struct http_target_answer){.delay_ns = 200 * NS_PER_MS});
    struct delivery *delivery = make_for(old, 1);
    target_start(delivery);
    target_close(old);
    cr_assert_eq(next_done(&f), delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED);
    struct http_target_request request = http_target_get(server, 0);
    cr_assert(http_target_header(&request, "X-Old", value, sizeof(value)));
    delivery_free(delivery);
    end_with_server(&f, server);
}

// One hangs, one is down, one is at 429; the others go on as if there were nobody else.
Test(target_many, serves_hundreds_of_targets_at_once)
{
    enum { TARGETS = 200, ROUNDS = 5 };
    struct fixture f;
    struct http_target *server = begin_with_server(&f), *hanging = http_target_start(0),
                       *full = http_target_start(0), *gone = http_target_start(0);
    struct target *targets[TARGETS];
    unsigned completed = 0, held = 0, down = 0;

    cr_assert(hanging && full && gone);
    struct target *hangs = open_one(&f, http_target_url(hanging)),
                  *holds = open_one(&f, http_target_url(full)), *dead = open_one(&f, http_target_url(gone));
    http_target_stop(gone);
    http_target_set_default(hanging, &(struct http_target_answer){.how = HTTP_TARGET_HANG});
    http_target_set_default(full, &(struct http_target_answer){.status = 429, .retry_after = "1"});
    for (uint8_t i = 0; i < TARGETS; i++) {
        char url[128];
        (void)snprintf(url, sizeof(url), "%s/%u", http_target_url(server), (unsigned)i);
        targets[i] = open_one(&f, url);
    }
    for (uint8_t i = 0; i < 20; i++) {
        target_start(make_for(hangs, i));
    }
    for (uint8_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < TARGETS; i++) {
            target_start(make_for(targets[i], round));
        }
        target_start(make_for(holds, round));
        target_start(make_for(dead, round));
        for (size_t i = 0; i < TARGETS + 2; i++) {
            struct delivery *delivery = next_done(&f);
            completed += delivery->outcome.class == OUTCOME_COMPLETED;
            held += delivery->outcome.class == OUTCOME_HOLD && delivery->target == holds;
            down += delivery->outcome.down && delivery->target == dead;
            delivery_free(delivery);
        }
    }
    cr_assert_eq(completed, TARGETS * ROUNDS);
    cr_assert_eq(held, ROUNDS);
    cr_assert_eq(down, ROUNDS);
    cr_assert_eq(http_target_count(server), TARGETS * ROUNDS);
    cr_assert(http_target_wait(hanging, 20, WAIT_S * NS_PER_S));
    for (size_t i = 0; i < TARGETS; i++) {
        target_close(targets[i]);
    }
    target_close(hangs);
    target_close(holds);
    target_close(dead);
    end_with_server(&f, server);
    http_target_stop(hanging);
    http_target_stop(full);
}

// However many deliveries hang, the connections of the others are kept.
Test(target_many, keeps_connections_beside_a_thousand_that_hang)
{
    enum { HANGING = 1500, ROUNDS = 20 };
    struct fixture f;
    struct http_target *server = begin_with_server(&f);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    char url[64];

    if (proc_raise_files() < HANGING + 100) {
        cr_skip_test("too few descriptors");
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); // the kernel connects, and nobody answers
    cr_assert_geq(listener, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, len), 0);
    cr_assert_eq(listen(listener, HANGING), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", (unsigned)ntohs(address.sin_port));
    struct target *hangs = open_one(&f, url);
    for (int i = 0; i < HANGING; i++) {
        target_start(make_for(hangs, 1));
    }
    for (uint8_t i = 0; i < ROUNDS; i++) {
        struct delivery *delivery = deliver(&f, make(&f, i));
        cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
        delivery_free(delivery);
    }
    cr_assert_eq(http_target_connections(server), 1);
    target_close(hangs);
    end_with_server(&f, server);
    (void)close(listener);
}
