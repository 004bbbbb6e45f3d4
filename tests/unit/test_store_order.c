// The waiting batches: their order, their runs and their counts, against a plain model of the same traffic.
#include "tests/unit/store_fixture.h"

// ---- a model ----

#define MODEL_INGESTIONS 240
#define MODEL_BATCHES 12
#define QUEUES 2

// M_NEW has never started or not since a retry by hand.
enum model_state { M_NEW, M_IN_FLIGHT, M_WAITING, M_BACKOFF, M_COMPLETED, M_FAILED, M_CANCELLED };

struct model_ingestion {
    int64_t seq;
    int64_t queue;
    enum priority priority;
    uint32_t batches;
    enum model_state states[MODEL_BATCHES];
    int64_t due[MODEL_BATCHES]; // M_BACKOFF
    bool scheduled;
    bool cancelled; // by hand
    bool gone;
    int64_t finished;   // -1: not
    int64_t not_before; // in milliseconds after NOW; 0: none
    int64_t deadline;
};

struct model {
    struct model_ingestion ingestions[MODEL_INGESTIONS];
    size_t count;
    uint64_t random;
    int64_t now; // of both clocks
};

static uint32_t draw(struct model *m, uint32_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((m->random >> 33) % below);
}

static bool waits(const struct model_ingestion *in, uint32_t index)
{
    return !in->scheduled && (in->states[index] == M_NEW || in->states[index] == M_WAITING);
}

static uint64_t count_waiting(const struct model *m, int64_t queue, enum priority priority, int64_t seq,
                              uint32_t index)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_ingestion *in = &m->ingestions[i];
        for (uint32_t j = 0; j < in->batches && in->queue == queue && in->priority == priority; j++) {
            n += waits(in, j) && (in->seq < seq || (in->seq == seq && j < index));
        }
    }
    return n;
}

static void model_insert(struct model *m, struct store *store)
{
    if (m->count == MODEL_INGESTIONS) {
        return;
    }
    struct model_ingestion *in = &m->ingestions[m->count];
    in->finished = -1;
    in->queue = 1 + draw(m, QUEUES);
    in->priority = (enum priority)draw(m, PRIORITIES);
    in->batches = 1 + draw(m, MODEL_BATCHES);
    in->not_before = draw(m, 3) == 0 ? m->now + draw(m, 40) : 0;
    in->deadline = draw(m, 3) == 0 ? m->now + 1 + draw(m, 200) : 0;
    in->scheduled = in->not_before > m->now;
    struct ingest_request request = request_make(m->count, in->priority, 1, in->batches * 2 - draw(m, 2));
    request.not_before.ms = in->not_before != 0 ? NOW.ms + in->not_before : 0;
    request.deadline.ms = in->deadline != 0 ? NOW.ms + in->deadline : 0;
    struct insert insert = insert_make(&request, in->queue, 2);
    insert.now.ms = NOW.ms + m->now;
    OK(store_insert(store, &insert, 1));
    cr_assert_eq(insert.batches, in->batches);
    in->seq = insert.seq;
    m->count++;
    request_drop(&request);
}

static struct model_ingestion *model_find(struct model *m, int64_t seq)
{
    size_t i = 0;
    while (i < m->count && m->ingestions[i].seq != seq) {
        i++;
    }
    cr_assert_lt(i, m->count, "no ingestion %lld", (long long)seq);
    return &m->ingestions[i];
}

// Whether all of it has ended now.
static void model_look(const struct model *m, struct model_ingestion *in)
{
    bool ended = true;
    for (uint32_t i = 0; i < in->batches; i++) {
        ended = ended && in->states[i] >= M_COMPLETED;
    }
    if (!ended) {
        in->finished = -1;
    } else if (in->finished < 0) {
        in->finished = m->now;
    }
}

// One step in the life of a batch that is drawn.
static void model_step(struct model *m, struct store *store)
{
    static const enum batch_state ends[] = {BATCH_COMPLETED, BATCH_FAILED, BATCH_BACKOFF, BATCH_WAITING};
    static const enum model_state after[] = {M_COMPLETED, M_FAILED, M_BACKOFF, M_WAITING};
    struct model_ingestion *in = &m->ingestions[draw(m, (uint32_t)m->count)];
    uint32_t index = draw(m, in->batches);
    struct batch_key key = key_make(in->queue, in->priority, in->seq, index);
    if (waits(in, index)) {
        struct dispatch_row row = {.key = key, .leased = draw(m, 4) == 0, .lease = id_number(index)};
        OK(store_dispatch(store, &row, 1));
        free(row.ids);
        in->states[index] = M_IN_FLIGHT;
    } else if (in->states[index] == M_IN_FLIGHT) {
        uint32_t end = draw(m, 4);
        bool over = in->cancelled && end >= 2;
        in->due[index] = m->now + draw(m, 100);
        struct finish_row row = {.key = key,
                                 .state = over ? BATCH_CANCELLED : ends[end],
                                 .age_ns = m->now,
                                 .due = {in->due[index]}};
        OK(store_finish(store, &row, 1));
        in->states[index] = over ? M_CANCELLED : after[end];
        model_look(m, in);
    }
}

// What the store takes out of an index by time is due, and no less due than what it leaves.
static void model_due(struct model *m, struct store *store, enum due_kind kind)
{
    struct returned_row rows[4];
    size_t count = 1 + draw(m, 4);
    int64_t queue = 1 + draw(m, QUEUES);
    int64_t next;
    struct wall now_wall = {NOW.ms + m->now};
    OK(store_take_due(store, queue, kind, (struct mono){m->now}, now_wall, rows, &count, &next));
    for (size_t i = 0; i < count; i++) {
        struct model_ingestion *in = model_find(m, rows[i].run.seq);
        uint32_t first = rows[i].run.first;
        cr_assert(in->queue == queue && in->priority == rows[i].priority);
        if (kind == DUE_START) {
            cr_assert(in->scheduled && in->not_before <= m->now && first == 0 &&
                      rows[i].run.end == in->batches);
            in->scheduled = false;
        } else {
            cr_assert(in->states[first] == M_BACKOFF && in->due[first] <= m->now &&
                      rows[i].run.end == first + 1);
            in->states[first] = M_WAITING;
        }
    }
    int64_t earliest = DUE_NEVER;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_ingestion *in = &m->ingestions[i];
        for (uint32_t j = 0; j < in->batches && in->queue == queue; j++) {
            bool stands = kind == DUE_START ? in->scheduled : in->states[j] == M_BACKOFF;
            int64_t due = kind == DUE_START ? NOW.ms + in->not_before : in->due[j];
            earliest = stands && due < earliest ? due : earliest;
        }
    }
    cr_assert_eq(next, earliest);
}

// Everything that `which` says of an ingestion becomes cancelled, as the store says it did.
static void model_remove(const struct model *m, struct model_ingestion *in, const bool which[M_CANCELLED + 1],
                         const struct removal *removal)
{
    uint32_t waiting = 0;
    uint32_t delayed = 0;
    for (uint32_t i = 0; i < in->batches; i++) {
        if (which[in->states[i]]) {
            waiting += waits(in, i);
            delayed += !waits(in, i);
            in->states[i] = M_CANCELLED;
        }
    }
    in->scheduled = false;
    model_look(m, in);
    cr_assert(removal->queue == in->queue && removal->priority == in->priority);
    cr_assert_eq(removal->waiting, waiting);
    cr_assert_eq(removal->delayed, delayed);
}

static void model_cancel(struct model *m, struct store *store)
{
    static const bool which[M_CANCELLED + 1] = {[M_NEW] = true, [M_WAITING] = true, [M_BACKOFF] = true};
    uint32_t at = draw(m, (uint32_t)m->count);
    struct model_ingestion *in = &m->ingestions[at];
    struct removal removal;
    struct id id = id_number(at);
    enum err err = store_cancel(store, &id, NOW, m->now, &removal);
    cr_assert(in->gone ? err == ERR_NOT_FOUND : err == ERR_OK || err == ERR_ALREADY_FINISHED);
    if (err == ERR_OK && removal.cancelled) {
        cr_assert_not(in->cancelled);
        cr_assert_eq(removal.seq, in->seq);
        in->cancelled = true;
        model_remove(m, in, which, &removal);
    }
}

static void model_expire(struct model *m, struct store *store)
{
    static const bool which[M_CANCELLED + 1] = {[M_NEW] = true};
    struct removal removals[3];
    size_t count = 3;
    int64_t next;
    int64_t queue = 1 + draw(m, QUEUES);
    OK(store_expire(store, queue, (struct wall){NOW.ms + m->now}, m->now, removals, &count, &next));
    for (size_t i = 0; i < count; i++) {
        struct model_ingestion *in = model_find(m, removals[i].seq);
        cr_assert(in->deadline != 0 && in->deadline <= m->now && !removals[i].cancelled);
        model_remove(m, in, which, &removals[i]);
    }
    for (size_t i = 0; i < m->count && next > NOW.ms + m->now; i++) {
        const struct model_ingestion *in = &m->ingestions[i];
        for (uint32_t j = 0; j < in->batches && in->queue == queue; j++) {
            bool late = in->deadline != 0 && in->deadline <= m->now;
            cr_assert(!late || in->states[j] != M_NEW || in->due[j] == -1);
        }
    }
}

// Asks for retries of one ingestion or of a queue, or goes on with those that were asked for.
static void model_retry(struct model *m, struct store *store)
{
    struct retried_row rows[4];
    size_t count = 1 + draw(m, 4);
    bool more;
    struct model_ingestion *in = &m->ingestions[draw(m, (uint32_t)m->count)];
    switch (draw(m, 8)) {
    case 0:
        OK(store_ask_retry(store, in->queue, in->seq, in->seq));
        for (uint32_t i = 0; i < in->batches; i++) {
            in->cancelled = in->cancelled && in->states[i] != M_FAILED;
        }
        break;
    case 1:
        OK(store_ask_retry(store, in->queue, 0, INT64_MAX));
        break;
    default:
        OK(store_run_retries(store, rows, &count, &more));
        for (size_t i = 0; i < count; i++) {
            in = model_find(m, rows[i].row.run.seq);
            cr_assert(!in->gone && !in->cancelled && rows[i].queue == in->queue);
            for (uint32_t j = rows[i].row.run.first; j < rows[i].row.run.end; j++) {
                cr_assert_eq(in->states[j], M_FAILED);
                in->states[j] = M_NEW;
                in->due[j] = -1; // its deadline may be past
            }
            model_look(m, in);
        }
        break;
    }
}

// The first to finish of those that are there, up to a moment; NULL when there is none.
static struct model_ingestion *model_oldest(struct model *m, int64_t finished_by)
{
    struct model_ingestion *oldest = NULL;
    for (size_t i = 0; i < m->count; i++) {
        struct model_ingestion *in = &m->ingestions[i];
        if (!in->gone && in->finished >= 0 && in->finished <= finished_by &&
            (oldest == NULL || in->finished < oldest->finished)) {
            oldest = in;
        }
    }
    return oldest;
}

static void model_forget(struct model *m, struct store *store)
{
    struct removed removed;
    size_t most = 1 + draw(m, 40);
    int64_t finished_by = m->now - draw(m, 100);
    bool retries;
    OK(store_has_retries(store, &retries));
    OK(store_remove_old(store, finished_by, most, &removed));
    cr_assert_leq(removed.rows, most);
    cr_assert(removed.ingestions == 0 || !retries);
    for (size_t i = 0; i < removed.ingestions; i++) {
        struct model_ingestion *oldest = model_oldest(m, finished_by);
        cr_assert_not_null(oldest);
        oldest->gone = true;
        cr_assert(is_gone(store, (uint64_t)(oldest - m->ingestions)));
    }
    const struct model_ingestion *next = model_oldest(m, INT64_MAX);
    bool rest = sql_integer(store->db, "SELECT count(*) FROM gone") > 0;
    cr_assert_eq(removed.next, rest ? INT64_MIN : next != NULL ? next->finished : DUE_NEVER);
    cr_assert(removed.rows == most || retries || removed.next > finished_by);
}

static void model_move(struct model *m, struct store *store)
{
    uint32_t what = m->count == 0 ? 0 : draw(m, 50);
    m->now += draw(m, 2);
    if (what < 4) {
        model_insert(m, store);
    } else if (what < 36) {
        model_step(m, store);
    } else if (what < 42) {
        model_due(m, store, what < 40 ? DUE_RETRY : DUE_START);
    } else if (what < 44) {
        model_expire(m, store);
    } else if (what < 45) {
        model_cancel(m, store);
    } else if (what < 48) {
        model_retry(m, store);
    } else {
        model_forget(m, store);
    }
}

// ---- comparisons ----

static void check_place(const struct model *m, struct store *store, int64_t queue, struct place place)
{
    uint64_t count;
    OK(store_count_before(store, queue, &place, &count));
    cr_assert_eq(count, count_waiting(m, queue, place.priority, place.seq, place.index), "seq %lld index %u",
                 (long long)place.seq, place.index);
}

static void check_counts(struct model *m, struct store *store)
{
    for (int64_t queue = 1; queue <= QUEUES; queue++) {
        uint64_t waiting[PRIORITIES];
        OK(store_load_waiting(store, queue, waiting));
        for (int p = 0; p < PRIORITIES; p++) {
            cr_assert_eq(waiting[p], count_waiting(m, queue, (enum priority)p, INT64_MAX, 0));
        }
    }
    for (int i = 0; i < 4 && m->count > 0; i++) {
        const struct model_ingestion *in = &m->ingestions[draw(m, (uint32_t)m->count)];
        check_place(m, store, in->queue,
                    (struct place){in->priority, in->seq + draw(m, 2), draw(m, in->batches + 1)});
    }
}

// Moves on to the next batch that waits, which may be this one.
static void next_waiting(const struct model *m, int64_t queue, enum priority priority, size_t *at,
                         uint32_t *index)
{
    for (;;) {
        cr_assert_lt(*at, m->count);
        const struct model_ingestion *in = &m->ingestions[*at];
        if (in->queue != queue || in->priority != priority || *index >= in->batches) {
            *at += 1;
            *index = 0;
        } else if (!waits(in, *index)) {
            *index += 1;
        } else {
            return;
        }
    }
}

// Reads everything that waits after one batch (from SIZE_MAX: everything), some runs at a time.
static void check_order(const struct model *m, struct store *store, int64_t queue, enum priority priority,
                        size_t from, uint32_t after, size_t page)
{
    bool all = from == SIZE_MAX;
    struct run runs[16];
    struct run last = {.seq = all ? -1 : m->ingestions[from].seq, .end = after + 1};
    size_t at = all ? 0 : from;
    uint32_t index = all ? 0 : after + 1;
    for (size_t count = page; count == page;) {
        OK(store_read_waiting(store, queue, priority, last.seq, last.end - 1, runs, &count));
        for (size_t i = 0; i < count; i++) {
            cr_assert_lt(runs[i].first, runs[i].end);
            for (uint32_t j = runs[i].first; j < runs[i].end; j++) {
                next_waiting(m, queue, priority, &at, &index);
                cr_assert_eq(runs[i].seq, m->ingestions[at].seq);
                cr_assert_eq(j, index);
                index++;
            }
            last = runs[i];
        }
    }
    cr_assert_eq(count_waiting(m, queue, priority, INT64_MAX, 0),
                 count_waiting(m, queue, priority, last.seq, last.end));
}

static void check_span(const struct model *m, struct store *store, size_t which)
{
    const struct model_ingestion *in = &m->ingestions[which];
    struct ingestion_row row;
    struct id id = id_number(which);
    bool any;
    uint32_t first;
    uint32_t last;
    if (in->gone) {
        return;
    }
    OK(store_find(store, &id, &row));
    OK(store_read_span(store, &row, &any, &first, &last));
    uint64_t waiting = count_waiting(m, in->queue, in->priority, in->seq + 1, 0) -
                       count_waiting(m, in->queue, in->priority, in->seq, 0);
    cr_assert_eq(any, waiting > 0);
    if (any) {
        cr_assert(waits(in, first));
        cr_assert(waits(in, last));
        for (uint32_t i = 0; i < in->batches; i++) {
            cr_assert(!waits(in, i) || (i >= first && i <= last));
        }
    }
}

// The outside status of every batch, by the ingestion's counts.
static void check_states(const struct model *m, struct store *store)
{
    static const enum status outside[] = {
        [M_NEW] = STATUS_YET_TO_START,    [M_IN_FLIGHT] = STATUS_TRIGGERED, [M_WAITING] = STATUS_TRIGGERED,
        [M_BACKOFF] = STATUS_TRIGGERED,   [M_COMPLETED] = STATUS_COMPLETED, [M_FAILED] = STATUS_FAILED,
        [M_CANCELLED] = STATUS_CANCELLED,
    };
    for (size_t i = 0; i < m->count; i++) {
        uint32_t progress[STATUSES] = {0};
        if (m->ingestions[i].gone) {
            cr_assert(is_gone(store, i));
            continue;
        }
        for (uint32_t j = 0; j < m->ingestions[i].batches; j++) {
            progress[outside[m->ingestions[i].states[j]]]++;
        }
        struct ingestion_row row = find(store, i);
        cr_assert_arr_eq(row.progress, progress, sizeof progress);
        cr_assert_eq(row.scheduled, m->ingestions[i].scheduled);
    }
}

// ---- tests ----

static void run_model(uint64_t seed, uint32_t steps)
{
    struct fixture f;
    struct model *m = calloc(1, sizeof *m);
    cr_assert_not_null(m);
    m->random = seed;
    fixture_new(&f);
    for (uint32_t step = 0; step < steps; step++) {
        OK(store_begin(f.store));
        for (uint32_t i = draw(m, 8); i > 0; i--) {
            model_move(m, f.store);
        }
        check_counts(m, f.store); // inside the transaction
        OK(store_commit(f.store));
        check_counts(m, f.store);
        if (step % 16 == 0 && m->count > 0) {
            expect_sound(f.store);
            check_states(m, f.store);
            size_t which = draw(m, (uint32_t)m->count);
            const struct model_ingestion *in = &m->ingestions[which];
            check_order(m, f.store, 1 + draw(m, QUEUES), (enum priority)draw(m, PRIORITIES), SIZE_MAX, 0, 16);
            check_order(m, f.store, in->queue, in->priority, which, draw(m, in->batches), 1 + draw(m, 16));
            check_span(m, f.store, which);
        }
        if (step % 97 == 96) {
            static const uint32_t gaps[] = {1, 63, 4096, 262144, 1100000}; // blocks of all sizes
            skip_seqs(f.store, gaps[draw(m, 5)]);
            fixture_reopen(&f);
        }
    }
    free(m);
    fixture_free(&f);
}

Test(store_order, agrees_with_the_model)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_model(seed, 1000);
    }
}

Test(store_order, one_transaction_may_touch_more_blocks_than_are_noted)
{
    struct fixture f;
    fixture_new(&f);
    enum { TOTAL = COUNT_DELTAS_MAX << COUNT_BITS, BLOCKS = COUNT_DELTAS_MAX / 2 };
    struct ingest_request request = request_make(0, PRIORITY_LOW, 1, 1);
    OK(store_begin(f.store));
    for (uint64_t i = 0; i < TOTAL; i++) {
        request.id = id_number(i);
        request.priority = (enum priority)(i % PRIORITIES);
        struct insert insert = insert_make(&request, 1, 1);
        OK(store_insert(f.store, &insert, 1));
    }
    OK(store_commit(f.store));
    request_drop(&request);
    uint64_t waiting[PRIORITIES];
    OK(store_load_waiting(f.store, 1, waiting));
    cr_assert_eq(waiting[0] + waiting[1] + waiting[2], TOTAL);
    struct place place = {PRIORITY_MEDIUM, TOTAL, 0};
    uint64_t count;
    OK(store_count_before(f.store, 1, &place, &count));
    cr_assert_eq(count, waiting[PRIORITY_MEDIUM] - (TOTAL % PRIORITIES == 2));
    fixture_free(&f);
}

Test(store_order, nothing_is_left_of_what_no_longer_waits)
{
    struct fixture f;
    fixture_new(&f);
    for (uint64_t i = 0; i < 70; i++) {
        int64_t seq = add(f.store, i, 1, PRIORITY_LOW, 2, 4);
        dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 1));
        dispatch(f.store, key_make(1, PRIORITY_LOW, seq, 0));
    }
    static const char *const empty[] = {"SELECT 1 FROM waiting", "SELECT 1 FROM waiting_count"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        sqlite3_stmt *stmt;
        cr_assert_eq(sqlite3_prepare_v2(f.store->db, empty[i], -1, &stmt, NULL), SQLITE_OK);
        cr_assert_eq(sqlite3_step(stmt), SQLITE_DONE, "%s", empty[i]);
        sqlite3_finalize(stmt);
    }
    fixture_free(&f);
}
