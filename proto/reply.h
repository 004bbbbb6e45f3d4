// reply.h - reply lines: written by the scheduler, taken apart by the gateway. Pure; any thread.
//
// A good reply is `{"ok":true}` or `{"ok":true,MEMBERS}`, an error `{"error":{"code":"…","message":"…"}}`.
#ifndef SLUICE_PROTO_REPLY_H
#define SLUICE_PROTO_REPLY_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/id.h"
#include "proto/words.h"

// Each appends one line with its newline.
void reply_error(struct buf *out, enum err err, const char *message);
// As reply_error, for a deadline that cannot be met, with the moment that could: `"eta"` beside the message.
void reply_unreachable(struct buf *out, const char *message, struct wall eta);
void reply_ping(struct buf *out);
void reply_ingest(struct buf *out, const struct id *ingestion, bool replayed);

// The reply to `metrics`.
void reply_metrics(struct buf *out, const struct buf *text);

// For bigger replies: reply_open writes `{"ok":true`, the caller appends `,"name":value` pairs, reply_close
// adds `}\n`.
void reply_open(struct buf *out);
void reply_close(struct buf *out);

// A reply line taken apart. The pointers borrow from the line.
struct reply {
    bool ok;
    const char *members; // ok: what follows `{"ok":true`, up to and including the closing brace
    size_t members_len;
    struct fault fault;       // not ok: the error it carried (ERR_INTERNAL for an unknown code)
    char eta[WALL_TEXT_SIZE]; // not ok: its "eta", "" when there is none
};
// ERR_INTERNAL when the line is no reply at all.
MUST_CHECK enum err reply_parse(const char *line, size_t len, struct reply *reply);
// The members of an ingest reply. ERR_INTERNAL when they are not there.
MUST_CHECK enum err reply_parse_ingest(const struct reply *reply, struct id *ingestion, bool *replayed);

// Appends the text of a metrics reply. ERR_INTERNAL when it is not there; ERR_NO_MEMORY.
MUST_CHECK enum err reply_parse_metrics(const struct reply *reply, struct buf *text);

// The next line of a message of lines: returns its start and sets *len (without the newline), or NULL at the
// end. *at starts as 0. A last line without a newline counts.
const char *lines_next(const char *message, size_t message_len, size_t *at, size_t *len);

#endif
