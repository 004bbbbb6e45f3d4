// fields.h - the members of a request: read one by one from a JSON object, with errors that name them, and
// written, those of replies as well. Pure; any thread.
//
// A path is a member's name, or "group.name" for a member of the object that is the member `group`. Where
// there is no such member, a reader leaves its output alone and says ERR_OK; a `null` is a value of the wrong
// type.
#ifndef SLUICE_PROTO_FIELDS_H
#define SLUICE_PROTO_FIELDS_H

#include "common/buf.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/json.h"
#include "proto/words.h"

// ---- reading: ERR_INVALID_FIELD, which names the member and says what is allowed ----

// What stands at the path, or NULL.
const cJSON *field_find(const cJSON *object, const char *path);
// The fault for a member that is required and not there.
enum err field_missing(const char *path, struct fault *fault);

// The text is borrowed from the object.
MUST_CHECK enum err field_string(const cJSON *object, const char *path, const char **text,
                                 struct fault *fault);
MUST_CHECK enum err field_bool(const cJSON *object, const char *path, bool *value, struct fault *fault);
MUST_CHECK enum err field_u32(const cJSON *object, const char *path, uint32_t min, uint32_t max,
                              uint32_t *value, struct fault *fault);
MUST_CHECK enum err field_u64(const cJSON *object, const char *path, uint64_t min, uint64_t max,
                              uint64_t *value, struct fault *fault);
// A string such as "250ms" or "2m".
MUST_CHECK enum err field_duration(const cJSON *object, const char *path, int64_t min_ns, int64_t max_ns,
                                   int64_t *ns, struct fault *fault);
// A date and time of RFC 3339. Never ms 0, which stands for none: the moment 0 becomes 1.
MUST_CHECK enum err field_time(const cJSON *object, const char *path, struct wall *t, struct fault *fault);
// *found says whether it is there.
MUST_CHECK enum err field_uuid(const cJSON *object, const char *path, bool *found, struct id *id,
                               struct fault *fault);
MUST_CHECK enum err field_queue(const cJSON *object, const char *path, bool *found,
                                char queue[static QUEUE_NAME_SIZE], struct fault *fault);
MUST_CHECK enum err field_priority(const cJSON *object, const char *path, bool *found,
                                   enum priority *priority, struct fault *fault);

// ---- writing: each with a comma in front ----

void field_put_string(struct buf *out, const char *name, const char *text);
void field_put_bool(struct buf *out, const char *name, bool value);
void field_put_integer(struct buf *out, const char *name, uint64_t value);
void field_put_null(struct buf *out, const char *name);
void field_put_duration(struct buf *out, const char *name, int64_t ns);
void field_put_time(struct buf *out, const char *name, struct wall t);
void field_put_uuid(struct buf *out, const char *name, const struct id *id);

#endif
