// status, list, cancel, retry: what is asked of ingestions that are there.
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/say.h"
#include "cli/session.h"
#include "cli/table.h"
#include "common/units.h"
#include "proto/fields.h"

#include <inttypes.h>
#include <string.h>

#define BATCHES_SHOWN 20 // of status, unless told otherwise
#define ROWS_SHOWN 50    // of list
#define IDS_SHOWN 5      // of a batch

// "2025-01-31T12:00:00.000Z" without its milliseconds; "-" for none.
struct short_time {
    char text[WALL_TEXT_SIZE];
};
static struct short_time short_time(const cJSON *object, const char *name)
{
    struct short_time time = {"-"};
    const char *text = member_text(object, name);
    if (strlen(text) >= 19) {
        (void)snprintf(time.text, sizeof(time.text), "%.19sZ", text);
    }
    return time;
}

// ---- status ----

static const struct conf_option status_options[] = {
    {"limit", "N", NULL, "a number from 1 to 10000",
     "batches in the answer (default: 20 in a table, else 1000)", conf_count,
     offsetof(struct settings, limit)},
    {"offset", "N", NULL, "a number", "of the first batch in the answer (default: 0)", conf_count,
     offsetof(struct settings, offset)},
};

static void add_ids(const cJSON *batch, struct table *table)
{
    const cJSON *ids = json_get(batch, "ids");
    const cJSON *id;
    struct buf text;
    int count = 0;
    buf_init(&text);
    cJSON_ArrayForEach(id, ids)
    {
        if (count++ == IDS_SHOWN) {
            break;
        }
        buf_str(&text, count > 1 ? "," : "");
        if (cJSON_IsString(id)) {
            buf_str(&text, id->valuestring);
        } else {
            buf_printf(&text, "%.0f", cJSON_GetNumberValue(id));
        }
    }
    if (count > IDS_SHOWN) {
        buf_printf(&text, ",... (%d)", cJSON_GetArraySize(ids));
    }
    table_text(table, text.data ? text.data : "", TINT_NONE);
    buf_fini(&text);
}

static void add_batch(const cJSON *batch, uint64_t index, struct table *table)
{
    const char *status = member_text(batch, "status");
    const char *error = member_text(batch, "error");
    table_count(table, (double)index, TINT_NONE);
    table_text(table, status, tint_of_status(status));
    table_count(table, (double)member_count(batch, "attempts"), TINT_NONE);
    table_text(table, short_time(batch, "triggered_at").text, TINT_NONE);
    table_text(table, short_time(batch, "completed_at").text, TINT_NONE);
    add_ids(batch, table);
    table_printf(table, TINT_BAD, "%.200s%s", error,
                 cJSON_IsTrue(json_get(batch, "interrupted")) ? " (interrupted)" : "");
}

static int print_batches(const cJSON *reply, uint64_t offset)
{
    static const char *const names[] = {">BATCH", "STATUS", ">ATTEMPTS", "TRIGGERED",
                                        "DONE",   "IDS",    "ERROR",     NULL};
    struct table table;
    const cJSON *batch;
    uint64_t next = offset;
    table_init(&table, names);
    cJSON_ArrayForEach(batch, json_get(reply, "batches"))
    {
        add_batch(batch, next++, &table);
    }
    int code = table_print(&table);
    table_fini(&table);
    uint64_t total = member_count(reply, "batches_total");
    if (next > offset && next < total) {
        printf("%" PRIu64 " more: --offset %" PRIu64 "\n", total - next, next);
    }
    return code;
}

static void print_pair(const char *name, const char *text)
{
    if (text[0] != '\0' && strcmp(text, "-") != 0) {
        printf("%-12s %s\n", name, text);
    }
}

static void print_ingestion(const cJSON *reply)
{
    const char *status = member_text(reply, "status");
    bool colours = has_colours(stdout);
    struct figures figures;
    char text[64];
    print_pair("ingestion", member_text(reply, "ingestion_id"));
    printf("%-12s %s%s%s\n", "status", tint_begin(tint_of_status(status), colours), status,
           tint_end(tint_of_status(status), colours));
    print_pair("queue", member_text(reply, "queue"));
    print_pair("priority", member_text(reply, "priority"));
    print_pair("created", short_time(reply, "created_at").text);
    print_pair("not before", short_time(reply, "not_before").text);
    print_pair("deadline", short_time(reply, "deadline").text);
    if (!figures_read(reply, &figures)) {
        return;
    }
    printf("%-12s %" PRIu64 " batches: %" PRIu64 " completed, %" PRIu64 " failed, %" PRIu64
           " cancelled, %" PRIu64 " triggered, %" PRIu64 " yet to start\n",
           "progress", figures.total, figures.completed, figures.failed, figures.cancelled, figures.triggered,
           figures.yet_to_start);
    if (figures.has_position) {
        (void)snprintf(text, sizeof(text), "%" PRIu64 " batches before its next one", figures.position);
        print_pair("position", text);
    }
    if (figures.has_eta) {
        char span[SPAN_TEXT_SIZE];
        span_format(figures.eta.ms - wall_now().ms, span);
        (void)snprintf(text, sizeof(text), "%s, in %s", short_time(reply, "eta").text, span);
        print_pair("eta", text);
    }
}

static int status(struct session *session, char *const *operands, size_t count)
{
    const struct settings *settings = &session->settings;
    uint64_t offset = settings->offset == UINT64_MAX ? 0 : settings->offset;
    uint64_t limit = settings->limit;
    struct answer answer;
    struct buf line;
    (void)count;
    if (limit == UINT64_MAX) {
        limit = settings->json ? PAGE_DEFAULT : BATCHES_SHOWN;
    }
    buf_init(&line);
    line_begin(&line, "status");
    field_put_string(&line, "id", operands[0]);
    field_put_integer(&line, "limit", limit);
    field_put_integer(&line, "offset", offset);
    int code = session_ask(session, &line, &answer);
    if (code == EXIT_CODE_OK && settings->json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        print_ingestion(answer.json.root);
        putchar('\n');
        code = print_batches(answer.json.root, offset);
    }
    answer_fini(&answer);
    buf_fini(&line);
    return code;
}

const struct command status_command = {
    .name = "status",
    .operands = "ID",
    .summary = "show an ingestion and its batches",
    .least = 1,
    .most = 1,
    OPTIONS(status_options),
    .run = status,
};

// ---- list ----

static bool parse_status(const char *text, void *into)
{
    enum status any;
    return status_parse(text, &any) && conf_text(text, into);
}

static const struct conf_option list_options[] = {
    {"status", "STATUS", NULL, "yet_to_start, triggered, completed, failed or cancelled", "only these",
     parse_status, offsetof(struct settings, status)},
    {"priority", "PRIORITY", NULL, "HIGH, MEDIUM or LOW", "only these", option_priority,
     offsetof(struct settings, priority)},
    {"queue", "NAME", NULL, "the name of a queue", "only those of this queue", conf_text,
     offsetof(struct settings, queue)},
    {"limit", "N", NULL, "a number from 1 to 1000", "ingestions in the answer (default: 50)", conf_count,
     offsetof(struct settings, limit)},
    {"cursor", "CURSOR", NULL, "a next_cursor", "go on where an earlier answer ended", conf_text,
     offsetof(struct settings, cursor)},
};

static void add_ingestion(const cJSON *row, struct table *table)
{
    const char *status = member_text(row, "status");
    const cJSON *progress = json_get(row, "progress");
    table_text(table, member_text(row, "ingestion_id"), TINT_NONE);
    table_text(table, status, tint_of_status(status));
    table_text(table, member_text(row, "queue"), TINT_NONE);
    table_text(table, member_text(row, "priority"), TINT_NONE);
    table_text(table, short_time(row, "created_at").text, TINT_NONE);
    table_count(table, (double)member_count(progress, "total"), TINT_NONE);
    table_count(table, (double)member_count(progress, "completed"), TINT_GOOD);
    table_count(table, (double)member_count(progress, "failed"), TINT_BAD);
    table_count(table, (double)member_count(progress, "cancelled"), TINT_BAD);
}

static const char *const ingestion_columns[] = {"INGESTION", "STATUS",     "QUEUE",   "PRIORITY",   "CREATED",
                                                ">BATCHES",  ">COMPLETED", ">FAILED", ">CANCELLED", NULL};

static int ask_page(struct session *session, const char *cursor, uint64_t limit, struct answer *answer)
{
    const struct settings *settings = &session->settings;
    struct buf line;
    buf_init(&line);
    line_begin(&line, "list");
    if (settings->status) {
        field_put_string(&line, "status", settings->status);
    }
    if (settings->priority) {
        field_put_string(&line, "priority", settings->priority);
    }
    if (settings->queue) {
        field_put_string(&line, "queue", settings->queue);
    }
    if (cursor) {
        field_put_string(&line, "cursor", cursor);
    }
    field_put_integer(&line, "limit", limit);
    int code = session_ask(session, &line, answer);
    buf_fini(&line);
    return code;
}

// A page may be short, even empty, and have a next one: for people pages are put together up to the limit.
static int list_rows(struct session *session, uint64_t limit, struct table *table, char *cursor, size_t size)
{
    uint64_t rows = 0;
    int code;
    do {
        struct answer answer;
        const cJSON *row;
        code = ask_page(session, cursor[0] ? cursor : NULL, limit - rows, &answer);
        cJSON_ArrayForEach(row, json_get(answer.json.root, "ingestions"))
        {
            add_ingestion(row, table);
            rows++;
        }
        (void)snprintf(cursor, size, "%s", member_text(answer.json.root, "next_cursor"));
        answer_fini(&answer);
    } while (code == EXIT_CODE_OK && cursor[0] != '\0' && rows < limit);
    return code;
}

static int list(struct session *session, char *const *operands, size_t count)
{
    const struct settings *settings = &session->settings;
    uint64_t limit = settings->limit == UINT64_MAX ? ROWS_SHOWN : settings->limit;
    char cursor[64] = "";
    struct table table;
    (void)operands, (void)count;
    if (settings->json || limit < 1 ||
        limit > LIST_MAX) { // a limit that is none is the scheduler's to refuse
        struct answer answer;
        int code = ask_page(session, settings->cursor, limit, &answer);
        if (code == EXIT_CODE_OK) {
            answer_print(&answer);
        }
        answer_fini(&answer);
        return code;
    }
    if (settings->cursor &&
        (size_t)snprintf(cursor, sizeof(cursor), "%s", settings->cursor) >= sizeof(cursor)) {
        say("--cursor: \"%.64s\" is not allowed: a next_cursor", settings->cursor);
        return EXIT_CODE_USAGE;
    }
    table_init(&table, ingestion_columns);
    int code = list_rows(session, limit, &table, cursor, sizeof(cursor));
    if (code == EXIT_CODE_OK) {
        code = table_print(&table);
        if (cursor[0] != '\0') {
            printf("more: --cursor %s\n", cursor);
        }
    }
    table_fini(&table);
    return code;
}

const struct command list_command = {
    .name = "list",
    .operands = "",
    .summary = "list ingestions, newest first",
    .details =
        "With --json one page, which may be short although there are more: go on with its next_cursor.",
    OPTIONS(list_options),
    .run = list,
};

// ---- cancel, retry ----

static int change(struct session *session, const char *op, const char *id)
{
    struct answer answer;
    struct buf line;
    buf_init(&line);
    line_begin(&line, op);
    field_put_string(&line, "id", id);
    int code = session_ask(session, &line, &answer);
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        print_ingestion(answer.json.root);
    }
    answer_fini(&answer);
    buf_fini(&line);
    return code;
}

static int cancel(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return change(session, "cancel", operands[0]);
}

static int retry(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return change(session, "retry", operands[0]);
}

const struct command cancel_command = {
    .name = "cancel",
    .operands = "ID",
    .summary = "cancel what has not started; what is in flight runs to its end",
    .least = 1,
    .most = 1,
    .run = cancel,
};

const struct command retry_command = {
    .name = "retry",
    .operands = "ID",
    .summary = "start the failed batches of an ingestion anew",
    .least = 1,
    .most = 1,
    .run = retry,
};
