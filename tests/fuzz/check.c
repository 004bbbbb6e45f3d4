// check.c - checks that several targets make.
#include "tests/fuzz/fuzz.h"

#include "common/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fuzz_broken(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) {
        abort();
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    return text;
}

void fuzz_refused(enum err err, const struct fault *fault)
{
    char shown[sizeof(fault->detail)];
    size_t len = strnlen(fault->detail, sizeof(fault->detail));
    REQUIRE(err != ERR_OK && err != ERR_NO_MEMORY && err != ERR_INTERNAL);
    REQUIRE(fault->err == err);
    REQUIRE(len > 0 && len < sizeof(fault->detail));
    REQUIRE(utf8_valid(fault->detail, len));
    memcpy(shown, fault->detail, len);
    utf8_scrub(shown, len);
    REQUIRE(memcmp(shown, fault->detail, len) == 0); // no control characters
}

void fuzz_round_trip(const struct request *request)
{
    struct request back;
    struct fault fault = {0};
    struct buf line;
    buf_init(&line);
    request_to_line(request, &line);
    REQUIRE(buf_err(&line) == ERR_OK && line.len > 0);
    REQUIRE(memchr(line.data, '\n', line.len) == line.data + line.len - 1);
    if (request_from_line(line.data, line.len - 1, &back, &fault) != ERR_OK) {
        (void)fprintf(stderr, "%s: %s", fault.detail, line.data);
        fuzz_broken("a line of ours can be read", __FILE__, __LINE__);
    }
    REQUIRE(fuzz_same_request(request, &back));
    request_fini(&back);
    buf_fini(&line);
}

void fuzz_plain(const char *text, size_t len, enum plain_form form)
{
    struct request plain, other;
    struct fault fault;
    struct buf escaped; // the first letter of the first member: only the long way takes that
    const char *quote = memchr(text, '"', len);
    if (!request_plain(text, len, form, &plain)) {
        return;
    }
    REQUIRE(quote);
    buf_init(&escaped);
    buf_put(&escaped, text, (size_t)(quote + 1 - text));
    buf_printf(&escaped, "\\u%04x", (unsigned)quote[1]);
    buf_put(&escaped, quote + 2, (size_t)(text + len - (quote + 2)));
    REQUIRE(!request_plain(escaped.data, escaped.len, form, &other));
    enum err err = form == PLAIN_BODY ? request_from_body(escaped.data, escaped.len, &other, &fault)
                                      : request_from_line(escaped.data, escaped.len, &other, &fault);
    REQUIRE(err == ERR_OK);
    REQUIRE(fuzz_same_request(&plain, &other));
    request_fini(&plain);
    request_fini(&other);
    buf_fini(&escaped);
}
