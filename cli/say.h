// say.h - what a person is told on standard error: one line, "sluice: ...".
#ifndef SLUICE_CLI_SAY_H
#define SLUICE_CLI_SAY_H

// Whatever bytes the texts bring, it stays one line, and no terminal is led astray: control characters become
// '?'.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
