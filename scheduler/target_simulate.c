#include "scheduler/target_simulate.h"

#include "common/container.h"
#include "common/units.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SHARE_WHOLE                                                                                          \
    UINT32_C(1000000000) // shares are kept in parts of it: exact, and the same on every machine

struct plan {
    int64_t duration_ns;
    uint32_t fail_share;
    uint64_t seed;
};

struct simulate {
    struct target target;
    struct plan plan;
};

// ---- the text ----

// "0", "1", "0.25", "1.0": from 0 to 1 with up to nine decimals.
static bool parse_share(const char *text, uint32_t *share)
{
    if (*text != '0' && *text != '1') {
        return false;
    }
    uint32_t value = (uint32_t)(*text++ - '0') * SHARE_WHOLE;
    if (*text == '.') {
        uint32_t unit = SHARE_WHOLE;
        text++;
        do {
            unit /= 10;
            if (unit == 0 || *text < '0' || *text > '9') {
                return false;
            }
            value += (uint32_t)(*text++ - '0') * unit;
        } while (*text != '\0');
    }
    if (*text != '\0' || value > SHARE_WHOLE) {
        return false;
    }
    *share = value;
    return true;
}

// One "name=value" after the duration; each name once.
static bool parse_option(const char *option, struct plan *plan, bool *has_fail, bool *has_seed)
{
    if (strncmp(option, "fail=", 5) == 0 && !*has_fail) {
        *has_fail = true;
        return parse_share(option + 5, &plan->fail_share);
    }
    if (strncmp(option, "seed=", 5) == 0 && !*has_seed) {
        *has_seed = true;
        return count_parse(option + 5, &plan->seed);
    }
    return false;
}

static bool parse_plan(const char *text, struct plan *plan)
{
    char copy[128];
    bool has_fail = false, has_seed = false;
    char *at = copy;
    size_t len;

    assert(strncmp(text, "simulate:", 9) == 0);
    text += 9;
    len = strlen(text);
    if (len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, len + 1);

    *plan = (struct plan){0};
    for (bool first = true; at; first = false) {
        char *part = strsep(&at, ",");
        bool good =
            first ? duration_parse(part, &plan->duration_ns) : parse_option(part, plan, &has_fail, &has_seed);
        if (!good) {
            return false;
        }
    }
    return true;
}

// FNV-1a over what names the attempt, then a finalizer, because the low bits of FNV alone are not even
// enough.
static uint64_t hash_attempt(uint64_t seed, const struct id *batch, uint32_t attempt)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ seed;

    for (size_t i = 0; i < sizeof(batch->bytes); i++) {
        hash = (hash ^ batch->bytes[i]) * UINT64_C(0x100000001b3);
    }
    hash = (hash ^ attempt) * UINT64_C(0x100000001b3);
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ (hash >> 33);
}

// ---- deliveries ----

static void start(struct delivery *delivery)
{
    struct targets *targets = delivery->target->targets;
    int64_t duration_ns = ((const struct simulate *)delivery->target)->plan.duration_ns;

    delivery_begin(delivery, targets->inbox);
    if (heap_insert(&targets->simulate, &delivery->due, mono_add(delivery->started, duration_ns).ns)) {
        delivery_explain(delivery, "no memory for the delivery");
        delivery_end(delivery, OUTCOME_RETRY, targets->inbox);
    }
}

static void end(struct delivery *delivery)
{
    const struct plan *plan = &((const struct simulate *)delivery->target)->plan;
    struct inbox *inbox = delivery->target->targets->inbox;

    if (hash_attempt(plan->seed, &delivery->batch, delivery->attempt) % SHARE_WHOLE < plan->fail_share) {
        delivery_explain(delivery, "simulated failure");
        delivery_end(delivery, OUTCOME_RETRY, inbox);
    } else {
        delivery_end(delivery, OUTCOME_COMPLETED, inbox);
    }
}

static struct delivery *take(struct heap *heap, struct heap_node *node)
{
    heap_remove(heap, node);
    return container_of(node, struct delivery, due);
}

struct mono simulate_run(struct targets *targets, struct mono now)
{
    struct heap_node *top;

    while ((top = heap_top(&targets->simulate))) {
        if (top->key > now.ns) {
            return (struct mono){top->key};
        }
        end(take(&targets->simulate, top));
    }
    return MONO_NEVER;
}

void simulate_stop(struct targets *targets)
{
    struct heap_node *top;

    while ((top = heap_top(&targets->simulate))) {
        delivery_free(take(&targets->simulate, top));
    }
    heap_fini(&targets->simulate);
}

// ---- the kind ----

static enum err check(const char *text, struct fault *fault)
{
    struct plan plan;

    if (parse_plan(text, &plan)) {
        return ERR_OK;
    }
    return fault_set(
        fault, ERR_INVALID_FIELD,
        "target '%.80s' is not simulate:DURATION[,fail=SHARE][,seed=N] with a duration such as 1500ms, a "
        "share from 0 to 1 and a whole number",
        text);
}

static enum err open_target(struct targets *targets, const char *text, const char *headers,
                            struct target **target, struct fault *fault)
{
    struct simulate *simulate = calloc(1, sizeof(*simulate));

    (void)targets, (void)headers;
    if (!simulate) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    bool good = parse_plan(text, &simulate->plan);
    assert(good);
    (void)good;
    simulate->target.expected_ns = simulate->plan.duration_ns;
    *target = &simulate->target;
    return ERR_OK;
}

static void close_target(struct target *target)
{
    free(target);
}

const struct target_kind target_simulate = {check, open_target, close_target, start};
