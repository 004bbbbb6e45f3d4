// Targets and workers: a kind of target in the place of http, which does what the dice say, and what is
// common to all kinds: when deliveries start and how they end.
#include "tests/sim/check.h"

#include "scheduler/rate.h"
#include "scheduler/target_http.h"
#include "scheduler/target_kind.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FLIGHTS 512
#define AGENDA 1024

// Deliveries that a target took over and the loop has not freed.
static struct flown {
    struct delivery *delivery;
    bool told;
} flights[FLIGHTS];

static size_t flight_count;

static struct flown *find(const struct delivery *delivery)
{
    for (size_t i = 0; i < flight_count; i++) {
        if (flights[i].delivery == delivery) {
            return &flights[i];
        }
    }
    return NULL;
}

// One that ended is freed only after the start of what was dispatched in the same turn: there may be both.
static struct flown *find_place(int64_t seq, uint32_t index, bool told)
{
    for (size_t i = 0; i < flight_count; i++) {
        const struct place *place = &flights[i].delivery->place;
        if (place->seq == seq && place->index == index && flights[i].told == told) {
            return &flights[i];
        }
    }
    return NULL;
}

bool target_has(int64_t seq, uint32_t index)
{
    return find_place(seq, index, false) != NULL || find_place(seq, index, true) != NULL;
}

const struct outcome *target_outcome(int64_t seq, uint32_t index)
{
    const struct flown *flown = find_place(seq, index, true);
    return flown != NULL ? &flown->delivery->outcome : NULL;
}

size_t target_unsettled(void)
{
    size_t n = 0;
    for (size_t i = 0; i < flight_count; i++) {
        n += flights[i].told;
    }
    return n;
}

// ---- what is to come ----

enum event_kind { EVENT_BEGIN, EVENT_END, EVENT_WORKER };
struct event {
    enum event_kind kind;
    struct mono at;
    struct delivery *delivery; // BEGIN, END
    struct outcome_plan {
        enum outcome_class class;
        int64_t took_ns;
        int64_t hold_ns;
        bool down;
        bool has_delay;
        int64_t delay_ns;
    } plan;
    struct id lease; // WORKER
    struct id batch;
    unsigned how;
};

static struct event agenda[AGENDA];
static size_t agenda_count;
static struct mono agenda_first = {INT64_MAX}; // MONO_NEVER

static void find_first(void)
{
    agenda_first = MONO_NEVER;
    for (size_t i = 0; i < agenda_count; i++) {
        agenda_first = mono_min(agenda_first, agenda[i].at);
    }
}

static void plan_event(const struct event *event)
{
    CHECK(agenda_count < AGENDA, "the simulator's agenda is full");
    agenda[agenda_count++] = *event;
    agenda_first = mono_min(agenda_first, event->at);
}

struct mono target_next(void)
{
    return agenda_first;
}

// ---- the scripted kind ----

static bool outage[8]; // of the targets of queues

static struct outcome_plan roll(const struct delivery *d)
{
    struct outcome_plan plan = {.class = OUTCOME_COMPLETED, .took_ns = sim_between_ms(0, 80)};
    uint64_t dice = sim_below(1000);
    if (sim_chance(100)) {
        outage[d->queue % 8] = !outage[d->queue % 8];
    }
    if (outage[d->queue % 8] && !sim_chance(8)) {
        plan.class = OUTCOME_RETRY;
        plan.down = true;
    } else if (dice < 30) { // hangs
        plan.class = OUTCOME_RETRY;
        plan.took_ns = d->timeout_ns;
        plan.down = true;
    } else if (dice < 150) {
        plan.class = OUTCOME_RETRY;
        plan.down = dice < 60;
    } else if (dice < 170) {
        plan.class = OUTCOME_HOLD;
        plan.hold_ns = sim_between_ms(1, 1500);
    } else if (dice < 180) {
        plan.hold_ns = sim_between_ms(1, 500);
    } else if (dice < 220) {
        plan.class = OUTCOME_FAILED;
    }
    return plan;
}

static int64_t start_delay(void)
{
    return !sim.slow_starts || !sim_chance(8) ? sim_between_ms(0, 1) : sim_between_ms(2, 40);
}

static void scripted_start(struct delivery *d)
{
    plan_event(&(struct event){
        .kind = EVENT_BEGIN, .at = mono_add(sim.now, start_delay()), .delivery = d, .plan = roll(d)});
}

static enum err scripted_open(struct targets *targets, const char *text, const char *headers,
                              struct target **target, struct fault *fault)
{
    (void)targets, (void)text, (void)headers, (void)fault;
    *target = calloc(1, sizeof(struct target));
    return *target != NULL ? ERR_OK : ERR_NO_MEMORY;
}

static void scripted_close(struct target *target)
{
    free(target);
}

static enum err scripted_check(const char *text, struct fault *fault);

extern const struct target_kind __real_target_http;
extern const struct target_kind __wrap_target_http;
const struct target_kind __wrap_target_http = {scripted_check, scripted_open, scripted_close, scripted_start};

static enum err scripted_check(const char *text, struct fault *fault)
{
    return __real_target_http.check(text, fault);
}

static void end_delivery(const struct event *event)
{
    struct delivery *d = event->delivery;
    d->outcome.hold_ns = event->plan.hold_ns;
    d->outcome.held_by = event->plan.hold_ns > 0 ? HOLD_RETRY_AFTER : HOLD_NONE;
    d->outcome.down = event->plan.down;
    delivery_end(d, event->plan.class, sim.loop->inbox);
}

void target_run(void)
{
    for (size_t i = 0; i < agenda_count; i++) {
        if (agenda[i].at.ns > sim.now.ns) {
            continue;
        }
        struct event event = agenda[i];
        agenda[i] = agenda[--agenda_count];
        switch (event.kind) {
        case EVENT_BEGIN:
            delivery_begin(event.delivery, sim.loop->inbox);
            event.kind = EVENT_END;
            event.at = mono_add(sim.now, event.plan.took_ns);
            plan_event(&event);
            break;
        case EVENT_END:
            end_delivery(&event);
            break;
        case EVENT_WORKER:
            clients_work(&event.lease, &event.batch, event.how);
            break;
        }
        break; // one at a time
    }
    find_first();
}

// The loop is busy, and the threads of targets are not.
void target_run_until(struct mono end)
{
    while (!mono_before(end, target_next())) {
        sim.now = mono_max(sim.now, target_next());
        target_run();
    }
    sim.now = end;
}

// ---- workers ----

void target_lease_granted(int64_t queue, struct mono slot, const struct id *lease, const struct id *batch)
{
    check_start(queue, slot);
    plan_event(&(struct event){.kind = EVENT_WORKER,
                               .at = mono_add(sim.now, sim_between_ms(1, 1500)),
                               .lease = *lease,
                               .batch = *batch,
                               .how = (unsigned)sim_below(16)});
}

// ---- all kinds ----

SIM_WRAP(void, target_start, struct delivery *delivery)
{
    const struct model_ingestion *ingestion = model_by_seq(delivery->place.seq);
    uint32_t index = delivery->place.index;
    struct id batch = ingestion != NULL ? model_batch_id(ingestion, index) : (struct id){{0}};
    CHECK(!model_in_transaction(), "a delivery starts before its dispatch is on disk");
    CHECK(ingestion != NULL && ingestion->batch[index].state == BATCH_IN_FLIGHT &&
              id_equal(&delivery->batch, &batch) && ingestion->batch[index].attempts == delivery->attempt,
          "%" PRId64 ".%u is delivered, and is not in flight", delivery->place.seq, index);
    CHECK(find_place(ingestion->seq, index, false) == NULL, "%" PRId64 ".%u is delivered twice",
          ingestion->seq, index);
    CHECK(flight_count < FLIGHTS, "too many deliveries");
    flights[flight_count++] = (struct flown){.delivery = delivery};
    sim_note("starts", delivery->place.seq, index, delivery->attempt);
    __real_target_start(delivery);
}

SIM_WRAP(void, delivery_begin, struct delivery *delivery, struct inbox *inbox)
{
    sim_note("begins", delivery->place.seq, delivery->place.index, delivery->queue);
    check_start(delivery->queue, delivery->slot);
    __real_delivery_begin(delivery, inbox);
}

SIM_WRAP(void, delivery_end, struct delivery *delivery, enum outcome_class class, struct inbox *inbox)
{
    struct flown *flown = find(delivery);
    CHECK(flown != NULL && !flown->told, "a delivery ends that was not under way");
    flown->told = true;
    sim.events++;
    sim_note("ends", delivery->place.seq, delivery->place.index, (int64_t) class);
    __real_delivery_end(delivery, class, inbox);
}

SIM_WRAP(void, delivery_free, struct delivery *delivery)
{
    struct flown *flown = find(delivery);
    if (flown != NULL) {
        CHECK(flown->told || sim.loop == NULL || sim.dead || sim.reported || sim.loop->ending,
              "%" PRId64 ".%u is forgotten while it runs", delivery->place.seq, delivery->place.index);
        *flown = flights[--flight_count];
    }
    __real_delivery_free(delivery);
}

// What runs is dropped without a word, as each kind does it.
SIM_WRAP(void, targets_stop, struct targets *targets)
{
    for (size_t i = 0; i < agenda_count;) {
        if (agenda[i].kind == EVENT_WORKER) {
            i++;
            continue;
        }
        struct delivery *delivery = agenda[i].delivery;
        agenda[i] = agenda[--agenda_count];
        delivery_free(delivery);
    }
    find_first();
    __real_targets_stop(targets);
}
