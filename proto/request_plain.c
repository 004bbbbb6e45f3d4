// Decoding: an ingest in the shape that nearly all have, in one pass over the text. Building and freeing
// cJSON's tree, with an allocation for each ID, takes ten times as long.
#include "proto/request_ops.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_SIZE QUEUE_NAME_SIZE // no member that is a string is longer
#define DIGITS_MAX 16             // of ID_VALUE_MAX
_Static_assert(TEXT_SIZE >= ID_TEXT_SIZE, "an ID is such a member");

struct scan {
    const char *at;
    const char *end;
};

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) {
        s->at++;
    }
}

// Takes c, with the white space in front of it, if it comes next.
static bool take(struct scan *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c) {
        return false;
    }
    s->at++;
    return true;
}

// A string that means what is written: printable ASCII without escapes.
static bool take_string(struct scan *s, char text[static TEXT_SIZE])
{
    if (!take(s, '"')) {
        return false;
    }
    size_t len = 0;
    for (; s->at < s->end && *s->at != '"'; s->at++) {
        if (len == TEXT_SIZE - 1 || *s->at < ' ' || *s->at > '~' || *s->at == '\\') {
            return false;
        }
        text[len++] = *s->at;
    }
    text[len] = '\0';
    return take(s, '"');
}

// Appends the digits to *to.
static bool take_id(struct scan *s, char **to, uint64_t *largest)
{
    skip_space(s);
    const char *start = s->at;
    uint64_t value = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
        if (s->at - start == DIGITS_MAX) {
            return false;
        }
        value = value * 10 + (uint64_t)(*s->at - '0');
        *(*to)++ = *s->at;
    }
    *largest = value > *largest ? value : *largest;
    return s->at > start && *start != '0' && value <= ID_VALUE_MAX;
}

static bool take_ids(struct scan *s, struct ids *ids)
{
    const char *close = take(s, '[') ? memchr(s->at, ']', (size_t)(s->end - s->at)) : NULL;
    char *to = close ? malloc((size_t)(close - s->at) + 1) : NULL; // nothing gets longer
    if (!to) {
        return false;
    }
    ids->text = to;
    ids->kind = IDS_INTEGER;
    do {
        if (ids->count == IDS_MAX || !take_id(s, &to, &ids->largest)) {
            return false;
        }
        ids->count++;
        *to++ = ',';
    } while (take(s, ','));
    to--;
    *to = '\0';
    ids->len = (size_t)(to - ids->text);
    return take(s, ']');
}

enum member { OP, ID, QUEUE, PRIORITY, IDS, OWNER, MEMBERS };

#define BIT(member) (1u << (member))

static enum member member_named(const char *name)
{
    static const char *const names[] = {
        [OP] = "op",   [ID] = "id",      [QUEUE] = "queue", [PRIORITY] = "priority",
        [IDS] = "ids", [OWNER] = "owner"};
    int at = 0;
    while (at < MEMBERS && strcmp(name, names[at]) != 0) {
        at++;
    }
    return (enum member)at;
}

// A member that is not among those in `seen`, and adds it to them.
static bool take_member(struct scan *s, struct request *request, unsigned *seen)
{
    struct ingest_request *ingest = &request->ingest;
    char text[TEXT_SIZE];
    if (!take_string(s, text) || !take(s, ':')) {
        return false;
    }
    enum member member = member_named(text);
    bool again = (*seen & BIT(member)) != 0;
    if (again || (member != IDS && !take_string(s, text))) {
        return false;
    }
    *seen |= BIT(member);
    switch (member) {
    case OP:
        return strcmp(text, op_name(OP_INGEST)) == 0;
    case ID:
        ingest->has_id = true;
        return id_parse(text, strlen(text), &ingest->id);
    case QUEUE:
        memcpy(ingest->queue, text, strlen(text) + 1);
        return queue_name_valid(text);
    case PRIORITY:
        return priority_parse(text, &ingest->priority);
    case IDS:
        return take_ids(s, &ingest->ids);
    case OWNER:
        request->scope = queue_name_valid(text) ? scope_new(text, NULL, 0) : NULL;
        return request->scope != NULL;
    case MEMBERS:
        break;
    }
    return false;
}

static bool take_ingest(struct scan *s, enum plain_form form, struct request *request)
{
    static const struct {
        unsigned needed, allowed;
    } forms[] = {
        [PLAIN_BODY] = {BIT(PRIORITY) | BIT(IDS), BIT(QUEUE) | BIT(PRIORITY) | BIT(IDS)},
        [PLAIN_LINE] = {BIT(OP) | BIT(PRIORITY) | BIT(IDS), BIT(MEMBERS) - 1},
    };
    unsigned seen = 0;
    if (!take(s, '{')) {
        return false;
    }
    do {
        if (!take_member(s, request, &seen)) {
            return false;
        }
    } while (take(s, ','));
    if (!take(s, '}')) {
        return false;
    }
    skip_space(s);
    if (!(seen & BIT(QUEUE))) {
        memcpy(request->ingest.queue, DEFAULT_QUEUE, sizeof(DEFAULT_QUEUE));
    }
    return s->at == s->end && (seen & forms[form].needed) == forms[form].needed &&
           (seen & ~forms[form].allowed) == 0;
}

bool request_plain(const char *text, size_t len, enum plain_form form, struct request *request)
{
    struct scan s = {text, text + len};
    *request = (struct request){.op = OP_INGEST};
    if (!take_ingest(&s, form, request)) {
        request_fini(request);
        return false;
    }
    return true;
}
