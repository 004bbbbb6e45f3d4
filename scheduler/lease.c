#include "scheduler/lease.h"

#include <assert.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS LEASES_WAITING_MAX // of the lines: there are never more lines than waiting leases
#define FIRST_CAP 4

_Static_assert((uint64_t)LEASES_WAITING_MAX *LEASE_BATCHES_MAX <= UINT32_MAX, "a demand fits");

struct lease {
    struct lease_grant grant; // what the caller gets of it
    size_t cap;               // of grant.deliveries
    uint32_t max;
    bool gone; // its connection ended when it had been given batches in this turn
    struct line *line;
    struct lease *prev, *next; // in the line
    struct mono end;
    struct heap_node due; // in leases->ends, unless it was given batches in this turn
};

// The leases that wait on one queue, the oldest first. There is none without a lease.
struct line {
    int64_t queue;
    struct lease *first, *last;
    struct lease *open; // the first with room: all before it are full
    uint32_t demand;
    struct line *next; // in its bucket
};

// The batches that are out under one lease. There is one without batches only in a turn that gives some.
struct out {
    struct id lease;           // first, as the tree's key
    struct delivery **batches; // as they were granted; NULL where one was removed
    size_t first, end, cap;    // batches[first..end)
    size_t count;
    size_t given; // in this turn: there is room for them
};

struct leases {
    struct line *lines[BUCKETS]; // by queue
    size_t waiting;              // leases in all lines
    struct heap ends;            // has room for all of them
    struct lease_grant *granted; // in this turn
    struct lease_grant *last_granted;
    size_t given;     // batches in this turn
    void *outs;       // a tree (tsearch) of struct out
    struct heap dues; // all that is out, and room for what was given
};

static struct lease *lease_of(struct lease_grant *grant)
{
    return container_of(grant, struct lease, grant);
}

// ---- lists of grants ----

struct grant_list {
    struct lease_grant *first, *last;
};

static void list_append(struct grant_list *list, struct lease_grant *grant)
{
    grant->next = NULL;
    if (list->last) {
        list->last->next = grant;
    } else {
        list->first = grant;
    }
    list->last = grant;
}

// ---- lines ----

static struct line **bucket_of(struct leases *leases, int64_t queue)
{
    // Queues are numbered as they are made.
    return &leases->lines[(uint64_t)queue % BUCKETS];
}

static struct line *find_line(const struct leases *leases, int64_t queue)
{
    struct line *line = leases->lines[(uint64_t)queue % BUCKETS];

    while (line && line->queue != queue) {
        line = line->next;
    }
    return line;
}

static struct line *make_line(struct leases *leases, int64_t queue)
{
    struct line **bucket = bucket_of(leases, queue);
    struct line *line = calloc(1, sizeof(*line));

    if (line) {
        line->queue = queue;
        line->next = *bucket;
        *bucket = line;
    }
    return line;
}

static void free_line(struct leases *leases, struct line *line)
{
    struct line **at = bucket_of(leases, line->queue);

    while (*at != line) {
        at = &(*at)->next;
    }
    *at = line->next;
    free(line);
}

static uint32_t room_of(const struct lease *lease)
{
    return lease->max - (uint32_t)lease->grant.count;
}

static void join_line(struct line *line, struct lease *lease)
{
    lease->line = line;
    lease->prev = line->last;
    if (line->last) {
        line->last->next = lease;
    } else {
        line->first = lease;
    }
    line->last = lease;
    if (!line->open) {
        line->open = lease;
    }
    line->demand += room_of(lease);
}

// It no longer waits. Frees the line with its last lease.
static void leave_line(struct leases *leases, struct lease *lease)
{
    struct line *line = lease->line;

    if (lease->due.at != 0) {
        heap_remove(&leases->ends, &lease->due);
    }
    if (line->open == lease) {
        line->open = lease->next;
    }
    *(lease->prev ? &lease->prev->next : &line->first) = lease->next;
    *(lease->next ? &lease->next->prev : &line->last) = lease->prev;
    line->demand -= room_of(lease);
    leases->waiting--;
    if (!line->first) {
        free_line(leases, line);
    }
    lease->line = NULL;
}

// There is room: leases_wait has made it.
static void await_end(struct leases *leases, struct lease *lease)
{
    enum err err = heap_insert(&leases->ends, &lease->due, lease->end.ns);

    assert(err == ERR_OK);
    (void)err;
}

static void drop(struct leases *leases, struct lease *lease)
{
    struct buf none;

    leave_line(leases, lease);
    buf_init(&none);
    ipc_reply(lease->grant.message, &none);
    leases_free_grant(&lease->grant);
}

// ---- batches that are out ----

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct id));
}

static struct out *find_out(const struct leases *leases, const struct id *lease)
{
    void *const *found = tfind(lease, &leases->outs, compare_ids);

    return found ? *found : NULL;
}

static struct out *make_out(struct leases *leases, const struct id *lease)
{
    struct out *out = calloc(1, sizeof(*out));

    if (out) {
        out->lease = *lease;
        if (!tsearch(out, &leases->outs, compare_ids)) {
            free(out);
            out = NULL;
        }
    }
    return out;
}

static void free_out(void *node)
{
    struct out *out = node;

    free(out->batches);
    free(out);
}

static void drop_empty(struct leases *leases, struct out *out)
{
    if (out->count == 0 && out->given == 0) {
        (void)tdelete(out, &leases->outs, compare_ids);
        free_out(out);
    }
}

static void close_gaps(struct out *out)
{
    size_t kept = 0;

    for (size_t i = out->first; i < out->end; i++) {
        if (out->batches[i]) {
            out->batches[kept++] = out->batches[i];
        }
    }
    out->first = 0;
    out->end = kept;
}

static enum err grow(struct delivery ***batches, size_t *cap, size_t need)
{
    size_t larger = *cap > 0 ? *cap * 2 : FIRST_CAP;

    if (need <= *cap) {
        return ERR_OK;
    }
    struct delivery **grown = realloc(*batches, (larger > need ? larger : need) * sizeof(struct delivery *));
    if (!grown) {
        return ERR_NO_MEMORY;
    }
    *batches = grown;
    *cap = larger > need ? larger : need;
    return ERR_OK;
}

// Room under this lease, and among the ends, for one more than was given in this turn. NULL without memory.
static struct out *reserve_out(struct leases *leases, const struct id *lease)
{
    struct out *out = find_out(leases, lease);

    if (!out) {
        out = make_out(leases, lease);
    }
    if (!out) {
        return NULL;
    }
    if (out->end + out->given + 1 > out->cap) {
        close_gaps(out);
    }
    if (grow(&out->batches, &out->cap, out->end + out->given + 1) != ERR_OK ||
        heap_reserve(&leases->dues, leases->given + 1) != ERR_OK) {
        drop_empty(leases, out);
        return NULL;
    }
    return out;
}

// There is room: reserve_out has made it.
static void put_out(struct leases *leases, struct out *out, struct delivery *delivery)
{
    enum err err = heap_insert(&leases->dues, &delivery->due, delivery->due.key);

    assert(err == ERR_OK);
    (void)err;
    out->batches[out->end++] = delivery;
    out->count++;
}

// ---- waiting ----

enum err leases_new(struct leases **leases)
{
    struct leases *made = calloc(1, sizeof(*made));

    if (!made) {
        return ERR_NO_MEMORY;
    }
    heap_init(&made->ends);
    heap_init(&made->dues);
    *leases = made;
    return ERR_OK;
}

void leases_free(struct leases *leases)
{
    if (!leases) {
        return;
    }
    assert(leases->waiting == 0);
    tdestroy(leases->outs, free_out);
    heap_fini(&leases->ends);
    heap_fini(&leases->dues);
    free(leases);
}

void leases_free_grant(struct lease_grant *grant)
{
    if (grant) {
        free(grant->deliveries);
        free(lease_of(grant));
    }
}

static struct lease *find_waiting(const struct line *line, const struct id *id)
{
    for (struct lease *lease = line ? line->first : NULL; lease; lease = lease->next) {
        if (id_equal(&lease->grant.id, id)) {
            return lease;
        }
    }
    return NULL;
}

// The newer message takes the place of the earlier one's, which leaves in `newer`.
static void replace(struct leases *leases, struct lease *earlier, struct lease *newer)
{
    struct ipc_message *message = earlier->grant.message;

    earlier->grant.message = newer->grant.message;
    newer->grant.message = message;
    earlier->end = newer->end;
    earlier->gone = false;
    if (earlier->due.at == 0) {
        return; // it has got batches in this turn, of those it asked for before
    }
    heap_move(&leases->ends, &earlier->due, earlier->end.ns);
    earlier->line->demand -= earlier->max;
    earlier->line->demand += newer->max;
    earlier->max = newer->max;
}

enum err leases_wait(struct leases *leases, int64_t queue, struct ipc_message *message, struct mono now,
                     struct lease_grant **older, struct fault *fault)
{
    const struct lease_request *request = &message->requests[0].request.lease;
    struct line *line = find_line(leases, queue);
    struct lease *earlier = find_waiting(line, &request->id);

    *older = NULL;
    if (!earlier && leases->waiting >= LEASES_WAITING_MAX) {
        return fault_set(fault, ERR_OVERLOADED, "%u leases wait already, and no more may",
                         LEASES_WAITING_MAX);
    }
    struct lease *lease = calloc(1, sizeof(*lease));
    if (!lease || heap_reserve(&leases->ends, leases->waiting + 1 - leases->ends.len) != ERR_OK ||
        (!line && !(line = make_line(leases, queue)))) {
        free(lease);
        return fault_set(fault, ERR_NO_MEMORY, "no memory for one more lease");
    }
    lease->grant.message = message;
    lease->grant.id = request->id;
    lease->grant.queue = queue;
    lease->max = request->max;
    lease->end = mono_add(now, request->wait_ns);
    if (earlier) {
        replace(leases, earlier, lease);
        *older = &lease->grant;
        return ERR_OK;
    }
    join_line(line, lease);
    leases->waiting++;
    await_end(leases, lease);
    return ERR_OK;
}

size_t leases_waiting(const struct leases *leases)
{
    return leases->waiting;
}

bool leases_waits(const struct leases *leases, const struct id *id, int64_t *queue)
{
    for (size_t i = 0; i < leases->ends.len; i++) {
        const struct lease *lease = container_of(leases->ends.nodes[i], struct lease, due);
        if (id_equal(&lease->grant.id, id)) {
            *queue = lease->grant.queue;
            return true;
        }
    }
    return false;
}

uint32_t leases_demand(const struct leases *leases, int64_t queue)
{
    const struct line *line = find_line(leases, queue);

    return line ? line->demand : 0;
}

struct lease_grant *leases_take_idle(struct leases *leases, struct mono now)
{
    struct grant_list list = {0};
    struct heap_node *top;

    while ((top = heap_top(&leases->ends)) && top->key <= now.ns) {
        struct lease *lease = container_of(top, struct lease, due);
        leave_line(leases, lease);
        list_append(&list, &lease->grant);
    }
    return list.first;
}

struct lease_grant *leases_take_queue(struct leases *leases, int64_t queue)
{
    struct grant_list list = {0};
    const struct line *line = find_line(leases, queue);

    for (struct lease *lease = line ? line->first : NULL, *next; lease; lease = next) {
        next = lease->next;
        if (lease->grant.count == 0) {
            leave_line(leases, lease);
            list_append(&list, &lease->grant);
        }
    }
    return list.first;
}

// Whether the line, which may be freed, has changed.
static bool drop_pipe_in(struct leases *leases, struct line *line, uint32_t pipe)
{
    bool changed = false;

    for (struct lease *lease = line->first, *next; lease; lease = next) {
        next = lease->next;
        if (lease->grant.message->pipe != pipe) {
            continue;
        }
        if (lease->grant.count > 0) {
            lease->gone = true;
        } else {
            drop(leases, lease);
            changed = true;
        }
    }
    return changed;
}

void leases_drop_pipe(struct leases *leases, uint32_t pipe,
                      void (*changed)(void *user, int64_t queue, uint32_t demand), void *user)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct line *line = leases->lines[i], *next; line; line = next) {
            int64_t queue = line->queue;
            next = line->next;
            if (drop_pipe_in(leases, line, pipe)) {
                changed(user, queue, leases_demand(leases, queue));
            }
        }
    }
}

// ---- grants ----

enum err leases_grant(struct leases *leases, struct delivery *delivery, struct mono now, int64_t lease_ns)
{
    struct line *line = find_line(leases, delivery->queue);

    assert(line && line->open);
    struct lease *lease = line->open;
    struct lease_grant *grant = &lease->grant;
    if (grow(&grant->deliveries, &lease->cap, grant->count + 1) != ERR_OK) {
        return ERR_NO_MEMORY;
    }
    struct out *out = reserve_out(leases, &grant->id);
    if (!out) {
        return ERR_NO_MEMORY;
    }
    if (grant->count == 0) {
        struct grant_list list = {leases->granted, leases->last_granted};
        heap_remove(&leases->ends, &lease->due);
        list_append(&list, grant);
        leases->granted = list.first;
        leases->last_granted = list.last;
    }
    delivery->lease = grant->id;
    delivery->due.key = mono_add(now, lease_ns).ns;
    grant->deliveries[grant->count++] = delivery;
    out->given++;
    leases->given++;
    line->demand--;
    if (room_of(lease) == 0) {
        line->open = lease->next;
    }
    return ERR_OK;
}

static struct lease_grant *end_turn(struct leases *leases)
{
    struct lease_grant *granted = leases->granted;

    leases->granted = NULL;
    leases->last_granted = NULL;
    leases->given = 0;
    return granted;
}

struct lease_grant *leases_take_grants(struct leases *leases)
{
    struct lease_grant *granted = end_turn(leases);

    for (struct lease_grant *grant = granted; grant; grant = grant->next) {
        struct out *out = find_out(leases, &grant->id);
        assert(out);
        leave_line(leases, lease_of(grant));
        for (size_t i = 0; i < grant->count; i++) {
            put_out(leases, out, grant->deliveries[i]);
            out->given--;
        }
    }
    return granted;
}

void leases_undo(struct leases *leases)
{
    for (struct lease_grant *grant = end_turn(leases), *next; grant; grant = next) {
        struct lease *lease = lease_of(grant);
        struct out *out = find_out(leases, &grant->id);
        next = grant->next;
        assert(out);
        out->given -= grant->count;
        drop_empty(leases, out);
        lease->line->demand += (uint32_t)grant->count;
        lease->line->open = lease->line->first;
        grant->count = 0;
        if (lease->gone) {
            drop(leases, lease);
        } else {
            await_end(leases, lease);
        }
    }
}

// ---- out ----

enum err leases_add(struct leases *leases, struct delivery *delivery)
{
    struct out *out = reserve_out(leases, &delivery->lease);

    if (!out) {
        return ERR_NO_MEMORY;
    }
    put_out(leases, out, delivery);
    return ERR_OK;
}

struct delivery *leases_find(struct leases *leases, const struct id *lease, const struct id *batch)
{
    const struct out *out = find_out(leases, lease);
    struct delivery *found = NULL;

    for (size_t i = out ? out->end : 0; i > 0 && i > out->first; i--) {
        struct delivery *delivery = out->batches[i - 1];
        if (delivery && (!batch || id_equal(&delivery->batch, batch))) {
            delivery->item.next = found ? &found->item : NULL;
            found = delivery;
        }
    }
    return found;
}

void leases_extend(struct leases *leases, struct delivery *delivery, struct mono until)
{
    heap_move(&leases->dues, &delivery->due, until.ns);
}

void leases_remove(struct leases *leases, struct delivery *delivery)
{
    struct out *out = find_out(leases, &delivery->lease);
    size_t at;

    assert(out);
    for (at = out->first; at < out->end && out->batches[at] != delivery; at++) {
    }
    assert(at < out->end);
    out->batches[at] = NULL;
    while (out->first < out->end && !out->batches[out->first]) {
        out->first++;
    }
    out->count--;
    heap_remove(&leases->dues, &delivery->due);
    drop_empty(leases, out);
}

struct delivery *leases_overdue(struct leases *leases, struct mono now)
{
    struct heap_node *top = heap_top(&leases->dues);

    return top && top->key <= now.ns ? container_of(top, struct delivery, due) : NULL;
}

struct mono leases_wake(const struct leases *leases)
{
    const struct heap_node *end = heap_top(&leases->ends);
    const struct heap_node *due = heap_top(&leases->dues);

    struct mono first_end = {end ? end->key : MONO_NEVER.ns};
    struct mono first_due = {due ? due->key : MONO_NEVER.ns};
    return mono_min(first_end, first_due);
}
