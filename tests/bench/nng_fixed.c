// The ceiling: NNG's own HTTP server, which gives every POST, and every GET, the same answer and does nothing
// else.
//
//   nng_fixed http://127.0.0.1:PORT [GET_BYTES]     serves until its standard input ends
//
// GET_BYTES: how long the answer to a GET is.
#include <nng/nng.h>
#include <nng/supplemental/http/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GET_BYTES_MAX 65536

static const char post_answer[] = "{\"ingestion_id\":\"00000000-0000-0000-0000-000000000000\"}";

struct answer {
    const char *text;
    size_t len;
};

static void handle(nng_aio *aio)
{
    const struct answer *answer = nng_http_handler_get_data(nng_aio_get_input(aio, 1));
    nng_http_res *res = NULL;
    int rv = nng_http_res_alloc(&res);
    if (rv == 0) {
        rv = nng_http_res_set_data(res, answer->text, answer->len);
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

static int add(nng_http_server *server, const char *method, const char *path, const struct answer *answer)
{
    nng_http_handler *handler = NULL;
    int rv = nng_http_handler_alloc(&handler, path, handle);
    if (rv == 0) {
        rv = nng_http_handler_set_method(handler, method);
    }
    if (rv == 0) {
        rv = nng_http_handler_collect_body(handler, true, 1 << 20);
    }
    if (rv == 0) {
        rv = nng_http_handler_set_tree(handler);
    }
    if (rv == 0) {
        union {
            const struct answer *answer;
            void *data; // NNG does not touch it
        } with = {.answer = answer};
        rv = nng_http_handler_set_data(handler, with.data, NULL);
    }
    return rv == 0 ? nng_http_server_add_handler(server, handler) : rv;
}

static int serve(const char *text, const struct answer *post, const struct answer *get)
{
    nng_url *url = NULL;
    nng_http_server *server = NULL;
    int rv = nng_url_parse(&url, text);
    if (rv == 0) {
        rv = nng_http_server_hold(&server, url);
    }
    if (rv == 0) {
        rv = add(server, "POST", "/ingest", post);
    }
    if (rv == 0) {
        rv = add(server, "GET", "/status", get);
    }
    if (rv == 0) {
        rv = nng_http_server_start(server);
    }
    return rv;
}

// A JSON string of that many bytes.
static const char *filler(size_t len)
{
    static char text[GET_BYTES_MAX];
    memset(text, '0', len);
    text[0] = text[len - 1] = '"';
    return text;
}

int main(int argc, char **argv)
{
    size_t len = argc == 3 ? strtoul(argv[2], NULL, 10) : sizeof post_answer - 1;
    if (argc < 2 || argc > 3 || len < 2 || len > GET_BYTES_MAX) {
        fprintf(stderr, "usage: nng_fixed http://HOST:PORT [GET_BYTES]\n");
        return 64;
    }
    struct answer post = {post_answer, sizeof post_answer - 1}, get = {filler(len), len};
    int rv = serve(argv[1], &post, &get);
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
