// A program stands still for longer than every time-out there is, and goes on.
#include "tests/crash/round.h"

#include <signal.h>

TestSuite(freeze, .fini = sluice_cleanup);

static void send(const struct round *round, enum part part, int signal)
{
    cr_assert_eq(kill(round->sluice->part[part].pid, signal), 0);
}

Test(freeze, nothing_is_lost)
{
    struct round *round = round_begin(
        &(struct round_plan){
            .name = "freeze", .may_time_out = true, .gateway_timeout = "500ms", .delivery_timeout = "1s"},
        round_seed());
    for (unsigned i = 0; i < round_kills(3); i++) {
        bool scheduler = i % 3 != 1, gateway = i % 3 != 0;
        round_change_answer(round);
        wait_ms(100 + (int64_t)random_below(&round->random, 200));
        for (int signal = SIGSTOP, n = 0; n < 2; signal = SIGCONT, n++) {
            if (scheduler) {
                send(round, SCHEDULER, signal);
            }
            if (gateway) {
                send(round, GATEWAY, signal);
            }
            wait_ms(n == 0 ? 2200 + (int64_t)random_below(&round->random, 500) : 0);
        }
    }
    round_end(round);
}
