#include "scheduler/target_exec.h"

#include "scheduler/target_program.h"
#include "scheduler/target_thread.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 64
#define PREFIX "exec:"

struct exec {
    struct target_thread thread;
    struct inbox *inbox;

    // The thread's alone.
    struct program *running;
    struct program *ended; // reaped, and to be settled when no event can name them any more
    struct heap deadlines;
};

// ---- programs ----

static void link_running(struct exec *exec, struct program *program)
{
    program->prev = NULL;
    program->next = exec->running;
    if (exec->running) {
        exec->running->prev = program;
    }
    exec->running = program;
}

static void unlink_running(struct exec *exec, struct program *program)
{
    if (program->prev) {
        program->prev->next = program->next;
    } else {
        exec->running = program->next;
    }
    if (program->next) {
        program->next->prev = program->prev;
    }
    if (program->deadline.at != 0) {
        heap_remove(&exec->deadlines, &program->deadline);
    }
}

static void start_delivery(void *user, struct delivery *delivery)
{
    struct exec *exec = user;
    struct program *program = program_new(delivery, exec->thread.epoll);

    delivery_begin(delivery, exec->inbox);
    if (!program || heap_insert(&exec->deadlines, &program->deadline,
                                mono_add(delivery->started, delivery->timeout_ns).ns) != ERR_OK) {
        program_free(program);
        delivery_explain(delivery, "no memory for the delivery");
        delivery_end(delivery, OUTCOME_RETRY, exec->inbox);
        return;
    }
    link_running(exec, program);
    if (program_start(program, target_text(delivery->target) + strlen(PREFIX)) != ERR_OK) {
        unlink_running(exec, program);
        program_free(program);
        delivery->outcome.down = true;
        delivery_end(delivery, OUTCOME_RETRY, exec->inbox);
    }
}

static void act_on_events(struct exec *exec)
{
    const struct heap_node *first = heap_top(&exec->deadlines);
    struct epoll_event events[EVENTS_MAX];
    struct mono wake = {first ? first->key : MONO_NEVER.ns};
    int count = target_thread_wait(&exec->thread, events, EVENTS_MAX, wake);

    for (int i = 0; i < count; i++) {
        struct watch *watch = events[i].data.ptr;
        if (watch && program_act(watch)) {
            unlink_running(exec, watch->program);
            watch->program->next = exec->ended;
            exec->ended = watch->program;
        }
    }
}

static void settle_ended(struct exec *exec)
{
    while (exec->ended) {
        struct program *program = exec->ended;
        struct delivery *delivery = program->delivery;
        exec->ended = program->next;
        enum outcome_class class = program_judge(program);
        program_free(program);
        delivery_end(delivery, class, exec->inbox);
    }
}

static void kill_overdue(struct exec *exec)
{
    const struct mono now = mono_now();
    struct heap_node *first;

    while ((first = heap_top(&exec->deadlines)) && first->key <= now.ns) {
        heap_remove(&exec->deadlines, first);
        program_time_out(container_of(first, struct program, deadline));
    }
}

static void *exec_main(void *arg)
{
    struct exec *exec = arg;

    target_thread_block_signals();
    while (target_thread_goes_on(&exec->thread)) {
        act_on_events(exec);
        settle_ended(exec);
        kill_overdue(exec);
        target_thread_take(&exec->thread, start_delivery, exec);
    }
    return NULL;
}

// ---- the machinery ----

// The thread has ended, or never ran.
static void exec_destroy(struct exec *exec)
{
    for (struct program *program = exec->running; program; program = program->next) {
        program_time_out(program); // all at once, so that they end side by side
    }
    while (exec->running) {
        struct program *program = exec->running;
        struct delivery *delivery = program->delivery;
        unlink_running(exec, program);
        program_free(program);
        delivery_free(delivery);
    }
    heap_fini(&exec->deadlines);
    target_thread_fini(&exec->thread);
    free(exec);
}

// Where our parent had it ignored, the kernel would reap the programs and their exit codes were lost.
static void heed_children(void)
{
    struct sigaction action;

    if (sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN) {
        action = (struct sigaction){.sa_handler = SIG_DFL};
        (void)sigaction(SIGCHLD, &action, NULL);
    }
}

static enum err exec_begin(struct inbox *inbox, struct exec **exec, struct fault *fault)
{
    struct exec *made = calloc(1, sizeof(*made));

    if (!made) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    made->inbox = inbox;
    heap_init(&made->deadlines);
    heed_children();
    if (target_thread_init(&made->thread) != ERR_OK ||
        target_thread_start(&made->thread, exec_main, made) != ERR_OK) {
        exec_destroy(made);
        return fault_set(fault, ERR_INTERNAL, "no descriptor, memory or thread for exec targets");
    }
    *exec = made;
    return ERR_OK;
}

void exec_halt(struct exec *exec)
{
    if (exec) {
        target_thread_stop(&exec->thread);
    }
}

void exec_stop(struct exec *exec)
{
    if (exec) {
        exec_halt(exec);
        exec_destroy(exec);
    }
}

// ---- the kind ----

static enum err check(const char *text, struct fault *fault)
{
    assert(strncmp(text, PREFIX, strlen(PREFIX)) == 0);
    if (text[strlen(PREFIX)] == '/') {
        return ERR_OK;
    }
    return fault_set(fault, ERR_INVALID_FIELD,
                     "target '%.80s' is not exec:PATH with an absolute path such as /usr/bin/deliver", text);
}

static enum err open_target(struct targets *targets, const char *text, const char *headers,
                            struct target **target, struct fault *fault)
{
    (void)text, (void)headers;
    if (!targets->exec) {
        enum err err = exec_begin(targets->inbox, &targets->exec, fault);
        if (err != ERR_OK) {
            return err;
        }
    }
    *target = calloc(1, sizeof(**target));
    return *target ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
}

static void close_target(struct target *target)
{
    free(target);
}

static void start(struct delivery *delivery)
{
    target_thread_hand(&delivery->target->targets->exec->thread, delivery);
}

const struct target_kind target_exec = {check, open_target, close_target, start};
