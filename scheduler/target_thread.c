#include "scheduler/target_thread.h"

#include <signal.h>
#include <unistd.h>

#define WAIT_MAX_MS 60000

// ---- the loop's thread ----

enum err target_thread_init(struct target_thread *thread)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};

    atomic_init(&thread->stopping, false);
    thread->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (thread->epoll < 0) {
        return ERR_INTERNAL;
    }
    enum err err = inbox_new(&thread->handed);
    if (err == ERR_OK && epoll_ctl(thread->epoll, EPOLL_CTL_ADD, inbox_fd(thread->handed), &event) != 0) {
        err = ERR_INTERNAL;
    }
    return err;
}

enum err target_thread_start(struct target_thread *thread, void *(*main)(void *), void *arg)
{
    thread->running = pthread_create(&thread->id, NULL, main, arg) == 0;
    return thread->running ? ERR_OK : ERR_INTERNAL;
}

void target_thread_hand(struct target_thread *thread, struct delivery *delivery)
{
    inbox_post(thread->handed, &delivery->item);
}

void target_thread_stop(struct target_thread *thread)
{
    if (thread->running) {
        atomic_store(&thread->stopping, true);
        inbox_post(thread->handed, &thread->stop); // wakes it
        pthread_join(thread->id, NULL);
        thread->running = false;
    }
}

static void drop(void *user, struct delivery *delivery)
{
    (void)user;
    delivery_free(delivery);
}

void target_thread_fini(struct target_thread *thread)
{
    if (thread->handed) {
        target_thread_take(thread, drop, NULL);
    }
    inbox_free(thread->handed);
    if (thread->epoll >= 0) {
        close(thread->epoll);
    }
}

// ---- the thread itself ----

void target_thread_block_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

bool target_thread_goes_on(struct target_thread *thread)
{
    return !atomic_load(&thread->stopping);
}

int target_thread_wait(struct target_thread *thread, struct epoll_event *events, int max, struct mono until)
{
    int64_t left_ns = mono_diff(until, mono_now());
    int left_ms = WAIT_MAX_MS;

    if (left_ns <= 0) {
        left_ms = 0;
    } else if (left_ns < WAIT_MAX_MS * NS_PER_MS) {
        left_ms = (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
    }
    return epoll_wait(thread->epoll, events, max, left_ms);
}

void target_thread_take(struct target_thread *thread, void (*each)(void *user, struct delivery *delivery),
                        void *user)
{
    struct inbox_item *item = inbox_take(thread->handed), *next;

    for (; item; item = next) {
        next = item->next;
        if (item != &thread->stop) {
            each(user, delivery_of(item));
        }
    }
}
