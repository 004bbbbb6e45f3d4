#include "common/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct worker {
    pthread_t thread;
    pthread_mutex_t lock; // over all below
    pthread_cond_t posted;
    struct work *first;
    struct work **last; // where the next item is linked in
    bool stopping;
};

// The next item, waiting for one; NULL once the worker is to stop and nothing is left.
static struct work *take(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (!worker->first && !worker->stopping) {
        pthread_cond_wait(&worker->posted, &worker->lock);
    }
    struct work *work = worker->first;
    if (work) {
        worker->first = work->next;
        if (!worker->first) {
            worker->last = &worker->first;
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return work;
}

static void *run_all(void *arg)
{
    struct worker *worker = arg;
    struct work *work;
    while ((work = take(worker))) {
        work->run(work); // from here on the item may be posted again or be gone
    }
    return NULL;
}

enum err worker_start(struct worker **worker)
{
    struct worker *w = calloc(1, sizeof(*w));
    if (!w) {
        return ERR_NO_MEMORY;
    }
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL); // with no attributes neither can fail on Linux
    pthread_cond_init(&w->posted, NULL);
    if (pthread_create(&w->thread, NULL, run_all, w) != 0) {
        pthread_cond_destroy(&w->posted);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return ERR_NO_MEMORY;
    }
    *worker = w;
    return ERR_OK;
}

void worker_post(struct worker *worker, struct work *work)
{
    work->next = NULL;
    pthread_mutex_lock(&worker->lock);
    *worker->last = work;
    worker->last = &work->next;
    pthread_cond_signal(&worker->posted);
    pthread_mutex_unlock(&worker->lock);
}

void worker_stop(struct worker *worker)
{
    if (!worker) {
        return;
    }
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_signal(&worker->posted);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->posted);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}
