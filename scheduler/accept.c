#include "scheduler/standing.h"
#include "scheduler/turn.h"

#include <stdlib.h>

#define INSERTS_MIN 64u

static enum err grow(struct turn *t, size_t *cap)
{
    size_t more = *cap == 0 ? INSERTS_MIN : *cap * 2;
    struct insert *inserts = realloc(t->inserts, more * sizeof *inserts);
    if (inserts != NULL) {
        t->inserts = inserts;
    }
    struct admission *admissions = realloc(t->admissions, more * sizeof *admissions);
    if (admissions != NULL) {
        t->admissions = admissions;
    }
    struct wall *etas = realloc(t->etas, more * sizeof *etas);
    if (etas != NULL) {
        t->etas = etas;
    }
    if (inserts == NULL || admissions == NULL || etas == NULL) {
        return ERR_NO_MEMORY;
    }
    *cap = more;
    return ERR_OK;
}

// What is known already is answered again all the same.
static void refuse_new(struct loop *loop, struct admission *admission)
{
    engine_declined(loop->engine, admission);
    admission->only_replay = true;
}

// Whether the deadline can be met, as things stand after everything before it: *eta becomes the moment that
// could when it cannot, or NO_ETA.
static enum err check_deadline(struct loop *loop, const struct turn *t, struct admission *admission,
                               struct wall *eta)
{
    struct outlook outlook;
    enum err err = standing_prospect(loop->store, loop->engine, admission, t->now, t->wall, &outlook);
    if (err != ERR_OK) {
        return err;
    }
    if (!outlook.has_eta) { // the queue is paused
        if (admission->deadline.ms <= t->wall.ms) {
            *eta = NO_ETA;
            refuse_new(loop, admission);
        }
        return ERR_OK;
    }
    int64_t ns = mono_diff(outlook.eta, t->now);
    int64_t ms = t->wall.ms + ns / NS_PER_MS + (ns % NS_PER_MS > 0);
    if (ms > admission->deadline.ms) {
        *eta = (struct wall){ms};
        refuse_new(loop, admission);
    }
    return ERR_OK;
}

static const char *owner_of(const struct request *request)
{
    return request->scope != NULL && request->scope->owner[0] != '\0' ? request->scope->owner : NULL;
}

enum err accept_ingest(struct loop *loop, struct turn *t, struct ipc_request *r)
{
    const struct ingest_request *request = &r->request.ingest;
    enum err err = ERR_OK;
    if (t->insert_count == t->insert_cap) {
        err = grow(t, &t->insert_cap);
    }
    if (err == ERR_OK && request->deadline.ms != 0) {
        err = accept_flush(loop, t);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct admission *admission = &t->admissions[t->insert_count];
    struct wall *eta = &t->etas[t->insert_count];
    *eta = (struct wall){0};
    if (engine_admit(loop->engine, request, t->now, t->wall, admission, &r->fault) != ERR_OK) {
        return ERR_OK;
    }
    if (request->deadline.ms != 0 && !admission->only_replay) {
        err = check_deadline(loop, t, admission, eta);
        if (err != ERR_OK) {
            engine_declined(loop->engine, admission);
            return err;
        }
    }
    t->inserts[t->insert_count++] = (struct insert){.request = request,
                                                    .queue = admission->queue,
                                                    .batch_size = admission->batch_size,
                                                    .now = t->wall,
                                                    .accepted_ns = admission->accepted_ns,
                                                    .trace = r->request.trace,
                                                    .owner = owner_of(&r->request),
                                                    .only_replay = admission->only_replay};
    return ERR_OK;
}

enum err accept_flush(struct loop *loop, struct turn *t)
{
    size_t first = t->inserted;
    if (first == t->insert_count) {
        return ERR_OK;
    }
    enum err err = store_insert(loop->store, t->inserts + first, t->insert_count - first);
    for (size_t i = first; i < t->insert_count && err == ERR_OK; i++) {
        if (t->inserts[i].result == INSERT_NEW) {
            t->leaves += 1 + LEFT_BY_IDS(t->inserts[i].request->ids.len);
            err = engine_accepted(loop->engine, &t->admissions[i], t->inserts[i].seq, t->now);
        } else {
            engine_declined(loop->engine, &t->admissions[i]);
        }
    }
    t->inserted = t->insert_count;
    return err;
}
