#include "scheduler/metrics.h"

#include "common/exposition.h"
#include "common/proc.h"
#include "scheduler/rate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OTHER "_other" // no queue can have this name

// ---- counting ----

void metrics_delivered(struct metrics *metrics, const struct delivery *d)
{
    metrics->outcomes[d->outcome.class]++;
    if (d->outcome.took_ns >= 0) {
        histogram_add(&metrics->delivery_times, &histogram_times, d->outcome.took_ns);
    }
    if (!target_is_pull(d->target)) {
        histogram_add(&metrics->start_delays, &histogram_times, mono_diff(d->started, d->slot));
    }
}

void totals_add(struct queue_totals *to, const struct queue_totals *more)
{
    to->dispatched += more->dispatched;
    to->completed += more->completed;
    to->failed += more->failed;
    to->retried += more->retried;
}

static struct queue_totals totals_of(const struct queue_view *view, const struct route *route)
{
    const struct queue_figures *figures = view->figures;
    return (struct queue_totals){figures->dispatched, figures->completed, figures->failed, route->retried};
}

struct queue_totals metrics_leaving(const struct engine *engine, const struct routes *routes, int64_t queue,
                                    struct mono now)
{
    struct queue_view view;
    const struct route *route = routes_get(routes, queue);
    if (route == NULL || route->named || engine_view_by_id(engine, queue, now, &view) != ERR_OK) {
        return (struct queue_totals){0};
    }
    return totals_of(&view, route);
}

// ---- queues ----

// What is shown of a queue, or of several together.
struct shown {
    const char *name;
    uint64_t waiting[PRIORITIES];
    uint64_t delayed;
    uint64_t in_flight;
    uint64_t concurrency;
    int64_t oldest_ns; // of what waits, on the age clock
    double rate;       // dispatches a second
    double limit;
    uint64_t paused[4]; // by reason
    struct queue_totals totals;
};

static const char *const reasons[] = {"paused", "retry_after", "rate_limit", "breaker"};
_Static_assert(sizeof reasons / sizeof reasons[0] == sizeof((struct shown){0}.paused) / sizeof(uint64_t),
               "one for each");

static void shown_add(struct shown *shown, const struct queue_view *view, const struct route *route)
{
    const struct queue_totals totals = totals_of(view, route);
    const struct rate limit = view->settings->rate;
    for (int p = 0; p < PRIORITIES; p++) {
        shown->waiting[p] += view->waiting[p];
    }
    shown->delayed += view->figures->delayed;
    shown->in_flight += view->in_flight;
    shown->concurrency += view->settings->concurrency;
    shown->oldest_ns = view->oldest_ns < shown->oldest_ns ? view->oldest_ns : shown->oldest_ns;
    shown->rate += view->rate;
    shown->limit +=
        limit.count > 0 ? (double)limit.count * (double)NS_PER_S / (double)limit.per_ns : HUGE_VAL;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        shown->paused[i] += view->paused_reason != NULL && strcmp(view->paused_reason, reasons[i]) == 0;
    }
    totals_add(&shown->totals, &totals);
}

// All queues: those with a name of their own in the order of their names, then the others as one, if there
// are or were any. NULL without memory.
static struct shown *gather(const struct metrics *metrics, const struct metrics_source *source, size_t *count)
{
    struct shown *all = calloc(ROUTES_NAMED_MAX + 1, sizeof *all);
    struct shown other = {.name = OTHER, .oldest_ns = INT64_MAX, .totals = metrics->gone};
    bool others = metrics->gone.dispatched + metrics->gone.completed + metrics->gone.failed > 0;
    *count = 0;
    for (size_t at = 0; all != NULL && at < engine_queues(source->engine); at++) {
        const struct queue_view view = engine_view(source->engine, at, source->now);
        const struct route *route = routes_get(source->routes, view.id);
        if (route != NULL && route->named) {
            struct shown *one = &all[(*count)++];
            *one = (struct shown){.name = view.name, .oldest_ns = INT64_MAX};
            shown_add(one, &view, route);
        } else if (route != NULL) {
            shown_add(&other, &view, route);
            others = true;
        }
    }
    if (all != NULL && others) {
        all[(*count)++] = other;
    }
    return all;
}

static double age_s(const struct shown *shown, int64_t age_now_ns)
{
    const bool waits = shown->oldest_ns != INT64_MAX && shown->oldest_ns < age_now_ns;
    return waits ? (double)(age_now_ns - shown->oldest_ns) / (double)NS_PER_S : 0;
}

enum queue_metric {
    QUEUE_DELAYED,
    QUEUE_IN_FLIGHT,
    QUEUE_CONCURRENCY,
    QUEUE_DISPATCHED,
    QUEUE_COMPLETED,
    QUEUE_FAILED,
    QUEUE_RETRIED,
    QUEUE_OLDEST,
    QUEUE_RATE,
    QUEUE_LIMIT,
    QUEUE_UTILISATION,
};

// Those with no label but the queue's.
static const struct metric queue_metrics[] = {
    [QUEUE_DELAYED] = {"sluice_queue_delayed_batches", METRIC_GAUGE,
                       "Batches that are not due: in backoff, or before their not_before."},
    [QUEUE_IN_FLIGHT] = {"sluice_queue_in_flight_batches", METRIC_GAUGE,
                         "Batches that are being delivered, or that workers have."},
    [QUEUE_CONCURRENCY] = {"sluice_queue_concurrency", METRIC_GAUGE, "Batches that may be in flight."},
    [QUEUE_DISPATCHED] = {"sluice_queue_dispatched_total", METRIC_COUNTER,
                          "Dispatches, retries included, since the queue was made."},
    [QUEUE_COMPLETED] = {"sluice_queue_completed_total", METRIC_COUNTER,
                         "Batches that were completed since the queue was made."},
    [QUEUE_FAILED] = {"sluice_queue_failed_total", METRIC_COUNTER,
                      "Batches that failed for good since the queue was made."},
    [QUEUE_RETRIED] = {"sluice_queue_retried_total", METRIC_COUNTER,
                       "Attempts after which the batch is tried again."},
    [QUEUE_OLDEST] = {"sluice_queue_oldest_waiting_seconds", METRIC_GAUGE,
                      "How long ago the oldest ingestion that waits was accepted; 0: nothing waits."},
    [QUEUE_RATE] = {"sluice_queue_dispatch_rate", METRIC_GAUGE, "Dispatches a second over the last minute."},
    [QUEUE_LIMIT] = {"sluice_queue_dispatch_rate_limit", METRIC_GAUGE,
                     "Dispatches a second that are allowed; +Inf: no limit."},
    [QUEUE_UTILISATION] =
        {"sluice_queue_slot_utilisation_ratio", METRIC_GAUGE,
         "The share of the allowed rate that was used over the last minute; 0 without a limit."},
};

static void put_queue_value(const struct shown *queue, enum queue_metric which, int64_t age_now_ns,
                            struct buf *out)
{
    const struct metric *metric = &queue_metrics[which];
    const struct label labels[] = {{"queue", queue->name}, {NULL, NULL}};
    switch (which) {
    case QUEUE_DELAYED:
        metric_u64(out, metric, labels, queue->delayed);
        break;
    case QUEUE_IN_FLIGHT:
        metric_u64(out, metric, labels, queue->in_flight);
        break;
    case QUEUE_CONCURRENCY:
        metric_u64(out, metric, labels, queue->concurrency);
        break;
    case QUEUE_DISPATCHED:
        metric_u64(out, metric, labels, queue->totals.dispatched);
        break;
    case QUEUE_COMPLETED:
        metric_u64(out, metric, labels, queue->totals.completed);
        break;
    case QUEUE_FAILED:
        metric_u64(out, metric, labels, queue->totals.failed);
        break;
    case QUEUE_RETRIED:
        metric_u64(out, metric, labels, queue->totals.retried);
        break;
    case QUEUE_OLDEST:
        metric_double(out, metric, labels, age_s(queue, age_now_ns));
        break;
    case QUEUE_RATE:
        metric_double(out, metric, labels, queue->rate);
        break;
    case QUEUE_LIMIT:
        metric_double(out, metric, labels, queue->limit);
        break;
    case QUEUE_UTILISATION:
        metric_double(out, metric, labels, queue->limit > 0 ? queue->rate / queue->limit : 0);
        break;
    }
}

static void put_waiting(const struct shown *queues, size_t count, struct buf *out)
{
    static const struct metric waiting = {"sluice_queue_waiting_batches", METRIC_GAUGE,
                                          "Batches that wait for their dispatch."};
    metric_open(out, &waiting);
    for (size_t i = 0; i < count; i++) {
        for (int p = 0; p < PRIORITIES; p++) {
            metric_u64(out, &waiting,
                       (const struct label[]){{"queue", queues[i].name},
                                              {"priority", priority_name((enum priority)p)},
                                              {NULL, NULL}},
                       queues[i].waiting[p]);
        }
    }
}

static void put_paused(const struct shown *queues, size_t count, struct buf *out)
{
    static const struct metric paused = {
        "sluice_queue_paused", METRIC_GAUGE,
        "Whether the queue does not dispatch for this reason (of several: how many)."};
    metric_open(out, &paused);
    for (size_t i = 0; i < count; i++) {
        for (size_t r = 0; r < sizeof reasons / sizeof reasons[0]; r++) {
            metric_u64(
                out, &paused,
                (const struct label[]){{"queue", queues[i].name}, {"reason", reasons[r]}, {NULL, NULL}},
                queues[i].paused[r]);
        }
    }
}

static void put_queues(const struct metrics *metrics, const struct metrics_source *source, struct buf *out)
{
    static const struct metric queues = {"sluice_queues", METRIC_GAUGE, "Queues there are."};
    const int64_t age_ns = engine_age(source->engine, source->now);
    size_t count;
    struct shown *shown = gather(metrics, source, &count);
    if (shown == NULL) {
        out->failed = true;
        return;
    }
    metric_single(out, &queues, engine_queues(source->engine));
    put_waiting(shown, count, out);
    put_paused(shown, count, out);
    for (size_t which = 0; which < sizeof queue_metrics / sizeof queue_metrics[0]; which++) {
        metric_open(out, &queue_metrics[which]);
        for (size_t i = 0; i < count; i++) {
            put_queue_value(&shown[i], (enum queue_metric)which, age_ns, out);
        }
    }
    free(shown);
}

// ---- the rest ----

static void put_deliveries(const struct metrics *metrics, struct buf *out)
{
    static const struct metric attempts = {"sluice_deliveries_total", METRIC_COUNTER,
                                           "Attempts at a delivery that ended, by how."};
    static const struct metric times = {"sluice_delivery_duration_seconds", METRIC_HISTOGRAM,
                                        "From the start of an attempt to its end."};
    static const struct metric delays = {"sluice_delivery_start_delay_seconds", METRIC_HISTOGRAM,
                                         "How long after its slot a delivery began."};
    metric_open(out, &attempts);
    for (int class = 0; class < OUTCOMES; class ++) {
        metric_u64(
            out, &attempts,
            (const struct label[]){{"outcome", outcome_name((enum outcome_class) class)}, {NULL, NULL}},
            metrics->outcomes[class]);
    }
    metric_open(out, &times);
    metric_histogram(out, &times, NO_LABELS, &metrics->delivery_times, &histogram_times);
    metric_open(out, &delays);
    metric_histogram(out, &delays, NO_LABELS, &metrics->start_delays, &histogram_times);
}

static void put_store(const struct metrics *metrics, const struct metrics_source *source, struct buf *out)
{
    static const struct metric times = {"sluice_commit_duration_seconds", METRIC_HISTOGRAM,
                                        "What a commit took, its sync included."};
    static const struct metric writes = {"sluice_commit_writes", METRIC_HISTOGRAM,
                                         "Requests, dispatches and ends of deliveries in one commit."};
    static const struct metric size = {"sluice_store_size_bytes", METRIC_GAUGE, "Size of the store's files."};
    uint64_t data = 0;
    uint64_t log = 0;
    store_size(source->store, &data, &log);
    metric_open(out, &times);
    metric_histogram(out, &times, NO_LABELS, &metrics->commit_times, &histogram_times);
    metric_open(out, &writes);
    metric_histogram(out, &writes, NO_LABELS, &metrics->commit_writes, &histogram_counts);
    metric_open(out, &size);
    metric_u64(out, &size, (const struct label[]){{"file", "data"}, {NULL, NULL}}, data);
    metric_u64(out, &size, (const struct label[]){{"file", "log"}, {NULL, NULL}}, log);
}

static void put_process(const struct metrics *metrics, const struct metrics_source *source, struct buf *out)
{
    static const struct metric requests = {"sluice_scheduler_requests_total", METRIC_COUNTER,
                                           "Requests that came over IPC."};
    static const struct metric accepted = {"sluice_ingestions_accepted_total", METRIC_COUNTER,
                                           "Ingestions that were accepted."};
    static const struct metric removed = {
        "sluice_ingestions_removed_total", METRIC_COUNTER,
        "Ingestions that were removed because they had been kept long enough."};
    static const struct metric leases = {"sluice_leases_waiting", METRIC_GAUGE,
                                         "Requests of workers that wait for a batch."};
    static const struct metric build = {"sluice_scheduler_build_info", METRIC_GAUGE,
                                        "1, with the version of the scheduler."};
    static const struct metric started = {"sluice_scheduler_start_time_seconds", METRIC_GAUGE,
                                          "When the scheduler started, in seconds since 1970."};
    static const struct metric memory = {"sluice_scheduler_resident_memory_bytes", METRIC_GAUGE,
                                         "Resident memory of the scheduler."};
    metric_single(out, &requests, source->requests);
    metric_single(out, &accepted, metrics->accepted);
    metric_single(out, &removed, source->removed);
    metric_single(out, &leases, source->leases_waiting);
    metric_open(out, &build);
    metric_u64(out, &build, (const struct label[]){{"version", SLUICE_VERSION}, {NULL, NULL}}, 1);
    metric_single(out, &started, (uint64_t)metrics->started.ms / 1000);
    metric_single(out, &memory, proc_resident());
}

void metrics_put(const struct metrics *metrics, const struct metrics_source *source, struct buf *out)
{
    put_queues(metrics, source, out);
    put_deliveries(metrics, out);
    put_store(metrics, source, out);
    put_process(metrics, source, out);
}
