#include "cli/exit.h"

#include <string.h>

// What is not in it is a refusal that depends on how things stand.
static const struct {
    const char *code;
    int exit;
} exits[] = {
    {"malformed_json", EXIT_CODE_DATAERR},
    {"bad_request", EXIT_CODE_DATAERR},
    {"invalid_field", EXIT_CODE_DATAERR},
    {"id_out_of_range", EXIT_CODE_DATAERR},
    {"too_many_ids", EXIT_CODE_DATAERR},
    {"body_too_large", EXIT_CODE_DATAERR},
    {"id_reused", EXIT_CODE_DATAERR},
    {"idempotency_key_reused", EXIT_CODE_DATAERR},
    {"not_found", EXIT_CODE_NOINPUT},
    {"unknown_queue", EXIT_CODE_NOINPUT},
    {"overloaded", EXIT_CODE_TEMPFAIL},
    {"outcome_unknown", EXIT_CODE_TEMPFAIL},
    {"scheduler_unavailable", EXIT_CODE_UNAVAILABLE},
    {"storage_unavailable", EXIT_CODE_UNAVAILABLE},
    {"bad_reply", EXIT_CODE_PROTOCOL},
    {"too_many_requests", EXIT_CODE_TEMPFAIL},
    {"unauthorized", EXIT_CODE_NOPERM},
    {"forbidden", EXIT_CODE_NOPERM},
    {"internal", EXIT_CODE_SOFTWARE},
};

int exit_of_error(const char *code)
{
    for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++) {
        if (strcmp(exits[i].code, code) == 0) {
            return exits[i].exit;
        }
    }
    return EXIT_CODE_REFUSED;
}
