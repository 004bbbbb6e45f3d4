// top: the queues, those with the most work first, shown anew until somebody quits.
#include "cli/say.h"
#include "cli/stats.h"
#include "common/clock.h"
#include "common/proc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define HEAD_LINES 3 // above the table and below it

static bool parse_interval(const char *text, void *into)
{
    int64_t ns;
    if (!conf_duration(text, &ns) || ns < 100 * NS_PER_MS || ns > 3600 * NS_PER_S) {
        return false;
    }
    *(int64_t *)into = ns;
    return true;
}

static const struct conf_option options[] = {
    {"interval", "DURATION", "1s", "a duration from 100ms to 1h", "how often it is shown anew",
     parse_interval, offsetof(struct settings, interval_ns)},
};

struct screen {
    int signals;          // becomes readable when one says to end
    bool keys;            // standard input is a terminal, and gives keys as they are pressed
    struct termios saved; // as it was before
};

static int screen_open(struct screen *screen)
{
    struct termios raw;
    *screen = (struct screen){.signals = proc_signals()};
    if (screen->signals < 0) {
        say("signals cannot be watched: %s", strerror(errno));
        return EXIT_CODE_SOFTWARE;
    }
    screen->keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen->saved) == 0;
    if (screen->keys) {
        raw = screen->saved;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        screen->keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    return EXIT_CODE_OK;
}

static void screen_close(struct screen *screen)
{
    if (screen->keys) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &screen->saved);
    }
    close(screen->signals);
}

// Whether somebody quits within this time.
static bool quits(struct screen *screen, int64_t within_ns)
{
    struct pollfd ready[] = {{.fd = screen->signals, .events = POLLIN},
                             {.fd = screen->keys ? STDIN_FILENO : -1, .events = POLLIN}};
    struct mono until = mono_add(mono_now(), within_ns);
    int64_t left_ns;
    while ((left_ns = mono_diff(until, mono_now())) > 0) {
        char key;
        int count = poll(ready, 2, (int)(left_ns / NS_PER_MS) + 1);
        if (count > 0 && ready[0].revents) {
            return true;
        }
        if (count > 0 && ready[1].revents && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q')) {
            return true;
        }
    }
    return false;
}

// The whole screen as one text, so that it does not flicker.
static int draw(struct session *session, struct buf *text)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    size_t lines = known ? size.ws_row : 24, width = known ? size.ws_col : 80;
    struct answer answer;
    struct table table;
    line_begin(text, "stats");
    int code = session_ask(session, text, &answer);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    queue_table_init(&table);
    buf_str(text, "\033[H\033[J");
    stats_head(answer.json.root, text);
    buf_char(text, '\n');
    bool added = queue_table_add_all(&table, json_get(answer.json.root, "queues"), QUEUES_BUSIEST_FIRST);
    table_write(&table, lines > HEAD_LINES ? lines - HEAD_LINES : 1, width, has_colours(stdout), text);
    if (!added || buf_err(text) != ERR_OK) {
        code = session_error(session, "internal", "out of memory");
    } else {
        (void)fwrite(text->data, 1, text->len, stdout);
        (void)fflush(stdout);
    }
    table_fini(&table);
    answer_fini(&answer);
    return code;
}

// Signals are blocked before the connection's threads start, which would take them otherwise.
static int show(struct session *session)
{
    struct screen screen;
    struct buf text;
    int code = screen_open(&screen);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    buf_init(&text);
    code = session_open(session);
    while (code == EXIT_CODE_OK && (code = draw(session, &text)) == EXIT_CODE_OK) {
        if (quits(&screen, session->settings.interval_ns)) {
            break;
        }
    }
    buf_fini(&text);
    screen_close(&screen);
    return code;
}

static int top(struct session *session, char *const *operands, size_t count)
{
    (void)operands, (void)count;
    if (is_terminal(stdout) && !session->settings.json) {
        return show(session);
    }
    int code = session_open(session);
    return code == EXIT_CODE_OK ? stats_show(session, QUEUES_BUSIEST_FIRST) : code;
}

const struct command top_command = {
    .name = "top",
    .operands = "",
    .summary = "show the queues, the busiest first, until q or ctrl-c",
    .details = "Once, where standard output is no terminal.",
    OPTIONS(options),
    .opens = true,
    .run = top,
};
