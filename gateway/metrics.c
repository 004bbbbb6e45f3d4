#include "gateway/metrics.h"

#include "common/exposition.h"
#include "common/proc.h"

#include <stdio.h>

void metrics_count(struct metrics *metrics, size_t route, enum err err, int64_t took_ns)
{
    atomic_fetch_add_explicit(&metrics->requests[route][err], 1, memory_order_relaxed);
    histogram_add(&metrics->durations[route], &histogram_times, took_ns);
}

// ---- requests ----

static const char *route_name(size_t route)
{
    return route < ENDPOINTS ? route_path((enum endpoint)route) : "other";
}

static const char *method_name(size_t route)
{
    return route < ENDPOINTS ? route_method((enum endpoint)route) : "other";
}

// Errors that are one status from outside are one sample. A route shows its 200 also while that is 0, so that
// there is something to take a rate of.
static void put_route(const struct metrics *metrics, size_t route, const struct metric *metric,
                      struct buf *out)
{
    bool done[ERR_COUNT] = {false};
    for (size_t err = 0; err < ERR_COUNT; err++) {
        const int status = err_status((enum err)err);
        uint64_t count = 0;
        char text[16];
        for (size_t other = err; other < ERR_COUNT && !done[err]; other++) {
            if (err_status((enum err)other) == status) {
                count += metrics->requests[route][other];
                done[other] = other > err;
            }
        }
        if (count > 0 || (err == ERR_OK && route < ENDPOINTS)) {
            (void)snprintf(text, sizeof(text), "%d", status);
            metric_u64(out, metric,
                       (const struct label[]){{"method", method_name(route)},
                                              {"route", route_name(route)},
                                              {"status", text},
                                              {NULL, NULL}},
                       count);
        }
    }
}

static void put_requests(const struct metrics *metrics, struct buf *out)
{
    static const struct metric requests = {"sluice_http_requests_total", METRIC_COUNTER,
                                           "Requests that were answered."};
    static const struct metric durations = {
        "sluice_http_request_duration_seconds", METRIC_HISTOGRAM,
        "From the end of a request's header block until its answer was written."};
    metric_open(out, &requests);
    for (size_t route = 0; route <= ENDPOINTS; route++) {
        put_route(metrics, route, &requests, out);
    }
    metric_open(out, &durations);
    for (size_t route = 0; route <= ENDPOINTS; route++) {
        metric_histogram(out, &durations,
                         (const struct label[]){
                             {"method", method_name(route)}, {"route", route_name(route)}, {NULL, NULL}},
                         &metrics->durations[route], &histogram_times);
    }
}

// ---- the rest ----

static void put_forward(const struct forward_stats *stats, struct buf *out)
{
    static const struct metric round_trips = {
        "sluice_ipc_round_trip_seconds", METRIC_HISTOGRAM,
        "From handing a message for the scheduler to the network until its reply was there."};
    static const struct metric lines = {"sluice_ipc_message_requests", METRIC_HISTOGRAM,
                                        "Requests that went to the scheduler in one message."};
    static const struct metric waiting = {"sluice_ipc_waiting_requests", METRIC_GAUGE,
                                          "Requests that wait to be sent to the scheduler."};
    static const struct metric pending = {
        "sluice_ipc_pending_requests", METRIC_GAUGE,
        "Requests that the scheduler has not answered, those that wait included."};
    static const struct metric connects = {"sluice_ipc_connects_total", METRIC_COUNTER,
                                           "Connections to the scheduler that were made."};
    metric_open(out, &round_trips);
    metric_histogram(out, &round_trips, NO_LABELS, &stats->round_trips, &histogram_times);
    metric_open(out, &lines);
    metric_histogram(out, &lines, NO_LABELS, &stats->lines, &histogram_counts);
    metric_single(out, &waiting, stats->waiting);
    metric_single(out, &pending, stats->pending);
    metric_single(out, &connects, stats->connects);
}

static void put_process(const struct metrics *metrics, const struct metrics_now *now, struct buf *out)
{
    static const struct metric connections = {"sluice_http_connections", METRIC_GAUGE,
                                              "Connections on which a request has come."};
    static const struct metric bodies = {"sluice_http_held_body_bytes", METRIC_GAUGE,
                                         "Bodies of requests that are held in memory."};
    static const struct metric build = {"sluice_gateway_build_info", METRIC_GAUGE,
                                        "1, with the version of the gateway."};
    static const struct metric started = {"sluice_gateway_start_time_seconds", METRIC_GAUGE,
                                          "When the gateway started, in seconds since 1970."};
    static const struct metric memory = {"sluice_gateway_resident_memory_bytes", METRIC_GAUGE,
                                         "Resident memory of the gateway."};
    metric_single(out, &connections, now->connections);
    metric_single(out, &bodies, now->bodies);
    metric_open(out, &build);
    metric_u64(out, &build, (const struct label[]){{"version", SLUICE_VERSION}, {NULL, NULL}}, 1);
    metric_single(out, &started, (uint64_t)metrics->started.ms / 1000);
    metric_single(out, &memory, proc_resident());
}

void metrics_answer(const struct metrics *metrics, const struct metrics_now *now, const struct reply *reply,
                    struct answer *answer)
{
    static const struct metric up = {"sluice_scheduler_up", METRIC_GAUGE,
                                     "Whether the scheduler answered when it was asked for its metrics."};
    struct buf *out = &answer->body;
    answer->type = EXPOSITION_TYPE;
    put_requests(metrics, out);
    put_forward(&now->forward, out);
    put_process(metrics, now, out);
    bool is_up = reply->ok && reply_parse_metrics(reply, out) == ERR_OK;
    metric_single(out, &up, is_up);
}
