#include "tests/unit/exec_target_fixture.h"

#include <pthread.h>
#include <signal.h>

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
    cr_assert_eq(next_item(&f), &delivery->start);
    cr_assert_eq(next_done(&f), delivery);
    delivery_free(delivery);
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
