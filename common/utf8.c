#include "common/utf8.h"

// The length that the first byte of a character promises.
static size_t promised(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

size_t utf8_length(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    if (len == 0) {
        return 0;
    }
    if (s[0] < 0x80) {
        return 1;
    }
    size_t want = promised(s[0]);
    if (s[0] < 0xc2 || s[0] > 0xf4 || len < want) {
        return 0;
    }
    // The range of the second byte is what shuts out overlong forms, surrogates and all above U+10FFFF.
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < want; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return want;
}

bool utf8_valid(const char *text, size_t len)
{
    while (len > 0) {
        size_t n = utf8_length(text, len);
        if (n == 0) {
            return false;
        }
        text += n;
        len -= n;
    }
    return true;
}

size_t utf8_cut(const char *text, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)text[len - back];
        if (c < 0x80) {
            return len;
        }
        if (c >= 0xc0) {
            return promised(c) > back ? len - back : len;
        }
    }
    return len;
}

void utf8_scrub(char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        unsigned char c = (unsigned char)text[at];
        size_t n = utf8_length(text + at, len - at);
        bool c0 = c < 0x20 || c == 0x7f;
        bool c1 = n == 2 && c == 0xc2 && (unsigned char)text[at + 1] < 0xa0;
        if (n == 0 || c0 || c1) {
            text[at++] =
                '?'; // the second byte of a C1 control stands alone now and follows in the next round
            continue;
        }
        at += n;
    }
}
