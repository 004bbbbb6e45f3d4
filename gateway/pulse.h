// pulse.h - whether the threads that serve HTTP still do what they are given: a beat goes to one of NNG's
// threads, from there to the worker, and is back when both have come to it.
#ifndef SLUICE_GATEWAY_PULSE_H
#define SLUICE_GATEWAY_PULSE_H

#include "common/err.h"
#include "common/worker.h"

#include <nng/nng.h>
#include <stdatomic.h>
#include <stdbool.h>

struct pulse {
    struct work work;
    struct worker *worker; // borrowed
    nng_aio *aio;
    atomic_bool back;
};

// Sends the first beat. The pulse stays where it is until pulse_close, or the end of the process.
// ERR_NO_MEMORY.
MUST_CHECK enum err pulse_open(struct pulse *pulse, struct worker *worker);
// Whether the last beat is back; then the next one is sent. From one thread.
bool pulse_beat(struct pulse *pulse);
// The worker has been stopped, or every beat is back.
void pulse_close(struct pulse *pulse);

#endif
