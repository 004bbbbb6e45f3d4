// The power goes under load: both programs die, and what was not synced is lost, all of it or in part.
#include "tests/crash/round.h"

TestSuite(power, .fini = sluice_cleanup);

Test(power, nothing_is_lost)
{
    rounds_of_kills(&(struct round_plan){.name = "power", .power = true}, round_kills(15));
}
