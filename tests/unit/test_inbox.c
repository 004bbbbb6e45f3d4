#include "scheduler/inbox.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define PRODUCERS 4
#define ITEMS 20000

struct numbered {
    struct inbox_item item; // first, so that an item is a numbered
    int producer;
    int number;
};

struct producer {
    pthread_t thread;
    struct inbox *inbox;
    struct numbered *items;
};

static bool is_readable(const struct inbox *inbox)
{
    struct pollfd fd = {.fd = inbox_fd(inbox), .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

Test(inbox, is_readable_exactly_while_something_is_there)
{
    struct inbox *inbox;
    struct inbox_item items[3] = {{.kind = INBOX_DONE}, {.kind = INBOX_STARTED}, {.kind = INBOX_MESSAGE}};

    cr_assert_eq(inbox_new(&inbox), ERR_OK);
    cr_assert_not(is_readable(inbox));
    cr_assert_null(inbox_take(inbox));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            inbox_post(inbox, &items[i]);
            cr_assert(is_readable(inbox));
        }
        struct inbox_item *taken = inbox_take(inbox);
        for (int i = 0; i < 3; i++, taken = taken->next)
            cr_assert_eq(taken, &items[i]);
        cr_assert_null(taken);
        cr_assert_not(is_readable(inbox));
        cr_assert_null(inbox_take(inbox));
    }
    inbox_free(inbox);
    inbox_free(NULL);
}

Test(inbox, a_quiet_item_waits_for_a_loud_one)
{
    struct inbox *inbox;
    struct inbox_item items[4] = {{.kind = INBOX_STARTED}};

    cr_assert_eq(inbox_new(&inbox), ERR_OK);
    for (int round = 0; round < 2; round++) {
        inbox_post_quietly(inbox, &items[0]);
        cr_assert_not(is_readable(inbox));
        cr_assert_eq(inbox_take(inbox), &items[0], "whoever looks finds it");
        inbox_post_quietly(inbox, &items[0]);
        inbox_post(inbox, &items[1]);
        cr_assert(is_readable(inbox));
        inbox_post_quietly(inbox, &items[2]);
        inbox_post(inbox, &items[3]);
        struct inbox_item *taken = inbox_take(inbox);
        for (int i = 0; i < 4; i++, taken = taken->next)
            cr_assert_eq(taken, &items[i]);
        cr_assert_null(taken);
        cr_assert_not(is_readable(inbox));
    }
    inbox_free(inbox);
}

static void *produce(void *arg)
{
    struct producer *producer = arg;

    for (int i = 0; i < ITEMS; i++)
        inbox_post(producer->inbox, &producer->items[i].item);
    return NULL;
}

Test(inbox, keeps_the_order_of_each_producer_and_loses_nothing)
{
    struct inbox *inbox;
    struct producer producers[PRODUCERS];
    int next[PRODUCERS] = {0};

    cr_assert_eq(inbox_new(&inbox), ERR_OK);
    for (int p = 0; p < PRODUCERS; p++) {
        producers[p].inbox = inbox;
        producers[p].items = calloc(ITEMS, sizeof(*producers[p].items));
        cr_assert_not_null(producers[p].items);
        for (int i = 0; i < ITEMS; i++)
            producers[p].items[i] = (struct numbered){.producer = p, .number = i};
        cr_assert_eq(pthread_create(&producers[p].thread, NULL, produce, &producers[p]), 0);
    }
    for (int seen = 0; seen < PRODUCERS * ITEMS;) {
        struct pollfd fd = {.fd = inbox_fd(inbox), .events = POLLIN};
        cr_assert_eq(poll(&fd, 1, 30000), 1, "no wake-up although %d are missing", PRODUCERS * ITEMS - seen);
        for (struct inbox_item *item = inbox_take(inbox); item; item = item->next, seen++) {
            const struct numbered *numbered = (const struct numbered *)item;
            cr_assert_eq(numbered->number, next[numbered->producer]++);
        }
    }
    for (int p = 0; p < PRODUCERS; p++) {
        pthread_join(producers[p].thread, NULL);
        free(producers[p].items);
    }
    cr_assert_not(is_readable(inbox));
    inbox_free(inbox);
}
