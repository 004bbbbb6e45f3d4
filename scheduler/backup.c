#include "scheduler/backup.h"

#include "common/log.h"
#include "proto/fields.h"
#include "proto/reply.h"

#include <stdlib.h>
#include <string.h>

#define STEP_NS (1 * NS_PER_MS) // a dispatch is allowed to be later than that
#define PIECE_PAGES 8           // between two looks at the clock

void backup_init(struct backup *backup)
{
    *backup = (struct backup){.due = MONO_NEVER};
}

static void stop(struct backup *backup)
{
    store_copy_end(backup->copy);
    backup->copy = NULL;
    backup->due = MONO_NEVER;
}

void backup_fini(struct backup *backup)
{
    stop(backup);
    free(backup->path);
    backup_init(backup);
}

struct mono backup_wake(const struct backup *backup)
{
    return backup->due;
}

// ---- Steps ----

void backup_step(struct backup *backup)
{
    struct mono start = mono_now(), now = start;
    if (!backup->copy || mono_before(start, backup->due)) {
        return;
    }
    enum err err = ERR_OK;
    while (err == ERR_OK && !backup->copied.done && mono_diff(now, start) < STEP_NS) {
        err = store_copy_step(backup->copy, PIECE_PAGES, &backup->copied, &backup->fault);
        now = mono_now();
    }
    backup->due = mono_add(now, mono_diff(now, start));
    if (err != ERR_OK) {
        log_line(LOG_LEVEL_ERROR, "backup", "failed", "detail=%s",
                 log_quote(backup->fault.detail, &(struct log_text){0}));
        stop(backup);
    } else if (backup->copied.done) {
        log_line(LOG_LEVEL_INFO, "backup", "done", "path=%s pages=%llu",
                 log_quote(backup->path, &(struct log_text){0}), (unsigned long long)backup->copied.pages);
        stop(backup);
    }
}

// ---- Requests ----

static enum err begin(struct backup *backup, struct store *store, const struct backup_request *request,
                      struct fault *fault)
{
    if (backup->copy) {
        return fault_set(fault, ERR_OVERLOADED, "another backup is being made, to %s", backup->path);
    }
    char *path = strdup(request->path);
    struct store_copy *copy = NULL;
    if (!path) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    enum err err = store_copy_begin(store, path, &copy, fault);
    if (err != ERR_OK) {
        free(path);
        return err;
    }
    free(backup->path);
    backup->any = true;
    backup->id = request->id;
    backup->path = path;
    backup->copy = copy;
    backup->copied = (struct store_copied){0};
    backup->fault = (struct fault){.err = ERR_OK};
    backup->due = mono_now();
    log_line(LOG_LEVEL_INFO, "backup", "begun", "path=%s", log_quote(path, &(struct log_text){0}));
    return ERR_OK;
}

void backup_answer(struct backup *backup, struct store *store, const struct backup_request *request,
                   struct buf *out)
{
    struct fault fault = {.err = ERR_OK};
    bool known = backup->any && id_equal(&backup->id, &request->id);
    enum err err = known ? backup->fault.err : begin(backup, store, request, &fault);
    if (known) {
        fault = backup->fault;
    }
    if (err != ERR_OK) {
        reply_error(out, fault.err, fault.detail);
        return;
    }
    reply_open(out);
    field_put_string(out, "path", backup->path);
    field_put_bool(out, "done", backup->copied.done);
    field_put_integer(out, "pages", backup->copied.pages);
    field_put_integer(out, "pages_left", backup->copied.left);
    reply_close(out);
}
