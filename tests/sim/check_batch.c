#include "tests/sim/check.h"

#include "scheduler/retry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const struct request *check_settling;

// ---- ingesting ----

static const char *owner_of(const struct insert *insert)
{
    return insert->owner != NULL ? insert->owner : "";
}

static bool same_content(const struct model_ingestion *known, const struct insert *insert)
{
    const struct ingest_request *request = insert->request;
    char text[512];
    size_t len = model_ids(known, 0, known->ids, text, sizeof text);
    return request->ids.len == len && memcmp(request->ids.text, text, len) == 0 &&
           known->priority == request->priority && strcmp(known->queue_name, request->queue) == 0 &&
           known->not_before_ms == request->not_before.ms && known->deadline_ms == request->deadline.ms &&
           strcmp(known->owner, owner_of(insert)) == 0;
}

static enum insert_result expected_result(const struct insert *insert, const struct model_ingestion **known)
{
    const struct ingest_request *request = insert->request;
    *known = model_by_id(&request->id);
    if (*known != NULL) {
        return same_content(*known, insert) ? INSERT_REPLAYED : INSERT_ID_REUSED;
    }
    *known =
        request->idempotency_key != NULL ? model_by_key(request->idempotency_key, owner_of(insert)) : NULL;
    if (*known != NULL) {
        return same_content(*known, insert) ? INSERT_REPLAYED : INSERT_KEY_REUSED;
    }
    return insert->only_replay ? INSERT_NO_ROOM : INSERT_NEW;
}

static void check_room(const struct insert *insert, uint32_t batches, size_t count)
{
    uint64_t all = 0;
    uint64_t by_priority[PRIORITIES];
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &model.queues[i];
        all += queue->there ? model_count(queue->id, false, by_priority) : 0;
        all += queue->there ? model_count(queue->id, true, by_priority) : 0;
    }
    bool fits = all + batches <= sim.loop->max_waiting;
    CHECK(insert->only_replay || fits, "%" PRIu64 " wait, and %u more were accepted", all, batches);
    CHECK(!insert->only_replay || !fits || insert->request->deadline.ms != 0 || count > 1,
          "%" PRIu64 " wait, and %u more were refused", all, batches);
}

static void add(const struct insert *insert, const struct model_queue *queue)
{
    const struct ingest_request *request = insert->request;
    struct model_ingestion *made = model_free_slot();
    model_touch(made);
    uint64_t touched = made->touched;
    *made = (struct model_ingestion){
        .there = true,
        .seq = insert->seq,
        .id = request->id,
        .queue = insert->queue,
        .priority = request->priority,
        .first_id = strtoull(request->ids.text, NULL, 10),
        .ids = request->ids.count,
        .batch_size = insert->batch_size,
        .batches = insert->batches,
        .not_before_ms = request->not_before.ms,
        .deadline_ms = request->deadline.ms,
        .accepted_ns = insert->accepted_ns,
        .scheduled = request->not_before.ms > insert->now.ms,
        .touched = touched,
    };
    memcpy(made->queue_name, queue->name, sizeof made->queue_name);
    (void)snprintf(made->owner, sizeof made->owner, "%s", owner_of(insert));
    if (request->idempotency_key != NULL) {
        (void)snprintf(made->key, sizeof made->key, "%s", request->idempotency_key);
    }
    for (uint32_t i = 0; i < made->batches; i++) {
        made->batch[i].state = BATCH_WAITING;
    }
    model.last_seq = insert->seq;
    sim_note("accepts", made->seq, made->batches, (int64_t)made->priority);
}

void check_insert(const struct insert *insert, size_t count)
{
    const struct model_ingestion *known;
    struct model_queue *queue = model_queue_by_id(insert->queue);
    uint32_t size = queue->settings.batch_size;
    uint32_t batches = (insert->request->ids.count + size - 1) / size;
    enum insert_result expected = expected_result(insert, &known);
    CHECK(insert->result == expected, "an ingest has result %d, not %d", (int)insert->result, (int)expected);
    CHECK(expected != INSERT_REPLAYED || id_equal(&insert->ingestion, &known->id),
          "a repeat is answered with another ID");
    CHECK(insert->now.ms == sim_wall().ms && insert->accepted_ns == sim.now.ns + sim.loop->age_offset_ns,
          "an ingest at another time than now");
    if (known == NULL) {
        check_room(insert, batches, count);
    }
    if (expected == INSERT_NEW) {
        CHECK(insert->seq > model.last_seq && insert->batches == batches && insert->batch_size == size &&
                  id_equal(&insert->ingestion, &insert->request->id),
              "ingestion %" PRId64 " of %u batches", insert->seq, insert->batches);
        uint64_t waiting[PRIORITIES];
        bool later = insert->request->not_before.ms > insert->now.ms;
        if (!later && model_count(queue->id, false, waiting) == 0) {
            model_touch_queue(queue)->lingers_ns = sim.now.ns + check_linger(&queue->settings);
        }
        add(insert, queue);
    }
}

// ---- the end of an attempt ----

static void finished_by_now(struct model_ingestion *ingestion, int64_t age_ns)
{
    ingestion->finished_ns = model_finished(ingestion) ? age_ns : 0;
}

static void check_backoff(const struct model_queue *queue, const struct outcome *outcome, uint32_t used,
                          const struct finish_row *row)
{
    const struct queue_settings *settings = &queue->settings;
    int64_t delay_ns = row->due.ns - sim.now.ns;
    int64_t most_ns = retry_interval(settings->min_backoff_ns, settings->max_backoff_ns, used);
    bool good = outcome->has_delay ? delay_ns == outcome->delay_ns
                                   : delay_ns >= settings->min_backoff_ns && delay_ns <= most_ns;
    CHECK(good, "retry: after %u attempts it is tried again in %" PRId64 " ns", used, delay_ns);
}

// `used`: the attempts that count, this one among them.
static void check_retry(const struct model_queue *queue, const struct model_ingestion *ingestion,
                        const struct model_batch *batch, const struct outcome *outcome, bool spared,
                        const struct finish_row *row)
{
    uint32_t used = batch->attempts - batch->excused;
    if (row->state == BATCH_CANCELLED) {
        CHECK(batch->doomed, "%" PRId64 " is cancelled, which nobody asked for", ingestion->seq);
        return;
    }
    CHECK(!batch->doomed || !ingestion->cancelled, "cancel: %" PRId64 " is tried again", ingestion->seq);
    if (spared && batch->probe) {
        CHECK(row->state == BATCH_BACKOFF && row->excused, "a probe of an open breaker ends in state %d",
              (int)row->state);
    } else if (spared || outcome->class == OUTCOME_HOLD) {
        CHECK(row->state == BATCH_WAITING && row->excused,
              "retry: what is not its fault leaves it in state %d", (int)row->state);
    } else if (used >= queue->settings.max_attempts) {
        CHECK(row->state == BATCH_FAILED, "retry: after %u attempts of %u %" PRId64 ".%u is in state %d",
              used, queue->settings.max_attempts, ingestion->seq, row->key.place.index, (int)row->state);
    } else if (outcome->has_delay && outcome->delay_ns == 0) {
        CHECK(row->state == BATCH_WAITING && !row->excused, "retry: at once, and it is in state %d",
              (int)row->state);
    } else {
        CHECK(row->state == BATCH_BACKOFF && !row->excused, "retry: after %u attempts it is in state %d",
              used, (int)row->state);
        check_backoff(queue, outcome, used, row);
    }
}

static void check_cut_off(const struct model_queue *queue, const struct model_ingestion *ingestion,
                          uint32_t index, const struct finish_row *row)
{
    const struct model_batch *batch = &ingestion->batch[index];
    enum batch_state expected = ingestion->cancelled                                ? BATCH_CANCELLED
                                : queue->settings.on_interrupt == ON_INTERRUPT_HOLD ? BATCH_FAILED
                                                                                    : BATCH_WAITING;
    CHECK(!batch->leased && (sim.lied || !target_has(ingestion->seq, index)),
          "%" PRId64 ".%u is taken for cut off", ingestion->seq, index);
    CHECK(row->state == expected && row->excused, "recovery: %" PRId64 ".%u was cut off and is in state %d",
          ingestion->seq, index, (int)row->state);
}

// What is known about how a lease ended.
static struct outcome *lease_outcome(const struct model_ingestion *ingestion, uint32_t index)
{
    static struct outcome outcome;
    const struct model_batch *batch = &ingestion->batch[index];
    const struct settle_request *asked = check_settling != NULL ? &check_settling->settle : NULL;
    if (asked == NULL) {
        CHECK(sim.lied || sim.now.ns >= batch->lease_until_ns, "lease: %" PRId64 ".%u runs out early",
              ingestion->seq, index);
        outcome = (struct outcome){.class = OUTCOME_RETRY, .has_delay = true};
        return &outcome;
    }
    CHECK(id_equal(&asked->id, &batch->lease), "lease: %" PRId64 ".%u is settled by another's",
          ingestion->seq, index);
    outcome = (struct outcome){.class = check_settling->op == OP_ACK ? OUTCOME_COMPLETED
                                        : asked->final               ? OUTCOME_FAILED
                                                                     : OUTCOME_RETRY,
                               .has_delay = asked->has_delay,
                               .delay_ns = asked->delay_ns};
    return &outcome;
}

static void check_ended(struct model_queue *queue, const struct model_ingestion *ingestion, uint32_t index,
                        const struct finish_row *row)
{
    const struct model_batch *batch = &ingestion->batch[index];
    const struct outcome *outcome =
        batch->leased ? lease_outcome(ingestion, index) : target_outcome(ingestion->seq, index);
    CHECK(outcome != NULL, "%" PRId64 ".%u ends, and no target said so", ingestion->seq, index);
    bool spared = check_outcome(queue, batch, outcome);
    switch (outcome->class) {
    case OUTCOME_COMPLETED:
        CHECK(row->state == BATCH_COMPLETED, "%" PRId64 ".%u was completed, and is in state %d",
              ingestion->seq, index, (int)row->state);
        queue->seen.completed++;
        break;
    case OUTCOME_FAILED:
        CHECK(row->state == BATCH_FAILED, "%" PRId64 ".%u failed for good, and is in state %d",
              ingestion->seq, index, (int)row->state);
        break;
    case OUTCOME_RETRY:
    case OUTCOME_HOLD:
        check_retry(queue, ingestion, batch, outcome, spared, row);
        break;
    }
}

void check_finish(const struct finish_row *row)
{
    uint32_t index = row->key.place.index;
    struct model_ingestion *ingestion = model_by_seq(row->key.place.seq);
    struct model_queue *queue = model_touch_queue(model_queue_by_id(row->key.queue));
    CHECK(ingestion != NULL && ingestion->queue == queue->id, "what ended is not there");
    struct model_batch *batch = &model_touch(ingestion)->batch[index];
    if (row->interrupted) {
        check_cut_off(queue, ingestion, index, row);
    } else {
        check_ended(queue, ingestion, index, row);
    }
    queue->seen.failed += row->state == BATCH_FAILED;
    model_move(ingestion, index, row->state);
    batch->excused += row->excused;
    batch->due_ns = row->due.ns;
    batch->leased = false;
    finished_by_now(ingestion, row->age_ns);
    if (model_finished(ingestion)) {
        eta_finished(queue, ingestion);
    }
}

// ---- what becomes due ----

void check_due(int64_t queue, enum due_kind kind, const struct returned_row *row)
{
    struct model_ingestion *ingestion = model_by_seq(row->run.seq);
    CHECK(ingestion != NULL && ingestion->queue == queue && row->priority == ingestion->priority &&
              row->run.end <= ingestion->batches && row->run.accepted_ns == ingestion->accepted_ns,
          "what becomes due is not there");
    if (kind == DUE_START) {
        CHECK(ingestion->scheduled && ingestion->not_before_ms <= sim_wall().ms && row->run.first == 0 &&
                  row->run.end == ingestion->batches,
              "%" PRId64 " starts before its time", ingestion->seq);
        model_touch(ingestion)->scheduled = false;
        return;
    }
    for (uint32_t i = row->run.first; i < row->run.end; i++) {
        CHECK(ingestion->batch[i].state == BATCH_BACKOFF && ingestion->batch[i].due_ns <= sim.now.ns,
              "%" PRId64 ".%u is tried again before its time", ingestion->seq, i);
        model_move(ingestion, i, BATCH_WAITING);
    }
}

void check_next_due(int64_t queue, enum due_kind kind, int64_t next)
{
    int64_t first = DUE_NEVER;
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *ingestion = &model.ingestions[i];
        if (!ingestion->there || ingestion->queue != queue) {
            continue;
        }
        if (kind == DUE_START && ingestion->scheduled && !model_finished(ingestion)) {
            first = ingestion->not_before_ms < first ? ingestion->not_before_ms : first;
        }
        for (uint32_t b = 0; kind == DUE_RETRY && b < ingestion->batches; b++) {
            const struct model_batch *batch = &ingestion->batch[b];
            first = batch->state == BATCH_BACKOFF && batch->due_ns < first ? batch->due_ns : first;
        }
    }
    CHECK(next == first, "the next of kind %d is due at %" PRId64 ", not %" PRId64, (int)kind, first, next);
}

void check_expire(int64_t queue, int64_t age_ns, const struct removal *removals, size_t count)
{
    size_t matched = 0;
    for (size_t i = 0; i < model.used; i++) {
        struct model_ingestion *ingestion = &model.ingestions[i];
        if (!ingestion->there || ingestion->queue != queue || ingestion->deadline_ms == 0 ||
            ingestion->expired || ingestion->deadline_ms > sim_wall().ms) {
            continue;
        }
        uint32_t n = 0;
        bool scheduled = ingestion->scheduled;
        model_touch(ingestion)->expired = true;
        for (uint32_t b = 0; b < ingestion->batches; b++) {
            if (ingestion->batch[b].state == BATCH_WAITING && ingestion->batch[b].attempts == 0) {
                model_move(ingestion, b, BATCH_CANCELLED);
                n++;
            }
        }
        if (n > 0) {
            ingestion->scheduled = false;
            finished_by_now(ingestion, age_ns);
        }
        for (size_t r = 0; r < count; r++) {
            bool own = removals[r].seq == ingestion->seq;
            matched += own;
            CHECK(!own || (removals[r].waiting == (scheduled ? 0 : n) &&
                           removals[r].delayed == (scheduled ? n : 0)),
                  "%u batches of %" PRId64 " expire, not %u", removals[r].waiting + removals[r].delayed,
                  ingestion->seq, n);
            n = own ? 0 : n;
        }
        CHECK(n == 0, "%" PRId64 " does not expire", ingestion->seq);
    }
    CHECK(matched == count, "%zu ingestions expire, not %zu", count, matched);
}
