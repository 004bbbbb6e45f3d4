// What the scheduler's pure part calls: memory, strings and its own kind. Nothing that reads a clock, draws
// randomness, does I/O or starts a thread.
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// A name that ends in '*' stands for all that begin so.
static const char *const allowed[] = {
    // memory and strings
    "malloc",
    "calloc",
    "realloc",
    "free",
    "memcpy",
    "strlen",
    "memmove",
    "memset",
    "memcmp",
    "strcmp",
    "strlen",
    "qsort",
    "bsearch",
    "snprintf",
    // the same by other names, where the compiler checks more
    "__memcpy_chk",
    "__memmove_chk",
    "__memset_chk",
    "__snprintf_chk",
    "__stack_chk_fail",
    "__assert_fail",
    // division by 128 bits
    "__divti3",
    "__modti3",
    "__divmodti4",
    "__udivti3",
    "__umodti3",
    "__muloti4",
    // what sanitizers and coverage put in
    "__asan_*",
    "__ubsan_*",
    "__tsan_*",
    "__sanitizer_*",
    "__gcov_*",
    "__llvm_*",
    "_GLOBAL_OFFSET_TABLE_",
    // of the layer below
    "heap_*",
    "fault_set",
    "mono_add",
    "mono_diff",
};

struct symbols {
    char names[512][64];
    size_t count;
};

// The last word of each line with a symbol on it.
static void read_symbols(const char *command, struct symbols *symbols)
{
    FILE *nm = popen(command, "r");
    char line[256];
    cr_assert_not_null(nm);
    while (fgets(line, sizeof line, nm) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *name = strrchr(line, ' ');
        if (name != NULL) { // neither empty nor an object's name
            cr_assert_lt(symbols->count, COUNT(symbols->names));
            cr_assert_lt(strlen(name), sizeof symbols->names[0]);
            (void)snprintf(symbols->names[symbols->count++], sizeof symbols->names[0], "%s", name + 1);
        }
    }
    cr_assert_eq(pclose(nm), 0, "%s", command);
}

static bool contains(const struct symbols *symbols, const char *name)
{
    for (size_t i = 0; i < symbols->count; i++) {
        if (strcmp(symbols->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_allowed(const char *name)
{
    for (size_t i = 0; i < COUNT(allowed); i++) {
        size_t len = strlen(allowed[i]);
        bool prefix = allowed[i][len - 1] == '*';
        if (prefix ? strncmp(name, allowed[i], len - 1) == 0 : strcmp(name, allowed[i]) == 0) {
            return true;
        }
    }
    return false;
}

Test(pure, the_core_calls_nothing_that_acts)
{
    static struct symbols defined;
    static struct symbols undefined;
    read_symbols(SLUICE_NM " --defined-only --extern-only '" SLUICE_CORE "'", &defined);
    read_symbols(SLUICE_NM " --undefined-only '" SLUICE_CORE "'", &undefined);
    cr_assert(contains(&defined, "engine_next"), "this is not the core");
    cr_assert(contains(&undefined, "mono_add"));
    for (size_t i = 0; i < undefined.count; i++) {
        const char *name = undefined.names[i];
        cr_expect(contains(&defined, name) || is_allowed(name), "the core calls %s", name);
    }
}
