// An IPC message to its requests: one for each line, each as its line alone would give it.
#include "scheduler/ipc_decode.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

#define CHECKED 64 // lines one by one; more take long, and are no different

static size_t lines_of(const char *text, size_t len)
{
    size_t count = len > 0 && text[len - 1] != '\n';
    for (size_t i = 0; i < len; i++) {
        count += text[i] == '\n';
    }
    return count;
}

static const struct id *id_of(struct request *request, bool **has_id)
{
    *has_id = request->op == OP_INGEST ? &request->ingest.has_id : &request->lease.has_id;
    return request->op == OP_INGEST ? &request->ingest.id : &request->lease.id;
}

// What was minted is taken over: all else must be the same.
static void expect_minted(struct request *decoded, struct request *alone)
{
    bool *decoded_has, *alone_has;
    const struct id *id = id_of(decoded, &decoded_has);
    (void)id_of(alone, &alone_has);
    REQUIRE(*decoded_has);
    if (!*alone_has) {
        *alone_has = true;
        if (alone->op == OP_INGEST) {
            alone->ingest.id = *id;
        } else {
            alone->lease.id = *id;
        }
    }
}

static void expect_request(struct ipc_request *decoded, const char *line, size_t len, size_t count)
{
    struct request alone;
    struct fault fault = {0};
    enum err err = request_from_line(line, len, &alone, &fault);
    if (err == ERR_OK && alone.op == OP_LEASE && count > 1) {
        REQUIRE(decoded->fault.err == ERR_BAD_REQUEST);
        request_fini(&alone);
        err = ERR_BAD_REQUEST;
    }
    REQUIRE(decoded->fault.err == err);
    if (err != ERR_OK) {
        fuzz_refused(err, &decoded->fault);
        return;
    }
    if (alone.op == OP_INGEST || alone.op == OP_LEASE) {
        expect_minted(&decoded->request, &alone);
    }
    REQUIRE(fuzz_same_request(&decoded->request, &alone));
    fuzz_round_trip(&decoded->request);
    request_fini(&alone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct ipc_message message = {.requests = NULL};
    struct fault fault = {0};
    struct id_minter minter;
    id_minter_init(&minter);
    size_t count = ipc_count_lines(text, size), lines = lines_of(text, size);
    REQUIRE(count == (lines > MESSAGE_LINES_MAX ? MESSAGE_LINES_MAX + 1 : lines));
    enum err err = ipc_decode(text, size, count, &minter, &message, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
        REQUIRE(message.count == 0 && !message.requests);
    } else {
        REQUIRE(message.count == count);
        const char *end = text + size;
        for (size_t i = 0; i < count && i < CHECKED; i++) {
            const char *newline = memchr(text, '\n', (size_t)(end - text));
            const char *stop = newline ? newline : end;
            expect_request(&message.requests[i], text, (size_t)(stop - text), count);
            text = newline ? newline + 1 : end;
        }
    }
    ipc_free_requests(&message);
    REQUIRE(message.count == 0 && !message.requests);
    id_minter_fini(&minter);
    return 0;
}
