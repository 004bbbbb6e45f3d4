// target_http.h - deliveries by POST over HTTP/1.1 with kept connections: "http://..." or "https://...". One
// thread for all targets; what it does for an event does not depend on how many there are, so that a target
// that hangs or is down disturbs no other.
//
// The environment is heeded as users of curl expect: http_proxy, https_proxy, no_proxy, CURL_CA_BUNDLE,
// SSL_CERT_FILE, SSL_CERT_DIR.
#ifndef SLUICE_SCHEDULER_TARGET_HTTP_H
#define SLUICE_SCHEDULER_TARGET_HTTP_H

#include "scheduler/target_kind.h"

extern const struct target_kind target_http;

// Ends the thread and drops what is running. NULL is fine.
// Its thread has ended after this, and posts nothing any more; http_stop does so, too.
void http_halt(struct http *http);
void http_stop(struct http *http);

#endif
