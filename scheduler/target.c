#include "scheduler/target.h"

#include "common/utf8.h"
#include "scheduler/target_exec.h"
#include "scheduler/target_http.h"
#include "scheduler/target_simulate.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- pull: workers fetch the batches, nothing is started ----

static enum err pull_check(const char *text, struct fault *fault)
{
    if (strcmp(text, "pull:") == 0) {
        return ERR_OK;
    }
    return fault_set(fault, ERR_INVALID_FIELD, "target '%.80s': nothing may follow pull:", text);
}

static enum err pull_open(struct targets *targets, const char *text, const char *headers,
                          struct target **target, struct fault *fault)
{
    (void)targets, (void)text, (void)headers;
    *target = calloc(1, sizeof(**target));
    return *target ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
}

static void pull_close(struct target *target)
{
    free(target);
}

static const struct target_kind target_pull = {pull_check, pull_open, pull_close, NULL};

// ---- kinds ----

static const struct {
    const char *prefix;
    const struct target_kind *kind;
} kinds[] = {
    {"simulate:", &target_simulate}, {"http://", &target_http}, {"https://", &target_http},
    {"exec:", &target_exec},         {"pull:", &target_pull},
};

static const struct target_kind *find_kind(const char *text, struct fault *fault)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strncmp(text, kinds[i].prefix, strlen(kinds[i].prefix)) == 0) {
            return kinds[i].kind;
        }
    }
    (void)fault_set(fault, ERR_INVALID_FIELD,
                    "target '%.80s' is of no known kind: allowed are simulate:DURATION, http://..., "
                    "https://..., exec:/path and pull:",
                    text);
    return NULL;
}

enum err target_check(const char *text, struct fault *fault)
{
    const struct target_kind *kind = find_kind(text, fault);

    return kind ? kind->check(text, fault) : ERR_INVALID_FIELD;
}

// ---- the machinery ----

enum err targets_new(struct inbox *inbox, struct targets **targets)
{
    struct targets *made = calloc(1, sizeof(*made));

    if (!made) {
        return ERR_NO_MEMORY;
    }
    made->inbox = inbox;
    heap_init(&made->simulate);
    *targets = made;
    return ERR_OK;
}

void targets_halt(struct targets *targets)
{
    if (targets) {
        http_halt(targets->http);
        exec_halt(targets->exec);
    }
}

void targets_stop(struct targets *targets)
{
    if (!targets) {
        return;
    }
    http_stop(targets->http);
    targets->http = NULL;
    exec_stop(targets->exec);
    targets->exec = NULL;
    simulate_stop(targets);
}

void targets_free(struct targets *targets)
{
    if (!targets) {
        return;
    }
    targets_stop(targets);
    assert(targets->open == 0);
    free(targets);
}

struct mono targets_run(struct targets *targets, struct mono now)
{
    return simulate_run(targets, now);
}

// ---- one target ----

enum err target_open(struct targets *targets, const char *text, const char *headers, struct target **target,
                     struct fault *fault)
{
    const struct target_kind *kind = find_kind(text, fault);
    enum err err = kind ? kind->check(text, fault) : ERR_INVALID_FIELD;
    struct target *made = NULL;

    if (err == ERR_OK) {
        err = kind->open(targets, text, headers, &made, fault);
    }
    if (err != ERR_OK) {
        return err;
    }
    made->kind = kind;
    made->targets = targets;
    made->holders = 1;
    made->text = strdup(text);
    made->headers = strdup(headers);
    targets->open++;
    if (!made->text || !made->headers) {
        target_close(made);
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    *target = made;
    return ERR_OK;
}

void target_close(struct target *target)
{
    if (!target) {
        return;
    }
    assert(target->holders > 0);
    target->holders--;
    if (target->holders > 0) {
        return;
    }
    target->targets->open--;
    free(target->text);
    free(target->headers);
    target->kind->close(target);
}

const char *target_text(const struct target *target)
{
    return target->text;
}

const char *target_headers(const struct target *target)
{
    return target->headers;
}

int64_t target_expected_ns(const struct target *target)
{
    return target->expected_ns;
}

bool target_is_pull(const struct target *target)
{
    return target->kind == &target_pull;
}

void target_start(struct delivery *delivery)
{
    assert(!target_is_pull(delivery->target));
    delivery->target->kind->start(delivery);
}

// ---- deliveries ----

struct delivery *delivery_new(struct target *target)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery));

    if (delivery) {
        delivery->target = target;
        target->holders++;
    }
    return delivery;
}

void delivery_free(struct delivery *delivery)
{
    if (!delivery) {
        return;
    }
    target_close(delivery->target);
    free(delivery->ids);
    free(delivery);
}

const char *outcome_name(enum outcome_class class)
{
    static const char *const names[OUTCOMES] = {
        [OUTCOME_COMPLETED] = "completed",
        [OUTCOME_RETRY] = "retry",
        [OUTCOME_FAILED] = "failed",
        [OUTCOME_HOLD] = "hold",
    };
    return names[class];
}

void delivery_begin(struct delivery *delivery, struct inbox *inbox)
{
    delivery->started = mono_now();
    delivery->start.kind = INBOX_STARTED;
    if (delivery_is_late(delivery, delivery->started)) {
        inbox_post(inbox, &delivery->start);
    } else if (delivery->paced) {
        inbox_post_quietly(inbox, &delivery->start);
    }
}

void delivery_end(struct delivery *delivery, enum outcome_class class, struct inbox *inbox)
{
    delivery->outcome.class = class;
    delivery->outcome.took_ns = mono_diff(mono_now(), delivery->started);
    delivery->item.kind = INBOX_DONE;
    inbox_post(inbox, &delivery->item);
}

void delivery_explain(struct delivery *delivery, const char *format, ...)
{
    char *error = delivery->outcome.error;
    const size_t size = sizeof(delivery->outcome.error);
    va_list args;

    va_start(args, format);
    int written = vsnprintf(error, size, format, args);
    va_end(args);

    size_t len = written < 0 ? 0 : (size_t)written;
    if (len >= size) {
        len = utf8_cut(error, size - 1);
    }
    error[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        if (error[i] == '\t' || error[i] == '\n' || error[i] == '\r') {
            error[i] = ' ';
        }
    }
    utf8_scrub(error, len);
}

void delivery_body(const struct delivery *delivery, struct buf *out)
{
    char ingestion[ID_TEXT_SIZE], batch[ID_TEXT_SIZE];

    id_format(&delivery->ingestion, ingestion);
    id_format(&delivery->batch, batch);
    buf_printf(out,
               "{\"ingestion_id\":\"%s\",\"batch_id\":\"%s\",\"queue\":\"%s\",\"priority\":\"%s\",\"ids\":[",
               ingestion, batch, delivery->queue_name, priority_name(delivery->place.priority));
    buf_str(out, delivery->ids);
    buf_printf(out, "],\"attempt\":%" PRIu32 "}", delivery->attempt);
}
