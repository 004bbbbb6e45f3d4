#include "tests/crash/talk.h"

#include "common/err.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A lease waits less than this, and nothing else takes long. Then the line is sent again.
#define PATIENCE_MS 2000

struct talk {
    const struct sluice *sluice;
    bool ipc;
    nng_socket socket;
};

struct talk *talk_http(const struct sluice *sluice)
{
    struct talk *talk = calloc(1, sizeof(*talk));
    if (!talk) {
        abort();
    }
    talk->sluice = sluice;
    return talk;
}

struct talk *talk_ipc(const struct sluice *sluice)
{
    struct talk *talk = talk_http(sluice);
    talk->ipc = true;
    if (nng_req0_open(&talk->socket) != 0 ||
        nng_socket_set_ms(talk->socket, NNG_OPT_RECVTIMEO, PATIENCE_MS) != 0 ||
        nng_socket_set_ms(talk->socket, NNG_OPT_SENDTIMEO, PATIENCE_MS) != 0 ||
        nng_socket_set_ms(talk->socket, NNG_OPT_RECONNMINT, 10) != 0 ||
        nng_socket_set_ms(talk->socket, NNG_OPT_RECONNMAXT, 50) != 0 ||
        nng_dial(talk->socket, sluice->ipc, NULL, NNG_FLAG_NONBLOCK) != 0) {
        abort();
    }
    return talk;
}

void talk_free(struct talk *talk)
{
    if (talk->ipc) {
        (void)nng_close(talk->socket);
    }
    free(talk);
}

bool talk_is_ipc(const struct talk *talk)
{
    return talk->ipc;
}

static struct answer exchange(struct talk *talk, const char *line)
{
    struct answer answer = {0};
    char *reply = NULL;
    size_t len = 0;
    if (nng_send(talk->socket, (void *)(uintptr_t)line, strlen(line), 0) != 0 ||
        nng_recv(talk->socket, &reply, &len, NNG_FLAG_ALLOC) != 0) {
        return answer;
    }
    answer.json = cJSON_ParseWithLength(reply, len);
    nng_free(reply, len);
    const char *code =
        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(answer.json, "error"), "code"));
    bool ok = cJSON_IsTrue(cJSON_GetObjectItem(answer.json, "ok"));
    answer.status = ok ? 200 : err_status(code ? err_from_code(code, strlen(code)) : ERR_INTERNAL);
    return answer;
}

static char *format(const char *pattern, va_list arguments)
{
    char *text;
    if (vasprintf(&text, pattern, arguments) < 0) {
        abort();
    }
    return text;
}

struct answer talk_line(struct talk *talk, const char *line, ...)
{
    va_list arguments;
    va_start(arguments, line);
    char *text = format(line, arguments);
    va_end(arguments);
    struct answer answer = exchange(talk, text);
    free(text);
    return answer;
}

static struct answer request(const struct talk *talk, const char *method, const char *body,
                             const char *const *headers, const char *path, ...)
    __attribute__((format(printf, 5, 6)));
static struct answer request(const struct talk *talk, const char *method, const char *body,
                             const char *const *headers, const char *path, ...)
{
    va_list arguments;
    va_start(arguments, path);
    char *rest = format(path, arguments), *url;
    va_end(arguments);
    if (asprintf(&url, "%s%s", talk->sluice->url, rest) < 0) {
        abort();
    }
    struct http_response response =
        http_send(&(struct http_request){.method = method, .url = url, .headers = headers, .body = body});
    struct answer answer = {.status = (int)response.status, .json = response.json};
    response.json = NULL;
    http_response_fini(&response);
    free(rest);
    free(url);
    return answer;
}

struct answer talk_ingest(struct talk *talk, const char *members, const char *id, const char *key)
{
    if (talk->ipc) {
        return talk_line(talk, "{\"op\":\"ingest\",\"id\":\"%s\",%s%s%s%s}", id, members,
                         key ? ",\"idempotency_key\":\"" : "", key ? key : "", key ? "\"" : "");
    }
    char header[300], *body;
    (void)snprintf(header, sizeof(header), "Idempotency-Key: %s", key ? key : "");
    if (asprintf(&body, "{%s}", members) < 0) {
        abort();
    }
    struct answer answer =
        request(talk, "POST", body,
                key ? LIST("Content-Type: application/json", header) : LIST("Content-Type: application/json"),
                "/ingest");
    free(body);
    return answer;
}

struct answer talk_about(struct talk *talk, const char *verb, const char *id)
{
    bool status = strcmp(verb, "status") == 0;
    if (talk->ipc) {
        return talk_line(talk, "{\"op\":\"%s\",\"id\":\"%s\"%s}", verb, id, status ? ",\"limit\":1" : "");
    }
    return status ? request(talk, "GET", NULL, NULL, "/status/%s?limit=1", id)
                  : request(talk, "POST", NULL, NULL, "/ingestions/%s/%s", id, verb);
}

void answer_fini(struct answer *answer)
{
    cJSON_Delete(answer->json);
    *answer = (struct answer){0};
}

const char *answer_text(const struct answer *answer, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(answer->json, name));
    return text ? text : "";
}
