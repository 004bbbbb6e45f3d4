#include "cli/ids.h"

#include "cli/exit.h"
#include "cli/say.h"
#include "common/units.h"
#include "common/utf8.h"

#include <errno.h>
#include <string.h>

// Bytes of a portion: an ID of 128 bytes may take six times as many in JSON, and 100,000 of them more than a
// message.
#define PORTION_BYTES_MAX (MESSAGE_MAX / 2)

static int refuse(const struct ids_source *source, const char *text, const char *allowed)
{
    if (source->file) {
        say("%s, line %llu: \"%.64s\" is no ID here: %s", source->name, (unsigned long long)source->at, text,
            allowed);
    } else {
        say("\"%.64s\" is no ID here: %s", text, allowed);
    }
    return EXIT_CODE_DATAERR;
}

// The next line, cut where it is too long for any ID; false at the end of the file.
static bool read_line(struct ids_source *source, size_t *len)
{
    int c;
    bool whole = true;
    *len = 0;
    source->at++;
    while ((c = getc_unlocked(source->file)) != EOF && c != '\n') {
        whole = *len + 1 < sizeof(source->line);
        if (whole) {
            source->line[(*len)++] = (char)c;
        }
    }
    while (whole && *len > 0 && source->line[*len - 1] == '\r') {
        --*len;
    }
    source->line[*len] = '\0';
    return c != EOF || *len > 0;
}

// The next text that is not empty: *text is NULL at the end.
static int next(struct ids_source *source, const char **text, size_t *len)
{
    *text = NULL;
    if (!source->file) {
        if (source->at < source->word_count) {
            *text = source->words[source->at++];
            *len = strlen(*text);
        }
        return EXIT_CODE_OK;
    }
    while (read_line(source, len)) {
        if (*len > 0) {
            *text = source->line;
            return EXIT_CODE_OK;
        }
    }
    if (ferror(source->file)) {
        say("%s cannot be read: %s", source->name, strerror(errno));
        return EXIT_CODE_IOERR;
    }
    return EXIT_CODE_OK;
}

static int put(const struct ids_source *source, const char *text, size_t len, struct buf *items)
{
    uint64_t value;
    if (source->kind == IDS_STRING) {
        if (len < 1 || len > ID_STRING_MAX || strlen(text) != len || !utf8_valid(text, len)) {
            return refuse(source, text, "the IDs of this queue are strings of 1 to 128 bytes of UTF-8");
        }
        buf_json(items, text, len);
        return EXIT_CODE_OK;
    }
    if (strlen(text) != len || !count_parse(text, &value) || value < 1 || value > ID_VALUE_MAX) {
        return refuse(source, text, "the IDs of this queue are integers from 1 to 9007199254740991");
    }
    buf_u64(items, value);
    return EXIT_CODE_OK;
}

int ids_take(struct ids_source *source, struct buf *items, size_t *count)
{
    int code = EXIT_CODE_OK;
    *count = 0;
    buf_reset(items);
    while (code == EXIT_CODE_OK && *count < IDS_MAX && items->len < PORTION_BYTES_MAX) {
        const char *text;
        size_t len;
        code = next(source, &text, &len);
        if (code != EXIT_CODE_OK || !text) {
            return code;
        }
        if (*count > 0) {
            buf_char(items, ',');
        }
        code = put(source, text, len, items);
        ++*count;
    }
    return code;
}
