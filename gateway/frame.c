#include "gateway/frame.h"

#include "common/units.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

// True when a comma-separated list of words has this one.
static bool list_has(const char *list, const char *word)
{
    size_t word_len = strlen(word);
    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ", \t");
        if (len == word_len && strncasecmp(list, word, len) == 0) {
            return true;
        }
        list += len;
    }
    return false;
}

// False for anything but digits. What no size_t can hold becomes SIZE_MAX, which is over every limit.
static bool length_parse(const char *text, size_t *length)
{
    uint64_t value;
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0') {
        return false;
    }
    *length = count_parse(text, &value) ? value : SIZE_MAX;
    return true;
}

static enum err length_check(const struct header_block *block, size_t max_body, struct frame *frame,
                             struct fault *fault)
{
    if (block->transfer_encoding != NULL) {
        return fault_set(fault, ERR_NOT_IMPLEMENTED,
                         "Transfer-Encoding is not supported: send the body with a Content-Length.");
    }
    if (block->content_length == NULL) {
        return ERR_OK;
    }
    if (!length_parse(block->content_length, &frame->length)) {
        return fault_set(fault, ERR_BAD_REQUEST,
                         "Content-Length must be given once, in digits, not as \"%.40s\".",
                         block->content_length);
    }
    if (frame->length > max_body) {
        return fault_set(fault, ERR_BODY_TOO_LARGE, "The body has %.20s bytes; at most %zu are taken.",
                         block->content_length, max_body);
    }
    frame->has_length = true;
    return ERR_OK;
}

enum err frame_check(const struct header_block *block, size_t max_body, struct frame *frame,
                     struct fault *fault)
{
    *frame = (struct frame){.head = strcmp(block->method, "HEAD") == 0, .close = true};
    bool old = strcmp(block->version, "HTTP/1.0") == 0;
    if (!old && strcmp(block->version, "HTTP/1.1") != 0) {
        return fault_set(fault, ERR_BAD_REQUEST, "The version must be HTTP/1.1 or HTTP/1.0, not \"%.20s\".",
                         block->version);
    }
    if (block->host == NULL ? !old : strpbrk(block->host, ", ") != NULL) {
        return fault_set(fault, ERR_BAD_REQUEST, "The request must have one Host header.");
    }
    enum err err = length_check(block, max_body, frame, fault);
    if (err != ERR_OK) {
        return err;
    }
    frame->unsure =
        !frame->has_length && (strcmp(block->method, "POST") == 0 || strcmp(block->method, "PUT") == 0 ||
                               strcmp(block->method, "PATCH") == 0);
    frame->close =
        old || frame->unsure || (block->connection != NULL && list_has(block->connection, "close"));
    frame->wants_go = !old && block->expect != NULL && strcasecmp(block->expect, "100-continue") == 0;
    return ERR_OK;
}
