#include "scheduler/routes.h"

#include <criterion/criterion.h>

#define OK(call) cr_assert_eq((call), ERR_OK)

static struct inbox *inbox;
static struct targets *targets;
static struct routes routes;

static void set_up(void)
{
    OK(inbox_new(&inbox));
    OK(targets_new(inbox, &targets));
    routes = (struct routes){0};
}

static void tear_down(void)
{
    targets_stop(targets);
    routes_fini(&routes);
    targets_free(targets);
    inbox_free(inbox);
}

TestSuite(routes, .init = set_up, .fini = tear_down);

static void set(int64_t queue, const char *text)
{
    struct fault fault = {0};
    cr_assert_eq(routes_set(&routes, targets, queue, text, "", &fault), ERR_OK, "%s", fault.detail);
}

Test(routes, each_queue_has_its_own)
{
    for (int64_t queue = 100; queue > 0; queue -= 2) { // in any order
        set(queue, queue % 4 == 0 ? "pull:" : "simulate:2s");
    }
    for (int64_t queue = 2; queue <= 100; queue += 2) {
        struct target_traits traits = route_traits(routes_find(&routes, queue));
        cr_assert_eq(traits.pull, queue % 4 == 0);
        cr_assert_eq(traits.expected_ns, queue % 4 == 0 ? 0 : 2 * NS_PER_S);
        cr_assert_null(routes_find(&routes, queue + 1));
    }
    routes_remove(&routes, 50);
    routes_remove(&routes, 51); // there is none
    cr_assert_null(routes_find(&routes, 50));
    cr_assert_not_null(routes_find(&routes, 52));
}

Test(routes, one_that_is_the_same_stays)
{
    set(1, "simulate:1s");
    const struct target *first = routes_find(&routes, 1);
    set(1, "simulate:1s");
    cr_assert_eq(routes_find(&routes, 1), first);
    OK(routes_set(&routes, targets, 1, "simulate:1s", "Key: 1\n", NULL));
    cr_assert_str_eq(target_headers(routes_find(&routes, 1)), "Key: 1\n");
}

Test(routes, one_that_cannot_be_opened_leaves_what_there_was)
{
    struct fault fault = {0};
    set(1, "simulate:1s");
    cr_assert_eq(routes_set(&routes, targets, 1, "simulate:soon", "", &fault), ERR_INVALID_FIELD);
    cr_assert_str_eq(target_text(routes_find(&routes, 1)), "simulate:1s");
    cr_assert_eq(routes_set(&routes, targets, 2, "simulate:soon", "", &fault), ERR_INVALID_FIELD);
    cr_assert_null(routes_find(&routes, 2));
}

Test(routes, a_delivery_holds_the_target_it_has)
{
    set(1, "simulate:1s");
    struct delivery *delivery = delivery_new(routes_find(&routes, 1));
    cr_assert_not_null(delivery);
    set(1, "pull:");
    cr_assert_str_eq(target_text(delivery->target), "simulate:1s");
    delivery_free(delivery);
}
