#include "common/worker.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// What the items of a test share. Only the worker's thread writes it, and the test reads it after
// worker_stop.
struct record {
    int order[1000];
    size_t ran;
    sem_t entered; // posted by an item that waits at the gate
    sem_t gate;
    struct worker *worker;
};

struct item {
    struct work work; // first: a pointer to the one is a pointer to the other
    struct record *record;
    int number;
    int again; // how often it posts itself
};

static void note(struct work *work)
{
    struct item *item = (struct item *)work;
    item->record->order[item->record->ran++] = item->number;
    if (item->again > 0) {
        item->again--;
        worker_post(item->record->worker, &item->work);
    }
}

static void wait_at_gate(struct work *work)
{
    struct item *item = (struct item *)work;
    sem_post(&item->record->entered);
    sem_wait(&item->record->gate);
    note(work);
}

static struct record record;

static void set_up(void)
{
    record = (struct record){0};
    sem_init(&record.entered, 0, 0);
    sem_init(&record.gate, 0, 0);
    cr_assert_eq(worker_start(&record.worker), ERR_OK);
}

TestSuite(worker, .init = set_up, .timeout = 30);

Test(worker, stops_with_nothing_to_do)
{
    worker_stop(record.worker);
    worker_stop(NULL);
}

Test(worker, runs_in_order_all_that_was_posted_before_the_stop)
{
    struct item items[COUNT(record.order)];
    for (size_t i = 0; i < COUNT(items); i++) {
        items[i] = (struct item){{NULL, note}, &record, (int)i, 0};
        worker_post(record.worker, &items[i].work);
    }
    worker_stop(record.worker);
    cr_assert_eq(record.ran, COUNT(items));
    for (size_t i = 0; i < COUNT(items); i++)
        cr_assert_eq(record.order[i], (int)i);
}

Test(worker, runs_elsewhere_while_the_poster_goes_on)
{
    struct item slow = {{NULL, wait_at_gate}, &record, 1, 0};
    struct item next = {{NULL, note}, &record, 2, 0};
    worker_post(record.worker, &slow.work);
    sem_wait(&record.entered); // it runs, and we are here
    worker_post(record.worker, &next.work);
    sem_post(&record.gate);
    worker_stop(record.worker);
    cr_assert_eq(record.ran, 2);
    cr_assert_eq(record.order[0], 1);
    cr_assert_eq(record.order[1], 2);
}

Test(worker, an_item_may_post_itself_again_even_when_the_stop_has_begun)
{
    struct item item = {{NULL, note}, &record, 7, 99};
    worker_post(record.worker, &item.work);
    worker_stop(record.worker);
    cr_assert_eq(record.ran, 100);
}

static void *post_two_hundred(void *arg)
{
    struct item *items = arg;
    for (size_t i = 0; i < 200; i++)
        worker_post(record.worker, &items[i].work);
    return NULL;
}

Test(worker, several_threads_may_post)
{
    struct item items[5][200];
    pthread_t threads[COUNT(items)];
    for (size_t t = 0; t < COUNT(items); t++) {
        for (size_t i = 0; i < COUNT(items[t]); i++)
            items[t][i] = (struct item){{NULL, note}, &record, (int)(t * 1000 + i), 0};
        cr_assert_eq(pthread_create(&threads[t], NULL, post_two_hundred, items[t]), 0);
    }
    for (size_t t = 0; t < COUNT(items); t++)
        pthread_join(threads[t], NULL);
    worker_stop(record.worker);
    cr_assert_eq(record.ran, 1000);
    int next[COUNT(items)] = {0};
    for (size_t i = 0; i < record.ran; i++)
        cr_assert_eq(record.order[i] % 1000, next[record.order[i] / 1000]++,
                     "each poster's items in its order");
}
