// request.h - a request as both processes hold it, whichever way it came (an HTTP body or an IPC line).
//
// Decoding checks everything that does not depend on a queue's settings. Pure; any thread.
#ifndef SLUICE_PROTO_REQUEST_H
#define SLUICE_PROTO_REQUEST_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/json.h"
#include "proto/ids.h"
#include "proto/queue_change.h"
#include "proto/scope.h"
#include "proto/trace.h"
#include "proto/words.h"

enum op {
    OP_PING,
    OP_INGEST,
    OP_STATUS,
    OP_LIST,
    OP_CANCEL,
    OP_RETRY,
    OP_QUEUE_LIST,
    OP_QUEUE_GET,
    OP_QUEUE_PUT,
    OP_QUEUE_DELETE,
    OP_QUEUE_PAUSE,
    OP_QUEUE_RESUME,
    OP_QUEUE_RETRY,
    OP_LEASE,
    OP_ACK,
    OP_NACK,
    OP_EXTEND,
    OP_STATS,
    OP_BACKUP,
    OP_METRICS,
};

struct ingest_request {
    bool has_id; // minted by the client; else the scheduler mints one when it decodes the line
    struct id id;
    enum priority priority;
    char queue[QUEUE_NAME_SIZE]; // DEFAULT_QUEUE when absent
    char *idempotency_key;       // owned; NULL when absent
    struct wall not_before;      // ms 0 when absent
    struct wall deadline;        // ms 0 when absent
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

// cancel, retry
struct ingestion_request {
    struct id id;
};

// queue.get, queue.put, queue.delete, queue.pause, queue.resume, queue.retry
struct queue_request {
    char name[QUEUE_NAME_SIZE];
    struct queue_change change; // queue.put
};

struct queue_list_request {
    uint32_t limit;               // 1 to QUEUES_DEFAULT
    char cursor[QUEUE_NAME_SIZE]; // the last name of the page before; "" for the first
};

struct lease_request {
    bool has_id; // minted by the worker; else the scheduler mints one when it decodes the line
    struct id id;
    char queue[QUEUE_NAME_SIZE]; // DEFAULT_QUEUE when absent
    int64_t wait_ns;             // 0 to LEASE_WAIT_MAX_NS, LEASE_WAIT_DEFAULT_NS when absent
    uint32_t max;                // 1 to LEASE_BATCHES_MAX, 1 when absent
};

// ack, nack, extend: of one batch of a lease, or of all that it still holds.
struct settle_request {
    struct id id; // the lease's
    bool has_batch;
    struct id batch;
    char *error; // nack; owned, "" when absent
    bool final;  // nack: fails for good
    bool has_delay;
    int64_t delay_ns; // nack: 0 to 7d, instead of the queue's backoff
    int64_t lease_ns; // extend: 1s to 1d from now; 0 when absent: as long as the queue says
};

struct backup_request {
    struct id id; // minted by the client
    char *path;   // owned; absolute, at most BACKUP_PATH_MAX bytes
};

struct request {
    enum op op;
    struct trace *trace; // owned; NULL when nothing of it was given
    struct scope *scope; // owned; NULL: everything. Of an ingest only the owner counts
    union {
        struct ingest_request ingest;
        struct status_request status;
        struct list_request list;
        struct ingestion_request ingestion;
        struct queue_request queue;
        struct queue_list_request queue_list;
        struct lease_request lease;
        struct settle_request settle;
        struct backup_request backup;
    };
};

// Whether an op of this kind changes something that has to be on disk before its reply. (A lease does when it
// is granted.)
bool op_writes(enum op op);
// As in an IPC line: "queue.put".
const char *op_name(enum op op);

// Frees what it holds and zeroes it. A zeroed request (op OP_PING) is fine.
void request_fini(struct request *request);

// The members of an HTTP ingest body ("ids", "priority", "queue", "not_before", "deadline") into
// request->ingest; has_id and idempotency_key are left unset for the caller. The errors are those of the
// contract, the detail names the field and, for a bad ID, its index. On failure *request needs no fini.
MUST_CHECK enum err request_from_body(const char *body, size_t len, struct request *request,
                                      struct fault *fault);

// The members of an HTTP PUT body on the queue of this (valid) name into request->queue; op becomes
// OP_QUEUE_PUT.
MUST_CHECK enum err request_from_put(const char *name, const char *body, size_t len, struct request *request,
                                     struct fault *fault);

// An IPC line (a JSON object with "op"), without its newline. What cannot be the ID of an ingestion or the
// name of a queue is one that is not there: ERR_NOT_FOUND, ERR_UNKNOWN_QUEUE.
MUST_CHECK enum err request_from_line(const char *line, size_t len, struct request *request,
                                      struct fault *fault);

// The IPC line of a request, with its newline, appended to out.
void request_to_line(const struct request *request, struct buf *out);

#endif
