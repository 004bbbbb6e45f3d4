#include "scheduler/schedule.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int compare(const struct backoff_row *a, const struct backoff_row *b)
{
    if (a->due.ns != b->due.ns) {
        return a->due.ns < b->due.ns ? -1 : 1;
    }
    const struct place *p = &a->key.place;
    const struct place *q = &b->key.place;
    if (p->seq != q->seq) {
        return p->seq < q->seq ? -1 : 1;
    }
    return p->index < q->index ? -1 : p->index > q->index;
}

void schedule_init(struct schedule *schedule)
{
    *schedule = (struct schedule){.horizon = {.due = {INT64_MIN}}};
}

void schedule_fini(struct schedule *schedule)
{
    free(schedule->rows);
    schedule_init(schedule);
}

const struct backoff_row *schedule_first(const struct schedule *schedule)
{
    return schedule->len > 0 ? &schedule->rows[schedule->head] : NULL;
}

void schedule_take_first(struct schedule *schedule)
{
    assert(schedule->len > 0);
    schedule->head++;
    schedule->len--;
}

static enum err make_room(struct schedule *schedule)
{
    if (schedule->head + schedule->len < schedule->cap) {
        return ERR_OK;
    }
    if (schedule->head > 0) {
        memmove(schedule->rows, schedule->rows + schedule->head, schedule->len * sizeof *schedule->rows);
        schedule->head = 0;
        return ERR_OK;
    }
    size_t cap = schedule->cap == 0 ? 16 : schedule->cap * 2;
    struct backoff_row *rows = realloc(schedule->rows, cap * sizeof *rows);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    schedule->rows = rows;
    schedule->cap = cap;
    return ERR_OK;
}

enum err schedule_add(struct schedule *schedule, const struct backoff_row *row)
{
    if (!schedule->complete && compare(row, &schedule->horizon) > 0) {
        return ERR_OK;
    }
    enum err err = make_room(schedule);
    if (err != ERR_OK) {
        return err;
    }
    struct backoff_row *rows = schedule->rows + schedule->head;
    size_t low = 0;
    size_t high = schedule->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(&rows[middle], row) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    memmove(rows + low + 1, rows + low, (schedule->len - low) * sizeof *rows);
    rows[low] = *row;
    schedule->len++;
    if (schedule->len > SCHEDULE_MAX) {
        schedule->len--;
        schedule->complete = false;
        schedule->horizon = rows[schedule->len - 1];
    }
    return ERR_OK;
}

bool schedule_wants(const struct schedule *schedule)
{
    return !schedule->complete && schedule->len < SCHEDULE_LOW;
}

enum err schedule_give(struct schedule *schedule, const struct backoff_row *rows, size_t count, size_t asked)
{
    for (size_t i = 0; i < count; i++) {
        enum err err = make_room(schedule);
        if (err != ERR_OK) {
            return err;
        }
        schedule->rows[schedule->head + schedule->len++] = rows[i];
        schedule->horizon = rows[i];
    }
    schedule->complete = count < asked;
    return ERR_OK;
}
