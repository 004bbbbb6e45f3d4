#include "proto/reply.h"

#include "common/json.h"

#include <string.h>

#define OK_START "{\"ok\":true"
// What an ingest reply says, in this order; later members may follow.
#define INGEST_ID ",\"ingestion_id\":\""
#define INGEST_REPLAYED "\",\"replayed\":"

static void open_error(struct buf *out, enum err err, const char *message)
{
    buf_str(out, "{\"error\":{\"code\":\"");
    buf_str(out, err_code(err));
    buf_str(out, "\",\"message\":");
    buf_json(out, message, strlen(message));
}

static void close_error(struct buf *out)
{
    buf_str(out, "}}\n");
}

void reply_error(struct buf *out, enum err err, const char *message)
{
    open_error(out, err, message);
    close_error(out);
}

void reply_unreachable(struct buf *out, const char *message, struct wall eta)
{
    char text[WALL_TEXT_SIZE];
    wall_format(eta, text);
    open_error(out, ERR_DEADLINE_UNREACHABLE, message);
    buf_str(out, ",\"eta\":\"");
    buf_str(out, text);
    buf_char(out, '"');
    close_error(out);
}

void reply_open(struct buf *out)
{
    buf_str(out, OK_START);
}

void reply_close(struct buf *out)
{
    buf_str(out, "}\n");
}

void reply_ping(struct buf *out)
{
    reply_open(out);
    buf_str(out, ",\"version\":\"" SLUICE_VERSION "\",\"protocol\":");
    buf_u64(out, PROTOCOL_VERSION);
    reply_close(out);
}

void reply_metrics(struct buf *out, const struct buf *text)
{
    reply_open(out);
    buf_str(out, ",\"text\":");
    buf_json(out, text->len > 0 ? text->data : "", text->len);
    reply_close(out);
}

void reply_ingest(struct buf *out, const struct id *ingestion, bool replayed)
{
    char id[ID_TEXT_SIZE];
    id_format(ingestion, id);
    reply_open(out);
    buf_str(out, INGEST_ID);
    buf_str(out, id);
    buf_str(out, INGEST_REPLAYED);
    buf_str(out, replayed ? "true" : "false");
    reply_close(out);
}

// When the text at *at starts with `prefix`, steps over it.
static bool step(const char **at, const char *end, const char *prefix)
{
    size_t len = strlen(prefix);
    if ((size_t)(end - *at) < len || memcmp(*at, prefix, len) != 0) {
        return false;
    }
    *at += len;
    return true;
}

// What is no moment is left out: it is only a help.
static void take_eta(const cJSON *error, char eta[static WALL_TEXT_SIZE])
{
    const char *text = cJSON_GetStringValue(json_get(error, "eta"));
    struct wall moment;
    if (text && strlen(text) < WALL_TEXT_SIZE && wall_parse(text, &moment)) {
        memcpy(eta, text, strlen(text) + 1);
    }
}

static enum err parse_error(const char *line, size_t len, struct reply *reply)
{
    static const struct json_limits limits = {.max_elements = 16, .max_depth = 4};
    struct json json;
    enum err err = json_parse(line, len, &limits, &json, NULL);
    if (err) {
        return err == ERR_NO_MEMORY ? err : ERR_INTERNAL;
    }

    const cJSON *error = json_get(json.root, "error");
    const cJSON *code = json_get(error, "code");
    const cJSON *message = json_get(error, "message");
    if (!cJSON_IsString(code) || !cJSON_IsString(message)) {
        json_free(&json);
        return ERR_INTERNAL;
    }
    enum err carried = err_from_code(code->valuestring, strlen(code->valuestring));
    if (carried == ERR_OK) { // "ok" is in the list, but it is no error
        carried = ERR_INTERNAL;
    }
    (void)fault_set(&reply->fault, carried, "%s", message->valuestring);
    take_eta(error, reply->eta);
    json_free(&json);
    return ERR_OK;
}

// A good reply is known by its fixed start and not parsed: the scheduler wrote it, and it can be a megabyte
// long.
enum err reply_parse(const char *line, size_t len, struct reply *reply)
{
    const char *at = line;
    const char *end = line + len;
    *reply = (struct reply){0};
    if (!step(&at, end, OK_START)) {
        return parse_error(line, len, reply);
    }
    if (at == end || end[-1] != '}' || (*at != ',' && end - at != 1)) {
        return ERR_INTERNAL;
    }
    reply->ok = true;
    reply->members = at;
    reply->members_len = (size_t)(end - at);
    return ERR_OK;
}

enum err reply_parse_ingest(const struct reply *reply, struct id *ingestion, bool *replayed)
{
    const char *at = reply->members;
    const char *end = at + reply->members_len;
    const size_t id_len = ID_TEXT_SIZE - 1;
    if (!step(&at, end, INGEST_ID) || (size_t)(end - at) < id_len || !id_parse(at, id_len, ingestion)) {
        return ERR_INTERNAL;
    }
    at += id_len;
    if (!step(&at, end, INGEST_REPLAYED)) {
        return ERR_INTERNAL;
    }
    *replayed = step(&at, end, "true");
    if (!*replayed && !step(&at, end, "false")) {
        return ERR_INTERNAL;
    }
    return at < end && (*at == ',' || *at == '}') ? ERR_OK : ERR_INTERNAL;
}

enum err reply_parse_metrics(const struct reply *reply, struct buf *text)
{
    static const struct json_limits limits = {.max_elements = 16, .max_depth = 4};
    struct json json;
    struct buf object;
    buf_init(&object);
    buf_char(&object, '{');
    buf_put(&object, reply->members + 1, reply->members_len - 1); // without the comma
    enum err err = buf_err(&object);
    if (err == ERR_OK) {
        err = json_parse(object.data, object.len, &limits, &json, NULL);
        err = err == ERR_OK || err == ERR_NO_MEMORY ? err : ERR_INTERNAL;
    }
    if (err == ERR_OK) {
        const cJSON *item = json_get(json.root, "text");
        if (cJSON_IsString(item)) {
            buf_str(text, item->valuestring);
        } else {
            err = ERR_INTERNAL;
        }
        json_free(&json);
    }
    buf_fini(&object);
    return err;
}

const char *lines_next(const char *message, size_t message_len, size_t *at, size_t *len)
{
    if (*at >= message_len) {
        return NULL;
    }
    const char *line = message + *at;
    size_t rest = message_len - *at;
    const char *newline = memchr(line, '\n', rest);
    *len = newline ? (size_t)(newline - line) : rest;
    *at += *len + (newline ? 1 : 0);
    return line;
}
