// queue list, show, pause, resume, retry, delete.
#include "cli/queue.h"

#include "cli/options.h"
#include "cli/queue_table.h"
#include "proto/fields.h"

#include <string.h>

#define NAME_SIZE 96

// ---- One queue ----

static void print_value(const char *group, const cJSON *item)
{
    char name[NAME_SIZE];
    struct buf text;
    uint64_t count;
    (void)snprintf(name, sizeof(name), "%s%s%s", group, group[0] ? "." : "", item->string);
    buf_init(&text);
    if (cJSON_IsString(item)) {
        buf_str(&text, item->valuestring);
    } else if (json_integer(item, &count)) {
        buf_u64(&text, count);
    } else if (cJSON_IsNumber(item)) {
        buf_printf(&text, "%.3f", cJSON_GetNumberValue(item));
    } else {
        buf_str(&text, cJSON_IsBool(item) ? (cJSON_IsTrue(item) ? "yes" : "no") : "-");
    }
    if (text.data) {
        utf8_scrub(text.data, text.len);
        printf("%-22s %s\n", name, text.data);
    }
    buf_fini(&text);
}

void queue_print(const cJSON *queue)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, queue)
    {
        const cJSON *inner;
        if (!cJSON_IsObject(item) && strcmp(item->string, "ok") != 0) {
            print_value("", item);
        }
        cJSON_ArrayForEach(inner, item) // of an object; nothing else here has members
        {
            print_value(item->string, inner);
        }
    }
}

static int ask(struct session *session, const char *op, const char *name, struct answer *answer)
{
    struct buf line;
    buf_init(&line);
    line_begin(&line, op);
    field_put_string(&line, "name", name);
    int code = session_ask(session, &line, answer);
    buf_fini(&line);
    return code;
}

static int show_after(struct session *session, const char *op, const char *name)
{
    struct answer answer;
    int code = ask(session, op, name, &answer);
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        queue_print(answer.json.root);
    }
    answer_fini(&answer);
    return code;
}

static int show(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return show_after(session, "queue.get", operands[0]);
}

// ---- Changes: one line says what has become of it ----

static int change(struct session *session, const char *op, const char *name, const char *done)
{
    struct answer answer;
    int code = ask(session, op, name, &answer);
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        printf("%s %s\n", member_text(answer.json.root, "name"), done);
    }
    answer_fini(&answer);
    return code;
}

static int pause_queue(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return change(session, "queue.pause", operands[0], "is paused");
}

static int resume_queue(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return change(session, "queue.resume", operands[0], "is resumed");
}

static int retry_queue(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return change(session, "queue.retry", operands[0], "starts its failed batches anew");
}

static int delete_queue(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return change(session, "queue.delete", operands[0], "is deleted");
}

// ---- All of them ----

static const struct conf_option list_options[] = {
    {"limit", "N", NULL, "a number from 1 to 1000",
     "queues in the answer (default: all in a table, else 1000)", conf_count,
     offsetof(struct settings, limit)},
    {"cursor", "NAME", NULL, "a next_cursor", "go on where an earlier answer ended", conf_text,
     offsetof(struct settings, cursor)},
};

static int ask_page(struct session *session, const char *cursor, struct answer *answer)
{
    struct buf line;
    buf_init(&line);
    line_begin(&line, "queue.list");
    if (session->settings.limit != UINT64_MAX) {
        field_put_integer(&line, "limit", session->settings.limit);
    }
    if (cursor) {
        field_put_string(&line, "cursor", cursor);
    }
    int code = session_ask(session, &line, answer);
    buf_fini(&line);
    return code;
}

// For people all pages, unless they ask for one.
static int list_rows(struct session *session, struct table *table, char *cursor, size_t size)
{
    int code;
    do {
        struct answer answer;
        code = ask_page(session, cursor[0] ? cursor : session->settings.cursor, &answer);
        if (code == EXIT_CODE_OK &&
            !queue_table_add_all(table, json_get(answer.json.root, "queues"), QUEUES_AS_THEY_COME)) {
            code = session_error(session, "internal", "out of memory");
        }
        (void)snprintf(cursor, size, "%s", member_text(answer.json.root, "next_cursor"));
        answer_fini(&answer);
    } while (code == EXIT_CODE_OK && cursor[0] != '\0' && session->settings.limit == UINT64_MAX);
    return code;
}

static int list(struct session *session, char *const *operands, size_t count)
{
    char cursor[QUEUE_NAME_SIZE] = "";
    struct table table;
    (void)operands, (void)count;
    if (session->settings.json) {
        struct answer answer;
        int code = ask_page(session, session->settings.cursor, &answer);
        if (code == EXIT_CODE_OK) {
            answer_print(&answer);
        }
        answer_fini(&answer);
        return code;
    }
    queue_table_init(&table);
    int code = list_rows(session, &table, cursor, sizeof(cursor));
    if (code == EXIT_CODE_OK) {
        code = table_print(&table);
        if (cursor[0] != '\0') {
            printf("more: --cursor %s\n", cursor);
        }
    }
    table_fini(&table);
    return code;
}

const struct command queue_list_command = {
    .name = "queue list",
    .operands = "",
    .summary = "list the queues with their figures",
    .details =
        "With --json one page, which may be short although there are more: go on with its next_cursor.",
    OPTIONS(list_options),
    .run = list,
};

#define ONE_QUEUE .operands = "NAME", .least = 1, .most = 1

const struct command queue_show_command = {
    .name = "queue show",
    .summary = "show a queue's settings and figures",
    .run = show,
    ONE_QUEUE,
};
const struct command queue_pause_command = {
    .name = "queue pause",
    .summary = "stop dispatching; ingesting goes on",
    .run = pause_queue,
    ONE_QUEUE,
};
const struct command queue_resume_command = {
    .name = "queue resume",
    .summary = "go on with dispatching",
    .run = resume_queue,
    ONE_QUEUE,
};
const struct command queue_retry_command = {
    .name = "queue retry",
    .summary = "start all failed batches of a queue anew",
    .run = retry_queue,
    ONE_QUEUE,
};
const struct command queue_delete_command = {
    .name = "queue delete",
    .summary = "delete an empty queue",
    .run = delete_queue,
    ONE_QUEUE,
};
