// target_kind.h - what a kind of target is made of: for target.c and the kinds themselves. The loop's thread.
#ifndef SLUICE_SCHEDULER_TARGET_KIND_H
#define SLUICE_SCHEDULER_TARGET_KIND_H

#include "scheduler/target.h"

struct http; // target_http.c
struct exec; // target_exec.c

// The machinery that all targets of a kind share.
struct targets {
    struct inbox *inbox;
    size_t open;          // targets that are held by anybody
    struct heap simulate; // simulated deliveries by their ends
    struct http *http;    // NULL until a target needs it
    struct exec *exec;    // the same
};

struct target_kind {
    // ERR_INVALID_FIELD with the reason, ERR_NO_MEMORY.
    enum err (*check)(const char *text, struct fault *fault);
    // Of a text that was checked: allocates the object that starts with a zeroed `struct target`; at most
    // expected_ns is set in it. ERR_NO_MEMORY, ERR_INTERNAL.
    enum err (*open)(struct targets *targets, const char *text, const char *headers, struct target **target,
                     struct fault *fault);
    // Frees the object. Nobody holds it any more.
    void (*close)(struct target *target);
    void (*start)(struct delivery *delivery);
};

#endif
