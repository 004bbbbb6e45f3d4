// ping, stats: whether the scheduler works, and how.
#include "cli/stats.h"

#include "cli/progress.h"
#include "common/clock.h"

static int ping(struct session *session, char *const *operands, size_t count)
{
    struct answer answer;
    struct buf line;
    (void)operands, (void)count;
    buf_init(&line);
    line_begin(&line, "ping");
    struct mono before = mono_now();
    int code = session_ask(session, &line, &answer);
    double ms = (double)mono_diff(mono_now(), before) / (double)NS_PER_MS;
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        printf("sluice-scheduler %s, protocol %.0f, at %s: %.2f ms\n",
               member_text(answer.json.root, "version"), (double)member_count(answer.json.root, "protocol"),
               session->address, ms);
    }
    answer_fini(&answer);
    buf_fini(&line);
    return code;
}

const struct command ping_command = {
    .name = "ping",
    .operands = "",
    .summary = "see whether the scheduler works",
    .run = ping,
};

void stats_head(const cJSON *stats, struct buf *out)
{
    char up[SPAN_TEXT_SIZE];
    span_format((int64_t)member_count(stats, "uptime_ms"), up);
    buf_printf(out, "sluice-scheduler %.32s, up %s; queues %.0f, requests %.0f, commits %.0f, removed %.0f\n",
               member_text(stats, "version"), up, (double)member_count(stats, "queues_total"),
               (double)member_count(stats, "requests"), (double)member_count(stats, "commits"),
               (double)member_count(stats, "removed"));
}

int stats_show(struct session *session, enum queue_order order)
{
    struct answer answer;
    struct buf text;
    struct table table;
    buf_init(&text);
    line_begin(&text, "stats");
    int code = session_ask(session, &text, &answer);
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        queue_table_init(&table);
        stats_head(answer.json.root, &text);
        if (!queue_table_add_all(&table, json_get(answer.json.root, "queues"), order) ||
            buf_err(&text) != ERR_OK) {
            code = session_error(session, "internal", "out of memory");
        } else {
            puts(text.data);
            code = table_print(&table);
        }
        table_fini(&table);
    }
    answer_fini(&answer);
    buf_fini(&text);
    return code;
}

static int stats(struct session *session, char *const *operands, size_t count)
{
    (void)operands, (void)count;
    return stats_show(session, QUEUES_AS_THEY_COME);
}

const struct command stats_command = {
    .name = "stats",
    .operands = "",
    .summary = "show the scheduler's figures and its queues",
    .details = "Where there are very many queues the first of them; queue list has all.",
    .run = stats,
};
