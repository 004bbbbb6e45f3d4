// verify: checks a data directory that no scheduler has open; sluice-verify does the same, by the same
// library.
#include "cli/session.h"
#include "scheduler/verify.h"

#include <inttypes.h>
#include <string.h>

static bool parse_dir(const char *text, void *into)
{
    return text[0] != '\0' && conf_text(text, into);
}

static const struct conf_option options[] = {
    {"data", "DIR", "./data", "a directory", "the scheduler's data directory", parse_dir,
     offsetof(struct settings, data)},
};

// What is wrong: a line each, or the items of a JSON array.
struct findings {
    bool json;
    struct buf items;
};

static void find(void *user, const char *line)
{
    struct findings *findings = user;
    if (!findings->json) {
        puts(line);
        return;
    }
    buf_str(&findings->items, findings->items.len > 0 ? "," : "");
    buf_json(&findings->items, line, strlen(line));
}

static int refusal(const struct session *session, enum err err, const struct fault *fault)
{
    (void)session_error(session, err_code(err), "%s", fault->detail);
    return verify_exit_code(err);
}

static int verify(struct session *session, char *const *operands, size_t count)
{
    struct findings findings = {.json = session->settings.json};
    struct verify_result result = {0};
    struct fault fault = {.detail = ""};
    (void)operands, (void)count;
    buf_init(&findings.items);
    enum err err = verify_directory(session->settings.data, find, &findings, &result, &fault);
    if (err == ERR_OK) {
        err = buf_err(&findings.items);
    }
    if (err != ERR_OK) {
        buf_fini(&findings.items);
        return refusal(session, err, &fault);
    }
    if (findings.json) {
        printf("{\"ok\":true,\"ingestions\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"dispatches\":%" PRIu64
               ",\"violations_total\":%" PRIu64 ",\"violations\":[%s]}\n",
               result.ingestions, result.batches, result.dispatches, result.violations,
               findings.items.data ? findings.items.data : "");
    } else {
        printf("%" PRIu64 " ingestions, %" PRIu64 " batches, %" PRIu64
               " dispatches checked; violations: %" PRIu64 "\n",
               result.ingestions, result.batches, result.dispatches, result.violations);
    }
    buf_fini(&findings.items);
    return result.violations == 0 ? EXIT_CODE_OK : EXIT_CODE_DATAERR;
}

const struct command verify_command = {
    .name = "verify",
    .operands = "",
    .summary = "check the store of a scheduler that is not running, or a copy of it",
    .details = "Nothing is written. What is wrong is printed, a line each, and the exit code is then 65.",
    OPTIONS(options),
    .opens = true,
    .run = verify,
};
