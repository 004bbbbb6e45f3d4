// Whose ingestions, and on which queues: in lines, and back.
#include "proto/request.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ID "0190163d-8694-739b-aea5-966c26f8ad91"
#define NAME_64 "a123456789012345678901234567890123456789012345678901234567890123"
#define SIXTEEN                                                                                              \
    "\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"k\",\"l\",\"m\",\"n\",\"o\",\"p\""

static enum err decode(const char *line, struct request *request, struct fault *fault)
{
    *fault = (struct fault){.err = ERR_OK};
    return request_from_line(line, strlen(line), request, fault);
}

Test(scope, comes_back_as_it_was_written)
{
    static const char *const lines[] = {
        "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[1],\"owner\":\"shop\"}",
        "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[1],\"idempotency_key\":\"k\",\"owner\":\"" NAME_64
        "\"}",
        "{\"op\":\"status\",\"id\":\"" ID "\",\"owner\":\"shop\"}",
        "{\"op\":\"status\",\"id\":\"" ID "\",\"queues\":[\"a\",\"b\"]}",
        "{\"op\":\"list\",\"owner\":\"shop\",\"queues\":[" SIXTEEN "]}",
        "{\"op\":\"cancel\",\"id\":\"" ID "\",\"owner\":\"shop\",\"queues\":[\"a\"]}",
        "{\"op\":\"retry\",\"id\":\"" ID "\",\"owner\":\"shop\"}",
        "{\"op\":\"queue.list\",\"queues\":[\"a\"]}",
    };
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct request request;
        struct request again;
        struct fault fault;
        struct buf line;
        cr_assert_eq(decode(lines[i], &request, &fault), ERR_OK, "%s: %s", lines[i], fault.detail);
        cr_assert_not_null(request.scope, "%s", lines[i]);
        buf_init(&line);
        request_to_line(&request, &line);
        cr_assert_eq(request_from_line(line.data, line.len - 1, &again, &fault), ERR_OK, "%s", fault.detail);
        cr_assert_not_null(again.scope);
        cr_assert_str_eq(again.scope->owner, request.scope->owner);
        cr_assert_eq(again.scope->queue_count, request.scope->queue_count);
        cr_assert_eq(strstr(lines[i], "shop") != NULL, strcmp(again.scope->owner, "shop") == 0);
        for (size_t j = 0; j < again.scope->queue_count; j++) {
            cr_assert_str_eq(again.scope->queues[j], request.scope->queues[j]);
        }
        buf_fini(&line);
        request_fini(&request);
        request_fini(&again);
    }
}

Test(scope, is_refused_by_name)
{
    static const char *const lines[] = {
        "{\"op\":\"status\",\"id\":\"" ID "\",\"owner\":7}",
        "{\"op\":\"status\",\"id\":\"" ID "\",\"owner\":null}",
        "{\"op\":\"status\",\"id\":\"" ID "\",\"owner\":\"\"}",
        "{\"op\":\"status\",\"id\":\"" ID "\",\"owner\":\"Shop\"}",
        "{\"op\":\"status\",\"id\":\"" ID "\",\"owner\":\"" NAME_64 "4\"}",
        "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[1],\"owner\":\"Shop\"}",
        "{\"op\":\"ingest\",\"priority\":\"LOW\",\"ids\":[1],\"queues\":[\"a\"]}",
        "{\"op\":\"queue.list\",\"owner\":\"shop\"}",
        "{\"op\":\"ping\",\"owner\":\"shop\"}",
        "{\"op\":\"queue.put\",\"name\":\"a\",\"owner\":\"shop\"}",
        "{\"op\":\"list\",\"queues\":\"a\"}",
        "{\"op\":\"list\",\"queues\":[]}",
        "{\"op\":\"list\",\"queues\":[1]}",
        "{\"op\":\"list\",\"queues\":[\"A\"]}",
        "{\"op\":\"list\",\"queues\":[\"a\",[\"b\"]]}",
        "{\"op\":\"list\",\"queues\":[" SIXTEEN ",\"q\"]}",
    };
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct request request;
        struct fault fault;
        cr_assert_eq(decode(lines[i], &request, &fault), ERR_INVALID_FIELD, "%s", lines[i]);
        cr_assert(strstr(fault.detail, "owner") || strstr(fault.detail, "queues"), "%s", fault.detail);
    }
    // It is the gateway's to say, and no member of a body.
    static const char body[] = "{\"ids\":[1],\"priority\":\"LOW\",\"owner\":\"shop\"}";
    struct request request;
    cr_assert_eq(request_from_body(body, sizeof(body) - 1, &request, NULL), ERR_INVALID_FIELD);
}

Test(scope, has_the_queues_it_names_or_all)
{
    static const char queues[][QUEUE_NAME_SIZE] = {"a", "mail"};
    struct scope *some = scope_new("shop", queues, COUNT(queues));
    struct scope *all = scope_new(NULL, NULL, 0);
    cr_assert(some && all);
    cr_assert(scope_has_queue(some, "a") && scope_has_queue(some, "mail"));
    cr_assert_not(scope_has_queue(some, "b") || scope_has_queue(some, "mai") || scope_has_queue(some, ""));
    cr_assert(scope_has_queue(all, "b") && scope_has_queue(NULL, "b"));
    cr_assert_str_eq(all->owner, "");
    free(some);
    free(all);
}
