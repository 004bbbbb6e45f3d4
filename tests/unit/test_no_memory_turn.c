// The scheduler's loop when memory runs out, with the real store, targets and socket: each allocation of a
// turn of its thread fails, alone and with all after it. Then the request is answered with an error and
// nothing of it is on disk, or it is answered as if nothing had been, or its connection ends and it may have
// been done. In all cases memory and disk agree afterwards, and the same request, once more, is answered
// well.
#include "scheduler/loop.h"
#include "scheduler/settings.h"
#include "tests/unit/no_memory.h"
#include "tests/support/process.h"
#include "tests/support/raw_ipc.h"
#include "tests/unit/store_fixture.h"

#include <poll.h>
#include <sys/socket.h>

TestSuite(no_memory_turn, .init = memory_hook_libraries);

#define FRAME_HEAD 13u // type, length, and the request's number
#define PATIENCE_MS 60000

struct scene {
    struct fixture f;
    struct loop loop;
    char ipc_url[96];
    int fd; // a client's connection
    uint32_t asked;
    uint32_t number; // of the attempt
};

// ---- the client ----

static void connect_client(struct scene *s)
{
    s->fd = raw_greet(s->ipc_url + strlen("ipc://"));
}

// Sends a message, in which every '$' becomes the number of the attempt, and waits until it is in the inbox.
static void send_message(struct scene *s, const char *text)
{
    unsigned char frame[1024] = {1};
    size_t len = FRAME_HEAD;
    for (; *text != '\0'; text++) {
        char part[8];
        int n =
            *text == '$' ? snprintf(part, sizeof part, "%06u", s->number) : snprintf(part, 2, "%c", *text);
        cr_assert(len + (size_t)n < sizeof frame);
        memcpy(frame + len, part, (size_t)n);
        len += (size_t)n;
    }
    put_u32(frame + 5, (uint32_t)(len - 9));
    put_u32(frame + 9, ++s->asked | 0x80000000u);
    loop_take(&s->loop); // what is there already is not it
    cr_assert_eq(send(s->fd, frame, len, MSG_NOSIGNAL), (ssize_t)len);
    struct pollfd arrived = {.fd = inbox_fd(s->loop.inbox), .events = POLLIN};
    cr_assert_eq(poll(&arrived, 1, PATIENCE_MS), 1, "it did not arrive");
}

// The reply, to be freed; NULL when the connection ended, in the place of which there is another one then.
static char *receive(struct scene *s)
{
    unsigned char head[FRAME_HEAD], want[4];
    struct pollfd arrived = {.fd = s->fd, .events = POLLIN};
    cr_assert_eq(poll(&arrived, 1, PATIENCE_MS), 1, "neither a reply nor an end");
    if (recv(s->fd, head, sizeof head, MSG_WAITALL) != (ssize_t)sizeof head) {
        close(s->fd);
        connect_client(s);
        return NULL;
    }
    size_t len = (size_t)head[6] << 16 | (size_t)head[7] << 8 | head[8];
    put_u32(want, s->asked | 0x80000000u);
    cr_assert_eq(memcmp(head + 9, want, sizeof want), 0, "the reply to another request");
    char *text = calloc(1, len - 4 + 1);
    cr_assert_not_null(text);
    cr_assert_eq(recv(s->fd, text, len - 4, MSG_WAITALL), (ssize_t)(len - 4));
    return text;
}

// ---- the scheduler ----

static void open_scene(struct scene *s)
{
    struct queue_change flags = {.rate = {0},
                                 .burst = 0,
                                 .concurrency = 100,
                                 .batch_size = 2,
                                 .target = (char[]){"simulate:0ms"},
                                 .max_id = ID_VALUE_MAX};
    struct loop *loop = &s->loop;
    struct fault fault = {0};
    *s = (struct scene){.fd = -1};
    fixture_new(&s->f);
    loop->store = s->f.store;
    loop->max_waiting = 100000000;
    loop->signals = loop->ready_fd = -1;
    loop->messages_end = &loop->messages;
    loop->starts_end = &loop->starts;
    loop->done_end = &loop->done;
    loop->blocked_until = (struct mono){INT64_MIN};
    loop->next_failure_log = MONO_NEVER;
    retain_init(&loop->retention, RETAIN_FOREVER);
    OK(settings_apply(loop->store, &flags, mono_now(), wall_now()));
    OK(inbox_new(&loop->inbox));
    OK(targets_new(loop->inbox, &loop->targets));
    OK(leases_new(&loop->leases));
    OK(recover(loop, &fault));
    (void)snprintf(s->ipc_url, sizeof s->ipc_url, "ipc://%s/s", s->f.dir);
    cr_assert_eq(ipc_open(s->ipc_url, loop->inbox, &loop->ipc, &fault), ERR_OK, "%s", fault.detail);
    connect_client(s);
    // What is written need not survive this machine.
    cr_assert_eq(sqlite3_exec(loop->store->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL), SQLITE_OK);
}

static void end_deliveries(struct loop *loop)
{
    (void)targets_run(loop->targets, mono_now());
    OK(turn(loop, mono_now()));
}

// Until nothing is in flight but with workers, and nothing is to be dispatched.
static void settle_down(struct loop *loop)
{
    do {
        end_deliveries(loop);
    } while (loop->live_count > loop->leased_count || loop->done || loop->retries ||
             !mono_before(mono_now(), engine_wake(loop->engine)));
}

// With enough memory; what it says is the caller's to free.
static char *ask(struct scene *s, const char *text)
{
    char *reply;
    send_message(s, text);
    OK(turn(&s->loop, mono_now()));
    reply = receive(s);
    cr_assert_not_null(reply);
    return reply;
}

static void ask_each(struct scene *s, const char *const *texts)
{
    for (; *texts; texts++) {
        char *reply = ask(s, *texts);
        cr_assert_null(strstr(reply, "\"error\":{"), "%s: %s", *texts, reply);
        free(reply);
    }
}

// What has finished goes, so that the store stays small.
static void sweep(struct store *store)
{
    struct removed removed;
    OK(store_begin(store));
    OK(store_remove_old(store, INT64_MAX - 1, 1000, &removed));
    OK(store_commit(store));
}

static void close_scene(struct scene *s)
{
    struct loop *loop = &s->loop;
    settle_down(loop);
    cr_assert_eq(loop->live_count, 0);
    close(s->fd);
    ipc_close(loop->ipc);
    targets_stop(loop->targets);
    loop_take(loop);
    cr_assert_null(loop->messages);
    routes_fini(&loop->routes);
    targets_free(loop->targets);
    leases_free(loop->leases);
    engine_free(loop->engine);
    inbox_free(loop->inbox);
    fixture_free(&s->f);
}

// ---- memory and disk ----

// All that the store holds, as one number.
static uint64_t digest(struct store *store)
{
    static const char *const tables[] = {"meta",      "queue",    "deleted_queue", "ingestion",
                                         "ids",       "batch",    "waiting",       "waiting_count",
                                         "scheduled", "deadline", "retry",         "gone"};
    uint64_t sum = UINT64_C(14695981039346656037); // FNV-1a
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        sqlite3_stmt *stmt;
        char sql[64];
        (void)snprintf(sql, sizeof sql, "SELECT * FROM %s", tables[i]);
        cr_assert_eq(sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL), SQLITE_OK, "%s", tables[i]);
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            for (int column = 0; column < sqlite3_column_count(stmt); column++) {
                const unsigned char *at = sqlite3_column_blob(stmt, column);
                for (int n = sqlite3_column_bytes(stmt, column); n > 0; n--) {
                    sum = (sum ^ *at++) * UINT64_C(1099511628211);
                }
                sum = (sum ^ 0xff) * UINT64_C(1099511628211);
            }
        }
        sqlite3_finalize(stmt);
    }
    return sum;
}

// The engine knows what the store knows.
static void expect_agreement(const struct loop *loop)
{
    struct queue_row *rows;
    size_t count;
    OK(store_load_queues(loop->store, &rows, &count));
    cr_assert_eq(engine_queues(loop->engine), count);
    for (size_t i = 0; i < count; i++) {
        struct queue_view view;
        uint64_t waiting[PRIORITIES];
        OK(engine_view_by_id(loop->engine, rows[i].id, mono_now(), &view));
        OK(store_load_waiting(loop->store, rows[i].id, waiting));
        cr_assert_str_eq(view.name, rows[i].name);
        cr_assert_eq(memcmp(view.waiting, waiting, sizeof waiting), 0, "%s", view.name);
        cr_assert_eq(view.figures->delayed, rows[i].figures.delayed, "%s", view.name);
        cr_assert_eq(view.figures->dispatched, rows[i].figures.dispatched, "%s", view.name);
        cr_assert_eq(view.figures->completed, rows[i].figures.completed, "%s", view.name);
        cr_assert_eq(view.figures->failed, rows[i].figures.failed, "%s", view.name);
        cr_assert_eq(view.figures->paused, rows[i].figures.paused, "%s", view.name);
        cr_assert_eq(view.settings->batch_size, rows[i].settings.batch_size, "%s", view.name);
        struct target *target = routes_find(&loop->routes, rows[i].id);
        cr_assert(target && strcmp(target_text(target), rows[i].target) == 0, "%s", view.name);
        cr_assert_str_eq(target_headers(target), rows[i].headers, "%s", view.name);
    }
    store_free_queues(rows, count);
    cr_assert_eq(sql_integer(loop->store->db, "SELECT count(*) FROM batch WHERE state = 0"),
                 (int64_t)loop->live_count);
}

// ---- what is tried ----

#define TEXTS_MAX 4 // a NULL among them

struct step {
    const char *before[TEXTS_MAX]; // asked first, with enough memory
    bool waits;                    // it may be answered by a later turn
    bool let_run;                  // until all of that has been delivered
    const char *text;              // asked with too little, and once more with enough
    const char *good;              // stands in the reply to it
    const char *also_good; // in the second one, when the first may have been carried out; NULL: nothing
    const char *after[TEXTS_MAX]; // asked at last
};

// The loop cannot go on without memory: it would end now, and the next one builds everything anew.
static void start_anew(struct loop *loop)
{
    struct fault fault = {0};
    cr_assert_eq(recover(loop, &fault), ERR_OK, "%s", fault.detail);
    loop->failing = false;
}

// True when memory ran out.
static bool ask_short_of_memory(struct scene *s, const struct step *step, size_t n, enum shortage shortage,
                                bool *maybe_done)
{
    struct loop *loop = &s->loop;
    uint64_t before = digest(loop->store);
    send_message(s, step->text);
    memory_fails_at(n, shortage);
    (void)targets_run(loop->targets, mono_now());
    enum err err = turn(loop, mono_now());
    bool reached = memory_failed();
    cr_assert(err == ERR_OK || (reached && shortage == SHORTAGE_ALL && err == ERR_NO_MEMORY), "%s after %zu",
              err_name(err), n);
    if (err != ERR_OK) {
        start_anew(loop);
    }
    loop->blocked_until = (struct mono){INT64_MIN}; // it would wait for room
    if (step->waits && reached) {
        OK(turn(loop, mono_now())); // a lease waits on after a turn that failed
    }
    char *reply = receive(s);
    *maybe_done = true;
    if (!reply) {
        cr_assert(reached, "no reply");
    } else if (strstr(reply, "\"error\":{") && !strstr(reply, "\"ok\":true")) {
        cr_assert(reached, "%s", reply);
        cr_assert(strstr(reply, "\"storage_unavailable\"") || strstr(reply, "\"overloaded\""), "%s", reply);
        cr_assert_eq(digest(loop->store), before, "%s, but the store has changed after %zu", reply, n);
        *maybe_done = false;
    } else {
        cr_assert(strstr(reply, step->good) || (reached && strstr(reply, "{\"ok\":true}")), "%s", reply);
    }
    free(reply);
    return reached;
}

static bool try_step(struct scene *s, const struct step *step, size_t n, enum shortage shortage)
{
    struct loop *loop = &s->loop;
    bool done;
    s->number++;
    ask_each(s, step->before);
    if (step->let_run) {
        settle_down(loop);
    }
    bool reached = ask_short_of_memory(s, step, n, shortage, &done);
    expect_sound(loop->store);
    char *reply = ask(s, step->text);
    bool also = done && step->also_good && strstr(reply, step->also_good);
    cr_assert(also || strstr(reply, step->good), "%s after %zu", reply, n);
    free(reply);
    ask_each(s, step->after);
    settle_down(loop);
    sweep(loop->store);
    expect_agreement(loop);
    expect_sound(loop->store);
    return reached;
}

// Returns how many allocations it took.
static size_t try_all(const struct step *step, const char *const *first)
{
    struct scene s;
    size_t failures = 0;
    open_scene(&s);
    ask_each(&s, first);
    (void)try_step(&s, step, SIZE_MAX - 1, SHORTAGE_ONE); // what is made once is made
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        for (size_t n = 0; try_step(&s, step, n, (enum shortage)shortage); n++) {
            failures++;
        }
    }
    close_scene(&s);
    return failures;
}

// ---- requests ----

#define NEW(n, queue, more)                                                                                  \
    "{\"op\":\"ingest\",\"id\":\"01a209dc-4322-7622-a85d-" n "$\",\"priority\":\"LOW\",\"queue\":\"" queue   \
    "\",\"ids\":[1,2,3,4,5]" more "}"
#define OF(op, n, more) "{\"op\":\"" op "\",\"id\":\"01a209dc-4322-7622-a85d-" n "$\"" more "}"
#define QUEUE(op, name, more) "{\"op\":\"queue." op "\",\"name\":\"" name "\"" more "}"

#define STILL                                                                                                \
    QUEUE("put", "still", ",\"target\":\"simulate:1h\",\"concurrency\":1,\"rate\":\"1/1h\""),                \
        QUEUE("pause", "still", "")
#define PULL QUEUE("put", "work", ",\"target\":\"pull:\",\"rate\":\"unlimited\",\"concurrency\":100")
#define FAILS                                                                                                \
    QUEUE("put", "fails",                                                                                    \
          ",\"target\":\"simulate:0ms,fail=1\",\"rate\":\"unlimited\",\"breaker\":0,"                        \
          "\"concurrency\":100,\"retry\":{\"max_attempts\":1}")

Test(no_memory_turn, an_ingest_that_is_dispatched_at_once)
{
    static const struct step step = {.text = NEW("000001", "default", ",\"idempotency_key\":\"k$\""),
                                     .good = "\"ingestion_id\""};
    cr_assert_gt(try_all(&step, LIST(NULL)), 10);
}

Test(no_memory_turn, an_ingest_for_later)
{
    static const struct step step = {
        .text = NEW("000001", "still",
                    ",\"not_before\":\"2090-01-01T00:00:00Z\",\"deadline\":\"2091-01-01T00:00:00Z\""),
        .good = "\"ingestion_id\"",
        .after = {OF("cancel", "000001", "")}};
    cr_assert_gt(try_all(&step, LIST(STILL)), 2);
}

Test(no_memory_turn, what_a_delivery_came_to)
{
    static const struct step step = {.before = {NEW("000001", "default", ""), NEW("000002", "fails", "")},
                                     .text = "{\"op\":\"ping\"}",
                                     .good = "\"protocol\""};
    cr_assert_gt(try_all(&step, LIST(FAILS)), 10);
}

Test(no_memory_turn, cancel)
{
    static const struct step step = {.before = {NEW("000001", "still", "")},
                                     .text = OF("cancel", "000001", ""),
                                     .good = "\"status\":\"cancelled\""};
    cr_assert_gt(try_all(&step, LIST(STILL)), 2);
}

Test(no_memory_turn, retry_of_one)
{
    static const struct step step = {.before = {NEW("000001", "fails", "")},
                                     .let_run = true,
                                     .text = OF("retry", "000001", ""),
                                     .good = "\"ingestion_id\""};
    cr_assert_gt(try_all(&step, LIST(FAILS)), 10);
}

Test(no_memory_turn, retry_of_a_queue)
{
    static const struct step step = {.before = {NEW("000001", "fails", "")},
                                     .let_run = true,
                                     .text = QUEUE("retry", "fails", ""),
                                     .good = "\"name\":\"fails\""};
    cr_assert_gt(try_all(&step, LIST(FAILS)), 10);
}

Test(no_memory_turn, a_queue_that_is_made)
{
    static const struct step step = {
        .text = QUEUE("put", "q$", ",\"target\":\"https://127.0.0.1:9/\",\"headers\":{\"A\":\"b\"}"),
        .good = "\"name\":\"q",
        .after = {QUEUE("delete", "q$", "")}};
    cr_assert_gt(try_all(&step, LIST(NULL)), 10);
}

Test(no_memory_turn, a_queue_that_changes)
{
    static const struct step step = {
        .before = {QUEUE("put", "q",
                         ",\"target\":\"simulate:1s\",\"headers\":{\"A\":\"b\"},\"batch_size\":5")},
        .text = QUEUE("put", "q",
                      ",\"target\":\"pull:\",\"headers\":{\"C\":\"d\"},\"batch_size\":7,\"breaker\":3"),
        .good = "\"batch_size\":7"};
    cr_assert_gt(try_all(&step, LIST(NULL)), 10);
}

Test(no_memory_turn, a_queue_that_goes)
{
    static const struct step step = {.before = {QUEUE("put", "q", ",\"target\":\"exec:/bin/true\"")},
                                     .text = QUEUE("delete", "q", ""),
                                     .good = "\"deleted\":true",
                                     .also_good = "\"unknown_queue\""};
    cr_assert_gt(try_all(&step, LIST(NULL)), 2);
}

Test(no_memory_turn, a_queue_that_is_paused_and_resumed)
{
    static const struct step pause = {.text = QUEUE("pause", "default", ""),
                                      .good = "\"paused\":true",
                                      .after = {QUEUE("resume", "default", "")}};
    static const struct step resume = {
        .before = {QUEUE("pause", "default", ""), NEW("000001", "default", "")},
        .text = QUEUE("resume", "default", ""),
        .good = "\"paused\":false"};
    cr_assert_gt(try_all(&pause, LIST(NULL)), 2);
    cr_assert_gt(try_all(&resume, LIST(NULL)), 10);
}

// ---- workers ----

#define LEASE OF("lease", "00000a", ",\"queue\":\"work\",\"max\":10,\"wait\":\"1s\"")
#define ACK OF("ack", "00000a", "")
#define ONE NEW("000001", "work", "")

Test(no_memory_turn, a_lease_that_is_granted)
{
    static const struct step step = {
        .before = {ONE}, .waits = true, .text = LEASE, .good = "\"batch_id\"", .after = {ACK}};
    cr_assert_gt(try_all(&step, LIST(PULL)), 10);
}

Test(no_memory_turn, a_lease_that_is_settled)
{
    static const struct step ack = {
        .before = {ONE, LEASE}, .text = ACK, .good = "\"ok\":true", .also_good = "\"lease_lost\""};
    static const struct step nack = {.before = {ONE, LEASE},
                                     .text = OF("nack", "00000a", ",\"error\":\"a reason\",\"final\":true"),
                                     .good = "\"ok\":true",
                                     .also_good = "\"lease_lost\""};
    static const struct step extend = {.before = {ONE, LEASE},
                                       .text = OF("extend", "00000a", ",\"lease\":\"1h\""),
                                       .good = "\"deadline\"",
                                       .after = {ACK}};
    cr_assert_gt(try_all(&ack, LIST(PULL)), 2);
    cr_assert_gt(try_all(&nack, LIST(PULL)), 2);
    cr_assert_gt(try_all(&extend, LIST(PULL)), 2);
}

// ---- questions ----

Test(no_memory_turn, what_only_asks)
{
    static const struct step steps[] = {
        {.before = {NEW("000001", "still", "")},
         .text = OF("status", "000001", ""),
         .good = "\"position\":",
         .after = {OF("cancel", "000001", "")}},
        {.text = "{\"op\":\"list\",\"limit\":3}", .good = "\"ingestions\":["},
        {.text = "{\"op\":\"queue.list\"}", .good = "\"name\":\"still\""},
        {.text = QUEUE("get", "still", ""), .good = "\"name\":\"still\""},
        {.text = "{\"op\":\"stats\"}", .good = "\"queues_total\":3"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        cr_assert_gt(try_all(&steps[i], LIST(STILL, FAILS)), 2, "%s", steps[i].text);
    }
}

Test(no_memory_turn, many_lines_in_one_message)
{
    static const struct step step = {
        .text = NEW("000001", "default", "") "\n" NEW("000002", "default", "") "\n" QUEUE(
            "put", "q", ",\"batch_size\":5") "\n" OF("status", "000002", "") "\n",
        .good = "\"ingestion_id\""};
    cr_assert_gt(try_all(&step, LIST(NULL)), 10);
}

// ---- what is between turns ----

// Everything that a start finds: queues with targets of each kind, what waits and what is in backoff, a lease
// that is out, and a batch that was cut off.
Test(no_memory_turn, building_all_of_it_anew)
{
    struct scene s;
    open_scene(&s);
    ask_each(&s, LIST(STILL, PULL, FAILS,
                      QUEUE("put", "h", ",\"target\":\"http://127.0.0.1:9/\",\"headers\":{\"A\":\"b\"}"),
                      QUEUE("put", "e", ",\"target\":\"exec:/bin/true\"")));
    ask_each(&s,
             LIST(NEW("000001", "still", ""), NEW("000002", "work", ""), NEW("000003", "fails", ""), LEASE));
    settle_down(&s.loop);
    int64_t queue;
    OK(engine_find_queue(s.loop.engine, "still", &queue));
    struct batch_key key = key_make(queue, PRIORITY_LOW, 1, 0);
    size_t leased = s.loop.leased_count;
    cr_assert_gt(leased, 0);
    size_t failures = 0;
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        bool reached = true;
        for (size_t n = 0; reached; n++) {
            struct fault fault = {0};
            (void)dispatch(s.f.store, key); // and nobody delivers it
            memory_fails_at(n, (enum shortage)shortage);
            enum err err = recover(&s.loop, &fault);
            reached = memory_failed();
            cr_assert(err == ERR_OK || (reached && err == ERR_NO_MEMORY), "%s after %zu", err_name(err), n);
            expect_sound(s.f.store);
            start_anew(&s.loop);
            expect_agreement(&s.loop);
            expect_sound(s.f.store);
            cr_assert_eq(s.loop.leased_count, leased);
            failures += reached;
        }
    }
    cr_assert_gt(failures, 2 * 50);
    ask_each(&s, LIST(ACK, OF("cancel", "000001", "")));
    close_scene(&s);
}

Test(no_memory_turn, removing_what_is_old)
{
    struct scene s;
    size_t failures = 0;
    open_scene(&s);
    s.loop.retention.keep_ns = 0;
    for (int shortage = 0; shortage < SHORTAGES; shortage++) {
        bool reached = true;
        for (size_t n = 0; reached; n++) {
            struct retention *r = &s.loop.retention;
            s.number++;
            ask_each(&s, LIST(NEW("000001", "default", ",\"idempotency_key\":\"k$\"")));
            settle_down(&s.loop);
            r->busy_until = r->blocked_until = (struct mono){INT64_MIN};
            memory_fails_at(n, (enum shortage)shortage);
            OK(retain_step(&s.loop)); // it can wait
            reached = memory_failed();
            expect_sound(s.f.store);
            r->busy_until = r->blocked_until = (struct mono){INT64_MIN};
            OK(retain_step(&s.loop));
            cr_assert_eq(sql_integer(s.f.store->db, "SELECT count(*) FROM ingestion WHERE id <> x''"), 0);
            expect_sound(s.f.store);
            failures += reached;
        }
    }
    cr_assert_gt(failures, 2);
    close_scene(&s);
}
