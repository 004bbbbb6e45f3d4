#include "tests/support/worker.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct worker {
    nng_socket socket;
};

enum call_state { CALL_SENDING, CALL_WAITING, CALL_ANSWERED, CALL_CUT_OFF };

struct call {
    nng_ctx ctx;
    nng_aio *aio;
    _Atomic enum call_state state;
};

struct worker *worker_new(const struct sluice *sluice)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    cr_assert_not_null(worker);
    cr_assert_eq(nng_req0_open(&worker->socket), 0);
    cr_assert_eq(nng_socket_set_ms(worker->socket, NNG_OPT_RECONNMINT, 20), 0);
    cr_assert_eq(nng_socket_set_ms(worker->socket, NNG_OPT_RECONNMAXT, 100), 0);
    cr_assert_eq(nng_dial(worker->socket, sluice->ipc, NULL, 0), 0);
    return worker;
}

void worker_free(struct worker *worker)
{
    (void)nng_close(worker->socket);
    free(worker);
}

static void step(void *arg)
{
    struct call *call = arg;
    if (nng_aio_result(call->aio) != 0) {
        atomic_store(&call->state, CALL_CUT_OFF);
    } else if (atomic_load(&call->state) == CALL_SENDING) {
        atomic_store(&call->state, CALL_WAITING);
        nng_ctx_recv(call->ctx, call->aio);
    } else {
        atomic_store(&call->state, CALL_ANSWERED);
    }
}

static struct call *start(struct worker *worker, const char *line, va_list arguments)
{
    struct call *call = calloc(1, sizeof(*call));
    nng_msg *message;
    char *text;
    int len = vasprintf(&text, line, arguments);
    cr_assert(call && len > 0);
    cr_assert_eq(nng_ctx_open(&call->ctx, worker->socket), 0);
    cr_assert_eq(nng_aio_alloc(&call->aio, step, call), 0);
    cr_assert_eq(nng_msg_alloc(&message, 0), 0);
    cr_assert_eq(nng_msg_append(message, text, (size_t)len), 0);
    free(text);
    nng_aio_set_msg(call->aio, message);
    nng_ctx_send(call->ctx, call->aio);
    return call;
}

struct call *worker_call(struct worker *worker, const char *line, ...)
{
    va_list arguments;
    va_start(arguments, line);
    struct call *call = start(worker, line, arguments);
    va_end(arguments);
    return call;
}

bool call_over(const struct call *call)
{
    return atomic_load(&call->state) >= CALL_ANSWERED;
}

cJSON *call_end(struct call *call)
{
    cJSON *reply = NULL;
    WAIT_FOR(call_over(call));
    nng_aio_stop(call->aio);
    nng_msg *message = nng_aio_get_msg(call->aio);
    if (atomic_load(&call->state) == CALL_ANSWERED) {
        reply = cJSON_ParseWithLength(nng_msg_body(message), nng_msg_len(message));
        cr_assert_not_null(reply, "no JSON: %.*s", (int)nng_msg_len(message), (char *)nng_msg_body(message));
    }
    nng_msg_free(message);
    (void)nng_ctx_close(call->ctx);
    nng_aio_free(call->aio);
    free(call);
    return reply;
}

cJSON *worker_ask(struct worker *worker, const char *line, ...)
{
    va_list arguments;
    va_start(arguments, line);
    struct call *call = start(worker, line, arguments);
    va_end(arguments);
    return call_end(call);
}

void reply_expect_ok(cJSON *reply)
{
    char *text = cJSON_PrintUnformatted(reply);
    cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok")), "%s", text);
    cJSON_free(text);
    cJSON_Delete(reply);
}

void reply_expect_error(cJSON *reply, const char *code)
{
    char *text = cJSON_PrintUnformatted(reply);
    const cJSON *error = cJSON_GetObjectItem(reply, "error");
    cr_assert_not_null(error, "%s", text);
    cr_assert_str_eq(json_text(error, "code"), code, "%s", text);
    cr_assert_str_not_empty(json_text(error, "message"), "%s", text);
    cJSON_free(text);
    cJSON_Delete(reply);
}

static void copy_text(char *into, size_t size, const cJSON *object, const char *name)
{
    int len = snprintf(into, size, "%s", json_text(object, name));
    cr_assert(len >= 0 && (size_t)len < size, "%s", name);
}

struct leased leased_read(cJSON *reply)
{
    struct leased leased = {.count = 0};
    char *text = cJSON_PrintUnformatted(reply);
    const cJSON *batch;
    cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok")), "%s", text);
    copy_text(leased.id, sizeof(leased.id), reply, "lease_id");
    cJSON_ArrayForEach(batch, json_member(reply, "batches"))
    {
        size_t at = leased.count++;
        char *ids = cJSON_PrintUnformatted(json_member(batch, "ids"));
        cr_assert(at < LEASED_MAX, "%s", text);
        copy_text(leased.batches[at].id, ID_TEXT_SIZE, batch, "batch_id");
        copy_text(leased.batches[at].ingestion, ID_TEXT_SIZE, batch, "ingestion_id");
        (void)snprintf(leased.batches[at].ids, sizeof(leased.batches[at].ids), "%.*s", (int)strlen(ids) - 2,
                       ids + 1);
        leased.batches[at].attempt = (int)json_number(batch, "attempt");
        cr_assert(wall_parse(json_text(batch, "deadline"), &leased.batches[at].deadline), "%s", text);
        cJSON_free(ids);
    }
    cJSON_free(text);
    cJSON_Delete(reply);
    return leased;
}
