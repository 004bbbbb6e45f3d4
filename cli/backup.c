// backup: the scheduler writes the copy, beside its other work; we ask until it is complete, and sync it.
#include "cli/progress.h"
#include "cli/say.h"
#include "cli/session.h"
#include "cli/style.h"
#include "proto/fields.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY_NS (100 * NS_PER_MS)

static bool sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return synced;
}

// The file, and the directory, which holds its name.
static int sync_file(const char *path)
{
    char *dir = strdup(path);
    bool synced = false;
    if (dir) {
        char *slash = strrchr(dir, '/');
        slash[slash == dir] = '\0'; // "/" stays
        synced = sync_path(path) && sync_path(dir);
    }
    if (!synced) {
        say("%s is complete, but it cannot be synced to disk: %s", path, strerror(errno));
    }
    free(dir);
    return synced ? EXIT_CODE_OK : EXIT_CODE_IOERR;
}

// The scheduler may stand in another directory.
static char *absolute(const char *path)
{
    char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *whole = NULL;
    if (path[0] == '/') {
        whole = strdup(path);
    } else if (here && asprintf(&whole, "%s/%s", here, path) < 0) {
        whole = NULL;
    }
    free(here);
    return whole;
}

static int ask(struct session *session, const char *id, const char *path, struct answer *answer)
{
    struct buf line;
    buf_init(&line);
    line_begin(&line, "backup");
    field_put_string(&line, "id", id);
    field_put_string(&line, "path", path);
    int code = session_ask(session, &line, answer);
    buf_fini(&line);
    return code;
}

static void show(const struct answer *answer)
{
    uint64_t pages = member_count(answer->json.root, "pages");
    uint64_t left = member_count(answer->json.root, "pages_left");
    (void)fprintf(stderr, "\r\033[K%.0f %%",
                  pages > 0 ? 100.0 * (double)(pages - left) / (double)pages : 0.0);
    (void)fflush(stderr);
}

static int copy(struct session *session, const char *path)
{
    const struct timespec pause = {.tv_nsec = LOOK_EVERY_NS};
    char id[SLUICE_ID_SIZE];
    struct answer answer = {0};
    bool live = is_terminal(stderr);
    if (sluice_mint(session->client, id) != SLUICE_OK) {
        return session_error(session, "internal", "%s", sluice_result_text(SLUICE_FAILED));
    }
    int code = ask(session, id, path, &answer);
    while (code == EXIT_CODE_OK && !cJSON_IsTrue(json_get(answer.json.root, "done"))) {
        if (live) {
            show(&answer);
        }
        (void)nanosleep(&pause, NULL);
        answer_fini(&answer);
        code = ask(session, id, path, &answer);
    }
    if (live) {
        (void)fputs("\r\033[K", stderr);
    }
    if (code == EXIT_CODE_OK) {
        code = sync_file(path);
    }
    if (code == EXIT_CODE_OK && session->settings.json) {
        answer_print(&answer);
    }
    answer_fini(&answer);
    return code;
}

static int backup(struct session *session, char *const *operands, size_t count)
{
    (void)count;
    char *path = absolute(operands[0]);
    int code;
    if (!path) {
        code = session_error(session, "internal", "%s", strerror(errno));
    } else if (access(path, F_OK) == 0) {
        say("%s exists already", path);
        code = EXIT_CODE_CANTCREAT;
    } else {
        code = copy(session, path);
    }
    free(path);
    return code;
}

const struct command backup_command = {
    .name = "backup",
    .operands = "FILE",
    .summary = "copy the scheduler's store, consistently, while it works",
    .details = "The scheduler writes FILE, which must not exist, so its user must be able to make it. Named "
               "sluice.db\n"
               "in a directory of its own it is what sluice-scheduler --data starts from.",
    .least = 1,
    .most = 1,
    .run = backup,
};
