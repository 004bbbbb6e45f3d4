// options.h - takes a command line apart, by the tables of common/conf.h.
#ifndef SLUICE_CLI_OPTIONS_H
#define SLUICE_CLI_OPTIONS_H

#include "cli/command.h"

// Those that all commands have. --ipc and --timeout are also variables of the environment (SLUICE_IPC,
// SLUICE_TIMEOUT), and no others are: SLUICE_RATE is meant for a scheduler, and not for `queue set`.
extern const struct conf_option common_options[];
extern const size_t common_option_count;

// Fills *settings, and moves the operands to the front of argv (there are *count). argv: what stands behind
// the command's name. "--" ends the options, "-" is an operand. EXIT_CODE_OK; EXIT_CODE_USAGE, when it has
// said what is wrong. *help: there was a --help (the rest is not looked at).
int options_parse(const struct command *command, char **argv, struct settings *settings, size_t *count,
                  bool *help);

// A parser for an option without a value; into: bool.
conf_parse option_flag;
// HIGH, MEDIUM or LOW, in any case; into: char *, in capitals.
conf_parse option_priority;

#endif
