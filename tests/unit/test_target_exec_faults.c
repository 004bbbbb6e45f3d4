#include "tests/unit/exec_target_fixture.h"

#include <signal.h>
#include <sys/resource.h>

// ---- programs that cannot be started ----

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

Test(target_exec_faults, says_why_a_program_cannot_be_started)
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

// Leaves room for `spare` more descriptors.
static void limit_descriptors(rlim_t spare)
{
    int next = dup(STDIN_FILENO);
    struct rlimit limit;

    cr_assert_geq(next, 0);
    (void)close(next);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)next + spare;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void unlimit_descriptors(void)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(target_exec_faults, recovers_from_a_lack_of_descriptors)
{
    struct place_of_work place = make_place();
    struct fixture f;
    unsigned failed = 0;

    begin(&f, write_program(&place, "exit 0"));
    unsigned before = count_descriptors();
    for (rlim_t spare = 0;; spare++) {
        limit_descriptors(spare);
        struct delivery *delivery = deliver(&f, make(&f, 1));
        unlimit_descriptors();
        bool completed = delivery->outcome.class == OUTCOME_COMPLETED;
        if (!completed) {
            cr_assert_eq(delivery->outcome.class, OUTCOME_RETRY);
            cr_assert_str_eq(delivery->outcome.error, "could not start: Too many open files");
            failed++;
        }
        delivery_free(delivery);
        cr_assert_eq(count_descriptors(), before);
        cr_assert_not(has_children());
        if (completed) {
            break;
        }
    }
    cr_assert_geq(failed, 4); // two pipes; the pidfd takes the place of what the program has got
    end(&f);
    remove_place(&place);
}

Test(target_exec_faults, refuses_to_open_where_its_thread_cannot_be_had)
{
    static const char *const texts[] = {"exec:/bin/true", "http://127.0.0.1:1/"};
    struct target *target = NULL;
    struct fixture f;
    struct fault fault;

    begin(&f, "simulate:0");
    unsigned before = count_descriptors();
    for (size_t i = 0; i < 2; i++) {
        for (rlim_t spare = 0; spare < 2; spare++) {
            limit_descriptors(spare);
            enum err err = target_open(f.targets, texts[i], "", &target, &fault);
            unlimit_descriptors();
            cr_assert_eq(err, ERR_INTERNAL, "%s", texts[i]);
            cr_assert_eq(fault.err, ERR_INTERNAL);
            cr_assert_eq(count_descriptors(), before);
        }
        cr_assert_null(target);
        target_close(open_one(&f, texts[i])); // it can, later
        before = count_descriptors();
    }
    end(&f);
}

// ---- programs that do not behave ----

Test(target_exec_faults, kills_the_group_when_its_time_is_over)
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

Test(target_exec_faults, waits_for_no_reader_and_no_writer)
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

Test(target_exec_faults, waits_for_nothing_that_a_program_leaves_behind)
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

Test(target_exec_faults, kills_and_reaps_what_runs_when_freed)
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

Test(target_exec_faults, leaves_no_process_and_no_descriptor)
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

Test(target_exec_faults, runs_hundreds_of_targets_at_once)
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
