#include "scheduler/inbox.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct inbox {
    int fd;               // an eventfd: readable exactly while `loud`
    pthread_mutex_t lock; // guards the rest, and keeps fd in step with it
    bool loud;            // something in the list was not posted quietly
    struct inbox_item *first;
    struct inbox_item *last;
};

enum err inbox_new(struct inbox **inbox)
{
    struct inbox *in = calloc(1, sizeof(*in));

    if (!in) {
        return ERR_NO_MEMORY;
    }
    in->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (in->fd < 0 || pthread_mutex_init(&in->lock, NULL) != 0) {
        if (in->fd >= 0) {
            close(in->fd);
        }
        free(in);
        return ERR_INTERNAL;
    }
    *inbox = in;
    return ERR_OK;
}

void inbox_free(struct inbox *inbox)
{
    if (!inbox) {
        return;
    }
    assert(!inbox->first);
    pthread_mutex_destroy(&inbox->lock);
    close(inbox->fd);
    free(inbox);
}

static void append(struct inbox *inbox, struct inbox_item *item)
{
    item->next = NULL;
    if (!inbox->first) {
        inbox->first = item;
    } else {
        inbox->last->next = item;
    }
    inbox->last = item;
}

void inbox_post_quietly(struct inbox *inbox, struct inbox_item *item)
{
    pthread_mutex_lock(&inbox->lock);
    append(inbox, item);
    pthread_mutex_unlock(&inbox->lock);
}

void inbox_post(struct inbox *inbox, struct inbox_item *item)
{
    pthread_mutex_lock(&inbox->lock);
    append(inbox, item);
    if (!inbox->loud) {
        inbox->loud = true;
        // An eventfd refuses a write only when its counter is about to overflow, and this one never
        // exceeds 1.
        (void)eventfd_write(inbox->fd, 1);
    }
    pthread_mutex_unlock(&inbox->lock);
}

struct inbox_item *inbox_take(struct inbox *inbox)
{
    struct inbox_item *items;
    eventfd_t count;

    pthread_mutex_lock(&inbox->lock);
    items = inbox->first;
    inbox->first = NULL;
    inbox->last = NULL;
    if (inbox->loud) {
        inbox->loud = false;
        (void)eventfd_read(inbox->fd, &count);
    }
    pthread_mutex_unlock(&inbox->lock);
    return items;
}

int inbox_fd(const struct inbox *inbox)
{
    return inbox->fd;
}
