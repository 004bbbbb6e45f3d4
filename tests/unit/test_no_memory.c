// What waits for an answer, when memory runs out: every allocation of each call fails once.
#include "scheduler/lease.h"
#include "tests/unit/ipc_fixture.h"
#include "tests/unit/no_memory.h"

// ---- leases ----

struct asked {
    struct ipc_message message;
    struct ipc_request request;
};

static void lease_by(struct asked *asked, unsigned char number)
{
    *asked = (struct asked){.message = {.requests = &asked->request, .count = 1}};
    asked->request.request.op = OP_LEASE;
    asked->request.request.lease =
        (struct lease_request){.has_id = true, .id = {{number}}, .wait_ns = NS_PER_S, .max = 100};
}

static enum err wait_on(struct leases *leases, int64_t queue, struct asked *asked)
{
    struct lease_grant *older;
    enum err err = leases_wait(leases, queue, &asked->message, (struct mono){0}, &older, NULL);

    cr_assert_null(older);
    return err;
}

static void free_all(struct lease_grant *grants)
{
    for (struct lease_grant *next; grants; grants = next) {
        next = grants->next;
        leases_free_grant(grants);
    }
}

Test(no_memory, a_lease_that_cannot_wait_leaves_nothing_behind)
{
    struct leases *leases = NULL;
    struct asked asked[100];
    size_t failures = 0;

    memory_fails_at(0, SHORTAGE_ONE);
    cr_assert_eq(leases_new(&leases), ERR_NO_MEMORY);
    cr_assert_eq(leases_new(&leases), ERR_OK);
    for (unsigned char i = 0; i < 100; i++) {
        lease_by(&asked[i], i);
        for (size_t n = 0;; n++) {
            memory_fails_at(n, SHORTAGE_ONE);
            enum err err = wait_on(leases, i / 3, &asked[i]);
            if (!memory_failed()) {
                cr_assert_eq(err, ERR_OK);
                break;
            }
            cr_assert_eq(err, ERR_NO_MEMORY);
            cr_assert_eq(leases_demand(leases, i / 3), i % 3 * 100);
            failures++;
        }
    }
    cr_assert_gt(failures, 100);
    free_all(leases_take_idle(leases, MONO_NEVER));
    leases_free(leases);
}

Test(no_memory, a_batch_that_cannot_be_granted_is_nobodys)
{
    static struct delivery d[200];
    struct leases *leases;
    struct asked asked[2];
    size_t failures = 0;

    cr_assert_eq(leases_new(&leases), ERR_OK);
    for (unsigned char i = 0; i < 2; i++) {
        lease_by(&asked[i], i);
        cr_assert_eq(wait_on(leases, 1, &asked[i]), ERR_OK);
    }
    for (uint32_t i = 0; i < 200; i++) {
        d[i].queue = 1;
        for (size_t n = 0;; n++) {
            memory_fails_at(n, SHORTAGE_ONE);
            enum err err = leases_grant(leases, &d[i], (struct mono){0}, NS_PER_S);
            if (!memory_failed()) {
                cr_assert_eq(err, ERR_OK);
                break;
            }
            cr_assert_eq(err, ERR_NO_MEMORY);
            cr_assert_eq(leases_demand(leases, 1), 200 - i);
            failures++;
        }
    }
    cr_assert_gt(failures, 10);
    memory_fails_at(0, SHORTAGE_ONE);
    struct lease_grant *grants = leases_take_grants(leases);
    cr_assert_not(memory_failed(), "what was granted needs no more memory");
    free_all(grants);

    struct delivery more = {.lease = {{9}}};
    for (size_t n = 0;; n++) {
        memory_fails_at(n, SHORTAGE_ONE);
        enum err err = leases_add(leases, &more);
        if (!memory_failed()) {
            cr_assert_eq(err, ERR_OK);
            break;
        }
        cr_assert_eq(err, ERR_NO_MEMORY);
        cr_assert_null(leases_find(leases, &more.lease, NULL));
    }
    cr_assert_eq(leases_find(leases, &more.lease, NULL), &more);
    leases_free(leases);
}

// ---- messages that are kept ----

static struct ipc_message *next_message(struct fixture *f)
{
    struct pollfd wait = {.fd = inbox_fd(f->inbox), .events = POLLIN};

    cr_assert_eq(poll(&wait, 1, 60000), 1);
    struct inbox_item *item = inbox_take(f->inbox);
    cr_assert_eq(item->kind, INBOX_MESSAGE);
    cr_assert_null(item->next);
    return container_of(item, struct ipc_message, item);
}

static void reply_ok(struct ipc_message *message)
{
    struct buf lines;

    buf_init(&lines);
    buf_str(&lines, "ok\n");
    ipc_reply(message, &lines);
}

Test(no_memory, a_message_that_cannot_be_kept_is_answered_as_any_other)
{
    struct ipc_message *kept[30];
    struct fixture f;
    size_t failures = 0;

    set_up(&f);
    open_socket(&f);
    int fd = raw_dial(&f);
    for (uint32_t i = 0; i < 30; i++) {
        raw_ask(fd, i, "{\"op\":\"lease\"}");
        kept[i] = next_message(&f);
        for (size_t n = 0;; n++) {
            memory_fails_at(n, SHORTAGE_ONE);
            enum err err = ipc_keep(kept[i]);
            bool reached = memory_failed();
            if (err == ERR_OK)
                break; // which it may be in spite of a failure: of the next receive
            cr_assert(reached);
            cr_assert_eq(err, ERR_NO_MEMORY);
            failures++;
        }
    }
    cr_assert_geq(failures, 30);
    // One that could not be kept, and requests after it.
    raw_ask(fd, 30, "{\"op\":\"lease\"}");
    struct ipc_message *message = next_message(&f);
    memory_fails_at(0, SHORTAGE_ONE);
    cr_assert_eq(ipc_keep(message), ERR_NO_MEMORY);
    cr_assert(memory_failed());
    reply_ok(message);
    free(raw_reply(fd, 30));
    for (uint32_t i = 31; i < 200; i++) {
        raw_ask(fd, i, "{\"op\":\"ping\"}");
        reply_ok(next_message(&f));
        free(raw_reply(fd, i));
    }
    for (uint32_t i = 0; i < 30; i++) {
        reply_ok(kept[i]);
        free(raw_reply(fd, i));
    }
    close(fd);
    ipc_close(f.ipc);
    cr_assert_null(inbox_take(f.inbox));
    tear_down(&f);
}
