// target_http.h - deliveries by POST over HTTP/1.1 with kept connections: one thread of its own for each
// target.
#ifndef SLUICE_SCHEDULER_TARGET_HTTP_H
#define SLUICE_SCHEDULER_TARGET_HTTP_H

#include "scheduler/target.h"

// "http://…" or "https://…". The environment is heeded as users of curl expect: http_proxy, https_proxy,
// no_proxy, CURL_CA_BUNDLE, SSL_CERT_FILE, SSL_CERT_DIR. Errors as target_check and target_new.
MUST_CHECK enum err target_http_check(const char *text, struct fault *fault);
MUST_CHECK enum err target_http_new(const char *text, struct inbox *inbox, struct target **target,
                                    struct fault *fault);

#endif
