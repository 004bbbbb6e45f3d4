// target_fixture.h - targets with an inbox of their own, and what reaches it.
#ifndef SLUICE_TESTS_UNIT_TARGET_FIXTURE_H
#define SLUICE_TESTS_UNIT_TARGET_FIXTURE_H

#include "scheduler/target.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct inbox *inbox;
    struct targets *targets;
    struct target *target;     // the first
    struct inbox_item *queued; // taken from the inbox and not yet looked at
};

static inline struct target *open_with_headers(struct fixture *f, const char *text, const char *headers)
{
    struct target *target = NULL;
    struct fault fault = {0};

    cr_assert_eq(target_open(f->targets, text, headers, &target, &fault), ERR_OK, "%s", fault.detail);
    cr_assert_str_eq(target_text(target), text);
    cr_assert_str_eq(target_headers(target), headers);
    return target;
}

static inline struct target *open_one(struct fixture *f, const char *text)
{
    return open_with_headers(f, text, "");
}

static inline void begin(struct fixture *f, const char *text)
{
    *f = (struct fixture){0};
    cr_assert_eq(inbox_new(&f->inbox), ERR_OK);
    cr_assert_eq(targets_new(f->inbox, &f->targets), ERR_OK);
    f->target = open_one(f, text);
}

static inline void end(struct fixture *f)
{
    cr_assert_null(f->queued);
    target_close(f->target);
    targets_free(f->targets);
    cr_assert_null(inbox_take(f->inbox));
    inbox_free(f->inbox);
}

static inline struct delivery *make_for(struct target *target, uint8_t number)
{
    struct delivery *delivery = delivery_new(target);

    cr_assert_not_null(delivery);
    cr_assert(id_parse("0198c0de-0000-7000-8000-000000000001", 36, &delivery->ingestion));
    cr_assert(id_parse("5a0d0c60-1111-5222-8333-000000000000", 36, &delivery->batch));
    delivery->batch.bytes[15] = number;
    memcpy(delivery->queue_name, "mail", sizeof("mail"));
    delivery->place.priority = PRIORITY_MEDIUM;
    delivery->ids = strdup("1,2,9007199254740991");
    delivery->attempt = 3;
    delivery->timeout_ns = 30 * NS_PER_S;
    delivery->slot = MONO_NEVER; // never late
    return delivery;
}

static inline struct delivery *make(struct fixture *f, uint8_t number)
{
    return make_for(f->target, number);
}

// The next thing that reaches the inbox.
static inline struct inbox_item *next_item(struct fixture *f)
{
    if (!f->queued) {
        struct pollfd wait = {.fd = inbox_fd(f->inbox), .events = POLLIN};
        cr_assert_eq(poll(&wait, 1, 60000), 1);
        f->queued = inbox_take(f->inbox);
    }
    struct inbox_item *item = f->queued;
    f->queued = item->next;
    return item;
}

static inline struct delivery *next_done(struct fixture *f)
{
    struct inbox_item *item = next_item(f);

    cr_assert_eq(item->kind, INBOX_DONE);
    return delivery_of(item);
}

// Starts one delivery and waits for its end.
static inline struct delivery *deliver(struct fixture *f, struct delivery *delivery)
{
    target_start(delivery);
    cr_assert_eq(next_done(f), delivery);
    return delivery;
}

#endif
