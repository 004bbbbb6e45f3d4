#include "common/conf.h"

#include "common/units.h"
#include "common/utf8.h"

#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENV_NAME_SIZE 64

struct loader {
    const char *program;
    const char *summary;
    const struct conf_option *options;
    size_t count;
    const char **flags; // what the command line gives for each option, or NULL
};

// One line on standard error, whatever bytes the arguments bring.
__attribute__((format(printf, 2, 3))) static enum conf_result refuse(const struct loader *l,
                                                                     const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    size_t len = written < 0 ? 0 : (size_t)written;
    if (len >= sizeof(line)) {
        len = utf8_cut(line, sizeof(line) - 1);
    }
    utf8_scrub(line, len);
    (void)fprintf(stderr, "%s: %.*s\n", l->program, (int)len, line);
    return CONF_EXIT;
}

// "max-body" to "SLUICE_MAX_BODY".
static void env_name(const char *name, char text[static ENV_NAME_SIZE])
{
    static const char prefix[] = "SLUICE_";
    size_t len = strlen(name);
    assert(sizeof(prefix) + len <= ENV_NAME_SIZE);
    memcpy(text, prefix, sizeof(prefix));
    char *at = text + sizeof(prefix) - 1;
    for (size_t i = 0; i <= len; i++) {
        at[i] = (char)(name[i] == '-' ? '_' : toupper((unsigned char)name[i]));
    }
}

static const char *env_value(const char *name)
{
    char variable[ENV_NAME_SIZE];
    env_name(name, variable);
    const char *value = getenv(variable);
    return value && value[0] != '\0' ? value : NULL;
}

static const char *metavar_of(const struct conf_option *option)
{
    return option->metavar ? option->metavar : "";
}

static void print_help(const struct loader *l)
{
    size_t width = strlen("version");
    for (size_t i = 0; i < l->count; i++) {
        size_t len = strlen(l->options[i].name) + 1 + strlen(metavar_of(&l->options[i]));
        width = len > width ? len : width;
    }
    int column = (int)width;
    printf("Usage: %s [--OPTION VALUE]...\n%s\n\n", l->program, l->summary);
    printf("Each option is also a variable of the environment; the option wins.\n\n");
    for (size_t i = 0; i < l->count; i++) {
        const struct conf_option *o = &l->options[i];
        char variable[ENV_NAME_SIZE];
        env_name(o->name, variable);
        printf("  --%s %-*s  %s\n", o->name, column - (int)strlen(o->name) - 1, metavar_of(o), o->help);
        printf("    %*s  %s%s%s; %s\n", column, "", o->allowed, o->fallback ? "; default " : "",
               o->fallback ? o->fallback : "", variable);
    }
    printf("  --%-*s  this text\n  --%-*s  the version\n", column, "help", column, "version");
}

// Prints what is asked for; false when arg is neither --help nor --version.
static bool answer(const struct loader *l, const char *arg)
{
    if (strcmp(arg, "--help") == 0) {
        print_help(l);
    } else if (strcmp(arg, "--version") == 0) {
        printf("%s %s\n", l->program, SLUICE_VERSION);
    } else {
        return false;
    }
    return true;
}

// The place of the option with this name, or l->count.
static size_t find(const struct loader *l, const char *name, size_t len)
{
    size_t i = 0;
    while (i < l->count &&
           !(strlen(l->options[i].name) == len && memcmp(l->options[i].name, name, len) == 0)) {
        i++;
    }
    return i;
}

static enum conf_result read_flags(const struct loader *l, int argc, char **argv, int *exit_code)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (answer(l, arg)) {
            *exit_code = EXIT_CODE_OK;
            return CONF_EXIT;
        }
        size_t len = strcspn(arg, "=");
        size_t at = len > 2 && strncmp(arg, "--", 2) == 0 ? find(l, arg + 2, len - 2) : l->count;
        if (at == l->count) {
            return refuse(l, "\"%.*s\" is not an option; see --help", (int)len, arg);
        }
        if (arg[len] == '=') {
            l->flags[at] = arg + len + 1;
        } else if (!l->options[at].metavar) {
            l->flags[at] = "on";
        } else if (i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0) {
            l->flags[at] = argv[++i];
        } else {
            return refuse(l, "%s: a value is missing: %s", arg, l->options[at].allowed);
        }
    }
    return CONF_GO;
}

static enum conf_result apply(const struct loader *l, size_t at, void *settings)
{
    const struct conf_option *o = &l->options[at];
    void *into = (char *)settings + o->offset;
    const char *flag = l->flags[at];
    const char *value = flag ? flag : env_value(o->name);
    if (!value) {
        bool sound = !o->fallback || o->parse(o->fallback, into);
        assert(sound);
        return CONF_GO;
    }
    if (o->parse(value, into)) {
        return CONF_GO;
    }
    char variable[ENV_NAME_SIZE];
    env_name(o->name, variable);
    return refuse(l, "--%s%s%s: \"%.200s\" is not allowed: %s", o->name, flag ? "" : " from ",
                  flag ? "" : variable, value, o->allowed);
}

enum conf_result conf_load(const char *program, const char *summary, const struct conf_option *options,
                           size_t count, void *settings, int argc, char **argv, int *exit_code)
{
    struct loader l = {.program = program, .summary = summary, .options = options, .count = count};
    l.flags = calloc(count + 1, sizeof(*l.flags)); // + 1: never of size 0
    if (!l.flags) {
        *exit_code = EXIT_CODE_SOFTWARE;
        return refuse(&l, "out of memory");
    }
    *exit_code = EXIT_CODE_USAGE;
    enum conf_result result = read_flags(&l, argc, argv, exit_code);
    for (size_t i = 0; i < count && result == CONF_GO; i++) {
        result = apply(&l, i, settings);
    }
    if (result == CONF_GO) {
        *exit_code = EXIT_CODE_OK;
    }
    free(l.flags);
    return result;
}

bool conf_text(const char *text, void *into)
{
    memcpy(into, &text, sizeof(text));
    return true;
}

bool conf_duration(const char *text, void *into)
{
    return duration_parse(text, into);
}

bool conf_size(const char *text, void *into)
{
    return size_parse(text, into);
}

bool conf_count(const char *text, void *into)
{
    return count_parse(text, into);
}

bool conf_address(const char *text, const char *scheme, struct conf_address *address)
{
    static const char sep[] = "://";
    size_t scheme_len = strlen(scheme);
    if (strncmp(text, scheme, scheme_len) != 0 || strncmp(text + scheme_len, sep, strlen(sep)) != 0) {
        return false;
    }
    const char *host = text + scheme_len + strlen(sep);
    const char *colon = strrchr(host, ':');
    size_t len = colon ? (size_t)(colon - host) : 0;
    bool v6 = len > 2 && host[0] == '[' && host[len - 1] == ']' &&
              strspn(host + 1, "0123456789abcdefABCDEF:.") == len - 2;
    bool plain =
        len > 0 && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == len;
    uint64_t port;
    if ((!v6 && !plain) || !conf_count(colon + 1, &port) || port < 1 || port > UINT16_MAX) {
        return false;
    }
    *address = (struct conf_address){.host = host, .host_len = len, .port = (uint16_t)port};
    return true;
}

bool conf_descriptor(const char *text, void *into)
{
    uint64_t fd;
    if (!count_parse(text, &fd) || fd <= STDERR_FILENO || fd > INT_MAX ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0) {
        return false;
    }
    *(int *)into = (int)fd;
    return true;
}
