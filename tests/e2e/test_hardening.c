// How the programs are linked and compiled, as readelf sees what was built. Release builds only:
// sanitizers come with ways of their own.
#include "tests/support/sluice.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(hardening, .fini = sluice_cleanup);

static const char *const programs[] = {"sluice-scheduler", "sluice-gateway", "sluice-verify", "sluice"};
static const char *const archives[] = {SLUICE_ARCHIVES};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// What readelf says of a file; to be freed.
static char *readelf(const char *options, const char *path)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *out = sluice_path(sluice, "readelf.out");
    int code = process_run(&(struct process_plan){.program = SLUICE_READELF,
                                                  .arguments = LIST(options, path),
                                                  .output = out,
                                                  .log = sluice->log[SCHEDULER]});
    cr_assert_eq(code, 0, "readelf %s %s", options, path);
    char *text = file_text(out);
    free(out);
    sluice_end(sluice);
    return text;
}

// Of each program: each of the texts is there, and each of the others is not.
static void check(const char *options, const char *const *wanted, const char *const *unwanted)
{
    for (size_t i = 0; i < COUNT(programs); i++) {
        struct program_path program = program_path(programs[i]);
        char *text = readelf(options, program.text);
        for (size_t k = 0; wanted[k]; k++) {
            cr_expect(strstr(text, wanted[k]), "%s: no \"%s\" in\n%s", programs[i], wanted[k], text);
        }
        for (size_t k = 0; unwanted[k]; k++) {
            cr_expect(!strstr(text, unwanted[k]), "%s: \"%s\" in\n%s", programs[i], unwanted[k], text);
        }
        free(text);
    }
}

Test(hardening, position_independent)
{
    check("-hW", LIST("DYN (Position-Independent Executable file)"), LIST(NULL));
}

// Full RELRO: all is bound at the start and read-only from then on. No library is looked for where somebody
// could put another one.
Test(hardening, bound_at_the_start_and_read_only)
{
    check("-dW", LIST("BIND_NOW", "NOW PIE"), LIST("TEXTREL", "RPATH", "RUNPATH"));
    check("-lW", LIST("GNU_RELRO"), LIST(NULL));
}

Test(hardening, nothing_both_written_and_run)
{
    check("-lW", LIST("GNU_STACK"), LIST(" RWE "));
}

// The compiler puts these calls in only where the options were on. Of our own objects, layer by layer: the
// programs have them from NNG as well. Where all sizes are known to fit, a layer needs no fortified call.
Test(hardening, stack_protector_and_fortify)
{
    size_t fortified = 0;
    for (size_t i = 0; i < COUNT(archives); i++) {
        char *text = readelf("-sW", archives[i]);
        cr_expect(strstr(text, "UND __stack_chk_fail\n"), "no stack protector in %s", archives[i]);
        fortified += strstr(text, "_chk\n") != NULL;
        free(text);
    }
    cr_expect(fortified >= 3, "fortified calls in %zu layers", fortified);
}
