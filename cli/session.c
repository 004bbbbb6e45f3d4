#include "cli/session.h"

#include "cli/say.h"
#include "common/clock.h"
#include "common/units.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// A reply line is at most 1 MiB: no element of it takes less than two bytes.
static const struct json_limits reply_limits = {.max_elements = 1 << 19, .max_depth = 32};

int session_error(const struct session *session, const char *code, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t len = written < 0 ? 0 : (size_t)written;
    len = len < sizeof(text) ? len : utf8_cut(text, sizeof(text) - 1);
    utf8_scrub(text, len);
    text[len] = '\0';
    say("%s: %s", code, text);
    if (session->settings.json) {
        struct buf line;
        buf_init(&line);
        buf_printf(&line, "{\"error\":{\"code\":\"%s\",\"message\":", code);
        buf_json(&line, text, len);
        buf_str(&line, "}}");
        if (buf_err(&line) == ERR_OK) {
            puts(line.data);
        }
        buf_fini(&line);
    }
    return exit_of_error(code);
}

// ---- The connection ----

static int failure(const struct session *session, int result)
{
    char within[DURATION_TEXT_SIZE];
    duration_format(session->settings.timeout_ns, within);
    switch (result) {
    case SLUICE_INVALID:
        say("--ipc: \"%s\" is not allowed: ipc://PATH, with a path of at most 107 bytes", session->address);
        return EXIT_CODE_USAGE;
    case SLUICE_FORBIDDEN:
        return session_error(session, "forbidden", "%s: this user may not use the scheduler's socket",
                             session->address);
    case SLUICE_UNAVAILABLE:
        return session_error(
            session, "scheduler_unavailable",
            "no scheduler at %s within %s; nothing was done (--ipc or SLUICE_IPC say where it is)",
            session->address, within);
    case SLUICE_UNKNOWN:
        return session_error(session, "outcome_unknown",
                             "the scheduler at %s did not answer within %s: it may have been done%s%s",
                             session->address, within, session->minted ? ", and has then the ID " : "",
                             session->minted ? session->minted : "");
    case SLUICE_PROTOCOL:
        return session_error(session, "bad_reply", "the scheduler's answer could not be understood");
    default:
        return session_error(session, "internal", "%s", sluice_result_text(result));
    }
}

int session_open(struct session *session)
{
    const struct settings *settings = &session->settings;
    int result = SLUICE_OK;
    if (settings->ipc) {
        (void)snprintf(session->address, sizeof(session->address), "%s", settings->ipc);
    } else {
        result = sluice_address(session->address, sizeof(session->address));
    }
    if (result == SLUICE_OK) {
        result = sluice_open(session->address, (int)(settings->timeout_ns / NS_PER_MS), &session->client);
    }
    return result == SLUICE_OK ? EXIT_CODE_OK : failure(session, result);
}

void session_fini(struct session *session)
{
    sluice_close(session->client);
    session->client = NULL;
}

// ---- Requests ----

void line_begin(struct buf *line, const char *op)
{
    buf_reset(line);
    buf_printf(line, "{\"op\":\"%s\"", op);
}

void answer_fini(struct answer *answer)
{
    sluice_free(answer->line);
    json_free(&answer->json);
    *answer = (struct answer){0};
}

void answer_print(const struct answer *answer)
{
    (void)fwrite(answer->line, 1, answer->len, stdout);
}

const char *member_text(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(json_get(object, name));
    return text ? text : "";
}

uint64_t member_count(const cJSON *object, const char *name)
{
    uint64_t count = 0;
    (void)json_integer(json_get(object, name), &count);
    return count;
}

// Says what the scheduler refuses; with --json its line goes out as it came.
static int refusal(const struct session *session, const struct answer *answer, const cJSON *error)
{
    const char *code = member_text(error, "code");
    const char *eta = member_text(error, "eta");
    say("%s: %s%s%s", code, member_text(error, "message"), eta[0] ? ": it could be done at " : "", eta);
    if (session->settings.json) {
        answer_print(answer);
    }
    return exit_of_error(code);
}

int session_ask(struct session *session, struct buf *line, struct answer *answer)
{
    *answer = (struct answer){0};
    buf_str(line, "}\n");
    if (buf_err(line) != ERR_OK) {
        return session_error(session, "internal", "out of memory");
    }
    int result = sluice_request(session->client, line->data, line->len, &answer->line, &answer->len);
    buf_reset(line);
    if (result != SLUICE_OK) {
        return failure(session, result);
    }
    size_t len = answer->len - (answer->len > 0 && answer->line[answer->len - 1] == '\n');
    if (json_parse(answer->line, len, &reply_limits, &answer->json, NULL) != ERR_OK) {
        answer_fini(answer);
        return failure(session, SLUICE_PROTOCOL);
    }
    if (cJSON_IsTrue(json_get(answer->json.root, "ok"))) {
        return EXIT_CODE_OK;
    }
    const cJSON *error = json_get(answer->json.root, "error");
    int exit_code;
    if (!cJSON_IsString(json_get(error, "code"))) {
        exit_code = failure(session, SLUICE_PROTOCOL);
    } else {
        exit_code = refusal(session, answer, error);
    }
    answer_fini(answer);
    return exit_code;
}
