// help.h - what `sluice help` says.
#ifndef SLUICE_CLI_HELP_H
#define SLUICE_CLI_HELP_H

#include "cli/command.h"

void help_all(const struct command *const *commands, size_t count);
void help_command(const struct command *command);

#endif
