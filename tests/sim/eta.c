// ETAs that were given in a calm, on a queue where nothing fails or arrives: they come true within one
// interval.
#include "tests/sim/check.h"

#include "scheduler/rate.h"

#include <inttypes.h>
#include <string.h>

#define ETAS 16

static struct {
    int64_t seq;
    struct mono eta;
} etas[ETAS];

static size_t eta_count;

void eta_seen(const struct model_queue *queue, const struct model_ingestion *ingestion, struct mono eta)
{
    if (strcmp(queue->name, "steady") != 0 || !mono_before(sim.now, sim.calm_until) || eta_count == ETAS) {
        return;
    }
    for (size_t i = 0; i < model.used; i++) { // what a deadline will cancel is taken to be done
        const struct model_ingestion *other = &model.ingestions[i];
        if (other->there && other->queue == queue->id && other->deadline_ms != 0 && !other->expired) {
            return;
        }
    }
    etas[eta_count].seq = ingestion->seq;
    etas[eta_count++].eta = eta;
}

void eta_finished(const struct model_queue *queue, const struct model_ingestion *ingestion)
{
    for (size_t i = 0; i < eta_count && mono_before(sim.now, sim.calm_until); i++) {
        if (etas[i].seq == ingestion->seq) {
            int64_t off_ns = mono_diff(sim.now, etas[i].eta);
            int64_t most_ns = rate_interval(queue->settings.rate) + 2 * NS_PER_MS;
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
