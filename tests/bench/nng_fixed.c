// The ceiling: NNG's own HTTP server, which answers every POST with the same few bytes and does nothing else.
//
//   nng_fixed http://127.0.0.1:PORT     serves until its standard input ends
#include <nng/nng.h>
#include <nng/supplemental/http/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char answer[] = "{\"ingestion_id\":\"00000000-0000-0000-0000-000000000000\"}";

static void handle(nng_aio *aio)
{
    nng_http_res *res = NULL;
    int rv = nng_http_res_alloc(&res);
    if (rv == 0) {
        rv = nng_http_res_set_data(res, answer, sizeof answer - 1);
    }
    if (rv == 0) {
        rv = nng_http_res_set_header(res, "Content-Type", "application/json");
    }
    if (rv != 0) {
        nng_http_res_free(res);
        nng_aio_finish(aio, rv);
        return;
    }
    nng_aio_set_output(aio, 0, res);
    nng_aio_finish(aio, 0);
}

static int serve(const char *text)
{
    nng_url *url = NULL;
    nng_http_server *server = NULL;
    nng_http_handler *handler = NULL;
    int rv = nng_url_parse(&url, text);
    if (rv == 0) {
        rv = nng_http_server_hold(&server, url);
    }
    if (rv == 0) {
        rv = nng_http_handler_alloc(&handler, "/ingest", handle);
    }
    if (rv == 0) {
        rv = nng_http_handler_set_method(handler, "POST");
    }
    if (rv == 0) {
        rv = nng_http_handler_collect_body(handler, true, 1 << 20);
    }
    if (rv == 0) {
        rv = nng_http_server_add_handler(server, handler);
    }
    if (rv == 0) {
        rv = nng_http_server_start(server);
    }
    return rv;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: nng_fixed http://HOST:PORT\n");
        return EXIT_FAILURE;
    }
    int rv = serve(argv[1]);
    if (rv != 0) {
        fprintf(stderr, "nng_fixed: %s\n", nng_strerror(rv));
        return EXIT_FAILURE;
    }
    puts("ready");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    _exit(EXIT_SUCCESS); // its connections may still be open, and NNG's own end would wait for them
}
