// request.h - a request as both processes hold it, whichever way it came (an HTTP body or an IPC line).
//
// Decoding checks everything that does not depend on a queue's settings. Pure; any thread.
#ifndef SLUICE_PROTO_REQUEST_H
#define SLUICE_PROTO_REQUEST_H

#include "common/buf.h"
#include "common/id.h"
#include "common/json.h"
#include "proto/words.h"

enum op { OP_PING, OP_INGEST, OP_STATUS, OP_LIST, OP_STATS };

// A list of integer IDs, in the one form they have from the wire to the disk and back: the decimal numbers of
// a JSON array, separated by single commas, without its brackets ("1,2,3"). So every ID stays as it was
// written.
struct ids {
    char *text; // owned, NUL-terminated
    size_t len;
    uint32_t count;   // 1 to IDS_MAX
    uint64_t largest; // for the queue's max_id
};

struct ingest_request {
    bool has_id; // minted by the client; else the scheduler mints one when it decodes the line
    struct id id;
    enum priority priority;
    char queue[QUEUE_NAME_SIZE]; // DEFAULT_QUEUE when absent
    char *idempotency_key;       // owned; NULL when absent
    struct ids ids;
};

struct status_request {
    struct id id;
    uint32_t limit;  // 1 to PAGE_MAX
    uint32_t offset; // of the first batch
};

struct list_request {
    bool has_status, has_priority, has_queue;
    enum status status;
    enum priority priority;
    char queue[QUEUE_NAME_SIZE];
    uint32_t limit;  // 1 to LIST_MAX
    uint64_t cursor; // opaque to clients; 0: from the newest
};

struct request {
    enum op op;
    union {
        struct ingest_request ingest;
        struct status_request status;
        struct list_request list;
    };
};

// Frees what it holds and zeroes it. A zeroed request (op OP_PING) is fine.
void request_fini(struct request *request);

// The members of an HTTP ingest body ("ids", "priority", "queue") into request->ingest; has_id and
// idempotency_key are left unset for the caller. The errors are those of the contract, the detail names the
// field and, for a bad ID, its index. On failure *request needs no fini.
MUST_CHECK enum err request_from_body(const char *body, size_t len, struct request *request,
                                      struct fault *fault);

// An IPC line (a JSON object with "op"), without its newline.
MUST_CHECK enum err request_from_line(const char *line, size_t len, struct request *request,
                                      struct fault *fault);

// The IPC line of a request, with its newline, appended to out.
void request_to_line(const struct request *request, struct buf *out);

// True when both ask for the same thing: the content an idempotency key or an ID stands for (ids, priority,
// queue).
bool ingest_same_content(const struct ingest_request *a, const struct ingest_request *b);

#endif
