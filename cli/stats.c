// ping: whether the scheduler works.
#include "cli/session.h"
#include "common/clock.h"

static int ping(struct session *session, char *const *operands, size_t count)
{
    struct answer answer;
    struct buf line;
    (void)operands, (void)count;
    buf_init(&line);
    line_begin(&line, "ping");
    struct mono before = mono_now();
    int code = session_ask(session, &line, &answer);
    double ms = (double)mono_diff(mono_now(), before) / (double)NS_PER_MS;
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    } else if (code == EXIT_CODE_OK) {
        printf("sluice-scheduler %s, protocol %.0f, at %s: %.2f ms\n",
               member_text(answer.json.root, "version"), (double)member_count(answer.json.root, "protocol"),
               session->address, ms);
    }
    answer_fini(&answer);
    buf_fini(&line);
    return code;
}

const struct command ping_command = {
    .name = "ping",
    .operands = "",
    .summary = "see whether the scheduler works",
    .run = ping,
};
