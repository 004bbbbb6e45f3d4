// sluice: the command line, for people and scripts. It talks to the scheduler over IPC.
#include "cli/help.h"
#include "cli/options.h"
#include "cli/say.h"
#include "cli/session.h"

#include <errno.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct command *const commands[] = {
    &ingest_command,       &status_command,      &watch_command,        &list_command,
    &cancel_command,       &retry_command,       &queue_list_command,   &queue_show_command,
    &queue_set_command,    &queue_pause_command, &queue_resume_command, &queue_retry_command,
    &queue_delete_command, &key_add_command,     &key_list_command,     &key_revoke_command,
    &stats_command,        &backup_command,      &verify_command,       &top_command,
    &ping_command,
};

// The command that the words begin with, and how many of them are its name.
static const struct command *find(char *const *words, size_t *taken)
{
    for (size_t i = 0; i < COUNT(commands); i++) {
        const char *name = commands[i]->name;
        const char *space = strchr(name, ' ');
        size_t len = space ? (size_t)(space - name) : strlen(name);
        if (words[0] && strlen(words[0]) == len && memcmp(words[0], name, len) == 0 &&
            (!space || (words[1] && strcmp(words[1], space + 1) == 0))) {
            *taken = space ? 2 : 1;
            return commands[i];
        }
    }
    return NULL;
}

static int unknown(char *const *words)
{
    bool group = (strcmp(words[0], "queue") == 0 || strcmp(words[0], "key") == 0) && words[1];
    say("\"%s%s%.64s\" is not a command; see sluice help", words[0], group ? " " : "", group ? words[1] : "");
    return EXIT_CODE_USAGE;
}

static int help(char *const *words)
{
    size_t taken;
    if (!words[0]) {
        help_all(commands, COUNT(commands));
        return EXIT_CODE_OK;
    }
    const struct command *command = find(words, &taken);
    if (command) {
        help_command(command);
    } else if (words[1] || !help_group(commands, COUNT(commands), words[0])) {
        return unknown(words);
    }
    return EXIT_CODE_OK;
}

static int run(const struct command *command, char **words)
{
    struct session session = {.settings = {.limit = UINT64_MAX, .offset = UINT64_MAX}};
    size_t count;
    bool asked;
    int code = options_parse(command, words, &session.settings, &count, &asked);
    if (code == EXIT_CODE_OK && asked) {
        help_command(command);
        return EXIT_CODE_OK;
    }
    if (code == EXIT_CODE_OK && !command->opens) {
        code = session_open(&session);
    }
    if (code == EXIT_CODE_OK) {
        code = command->run(&session, words, count);
    }
    session_fini(&session);
    return code;
}

static int dispatch(char **words)
{
    size_t taken;
    if (!words[0]) {
        say("a command is missing; see sluice help");
        return EXIT_CODE_USAGE;
    }
    if (strcmp(words[0], "help") == 0 || strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0) {
        return help(words + 1);
    }
    if (strcmp(words[0], "--version") == 0) {
        puts("sluice " SLUICE_VERSION);
        return EXIT_CODE_OK;
    }
    const struct command *command = find(words, &taken);
    if (!command && words[1] && strcmp(words[1], "--help") == 0) { // of a group
        words[1] = NULL;
        return help(words);
    }
    return command ? run(command, words + taken) : unknown(words);
}

int main(int argc, char **argv)
{
    int code = dispatch(argv + (argc > 0));
    if (fflush(stdout) != 0 || ferror(stdout)) {
        say("standard output cannot be written: %s", strerror(errno));
        return EXIT_CODE_IOERR;
    }
    return code;
}
