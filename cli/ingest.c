// ingest: IDs from words, a file or standard input become ingestions of at most 100,000 each.
#include "cli/ids.h"
#include "cli/options.h"
#include "cli/say.h"
#include "cli/session.h"
#include "cli/watch.h"
#include "common/clock.h"
#include "common/units.h"
#include "proto/fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Options ----

// A time, or "+DURATION" from now.
static bool parse_moment(const char *text, void *into)
{
    struct wall t;
    int64_t ns;
    return (text[0] == '+' ? duration_parse(text + 1, &ns) : wall_parse(text, &t)) && conf_text(text, into);
}

static bool parse_key(const char *text, void *into)
{
    return idempotency_key_valid(text) && conf_text(text, into);
}

static const struct conf_option options[] = {
    {"file", "FILE", NULL, "a file, or - for standard input", "the IDs, one a line", conf_text,
     offsetof(struct settings, file)},
    {"priority", "PRIORITY", "MEDIUM", "HIGH, MEDIUM or LOW", "how urgent", option_priority,
     offsetof(struct settings, priority)},
    {"queue", "NAME", NULL, "the name of a queue", "where to (default: the queue \"default\")", conf_text,
     offsetof(struct settings, queue)},
    {"not-before", "TIME", NULL, "a time such as 2025-01-31T12:00:00Z, or +DURATION from now",
     "nothing is dispatched before", parse_moment, offsetof(struct settings, not_before)},
    {"deadline", "TIME", NULL, "a time such as 2025-01-31T12:00:00Z, or +DURATION from now",
     "what has not started by then is cancelled", parse_moment, offsetof(struct settings, deadline)},
    {"idempotency-key", "KEY", NULL, "1 to 255 visible ASCII characters",
     "the same again with the same key makes nothing new", parse_key,
     offsetof(struct settings, idempotency_key)},
    {"wait", NULL, NULL, NULL, "show the progress until all is done; the exit code is its fate", option_flag,
     offsetof(struct settings, wait)},
};

// ---- What was accepted ----

struct accepted {
    char (*ids)[SLUICE_ID_SIZE];
    size_t count;
};

static bool remember(struct accepted *accepted, const char *id)
{
    void *more = realloc(accepted->ids, (accepted->count + 1) * sizeof(accepted->ids[0]));
    if (!more) {
        return false;
    }
    accepted->ids = more;
    (void)snprintf(accepted->ids[accepted->count++], SLUICE_ID_SIZE, "%s", id);
    return true;
}

// Its word comes at once: whoever is cut off knows what there is.
static int accept_one(struct session *session, const struct answer *answer, struct accepted *accepted)
{
    const char *id = member_text(answer->json.root, "ingestion_id");
    if (session->settings.json && !session->settings.wait) {
        answer_print(answer);
    } else if (!session->settings.json) {
        puts(id);
    }
    (void)fflush(stdout);
    if (cJSON_IsTrue(json_get(answer->json.root, "replayed"))) {
        say("%s was there before", id);
    }
    return remember(accepted, id) ? EXIT_CODE_OK : session_error(session, "internal", "out of memory");
}

// ---- Requests ----

static void put_moment(struct buf *line, const char *name, const char *text)
{
    int64_t ns;
    if (text && text[0] == '+' && duration_parse(text + 1, &ns)) {
        field_put_time(line, name, (struct wall){wall_now().ms + ns / NS_PER_MS});
    } else if (text) {
        field_put_string(line, name, text);
    }
}

// The key of the n-th ingestion of one command: the same words in the same portions get the same keys again.
static void put_key(struct buf *line, const char *key, size_t nth)
{
    char text[IDEMPOTENCY_KEY_MAX + 32];
    if (!key) {
        return;
    }
    (void)(nth == 0 ? snprintf(text, sizeof(text), "%s", key)
                    : snprintf(text, sizeof(text), "%s.%zu", key, nth + 1));
    field_put_string(line, "idempotency_key", text);
}

static int send(struct session *session, struct buf *line, const struct buf *items, struct accepted *accepted)
{
    const struct settings *settings = &session->settings;
    char id[SLUICE_ID_SIZE];
    struct answer answer;
    if (buf_err(items) != ERR_OK) {
        return session_error(session, "internal", "out of memory");
    }
    if (sluice_mint(session->client, id) != SLUICE_OK) {
        return session_error(session, "internal", "%s", sluice_result_text(SLUICE_FAILED));
    }
    line_begin(line, "ingest");
    field_put_string(line, "id", id);
    field_put_string(line, "priority", settings->priority);
    if (settings->queue) {
        field_put_string(line, "queue", settings->queue);
    }
    put_moment(line, "not_before", settings->not_before);
    put_moment(line, "deadline", settings->deadline);
    put_key(line, settings->idempotency_key, accepted->count);
    buf_str(line, ",\"ids\":[");
    buf_put(line, items->data, items->len);
    buf_char(line, ']');
    session->minted = id;
    int code = session_ask(session, line, &answer);
    session->minted = NULL;
    if (code == EXIT_CODE_OK) {
        code = accept_one(session, &answer, accepted);
        answer_fini(&answer);
    }
    return code;
}

static int send_all(struct session *session, struct ids_source *source, struct accepted *accepted)
{
    struct buf items, line;
    size_t count;
    buf_init(&items);
    buf_init(&line);
    int code = ids_take(source, &items, &count);
    if (code == EXIT_CODE_OK && count == 0) {
        say("ingest: there is no ID in %s", source->name);
        code = EXIT_CODE_DATAERR;
    }
    while (code == EXIT_CODE_OK && count > 0) {
        code = send(session, &line, &items, accepted);
        if (code == EXIT_CODE_OK) {
            code = ids_take(source, &items, &count);
        }
    }
    if (code != EXIT_CODE_OK && accepted->count > 0) {
        say("%zu ingestions of up to %u IDs were accepted before that", accepted->count, IDS_MAX);
    }
    buf_fini(&items);
    buf_fini(&line);
    return code;
}

// Whether the IDs of the queue are integers or strings. Those of the default queue are always integers.
static int find_kind(struct session *session, enum ids_kind *kind)
{
    const char *queue = session->settings.queue;
    struct answer answer;
    struct buf line;
    *kind = IDS_INTEGER;
    if (!queue || strcmp(queue, DEFAULT_QUEUE) == 0) {
        return EXIT_CODE_OK;
    }
    buf_init(&line);
    line_begin(&line, "queue.get");
    field_put_string(&line, "name", queue);
    int code = session_ask(session, &line, &answer);
    if (code == EXIT_CODE_OK) {
        (void)ids_kind_parse(member_text(answer.json.root, "ids"), kind);
        answer_fini(&answer);
    }
    buf_fini(&line);
    return code;
}

// *opened: to be closed, or NULL.
static int open_source(const struct settings *settings, char *const *operands, size_t count,
                       struct ids_source *source, FILE **opened)
{
    bool standard = count == 0 || (count == 1 && strcmp(operands[0], "-") == 0);
    *source = (struct ids_source){.words = operands, .word_count = count, .name = "the operands"};
    *opened = NULL;
    if (settings->file && count > 0) {
        say("ingest: IDs come from --file or as operands, not both");
        return EXIT_CODE_USAGE;
    }
    if (settings->file && strcmp(settings->file, "-") != 0) {
        source->name = settings->file;
        source->file = *opened = fopen(settings->file, "re");
        if (!*opened) {
            say("%s cannot be opened: %s", settings->file, strerror(errno));
            return EXIT_CODE_NOINPUT;
        }
    } else if (standard) {
        source->name = "standard input";
        source->file = stdin;
        if (isatty(STDIN_FILENO)) {
            say("the IDs, one a line; ctrl-d ends them");
        }
    }
    return EXIT_CODE_OK;
}

static int wait_for_all(struct session *session, const struct accepted *accepted)
{
    int worst = EXIT_CODE_OK;
    for (size_t i = 0; i < accepted->count; i++) {
        int code = watch_ingestion(session, accepted->ids[i], stderr);
        if (code != EXIT_CODE_OK && code != EXIT_CODE_FAILED && code != EXIT_CODE_CANCELLED) {
            return code;
        }
        if (worst == EXIT_CODE_OK || code == EXIT_CODE_FAILED) {
            worst = code;
        }
    }
    return worst;
}

static int ingest(struct session *session, char *const *operands, size_t count)
{
    struct accepted accepted = {0};
    struct ids_source source;
    FILE *opened;
    int code = open_source(&session->settings, operands, count, &source, &opened);
    if (code == EXIT_CODE_OK) {
        code = find_kind(session, &source.kind);
    }
    if (code == EXIT_CODE_OK) {
        code = send_all(session, &source, &accepted);
    }
    if (code == EXIT_CODE_OK && session->settings.wait) {
        code = wait_for_all(session, &accepted);
    }
    if (opened) {
        (void)fclose(opened);
    }
    free(accepted.ids);
    return code;
}

const struct command ingest_command = {
    .name = "ingest",
    .operands = "[ID]...",
    .summary = "hand IDs in, and print the ID of each ingestion",
    .details =
        "IDs come as operands, from --file, or from standard input, one a line. More than 100000 become\n"
        "several ingestions of at most 100000, each printed as soon as it is on disk; with\n"
        "--idempotency-key K these have the keys K, K.2, K.3 and so on.",
    .most = SIZE_MAX,
    OPTIONS(options),
    .run = ingest,
};
