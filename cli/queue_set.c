// queue set: makes a queue, or changes settings of one; each setting is an option.
#include "cli/options.h"
#include "cli/queue.h"
#include "cli/say.h"
#include "common/units.h"
#include "proto/fields.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum form { FORM_TEXT, FORM_NUMBER }; // in JSON

// X(name, member, inside "retry", form, option, metavar, allowed, help). The scheduler checks the values; the
// word "default" stands for null.
#define SETTING_LIST(X)                                                                                      \
    X(RATE, "rate", false, TEXT, "rate", "N/DURATION", "a rate such as 1/5s, 100/s or unlimited",            \
      "dispatches")                                                                                          \
    X(BURST, "burst", false, NUMBER, "burst", "N", "a number, or default",                                   \
      "dispatches that may start at once")                                                                   \
    X(LINGER, "linger", false, TEXT, "linger", "DURATION", "a duration, or default",                         \
      "how long an idle queue waits after an arrival")                                                       \
    X(CONCURRENCY, "concurrency", false, NUMBER, "concurrency", "N", "a number",                             \
      "deliveries in flight at the most")                                                                    \
    X(BATCH_SIZE, "batch_size", false, NUMBER, "batch-size", "N", "a number", "IDs in a batch at the most")  \
    X(TARGET, "target", false, TEXT, "target", "TARGET",                                                     \
      "simulate:..., http://..., https://..., exec:/PATH or pull:", "where batches go")                      \
    X(TIMEOUT, "timeout", false, TEXT, "delivery-timeout", "DURATION", "a duration", "of one delivery")      \
    X(MAX_ATTEMPTS, "max_attempts", true, NUMBER, "max-attempts", "N", "a number", "of a batch")             \
    X(MIN_BACKOFF, "min_backoff", true, TEXT, "min-backoff", "DURATION", "a duration",                       \
      "before the second attempt")                                                                           \
    X(MAX_BACKOFF, "max_backoff", true, TEXT, "max-backoff", "DURATION", "a duration",                       \
      "between attempts at the most")                                                                        \
    X(IDS, "ids", false, TEXT, "ids", "KIND", "integer or string", "what its IDs are; only when it is made") \
    X(MAX_ID, "max_id", false, NUMBER, "max-id", "N", "a number", "the largest ID")                          \
    X(MAX_HOLD, "max_hold", false, TEXT, "max-hold", "DURATION", "a duration",                               \
      "no answer of a target holds it longer")                                                               \
    X(BREAKER, "breaker", false, NUMBER, "breaker", "N", "a number; 0: none",                                \
      "failures in succession that open it")                                                                 \
    X(LEASE, "lease", false, TEXT, "lease", "DURATION", "a duration", "how long a worker has a batch")       \
    X(ON_INTERRUPT, "on_interrupt", false, TEXT, "on-interrupt", "WHAT", "resend or hold",                   \
      "a batch in flight when the scheduler dies")                                                           \
    X(AGING, "aging", false, TEXT, "aging", "DURATION", "a duration, or default",                            \
      "after that long a batch counts one priority higher")

enum setting {
#define SETTING_ENUM(name, member, inside, form, option, metavar, allowed, help) SET_##name,
    SETTING_LIST(SETTING_ENUM)
#undef SETTING_ENUM
        SETTINGS
};
_Static_assert(SETTINGS <= sizeof(((struct settings *)0)->set) / sizeof(((struct settings *)0)->set[0]),
               "room for each");

static const struct {
    const char *member;
    bool in_retry;
    enum form form;
} members[] = {
#define SETTING_MEMBER(name, member, inside, form, option, metavar, allowed, help)                           \
    {member, inside, FORM_##form},
    SETTING_LIST(SETTING_MEMBER)
#undef SETTING_MEMBER
};

static bool is_default(const char *text)
{
    return strcmp(text, "default") == 0;
}

// A number is put into JSON as it stands, so it has to be one.
static bool parse_number(const char *text, void *into)
{
    uint64_t count;
    return (is_default(text) || (count_parse(text, &count) && count <= JSON_MAX_INTEGER)) &&
           conf_text(text, into);
}

// "Name: value", or "@FILE" with such lines.
static bool parse_header(const char *text, void *into)
{
    struct settings *settings = into;
    return settings->header_count < HEADERS_GIVEN_MAX && text[0] != ':' &&
           (text[0] == '@' || strchr(text, ':')) &&
           conf_text(text, &settings->headers[settings->header_count++]);
}

#define PARSE_TEXT conf_text
#define PARSE_NUMBER parse_number
static const struct conf_option options[] = {
#define SETTING_OPTION(name, member, inside, form, option, metavar, allowed, help)                           \
    {option,                                                                                                 \
     metavar,                                                                                                \
     NULL,                                                                                                   \
     allowed,                                                                                                \
     help,                                                                                                   \
     PARSE_##form,                                                                                           \
     offsetof(struct settings, set) + SET_##name * sizeof(char *)},
    SETTING_LIST(SETTING_OPTION)
#undef SETTING_OPTION
        {"header", "HEADER", NULL, "\"Name: value\", or @FILE with such lines; once for each",
         "sent with each delivery over HTTP; those given replace all there are", parse_header, 0},
    {"no-headers", NULL, NULL, NULL, "none are sent any more", option_flag,
     offsetof(struct settings, no_headers)},
};

// ---- The request ----

static void put_setting(struct buf *line, enum setting setting, const char *text)
{
    const char *name = members[setting].member;
    if (is_default(text)) {
        field_put_null(line, name);
    } else if (members[setting].form == FORM_TEXT) {
        field_put_string(line, name, text);
    } else {
        uint64_t count = 0;
        bool is_count = count_parse(text, &count);
        assert(is_count); // it was checked when the options were read
        (void)is_count;
        field_put_integer(line, name, count);
    }
}

static void put_settings(struct buf *line, char *const *texts)
{
    struct buf retry;
    buf_init(&retry);
    for (enum setting setting = 0; setting < SETTINGS; setting++) {
        if (texts[setting]) {
            put_setting(members[setting].in_retry ? &retry : line, setting, texts[setting]);
        }
    }
    if (retry.len > 0) {
        buf_str(line, ",\"retry\":{");
        buf_put(line, retry.data + 1, retry.len - 1); // without the first comma
        buf_char(line, '}');
    }
    line->failed = line->failed || retry.failed;
    buf_fini(&retry);
}

static int put_header(struct buf *line, const char *text)
{
    const char *colon = strchr(text, ':');
    if (!colon || colon == text || !utf8_valid(text, strlen(text))) {
        say("--header: \"%.*s\" is not allowed: \"Name: value\"", (int)strcspn(text, ":"), text);
        return EXIT_CODE_USAGE;
    }
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    if (line->len > 0 && line->data[line->len - 1] != '{') {
        buf_char(line, ',');
    }
    buf_json(line, text, (size_t)(colon - text));
    buf_char(line, ':');
    buf_json(line, value, strlen(value));
    return EXIT_CODE_OK;
}

static int put_header_file(struct buf *line, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        say("%s cannot be opened: %s", path, strerror(errno));
        return EXIT_CODE_NOINPUT;
    }
    char *text = NULL;
    size_t size = 0;
    int code = EXIT_CODE_OK;
    while (code == EXIT_CODE_OK && getline(&text, &size, file) > 0) {
        text[strcspn(text, "\r\n")] = '\0';
        code = text[0] != '\0' ? put_header(line, text) : EXIT_CODE_OK;
    }
    free(text);
    (void)fclose(file);
    return code;
}

static int put_headers(struct buf *line, const struct settings *settings)
{
    int code = EXIT_CODE_OK;
    if (settings->header_count == 0 && !settings->no_headers) {
        return EXIT_CODE_OK;
    }
    buf_str(line, ",\"headers\":{");
    for (size_t i = 0; i < settings->header_count && code == EXIT_CODE_OK && buf_err(line) == ERR_OK; i++) {
        const char *text = settings->headers[i];
        code = text[0] == '@' ? put_header_file(line, text + 1) : put_header(line, text);
    }
    buf_char(line, '}');
    return code;
}

static int set(struct session *session, char *const *operands, size_t count)
{
    struct answer answer = {0};
    struct buf line;
    (void)count;
    buf_init(&line);
    line_begin(&line, "queue.put");
    field_put_string(&line, "name", operands[0]);
    put_settings(&line, session->settings.set);
    int code = put_headers(&line, &session->settings);
    if (code == EXIT_CODE_OK) {
        code = session_ask(session, &line, &answer);
    }
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        queue_print(answer.json.root);
    }
    answer_fini(&answer);
    buf_fini(&line);
    return code;
}

const struct command queue_set_command = {
    .name = "queue set",
    .operands = "NAME",
    .summary = "make a queue, or change the settings that are given",
    .least = 1,
    .most = 1,
    OPTIONS(options),
    .run = set,
};
