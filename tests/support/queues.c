#include "tests/support/queues.h"

#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- requests ----

struct http_response ask(const struct sluice *sluice, const char *method, const char *body, const char *path,
                         ...)
{
    char url[512];
    va_list arguments;
    va_start(arguments, path);
    int at = snprintf(url, sizeof(url), "%s", sluice->url);
    int len = vsnprintf(url + at, sizeof(url) - (size_t)at, path, arguments);
    va_end(arguments);
    cr_assert(len >= 0 && (size_t)(at + len) < sizeof(url));
    return http_send(&(struct http_request){.method = method, .url = url, .body = body});
}

struct http_response ask_refused(const struct sluice *sluice, const char *method, const char *path,
                                 long status, const char *code)
{
    struct http_response response = ask(sluice, method, NULL, "%s", path);
    cr_assert_eq(response.status, status, "%s %s: %ld %s", method, path, response.status, response.body);
    cr_assert_str_eq(json_text(response.json, "code"), code, "%s", response.body);
    return response;
}

static void expect_ok(const struct http_response *response)
{
    cr_assert_eq(response->status, 200, "status %ld: %s", response->status, response->body);
    cr_assert_not_null(response->json, "%s", response->body);
}

// ---- queues ----

void queue_put(const struct sluice *sluice, const char *name, const char *settings, ...)
{
    char members[1024], body[1032];
    va_list arguments;
    va_start(arguments, settings);
    int len = vsnprintf(members, sizeof(members), settings, arguments);
    va_end(arguments);
    cr_assert(len >= 0 && (size_t)len < sizeof(members));
    (void)snprintf(body, sizeof(body), "{%s}", members);
    struct http_response response = ask(sluice, "PUT", body, "/queues/%s", name);
    expect_ok(&response);
    http_response_fini(&response);
}

void queue_do(const struct sluice *sluice, const char *name, const char *what)
{
    struct http_response response = ask(sluice, "POST", NULL, "/queues/%s/%s", name, what);
    expect_ok(&response);
    http_response_fini(&response);
}

struct http_response queue_get(const struct sluice *sluice, const char *name)
{
    struct http_response response = sluice_get(sluice, "/queues/%s", name);
    expect_ok(&response);
    return response;
}

double queue_unfinished(const struct sluice *sluice, const char *name)
{
    struct http_response queue = queue_get(sluice, name);
    const cJSON *waiting = json_member(queue.json, "waiting");
    double left = json_number(queue.json, "delayed") + json_number(queue.json, "in_flight") +
                  json_number(waiting, "HIGH") + json_number(waiting, "MEDIUM") + json_number(waiting, "LOW");
    http_response_fini(&queue);
    return left;
}

double queue_figure(const struct sluice *sluice, const char *name, const char *figure)
{
    struct http_response response = queue_get(sluice, name);
    const cJSON *member = json_member(response.json, figure);
    double value = 0;
    if (cJSON_IsObject(member)) {
        const cJSON *part;
        cJSON_ArrayForEach(part, member)
        {
            value += part->valuedouble;
        }
    } else {
        value = json_number(response.json, figure);
    }
    http_response_fini(&response);
    return value;
}

bool queue_paused_by(const struct sluice *sluice, const char *name, const char *reason)
{
    struct http_response response = queue_get(sluice, name);
    const cJSON *member = json_member(response.json, "paused_reason");
    bool is =
        reason ? cJSON_IsString(member) && strcmp(member->valuestring, reason) == 0 : cJSON_IsNull(member);
    http_response_fini(&response);
    return is;
}

struct wall queue_paused_until(const struct sluice *sluice, const char *name)
{
    struct http_response response = queue_get(sluice, name);
    const cJSON *member = json_member(response.json, "paused_until");
    struct wall until = {0};
    cr_assert(cJSON_IsNull(member) || wall_parse(json_text(response.json, "paused_until"), &until), "%s",
              response.body);
    http_response_fini(&response);
    return until;
}

// ---- ingestions ----

struct ingested queue_ingest(const struct sluice *sluice, const char *name, const char *priority,
                             const char *ids, const char *more)
{
    char *body;
    cr_assert(asprintf(&body, "{\"queue\":\"%s\",\"ids\":%s,\"priority\":\"%s\"%s}", name, ids, priority,
                       more) > 0);
    struct ingested ingested = sluice_ingest(sluice, body);
    free(body);
    return ingested;
}

struct ingested queue_ingest_range(const struct sluice *sluice, const char *name, const char *priority,
                                   uint64_t first, size_t count)
{
    struct buf ids;
    buf_init(&ids);
    for (size_t i = 0; i < count; i++) {
        buf_char(&ids, i > 0 ? ',' : '[');
        buf_u64(&ids, first + i);
    }
    buf_char(&ids, ']');
    struct ingested ingested = queue_ingest(sluice, name, priority, ids.data, "");
    buf_fini(&ids);
    return ingested;
}

void ingestion_do(const struct sluice *sluice, const char *id, const char *what)
{
    struct http_response response = ask(sluice, "POST", NULL, "/ingestions/%s/%s", id, what);
    expect_ok(&response);
    cr_assert_str_eq(json_text(response.json, "ingestion_id"), id);
    http_response_fini(&response);
}

bool ingestion_is(const struct sluice *sluice, const char *id, const char *status)
{
    struct http_response response = sluice_get(sluice, "/status/%s?limit=1", id);
    expect_ok(&response);
    bool is = strcmp(json_text(response.json, "status"), status) == 0;
    http_response_fini(&response);
    return is;
}

int ingestion_progress(const struct sluice *sluice, const char *id, const char *status)
{
    struct http_response response = sluice_get(sluice, "/status/%s?limit=1", id);
    expect_ok(&response);
    int count = (int)json_number(json_member(response.json, "progress"), status);
    http_response_fini(&response);
    return count;
}

static struct wall time_of(const cJSON *batch, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(batch, name);
    struct wall t = {0};
    cr_assert(!member || (cJSON_IsString(member) && wall_parse(member->valuestring, &t)), "%s is no time",
              name);
    return t;
}

struct batch_seen batch_get(const struct sluice *sluice, const char *id, int index)
{
    struct http_response response = sluice_get(sluice, "/status/%s?offset=%d&limit=1", id, index);
    expect_ok(&response);
    const cJSON *batch = cJSON_GetArrayItem(json_member(response.json, "batches"), 0);
    cr_assert_not_null(batch, "%s", response.body);
    const cJSON *attempts = cJSON_GetObjectItemCaseSensitive(batch, "attempts");
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(batch, "error");
    struct batch_seen seen = {
        .attempts = attempts ? (int)attempts->valuedouble : 0,
        .interrupted = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(batch, "interrupted")),
        .triggered = time_of(batch, "triggered_at"),
        .completed = time_of(batch, "completed_at"),
    };
    (void)snprintf(seen.id, sizeof(seen.id), "%s", json_text(batch, "batch_id"));
    (void)snprintf(seen.status, sizeof(seen.status), "%s", json_text(batch, "status"));
    (void)snprintf(seen.error, sizeof(seen.error), "%s", error ? error->valuestring : "");
    http_response_fini(&response);
    return seen;
}

void time_from_now(int64_t ms, char text[static WALL_TEXT_SIZE])
{
    wall_format((struct wall){.ms = wall_now().ms + ms}, text);
}
