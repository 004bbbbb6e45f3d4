#include "scheduler/settings.h"

#include "common/log.h"
#include "scheduler/rate.h"
#include "scheduler/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_TARGET "simulate:1500ms"

static const struct queue_settings default_settings = {
    .rate = {.count = 1, .per_ns = 5 * NS_PER_S},
    .burst = 0,
    .linger_ns = -1,
    .concurrency = 1,
    .batch_size = 3,
    .largest_batch = 3,
    .ids = IDS_INTEGER,
    .max_id = ID_VALUE_MAX,
    .timeout_ns = 30 * NS_PER_S,
    .max_attempts = 5,
    .min_backoff_ns = 1 * NS_PER_S,
    .max_backoff_ns = 300 * NS_PER_S,
    .max_hold_ns = 3600 * NS_PER_S,
    .breaker = 10,
    .lease_ns = 60 * NS_PER_S,
    .on_interrupt = ON_INTERRUPT_RESEND,
    .aging_ns = 0,
};

void queue_row_fini(struct queue_row *row)
{
    free(row->target);
    free(row->headers);
    row->target = NULL;
    row->headers = NULL;
}

enum err settings_defaults(struct queue_row *row, const char *name)
{
    *row = (struct queue_row){
        .settings = default_settings, .target = strdup(DEFAULT_TARGET), .headers = strdup("")};
    if (row->target == NULL || row->headers == NULL) {
        queue_row_fini(row);
        return ERR_NO_MEMORY;
    }
    memcpy(row->name, name, strlen(name) + 1);
    return ERR_OK;
}

// ---- a change ----

static enum err replace(char **text, const char *with)
{
    char *copy = strdup(with);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    free(*text);
    *text = copy;
    return ERR_OK;
}

// The value of a header in such lines; false when it is not there.
static bool find_header(const char *lines, const char *name, size_t name_len, const char **value,
                        size_t *value_len)
{
    const char *at = lines;
    const char *found;
    size_t found_len;
    while (headers_next(&at, &found, &found_len, value, value_len)) {
        if (found_len == name_len && strncasecmp(found, name, name_len) == 0) {
            return true;
        }
    }
    return false;
}

// What is shown of a header's value is ***, and means the value there is when it comes back.
static enum err change_headers(char **headers, const char *wanted, struct fault *fault)
{
    static const char hidden[] = "***";
    struct buf lines;
    buf_init(&lines);
    const char *at = wanted;
    const char *name;
    const char *value;
    size_t name_len;
    size_t value_len;
    while (headers_next(&at, &name, &name_len, &value, &value_len)) {
        bool keep = value_len == strlen(hidden) && memcmp(value, hidden, value_len) == 0;
        if (keep && !find_header(*headers, name, name_len, &value, &value_len)) {
            buf_fini(&lines);
            return fault_set(fault, ERR_INVALID_FIELD,
                             "headers: *** keeps the value there is, and there is none of %.*s",
                             (int)name_len, name);
        }
        buf_put(&lines, name, name_len);
        buf_str(&lines, ": ");
        buf_put(&lines, value, value_len);
        buf_char(&lines, '\n');
    }
    enum err err = buf_err(&lines);
    if (err == ERR_OK) {
        err = replace(headers, lines.len > 0 ? lines.data : "");
    }
    buf_fini(&lines);
    return err == ERR_OK ? err : fault_set(fault, err, "out of memory");
}

static void change_numbers(struct queue_settings *settings, const struct queue_change *change)
{
#define SET(bit, member)                                                                                     \
    if ((change->given & (bit)) != 0) {                                                                      \
        settings->member = change->member;                                                                   \
    }
    SET(SETTING_RATE, rate)
    SET(SETTING_BURST, burst)
    SET(SETTING_LINGER, linger_ns)
    SET(SETTING_CONCURRENCY, concurrency)
    SET(SETTING_BATCH_SIZE, batch_size)
    SET(SETTING_TIMEOUT, timeout_ns)
    SET(SETTING_MAX_ATTEMPTS, max_attempts)
    SET(SETTING_MIN_BACKOFF, min_backoff_ns)
    SET(SETTING_MAX_BACKOFF, max_backoff_ns)
    SET(SETTING_IDS, ids)
    SET(SETTING_MAX_ID, max_id)
    SET(SETTING_MAX_HOLD, max_hold_ns)
    SET(SETTING_BREAKER, breaker)
    SET(SETTING_LEASE, lease_ns)
    SET(SETTING_ON_INTERRUPT, on_interrupt)
    SET(SETTING_AGING, aging_ns)
#undef SET
}

static enum err check_together(const struct queue_settings *settings, struct fault *fault)
{
    if (settings->min_backoff_ns > settings->max_backoff_ns) {
        return fault_set(fault, ERR_INVALID_FIELD, "retry.min_backoff is over retry.max_backoff");
    }
    if (settings->ids == IDS_STRING && settings->batch_size > STRING_BATCH_SIZE_MAX) {
        return fault_set(fault, ERR_INVALID_FIELD, "batch_size must be at most %u where ids are strings",
                         STRING_BATCH_SIZE_MAX);
    }
    return ERR_OK;
}

enum err settings_change(struct queue_row *row, const struct queue_change *change, struct fault *fault)
{
    enum err err = ERR_OK;
    if (row->id != 0 && (change->given & SETTING_IDS) != 0 && change->ids != row->settings.ids) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "ids can only be chosen when the queue is made; these are %s",
                         ids_kind_name(row->settings.ids));
    }
    change_numbers(&row->settings, change);
    if (row->settings.batch_size > row->settings.largest_batch || row->id == 0) {
        row->settings.largest_batch = row->settings.batch_size;
    }
    err = check_together(&row->settings, fault);
    if (err == ERR_OK && (change->given & SETTING_TARGET) != 0) {
        err = target_check(change->target, fault);
        if (err == ERR_OK && replace(&row->target, change->target) != ERR_OK) {
            err = fault_set(fault, ERR_NO_MEMORY, "out of memory");
        }
    }
    if (err == ERR_OK && (change->given & SETTING_HEADERS) != 0) {
        err = change_headers(&row->headers, change->headers, fault);
    }
    return err;
}

// ---- flags ----

// One flag of the default queue: how its value reads, and what it sets.
struct flag {
    const char *name;
    enum queue_setting setting;
    void (*print)(const struct queue_change *flags, struct buf *out);
};

static void print_rate(const struct queue_change *flags, struct buf *out)
{
    char text[RATE_TEXT_SIZE];
    rate_format(flags->rate, text);
    buf_str(out, text);
}

static void print_burst(const struct queue_change *flags, struct buf *out)
{
    if (flags->burst != 0) {
        buf_u64(out, flags->burst);
    } else {
        buf_str(out, "auto");
    }
}

static void print_concurrency(const struct queue_change *flags, struct buf *out)
{
    buf_u64(out, flags->concurrency);
}

static void print_batch_size(const struct queue_change *flags, struct buf *out)
{
    buf_u64(out, flags->batch_size);
}

static void print_target(const struct queue_change *flags, struct buf *out)
{
    buf_str(out, flags->target);
}

static void print_max_id(const struct queue_change *flags, struct buf *out)
{
    buf_u64(out, flags->max_id);
}

static const struct flag flag_table[] = {
    {"rate", SETTING_RATE, print_rate},
    {"burst", SETTING_BURST, print_burst},
    {"concurrency", SETTING_CONCURRENCY, print_concurrency},
    {"batch-size", SETTING_BATCH_SIZE, print_batch_size},
    {"target", SETTING_TARGET, print_target},
    {"max-id", SETTING_MAX_ID, print_max_id},
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
    char before[TARGET_MAX + 1];
    (void)snprintf(before, sizeof before, "%.*s", (int)old_len, old);
    log_line(LOG_LEVEL_INFO, "settings", "flag_changed", "flag=%s old=%s new=%s", name,
             log_quote(shown(before), &(struct log_text){0}), log_quote(shown(new), &(struct log_text){0}));
}

// The settings whose flags have another value than in `before`, as bits of the change; logs what was another
// value.
static enum err find_changed(const struct queue_change *flags, const char *before, unsigned *changed)
{
    enum err err = ERR_OK;
    *changed = 0;
    for (size_t i = 0; i < FLAGS && err == ERR_OK; i++) {
        struct buf value;
        buf_init(&value);
        flag_table[i].print(flags, &value);
        err = buf_err(&value);
        size_t len = 0;
        const char *old = remembered(before, flag_table[i].name, &len);
        if (err == ERR_OK && (old == NULL || len != value.len || memcmp(old, value.data, len) != 0)) {
            *changed |= flag_table[i].setting;
            if (old != NULL) {
                log_change(flag_table[i].name, old, len, value.data);
            }
        }
        buf_fini(&value);
    }
    return err;
}

static void print_all(const struct queue_change *flags, struct buf *out)
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
             rate_burst(settings->rate, settings->burst), settings->concurrency, settings->batch_size,
             log_quote(shown(row->target), &(struct log_text){0}));
}

// ---- the boot ----

// What was stored on the clock of another boot: the bucket counts as empty, a hold goes on by the wall clock,
// an open breaker is probed at once.
static void rebase(struct queue_row *row, struct mono now, struct wall now_wall)
{
    const struct queue_settings *settings = &row->settings;
    row->figures.bucket = bucket_empty(settings->rate, rate_burst(settings->rate, settings->burst), now);
    row->figures.probe_at = (struct mono){0};
    int64_t left_ms = row->figures.held_until_wall.ms - now_wall.ms;
    int64_t cap_ms = settings->max_hold_ns / NS_PER_MS; // the wall clock may have stepped meanwhile
    if (left_ms > cap_ms) {
        left_ms = cap_ms;
    }
    row->figures.held_until = left_ms > 0 ? mono_add(now, left_ms * NS_PER_MS) : (struct mono){0};
}

static enum err rebase_all(struct store *store, struct queue_row *rows, size_t count, struct mono now,
                           struct wall now_wall)
{
    log_line(LOG_LEVEL_INFO, "settings", "rebooted", NULL);
    enum err err = store_rebase_moments(store, now);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        rebase(&rows[i], now, now_wall);
        err = store_note_change(store, rows[i].id, CHANGE_BOOT, now);
        if (err == ERR_OK) {
            err = store_save_figures(store, &rows[i].id, &rows[i].figures, 1);
        }
    }
    return err;
}

// The age clock goes on from the newest ingestion, by the time that has passed since on the wall clock.
static enum err rebase_age(struct store *store, struct mono now, struct wall now_wall, int64_t *offset_ns)
{
    bool any;
    int64_t accepted_ns = 0;
    struct wall created = now_wall;
    enum err err = store_newest(store, &any, &accepted_ns, &created);
    if (err == ERR_OK) {
        int64_t passed_ms = any && now_wall.ms > created.ms ? now_wall.ms - created.ms : 0;
        *offset_ns = (any ? accepted_ns : 0) + passed_ms * NS_PER_MS - now.ns;
    }
    return err;
}

// ---- a start ----

// The default queue as the flags want it; made when there is none.
static enum err apply_flags(struct store *store, struct queue_row *rows, size_t count,
                            const struct queue_change *flags, const char *before, struct mono now)
{
    struct queue_row made = {.id = 0};
    struct queue_row *row = &made;
    enum err err = ERR_OK;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, DEFAULT_QUEUE) == 0) {
            row = &rows[i];
        }
    }
    if (row == &made) {
        err = settings_defaults(&made, DEFAULT_QUEUE);
    }
    struct queue_change change = *flags;
    if (err == ERR_OK) {
        err = find_changed(flags, before, &change.given);
    }
    if (err == ERR_OK && change.given != 0) {
        bool existed = row->id != 0;
        err = settings_change(row, &change, NULL);
        if (existed && (change.given & (SETTING_RATE | SETTING_BURST)) != 0) {
            row->figures.bucket =
                bucket_empty(row->settings.rate, rate_burst(row->settings.rate, row->settings.burst), now);
        }
        if (err == ERR_OK && existed) {
            err = store_note_change(store, row->id, CHANGE_SETTINGS, now);
        }
        if (err == ERR_OK) {
            err = store_save_queue(store, row);
        }
        if (err == ERR_OK) {
            err = store_save_figures(store, &row->id, &row->figures, 1);
        }
    }
    if (err == ERR_OK) {
        log_in_force(row);
    }
    queue_row_fini(&made);
    return err;
}

static enum err apply(struct store *store, const struct queue_change *flags, struct mono now,
                      struct wall now_wall)
{
    struct meta meta;
    struct id this_boot;
    struct buf before;
    struct buf after;
    struct queue_row *rows = NULL;
    size_t count = 0;
    buf_init(&before);
    buf_init(&after);
    enum err err = clock_boot_id(&this_boot);
    if (err == ERR_OK) {
        err = store_load_meta(store, &meta, &before);
    }
    if (err == ERR_OK) {
        err = store_load_queues(store, &rows, &count);
    }
    bool same = err == ERR_OK && id_equal(&meta.boot, &this_boot);
    if (err == ERR_OK && !same) {
        meta.boot = this_boot;
        err = rebase_age(store, now, now_wall, &meta.age_offset_ns);
        if (err == ERR_OK && count > 0) {
            err = rebase_all(store, rows, count, now, now_wall);
        }
    }
    if (err == ERR_OK) {
        err = apply_flags(store, rows, count, flags, before.data, now);
    }
    if (err == ERR_OK) {
        print_all(flags, &after);
        err = buf_err(&after);
    }
    // A start that changes nothing writes nothing, so that it works on a full disk, too.
    if (err == ERR_OK &&
        !(same && before.len == after.len && memcmp(before.data, after.data, after.len) == 0)) {
        err = store_save_meta(store, &meta, after.data);
    }
    store_free_queues(rows, count);
    buf_fini(&before);
    buf_fini(&after);
    return err;
}

enum err settings_apply(struct store *store, const struct queue_change *flags, struct mono now,
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
