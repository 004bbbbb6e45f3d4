// Decoding and encoding: backup.
#include "proto/fields.h"
#include "proto/request_ops.h"

#include <string.h>

enum err backup_decode(const struct source *source, struct request *request, struct fault *fault)
{
    const cJSON *root = source->json.root;
    const char *path = NULL;
    bool has_id = false;
    enum err err = field_uuid(root, "id", &has_id, &request->backup.id, fault);
    if (!err) {
        err = field_string(root, "path", &path, fault);
    }
    if (err) {
        return err;
    }
    if (!has_id || !path) {
        return field_missing(has_id ? "path" : "id", fault);
    }
    if (path[0] != '/' || strlen(path) > BACKUP_PATH_MAX) {
        return fault_set(fault, ERR_INVALID_FIELD, "path must begin with / and have at most %u bytes",
                         BACKUP_PATH_MAX);
    }
    request->backup.path = strdup(path);
    return request->backup.path ? ERR_OK : fault_set(fault, ERR_NO_MEMORY, "out of memory");
}

void backup_encode(const struct request *request, struct buf *out)
{
    field_put_uuid(out, "id", &request->backup.id);
    field_put_string(out, "path", request->backup.path);
}
