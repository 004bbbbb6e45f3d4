// verify_batches.c - each ingestion with the rows of its batches: the counters of its progress equal the
// rows, and every row is in a state that its moments and attempts allow.
#include "scheduler/verify_check.h"

// In the order they stand in the statement.
enum column {
    SEQ,
    QUEUE,
    BATCH_SIZE,
    ID_COUNT,
    BATCH_COUNT,
    NEXT_IDX,
    FRESH,
    WAITING,
    TRIGGERED,
    COMPLETED,
    FAILED,
    CANCELLED,
    MARKS,
    FINISHED,
    ID_LENGTH,
    PRIORITY,
    IDX, // NULL: no batch has a row
    STATE,
    ATTEMPTS,
    EXCUSED,
    TRIGGERED_MS,
    COMPLETED_MS,
    DUE,
    LEASE,
    OWN_QUEUE,
};
static const char everything[] =
    "SELECT i.seq, i.queue, i.batch_size, i.id_count, i.batch_count, i.next_idx, i.fresh, i.waiting, "
    "i.triggered, i.completed, i.failed, i.cancelled, i.marks, i.finished_ns, length(i.id), i.priority, "
    "b.idx, "
    "b.state, b.attempts, b.excused, b.triggered_ms, b.completed_ms, b.due_ns, length(b.lease), b.queue FROM "
    "ingestion i LEFT JOIN batch b ON b.seq = i.seq WHERE i.id <> x'' ORDER BY i.seq, b.idx";

// An ingestion's own row, and what its batches add up to.
struct sums {
    struct about about;
    int64_t batch_count;
    int64_t counted[STATUSES]; // [STATUS_YET_TO_START]: of those that wait
    int64_t marks;
    bool fresh;
    int64_t next_index;
    bool finished;
    int64_t rows;
    int64_t past_next; // of the rows, where none should be
    int64_t again;     // wait
    int64_t found[STATUSES];
};

static int64_t integer(sqlite3_stmt *stmt, enum column column)
{
    return sqlite3_column_int64(stmt, (int)column);
}

static bool is_null(sqlite3_stmt *stmt, enum column column)
{
    return sqlite3_column_type(stmt, (int)column) == SQLITE_NULL;
}

static void begin(struct verify *v, sqlite3_stmt *stmt, struct sums *sums)
{
    *sums = (struct sums){
        .about = {.queue = integer(stmt, QUEUE), .seq = integer(stmt, SEQ), .index = -1},
        .batch_count = integer(stmt, BATCH_COUNT),
        .counted = {integer(stmt, WAITING), integer(stmt, TRIGGERED), integer(stmt, COMPLETED),
                    integer(stmt, FAILED), integer(stmt, CANCELLED)},
        .marks = integer(stmt, MARKS),
        .fresh = !is_null(stmt, FRESH),
        .next_index = integer(stmt, NEXT_IDX),
        .finished = !is_null(stmt, FINISHED),
    };
    int64_t size = integer(stmt, BATCH_SIZE);
    int64_t ids = integer(stmt, ID_COUNT);
    int64_t priority = integer(stmt, PRIORITY);
    if (integer(stmt, ID_LENGTH) != (int64_t)sizeof(struct id) || priority < 0 || priority >= PRIORITIES) {
        violation(v, VERIFY_ROWS, sums->about, "its ID is none, or its priority");
    }
    if (size < 1 || ids < 1 || ids > IDS_MAX ||
        sums->batch_count != (ids + size - 1) / (size > 0 ? size : 1)) {
        violation(v, VERIFY_PROGRESS, sums->about, "%lld batches of %lld IDs, %lld to a batch",
                  (long long)sums->batch_count, (long long)ids, (long long)size);
    }
}

// Why a batch cannot be as its row says; NULL when it can.
static const char *impossible(sqlite3_stmt *stmt)
{
    bool tried = integer(stmt, ATTEMPTS) > 0;
    bool triggered = integer(stmt, TRIGGERED_MS) > 0;
    bool ended = integer(stmt, COMPLETED_MS) > 0;
    bool leased = !is_null(stmt, LEASE);
    int64_t state = integer(stmt, STATE);
    if (state < BATCH_IN_FLIGHT || state > BATCH_CANCELLED) {
        return "there is no such state";
    }
    if (tried != triggered) {
        return tried ? "it was dispatched, and has no time of that"
                     : "it has a time of its dispatch, and no attempt";
    }
    if (integer(stmt, ATTEMPTS) < 0 || integer(stmt, EXCUSED) < 0 ||
        integer(stmt, EXCUSED) > integer(stmt, ATTEMPTS)) {
        return "more attempts are excused than there were";
    }
    if (ended != (state >= BATCH_COMPLETED)) {
        return ended ? "it has a time of its end, and has not ended"
                     : "it has ended, and has no time of that";
    }
    if (!tried && state != BATCH_WAITING && state != BATCH_CANCELLED) {
        return "it was never dispatched";
    }
    if (is_null(stmt, DUE) == (leased || state == BATCH_BACKOFF)) {
        return "its due time does not fit";
    }
    return leased && state != BATCH_IN_FLIGHT ? "it is leased, and not in flight" : NULL;
}

static enum status outside(int64_t state, bool tried)
{
    switch (state) {
    case BATCH_WAITING:
        return tried ? STATUS_TRIGGERED : STATUS_YET_TO_START;
    case BATCH_COMPLETED:
        return STATUS_COMPLETED;
    case BATCH_FAILED:
        return STATUS_FAILED;
    case BATCH_CANCELLED:
        return STATUS_CANCELLED;
    default:
        return STATUS_TRIGGERED;
    }
}

static void add_batch(struct verify *v, sqlite3_stmt *stmt, struct sums *sums)
{
    struct about about = sums->about;
    about.index = integer(stmt, IDX);
    int64_t state = integer(stmt, STATE);
    const char *why = impossible(stmt);
    if (why != NULL) {
        violation(v, VERIFY_STATES, about, "state %lld, %lld attempts: %s", (long long)state,
                  (long long)integer(stmt, ATTEMPTS), why);
    }
    if (about.index < 0 || about.index >= sums->batch_count) {
        violation(v, VERIFY_ROWS, about, "its ingestion has %lld", (long long)sums->batch_count);
    }
    if (state != BATCH_COMPLETED && integer(stmt, OWN_QUEUE) != about.queue) {
        violation(v, VERIFY_ROWS, about, "it is said to be of queue %lld",
                  (long long)integer(stmt, OWN_QUEUE));
    }
    sums->rows++;
    sums->past_next += sums->fresh && about.index >= sums->next_index;
    sums->again += state == BATCH_WAITING;
    sums->found[outside(state, integer(stmt, ATTEMPTS) > 0)]++;
}

// What has no row has not started, or never will in an ingestion that was cancelled or has expired.
static void end(struct verify *v, const struct sums *sums)
{
    int64_t without = sums->batch_count - sums->rows;
    bool called_off = sums->counted[STATUS_CANCELLED] > sums->found[STATUS_CANCELLED];
    bool later = (sums->marks & MARK_SCHEDULED) != 0;
    int64_t cancelled = sums->found[STATUS_CANCELLED] + (called_off ? without : 0);
    int64_t waiting = sums->again + (called_off || later ? 0 : without);
    const int64_t found[STATUSES] = {waiting, sums->found[STATUS_TRIGGERED], sums->found[STATUS_COMPLETED],
                                     sums->found[STATUS_FAILED], cancelled};
    for (int status = 0; status < STATUSES; status++) {
        if (sums->counted[status] != found[status]) {
            violation(v, VERIFY_PROGRESS, sums->about, "%s: %lld are counted, %lld found",
                      status == STATUS_YET_TO_START ? "waiting" : status_name((enum status)status),
                      (long long)sums->counted[status], (long long)found[status]);
        }
    }
    if (sums->past_next > 0) {
        violation(v, VERIFY_ROWS, sums->about, "%lld batches have rows and are said to have never started",
                  (long long)sums->past_next);
    }
    if (called_off && sums->rows == 0 && (sums->marks & (MARK_CANCELLED | MARK_EXPIRED)) == 0) {
        violation(v, VERIFY_ROWS, sums->about,
                  "it is called off, and was neither cancelled nor has it expired");
    }
    bool finished =
        sums->counted[STATUS_COMPLETED] + sums->counted[STATUS_FAILED] + sums->counted[STATUS_CANCELLED] ==
        sums->batch_count;
    if (finished != sums->finished) {
        violation(v, VERIFY_PROGRESS, sums->about, "%s",
                  finished ? "it has finished, and is not marked so"
                           : "it is marked as finished, and has not");
    }
}

enum err verify_batches(struct verify *v)
{
    enum err err;
    struct sums sums = {.about.seq = 0};
    bool row = false;
    sqlite3_stmt *stmt = verify_prepare(v, everything, &err);
    while (stmt != NULL && (err = verify_step(v, stmt, &row)) == ERR_OK && row) {
        if (integer(stmt, SEQ) != sums.about.seq) {
            if (sums.about.seq != 0) {
                end(v, &sums);
            }
            begin(v, stmt, &sums);
        }
        if (!is_null(stmt, IDX)) {
            add_batch(v, stmt, &sums);
        }
    }
    if (sums.about.seq != 0) {
        end(v, &sums);
    }
    (void)sqlite3_finalize(stmt);
    return err;
}
