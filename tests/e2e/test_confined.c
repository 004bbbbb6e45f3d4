// What both processes, and what they start, are allowed: files that nobody else reads, and no way to more
// privileges.
#include "tests/support/queues.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

TestSuite(confined, .fini = sluice_cleanup);

static char *status_of(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    char *text = file_text(path);
    cr_assert_neq(text[0], '\0', "no %s", path);
    return text;
}

static void check_confined(const char *who, const char *status)
{
    cr_expect(strstr(status, "\nUmask:\t0027\n"), "%s has another umask:\n%s", who, status);
    cr_expect(strstr(status, "\nNoNewPrivs:\t1\n"), "%s may gain privileges:\n%s", who, status);
}

Test(confined, both_programs)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    for (int part = SCHEDULER; part < PARTS; part++) {
        char *status = status_of(sluice->part[part].pid);
        check_confined(part == SCHEDULER ? "the scheduler" : "the gateway", status);
        free(status);
    }
    sluice_end(sluice);
}

Test(confined, and_the_programs_of_exec_targets)
{
    struct sluice *sluice = sluice_start(NULL, NULL);
    char *path = sluice_path(sluice, "program"), *seen = sluice_path(sluice, "seen");
    FILE *file = fopen(path, "we");
    cr_assert(file && fprintf(file, "#!/bin/sh\ncat /proc/self/status >%s\n", seen) > 0);
    cr_assert(fclose(file) == 0 && chmod(path, 0700) == 0);
    queue_put(sluice, "run", "\"target\":\"exec:%s\"", path);
    struct ingested ingested = sluice_ingest(sluice, "{\"queue\":\"run\",\"priority\":\"HIGH\",\"ids\":[1]}");
    sluice_wait_status(sluice, ingested.id, "completed");
    char *status = file_text(seen);
    check_confined("a target's program", status);
    free(status);
    free(path);
    free(seen);
    sluice_end(sluice);
}
