// verify_attempts.c - the dispatches of each batch, one after another, beside its row: each began after the
// one before it had ended, they are counted from 1 without a gap (again from 1 after a retry by hand), and
// the row knows the last of them.
#include "scheduler/verify_check.h"

// Both in the order of batches; columns seq and idx first.
static const char dispatches[] =
    "SELECT seq, idx, id, queue, attempt, since, ended FROM history WHERE seq > 0 "
    "ORDER BY seq, idx, id";
static const char batches[] = "SELECT seq, idx, queue, state, attempts, ended FROM batch ORDER BY seq, idx";

struct attempt {
    int64_t entry; // 0: none
    int64_t number;
};

static int compare(sqlite3_stmt *stmt, int64_t seq, int64_t index)
{
    int64_t s = sqlite3_column_int64(stmt, 0);
    int64_t i = sqlite3_column_int64(stmt, 1);
    return s != seq ? (s < seq ? -1 : 1) : (i > index) - (i < index);
}

// One dispatch after the one before it.
static void check_dispatch(struct verify *v, sqlite3_stmt *stmt, struct about about, struct attempt *last)
{
    int64_t entry = sqlite3_column_int64(stmt, 2);
    int64_t number = sqlite3_column_int64(stmt, 4);
    int64_t since = sqlite3_column_int64(stmt, 5);
    int64_t ended = sqlite3_column_int64(stmt, 6);
    bool first = last->entry == 0;
    if (first ? number != 1 && v->first_entry == 1 : number != 1 && number != last->number + 1) {
        violation(v, VERIFY_ATTEMPTS, about, "entry %lld is attempt %lld, after attempt %lld",
                  (long long)entry, (long long)number, (long long)last->number);
    }
    if (first ? ended != 0 && v->first_entry == 1 : ended < last->entry) {
        violation(v, VERIFY_ATTEMPTS, about, "entry %lld: dispatched again before entry %lld had ended",
                  (long long)entry, (long long)last->entry);
    } else if (ended > since || since >= entry) {
        violation(v, VERIFY_ATTEMPTS, about, "entry %lld: it ended at %lld and waits since %lld",
                  (long long)entry, (long long)ended, (long long)since);
    }
    *last = (struct attempt){entry, number};
}

// The row after its last dispatch.
static void check_row(struct verify *v, sqlite3_stmt *stmt, struct about about, const struct attempt *last)
{
    int64_t state = sqlite3_column_int64(stmt, 3);
    int64_t attempts = sqlite3_column_int64(stmt, 4);
    int64_t ended = sqlite3_column_int64(stmt, 5);
    if (last->entry == 0) {
        if (attempts > 0 && v->first_entry == 1) {
            violation(v, VERIFY_ATTEMPTS, about, "%lld attempts are counted, and none is in the history",
                      (long long)attempts);
        }
        return;
    }
    if (attempts != last->number && attempts != 0) { // none after a retry by hand
        violation(v, VERIFY_ATTEMPTS, about, "%lld attempts are counted, entry %lld is attempt %lld",
                  (long long)attempts, (long long)last->entry, (long long)last->number);
    }
    if (state == BATCH_IN_FLIGHT ? ended != 0 : ended < last->entry) {
        violation(v, VERIFY_ATTEMPTS, about, "state %lld, and the end of entry %lld is at %lld",
                  (long long)state, (long long)last->entry, (long long)ended);
    }
}

static void check_missing(struct verify *v, sqlite3_stmt *ingestions, struct about about)
{
    sqlite3_reset(ingestions);
    sqlite3_bind_int64(ingestions, 1, about.seq);
    if (sqlite3_step(ingestions) == SQLITE_ROW) { // it was not removed
        violation(v, VERIFY_ATTEMPTS, about, "it was dispatched, and has no row");
    }
}

// All dispatches of the batch that `entries` stands at; *more: whether there are others.
static enum err take_dispatches(struct verify *v, sqlite3_stmt *entries, struct about *about,
                                struct attempt *last, bool *more)
{
    enum err err = ERR_OK;
    *about = (struct about){sqlite3_column_int64(entries, 3), sqlite3_column_int64(entries, 0),
                            sqlite3_column_int64(entries, 1)};
    *last = (struct attempt){0};
    while (err == ERR_OK && *more && compare(entries, about->seq, about->index) == 0) {
        check_dispatch(v, entries, *about, last);
        err = verify_step(v, entries, more);
    }
    return err;
}

static enum err merge(struct verify *v, sqlite3_stmt *entries, sqlite3_stmt *rows, sqlite3_stmt *ingestions)
{
    static const struct attempt none = {0};
    bool entry = false;
    bool row = false;
    enum err err = verify_step(v, entries, &entry);
    if (err == ERR_OK) {
        err = verify_step(v, rows, &row);
    }
    while (err == ERR_OK && (entry || row)) {
        struct about about;
        struct attempt last;
        if (!entry ||
            (row && compare(rows, sqlite3_column_int64(entries, 0), sqlite3_column_int64(entries, 1)) < 0)) {
            about = (struct about){sqlite3_column_int64(rows, 2), sqlite3_column_int64(rows, 0),
                                   sqlite3_column_int64(rows, 1)};
            check_row(v, rows, about, &none);
            err = verify_step(v, rows, &row);
            continue;
        }
        err = take_dispatches(v, entries, &about, &last, &entry);
        if (row && compare(rows, about.seq, about.index) == 0) {
            check_row(v, rows, about, &last);
            err = err == ERR_OK ? verify_step(v, rows, &row) : err;
        } else {
            check_missing(v, ingestions, about);
        }
    }
    return err;
}

enum err verify_attempts(struct verify *v)
{
    enum err err;
    sqlite3_stmt *entries = verify_prepare(v, dispatches, &err);
    sqlite3_stmt *rows = entries != NULL ? verify_prepare(v, batches, &err) : NULL;
    sqlite3_stmt *ingestions =
        rows != NULL ? verify_prepare(v, "SELECT 1 FROM ingestion WHERE seq = ?1 AND id <> x''", &err) : NULL;
    if (ingestions != NULL) {
        err = merge(v, entries, rows, ingestions);
    }
    (void)sqlite3_finalize(entries);
    (void)sqlite3_finalize(rows);
    (void)sqlite3_finalize(ingestions);
    return err;
}
