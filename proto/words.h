// words.h - the words of the outside contract as enums, and its fixed limits. Pure; any thread.
#ifndef SLUICE_PROTO_WORDS_H
#define SLUICE_PROTO_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_VERSION 1

#define IDS_MAX 100000u       // IDs in one ingestion
#define BATCH_SIZE_MAX 60000u // so that any batch fits into a reply line (16 digits and a comma each)
#define ID_VALUE_MAX UINT64_C(9007199254740991) // 2^53-1
#define ID_STRING_MAX 128u                      // bytes of an ID on a queue of strings
#define STRING_BATCH_SIZE_MAX 1000u             // its batches: 128 bytes may become 770 in JSON
#define QUEUE_NAME_MAX 64u
#define QUEUE_NAME_SIZE (QUEUE_NAME_MAX + 1)
#define IDEMPOTENCY_KEY_MAX 255u
#define MESSAGE_MAX (16u << 20)      // an IPC message
#define MESSAGE_LINES_MAX 16384u     // requests in one IPC message
#define REPLY_LINE_MAX (1u << 20)    // one reply
#define REPLY_MESSAGE_MAX (8u << 20) // the replies of one message
#define PAGE_DEFAULT 1000u           // batches in a page of /status
#define PAGE_MAX 10000u
#define LIST_DEFAULT 50u // ingestions in a page of /ingestions
#define LIST_MAX 1000u
#define QUEUES_DEFAULT 1000u // queues in a page of /queues
#define QUEUES_MAX 10000u    // queues there may be
#define HEADERS_MAX 32u      // of a queue
#define HEADERS_SIZE_MAX 8192u
#define BACKUP_PATH_MAX 1023u // bytes
#define TARGET_MAX 1023u      // bytes of a target
#define LEASE_WAIT_DEFAULT_NS INT64_C(20000000000)
#define LEASE_WAIT_MAX_NS INT64_C(20000000000)
#define LEASE_BATCHES_MAX 1000u // batches in one lease
#define DEFAULT_QUEUE "default"

// In the order they are dispatched.
enum priority { PRIORITY_HIGH, PRIORITY_MEDIUM, PRIORITY_LOW };
#define PRIORITIES 3

// What a batch, and an ingestion, can be from the outside.
enum status { STATUS_YET_TO_START, STATUS_TRIGGERED, STATUS_COMPLETED, STATUS_FAILED, STATUS_CANCELLED };
#define STATUSES 5

// What the ids of a queue are.
enum ids_kind { IDS_INTEGER, IDS_STRING };
// What becomes of a batch that was in flight when the scheduler died.
enum on_interrupt { ON_INTERRUPT_RESEND, ON_INTERRUPT_HOLD };

const char *ids_kind_name(enum ids_kind kind); // "integer", "string"
bool ids_kind_parse(const char *text, enum ids_kind *kind);
const char *on_interrupt_name(enum on_interrupt what); // "resend", "hold"
bool on_interrupt_parse(const char *text, enum on_interrupt *what);
const char *priority_name(enum priority priority);
bool priority_parse(const char *text, enum priority *priority); // exact: "HIGH", "MEDIUM", "LOW"
const char *status_name(enum status status);
bool status_parse(const char *text, enum status *status);

// [a-z0-9][a-z0-9._-]{0,63}
bool queue_name_valid(const char *text);
// 1 to 255 visible ASCII characters (0x21 to 0x7e).
bool idempotency_key_valid(const char *text);

#endif
