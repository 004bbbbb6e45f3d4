#include "scheduler/settings.h"

#include "common/log.h"
#include "scheduler/rate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TIMEOUT_NS (30 * NS_PER_S)
#define DEFAULT_MAX_ATTEMPTS 5u
#define DEFAULT_MIN_BACKOFF_NS (1 * NS_PER_S)
#define DEFAULT_MAX_BACKOFF_NS (300 * NS_PER_S)
#define DEFAULT_MAX_HOLD_NS (3600 * NS_PER_S)

// One flag: how its value reads, and what it sets.
struct flag {
    const char *name;
    void (*print)(const struct default_flags *flags, struct buf *out);
    void (*apply)(const struct default_flags *flags, struct queue_settings *settings);
    bool empties_bucket;
};

static void print_rate(const struct default_flags *flags, struct buf *out)
{
    char text[RATE_TEXT_SIZE];
    rate_format(flags->rate, text);
    buf_str(out, text);
}

static void apply_burst(const struct default_flags *flags, struct queue_settings *settings)
{
    settings->burst = flags->burst != 0 ? (uint32_t)flags->burst : rate_default_burst(settings->rate);
}

static void apply_rate(const struct default_flags *flags, struct queue_settings *settings)
{
    settings->rate = flags->rate;
    settings->linger_ns = rate_default_linger(flags->rate);
    if (flags->burst == 0) {
        apply_burst(flags, settings); // it follows the rate
    }
}

static void print_burst(const struct default_flags *flags, struct buf *out)
{
    if (flags->burst != 0) {
        buf_u64(out, flags->burst);
    } else {
        buf_str(out, "auto");
    }
}

static void print_concurrency(const struct default_flags *flags, struct buf *out)
{
    buf_u64(out, flags->concurrency);
}

static void apply_concurrency(const struct default_flags *flags, struct queue_settings *settings)
{
    settings->concurrency = (uint32_t)flags->concurrency;
}

static void print_batch_size(const struct default_flags *flags, struct buf *out)
{
    buf_u64(out, flags->batch_size);
}

static void apply_batch_size(const struct default_flags *flags, struct queue_settings *settings)
{
    settings->batch_size = (uint32_t)flags->batch_size;
}

static void print_target(const struct default_flags *flags, struct buf *out)
{
    buf_str(out, flags->target);
}

static void apply_target(const struct default_flags *flags, struct queue_settings *settings)
{
    (void)snprintf(settings->target, sizeof settings->target, "%s", flags->target);
}

static void print_max_id(const struct default_flags *flags, struct buf *out)
{
    buf_u64(out, flags->max_id);
}

static void apply_max_id(const struct default_flags *flags, struct queue_settings *settings)
{
    settings->max_id = flags->max_id;
}

static const struct flag flag_table[] = {
    {"rate", print_rate, apply_rate, true},
    {"burst", print_burst, apply_burst, true},
    {"concurrency", print_concurrency, apply_concurrency, false},
    {"batch-size", print_batch_size, apply_batch_size, false},
    {"target", print_target, apply_target, false},
    {"max-id", print_max_id, apply_max_id, false},
};
#define FLAGS (sizeof flag_table / sizeof flag_table[0])

// Flags are remembered as lines "name=value". The value of one in such a text; NULL when it is not there.
static const char *remembered(const char *text, const char *name, size_t *len)
{
    size_t name_len = strlen(name);
    while (text != NULL && *text != '\0') {
        const char *end = strchr(text, '\n');
        if (strncmp(text, name, name_len) == 0 && text[name_len] == '=') {
            text += name_len + 1;
            *len = end != NULL ? (size_t)(end - text) : strlen(text);
            return text;
        }
        text = end != NULL ? end + 1 : NULL;
    }
    return NULL;
}

// A URL may carry a password in front of an @.
static const char *shown(const char *value)
{
    return strchr(value, '@') == NULL ? value : "***";
}

static void log_change(const char *name, const char *old, size_t old_len, const char *new)
{
    char before[sizeof((struct queue_settings *)NULL)->target];
    (void)snprintf(before, sizeof before, "%.*s", (int)old_len, old);
    log_line(LOG_LEVEL_INFO, "settings", "flag_changed", "flag=%s old=%s new=%s", name,
             log_quote(shown(before), &(struct log_text){0}), log_quote(shown(new), &(struct log_text){0}));
}

// Applies what changed since `before`; true when something did.
static bool apply_changed(const struct default_flags *flags, const char *before, struct queue_row *row,
                          struct mono now)
{
    bool changed = false;
    for (size_t i = 0; i < FLAGS; i++) {
        const struct flag *flag = &flag_table[i];
        struct buf value;
        buf_init(&value);
        flag->print(flags, &value);
        size_t len = 0;
        const char *old = remembered(before, flag->name, &len);
        if (value.data != NULL && (old == NULL || len != value.len || memcmp(old, value.data, len) != 0)) {
            if (old != NULL) {
                log_change(flag->name, old, len, value.data);
            }
            flag->apply(flags, &row->settings);
            if (flag->empties_bucket && old != NULL) {
                row->figures.bucket = bucket_empty(row->settings.rate, row->settings.burst, now);
            }
            changed = true;
        }
        buf_fini(&value);
    }
    return changed;
}

static void print_all(const struct default_flags *flags, struct buf *out)
{
    for (size_t i = 0; i < FLAGS; i++) {
        buf_printf(out, "%s=", flag_table[i].name);
        flag_table[i].print(flags, out);
        buf_char(out, '\n');
    }
}

static void log_in_force(const struct queue_row *row)
{
    const struct queue_settings *settings = &row->settings;
    char rate[RATE_TEXT_SIZE];
    rate_format(settings->rate, rate);
    log_line(LOG_LEVEL_INFO, "settings", "queue",
             "queue=%s rate=%s burst=%u concurrency=%u batch_size=%u target=%s", row->name, rate,
             settings->burst, settings->concurrency, settings->batch_size,
             log_quote(shown(settings->target), &(struct log_text){0}));
}

// What was stored on the clock of another boot: the bucket counts as empty, a hold goes on by the wall clock.
static void rebase(struct queue_row *row, struct mono now, struct wall now_wall)
{
    row->figures.bucket = bucket_empty(row->settings.rate, row->settings.burst, now);
    int64_t left_ms = row->figures.held_until_wall.ms - now_wall.ms;
    int64_t cap_ms = row->settings.max_hold_ns / NS_PER_MS; // the wall clock may have stepped meanwhile
    if (left_ms > cap_ms) {
        left_ms = cap_ms;
    }
    row->figures.held_until = left_ms > 0 ? mono_add(now, left_ms * NS_PER_MS) : (struct mono){0};
}

static enum err save(struct store *store, struct queue_row *row)
{
    enum err err = store_save_queue(store, row);
    return err == ERR_OK ? store_save_figures(store, &row->id, &row->figures, 1) : err;
}

static enum err rebase_all(struct store *store, struct queue_row *rows, size_t count, struct mono now,
                           struct wall now_wall)
{
    log_line(LOG_LEVEL_INFO, "settings", "rebooted", NULL);
    enum err err = store_rebase_backoff(store, now);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        rebase(&rows[i], now, now_wall);
        err = save(store, &rows[i]);
    }
    return err;
}

static struct queue_row new_default_queue(void)
{
    return (struct queue_row){.name = DEFAULT_QUEUE,
                              .settings = {.timeout_ns = DEFAULT_TIMEOUT_NS,
                                           .max_attempts = DEFAULT_MAX_ATTEMPTS,
                                           .min_backoff_ns = DEFAULT_MIN_BACKOFF_NS,
                                           .max_backoff_ns = DEFAULT_MAX_BACKOFF_NS,
                                           .max_hold_ns = DEFAULT_MAX_HOLD_NS}};
}

static enum err apply(struct store *store, const struct default_flags *flags, struct mono now,
                      struct wall now_wall)
{
    struct id boot;
    struct id this_boot;
    struct buf before;
    struct buf after;
    struct queue_row *rows = NULL;
    size_t count = 0;
    buf_init(&before);
    buf_init(&after);
    enum err err = clock_boot_id(&this_boot);
    if (err == ERR_OK) {
        err = store_load_meta(store, &boot, &before);
    }
    if (err == ERR_OK) {
        err = store_load_queues(store, &rows, &count);
    }
    if (err == ERR_OK && count > 0 && !id_equal(&boot, &this_boot)) {
        err = rebase_all(store, rows, count, now, now_wall);
    }
    if (err == ERR_OK) {
        struct queue_row made = new_default_queue();
        struct queue_row *row = count > 0 ? &rows[0] : &made; // the default queue was the first to be made
        if (apply_changed(flags, before.data, row, now)) {
            err = save(store, row);
        }
        log_in_force(row);
    }
    if (err == ERR_OK) {
        print_all(flags, &after);
        err = buf_err(&after);
    }
    // A start that changes nothing writes nothing, so that it works on a full disk, too.
    bool same = err == ERR_OK && id_equal(&boot, &this_boot) && before.len == after.len &&
                memcmp(before.data, after.data, after.len) == 0;
    if (err == ERR_OK && !same) {
        err = store_save_meta(store, &this_boot, after.data);
    }
    free(rows);
    buf_fini(&before);
    buf_fini(&after);
    return err;
}

enum err settings_apply(struct store *store, const struct default_flags *flags, struct mono now,
                        struct wall now_wall)
{
    enum err err = store_begin(store);
    if (err == ERR_OK) {
        err = apply(store, flags, now, now_wall);
    }
    if (err == ERR_OK) {
        err = store_commit(store);
    }
    if (err != ERR_OK) {
        store_rollback(store);
    }
    return err;
}
