#include "scheduler/inbox.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct inbox {
    int fd;               // an eventfd: readable exactly while the list is not empty
    pthread_mutex_t lock; // guards the list, and keeps fd in step with it
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

void inbox_post(struct inbox *inbox, struct inbox_item *item)
{
    item->next = NULL;
    pthread_mutex_lock(&inbox->lock);
    if (!inbox->first) {
        inbox->first = item;
        // An eventfd refuses a write only when its counter is about to overflow, and this one never
        // exceeds 1.
        (void)eventfd_write(inbox->fd, 1);
    } else {
        inbox->last->next = item;
    }
    inbox->last = item;
    pthread_mutex_unlock(&inbox->lock);
}

struct inbox_item *inbox_take(struct inbox *inbox)
{
    struct inbox_item *items;
    eventfd_t count;

    pthread_mutex_lock(&inbox->lock);
    items = inbox->first;
    if (items) {
        inbox->first = NULL;
        inbox->last = NULL;
        (void)eventfd_read(inbox->fd, &count);
    }
    pthread_mutex_unlock(&inbox->lock);
    return items;
}

int inbox_fd(const struct inbox *inbox)
{
    return inbox->fd;
}
