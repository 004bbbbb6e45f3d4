// Random steps on leases, beside a model that keeps everything in one list and looks through it.
#include "scheduler/lease.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 20000
#define QUEUES 7
#define IDS 40u
#define PIPES 6u
#define WAITING 60 // at most, in the model
#define OUT 400
#define DELIVERIES 64 // in one turn

enum fate { FATE_WAITING, FATE_ANSWERED, FATE_DROPPED };

struct asked {
    struct ipc_message message; // first
    struct ipc_request request;
    int64_t queue;
    int64_t end;
    size_t given; // in this turn
    uint32_t room;
    bool gone;
    enum fate fate;
};

struct model {
    struct leases *leases;
    unsigned seed;
    int64_t now;
    struct asked *waiting[WAITING + 1]; // in the order they came
    size_t count;
    struct delivery *given[DELIVERIES]; // in this turn
    size_t given_count;
    struct delivery *out[OUT]; // in the order they were granted
    size_t out_count;
};

void ipc_reply(struct ipc_message *message, struct buf *lines)
{
    cr_assert_eq(lines->len, 0);
    container_of(message, struct asked, message)->fate = FATE_DROPPED;
}

static uint32_t draw(struct model *m, uint32_t below)
{
    return (uint32_t)rand_r(&m->seed) % below;
}

static struct id id_of(uint32_t number)
{
    struct id id = {{0}};

    memcpy(id.bytes, &number, sizeof(number));
    return id;
}

static const struct id *lease_id(const struct asked *asked)
{
    return &asked->request.request.lease.id;
}

static void forget(struct model *m, size_t n)
{
    free(m->waiting[n]);
    memmove(&m->waiting[n], &m->waiting[n + 1], (--m->count - n) * sizeof(struct asked *));
}

static uint32_t demand(const struct model *m, int64_t queue)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < m->count; i++)
        sum += m->waiting[i]->queue == queue ? m->waiting[i]->room : 0;
    return sum;
}

// ---- steps ----

static size_t find(const struct model *m, int64_t queue, const struct id *id)
{
    size_t n = 0;

    while (n < m->count && (m->waiting[n]->queue != queue || !id_equal(lease_id(m->waiting[n]), id)))
        n++;
    return n;
}

static void wait_for_batches(struct model *m)
{
    struct asked *asked = calloc(1, sizeof(*asked));
    struct lease_grant *older;

    if (m->count == WAITING) {
        free(asked);
        return;
    }
    cr_assert_not_null(asked);
    struct lease_request *lease = &asked->request.request.lease;
    asked->message = (struct ipc_message){.requests = &asked->request, .count = 1, .pipe = draw(m, PIPES)};
    asked->request.request.op = OP_LEASE;
    *lease = (struct lease_request){
        .has_id = true, .id = id_of(draw(m, IDS)), .wait_ns = draw(m, 50), .max = 1 + draw(m, 9)};
    asked->queue = draw(m, QUEUES);
    asked->end = m->now + lease->wait_ns;
    asked->room = lease->max;
    size_t n = find(m, asked->queue, &lease->id);
    cr_assert_eq(leases_wait(m->leases, asked->queue, &asked->message, (struct mono){m->now}, &older, NULL),
                 ERR_OK);
    cr_assert_eq(older != NULL, n < m->count);
    if (older) {
        struct asked *replaced = m->waiting[n];
        cr_assert_eq(older->message, &replaced->message);
        cr_assert_eq(older->count, 0);
        leases_free_grant(older);
        if (replaced->given > 0) {
            asked->room = replaced->room;
            asked->given = replaced->given;
        }
        free(replaced);
    } else {
        m->count++;
    }
    m->waiting[n] = asked;
}

static void grant_some(struct model *m)
{
    int64_t queue = draw(m, QUEUES);
    uint32_t count = draw(m, 8);

    for (; count > 0 && demand(m, queue) > 0 && m->given_count < DELIVERIES; count--) {
        struct delivery *delivery = calloc(1, sizeof(*delivery));
        size_t n = 0;
        cr_assert_not_null(delivery);
        delivery->queue = queue;
        delivery->batch = id_of((uint32_t)rand_r(&m->seed));
        int64_t lease_ns = draw(m, 100);
        cr_assert_eq(leases_grant(m->leases, delivery, (struct mono){m->now}, lease_ns), ERR_OK);
        while (m->waiting[n]->queue != queue || m->waiting[n]->room == 0)
            n++;
        cr_assert(id_equal(&delivery->lease, lease_id(m->waiting[n])), "it went to another lease");
        cr_assert_eq(delivery->due.key, m->now + lease_ns);
        m->waiting[n]->room--;
        m->waiting[n]->given++;
        m->given[m->given_count++] = delivery;
    }
}

static void commit(struct model *m)
{
    struct lease_grant *grants = leases_take_grants(m->leases);
    size_t batches = 0;

    for (struct lease_grant *grant = grants, *next; grant; grant = next) {
        struct asked *asked = container_of(grant->message, struct asked, message);
        next = grant->next;
        cr_assert_eq(asked->given, grant->count);
        for (size_t i = 0; i < grant->count; i++)
            cr_assert(id_equal(&grant->deliveries[i]->lease, lease_id(asked)));
        batches += grant->count;
        asked->fate = FATE_ANSWERED;
        leases_free_grant(grant);
    }
    cr_assert_eq(batches, m->given_count);
    // They are out in the order of the leases, which is that in which each lease got its first.
    for (size_t i = 0; i < m->given_count; i++)
        m->out[m->out_count++] = m->given[i];
    m->given_count = 0;
    for (size_t i = m->count; i > 0; i--) {
        cr_assert_eq(m->waiting[i - 1]->given > 0, m->waiting[i - 1]->fate == FATE_ANSWERED);
        if (m->waiting[i - 1]->given > 0)
            forget(m, i - 1);
    }
}

static void undo(struct model *m)
{
    leases_undo(m->leases);
    while (m->given_count > 0)
        free(m->given[--m->given_count]);
    for (size_t i = m->count; i > 0; i--) {
        struct asked *asked = m->waiting[i - 1];
        asked->room += (uint32_t)asked->given;
        asked->given = 0;
        cr_assert_eq(asked->fate, asked->gone ? FATE_DROPPED : FATE_WAITING);
        if (asked->gone)
            forget(m, i - 1);
    }
}

static void expect_idle(struct model *m, struct lease_grant *grants, size_t expected)
{
    for (struct lease_grant *grant = grants, *next; grant; grant = next, expected--) {
        next = grant->next;
        cr_assert_eq(grant->count, 0);
        cr_assert_gt(expected, 0);
        container_of(grant->message, struct asked, message)->fate = FATE_ANSWERED;
        leases_free_grant(grant);
    }
    cr_assert_eq(expected, 0);
    for (size_t i = m->count; i > 0; i--) {
        if (m->waiting[i - 1]->fate != FATE_WAITING)
            forget(m, i - 1);
    }
}

static void end_waits(struct model *m)
{
    size_t expected = 0;

    m->now += draw(m, 10);
    for (size_t i = 0; i < m->count; i++)
        expected += m->waiting[i]->given == 0 && m->waiting[i]->end <= m->now;
    struct lease_grant *grants = leases_take_idle(m->leases, (struct mono){m->now});
    for (const struct lease_grant *grant = grants; grant; grant = grant->next)
        cr_assert_leq(container_of(grant->message, struct asked, message)->end, m->now);
    expect_idle(m, grants, expected);
}

static void drop_queue(struct model *m)
{
    int64_t queue = draw(m, QUEUES);
    size_t expected = 0;

    for (size_t i = 0; i < m->count; i++)
        expected += m->waiting[i]->given == 0 && m->waiting[i]->queue == queue;
    expect_idle(m, leases_take_queue(m->leases, queue), expected);
}

static void note(void *user, int64_t queue, uint32_t now)
{
    uint32_t *demands = user;

    cr_assert_eq(demands[queue], UINT32_MAX);
    demands[queue] = now;
}

static void drop_pipe(struct model *m)
{
    uint32_t pipe = draw(m, PIPES), demands[QUEUES];
    bool dropped[QUEUES] = {false};

    memset(demands, 0xff, sizeof(demands));
    leases_drop_pipe(m->leases, pipe, note, demands);
    for (size_t i = m->count; i > 0; i--) {
        struct asked *asked = m->waiting[i - 1];
        bool goes = asked->message.pipe == pipe && asked->given == 0;
        cr_assert_eq(asked->fate, goes ? FATE_DROPPED : FATE_WAITING);
        asked->gone = asked->gone || asked->message.pipe == pipe;
        dropped[asked->queue] = dropped[asked->queue] || goes;
        if (goes)
            forget(m, i - 1);
    }
    for (int64_t queue = 0; queue < QUEUES; queue++)
        cr_assert_eq(demands[queue], dropped[queue] ? demand(m, queue) : UINT32_MAX);
}

// ---- out ----

static void settle(struct model *m, size_t n)
{
    leases_remove(m->leases, m->out[n]);
    free(m->out[n]);
    memmove(&m->out[n], &m->out[n + 1], (--m->out_count - n) * sizeof(struct delivery *));
}

static void settle_one(struct model *m)
{
    if (m->out_count > 0)
        settle(m, draw(m, (uint32_t)m->out_count));
}

static void settle_lease(struct model *m)
{
    struct id id = id_of(draw(m, IDS));
    struct delivery *found = leases_find(m->leases, &id, NULL);

    for (struct inbox_item *item = found ? &found->item : NULL, *next; item; item = next) {
        size_t n = 0;
        next = item->next;
        while (m->out[n] != delivery_of(item))
            n++;
        settle(m, n);
    }
    cr_assert_null(leases_find(m->leases, &id, NULL));
}

static void extend_one(struct model *m)
{
    if (m->out_count > 0) {
        struct delivery *delivery = m->out[draw(m, (uint32_t)m->out_count)];
        leases_extend(m->leases, delivery, (struct mono){m->now + draw(m, 100)});
    }
}

static void end_overdue(struct model *m)
{
    struct delivery *delivery;

    while ((delivery = leases_overdue(m->leases, (struct mono){m->now}))) {
        size_t n = 0;
        cr_assert_leq(delivery->due.key, m->now);
        while (m->out[n] != delivery)
            n++;
        settle(m, n);
    }
    for (size_t i = 0; i < m->out_count; i++)
        cr_assert_gt(m->out[i]->due.key, m->now);
}

// ---- the run ----

static void check_out(struct model *m)
{
    struct id id = id_of(draw(m, IDS));
    struct delivery *found = leases_find(m->leases, &id, NULL);
    size_t count = 0, expected = 0;

    for (struct inbox_item *item = found ? &found->item : NULL; item; item = item->next) {
        cr_assert(id_equal(&delivery_of(item)->lease, &id));
        count++;
    }
    for (size_t i = 0; i < m->out_count; i++)
        expected += id_equal(&m->out[i]->lease, &id);
    cr_assert_eq(count, expected);
}

static void check(struct model *m)
{
    int64_t wake = INT64_MAX;

    for (int64_t queue = 0; queue < QUEUES; queue++)
        cr_assert_eq(leases_demand(m->leases, queue), demand(m, queue));
    for (size_t i = 0; i < m->count; i++) {
        if (m->waiting[i]->given == 0 && m->waiting[i]->end < wake)
            wake = m->waiting[i]->end;
    }
    for (size_t i = 0; i < m->out_count; i++) {
        if (m->out[i]->due.key < wake)
            wake = m->out[i]->due.key;
    }
    cr_assert_eq(leases_wake(m->leases).ns, wake);
    check_out(m);
}

static void step(struct model *m)
{
    static void (*const steps[])(struct model *) = {wait_for_batches, wait_for_batches, wait_for_batches,
                                                    wait_for_batches, grant_some,       grant_some,
                                                    grant_some,       commit,           undo,
                                                    end_waits,        drop_queue,       drop_pipe,
                                                    settle_one,       settle_one,       settle_lease,
                                                    extend_one,       end_overdue};
    size_t n = draw(m, sizeof(steps) / sizeof(steps[0]));

    if (m->out_count + DELIVERIES > OUT) {
        m->now += 200;
        end_overdue(m);
    }
    steps[n](m);
}

static void run(unsigned seed)
{
    struct model m = {.seed = seed};

    cr_assert_eq(leases_new(&m.leases), ERR_OK);
    for (int i = 0; i < STEPS; i++) {
        step(&m);
        check(&m);
    }
    undo(&m);
    m.now += 1000;
    end_waits(&m);
    cr_assert_eq(m.count, 0);
    end_overdue(&m);
    leases_free(m.leases);
}

Test(lease_random, agrees_with_a_model)
{
    for (unsigned seed = 1; seed <= 10; seed++)
        run(seed);
}
