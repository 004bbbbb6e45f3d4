// The man pages and the completion against what the programs say of themselves.
#include "tests/support/cli.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(manual, .fini = sluice_cleanup);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Runs a shell command in the sluice's directory; what it prints is the caller's.
static char *shell(const struct sluice *sluice, const char *command)
{
    char *out = sluice_path(sluice, "shell.out"), *err = sluice_path(sluice, "shell.err");
    int code = process_run(&(struct process_plan){.program = "/bin/bash",
                                                  .arguments = LIST("-c", command),
                                                  .directory = sluice->dir,
                                                  .output = out,
                                                  .log = err});
    char *text = file_text(out), *errors = file_text(err);
    cr_assert(code == 0 && errors[0] == '\0', "%s: %d\n%s", command, code, errors);
    free(errors);
    free(out);
    free(err);
    return text;
}

// A page as it is read, in lines that are never broken.
static char *page(const struct sluice *sluice, const char *name)
{
    char command[512];
    (void)snprintf(command, sizeof(command),
                   "groff -mandoc -Tascii -P-cbou -rLL=2000n -ww " SLUICE_SOURCE_DIR "/packaging/man/%s",
                   name);
    return shell(sluice, command);
}

// The next "--option" in a text, with its dashes; NULL at the end.
static const char *next_option(const char **at, char *option, size_t size)
{
    while ((*at = strstr(*at, "--"))) {
        size_t len = 2;
        while (islower((unsigned char)(*at)[len]) || ((*at)[len] == '-' && len > 2)) {
            len++;
        }
        bool is_option = len > 2 && len < size;
        (void)snprintf(option, size, "%.*s", (int)len, *at);
        *at += len;
        if (is_option) {
            return option;
        }
    }
    return NULL;
}

static bool names(const char *text, const char *option)
{
    char found[64];
    while (next_option(&text, found, sizeof(found))) {
        if (strcmp(found, option) == 0) {
            return true;
        }
    }
    return false;
}

// Every option of the one text is in the other.
static void expect_options(const char *from, const char *in, const char *what)
{
    char option[64];
    size_t count = 0;
    for (const char *at = from; next_option(&at, option, sizeof(option)); count++) {
        cr_expect(names(in, option), "%s: %s is not there", what, option);
    }
    cr_assert_geq(count, 3, "%s: %zu options", what, count);
}

Test(manual, pages_of_the_daemons)
{
    static const char *const programs[] = {"sluice-scheduler", "sluice-gateway", "sluice-verify"};
    struct sluice *sluice = sluice_new(NULL, NULL);
    for (size_t i = 0; i < COUNT(programs); i++) {
        char name[64], command[600];
        struct program_path program = program_path(programs[i]);
        (void)snprintf(command, sizeof(command), "%s --help", program.text);
        (void)snprintf(name, sizeof(name), "%s.8", programs[i]);
        char *help = shell(sluice, command), *text = page(sluice, name);
        expect_options(help, text, name);
        expect_options(text, help, programs[i]);
        free(text);
        free(help);
    }
    sluice_end(sluice);
}

// The names of the commands, as help lists them, each ended by a newline.
static char *commands(const struct sluice *sluice)
{
    char *help = cli_out(sluice, LIST("help")), *list = calloc(1, strlen(help) + 1);
    char *rest = help;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "  ", 2) == 0 && islower((unsigned char)line[2])) {
            char *end = line + 2;
            while (islower((unsigned char)*end) || (*end == ' ' && islower((unsigned char)end[1]))) {
                end++;
            }
            *end = '\0';
            strcat(strcat(list, line + 2), "\n");
        }
    }
    free(help);
    cr_assert(strstr(list, "\nqueue set\n") && strstr(list, "\nhelp\n"), "%s", list);
    return list;
}

// What help says of every command.
static char *all_help(const struct sluice *sluice, const char *list)
{
    char *copy = strdup(list), *rest = copy, *all = strdup("");
    for (char *name; (name = strsep(&rest, "\n")) && name[0];) {
        if (strcmp(name, "help") != 0) {
            char *space = strchr(name, ' '), *joined;
            if (space) {
                *space = '\0';
            }
            char *one = cli_out(sluice, LIST("help", name, space ? space + 1 : NULL));
            cr_assert(asprintf(&joined, "%s%s", all, one) > 0);
            free(one);
            free(all);
            all = joined;
        }
    }
    free(copy);
    return all;
}

// The page has each command at the head of a paragraph, and the same options as the command line.
Test(manual, page_of_the_command_line)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *text = page(sluice, "sluice.1"), *list = commands(sluice), *help = all_help(sluice, list);
    char *rest = list;
    for (char *name; (name = strsep(&rest, "\n")) && name[0];) {
        char head[64];
        (void)snprintf(head, sizeof(head), "\n     %s ", name);
        char alone[64];
        (void)snprintf(alone, sizeof(alone), "\n     %s\n", name);
        cr_expect(strcmp(name, "help") == 0 || strstr(text, head) || strstr(text, alone),
                  "%s is not in sluice(1)", name);
    }
    expect_options(help, text, "sluice(1)");
    char *end = strstr(text, "\nEXAMPLES");
    cr_assert_not_null(end);
    *end = '\0';
    char *daemon = strstr(text, "sluice-scheduler --data"); // not one of its own
    cr_assert_not_null(daemon);
    memset(daemon, ' ', strlen("sluice-scheduler --data"));
    expect_options(text, help, "sluice help");
    free(text);
    free(help);
    free(list);
    sluice_end(sluice);
}

// ---- Completion ----

// What is offered after each `try WORD...`, a line each.
static char *complete(const struct sluice *sluice, const char *tries)
{
    char *command;
    struct program_path program = program_path("sluice");
    cr_assert(asprintf(&command,
                       "export SLUICE_IPC=%s; . " SLUICE_SOURCE_DIR "/cli/completion/sluice; "
                       "try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); "
                       "_sluice %s \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; "
                       "echo \"${COMPREPLY[*]}\"; }; %s",
                       sluice->ipc, program.text, tries) > 0);
    char *out = shell(sluice, command);
    free(command);
    return out;
}

Test(manual, completion)
{
    struct sluice *sluice = cli_scheduler(NULL);
    free(cli_out(sluice, LIST("queue", "set", "mail")));
    char *got = complete(
        sluice, "try sluice s; try sluice queue re; try sluice top --; try sluice queue set mail --m; "
                "try sluice ingest --priority ''; try sluice list --status c; "
                "try sluice ingest --queue ''; try sluice queue show m; try sluice help w; "
                "try sluice key re; try sluice key add shop --ro; try sluice key add --role op");
    cr_assert_str_eq(got,
                     "stats status\n"
                     "resume retry\n"
                     "--help --interval --ipc --json --timeout\n"
                     "--max-attempts --max-backoff --max-hold --max-id --min-backoff\n"
                     "HIGH LOW MEDIUM\n"
                     "cancelled completed\n"
                     "default mail\n"
                     "mail\n"
                     "watch\n"
                     "revoke\n"
                     "--role\n"
                     "operate\n",
                     "%s", got);
    free(got);
    sluice_end(sluice);
}

// Every command is offered, wherever its last word is begun.
Test(manual, completion_of_commands)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *list = commands(sluice), *all = strdup(""), *wanted = strdup("");
    char *rest = list;
    for (char *name, *more; (name = strsep(&rest, "\n")) && name[0];) {
        const char *last = strrchr(name, ' ');
        cr_assert(asprintf(&more, "%s try sluice %s;", all, name) > 0);
        free(all);
        all = more;
        cr_assert(asprintf(&more, "%s%s\n", wanted, last ? last + 1 : name) > 0);
        free(wanted);
        wanted = more;
    }
    char *got = complete(sluice, all);
    cr_assert_str_eq(got, wanted, "%s", got);
    free(got), free(wanted), free(all), free(list);
    sluice_end(sluice);
}
