// utf8.h - UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF.
//
// Pure; any thread. Texts are len bytes and need no NUL.
#ifndef SLUICE_COMMON_UTF8_H
#define SLUICE_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

// How many bytes the first character takes (1 to 4); 0 when the text is empty or does not start with a valid
// one.
size_t utf8_length(const char *text, size_t len);
// True when all of it is valid.
bool utf8_valid(const char *text, size_t len);
// Where to end a text that was cut at len bytes, so that no half of a character is left at its end.
size_t utf8_cut(const char *text, size_t len);
// Makes it fit to be shown: bytes of control characters (C0, DEL, C1) or of no valid character become '?'.
void utf8_scrub(char *text, size_t len);

#endif
