// Both programs die under load: by SIGKILL at random moments, and in chosen calls of the write path.
#include "tests/crash/round.h"

TestSuite(kill, .fini = sluice_cleanup);

Test(kill, nothing_is_lost)
{
    rounds_of_kills(&(struct round_plan){.name = "kill"}, round_kills(15));
}
