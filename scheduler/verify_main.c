// sluice-verify: checks the data directory of a scheduler that is not running.
#include "common/conf.h"
#include "common/proc.h"
#include "scheduler/verify.h"

#include <stddef.h>
#include <stdio.h>

struct settings {
    char *data;
};

static bool parse_dir(const char *text, void *into)
{
    return text[0] != '\0' && conf_text(text, into);
}

static const struct conf_option options[] = {
    {"data", "DIR", "./data", "a directory", "the scheduler's data directory", parse_dir,
     offsetof(struct settings, data)},
};

static void say(void *user, const char *line)
{
    (void)fprintf(user, "%s\n", line);
}

int main(int argc, char **argv)
{
    struct settings settings = {.data = NULL};
    struct verify_result result;
    struct fault fault = {.detail = ""};
    int code = EXIT_CODE_OK;
    proc_confine();
    if (conf_load("sluice-verify", "checks the data directory of a scheduler that is not running", options,
                  sizeof options / sizeof options[0], &settings, argc, argv, &code) == CONF_EXIT) {
        return code;
    }
    enum err err = verify_directory(settings.data, say, stdout, &result, &fault);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "sluice-verify: %s\n", fault.detail);
        return verify_exit_code(err);
    }
    printf("%llu ingestions, %llu batches, %llu dispatches checked: ", (unsigned long long)result.ingestions,
           (unsigned long long)result.batches, (unsigned long long)result.dispatches);
    if (result.violations == 0) {
        puts("nothing wrong");
    } else {
        printf("%llu violations\n", (unsigned long long)result.violations);
        code = EXIT_CODE_DATAERR;
    }
    return fflush(stdout) == 0 ? code : EXIT_CODE_IOERR;
}
