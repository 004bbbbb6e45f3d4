// watch.h - stays with an ingestion to its end.
#ifndef SLUICE_CLI_WATCH_H
#define SLUICE_CLI_WATCH_H

#include "cli/session.h"

// Shows its progress on `to` until it is final. With --json its status, as `status` gives it, follows on
// standard output, and progress is shown only on a terminal. The exit code: its fate (0, EXIT_CODE_FAILED,
// EXIT_CODE_CANCELLED), or what kept us from seeing it.
int watch_ingestion(struct session *session, const char *id, FILE *to);

#endif
