// progress.h - how far an ingestion is, as a bar that stays on its line, or as plain lines where there is no
// terminal.
#ifndef SLUICE_CLI_PROGRESS_H
#define SLUICE_CLI_PROGRESS_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "proto/words.h"

#include <stdio.h>

// What a reply says of an ingestion.
struct figures {
    enum status status;
    uint64_t total, yet_to_start, triggered, completed, failed, cancelled;
    bool has_position, has_eta;
    uint64_t position;
    struct wall eta;
};
// False when it is no reply of that kind.
bool figures_read(const cJSON *reply, struct figures *figures);
// All its batches are in a final state.
bool figures_final(const struct figures *figures);
// The exit code that stands for the fate of one that is final: 0, EXIT_CODE_FAILED or EXIT_CODE_CANCELLED.
int figures_fate(const struct figures *figures);

// One line without its newline, `width` characters at most: with a bar, where there is room for one.
// Pure.
void progress_write(const struct figures *figures, struct wall now, size_t width, struct buf *out);

struct progress {
    FILE *to;         // NULL: nobody is told
    bool live;        // a terminal: one line, written over and over
    const char *name; // in front of plain lines
    struct mono said_at;
    unsigned said_percent; // of the last plain line
    enum status said_status;
    bool any; // there is something on the line
};
// name: borrowed. to: NULL for none.
void progress_init(struct progress *progress, FILE *to, const char *name);
// A bar is written anew; a plain line comes when the status or the percentage changed, once a second at the
// most.
void progress_show(struct progress *progress, const struct figures *figures, struct wall now, struct mono at);
// The last figures in any case, and the end of the line.
void progress_end(struct progress *progress, const struct figures *figures, struct wall now);
// Only the end of the line, before something else is said.
void progress_break(struct progress *progress);

// "3m12s", "2h05m", "1d03h", "0s"; two units at the most, rounded up to the smaller.
#define SPAN_TEXT_SIZE 24
void span_format(int64_t ms, char text[static SPAN_TEXT_SIZE]);

#endif
