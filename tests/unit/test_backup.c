// What a client is told of a backup, from its first request to long after its end.
#include "scheduler/backup.h"

#include "tests/unit/store_fixture.h"

struct scene {
    struct fixture f;
    struct backup backup;
    char path[128];
    char part[160];
};

static void scene_new(struct scene *s)
{
    fixture_new(&s->f);
    backup_init(&s->backup);
    (void)snprintf(s->path, sizeof(s->path), "%s/copy", s->f.dir);
    (void)snprintf(s->part, sizeof(s->part), "%s.part", s->path);
    for (uint64_t id = 1; id <= 4; id++) { // some hundred pages each
        (void)add(s->f.store, id, 1, PRIORITY_HIGH, 3, 90000);
    }
}

static void scene_free(struct scene *s)
{
    backup_fini(&s->backup);
    fixture_free(&s->f);
}

// The reply to a request has this text in it.
static void expect_reply(struct scene *s, uint64_t id, char *path, const char *text)
{
    struct backup_request request = {.id = id_number(id), .path = path};
    struct buf out;
    buf_init(&out);
    backup_answer(&s->backup, s->f.store, &request, &out);
    cr_assert(strstr(out.data, text), "no %s in %s", text, out.data);
    cr_assert_eq(strchr(out.data, '\n'), out.data + out.len - 1);
    buf_fini(&out);
}

// All steps; returns how many there were.
static size_t run(struct scene *s)
{
    size_t steps = 0;
    while (backup_wake(&s->backup).ns != MONO_NEVER.ns) {
        s->backup.due = mono_now(); // no need to wait for it
        backup_step(&s->backup);
        steps++;
    }
    return steps;
}

Test(backup, from_its_first_request_to_after_its_end)
{
    struct scene s;
    scene_new(&s);
    cr_assert_eq(backup_wake(&s.backup).ns, MONO_NEVER.ns);
    backup_step(&s.backup); // there is none
    expect_reply(&s, 1, s.path, "\"done\":false,\"pages\":0,");
    cr_assert_eq(access(s.part, F_OK), 0);
    backup_step(&s.backup);
    expect_reply(&s, 1, s.path, s.backup.copied.done ? "\"done\":true" : "\"done\":false,\"pages\":");
    (void)run(&s);
    expect_reply(&s, 1, s.path, "\"done\":true,\"pages\":");
    expect_reply(&s, 1, s.path, "\"pages_left\":0}"); // as often as it is asked for
    cr_assert_eq(access(s.path, F_OK), 0);
    cr_assert_neq(access(s.part, F_OK), 0);

    // Another one, to the same place, cannot be made, and that does not change what is known of the first.
    expect_reply(&s, 2, s.path, "\"code\":\"storage_unavailable\"");
    expect_reply(&s, 1, s.path, "\"done\":true");
    scene_free(&s);
}

Test(backup, one_at_a_time)
{
    struct scene s;
    char other[160];
    scene_new(&s);
    (void)snprintf(other, sizeof(other), "%s-2", s.path);
    expect_reply(&s, 1, s.path, "\"done\":false");
    expect_reply(&s, 2, other, "\"code\":\"overloaded\"");
    cr_assert_gt(run(&s), 0);
    expect_reply(&s, 2, other, "\"done\":false,\"pages\":0,");
    (void)run(&s);
    expect_reply(&s, 2, other, "\"done\":true");
    scene_free(&s);
}

// After a step it pauses for as long as the step took.
Test(backup, half_of_the_time_at_the_most)
{
    struct scene s;
    scene_new(&s);
    expect_reply(&s, 1, s.path, "\"done\":false");
    struct mono before = mono_now();
    backup_step(&s.backup);
    struct mono after = mono_now();
    cr_assert_not(s.backup.copied.done);
    cr_assert(mono_before(before, backup_wake(&s.backup)));
    cr_assert_leq(mono_diff(backup_wake(&s.backup), after), mono_diff(after, before));
    uint64_t left = s.backup.copied.left;
    s.backup.due = mono_add(mono_now(), 3600 * NS_PER_S);
    backup_step(&s.backup); // it is not time yet
    cr_assert_eq(s.backup.copied.left, left);
    scene_free(&s);
}

Test(backup, one_that_fails)
{
    struct scene s;
    scene_new(&s);
    expect_reply(&s, 1, s.path, "\"done\":false");
    FILE *file = fopen(s.path, "we"); // somebody else takes the name
    cr_assert(file && fclose(file) == 0);
    (void)run(&s);
    expect_reply(&s, 1, s.path, "cannot be completed: File exists");
    expect_reply(&s, 1, s.path, "\"code\":\"storage_unavailable\"");
    cr_assert_neq(access(s.part, F_OK), 0);
    cr_assert_eq(unlink(s.path), 0);
    expect_reply(&s, 2, s.path, "\"done\":false");
    (void)run(&s);
    expect_reply(&s, 2, s.path, "\"done\":true");
    scene_free(&s);
}

Test(backup, one_that_is_given_up)
{
    struct scene s;
    scene_new(&s);
    expect_reply(&s, 1, s.path, "\"done\":false");
    cr_assert_eq(access(s.part, F_OK), 0);
    backup_fini(&s.backup);
    cr_assert_neq(access(s.part, F_OK), 0);
    cr_assert_neq(access(s.path, F_OK), 0);
    expect_reply(&s, 1, s.path, "\"done\":false"); // as after a restart: it begins anew
    (void)run(&s);
    expect_reply(&s, 1, s.path, "\"done\":true");
    scene_free(&s);
}
