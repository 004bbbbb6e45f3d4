// queue_change.h - what a PUT on a queue asks for: some of its settings, the others stay as they are. Pure;
// any thread.
#ifndef SLUICE_PROTO_QUEUE_CHANGE_H
#define SLUICE_PROTO_QUEUE_CHANGE_H

#include "common/buf.h"
#include "common/json.h"
#include "common/units.h"
#include "proto/words.h"

// The settings by their names in JSON; max_attempts, min_backoff and max_backoff stand inside "retry".
enum queue_setting {
    SETTING_RATE = 1 << 0,          // "N/DURATION" or "unlimited"
    SETTING_BURST = 1 << 1,         // 1 to 1000000; null: what the rate gives in 10 ms, at least 1
    SETTING_LINGER = 1 << 2,        // 0 to 1h; null: 2 % of the interval, at most 100 ms
    SETTING_CONCURRENCY = 1 << 3,   // 1 to 10000
    SETTING_BATCH_SIZE = 1 << 4,    // 1 to BATCH_SIZE_MAX (STRING_BATCH_SIZE_MAX where ids are strings)
    SETTING_TARGET = 1 << 5,        // 1 to TARGET_MAX bytes; only the scheduler looks inside
    SETTING_TIMEOUT = 1 << 6,       // 1ms to 1h
    SETTING_MAX_ATTEMPTS = 1 << 7,  // 1 to 1000
    SETTING_MIN_BACKOFF = 1 << 8,   // 1ms to 7d
    SETTING_MAX_BACKOFF = 1 << 9,   // 1ms to 7d
    SETTING_IDS = 1 << 10,          // "integer" or "string"
    SETTING_MAX_ID = 1 << 11,       // 1 to ID_VALUE_MAX
    SETTING_HEADERS = 1 << 12,      // an object of strings; replaces all there are
    SETTING_MAX_HOLD = 1 << 13,     // 0 to 7d
    SETTING_BREAKER = 1 << 14,      // 0 (none) to 1000000 failures in succession
    SETTING_LEASE = 1 << 15,        // 1s to 1d
    SETTING_ON_INTERRUPT = 1 << 16, // "resend" or "hold"
    SETTING_AGING = 1 << 17,        // 1s to 366d; null or 0: off
};

struct queue_change {
    unsigned given; // those that are in it, as bits
    struct rate rate;
    uint32_t burst;    // 0: the default
    int64_t linger_ns; // -1: the default
    uint32_t concurrency;
    uint32_t batch_size;
    char *target; // owned
    int64_t timeout_ns;
    uint32_t max_attempts;
    int64_t min_backoff_ns;
    int64_t max_backoff_ns;
    enum ids_kind ids;
    uint64_t max_id;
    char *headers; // owned: `Name: value` lines, each with its newline; a value of *** keeps the one there is
    int64_t max_hold_ns;
    uint32_t breaker;
    int64_t lease_ns;
    enum on_interrupt on_interrupt;
    int64_t aging_ns; // 0: off
};

void queue_change_fini(struct queue_change *change); // a zeroed one is fine

// The names of the members a change may have in JSON, for json_only.
extern const char *const queue_change_members[];
extern const size_t queue_change_member_count;

// From the members of a JSON object; others are the caller's (who checks with json_only). Into a zeroed
// change; on failure the caller calls queue_change_fini. ERR_INVALID_FIELD, which names the member and says
// what is allowed; headers: names are tokens (RFC 9110), values visible ASCII with spaces and tabs inside,
// and what Sluice sets itself or what frames the request is refused (Content-Length, Transfer-Encoding,
// Connection, Content-Type, Idempotency-Key, User-Agent, Expect, and a name given twice).
MUST_CHECK enum err queue_change_decode(const cJSON *object, struct queue_change *change,
                                        struct fault *fault);
// The members that were given, each with a comma in front, so that decoding gives the same change.
void queue_change_encode(const struct queue_change *change, struct buf *out);

// The next header of such lines: false at the end. *at starts as the text. Name and value are not terminated.
bool headers_next(const char **at, const char **name, size_t *name_len, const char **value,
                  size_t *value_len);

#endif
