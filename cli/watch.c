#include "cli/watch.h"

#include "cli/progress.h"
#include "cli/style.h"
#include "proto/fields.h"

#include <time.h>

// It looks often at first, and then once a second.
#define LOOK_FIRST_MS 100
#define LOOK_LAST_MS 1000

static void pause_ms(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NS_PER_MS};
    (void)nanosleep(&time, NULL);
}

// limit: of batches; 0: as many as the scheduler gives.
static int ask(struct session *session, const char *id, uint64_t limit, struct buf *line,
               struct answer *answer)
{
    line_begin(line, "status");
    field_put_string(line, "id", id);
    if (limit > 0) {
        field_put_integer(line, "limit", limit);
    }
    return session_ask(session, line, answer);
}

static int look(struct session *session, const char *id, struct buf *line, struct figures *figures)
{
    struct answer answer;
    int code = ask(session, id, 1, line, &answer);
    if (code == EXIT_CODE_OK && !figures_read(answer.json.root, figures)) {
        code = session_error(session, "bad_reply", "the scheduler's answer could not be understood");
    }
    answer_fini(&answer);
    return code;
}

static int print_status(struct session *session, const char *id, struct buf *line)
{
    struct answer answer;
    int code = ask(session, id, 0, line, &answer);
    if (code == EXIT_CODE_OK) {
        answer_print(&answer);
    }
    answer_fini(&answer);
    return code;
}

int watch_ingestion(struct session *session, const char *id, FILE *to)
{
    struct progress progress;
    struct figures figures;
    struct buf line;
    int64_t pause = LOOK_FIRST_MS;
    bool json = session->settings.json;
    FILE *shown = json ? (is_terminal(stderr) ? stderr : NULL) : to;
    buf_init(&line);
    progress_init(&progress, shown, id);
    int code;
    while ((code = look(session, id, &line, &figures)) == EXIT_CODE_OK && !figures_final(&figures)) {
        progress_show(&progress, &figures, wall_now(), mono_now());
        pause_ms(pause);
        pause = pause * 2 < LOOK_LAST_MS ? pause * 2 : LOOK_LAST_MS;
    }
    if (code == EXIT_CODE_OK) {
        progress_end(&progress, &figures, wall_now());
        code = json ? print_status(session, id, &line) : EXIT_CODE_OK;
    } else {
        progress_break(&progress);
    }
    buf_fini(&line);
    return code == EXIT_CODE_OK ? figures_fate(&figures) : code;
}

static int watch(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    return watch_ingestion(session, operands[0], stdout);
}

const struct command watch_command = {
    .name = "watch",
    .operands = "ID",
    .summary = "show the progress of an ingestion until it is done",
    .details =
        "On a terminal a bar, elsewhere a line when something has changed. The exit code is its fate:\n"
        "0 completed, 2 failed, 3 cancelled.",
    .least = 1,
    .most = 1,
    .run = watch,
};
