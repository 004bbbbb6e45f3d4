// The value of an option, as every kind there is; then its lines as a command line.
#include "common/conf.h"
#include "common/units.h"
#include "scheduler/target.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void durations(const char *text)
{
    int64_t ns = -1, back = -1;
    if (!duration_parse(text, &ns)) {
        REQUIRE(ns == -1);
        return;
    }
    char shown[DURATION_TEXT_SIZE];
    duration_format(ns, shown);
    REQUIRE(ns >= 0 && ns % NS_PER_MS == 0 && strlen(shown) < sizeof(shown));
    REQUIRE(duration_parse(shown, &back) && back == ns);
}

static void rates(const char *text)
{
    struct rate rate = {7, 7}, back = {7, 7};
    if (!rate_parse(text, &rate)) {
        REQUIRE(rate.count == 7 && rate.per_ns == 7);
        return;
    }
    char shown[RATE_TEXT_SIZE];
    rate_format(rate, shown);
    REQUIRE(rate_parse(shown, &back) && back.count == rate.count && back.per_ns == rate.per_ns);
}

static void numbers(const char *text)
{
    uint64_t count = 7, bytes = 7, back;
    char shown[32];
    if (count_parse(text, &count)) {
        (void)snprintf(shown, sizeof(shown), "%llu", (unsigned long long)count);
        REQUIRE(count_parse(shown, &back) && back == count && strcmp(text + strspn(text, "0"), shown) <= 0);
        REQUIRE(size_parse(text, &bytes) && bytes == count); // a size may be without its unit
    } else if (size_parse(text, &bytes)) {
        (void)snprintf(shown, sizeof(shown), "%lluB", (unsigned long long)bytes);
        REQUIRE(size_parse(shown, &back) && back == bytes);
    } else {
        REQUIRE(count == 7 && bytes == 7);
    }
}

static void words(const char *text)
{
    enum priority priority;
    enum status status;
    enum ids_kind kind;
    enum on_interrupt what;
    REQUIRE(!priority_parse(text, &priority) || strcmp(priority_name(priority), text) == 0);
    REQUIRE(!status_parse(text, &status) || strcmp(status_name(status), text) == 0);
    REQUIRE(!ids_kind_parse(text, &kind) || strcmp(ids_kind_name(kind), text) == 0);
    REQUIRE(!on_interrupt_parse(text, &what) || strcmp(on_interrupt_name(what), text) == 0);
    REQUIRE(!queue_name_valid(text) || (idempotency_key_valid(text) && strlen(text) <= QUEUE_NAME_MAX));
    REQUIRE(!idempotency_key_valid(text) || strlen(text) <= IDEMPOTENCY_KEY_MAX);
}

static void targets(const char *text)
{
    struct fault fault = {0};
    enum err err = target_check(text, &fault);
    REQUIRE(target_check(text, NULL) == err);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
    }
}

static bool parse_rate(const char *text, void *into)
{
    return rate_parse(text, into);
}

struct settings {
    char *text;
    int64_t ns;
    uint64_t bytes, count;
    struct rate rate;
};

static void command_line(char *lines)
{
    static const struct conf_option options[] = {
        {"data", "DIR", "d", "a text", "text", conf_text, offsetof(struct settings, text)},
        {"timeout", "D", "1s", "a duration", "time", conf_duration, offsetof(struct settings, ns)},
        {"max-body", "SIZE", "8MiB", "a size", "size", conf_size, offsetof(struct settings, bytes)},
        {"max-waiting", "N", NULL, "a number", "count", conf_count, offsetof(struct settings, count)},
        {"rate", "R", "1/5s", "a rate", "rate", parse_rate, offsetof(struct settings, rate)},
    };
    char name[] = "fuzz", *argv[16] = {name};
    struct settings settings = {0};
    int argc = 1, code = -1;
    for (char *at = lines; at && argc < 15; argc++) {
        argv[argc] = strsep(&at, "\n");
    }
    FILE *out = stdout, *err = stderr; // glibc's are variables: what is for people is not read here
    stdout = stderr = fopen("/dev/null", "w");
    enum conf_result result = conf_load(name, "", options, 5, &settings, argc, argv, &code);
    (void)fclose(stderr);
    stdout = out, stderr = err;
    REQUIRE(code == EXIT_CODE_OK || (result == CONF_EXIT && code == EXIT_CODE_USAGE));
    REQUIRE(result == CONF_EXIT || settings.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    durations(text);
    rates(text);
    numbers(text);
    words(text);
    targets(text);
    command_line(text);
    free(text);
    return 0;
}
