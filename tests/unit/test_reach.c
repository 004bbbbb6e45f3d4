#include "scheduler/reach.h"

#include "scheduler/engine.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct engine *engine_of(const char *const *names, int64_t first_id)
{
    struct engine *engine = engine_new(1000, 0);
    cr_assert_not_null(engine);
    for (int64_t id = first_id; *names != NULL; id++, names++) {
        struct queue_load load = {.id = id,
                                  .name = *names,
                                  .settings = {.concurrency = 1, .batch_size = 1, .largest_batch = 1},
                                  .due = {DUE_NEVER, DUE_NEVER, DUE_NEVER}};
        cr_assert_eq(engine_add_queue(engine, &load), ERR_OK);
    }
    return engine;
}

static struct scope *scope_of(const char *owner, const char *a, const char *b)
{
    char queues[2][QUEUE_NAME_SIZE];
    (void)snprintf(queues[0], sizeof queues[0], "%s", a != NULL ? a : "");
    (void)snprintf(queues[1], sizeof queues[1], "%s", b != NULL ? b : "");
    struct scope *scope =
        scope_new(owner, (const char(*)[QUEUE_NAME_SIZE])queues, (size_t)(a != NULL) + (b != NULL));
    cr_assert_not_null(scope);
    return scope;
}

Test(reach, what_a_scope_has)
{
    static const char *const names[] = {"default", "mail", "work", NULL}; // 1, 2, 3
    static const struct {
        const char *owner, *a, *b;
        const char *has; // of queue 1 to 3: of nobody, ann, ann2, e.g. "1- 1ann 1ann2"
        bool empty;
    } cases[] = {
        {"", NULL, NULL, "1- 1ann 1ann2 2- 2ann 2ann2 3- 3ann 3ann2 ", false},
        {"ann", NULL, NULL, "1ann 2ann 3ann ", false},
        {"", "mail", NULL, "2- 2ann 2ann2 ", false},
        {"ann", "mail", "work", "2ann 3ann ", false},
        {"ann2", "work", "nowhere", "3ann2 ", false},
        {"ann", "nowhere", "elsewhere", "", true}, // not there: it does not mean all
        {"ann", "work", "work", "3ann ", false},
        {"an", NULL, NULL, "", false},
    };
    static const char *const owners[] = {"", "ann", "ann2"};
    struct engine *engine = engine_of(names, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scope *scope = scope_of(cases[i].owner, cases[i].a, cases[i].b);
        const struct reach reach = reach_of(scope, engine);
        char has[256] = "";
        size_t len = 0;
        for (int64_t queue = 1; queue <= 3; queue++) {
            for (size_t o = 0; o < 3; o++) {
                if (reach_has(&reach, queue, owners[o])) {
                    len += (size_t)snprintf(has + len, sizeof has - len, "%d%s ", (int)queue,
                                            o > 0 ? owners[o] : "-");
                }
            }
        }
        cr_assert_str_eq(has, cases[i].has, "case %zu", i);
        cr_assert_eq(reach_empty(&reach), cases[i].empty, "case %zu", i);
        free(scope);
    }
    engine_free(engine);
}

Test(reach, no_scope_is_everything)
{
    static const char *const names[] = {"default", NULL};
    struct engine *engine = engine_of(names, 1);
    struct reach reach = reach_of(NULL, engine);
    cr_assert(reach_has(&reach, 7, "") && reach_has(&reach, 1, "ann") && !reach_empty(&reach));
    cr_assert(reach_has(NULL, 7, "") && reach_has(NULL, 1, "ann"));
    reach_narrow(&reach, 1);
    cr_assert(reach_has(&reach, 1, "ann") && !reach_has(&reach, 7, "ann"));
    engine_free(engine);
}

// Another queue of the same name is another queue.
Test(reach, a_deleted_queue_is_in_none)
{
    static const char *const names[] = {"work", NULL};
    struct scope *scope = scope_of("", "work", NULL);
    struct engine *engine = engine_of(names, 4);
    engine_remove_queue(engine, 4);
    struct reach reach = reach_of(scope, engine);
    cr_assert(reach_empty(&reach) && !reach_has(&reach, 4, ""));
    engine_free(engine);
    engine = engine_of(names, 5);
    reach = reach_of(scope, engine);
    cr_assert(reach_has(&reach, 5, "") && !reach_has(&reach, 4, ""));
    engine_free(engine);
    free(scope);
}
