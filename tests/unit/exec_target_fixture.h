// exec_target_fixture.h - programs for targets to run, and what can be seen of them.
#ifndef SLUICE_TESTS_UNIT_EXEC_TARGET_FIXTURE_H
#define SLUICE_TESTS_UNIT_EXEC_TARGET_FIXTURE_H

#include "common/buf.h"
#include "tests/support/wait.h"
#include "tests/unit/target_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

// Where the programs of a test are, and the files they write.
struct place_of_work {
    char dir[32];
    unsigned count;
    char path[64];
    char target[80]; // "exec:PATH" of the latest
};

static inline struct place_of_work make_place(void)
{
    struct place_of_work place = {.dir = "/tmp/sluice-exec-XXXXXX"};

    cr_assert_not_null(mkdtemp(place.dir));
    return place;
}

static inline void remove_place(const struct place_of_work *place)
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
static inline const char *write_program(struct place_of_work *place, const char *script)
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
static inline char *read_result(const struct place_of_work *place, const char *name)
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

static inline void expect_result(const struct place_of_work *place, const char *name, const char *expected)
{
    char *text = read_result(place, name);

    cr_assert_str_eq(text, expected);
    free(text);
}

// The processes whose numbers programs wrote into a file, a line for each.
static inline bool find_pids(const struct place_of_work *place, const char *name, pid_t *pids, size_t count)
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
static inline pid_t read_pid(const struct place_of_work *place, const char *name)
{
    pid_t pid = 0;

    WAIT_FOR(find_pids(place, name, &pid, 1));
    return pid;
}

// Gone, or a zombie that whoever adopted it has not reaped.
static inline bool is_dead(pid_t pid)
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

static inline unsigned count_descriptors(void)
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

static inline bool has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

// Makes its body longer than a pipe holds.
static inline void make_long(struct delivery *delivery)
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

#endif
