// replay.c - runs a target over the files of a directory, each once: its corpus as a unit test.
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A copy of exactly its size, so that a sanitizer sees the first byte read past the end.
static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    *size = 0;
    if (!file) {
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0) {
        long end = ftell(file);
        rewind(file);
        bytes = end < 0 ? NULL : malloc((size_t)end + (end == 0 ? 1 : 0));
        *size = end < 0 ? 0 : (size_t)end;
        if (bytes && fread(bytes, 1, *size, file) != *size) {
            free(bytes);
            bytes = NULL;
        }
    }
    (void)fclose(file);
    return bytes;
}

static bool replay(const char *dir, const char *name)
{
    char path[4096];
    size_t size;
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path)) {
        return false;
    }
    uint8_t *bytes = read_file(path, &size);
    if (!bytes) {
        perror(path);
        return false;
    }
    (void)fprintf(stderr, "%s: %zu bytes\n", name, size); // the last one is to blame
    (void)LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    return true;
}

int main(int argc, char **argv)
{
    struct dirent **entries;
    unsigned done = 0;
    bool good = true;
    if (argc != 2) {
        (void)fprintf(stderr, "Usage: %s DIRECTORY\n", argv[0]);
        return 64;
    }
    int count = scandir(argv[1], &entries, NULL, alphasort);
    if (count < 0) {
        perror(argv[1]);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            good = replay(argv[1], entries[i]->d_name) && good;
            done++;
        }
        free(entries[i]);
    }
    free(entries);
    (void)fprintf(stderr, "%u inputs\n", done);
    return good && done > 0 ? 0 : 1;
}
