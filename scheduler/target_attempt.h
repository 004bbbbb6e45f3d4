// target_attempt.h - one delivery over HTTP as libcurl sees it: an easy handle, whose options are set once
// and which serves one delivery after the other, of whatever target. The HTTP thread's.
#ifndef SLUICE_SCHEDULER_TARGET_ATTEMPT_H
#define SLUICE_SCHEDULER_TARGET_ATTEMPT_H

#include "scheduler/target.h"

#include <curl/curl.h>

#define ATTEMPT_ANSWER_KEPT 200u // bytes of an answer that an error quotes
#define ATTEMPT_KEY "Idempotency-Key: "
#define ATTEMPT_TRACE "traceparent: "

// Where certificates of authorities are, NULL: libcurl's own.
struct certificates {
    const char *file;
    const char *path;
};

struct attempt {
    struct attempt *next; // for whoever has it
    struct attempt *prev;
    CURL *easy;
    struct delivery *delivery; // NULL between attempt_end and attempt_begin
    struct curl_slist
        key_line; // the first header, followed by the next where there is a trace, or by the target's
    struct curl_slist trace_line;
    char key[sizeof(ATTEMPT_KEY) + ID_TEXT_SIZE];
    char trace[sizeof(ATTEMPT_TRACE) + TRACEPARENT_SIZE];
    struct buf body;
    size_t body_sent;
    char answer[ATTEMPT_ANSWER_KEPT];
    size_t answer_len;  // bytes kept
    size_t answer_read; // bytes read
    char error[CURL_ERROR_SIZE];
};

struct attempt *attempt_new(const struct certificates *certificates); // NULL without memory
// It is in no multi handle. NULL is fine.
void attempt_free(struct attempt *attempt);

// Gets ready to send the delivery to its target's URL with these headers, which the target keeps until
// attempt_end; and with the traceparent its ingestion came with, unless the headers have one of their own.
// ERR_NO_MEMORY.
MUST_CHECK enum err attempt_begin(struct attempt *attempt, struct delivery *delivery,
                                  struct curl_slist *headers);
// The transfer is over: fills in the delivery's outcome but for its class and time, and returns the class.
enum outcome_class attempt_judge(struct attempt *attempt, CURLcode code);
// Lets go of the delivery and of what belongs to its target.
void attempt_end(struct attempt *attempt);

#endif
