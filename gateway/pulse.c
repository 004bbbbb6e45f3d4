#include "gateway/pulse.h"

#include "common/container.h"

static void come_back(struct work *work)
{
    struct pulse *pulse = container_of(work, struct pulse, work);
    atomic_store(&pulse->back, true);
}

static void pass_on(void *arg)
{
    struct pulse *pulse = arg;
    worker_post(pulse->worker, &pulse->work);
}

static void send(struct pulse *pulse)
{
    atomic_store(&pulse->back, false);
    nng_sleep_aio(0, pulse->aio);
}

enum err pulse_open(struct pulse *pulse, struct worker *worker)
{
    *pulse = (struct pulse){.work = {.run = come_back}, .worker = worker};
    if (nng_aio_alloc(&pulse->aio, pass_on, pulse) != 0) {
        return ERR_NO_MEMORY;
    }
    send(pulse);
    return ERR_OK;
}

bool pulse_beat(struct pulse *pulse)
{
    if (!atomic_load(&pulse->back)) {
        return false;
    }
    send(pulse);
    return true;
}

void pulse_close(struct pulse *pulse)
{
    nng_aio_free(pulse->aio);
}
