// http_target_fixture.h - targets whose first is a real server on the loopback.
#ifndef SLUICE_TESTS_UNIT_HTTP_TARGET_FIXTURE_H
#define SLUICE_TESTS_UNIT_HTTP_TARGET_FIXTURE_H

#include "tests/support/http_target.h"
#include "tests/unit/target_fixture.h"

static inline struct http_target *begin_with_server(struct fixture *f)
{
    struct http_target *server = http_target_start(0);

    cr_assert_not_null(server);
    begin(f, http_target_url(server));
    return server;
}

static inline void end_with_server(struct fixture *f, struct http_target *server)
{
    end(f);
    http_target_stop(server);
}

#endif
