// exit.h - how the command line ends: beside common/conf.h's, the rest of sysexits.h that it uses, and the
// fates of an ingestion. sluice(1) lists them all.
#ifndef SLUICE_CLI_EXIT_H
#define SLUICE_CLI_EXIT_H

#include "common/conf.h"

enum cli_exit {
    EXIT_CODE_REFUSED = 1,   // not as things stand: finished already, a queue that is not empty, ...
    EXIT_CODE_FAILED = 2,    // watch, ingest --wait: the ingestion has failed
    EXIT_CODE_CANCELLED = 3, // and was cancelled
    EXIT_CODE_TEMPFAIL = 75, // overloaded, or no answer in time: the same again, later
    EXIT_CODE_PROTOCOL = 76, // the scheduler's answer could not be understood
    EXIT_CODE_NOPERM = 77,   // this user may not use the socket
};

// The exit code for an error of the scheduler, by its code word.
int exit_of_error(const char *code);

#endif
