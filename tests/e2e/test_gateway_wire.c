// What the gateway makes of bytes: where a request ends, what is never taken for one, and what comes back.
// Each case is sent as the first of its connection, which NNG reads, and behind another request, which we
// read.
#include "gw_fixture.h"

TestSuite(gateway_wire, .timeout = 60);

#define H "Host: h\r\n"
#define GET "GET /healthz HTTP/1.1\r\n" H
#define POST "POST /ingest HTTP/1.1\r\n" H
#define OTHER GET "\r\n" // must not be answered where its bytes are no request

// What answers a case: one status a word, "" when the connection just ends. "h": an answer to HEAD, which has
// no body; "n": a page of NNG's own. A connection that is not closed by us answers the last request, which
// the test adds: "+".
struct wire_case {
    const char *bytes;
    const char *first;
    const char *later; // NULL: the same
};

// ---- To read what came ----

static struct buf read_all(int fd)
{
    struct buf all;
    char *room;
    ssize_t n;
    buf_init(&all);
    while ((room = buf_room(&all, 4096)) && (n = recv(fd, room, 4096, 0)) > 0) {
        buf_grew(&all, (size_t)n);
    }
    buf_char(&all, '\0');
    cr_assert_eq(buf_err(&all), ERR_OK);
    return all;
}

static bool head_has(const char *head, const char *end, const char *text)
{
    const char *at = strcasestr(head, text);
    return at && at < end;
}

// What every answer of ours has, and what none has.
static void expect_usual_headers(const char *head, const char *end, int status, const char *what)
{
    char problem[32];
    static const char *const always[] = {
        "\r\nDate: ", "\r\nContent-Length: ", "\r\nCache-Control: no-store\r\n",
        "\r\nX-Content-Type-Options: nosniff\r\n"};
    static const char *const never[] = {"\r\nServer:", "\r\nX-Powered-By:", "\r\nSet-Cookie:", "charset",
                                        "\r\nTransfer-Encoding:"};
    for (size_t i = 0; i < COUNT(always); i++)
        cr_expect(head_has(head, end, always[i]), "%s -> %.*s", what, (int)(end - head), head);
    for (size_t i = 0; i < COUNT(never); i++)
        cr_expect_not(head_has(head, end, never[i]), "%s -> %.*s", what, (int)(end - head), head);
    cr_expect(head_has(head, end,
                       status == 200 ? "\r\nContent-Type: application/json\r\n"
                                     : "\r\nContent-Type: application/problem+json\r\n"),
              "%s -> %.*s", what, (int)(end - head), head);
    cr_expect_eq(head_has(head, end, "\r\nAllow: "), status == 405, "%s", what);
    cr_expect_eq(head_has(head, end, "\r\nRetry-After: "), status == 429 || status == 503, "%s", what);
    cr_assert(snprintf(problem, sizeof(problem), "\"status\":%d,", status) > 0);
    const char *body = end + 4;
    cr_expect(status == 200 || *body != '{' || strstr(body, problem), "%s -> %s", what, body);
}

// One answer as the word says; what follows it.
static const char *expect_answer(const char *at, const char *word, const char *what)
{
    int status = (int)strtol(word, NULL, 10);
    bool ours = word[3] != 'n';
    const char *end = strstr(at, "\r\n\r\n");
    cr_assert(end && strncmp(at, "HTTP/1.1 ", 9) == 0, "%s -> %s", what, at);
    cr_assert_eq(strtol(at + 9, NULL, 10), status, "%s -> %s", what, at);
    if (status == 100) {
        return end + 4;
    }
    if (ours) {
        expect_usual_headers(at, end, status, what);
    } else {
        cr_expect(head_has(at, end, "text/html"), "%s -> %s", what, at);
    }
    const char *length = strcasestr(at, "\r\nContent-Length: ");
    cr_assert(length && length < end, "%s -> %s", what, at);
    size_t len = strtoul(length + 18, NULL, 10);
    cr_expect_gt(len, 0, "%s", what);
    const char *next = end + 4 + (word[3] == 'h' ? 0 : len);
    cr_assert_leq(next, at + strlen(at), "%s -> %s", what, at);
    return next;
}

static void expect_answers(const char *all, const char *words, const char *what)
{
    const char *word = words;
    while (*word != '\0') {
        all = expect_answer(all, *word == '+' ? "200" : word, what);
        word += strcspn(word, " ");
        word += strspn(word, " ");
    }
    cr_expect_str_empty(all, "%s", what);
}

// ---- To send it ----

enum place { FIRST, LATER, PLACES };

static void run_case(const struct gw *gw, const struct wire_case *c, enum place place)
{
    const char *words = place == LATER && c->later ? c->later : c->first;
    int fd = gw_connect(gw);
    if (place == LATER) {
        gw_get(fd, "/healthz");
        gw_expect(fd, 200, "ok");
    }
    gw_say(fd, c->bytes);
    if (strchr(words, '+')) {
        gw_say(fd, GET "Connection: close\r\n\r\n");
    }
    shutdown(fd, SHUT_WR);
    struct buf all = read_all(fd);
    expect_answers(all.data, words, c->bytes);
    buf_fini(&all);
    close(fd);
}

static void run_cases(const struct wire_case *cases, size_t count)
{
    struct gw gw = gw_start("--timeout", "200ms");
    for (size_t i = 0; i < count; i++) {
        for (enum place place = FIRST; place < PLACES; place++) {
            run_case(&gw, &cases[i], place);
        }
    }
    gw_stop(&gw);
}

// ---- Where a request ends ----

Test(gateway_wire, content_length)
{
    static const struct wire_case cases[] = {
        {POST "Content-Length: 2\r\n\r\n{}", "422 +", NULL},
        {POST "content-length:2\r\n\r\n{}", "422 +", NULL},
        {POST "Content-Length:   2  \r\n\r\n{}", "422 +", NULL},
        {POST "Content-Length: 0002\r\n\r\n{}", "422 +", NULL},
        {POST "Content-Length: 0\r\n\r\n", "400 +", NULL},
        {POST "Content-Length: 1\r\n\r\n{", "400 +", NULL},
        {POST "Content-Length: 2\r\n\r\n{}" OTHER, "422 200 +", NULL},  // what follows is a request
        {POST "Content-Length: 2\r\n\r\n{}x" OTHER, "422 405 +", NULL}, // of the method xGET
        {POST "Content-Length: 3\r\n\r\n{}", "", NULL},
        {POST "Content-Length: 9000\r\n\r\n{}" OTHER, "", NULL},
        {GET "Content-Length: 34\r\n\r\n" OTHER, "200 +", NULL},
        {POST "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" OTHER, "400", NULL},
        {POST "Content-Length: 0\r\nContent-Length: 34\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 34\r\ncontent-length: 0\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 0, 0\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 0,34\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: +0\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: -0\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: -1\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 0.0\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 0x24\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 0 0\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 0;\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: \"0\"\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length:\r\n\r\n" OTHER, "400", NULL},
        {GET "Content-Length: x\r\n\r\n" OTHER, "400", NULL},
        {POST "Content-Length: 8388609\r\n\r\n" OTHER, "413", NULL},
        {POST "Content-Length: 4294967296\r\n\r\n" OTHER, "413", NULL},           // 2^32, which is not 0
        {POST "Content-Length: 18446744073709551616\r\n\r\n" OTHER, "413", NULL}, // 2^64
        {POST "Content-Length: 99999999999999999999999999999999\r\n\r\n" OTHER, "413", NULL},
        {POST "\r\n" OTHER, "411", NULL},
        {"PUT /queues/q HTTP/1.1\r\n" H "\r\n" OTHER, "411", NULL},
        {"PATCH /queues/q HTTP/1.1\r\n" H "\r\n" OTHER, "405", NULL},
        {POST "Content-Length:\t2\r\n\r\n{}", "", NULL},
        {POST "Content-Length: \xef\xbc\x92\r\n\r\n{}", "", NULL},
    };
    run_cases(cases, COUNT(cases));
}

// Two readers of the same bytes could take these for one request or for two: none gets a second answer.
Test(gateway_wire, smuggling)
{
    static const struct wire_case cases[] = {
        {POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" OTHER, "501", NULL},
        {POST "Content-Length: 39\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OTHER, "501", NULL},
        {POST "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" OTHER, "501", NULL},
        {POST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n" OTHER, "501", NULL},
        {POST "transfer-encoding:chunked\r\n\r\n0\r\n\r\n" OTHER, "501", NULL},
        {POST "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" OTHER, "501", NULL},
        {POST "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" OTHER, "501", NULL},
        {POST "Transfer-Encoding: gzip, chunked\r\nContent-Length: 0\r\n\r\n" OTHER, "501", NULL},
        {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" OTHER, "501",
         NULL},
        {POST "Transfer-Encoding:\r\nContent-Length: 0\r\n\r\n" OTHER, "501", NULL},
        {GET "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OTHER, "501", NULL},
        {"HEAD /healthz HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n" OTHER, "501h", NULL},
        {"POST /ingest HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OTHER, "501", NULL},
        {POST "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OTHER, "501",
         NULL}, // an LF alone ends a line
        {POST "Content-Length: 0\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n" OTHER, "",
         NULL}, // a CR does not
        {POST "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" OTHER, "", NULL},
        {POST "Transfer-Encoding\r\nContent-Length: 0\r\n\r\n" OTHER, "", NULL},
        {POST "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" OTHER, "", NULL},
        {POST "Transfer-Encoding:\x0b"
              "chunked\r\n\r\n0\r\n\r\n" OTHER,
         "", NULL},
        {POST " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OTHER, "", NULL},
        {POST "Content-Length: 0\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n" OTHER, "", NULL}, // folded
        {POST "Content-Length: 3\r\n 6\r\n\r\n" OTHER, "", NULL},
        {POST "X: y\r\n\tContent-Length: 0\r\n\r\n" OTHER, "", NULL},
        {POST "Content-Length : 0\r\n\r\n" OTHER, "", NULL},
        {POST ": 0\r\n\r\n" OTHER, "", NULL},
        {"POST /nothing HTTP/1.1\r\n" H "Content-Length: 34\r\n\r\n" OTHER, "404", NULL},
        {"GET /ingest HTTP/1.1\r\n" H "Content-Length: 34\r\n\r\n" OTHER, "405", NULL},
        {POST "Content-Type: text/plain\r\nContent-Length: 34\r\n\r\n" OTHER, "415", NULL},
        {"POST /ingest HTTP/1.1\r\nContent-Length: 34\r\n\r\n" OTHER, "400n", "400"}, // no Host
        {GET "Connection: close\r\n\r\n" OTHER, "200", NULL},
        {"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" OTHER, "200", NULL},
    };
    run_cases(cases, COUNT(cases));
}

// ---- The rest of a header block ----

Test(gateway_wire, lines_and_headers)
{
    static const struct wire_case cases[] = {
        {"GET /healthz HTTP/1.1\nHost: h\n\n", "200 +", NULL},
        {GET "X: \x7f\r\n\r\n", "200 +", NULL},
        {GET "X: a\tb\r\n\r\n", "", NULL},
        {GET "X: \x01\r\n\r\n", "", NULL},
        {GET "X: caf\xc3\xa9\r\n\r\n", "", NULL},
        {GET "X\r\n\r\n", "", NULL},
        {"GET /caf\xc3\xa9 HTTP/1.1\r\n" H "\r\n", "", NULL},
        {"GET\t/healthz\tHTTP/1.1\r\n" H "\r\n", "", NULL},
        {"GET /healthz\r\n\r\n", "", NULL},     // HTTP/0.9
        {"\x16\x03\x01\x02\r\n\r\n", "", NULL}, // TLS
        {"hello\r\n\r\n", "", NULL},
        {"GET /healthz HTTP/1.1\r\n\r\n", "400n", "400"}, // no Host
        {"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400", NULL},
        {"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", "400", NULL},
        {"GET /healthz HTTP/1.1\r\nHost: a,b\r\n\r\n", "400", NULL},
        {"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", "200 +", NULL},
        {"GET /healthz HTTP/1.0\r\n\r\n", "200", NULL},
        {"GET /healthz HTTP/1.2\r\n" H "\r\n", "400", NULL},
        {"GET /healthz HTTP/1.1 \r\n" H "\r\n", "400", NULL},
        {"GET /healthz HTTP/2.0\r\n" H "\r\n", "505n", "400"},
        {"GET /healthz http/1.1\r\n" H "\r\n", "505n", "400"},
        {"GET  /healthz HTTP/1.1\r\n" H "\r\n", "505n", "400"},
        {"GET  HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET  HTTP/1.1\r\nContent-Length: 34\r\n\r\n" OTHER, "400n", ""},
        {GET "Connection: keep-alive\r\n\r\n", "200 +", NULL},
        {GET "Connection: x, CLOSE\r\n\r\n", "200", NULL},
        {GET "Connection: x\r\nConnection: close\r\n\r\n", "200", NULL},
        {GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", "200 +", NULL},
        {"\r\n" GET "\r\n", "400n", "200 +"}, // one empty line is passed over between requests
    };
    run_cases(cases, COUNT(cases));
}

Test(gateway_wire, methods_and_paths)
{
    static const struct wire_case cases[] = {
        {"HEAD /healthz HTTP/1.1\r\n" H "\r\n", "200h +", NULL},
        {"HEAD /nothing HTTP/1.1\r\n" H "\r\n", "404h +", NULL},
        {"HEAD /ingest HTTP/1.1\r\n" H "\r\n", "405h +", NULL},
        {"HEAD /ingestions?limit=x HTTP/1.1\r\n" H "\r\n", "422h +", NULL},
        {"HEAD /readyz HTTP/1.1\r\n" H "\r\n", "503h +", NULL},
        {"HEAD /healthz HTTP/1.1\r\n" H "Content-Length: x\r\n\r\n" OTHER, "400h", NULL},
        {"HEAD /ingest HTTP/1.1\r\n" H "Content-Length: 34\r\n\r\n" OTHER, "405h", NULL},
        {"GET /readyz HTTP/1.1\r\n" H "\r\n", "503 +", NULL},
        {"get /healthz HTTP/1.1\r\n" H "\r\n", "405 +", NULL},
        {"OPTIONS /healthz HTTP/1.1\r\n" H "\r\n", "405 +", NULL},
        {"TRACE /healthz HTTP/1.1\r\n" H "\r\n", "405 +", NULL},
        {"DELETE /ingest HTTP/1.1\r\n" H "\r\n", "405 +", NULL},
        {"POST /healthz HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "405 +", NULL},
        {"GET /queues/a/pause HTTP/1.1\r\n" H "\r\n", "405 +", NULL},
        {"GET /healthz/ HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET //healthz HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /./healthz HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /x/../healthz HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /healthz/.. HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /%68ealthz HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /x/%2e%2e/healthz HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /healthz%2f HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /healthz%00 HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /healthz% HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /healthz\\ HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /HEALTHZ HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET /healthz;x HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET http://h/healthz HTTP/1.1\r\n" H "\r\n", "200 +", NULL},
        {"GET http://h/x/../healthz HTTP/1.1\r\n" H "\r\n", "404 +", NULL},
        {"GET healthz HTTP/1.1\r\n" H "\r\n", "404n", "404 +"},
        {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "404n", "404 +"},
        {"CONNECT h:80 HTTP/1.1\r\n" H "\r\n", "404n", "404 +"},
    };
    run_cases(cases, COUNT(cases));
}

Test(gateway_wire, expectations)
{
    static const struct wire_case cases[] = {
        {POST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", "100 422 +", NULL},
        {POST "expect: 100-Continue\r\nContent-Length: 2\r\n\r\n{}", "100 422 +", NULL},
        {POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", "400 +",
         NULL}, // there is nothing to wait for
        {GET "Expect: 100-continue\r\n\r\n", "200 +", NULL},
        {POST "Expect: something\r\nContent-Length: 2\r\n\r\n{}", "422 +", NULL}, // others are passed over
        // Who is refused is not asked for the body; it may come all the same, and is none.
        {POST "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n" OTHER, "413", NULL},
        {POST "Expect: 100-continue\r\nContent-Type: text/plain\r\nContent-Length: 34\r\n\r\n" OTHER, "415",
         NULL},
        {"POST /nothing HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 34\r\n\r\n" OTHER, "404",
         NULL},
        {POST "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n" OTHER, "501", NULL},
        {"POST /ingest HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", "422", NULL},
    };
    run_cases(cases, COUNT(cases));
}

// ---- Limits ----

// A block of this many bytes, whose last line fills it up.
static struct buf block_of(size_t len, size_t line_len)
{
    struct buf block;
    buf_init(&block);
    buf_str(&block, GET);
    while (block.len + 2 < len) {
        size_t left = len - 2 - block.len;
        size_t line = left >= 2 * line_len ? line_len : left;
        buf_printf(&block, "x%zu: %0*d\r\n", block.len, (int)(line - 8), 0);
        while (block.data[block.len - 1] != '\n' || block.len > len - 2)
            block.len--;
        size_t short_by = left >= 2 * line_len ? 0 : len - 2 - block.len;
        if (short_by > 0) { // the number in its name was short
            block.len -= 2;
            buf_printf(&block, "%0*d\r\n", (int)short_by, 0);
        }
    }
    buf_str(&block, "\r\n");
    cr_assert_eq(block.len, len);
    return block;
}

// The status of the answer, 0 for none.
static int answer_to(int fd)
{
    struct buf all = read_all(fd);
    int status = all.len > 1 ? (int)strtol(all.data + 9, NULL, 10) : 0;
    buf_fini(&all);
    return status;
}

// 8 KiB for the whole of a header block, be it one line or many, in one piece or in many.
Test(gateway_wire, a_header_block_has_a_limit)
{
    static const size_t lines[] = {8000, 100, 32};
    struct gw gw = gw_start(NULL, NULL);
    for (size_t i = 0; i < COUNT(lines) * PLACES * 2 * 2; i++) {
        size_t line_len = lines[i / (PLACES * 4)];
        bool later = i % PLACES == LATER, over = i / 2 % 2, in_pieces = i / 4 % 2;
        struct buf block = block_of(over ? 8193 : 8192, line_len);
        int fd = gw_connect(&gw);
        if (later) {
            gw_get(fd, "/healthz");
            gw_expect(fd, 200, "ok");
        }
        for (size_t at = 0, len; at < block.len; at += len) {
            len = in_pieces && block.len - at > 1000 ? 1000 : block.len - at;
            (void)!send(fd, block.data + at, len, MSG_NOSIGNAL);
        }
        shutdown(fd, SHUT_WR);
        cr_expect_eq(answer_to(fd), over ? 0 : 200, "%zu bytes in lines of %zu, case %zu", block.len,
                     line_len, i);
        close(fd);
        buf_fini(&block);
    }
    gw_stop(&gw);
}

// Lines that each fit, one after the other, for ever: the connection ends long before there are many. No more
// are sent than the gateway reads, however late it comes to that: the kernel is given no room for them.
Test(gateway_wire, a_header_block_that_never_ends_is_cut)
{
    enum { LINE = 64, ENOUGH = 1 << 20 };
    const int room = 4096;
    struct gw gw = gw_start(NULL, NULL);
    for (enum place place = FIRST; place < PLACES; place++) {
        int fd = gw_connect(&gw);
        if (place == LATER) {
            gw_get(fd, "/healthz");
            gw_expect(fd, 200, "ok");
        }
        size_t sent = 0;
        cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
        gw_say(fd, GET);
        for (ssize_t n = 1; n > 0 && sent < ENOUGH; sent += LINE) {
            char line[LINE + 1];
            cr_assert_eq(snprintf(line, sizeof(line), "x%08zu: %0*d\r\n", sent, LINE - 13, 0), LINE);
            n = send(fd, line, LINE, MSG_NOSIGNAL);
        }
        cr_expect_lt(sent, (size_t)ENOUGH);
        close(fd);
    }
    gw_stop(&gw);
}

// The last of them says so.
Test(gateway_wire, a_connection_has_a_limit_of_requests)
{
    enum { ALL = 10000, AT_ONCE = 100 };
    struct gw gw = gw_start(NULL, NULL);
    int fd = gw_connect(&gw);
    struct buf many, came;
    size_t count = 0;
    buf_init(&many);
    buf_init(&came);
    for (int i = 0; i < AT_ONCE; i++)
        buf_str(&many, GET "\r\n");
    for (bool ended = false; !ended && count < ALL + AT_ONCE;) {
        gw_send(fd, many.data, many.len);
        for (size_t until = count + AT_ONCE; !ended && count < until;) { // each ends with its body
            char *room = buf_room(&came, 65536);
            ssize_t n = recv(fd, room, 65535, 0);
            cr_assert(room && n > 0, "it ended after %zu", count);
            room[n] = '\0';
            buf_grew(&came, (size_t)n);
            const char *end, *at = came.data;
            for (; (end = strchr(at, '}')); at = end + 1, count++) {
                cr_assert_eq(strncmp(at, "HTTP/1.1 200", 12), 0, "%s", at);
                cr_assert_not(ended);
                ended = head_has(at, end, "\r\nConnection: close\r\n");
            }
            size_t left = (size_t)(came.data + came.len - at);
            memmove(came.data, at, left);
            came.len = left;
        }
    }
    cr_expect_eq(count, ALL, "%zu", count);
    gw_expect_end(fd);
    buf_fini(&came);
    buf_fini(&many);
    gw_stop(&gw);
}

// ---- In pieces ----

// Three requests in one stream, cut in two at every byte: the same three answers.
Test(gateway_wire, split_anywhere)
{
    static const char three[] = POST "Content-Length: 2\r\n\r\n{}"
                                     "HEAD /nothing HTTP/1.1\r\n" H "\r\n" GET "Connection: close\r\n\r\n";
    struct gw gw = gw_start(NULL, NULL);
    for (size_t at = 1; at < strlen(three); at++) {
        int on = 1, fd = gw_connect(&gw);
        cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
        gw_send(fd, three, at);
        struct timespec pause = {.tv_nsec = 1000000}; // so that the gateway has read the first part, mostly
        nanosleep(&pause, NULL);
        gw_send(fd, three + at, strlen(three) - at);
        struct buf all = read_all(fd);
        expect_answers(all.data, "422 404h 200", three);
        buf_fini(&all);
        close(fd);
    }
    gw_stop(&gw);
}

// More than fits into the 8 KiB for what comes ahead of time: what is answered is answered right, and in
// order.
Test(gateway_wire, too_much_ahead_of_time)
{
    enum { ALL = 1000 };
    struct gw gw = gw_start(NULL, NULL);
    struct buf many;
    buf_init(&many);
    for (int i = 0; i < ALL; i++)
        buf_printf(&many, i % 2 ? GET "\r\n" : "GET /nothing HTTP/1.1\r\n" H "\r\n");
    int fd = gw_connect(&gw);
    gw_send(fd, many.data, many.len);
    shutdown(fd, SHUT_WR);
    struct buf all = read_all(fd);
    int count = 0;
    for (const char *at = all.data; *at != '\0' && strstr(at, "}"); count++) {
        at = expect_answer(at, count % 2 ? "200" : "404", "ahead of time");
    }
    cr_expect(count >= 1 && count <= ALL, "%d", count);
    buf_fini(&all);
    close(fd);
    fd = gw_connect(&gw);
    gw_get(fd, "/healthz");
    gw_expect(fd, 200, "ok");
    close(fd);
    buf_fini(&many);
    gw_stop(&gw);
}

// ---- Every kind of answer that takes a scheduler ----

// The usual headers are on what it said, on what it refused, and on what the gateway makes of its silence.
Test(gateway_wire, answers_of_the_scheduler)
{
    static const struct {
        const char *request, *reply, *answer;
    } cases[] = {
        {"GET /queues/a HTTP/1.1\r\n" H "\r\n", "{\"ok\":true,\"name\":\"a\"}\n", "200"},
        {"HEAD /queues/a HTTP/1.1\r\n" H "\r\n", "{\"ok\":true,\"name\":\"a\"}\n", "200h"},
        {"HEAD /queues/a HTTP/1.1\r\n" H "\r\n",
         "{\"error\":{\"code\":\"unknown_queue\",\"message\":\"x\"}}\n", "404h"},
        {"GET /queues/a HTTP/1.1\r\n" H "\r\n",
         "{\"error\":{\"code\":\"unknown_queue\",\"message\":\"x\"}}\n", "404"},
        {"DELETE /queues/a HTTP/1.1\r\n" H "\r\n",
         "{\"error\":{\"code\":\"queue_not_empty\",\"message\":\"x\"}}\n", "409"},
        {"GET /queues HTTP/1.1\r\n" H "\r\n", "{\"error\":{\"code\":\"overloaded\",\"message\":\"x\"}}\n",
         "429"},
        {"GET /queues HTTP/1.1\r\n" H "\r\n", "{\"ok\":true}\n", "500"},
        {"GET /queues HTTP/1.1\r\n" H "\r\n", "hello\n", "503"},
        {POST "Content-Length: 33\r\n\r\n" GOOD_BODY, "hello\n", "504"},
        {POST "Content-Length: 33\r\n\r\n" GOOD_BODY,
         "{\"ok\":true,\"ingestion_id\":\"" UUID "\",\"replayed\":true}\n", "200"},
    };
    struct gw gw = gw_start(NULL, NULL);
    gw_peer_open(&gw);
    for (size_t i = 0; i < COUNT(cases); i++) {
        int fd = gw_connect(&gw);
        gw_say(fd, cases[i].request);
        gw_answer(&gw, gw_take(&gw), cases[i].reply);
        shutdown(fd, SHUT_WR);
        struct buf all = read_all(fd);
        expect_answers(all.data, cases[i].answer, cases[i].request);
        buf_fini(&all);
        close(fd);
    }
    cr_assert_eq(nng_close(gw.peer), 0);
    gw_stop(&gw);
}
