// What is done by hand, and what is removed.
#include "tests/sim/check.h"

#include <inttypes.h>

bool check_out_of_scope;

// ---- cancel ----

static bool retry_pending(const struct model_ingestion *ingestion)
{
    for (uint32_t b = 0; b < ingestion->batches; b++) {
        if (ingestion->batch[b].asked) {
            return true;
        }
    }
    return false;
}

static void cancel(struct model_ingestion *ingestion, int64_t age_ns, const struct removal *removal)
{
    uint32_t waiting = 0;
    uint32_t delayed = 0;
    bool scheduled = ingestion->scheduled;
    model_touch(ingestion)->cancelled = true;
    ingestion->scheduled = false;
    ingestion->expired = true; // its deadline goes with it, and does not come back with a retry
    for (uint32_t b = 0; b < ingestion->batches; b++) {
        struct model_batch *batch = &ingestion->batch[b];
        batch->asked = false;
        batch->doomed = batch->state == BATCH_IN_FLIGHT;
        bool later = batch->state == BATCH_BACKOFF || (batch->state == BATCH_WAITING && scheduled);
        delayed += later;
        waiting += batch->state == BATCH_WAITING && !scheduled;
        if (later || batch->state == BATCH_WAITING) {
            model_move(ingestion, b, BATCH_CANCELLED);
        }
    }
    CHECK(removal->cancelled && removal->waiting == waiting && removal->delayed == delayed,
          "cancel: %u and %u batches of %" PRId64 ", not %u and %u", removal->waiting, removal->delayed,
          ingestion->seq, waiting, delayed);
    ingestion->finished_ns = model_finished(ingestion) ? age_ns : 0;
}

void check_cancel(const struct id *id, int64_t age_ns, enum err result, const struct removal *removal)
{
    struct model_ingestion *ingestion = model_by_id(id);
    if (ingestion == NULL) {
        CHECK(result == ERR_NOT_FOUND, "cancel of what is not there: %s", err_name(result));
        return;
    }
    sim_note("cancel", ingestion->seq, (int64_t)result, 0);
    CHECK(!check_out_of_scope, "%" PRId64 " is cancelled out of its scope", ingestion->seq);
    enum status status = model_status(ingestion);
    bool pending = status == STATUS_FAILED && retry_pending(ingestion);
    bool over = status == STATUS_COMPLETED || (status == STATUS_FAILED && !pending);
    CHECK(result == (over ? ERR_ALREADY_FINISHED : ERR_OK), "cancel of %" PRId64 " (%s): %s", ingestion->seq,
          status_name(status), err_name(result));
    if (over) {
        return;
    }
    if (pending) {
        model_touch(ingestion)->cancelled = true;
        for (uint32_t b = 0; b < ingestion->batches; b++) {
            ingestion->batch[b].asked = false;
        }
    } else if (status != STATUS_CANCELLED && !ingestion->cancelled) {
        cancel(ingestion, age_ns, removal);
        return;
    }
    CHECK(!removal->cancelled && removal->waiting + removal->delayed == 0,
          "cancel: %" PRId64 " is cancelled twice", ingestion->seq);
}

// ---- retry ----

void check_ask_retry(int64_t queue, int64_t first_seq, int64_t last_seq)
{
    model.retries = true;
    sim_note("asks to retry", queue, first_seq, last_seq);
    CHECK(!check_out_of_scope, "%" PRId64 " is retried out of its scope", first_seq);
    for (size_t i = 0; i < model.used; i++) {
        struct model_ingestion *ingestion = &model.ingestions[i];
        if (!ingestion->there || ingestion->queue != queue || ingestion->seq < first_seq ||
            ingestion->seq > last_seq) {
            continue;
        }
        for (uint32_t b = 0; b < ingestion->batches; b++) {
            if (ingestion->batch[b].state != BATCH_FAILED) {
                continue;
            }
            if (first_seq == last_seq) {
                model_touch(ingestion)->cancelled = false;
            }
            if (!ingestion->cancelled) {
                model_touch(ingestion)->batch[b].asked = true;
            }
        }
    }
}

void check_retried(const struct retried_row *retried)
{
    const struct run *run = &retried->row.run;
    struct model_ingestion *ingestion = model_by_seq(run->seq);
    CHECK(ingestion != NULL && ingestion->queue == retried->queue && run->end <= ingestion->batches,
          "what is retried is not there");
    for (uint32_t i = run->first; i < run->end; i++) {
        struct model_batch *batch = &model_touch(ingestion)->batch[i];
        CHECK(batch->state == BATCH_FAILED && batch->asked, "%" PRId64 ".%u is retried, and nobody asked",
              ingestion->seq, i);
        model_move(ingestion, i, BATCH_WAITING);
        batch->attempts = 0;
        batch->excused = 0;
        batch->asked = false;
    }
    ingestion->finished_ns = 0;
}

void check_no_retries(void)
{
    model.retries = false;
    for (size_t i = 0; i < model.used; i++) {
        const struct model_ingestion *ingestion = &model.ingestions[i];
        for (uint32_t b = 0; ingestion->there && b < ingestion->batches; b++) {
            CHECK(!ingestion->batch[b].asked || ingestion->batch[b].state != BATCH_FAILED,
                  "%" PRId64 ".%u was to be retried", ingestion->seq, b);
        }
    }
}

// ---- what finished long ago ----

static bool gone(struct store *store, const struct model_ingestion *ingestion)
{
    struct ingestion_row row;
    enum err err = store_find(store, &ingestion->id, &row);
    CHECK(err == ERR_OK || err == ERR_NOT_FOUND, "an ingestion cannot be read: %s", err_name(err));
    return err == ERR_NOT_FOUND;
}

void check_removed(struct store *store, int64_t finished_by_ns, const struct removed *removed)
{
    size_t n = 0;
    int64_t last_ns = INT64_MIN;  // of those that went
    int64_t first_ns = INT64_MAX; // of those that stay
    CHECK(finished_by_ns <= sim.now.ns + sim.loop->age_offset_ns - sim.retain_ns,
          "what finished is removed too early");
    for (size_t i = 0; i < model.used && removed->ingestions > 0; i++) {
        struct model_ingestion *ingestion = &model.ingestions[i];
        if (!ingestion->there || !model_finished(ingestion)) {
            continue;
        }
        if (gone(store, ingestion)) {
            CHECK(ingestion->finished_ns <= finished_by_ns, "%" PRId64 " is removed too early",
                  ingestion->seq);
            last_ns = ingestion->finished_ns > last_ns ? ingestion->finished_ns : last_ns;
            model_touch(ingestion)->there = false;
            sim_note("removes", ingestion->seq, 0, 0);
            n++;
        } else if (ingestion->finished_ns < first_ns) {
            first_ns = ingestion->finished_ns;
        }
    }
    CHECK(n == removed->ingestions, "%zu ingestions are removed, and %zu are gone", removed->ingestions, n);
    CHECK(n == 0 || last_ns <= first_ns, "what finished later is removed first");
}
