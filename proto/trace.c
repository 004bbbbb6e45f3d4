#include "proto/trace.h"

#include <stdio.h>
#include <string.h>

#define HEX "0123456789abcdef" // upper case is not allowed

bool request_id_valid(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+@~");
    return len >= 1 && len <= REQUEST_ID_MAX && text[len] == '\0';
}

// The parts of a traceparent.
enum part { VERSION, TRACE_ID, PARENT_ID, FLAGS, PARTS };
static const size_t lengths[PARTS] = {2, TRACE_ID_LEN, 16, 2};
static const size_t starts[PARTS] = {0, 3, 36, 53};
#define LEN (TRACEPARENT_SIZE - 1)
_Static_assert(LEN == 53 + 2, "where the flags end");

// All hexadecimal digits, and the dash behind each but the last.
static bool well_formed(const char *text)
{
    for (int i = 0; i < PARTS; i++) {
        const char *part = text + starts[i];
        if (strspn(part, HEX) != lengths[i] || (i < FLAGS && part[lengths[i]] != '-')) {
            return false;
        }
    }
    return true;
}

bool traceparent_parse(const char *text, char traceparent[static TRACEPARENT_SIZE])
{
    if (!well_formed(text)) {
        return false;
    }
    const bool version_0 = strncmp(text, "00", lengths[VERSION]) == 0;
    const bool end = text[LEN] == '\0' || (!version_0 && text[LEN] == '-');
    if (!end || strncmp(text, "ff", lengths[VERSION]) == 0 ||
        strspn(text + starts[TRACE_ID], "0") == lengths[TRACE_ID] ||
        strspn(text + starts[PARENT_ID], "0") == lengths[PARENT_ID]) {
        return false;
    }
    memcpy(traceparent, text, LEN);
    traceparent[LEN] = '\0';
    if (!version_0) {
        const bool sampled = strchr("13579bdf", text[LEN - 1]) != NULL;
        memcpy(traceparent, "00", lengths[VERSION]);
        memcpy(traceparent + starts[FLAGS], sampled ? "01" : "00", lengths[FLAGS]);
    }
    return true;
}

const char *trace_text(const struct trace *trace, char text[static TRACE_TEXT_SIZE])
{
    const bool has_id = trace && trace->request_id[0] != '\0';
    const bool has_trace = trace && trace->traceparent[0] != '\0';
    (void)snprintf(text, TRACE_TEXT_SIZE, "%s%s%s%s%.*s", has_id ? "request_id=" : "",
                   has_id ? trace->request_id : "", has_id && has_trace ? " " : "",
                   has_trace ? "trace_id=" : "", TRACE_ID_LEN,
                   has_trace ? trace->traceparent + starts[TRACE_ID] : "");
    return text;
}
