#include "proto/key.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_PREFIX "sluice_"
#define TOKEN_BYTES 32u
#define LINE_SIZE 2048u // the longest line that key_format writes is shorter
#define HASH_DIGITS (2 * (size_t)KEY_HASH_BYTES)
#define HASH_LEAD 8u // bytes by which a hash is looked up
_Static_assert(KEY_HASH_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");

// ---- roles and queues ----

static const struct {
    const char *name;
    enum role role;
} roles_known[] = {{"submit", ROLE_SUBMIT}, {"read", ROLE_READ}, {"operate", ROLE_OPERATE}};
#define ROLES (sizeof(roles_known) / sizeof(roles_known[0]))

static unsigned role_named(const char *text, size_t len)
{
    for (size_t i = 0; i < ROLES; i++) {
        if (strlen(roles_known[i].name) == len && memcmp(roles_known[i].name, text, len) == 0) {
            return roles_known[i].role;
        }
    }
    return 0;
}

bool roles_parse(const char *text, unsigned *roles)
{
    unsigned all = 0;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        unsigned role = role_named(at, len);
        if (role == 0 || (all & role)) {
            return false;
        }
        all |= role;
        at += len;
        if (*at == '\0') {
            *roles = all;
            return true;
        }
    }
}

void roles_format(unsigned roles, char text[static ROLES_TEXT_SIZE])
{
    char *at = text;
    for (size_t i = 0; i < ROLES; i++) {
        if (roles & roles_known[i].role) {
            at = stpcpy(stpcpy(at, at > text ? "," : ""), roles_known[i].name);
        }
    }
    *at = '\0';
}

bool key_has_queue(const struct key *key, const char *queue)
{
    size_t i = 0;
    while (i < key->queue_count && strcmp(key->queues[i], queue) != 0) {
        i++;
    }
    return key->queue_count == 0 || i < key->queue_count;
}

static enum err bad_queues(struct fault *fault)
{
    return fault_set(fault, ERR_INVALID_FIELD,
                     "queues= wants 1 to %u names of queues with commas between them", SCOPE_QUEUES_MAX);
}

enum err key_queues_parse(const char *text, struct key *key, struct fault *fault)
{
    char names[SCOPE_QUEUES_MAX][QUEUE_NAME_SIZE];
    size_t count = 0;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        if (count == SCOPE_QUEUES_MAX || len >= QUEUE_NAME_SIZE) {
            return bad_queues(fault);
        }
        memcpy(names[count], at, len);
        names[count][len] = '\0';
        if (!queue_name_valid(names[count])) {
            return bad_queues(fault);
        }
        count++;
        at += len;
        if (*at == '\0') {
            break;
        }
    }
    key->queues = calloc(count, sizeof(key->queues[0]));
    if (!key->queues) {
        return fault_set(fault, ERR_NO_MEMORY, "out of memory");
    }
    memcpy(key->queues, names, count * sizeof(names[0]));
    key->queue_count = count;
    return ERR_OK;
}

// ---- tokens ----

void key_hash(const char *token, size_t len, unsigned char hash[static KEY_HASH_BYTES])
{
    int rc = crypto_generichash(hash, KEY_HASH_BYTES, (const unsigned char *)token, len, NULL, 0);
    assert(rc == 0); // it refuses sizes alone
    (void)rc;
}

enum err key_mint(char token[static KEY_TOKEN_SIZE], unsigned char hash[static KEY_HASH_BYTES])
{
    unsigned char bytes[TOKEN_BYTES];
    if (sodium_init() < 0) { // it has tried the system's source of random bytes; else they end the process
        return ERR_INTERNAL;
    }
    randombytes_buf(bytes, sizeof(bytes));
    char *end = stpcpy(token, TOKEN_PREFIX);
    (void)sodium_bin2base64(end, KEY_TOKEN_SIZE - strlen(TOKEN_PREFIX), bytes, sizeof(bytes),
                            sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(bytes, sizeof(bytes));
    key_hash(token, strlen(token), hash);
    return ERR_OK;
}

// ---- lines ----

static bool hash_parse(const char *text, unsigned char hash[static KEY_HASH_BYTES])
{
    return strlen(text) == HASH_DIGITS && strspn(text, "0123456789abcdef") == HASH_DIGITS &&
           sodium_hex2bin(hash, KEY_HASH_BYTES, text, HASH_DIGITS, NULL, NULL, NULL) == 0;
}

static enum err parse_limit(const char *word, struct key *key, struct fault *fault)
{
    static const char queues[] = "queues=";
    static const char rate[] = "rate=";
    if (strncmp(word, queues, strlen(queues)) == 0 && key->queue_count == 0) {
        return key_queues_parse(word + strlen(queues), key, fault);
    }
    if (strncmp(word, rate, strlen(rate)) == 0 && key->rate.count == 0) {
        return rate_parse(word + strlen(rate), &key->rate) && key->rate.count > 0
                   ? ERR_OK
                   : fault_set(fault, ERR_INVALID_FIELD, "rate= wants a rate such as 100/s or 1/5s");
    }
    return fault_set(
        fault, ERR_INVALID_FIELD,
        "\"%.40s\" is not known behind the hash: queues=NAME,... and rate=N/DURATION are, each once", word);
}

// The word of this number, from 0.
static enum err parse_word(size_t number, const char *word, struct key *key, struct fault *fault)
{
    switch (number) {
    case 0:
        if (!queue_name_valid(word)) {
            return fault_set(fault, ERR_INVALID_FIELD,
                             "the name of a key must be [a-z0-9][a-z0-9._-]{0,63}, not \"%.80s\"", word);
        }
        memcpy(key->name, word, strlen(word) + 1);
        return ERR_OK;
    case 1:
        return roles_parse(word, &key->roles)
                   ? ERR_OK
                   : fault_set(fault, ERR_INVALID_FIELD,
                               "the roles must be of submit, read and operate, with commas between them, not "
                               "\"%.80s\"",
                               word);
    case 2:
        return hash_parse(word, key->hash)
                   ? ERR_OK
                   : fault_set(fault, ERR_INVALID_FIELD, "the hash must be %zu lower-case hexadecimal digits",
                               HASH_DIGITS);
    default:
        return parse_limit(word, key, fault);
    }
}

enum err key_parse(const char *line, struct key *key, bool *found, struct fault *fault)
{
    char words[LINE_SIZE];
    size_t count = 0;
    size_t len = strlen(line);
    char *rest = words;
    enum err err = ERR_OK;
    *key = (struct key){.roles = 0};
    const char *first = line + strspn(line, " \t\r");
    *found = *first != '\0' && *first != '#';
    if (!*found) {
        return ERR_OK;
    }
    if (len >= sizeof(words)) {
        return fault_set(fault, ERR_INVALID_FIELD, "the line is longer than %u bytes", LINE_SIZE - 1);
    }
    memcpy(words, line, len + 1);
    for (char *word; !err && (word = strsep(&rest, " \t\r"));) {
        if (word[0] != '\0') {
            err = parse_word(count++, word, key, fault);
        }
    }
    if (!err && count < 3) {
        err = fault_set(fault, ERR_INVALID_FIELD, "a key needs a name, roles and a hash");
    }
    if (err) {
        key_fini(key);
    }
    return err;
}

void key_fini(struct key *key)
{
    free(key->queues);
    *key = (struct key){.roles = 0};
}

void key_format(const struct key *key, struct buf *out)
{
    char roles[ROLES_TEXT_SIZE];
    char hash[HASH_DIGITS + 1];
    char rate[RATE_TEXT_SIZE];
    roles_format(key->roles, roles);
    (void)sodium_bin2hex(hash, sizeof(hash), key->hash, KEY_HASH_BYTES);
    buf_printf(out, "%s %s %s", key->name, roles, hash);
    for (size_t i = 0; i < key->queue_count; i++) {
        buf_str(out, i > 0 ? "," : " queues=");
        buf_str(out, key->queues[i]);
    }
    if (key->rate.count > 0) {
        rate_format(key->rate, rate);
        buf_str(out, " rate=");
        buf_str(out, rate);
    }
    buf_char(out, '\n');
}

// ---- lists ----

static int by_hash(const void *a, const void *b)
{
    const struct key *left = a;
    const struct key *right = b;
    return memcmp(left->hash, right->hash, KEY_HASH_BYTES);
}

static enum err list_add(struct key_list *list, size_t *room, const struct key *key)
{
    if (list->count == *room) {
        size_t more = *room == 0 ? 8 : *room * 2;
        struct key *keys = realloc(list->keys, more * sizeof(*keys));
        if (!keys) {
            return ERR_NO_MEMORY;
        }
        list->keys = keys;
        *room = more;
    }
    list->keys[list->count++] = *key;
    return ERR_OK;
}

static enum err list_add_line(struct key_list *list, size_t *room, const char *text, size_t len,
                              struct fault *fault)
{
    char line[LINE_SIZE];
    struct key key;
    bool found;
    if (len >= sizeof(line) || memchr(text, '\0', len)) {
        return fault_set(fault, ERR_INVALID_FIELD, "the line is longer than %u bytes, or no text",
                         LINE_SIZE - 1);
    }
    memcpy(line, text, len);
    line[len] = '\0';
    enum err err = key_parse(line, &key, &found, fault);
    if (err || !found) {
        return err;
    }
    if (list->count == KEYS_MAX) {
        err = fault_set(fault, ERR_INVALID_FIELD, "there are more than %u keys", KEYS_MAX);
    } else if ((err = list_add(list, room, &key))) {
        (void)fault_set(fault, err, "out of memory");
    }
    if (err) {
        key_fini(&key);
    }
    return err;
}

// Two that share what a hash is looked up by are as good as the same: it does not happen by chance.
static enum err list_sort(struct key_list *list, struct fault *fault)
{
    if (list->count > 0) {
        qsort(list->keys, list->count, sizeof(list->keys[0]), by_hash);
    }
    for (size_t i = 1; i < list->count; i++) {
        if (memcmp(list->keys[i - 1].hash, list->keys[i].hash, HASH_LEAD) == 0) {
            return fault_set(fault, ERR_INVALID_FIELD, "the keys %s and %s have the same hash",
                             list->keys[i - 1].name, list->keys[i].name);
        }
    }
    return ERR_OK;
}

enum err key_list_parse(const char *text, size_t len, struct key_list *list, struct fault *fault)
{
    size_t room = 0;
    size_t number = 0;
    struct fault what;
    *list = (struct key_list){.count = 0};
    if (sodium_init() < 0) {
        return fault_set(fault, ERR_INTERNAL, "the system has no random bytes");
    }
    enum err err = ERR_OK;
    for (size_t at = 0; !err && at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t line_len = end ? (size_t)(end - (text + at)) : len - at;
        number++;
        if ((err = list_add_line(list, &room, text + at, line_len, &what))) {
            (void)fault_set(fault, err, "line %zu: %s", number, what.detail);
        }
        at += line_len + 1;
    }
    if (!err) {
        err = list_sort(list, fault);
    }
    if (err) {
        key_list_fini(list);
    }
    return err;
}

void key_list_fini(struct key_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        key_fini(&list->keys[i]);
    }
    free(list->keys);
    *list = (struct key_list){.count = 0};
}

const struct key *key_list_find(const struct key_list *list, const char *token, size_t len)
{
    unsigned char hash[KEY_HASH_BYTES];
    size_t low = 0;
    size_t high = list->count;
    key_hash(token, len, hash);
    while (low < high) { // the first that is not before it
        size_t middle = low + (high - low) / 2;
        if (memcmp(list->keys[middle].hash, hash, HASH_LEAD) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool same = low < list->count && sodium_memcmp(list->keys[low].hash, hash, KEY_HASH_BYTES) == 0;
    return same ? &list->keys[low] : NULL;
}

// ---- files ----

static enum err file_fault(struct fault *fault, const char *path)
{
    return fault_set(fault, ERR_STORAGE_IO, "%s: %s", path, strerror(errno));
}

enum err key_file_read(const char *path, struct buf *text, struct fault *fault)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // which a FIFO would not return from
    if (fd < 0) {
        return file_fault(fault, path);
    }
    enum err err = ERR_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = fault_set(fault, ERR_STORAGE_IO, "%s: not a regular file", path);
    }
    for (ssize_t n = 1; n > 0 && !err;) {
        char part[4096];
        n = read(fd, part, sizeof(part));
        if (n > 0) {
            buf_put(text, part, (size_t)n);
        }
        if (n < 0) {
            err = file_fault(fault, path);
        } else if (buf_err(text)) {
            err = fault_set(fault, ERR_NO_MEMORY, "%s: out of memory", path);
        } else if (text->len > KEY_FILE_MAX) {
            err = fault_set(fault, ERR_INVALID_FIELD, "%s: longer than %u bytes", path, KEY_FILE_MAX);
        }
    }
    close(fd);
    return err;
}

enum err key_list_read(const char *path, struct key_list *list, struct fault *fault)
{
    struct buf text;
    struct fault what;
    buf_init(&text);
    *list = (struct key_list){.count = 0};
    enum err err = key_file_read(path, &text, fault);
    if (!err && (err = key_list_parse(text.data, text.len, list, &what))) {
        (void)fault_set(fault, err, "%s: %s", path, what.detail);
    }
    buf_fini(&text);
    return err;
}
