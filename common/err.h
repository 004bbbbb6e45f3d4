// err.h - every way a call can fail, in one list: the same word in the log, over IPC and over HTTP.
//
// A fallible function returns `enum err` (ERR_OK is 0). Where a person must be told what was wrong, it also
// takes a `struct fault *`, which may be NULL, and writes one sentence into it. All functions here are pure
// and may be called from any thread.
#ifndef SLUICE_COMMON_ERR_H
#define SLUICE_COMMON_ERR_H

#include <stddef.h>

// X(name, code, HTTP status, title). The code is stable and part of the outside contract; the title is the
// short human-readable summary of RFC 9457. Several names may share a code: the inside can tell apart what
// looks the same from the outside; err_from_code() then gives the first.
#define ERR_LIST(X)                                                                                          \
    X(OK, "ok", 200, "OK")                                                                                   \
    X(MALFORMED_JSON, "malformed_json", 400, "Malformed JSON")                                               \
    X(ID_OUT_OF_RANGE, "id_out_of_range", 400, "ID out of range")                                            \
    X(BAD_REQUEST, "bad_request", 400, "Bad request")                                                        \
    X(UNAUTHORIZED, "unauthorized", 401, "Unauthorized")                                                     \
    X(FORBIDDEN, "forbidden", 403, "Forbidden")                                                              \
    X(NOT_FOUND, "not_found", 404, "Not found")                                                              \
    X(UNKNOWN_QUEUE, "unknown_queue", 404, "Unknown queue")                                                  \
    X(METHOD_NOT_ALLOWED, "method_not_allowed", 405, "Method not allowed")                                   \
    X(ID_REUSED, "id_reused", 409, "ID reused with other content")                                           \
    X(QUEUE_NOT_EMPTY, "queue_not_empty", 409, "Queue not empty")                                            \
    X(QUEUE_PROTECTED, "queue_protected", 409, "Queue protected")                                            \
    X(ALREADY_FINISHED, "already_finished", 409, "Already finished")                                         \
    X(LEASE_LOST, "lease_lost", 409, "Lease lost")                                                           \
    X(LENGTH_REQUIRED, "length_required", 411, "Length required")                                            \
    X(BODY_TOO_LARGE, "body_too_large", 413, "Body too large")                                               \
    X(TOO_MANY_IDS, "too_many_ids", 413, "Too many IDs")                                                     \
    X(UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", 415, "Unsupported media type")                       \
    X(INVALID_FIELD, "invalid_field", 422, "Invalid field")                                                  \
    X(IDEMPOTENCY_KEY_REUSED, "idempotency_key_reused", 422, "Idempotency key reused with other content")    \
    X(DEADLINE_UNREACHABLE, "deadline_unreachable", 422, "Deadline unreachable")                             \
    X(OVERLOADED, "overloaded", 429, "Overloaded")                                                           \
    X(TOO_MANY_REQUESTS, "too_many_requests", 429, "Too many requests")                                      \
    X(INTERNAL, "internal", 500, "Internal error")                                                           \
    X(NOT_IMPLEMENTED, "not_implemented", 501, "Not implemented")                                            \
    X(SCHEDULER_UNAVAILABLE, "scheduler_unavailable", 503, "Scheduler unavailable")                          \
    X(STORAGE_UNAVAILABLE, "storage_unavailable", 503, "Storage unavailable")                                \
    X(STORAGE_FULL, "storage_unavailable", 503, "Storage unavailable")                                       \
    X(STORAGE_IO, "storage_unavailable", 503, "Storage unavailable")                                         \
    X(STORAGE_REFUSED, "storage_unavailable", 503, "Storage unavailable")                                    \
    X(NO_MEMORY, "overloaded", 429, "Out of memory")                                                         \
    X(TRY_ALONE, "try_alone", 413, "Reply does not fit")                                                     \
    X(OUTCOME_UNKNOWN, "outcome_unknown", 504, "Outcome unknown")

enum err {
#define ERR_ENUM(name, code, status, title) ERR_##name,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
};

// How many there are.
#define ERR_ONE(name, code, status, title) char name;
struct err_each {
    ERR_LIST(ERR_ONE)
};
#define ERR_COUNT (sizeof(struct err_each))
#undef ERR_ONE

#define MUST_CHECK __attribute__((warn_unused_result))

// The stable snake_case word, the HTTP status and the title of an error. Never NULL.
const char *err_code(enum err err);
int err_status(enum err err);
const char *err_title(enum err err);

// Its name without the ERR_, which unlike the code tells all errors apart: for the log.
const char *err_name(enum err err);

// The error with this code (len bytes, no NUL needed); ERR_INTERNAL when there is none.
enum err err_from_code(const char *code, size_t len);

// An error and the one sentence that says what was wrong, where, and what is allowed.
struct fault {
    enum err err;
    char detail[256]; // always NUL-terminated valid UTF-8 without control characters; cut when too long
};

// Fills *fault (when not NULL) and returns err, so that a check reads `return fault_set(...)`. Bytes of the
// detail that are control characters or no valid UTF-8 become '?': client text may be quoted in it.
enum err fault_set(struct fault *fault, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
