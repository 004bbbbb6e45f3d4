#include "scheduler/ipc_decode.h"

#include "common/clock.h"
#include "proto/reply.h"

#include <stdlib.h>

size_t ipc_count_lines(const char *text, size_t len)
{
    size_t count = 0, at = 0, line_len;

    while (count <= MESSAGE_LINES_MAX && lines_next(text, len, &at, &line_len)) {
        count++;
    }
    return count;
}

static enum err mint(struct id_minter *minter, struct id *id, bool *has_id, struct fault *fault)
{
    if (*has_id) {
        return ERR_OK;
    }
    enum err err = id_mint(minter, wall_now().ms, id);
    *has_id = err == ERR_OK;
    return err == ERR_OK ? err : fault_set(fault, err, "no random bytes for an ID");
}

// An ingest and a lease have an ID from here on.
static enum err give_id(struct request *request, struct id_minter *minter, struct fault *fault)
{
    if (request->op == OP_INGEST) {
        return mint(minter, &request->ingest.id, &request->ingest.has_id, fault);
    }
    if (request->op == OP_LEASE) {
        return mint(minter, &request->lease.id, &request->lease.has_id, fault);
    }
    return ERR_OK;
}

static void decode_line(const char *line, size_t len, size_t count, struct id_minter *minter,
                        struct ipc_request *into)
{
    struct request *request = &into->request;
    struct fault *fault = &into->fault;

    fault->err = request_from_line(line, len, request, fault);
    if (fault->err != ERR_OK) {
        return;
    }
    // The reply of a message is one: the others would wait as long as the lease.
    enum err err = request->op == OP_LEASE && count > 1
                       ? fault_set(fault, ERR_BAD_REQUEST, "a lease must be alone in its message")
                       : give_id(request, minter, fault);
    if (err != ERR_OK) {
        request_fini(request);
    }
}

enum err ipc_decode(const char *text, size_t len, size_t count, struct id_minter *minter,
                    struct ipc_message *message, struct fault *fault)
{
    const char *line;
    size_t at = 0, line_len;

    if (count == 0) {
        return fault_set(fault, ERR_BAD_REQUEST,
                         "the message is empty: a message is one JSON object or several, one on each line");
    }
    if (count > MESSAGE_LINES_MAX) {
        return fault_set(fault, ERR_BAD_REQUEST, "the message has too many lines: at most %u are allowed",
                         (unsigned)MESSAGE_LINES_MAX);
    }
    message->requests = calloc(count, sizeof(*message->requests));
    if (!message->requests) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for the message");
    }
    while ((line = lines_next(text, len, &at, &line_len))) {
        decode_line(line, line_len, count, minter, &message->requests[message->count++]);
    }
    return ERR_OK;
}

void ipc_free_requests(struct ipc_message *message)
{
    for (size_t i = 0; i < message->count; i++) {
        request_fini(&message->requests[i].request);
    }
    free(message->requests);
    message->requests = NULL;
    message->count = 0;
}
