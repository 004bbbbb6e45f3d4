// trace.h - what a request carries so that it can be followed: a request ID, and a trace context as W3C's
// Trace Context has it. Both come from others and are only taken when they are what they should be. Pure; any
// thread.
#ifndef SLUICE_PROTO_TRACE_H
#define SLUICE_PROTO_TRACE_H

#include <stdbool.h>

#define REQUEST_ID_MAX 128u
#define TRACE_ID_LEN 32
#define TRACEPARENT_SIZE 56 // "00-<32 digits>-<16 digits>-<2 digits>" and a NUL

// Each "" when there is none.
struct trace {
    char request_id[REQUEST_ID_MAX + 1];
    char traceparent[TRACEPARENT_SIZE];
};

// 1 to 128 letters, digits and of - _ . : / + @ ~: what can stand in a header, a log and JSON as it is.
bool request_id_valid(const char *text);

// Reads a traceparent of version 00, or of a later one as far as its start is that of version 00, and writes
// it as version 00 (of a later one, of the flags `sampled` alone is known). False for anything else; then
// traceparent is left alone.
bool traceparent_parse(const char *text, char traceparent[static TRACEPARENT_SIZE]);

// What a log says of it: "request_id=… trace_id=…", as far as there is something. trace may be NULL.
#define TRACE_TEXT_SIZE (sizeof("request_id= trace_id=") + REQUEST_ID_MAX + TRACE_ID_LEN)
const char *trace_text(const struct trace *trace, char text[static TRACE_TEXT_SIZE]);

#endif
