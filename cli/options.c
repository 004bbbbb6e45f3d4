#include "cli/options.h"

#include "cli/say.h"
#include "common/clock.h"
#include "proto/words.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool option_flag(const char *text, void *into)
{
    (void)text;
    *(bool *)into = true;
    return true;
}

bool option_priority(const char *text, void *into)
{
    char upper[16];
    enum priority priority;
    size_t len = strlen(text);
    if (len >= sizeof(upper)) {
        return false;
    }
    for (size_t i = 0; i <= len; i++) {
        upper[i] = (char)toupper((unsigned char)text[i]);
    }
    return priority_parse(upper, &priority) && conf_text(priority_name(priority), into);
}

static bool parse_timeout(const char *text, void *into)
{
    int64_t ns;
    if (!conf_duration(text, &ns) || ns < 10 * NS_PER_MS || ns > 86400 * NS_PER_S) {
        return false;
    }
    *(int64_t *)into = ns;
    return true;
}

const struct conf_option common_options[] = {
    {"json", NULL, NULL, NULL, "print the scheduler's reply, one JSON value on a line", option_flag,
     offsetof(struct settings, json)},
    {"ipc", "URL", NULL, "ipc://PATH", "the scheduler's socket", conf_text, offsetof(struct settings, ipc)},
    {"timeout", "DURATION", "5s", "a duration from 10ms to 1d",
     "how long the scheduler may take to answer, a restart of it included", parse_timeout,
     offsetof(struct settings, timeout_ns)},
};
const size_t common_option_count = sizeof(common_options) / sizeof(common_options[0]);

static const struct conf_option *find_in(const struct conf_option *options, size_t count, const char *name,
                                         size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static const struct conf_option *find(const struct command *command, const char *name, size_t len)
{
    const struct conf_option *own = find_in(command->options, command->option_count, name, len);
    return own ? own : find_in(common_options, common_option_count, name, len);
}

static int store(const struct conf_option *option, const char *from, const char *value,
                 struct settings *settings)
{
    if (option->parse(value, (char *)settings + option->offset)) {
        return EXIT_CODE_OK;
    }
    say("%s%s: \"%.200s\" is not allowed: %s", from, option->name, value, option->allowed);
    return EXIT_CODE_USAGE;
}

static int fill_defaults(const struct conf_option *options, size_t count, struct settings *settings)
{
    int code = EXIT_CODE_OK;
    for (size_t i = 0; i < count && code == EXIT_CODE_OK; i++) {
        if (options[i].fallback) {
            code = store(&options[i], "default of --", options[i].fallback, settings);
        }
    }
    return code;
}

// SLUICE_IPC is left to the client library, which knows where to look without it.
static int fill_from_environment(struct settings *settings)
{
    const struct conf_option *timeout = find_in(common_options, common_option_count, "timeout", 7);
    const char *value = getenv("SLUICE_TIMEOUT");
    assert(timeout);
    return value && value[0] != '\0' ? store(timeout, "SLUICE_TIMEOUT: --", value, settings) : EXIT_CODE_OK;
}

// The option at *arg with its value, which may be the next argument.
static int take(const struct command *command, char ***arg, struct settings *settings)
{
    const char *text = **arg;
    size_t len = strcspn(text, "=");
    const struct conf_option *option = len > 2 && text[1] == '-' ? find(command, text + 2, len - 2) : NULL;
    if (!option) {
        say("\"%.*s\" is not an option of %s; see sluice help %s", (int)len, text, command->name,
            command->name);
        return EXIT_CODE_USAGE;
    }
    const char *value = text[len] == '=' ? text + len + 1 : NULL;
    if (!option->metavar && value) {
        say("--%s takes no value", option->name);
        return EXIT_CODE_USAGE;
    }
    if (option->metavar && !value) {
        const char *next = (*arg)[1];
        if (!next || strncmp(next, "--", 2) == 0) {
            say("--%s: a value is missing: %s", option->name, option->allowed);
            return EXIT_CODE_USAGE;
        }
        value = next;
        ++*arg;
    }
    return store(option, "--", value, settings);
}

static int count_operands(const struct command *command, size_t count)
{
    if (count < command->least) {
        say("%s: an operand is missing: sluice %s %s", command->name, command->name, command->operands);
        return EXIT_CODE_USAGE;
    }
    if (count > command->most) {
        say("%s: too many operands: sluice %s %s", command->name, command->name, command->operands);
        return EXIT_CODE_USAGE;
    }
    return EXIT_CODE_OK;
}

int options_parse(const struct command *command, char **argv, struct settings *settings, size_t *count,
                  bool *help)
{
    int code = fill_defaults(common_options, common_option_count, settings);
    if (code == EXIT_CODE_OK) {
        code = fill_defaults(command->options, command->option_count, settings);
    }
    if (code == EXIT_CODE_OK) {
        code = fill_from_environment(settings);
    }
    bool ended = false;
    *count = 0;
    *help = false;
    for (char **arg = argv; *arg && code == EXIT_CODE_OK; arg++) {
        if (!ended && (strcmp(*arg, "--help") == 0 || strcmp(*arg, "-h") == 0)) {
            *help = true;
            return EXIT_CODE_OK;
        }
        if (!ended && strcmp(*arg, "--") == 0) {
            ended = true;
        } else if (ended || (*arg)[0] != '-' || (*arg)[1] == '\0') {
            argv[(*count)++] = *arg;
        } else {
            code = take(command, &arg, settings);
        }
    }
    return code == EXIT_CODE_OK ? count_operands(command, *count) : code;
}
