#include "gateway/frame.h"

#include <criterion/criterion.h>
#include <stdint.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_BODY 8192

// A block with the usual values where the case has none.
static struct header_block block_of(struct header_block block)
{
    if (!block.method)
        block.method = "POST";
    if (!block.version)
        block.version = "HTTP/1.1";
    return block;
}

Test(frame, good_requests)
{
    static const struct {
        struct header_block block;
        struct frame frame;
    } cases[] = {
        {{.host = "h", .content_length = "5"}, {.has_length = true, .length = 5}},
        {{.host = "h", .content_length = "0"}, {.has_length = true}},
        {{.host = "", .content_length = "007"}, {.has_length = true, .length = 7}},
        {{.host = "h:80", .content_length = "8192"}, {.has_length = true, .length = 8192}},
        {{.host = "h"}, {.unsure = true, .close = true}},
        {{.method = "PUT", .host = "h"}, {.unsure = true, .close = true}},
        {{.method = "GET", .host = "h"}, {.close = false}},
        {{.method = "DELETE", .host = "h"}, {.close = false}},
        {{.method = "HEAD", .host = "h"}, {.head = true}},
        {{.method = "GET", .host = "h", .connection = "keep-alive"}, {.close = false}},
        {{.method = "GET", .host = "h", .connection = "closed"}, {.close = false}},
        {{.method = "GET", .host = "h", .connection = "close"}, {.close = true}},
        {{.method = "GET", .host = "h", .connection = "Upgrade, CLOSE"}, {.close = true}},
        {{.method = "GET", .version = "HTTP/1.0"}, {.close = true}},
        {{.method = "GET", .version = "HTTP/1.0", .connection = "keep-alive"}, {.close = true}},
        {{.host = "h", .content_length = "5", .expect = "100-Continue"},
         {.has_length = true, .length = 5, .wants_go = true}},
        {{.host = "h", .content_length = "5", .expect = "something"}, {.has_length = true, .length = 5}},
        {{.version = "HTTP/1.0", .content_length = "5", .expect = "100-continue"},
         {.has_length = true, .length = 5, .close = true}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct header_block block = block_of(cases[i].block);
        struct frame frame;
        cr_assert_eq(frame_check(&block, MAX_BODY, &frame, NULL), ERR_OK, "case %zu", i);
        cr_expect_eq(frame.has_length, cases[i].frame.has_length, "case %zu", i);
        cr_expect_eq(frame.length, cases[i].frame.length, "case %zu", i);
        cr_expect_eq(frame.head, cases[i].frame.head, "case %zu", i);
        cr_expect_eq(frame.wants_go, cases[i].frame.wants_go, "case %zu", i);
        cr_expect_eq(frame.unsure, cases[i].frame.unsure, "case %zu", i);
        cr_expect_eq(frame.close, cases[i].frame.close, "case %zu", i);
    }
}

Test(frame, refusals_close)
{
    static const struct {
        struct header_block block;
        enum err err;
    } cases[] = {
        {{.content_length = "5"}, ERR_BAD_REQUEST}, // no Host
        {{.host = "a, b", .content_length = "5"}, ERR_BAD_REQUEST},
        {{.version = "HTTP/2.0", .host = "h"}, ERR_BAD_REQUEST},
        {{.version = "HTTP/1.1 ", .host = "h"}, ERR_BAD_REQUEST},
        {{.version = "", .host = "h"}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = ""}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "+5"}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "-5"}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "0x5"}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "5 "}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "5, 5"}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "5,6"}, ERR_BAD_REQUEST},
        {{.method = "GET", .host = "h", .content_length = "x"}, ERR_BAD_REQUEST},
        {{.host = "h", .content_length = "8193"}, ERR_BODY_TOO_LARGE},
        {{.host = "h", .content_length = "18446744073709551616"}, ERR_BODY_TOO_LARGE},
        {{.host = "h", .content_length = "99999999999999999999999999999999"}, ERR_BODY_TOO_LARGE},
        {{.host = "h", .transfer_encoding = "chunked"}, ERR_NOT_IMPLEMENTED},
        {{.host = "h", .transfer_encoding = ""}, ERR_NOT_IMPLEMENTED},
        {{.host = "h", .transfer_encoding = "identity", .content_length = "5"}, ERR_NOT_IMPLEMENTED},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct header_block block = block_of(cases[i].block);
        struct frame frame;
        struct fault fault = {.err = ERR_OK};
        cr_expect_eq(frame_check(&block, MAX_BODY, &frame, &fault), cases[i].err, "case %zu", i);
        cr_expect_eq(fault.err, cases[i].err, "case %zu", i);
        cr_expect(frame.close, "case %zu", i);
        cr_expect_not(frame.has_length, "case %zu", i);
    }
}

Test(frame, head_is_known_in_a_refusal_too)
{
    struct header_block block = block_of((struct header_block){.method = "HEAD"});
    struct frame frame;
    cr_assert_eq(frame_check(&block, MAX_BODY, &frame, NULL), ERR_BAD_REQUEST);
    cr_expect(frame.head);
}
