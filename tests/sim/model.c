#include "tests/sim/model.h"

#include "scheduler/turn.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct model model;

// ---- transactions ----

// What was there before, from the oldest to the newest change. Marks say where a commit ended that is not
// sure to last.
#define UNDO_BYTES (8u << 20)
#define MARKS 4096

struct undo {
    void *at;
    size_t size;
    size_t before; // where the one before it begins
};

static struct {
    _Alignas(16) unsigned char bytes[UNDO_BYTES];
    size_t len;
    size_t last; // where the last one begins
    size_t marks[MARKS];
    size_t mark_count;
    bool open;
    uint64_t number; // of the transaction
    size_t begin;    // its first entries are figures that are always there, then come the changes
    size_t begin_last;
    size_t start;
} txn = {.number = 1};

static void save(void *at, size_t size)
{
    size_t need = sizeof(struct undo) + (size + 15) / 16 * 16 + 16;
    CHECK(txn.len + need <= UNDO_BYTES, "the simulator's room to undo is used up");
    struct undo undo = {at, size, txn.last};
    memcpy(txn.bytes + txn.len, &undo, sizeof undo);
    memcpy(txn.bytes + txn.len + sizeof undo, at, size);
    txn.last = txn.len;
    txn.len += need;
}

static void undo_to(size_t start)
{
    while (txn.len > start) {
        struct undo undo;
        memcpy(&undo, txn.bytes + txn.last, sizeof undo);
        memcpy(undo.at, txn.bytes + txn.last + sizeof undo, undo.size);
        txn.len = txn.last;
        txn.last = undo.before;
    }
}

void model_begin(void)
{
    CHECK(!txn.open, "a transaction in a transaction");
    txn.open = true;
    txn.number++;
    txn.begin = txn.len;
    txn.begin_last = txn.last;
    save(&model.last_seq, sizeof model.last_seq);
    save(&model.retries, sizeof model.retries);
    save(&model.used, sizeof model.used);
    txn.start = txn.len;
}

bool model_in_transaction(void)
{
    return txn.open;
}

// What is written again as it was costs SQLite no sync, and so makes nothing durable that came before.
bool model_changed(void)
{
    const size_t skip = sizeof model.queues[0].touched;
    size_t at = txn.last;
    for (size_t end = txn.len; txn.open && end > txn.start;) {
        struct undo undo;
        memcpy(&undo, txn.bytes + at, sizeof undo);
        if (memcmp((char *)undo.at + skip, txn.bytes + at + sizeof undo + skip, undo.size - skip) != 0) {
            return true;
        }
        end = at;
        at = undo.before;
    }
    return false;
}

static void end(void)
{
    txn.open = false;
    txn.number++;
}

void model_commit(bool lazy)
{
    CHECK(txn.open, "a commit without a transaction");
    if (lazy) {
        CHECK(txn.mark_count < MARKS, "too many lazy commits in a row");
        txn.marks[txn.mark_count++] = txn.len;
    } else if (model_changed()) {
        txn.len = txn.last = txn.mark_count = 0;
    } else { // it wrote nothing, and made nothing durable
        txn.len = txn.begin;
        txn.last = txn.begin_last;
    }
    end();
}

void model_rollback(void)
{
    if (txn.open) {
        undo_to(txn.begin);
        end();
    }
}

void model_commit_maybe(void)
{
    if (txn.open) {
        txn.marks[txn.mark_count++] = txn.len;
        end();
    }
}

void model_settle(struct store *store)
{
    char why[512] = "";
    char first[512] = "";
    bool equal = model_equals(store, why, sizeof why);
    memcpy(first, why, sizeof first);
    while (!equal && txn.mark_count > 0) {
        txn.mark_count--;
        undo_to(txn.mark_count > 0 ? txn.marks[txn.mark_count - 1] : 0);
        equal = model_equals(store, why, sizeof why);
    }
    CHECK(equal, "the store does not hold what was promised: %s", strcmp(first, why) == 0 ? why : first);
    txn.len = txn.last = txn.mark_count = 0;
}

struct model_ingestion *model_touch(struct model_ingestion *ingestion)
{
    CHECK(txn.open, "a change outside of a transaction");
    if (ingestion->touched != txn.number) {
        save(ingestion, sizeof *ingestion);
        ingestion->touched = txn.number;
    }
    return ingestion;
}

struct model_queue *model_touch_queue(struct model_queue *queue)
{
    CHECK(txn.open, "a change of a queue outside of a transaction");
    if (queue->touched != txn.number) {
        save(queue, sizeof *queue);
        queue->touched = txn.number;
    }
    return queue;
}

// ---- looking ----

struct model_ingestion *model_by_seq(int64_t seq)
{
    for (size_t i = 0; i < model.used; i++) {
        if (model.ingestions[i].seq == seq && model.ingestions[i].there) {
            return &model.ingestions[i];
        }
    }
    return NULL;
}

struct model_ingestion *model_by_id(const struct id *id)
{
    for (size_t i = 0; i < model.used; i++) {
        if (model.ingestions[i].there && id_equal(&model.ingestions[i].id, id)) {
            return &model.ingestions[i];
        }
    }
    return NULL;
}

struct model_ingestion *model_by_key(const char *key, const char *owner)
{
    for (size_t i = 0; i < model.used; i++) {
        if (model.ingestions[i].there && model.ingestions[i].key[0] != '\0' &&
            strcmp(model.ingestions[i].key, key) == 0 && strcmp(model.ingestions[i].owner, owner) == 0) {
            return &model.ingestions[i];
        }
    }
    return NULL;
}

bool model_in_scope(const struct scope *scope, const struct model_ingestion *ingestion)
{
    const struct model_queue *queue = model_find_queue(ingestion->queue);
    if (scope != NULL && scope->owner[0] != '\0' && strcmp(scope->owner, ingestion->owner) != 0) {
        return false;
    }
    if (scope == NULL || scope->queue_count == 0) {
        return true;
    }
    for (size_t i = 0; i < scope->queue_count; i++) {
        if (queue != NULL && strcmp(scope->queues[i], queue->name) == 0) {
            return true;
        }
    }
    return false;
}

struct model_ingestion *model_free_slot(void)
{
    size_t i = 0;
    while (i < MODEL_INGESTIONS && model.ingestions[i].there) {
        i++;
    }
    CHECK(i < MODEL_INGESTIONS, "the simulator's model is full");
    model.used = i < model.used ? model.used : i + 1;
    return &model.ingestions[i];
}

struct model_queue *model_find_queue(int64_t id)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model.queues[i].there && model.queues[i].id == id) {
            return &model.queues[i];
        }
    }
    return NULL;
}

struct model_queue *model_queue_by_id(int64_t id)
{
    struct model_queue *queue = model_find_queue(id);
    CHECK(queue != NULL, "queue %" PRId64 " is not there", id);
    return queue;
}

struct model_queue *model_queue_named(const char *name)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model.queues[i].there && strcmp(model.queues[i].name, name) == 0) {
            return &model.queues[i];
        }
    }
    return NULL;
}

struct model_queue *model_free_queue(void)
{
    size_t i = 0;
    while (i < MODEL_QUEUES && model.queues[i].there) {
        i++;
    }
    CHECK(i < MODEL_QUEUES, "more queues than the simulator makes");
    return &model.queues[i];
}

bool model_final(const struct model_batch *batch)
{
    return batch->state == BATCH_COMPLETED || batch->state == BATCH_FAILED || batch->state == BATCH_CANCELLED;
}

enum status model_outside(const struct model_ingestion *ingestion, const struct model_batch *batch)
{
    (void)ingestion;
    switch (batch->state) {
    case BATCH_WAITING:
        return batch->attempts == 0 ? STATUS_YET_TO_START : STATUS_TRIGGERED;
    case BATCH_IN_FLIGHT:
    case BATCH_BACKOFF:
        return STATUS_TRIGGERED;
    case BATCH_COMPLETED:
        return STATUS_COMPLETED;
    case BATCH_FAILED:
        return STATUS_FAILED;
    case BATCH_CANCELLED:
        break;
    }
    return STATUS_CANCELLED;
}

void model_progress(const struct model_ingestion *ingestion, uint32_t progress[STATUSES])
{
    memset(progress, 0, STATUSES * sizeof *progress);
    for (uint32_t i = 0; i < ingestion->batches; i++) {
        progress[model_outside(ingestion, &ingestion->batch[i])]++;
    }
}

enum status model_status(const struct model_ingestion *ingestion)
{
    uint32_t n[STATUSES];
    model_progress(ingestion, n);
    if (n[STATUS_COMPLETED] == ingestion->batches) {
        return STATUS_COMPLETED;
    }
    if (n[STATUS_COMPLETED] + n[STATUS_FAILED] + n[STATUS_CANCELLED] == ingestion->batches) {
        return n[STATUS_CANCELLED] > 0 ? STATUS_CANCELLED : STATUS_FAILED;
    }
    return n[STATUS_YET_TO_START] == ingestion->batches ? STATUS_YET_TO_START : STATUS_TRIGGERED;
}

bool model_finished(const struct model_ingestion *ingestion)
{
    for (uint32_t i = 0; i < ingestion->batches; i++) {
        if (!model_final(&ingestion->batch[i])) {
            return false;
        }
    }
    return true;
}

bool model_waits(const struct model_ingestion *ingestion, const struct model_batch *batch)
{
    return batch->state == BATCH_WAITING && !ingestion->scheduled;
}

int model_counts_as(const struct model_queue *queue, const struct model_ingestion *ingestion, int64_t age_ns)
{
    int counts = (int)ingestion->priority;
    int64_t aging_ns = queue->settings.aging_ns;
    int64_t left_ns = age_ns - ingestion->accepted_ns;
    for (; aging_ns > 0 && left_ns >= aging_ns && counts > PRIORITY_HIGH; left_ns -= aging_ns) {
        counts--;
    }
    return counts;
}

uint64_t model_count(int64_t queue, bool delayed, uint64_t waiting[PRIORITIES])
{
    uint64_t all = 0;
    memset(waiting, 0, PRIORITIES * sizeof *waiting);
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && ingestion->queue == queue && b < ingestion->batches; b++) {
            enum batch_state state = ingestion->batch[b].state;
            bool later = state == BATCH_BACKOFF || (state == BATCH_WAITING && ingestion->scheduled);
            bool now = state == BATCH_WAITING && !ingestion->scheduled;
            waiting[ingestion->priority] += delayed ? later : now;
            all += delayed ? later : now;
        }
    }
    return all;
}

size_t model_in_flight(int64_t queue)
{
    size_t n = 0;
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && ingestion->queue == queue && b < ingestion->batches; b++) {
            n += ingestion->batch[b].state == BATCH_IN_FLIGHT;
        }
    }
    return n;
}

size_t model_ids(const struct model_ingestion *ingestion, uint32_t from, uint32_t count, char *text,
                 size_t size)
{
    size_t len = 0;
    for (uint32_t i = from; i < from + count && i < ingestion->ids; i++) {
        len += (size_t)snprintf(text + len, size - len, "%s%" PRIu64, len > 0 ? "," : "",
                                ingestion->first_id + i);
    }
    return len;
}

struct id model_batch_id(const struct model_ingestion *ingestion, uint32_t index)
{
    return batch_id(&ingestion->id, index);
}

// ---- changing ----

// From a state to others: the arrows that are allowed.
static const unsigned arrows[] = {
    [BATCH_WAITING] = 1u << BATCH_IN_FLIGHT | 1u << BATCH_CANCELLED,
    [BATCH_IN_FLIGHT] = 1u << BATCH_COMPLETED | 1u << BATCH_FAILED | 1u << BATCH_CANCELLED |
                        1u << BATCH_BACKOFF | 1u << BATCH_WAITING,
    [BATCH_BACKOFF] = 1u << BATCH_WAITING | 1u << BATCH_CANCELLED,
    [BATCH_COMPLETED] = 0,
    [BATCH_FAILED] = 1u << BATCH_WAITING,
    [BATCH_CANCELLED] = 0,
};

void model_move(struct model_ingestion *ingestion, uint32_t index, enum batch_state to)
{
    struct model_batch *batch = &model_touch(ingestion)->batch[index];
    CHECK((arrows[batch->state] & 1u << to) != 0, "%" PRId64 ".%u goes from state %d to %d", ingestion->seq,
          index, (int)batch->state, (int)to);
    batch->state = to;
    sim_note("moves", ingestion->seq, index, (int)to);
}
