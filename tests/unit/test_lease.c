#include "scheduler/lease.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define SECOND(n) ((struct mono){(n)*NS_PER_S})

// ---- messages and deliveries of our own ----

struct asked {
    struct ipc_message message; // first
    struct ipc_request request;
    bool dropped;
};

// In the place of the one in ipc.c: only leases_drop_pipe and leases_undo call it.
void ipc_reply(struct ipc_message *message, struct buf *lines)
{
    struct asked *asked = container_of(message, struct asked, message);

    cr_assert_eq(lines->len, 0);
    cr_assert_not(asked->dropped);
    asked->dropped = true;
}

static struct id id_of(uint32_t number)
{
    struct id id = {{0}};

    memcpy(id.bytes, &number, sizeof(number));
    return id;
}

static uint32_t number_of(const struct id *id)
{
    uint32_t number;

    memcpy(&number, id->bytes, sizeof(number));
    return number;
}

static void ask(struct asked *asked, uint32_t number, uint32_t pipe, uint32_t max, int64_t wait_s)
{
    *asked = (struct asked){.message = {.count = 1, .pipe = pipe}};
    asked->message.requests = &asked->request;
    asked->request.request.op = OP_LEASE;
    asked->request.request.lease =
        (struct lease_request){.has_id = true, .id = id_of(number), .wait_ns = wait_s * NS_PER_S, .max = max};
}

// Waits for up to ten seconds from 0 on; there is no older one.
static void wait_on(struct leases *leases, int64_t queue, struct asked *asked, uint32_t number, uint32_t max)
{
    struct lease_grant *older;

    ask(asked, number, number, max, 10);
    cr_assert_eq(leases_wait(leases, queue, &asked->message, SECOND(0), &older, NULL), ERR_OK);
    cr_assert_null(older);
}

static struct leases *begin(void)
{
    struct leases *leases;

    cr_assert_eq(leases_new(&leases), ERR_OK);
    return leases;
}

static void give(struct leases *leases, struct delivery *delivery, int64_t queue, uint32_t batch)
{
    *delivery = (struct delivery){.queue = queue, .batch = id_of(batch)};
    cr_assert_eq(leases_grant(leases, delivery, SECOND(1), 30 * NS_PER_S), ERR_OK);
}

static size_t length(const struct lease_grant *grants)
{
    size_t count = 0;

    for (; grants; grants = grants->next)
        count++;
    return count;
}

static void free_all(struct lease_grant *grants)
{
    for (struct lease_grant *next; grants; grants = next) {
        next = grants->next;
        leases_free_grant(grants);
    }
}

static void no_change(void *user, int64_t queue, uint32_t demand)
{
    (void)user;
    cr_assert(false, "queue %lld, demand %u", (long long)queue, demand);
}

static void end(struct leases *leases)
{
    free_all(leases_take_idle(leases, MONO_NEVER));
    leases_free(leases);
}

// ---- waiting ----

Test(lease, grants_in_the_order_of_the_line_and_up_to_what_was_asked)
{
    struct leases *leases = begin();
    struct asked asked[4];
    struct delivery d[5];

    wait_on(leases, 7, &asked[0], 10, 2);
    wait_on(leases, 8, &asked[1], 11, 9);
    wait_on(leases, 7, &asked[2], 12, 1);
    wait_on(leases, 7, &asked[3], 13, 3);
    cr_assert_eq(leases_demand(leases, 7), 6);
    cr_assert_eq(leases_demand(leases, 8), 9);
    cr_assert_eq(leases_demand(leases, 9), 0);
    for (uint32_t i = 0; i < 4; i++) {
        give(leases, &d[i], 7, i);
        cr_assert_eq(leases_demand(leases, 7), 5 - i);
    }
    give(leases, &d[4], 8, 4);
    static const uint32_t leased_to[] = {10, 10, 12, 13, 11};
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(number_of(&d[i].lease), leased_to[i]);
        cr_assert_eq(d[i].due.key, SECOND(31).ns);
        cr_assert_null(leases_find(leases, &d[i].lease, NULL), "it is out before the commit");
    }

    struct lease_grant *grants = leases_take_grants(leases);
    static const uint32_t expected[][2] = {{10, 2}, {12, 1}, {13, 1}, {11, 1}};
    const struct lease_grant *grant = grants;
    for (int i = 0, at = 0; i < 4; i++, grant = grant->next) {
        cr_assert_not_null(grant);
        cr_assert_eq(number_of(&grant->id), expected[i][0]);
        cr_assert_eq(grant->message, &asked[expected[i][0] - 10].message);
        cr_assert_eq(grant->count, expected[i][1]);
        for (size_t n = 0; n < grant->count; n++)
            cr_assert_eq(grant->deliveries[n], &d[at++]);
    }
    cr_assert_null(grant);
    free_all(grants);
    cr_assert_null(leases_take_grants(leases));
    cr_assert_eq(leases_demand(leases, 7), 0, "one that was granted less than it asked for waits on");
    cr_assert_null(leases_take_idle(leases, MONO_NEVER));
    end(leases);
}

Test(lease, ends_each_wait_at_its_time)
{
    struct leases *leases = begin();
    static const int64_t waits[] = {20, 5, 0, 12, 5};
    struct asked asked[5];
    struct lease_grant *older;

    cr_assert_eq(leases_wake(leases).ns, MONO_NEVER.ns);
    for (uint32_t i = 0; i < 5; i++) {
        ask(&asked[i], i, i, 1, waits[i]);
        cr_assert_eq(leases_wait(leases, i % 2, &asked[i].message, SECOND(100), &older, NULL), ERR_OK);
    }
    cr_assert_eq(leases_wake(leases).ns, SECOND(100).ns);
    static const struct {
        int64_t at;
        size_t ended;
        int64_t wake;
    } steps[] = {{99, 0, 100}, {100, 1, 105}, {104, 0, 105}, {105, 2, 112}, {119, 1, 120}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct lease_grant *ended = leases_take_idle(leases, SECOND(steps[i].at));
        cr_assert_eq(length(ended), steps[i].ended, "at %lld", (long long)steps[i].at);
        for (const struct lease_grant *grant = ended; grant; grant = grant->next)
            cr_assert_eq(grant->count, 0);
        free_all(ended);
        cr_assert_eq(leases_wake(leases).ns, SECOND(steps[i].wake).ns);
    }
    struct lease_grant *last = leases_take_idle(leases, MONO_NEVER);
    cr_assert_eq(last->message, &asked[0].message);
    cr_assert_null(last->next);
    free_all(last);
    cr_assert_eq(leases_wake(leases).ns, MONO_NEVER.ns);
    end(leases);
}

Test(lease, lets_no_more_wait_than_may)
{
    struct leases *leases = begin();
    static struct asked asked[LEASES_WAITING_MAX + 1];
    struct lease_grant *older;
    struct fault fault;

    // One queue for each, and each asks for as much as it may on the last.
    for (uint32_t i = 0; i < LEASES_WAITING_MAX; i++)
        wait_on(leases, i < 1000 ? (int64_t)i * 3001 : -1, &asked[i], i, LEASE_BATCHES_MAX);
    cr_assert_eq(leases_demand(leases, -1), (LEASES_WAITING_MAX - 1000) * LEASE_BATCHES_MAX);
    struct asked *last = &asked[LEASES_WAITING_MAX];
    ask(last, LEASES_WAITING_MAX, 1, 1, 1);
    cr_assert_eq(leases_wait(leases, 5, &last->message, SECOND(0), &older, &fault), ERR_OVERLOADED);
    cr_assert_not_null(strstr(fault.detail, "1024"), "%s", fault.detail);
    cr_assert_null(older);
    // A repeat is not one more.
    ask(last, 3, 1, 1, 1);
    cr_assert_eq(leases_wait(leases, INT64_C(9003), &last->message, SECOND(0), &older, &fault), ERR_OK);
    cr_assert_eq(older->message, &asked[3].message);
    free_all(older);
    for (uint32_t i = 0; i < 1000; i++)
        free_all(leases_take_queue(leases, i * 3001));
    cr_assert_eq(length(leases_take_queue(leases, 4)), 0);
    struct lease_grant *rest = leases_take_queue(leases, -1);
    cr_assert_eq(length(rest), LEASES_WAITING_MAX - 1000);
    free_all(rest);
    end(leases);
}

// ---- repeats ----

Test(lease, a_repeat_takes_the_place_of_the_older)
{
    struct leases *leases = begin();
    struct asked first, second, repeat;
    struct delivery d[3];
    struct lease_grant *older;

    wait_on(leases, 1, &first, 10, 1);
    wait_on(leases, 1, &second, 11, 1);
    ask(&repeat, 10, 99, 2, 40);
    cr_assert_eq(leases_wait(leases, 1, &repeat.message, SECOND(3), &older, NULL), ERR_OK);
    cr_assert_eq(older->message, &first.message);
    cr_assert_eq(older->count, 0);
    cr_assert_null(older->next);
    free_all(older);
    cr_assert_eq(leases_demand(leases, 1), 3);

    leases_drop_pipe(leases, 10, no_change, NULL); // the connection of the older one
    struct lease_grant *ended = leases_take_idle(leases, SECOND(42));
    cr_assert_eq(ended->message, &second.message);
    cr_assert_null(ended->next);
    free_all(ended);
    for (uint32_t i = 0; i < 2; i++)
        give(leases, &d[i], 1, i);
    struct lease_grant *grants = leases_take_grants(leases);
    cr_assert_eq(grants->message, &repeat.message);
    cr_assert_eq(grants->count, 2);
    cr_assert_null(grants->next);
    free_all(grants);

    // On another queue it is another lease.
    wait_on(leases, 1, &first, 10, 1);
    wait_on(leases, 2, &second, 10, 1);
    end(leases);
}

// What it was given in this turn goes to the newer message.
Test(lease, a_repeat_in_the_turn_of_the_grant_gets_no_second_one)
{
    struct leases *leases = begin();
    struct asked first, repeat;
    struct delivery d[3];
    struct lease_grant *older;

    for (int commits = 0; commits < 2; commits++) {
        wait_on(leases, 1, &first, 10, 3);
        give(leases, &d[0], 1, 0);
        give(leases, &d[1], 1, 1);
        ask(&repeat, 10, 99, 1, 40);
        cr_assert_eq(leases_wait(leases, 1, &repeat.message, SECOND(3), &older, NULL), ERR_OK);
        cr_assert_eq(older->message, &first.message);
        cr_assert_eq(older->count, 0);
        free_all(older);
        cr_assert_eq(leases_demand(leases, 1), 1);
        give(leases, &d[2], 1, 2);
        cr_assert_eq(leases_demand(leases, 1), 0);
        struct lease_grant *grants;
        if (commits == 0) {
            leases_undo(leases);
            cr_assert_eq(leases_demand(leases, 1), 3);
            cr_assert_eq(leases_wake(leases).ns, SECOND(43).ns);
            grants = leases_take_idle(leases, SECOND(43));
        } else {
            grants = leases_take_grants(leases);
            cr_assert_eq(grants->count, 3);
        }
        cr_assert_eq(grants->message, &repeat.message);
        cr_assert_null(grants->next);
        free_all(grants);
    }
    end(leases);
}

// ---- a commit that fails ----

Test(lease, undo_puts_everybody_back)
{
    struct leases *leases = begin();
    struct asked asked[3];
    struct delivery d[4];

    for (uint32_t i = 0; i < 3; i++)
        wait_on(leases, 1, &asked[i], 10 + i, 2);
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 3; i++)
            give(leases, &d[i], 1, i);
        cr_assert_eq(leases_wake(leases).ns, SECOND(10).ns);
        cr_assert_eq(leases_demand(leases, 1), 3);
        struct lease_grant *idle = leases_take_queue(leases, 2);
        cr_assert_null(idle);
        leases_undo(leases);
        cr_assert_eq(leases_demand(leases, 1), 6);
        for (int i = 0; i < 3; i++)
            cr_assert_null(leases_find(leases, &d[i].lease, NULL));
        cr_assert_null(leases_take_grants(leases));
    }
    for (uint32_t i = 0; i < 3; i++)
        give(leases, &d[i], 1, i);
    struct lease_grant *grants = leases_take_grants(leases);
    cr_assert_eq(number_of(&grants->id), 10);
    cr_assert_eq(grants->count, 2);
    cr_assert_eq(number_of(&grants->next->id), 11);
    cr_assert_eq(grants->next->count, 1);
    free_all(grants);
    leases_undo(leases); // there is nothing any more
    cr_assert_eq(leases_find(leases, &d[0].lease, NULL), &d[0]);
    end(leases);
}

// ---- connections and queues that go ----

struct change {
    size_t count;
    int64_t queue[8];
    uint32_t demand[8];
};

static void note(void *user, int64_t queue, uint32_t demand)
{
    struct change *change = user;

    cr_assert_lt(change->count, 8);
    change->queue[change->count] = queue;
    change->demand[change->count++] = demand;
}

Test(lease, drops_those_of_a_connection_that_ended)
{
    struct leases *leases = begin();
    struct asked asked[6];
    struct change change = {0};
    struct lease_grant *older;
    static const struct {
        int64_t queue;
        uint32_t pipe;
    } table[] = {{1, 5}, {2, 5}, {1, 6}, {1, 5}, {3, 6}, {2, 5}};

    for (uint32_t i = 0; i < 6; i++) {
        ask(&asked[i], i, table[i].pipe, i + 1, 10);
        cr_assert_eq(leases_wait(leases, table[i].queue, &asked[i].message, SECOND(0), &older, NULL), ERR_OK);
    }
    leases_drop_pipe(leases, 4, no_change, NULL);
    leases_drop_pipe(leases, 5, note, &change);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(asked[i].dropped, table[i].pipe == 5);
    cr_assert_eq(change.count, 2);
    for (size_t i = 0; i < 2; i++)
        cr_assert_eq(change.demand[i], change.queue[i] == 1 ? 3 : 0);
    cr_assert_eq(change.queue[0] + change.queue[1], 3);
    leases_drop_pipe(leases, 5, no_change, NULL);
    cr_assert_eq(leases_demand(leases, 3), 5);
    end(leases);
}

Test(lease, a_connection_that_ends_within_the_turn_of_its_grant)
{
    struct leases *leases = begin();
    struct asked asked[2];
    struct delivery d;

    for (int commits = 0; commits < 2; commits++) {
        wait_on(leases, 1, &asked[0], 10, 1);
        wait_on(leases, 1, &asked[1], 11, 4);
        give(leases, &d, 1, 1);
        leases_drop_pipe(leases, 10, no_change, NULL);
        cr_assert_not(asked[0].dropped);
        if (commits == 0) {
            leases_undo(leases);
            cr_assert(asked[0].dropped);
            cr_assert_eq(leases_demand(leases, 1), 4);
        } else {
            struct lease_grant *grants = leases_take_grants(leases);
            cr_assert_eq(grants->message, &asked[0].message);
            free_all(grants);
        }
        struct lease_grant *rest = leases_take_queue(leases, 1);
        cr_assert_eq(rest->message, &asked[1].message);
        cr_assert_null(rest->next);
        free_all(rest);
    }
    leases_remove(leases, &d);
    end(leases);
}

Test(lease, a_queue_that_goes_keeps_those_that_were_given_batches)
{
    struct leases *leases = begin();
    struct asked asked[3];
    struct delivery d;

    for (uint32_t i = 0; i < 3; i++)
        wait_on(leases, 1, &asked[i], 10 + i, 2);
    give(leases, &d, 1, 1);
    struct lease_grant *idle = leases_take_queue(leases, 1);
    cr_assert_eq(length(idle), 2);
    cr_assert_eq(idle->message, &asked[1].message);
    free_all(idle);
    cr_assert_eq(leases_demand(leases, 1), 1);
    cr_assert_null(leases_take_idle(leases, MONO_NEVER));
    struct lease_grant *grants = leases_take_grants(leases);
    cr_assert_eq(grants->message, &asked[0].message);
    free_all(grants);
    cr_assert_eq(leases_demand(leases, 1), 0);
    end(leases);
}

// ---- out ----

static void put_out(struct leases *leases, struct delivery *d, uint32_t lease, uint32_t batch, int64_t until)
{
    *d = (struct delivery){.lease = id_of(lease), .batch = id_of(batch), .due = {.key = SECOND(until).ns}};
    cr_assert_eq(leases_add(leases, d), ERR_OK);
}

static size_t count_out(struct leases *leases, uint32_t lease)
{
    struct id id = id_of(lease);
    struct delivery *found = leases_find(leases, &id, NULL);
    size_t count = 0;

    for (struct inbox_item *item = found ? &found->item : NULL; item; item = item->next)
        count++;
    return count;
}

Test(lease, finds_what_is_out_in_the_order_it_was_granted)
{
    struct leases *leases = begin();
    static struct delivery d[LEASE_BATCHES_MAX];
    struct id lease = id_of(1);

    for (uint32_t i = 0; i < LEASE_BATCHES_MAX; i++)
        put_out(leases, &d[i], 1, i, 10);
    // From both ends and from the middle.
    leases_remove(leases, &d[0]);
    leases_remove(leases, &d[LEASE_BATCHES_MAX - 1]);
    for (uint32_t i = 1; i < LEASE_BATCHES_MAX - 1; i += 3)
        leases_remove(leases, &d[i]);
    put_out(leases, &d[0], 1, 5000, 10); // the last now
    size_t count = 0;
    const struct delivery *before = NULL;
    for (struct inbox_item *item = &leases_find(leases, &lease, NULL)->item; item; item = item->next) {
        const struct delivery *now = delivery_of(item);
        cr_assert(!before || now == &d[0] || now > before);
        cr_assert(now != &d[0] || !item->next);
        before = now;
        count++;
    }
    cr_assert_eq(count, LEASE_BATCHES_MAX - 2 - (LEASE_BATCHES_MAX - 2 + 2) / 3 + 1);
    struct delivery *one = leases_find(leases, &lease, &d[501].batch);
    cr_assert_eq(one, &d[501]);
    cr_assert_null(one->item.next);
    cr_assert_null(leases_find(leases, &lease, &d[1].batch), "it was removed");
    lease = id_of(2);
    cr_assert_null(leases_find(leases, &lease, NULL));
    cr_assert_null(leases_find(leases, &lease, &d[501].batch), "it is another lease's");
    end(leases);
}

Test(lease, a_lease_that_is_used_again_and_again_does_not_grow)
{
    struct leases *leases = begin();
    struct delivery stays, d[2];

    put_out(leases, &stays, 1, 99, 10);
    put_out(leases, &d[1], 1, 1, 10);
    for (uint32_t i = 0; i < 10000; i++) {
        put_out(leases, &d[i % 2], 1, i, 10);
        leases_remove(leases, &d[(i + 1) % 2]);
        cr_assert_eq(count_out(leases, 1), 2);
    }
    leases_remove(leases, &stays);
    cr_assert_eq(count_out(leases, 1), 1);
    end(leases);
}

Test(lease, ends_at_its_time_unless_it_is_extended)
{
    struct leases *leases = begin();
    struct delivery d[3];

    for (uint32_t i = 0; i < 3; i++)
        put_out(leases, &d[i], i, i, 10 + i);
    cr_assert_null(leases_overdue(leases, SECOND(9)));
    cr_assert_eq(leases_wake(leases).ns, SECOND(10).ns);
    leases_extend(leases, &d[0], SECOND(20));
    cr_assert_null(leases_overdue(leases, SECOND(10)));
    cr_assert_eq(leases_overdue(leases, SECOND(11)), &d[1]);
    cr_assert_eq(leases_overdue(leases, SECOND(11)), &d[1], "it is out until it is removed");
    leases_remove(leases, &d[1]);
    cr_assert_null(leases_overdue(leases, SECOND(11)));
    leases_extend(leases, &d[2], SECOND(1));
    cr_assert_eq(leases_wake(leases).ns, SECOND(1).ns);
    cr_assert_eq(leases_overdue(leases, SECOND(1)), &d[2]);
    leases_remove(leases, &d[2]);
    cr_assert_eq(leases_overdue(leases, MONO_NEVER), &d[0]);
    end(leases); // what is out is the caller's
    leases_free(NULL);
    leases_free_grant(NULL);
}
