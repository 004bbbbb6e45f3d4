// http_client.h - one HTTP request and its whole answer, for tests. Any thread.
#ifndef SLUICE_TESTS_SUPPORT_HTTP_CLIENT_H
#define SLUICE_TESTS_SUPPORT_HTTP_CLIENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct http_request {
    const char *method; // NULL: GET, or POST when there is a body
    const char *url;
    const char *const *headers; // "Name: value", NULL at its end; NULL: Content-Type: application/json
    const char *body;
    size_t body_len; // 0: up to the NUL
};

struct http_response {
    long status;   // 0: no whole answer came
    char *headers; // of the last header block, as they came
    char *body;    // NUL-terminated
    size_t len;
    cJSON *json; // the body, if it is JSON
};

struct http_response http_send(const struct http_request *request);
void http_response_fini(struct http_response *response);
// A header's value (its name in any case); false when it is not there or does not fit.
bool http_response_header(const struct http_response *response, const char *name, char *value, size_t size);

// A member that must be there. Only where a test may fail: on its main thread.
const cJSON *json_member(const cJSON *object, const char *name);
const char *json_text(const cJSON *object, const char *name);
double json_number(const cJSON *object, const char *name);

#endif
