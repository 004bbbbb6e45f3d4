// Replies about queues: settings and live figures.
#include "common/units.h"
#include "proto/fields.h"
#include "proto/reply.h"
#include "scheduler/rate.h"
#include "scheduler/turn.h"

#include <string.h>

#define QUEUE_RESERVE 16384u // room for one more queue, with its target and headers, and what follows

// The values of headers are for the target alone.
static void put_headers(struct buf *out, const char *lines)
{
    const char *name;
    const char *value;
    size_t name_len;
    size_t value_len;
    const char *comma = "";
    buf_str(out, ",\"headers\":{");
    while (headers_next(&lines, &name, &name_len, &value, &value_len)) {
        buf_str(out, comma);
        buf_json(out, name, name_len);
        buf_str(out, ":\"***\"");
        comma = ",";
    }
    buf_char(out, '}');
}

static void put_settings(struct buf *out, const struct queue_settings *settings, const struct target *target)
{
    char rate[RATE_TEXT_SIZE];
    rate_format(settings->rate, rate);
    field_put_string(out, "rate", rate);
    buf_printf(out, ",\"burst\":%u", rate_burst(settings->rate, settings->burst));
    field_put_duration(out, "linger", rate_linger(settings->rate, settings->linger_ns));
    buf_printf(out, ",\"concurrency\":%u,\"batch_size\":%u", settings->concurrency, settings->batch_size);
    field_put_string(out, "target", target_text(target));
    field_put_duration(out, "timeout", settings->timeout_ns);
    buf_printf(out, ",\"retry\":{\"max_attempts\":%u", settings->max_attempts);
    field_put_duration(out, "min_backoff", settings->min_backoff_ns);
    field_put_duration(out, "max_backoff", settings->max_backoff_ns);
    buf_char(out, '}');
    field_put_string(out, "ids", ids_kind_name(settings->ids));
    buf_printf(out, ",\"max_id\":%llu", (unsigned long long)settings->max_id);
    put_headers(out, target_headers(target));
    field_put_duration(out, "max_hold", settings->max_hold_ns);
    buf_printf(out, ",\"breaker\":%u", settings->breaker);
    field_put_duration(out, "lease", settings->lease_ns);
    field_put_string(out, "on_interrupt", on_interrupt_name(settings->on_interrupt));
    if (settings->aging_ns > 0) {
        field_put_duration(out, "aging", settings->aging_ns);
    } else {
        buf_str(out, ",\"aging\":null");
    }
}

static void put_pause(struct buf *out, const struct queue_view *view, struct mono now)
{
    buf_str(out, view->figures->paused ? ",\"paused\":true" : ",\"paused\":false");
    if (view->paused_reason != NULL && view->paused_until.ns != MONO_NEVER.ns) {
        int64_t ns = mono_diff(view->paused_until, now);
        field_put_time(out, "paused_until",
                       (struct wall){wall_now().ms + ns / NS_PER_MS + (ns % NS_PER_MS > 0)});
    } else {
        buf_str(out, ",\"paused_until\":null");
    }
    if (view->paused_reason != NULL) {
        field_put_string(out, "paused_reason", view->paused_reason);
    } else {
        buf_str(out, ",\"paused_reason\":null");
    }
}

static void put_figures(struct buf *out, const struct queue_view *view)
{
    const struct queue_figures *figures = view->figures;
    buf_str(out, ",\"waiting\":{");
    for (int p = 0; p < PRIORITIES; p++) {
        buf_printf(out, "%s\"%s\":%llu", p > 0 ? "," : "", priority_name((enum priority)p),
                   (unsigned long long)view->waiting[p]);
    }
    buf_printf(out,
               "},\"delayed\":%llu,\"in_flight\":%zu,\"dispatched\":%llu,\"completed\":%llu,\"failed\":%llu,"
               "\"effective_rate\":%.3f",
               (unsigned long long)figures->delayed, view->in_flight, (unsigned long long)figures->dispatched,
               (unsigned long long)figures->completed, (unsigned long long)figures->failed, view->rate);
}

void put_queue(const struct loop *loop, const struct queue_view *view, struct buf *out)
{
    int64_t id;
    if (engine_find_queue(loop->engine, view->name, &id) != ERR_OK) {
        return;
    }
    buf_str(out, "{\"name\":");
    buf_json(out, view->name, strlen(view->name));
    put_settings(out, view->settings, routes_find(&loop->routes, id));
    put_pause(out, view, mono_now());
    put_figures(out, view);
    buf_char(out, '}');
}

enum err answer_queue(const struct loop *loop, const char *name, struct buf *out)
{
    int64_t id;
    struct queue_view view;
    struct buf object;
    enum err err = engine_find_queue(loop->engine, name, &id);
    if (err == ERR_OK) {
        err = engine_view_by_id(loop->engine, id, mono_now(), &view);
    }
    if (err != ERR_OK) {
        return err;
    }
    buf_init(&object);
    put_queue(loop, &view, &object);
    err = buf_err(&object);
    if (err == ERR_OK) {
        reply_open(out);
        buf_char(out, ',');
        buf_put(out, object.data + 1, object.len - 2); // its members
        reply_close(out);
    }
    buf_fini(&object);
    return err;
}

// The index of the first queue from `at` on that is in the scope; how many there are when there is none.
static size_t next_in_scope(const struct engine *engine, const struct scope *scope, size_t at)
{
    size_t next = engine_queues(engine);
    if (scope == NULL || scope->queue_count == 0) {
        return at;
    }
    for (size_t i = 0; i < scope->queue_count; i++) {
        int64_t id;
        bool there = engine_find_queue(engine, scope->queues[i], &id) == ERR_OK;
        size_t its = there ? engine_after_name(engine, scope->queues[i]) - 1 : next;
        next = its >= at && its < next ? its : next;
    }
    return next;
}

void answer_queues(const struct loop *loop, const struct queue_list_request *request,
                   const struct scope *scope, struct buf *out)
{
    size_t start = out->len;
    struct mono now = mono_now();
    size_t count = engine_queues(loop->engine);
    size_t at = request->cursor[0] != '\0' ? engine_after_name(loop->engine, request->cursor) : 0;
    at = next_in_scope(loop->engine, scope, at);
    size_t shown = 0;
    struct queue_view view = {.name = ""};
    reply_open(out);
    buf_str(out, ",\"queues\":[");
    while (at < count && shown < request->limit && out->len - start < REPLY_LINE_MAX - QUEUE_RESERVE) {
        view = engine_view(loop->engine, at, now);
        if (shown > 0) {
            buf_char(out, ',');
        }
        put_queue(loop, &view, out);
        shown++;
        at = next_in_scope(loop->engine, scope, at + 1);
    }
    buf_str(out, "],\"next_cursor\":");
    if (at < count && shown > 0) {
        buf_json(out, view.name, strlen(view.name));
    } else {
        buf_str(out, "null");
    }
    reply_close(out);
}
