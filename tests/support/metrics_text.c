#include "tests/support/metrics_text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
#define NEXT FIRST "0123456789"
#define NAME_MAX_LEN 128
#define LABELS_SIZE 1024

// A sample's line, taken apart.
struct sample {
    char name[NAME_MAX_LEN];
    char labels[LABELS_SIZE]; // as they stand, without `le`
    char bound[32];           // of `le`, "" when there is none
    double value;
};

// The metric whose samples are being read.
struct family {
    char name[NAME_MAX_LEN];
    char type[16];
    size_t samples;
    // of a histogram, one with the same labels
    char labels[LABELS_SIZE];
    double bound, bucket;
    bool has_sum;
    size_t complete;
};

static void take_name(const char **at, char name[static NAME_MAX_LEN], const char *line)
{
    size_t len = strspn(*at, FIRST) > 0 ? strspn(*at, NEXT) : 0;
    cr_assert(len > 0 && len < NAME_MAX_LEN, "no name: %s", line);
    memcpy(name, *at, len);
    name[len] = '\0';
    *at += len;
}

static double take_value(const char *at, const char *line)
{
    char *end;
    double value = strtod(strcmp(at, "+Inf") == 0 ? "inf" : at, &end);
    cr_assert(*at != '\0' && *at != ' ' && (strcmp(at, "+Inf") == 0 || *end == '\0'), "no value: %s", line);
    return value;
}

// The value of a label, behind its first quote; only \\, \" and \n are escapes.
static size_t value_length(const char *at, const char *line)
{
    size_t len = 0;
    while (at[len] != '"') {
        cr_assert(at[len] != '\0', "a label's value has no end: %s", line);
        if (at[len] == '\\') {
            cr_assert(strchr("\\\"n", at[++len]) && at[len] != '\0', "no such escape: %s", line);
        }
        len++;
    }
    return len;
}

static void take_labels(const char **at, struct sample *sample, const char *line)
{
    size_t used = 0;
    do {
        char name[NAME_MAX_LEN], again[NAME_MAX_LEN + 3];
        (*at)++; // '{' or ','
        const char *from = *at;
        take_name(at, name, line);
        cr_assert(strncmp(*at, "=\"", 2) == 0, "no value of a label: %s", line);
        *at += 2;
        size_t len = value_length(*at, line);
        if (strcmp(name, "le") == 0) {
            cr_assert(len < sizeof(sample->bound));
            memcpy(sample->bound, *at, len);
        } else {
            (void)snprintf(again, sizeof(again), "%s=\"", name);
            cr_assert_null(strstr(sample->labels, again), "a label twice: %s", line);
            used += (size_t)snprintf(sample->labels + used, sizeof(sample->labels) - used, "%.*s,",
                                     (int)(*at + len + 1 - from), from);
            cr_assert_lt(used, sizeof(sample->labels));
        }
        *at += len + 1;
    } while (**at == ',');
    cr_assert_eq(**at, '}', "labels have no end: %s", line);
    (*at)++;
}

static void take_sample(const char *line, struct sample *sample)
{
    const char *at = line;
    *sample = (struct sample){.name = ""};
    take_name(&at, sample->name, line);
    if (*at == '{') {
        take_labels(&at, sample, line);
    }
    cr_assert_eq(*at, ' ', "%s", line);
    sample->value = take_value(at + 1, line);
}

static void family_end(const struct family *family)
{
    if (family->name[0] != '\0') {
        cr_assert(strcmp(family->type, "histogram") != 0 || family->samples == family->complete,
                  "%s: a histogram without its count", family->name);
    }
}

// # HELP name text, and # TYPE name type on the next line.
static void family_open(struct family *family, const char *help, const char *type)
{
    char name[NAME_MAX_LEN];
    const char *at = help + strlen("# HELP ");
    family_end(family);
    *family = (struct family){.name = ""};
    cr_assert_eq(strncmp(help, "# HELP ", strlen("# HELP ")), 0, "%s", help);
    take_name(&at, family->name, help);
    cr_assert(at[0] == ' ' && at[1] != '\0', "no help: %s", help);
    for (; *at != '\0'; at++) {
        cr_assert(*at != '\\' || (strchr("\\n", *++at) && *at != '\0'), "no such escape: %s", help);
    }
    cr_assert(type && strncmp(type, "# TYPE ", strlen("# TYPE ")) == 0, "no type behind: %s", help);
    at = type + strlen("# TYPE ");
    take_name(&at, name, type);
    cr_assert_str_eq(name, family->name);
    cr_assert(strcmp(at, " counter") == 0 || strcmp(at, " gauge") == 0 || strcmp(at, " histogram") == 0, "%s",
              type);
    (void)snprintf(family->type, sizeof(family->type), "%s", at + 1);
    size_t len = strlen(name);
    bool total = len > 6 && strcmp(name + len - 6, "_total") == 0;
    cr_assert_eq(total, strcmp(family->type, "counter") == 0, "%s", type);
}

static void histogram_sample(struct family *family, const struct sample *sample, const char *suffix)
{
    if (strcmp(suffix, "_bucket") == 0) {
        bool first = family->samples == family->complete;
        double bound = take_value(sample->bound, sample->name);
        cr_assert(first || strcmp(sample->labels, family->labels) == 0, "%s", sample->labels);
        cr_assert(first || (bound > family->bound && sample->value >= family->bucket), "%s %s", sample->name,
                  sample->bound);
        family->bound = bound;
        family->bucket = sample->value;
        family->has_sum = false;
        (void)snprintf(family->labels, sizeof(family->labels), "%s", sample->labels);
        family->samples++;
        return;
    }
    cr_assert_str_eq(sample->labels, family->labels);
    cr_assert_str_eq(sample->bound, "");
    cr_assert(isinf(family->bound), "%s: no bucket +Inf", sample->name);
    family->samples++;
    if (strcmp(suffix, "_sum") == 0) {
        family->has_sum = true;
        return;
    }
    cr_assert_str_eq(suffix, "_count");
    cr_assert(family->has_sum, "%s", sample->name);
    cr_assert_eq(sample->value, family->bucket, "%s: the count is not that of +Inf", sample->name);
    family->complete = family->samples;
}

static void family_sample(struct family *family, const struct sample *sample, const char *line)
{
    size_t len = strlen(family->name);
    cr_assert(len > 0 && strncmp(sample->name, family->name, len) == 0, "not behind its type: %s", line);
    if (strcmp(family->type, "histogram") == 0) {
        histogram_sample(family, sample, sample->name + len);
        return;
    }
    cr_assert_str_eq(sample->name, family->name);
    cr_assert_str_eq(sample->bound, "", "%s", line);
    cr_assert(strcmp(family->type, "counter") != 0 || sample->value >= 0, "%s", line);
    family->samples++;
}

static bool stands_twice(const char *text, const char *line, size_t key_len)
{
    size_t count = 0;
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        count += strncmp(at, line, key_len) == 0;
    }
    return count > 1;
}

size_t metrics_check(const char *text)
{
    struct family family = {.name = ""};
    struct sample sample;
    size_t len = strlen(text), samples = 0;
    char *copy = strdup(text);
    cr_assert(copy && len > 0 && text[len - 1] == '\n', "no newline at the end");
    copy[len - 1] = '\0';
    for (char *rest = copy, *line; (line = strsep(&rest, "\n"));) {
        if (line[0] == '#') {
            const char *type = strsep(&rest, "\n");
            family_open(&family, line, type);
            cr_assert(!stands_twice(text, line, strlen("# HELP ") + strlen(family.name) + 1), "%s", line);
            continue;
        }
        take_sample(line, &sample);
        family_sample(&family, &sample, line);
        const char *value = strrchr(line, ' ');
        cr_assert(!stands_twice(text, line, (size_t)(value - line) + 1), "twice: %s", line);
        samples++;
    }
    family_end(&family);
    free(copy);
    return samples;
}

// The next line that starts so, behind `from`.
static const char *line_with(const char *from, const char *start, size_t len)
{
    while (from && strncmp(from, start, len) != 0) {
        from = strchr(from, '\n');
        from = from ? from + 1 : NULL;
    }
    return from;
}

bool metrics_find(const char *text, const char *sample, double *value)
{
    size_t len = strlen(sample);
    for (const char *at = text; (at = line_with(at, sample, len)); at += len) {
        if (at[len] == ' ') {
            char number[64];
            (void)snprintf(number, sizeof(number), "%.*s", (int)strcspn(at + len + 1, "\n"), at + len + 1);
            *value = take_value(number, sample);
            return true;
        }
    }
    return false;
}

double metrics_value(const char *text, const char *sample)
{
    double value = 0;
    cr_assert(metrics_find(text, sample, &value), "no %s in\n%s", sample, text);
    return value;
}

size_t metrics_count_samples(const char *text, const char *start)
{
    size_t count = 0, len = strlen(start);
    for (const char *at = text; (at = line_with(at, start, len)); at += len) {
        count++;
    }
    return count;
}

bool metrics_has(const char *text, const char *name, size_t name_len)
{
    char start[NAME_MAX_LEN + 16];
    int len = snprintf(start, sizeof(start), "# TYPE %.*s ", (int)name_len, name);
    return line_with(text, start, (size_t)len) != NULL;
}
