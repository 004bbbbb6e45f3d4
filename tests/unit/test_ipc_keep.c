// Messages that are answered late: the tests stand in the loop's place.
#include "tests/support/wait.h"
#include "tests/unit/ipc_fixture.h"

#include <stdatomic.h>

#define LEASE "{\"op\":\"lease\",\"queue\":\"work\"}"
#define INGEST "{\"op\":\"ingest\",\"ids\":[1],\"priority\":\"LOW\"}"

// ---- the loop's side ----

struct loop {
    struct fixture f;
    struct inbox_item *items; // taken and not looked at yet
};

static void begin_loop(struct loop *loop)
{
    set_up(&loop->f);
    open_socket(&loop->f);
    loop->items = NULL;
}

static struct inbox_item *next_item(struct loop *loop)
{
    struct pollfd wait = {.fd = inbox_fd(loop->f.inbox), .events = POLLIN};

    if (!loop->items) {
        cr_assert_eq(poll(&wait, 1, WAIT_S * 1000), 1, "nothing comes");
        loop->items = inbox_take(loop->f.inbox);
    }
    struct inbox_item *item = loop->items;
    cr_assert_not_null(item);
    loop->items = item->next;
    return item;
}

static struct ipc_message *next_message(struct loop *loop, enum op op)
{
    struct inbox_item *item = next_item(loop);

    cr_assert_eq(item->kind, INBOX_MESSAGE);
    struct ipc_message *message = container_of(item, struct ipc_message, item);
    cr_assert_eq(message->count, 1);
    cr_assert_eq(message->requests[0].fault.err, ERR_OK, "%s", message->requests[0].fault.detail);
    cr_assert_eq(message->requests[0].request.op, op);
    return message;
}

static void expect_gone(struct loop *loop, uint32_t pipe)
{
    struct inbox_item *item = next_item(loop);

    cr_assert_eq(item->kind, INBOX_GONE);
    struct ipc_gone *gone = container_of(item, struct ipc_gone, item);
    cr_assert_eq(gone->pipe, pipe);
    free(gone);
}

static void expect_nothing(struct loop *loop)
{
    cr_assert_null(loop->items);
    cr_assert_null(inbox_take(loop->f.inbox));
}

static void reply_text(struct ipc_message *message, const char *text)
{
    struct buf lines;

    buf_init(&lines);
    buf_str(&lines, text);
    ipc_reply(message, &lines);
}

// True once NNG has told everybody that the connection has ended.
static bool has_ended(uint32_t pipe)
{
    return nng_socket_id(nng_pipe_socket((nng_pipe){.id = pipe})) <= 0;
}

static void end_loop(struct loop *loop)
{
    ipc_close(loop->f.ipc);
    expect_nothing(loop);
    tear_down(&loop->f);
}

static struct ipc_message *lease_on(struct loop *loop, int fd, uint32_t request)
{
    raw_ask(fd, request, LEASE);
    return next_message(loop, OP_LEASE);
}

static struct ipc_message *kept_on(struct loop *loop, int fd, uint32_t request)
{
    struct ipc_message *message = lease_on(loop, fd, request);

    cr_assert_eq(ipc_keep(message), ERR_OK);
    return message;
}

static void expect_reply(int fd, uint32_t request, const char *expected)
{
    char *text = raw_reply(fd, request);

    cr_assert_str_eq(text, expected);
    free(text);
}

static void expect_ingest_to_pass(struct loop *loop, int fd, uint32_t request)
{
    raw_ask(fd, request, INGEST);
    reply_text(next_message(loop, OP_INGEST), "taken\n");
    expect_reply(fd, request, "taken\n");
}

// ---- what is kept ----

#define WORKERS 11
#define LEASES_EACH 100

// One round: as many leases as may are kept, the others refused, and requests pass between them and after
// them.
static void fill(struct loop *loop, const int *workers, int ingests)
{
    static struct ipc_message *kept[WORKERS * LEASES_EACH];
    uint32_t count = 0;

    for (uint32_t i = 0; i < WORKERS * LEASES_EACH; i++) {
        int fd = workers[i % WORKERS];
        struct ipc_message *message = lease_on(loop, fd, i);
        enum err err = ipc_keep(message);
        cr_assert_eq(err, i < IPC_KEPT_MAX ? ERR_OK : ERR_OVERLOADED);
        if (err == ERR_OK) {
            kept[count++] = message;
        } else {
            reply_text(message, "refused\n");
            expect_reply(fd, i, "refused\n");
        }
        if (i % 25 == 0)
            expect_ingest_to_pass(loop, ingests, i);
    }
    cr_assert_eq(count, IPC_KEPT_MAX);
    for (uint32_t i = 0; i < 200; i++)
        expect_ingest_to_pass(loop, ingests, i);
    for (uint32_t i = 0; i < count; i++) {
        reply_text(kept[i], "granted\n");
        expect_reply(workers[i % WORKERS], i, "granted\n");
    }
}

Test(ipc_keep, never_keeps_an_ingest_from_being_read, .timeout = 110)
{
    struct loop loop;
    int workers[WORKERS];

    begin_loop(&loop);
    int ingests = raw_dial(&loop.f);
    for (int i = 0; i < WORKERS; i++)
        workers[i] = raw_dial(&loop.f);
    for (int round = 0; round < 3; round++)
        fill(&loop, workers, ingests);
    for (int i = 0; i < WORKERS; i++)
        close(workers[i]);
    close(ingests);
    end_loop(&loop);
}

#define STUCK 70 // more than the contexts that read requests

// A reply that cannot be sent yet keeps its own place, and nobody else's.
Test(ipc_keep, outlives_a_worker_that_never_reads, .timeout = 110)
{
    static struct ipc_message *kept[STUCK];
    static char reply[300000]; // more than a socket buffers
    struct loop loop;
    struct inbox_item *item;

    begin_loop(&loop);
    int worker = raw_dial(&loop.f), ingests = raw_dial(&loop.f);
    for (uint32_t i = 0; i < STUCK; i++)
        kept[i] = kept_on(&loop, worker, i);
    memset(reply, 'x', sizeof(reply) - 1);
    for (uint32_t i = 0; i < STUCK; i++)
        reply_text(kept[i], reply);
    raw_ask(ingests, 1, INGEST);
    while ((item = next_item(&loop))->kind == INBOX_GONE) // the worker is cut off, sooner or later
        free(container_of(item, struct ipc_gone, item));
    reply_text(container_of(item, struct ipc_message, item), "taken\n");
    expect_reply(ingests, 1, "taken\n");
    close(worker);
    close(ingests);
    end_loop(&loop);
}

// ---- connections that end ----

Test(ipc_keep, tells_once_of_a_connection_that_ends)
{
    struct loop loop;

    begin_loop(&loop);
    int one = raw_dial(&loop.f), other = raw_dial(&loop.f);
    struct ipc_message *first = kept_on(&loop, one, 1);
    struct ipc_message *second = kept_on(&loop, one, 2);
    struct ipc_message *others = kept_on(&loop, other, 1);
    uint32_t pipe = first->pipe;
    cr_assert_eq(second->pipe, pipe);
    cr_assert_neq(others->pipe, pipe);

    close(one);
    expect_gone(&loop, pipe);
    WAIT_FOR(has_ended(pipe));
    expect_nothing(&loop);
    reply_text(first, "nobody reads this\n");
    reply_text(second, "nor this\n");
    reply_text(others, "granted\n");
    expect_reply(other, 1, "granted\n");
    expect_ingest_to_pass(&loop, other, 2);
    close(other);
    end_loop(&loop);
}

Test(ipc_keep, tells_of_a_connection_that_ended_before)
{
    struct loop loop;

    begin_loop(&loop);
    int fd = raw_dial(&loop.f);
    struct ipc_message *first = lease_on(&loop, fd, 1);
    struct ipc_message *second = lease_on(&loop, fd, 2);
    struct ipc_message *third = lease_on(&loop, fd, 3);
    uint32_t pipe = first->pipe;
    close(fd);
    WAIT_FOR(has_ended(pipe));
    expect_nothing(&loop);
    cr_assert_eq(ipc_keep(first), ERR_OK);
    expect_gone(&loop, pipe);
    cr_assert_eq(ipc_keep(second), ERR_OK);
    expect_gone(&loop, pipe);
    expect_nothing(&loop);
    reply_text(first, "");
    reply_text(second, "");
    reply_text(third, "");
    end_loop(&loop);
}

Test(ipc_keep, says_nothing_of_a_connection_whose_messages_are_answered)
{
    struct loop loop;

    begin_loop(&loop);
    int fd = raw_dial(&loop.f);
    struct ipc_message *first = kept_on(&loop, fd, 1);
    struct ipc_message *second = kept_on(&loop, fd, 2);
    uint32_t pipe = first->pipe;
    reply_text(second, "2\n");
    expect_reply(fd, 2, "2\n");
    reply_text(first, "1\n");
    expect_reply(fd, 1, "1\n");
    close(fd);
    WAIT_FOR(has_ended(pipe));
    expect_nothing(&loop);

    // One that was kept again is reported again.
    fd = raw_dial(&loop.f);
    first = kept_on(&loop, fd, 1);
    pipe = first->pipe;
    reply_text(first, "1\n");
    expect_reply(fd, 1, "1\n");
    second = kept_on(&loop, fd, 2);
    close(fd);
    expect_gone(&loop, pipe);
    reply_text(second, "");
    end_loop(&loop);
}

// Workers of a killed process: many connections, all at once.
Test(ipc_keep, tells_of_every_connection, .timeout = 110)
{
    struct loop loop;
    struct ipc_message *kept[200];
    int fds[200];
    uint64_t sum = 0;

    begin_loop(&loop);
    for (int i = 0; i < 200; i++) {
        fds[i] = raw_dial(&loop.f);
        kept[i] = kept_on(&loop, fds[i], 7);
        sum += kept[i]->pipe;
    }
    for (int i = 0; i < 200; i++)
        close(fds[i]);
    for (int i = 0; i < 200; i++) {
        struct inbox_item *item = next_item(&loop);
        cr_assert_eq(item->kind, INBOX_GONE);
        struct ipc_gone *gone = container_of(item, struct ipc_gone, item);
        sum -= gone->pipe;
        free(gone);
    }
    cr_assert_eq(sum, 0);
    for (int i = 0; i < 200; i++)
        reply_text(kept[i], "");
    end_loop(&loop);
}

// ---- the end ----

Test(ipc_keep, ends_with_messages_that_are_kept)
{
    struct loop loop;
    struct ipc_message *kept[3];

    begin_loop(&loop);
    int fd = raw_dial(&loop.f);
    for (uint32_t i = 0; i < 3; i++)
        kept[i] = kept_on(&loop, fd, i);
    struct ipc_message *late = lease_on(&loop, fd, 3);
    ipc_close(loop.f.ipc);
    expect_nothing(&loop);
    cr_assert_eq(ipc_keep(late), ERR_OVERLOADED);
    for (int i = 0; i < 3; i++)
        reply_text(kept[i], "nobody reads this\n");
    expect_nothing(&loop);
    reply_text(late, "nor this\n");
    close(fd);
    tear_down(&loop.f);
}

Test(ipc_keep, sends_the_last_grants_before_it_ends)
{
    struct loop loop;
    struct ipc_message *kept[100];

    begin_loop(&loop);
    int fd = raw_dial(&loop.f);
    for (uint32_t i = 0; i < 100; i++)
        kept[i] = kept_on(&loop, fd, i);
    for (int i = 0; i < 100; i++)
        reply_text(kept[i], "granted\n");
    end_loop(&loop);
    for (uint32_t i = 0; i < 100; i++)
        expect_reply(fd, i, "granted\n");
    close(fd);
}

// ---- everything at once ----

#define CROWD 8
#define ROUNDS 150

struct member {
    pthread_t thread;
    const struct fixture *fixture;
    atomic_size_t *done;
    unsigned seed;
    bool works; // leases; otherwise it ingests
};

// A worker that now and then vanishes instead of waiting for its reply; or somebody who ingests all the time.
static void *take_part(void *arg)
{
    struct member *member = arg;
    int fd = raw_dial(member->fixture);

    for (uint32_t i = 0; i < ROUNDS; i++) {
        raw_ask(fd, i, member->works ? LEASE : INGEST);
        if (member->works && rand_r(&member->seed) % 3 == 0) {
            close(fd);
            fd = raw_dial(member->fixture);
            continue;
        }
        expect_reply(fd, i, "ok\n");
    }
    close(fd);
    atomic_fetch_add(member->done, 1);
    return NULL;
}

struct kept_list {
    struct ipc_message *messages[CROWD * ROUNDS];
    size_t count;
};

static void answer_nth(struct kept_list *kept, size_t n)
{
    reply_text(kept->messages[n], "ok\n");
    kept->messages[n] = kept->messages[--kept->count];
}

static void keep_or_answer(struct kept_list *kept, struct inbox_item *item)
{
    if (item->kind == INBOX_GONE) {
        struct ipc_gone *gone = container_of(item, struct ipc_gone, item);
        for (size_t i = kept->count; i > 0; i--) {
            if (kept->messages[i - 1]->pipe == gone->pipe)
                answer_nth(kept, i - 1);
        }
        free(gone);
        return;
    }
    struct ipc_message *message = container_of(item, struct ipc_message, item);
    if (message->requests[0].request.op == OP_INGEST) {
        reply_text(message, "ok\n");
        return;
    }
    if (ipc_keep(message) != ERR_OK) { // the end has begun
        reply_text(message, "");
        return;
    }
    kept->messages[kept->count++] = message;
}

static void do_turn(struct loop *loop, struct kept_list *kept)
{
    struct pollfd wait = {.fd = inbox_fd(loop->f.inbox), .events = POLLIN};

    (void)poll(&wait, 1, 5);
    for (struct inbox_item *item = inbox_take(loop->f.inbox), *next; item; item = next) {
        next = item->next;
        keep_or_answer(kept, item);
    }
}

Test(ipc_keep, holds_in_a_crowd, .timeout = 110)
{
    static struct member crowd[CROWD];
    static struct kept_list kept;
    struct loop loop;
    atomic_size_t done = 0;
    unsigned seed = 1;

    begin_loop(&loop);
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = (struct member){.fixture = &loop.f, .done = &done, .seed = i + 1, .works = i % 2 == 0};
        cr_assert_eq(pthread_create(&crowd[i].thread, NULL, take_part, &crowd[i]), 0);
    }
    while (atomic_load(&done) < CROWD) {
        do_turn(&loop, &kept);
        if (kept.count > 0)
            answer_nth(&kept, (size_t)rand_r(&seed) % kept.count);
    }
    for (int i = 0; i < CROWD; i++)
        pthread_join(crowd[i].thread, NULL);
    // All have hung up: there is word of each that is still kept.
    WAIT_FOR((do_turn(&loop, &kept), kept.count == 0));
    ipc_close(loop.f.ipc);
    do_turn(&loop, &kept); // what came in the last moment
    cr_assert_eq(kept.count, 0);
    tear_down(&loop.f);
}
