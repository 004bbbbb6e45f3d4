// The scheduler's own protocol, spoken by a client that is not ours: nngcat.
#include "common/buf.h"
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ID "0190163d-8694-739b-aea5-966c26f8ad91"
#define ABSENT_ID "0190163d-8694-739b-aea5-966c26f8ad92"
#define LINES_MAX 64

TestSuite(ipc, .fini = sluice_cleanup);

struct replies {
    char *text;
    cJSON *lines[LINES_MAX];
    size_t count;
};

// Sends one message, as it is; expects a whole reply of JSON objects, a line each.
static struct replies send_message(const struct sluice *sluice, const char *message)
{
    struct replies replies = {0};
    char *path = sluice_path(sluice, "message"), *reply = sluice_path(sluice, "reply"),
         *log = sluice_path(sluice, "nngcat.log");
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs(message, file) >= 0 && fclose(file) == 0);
    int code = process_run(&(struct process_plan){
        .program = "/usr/bin/nngcat",
        .arguments = LIST("--req", "--dial", sluice->ipc, "--recv-timeout", "60", "--raw", "--file", path),
        .output = reply,
        .log = log});
    cr_assert_eq(code, 0, "nngcat ended with %d", code);
    replies.text = file_text(reply);
    char *rest = replies.text;
    for (char *line; (line = strsep(&rest, "\n")) && rest; replies.count++) {
        cr_assert(replies.count < LINES_MAX);
        replies.lines[replies.count] = cJSON_Parse(line);
        cr_assert_not_null(replies.lines[replies.count], "no JSON: %s", line);
    }
    free(path);
    free(reply);
    free(log);
    return replies;
}

static void replies_fini(struct replies *replies)
{
    for (size_t i = 0; i < replies->count; i++) {
        cJSON_Delete(replies->lines[i]);
    }
    free(replies->text);
}

static void expect_ok(const cJSON *reply)
{
    char *text = cJSON_PrintUnformatted(reply);
    cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok")), "%s", text);
    cJSON_free(text);
}

static void expect_error(const cJSON *reply, const char *code, const char *named)
{
    char *text = cJSON_PrintUnformatted(reply);
    const cJSON *error = json_member(reply, "error");
    cr_assert_str_eq(json_text(error, "code"), code, "%s", text);
    cr_assert_null(cJSON_GetObjectItem(reply, "ok"), "%s", text);
    cr_assert(!named || strstr(json_text(error, "message"), named), "%s is not named: %s", named, text);
    cJSON_free(text);
}

static struct sluice *scheduler_start(const char *const *flags)
{
    struct sluice *sluice = sluice_new(flags, NULL);
    sluice_launch(sluice, SCHEDULER);
    return sluice;
}

Test(ipc, as_in_the_manual)
{
    // --data instead of --file: the line has no newline.
    struct sluice *sluice = scheduler_start(NULL);
    char *reply = sluice_path(sluice, "reply"), *log = sluice_path(sluice, "nngcat.log");
    (void)process_run(
        &(struct process_plan){.program = "/usr/bin/nngcat",
                               .arguments = LIST("--req", "--dial", sluice->ipc, "--recv-timeout", "60",
                                                 "--raw", "--data", "{\"op\":\"ping\"}"),
                               .output = reply,
                               .log = log});
    char *text = file_text(reply);
    cr_assert_str_eq(text, "{\"ok\":true,\"version\":\"" SLUICE_VERSION "\",\"protocol\":1}\n");
    free(text);
    free(reply);
    free(log);
    sluice_end(sluice);
}

Test(ipc, many_lines_have_a_reply_each_in_their_order)
{
    struct sluice *sluice = scheduler_start(LIST("--rate", "1/1h"));
    struct replies replies = send_message(sluice, "{\"op\":\"status\",\"id\":\"" ID "\"}\n"
                                                  "{\"op\":\"ingest\",\"id\":\"" ID
                                                  "\",\"ids\":[1,2,3,4,5],\"priority\":\"HIGH\"}\n"
                                                  "{\"op\":\"dance\"}\n"
                                                  "not JSON\n"
                                                  "\n"
                                                  "{\"op\":\"ping\"}\n"
                                                  "{\"op\":\"list\",\"priority\":\"HIGH\"}\n"
                                                  "{\"op\":\"stats\"}\n"
                                                  "{\"op\":\"status\",\"id\":\"" ABSENT_ID "\"}");
    cr_assert_eq(replies.count, 9, "%zu replies", replies.count);
    // What is read is read after all that is written.
    expect_ok(replies.lines[0]);
    cr_assert_str_eq(json_text(replies.lines[0], "ingestion_id"), ID);
    cr_assert_str_eq(json_text(replies.lines[0], "priority"), "HIGH");
    cr_assert_eq(json_number(replies.lines[0], "batches_total"), 2);
    expect_ok(replies.lines[1]);
    cr_assert_str_eq(json_text(replies.lines[1], "ingestion_id"), ID);
    cr_assert(cJSON_IsFalse(json_member(replies.lines[1], "replayed")));
    expect_error(replies.lines[2], "bad_request", "dance");
    expect_error(replies.lines[3], "malformed_json", NULL);
    expect_error(replies.lines[4], "malformed_json", NULL);
    expect_ok(replies.lines[5]);
    cr_assert_eq(json_number(replies.lines[5], "protocol"), 1);
    expect_ok(replies.lines[6]);
    const cJSON *row = cJSON_GetArrayItem(json_member(replies.lines[6], "ingestions"), 0);
    cr_assert_str_eq(json_text(row, "ingestion_id"), ID);
    cr_assert(cJSON_IsNull(json_member(replies.lines[6], "next_cursor")));
    expect_ok(replies.lines[7]);
    const cJSON *queue = cJSON_GetArrayItem(json_member(replies.lines[7], "queues"), 0);
    cr_assert_str_eq(json_text(queue, "name"), "default");
    cr_assert_str_eq(json_text(queue, "rate"), "1/h");
    expect_error(replies.lines[8], "not_found", NULL);
    replies_fini(&replies);
    sluice_end(sluice);
}

Test(ipc, an_id_is_accepted_once)
{
    static const char line[] = "{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[1,2],\"priority\":\"LOW\"}\n";
    struct sluice *sluice = scheduler_start(LIST("--rate", "1/1h"));
    struct replies replies = send_message(sluice, line);
    cr_assert(cJSON_IsFalse(json_member(replies.lines[0], "replayed")));
    replies_fini(&replies);
    replies =
        send_message(sluice, "{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[1,2],\"priority\":\"LOW\"}\n"
                             "{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[2,1],\"priority\":\"LOW\"}\n"
                             "{\"op\":\"ingest\",\"id\":\"" ID "\",\"ids\":[1,2],\"priority\":\"HIGH\"}\n"
                             "{\"op\":\"list\"}\n");
    cr_assert(cJSON_IsTrue(json_member(replies.lines[0], "replayed")));
    cr_assert_str_eq(json_text(replies.lines[0], "ingestion_id"), ID);
    expect_error(replies.lines[1], "id_reused", NULL);
    expect_error(replies.lines[2], "id_reused", NULL);
    cr_assert_eq(cJSON_GetArraySize(json_member(replies.lines[3], "ingestions")), 1);
    replies_fini(&replies);
    sluice_end(sluice);
}

Test(ipc, without_an_id_one_is_minted_each_time)
{
    struct sluice *sluice = scheduler_start(LIST("--rate", "1/1h"));
    struct replies replies = send_message(
        sluice, "{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"LOW\"}\n"
                "{\"op\":\"ingest\",\"ids\":[1,2],\"priority\":\"LOW\"}\n"
                "{\"op\":\"ingest\",\"ids\":[3],\"priority\":\"LOW\",\"idempotency_key\":\"k\"}\n"
                "{\"op\":\"ingest\",\"ids\":[3],\"priority\":\"LOW\",\"idempotency_key\":\"k\"}\n"
                "{\"op\":\"ingest\",\"ids\":[4],\"priority\":\"LOW\",\"idempotency_key\":\"k\"}\n");
    char minted[2][ID_TEXT_SIZE];
    for (int i = 0; i < 2; i++) {
        struct id id;
        expect_ok(replies.lines[i]);
        (void)snprintf(minted[i], sizeof(minted[i]), "%s", json_text(replies.lines[i], "ingestion_id"));
        cr_assert(id_parse(minted[i], strlen(minted[i]), &id));
    }
    cr_assert_str_neq(minted[0], minted[1]);
    cr_assert(cJSON_IsFalse(json_member(replies.lines[2], "replayed")));
    cr_assert(cJSON_IsTrue(json_member(replies.lines[3], "replayed")));
    cr_assert_str_eq(json_text(replies.lines[2], "ingestion_id"),
                     json_text(replies.lines[3], "ingestion_id"));
    expect_error(replies.lines[4], "idempotency_key_reused", NULL);
    replies_fini(&replies);
    sluice_end(sluice);
}

Test(ipc, each_line_is_refused_by_name)
{
    static const struct {
        const char *line, *code, *named;
    } cases[] = {
        {"[]", "bad_request", NULL},
        {"{}", "bad_request", "op"},
        {"{\"op\":1}", "bad_request", "op"},
        {"{\"op\":\"PING\"}", "bad_request", "op"},
        {"{\"op\":\"ping\",\"extra\":1}", "invalid_field", "extra"},
        {"{\"op\":\"ping\"}x", "malformed_json", NULL},
        {"{\"op\":\"status\"}", "invalid_field", "id"},
        {"{\"op\":\"status\",\"id\":\"1\"}", "not_found", NULL},
        {"{\"op\":\"status\",\"id\":\"" ID "\",\"limit\":0}", "invalid_field", "limit"},
        {"{\"op\":\"status\",\"id\":\"" ID "\",\"limit\":\"1\"}", "invalid_field", "limit"},
        {"{\"op\":\"list\",\"status\":\"done\"}", "invalid_field", "status"},
        {"{\"op\":\"list\",\"limit\":1001}", "invalid_field", "limit"},
        {"{\"op\":\"ingest\",\"ids\":[1]}", "invalid_field", "priority"},
        {"{\"op\":\"ingest\",\"ids\":[0],\"priority\":\"LOW\"}", "id_out_of_range", "ids[0]"},
        {"{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\",\"queue\":\"other\"}", "unknown_queue",
         "other"},
        {"{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\",\"id\":\"1\"}", "invalid_field", "id"},
        {"{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\",\"idempotency_key\":\"\"}", "invalid_field",
         "idempotency_key"},
    };
    struct buf message;
    buf_init(&message);
    for (size_t i = 0; i < COUNT(cases); i++) {
        buf_printf(&message, "%s\n", cases[i].line);
    }
    struct sluice *sluice = scheduler_start(NULL);
    struct replies replies = send_message(sluice, message.data);
    cr_assert_eq(replies.count, COUNT(cases));
    for (size_t i = 0; i < COUNT(cases); i++) {
        expect_error(replies.lines[i], cases[i].code, cases[i].named);
    }
    replies_fini(&replies);
    buf_fini(&message);
    sluice_end(sluice);
}

Test(ipc, a_message_has_a_limit)
{
    struct sluice *sluice = scheduler_start(NULL);
    struct buf message;
    buf_init(&message);
    for (int i = 0; i < 16385; i++) {
        buf_str(&message, "{\"op\":\"ping\"}\n");
    }
    struct replies replies = send_message(sluice, message.data);
    cr_assert_eq(replies.count, 1);
    expect_error(replies.lines[0], "bad_request", NULL);
    replies_fini(&replies);
    buf_fini(&message);

    replies = send_message(sluice, "{\"op\":\"ping\"}"); // it lives
    expect_ok(replies.lines[0]);
    replies_fini(&replies);
    sluice_end(sluice);
}

Test(ipc, replies_that_do_not_fit_together_are_asked_for_alone)
{
    enum { PAGES = 12 }; // of close to 1 MiB each, and 8 MiB is a reply's limit
    struct sluice *sluice = scheduler_start(LIST("--rate", "1/1h", "--batch-size", "1"));
    struct buf message;
    char *ids = ingest_body("LOW", UINT64_C(1000000000000000), 20000);
    size_t alone = 0;
    buf_init(&message);
    buf_printf(&message, "{\"op\":\"ingest\",\"id\":\"" ID "\",%s\n", ids + 1);
    struct replies replies = send_message(sluice, message.data);
    expect_ok(replies.lines[0]);
    replies_fini(&replies);
    buf_reset(&message);
    for (int i = 0; i < PAGES; i++) {
        buf_str(&message, "{\"op\":\"status\",\"id\":\"" ID "\",\"limit\":10000}\n");
    }
    replies = send_message(sluice, message.data);
    cr_assert_eq(replies.count, PAGES);
    for (size_t i = 0; i < replies.count; i++) {
        if (cJSON_GetObjectItem(replies.lines[i], "error")) {
            expect_error(replies.lines[i], "try_alone", NULL);
            alone++;
        }
    }
    cr_assert(alone > 0 && alone < PAGES, "%zu", alone);
    replies_fini(&replies);
    buf_fini(&message);
    free(ids);
    sluice_end(sluice);
}
