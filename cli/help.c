#include "cli/help.h"

#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#define WIDTH 40 // of an option with its value, and of a command with its operands

static void print_command(const struct command *command)
{
    char usage[WIDTH];
    (void)snprintf(usage, sizeof(usage), "%s %s", command->name, command->operands);
    printf("  %-22s  %s\n", usage, command->summary);
}

bool help_group(const struct command *const *commands, size_t count, const char *word)
{
    size_t len = strlen(word);
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(commands[i]->name, word, len) == 0 && commands[i]->name[len] == ' ') {
            print_command(commands[i]);
            found++;
        }
    }
    return found > 0;
}

void help_all(const struct command *const *commands, size_t count)
{
    puts("Usage: sluice COMMAND [OPTION]... [OPERAND]...\n"
         "Talks to a sluice-scheduler on this host.\n");
    for (size_t i = 0; i < count; i++) {
        print_command(commands[i]);
    }
    puts("  help [COMMAND]          this text, or all about a command\n\n"
         "The scheduler is looked for at --ipc, $SLUICE_IPC, sluice.sock in $SLUICE_DATA, ./data/sluice.sock "
         "and\n"
         "/run/sluice/sluice.sock. sluice --version prints the version. All else, and the exit codes: "
         "sluice(1).");
}

static void print_option(const struct conf_option *option)
{
    char usage[WIDTH];
    (void)snprintf(usage, sizeof(usage), "--%s%s%s", option->name, option->metavar ? " " : "",
                   option->metavar ? option->metavar : "");
    printf("  %-24s  %s\n", usage, option->help);
    if (option->allowed) {
        printf("  %-24s  %s%s%s\n", "", option->allowed, option->fallback ? "; default " : "",
               option->fallback ? option->fallback : "");
    }
}

void help_command(const struct command *command)
{
    printf("Usage: sluice %s [OPTION]...%s%s\n", command->name, command->operands[0] ? " " : "",
           command->operands);
    printf("%s\n", command->summary);
    if (command->details) {
        printf("%s\n", command->details);
    }
    putchar('\n');
    for (size_t i = 0; i < command->option_count; i++) {
        print_option(&command->options[i]);
    }
    for (size_t i = 0; i < common_option_count; i++) {
        print_option(&common_options[i]);
    }
    printf("  %-24s  this text\n", "--help");
}
