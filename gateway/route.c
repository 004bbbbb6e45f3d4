#include "gateway/route.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

struct entry {
    const char *method;
    const char *path; // at most one segment may be {named}: it stands for any one segment
    enum endpoint endpoint;
};

static const struct entry entries[] = {
    {"POST", "/ingest", ENDPOINT_INGEST},
    {"GET", "/status/{id}", ENDPOINT_STATUS},
    {"GET", "/ingestions", ENDPOINT_LIST},
    {"POST", "/ingestions/{id}/cancel", ENDPOINT_CANCEL},
    {"POST", "/ingestions/{id}/retry", ENDPOINT_RETRY},
    {"GET", "/queues", ENDPOINT_QUEUE_LIST},
    {"GET", "/queues/{name}", ENDPOINT_QUEUE_GET},
    {"PUT", "/queues/{name}", ENDPOINT_QUEUE_PUT},
    {"DELETE", "/queues/{name}", ENDPOINT_QUEUE_DELETE},
    {"POST", "/queues/{name}/pause", ENDPOINT_QUEUE_PAUSE},
    {"POST", "/queues/{name}/resume", ENDPOINT_QUEUE_RESUME},
    {"POST", "/queues/{name}/retry", ENDPOINT_QUEUE_RETRY},
    {"GET", "/healthz", ENDPOINT_HEALTHZ},
    {"GET", "/readyz", ENDPOINT_READYZ},
    {"GET", "/metrics", ENDPOINT_METRICS},
};
#define ENTRIES (sizeof(entries) / sizeof(entries[0]))
static_assert(ENTRIES == ENDPOINTS, "an entry for each endpoint");

// The path of a target in absolute form (`http://host/path`), which every server must understand; else the
// target.
static const char *target_path(const char *target)
{
    static const char scheme[] = "http://";
    if (strncasecmp(target, scheme, sizeof(scheme) - 1) != 0) {
        return target;
    }
    const char *authority = target + sizeof(scheme) - 1;
    const char *path = authority + strcspn(authority, "/?");
    return *path == '/' ? path : "/";
}

static bool path_plain(const char *path, size_t len)
{
    if (len == 0 || path[0] != '/') {
        return false;
    }
    for (size_t at = 1; at < len;) {
        const char *slash = memchr(path + at, '/', len - at);
        size_t segment = slash == NULL ? len - at : (size_t)(slash - (path + at));
        bool empty = segment == 0;
        bool dots = segment <= 2 && strspn(path + at, ".") >= segment;
        if (empty || dots) {
            return false;
        }
        at += segment + 1;
    }
    return true;
}

static bool path_matches(const char *pattern, const char *path, size_t len, struct route *route)
{
    const char *end = path + len;
    route->param = NULL;
    route->param_len = 0;
    while (*pattern != '\0' && path < end) {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return false;
            }
            continue;
        }
        const char *slash = memchr(path, '/', (size_t)(end - path));
        const char *stop = slash == NULL ? end : slash;
        route->param = path;
        route->param_len = (size_t)(stop - path);
        path = stop;
        pattern = strchr(pattern, '}') + 1;
    }
    return *pattern == '\0' && path == end;
}

static void allow_add(struct route *route, const char *method)
{
    const char *words[] = {method, strcmp(method, "GET") == 0 ? "HEAD" : NULL};
    size_t at = strlen(route->allow);
    for (size_t i = 0; i < 2 && words[i] != NULL; i++) {
        size_t len = strlen(words[i]);
        assert(at + len + 3 <= sizeof(route->allow));
        if (at > 0) {
            memcpy(route->allow + at, ", ", 2);
            at += 2;
        }
        memcpy(route->allow + at, words[i], len + 1);
        at += len;
    }
}

enum err route_find(const char *method, const char *target, struct route *route, struct fault *fault)
{
    const char *path = target_path(target);
    size_t len = strcspn(path, "?");
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *route = (struct route){.query = path[len] == '?' ? path + len + 1 : ""};
    if (!path_plain(path, len)) {
        return fault_set(fault, ERR_NOT_FOUND, "There is nothing at this path.");
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        if (!path_matches(entries[i].path, path, len, route)) {
            continue;
        }
        if (strcmp(entries[i].method, wanted) == 0) {
            route->endpoint = entries[i].endpoint;
            return ERR_OK;
        }
        allow_add(route, entries[i].method);
    }
    if (route->allow[0] != '\0') {
        return fault_set(fault, ERR_METHOD_NOT_ALLOWED, "This path takes %s, not %s.", route->allow, method);
    }
    return fault_set(fault, ERR_NOT_FOUND, "There is nothing at %.*s.", (int)(len < 100 ? len : 100), path);
}

static const struct entry *entry_of(enum endpoint endpoint)
{
    const struct entry *entry = entries;
    while (entry->endpoint != endpoint) {
        entry++; // each has one
    }
    return entry;
}

const char *route_method(enum endpoint endpoint)
{
    return entry_of(endpoint)->method;
}

const char *route_path(enum endpoint endpoint)
{
    return entry_of(endpoint)->path;
}

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdef";
    char lower = (char)(c | ' ');
    const char *at = c == '\0' ? NULL : strchr(digits, c >= 'A' ? lower : c);
    return at == NULL ? -1 : (int)(at - digits);
}

// Decodes len bytes into text (size bytes with its NUL); false when they do not fit or are no text.
static bool decode(const char *from, size_t len, char *text, size_t size)
{
    size_t put = 0;
    for (size_t at = 0; at < len; put++) {
        char c = from[at++];
        if (c == '%') {
            int high = at < len ? hex_value(from[at]) : -1;
            int low = at + 1 < len ? hex_value(from[at + 1]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            at += 2;
        }
        if (c == '\0' || put + 1 >= size) {
            return false;
        }
        text[put] = c;
    }
    text[put] = '\0';
    return true;
}

enum err query_next(const char **at, struct query_param *param, bool *more, struct fault *fault)
{
    const char *pair = *at + strspn(*at, "&");
    size_t len = strcspn(pair, "&");
    *at = pair + len;
    *more = len > 0;
    if (!*more) {
        return ERR_OK;
    }
    const char *equals = memchr(pair, '=', len);
    size_t name_len = equals == NULL ? len : (size_t)(equals - pair);
    const char *value = equals == NULL ? pair + len : equals + 1;
    if (!decode(pair, name_len, param->name, sizeof(param->name))) {
        return fault_set(fault, ERR_INVALID_FIELD, "The query has a parameter that is not known here: %.*s.",
                         (int)(name_len < 100 ? name_len : 100), pair);
    }
    if (!decode(value, (size_t)(pair + len - value), param->value, sizeof(param->value))) {
        return fault_set(fault, ERR_INVALID_FIELD,
                         "The value of %s in the query is too long or badly escaped.", param->name);
    }
    return ERR_OK;
}
