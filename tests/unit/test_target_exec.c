#include "common/buf.h"
#include "tests/support/wait.h"
#include "tests/unit/target_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- programs ----

// Where the programs of a test are, and the files they write.
struct place_of_work {
    char dir[32];
    unsigned count;
    char path[64];
    char target[80]; // "exec:PATH" of the latest
};

static struct place_of_work make_place(void)
{
    struct place_of_work place = {.dir = "/tmp/sluice-exec-XXXXXX"};

    cr_assert_not_null(mkdtemp(place.dir));
    return place;
}

static void remove_place(const struct place_of_work *place)
{
    DIR *dir = opendir(place->dir);
    char path[320];

    cr_assert_not_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        (void)snprintf(path, sizeof(path), "%s/%s", place->dir, entry->d_name);
        (void)unlink(path);
    }
    (void)closedir(dir);
    cr_assert_eq(rmdir(place->dir), 0);
}

// A shell script, whose working directory is the place; its target's text.
static const char *write_program(struct place_of_work *place, const char *script)
{
    (void)snprintf(place->path, sizeof(place->path), "%s/program%u", place->dir, place->count++);
    (void)snprintf(place->target, sizeof(place->target), "exec:%s", place->path);
    int fd = open(place->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    cr_assert_geq(fd, 0);
    cr_assert_gt(dprintf(fd, "#!/bin/sh\ncd %s\n%s\n", place->dir, script), 0);
    cr_assert_eq(close(fd), 0);
    return place->target;
}

// What a program wrote into a file; "" as long as there is none.
static char *read_result(const struct place_of_work *place, const char *name)
{
    char path[64];
    struct buf text;
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/%s", place->dir, name);
    buf_init(&text);
    buf_str(&text, "");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        for (ssize_t got = 1; got > 0;) {
            char *room = buf_room(&text, 65536);
            cr_assert_not_null(room);
            got = read(fd, room, 65536);
            buf_grew(&text, got > 0 ? (size_t)got : 0);
        }
        (void)close(fd);
    }
    buf_str(&text, "");
    return buf_take(&text, &len);
}

static void expect_result(const struct place_of_work *place, const char *name, const char *expected)
{
    char *text = read_result(place, name);

    cr_assert_str_eq(text, expected);
    free(text);
}

// The processes whose numbers programs wrote into a file, a line for each.
static bool find_pids(const struct place_of_work *place, const char *name, pid_t *pids, size_t count)
{
    char *text = read_result(place, name), *at = text;
    bool there = true;

    for (size_t i = 0; i < count && there; i++) {
        pids[i] = (pid_t)strtol(at, &at, 10);
        there = *at == '\n' && pids[i] > 0;
    }
    free(text);
    return there;
}

// Such a process, once it is there.
static pid_t read_pid(const struct place_of_work *place, const char *name)
{
    pid_t pid = 0;

    WAIT_FOR(find_pids(place, name, &pid, 1));
    return pid;
}

// Gone, or a zombie that whoever adopted it has not reaped.
static bool is_dead(pid_t pid)
{
    char path[32], line[256] = "";

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) {
        return true;
    }
    bool got = fgets(line, sizeof(line), file) != NULL;
    (void)fclose(file);
    const char *state = strrchr(line, ')');
    return !got || !state || state[2] == 'Z' || state[2] == 'X';
}

static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    cr_assert_not_null(dir);
    while (readdir(dir)) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

static bool has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

// ---- what a program gets ----

Test(target_exec, gives_the_body_on_standard_input)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "cat >body; echo unseen; echo ignored >&2"));
    cr_assert_eq(target_expected_ns(f.target), 0);
    struct delivery *delivery = deliver(&f, make(&f, 7));
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
    cr_assert_str_eq(delivery->outcome.error, "");
    cr_assert_not(delivery->outcome.down);
    cr_assert_gt(delivery->outcome.took_ns, 0);
    expect_result(&place, "body",
                  "{\"ingestion_id\":\"0198c0de-0000-7000-8000-000000000001\","
                  "\"batch_id\":\"5a0d0c60-1111-5222-8333-000000000007\",\"queue\":\"mail\","
                  "\"priority\":\"MEDIUM\",\"ids\":[1,2,9007199254740991],\"attempt\":3}");
    delivery_free(delivery);
    end(&f);
    remove_place(&place);
}

static void make_long(struct delivery *delivery)
{
    struct buf ids;
    size_t len;

    buf_init(&ids);
    for (int i = 0; i < 60000; i++) {
        buf_str(&ids, i == 0 ? "9007199254740991" : ",9007199254740991");
    }
    free(delivery->ids);
    delivery->ids = buf_take(&ids, &len);
}

Test(target_exec, gives_long_bodies_whole)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "cat >body"));
    struct delivery *delivery = make(&f, 1);
    make_long(delivery);
    (void)deliver(&f, delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
    char *body = read_result(&place, "body");
    cr_assert_not_null(strstr(body, delivery->ids));
    cr_assert_eq(body[strlen(body) - 1], '}');
    free(body);
    delivery_free(delivery);
    end(&f);
    remove_place(&place);
}

Test(target_exec, passes_on_nothing_but_the_standard_descriptors)
{
    struct place_of_work place = make_place();
    struct fixture f;
    int open_one_fd = open("/dev/null", O_RDONLY); // not close-on-exec, as some library may do it

    cr_assert_geq(open_one_fd, 0);
    begin(&f, write_program(&place, "ls /proc/self/fd >list; out=$(readlink /proc/$$/fd/1); echo $out >out"));
    struct delivery *delivery = deliver(&f, make(&f, 1));
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
    expect_result(&place, "list", "0\n1\n2\n3\n"); // the last is the directory being read
    expect_result(&place, "out", "/dev/null\n");
    delivery_free(delivery);
    (void)close(open_one_fd);
    end(&f);
    remove_place(&place);
}

Test(target_exec, starts_with_default_signals_in_a_group_of_its_own)
{
    struct place_of_work place = make_place();
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct fixture f;
    sigset_t blocked;

    cr_assert_eq(sigaction(SIGPIPE, &ignore, NULL) | sigaction(SIGHUP, &ignore, NULL), 0);
    cr_assert_eq(sigaction(SIGCHLD, &ignore, NULL), 0); // with it exit codes would be lost
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    cr_assert_eq(pthread_sigmask(SIG_BLOCK, &blocked, NULL), 0);
    begin(&f, write_program(&place, "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t' >signals\n"
                                    "read a b c d group rest </proc/$$/stat\n"
                                    "[ $group = $$ ] && echo own >group\n"
                                    "exit 3"));
    struct delivery *delivery = deliver(&f, make(&f, 1));
    cr_assert_eq(delivery->outcome.class, OUTCOME_FAILED);
    cr_assert_str_eq(delivery->outcome.error, "exit 3");
    // Above the first 31 signals are those that glibc keeps to itself and ignores.
    char *signals = read_result(&place, "signals");
    cr_assert_eq(strncmp(signals, "SigBlk:0000000000000000\nSigIgn:", 31), 0, "%s", signals);
    cr_assert_eq(strtoull(signals + 31, NULL, 16) & 0x7fffffff, 0, "%s", signals);
    free(signals);
    expect_result(&place, "group", "own\n");
    delivery_free(delivery);
    end(&f);
    remove_place(&place);
}

// ---- how it ends ----

struct end_case {
    const char *script;
    enum outcome_class class;
    bool down;
    const char *error;
};

static const struct end_case ends[] = {
    {"exit 0", OUTCOME_COMPLETED, false, ""},
    {"exec >&- 2>&- <&-; exit 0", OUTCOME_COMPLETED, false, ""},
    {"exit 1", OUTCOME_FAILED, false, "exit 1"},
    {"exit 255", OUTCOME_FAILED, false, "exit 255"},
    {"exit 75", OUTCOME_RETRY, false, "exit 75"},
    {"echo 'the disk is full' >&2; exit 75", OUTCOME_RETRY, false, "the disk is full"},
    {"echo 'no such\n  customer' >&2; echo >&2; exit 4", OUTCOME_FAILED, false, "no such   customer"},
    {"printf ' \\n' >&2; exit 5", OUTCOME_FAILED, false, "exit 5"},
    {"printf 'a\\000b\\001c\\377 \\303\\244' >&2; exit 5", OUTCOME_FAILED, false, "a?b?c? \xc3\xa4"},
    {"ulimit -c 0; kill -SEGV $$", OUTCOME_RETRY, true, "killed by SIGSEGV"},
    {"kill -KILL $$", OUTCOME_RETRY, true, "killed by SIGKILL"},
    {"kill -40 $$", OUTCOME_RETRY, true, "killed by signal 40"},
    {"echo 'out of luck' >&2; kill -TERM $$", OUTCOME_RETRY, true, "out of luck"},
};

Test(target_exec, judges_programs_by_their_end)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "exit 0"));
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        const struct end_case *c = &ends[i];
        struct target *target = open_one(&f, write_program(&place, c->script));
        struct delivery *delivery = deliver(&f, make_for(target, 1));
        cr_expect_eq(delivery->outcome.class, c->class, "%s", c->script);
        cr_expect_eq(delivery->outcome.down, c->down, "%s", c->script);
        cr_expect_str_eq(delivery->outcome.error, c->error, "%s", c->script);
        cr_expect_eq(delivery->outcome.hold_ns, 0);
        delivery_free(delivery);
        target_close(target);
    }
    end(&f);
    remove_place(&place);
}

Test(target_exec, keeps_the_end_of_standard_error)
{
    struct place_of_work place = make_place();
    struct fixture f;

    // 300,000 bytes, of two each, so that the cut falls into the middle of a character.
    begin(&f, write_program(&place, "awk 'BEGIN { while (n++ < 150000) printf \"\\303\\244\" }' >&2\n"
                                    "echo 'the end' >&2; exit 1"));
    struct delivery *delivery = deliver(&f, make(&f, 1));
    const char *error = delivery->outcome.error;
    size_t len = strlen(error);
    cr_assert_eq(delivery->outcome.class, OUTCOME_FAILED);
    cr_assert(len > 4080 && len <= 4095, "%zu", len);
    cr_assert_eq(strncmp(error, "\xc3\xa4\xc3\xa4", 4), 0);
    cr_assert_str_eq(error + len - 9, "\xc3\xa4the end");
    cr_assert_null(strchr(error, '?'));
    delivery_free(delivery);
    end(&f);
    remove_place(&place);
}

Test(target_exec, tells_a_late_start_before_the_end)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "exit 0"));
    struct delivery *delivery = make(&f, 1);
    delivery->slot = mono_add(mono_now(), -5 * NS_PER_MS);
    target_start(delivery);
    cr_assert_eq(next_item(&f), &delivery->late);
    cr_assert_eq(next_done(&f), delivery);
    delivery_free(delivery);
    end(&f);
    remove_place(&place);
}

static void expect_no_start(struct fixture *f, const char *text, const char *error)
{
    struct target *target = open_one(f, text);
    struct delivery *delivery = deliver(f, make_for(target, 1));

    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY, "%s", text);
    cr_assert(delivery->outcome.down, "%s", text);
    cr_assert_str_eq(delivery->outcome.error, error, "%s", text);
    delivery_free(delivery);
    target_close(target);
}

Test(target_exec, says_why_a_program_cannot_be_started)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "exit 0"));
    unsigned before = count_descriptors();
    expect_no_start(&f, "exec:/nowhere/program", "could not start: No such file or directory");
    expect_no_start(&f, "exec:/", "could not start: Permission denied");
    expect_no_start(&f, "exec:/bin/true --version", "could not start: No such file or directory");
    expect_no_start(&f, "exec:/dev/null", "could not start: Permission denied");
    const char *text = write_program(&place, "");
    cr_assert_eq(truncate(place.path, 0), 0);
    expect_no_start(&f, text, "could not start: Exec format error"); // and no shell is tried
    cr_assert_eq(count_descriptors(), before);
    cr_assert_not(has_children());
    end(&f);
    remove_place(&place);
}

Test(target_exec, reads_its_text)
{
    struct fault fault;

    cr_assert_eq(target_check("exec:/bin/true", NULL), ERR_OK);
    cr_assert_eq(target_check("exec:/a path/with $(everything) 'in it'", NULL), ERR_OK);
    cr_assert_eq(target_check("exec:", &fault), ERR_INVALID_FIELD);
    cr_assert_eq(target_check("exec:true", &fault), ERR_INVALID_FIELD);
    cr_assert_not_null(strstr(fault.detail, "absolute path"));
}

// ---- programs that do not behave ----

Test(target_exec, kills_the_group_when_its_time_is_over)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "trap '' TERM INT; sleep 1000 & echo $! >child; echo $$ >parent; wait"));
    struct delivery *delivery = make(&f, 1);
    delivery->timeout_ns = 700 * NS_PER_MS;
    (void)deliver(&f, delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
    cr_assert(delivery->outcome.down);
    cr_assert_str_eq(delivery->outcome.error, "timed out after 700ms");
    cr_assert_geq(delivery->outcome.took_ns, 700 * NS_PER_MS);
    char *started = read_result(&place, "parent");
    if (started[0] != '\0') { // it had the time to start its child
        pid_t child = read_pid(&place, "child");
        WAIT_FOR(is_dead(child));
        cr_assert(is_dead(read_pid(&place, "parent")));
    }
    free(started);
    cr_assert_not(has_children());
    delivery_free(delivery);
    end(&f);
    remove_place(&place);
}

Test(target_exec, waits_for_no_reader_and_no_writer)
{
    struct place_of_work place = make_place();
    struct fixture f;

    // It never reads its input, which is longer than a pipe, and ends.
    begin(&f, write_program(&place, "exit 0"));
    struct delivery *delivery = make(&f, 1);
    make_long(delivery);
    (void)deliver(&f, delivery);
    cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
    delivery_free(delivery);

    // It closes its input and goes on.
    struct target *closes = open_one(&f, write_program(&place, "exec <&-; sleep 0.2; exit 3"));
    delivery = make_for(closes, 2);
    make_long(delivery);
    (void)deliver(&f, delivery);
    cr_assert_str_eq(delivery->outcome.error, "exit 3");
    delivery_free(delivery);

    // It writes without end and reads nothing, and others are not held up by it.
    struct target *floods = open_one(&f, write_program(&place, "exec yes flood >&2"));
    struct delivery *flood = make_for(floods, 3);
    make_long(flood);
    flood->timeout_ns = 1500 * NS_PER_MS;
    target_start(flood);
    for (uint8_t i = 0; i < 10; i++) {
        delivery_free(deliver(&f, make(&f, i)));
    }
    cr_assert_eq(next_done(&f), flood);
    cr_assert_str_eq(flood->outcome.error, "timed out after 1500ms");
    delivery_free(flood);
    target_close(closes);
    target_close(floods);
    end(&f);
    remove_place(&place);
}

Test(target_exec, waits_for_nothing_that_a_program_leaves_behind)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "echo oops >&2; sleep 1000 & echo $! >child; exit 3"));
    struct delivery *delivery = deliver(&f, make(&f, 1));
    cr_assert_eq(delivery->outcome.class, OUTCOME_FAILED);
    cr_assert_str_eq(delivery->outcome.error, "oops");
    pid_t child = read_pid(&place, "child");
    cr_assert_not(is_dead(child)); // it is none of our business
    cr_assert_eq(kill(child, SIGKILL), 0);
    delivery_free(delivery);

    struct target *floods = open_one(&f, write_program(&place, "yes >&2 & echo $! >flood; exit 3"));
    delivery = deliver(&f, make_for(floods, 2));
    cr_assert_eq(delivery->outcome.class, OUTCOME_FAILED);
    child = read_pid(&place, "flood");
    WAIT_FOR(is_dead(child)); // nobody reads it any more
    delivery_free(delivery);
    target_close(floods);
    end(&f);
    remove_place(&place);
}

Test(target_exec, kills_and_reaps_what_runs_when_freed)
{
    struct place_of_work place = make_place();
    struct fixture f;
    unsigned before = count_descriptors();

    begin(&f, write_program(&place, "sleep 1000 & echo $! >child$$; echo $$ >>parents; wait"));
    for (uint8_t i = 0; i < 3; i++) {
        target_start(make(&f, i));
    }
    pid_t pids[3] = {0};
    WAIT_FOR(find_pids(&place, "parents", pids, 3));
    end(&f);
    for (size_t i = 0; i < 3; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "child%d", (int)pids[i]);
        cr_assert(is_dead(pids[i]));
        pid_t child = read_pid(&place, name);
        WAIT_FOR(is_dead(child));
    }
    cr_assert_not(has_children());
    cr_assert_eq(count_descriptors(), before);
    remove_place(&place);
}

// ---- many of them ----

Test(target_exec, leaves_no_process_and_no_descriptor)
{
    struct place_of_work place = make_place();
    struct fixture f;

    begin(&f, write_program(&place, "cat >/dev/null; echo x >&2; exit 1"));
    delivery_free(deliver(&f, make(&f, 0)));
    unsigned before = count_descriptors();
    for (uint8_t i = 0; i < 30; i++) {
        delivery_free(deliver(&f, make(&f, i)));
    }
    cr_assert_eq(count_descriptors(), before);
    cr_assert_not(has_children());
    end(&f);
    remove_place(&place);
}

Test(target_exec, runs_hundreds_of_targets_at_once)
{
    enum { TARGETS = 200 };
    struct place_of_work place = make_place();
    struct target *targets[TARGETS];
    struct fixture f;

    begin(&f, write_program(&place, "exec sleep 1000"));
    struct delivery *stuck = make(&f, 0);
    target_start(stuck); // for ever
    for (size_t i = 0; i < TARGETS; i++) {
        targets[i] = open_one(&f, write_program(&place, "cat >/dev/null"));
        struct delivery *delivery = make_for(targets[i], (uint8_t)i);
        target_close(targets[i]); // the delivery has it
        target_start(delivery);
    }
    for (size_t i = 0; i < TARGETS; i++) {
        struct delivery *delivery = next_done(&f);
        cr_assert_eq(delivery->outcome.class, OUTCOME_COMPLETED, "%s", delivery->outcome.error);
        delivery_free(delivery);
    }
    end(&f);
    cr_assert_not(has_children());
    remove_place(&place);
}
