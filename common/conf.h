// conf.h - options from one table: each a long flag and an environment variable of the same name.
//
// `--max-body 8MiB`, `--max-body=8MiB` and SLUICE_MAX_BODY=8MiB are the same; the flag wins. A switch stands
// alone: `--insecure`, `--insecure=on` and SLUICE_INSECURE=on are the same. Parsing prints
// what a person must see; after that the table has done its work. Called once from main, before any thread.
#ifndef SLUICE_COMMON_CONF_H
#define SLUICE_COMMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Exit codes as in sysexits.h, those of the outside contract.
enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_USAGE = 64,       // a bad flag or value
    EXIT_CODE_DATAERR = 65,     // what was to be checked is wrong
    EXIT_CODE_NOINPUT = 66,     // what was to be read is not there
    EXIT_CODE_UNAVAILABLE = 69, // a needed peer, port or lock is taken or absent
    EXIT_CODE_SOFTWARE = 70,    // out of memory, or our own defect
    EXIT_CODE_CANTCREAT = 73,   // a file or directory cannot be created
    EXIT_CODE_IOERR = 74,       // the store failed while running
    EXIT_CODE_CONFIG = 78,      // settings that contradict one another, a store that cannot be used
};

// Checks the text and stores the value at `into` (of the type the option's author chose); false when it is
// not allowed.
typedef bool conf_parse(const char *text, void *into);

struct conf_option {
    const char *name;     // without the dashes, e.g. "max-body"
    const char *metavar;  // e.g. "SIZE"; NULL for a switch: the flag alone means "on"
    const char *fallback; // parsed when neither flag nor variable is given; NULL: `into` is left as it is
    const char *allowed; // what is allowed, for the error line and the help, e.g. "a size from 1KiB to 15MiB"
    const char *help;    // one line
    conf_parse *parse;
    size_t offset; // of the value in the settings struct
};

enum conf_result { CONF_GO, CONF_EXIT };

// Fills `settings`. Also understands --help and --version (printed to standard output, exit 0).
// A bad value prints one line to standard error that names the option, the value and what is allowed; an
// unknown flag or a stray argument likewise; *exit_code is then EXIT_CODE_USAGE. A variable that is set but
// empty counts as absent. Unknown SLUICE_ variables are ignored: the two programs share an environment.
enum conf_result conf_load(const char *program, const char *summary, const struct conf_option *options,
                           size_t count, void *settings, int argc, char **argv, int *exit_code);

// Parsers for common types. into: char * (borrowed from argv or environ) / int64_t ns / uint64_t bytes /
// uint64_t.
bool conf_text(const char *text, void *into);
bool conf_duration(const char *text, void *into);
bool conf_size(const char *text, void *into);
bool conf_count(const char *text, void *into);

// The parts of SCHEME://HOST:PORT, where HOST is a name, an IPv4 address, or an IPv6 address in brackets
// (which belong to it here), and PORT is from 1 to 65535.
struct conf_address {
    const char *host; // in the text
    size_t host_len;
    uint16_t port;
};
bool conf_address(const char *text, const char *scheme, struct conf_address *address);
// An open descriptor beyond standard error; into: int. It becomes close-on-exec. (That it is open is checked
// now, before the program opens others that might get its number.)
bool conf_descriptor(const char *text, void *into);

#endif
