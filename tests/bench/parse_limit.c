// How fast cJSON alone parses a body, as a measure for taking one in: strings and escapes go through it,
// while an ingest that is written plainly does not (proto/request_plain.c).
//
//   parse_limit FILE SECONDS     prints "result PARSES_PER_SECOND PARSES"; each one is freed again
#include "common/clock.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    if (file && fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        rewind(file);
        text = size > 0 ? malloc((size_t)size) : NULL;
        *len = text ? fread(text, 1, (size_t)size, file) : 0;
    }
    if (file) {
        (void)fclose(file);
    }
    return text;
}

int main(int argc, char **argv)
{
    size_t len = 0;
    char *text = argc == 3 ? read_file(argv[1], &len) : NULL;
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 0;
    if (!text || !(seconds > 0)) {
        fprintf(stderr, "usage: parse_limit FILE SECONDS\n");
        free(text);
        return 64;
    }
    struct mono begin = mono_now();
    double elapsed = 0;
    size_t parses = 0;
    while (elapsed < seconds) {
        cJSON *json = cJSON_ParseWithLength(text, len);
        if (!json) {
            fprintf(stderr, "parse_limit: %s is not JSON\n", argv[1]);
            free(text);
            return EXIT_FAILURE;
        }
        cJSON_Delete(json);
        parses++;
        elapsed = (double)mono_diff(mono_now(), begin) / (double)NS_PER_S;
    }
    printf("result %.3f %zu\n", (double)parses / elapsed, parses);
    free(text);
    return EXIT_SUCCESS;
}
