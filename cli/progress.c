#include "cli/progress.h"

#include "cli/exit.h"
#include "cli/session.h"
#include "cli/style.h"

#include <string.h>
#include <sys/ioctl.h>

#define BAR_MAX 40
#define BAR_MIN 10
#define PLAIN_WIDTH 100
#define PLAIN_EVERY_NS NS_PER_S

bool figures_read(const cJSON *reply, struct figures *figures)
{
    const cJSON *progress = json_get(reply, "progress");
    const char *eta = member_text(reply, "eta");
    *figures = (struct figures){
        .total = member_count(progress, "total"),
        .yet_to_start = member_count(progress, "yet_to_start"),
        .triggered = member_count(progress, "triggered"),
        .completed = member_count(progress, "completed"),
        .failed = member_count(progress, "failed"),
        .cancelled = member_count(progress, "cancelled"),
    };
    figures->has_position = json_integer(json_get(reply, "position"), &figures->position);
    figures->has_eta = wall_parse(eta, &figures->eta);
    return figures->total > 0 && status_parse(member_text(reply, "status"), &figures->status);
}

bool figures_final(const struct figures *figures)
{
    return figures->yet_to_start + figures->triggered == 0;
}

int figures_fate(const struct figures *figures)
{
    return figures->status == STATUS_COMPLETED   ? EXIT_CODE_OK
           : figures->status == STATUS_CANCELLED ? EXIT_CODE_CANCELLED
                                                 : EXIT_CODE_FAILED;
}

// ---- Texts ----

void span_format(int64_t ms, char text[static SPAN_TEXT_SIZE])
{
    int64_t s = ms > 0 ? (ms + 999) / 1000 : 0;
    long long m = s / 60, h = s / 3600, d = s / 86400;
    if (s < 60) {
        (void)snprintf(text, SPAN_TEXT_SIZE, "%llds", (long long)s);
    } else if (m < 60) {
        (void)snprintf(text, SPAN_TEXT_SIZE, "%lldm%02llds", m, (long long)s % 60);
    } else if (h < 24) {
        (void)snprintf(text, SPAN_TEXT_SIZE, "%lldh%02lldm", h, m % 60);
    } else {
        (void)snprintf(text, SPAN_TEXT_SIZE, "%lldd%02lldh", d, h % 24);
    }
}

static uint64_t done(const struct figures *figures)
{
    return figures->completed + figures->failed + figures->cancelled;
}

static unsigned percent(const struct figures *figures)
{
    return (unsigned)(100 * done(figures) / figures->total);
}

static void put_count(struct buf *out, uint64_t count, const char *what)
{
    if (count > 0) {
        buf_str(out, ", ");
        buf_u64(out, count);
        buf_str(out, what);
    }
}

static void put_rest(const struct figures *figures, struct wall now, struct buf *out)
{
    buf_u64(out, done(figures));
    buf_char(out, '/');
    buf_u64(out, figures->total);
    buf_str(out, " batches");
    put_count(out, figures->failed, " failed");
    put_count(out, figures->cancelled, " cancelled");
    if (figures_final(figures)) {
        return;
    }
    put_count(out, figures->triggered, " in flight");
    if (figures->has_position) {
        put_count(out, figures->position, " ahead");
    }
    if (figures->has_eta) {
        char span[SPAN_TEXT_SIZE];
        span_format(figures->eta.ms - now.ms, span);
        buf_str(out, ", done in ");
        buf_str(out, span);
    }
}

static void put_bar(const struct figures *figures, size_t cells, struct buf *out)
{
    size_t full = (size_t)(done(figures) * cells / figures->total);
    buf_char(out, '[');
    for (size_t i = 0; i < cells; i++) {
        buf_char(out, i < full ? '#' : '-');
    }
    buf_str(out, "] ");
}

void progress_write(const struct figures *figures, struct wall now, size_t width, struct buf *out)
{
    struct buf rest;
    size_t start = out->len;
    buf_init(&rest);
    put_rest(figures, now, &rest);
    buf_printf(out, "%-12s ", status_name(figures->status));
    size_t taken = out->len - start + rest.len + 3; // the bar's brackets, and the space behind them
    if (taken + BAR_MIN <= width) {
        size_t left = width - taken;
        put_bar(figures, left < BAR_MAX ? left : BAR_MAX, out);
    }
    buf_put(out, rest.data, rest.len);
    out->failed = out->failed || rest.failed;
    if (!out->failed && out->len - start > width) {
        buf_cut(out, start + width); // all of it is ASCII
    }
    buf_fini(&rest);
}

// ---- On a stream ----

void progress_init(struct progress *progress, FILE *to, const char *name)
{
    *progress = (struct progress){.to = to, .live = to && is_terminal(to), .name = name};
}

static size_t width_of(FILE *terminal)
{
    struct winsize size;
    bool known = ioctl(fileno(terminal), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col - 1u : 79; // a full line would wrap
}

static void show(struct progress *progress, const struct figures *figures, struct wall now)
{
    struct buf line;
    buf_init(&line);
    if (progress->live) {
        buf_str(&line, "\r\033[K");
        bool colours = has_colours(progress->to);
        enum tint tint = tint_of_status(status_name(figures->status));
        buf_str(&line, tint_begin(tint, colours));
        progress_write(figures, now, width_of(progress->to), &line);
        buf_str(&line, tint_end(tint, colours));
    } else {
        buf_printf(&line, "%s ", progress->name);
        progress_write(figures, now, PLAIN_WIDTH, &line);
        buf_char(&line, '\n');
    }
    if (buf_err(&line) == ERR_OK) {
        (void)fwrite(line.data, 1, line.len, progress->to);
        (void)fflush(progress->to);
    }
    buf_fini(&line);
}

void progress_show(struct progress *progress, const struct figures *figures, struct wall now, struct mono at)
{
    bool changed = !progress->any || progress->said_status != figures->status ||
                   progress->said_percent != percent(figures);
    bool due = !progress->any || mono_diff(at, progress->said_at) >= PLAIN_EVERY_NS;
    if (!progress->to || !(progress->live || (changed && due))) {
        return;
    }
    show(progress, figures, now);
    progress->said_at = at;
    progress->said_percent = percent(figures);
    progress->said_status = figures->status;
    progress->any = true;
}

void progress_break(struct progress *progress)
{
    if (progress->to && progress->live && progress->any) {
        (void)fputc('\n', progress->to);
        (void)fflush(progress->to);
    }
    progress->any = false;
}

void progress_end(struct progress *progress, const struct figures *figures, struct wall now)
{
    if (progress->to) {
        show(progress, figures, now);
        progress->any = true;
        progress_break(progress);
    }
}
