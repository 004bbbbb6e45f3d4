// What the loop tells its store, and its engine where the store is not told: each call is carried out, and
// checked against the model, which follows.
#include "scheduler/turn.h"
#include "tests/sim/check.h"

#include <inttypes.h>
#include <string.h>

// ---- the transaction ----

// Whether this call fails instead of being carried out.
static enum err spoil(void)
{
    bool mild = sim.blow == BLOW_MILD_CALL;
    if ((sim.blow != BLOW_CALL && !mild) || sim.loop == NULL || sim.blow_in == 0 || --sim.blow_in > 0) {
        return ERR_OK;
    }
    sim_note(mild ? "a call fails" : "killed in a call", 0, 0, 0);
    sim.blow = BLOW_NONE;
    sim.dead = sim.dead || !mild;
    sim.spoiled = sim.spoiled || mild;
    return !mild ? ERR_STORAGE_IO : sim_chance(2) ? ERR_NO_MEMORY : ERR_STORAGE_FULL;
}

#define SPOIL_OR(result, call)                                                                               \
    enum err result = spoil();                                                                               \
    if (result == ERR_OK) {                                                                                  \
        result = call;                                                                                       \
    }                                                                                                        \
    if (result == ERR_STORAGE_FULL || result == ERR_STORAGE_IO || result == ERR_NO_MEMORY) {                 \
        sim_note("a write fails", (int)result, 0, 0);                                                        \
        return result;                                                                                       \
    }

SIM_WRAP(enum err, store_begin, struct store *store)
{
    SPOIL_OR(err, __real_store_begin(store));
    sim.commits++;
    CHECK(sim.commits < 2000, "the loop turns round and round");
    model_begin();
    return err;
}

// It syncs the log past SQLite.
SIM_WRAP(enum err, store_confirm, struct store *store)
{
    SPOIL_OR(err, __real_store_confirm(store));
    disk_synced();
    return err;
}

static bool lazy;

SIM_WRAP(enum err, store_begin_lazy, struct store *store)
{
    enum err err = __real_store_begin_lazy(store);
    if (err == ERR_OK) {
        lazy = true;
        model_begin();
    }
    return err;
}

SIM_WRAP(void, store_rollback, struct store *store)
{
    lazy = false;
    model_rollback();
    __real_store_rollback(store);
}

static enum err killed(const char *how)
{
    sim_note(how, 0, 0, 0);
    sim.dead = true;
    sim.blow = BLOW_NONE;
    return ERR_STORAGE_IO;
}

static enum err lie(enum err err)
{
    bool mild = sim.blow == BLOW_LIED_MILDLY;
    if (err != ERR_OK) {
        return err;
    }
    sim_note("a commit lies", mild, 0, 0);
    sim.reported = !mild;
    sim.lied = sim.spoiled = mild;
    sim.blow = BLOW_NONE;
    return mild ? ERR_NO_MEMORY : ERR_STORAGE_IO;
}

enum err __real_store_commit(struct store *store);

// One whose writes begin to fail at some point; whether it happened only the next start can tell.
static enum err commit_in_pieces(struct store *store)
{
    disk_fail_in(sim.blow_in);
    enum err err = __real_store_commit(store);
    disk_fail_in(0);
    sim.blow = BLOW_NONE;
    if (err == ERR_OK || !disk_dead()) {
        return err;
    }
    model_commit_maybe();
    return killed("killed in a commit");
}

SIM_WRAP(enum err, store_commit, struct store *store)
{
    bool changed = model_changed() && !lazy && sim.loop != NULL;
    if (changed) {
        check_before_commit();
    }
    if (changed && sim.blow == BLOW_BEFORE_COMMIT) {
        return killed("killed before a commit");
    }
    enum err err =
        changed && sim.blow == BLOW_IN_COMMIT ? commit_in_pieces(store) : __real_store_commit(store);
    if (err != ERR_OK) {
        sim_note("a commit fails", (int)err, 0, 0);
        return err;
    }
    sim.events += model_changed();
    model_commit(lazy);
    lazy = false;
    if (changed && sim.blow == BLOW_AFTER_COMMIT) {
        return killed("killed after a commit");
    }
    if (changed && (sim.blow == BLOW_LIED || sim.blow == BLOW_LIED_MILDLY)) {
        return lie(err);
    }
    if (sim.slow_commits && changed && !mono_before(sim.now, sim.calm_until) && sim_chance(16)) {
        target_run_until(mono_add(sim.now, sim_between_ms(1, 40)));
    }
    return err;
}

// ---- ingesting ----

SIM_WRAP(enum err, store_insert, struct store *store, struct insert *inserts, size_t count)
{
    SPOIL_OR(err, __real_store_insert(store, inserts, count));
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        check_insert(&inserts[i], count);
    }
    return err;
}

// ---- dispatching ----

SIM_WRAP(enum err, store_dispatch, struct store *store, struct dispatch_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check_dispatch(&rows[i]);
    }
    SPOIL_OR(err, __real_store_dispatch(store, rows, count));
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        check_dispatched(&rows[i]);
    }
    return err;
}

SIM_WRAP(enum err, store_finish, struct store *store, const struct finish_row *rows, size_t count)
{
    SPOIL_OR(err, __real_store_finish(store, rows, count));
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        check_finish(&rows[i]);
    }
    return err;
}

SIM_WRAP(enum err, store_extend_lease, struct store *store, const struct id *lease, const struct place *place,
         struct mono until)
{
    SPOIL_OR(err, __real_store_extend_lease(store, lease, place, until));
    struct model_ingestion *ingestion = model_by_seq(place->seq);
    CHECK(ingestion != NULL && ingestion->batch[place->index].leased &&
              id_equal(&ingestion->batch[place->index].lease, lease) && until.ns > sim.now.ns,
          "%" PRId64 ".%u is not out under the lease that is extended", place->seq, place->index);
    model_touch(ingestion)->batch[place->index].lease_until_ns = until.ns;
    return err;
}

// ---- what becomes due ----

SIM_WRAP(enum err, store_take_due, struct store *store, int64_t queue, enum due_kind kind, struct mono now,
         struct wall now_wall, struct returned_row *rows, size_t *count, int64_t *next)
{
    SPOIL_OR(err, __real_store_take_due(store, queue, kind, now, now_wall, rows, count, next));
    sim.events++; // also when what was there is gone meanwhile
    for (size_t i = 0; i < *count && err == ERR_OK; i++) {
        check_due(queue, kind, &rows[i]);
    }
    if (err == ERR_OK) {
        check_next_due(queue, kind, *next);
    }
    return err;
}

SIM_WRAP(enum err, store_expire, struct store *store, int64_t queue, struct wall now_wall, int64_t age_ns,
         struct removal *removals, size_t *count, int64_t *next)
{
    SPOIL_OR(err, __real_store_expire(store, queue, now_wall, age_ns, removals, count, next));
    sim.events++;
    if (err == ERR_OK) {
        check_expire(queue, age_ns, removals, *count);
    }
    return err;
}

// ---- by hand ----

SIM_WRAP(enum err, store_cancel, struct store *store, const struct id *id, struct wall now, int64_t age_ns,
         struct removal *removal)
{
    SPOIL_OR(err, __real_store_cancel(store, id, now, age_ns, removal));
    check_cancel(id, age_ns, err, removal);
    return err;
}

SIM_WRAP(enum err, store_ask_retry, struct store *store, int64_t queue, int64_t first_seq, int64_t last_seq)
{
    SPOIL_OR(err, __real_store_ask_retry(store, queue, first_seq, last_seq));
    if (err == ERR_OK) {
        check_ask_retry(queue, first_seq, last_seq);
    }
    return err;
}

SIM_WRAP(enum err, store_run_retries, struct store *store, struct retried_row *rows, size_t *count,
         bool *more)
{
    SPOIL_OR(err, __real_store_run_retries(store, rows, count, more));
    sim.events++;
    for (size_t i = 0; i < *count && err == ERR_OK; i++) {
        check_retried(&rows[i]);
    }
    if (err == ERR_OK && !*more) {
        check_no_retries();
    }
    return err;
}

SIM_WRAP(enum err, store_remove_old, struct store *store, int64_t finished_by_ns, size_t max_rows,
         struct removed *removed)
{
    enum err err = __real_store_remove_old(store, finished_by_ns, max_rows, removed);
    sim.events++;
    if (err == ERR_OK) {
        check_removed(store, finished_by_ns, removed);
    }
    return err;
}

// ---- queues ----

SIM_WRAP(enum err, store_save_queue, struct store *store, struct queue_row *row)
{
    bool made = row->id == 0;
    SPOIL_OR(err, __real_store_save_queue(store, row));
    if (err == ERR_OK) {
        check_save_queue(row, made);
    }
    return err;
}

SIM_WRAP(enum err, store_delete_queue, struct store *store, int64_t queue)
{
    SPOIL_OR(err, __real_store_delete_queue(store, queue));
    if (err == ERR_OK) {
        check_delete_queue(queue);
    }
    return err;
}

SIM_WRAP(enum err, store_save_figures, struct store *store, const int64_t *queues,
         const struct queue_figures *figures, size_t count)
{
    SPOIL_OR(err, __real_store_save_figures(store, queues, figures, count));
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        check_figures(queues[i], &figures[i]);
    }
    return err;
}

SIM_WRAP(void, engine_pause, struct engine *engine, int64_t id, enum pause pause)
{
    model_touch_queue(model_queue_by_id(id))->seen.paused = pause == PAUSE_ON;
    __real_engine_pause(engine, id, pause);
}

SIM_WRAP(enum err, store_rebase_moments, struct store *store, struct mono now)
{
    SPOIL_OR(err, __real_store_rebase_moments(store, now));
    if (err == ERR_OK) {
        check_reboot();
    }
    return err;
}

// ---- beside the store ----

SIM_WRAP(enum err, operate, struct loop *loop, struct turn *t, struct ipc_request *r)
{
    bool about_one = r->request.op == OP_CANCEL || r->request.op == OP_RETRY;
    const struct model_ingestion *ingestion = about_one ? model_by_id(&r->request.ingestion.id) : NULL;
    bool there = ingestion != NULL && model_in_scope(r->request.scope, ingestion);
    check_out_of_scope = ingestion != NULL && !there;
    enum err err = __real_operate(loop, t, r);
    check_out_of_scope = false;
    if (about_one && err == ERR_OK) {
        bool unknown = r->fault.err == ERR_NOT_FOUND;
        CHECK(unknown != there && (!unknown || strcmp(r->fault.detail, NO_INGESTION) == 0),
              "%s of what is%s in its scope: %s", op_name(r->request.op), there ? "" : " not",
              err_name(r->fault.err));
    }
    return err;
}

SIM_WRAP(enum err, settle_lease, struct loop *loop, struct turn *t, struct ipc_request *r)
{
    check_settling = &r->request;
    enum err err = __real_settle_lease(loop, t, r);
    check_settling = NULL;
    return err;
}

SIM_WRAP(struct engine *, engine_new, uint64_t max_waiting, int64_t age_offset_ns)
{
    check_rebuilt();
    return __real_engine_new(max_waiting, age_offset_ns);
}
