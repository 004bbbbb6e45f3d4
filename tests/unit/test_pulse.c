#include "gateway/pulse.h"

#include "common/container.h"
#include "tests/support/wait.h"

#include <criterion/criterion.h>
#include <semaphore.h>

struct gate {
    struct work work;
    sem_t entered;
    sem_t open;
};

static void wait_at_gate(struct work *work)
{
    struct gate *gate = container_of(work, struct gate, work);
    sem_post(&gate->entered);
    sem_wait(&gate->open);
}

static void close_gate(struct gate *gate, struct worker *worker)
{
    gate->work.run = wait_at_gate;
    sem_init(&gate->entered, 0, 0);
    sem_init(&gate->open, 0, 0);
    worker_post(worker, &gate->work);
    sem_wait(&gate->entered);
}

TestSuite(pulse, .timeout = 90);

Test(pulse, beats_while_all_goes_on)
{
    struct worker *worker;
    struct pulse pulse;
    cr_assert_eq(worker_start(&worker), ERR_OK);
    cr_assert_eq(pulse_open(&pulse, worker), ERR_OK);
    for (int i = 0; i < 100; i++) {
        WAIT_FOR(pulse_beat(&pulse));
    }
    WAIT_FOR(atomic_load(&pulse.back));
    worker_stop(worker);
    pulse_close(&pulse);
}

Test(pulse, stops_with_the_worker)
{
    struct worker *worker;
    struct gate gate;
    struct pulse pulse;
    cr_assert_eq(worker_start(&worker), ERR_OK);
    close_gate(&gate, worker);
    cr_assert_eq(pulse_open(&pulse, worker), ERR_OK);
    for (int i = 0; i < 20; i++) {
        cr_assert_not(pulse_beat(&pulse), "the worker hangs");
        wait_ms(5);
    }
    sem_post(&gate.open);
    WAIT_FOR(pulse_beat(&pulse));
    WAIT_FOR(atomic_load(&pulse.back));
    worker_stop(worker);
    pulse_close(&pulse);
}
