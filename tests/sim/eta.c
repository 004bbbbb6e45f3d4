// ETAs that were given in a calm, on a queue where nothing fails or arrives: they come true within one
// interval.
#include "tests/sim/check.h"

#include "scheduler/rate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ETAS 16

static struct {
    int64_t seq;
    struct mono eta;
    int64_t slack_ns;
} etas[ETAS];

static size_t eta_count;

// What a deadline will cancel is taken to be done, and what was given to an earlier target to take as long as
// one of the present one.
static bool disturbs(const struct model_queue *queue, const struct model_ingestion *ingestion)
{
    for (uint32_t b = 0; b < ingestion->batches; b++) {
        if (ingestion->batch[b].state == BATCH_IN_FLIGHT &&
            ingestion->batch[b].target_number != queue->target_number) {
            return true;
        }
    }
    return ingestion->deadline_ms != 0 && !ingestion->expired;
}

void eta_seen(const struct model_queue *queue, const struct model_ingestion *ingestion, struct mono eta)
{
    if (strcmp(queue->name, "steady") != 0 || !mono_before(sim.now, sim.calm_until) || eta_count == ETAS) {
        return;
    }
    if (queue->settings.aging_ns > 0) {
        return; // the order that it goes by is another one later
    }
    int64_t measured_ns = queue->saved.delivery_ns;
    int64_t nominal_ns = strcmp(queue->target, "simulate:20ms") == 0 ? 20 * NS_PER_MS : 150 * NS_PER_MS;
    if (measured_ns != 0 && llabs(measured_ns - nominal_ns) > 50 * NS_PER_US) {
        return; // slow commits have made deliveries take longer, and each of a series adds its part
    }
    // The wall clock is read in milliseconds: a not_before that comes within one of a slot makes it, or not.
    int64_t slack_ns = 0;
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *one = &model.ingestions[i];
        if (one->there && one->queue == queue->id && disturbs(queue, one)) {
            return;
        }
        slack_ns += one->there && one->queue == queue->id && one->scheduled ? nominal_ns : 0;
    }
    sim_note("eta", ingestion->seq, eta.ns, 0);
    etas[eta_count].seq = ingestion->seq;
    etas[eta_count].slack_ns = slack_ns;
    etas[eta_count++].eta = eta;
}

void eta_finished(const struct model_queue *queue, const struct model_ingestion *ingestion)
{
    for (size_t i = 0; i < eta_count && mono_before(sim.now, sim.calm_until); i++) {
        if (etas[i].seq == ingestion->seq) {
            int64_t off_ns = mono_diff(sim.now, etas[i].eta);
            int64_t most_ns = rate_interval(queue->settings.rate) + 2 * NS_PER_MS + etas[i].slack_ns;
            sim.etas_true++;
            CHECK(off_ns <= most_ns && off_ns >= -most_ns, "eta: %" PRId64 " is off by %" PRId64 " ns",
                  ingestion->seq, off_ns);
        }
    }
}

void eta_calm_begins(void)
{
    eta_count = 0;
}
