#include "scheduler/target.h"

#include "common/utf8.h"
#include "scheduler/target_http.h"
#include "scheduler/target_simulate.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct target_kind {
    const char *prefix;
    enum err (*check)(const char *text, struct fault *fault);
    enum err (*make)(const char *text, struct inbox *inbox, struct target **target, struct fault *fault);
};

static const struct target_kind kinds[] = {
    {"simulate:", target_simulate_check, target_simulate_new},
    {"http://", target_http_check, target_http_new},
    {"https://", target_http_check, target_http_new},
};

static const struct target_kind *find_kind(const char *text, struct fault *fault)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strncmp(text, kinds[i].prefix, strlen(kinds[i].prefix)) == 0) {
            return &kinds[i];
        }
    }
    (void)fault_set(
        fault, ERR_INVALID_FIELD,
        "target '%.80s' is of no known kind: allowed are simulate:DURATION, http://... and https://...",
        text);
    return NULL;
}

enum err target_check(const char *text, struct fault *fault)
{
    const struct target_kind *kind = find_kind(text, fault);

    return kind ? kind->check(text, fault) : ERR_INVALID_FIELD;
}

enum err target_new(const char *text, struct inbox *inbox, struct target **target, struct fault *fault)
{
    const struct target_kind *kind = find_kind(text, fault);

    return kind ? kind->make(text, inbox, target, fault) : ERR_INVALID_FIELD;
}

void target_free(struct target *target)
{
    if (target) {
        target->ops->free(target);
    }
}

void delivery_free(struct delivery *delivery)
{
    if (!delivery) {
        return;
    }
    free(delivery->ids);
    free(delivery);
}

void delivery_begin(struct delivery *delivery, struct inbox *inbox)
{
    delivery->started = mono_now();
    if (mono_diff(delivery->started, delivery->slot) > TARGET_LATE_NS) {
        delivery->late.kind = INBOX_LATE;
        inbox_post(inbox, &delivery->late);
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
