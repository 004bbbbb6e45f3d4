// An HTTP body to a request, of an ingest and of a change of a queue. What is taken goes over IPC unchanged,
// and its IDs as they were written.
#include "gateway/api.h"
#include "scheduler/settings.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

// What a body that was taken holds outside its strings and inside its only array: the IDs, as they came.
static void expect_digits(const char *body, size_t len, const struct ids *ids)
{
    size_t at = 0;
    bool quoted = false, inside = false;
    for (size_t i = 0; i < len; i++) {
        char c = body[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == ']') {
            inside = c == '[';
        } else if (inside && !strchr(" \t\r\n", c)) {
            REQUIRE(at < ids->len && ids->text[at] == c);
            at++;
        }
    }
    REQUIRE(at == ids->len);
}

static void expect_values(const struct ids *ids)
{
    uint64_t largest = 0;
    uint32_t count = 0;
    for (const char *at = ids->text; count == 0 || *at++ == ',';) {
        char *end;
        uint64_t value = strtoull(at, &end, 10);
        REQUIRE(end > at && value >= 1 && value <= ID_VALUE_MAX);
        largest = value > largest ? value : largest;
        at = end;
        count++;
    }
    REQUIRE(count == ids->count && largest == ids->largest);
}

// Strings may be escaped in another way; their values are the same.
static void expect_strings(const char *body, size_t len, const struct ids *ids)
{
    char *list = malloc(ids->len + 3);
    REQUIRE(list);
    list[0] = '[';
    memcpy(list + 1, ids->text, ids->len);
    memcpy(list + 1 + ids->len, "]", 2);
    cJSON *ours = cJSON_Parse(list);
    cJSON *theirs = cJSON_ParseWithLength(body, len);
    const cJSON *a = ours ? ours->child : NULL;
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(theirs, "ids")->child;
    uint32_t count = 0;
    for (; a && b; a = a->next, b = b->next, count++) {
        REQUIRE(cJSON_IsString(a) && cJSON_IsString(b) && strcmp(a->valuestring, b->valuestring) == 0);
    }
    REQUIRE(!a && !b && count == ids->count);
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
    free(list);
}

static void ingest(const char *body, size_t len)
{
    static const struct id id = {{0x01, 0xa2, 0x09, 0xdc, 0x43, 0x22, 0x76, 0x22, 0xa8, 0x5d}};
    struct request request;
    struct fault fault = {0};
    fuzz_plain(body, len, PLAIN_BODY);
    enum err err = request_from_body(body, len, &request, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
        REQUIRE(api_ingest(body, len, "key", &id, &request, NULL) == err);
        return;
    }
    const struct ids *ids = &request.ingest.ids;
    REQUIRE(request.op == OP_INGEST && !request.ingest.has_id && !request.ingest.idempotency_key);
    REQUIRE(ids->count >= 1 && ids->count <= IDS_MAX);
    REQUIRE(ids->len == strlen(ids->text) && ids->len <= len);
    REQUIRE(ids_after(ids->text, ids->text + ids->len, ids->count) == ids->text + ids->len);
    if (ids->kind == IDS_INTEGER) {
        expect_digits(body, len, ids);
        expect_values(ids);
    } else {
        expect_strings(body, len, ids);
    }
    fuzz_round_trip(&request);
    request_fini(&request);
    REQUIRE(api_ingest(body, len, "key", &id, &request, &fault) == ERR_OK);
    fuzz_round_trip(&request);
    request_fini(&request);
}

static void put(const char *body, size_t len)
{
    struct request request;
    struct queue_row row;
    struct fault fault = {0};
    enum err err = request_from_put("mail", body, len, &request, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
        return;
    }
    REQUIRE(request.op == OP_QUEUE_PUT && strcmp(request.queue.name, "mail") == 0);
    fuzz_round_trip(&request);
    REQUIRE(settings_defaults(&row, "mail") == ERR_OK);
    err = settings_change(&row, &request.queue.change, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
    }
    queue_row_fini(&row);
    request_fini(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ingest((const char *)data, size);
    put((const char *)data, size);
    return 0;
}
