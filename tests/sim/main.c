// sim - runs seeds of the simulation, each in a process of its own. See README.md.
#include "scheduler/store_sqlite.h"
#include "tests/sim/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct sim sim;

// ---- for all ----

uint64_t sim_below(uint64_t n)
{
    return random_below(&sim.random, n);
}

bool sim_chance(uint64_t of)
{
    return sim_below(of) == 0;
}

int64_t sim_between_ms(int64_t least, int64_t most)
{
    uint64_t span = (uint64_t)(most - least) * (uint64_t)NS_PER_MS;
    return least * NS_PER_MS + (int64_t)sim_below(span + 1);
}

static void hash(uint64_t value)
{
    sim.hash = (sim.hash ^ value) * UINT64_C(0x100000001b3);
    sim.hash ^= sim.hash >> 29;
}

void sim_note(const char *what, int64_t a, int64_t b, int64_t c)
{
    hash((uint64_t)sim.now.ns);
    hash((uint64_t)what[0] << 8 | (uint64_t)what[1]);
    hash((uint64_t)a);
    hash((uint64_t)b);
    hash((uint64_t)c);
    if (sim.tracing) {
        printf("%6" PRIu64 " %14.6f ms  %s %" PRId64 " %" PRId64 " %" PRId64 "\n", sim.step,
               (double)sim.now.ns / 1e6, what, a, b, c);
    }
}

void sim_fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    const char *slash = strrchr(file, '/');
    va_start(args, format);
    (void)fflush(stdout);
    fprintf(stderr, "seed %" PRIu64 ", step %" PRIu64 ": ", sim.seed, sim.step);
    (void)vfprintf(stderr, format, args);
    fprintf(stderr, " (%s:%d)\n  again: build/tests/sim/sim --seed %" PRIu64 " --steps %" PRIu64 " --trace\n",
            slash != NULL ? slash + 1 : file, line, sim.seed, sim.steps);
    va_end(args);
    _exit(1);
}

// ---- one seed ----

static void remove_dir(const char *dir)
{
    static const char *const files[] = {"", "-wal", "-journal", ".new"};
    char path[512];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s%s", dir, STORE_FILE, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

struct result {
    uint64_t hash;
    uint64_t steps;
    uint64_t lives;
    uint64_t statuses;
    uint64_t etas_true;
};

static _Noreturn void run_seed(uint64_t seed, uint64_t steps, bool tracing, const char *dir, int into)
{
    sim = (struct sim){.random = {seed, seed}, .seed = seed, .steps = steps, .tracing = tracing};
    sim.hash = UINT64_C(0xcbf29ce484222325);
    sim.wake = MONO_NEVER;
    sim.wake_wall_ms = DUE_NEVER;
    world_run(dir);
    struct result result = {sim.hash, sim.step, sim.lives, sim.statuses, sim.etas_true};
    bool written = write(into, &result, sizeof result) == (ssize_t)sizeof result;
    (void)fflush(stdout);
    exit(written ? 0 : 1);
}

// In a process of its own. False when it found something.
static bool try_seed(uint64_t seed, uint64_t steps, bool tracing, struct result *result)
{
    char dir[] = "/dev/shm/sluice-sim-XXXXXX";
    int ends[2];
    if (mkdtemp(dir) == NULL || pipe(ends) != 0) {
        perror("sim");
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run_seed(seed, steps, tracing, dir, ends[1]);
    }
    close(ends[1]);
    bool good = read(ends[0], result, sizeof *result) == (ssize_t)sizeof *result;
    close(ends[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    remove_dir(dir);
    if (WIFSIGNALED(status)) {
        fprintf(stderr,
                "seed %" PRIu64 ": ended by signal %d\n  again: build/tests/sim/sim --seed %" PRIu64
                " --steps %" PRIu64 " --trace\n",
                seed, WTERMSIG(status), seed, steps);
    }
    return good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// ---- many ----

struct options {
    uint64_t seed;
    uint64_t seeds;
    uint64_t steps;
    uint64_t jobs;
    bool trace;
    bool twice;
};

// Every jobs-th seed. Returns how many found something.
static int work(const struct options *options, uint64_t first, struct result *sum)
{
    int found = 0;
    for (uint64_t i = first; i < options->seeds; i += options->jobs) {
        struct result result = {0};
        struct result again = {0};
        uint64_t seed = options->seed + i;
        bool good = try_seed(seed, options->steps, options->trace, &result);
        if (good && options->twice && try_seed(seed, options->steps, false, &again) &&
            again.hash != result.hash) {
            fprintf(stderr, "seed %" PRIu64 ": another run of it goes another way\n", seed);
            good = false;
        }
        if (options->seeds == 1 && good) {
            printf("seed %" PRIu64 ": trace hash %016" PRIx64 "\n", seed, result.hash);
        }
        found += !good;
        sum->steps += result.steps;
        sum->lives += result.lives;
        sum->statuses += result.statuses;
        sum->etas_true += result.etas_true;
    }
    return found;
}

static int run_all(const struct options *options)
{
    int ends[2];
    int code = 0;
    struct result all = {0};
    if (pipe(ends) != 0) {
        perror("sim");
        return 1;
    }
    for (uint64_t job = 0; job < options->jobs; job++) {
        if (fork() == 0) {
            struct result sum = {0};
            int found = work(options, job, &sum);
            bool written = write(ends[1], &sum, sizeof sum) == (ssize_t)sizeof sum;
            (void)fflush(stdout);
            _exit(found > 0 || !written);
        }
    }
    close(ends[1]);
    for (struct result sum; read(ends[0], &sum, sizeof sum) == (ssize_t)sizeof sum;) {
        all.steps += sum.steps;
        all.lives += sum.lives;
        all.statuses += sum.statuses;
        all.etas_true += sum.etas_true;
    }
    for (int status; wait(&status) > 0;) {
        code |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    printf("%" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " steps, %" PRIu64 " starts, %" PRIu64
           " positions, %" PRIu64 " ETAs that came true: %s\n",
           options->seeds, options->seed, all.steps, all.lives, all.statuses, all.etas_true,
           code == 0 ? "nothing found" : "FOUND SOMETHING");
    return code;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seed FIRST] [--seeds N] [--steps N] [--jobs N] [--twice] [--trace]\n");
    return 64;
}

int main(int argc, char **argv)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct options options = {.seed = 1, .seeds = 1, .steps = 10000, .jobs = cores > 0 ? (uint64_t)cores : 1};
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {{"--seed", &options.seed},
                   {"--seeds", &options.seeds},
                   {"--steps", &options.steps},
                   {"--jobs", &options.jobs}};
    for (int i = 1; i < argc; i++) {
        bool known = false;
        options.trace = options.trace || strcmp(argv[i], "--trace") == 0;
        options.twice = options.twice || strcmp(argv[i], "--twice") == 0;
        for (size_t n = 0; n < 4 && i + 1 < argc && !known; n++) {
            known = strcmp(argv[i], numbers[n].name) == 0;
            if (known && !count_parse(argv[++i], numbers[n].value)) {
                return usage();
            }
        }
        if (!known && strcmp(argv[i], "--trace") != 0 && strcmp(argv[i], "--twice") != 0) {
            return usage();
        }
    }
    if (options.jobs == 0 || options.steps == 0) {
        return usage();
    }
    if (options.trace) {
        (void)setvbuf(stdout, NULL, _IOLBF, 0); // so that nothing is lost when it breaks
    }
    options.jobs = options.jobs < options.seeds ? options.jobs : options.seeds;
    return run_all(&options);
}
