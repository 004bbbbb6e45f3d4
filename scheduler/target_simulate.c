#include "scheduler/target_simulate.h"

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
    struct inbox *inbox;
    struct plan plan;
    // Running deliveries, linked by their items. All take equally long, so the order of their starts is that
    // of their ends.
    struct inbox_item *first;
    struct inbox_item *last;
};

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

static enum err read_plan(const char *text, struct plan *plan, struct fault *fault)
{
    if (parse_plan(text, plan)) {
        return ERR_OK;
    }
    return fault_set(
        fault, ERR_INVALID_FIELD,
        "target '%.80s' is not simulate:DURATION[,fail=SHARE][,seed=N] with a duration such as 1500ms, a "
        "share from 0 to 1 and a whole number",
        text);
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

static void simulate_start(struct target *target, struct delivery *delivery)
{
    struct simulate *simulate = (struct simulate *)target;

    delivery_begin(delivery, simulate->inbox);
    delivery->item.next = NULL;
    if (simulate->first) {
        simulate->last->next = &delivery->item;
    } else {
        simulate->first = &delivery->item;
    }
    simulate->last = &delivery->item;
}

static void simulate_end(struct simulate *simulate, struct delivery *delivery)
{
    const struct plan *plan = &simulate->plan;

    if (hash_attempt(plan->seed, &delivery->batch, delivery->attempt) % SHARE_WHOLE < plan->fail_share) {
        delivery_explain(delivery, "simulated failure");
        delivery_end(delivery, OUTCOME_RETRY, simulate->inbox);
    } else {
        delivery_end(delivery, OUTCOME_COMPLETED, simulate->inbox);
    }
}

static struct mono simulate_run(struct target *target, struct mono now)
{
    struct simulate *simulate = (struct simulate *)target;

    while (simulate->first) {
        struct delivery *delivery = delivery_of(simulate->first);
        struct mono due = mono_add(delivery->started, simulate->plan.duration_ns);
        if (mono_before(now, due)) {
            return due;
        }
        simulate->first = simulate->first->next;
        simulate_end(simulate, delivery);
    }
    return MONO_NEVER;
}

static void simulate_free(struct target *target)
{
    struct simulate *simulate = (struct simulate *)target;

    while (simulate->first) {
        struct delivery *delivery = delivery_of(simulate->first);
        simulate->first = simulate->first->next;
        delivery_free(delivery);
    }
    free(simulate);
}

static const struct target_ops simulate_ops = {simulate_start, simulate_run, simulate_free};

enum err target_simulate_check(const char *text, struct fault *fault)
{
    struct plan plan;

    return read_plan(text, &plan, fault);
}

enum err target_simulate_new(const char *text, struct inbox *inbox, struct target **target,
                             struct fault *fault)
{
    struct plan plan;
    enum err err = read_plan(text, &plan, fault);

    if (err != ERR_OK) {
        return err;
    }
    struct simulate *simulate = calloc(1, sizeof(*simulate));
    if (!simulate) {
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a target");
    }
    simulate->target = (struct target){&simulate_ops, plan.duration_ns};
    simulate->inbox = inbox;
    simulate->plan = plan;
    *target = &simulate->target;
    return ERR_OK;
}
