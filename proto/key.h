// key.h - keys of the HTTP API: how one is made, what a file of them says of each, and whose a token is.
//
// A key is a token that a client sends (`Authorization: Bearer TOKEN`, RFC 6750): "sluice_" and 256 random
// bits in base64url (RFC 4648). The file has only the token's BLAKE2b hash (RFC 7693, 32 bytes, of the text):
// nobody can make the token of it, and with so many random bits there is nothing to gain from a slow hash. A
// line is
//
//     NAME ROLE[,ROLE]... HASH [queues=NAME[,NAME]...] [rate=N/DURATION]
//
// with the hash in 64 lower-case hexadecimal digits. Empty lines and those that begin with '#' are passed
// over. Several keys may have one name, as when one takes the place of another: to Sluice they are one owner.
//
// Any thread.
#ifndef SLUICE_PROTO_KEY_H
#define SLUICE_PROTO_KEY_H

#include "common/buf.h"
#include "common/units.h"
#include "proto/scope.h"

#define KEY_TOKEN_SIZE (sizeof("sluice_") + 43) // with its NUL
#define KEY_HASH_BYTES 32u
#define KEYS_MAX 10000u
#define KEY_FILE_MAX (4u << 20) // bytes

// What a key may do; each has one or more.
enum role {
    ROLE_SUBMIT = 1,  // ingest, and see, cancel and retry what came of that
    ROLE_READ = 2,    // see everything
    ROLE_OPERATE = 4, // change queues, cancel and retry everything
};
#define ROLES_TEXT_SIZE sizeof("submit,read,operate")

struct key {
    char name[OWNER_SIZE];
    unsigned roles; // of enum role
    unsigned char hash[KEY_HASH_BYTES];
    struct rate rate;                // of its requests; count 0: no limit
    size_t queue_count;              // 0: all queues; at most SCOPE_QUEUES_MAX
    char (*queues)[QUEUE_NAME_SIZE]; // owned
};

// Whether it may use the queue of this name.
bool key_has_queue(const struct key *key, const char *queue);

// "submit,read"; false, and nothing is set, for anything else.
bool roles_parse(const char *text, unsigned *roles);
void roles_format(unsigned roles, char text[static ROLES_TEXT_SIZE]);
// "a,b" for key->queues, which must be empty. On failure (ERR_INVALID_FIELD, ERR_NO_MEMORY) nothing is set.
MUST_CHECK enum err key_queues_parse(const char *text, struct key *key, struct fault *fault);

// A new token, and its hash. ERR_INTERNAL when the system has no random bytes.
MUST_CHECK enum err key_mint(char token[static KEY_TOKEN_SIZE], unsigned char hash[static KEY_HASH_BYTES]);
// The hash of any text, as if it were a token.
void key_hash(const char *token, size_t len, unsigned char hash[static KEY_HASH_BYTES]);

// One line, NUL-terminated and without its newline. *found is false for one that says nothing; else *key is
// the caller's, who gives it back with key_fini. ERR_INVALID_FIELD, ERR_NO_MEMORY.
MUST_CHECK enum err key_parse(const char *line, struct key *key, bool *found, struct fault *fault);
void key_fini(struct key *key);
// Its line, with a newline.
void key_format(const struct key *key, struct buf *out);

// All keys of a file.
struct key_list {
    struct key *keys; // in the order of their hashes
    size_t count;
};
// A fault names the line, or the two keys that have one hash. ERR_INVALID_FIELD, ERR_NO_MEMORY.
MUST_CHECK enum err key_list_parse(const char *text, size_t len, struct key_list *list, struct fault *fault);
// The same of a file, which the fault names, too. ERR_STORAGE_IO when it cannot be read.
MUST_CHECK enum err key_list_read(const char *path, struct key_list *list, struct fault *fault);
void key_list_fini(struct key_list *list);
// The key with this token (len bytes, no NUL needed), or NULL. How long it takes tells nothing of a token:
// all that is compared are hashes, and the whole of the one that may be it in constant time.
const struct key *key_list_find(const struct key_list *list, const char *token, size_t len);

// Appends a whole regular file of at most KEY_FILE_MAX bytes. ERR_STORAGE_IO, ERR_INVALID_FIELD (too long),
// ERR_NO_MEMORY.
MUST_CHECK enum err key_file_read(const char *path, struct buf *text, struct fault *fault);

#endif
