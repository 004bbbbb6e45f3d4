// help.h - what `sluice help` says.
#ifndef SLUICE_CLI_HELP_H
#define SLUICE_CLI_HELP_H

#include "cli/command.h"

void help_all(const struct command *const *commands, size_t count);
// Of the commands that begin with a word, such as "queue"; false when there is none.
bool help_group(const struct command *const *commands, size_t count, const char *word);
void help_command(const struct command *command);

#endif
